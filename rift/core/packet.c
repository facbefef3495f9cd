#include "rift/core/packet.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/core/handshake.h"
#include "rift/crypto/derive.h"
#include "rift/crypto/seal.h"

#include <errno.h>
#include <string.h>

/* How long a datagram under the key before may be late. */
#define PREVIOUS_NS (3 * WV_NS_PER_S)
/* A peer begins a generation when it has seen ours follow the one before. So it is at most one ahead of what
 * we send, and, because we may have begun one ourselves and not heard of its own, two of what we received. */
#define AHEAD_OF_SENT     1
#define AHEAD_OF_RECEIVED 2

#define KEY_PACKETS       (UINT64_C(1) << 30)
#define KEY_BYTES_DEFAULT (UINT64_C(64) << 30)
#define KEY_NS            (600 * WV_NS_PER_S)
/* No configuration makes two sides do nothing but change keys. */
#define KEY_PACKETS_MIN 64
#define KEY_BYTES_MIN   65536
#define KEY_NS_MIN      (100 * WV_NS_PER_MS)

static uint64_t limit(uint64_t configured, uint64_t standard, uint64_t least)
{
    return configured == 0 ? standard : WV_MAX(configured, least);
}

void rift_packet_init(struct rift_packet *p, const struct rift_session_config *config, uint64_t now)
{
    *p = (struct rift_packet){
        .local_id = config->local_id,
        .remote_id = config->remote_id,
        .next_counter = config->first_counter,
        .key_since_ns = now,
        .limit_packets = limit(config->rekey_packets, KEY_PACKETS, KEY_PACKETS_MIN),
        .limit_bytes = limit(config->rekey_bytes, KEY_BYTES_DEFAULT, KEY_BYTES_MIN),
        .limit_ns = limit(config->rekey_ns, KEY_NS, KEY_NS_MIN),
    };
    memcpy(p->key_send, config->key_send, RIFT_KEY_BYTES);
    memcpy(p->key_receive, config->key_receive, RIFT_KEY_BYTES);
    rift_derive_next_key(p->key_receive, p->key_next);
    rift_replay_init(&p->replay);
}

void rift_packet_wipe(struct rift_packet *p)
{
    explicit_bzero(p->key_send, RIFT_KEY_BYTES);
    explicit_bzero(p->key_receive, RIFT_KEY_BYTES);
    explicit_bzero(p->key_next, RIFT_KEY_BYTES);
    explicit_bzero(p->key_previous, RIFT_KEY_BYTES);
}

/* ---- sending ---- */

bool rift_packet_wants_key(const struct rift_packet *p, uint64_t now)
{
    if (p->generation_receive > p->generation_send)
        return true;
    if (p->generation_receive != p->generation_send)
        return false; /* the peer has not shown that it followed the last one */
    return p->key_packets >= p->limit_packets || p->key_bytes >= p->limit_bytes ||
           now - p->key_since_ns >= p->limit_ns;
}

void rift_packet_next_key(struct rift_packet *p, uint64_t now)
{
    rift_derive_next_key(p->key_send, p->key_send);
    p->generation_send++;
    p->key_packets = p->key_bytes = 0;
    p->key_since_ns = now;
}

size_t rift_packet_protect(struct rift_packet *p, uint8_t *datagram, size_t payload_len,
                           uint64_t *ret_counter)
{
    if (p->next_counter == UINT64_MAX)
        return 0;
    struct wv_writer w;
    wv_writer_init(&w, datagram, RIFT_HEADER_BYTES);
    wv_write_u8(&w, RIFT_DATAGRAM_DATA);
    wv_write_u8(&w, (uint8_t)p->generation_send);
    wv_write_u16(&w, 0); /* reserved */
    wv_write_u32(&w, p->remote_id);
    wv_write_u64(&w, p->next_counter);
    rift_seal(p->key_send, p->next_counter, datagram, RIFT_HEADER_BYTES, datagram + RIFT_HEADER_BYTES,
              payload_len);
    *ret_counter = p->next_counter++;
    p->key_packets++;
    p->key_bytes += payload_len;
    return RIFT_HEADER_BYTES + payload_len + RIFT_TAG_BYTES;
}

/* ---- receiving ---- */

int rift_datagram_receiver(const uint8_t *datagram, size_t len, uint32_t *ret_id)
{
    if (len < RIFT_HEADER_BYTES + RIFT_TAG_BYTES || len > RIFT_MTU_MAX_BYTES)
        return -EBADMSG;
    struct wv_reader r;
    wv_reader_init(&r, datagram, len);
    uint8_t kind = wv_read_u8(&r);
    wv_read_u8(&r); /* generation of the key */
    if (kind != RIFT_DATAGRAM_DATA || wv_read_u16(&r) != 0)
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

/* Generations from the receiving key to the one that the header tells; below 0: an older one. */
static int steps_to(const struct rift_packet *p, const uint8_t *datagram)
{
    return (int8_t)(uint8_t)(datagram[1] - (uint8_t)p->generation_receive);
}

/* Opens LEN bytes of DATAGRAM into PAYLOAD with the key of its generation. Returns 0 or RIFT_PACKET_FORGED.
 */
static int open_datagram(const struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t counter,
                         uint64_t now, uint8_t *payload)
{
    uint8_t derived[RIFT_KEY_BYTES];
    const uint8_t *key = p->key_receive;
    int steps = steps_to(p, datagram);
    if (steps > 0 && p->generation_receive + (unsigned)steps > p->generation_send + AHEAD_OF_SENT)
        return RIFT_PACKET_FORGED;
    if (steps == -1 && now < p->previous_until) {
        key = p->key_previous;
    } else if (steps == 1) {
        key = p->key_next;
    } else if (steps == AHEAD_OF_RECEIVED) {
        rift_derive_next_key(p->key_next, derived);
        key = derived;
    } else if (steps != 0) {
        return RIFT_PACKET_FORGED;
    }
    size_t sealed = len - RIFT_HEADER_BYTES;
    memcpy(payload, datagram + RIFT_HEADER_BYTES, sealed);
    int r = rift_open(key, counter, datagram, RIFT_HEADER_BYTES, payload, sealed);
    if (key == derived)
        explicit_bzero(derived, sizeof derived);
    return r < 0 ? RIFT_PACKET_FORGED : 0;
}

static void follow_key(struct rift_packet *p, int steps, uint64_t now)
{
    for (; steps > 0; steps--) {
        memcpy(p->key_previous, p->key_receive, RIFT_KEY_BYTES);
        memcpy(p->key_receive, p->key_next, RIFT_KEY_BYTES);
        rift_derive_next_key(p->key_next, p->key_next);
        p->generation_receive++;
        p->previous_until = now + PREVIOUS_NS;
    }
}

/* Reads the counter of a datagram that is for us. Returns 0 or RIFT_PACKET_MALFORMED. */
static int read_header(const struct rift_packet *p, const uint8_t *datagram, size_t len,
                       uint64_t *ret_counter)
{
    uint32_t id;
    if (rift_datagram_receiver(datagram, len, &id) < 0 || id != p->local_id)
        return RIFT_PACKET_MALFORMED;
    struct wv_reader r;
    wv_reader_init(&r, datagram + 8, 8);
    *ret_counter = wv_read_u64(&r);
    return 0;
}

int rift_packet_unprotect(struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t now,
                          uint8_t *payload, size_t *ret_len, uint64_t *ret_counter)
{
    uint64_t counter;
    int r = read_header(p, datagram, len, &counter);
    if (r != 0)
        return r;
    if (!rift_replay_check(&p->replay, counter))
        return RIFT_PACKET_REPLAYED;
    r = open_datagram(p, datagram, len, counter, now, payload);
    if (r != 0)
        return r;
    if (!rift_replay_accept(&p->replay, counter))
        return RIFT_PACKET_REPLAYED;
    follow_key(p, steps_to(p, datagram), now);
    count_received(p, counter, now);
    *ret_len = len - RIFT_HEADER_BYTES - RIFT_TAG_BYTES;
    *ret_counter = counter;
    return 0;
}

bool rift_packet_is_copy(const struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t now,
                         uint64_t *ret_counter)
{
    uint8_t payload[RIFT_MTU_MAX_BYTES];
    uint64_t counter;
    if (read_header(p, datagram, len, &counter) != 0 ||
        open_datagram(p, datagram, len, counter, now, payload) != 0)
        return false;
    *ret_counter = counter;
    return true;
}

void rift_packet_tick(struct rift_packet *p, uint64_t now)
{
    if (p->previous_until == 0 || now < p->previous_until)
        return;
    p->previous_until = 0;
    explicit_bzero(p->key_previous, RIFT_KEY_BYTES);
}
