/* Base delay, wait and own share of it; delta_delay.h says the idea. It must never take a difference of
 * clocks for a delay: only differences of raw delays mean something. */
#include "rift/core/delta_delay.h"

#include "lib/base/util.h"

#include <math.h>

/* The base is the lowest of this long to twice this long: a drift of 200 ppm moves it by a millisecond at
 * most, and a queue that other flows keep up empties at least once in that time. */
#define BUCKET_NS (3 * WV_NS_PER_S)
/* A route change shows within this: well inside the 2 s that are promised. */
#define FLOOR_SPAN_NS (1 * WV_NS_PER_S)
#define FLOOR_FRAMES  15     /* fewer frames in that time prove nothing */
#define FLOOR_RISE_S  0.003  /* a base that is off by less does no harm */
#define FLOOR_SHARP_S 0.0005 /* delays of an empty path repeat to within this; those of a queue don't */
#define FLOOR_SHARE   0.4    /* of the frames that must lie on the floor */
#define FLOOR_SWING   1.3    /* the rate must have changed by this while the floor stayed */

static void restart(struct delta_delay *d, int64_t raw, uint64_t now)
{
    d->base = d->bucket[0] = d->bucket[1] = raw;
    d->bucket_at = now;
    d->n_floor = 0;
    d->any = true;
}

static void track_base(struct delta_delay *d, int64_t raw, uint64_t elapsed, uint64_t now)
{
    /* No wait is longer than the round trip it was part of: the receiver's clock was set. */
    if (!d->any || raw - d->base > (int64_t)elapsed) {
        restart(d, raw, now);
        return;
    }
    if (now - d->bucket_at > BUCKET_NS) {
        d->bucket[1] = d->bucket[0];
        d->bucket[0] = raw;
        d->bucket_at = now;
    }
    d->bucket[0] = WV_MIN(d->bucket[0], raw);
    d->base = WV_MIN(d->bucket[0], d->bucket[1]);
}

struct delta_wait delta_delay_sample(struct delta_delay *d, uint64_t sent, uint64_t arrival, uint32_t bytes,
                                     double capacity_bps, uint64_t now)
{
    /* Relative to the first packet's, so that no origin of a clock matters; bounded, so that no claim about
     * an arrival makes a difference of two overflow. */
    if (!d->any)
        d->origin = arrival - sent;
    int64_t raw = (int64_t)(arrival - sent - d->origin);
    raw = WV_MIN(raw, INT64_MAX / 4);
    raw = WV_MAX(raw, INT64_MIN / 4);
    track_base(d, raw, now - sent, now);
    struct delta_wait w = {.wait = (double)(raw - d->base) / 1e9};
    if (capacity_bps <= 0)
        return w;
    uint64_t start = WV_MAX(d->own_free, sent);
    w.own = (double)(start - sent) / 1e9;
    if (w.own > w.wait) { /* the link was free earlier than the model thought */
        w.own = w.wait;
        start = sent + (uint64_t)(w.wait * 1e9);
    }
    d->own_free = start + (uint64_t)fmin((double)bytes * 8e9 / capacity_bps, 1e9);
    return w;
}

/* Whether the floors of the last FLOOR_SPAN_NS are sharp and raised, and did not fall with the rate. */
static bool floor_is_base(const struct delta_delay *d, uint64_t now, double *ret_floor)
{
    unsigned n = WV_MIN(d->n_floor, (unsigned)DELTA_FLOORS), used = 0, on_floor = 0, i = 1;
    double lowest = INFINITY, slow = INFINITY, fast = 0;
    for (; i <= n; i++) {
        unsigned k = (d->n_floor - i) % DELTA_FLOORS;
        fast = fmax(fast, d->floor[k].rate);
        if (now - d->floor[k].at > FLOOR_SPAN_NS)
            continue; /* older ones only tell what the rate was before */
        lowest = fmin(lowest, d->floor[k].wait);
        slow = fmin(slow, d->floor[k].rate);
        used++;
    }
    if (used == n || used < FLOOR_FRAMES || lowest < FLOOR_RISE_S || fast < FLOOR_SWING * slow)
        return false;
    for (i = 1; i <= used; i++)
        on_floor += d->floor[(d->n_floor - i) % DELTA_FLOORS].wait < lowest + FLOOR_SHARP_S;
    *ret_floor = lowest;
    return on_floor >= FLOOR_SHARE * used;
}

bool delta_delay_frame(struct delta_delay *d, double wait, double rate_bps, uint64_t now)
{
    unsigned k = d->n_floor++ % DELTA_FLOORS;
    d->floor[k].at = now;
    d->floor[k].wait = wait;
    d->floor[k].rate = rate_bps;
    double floor_s;
    if (!floor_is_base(d, now, &floor_s))
        return false;
    restart(d, d->base + (int64_t)(floor_s * 1e9), now);
    return true;
}
