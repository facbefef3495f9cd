/* Parsing is strict: what version 1 doesn't use must be zero, so that no two datagrams mean the same and a
 * later version may give those bytes a meaning. */
#include "rift/core/handshake_wire.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/core/wire.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

_Static_assert(RIFT_INIT_HEAD_BYTES + RIFT_HANDSHAKE_MESSAGE_MAX <= RIFT_MTU_BYTES, "INIT holds any message");
_Static_assert(RIFT_MESSAGE_3_BYTES + RIFT_HANDSHAKE_PAYLOAD_MAX <= RIFT_HANDSHAKE_MESSAGE_MAX,
               "message 3 holds any payload");

/* The amplification bound in one line: no answer is larger than the INIT that it answers. */
_Static_assert(RIFT_REPLY_HEAD_BYTES + RIFT_HANDSHAKE_MESSAGE_MAX <= RIFT_MTU_BYTES &&
                   RIFT_COOKIE_DATAGRAM_BYTES <= RIFT_MTU_BYTES,
               "answers are at most as large as INIT");

#define RELAY_HEAD_BYTES 8
#define KNOCK_BYTES      64

static const struct rift_datagram_shape shapes[] = {
    {RIFT_DATAGRAM_DATA, RIFT_DATAGRAM_DATA, RIFT_DATAGRAM_DATA, RIFT_SEAL_BYTES, RIFT_MTU_MAX_BYTES},
    {RIFT_DATAGRAM_INIT, RIFT_DATAGRAM_INIT, RIFT_DATAGRAM_INIT, RIFT_MTU_BYTES, RIFT_MTU_BYTES},
    {RIFT_DATAGRAM_RESPONSE, RIFT_DATAGRAM_RESPONSE, RIFT_DATAGRAM_RESPONSE,
     RIFT_REPLY_HEAD_BYTES + RIFT_MESSAGE_2_BYTES, RIFT_REPLY_HEAD_BYTES + RIFT_HANDSHAKE_MESSAGE_MAX},
    {RIFT_DATAGRAM_FINISH, RIFT_DATAGRAM_FINISH, RIFT_DATAGRAM_FINISH,
     RIFT_REPLY_HEAD_BYTES + RIFT_MESSAGE_3_BYTES, RIFT_REPLY_HEAD_BYTES + RIFT_HANDSHAKE_MESSAGE_MAX},
    {RIFT_DATAGRAM_COOKIE, RIFT_DATAGRAM_COOKIE, RIFT_DATAGRAM_COOKIE, RIFT_COOKIE_DATAGRAM_BYTES,
     RIFT_COOKIE_DATAGRAM_BYTES},
    {RIFT_DATAGRAM_INVALID, 32, 38, RELAY_HEAD_BYTES, RIFT_MTU_BYTES},
    {RIFT_DATAGRAM_INVALID, 48, 48, RELAY_HEAD_BYTES + RIFT_COOKIE_DATAGRAM_BYTES,
     RELAY_HEAD_BYTES + RIFT_MTU_MAX_BYTES},
    {RIFT_DATAGRAM_INVALID, 80, 81, KNOCK_BYTES, KNOCK_BYTES},
};

const struct rift_datagram_shape *rift_datagram_shapes(size_t *ret_n)
{
    *ret_n = WV_ARRAY_SIZE(shapes);
    return shapes;
}

enum rift_datagram_kind rift_datagram_kind(const uint8_t *datagram, size_t len)
{
    for (size_t i = 0; len && i < WV_ARRAY_SIZE(shapes); i++)
        if (datagram[0] >= shapes[i].first && datagram[0] <= shapes[i].last)
            return len >= shapes[i].least && len <= shapes[i].most ? shapes[i].kind : RIFT_DATAGRAM_INVALID;
    return RIFT_DATAGRAM_INVALID;
}

void rift_handshake_prologue(uint32_t initiator_id, uint8_t ret_prologue[RIFT_PROLOGUE_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret_prologue, RIFT_PROLOGUE_BYTES);
    wv_write_span(&w, "RIFT 1", 6);
    wv_write_u32(&w, initiator_id);
}

void rift_handshake_first_key(const uint8_t *host_key, uint8_t ret_key[32])
{
    uint8_t input[12 + 32] = "RIFT 1 first";
    if (host_key)
        memcpy(input + 12, host_key, 32);
    crypto_generichash(ret_key, 32, input, sizeof input, NULL, 0);
}

/* What stands before the MAC, and the Noise message behind it. */
static void make_mac(const uint8_t head[RIFT_INIT_KEYED_BYTES], const uint8_t *message, size_t message_len,
                     const uint8_t key[32], uint8_t ret_mac[RIFT_INIT_MAC_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, key, 32, RIFT_INIT_MAC_BYTES);
    crypto_generichash_update(&state, head, RIFT_INIT_KEYED_BYTES);
    crypto_generichash_update(&state, message, message_len);
    crypto_generichash_final(&state, ret_mac, RIFT_INIT_MAC_BYTES);
}

bool rift_handshake_is_keyed(const uint8_t *datagram, size_t len, const uint8_t key[32])
{
    uint8_t mac[RIFT_INIT_MAC_BYTES];
    struct wv_reader r;
    wv_reader_init(&r, datagram, len);
    wv_read_span(&r, RIFT_INIT_KEYED_BYTES - 2);
    size_t message_len = wv_read_u16(&r);
    const uint8_t *claimed = wv_read_span(&r, RIFT_INIT_MAC_BYTES);
    const uint8_t *message = wv_read_span(&r, message_len);
    if (r.failed || message_len > RIFT_MESSAGE_1_MAX)
        return false;
    make_mac(datagram, message, message_len, key, mac);
    return sodium_memcmp(mac, claimed, sizeof mac) == 0;
}

static int parse_init(struct wv_reader *r, struct rift_handshake_datagram *d)
{
    const uint8_t *cookie = wv_read_span(r, RIFT_COOKIE_BYTES);
    size_t message_len = wv_read_u16(r);
    wv_read_span(r, RIFT_INIT_MAC_BYTES); /* rift_handshake_is_keyed() */
    if (message_len < RIFT_MESSAGE_1_BYTES || message_len > RIFT_MESSAGE_1_MAX)
        return -EBADMSG;
    d->message = wv_read_span(r, message_len);
    d->message_len = message_len;
    size_t padding_len = r->left;
    const uint8_t *padding = wv_read_span(r, padding_len);
    if (r->failed || !sodium_is_zero(padding, padding_len))
        return -EBADMSG;
    memcpy(d->cookie, cookie, RIFT_COOKIE_BYTES);
    return 0;
}

static int parse_reply(struct wv_reader *r, struct rift_handshake_datagram *d)
{
    uint32_t first = d->initiator_id, second = wv_read_u32(r);
    d->message_len = r->left;
    d->message = wv_read_span(r, d->message_len);
    if (r->failed || d->message_len > RIFT_HANDSHAKE_MESSAGE_MAX)
        return -EBADMSG;
    /* The receiver's id comes first. */
    d->initiator_id = d->kind == RIFT_DATAGRAM_RESPONSE ? first : second;
    d->responder_id = d->kind == RIFT_DATAGRAM_RESPONSE ? second : first;
    return 0;
}

static int parse_cookie(struct wv_reader *r, struct rift_handshake_datagram *d)
{
    const uint8_t *cookie = wv_read_span(r, RIFT_COOKIE_BYTES);
    if (r->failed || r->left)
        return -EBADMSG;
    memcpy(d->cookie, cookie, RIFT_COOKIE_BYTES);
    return 0;
}

int rift_handshake_parse(const uint8_t *datagram, size_t len, struct rift_handshake_datagram *ret_parsed)
{
    struct rift_handshake_datagram d = {.kind = rift_datagram_kind(datagram, len)};
    struct wv_reader r;
    wv_reader_init(&r, datagram, len);
    wv_read_u8(&r);
    if (len > RIFT_MTU_BYTES || wv_read_u8(&r) != RIFT_HANDSHAKE_VERSION || wv_read_u16(&r) != 0)
        return -EBADMSG;
    d.initiator_id = wv_read_u32(&r);

    int error = -EBADMSG;
    if (d.kind == RIFT_DATAGRAM_INIT)
        error = parse_init(&r, &d);
    else if (d.kind == RIFT_DATAGRAM_RESPONSE || d.kind == RIFT_DATAGRAM_FINISH)
        error = parse_reply(&r, &d);
    else if (d.kind == RIFT_DATAGRAM_COOKIE)
        error = parse_cookie(&r, &d);
    if (error == 0)
        *ret_parsed = d;
    return error;
}

/* The MAC, the message and the padding of an INIT, behind its first 26 bytes. */
static void write_init_rest(const struct rift_handshake_datagram *d, const uint8_t key[32],
                            struct wv_writer *w)
{
    uint8_t mac[RIFT_INIT_MAC_BYTES];
    make_mac(w->data, d->message, d->message_len, key, mac);
    wv_write_span(w, mac, sizeof mac);
    wv_write_span(w, d->message, d->message_len);
    size_t padding_len = w->failed ? 0 : RIFT_MTU_BYTES - w->length;
    uint8_t *padding = wv_write_reserve(w, padding_len);
    if (padding)
        memset(padding, 0, padding_len);
}

int rift_handshake_build(const struct rift_handshake_datagram *d, const uint8_t *key, uint8_t *buffer,
                         size_t capacity, size_t *ret_len)
{
    struct wv_writer w;
    wv_writer_init(&w, buffer, capacity < RIFT_MTU_BYTES ? capacity : RIFT_MTU_BYTES);
    wv_write_u8(&w, (uint8_t)d->kind);
    wv_write_u8(&w, RIFT_HANDSHAKE_VERSION);
    wv_write_u16(&w, 0);
    wv_write_u32(&w, d->kind == RIFT_DATAGRAM_FINISH ? d->responder_id : d->initiator_id);
    if (d->kind == RIFT_DATAGRAM_INIT || d->kind == RIFT_DATAGRAM_COOKIE)
        wv_write_span(&w, d->cookie, RIFT_COOKIE_BYTES);
    else
        wv_write_u32(&w, d->kind == RIFT_DATAGRAM_FINISH ? d->initiator_id : d->responder_id);
    if (d->kind == RIFT_DATAGRAM_INIT) {
        wv_write_u16(&w, (uint16_t)d->message_len);
        if (!w.failed)
            write_init_rest(d, key, &w);
    } else if (d->kind != RIFT_DATAGRAM_COOKIE) {
        wv_write_span(&w, d->message, d->message_len);
    }
    if (w.failed)
        return -EMSGSIZE;
    *ret_len = w.length;
    return 0;
}
