/* Tells MemorySanitizer what libsodium and ISA-L do to memory: they are not built with it. What they write
 * becomes known, and what they are given to seal, sign, hash or code must be known already: bytes that nobody
 * set never leave the program. Linked with --wrap into everything that runs under it (cmake/wavry.cmake). */
#include <isa-l/erasure_code.h>
#include <sanitizer/msan_interface.h>
#include <sodium.h>
#include <string.h>

#define GIVEN(data, len) __msan_check_mem_is_initialized((data), (size_t)(len))
#define KNOWN(data, len) __msan_unpoison((data), (size_t)(len))

/* WRAP(type, name, (parameters), (arguments), before, after) */
#define WRAP(type, name, parameters, arguments, before, after)                                               \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        before;                                                                                              \
        type result = __real_##name arguments;                                                               \
        after;                                                                                               \
        return result;                                                                                       \
    }
#define WRAP_VOID(name, parameters, arguments, before, after)                                                \
    void __real_##name parameters;                                                                           \
    void __wrap_##name parameters;                                                                           \
    void __wrap_##name parameters                                                                            \
    {                                                                                                        \
        before;                                                                                              \
        __real_##name arguments;                                                                             \
        after;                                                                                               \
    }

/* A state is the library's own: known as a whole, so that it may be copied and wiped. */
WRAP(int, crypto_generichash_init,
     (crypto_generichash_state * s, const uint8_t *key, size_t key_len, size_t n), (s, key, key_len, n),
     GIVEN(key, key_len), KNOWN(s, sizeof *s))
WRAP(int, crypto_generichash_update, (crypto_generichash_state * s, const uint8_t *in, unsigned long long n),
     (s, in, n), GIVEN(in, n), (void)0)
WRAP(int, crypto_generichash_final, (crypto_generichash_state * s, uint8_t *out, size_t n), (s, out, n),
     (void)0, KNOWN(out, n))
WRAP(int, crypto_generichash,
     (uint8_t * out, size_t n, const uint8_t *in, unsigned long long in_len, const uint8_t *key,
      size_t key_len),
     (out, n, in, in_len, key, key_len), GIVEN(in, in_len), KNOWN(out, n))
WRAP(int, crypto_hash_sha512_init, (crypto_hash_sha512_state * s), (s), (void)0, KNOWN(s, sizeof *s))
WRAP(int, crypto_hash_sha512_update, (crypto_hash_sha512_state * s, const uint8_t *in, unsigned long long n),
     (s, in, n), GIVEN(in, n), (void)0)
WRAP(int, crypto_hash_sha512_final, (crypto_hash_sha512_state * s, uint8_t *out), (s, out), (void)0,
     KNOWN(out, 64))
WRAP(int, crypto_auth_hmacsha512_init, (crypto_auth_hmacsha512_state * s, const uint8_t *key, size_t n),
     (s, key, n), GIVEN(key, n), KNOWN(s, sizeof *s))
WRAP(int, crypto_auth_hmacsha512_update,
     (crypto_auth_hmacsha512_state * s, const uint8_t *in, unsigned long long n), (s, in, n), GIVEN(in, n),
     (void)0)
WRAP(int, crypto_auth_hmacsha512_final, (crypto_auth_hmacsha512_state * s, uint8_t *out), (s, out), (void)0,
     KNOWN(out, 64))
WRAP(int, crypto_shorthash, (uint8_t * out, const uint8_t *in, unsigned long long n, const uint8_t *key),
     (out, in, n, key), GIVEN(in, n), KNOWN(out, 8))

WRAP(int, crypto_scalarmult, (uint8_t * q, const uint8_t *n, const uint8_t *p), (q, n, p), GIVEN(p, 32),
     KNOWN(q, 32))
WRAP(int, crypto_scalarmult_base, (uint8_t * q, const uint8_t *n), (q, n), GIVEN(n, 32), KNOWN(q, 32))
WRAP(int, crypto_scalarmult_ristretto255, (uint8_t * q, const uint8_t *n, const uint8_t *p), (q, n, p),
     GIVEN(p, 32), KNOWN(q, 32))
WRAP(int, crypto_core_ristretto255_from_hash, (uint8_t * p, const uint8_t *h), (p, h), GIVEN(h, 64),
     KNOWN(p, 32))
WRAP_VOID(crypto_core_ristretto255_scalar_random, (uint8_t * s), (s), (void)0, KNOWN(s, 32))
WRAP(int, crypto_sign_seed_keypair, (uint8_t * pk, uint8_t *sk, const uint8_t *seed), (pk, sk, seed),
     GIVEN(seed, 32), (KNOWN(pk, 32), KNOWN(sk, 64)))
WRAP(int, crypto_sign_detached,
     (uint8_t * sig, unsigned long long *len, const uint8_t *m, unsigned long long n, const uint8_t *sk),
     (sig, len, m, n, sk), GIVEN(m, n), KNOWN(sig, 64))

WRAP(int, crypto_aead_chacha20poly1305_ietf_encrypt_detached,
     (uint8_t * c, uint8_t *mac, unsigned long long *mac_len, const uint8_t *m, unsigned long long n,
      const uint8_t *ad, unsigned long long ad_len, const uint8_t *nsec, const uint8_t *nonce,
      const uint8_t *k),
     (c, mac, mac_len, m, n, ad, ad_len, nsec, nonce, k), (GIVEN(m, n), GIVEN(ad, ad_len), GIVEN(k, 32)),
     (KNOWN(c, n), KNOWN(mac, 16)))
WRAP(int, crypto_aead_chacha20poly1305_ietf_decrypt_detached,
     (uint8_t * m, uint8_t *nsec, const uint8_t *c, unsigned long long n, const uint8_t *mac,
      const uint8_t *ad, unsigned long long ad_len, const uint8_t *nonce, const uint8_t *k),
     (m, nsec, c, n, mac, ad, ad_len, nonce, k), (GIVEN(c, n), GIVEN(k, 32)), KNOWN(m, n))

WRAP(int, crypto_box_curve25519xchacha20poly1305_easy,
     (uint8_t * c, const uint8_t *m, unsigned long long n, const uint8_t *nonce, const uint8_t *pk,
      const uint8_t *sk),
     (c, m, n, nonce, pk, sk), (GIVEN(m, n), GIVEN(nonce, 24)), KNOWN(c, n + 16))
WRAP(int, crypto_box_curve25519xchacha20poly1305_open_easy,
     (uint8_t * m, const uint8_t *c, unsigned long long n, const uint8_t *nonce, const uint8_t *pk,
      const uint8_t *sk),
     (m, c, n, nonce, pk, sk), GIVEN(c, n), KNOWN(m, n - 16))

WRAP_VOID(randombytes_buf, (void *const out, const size_t n), (out, n), (void)0, KNOWN(out, n))
WRAP_VOID(explicit_bzero, (void *out, size_t n), (out, n), (void)0, KNOWN(out, n))
WRAP_VOID(sodium_memzero, (void *const out, const size_t n), (out, n), (void)0, KNOWN(out, n))
WRAP(int, sodium_memcmp, (const void *const a, const void *const b, size_t n), (a, b, n),
     (GIVEN(a, n), GIVEN(b, n)), (void)0)
WRAP(char *, sodium_bin2hex, (char *const out, const size_t max, const uint8_t *const in, const size_t n),
     (out, max, in, n), GIVEN(in, n), KNOWN(out, max))
WRAP(int, sodium_hex2bin,
     (uint8_t *const out, const size_t max, const char *const in, const size_t n, const char *const ignore,
      size_t *const len, const char **const end),
     (out, max, in, n, ignore, len, end), GIVEN(in, n),
     (KNOWN(out, max), len ? KNOWN(len, sizeof *len) : (void)0, end ? KNOWN(end, sizeof *end) : (void)0))
WRAP(char *, sodium_bin2base64,
     (char *const out, const size_t max, const uint8_t *const in, const size_t n, const int variant),
     (out, max, in, n, variant), GIVEN(in, n), KNOWN(out, max))
WRAP(int, sodium_base642bin,
     (uint8_t *const out, const size_t max, const char *const in, const size_t n, const char *const ignore,
      size_t *const len, const char **const end, const int variant),
     (out, max, in, n, ignore, len, end, variant), GIVEN(in, n),
     (KNOWN(out, max), len ? KNOWN(len, sizeof *len) : (void)0, end ? KNOWN(end, sizeof *end) : (void)0))

WRAP_VOID(ec_init_tables, (int k, int rows, uint8_t *a, uint8_t *tables), (k, rows, a, tables),
          GIVEN(a, k *rows), KNOWN(tables, 32 * k * rows))

static void known_rows(uint8_t **rows, int n, int len)
{
    for (int i = 0; i < n; i++)
        KNOWN(rows[i], len);
}

static void given_rows(uint8_t **rows, int n, int len)
{
    for (int i = 0; i < n; i++)
        GIVEN(rows[i], len);
}

WRAP_VOID(ec_encode_data, (int len, int k, int rows, uint8_t *tables, uint8_t **data, uint8_t **coded),
          (len, k, rows, tables, data, coded), given_rows(data, k, len), known_rows(coded, rows, len))
WRAP_VOID(ec_encode_data_update,
          (int len, int k, int rows, int vec_i, uint8_t *tables, uint8_t *data, uint8_t **coded),
          (len, k, rows, vec_i, tables, data, coded), GIVEN(data, len), known_rows(coded, rows, len))
