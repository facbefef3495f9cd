/* What machines that sign in by their key leave behind while the database takes no writes: challenges that
 * were used, and short-lived tokens, in the memory of this process. So a full disk keeps no host and no
 * device away. Must never make a proof count twice: only challenges that this process itself made for the
 * purpose are taken here. From any thread. */
#pragma once

#include "services/gateway/store.h"

#define WV_SPARE_MAX     20000 /* of each */
#define WV_SPARE_TOKEN_S 3600  /* what ends tokens of the database (another password) may not reach these */

struct wv_spare;

int wv_spare_new(struct wv_spare **ret);
struct wv_spare *wv_spare_free(struct wv_spare *s);

/* Returns 0, -EEXIST (it was used before), or -ENOBUFS (no room until some have expired). */
int wv_spare_use_challenge(struct wv_spare *s, const uint8_t challenge[32], int64_t expires, int64_t now);
/* Keeps TOKEN, of a machine. Returns 0 or -ENOBUFS. */
int wv_spare_add_token(struct wv_spare *s, const struct wv_token *token, int64_t now);
/* Like wv_store_token(), for one that is here; that machine and account are still there is asked of STORE. */
int wv_spare_token(struct wv_spare *s, struct wv_store *store, const uint8_t hash[WV_STORE_HASH_BYTES],
                   int64_t now, struct wv_token *ret);
/* Returns whether it was here. */
bool wv_spare_end_token(struct wv_spare *s, const uint8_t hash[WV_STORE_HASH_BYTES]);
