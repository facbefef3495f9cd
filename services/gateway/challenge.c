/* See challenge.h. A challenge carries its own time and a MAC: the gateway keeps nothing for who only asks.
 */
#include "services/gateway/challenge.h"

#include "lib/base/bytes.h"

#include <sodium.h>
#include <string.h>

#define TAG_BYTES   16
#define HEAD_BYTES  16
#define EARLY_S     5
#define PREFIX      "RIFT 1 gateway"
#define MESSAGE_MAX 512

static void tag(const uint8_t secret[32], const uint8_t key[WV_STORE_KEY_BYTES], const uint8_t head[16],
                uint8_t ret[TAG_BYTES])
{
    static const char label[] = "wavry gateway challenge 2";
    crypto_generichash_state state;
    crypto_generichash_init(&state, secret, 32, TAG_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)label, sizeof label);
    crypto_generichash_update(&state, key, WV_STORE_KEY_BYTES);
    crypto_generichash_update(&state, head, 16);
    crypto_generichash_final(&state, ret, TAG_BYTES);
}

/* The process (4 bytes), the time (8), 4 random ones, the MAC. */
void wv_challenge_make(const uint8_t secret[32], const uint8_t key[WV_STORE_KEY_BYTES], uint32_t for_process,
                       int64_t now_s, uint8_t ret[WV_CHALLENGE_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret, HEAD_BYTES);
    wv_write_u32(&w, for_process);
    wv_write_u64(&w, (uint64_t)now_s);
    wv_write_u32(&w, randombytes_random());
    tag(secret, key, ret, ret + 16);
}

enum wv_challenge wv_challenge_check(const uint8_t secret[32], const uint8_t key[WV_STORE_KEY_BYTES],
                                     const uint8_t challenge[WV_CHALLENGE_BYTES], int64_t now_s)
{
    struct wv_reader r;
    uint8_t want[TAG_BYTES];
    tag(secret, key, challenge, want);
    if (sodium_memcmp(want, challenge + 16, TAG_BYTES) != 0)
        return WV_CHALLENGE_FORGED;
    wv_reader_init(&r, challenge, HEAD_BYTES);
    (void)wv_read_u32(&r);
    int64_t made = (int64_t)wv_read_u64(&r); /* by a gateway: it has our secret */
    if (made > now_s + EARLY_S)
        return WV_CHALLENGE_EARLY;
    return made < now_s - WV_CHALLENGE_LIFE_S ? WV_CHALLENGE_OLD : WV_CHALLENGE_FRESH;
}

uint32_t wv_challenge_process(const uint8_t challenge[WV_CHALLENGE_BYTES])
{
    struct wv_reader r;
    wv_reader_init(&r, challenge, HEAD_BYTES);
    return wv_read_u32(&r);
}

void wv_challenge_exchange(const uint8_t secret[32], const uint8_t challenge[WV_CHALLENGE_BYTES],
                           uint8_t ret_secret[32], uint8_t ret_public[32])
{
    static const char label[] = "wavry gateway exchange";
    crypto_generichash_state state;
    crypto_generichash_init(&state, secret, 32, 32);
    crypto_generichash_update(&state, (const uint8_t *)label, sizeof label);
    crypto_generichash_update(&state, challenge, WV_CHALLENGE_BYTES);
    crypto_generichash_final(&state, ret_secret, 32);
    (void)crypto_scalarmult_base(ret_public, ret_secret);
}

bool wv_challenge_signed(const uint8_t sign_key[WV_STORE_KEY_BYTES], const char *name,
                         const uint8_t challenge[WV_CHALLENGE_BYTES],
                         const uint8_t signature[WV_SIGNATURE_BYTES])
{
    uint8_t message[MESSAGE_MAX];
    struct wv_writer w;
    wv_writer_init(&w, message, sizeof message);
    wv_write_span(&w, PREFIX, sizeof PREFIX); /* with its NUL */
    wv_write_span(&w, name, strlen(name) + 1);
    wv_write_span(&w, challenge, WV_CHALLENGE_BYTES);
    return !w.failed && crypto_sign_verify_detached(signature, message, w.length, sign_key) == 0;
}
