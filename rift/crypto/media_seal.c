/* SFrame (RFC 9605) for access units. Its integers are big-endian, unlike all else in RIFT. Must never seal
 * two access units under one counter, or open what is not newer than the last. */
#include "rift/crypto/media_seal.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#define CIPHER_SUITE 0xf001 /* of the private range: ChaCha20-Poly1305 with HKDF-SHA512 */
#define KEY          RIFT_MEDIA_KEY_BYTES
#define SALT         12
#define TAG          RIFT_MEDIA_TAG_BYTES
#define ABOUT_BYTES  7
#define AD_MAX       (RIFT_MEDIA_HEADER_MAX + ABOUT_BYTES)
#define LEN_MAX      0x7fffffffu /* far below what one nonce can carry */

_Static_assert(KEY == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "key size");
_Static_assert(SALT == crypto_aead_chacha20poly1305_ietf_NPUBBYTES, "nonce size");
_Static_assert(TAG == crypto_aead_chacha20poly1305_ietf_ABYTES, "tag size");

struct header {
    uint64_t kid, ctr;
    size_t len;
};

static void write_big_endian(uint8_t *ret, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ret[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

/* ---- key schedule (section 4.4.2) ---- */

/* HKDF-Expand of at most one block: label, KID and cipher suite as info. */
static void expand(const uint8_t secret[64], const char *label, uint32_t kid, uint8_t *ret, size_t len)
{
    crypto_auth_hmacsha512_state state;
    uint8_t numbers[8 + 2 + 1], block[64];
    write_big_endian(numbers, kid, 8);
    write_big_endian(numbers + 8, CIPHER_SUITE, 2);
    numbers[10] = 1; /* HKDF's number of the block */
    crypto_auth_hmacsha512_init(&state, secret, 64);
    crypto_auth_hmacsha512_update(&state, (const uint8_t *)label, strlen(label));
    crypto_auth_hmacsha512_update(&state, numbers, sizeof numbers);
    crypto_auth_hmacsha512_final(&state, block);
    memcpy(ret, block, len);
    sodium_memzero(block, sizeof block);
    sodium_memzero(&state, sizeof state);
}

static void derive(uint32_t kid, const uint8_t base[KEY], uint8_t ret_key[KEY], uint8_t ret_salt[SALT])
{
    crypto_auth_hmacsha512_state state;
    uint8_t secret[64];
    /* HKDF-Extract with an empty salt. */
    crypto_auth_hmacsha512_init(&state, (const uint8_t *)"", 0);
    crypto_auth_hmacsha512_update(&state, base, KEY);
    crypto_auth_hmacsha512_final(&state, secret);
    expand(secret, "SFrame 1.0 Secret key ", kid, ret_key, KEY);
    expand(secret, "SFrame 1.0 Secret salt ", kid, ret_salt, SALT);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(&state, sizeof state);
}

static void make_nonce(const uint8_t salt[SALT], uint64_t ctr, uint8_t ret_nonce[SALT])
{
    uint8_t number[SALT];
    write_big_endian(number, 0, SALT - 8);
    write_big_endian(number + SALT - 8, ctr, 8);
    for (size_t i = 0; i < SALT; i++)
        ret_nonce[i] = salt[i] ^ number[i];
}

/* ---- header (section 4.3) ---- */

/* A number as its 4 bits of the first byte and the bytes that follow (none below 8). */
static uint8_t write_number(struct wv_writer *w, uint64_t value)
{
    if (value < 8)
        return (uint8_t)value;
    size_t bytes = 1;
    while (bytes < 8 && value >> 8 * bytes)
        bytes++;
    uint8_t *at = wv_write_reserve(w, bytes);
    if (at)
        write_big_endian(at, value, bytes);
    return (uint8_t)(8 | (bytes - 1));
}

static size_t write_header(uint64_t kid, uint64_t ctr, uint8_t ret[RIFT_MEDIA_HEADER_MAX])
{
    struct wv_writer w;
    wv_writer_init(&w, ret + 1, RIFT_MEDIA_HEADER_MAX - 1);
    uint8_t high = write_number(&w, kid);
    ret[0] = (uint8_t)(high << 4 | write_number(&w, ctr));
    return 1 + w.length;
}

/* False for a number that is longer than it needs to be: one header has one form. */
static bool read_number(struct wv_reader *r, uint8_t bits, uint64_t *ret_value)
{
    if (!(bits & 8)) {
        *ret_value = bits;
        return true;
    }
    size_t bytes = (bits & 7u) + 1u;
    const uint8_t *at = wv_read_span(r, bytes);
    if (!at)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    *ret_value = value;
    return at[0] != 0 && value >= 8;
}

static bool read_header(const uint8_t *sealed, size_t len, struct header *ret)
{
    struct wv_reader r;
    wv_reader_init(&r, sealed, len);
    uint8_t first = wv_read_u8(&r);
    if (r.failed || !read_number(&r, first >> 4, &ret->kid) || !read_number(&r, first & 15, &ret->ctr) ||
        r.left < TAG)
        return false;
    ret->len = len - r.left;
    return true;
}

/* The associated data: the header, then what is said about the frame. */
static size_t make_ad(const uint8_t *header, size_t header_len, const struct rift_media_about *about,
                      uint8_t ret_ad[AD_MAX])
{
    struct wv_writer w;
    wv_writer_init(&w, ret_ad, AD_MAX);
    wv_write_span(&w, header, header_len);
    wv_write_u16(&w, about->epoch);
    wv_write_u8(&w, about->keyframe);
    wv_write_u16(&w, about->width);
    wv_write_u16(&w, about->height);
    return w.length;
}

/* ---- sender ---- */

void rift_media_sealer_init(struct rift_media_sealer *s, uint32_t kid, const uint8_t base[KEY])
{
    s->kid = kid;
    s->next = 0;
    derive(kid, base, s->key, s->salt);
}

int rift_media_seal(struct rift_media_sealer *s, const struct rift_media_about *about, const uint8_t *data,
                    size_t len, uint8_t *ret, size_t capacity, size_t *ret_len)
{
    if (s->kid == 0)
        return -ENOKEY;
    uint8_t header[RIFT_MEDIA_HEADER_MAX], ad[AD_MAX], nonce[SALT];
    size_t header_len = write_header(s->kid, s->next, header);
    if (len > LEN_MAX || capacity < header_len + TAG || len > capacity - header_len - TAG)
        return -EMSGSIZE;
    if (s->next == UINT64_MAX)
        return -EOVERFLOW;
    make_nonce(s->salt, s->next++, nonce);
    size_t ad_len = make_ad(header, header_len, about, ad);
    memcpy(ret, header, header_len);
    uint8_t *text = ret + header_len;
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(text, text + len, NULL, data, len, ad, ad_len, NULL,
                                                       nonce, s->key);
    *ret_len = header_len + len + TAG;
    return 0;
}

/* ---- receiver ---- */

void rift_media_opener_init(struct rift_media_opener *o)
{
    memset(o, 0, sizeof *o);
}

void rift_media_opener_add(struct rift_media_opener *o, uint32_t kid, const uint8_t base[KEY])
{
    size_t place = 0; /* a free one (KID 0) or the oldest */
    for (size_t i = 0; i < RIFT_MEDIA_KEYS; i++) {
        if (o->keys[i].kid == kid)
            return; /* also KID 0, which is none */
        if (o->keys[i].kid < o->keys[place].kid)
            place = i;
    }
    if (kid < o->keys[place].kid)
        return;
    o->keys[place].kid = kid;
    derive(kid, base, o->keys[place].key, o->keys[place].salt);
}

/* Returns 0 with the key's place, RIFT_MEDIA_UNKNOWN_KEY for one that may still come (keys come in order, so
 * only one above all that are known), else -EBADMSG. */
static int find_key(const struct rift_media_opener *o, uint64_t kid, size_t *ret_place)
{
    bool newer = true;
    if (kid == 0 || kid > UINT32_MAX || kid < o->last_kid)
        return -EBADMSG;
    for (size_t i = 0; i < RIFT_MEDIA_KEYS; i++) {
        if (o->keys[i].kid == kid) {
            *ret_place = i;
            return 0;
        }
        newer = newer && o->keys[i].kid < kid;
    }
    return newer ? RIFT_MEDIA_UNKNOWN_KEY : -EBADMSG;
}

int rift_media_open(struct rift_media_opener *o, const struct rift_media_about *about, uint8_t *sealed,
                    size_t len, uint8_t **ret_data, size_t *ret_len)
{
    struct header h;
    size_t place;
    if (len > LEN_MAX || !read_header(sealed, len, &h))
        return -EBADMSG;
    int r = find_key(o, h.kid, &place);
    if (r != 0)
        return r;
    if (h.ctr == UINT64_MAX || (h.kid == o->last_kid && h.ctr < o->next))
        return -EBADMSG;

    uint8_t ad[AD_MAX], nonce[SALT];
    size_t ad_len = make_ad(sealed, h.len, about, ad);
    make_nonce(o->keys[place].salt, h.ctr, nonce);
    uint8_t *text = sealed + h.len;
    size_t text_len = len - h.len - TAG;
    if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(text, NULL, text, text_len, text + text_len, ad,
                                                           ad_len, nonce, o->keys[place].key) != 0)
        return -EBADMSG;
    o->last_kid = (uint32_t)h.kid;
    o->next = h.ctr + 1;
    *ret_data = text;
    *ret_len = text_len;
    return 0;
}
