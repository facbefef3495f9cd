#include "rift/crypto/derive.h"

#include "lib/base/bytes.h"

#include <sodium.h>
#include <string.h>

#define LANES 4

static const char next_key_label[] = "RIFT 1 next key";
static const char token_label[] = "RIFT 1 token";

void rift_derive_next_key(const uint8_t key[RIFT_DERIVE_KEY_BYTES], uint8_t ret_next[RIFT_DERIVE_KEY_BYTES])
{
    uint8_t next[RIFT_DERIVE_KEY_BYTES];
    crypto_generichash(next, sizeof next, (const uint8_t *)next_key_label, sizeof next_key_label - 1, key,
                       RIFT_DERIVE_KEY_BYTES);
    memcpy(ret_next, next, sizeof next);
    sodium_memzero(next, sizeof next);
}

void rift_derive_token(const uint8_t secret[RIFT_DERIVE_KEY_BYTES], uint64_t a, uint64_t b,
                       uint8_t ret_token[RIFT_TOKEN_BYTES])
{
    uint8_t input[sizeof token_label - 1 + 16], hash[16];
    struct wv_writer w;
    wv_writer_init(&w, input, sizeof input);
    wv_write_span(&w, token_label, sizeof token_label - 1);
    wv_write_u64(&w, a);
    wv_write_u64(&w, b);
    crypto_generichash(hash, sizeof hash, input, sizeof input, secret, RIFT_DERIVE_KEY_BYTES);
    memcpy(ret_token, hash, RIFT_TOKEN_BYTES);
}

void rift_derive_secret(uint8_t ret_secret[RIFT_DERIVE_KEY_BYTES])
{
    randombytes_buf(ret_secret, RIFT_DERIVE_KEY_BYTES);
}

uint64_t rift_checksum(const void *data, size_t len)
{
    static const uint8_t key[crypto_shorthash_KEYBYTES] = "wavry checksum 1";
    uint64_t lanes[LANES] = {1, 2, 3, 4};
    const uint8_t *at = data, *end = at + len - len % sizeof lanes;
    for (; at != end; at += sizeof lanes) {
        uint64_t words[LANES];
        memcpy(words, at, sizeof words);
        for (unsigned i = 0; i < LANES; i++) {
            lanes[i] = (lanes[i] ^ words[i]) * 0x9e3779b97f4a7c15; /* odd: one to one */
            lanes[i] = lanes[i] << 29 | lanes[i] >> 35;
        }
    }
    uint8_t rest[2 * sizeof lanes] = {0}, hash[crypto_shorthash_BYTES];
    memcpy(rest, lanes, sizeof lanes);
    if (len % sizeof lanes)
        memcpy(rest + sizeof lanes, at, len % sizeof lanes);
    crypto_shorthash(hash, rest, sizeof lanes + len % sizeof lanes, key);
    struct wv_reader r;
    wv_reader_init(&r, hash, sizeof hash);
    return wv_read_u64(&r);
}
