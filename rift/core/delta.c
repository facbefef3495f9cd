/* DELTA: how fast a stream of frames may go so that each arrives as soon as the path allows.
 *
 * rate = capacity x share x brake. The capacity comes from packet pairs and trains (delta_capacity.h). The
 * share falls from one towards nothing with the standing queue that others' packets make; as all flows see
 * the same capacity and the same queue, they come to the same share, whoever came first. The brake answers at
 * once to a queue that is higher than the share is used to, with a gain that the path's round trip allows.
 * The target of a single frame moves around that rate: a frame that came out large is paid back by those that
 * follow, as a late packet delays all behind it.
 *
 * It must never read a clock, allocate after make, or believe a report beyond what its own record of sent
 * packets allows. */
#include "rift/core/delta.h"

#include "lib/base/util.h"
#include "rift/core/delta_capacity.h"
#include "rift/core/delta_delay.h"
#include "rift/core/delta_history.h"
#include "rift/core/delta_pacer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* What of the capacity frames may fill: random frame sizes make a queue without bound at 1. */
#ifndef FILL_LATENCY
#define FILL_LATENCY 0.908
#endif
#define FILL_THROUGHPUT 0.96
#define FILL_ROUGH      0.96
/* Frames may be this large, in frame times of the path, when nothing is left to pay back; per frame of
 * backlog they get this much smaller. Encoders act one to four frames late: more gain would swing. */
#define FRAME_MOST 1.0
#ifndef FRAME_PAY
#define FRAME_PAY 0.5
#endif
#define FRAME_LEAST  0.05
#define FRAMES_AHEAD 2 /* targets that are out but not yet encoded, at 60 frames a second */

/* The standing queue at which a flow asks for half of what it would take alone: low enough to be felt little,
 * high enough to be told from the noise of frames; two packets at least. */
#ifndef QUEUE_HALF_S
#define QUEUE_HALF_S 0.0025
#endif
#ifndef QUEUE_HALF_ROUGH_S
#define QUEUE_HALF_ROUGH_S 0.012
#endif
#ifndef PACE_BRAKED
#define PACE_BRAKED 1.0
#endif
#ifndef PACE_ROUGH
#define PACE_ROUGH 2.0
#endif
#define QUEUE_HALF_PACKETS 2
#ifndef QUEUE_SHARE_MOST
#define QUEUE_SHARE_MOST 9.0 /* a queue counts at most as this many of them: above, the brake acts */
#endif
/* What the control loop adds to a round trip: a report's interval and the encoder's delay. */
#define LOOP_DELAY_S 0.050
#ifndef BRAKE_GAIN
#define BRAKE_GAIN 2.5
#endif
#ifndef BRAKE_GAIN_ROUGH
#define BRAKE_GAIN_ROUGH 1.0
#endif
#define BRAKE_LEAST 0.05
#define BRAKE_MOST  1.1
#define USED_LEAST  0.6
#ifndef OWN_FRAMES
#define OWN_FRAMES 1.0
#endif
#define CAPACITY_FELL 0.8
#define GRACE_NS      (1500 * WV_NS_PER_MS)
#ifndef TRIM_QUEUE_S
#define TRIM_QUEUE_S 0.004
#endif
#ifndef TRIM_PER_S
#define TRIM_PER_S 0.03
#endif
#define TRIM_MOST       15.0
#define EMPTY_S         0.0015
#define DRAIN_EVERY_NS  (4 * WV_NS_PER_S)
#define DRAIN_RARELY_NS (60 * WV_NS_PER_S)
#define DRAIN_RATE      0.1
#ifndef DRAIN_MARGIN
#define DRAIN_MARGIN 1.5
#endif
#define DRAIN_MOST_S 0.4
#define ACTS         128
#define LOWS         4 /* frames whose lowest wait counts as standing: jitter leaves one of them alone */
#ifndef SHARE_TAU
#define SHARE_TAU 700.0
#endif
#ifndef SHARE_TAU_FREE_S
#define SHARE_TAU_FREE_S 0.3
#endif
#ifndef SHARE_TAU_MOST_S
#define SHARE_TAU_MOST_S 30.0
#endif
#define QUEUE_FREE 0.15
#ifndef FREE_LOOPS
#define FREE_LOOPS 8.0
#endif
#ifndef FREE_TAU_LOOPS
#define FREE_TAU_LOOPS 5.0
#endif
#ifndef QUEUE_FAR
#define QUEUE_FAR 2.0
#endif
#define SHARE_LEAST 0.02
#define RATE_FLOOR  0.08    /* of the capacity: a TCP that fills the queue must not starve us */
#define SILENT_BPS  50000.0 /* what an encoder can't go below */

#define PACE_OVER_RATE    1.25 /* trains leave this much faster than the target, and show what the path adds */
#define PACE_FIRST        4.0  /* as long as nothing is known of the capacity */
#define WINDOW_SLACK_S    0.1 /* in flight beyond a round trip: report interval, frame, a stall of the radio */
#define WINDOW_PACKETS    8
#define STALE_NS          (150 * WV_NS_PER_MS) /* beyond the round trip without a report: the path stands still */
#define PAD_AFTER_NS      (500 * WV_NS_PER_MS) /* without a sample of the capacity */
#define TICK_NS           (50 * WV_NS_PER_MS)
#define REPORT_GAP_MOST_S 0.1

struct rift_cc {
    struct rift_cc_config config;
    struct delta_history history;
    struct delta_delay delay;
    struct delta_capacity capacity;
    struct delta_pacer pacer;
    double frame_s, fill;

    double share, brake;
    double queue_now;  /* foreign queue: lowest of the last packets, s */
    double lows[LOWS]; /* of the last frames */
    unsigned n_lows;
    uint64_t busy_at; /* last sign of such a queue */
    uint64_t drain_every;
    uint64_t empty_at, drain_until; /* last sign of an empty queue; making one */
    bool starting;
    struct {
        uint64_t at;
        double taken_s;
    } acts[ACTS];
    unsigned n_acts;
    double rate;  /* bps */
    double rtt_s; /* lowest of two buckets */
    double rtt_bucket[2];
    uint64_t rtt_bucket_at;
    double capacity_before;
    uint64_t grace_until;
    double ce, loss;
    double used; /* what frames take of their target, mean */

    uint32_t frame;    /* of the train being read */
    double frame_low;  /* its lowest foreign wait, s */
    double frame_wait; /* the same with a packet's own time, as the base is measured */
    unsigned frame_packets;
    double report_low;
    unsigned report_packets;

    double backlog; /* of our own frames on a path of our own share, in frame times */
    uint64_t backlog_at;
    double asked[FRAMES_AHEAD]; /* targets that are out, in frame times, newest first */
    uint64_t queued_bytes;      /* not yet sent */
    uint64_t last_report, first_unreported;
    bool reported, waiting, paused;
};

static double clamp(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

static int delta_make(struct rift_cc **ret_cc, const struct rift_cc_config *config, uint64_t now)
{
    if (!(config->fps > 0) || config->fps > 1000 || config->mtu_bytes < 100 || config->start_bps == 0 ||
        config->max_bps < config->min_bps)
        return -EINVAL;
    struct rift_cc *cc = calloc(1, sizeof(*cc));
    if (!cc)
        return -ENOMEM;
    cc->config = *config;
    cc->frame_s = 1 / config->fps;
    cc->fill = config->mode == RIFT_CC_THROUGHPUT ? FILL_THROUGHPUT : FILL_LATENCY;
    cc->brake = 1;
    cc->starting = true;
    cc->rate = (double)config->start_bps;
    cc->frame = RIFT_CC_NO_FRAME;
    cc->backlog_at = now;
    for (unsigned i = 0; i < FRAMES_AHEAD; i++)
        cc->asked[i] = cc->fill;
    cc->pacer.pace_bps = PACE_FIRST * cc->rate;
    cc->pacer.busy_until = now;
    cc->pacer.window_bytes = (uint64_t)(cc->rate * 0.5) / 8 + WINDOW_PACKETS * config->mtu_bytes;
    *ret_cc = cc;
    return 0;
}

static struct rift_cc *delta_free(struct rift_cc *cc)
{
    free(cc);
    return NULL;
}

static double loop_delay(const struct rift_cc *cc)
{
    return cc->rtt_s + LOOP_DELAY_S;
}

static void set_pace(struct rift_cc *cc)
{
    double capacity = delta_capacity_bps(&cc->capacity);
    double drain = (double)cc->queued_bytes * 8 / cc->frame_s;
    double pace = capacity > 0 ? PACE_OVER_RATE * cc->rate : PACE_FIRST * cc->rate;
    if (cc->capacity.pair_bps <= 0 && capacity > 0)
        pace = PACE_ROUGH * cc->rate;
    if (capacity > 0)
        pace = fmax(pace, fmin(drain, PACE_OVER_RATE * capacity * clamp(cc->brake, PACE_BRAKED, 1)));
    cc->pacer.pace_bps = fmax(pace, SILENT_BPS);
}

static void set_rate(struct rift_cc *cc)
{
    double capacity = delta_capacity_bps(&cc->capacity), most = (double)cc->config.max_bps;
    if (capacity > 0) {
        double floor_bps = RATE_FLOOR * capacity;
        cc->rate = clamp(capacity * cc->share * cc->brake, floor_bps, most / cc->fill);
        double steady = PACE_OVER_RATE * fmin(capacity * cc->share, most);
        double window_s = (cc->reported ? cc->rtt_s : 0) + WINDOW_SLACK_S;
        cc->pacer.window_bytes = (uint64_t)(steady * window_s / 8) + WINDOW_PACKETS * cc->config.mtu_bytes;
    }
    set_pace(cc);
}

/* ---- reports ---- */

static void track_rtt(struct rift_cc *cc, double rtt_s, uint64_t now)
{
    if (cc->rtt_bucket_at == 0 || now - cc->rtt_bucket_at > 5 * WV_NS_PER_S) {
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
    cc->lows[cc->n_lows++ % LOWS] = cc->frame_low;
    if (delta_delay_frame(&cc->delay, cc->frame_wait, cc->rate, now)) {
        cc->queue_now = 0;
        cc->n_lows = 0;
        cc->starting = true;
        cc->n_acts = 0;
        cc->rtt_bucket_at = 0;
    }
    delta_capacity_train_end(&cc->capacity, now);
    cc->frame_packets = 0;
    cc->frame_low = INFINITY;
}

static void on_arrival(struct rift_cc *cc, struct delta_sent *e, const struct delta_sent *before,
                       const struct rift_cc_arrival *a, const struct rift_cc_arrival *a_before, uint64_t now)
{
    double capacity = delta_capacity_bps(&cc->capacity);
    if (e->frame != cc->frame)
        end_frame(cc, now);
    cc->frame = e->frame;
    struct delta_wait w = delta_delay_sample(&cc->delay, e->sent_ns, a->arrival_ns, e->bytes, capacity, now);
    double packet_s = capacity > 0 ? (double)cc->config.mtu_bytes * 8 / capacity : 0;
    double own = fmin(w.own, OWN_FRAMES * cc->frame_s);
    double foreign = fmax(0, w.wait - own - packet_s);
    cc->frame_wait = cc->frame_packets ? fmin(cc->frame_wait, w.wait - own) : w.wait - own;
    cc->frame_low = cc->frame_packets++ ? fmin(cc->frame_low, foreign) : foreign;
    cc->report_low = cc->report_packets++ ? fmin(cc->report_low, foreign) : foreign;
    if (before && e->paired && a->exact)
        delta_capacity_pair(&cc->capacity, e->bytes, (int64_t)(a->arrival_ns - a_before->arrival_ns), now);
    delta_capacity_packet(&cc->capacity, e->sent_ns, a->arrival_ns, e->bytes);
    cc->ce += ((a->ce ? 1.0 : 0.0) - cc->ce) * 0.02;
    if (e->last_in_frame)
        end_frame(cc, now);
}

/* What the brake has taken off in the last loop delay and the queue does not show yet, in s of queue. */
static double in_the_loop(struct rift_cc *cc, uint64_t now)
{
    uint64_t span = (uint64_t)(loop_delay(cc) * 1e9);
    double sum = 0;
    unsigned n = WV_MIN(cc->n_acts, (unsigned)ACTS);
    for (unsigned i = 1; i <= n; i++) {
        unsigned k = (cc->n_acts - i) % ACTS;
        if (now - cc->acts[k].at > span)
            break;
        sum += cc->acts[k].taken_s;
    }
    return sum;
}

/* A queue that never empties hides the base: now and then one flow lets it run dry, for all that share it. */
static void drain(struct rift_cc *cc, double queue, uint64_t now)
{
    if (queue < EMPTY_S || cc->empty_at == 0) {
        cc->empty_at = now;
        cc->drain_every = DRAIN_EVERY_NS;
        return;
    }
    if (now < cc->drain_until || now - cc->empty_at < cc->drain_every)
        return;
    cc->drain_every = WV_MIN(2 * cc->drain_every, DRAIN_RARELY_NS);
    double time = DRAIN_MARGIN * queue / ((1 - DRAIN_RATE) * fmax(cc->share, 0.05));
    cc->drain_until = now + (uint64_t)(fmin(time, DRAIN_MOST_S) * 1e9);
    cc->empty_at = now;
}

static double queue_half(const struct rift_cc *cc, double capacity)
{
    double least = cc->capacity.pair_bps > 0 ? QUEUE_HALF_S : QUEUE_HALF_ROUGH_S;
    return fmax(least, QUEUE_HALF_PACKETS * (double)cc->config.mtu_bytes * 8 / capacity);
}

static double standing(const struct rift_cc *cc)
{
    double low = INFINITY;
    unsigned n = WV_MIN(cc->n_lows, (unsigned)LOWS);
    for (unsigned i = 0; i < n; i++)
        low = fmin(low, cc->lows[i]);
    return n ? low : 0;
}

static void control(struct rift_cc *cc, uint64_t now)
{
    double dt = cc->reported ? fmin((double)(now - cc->last_report) / 1e9, REPORT_GAP_MOST_S) : 0;
    double capacity = delta_capacity_bps(&cc->capacity), d = loop_delay(cc);
    if (cc->report_packets >= 3 || cc->frame_packets == 0) {
        if (cc->report_packets)
            cc->queue_now = cc->report_low;
        cc->report_packets = 0;
    }
    if (capacity <= 0)
        return;
    if (cc->share <= 0)
        cc->share = clamp((double)cc->config.start_bps / capacity, SHARE_LEAST, 1);
    double half = queue_half(cc, capacity);
    if (cc->used > USED_LEAST || cc->queue_now > TRIM_QUEUE_S)
        delta_capacity_trim(&cc->capacity,
                            TRIM_PER_S * dt * (1 - fmin(cc->queue_now / TRIM_QUEUE_S, TRIM_MOST)));
    if (standing(cc) < EMPTY_S && cc->used > USED_LEAST)
        delta_capacity_grow(&cc->capacity, dt, now);
    double q = fmin(standing(cc), QUEUE_SHARE_MOST * half);
    if (q > QUEUE_FREE * half)
        cc->busy_at = now, cc->starting = false;
    bool alone = cc->starting || now - cc->busy_at > (uint64_t)(FREE_LOOPS * d * 1e9);
    double expected = half * (1 / cc->share - 1);
    double tau = fmin(SHARE_TAU * d * d, SHARE_TAU_MOST_S);
    if (cc->starting)
        tau = SHARE_TAU_FREE_S;
    else if (alone || q > expected + QUEUE_FAR * half)
        tau = fmax(SHARE_TAU_FREE_S, FREE_TAU_LOOPS * d);
    double goal = 1 / (1 + q / half);
    if (capacity < CAPACITY_FELL * cc->capacity_before) {
        cc->grace_until = now + GRACE_NS;
        cc->n_acts = 0;
    }
    if (q < expected + half)
        cc->grace_until = 0;
    if (now < cc->grace_until)
        goal = fmax(goal, cc->share);
    cc->capacity_before = capacity;
    if (goal < cc->share || cc->share < (double)cc->config.max_bps / capacity)
        cc->share += (goal - cc->share) * fmin(1, dt / tau);
    cc->share = clamp(cc->share, SHARE_LEAST, 1);
    drain(cc, q, now);
    unsigned k = cc->n_acts++ % ACTS;
    cc->acts[k].at = now;
    cc->acts[k].taken_s = (cc->brake - 1) * dt;
    expected = half * (1 / cc->share - 1);
    double error = cc->queue_now - expected + in_the_loop(cc, now);
    double gain = cc->capacity.pair_bps > 0 ? BRAKE_GAIN : BRAKE_GAIN_ROUGH;
    cc->brake = clamp(1 - gain * error / d, BRAKE_LEAST, BRAKE_MOST);
}

static void delta_on_report(struct rift_cc *cc, const struct rift_cc_report *report, uint64_t now)
{
    const struct delta_sent *before = NULL;
    const struct rift_cc_arrival *a_before = NULL;
    bool news = false;
    for (size_t i = 0; i < report->n; i++) {
        const struct rift_cc_arrival *a = &report->arrivals[i];
        struct delta_sent *e = delta_history_find(&cc->history, a->seq);
        unsigned lost = 0;
        if (e && !e->acked && e->sent_ns <= now && delta_history_acked(&cc->history, e, &lost)) {
            news = true;
            cc->loss += ((double)lost / (lost + 1) - cc->loss) * 0.01 * (lost + 1);
            on_arrival(cc, e, before && a->seq == a_before->seq + 1 ? before : NULL, a, a_before, now);
            double rtt_s = (double)(now - e->sent_ns) / 1e9;
            if (i + 1 == report->n)
                track_rtt(cc, fmax(0, rtt_s - (double)report->held_ns / 1e9), now);
        }
        before = e;
        a_before = e ? a : NULL;
    }
    if (!news)
        return;
    control(cc, now);
    cc->last_report = now;
    cc->reported = true;
    cc->waiting = delta_history_in_flight(&cc->history) > 0;
    cc->first_unreported = now;
    set_rate(cc);
}

/* ---- frames ---- */

static void settle_backlog(struct rift_cc *cc, uint64_t now)
{
    double frames = (double)(now - cc->backlog_at) / 1e9 / cc->frame_s;
    cc->backlog = fmax(0, cc->backlog - frames);
    cc->backlog_at = now;
}

static void delta_on_frame_queued(struct rift_cc *cc, const struct rift_cc_frame *frame, uint64_t now)
{
    settle_backlog(cc, now);
    double asked = fmax(cc->asked[FRAMES_AHEAD - 1] * cc->rate, SILENT_BPS) * cc->frame_s;
    cc->used += ((double)frame->bytes * 8 / asked - cc->used) * 0.1;
    cc->backlog += (double)frame->bytes * 8 / (cc->rate * cc->frame_s);
    cc->backlog = fmin(cc->backlog, 30);
    cc->queued_bytes += frame->bytes;
    set_pace(cc);
}

static bool stale(const struct rift_cc *cc, uint64_t now)
{
    return cc->reported && cc->waiting && now - cc->first_unreported > STALE_NS + (uint64_t)(cc->rtt_s * 1e9);
}

static uint64_t delta_target_bps(struct rift_cc *cc, uint64_t now)
{
    settle_backlog(cc, now);
    double ahead = cc->backlog;
    for (unsigned i = FRAMES_AHEAD; i-- > 0;)
        ahead = fmax(0, ahead + cc->asked[i] - 1);
    double fill = cc->capacity.pair_bps > 0 ? cc->fill : fmax(cc->fill, FILL_ROUGH);
    double frame = clamp(fill - FRAME_PAY * ahead, FRAME_LEAST, FRAME_MOST);
    for (unsigned i = FRAMES_AHEAD; i-- > 1;)
        cc->asked[i] = cc->asked[i - 1];
    cc->asked[0] = frame;
    if (stale(cc, now))
        return (uint64_t)SILENT_BPS;
    if (now < cc->drain_until)
        frame = fmin(frame, DRAIN_RATE);
    return (uint64_t)clamp(frame * cc->rate, SILENT_BPS, (double)cc->config.max_bps);
}

static bool delta_frame_wanted(const struct rift_cc *cc, uint64_t now)
{
    return (double)cc->queued_bytes * 8 < fmax(cc->rate, SILENT_BPS) * 3 * cc->frame_s && !stale(cc, now);
}

/* ---- sending ---- */

static void delta_on_sent(struct rift_cc *cc, const struct rift_cc_packet *packet, uint64_t now)
{
    struct delta_sent e = {
        .seq = packet->seq,
        .sent_ns = now,
        .bytes = packet->bytes,
        .frame = packet->frame,
        .last_in_frame = packet->last_in_frame,
    };
    e.paired = delta_pacer_sent(&cc->pacer, packet->bytes, now);
    if (delta_history_in_flight(&cc->history) == 0)
        cc->first_unreported = now;
    cc->waiting = true;
    delta_history_sent(&cc->history, &e);
    if (packet->frame != RIFT_CC_NO_FRAME)
        cc->queued_bytes -= WV_MIN(cc->queued_bytes, (uint64_t)packet->bytes);
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

static uint64_t delta_timeout(const struct rift_cc *cc, uint64_t now)
{
    return RIFT_CC_NEVER;
}

static void delta_tick(struct rift_cc *cc, uint64_t now)
{
}

static void delta_pause(struct rift_cc *cc, bool paused, uint64_t now)
{
    cc->paused = paused;
    settle_backlog(cc, now);
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
