#include "rift/core/packet.h"

#include "lib/base/bytes.h"
#include "rift/core/handshake.h"
#include "rift/crypto/seal.h"

#include <errno.h>
#include <string.h>

void rift_packet_init(struct rift_packet *p, const struct rift_session_config *config)
{
    *p = (struct rift_packet){
        .local_id = config->local_id,
        .remote_id = config->remote_id,
        .next_counter = config->first_counter,
    };
    memcpy(p->key_send, config->key_send, RIFT_KEY_BYTES);
    memcpy(p->key_receive, config->key_receive, RIFT_KEY_BYTES);
    rift_replay_init(&p->replay);
}

void rift_packet_wipe(struct rift_packet *p)
{
    explicit_bzero(p->key_send, RIFT_KEY_BYTES);
    explicit_bzero(p->key_receive, RIFT_KEY_BYTES);
}

size_t rift_packet_protect(struct rift_packet *p, uint8_t *datagram, size_t payload_len,
                           uint64_t *ret_counter)
{
    if (p->next_counter == UINT64_MAX)
        return 0;
    struct wv_writer w;
    wv_writer_init(&w, datagram, RIFT_HEADER_BYTES);
    wv_write_u32(&w, RIFT_DATAGRAM_DATA); /* the kind and three reserved zero bytes */
    wv_write_u32(&w, p->remote_id);
    wv_write_u64(&w, p->next_counter);
    rift_seal(p->key_send, p->next_counter, datagram, RIFT_HEADER_BYTES, datagram + RIFT_HEADER_BYTES,
              payload_len);
    *ret_counter = p->next_counter++;
    return RIFT_HEADER_BYTES + payload_len + RIFT_TAG_BYTES;
}

int rift_datagram_receiver(const uint8_t *datagram, size_t len, uint32_t *ret_id)
{
    if (len < RIFT_HEADER_BYTES + RIFT_TAG_BYTES || len > RIFT_MTU_BYTES)
        return -EBADMSG;
    struct wv_reader r;
    wv_reader_init(&r, datagram, len);
    if (wv_read_u32(&r) != RIFT_DATAGRAM_DATA)
        return -EBADMSG;
    *ret_id = wv_read_u32(&r);
    return 0;
}

/* Counts from the peer's first counter, which is 0 unless it came back with a reserved block. */
static void count_received(struct rift_packet *p, uint64_t counter, uint64_t now)
{
    p->received++;
    if (p->received_any && counter < p->highest)
        return;
    uint64_t ahead = p->received_any ? counter - p->highest : counter + 1;
    p->expected += ahead > RIFT_COUNTER_JUMP ? 1 : ahead;
    p->received_any = true;
    p->highest = counter;
    p->highest_ns = now;
}

int rift_packet_unprotect(struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t now,
                          uint8_t *payload, size_t *ret_len, uint64_t *ret_counter)
{
    uint32_t id;
    if (rift_datagram_receiver(datagram, len, &id) < 0 || id != p->local_id)
        return RIFT_PACKET_MALFORMED;
    struct wv_reader r;
    wv_reader_init(&r, datagram + 8, 8);
    uint64_t counter = wv_read_u64(&r);
    if (!rift_replay_check(&p->replay, counter))
        return RIFT_PACKET_REPLAYED;
    size_t sealed = len - RIFT_HEADER_BYTES;
    memcpy(payload, datagram + RIFT_HEADER_BYTES, sealed);
    if (rift_open(p->key_receive, counter, datagram, RIFT_HEADER_BYTES, payload, sealed) < 0)
        return RIFT_PACKET_FORGED;
    if (!rift_replay_accept(&p->replay, counter))
        return RIFT_PACKET_REPLAYED;
    count_received(p, counter, now);
    *ret_len = sealed - RIFT_TAG_BYTES;
    *ret_counter = counter;
    return 0;
}
