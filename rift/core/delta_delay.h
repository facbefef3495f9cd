/* DELTA's delay filter: how long packets waited in the path, from arrival times of a clock that has nothing
 * to do with ours.
 *
 * A packet's raw delay (arrival minus sending) holds the unknown offset of the clocks, the propagation and
 * the wait. The lowest raw delay of the last seconds is the base; what is above it is the wait. Of the wait,
 * DELTA's own frame explains a part: what a link of the estimated capacity would still be busy with if nobody
 * else sent. What remains is the foreign queue; its lowest value within a frame is the standing queue. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Frames whose lowest wait is remembered for the route-change test. */
#define DELTA_FLOORS 256

struct delta_delay {
    int64_t base, bucket[2]; /* raw delays, ns; base is the lower bucket */
    uint64_t bucket_at;
    uint64_t origin; /* raw delays count from this one */
    bool any;
    uint64_t own_free; /* sender's clock: when the link were free with our packets alone */
    struct {
        uint64_t at;
        double wait, rate;
    } floor[DELTA_FLOORS];
    unsigned n_floor;
};

struct delta_wait {
    double wait; /* s above the base */
    double own;  /* s of it that our own frame explains */
};

/* One packet: sent at SENT, arrived at ARRIVAL (other clock), told at NOW. */
struct delta_wait delta_delay_sample(struct delta_delay *d, uint64_t sent, uint64_t arrival, uint32_t bytes,
                                     double capacity_bps, uint64_t now);

/* A frame is through: its lowest wait, and the rate that was aimed at. Moves the base when the delay stays
 * where it is although the rate changed: then it is the path, not a queue. Returns true when it did. */
bool delta_delay_frame(struct delta_delay *d, double wait, double rate_bps, uint64_t now);
