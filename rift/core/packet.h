/* Data datagrams: header, protection, counters, replay. WIRE.md section 2. Knows nothing of what is inside.
 */
#pragma once

#include "rift/core/wire.h"
#include "rift/crypto/replay.h"

/* From this counter on a session only says goodbye; the nonce space never comes near its end. */
#define RIFT_COUNTER_LIMIT (UINT64_MAX - 65536)
/* A forward jump past this is a peer that came back with a reserved block of counters, not loss. */
#define RIFT_COUNTER_JUMP 4096

enum {
    RIFT_PACKET_MALFORMED = 1, /* not a data datagram, or not for us */
    RIFT_PACKET_REPLAYED = 2,
    RIFT_PACKET_FORGED = 3,
};

struct rift_packet {
    uint32_t local_id, remote_id;
    uint8_t key_send[RIFT_KEY_BYTES], key_receive[RIFT_KEY_BYTES];
    uint64_t next_counter;
    struct rift_replay replay;
    bool received_any;
    uint64_t highest;            /* counter, of authenticated datagrams */
    uint64_t highest_ns;         /* when it came */
    uint64_t expected, received; /* authenticated: as counters tell, and as they came */
};

void rift_packet_init(struct rift_packet *p, const struct rift_session_config *config);
void rift_packet_wipe(struct rift_packet *p);

static inline bool rift_packet_exhausted(const struct rift_packet *p)
{
    return p->next_counter >= RIFT_COUNTER_LIMIT;
}

/* Makes a datagram of DATAGRAM, which holds PAYLOAD_LEN bytes of payload from RIFT_HEADER_BYTES on and room
 * for the tag. Returns its length; 0 when no counter is left. RET_COUNTER is the one it used. */
size_t rift_packet_protect(struct rift_packet *p, uint8_t *datagram, size_t payload_len,
                           uint64_t *ret_counter);

/* Opens a datagram into PAYLOAD (capacity RIFT_MTU_BYTES). Only a good one changes the replay window and the
 * counts. Returns 0 or RIFT_PACKET_*. */
int rift_packet_unprotect(struct rift_packet *p, const uint8_t *datagram, size_t len, uint64_t now,
                          uint8_t *payload, size_t *ret_len, uint64_t *ret_counter);

/* Counters below the highest that have not come. */
static inline uint64_t rift_packet_lost(const struct rift_packet *p)
{
    return p->expected > p->received ? p->expected - p->received : 0;
}
