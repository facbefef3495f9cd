/* The two ways to a port of the router whose libraries wait for answers: NAT-PMP and UPnP. Each call takes up
 * to a few seconds. What a router answers is foreign: an address, a port and a time are taken from it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Maps UDP port PORT, or with LIFETIME_S 0 takes that back. RET: 16 bytes and the port; RET_LIFETIME_S: what
 * was granted. Both untouched when it did not work, and when taking back. */
bool wv_natpmp_map(const uint8_t router[16], uint16_t port, uint32_t lifetime_s, uint8_t ret[18],
                   uint32_t *ret_lifetime_s);

/* Where a router that mapped a port by UPnP is asked to take it back, without looking for it again. */
struct wv_upnp_router {
    char control[256], service[128];
};
bool wv_upnp_map(uint16_t port, uint32_t lifetime_s, struct wv_upnp_router *ret_router, uint8_t ret[18]);
void wv_upnp_unmap(const struct wv_upnp_router *router, uint16_t port);
