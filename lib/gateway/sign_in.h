/* Signing in by a machine's key, for programs that may wait. */
#pragma once

#include "lib/gateway/wire.h"

/* Signs CHALLENGE for the gateway that is called NAME. Returns 0 or a negative errno. */
typedef int (*wv_gateway_sign_fn)(void *userdata, const char *name, const uint8_t challenge[32],
                                  uint8_t ret_signature[64]);

/* Signs in as machine KEY (text) at URL, at which G must be aimed; takes at most TIMEOUT_MS.
 * Returns 0 with the token, WV_GATEWAY_REFUSED or a negative errno with a sentence in RET_WHY (whose body is
 * NULL). */
int wv_gateway_sign_in(struct wv_gateway *g, const struct wv_gateway_url *url, const char *key,
                       wv_gateway_sign_fn sign, void *userdata, unsigned timeout_ms, char *ret_token,
                       size_t capacity, struct wv_gateway_answer *ret_why);
