/* Where this machine is on its networks, and the order in which others should try that. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WV_REACH_ADDRESS_BYTES 18 /* IPv6 or IPv4 mapped into it; port, big-endian */
#define WV_REACH_ADDRESSES_MAX 8

struct wv_reach_address {
    uint8_t address[WV_REACH_ADDRESS_BYTES];
    uint32_t priority;
};

/* Of all interfaces that are up, with PORT: no loopback, no link-local ones. Returns their number, at most
 * WV_REACH_ADDRESSES_MAX, best first. */
size_t wv_reach_addresses(uint16_t port, struct wv_reach_address ret[WV_REACH_ADDRESSES_MAX]);

/* Netlink: readable when addresses or routes changed. Returns a descriptor or a negative errno. */
int wv_reach_watch(void);
/* Reads all that is there. */
void wv_reach_watched(int fd);
