/* DELTA's share of the path: how much of the capacity this flow asks for, and the brake for sudden queues.
 *
 * All flows on a path see the same capacity and the same standing queue. Each moves its share towards
 * 1 / (1 + queue / half): the same for all, whoever came first; N flows settle at a queue of about N - 1
 * times `half`. That loop is slow, so that it is stable with the delay of a round trip. The brake is its
 * proportional part: it answers at once to a queue that is higher than the share implies, and counts what it
 * has taken off but what the queue, a loop delay late, does not show yet. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DELTA_ACTS                                                                                           \
    128 /* brake steps remembered: two loop delays of the longest path at 60 reports a second */

struct delta_share {
    double share;      /* of the capacity */
    double brake;      /* factor on it */
    double ceiling;    /* what congestion loss leaves of the share */
    bool starting;     /* no foreign queue has been seen so far: grow quickly */
    uint64_t busy_at;  /* last sign of a foreign queue */
    uint64_t empty_at; /* last sign of an empty queue */
    uint64_t drain_every, drain_until;
    uint64_t grace_until; /* the queue is what our old rate left behind: it says nothing about shares */
    double capacity;      /* at the last update, bps */
    struct {
        uint64_t at;
        double taken_s; /* negative: of queue that will be missing */
    } acts[DELTA_ACTS];
    unsigned n_acts;
    struct {
        uint64_t since, ignore_until;
        unsigned lost, got, vain;
        double before; /* loss before the last cut */
        bool cut;
    } loss;
};

/* What an update goes by. */
struct delta_share_input {
    double capacity_bps, start_bps, max_bps;
    double loop_s;     /* delay from a change of the rate to its sign in a report */
    double dt_s;       /* since the last update */
    double queue_s;    /* lowest foreign wait of the last packets */
    double standing_s; /* lowest of the last frames */
    double packet_s;   /* time of a packet on the path */
    double marks;      /* share of packets marked CE that our own frame does not explain */
    bool rough;        /* packet pairs mean nothing on this path */
};

void delta_share_init(struct delta_share *s);
void delta_share_update(struct delta_share *s, const struct delta_share_input *in, uint64_t now);

/* LOST packets were found missing before GOT arrived ones. */
void delta_share_loss(struct delta_share *s, unsigned lost, unsigned got, uint64_t now);

/* The queue was the path, or the source was silent: find the share anew. */
void delta_share_restart(struct delta_share *s);

/* Whether frames have to be as small as possible now, so that the queue empties. */
bool delta_share_draining(const struct delta_share *s, uint64_t now);
