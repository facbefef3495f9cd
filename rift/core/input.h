/* The input channel: events in order, exactly once, by repeating everything that is not acknowledged in every
 * datagram. WIRE.md section 4. Bounded on both sides; never waits for a timer when nothing is lost. The
 * client's side seals each event; the host's side passes sealed ones on and must never be able to open one.
 */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/wire.h"

#define RIFT_INPUT_QUEUE 256

/* The 20 bytes of an event before it is sealed. What was read must pass rift_input_event_check() before it is
 * used. */
void rift_input_event_write(struct wv_writer *w, const struct rift_input_event *e);
struct rift_input_event rift_input_event_read(struct wv_reader *r);

struct rift_input_tx {
    uint8_t key[RIFT_INNER_KEY_BYTES];
    /* By sequence modulo their number: an event until it is first sent, then only what it was sealed to. */
    struct rift_input_event events[RIFT_INPUT_QUEUE];
    uint8_t sealed[RIFT_INPUT_QUEUE][RIFT_INPUT_SEALED_BYTES];
    uint32_t first;      /* oldest unacknowledged sequence */
    uint32_t next;       /* sequence of the next event; 0: all were used */
    uint32_t fresh;      /* oldest one never sent */
    uint32_t flush_next; /* where the running pass over the queue stands; next: none runs */
    bool flushing;
    unsigned repeats; /* passes since the last new event */
    uint64_t due;     /* next pass */
    uint64_t last_pass;
    uint64_t sent, repeated;
};

void rift_input_tx_init(struct rift_input_tx *t, const uint8_t key[RIFT_INNER_KEY_BYTES]);

/* Whether all sequences were used: none is sealed twice, so the session is over. */
bool rift_input_tx_used_up(const struct rift_input_tx *t);

/* Returns 0 with RET_SEQ, -EINVAL or RIFT_SESSION_FULL. */
int rift_input_tx_push(struct rift_input_tx *t, const struct rift_input_event *event, uint64_t now,
                       uint32_t *ret_seq);

/* Writes one INPUT frame when one is due and fits. RTT_NS (0: unknown) sets the pace of repetition. Returns
 * whether it wrote. */
bool rift_input_tx_write(struct rift_input_tx *t, struct wv_writer *w, uint64_t rtt_ns, uint64_t now);
uint64_t rift_input_tx_timeout(const struct rift_input_tx *t);

/* The host expects NEXT. False when it can't: it was never sent. */
bool rift_input_tx_ack(struct rift_input_tx *t, uint32_t next);

struct rift_input_rx {
    uint8_t events[RIFT_INPUT_QUEUE][RIFT_INPUT_SEALED_BYTES];
    uint32_t taken; /* sequence of the next event for the application */
    uint32_t next;  /* sequence that we expect from the peer */
    bool ack_due;
    bool held,
        dirty; /* held: nothing is acknowledged that no stored state covers (dirty: something is such) */
    uint64_t echo_counter, echo_ns;
    uint64_t received;
};

void rift_input_rx_init(struct rift_input_rx *r);

/* Takes the body of an INPUT frame of datagram COUNTER. Returns 0, or -EBADMSG when it isn't well formed. */
int rift_input_rx_frame(struct rift_input_rx *r, struct wv_reader *body, uint64_t counter, uint64_t now);
bool rift_input_rx_pop(struct rift_input_rx *r, uint32_t *ret_seq,
                       uint8_t ret_sealed[RIFT_INPUT_SEALED_BYTES]);
void rift_input_rx_write_ack(struct rift_input_rx *r, struct wv_writer *w, uint64_t now);
