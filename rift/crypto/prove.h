/* How a machine proves to a gateway which one it is: by its Ed25519 key over the gateway's name and a
 * challenge of it, so that no other gateway can use the answer. Bytes only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RIFT_PROVE_CHALLENGE_BYTES 32
#define RIFT_PROVE_NAME_MAX        263
#define RIFT_PROVE_KEY_BYTES       32

/* Signs "RIFT 1 gateway", 0, NAME (HOST:PORT as it is dialled), 0, CHALLENGE with SIGN_SECRET. Returns 0 or
 * -EINVAL: NAME is empty or too long. */
int rift_prove_gateway(const uint8_t sign_secret[64], const char *name,
                       const uint8_t challenge[RIFT_PROVE_CHALLENGE_BYTES], uint8_t ret_signature[64]);

/* What a machine says when it is registered: that its X25519 key, by which people know it, is its own, too,
 * and that SIGN_KEY belongs to it. */
struct rift_prove_key {
    const char *name;         /* of the gateway, as above */
    const uint8_t *challenge; /* 32 bytes */
    const uint8_t *exchange;  /* X25519, of the gateway, made for this challenge */
    const uint8_t *key;       /* X25519, the machine's */
    const uint8_t *sign_key;  /* Ed25519, the machine's */
};

/* BLAKE2b-256, keyed with the shared secret of both X25519 keys, of "RIFT 1 gateway key", 0, NAME, 0,
 * CHALLENGE, EXCHANGE, KEY, SIGN_KEY. SECRET is the machine's. Returns 0 or -EINVAL: the name as above, or
 * EXCHANGE is a key of small order. */
int rift_prove_key(const struct rift_prove_key *p, const uint8_t secret[32],
                   uint8_t ret_proof[RIFT_PROVE_KEY_BYTES]);
/* For the gateway, by the secret of EXCHANGE. */
bool rift_prove_key_is_right(const struct rift_prove_key *p, const uint8_t exchange_secret[32],
                             const uint8_t proof[RIFT_PROVE_KEY_BYTES]);
