#include "rift/core/session_fec.h"

#include "lib/base/util.h"

#include <errno.h>

#define PLAN_NS    (500 * WV_NS_PER_MS)
#define PLAN_KEEP  0.85 /* of what was counted, from plan to plan: some 3 s */
#define PLAN_LEAST 50.0 /* datagrams that say something about losses */
#define MEAN_KEEP  0.9
/* While repairs come, what is missing is not asked for before they had their chance. */
#define REPAIR_WAIT_NS (8 * WV_NS_PER_MS)
/* A jump of counters past this is a restart, not loss. */
#define JUMP 1024

int rift_repair_init(struct rift_repair *r, bool sends)
{
    *r = (struct rift_repair){0};
    return sends ? rift_fec_encoder_new(&r->encoder, RIFT_FRAGMENT_MAX_BYTES) : 0;
}

void rift_repair_fini(struct rift_repair *r)
{
    r->encoder = rift_fec_encoder_free(r->encoder);
    r->decoder = rift_fec_decoder_free(r->decoder);
}

/* ---- sender ---- */

void rift_repair_report(struct rift_repair *r, const struct rift_cc_report *report, bool congested)
{
    for (size_t i = 0; i < report->n; i++) {
        uint64_t seq = report->arrivals[i].seq, gap = seq - r->told - 1;
        if (r->told_any && seq <= r->told)
            continue; /* told before, or it came late */
        if (r->told_any && gap > 0 && gap < JUMP && !congested) {
            r->seen += (double)gap;
            r->lost += (double)gap;
            r->runs++;
        }
        r->seen++;
        r->told = seq;
        r->told_any = true;
    }
}

static void plan(struct rift_repair *r, uint64_t rtt_ns, uint64_t now)
{
    if (now < r->plan_at)
        return;
    r->plan_at = now + PLAN_NS;
    struct rift_fec_path path = {
        .loss_ppm = r->seen >= PLAN_LEAST ? (uint32_t)(r->lost * 1e6 / r->seen) : 0,
        .burst_milli = r->runs > 0 ? (uint32_t)(r->lost * 1e3 / r->runs) : 0,
        .rtt_ns = rtt_ns,
        .fragments = (uint32_t)(r->fragments + 0.5),
    };
    path.fragments = WV_MAX(path.fragments, 1u);
    rift_fec_plan(&path, &r->plan);
    r->seen *= PLAN_KEEP;
    r->lost *= PLAN_KEEP;
    r->runs *= PLAN_KEEP;
}

void rift_repair_frame(struct rift_repair *r, const struct rift_split *split, uint32_t frame_id,
                       uint64_t rtt_ns, uint64_t now)
{
    struct rift_fec_frame frames[RIFT_FEC_WINDOW];
    unsigned n = r->encoder ? rift_split_recent(split, frame_id, frames, RIFT_FEC_WINDOW) : 0;
    if (n == 0)
        return;
    double fragments = (double)((frames[0].len + frames[0].size - 1) / frames[0].size);
    r->fragments = r->fragments > 0 ? MEAN_KEEP * r->fragments + (1 - MEAN_KEEP) * fragments : fragments;
    plan(r, rtt_ns, now);
    if (r->plan.share_permille)
        (void)rift_fec_encoder_frame(r->encoder, frames, n, r->plan.share_permille, r->plan.spread);
}

bool rift_repair_pending(const struct rift_repair *r)
{
    return r->encoder && rift_fec_encoder_pending(r->encoder) > 0;
}

bool rift_repair_write(struct rift_repair *r, struct wv_writer *w)
{
    size_t len = rift_repair_pending(r) ? rift_fec_encoder_next_bytes(r->encoder) : 0;
    if (len == 0)
        return false;
    if (wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + len) {
        rift_fec_encoder_clear(r->encoder); /* the path carries less than when it was made */
        return false;
    }
    wv_write_u8(w, RIFT_WIRE_VIDEO_REPAIR);
    wv_write_u16(w, (uint16_t)len);
    if (rift_fec_encoder_write(r->encoder, w) != 0)
        return false;
    r->repairs_sent++;
    return true;
}

/* ---- receiver ---- */

static void take_recovered(struct rift_repair *r, struct rift_join *j, uint64_t now)
{
    struct rift_fec_fragment f;
    while (rift_fec_decoder_next(r->decoder, &f) == 0) {
        struct rift_fragment head = {.frame_id = f.frame_id,
                                     .epoch = f.epoch,
                                     .keyframe = f.keyframe,
                                     .count = f.count,
                                     .size = f.size,
                                     .index = f.index};
        r->recovered += rift_join_recovered(j, &head, f.data, f.len, now);
    }
}

void rift_repair_source(struct rift_repair *r, struct wv_reader body, struct rift_join *j, uint64_t now)
{
    if (!r->decoder)
        return;
    struct rift_fec_fragment f = {.frame_id = wv_read_u32(&body), .epoch = wv_read_u16(&body)};
    f.keyframe = wv_read_u8(&body) & RIFT_VIDEO_KEY;
    f.count = wv_read_u16(&body);
    f.size = wv_read_u16(&body);
    f.index = wv_read_u16(&body);
    f.len = body.left;
    f.data = wv_read_span(&body, f.len);
    if (body.failed)
        return;
    (void)rift_fec_decoder_source(r->decoder, &f);
    take_recovered(r, j, now);
}

int rift_repair_take(struct rift_repair *r, struct wv_reader *body, struct rift_join *j, uint64_t now)
{
    if (!r->decoder && rift_fec_decoder_new(&r->decoder, RIFT_FRAGMENT_MAX_BYTES) < 0)
        return 0; /* no memory: it would have been a help, no more */
    if (rift_fec_decoder_repair(r->decoder, body) < 0)
        return -EBADMSG;
    r->repairs_received++;
    j->repair_wait_ns = REPAIR_WAIT_NS;
    take_recovered(r, j, now);
    return 0;
}
