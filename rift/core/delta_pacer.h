/* DELTA's pacer: packets leave in pairs at the pace, and what is in flight has a bound. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct delta_pacer {
    double pace_bps;
    uint64_t busy_until;   /* when everything sent so far would have left at the pace */
    uint64_t pair_at;      /* when the first of a pair left */
    bool pair_open;        /* its second may follow at once */
    uint64_t window_bytes; /* in-flight bound */
    uint64_t probe_at;     /* full window and silence: one packet may leave then */
};

/* A packet left. Returns whether it is the second of a pair. */
bool delta_pacer_sent(struct delta_pacer *p, uint32_t bytes, uint64_t now);

/* As next_send of rift/core/cc.h. */
uint64_t delta_pacer_next(const struct delta_pacer *p, uint32_t bytes, uint64_t in_flight, uint64_t now);

/* Whether a packet that leaves at NOW would be the second of a pair. */
bool delta_pacer_pair_open(const struct delta_pacer *p, uint64_t now);
