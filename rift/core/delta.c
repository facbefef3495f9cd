/* DELTA: how fast a stream of frames may go so that each arrives as soon as the path allows.
 *
 * rate = capacity x share x brake. The capacity comes from packet pairs and trains (delta_capacity.h), the
 * queue from arrival times (delta_delay.h), share and brake from that queue (delta_share.h). The target of a
 * single frame moves around that rate: a frame that came out large is paid back by those that follow, as a
 * late packet delays all behind it.
 *
 * It must never read a clock, allocate after make, or believe a report beyond what its own record of sent
 * packets allows. */
#include "rift/core/delta.h"

#include "lib/base/util.h"
#include "rift/core/delta_capacity.h"
#include "rift/core/delta_delay.h"
#include "rift/core/delta_history.h"
#include "rift/core/delta_pacer.h"
#include "rift/core/delta_share.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* What of the path frames fill on the mean. Frame sizes vary by some 15 %: at 0.9 of the path 95 of 100
 * frames are through within 1.25 frame times, at 0.94 within 1.4. On rough paths, stalls decide about delay
 * and not the sizes of frames. */
#define FILL_LATENCY    0.908
#define FILL_THROUGHPUT 0.966
#define FILL_ROUGH      0.96
/* Frames get this much smaller per frame of backlog. Encoders act one to four frames late: more gain would
 * swing. */
#define FRAME_PAY    0.5
#define FRAME_LEAST  0.05
#define FRAME_DRAIN  0.1 /* while the queue is emptied */
#define FRAMES_AHEAD 2   /* targets that are out but not yet encoded, at 60 frames a second */
#define BACKLOG_MOST 30.0

#define RATE_FLOOR 0.08    /* of the capacity: a TCP that fills the queue must not starve us */
#define SILENT_BPS 50000.0 /* what an encoder hardly goes below: asked for while the path stands still */

/* What the control loop adds to a round trip: a report's interval and the encoder's delay. */
#define LOOP_DELAY_S      0.050
#define REPORT_GAP_MOST_S 0.1 /* longer silences count as this: nothing was controlled in them */
#define REPORT_PACKETS    3   /* fewer show no lowest wait, unless a frame is complete */
/* Of a wait our own frames explain at most this many frame times; more is a queue like any other. */
#define OWN_FRAMES 1.0
/* Rough paths: the trains' mean is corrected by this much a second while there is no wait, and the other way
 * in proportion to the wait above TRIM_QUEUE_S, up to TRIM_MOST times as fast. */
#define TRIM_PER_S   0.05
#define TRIM_QUEUE_S 0.0035
#define TRIM_MOST    15.0
#define CALM_S       0.0015 /* a wait below this is none */
#define USED_LEAST   0.6    /* of the target: less shows that the source has no more to say */
#define USED_WEIGHT  0.1
#define MARKS_WEIGHT 0.02  /* of one packet in the mean of marks and losses: 50 packets count */
#define MARKS_NOISE  0.1   /* marks that bursts within a frame make on a shallow ramp all the same */
#define OWN_MARKED_S 0.001 /* marks on packets behind this much of our own frame are our own */

#define PACE_OVER_RATE 1.25 /* trains leave this much faster than the target, and show what the path adds */
#define PACE_ROUGH     2.0  /* radio links take whole bursts at once */
#define PACE_FIRST     4.0  /* as long as nothing is known of the capacity */
#define WINDOW_FIRST_S 0.5
#define WINDOW_SLACK_S 0.1 /* in flight beyond a round trip: report interval, frame, a stall of the radio */
#define WINDOW_PACKETS 8
#define UNSENT_FRAMES  3.0 /* more than this waiting unsent: the next picture is stale before it leaves */

#define STALE_NS      (150 * WV_NS_PER_MS) /* beyond the round trip without a report: the path stands still */
#define PAD_AFTER_NS  (500 * WV_NS_PER_MS) /* without a sample of the capacity */
#define RTT_BUCKET_NS (5 * WV_NS_PER_S)
#define PAUSE_LONG_NS (2 * WV_NS_PER_S) /* after this the path may be another one */
#define PAUSE_SHARE   0.5

#define LOWS 4 /* frames whose lowest wait counts as standing: jitter leaves one of them alone */

struct rift_cc {
    struct rift_cc_config config;
    struct delta_history history;
    struct delta_delay delay;
    struct delta_capacity capacity;
    struct delta_share share;
    struct delta_pacer pacer;
    double frame_s, fill, rate; /* rate: bps */

    double queue_now;  /* foreign queue: lowest of the last packets, s */
    double lows[LOWS]; /* of the last frames */
    unsigned n_lows;
    double rtt_s, rtt_bucket[2]; /* lowest of two buckets */
    uint64_t rtt_bucket_at;
    double ce, marks, loss; /* recent means; marks: CE that our own frame does not explain */

    uint32_t frame;    /* of the train being read */
    double frame_low;  /* its lowest foreign wait, s */
    double frame_wait; /* the same with a packet's own time, as the base is measured */
    unsigned frame_packets;
    double report_low; /* lowest foreign wait since queue_now was set */
    unsigned report_packets;

    double used;    /* what frames take of their target, mean */
    double backlog; /* of our own frames on a path of our own share, in frame times */
    uint64_t backlog_at;
    double asked[FRAMES_AHEAD]; /* targets that are out, in frame times, newest first */
    uint64_t queued_bytes;      /* not yet sent */
    uint64_t last_report, silent_since, paused_at;
    bool reported, waiting, paused;
};

static double clamp(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

static int delta_make(struct rift_cc **ret_cc, const struct rift_cc_config *config, uint64_t now)
{
    if (!(config->fps > 0) || config->fps > 1000 || config->mtu_bytes < 100 || config->mtu_bytes > 65535 ||
        config->start_bps == 0 || config->max_bps == 0 || config->max_bps < config->min_bps)
        return -EINVAL;
    struct rift_cc *cc = calloc(1, sizeof(*cc));
    if (!cc)
        return -ENOMEM;
    cc->config = *config;
    cc->frame_s = 1 / config->fps;
    cc->fill = config->mode == RIFT_CC_THROUGHPUT ? FILL_THROUGHPUT : FILL_LATENCY;
    cc->rate = (double)config->start_bps;
    cc->frame = RIFT_CC_NO_FRAME;
    cc->used = 1;
    cc->backlog_at = now;
    for (unsigned i = 0; i < FRAMES_AHEAD; i++)
        cc->asked[i] = cc->fill;
    delta_share_init(&cc->share);
    cc->pacer.pace_bps = fmax(PACE_FIRST * cc->rate, SILENT_BPS);
    cc->pacer.busy_until = now;
    cc->pacer.window_bytes = (uint64_t)(cc->rate * WINDOW_FIRST_S / 8) + WINDOW_PACKETS * config->mtu_bytes;
    *ret_cc = cc;
    return 0;
}

static struct rift_cc *delta_free(struct rift_cc *cc)
{
    free(cc);
    return NULL;
}

static bool rough(const struct rift_cc *cc)
{
    return cc->capacity.pair_bps <= 0;
}

static double loop_delay(const struct rift_cc *cc)
{
    return cc->rtt_s + LOOP_DELAY_S;
}

static void set_pace(struct rift_cc *cc)
{
    double capacity = delta_capacity_bps(&cc->capacity), pace = PACE_FIRST * cc->rate;
    if (capacity > 0) {
        /* A frame shall be out within its frame time, but no faster than the path takes it. */
        double out = (double)cc->queued_bytes * 8 / cc->frame_s;
        pace = (rough(cc) ? PACE_ROUGH : PACE_OVER_RATE) * cc->rate;
        pace = fmax(pace, fmin(out, PACE_OVER_RATE * capacity));
    }
    cc->pacer.pace_bps = fmax(pace, SILENT_BPS);
}

static void set_rate(struct rift_cc *cc)
{
    double capacity = delta_capacity_bps(&cc->capacity), most = (double)cc->config.max_bps;
    if (capacity > 0) {
        double asked = capacity * cc->share.share;
        cc->rate = clamp(asked * cc->share.brake, RATE_FLOOR * capacity * cc->share.ceiling, most / cc->fill);
        double window_s = cc->rtt_s + WINDOW_SLACK_S;
        cc->pacer.window_bytes = (uint64_t)(PACE_OVER_RATE * fmin(asked, most) * window_s / 8) +
                                 WINDOW_PACKETS * cc->config.mtu_bytes;
    }
    set_pace(cc);
}

/* ---- reports ---- */

static void track_rtt(struct rift_cc *cc, double rtt_s, uint64_t now)
{
    if (cc->rtt_bucket_at == 0 || now - cc->rtt_bucket_at > RTT_BUCKET_NS) {
        cc->rtt_bucket[1] = cc->rtt_bucket_at ? cc->rtt_bucket[0] : rtt_s;
        cc->rtt_bucket[0] = rtt_s;
        cc->rtt_bucket_at = now;
    }
    cc->rtt_bucket[0] = fmin(cc->rtt_bucket[0], rtt_s);
    cc->rtt_s = fmin(cc->rtt_bucket[0], cc->rtt_bucket[1]);
}

static void end_frame(struct rift_cc *cc, uint64_t now)
{
    if (cc->frame_packets == 0)
        return;
    cc->frame_packets = 0;
    cc->lows[cc->n_lows++ % LOWS] = cc->frame_low;
    delta_capacity_train_end(&cc->capacity, now);
    if (delta_delay_frame(&cc->delay, cc->frame_wait, cc->rate, now)) {
        cc->queue_now = 0;
        cc->n_lows = 0;
        cc->rtt_bucket_at = 0;
        delta_share_restart(&cc->share);
    }
}

static void on_mark(struct rift_cc *cc, bool ce, double own_s)
{
    cc->ce += ((ce ? 1.0 : 0.0) - cc->ce) * MARKS_WEIGHT;
    if (own_s < OWN_MARKED_S)
        cc->marks += ((ce ? 1.0 : 0.0) - cc->marks) * MARKS_WEIGHT;
}

/* One packet's arrival; GAP_NS: from the arrival of the packet sent right before it, when that is known. */
static void on_arrival(struct rift_cc *cc, const struct delta_sent *e, const struct rift_cc_arrival *a,
                       const int64_t *gap_ns, uint64_t now)
{
    double capacity = delta_capacity_bps(&cc->capacity);
    if (e->frame != cc->frame)
        end_frame(cc, now);
    cc->frame = e->frame;
    struct delta_wait w = delta_delay_sample(&cc->delay, e->sent_ns, a->arrival_ns, e->bytes, capacity, now);
    on_mark(cc, a->ce, w.own);
    double packet_s = capacity > 0 ? (double)cc->config.mtu_bytes * 8 / capacity : 0;
    double wait = w.wait - fmin(w.own, OWN_FRAMES * cc->frame_s), foreign = fmax(0, wait - packet_s);
    cc->report_low = cc->report_packets++ ? fmin(cc->report_low, foreign) : foreign;
    if (gap_ns && e->paired && a->exact)
        delta_capacity_pair(&cc->capacity, e->bytes, *gap_ns, now);
    if (e->frame == RIFT_CC_NO_FRAME)
        return;
    cc->frame_wait = cc->frame_packets ? fmin(cc->frame_wait, wait) : wait;
    cc->frame_low = cc->frame_packets++ ? fmin(cc->frame_low, foreign) : foreign;
    delta_capacity_packet(&cc->capacity, e->sent_ns, a->arrival_ns, e->bytes);
    if (e->last_in_frame)
        end_frame(cc, now);
}

static double standing_queue(const struct rift_cc *cc)
{
    double low = INFINITY;
    unsigned n = WV_MIN(cc->n_lows, (unsigned)LOWS);
    for (unsigned i = 0; i < n; i++)
        low = fmin(low, cc->lows[i]);
    return n ? low : 0;
}

static void control(struct rift_cc *cc, uint64_t now)
{
    double dt_s = cc->reported ? fmin((double)(now - cc->last_report) / 1e9, REPORT_GAP_MOST_S) : 0;
    if (cc->report_packets >= REPORT_PACKETS || cc->frame_packets == 0) {
        if (cc->report_packets)
            cc->queue_now = cc->report_low;
        cc->report_packets = 0;
    }
    bool used = cc->used > USED_LEAST;
    if (used || cc->queue_now > TRIM_QUEUE_S)
        delta_capacity_trim(&cc->capacity,
                            TRIM_PER_S * dt_s * (1 - fmin(cc->queue_now / TRIM_QUEUE_S, TRIM_MOST)));
    if (used && standing_queue(cc) < CALM_S)
        delta_capacity_grow(&cc->capacity, dt_s, now);
    double capacity = delta_capacity_bps(&cc->capacity);
    struct delta_share_input in = {
        .capacity_bps = capacity,
        .start_bps = (double)cc->config.start_bps,
        .max_bps = (double)cc->config.max_bps,
        .loop_s = loop_delay(cc),
        .dt_s = dt_s,
        .queue_s = cc->queue_now,
        .standing_s = standing_queue(cc),
        .packet_s = capacity > 0 ? (double)cc->config.mtu_bytes * 8 / capacity : 0,
        .marks = cc->config.ecn ? fmax(0, cc->marks - MARKS_NOISE) : 0,
        .rough = rough(cc),
    };
    delta_share_update(&cc->share, &in, now);
}

static void delta_on_report(struct rift_cc *cc, const struct rift_cc_report *report, uint64_t now)
{
    const struct rift_cc_arrival *before = NULL; /* the entry before, when its packet is known */
    unsigned got = 0, lost = 0;
    for (size_t i = 0; i < report->n; i++) {
        const struct rift_cc_arrival *a = &report->arrivals[i];
        struct delta_sent *e = delta_history_find(&cc->history, a->seq);
        unsigned missing = 0;
        if (e && !e->acked && e->sent_ns <= now && delta_history_acked(&cc->history, e, &missing)) {
            bool adjacent = before && before->seq + 1 == a->seq;
            int64_t gap_ns = adjacent ? (int64_t)(a->arrival_ns - before->arrival_ns) : 0;
            on_arrival(cc, e, a, adjacent ? &gap_ns : NULL, now);
            got++;
            /* What lies before a report's first entry may have been told by a report that was lost itself. */
            lost += i > 0 ? missing : 0;
            if (i + 1 == report->n)
                track_rtt(cc, fmax(0, ((double)(now - e->sent_ns) - (double)report->held_ns) / 1e9), now);
        }
        before = e ? a : NULL;
    }
    if (got == 0)
        return;
    double weight = fmin(1, MARKS_WEIGHT * (got + lost));
    cc->loss += ((double)lost / (got + lost) - cc->loss) * weight;
    delta_share_loss(&cc->share, lost, got, now);
    control(cc, now);
    cc->last_report = cc->silent_since = now;
    cc->reported = true;
    cc->waiting = delta_history_in_flight(&cc->history) > 0;
    set_rate(cc);
}

/* ---- frames ---- */

static void settle_backlog(struct rift_cc *cc, uint64_t now)
{
    cc->backlog = fmax(0, cc->backlog - (double)(now - cc->backlog_at) / 1e9 / cc->frame_s);
    cc->backlog_at = now;
}

static void delta_on_frame_queued(struct rift_cc *cc, const struct rift_cc_frame *frame, uint64_t now)
{
    settle_backlog(cc, now);
    double full = cc->rate * cc->frame_s, bits = (double)frame->bytes * 8;
    double asked = fmax(cc->asked[FRAMES_AHEAD - 1] * full, SILENT_BPS * cc->frame_s);
    cc->used += (bits / asked - cc->used) * USED_WEIGHT;
    cc->backlog = fmin(cc->backlog + bits / full, BACKLOG_MOST);
    cc->queued_bytes += frame->bytes;
    set_pace(cc);
}

static bool stale(const struct rift_cc *cc, uint64_t now)
{
    return cc->reported && cc->waiting && now - cc->silent_since > STALE_NS + (uint64_t)(cc->rtt_s * 1e9);
}

static uint64_t delta_target_bps(struct rift_cc *cc, uint64_t now)
{
    settle_backlog(cc, now);
    double ahead = cc->backlog;
    for (unsigned i = FRAMES_AHEAD; i-- > 0;)
        ahead = fmax(0, ahead + cc->asked[i] - 1);
    double fill = rough(cc) ? fmax(cc->fill, FILL_ROUGH) : cc->fill;
    double frame = fmax(fill - FRAME_PAY * ahead, FRAME_LEAST);
    if (delta_share_draining(&cc->share, now))
        frame = fmin(frame, FRAME_DRAIN);
    for (unsigned i = FRAMES_AHEAD; i-- > 1;)
        cc->asked[i] = cc->asked[i - 1];
    cc->asked[0] = frame;
    if (stale(cc, now))
        return (uint64_t)fmin(SILENT_BPS, (double)cc->config.max_bps);
    return (uint64_t)fmin(fmax(frame * cc->rate, SILENT_BPS), (double)cc->config.max_bps);
}

static bool delta_frame_wanted(const struct rift_cc *cc, uint64_t now)
{
    double waits_s = (double)cc->queued_bytes * 8 / fmax(cc->pacer.pace_bps, SILENT_BPS);
    return waits_s < UNSENT_FRAMES * cc->frame_s && !stale(cc, now);
}

/* ---- sending ---- */

static void unqueue(struct rift_cc *cc, uint64_t bytes)
{
    cc->queued_bytes -= WV_MIN(cc->queued_bytes, bytes);
}

static void delta_on_sent(struct rift_cc *cc, const struct rift_cc_packet *packet, uint64_t now)
{
    struct delta_sent e = {
        .seq = packet->seq,
        .sent_ns = now,
        .bytes = packet->bytes,
        .frame = packet->frame,
        .last_in_frame = packet->last_in_frame,
        .paired = delta_pacer_sent(&cc->pacer, packet->bytes, now),
    };
    if (!cc->waiting)
        cc->silent_since = now;
    cc->waiting = true;
    delta_history_sent(&cc->history, &e);
    if (packet->frame != RIFT_CC_NO_FRAME)
        unqueue(cc, packet->bytes);
}

static void delta_on_discarded(struct rift_cc *cc, uint64_t bytes, uint64_t now)
{
    unqueue(cc, bytes);
    set_pace(cc);
}

static uint64_t delta_next_send(const struct rift_cc *cc, uint32_t bytes, uint64_t now)
{
    return delta_pacer_next(&cc->pacer, bytes, delta_history_in_flight(&cc->history), now);
}

static uint32_t delta_padding(const struct rift_cc *cc, uint64_t now)
{
    /* A frame of one packet shows nothing of the capacity; a second one right behind it makes a pair. */
    bool sampled = cc->capacity.any && now - cc->capacity.sampled_at < PAD_AFTER_NS;
    if (sampled || cc->paused || !delta_pacer_pair_open(&cc->pacer, now))
        return 0;
    return cc->config.mtu_bytes;
}

/* All that depends on time alone is worked out when it is asked for. */
static uint64_t delta_timeout(const struct rift_cc *cc, uint64_t now)
{
    return RIFT_CC_NEVER;
}

static void delta_tick(struct rift_cc *cc, uint64_t now)
{
}

static void delta_pause(struct rift_cc *cc, bool paused, uint64_t now)
{
    settle_backlog(cc, now);
    if (paused && !cc->paused)
        cc->paused_at = now;
    if (!paused && cc->paused && now - cc->paused_at > PAUSE_LONG_NS) {
        cc->share.share *= PAUSE_SHARE;
        delta_share_restart(&cc->share);
        set_rate(cc);
    }
    cc->paused = paused;
}

static void delta_get_stats(const struct rift_cc *cc, struct rift_cc_stats *ret_stats)
{
    *ret_stats = (struct rift_cc_stats){
        .capacity_bps = (uint64_t)delta_capacity_bps(&cc->capacity),
        .rate_bps = (uint64_t)(cc->rate * cc->fill),
        .queue_ns = (uint64_t)(cc->queue_now * 1e9),
        .rtt_ns = (uint64_t)(cc->rtt_s * 1e9),
        .in_flight_bytes = delta_history_in_flight(&cc->history),
        .loss = cc->loss,
        .ce = cc->ce,
    };
}

const struct rift_cc_ops rift_delta = {
    .name = "delta",
    .make = delta_make,
    .free = delta_free,
    .on_frame_queued = delta_on_frame_queued,
    .on_sent = delta_on_sent,
    .on_discarded = delta_on_discarded,
    .on_report = delta_on_report,
    .target_bps = delta_target_bps,
    .frame_wanted = delta_frame_wanted,
    .next_send = delta_next_send,
    .padding = delta_padding,
    .timeout = delta_timeout,
    .tick = delta_tick,
    .pause = delta_pause,
    .get_stats = delta_get_stats,
};
