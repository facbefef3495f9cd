/* A session's forward error correction: how many repairs follow a frame (the sender, by the losses that it is
 * told of), and what they give back (the receiver). The codes are rift/core/fec.h's. Must never hold up a
 * fragment that came by itself. */
#pragma once

#include "rift/core/fec.h"
#include "rift/core/feedback.h"
#include "rift/core/join.h"
#include "rift/core/split.h"

struct rift_repair {
    /* Sender; NULL: sends none. */
    struct rift_fec_encoder *encoder;
    struct rift_fec_plan plan;
    uint64_t plan_at;
    double seen, lost, runs; /* datagrams told of, of these missing, and in how many rows; they fade */
    double fragments;        /* of a usual frame */
    uint64_t told;           /* newest counter that a report told of */
    bool told_any;

    /* Receiver; NULL until the first repair comes. */
    struct rift_fec_decoder *decoder;

    uint64_t repairs_sent, repairs_received, recovered;
};

/* Returns 0 or -ENOMEM. */
int rift_repair_init(struct rift_repair *r, bool sends);
void rift_repair_fini(struct rift_repair *r);

/* ---- sender ---- */
/* A report came. CONGESTED: a queue explains what is missing. */
void rift_repair_report(struct rift_repair *r, const struct rift_cc_report *report, bool congested);
/* The last fragment of frame FRAME_ID was written: makes its repairs. */
void rift_repair_frame(struct rift_repair *r, const struct rift_split *split, uint32_t frame_id,
                       uint64_t rtt_ns, uint64_t now);
bool rift_repair_pending(const struct rift_repair *r);
/* Writes a VIDEO_REPAIR. Returns false when none waits, or it does not fit (any more). */
bool rift_repair_write(struct rift_repair *r, struct wv_writer *w);

/* ---- receiver ---- */
/* BODY of a VIDEO that was taken. */
void rift_repair_source(struct rift_repair *r, struct wv_reader body, struct rift_join *j, uint64_t now);
/* BODY of a VIDEO_REPAIR. Returns 0 or -EBADMSG. */
int rift_repair_take(struct rift_repair *r, struct wv_reader *body, struct rift_join *j, uint64_t now);
