/* A small path for controllers: one FIFO, propagation, feedback through the real writer and reader, virtual
 * time. Up to three flows share it. Everything is a function of the settings and the seed. */
#pragma once

#include "rift/core/cc.h"

#define LINK_FLOWS 3

struct cc_link_flow {
    /* settings */
    const struct rift_cc_config *config;
    uint64_t start_ns;
    uint64_t clock_offset_ns; /* of the receiver */
    double clock_ppm;
    uint64_t first_seq;
    double feedback_loss;
    double activity; /* of max_bps; 0: as much as the target asks for */
    bool paused;
    /* results since the last cc_link_clear() */
    uint64_t delivered_bytes, frames, lost_packets;
    double delay_p95_ms; /* of frames, less propagation; set by cc_link_run() */
    struct rift_cc *cc;
};

struct cc_link {
    /* settings; may be changed between runs */
    double bps;
    uint64_t forward_ns, back_ns, queue_ns;
    double loss;
    bool blocked; /* nothing leaves */
    uint64_t seed;
    struct cc_link_flow flow[LINK_FLOWS];
    unsigned n_flows;
    /* state */
    uint64_t now;
    uint64_t wait_ns; /* of the newest packet in the queue */
    uint64_t longest_wait_ns;
    struct cc_link_state *state;
};

/* Makes the flows' controllers (rift_delta) on demand; settings have to be in place. */
void cc_link_start(struct cc_link *link);
void cc_link_run(struct cc_link *link, uint64_t duration_ns);
void cc_link_clear(struct cc_link *link);
void cc_link_stop(struct cc_link *link);

/* What FLOW delivered since the last clear, over DURATION_NS, in percent of BPS. */
double cc_link_used(const struct cc_link *link, unsigned flow, uint64_t duration_ns, double bps);
