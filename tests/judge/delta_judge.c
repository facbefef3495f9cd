/* Puts DELTA, its pacer and its feedback format behind cc_judge.h, as librift-delta-judge.so. It stands where
 * the transport's event loop stands and must never decide anything itself. */
#include "tests/judge/cc_judge.h"

#include "rift/core/delta.h"
#include "rift/core/feedback.h"

#include <stdlib.h>
#include <string.h>

static void *tx_create(const struct ccj_config *config)
{
    struct rift_cc_config c = {
        .min_bps = config->min_bps,
        .max_bps = config->max_bps,
        .start_bps = config->start_bps,
        .fps = config->fps,
        .mtu_bytes = config->mtu_bytes,
        .ecn = config->ecn,
        .mode = config->options && strcmp(config->options, "throughput") == 0 ? RIFT_CC_THROUGHPUT
                                                                              : RIFT_CC_LATENCY,
    };
    struct rift_cc *cc;
    /* The judge's clock starts anywhere; the flow starts with its first frame. */
    return rift_delta.make(&cc, &c, 0) < 0 ? NULL : cc;
}

static void tx_destroy(void *tx)
{
    rift_delta.free(tx);
}

static uint64_t target_bitrate(void *tx, uint64_t now)
{
    return rift_delta.target_bps(tx, now);
}

static void on_frame_queued(void *tx, uint64_t now, const struct ccj_frame *frame)
{
    rift_delta.on_frame_queued(
        tx,
        &(struct rift_cc_frame){
            .id = frame->id, .packets = frame->packets, .bytes = frame->bytes, .keyframe = frame->keyframe},
        now);
}

static uint64_t next_send_time(void *tx, uint64_t now, uint32_t bytes)
{
    return rift_delta.next_send(tx, bytes, now);
}

static void on_packet_sent(void *tx, uint64_t now, const struct ccj_packet *packet)
{
    rift_delta.on_sent(tx,
                       &(struct rift_cc_packet){.seq = packet->seq,
                                                .bytes = packet->bytes,
                                                .frame = packet->frame,
                                                .last_in_frame = packet->last_in_frame},
                       now);
}

static uint32_t padding(void *tx, uint64_t now)
{
    return rift_delta.padding(tx, now);
}

static void on_feedback(void *tx, uint64_t now, const uint8_t *buf, size_t len)
{
    struct rift_cc_arrival arrivals[RIFT_FEEDBACK_MAX_PACKETS];
    struct rift_cc_report report;
    if (rift_feedback_read(buf, len, arrivals, &report) == 0)
        rift_delta.on_report(tx, &report, now);
}

static uint64_t next_deadline(void *tx, uint64_t now)
{
    return rift_delta.timeout(tx, now);
}

static void tick(void *tx, uint64_t now)
{
    rift_delta.tick(tx, now);
}

static void pause_source(void *tx, uint64_t now, bool paused)
{
    rift_delta.pause(tx, paused, now);
}

static void *rx_create(const struct ccj_config *config)
{
    struct rift_feedback_writer *w;
    return rift_feedback_writer_new(&w, config->fps) < 0 ? NULL : w;
}

static void rx_destroy(void *rx)
{
    rift_feedback_writer_free(rx);
}

static void rx_packet(void *rx, uint64_t now, const struct ccj_packet *packet)
{
    rift_feedback_on_packet(rx, packet->seq, packet->last_in_frame, packet->ecn == CCJ_CE, now);
}

static size_t rx_feedback(void *rx, uint64_t now, uint8_t *buf, size_t cap)
{
    return rift_feedback_write(rx, buf, cap, now);
}

static uint64_t rx_next_deadline(void *rx, uint64_t now)
{
    return rift_feedback_timeout(rx);
}

const struct ccj_ops ccj_controller = {
    .abi_version = CCJ_ABI_VERSION,
    .name = "rift-delta",
    .tx_create = tx_create,
    .tx_destroy = tx_destroy,
    .target_bitrate = target_bitrate,
    .on_frame_queued = on_frame_queued,
    .next_send_time = next_send_time,
    .on_packet_sent = on_packet_sent,
    .padding = padding,
    .on_feedback = on_feedback,
    .next_deadline = next_deadline,
    .tick = tick,
    .pause = pause_source,
    .rx_create = rx_create,
    .rx_destroy = rx_destroy,
    .rx_packet = rx_packet,
    .rx_feedback = rx_feedback,
    .rx_next_deadline = rx_next_deadline,
};
