/* The control channel: reliable, ordered messages over numbered chunks. WIRE.md section 5. Memory is bounded
 * on both sides; an application that takes no messages stops the sender and nothing else. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/wire.h"

#define RIFT_CONTROL_QUEUE 256 /* chunks queued or unacknowledged */

struct rift_control_chunk {
    uint64_t sent_ns;
    uint16_t len, capacity;
    uint8_t tries;
    bool last; /* of its message */
    bool acked, lost;
    uint8_t data[];
};

struct rift_control_tx {
    struct rift_control_chunk *chunks[RIFT_CONTROL_QUEUE]; /* by sequence modulo its size */
    uint32_t first, fresh, next; /* oldest unacknowledged, oldest never sent, next to be queued */
    unsigned window;             /* chunks in flight that the path seems to take */
    unsigned window_credit;
    size_t memory_bytes;
    bool held; /* only what a stored state covers may be sent: chunks before COMMITTED */
    uint32_t committed;
};

/* A chunk with LEN bytes of DATA; NULL: no memory. */
struct rift_control_chunk *rift_control_chunk_new(const uint8_t *data, size_t len, bool last);

void rift_control_tx_init(struct rift_control_tx *t);
void rift_control_tx_fini(struct rift_control_tx *t);

/* Returns 0, -EMSGSIZE, RIFT_SESSION_FULL (also when memory is short: nothing was queued). */
int rift_control_tx_push(struct rift_control_tx *t, const uint8_t *data, size_t len);

/* Writes one CONTROL frame when one is due and fits. RTO_NS is the base of the retransmission timer. */
bool rift_control_tx_write(struct rift_control_tx *t, struct wv_writer *w, uint64_t rto_ns, uint64_t now);
uint64_t rift_control_tx_timeout(const struct rift_control_tx *t, uint64_t rto_ns);

/* One past the last chunk that a stored state can cover: whole messages, RIFT_CONTROL_IN_FLIGHT chunks. */
uint32_t rift_control_tx_coverable(const struct rift_control_tx *t);

/* Returns false when it names chunks that were never sent. */
bool rift_control_tx_ack(struct rift_control_tx *t, uint32_t next, uint64_t bitmap);

struct rift_control_rx {
    struct rift_control_chunk *chunks[RIFT_CONTROL_WINDOW];
    uint32_t taken;                   /* next chunk to be joined to a message */
    uint32_t next;                    /* all before it have come */
    uint32_t number;                  /* of messages handed out */
    struct rift_control_chunk *spare; /* so that a message now and then allocates nothing */
    uint8_t *message;
    size_t message_len, message_capacity;
    bool message_lent; /* the application still reads it */
    bool ack_due;
    bool held,
        dirty; /* held: nothing is acknowledged that no stored state covers (dirty: something is such) */
    size_t memory_bytes;
};

void rift_control_rx_init(struct rift_control_rx *r);
void rift_control_rx_fini(struct rift_control_rx *r);

/* Takes the body of a CONTROL frame. Returns 0 or -EBADMSG. */
int rift_control_rx_frame(struct rift_control_rx *r, struct wv_reader *body);

enum { RIFT_CONTROL_NONE = 1 };
/* The next whole message, valid until the next call; r->number is its number, from 1. Returns 0,
 * RIFT_CONTROL_NONE, -EPROTO when the peer's message is too long, -ENOMEM. */
int rift_control_rx_pop(struct rift_control_rx *r, const uint8_t **ret_data, size_t *ret_len);
void rift_control_rx_write_ack(struct rift_control_rx *r, struct wv_writer *w);
