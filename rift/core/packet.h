/* Data datagrams: header, protection, key generations, counters, replay. WIRE.md section 2. Knows nothing of
 * what is inside. Never seals two datagrams under one counter and never goes back to an older key. */
#pragma once

#include "rift/core/wire.h"
#include "rift/crypto/replay.h"

/* From this counter on a session only says goodbye; the nonce space never comes near its end. */
#define RIFT_COUNTER_LIMIT (UINT64_MAX - 65536)
/* A forward jump past this is a peer that came back with a reserved block of counters, not loss. */
#define RIFT_COUNTER_JUMP 4096
/* Datagrams that may fail to open before the session ends: the integrity limit of RFC 9001 section 6.6. */
#define RIFT_FORGED_LIMIT (UINT64_C(1) << 36)

enum {
    RIFT_PACKET_MALFORMED = 1, /* not a data datagram, or not for us */
    RIFT_PACKET_REPLAYED = 2,
    RIFT_PACKET_FORGED = 3, /* or sealed with a key that we don't have (any more) */
};

struct rift_packet {
    uint32_t local_id, remote_id;

    /* Keys by generation. The wire shows the lowest byte of a generation. */
    uint8_t key_send[RIFT_KEY_BYTES], key_receive[RIFT_KEY_BYTES];
    uint8_t key_next[RIFT_KEY_BYTES];     /* follows key_receive; ready, so that a forger costs no hash */
    uint8_t key_previous[RIFT_KEY_BYTES]; /* for datagrams that were overtaken, until previous_until */
    uint32_t generation_send, generation_receive;
    uint64_t previous_until; /* 0: there is none */

    /* What the sending key has done, and may do. */
    uint64_t key_packets, key_bytes, key_since_ns;
    uint64_t limit_packets, limit_bytes, limit_ns;

    uint64_t next_counter;
    struct rift_replay replay;
    bool received_any;
    uint64_t highest;            /* counter, of authenticated datagrams */
    uint64_t highest_ns;         /* when it came */
    uint64_t expected, received; /* authenticated: as counters tell, and as they came */
};

void rift_packet_init(struct rift_packet *p, const struct rift_session_config *config, uint64_t now);
void rift_packet_wipe(struct rift_packet *p);

static inline bool rift_packet_exhausted(const struct rift_packet *p)
{
    return p->next_counter >= RIFT_COUNTER_LIMIT;
}

/* Makes a datagram of DATAGRAM, which holds PAYLOAD_LEN bytes of payload from RIFT_HEADER_BYTES on and room
 * for the tag. Returns its length; 0 when no counter is left. RET_COUNTER is the one it used. */
size_t rift_packet_protect(struct rift_packet *p, uint8_t *datagram, size_t payload_len,
                           uint64_t *ret_counter);

/* Opens a datagram into PAYLOAD (capacity RIFT_MTU_MAX_BYTES). Only a good one changes the keys, the replay
 * window and the counts. Returns 0 or RIFT_PACKET_*. */
int rift_packet_unprotect(struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t now,
                          uint8_t *payload, size_t *ret_len, uint64_t *ret_counter);

/* Whether a datagram that was refused as a replay is genuine all the same, a late copy of one that was taken.
 * Its counter then is RET_COUNTER. Changes nothing. */
bool rift_packet_is_copy(const struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t now,
                         uint64_t *ret_counter);

/* Whether the next generation of the sending key is due: the peer went ahead, or a limit is reached and the
 * peer has followed the last update. */
bool rift_packet_wants_key(const struct rift_packet *p, uint64_t now);
void rift_packet_next_key(struct rift_packet *p, uint64_t now);

/* Forgets the previous receiving key when its time is up. */
void rift_packet_tick(struct rift_packet *p, uint64_t now);

/* Counters below the highest that have not come. */
static inline uint64_t rift_packet_lost(const struct rift_packet *p)
{
    return p->expected > p->received ? p->expected - p->received : 0;
}
