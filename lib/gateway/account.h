/* What a person's programs remember of their gateway: $XDG_CONFIG_HOME/wavry/gateway.conf, readable by the
 * person alone, for a token is in it. */
#pragma once

#include "lib/gateway/url.h"

#include <stddef.h>

struct wv_gateway_account {
    struct wv_gateway_url url;
    char ca_file[512]; /* empty: the system's */
    char account[72];
    char token[512]; /* of the account; empty: signed out. Devices sign in by key and need none */
    uint64_t expires;
};

enum { WV_ACCOUNT_NONE = 1 };

/* Returns 0, WV_ACCOUNT_NONE (no such file), or -EACCES (others may read it), -EINVAL (damaged), -errno, with
 * a sentence in RET_MESSAGE. */
int wv_gateway_account_load(const char *path, struct wv_gateway_account *ret, char *ret_message,
                            size_t capacity);
/* Writes it, mode 0600, at once or not at all. Returns 0 or a negative errno with a sentence. */
int wv_gateway_account_save(const char *path, const struct wv_gateway_account *a, char *ret_message,
                            size_t capacity);
void wv_gateway_account_wipe(struct wv_gateway_account *a);
