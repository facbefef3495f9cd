/*
 * cc_judge.h - the interface between a judge of congestion controllers and a controller under test. This is
 * the copy that Wavry builds its adapter against; a judge with the same CCJ_ABI_VERSION loads the result.
 * A controller is a shared library that defines one symbol, declared at the end of this file:
 *
 *     const struct ccj_ops ccj_controller = { .abi_version = CCJ_ABI_VERSION, .name = "mine", ... };
 *
 * The judge plays the encoder, the network and both event loops; the library plays the sending and the
 * receiving transport. Every call comes from one thread, never from inside another call, and must return
 * without blocking. The library reads no clock: `now_ns` says what time it is.
 *
 * Two objects, two machines. The sender (`tx`) and the receiver (`rx`) of a flow share nothing. What the
 * receiver learns reaches the sender in feedback datagrams alone, which the reverse path may delay, queue or
 * lose. By default each of them even runs in its own copy of the library, so that globals are not shared
 * either.
 *
 * Units. Times are nanoseconds, rates bit/s, sizes bytes. Sizes and rates are those of IP packets: they
 * include CCJ_HEADER_BYTES of IP, UDP and transport header per packet. Clocks. `now_ns` of a sender and
 * `now_ns` of a receiver are unrelated clocks: each is monotonic, starts anywhere, and they may drift apart.
 * A flow's two clocks say nothing about another flow's. Ownership. Structures and buffers belong to the judge
 * and are valid during the call only. An object that tx_create or rx_create returns belongs to the library;
 * the judge gives it back once, with the matching destroy.
 *
 * C17 and C++. Nothing here needs linking.
 */
#ifndef CC_JUDGE_H
#define CC_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CCJ_ABI_VERSION 1

#define CCJ_NEVER              UINT64_MAX       /* as a time: no such time */
#define CCJ_DISCARD            (UINT64_MAX - 1) /* from next_send_time: drop everything that is queued */
#define CCJ_HEADER_BYTES       40u   /* IP, UDP and transport header of every packet, feedback included */
#define CCJ_FEEDBACK_MAX_BYTES 1160u /* longest feedback datagram, without that header */
#define CCJ_NO_FRAME           UINT32_MAX /* `frame` of a padding packet */

/* The two ECN bits of the IP header (RFC 3168). */
enum ccj_ecn { CCJ_NOT_ECT = 0, CCJ_ECT1 = 1, CCJ_ECT0 = 2, CCJ_CE = 3 };

/* What both ends have agreed on before the flow starts. */
struct ccj_config {
    uint64_t min_bps; /* lowest and highest rate that the encoder is meant to run at */
    uint64_t max_bps;
    uint64_t start_bps;  /* rate to start with */
    double fps;          /* frames per second */
    uint32_t mtu_bytes;  /* largest packet */
    bool ecn;            /* packets leave as ECT(1), and the path may mark them CE */
    const char *options; /* text of --cc-options, "" without; copy it to keep it */
};

/* An encoded frame, split into packets of nearly equal size. */
struct ccj_frame {
    uint32_t id; /* 0, 1, 2, ... */
    uint32_t packets;
    uint32_t bytes; /* of all its packets */
    bool keyframe;
};

/* A packet, as it left the sender or as it reached the receiver. */
struct ccj_packet {
    uint64_t seq; /* 0, 1, 2, ... in the order of sending, padding included */
    uint32_t bytes;
    uint32_t frame; /* frame id, or CCJ_NO_FRAME for padding */
    bool last_in_frame;
    uint8_t ecn; /* enum ccj_ecn */
};

/*
 * The operations. Those marked optional may be NULL.
 *
 * Sender, in the order in which the judge calls:
 *   - every 1/fps seconds: target_bitrate, then on_frame_queued for the frame that the encoder made;
 *   - after each of on_frame_queued, on_feedback, tick and pause, the send loop: while packets are queued,
 * and their time has come, they leave one by one (next_send_time, on_packet_sent, next_send_time, ...); with
 * an empty queue padding is asked for instead; then next_deadline. Receiver: rx_packet for each packet that
 * arrives, then rx_feedback until it returns 0, then rx_next_deadline.
 */
struct ccj_ops {
    uint32_t abi_version; /* CCJ_ABI_VERSION */
    const char *name;     /* for the results; static storage */

    /* Makes a sender when its flow starts. NULL fails the run. */
    void *(*tx_create)(const struct ccj_config *config);
    /* Optional. Ends it. */
    void (*tx_destroy)(void *tx);

    /* The rate that the encoder shall aim at: bit/s with packet headers. It acts on frames after the
     * encoder's own delay (one or two frame times, or what the scenario says), and is capped at max_bps;
     * below min_bps is the library's choice. Asked once per frame time, also while the source pauses. */
    uint64_t (*target_bitrate)(void *tx, uint64_t now_ns);

    /* Optional. A frame has been appended to the send queue (a FIFO that the judge keeps; it never drops by
     * itself). */
    void (*on_frame_queued)(void *tx, uint64_t now_ns, const struct ccj_frame *frame);

    /* Pacer and congestion window in one: when may a packet of `bytes` leave?
     *   <= now_ns    now; the judge sends it and calls on_packet_sent;
     *   later        asked again then (or earlier, after another call to this sender);
     *   CCJ_NEVER    not before something changes: asked again after the next frame, feedback, tick or pause;
     *   CCJ_DISCARD  all queued packets are thrown away unsent; their frames count as bad. */
    uint64_t (*next_send_time)(void *tx, uint64_t now_ns, uint32_t bytes);

    /* Optional. The packet leaves now. `ecn` is what it is sent with. */
    void (*on_packet_sent)(void *tx, uint64_t now_ns, const struct ccj_packet *packet);

    /* Optional. Nothing is queued: size of a padding packet that shall be sent (to probe), or 0.
     * More than CCJ_HEADER_BYTES, at most mtu_bytes. The packet obeys next_send_time; when that says later,
     * this is asked again then, and media that came in between goes first. Padding fills the link and counts
     * as overhead. */
    uint32_t (*padding)(void *tx, uint64_t now_ns);

    /* A feedback datagram of this flow's receiver has arrived: `len` bytes as rx_feedback wrote them.
     * Datagrams may be lost; they are never reordered, damaged or repeated. */
    void (*on_feedback)(void *tx, uint64_t now_ns, const uint8_t *buf, size_t len);

    /* Optional, both or none. next_deadline: when tick shall be called, or CCJ_NEVER. A deadline that has
     * passed is served at once, but ticks are at least 100 us apart. */
    uint64_t (*next_deadline)(void *tx, uint64_t now_ns);
    void (*tick)(void *tx, uint64_t now_ns);

    /* Optional. The source falls silent (paused: no frames until the second call) or speaks again. */
    void (*pause)(void *tx, uint64_t now_ns, bool paused);

    /* Makes a receiver when its flow starts. NULL fails the run. */
    void *(*rx_create)(const struct ccj_config *config);
    /* Optional. Ends it. */
    void (*rx_destroy)(void *rx);

    /* A packet has arrived. Never reordered within a flow; a gap in `seq` is a loss. */
    void (*rx_packet)(void *rx, uint64_t now_ns, const struct ccj_packet *packet);

    /* Writes the next feedback datagram that is due to buf, at most cap (CCJ_FEEDBACK_MAX_BYTES) bytes, and
     * returns its length, or 0 when none is due. It leaves at once; len + CCJ_HEADER_BYTES counts on the
     * reverse link. */
    size_t (*rx_feedback)(void *rx, uint64_t now_ns, uint8_t *buf, size_t cap);

    /* Optional. When rx_feedback shall be called even if no packet arrives, or CCJ_NEVER. Served like
     * next_deadline. */
    uint64_t (*rx_next_deadline)(void *rx, uint64_t now_ns);
};

/* What the library defines, and the judge looks up. Exported whatever -fvisibility says. */
extern __attribute__((visibility("default"))) const struct ccj_ops ccj_controller;

#ifdef __cplusplus
}
#endif

#endif
