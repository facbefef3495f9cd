/* Noise_XX_25519_ChaChaPoly_BLAKE2b, revision 34 of the specification; names in comments are its own.
 * Secrets live in the one object, which is wiped when it dies or is freed, and in locals that are wiped
 * before return. Must never do I/O or keep a pointer to what the caller gave. */
#include "rift/crypto/noise.h"

#include "rift/crypto/seal.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define KEY         RIFT_NOISE_KEY_BYTES
#define HASH        RIFT_NOISE_HASH_BYTES
#define TAG         RIFT_SEAL_TAG_BYTES
#define BLOCK_BYTES 128 /* of BLAKE2b, for HMAC */

_Static_assert(HASH == crypto_generichash_BYTES_MAX, "BLAKE2b's full output");
_Static_assert(KEY == crypto_scalarmult_BYTES && KEY == crypto_scalarmult_SCALARBYTES, "X25519 sizes");

enum token { END, E, S, EE, ES, SE };

static const enum token pattern[3][5] = {{E, END}, {E, EE, S, ES, END}, {S, SE, END}};
static const char protocol_name[] = "Noise_XX_25519_ChaChaPoly_BLAKE2b";

struct rift_noise {
    bool initiator, dead;
    bool has_key, has_remote_static;
    unsigned step; /* messages written or read so far: 0..3 */
    uint8_t h[HASH], ck[HASH];
    uint8_t k[KEY];
    uint64_t n;
    uint8_t s[KEY], s_public[KEY];
    uint8_t e[KEY], e_public[KEY];
    uint8_t rs[KEY], re[KEY];
};

/* ---- HMAC and HKDF over unkeyed BLAKE2b (section 4.3); libsodium has only the keyed hash ---- */

static void hmac(uint8_t ret[HASH], const uint8_t key[HASH], const uint8_t *data, size_t len,
                 const uint8_t *more, size_t more_len)
{
    crypto_generichash_state state;
    uint8_t block[BLOCK_BYTES], inner[HASH];
    memset(block, 0x36, sizeof block);
    for (size_t i = 0; i < HASH; i++)
        block[i] ^= key[i];
    crypto_generichash_init(&state, NULL, 0, HASH);
    crypto_generichash_update(&state, block, sizeof block);
    crypto_generichash_update(&state, data, len);
    crypto_generichash_update(&state, more, more_len);
    crypto_generichash_final(&state, inner, HASH);

    for (size_t i = 0; i < BLOCK_BYTES; i++)
        block[i] ^= 0x36 ^ 0x5c;
    crypto_generichash_init(&state, NULL, 0, HASH);
    crypto_generichash_update(&state, block, sizeof block);
    crypto_generichash_update(&state, inner, HASH);
    crypto_generichash_final(&state, ret, HASH);
    sodium_memzero(block, sizeof block);
    sodium_memzero(inner, sizeof inner);
    sodium_memzero(&state, sizeof state);
}

/* With RET_3 a third output, which the first two say nothing about. */
static void hkdf(const uint8_t ck[HASH], const uint8_t *input, size_t len, uint8_t ret_1[HASH],
                 uint8_t ret_2[HASH], uint8_t *ret_3)
{
    uint8_t temp[HASH];
    hmac(temp, ck, input, len, NULL, 0);
    hmac(ret_1, temp, (const uint8_t[]){1}, 1, NULL, 0);
    hmac(ret_2, temp, ret_1, HASH, (const uint8_t[]){2}, 1);
    if (ret_3)
        hmac(ret_3, temp, ret_2, HASH, (const uint8_t[]){3}, 1);
    sodium_memzero(temp, sizeof temp);
}

/* ---- SymmetricState (section 5.2) ---- */

static void mix_hash(struct rift_noise *n, const uint8_t *data, size_t len)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, HASH);
    crypto_generichash_update(&state, n->h, HASH);
    crypto_generichash_update(&state, data, len);
    crypto_generichash_final(&state, n->h, HASH);
}

static void mix_key(struct rift_noise *n, const uint8_t *input, size_t len)
{
    uint8_t ck[HASH], k[HASH];
    hkdf(n->ck, input, len, ck, k, NULL);
    memcpy(n->ck, ck, HASH);
    memcpy(n->k, k, KEY);
    n->n = 0;
    n->has_key = true;
    sodium_memzero(ck, sizeof ck);
    sodium_memzero(k, sizeof k);
}

/* OUT has room for LEN and, once there is a key, a tag. Returns how much was written. */
static size_t encrypt_and_hash(struct rift_noise *n, const uint8_t *in, size_t len, uint8_t *out)
{
    if (len)
        memmove(out, in, len);
    if (n->has_key) {
        rift_seal(n->k, n->n++, n->h, HASH, out, len);
        len += TAG;
    }
    mix_hash(n, out, len);
    return len;
}

/* IN holds LEN bytes, at least a tag once there is a key; OUT has room for what is left without the tag. */
static int decrypt_and_hash(struct rift_noise *n, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t before[HASH], nonce[RIFT_SEAL_NONCE_BYTES];
    memcpy(before, n->h, HASH);
    mix_hash(n, in, len);
    if (!n->has_key) {
        if (len)
            memmove(out, in, len);
        return 0;
    }
    size_t text = len - TAG;
    rift_seal_nonce(n->n++, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(out, NULL, in, text, in + text, before, HASH,
                                                           nonce, n->k) != 0)
        return -EBADMSG;
    return 0;
}

/* ---- HandshakeState (section 5.3) ---- */

static int die(struct rift_noise *n, int error)
{
    if (n->step == 3)
        return error;
    sodium_memzero(n, sizeof *n);
    n->dead = true;
    return error;
}

/* An all-zero result means a low-order point; the specification leaves it open, Wavry refuses it. */
static int mix_dh(struct rift_noise *n, const uint8_t secret[KEY], const uint8_t public[KEY])
{
    uint8_t shared[KEY];
    int r = crypto_scalarmult(shared, secret, public) == 0 ? 0 : -EBADMSG;
    if (r == 0)
        mix_key(n, shared, KEY);
    sodium_memzero(shared, sizeof shared);
    return r;
}

/* Tokens name the initiator's key first: es is the initiator's ephemeral with the responder's static key. */
static int mix_token(struct rift_noise *n, enum token token)
{
    if (token == EE)
        return mix_dh(n, n->e, n->re);
    if ((token == ES) == n->initiator)
        return mix_dh(n, n->e, n->rs);
    return mix_dh(n, n->s, n->re);
}

/* What a message of this step holds besides its payload. */
static size_t overhead(unsigned step)
{
    static const size_t bytes[3] = {RIFT_NOISE_OVERHEAD_1, RIFT_NOISE_OVERHEAD_2, RIFT_NOISE_OVERHEAD_3};
    return bytes[step];
}

static bool is_turn(const struct rift_noise *n, bool writing)
{
    return !n->dead && n->step < 3 && (n->step % 2 == 0) == (n->initiator == writing);
}

int rift_noise_new(struct rift_noise **ret_noise, bool initiator, const uint8_t static_secret[KEY],
                   const uint8_t *prologue, size_t prologue_len, const uint8_t *ephemeral_secret)
{
    if (!static_secret || (!prologue && prologue_len))
        return -EINVAL;
    struct rift_noise *n = calloc(1, sizeof *n);
    if (!n)
        return -ENOMEM;
    n->initiator = initiator;
    memcpy(n->s, static_secret, KEY);
    if (ephemeral_secret)
        memcpy(n->e, ephemeral_secret, KEY);
    else
        randombytes_buf(n->e, KEY);
    crypto_scalarmult_base(n->s_public, n->s);
    crypto_scalarmult_base(n->e_public, n->e);
    /* The name is shorter than the hash, so h starts as the name, padded with zeros. */
    memcpy(n->h, protocol_name, sizeof protocol_name - 1);
    memcpy(n->ck, n->h, HASH);
    mix_hash(n, prologue, prologue_len);
    *ret_noise = n;
    return 0;
}

struct rift_noise *rift_noise_free(struct rift_noise *n)
{
    if (n) {
        sodium_memzero(n, sizeof *n);
        free(n);
    }
    return NULL;
}

void rift_noise_copy(struct rift_noise *to, const struct rift_noise *from)
{
    *to = *from;
}

int rift_noise_write(struct rift_noise *n, const uint8_t *payload, size_t payload_len, uint8_t *message,
                     size_t capacity, size_t *ret_len)
{
    if (!is_turn(n, true))
        return die(n, -EPROTO);
    size_t most = capacity < RIFT_NOISE_MESSAGE_BYTES ? capacity : RIFT_NOISE_MESSAGE_BYTES;
    if (most < overhead(n->step) || payload_len > most - overhead(n->step))
        return die(n, -EMSGSIZE);

    size_t at = 0;
    for (const enum token *token = pattern[n->step]; *token != END; token++) {
        if (*token == E) {
            memcpy(message + at, n->e_public, KEY);
            mix_hash(n, n->e_public, KEY);
            at += KEY;
        } else if (*token == S) {
            at += encrypt_and_hash(n, n->s_public, KEY, message + at);
        } else if (mix_token(n, *token) < 0) {
            return die(n, -EBADMSG);
        }
    }
    at += encrypt_and_hash(n, payload, payload_len, message + at);
    n->step++;
    *ret_len = at;
    return 0;
}

static int read_ephemeral(struct rift_noise *n, const uint8_t public[KEY])
{
    static const uint8_t any_scalar[KEY] = {1};
    uint8_t ignored[KEY];
    memcpy(n->re, public, KEY);
    mix_hash(n, n->re, KEY);
    /* The first use of a message 1 key is only in message 2; a low-order one is refused where it came. */
    if (n->step == 0 && crypto_scalarmult(ignored, any_scalar, n->re) != 0)
        return -EBADMSG;
    return 0;
}

int rift_noise_read(struct rift_noise *n, const uint8_t *message, size_t len, uint8_t *payload,
                    size_t capacity, size_t *ret_len)
{
    if (!is_turn(n, false))
        return die(n, -EPROTO);
    if (len < overhead(n->step) || len > RIFT_NOISE_MESSAGE_BYTES)
        return die(n, -EBADMSG);
    size_t payload_len = len - overhead(n->step);
    if (payload_len > capacity)
        return die(n, -EMSGSIZE);

    size_t at = 0;
    int r = 0;
    for (const enum token *token = pattern[n->step]; r == 0 && *token != END; token++) {
        if (*token == E) {
            r = read_ephemeral(n, message + at);
            at += KEY;
        } else if (*token == S) {
            r = decrypt_and_hash(n, message + at, KEY + TAG, n->rs);
            at += KEY + TAG;
        } else {
            r = mix_token(n, *token);
        }
    }
    if (r == 0)
        r = decrypt_and_hash(n, message + at, len - at, payload);
    if (r < 0)
        return die(n, r);
    n->has_remote_static = n->step > 0;
    n->step++;
    *ret_len = payload_len;
    return 0;
}

bool rift_noise_finished(const struct rift_noise *n)
{
    return n->step == 3;
}

const uint8_t *rift_noise_remote_static(const struct rift_noise *n)
{
    return n->has_remote_static ? n->rs : NULL;
}

const uint8_t *rift_noise_handshake_hash(const struct rift_noise *n)
{
    return rift_noise_finished(n) ? n->h : NULL;
}

int rift_noise_split(const struct rift_noise *n, uint8_t ret_send[KEY], uint8_t ret_receive[KEY])
{
    if (!rift_noise_finished(n))
        return -EPROTO;
    uint8_t first[HASH], second[HASH];
    hkdf(n->ck, NULL, 0, first, second, NULL);
    memcpy(ret_send, n->initiator ? first : second, KEY);
    memcpy(ret_receive, n->initiator ? second : first, KEY);
    sodium_memzero(first, sizeof first);
    sodium_memzero(second, sizeof second);
    return 0;
}

int rift_noise_split_inner(const struct rift_noise *n, uint8_t ret_base[KEY])
{
    if (!rift_noise_finished(n))
        return -EPROTO;
    uint8_t first[HASH], second[HASH], third[HASH];
    hkdf(n->ck, NULL, 0, first, second, third);
    memcpy(ret_base, third, KEY);
    sodium_memzero(first, sizeof first);
    sodium_memzero(second, sizeof second);
    sodium_memzero(third, sizeof third);
    return 0;
}
