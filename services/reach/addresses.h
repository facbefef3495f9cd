/* Where this machine is on its networks, and the order in which others should try that. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_REACH_ADDRESS_BYTES 18 /* IPv6 or IPv4 mapped into it; port, big-endian */
#define WV_REACH_ADDRESSES_MAX 8

struct wv_reach_address {
    uint8_t address[WV_REACH_ADDRESS_BYTES];
    uint32_t priority;
};

enum wv_reach_scope {
    WV_REACH_SCOPE_NONE,    /* nobody else could send there: unspecified, loopback, link-local, multicast */
    WV_REACH_SCOPE_PRIVATE, /* of a network behind another router: RFC 1918, 6598, 7335 and 4193 */
    WV_REACH_SCOPE_GLOBAL,
};

bool wv_reach_is_v4(const uint8_t address[16]);
enum wv_reach_scope wv_reach_scope(const uint8_t address[16]);

/* Whether clients should be told of ADDRESS, which a router says is its own. A private one is that of a
 * router behind another one: of use only when STUN servers see this host there (SEEN: N addresses and their
 * ports). */
bool wv_reach_is_offered(const uint8_t address[16], const uint8_t (*seen)[WV_REACH_ADDRESS_BYTES], size_t n);

/* The router that this machine sends to the world through, and the address that it does so from. */
struct wv_reach_router {
    uint8_t router[16], own[16];
    uint32_t interface;
};
/* Of the kernel's table, for AF_INET or AF_INET6. Returns 0, 1 (there is none) or a negative errno. */
int wv_reach_router(int family, struct wv_reach_router *ret);

/* Of all interfaces that are up, with PORT: no loopback, no link-local ones. Returns their number, at most
 * WV_REACH_ADDRESSES_MAX, best first. */
size_t wv_reach_addresses(uint16_t port, struct wv_reach_address ret[WV_REACH_ADDRESSES_MAX]);

/* Netlink: readable when addresses or routes changed. Returns a descriptor or a negative errno. */
int wv_reach_watch(void);
/* Reads all that is there. */
void wv_reach_watched(int fd);
