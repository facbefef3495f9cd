/* Sealed signals on libsodium's crypto_box; see offer.h. Must never hand out a byte of what did not open, or
 * open what was sealed in the other direction. */
#include "rift/crypto/offer.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LABEL       "RIFT 1 signal"
#define LABEL_BYTES 13
#define HEAD_BYTES  (LABEL_BYTES + 1 + 32 + 32)
#define TAG_BYTES   crypto_box_curve25519xchacha20poly1305_MACBYTES
#define TO_HOST     1
#define TO_CLIENT   2

_Static_assert(RIFT_OFFER_OVERHEAD == RIFT_OFFER_NONCE_BYTES + TAG_BYTES + HEAD_BYTES, "all that is added");
_Static_assert(RIFT_OFFER_NONCE_BYTES == crypto_box_curve25519xchacha20poly1305_NONCEBYTES, "nonce");

/* The key of the two is the same in both directions, so the head says which one it is; and between whom, for
 * keys of low order would agree with everybody. */
static void write_head(const struct rift_offer_end *end, bool to_host, uint8_t ret[HEAD_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret, HEAD_BYTES);
    wv_write_span(&w, LABEL, LABEL_BYTES);
    wv_write_u8(&w, to_host ? TO_HOST : TO_CLIENT);
    wv_write_span(&w, end->is_host ? end->peer : end->public, 32); /* the client */
    wv_write_span(&w, end->is_host ? end->public : end->peer, 32);
}

int rift_offer_seal(const struct rift_offer_end *end, const uint8_t nonce[RIFT_OFFER_NONCE_BYTES],
                    const uint8_t *plain, size_t len, uint8_t *ret_sealed, size_t capacity, size_t *ret_len)
{
    uint8_t text[RIFT_OFFER_MAX_BYTES];
    size_t limit = capacity < RIFT_OFFER_MAX_BYTES ? capacity : RIFT_OFFER_MAX_BYTES;
    if (limit < RIFT_OFFER_OVERHEAD || len > limit - RIFT_OFFER_OVERHEAD)
        return -EMSGSIZE;
    write_head(end, !end->is_host, text);
    if (len)
        memcpy(text + HEAD_BYTES, plain, len);
    if (nonce)
        memcpy(ret_sealed, nonce, RIFT_OFFER_NONCE_BYTES);
    else
        randombytes_buf(ret_sealed, RIFT_OFFER_NONCE_BYTES);
    int r = crypto_box_curve25519xchacha20poly1305_easy(ret_sealed + RIFT_OFFER_NONCE_BYTES, text,
                                                        HEAD_BYTES + len, ret_sealed, end->peer, end->secret);
    sodium_memzero(text, HEAD_BYTES + len);
    if (r != 0)
        return -EINVAL;
    *ret_len = len + RIFT_OFFER_OVERHEAD;
    return 0;
}

int rift_offer_open(const struct rift_offer_end *end, const uint8_t *sealed, size_t len, uint8_t *ret_plain,
                    size_t capacity, size_t *ret_len)
{
    uint8_t text[RIFT_OFFER_MAX_BYTES], head[HEAD_BYTES];
    if (len < RIFT_OFFER_OVERHEAD || len > RIFT_OFFER_MAX_BYTES)
        return -EBADMSG;
    size_t plain = len - RIFT_OFFER_OVERHEAD;
    if (plain > capacity)
        return -EMSGSIZE;
    write_head(end, end->is_host, head);
    int r = crypto_box_curve25519xchacha20poly1305_open_easy(
        text, sealed + RIFT_OFFER_NONCE_BYTES, len - RIFT_OFFER_NONCE_BYTES, sealed, end->peer, end->secret);
    if (r == 0 && sodium_memcmp(text, head, sizeof head) != 0)
        r = -1;
    if (r == 0) {
        if (plain)
            memcpy(ret_plain, text + HEAD_BYTES, plain);
        *ret_len = plain;
        sodium_memzero(text, HEAD_BYTES + plain);
    }
    return r == 0 ? 0 : -EBADMSG;
}

int rift_offer_take(struct rift_offer_memory *m, const uint8_t id[RIFT_OFFER_ID_BYTES],
                    const uint8_t peer[32], uint64_t unix_s, uint64_t now_s)
{
    struct rift_offer_seen *room = NULL;
    unsigned of_peer = 0;
    if (unix_s > UINT64_MAX - 2 * RIFT_OFFER_LEEWAY_S || unix_s + RIFT_OFFER_LEEWAY_S < now_s ||
        unix_s > now_s + RIFT_OFFER_LEEWAY_S)
        return RIFT_OFFER_CLOCK;
    for (size_t i = 0; i < RIFT_OFFER_MEMORY; i++) {
        struct rift_offer_seen *s = &m->seen[i];
        if (s->until_s < now_s)
            s->until_s = 0;
        if (!s->until_s) {
            room = s;
            continue;
        }
        if (memcmp(s->peer, peer, sizeof s->peer) != 0)
            continue;
        if (memcmp(s->id, id, sizeof s->id) == 0)
            return RIFT_OFFER_REPLAYED;
        of_peer++;
    }
    if (!room || of_peer >= RIFT_OFFER_PER_PEER)
        return RIFT_OFFER_BUSY;
    /* Kept for as long as its time would be taken. */
    room->until_s = unix_s + RIFT_OFFER_LEEWAY_S;
    memcpy(room->id, id, sizeof room->id);
    memcpy(room->peer, peer, sizeof room->peer);
    return RIFT_OFFER_FRESH;
}
