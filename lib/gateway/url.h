/* Where a gateway is, as a person writes it, and names to addresses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_GATEWAY_NAME_BYTES 264
#define WV_GATEWAY_URL_BYTES  (WV_GATEWAY_NAME_BYTES + 8)

struct wv_gateway_url {
    bool tls;
    char host[254]; /* an IPv6 address without brackets, as RFC 5952 writes it */
    uint16_t port;
    char name[WV_GATEWAY_NAME_BYTES]; /* HOST:PORT, the port always there: what is signed for this gateway */
};

/* "https://HOST[:PORT][/]" or "HOST[:PORT]"; HOST: a name, an IPv4 address or [an IPv6 address]. http:// only
 * to this machine itself: tokens go over it. Returns 0, -EINVAL (not of that form), -EPERM (http to another
 * machine). */
int wv_gateway_url_parse(const char *text, struct wv_gateway_url *ret);
/* Whether its certificate must name an address, not a name. */
bool wv_gateway_url_is_address(const struct wv_gateway_url *url);
/* "HOST:PORT", "[V6]:PORT" to at most MAX addresses of 18 bytes (IPv6 or IPv4 mapped into it; port,
 * big-endian). Waits for the resolver, 2 s for each of its servers at most. Returns their number. */
size_t wv_gateway_resolve(const char *place, uint8_t (*ret)[18], size_t max);
void wv_gateway_url_format(const struct wv_gateway_url *url, char ret[WV_GATEWAY_URL_BYTES]);
