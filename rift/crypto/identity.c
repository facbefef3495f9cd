/* Identities and their text forms. The seed is the only thing that is stored; both key pairs are derived
 * from it with contexts of their own, so that neither says anything about the other. Nothing here may touch a
 * file. */
#include "rift/crypto/identity.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define IDENTITY_PREFIX "wavry-identity-1 "
#define KEY_PREFIX      "wavry1"
#define BASE64_VARIANT  sodium_base64_VARIANT_URLSAFE_NO_PADDING

_Static_assert(sizeof IDENTITY_PREFIX - 1 + 64 + 1 + 1 == RIFT_IDENTITY_TEXT_BYTES, "identity text size");

int rift_crypto_init(void)
{
    return sodium_init() < 0 ? -EIO : 0;
}

/* Keyed BLAKE2b is a PRF: the seed is the key, the purpose the message. */
static void derive(uint8_t ret[32], const uint8_t seed[RIFT_IDENTITY_SEED_BYTES], const char *purpose)
{
    crypto_generichash(ret, 32, (const uint8_t *)purpose, strlen(purpose), seed, RIFT_IDENTITY_SEED_BYTES);
}

void rift_identity_from_seed(struct rift_identity *ret_identity, const uint8_t seed[RIFT_IDENTITY_SEED_BYTES])
{
    struct rift_identity id;
    uint8_t sign_seed[crypto_sign_SEEDBYTES];
    memcpy(id.seed, seed, sizeof id.seed);
    derive(id.secret, id.seed, "wavry identity 1 x25519");
    derive(sign_seed, id.seed, "wavry identity 1 ed25519");
    crypto_scalarmult_base(id.public, id.secret);
    crypto_sign_seed_keypair(id.sign_public, id.sign_secret, sign_seed);
    *ret_identity = id;
    sodium_memzero(sign_seed, sizeof sign_seed);
    sodium_memzero(&id, sizeof id);
}

void rift_identity_generate(struct rift_identity *ret_identity)
{
    uint8_t seed[RIFT_IDENTITY_SEED_BYTES];
    randombytes_buf(seed, sizeof seed);
    rift_identity_from_seed(ret_identity, seed);
    sodium_memzero(seed, sizeof seed);
}

void rift_identity_wipe(struct rift_identity *identity)
{
    sodium_memzero(identity, sizeof *identity);
}

void rift_identity_format(const struct rift_identity *identity, char ret_text[RIFT_IDENTITY_TEXT_BYTES])
{
    size_t prefix = sizeof IDENTITY_PREFIX - 1;
    memcpy(ret_text, IDENTITY_PREFIX, prefix);
    sodium_bin2hex(ret_text + prefix, 2 * RIFT_IDENTITY_SEED_BYTES + 1, identity->seed,
                   RIFT_IDENTITY_SEED_BYTES);
    ret_text[prefix + 2 * RIFT_IDENTITY_SEED_BYTES] = '\n';
    ret_text[prefix + 2 * RIFT_IDENTITY_SEED_BYTES + 1] = 0;
}

int rift_identity_parse(const char *text, size_t len, struct rift_identity *ret_identity)
{
    size_t prefix = sizeof IDENTITY_PREFIX - 1, digits = 2 * RIFT_IDENTITY_SEED_BYTES, decoded = 0;
    uint8_t seed[RIFT_IDENTITY_SEED_BYTES];
    if (len != prefix + digits + 1 || memcmp(text, IDENTITY_PREFIX, prefix) != 0 || text[len - 1] != '\n')
        return -EINVAL;
    /* libsodium's decoder looks nothing up by the value of a digit, which a table would. */
    int r = sodium_hex2bin(seed, sizeof seed, text + prefix, digits, NULL, &decoded, NULL);
    if (r == 0 && decoded == sizeof seed)
        rift_identity_from_seed(ret_identity, seed);
    else
        r = -EINVAL;
    sodium_memzero(seed, sizeof seed);
    return r;
}

void rift_public_key_format(const uint8_t key[32], char ret_text[RIFT_PUBLIC_KEY_TEXT_BYTES])
{
    size_t prefix = sizeof KEY_PREFIX - 1;
    memcpy(ret_text, KEY_PREFIX, prefix);
    sodium_bin2base64(ret_text + prefix, RIFT_PUBLIC_KEY_TEXT_BYTES - prefix, key, 32, BASE64_VARIANT);
}

/* Below 2^255 - 19, little-endian. Other encodings name the same point under another text, which no list of
 * known keys would match. */
static bool is_canonical(const uint8_t key[32])
{
    if (key[31] != 0x7f)
        return key[31] < 0x7f;
    for (size_t i = 30; i > 0; i--)
        if (key[i] != 0xff)
            return true;
    return key[0] < 0xed;
}

int rift_public_key_parse(const char *text, uint8_t ret_key[32])
{
    size_t prefix = sizeof KEY_PREFIX - 1, decoded = 0;
    uint8_t key[32], ignored[32];
    static const uint8_t any_scalar[32] = {1};
    /* The alphabet is checked here: libsodium 1.0.18 takes byte 0xdf for '_'. */
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (strnlen(text, RIFT_PUBLIC_KEY_TEXT_BYTES) != RIFT_PUBLIC_KEY_TEXT_BYTES - 1 ||
        memcmp(text, KEY_PREFIX, prefix) != 0 || strspn(text, alphabet) != RIFT_PUBLIC_KEY_TEXT_BYTES - 1)
        return -EINVAL;
    if (sodium_base642bin(key, sizeof key, text + prefix, RIFT_PUBLIC_KEY_TEXT_BYTES - 1 - prefix, NULL,
                          &decoded, NULL, BASE64_VARIANT) != 0 ||
        decoded != sizeof key)
        return -EINVAL;
    /* Scalars are clamped to multiples of 8, so that any scalar sends a low-order point to zero. */
    if (!is_canonical(key) || crypto_scalarmult(ignored, any_scalar, key) != 0)
        return -EINVAL;
    memcpy(ret_key, key, sizeof key);
    return 0;
}
