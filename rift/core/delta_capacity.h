/* DELTA's capacity estimate, from how far apart packets arrive that left close together.
 *
 * Pairs: two packets that leave back to back stay next to each other in a FIFO, whoever else uses it, and
 * arrive one serialisation apart: the whole capacity of the link. It is believed while most of the last pairs
 * agree. Trains: a frame leaves faster than the target; when it arrives stretched, its arrival rate is what
 * the path gave us. That holds on paths where pairs mean nothing (aggregates, schedulers, jitter), but with
 * other flows on the path it is only our share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DELTA_PAIRS 32

struct delta_capacity {
    double pair[DELTA_PAIRS]; /* bps */
    unsigned n_pairs;
    double pair_bps; /* what the pairs agree on; 0: they don't */
    uint64_t agreed_at;
    double train_bps; /* mean of the trains; 0: none yet */
    double last_train_bps;
    struct {
        double bits, sent_s, arrived_s;
    } sum;               /* of the last trains: a ratio of sums, as jitter would bias a mean of ratios */
    uint64_t sampled_at; /* last sample of either kind */
    uint64_t trained_at;
    double trim; /* relative correction of the trains' mean */
    bool any;
    struct {
        uint64_t sent_first, sent_last, arrived_first, arrived_last, bytes;
        unsigned n;
    } train;
};

/* A packet arrived right after its predecessor in the sending order, SENT_GAP and ARRIVAL_GAP (ns) apart. */
void delta_capacity_pair(struct delta_capacity *c, uint32_t bytes, int64_t arrival_gap, uint64_t now);

/* A packet of the current train arrived. `fresh`: it starts a train of its own. */
void delta_capacity_packet(struct delta_capacity *c, uint64_t sent, uint64_t arrival, uint32_t bytes);

/* The current train is complete, or the next packet does not belong to it. */
void delta_capacity_train_end(struct delta_capacity *c, uint64_t now);

/* DT seconds went by in which frames were too small to make trains and no queue stood: the path carries more
 * than was believed, or will tell so. */
void delta_capacity_grow(struct delta_capacity *c, double dt, uint64_t now);

/* Corrects what trains say by CHANGE more (relative), within bounds: jitter stretches trains, and a capacity
 * that comes and goes must not be taken at its mean. */
void delta_capacity_trim(struct delta_capacity *c, double change);

/* The capacity, bps; 0: not known yet. */
double delta_capacity_bps(const struct delta_capacity *c);
