/* The client's side of one pairing run: CPace inside the Noise channel, bound to the handshake and to both
 * static keys, so that who sits between can't pass it on. WIRE.md section 11. Pure: no I/O. */
#pragma once

#include "rift/crypto/cpace.h"

#include <stdbool.h>

struct wv_pairing {
    struct rift_cpace cpace;
    uint8_t expected[RIFT_CPACE_TAG_BYTES];
    char name[64];
    enum { WV_PAIRING_NONE, WV_PAIRING_STARTED, WV_PAIRING_CONFIRMED } step;
};

/* What a run is bound to. */
struct wv_pairing_bond {
    const uint8_t *handshake_hash; /* 64 bytes */
    const uint8_t *client_key, *host_key;
};

/* Begins with SECRET (the code's digits, or with TOKEN the token's bytes) and writes the packed InnerToHost
 * with which the run starts. NAME: what we call ourselves. Returns its length or a negative errno. */
int wv_pairing_start(struct wv_pairing *p, const uint8_t *secret, size_t secret_len, bool token,
                     const char *name, const struct wv_pairing_bond *bond, uint8_t *buffer, size_t capacity);

/* The host's share came: writes our confirmation. Returns its length, -EPROTO (not its turn) or -EBADMSG: the
 * share is none. */
int wv_pairing_share(struct wv_pairing *p, const uint8_t share[RIFT_CPACE_SHARE_BYTES], uint8_t *buffer,
                     size_t capacity);

/* The host says that it has paired. Returns 0, -EPROTO (not its turn), or -EBADMSG: it could not prove the
 * secret. */
int wv_pairing_result(struct wv_pairing *p, const uint8_t tag[RIFT_CPACE_TAG_BYTES]);

void wv_pairing_wipe(struct wv_pairing *p);
