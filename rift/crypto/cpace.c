/* CPace, draft-irtf-cfrg-cpace (version 21), suite CPACE-RISTR255-SHA512 with explicit key confirmation;
 * names in comments are the draft's own. Must never let a secret outlive the run, or accept our own share as
 * the peer's: who only sends back what we sent would pass its confirmation. */
#include "rift/crypto/cpace.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define DSI         "CPaceRistretto255"
#define DSI_ISK     "CPaceRistretto255_ISK"
#define HASH        crypto_hash_sha512_BYTES
#define BLOCK_BYTES 128 /* s_in_bytes of SHA-512 */
#define POINT       crypto_core_ristretto255_BYTES
#define LENGTH_MAX  10 /* bytes of a LEB128 length */

_Static_assert(RIFT_CPACE_SHARE_BYTES == POINT && RIFT_CPACE_KEY_BYTES == HASH, "sizes of the suite");
_Static_assert(RIFT_CPACE_TAG_BYTES == crypto_auth_hmacsha512_BYTES, "HMAC-SHA512");
_Static_assert(sizeof((struct rift_cpace){0}.scalar) == crypto_core_ristretto255_SCALARBYTES, "scalar");

/* LEB128 of a length (the draft's prepend_len). Returns how many bytes it took. */
static size_t write_length(uint8_t ret[LENGTH_MAX], size_t len)
{
    size_t n = 0;
    do {
        ret[n] = (uint8_t)((len & 0x7f) | (len > 0x7f ? 0x80 : 0));
        len >>= 7;
        n++;
    } while (len);
    return n;
}

/* One field of lv_cat. */
static void add_field(crypto_hash_sha512_state *state, const void *data, size_t len)
{
    uint8_t length[LENGTH_MAX];
    crypto_hash_sha512_update(state, length, write_length(length, len));
    if (len)
        crypto_hash_sha512_update(state, data, len);
}

/* calculate_generator(): the hash of generator_string(), mapped to the group. The zeros fill the first block,
 * so that how long hashing takes does not depend on where the code ends in it. */
static void make_generator(const uint8_t *code, size_t code_len, const uint8_t *channel, size_t channel_len,
                           const uint8_t *sid, size_t sid_len, uint8_t ret_point[POINT])
{
    static const uint8_t zeros[BLOCK_BYTES];
    uint8_t length[LENGTH_MAX], hash[HASH];
    size_t used = write_length(length, code_len) + code_len + 1 + strlen(DSI) + 1;
    crypto_hash_sha512_state state;
    crypto_hash_sha512_init(&state);
    add_field(&state, DSI, strlen(DSI));
    add_field(&state, code, code_len);
    add_field(&state, zeros, used < BLOCK_BYTES ? BLOCK_BYTES - used : 0);
    add_field(&state, channel, channel_len);
    add_field(&state, sid, sid_len);
    crypto_hash_sha512_final(&state, hash);
    crypto_core_ristretto255_from_hash(ret_point, hash);
    sodium_memzero(hash, sizeof hash);
    sodium_memzero(&state, sizeof state);
}

int rift_cpace_begin(struct rift_cpace *c, const uint8_t *code, size_t code_len, const uint8_t *channel,
                     size_t channel_len, const uint8_t *sid, size_t sid_len, const uint8_t *scalar)
{
    uint8_t generator[POINT];
    if (code_len == 0 || sid_len > sizeof c->sid)
        return -EINVAL;
    memset(c, 0, sizeof *c);
    if (sid_len)
        memcpy(c->sid, sid, sid_len);
    c->sid_len = sid_len;
    if (scalar)
        memcpy(c->scalar, scalar, sizeof c->scalar);
    else
        crypto_core_ristretto255_scalar_random(c->scalar);
    make_generator(code, code_len, channel, channel_len, sid, sid_len, generator);
    int r = crypto_scalarmult_ristretto255(c->share, c->scalar, generator) == 0 ? 0 : -EINVAL;
    if (r < 0)
        sodium_memzero(c, sizeof *c); /* a zero scalar was given */
    sodium_memzero(generator, sizeof generator);
    return r;
}

/* ---- after the exchange ---- */

struct side {
    const uint8_t *share, *ad;
    size_t ad_len;
};

/* ISK = H(lv_cat(DSI_ISK, sid, K) || lv_cat(Ya, ADa) || lv_cat(Yb, ADb)) */
static void make_key(const struct rift_cpace *c, const uint8_t k[POINT], const struct side *a,
                     const struct side *b, uint8_t ret_key[HASH])
{
    crypto_hash_sha512_state state;
    crypto_hash_sha512_init(&state);
    add_field(&state, DSI_ISK, strlen(DSI_ISK));
    add_field(&state, c->sid, c->sid_len);
    add_field(&state, k, POINT);
    add_field(&state, a->share, POINT);
    add_field(&state, a->ad, a->ad_len);
    add_field(&state, b->share, POINT);
    add_field(&state, b->ad, b->ad_len);
    crypto_hash_sha512_final(&state, ret_key);
    sodium_memzero(&state, sizeof state);
}

/* mac_key = H("CPaceMac" || sid || ISK) */
static void make_mac_key(const struct rift_cpace *c, const uint8_t key[HASH], uint8_t ret_mac_key[HASH])
{
    crypto_hash_sha512_state state;
    crypto_hash_sha512_init(&state);
    crypto_hash_sha512_update(&state, (const uint8_t *)"CPaceMac", 8);
    crypto_hash_sha512_update(&state, c->sid, c->sid_len);
    crypto_hash_sha512_update(&state, key, HASH);
    crypto_hash_sha512_final(&state, ret_mac_key);
    sodium_memzero(&state, sizeof state);
}

/* A side's tag: HMAC over lv_cat(Y, AD) of its own. */
static void make_tag(const uint8_t mac_key[HASH], const struct side *side,
                     uint8_t ret_tag[RIFT_CPACE_TAG_BYTES])
{
    crypto_auth_hmacsha512_state state;
    uint8_t length[LENGTH_MAX];
    crypto_auth_hmacsha512_init(&state, mac_key, HASH);
    crypto_auth_hmacsha512_update(&state, length, write_length(length, POINT));
    crypto_auth_hmacsha512_update(&state, side->share, POINT);
    crypto_auth_hmacsha512_update(&state, length, write_length(length, side->ad_len));
    if (side->ad_len)
        crypto_auth_hmacsha512_update(&state, side->ad, side->ad_len);
    crypto_auth_hmacsha512_final(&state, ret_tag);
    sodium_memzero(&state, sizeof state);
}

int rift_cpace_finish(struct rift_cpace *c, bool initiator, const uint8_t *own_ad, size_t own_ad_len,
                      const uint8_t peer_share[RIFT_CPACE_SHARE_BYTES], const uint8_t *peer_ad,
                      size_t peer_ad_len, uint8_t ret_key[RIFT_CPACE_KEY_BYTES],
                      uint8_t ret_own_tag[RIFT_CPACE_TAG_BYTES], uint8_t ret_peer_tag[RIFT_CPACE_TAG_BYTES])
{
    uint8_t k[POINT], mac_key[HASH];
    struct side own = {c->share, own_ad, own_ad_len}, peer = {peer_share, peer_ad, peer_ad_len};
    /* The multiplication refuses what is no point and what gives the neutral one. */
    if (memcmp(c->share, peer_share, POINT) == 0 ||
        crypto_scalarmult_ristretto255(k, c->scalar, peer_share) != 0) {
        sodium_memzero(c, sizeof *c);
        return -EBADMSG;
    }
    make_key(c, k, initiator ? &own : &peer, initiator ? &peer : &own, ret_key);
    make_mac_key(c, ret_key, mac_key);
    make_tag(mac_key, &own, ret_own_tag);
    make_tag(mac_key, &peer, ret_peer_tag);
    sodium_memzero(k, sizeof k);
    sodium_memzero(mac_key, sizeof mac_key);
    sodium_memzero(c, sizeof *c);
    return 0;
}
