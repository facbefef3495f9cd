/* The wavry: URL that a host shows to be paired with: wavry:HOST:PORT?key=wavry1...&token=... It may come
 * from a web page or a message of somebody: it names a host and proves nothing about anything else, and no
 * setting of this program can be reached through it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WV_URL_TOKEN_BYTES 16
#define WV_URL_MAX_BYTES   512

struct wv_url {
    char host[256]; /* letters, digits, '.', '-', '_', or an IPv6 address without brackets */
    uint16_t port;
    uint8_t key[32];
    uint8_t token[WV_URL_TOKEN_BYTES];
};

/* Whether TEXT claims to be such a URL. */
bool wv_url_is(const char *text);

/* Returns 0 or -EINVAL: anything is missing, repeated, unknown, too long or left over. */
int wv_url_parse(const char *text, struct wv_url *ret);
