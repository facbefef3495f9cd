/* A machine's proof to a gateway; see prove.h. */
#include "rift/crypto/prove.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LABEL     "RIFT 1 gateway"
#define KEY_LABEL "RIFT 1 gateway key"

int rift_prove_gateway(const uint8_t sign_secret[64], const char *name,
                       const uint8_t challenge[RIFT_PROVE_CHALLENGE_BYTES], uint8_t ret_signature[64])
{
    uint8_t text[sizeof LABEL + RIFT_PROVE_NAME_MAX + 1 + RIFT_PROVE_CHALLENGE_BYTES];
    size_t len = strlen(name);
    if (len == 0 || len > RIFT_PROVE_NAME_MAX)
        return -EINVAL;
    memcpy(text, LABEL, sizeof LABEL); /* with its zero byte, as the name */
    memcpy(text + sizeof LABEL, name, len + 1);
    memcpy(text + sizeof LABEL + len + 1, challenge, RIFT_PROVE_CHALLENGE_BYTES);
    crypto_sign_detached(ret_signature, NULL, text, sizeof LABEL + len + 1 + RIFT_PROVE_CHALLENGE_BYTES,
                         sign_secret);
    return 0;
}

static int key_proof(const struct rift_prove_key *p, const uint8_t secret[32], const uint8_t peer[32],
                     uint8_t ret[RIFT_PROVE_KEY_BYTES])
{
    crypto_generichash_state state;
    uint8_t shared[crypto_scalarmult_BYTES];
    size_t len = strlen(p->name);
    if (len == 0 || len > RIFT_PROVE_NAME_MAX || crypto_scalarmult(shared, secret, peer) != 0)
        return -EINVAL;
    crypto_generichash_init(&state, shared, sizeof shared, RIFT_PROVE_KEY_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)KEY_LABEL, sizeof KEY_LABEL);
    crypto_generichash_update(&state, (const uint8_t *)p->name, len + 1);
    crypto_generichash_update(&state, p->challenge, RIFT_PROVE_CHALLENGE_BYTES);
    crypto_generichash_update(&state, p->exchange, 32);
    crypto_generichash_update(&state, p->key, 32);
    crypto_generichash_update(&state, p->sign_key, 32);
    crypto_generichash_final(&state, ret, RIFT_PROVE_KEY_BYTES);
    sodium_memzero(&state, sizeof state);
    sodium_memzero(shared, sizeof shared);
    return 0;
}

int rift_prove_key(const struct rift_prove_key *p, const uint8_t secret[32],
                   uint8_t ret_proof[RIFT_PROVE_KEY_BYTES])
{
    return key_proof(p, secret, p->exchange, ret_proof);
}

bool rift_prove_key_is_right(const struct rift_prove_key *p, const uint8_t exchange_secret[32],
                             const uint8_t proof[RIFT_PROVE_KEY_BYTES])
{
    uint8_t want[RIFT_PROVE_KEY_BYTES];
    return key_proof(p, exchange_secret, p->key, want) == 0 && sodium_memcmp(want, proof, sizeof want) == 0;
}
