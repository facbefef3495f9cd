/* What a congestion controller of RIFT is: a const table of operations over an opaque object. A controller is
 * sans-IO and a pure function of what it is told: feedback and `now`. It reads no clock, sends nothing itself
 * and trusts no number of the peer's beyond that peer's own stream.
 *
 * Units: nanoseconds, bytes, bit/s. Sizes and rates are those of IP packets, headers included. `now` is the
 * sender's monotonic clock; arrival times are the receiver's: any origin, any (small) drift.
 *
 * Who calls what: every frame time target_bps, then on_frame_queued for what the encoder made of it. While
 * datagrams are queued, next_send and, when its time has come, on_sent, one by one; with an empty queue
 * padding is asked for instead and obeys next_send too. on_report for each feedback report. After any call
 * the event loop arms its timer with timeout and calls tick when it passes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_CC_NEVER    UINT64_MAX /* as a time: not before something changes */
#define RIFT_CC_NO_FRAME UINT32_MAX /* `frame` of a datagram that carries no video */

enum rift_cc_mode {
    RIFT_CC_LATENCY,    /* the default: every millisecond is felt */
    RIFT_CC_THROUGHPUT, /* a few points more of the path for a few milliseconds more delay */
};

struct rift_cc_config {
    uint64_t min_bps, max_bps; /* what the encoder is meant to run at */
    uint64_t start_bps;        /* rate to start with */
    double fps;                /* frames per second at most, > 0 */
    uint32_t mtu_bytes;        /* largest packet */
    bool ecn;                  /* packets leave as ECT(1) */
    enum rift_cc_mode mode;
};

/* An encoded frame, split into packets. */
struct rift_cc_frame {
    uint32_t id;
    uint32_t packets, bytes; /* bytes: of all its packets */
    bool keyframe;
};

/* A packet that leaves. seq counts up by one per packet, whatever it carries. */
struct rift_cc_packet {
    uint64_t seq;
    uint32_t bytes;
    uint32_t frame; /* id, or RIFT_CC_NO_FRAME */
    bool last_in_frame;
};

struct rift_cc_arrival {
    uint64_t seq;
    uint64_t arrival_ns; /* receiver's clock */
    bool ce;             /* it came with a congestion mark */
    bool exact;          /* its distance to the arrival before it is measured, not interpolated */
};

/* What one feedback report says: arrivals in ascending seq. A seq between two of them did not arrive so far.
 * What earlier reports said may be repeated. */
struct rift_cc_report {
    const struct rift_cc_arrival *arrivals;
    size_t n;
    uint64_t held_ns; /* from the newest arrival to the writing of the report */
};

struct rift_cc_stats {
    uint64_t capacity_bps; /* what the path is believed to carry, others' share included; 0: not known */
    uint64_t rate_bps;     /* mean rate that is aimed at */
    uint64_t queue_ns;     /* lowest wait of the last frame */
    uint64_t rtt_ns;       /* lowest round trip of the last seconds, 0: not known */
    uint64_t in_flight_bytes;
    double loss; /* share of packets lost, recent mean */
    double ce;   /* share of packets marked, recent mean */
};

struct rift_cc;

struct rift_cc_ops {
    const char *name;

    /* Returns 0 with RET_CC, -EINVAL for a config that makes no sense, -ENOMEM. Allocates only here. */
    int (*make)(struct rift_cc **ret_cc, const struct rift_cc_config *config, uint64_t now);
    /* Returns NULL; takes NULL. */
    struct rift_cc *(*free)(struct rift_cc *cc);

    void (*on_frame_queued)(struct rift_cc *cc, const struct rift_cc_frame *frame, uint64_t now);
    /* Video sent again, input and the like count as RIFT_CC_NO_FRAME. */
    void (*on_sent)(struct rift_cc *cc, const struct rift_cc_packet *packet, uint64_t now);
    /* BYTES of queued frames were thrown away unsent. */
    void (*on_discarded)(struct rift_cc *cc, uint64_t bytes, uint64_t now);
    /* Never fails: what makes no sense in a report is passed over. */
    void (*on_report)(struct rift_cc *cc, const struct rift_cc_report *report, uint64_t now);

    /* The rate for the next frame, bit/s. It moves from frame to frame, to make up for frames that came out
     * larger or smaller; below min_bps it says: as little as possible. */
    uint64_t (*target_bps)(struct rift_cc *cc, uint64_t now);
    /* False: so much waits unsent that the next picture had better be dropped before it is encoded. */
    bool (*frame_wanted)(const struct rift_cc *cc, uint64_t now);

    /* Pacer and in-flight cap: when the next packet of BYTES may leave. At most NOW: now; later: then;
     * RIFT_CC_NEVER: not before a report or a tick. */
    uint64_t (*next_send)(const struct rift_cc *cc, uint32_t bytes, uint64_t now);
    /* Nothing is queued: size of a padding packet to send, or 0. */
    uint32_t (*padding)(const struct rift_cc *cc, uint64_t now);

    /* When tick must be called; RIFT_CC_NEVER. */
    uint64_t (*timeout)(const struct rift_cc *cc, uint64_t now);
    void (*tick)(struct rift_cc *cc, uint64_t now);

    /* The source falls silent, or speaks again. */
    void (*pause)(struct rift_cc *cc, bool paused, uint64_t now);

    void (*get_stats)(const struct rift_cc *cc, struct rift_cc_stats *ret_stats);
};
