/* Who a host or a client is: a 32-byte seed, from which an X25519 key pair (what Noise proves) and an Ed25519
 * key pair (what signs) are derived separately. Bytes and text only; files are the caller's business. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RIFT_IDENTITY_SEED_BYTES 32
/* Text form of a public key: "wavry1" and 43 characters of unpadded URL-safe base64, then a NUL. */
#define RIFT_PUBLIC_KEY_TEXT_BYTES (6 + 43 + 1)

struct rift_identity {
    uint8_t seed[RIFT_IDENTITY_SEED_BYTES];
    uint8_t secret[32];      /* X25519 */
    uint8_t public[32];      /* X25519: the key that people exchange */
    uint8_t sign_secret[64]; /* Ed25519 */
    uint8_t sign_public[32];
};

/* Calls sodium_init(). Returns 0 or -EIO. Everything in rift/crypto needs it once, first. */
int rift_crypto_init(void);

void rift_identity_generate(struct rift_identity *ret_identity);
void rift_identity_from_seed(struct rift_identity *ret_identity,
                             const uint8_t seed[RIFT_IDENTITY_SEED_BYTES]);
void rift_identity_wipe(struct rift_identity *identity);

/* The text of an identity file ("wavry-identity-1 <hex seed>\n"), NUL-terminated, and back.
 * parse returns 0 or -EINVAL (not of that form). */
#define RIFT_IDENTITY_TEXT_BYTES (17 + 64 + 1 + 1)
void rift_identity_format(const struct rift_identity *identity, char ret_text[RIFT_IDENTITY_TEXT_BYTES]);
int rift_identity_parse(const char *text, size_t len, struct rift_identity *ret_identity);

void rift_public_key_format(const uint8_t key[32], char ret_text[RIFT_PUBLIC_KEY_TEXT_BYTES]);
/* Returns 0, or -EINVAL: wrong prefix, length or alphabet, or a low-order point. */
int rift_public_key_parse(const char *text, uint8_t ret_key[32]);
