/* The capacity estimate; delta_capacity.h says the idea. It must never give a rate that no measurement of the
 * last train or pairs supports. */
#include "rift/core/delta_capacity.h"

#include "lib/base/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAIR_AGREE       0.05 /* relative distance from the median within which a pair agrees with it */
#define PAIR_QUORUM      0.6  /* share of all remembered pairs that must agree */
#define PAIRS_RECENT     8    /* a new capacity is taken over from this many... */
#define PAIRS_RECENT_MIN 7    /* ...when so many agree... */
#define PAIR_TRAIN       0.25 /* ...and the last train does, within this */
#define PAIRS_FALL       3    /* a fall is believed from this many that all agree... */
#define PAIR_FALL_TRAIN  0.1  /* ...when the last train says the same, within this */
#define PAIR_GAP_MIN_NS  1500 /* closer arrivals came in one aggregate and say nothing */
#define PAIR_HOLD_NS     (500 * WV_NS_PER_MS) /* an agreement outlives its quorum for so long */
#define PAIR_NONE        1e12                 /* bps that stand for such a pair */
/* Pairs may promise at most this times what trains deliver: a shaper lets pairs pass at line rate. */
#define PAIR_OVER_TRAIN 8.0

#define CAPACITY_LEAST 30000.0 /* bps; a path that carries less carries no video */

#define TRAIN_PACKETS   3    /* fewer don't show a dispersion */
#define TRAIN_STRETCHED 0.93 /* arrival rate over sending rate below which the path was the limit */
#define TRAIN_KEEP      0.85 /* weight of the trains so far when one more comes: the last seven or so count */
#define TRAIN_FELL      0.6  /* a train this far below the mean starts anew: the path changed */
/* Frames of one or two packets make no trains. After this long without one, and without a queue, the estimate
 * grows: it doubles in less than a second, until frames are large enough again. */
#define GROW_AFTER_NS (100 * WV_NS_PER_MS)
#define GROW_PER_S    1.0
/* Bounds of the correction: jitter stretches trains by a tenth at most; a path that comes and goes is used
 * for this share of its mean at least. */
#define TRIM_LEAST 0.4
#define TRIM_MOST  1.12

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the newest N pairs, and how many agree with it. */
static double pair_median(const struct delta_capacity *c, unsigned n, unsigned *ret_agree)
{
    double sorted[DELTA_PAIRS];
    for (unsigned i = 0; i < n; i++)
        sorted[i] = c->pair[(c->n_pairs - 1 - i) % DELTA_PAIRS];
    qsort(sorted, n, sizeof(sorted[0]), compare);
    double median = sorted[n / 2];
    *ret_agree = 0;
    for (unsigned i = 0; i < n; i++)
        *ret_agree += fabs(sorted[i] - median) <= PAIR_AGREE * median;
    return median;
}

static void judge_pairs(struct delta_capacity *c, uint64_t now)
{
    unsigned all = WV_MIN(c->n_pairs, (unsigned)DELTA_PAIRS), agree;
    double bps;
    if (c->pair_bps > 0 && c->n_pairs >= PAIRS_FALL && c->last_train_bps > 0) {
        bps = pair_median(c, PAIRS_FALL, &agree);
        if (agree == PAIRS_FALL && bps < (1 - PAIR_TRAIN) * c->pair_bps &&
            fabs(c->last_train_bps - bps) < PAIR_FALL_TRAIN * bps) {
            c->pair_bps = bps;
            c->agreed_at = now;
            return;
        }
    }
    if (c->n_pairs >= PAIRS_RECENT) {
        bps = pair_median(c, PAIRS_RECENT, &agree);
        /* Alone on the path, trains say the same as pairs; with others they say less, but never more. */
        bool trains = c->last_train_bps > 0 && c->last_train_bps < (1 + PAIR_TRAIN) * bps &&
                      (c->last_train_bps > (1 - PAIR_TRAIN) * bps || bps < c->pair_bps);
        if (agree >= PAIRS_RECENT_MIN && bps < PAIR_NONE && trains) {
            c->pair_bps = bps;
            c->agreed_at = now;
            return;
        }
    }
    bps = pair_median(c, all, &agree);
    if (all >= 2 && agree >= PAIR_QUORUM * all && bps < PAIR_NONE) {
        c->pair_bps = bps;
        c->agreed_at = now;
    } else if (now - c->agreed_at > PAIR_HOLD_NS || c->train_bps > (1 + PAIR_TRAIN) * c->pair_bps) {
        c->pair_bps = 0;
    }
}

void delta_capacity_pair(struct delta_capacity *c, uint32_t bytes, int64_t arrival_gap, uint64_t now)
{
    double bps = arrival_gap >= PAIR_GAP_MIN_NS ? bytes * 8e9 / (double)arrival_gap : PAIR_NONE;
    c->pair[c->n_pairs++ % DELTA_PAIRS] = bps;
    if (c->n_pairs > UINT32_MAX / 2)
        c->n_pairs -= UINT32_MAX / 4 / DELTA_PAIRS * DELTA_PAIRS;
    judge_pairs(c, now);
    c->sampled_at = now;
    c->any = true;
}

void delta_capacity_packet(struct delta_capacity *c, uint64_t sent, uint64_t arrival, uint32_t bytes)
{
    if (c->train.n++ == 0) {
        c->train.sent_first = c->train.sent_last = sent;
        c->train.arrived_first = c->train.arrived_last = arrival;
        c->train.bytes = 0;
        return;
    }
    c->train.sent_last = sent;
    c->train.arrived_last = arrival;
    c->train.bytes += bytes;
}

void delta_capacity_train_end(struct delta_capacity *c, uint64_t now)
{
    unsigned n = c->train.n;
    int64_t arrived = (int64_t)(c->train.arrived_last - c->train.arrived_first);
    int64_t sent = (int64_t)(c->train.sent_last - c->train.sent_first);
    c->train.n = 0;
    /* Nothing arrives later than it is told, nor before it was sent: a longer way through is a lie. */
    if (n < TRAIN_PACKETS || arrived <= 0 || sent < 0 || (uint64_t)arrived > now - c->train.sent_first)
        return;
    double in_bps = (double)c->train.bytes * 8e9 / (double)WV_MAX(sent, 1000);
    double out_bps = (double)c->train.bytes * 8e9 / (double)arrived;
    c->sampled_at = now;
    c->any = true;
    c->trained_at = now;
    c->last_train_bps = out_bps < TRAIN_STRETCHED * in_bps ? out_bps : 0;
    if (c->last_train_bps > 0 && c->train_bps > 0 && out_bps < TRAIN_FELL * c->train_bps)
        c->sum.bits = c->sum.sent_s = c->sum.arrived_s = 0;
    c->sum.bits = TRAIN_KEEP * c->sum.bits + (double)c->train.bytes * 8;
    c->sum.sent_s = TRAIN_KEEP * c->sum.sent_s + (double)sent / 1e9;
    c->sum.arrived_s = TRAIN_KEEP * c->sum.arrived_s + (double)arrived / 1e9;
    double mean_out = c->sum.bits / c->sum.arrived_s;
    if (c->sum.sent_s < TRAIN_STRETCHED * c->sum.arrived_s)
        c->train_bps = mean_out;
    else
        c->train_bps = fmax(c->train_bps, fmin(mean_out, c->sum.bits / c->sum.sent_s));
}

void delta_capacity_grow(struct delta_capacity *c, double dt, uint64_t now)
{
    if (c->pair_bps > 0 || now - c->trained_at < GROW_AFTER_NS)
        return;
    c->train_bps *= 1 + GROW_PER_S * dt;
    c->sum.bits = c->sum.sent_s = c->sum.arrived_s = 0;
}

void delta_capacity_trim(struct delta_capacity *c, double change)
{
    if (c->pair_bps > 0)
        return;
    c->trim = fmin(fmax(c->trim + change, TRIM_LEAST - 1), TRIM_MOST - 1);
}

double delta_capacity_bps(const struct delta_capacity *c)
{
    double trains = c->train_bps * (1 + c->trim), bps = trains;
    if (c->pair_bps > 0)
        bps = c->train_bps > 0 ? fmin(c->pair_bps, PAIR_OVER_TRAIN * c->train_bps) : c->pair_bps;
    return bps > 0 ? fmax(bps, CAPACITY_LEAST) : 0;
}
