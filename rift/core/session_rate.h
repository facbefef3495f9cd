/* A session's congestion control: what the controller of rift/core/cc.h is told of, and the reports that its
 * peer writes for it. A session without a controller has an empty one of these: everything may leave at once,
 * and nothing is reported. Never lets what a report claims reach anything but the controller. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/cc.h"
#include "rift/core/feedback.h"
#include "rift/core/wire.h"

/* IPv6 and UDP headers around a datagram. The 20 bytes that IPv4 saves don't matter. */
#define RIFT_RATE_HEADER_BYTES 48
/* At least a version, a number, the first packet, how long it was held, and one run. */
#define RIFT_REPORT_MIN_BYTES 20

struct rift_rate {
    /* Sender of video. */
    const struct rift_cc_ops *ops; /* NULL: without */
    struct rift_cc *cc;
    struct rift_cc_config config;
    struct rift_cc_arrival *arrivals; /* of one report */
    uint64_t now;                     /* latest moment that was spoken of */
    uint64_t frame_at;                /* the last frame was queued, or the session began */
    bool paused;

    /* Receiver of video. */
    struct rift_feedback_writer *writer; /* NULL: without */

    uint64_t reports_sent, reports_received, padding_sent, restarts;
};

/* What leaves in one datagram, as far as the controller has to know. */
struct rift_rate_sent {
    uint64_t counter;
    size_t len;
    bool fresh; /* video sent for the first time: a fragment of FRAME_ID, LAST: its last */
    bool last;
    uint32_t frame_id;
};

/* Returns 0, -EINVAL when CONFIG makes no sense to the controller, -ENOMEM. */
int rift_rate_init(struct rift_rate *r, const struct rift_session_config *config, uint64_t now);
void rift_rate_fini(struct rift_rate *r);

/* What was learned is not true any more (another path, a process that was restored): begins anew with
 * START_BPS, or what the configuration allows nearest to it.
 */
void rift_rate_restart(struct rift_rate *r, uint64_t start_bps, uint64_t now);
/* Another path: not faster than a session begins. */
void rift_rate_new_path(struct rift_rate *r, uint64_t now);

/* The mean rate that is aimed at; 0: without a controller. */
uint64_t rift_rate_bps(const struct rift_rate *r);

/* ---- sender ---- */
void rift_rate_frame(struct rift_rate *r, const struct rift_fragment *head, size_t len, uint64_t now);
/* FRAGMENTS of frames that were queued, BYTES in all, will never leave. */
void rift_rate_discarded(struct rift_rate *r, size_t fragments, size_t bytes, uint64_t now);
void rift_rate_sent(struct rift_rate *r, const struct rift_rate_sent *sent, uint64_t now);
/* RET_REPORT is valid until the next one; it has no arrivals when there is no controller. Returns 0,
 * -EBADMSG. */
int rift_rate_report(struct rift_rate *r, struct wv_reader *body, uint64_t now,
                     struct rift_cc_report *ret_report);
/* Whether a queue on the path explains losses. */
bool rift_rate_congested(const struct rift_rate *r);
void rift_rate_tick(struct rift_rate *r, uint64_t now);

/* When a datagram of LEN bytes with video may leave: at most NOW: now. */
uint64_t rift_rate_next(const struct rift_rate *r, size_t len, uint64_t now);
/* Nothing waits: length of a datagram of padding that may leave now, at most MOST, or 0. */
size_t rift_rate_padding(const struct rift_rate *r, size_t most, uint64_t now);

/* ---- receiver ---- */
void rift_rate_arrived(struct rift_rate *r, uint64_t counter, bool last_in_frame, bool ce, uint64_t now);
/* Writes the REPORT that is due, if it fits. */
void rift_rate_write_report(struct rift_rate *r, struct wv_writer *w, uint64_t now);

/* When rift_rate_tick() or rift_rate_write_report() has something to do. */
uint64_t rift_rate_timeout(const struct rift_rate *r);
