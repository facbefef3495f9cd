/* Leases as bytes and text. See lease.h. */
#include "rift/relay/lease.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LEASE_VERSION  1
#define LEASE_PREFIX   "wavry-lease1."
#define KEY_PREFIX     "ed25519."
#define PURPOSE        "RIFT 1 lease"
#define BASE64_VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING

_Static_assert(RIFT_LEASE_SIGNED_BYTES + crypto_sign_BYTES == RIFT_LEASE_BYTES, "lease size");
_Static_assert(sodium_base64_ENCODED_LEN(RIFT_LEASE_BYTES, BASE64_VARIANT) + sizeof LEASE_PREFIX - 1 ==
                   RIFT_LEASE_TEXT_BYTES,
               "lease text size");

static void name_hash(const char *purpose, const void *data, size_t len, uint8_t *ret, size_t ret_len)
{
    crypto_generichash_state state;
    uint8_t full[16];
    crypto_generichash_init(&state, NULL, 0, sizeof full);
    crypto_generichash_update(&state, (const uint8_t *)purpose, strlen(purpose));
    crypto_generichash_update(&state, data, len);
    crypto_generichash_final(&state, full, sizeof full);
    memcpy(ret, full, ret_len);
}

void rift_relay_id(const char *name, uint8_t ret_id[RIFT_RELAY_ID_BYTES])
{
    name_hash("RIFT 1 relay", name, strlen(name), ret_id, RIFT_RELAY_ID_BYTES);
}

void rift_lease_issuer_id(const uint8_t key[32], uint8_t ret_id[RIFT_LEASE_ISSUER_BYTES])
{
    name_hash("RIFT 1 issuer", key, 32, ret_id, RIFT_LEASE_ISSUER_BYTES);
}

static bool is_sound(const struct rift_lease *lease)
{
    return lease->rate_kbps > 0 && lease->expires_s > lease->not_before_s && lease->expires_s <= INT64_MAX &&
           memcmp(lease->peers[0], lease->peers[1], sizeof lease->peers[0]) != 0;
}

static void signed_message(const uint8_t bytes[RIFT_LEASE_SIGNED_BYTES],
                           uint8_t ret[sizeof PURPOSE - 1 + RIFT_LEASE_SIGNED_BYTES])
{
    memcpy(ret, PURPOSE, sizeof PURPOSE - 1);
    memcpy(ret + sizeof PURPOSE - 1, bytes, RIFT_LEASE_SIGNED_BYTES);
}

int rift_lease_sign(const struct rift_lease *lease, const uint8_t secret[64],
                    uint8_t ret_bytes[RIFT_LEASE_BYTES])
{
    uint8_t issuer[RIFT_LEASE_ISSUER_BYTES], message[sizeof PURPOSE - 1 + RIFT_LEASE_SIGNED_BYTES];
    struct wv_writer w;
    if (!is_sound(lease))
        return -EINVAL;
    rift_lease_issuer_id(secret + 32, issuer); /* libsodium keeps the public key behind the seed */
    wv_writer_init(&w, ret_bytes, RIFT_LEASE_SIGNED_BYTES);
    wv_write_u8(&w, LEASE_VERSION);
    wv_write_u8(&w, 0);
    wv_write_u16(&w, 0);
    wv_write_span(&w, issuer, sizeof issuer);
    wv_write_span(&w, lease->id, sizeof lease->id);
    wv_write_span(&w, lease->relay, sizeof lease->relay);
    wv_write_span(&w, lease->peers, sizeof lease->peers);
    wv_write_u32(&w, lease->rate_kbps);
    wv_write_u64(&w, lease->not_before_s);
    wv_write_u64(&w, lease->expires_s);
    signed_message(ret_bytes, message);
    crypto_sign_detached(ret_bytes + RIFT_LEASE_SIGNED_BYTES, NULL, message, sizeof message, secret);
    return 0;
}

int rift_lease_parse(const uint8_t *bytes, size_t len, struct rift_lease *ret_lease)
{
    struct wv_reader r;
    struct rift_lease l;
    if (len != RIFT_LEASE_BYTES)
        return -EBADMSG;
    wv_reader_init(&r, bytes, RIFT_LEASE_SIGNED_BYTES);
    uint8_t version = wv_read_u8(&r), reserved = wv_read_u8(&r);
    uint16_t reserved2 = wv_read_u16(&r);
    memcpy(l.issuer, wv_read_span(&r, sizeof l.issuer), sizeof l.issuer);
    memcpy(l.id, wv_read_span(&r, sizeof l.id), sizeof l.id);
    memcpy(l.relay, wv_read_span(&r, sizeof l.relay), sizeof l.relay);
    memcpy(l.peers, wv_read_span(&r, sizeof l.peers), sizeof l.peers);
    l.rate_kbps = wv_read_u32(&r);
    l.not_before_s = wv_read_u64(&r);
    l.expires_s = wv_read_u64(&r);
    if (version != LEASE_VERSION || reserved || reserved2 || r.failed || !is_sound(&l))
        return -EBADMSG;
    *ret_lease = l;
    return 0;
}

bool rift_lease_is_signed(const uint8_t bytes[RIFT_LEASE_BYTES], const uint8_t key[32])
{
    uint8_t message[sizeof PURPOSE - 1 + RIFT_LEASE_SIGNED_BYTES];
    signed_message(bytes, message);
    return crypto_sign_verify_detached(bytes + RIFT_LEASE_SIGNED_BYTES, message, sizeof message, key) == 0;
}

enum rift_lease_fault rift_lease_check(const struct rift_lease *lease,
                                       const uint8_t relay[RIFT_RELAY_ID_BYTES], uint64_t unix_s,
                                       uint32_t leeway_s, uint32_t max_s)
{
    if (memcmp(lease->relay, relay, RIFT_RELAY_ID_BYTES) != 0)
        return RIFT_LEASE_OTHER_RELAY;
    if (lease->expires_s - lease->not_before_s > max_s)
        return RIFT_LEASE_TOO_LONG;
    if (unix_s + leeway_s < lease->not_before_s)
        return RIFT_LEASE_NOT_YET;
    return unix_s >= lease->expires_s + leeway_s ? RIFT_LEASE_EXPIRED : RIFT_LEASE_VALID;
}

/* ---- text ---- */

/* The alphabet is checked here: libsodium 1.0.18 takes byte 0xdf for '_'. */
static int parse_text(const char *text, const char *prefix, size_t text_len, uint8_t *ret, size_t len)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t head = strlen(prefix), decoded = 0;
    uint8_t bytes[RIFT_LEASE_BYTES];
    if (strnlen(text, text_len + 1) != text_len || memcmp(text, prefix, head) != 0 ||
        strspn(text + head, alphabet) != text_len - head)
        return -EINVAL;
    if (sodium_base642bin(bytes, len, text + head, text_len - head, NULL, &decoded, NULL, BASE64_VARIANT) !=
            0 ||
        decoded != len)
        return -EINVAL;
    memcpy(ret, bytes, len);
    return 0;
}

void rift_lease_format(const uint8_t bytes[RIFT_LEASE_BYTES], char ret_text[RIFT_LEASE_TEXT_BYTES])
{
    size_t head = sizeof LEASE_PREFIX - 1;
    memcpy(ret_text, LEASE_PREFIX, head);
    sodium_bin2base64(ret_text + head, RIFT_LEASE_TEXT_BYTES - head, bytes, RIFT_LEASE_BYTES, BASE64_VARIANT);
}

int rift_lease_parse_text(const char *text, uint8_t ret_bytes[RIFT_LEASE_BYTES])
{
    return parse_text(text, LEASE_PREFIX, RIFT_LEASE_TEXT_BYTES - 1, ret_bytes, RIFT_LEASE_BYTES);
}

void rift_sign_key_format(const uint8_t key[32], char ret_text[RIFT_SIGN_KEY_TEXT_BYTES])
{
    size_t head = sizeof KEY_PREFIX - 1;
    memcpy(ret_text, KEY_PREFIX, head);
    sodium_bin2base64(ret_text + head, RIFT_SIGN_KEY_TEXT_BYTES - head, key, 32, BASE64_VARIANT);
}

int rift_sign_key_parse(const char *text, uint8_t ret_key[32])
{
    return parse_text(text, KEY_PREFIX, RIFT_SIGN_KEY_TEXT_BYTES - 1, ret_key, 32);
}
