/* CPace (draft-irtf-cfrg-cpace, ristretto255 with SHA-512, libsodium only): two sides that share a short code
 * prove it to each other; who does not know it gets one guess for each run and nothing to guess on later.
 * Pure: no I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_CPACE_SHARE_BYTES 32
#define RIFT_CPACE_TAG_BYTES   64
#define RIFT_CPACE_KEY_BYTES   64

struct rift_cpace {
    uint8_t scalar[32];
    uint8_t share[RIFT_CPACE_SHARE_BYTES];
    uint8_t sid[64];
    size_t sid_len;
};

/* CODE is the secret (PRS), CHANNEL the channel identifier (CI), SID the session id (at most 64 bytes).
 * SCALAR is NULL except in tests on published vectors. Fills C with our share Y in C->share. Returns 0 or
 * -EINVAL (an empty code, a long session id). */
int rift_cpace_begin(struct rift_cpace *c, const uint8_t *code, size_t code_len, const uint8_t *channel,
                     size_t channel_len, const uint8_t *sid, size_t sid_len, const uint8_t *scalar);

/* With the peer's share: the session key ISK (initiator-responder order; INITIATOR says which we are), and
 * the confirmation tags, ours to send and the one that the peer must show (compare in constant time). AD is
 * each side's associated data. Wipes C. Returns 0 or -EBADMSG: the share is no valid point, gives the neutral
 * one, or is our own come back (whose confirmation would be ours too). */
int rift_cpace_finish(struct rift_cpace *c, bool initiator, const uint8_t *own_ad, size_t own_ad_len,
                      const uint8_t peer_share[RIFT_CPACE_SHARE_BYTES], const uint8_t *peer_ad,
                      size_t peer_ad_len, uint8_t ret_key[RIFT_CPACE_KEY_BYTES],
                      uint8_t ret_own_tag[RIFT_CPACE_TAG_BYTES], uint8_t ret_peer_tag[RIFT_CPACE_TAG_BYTES]);
