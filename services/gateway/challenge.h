/* What a machine signs to prove that it holds its key: made by any gateway of one database, checked by any
 * other, good for a minute and once. While the database can't remember which were used they are made and
 * taken by one process only, which remembers them itself. */
#pragma once

#include "services/gateway/store.h"

#define WV_CHALLENGE_BYTES  32
#define WV_CHALLENGE_LIFE_S 60
#define WV_SIGNATURE_BYTES  64

#define WV_CHALLENGE_ANY 0 /* gateway */

/* FOR_PROCESS: a number of the process that alone takes it, or WV_CHALLENGE_ANY. */
void wv_challenge_make(const uint8_t secret[32], const uint8_t key[WV_STORE_KEY_BYTES], uint32_t for_process,
                       int64_t now_s, uint8_t ret[WV_CHALLENGE_BYTES]);
/* For which process one was made, once it is known to be fresh. */
uint32_t wv_challenge_process(const uint8_t challenge[WV_CHALLENGE_BYTES]);

enum wv_challenge {
    WV_CHALLENGE_FRESH = 0,
    WV_CHALLENGE_FORGED = 1, /* not of this gateway, or for another key */
    WV_CHALLENGE_OLD = 2,
    WV_CHALLENGE_EARLY = 3, /* of a gateway whose clock is ahead */
};
enum wv_challenge wv_challenge_check(const uint8_t secret[32], const uint8_t key[WV_STORE_KEY_BYTES],
                                     const uint8_t challenge[WV_CHALLENGE_BYTES], int64_t now_s);
/* The X25519 key that belongs to CHALLENGE, for who must prove another one of that kind: derived, so that any
 * gateway of the database has it again. */
void wv_challenge_exchange(const uint8_t secret[32], const uint8_t challenge[WV_CHALLENGE_BYTES],
                           uint8_t ret_secret[32], uint8_t ret_public[32]);
/* Whether SIGNATURE is SIGN_KEY's over NAME and CHALLENGE. */
bool wv_challenge_signed(const uint8_t sign_key[WV_STORE_KEY_BYTES], const char *name,
                         const uint8_t challenge[WV_CHALLENGE_BYTES],
                         const uint8_t signature[WV_SIGNATURE_BYTES]);
