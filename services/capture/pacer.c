#include "services/capture/pacer.h"

#include "lib/base/util.h"

/* How long after an input its first change is waited for. */
#define BOOST_WINDOW_NS (50 * WV_NS_PER_MS)
/* A change that was pending when the input came may already be its effect (the two wake us in any order): it
 * waits no longer than this. */
#define BOOST_PENDING_NS (4 * WV_NS_PER_MS)
/* Boosted pictures come on top of the rate, so they are bounded: a person types less than this. */
#define BOOST_BURST      6
#define BOOST_PER_SECOND 30

void wv_pacer_init(struct wv_pacer *p, uint32_t max_fps)
{
    *p = (struct wv_pacer){.take_ns = WV_PACER_NEVER, .tokens = BOOST_BURST};
    wv_pacer_set_rate(p, max_fps);
}

void wv_pacer_set_rate(struct wv_pacer *p, uint32_t max_fps)
{
    p->interval_ns = WV_NS_PER_S / WV_MAX(max_fps, 1u);
    /* A lower rate must not leave an old, nearer date; a higher one must not wait for the old, farther one.
     */
    p->due_ns = 0;
}

/* From when on the next picture is within the rate. Dates lie on a grid, with half an interval of tolerance
 * (GCRA, ITU-T I.371): a screen that moves at the target rate with some jitter is not delayed, on average the
 * rate holds. */
static uint64_t regular_ns(const struct wv_pacer *p)
{
    uint64_t tolerance = p->interval_ns / 2;

    return p->due_ns > tolerance ? p->due_ns - tolerance : 0;
}

void wv_pacer_changed(struct wv_pacer *p, uint64_t now)
{
    if (p->boost_until_ns && now <= p->boost_until_ns) {
        p->take_ns = WV_MIN(p->take_ns, now);
        p->boosted = true;
        return;
    }
    if (p->take_ns == WV_PACER_NEVER) {
        uint64_t regular = regular_ns(p);

        p->take_ns = WV_MAX(now, regular);
    }
}

static bool take_token(struct wv_pacer *p, uint64_t now)
{
    uint64_t gained = (now - p->refill_ns) / (WV_NS_PER_S / BOOST_PER_SECOND);

    if (gained) {
        p->tokens = (uint32_t)WV_MIN(p->tokens + gained, (uint64_t)BOOST_BURST);
        p->refill_ns = now;
    }
    if (!p->tokens)
        return false;
    p->tokens--;
    return true;
}

void wv_pacer_boost(struct wv_pacer *p, uint64_t now)
{
    if (!take_token(p, now))
        return;
    p->boost_until_ns = now + BOOST_WINDOW_NS;
    if (p->take_ns != WV_PACER_NEVER)
        p->take_ns = WV_MIN(p->take_ns, now + BOOST_PENDING_NS);
}

uint64_t wv_pacer_take_at(const struct wv_pacer *p)
{
    return p->take_ns;
}

void wv_pacer_taken(struct wv_pacer *p, uint64_t now)
{
    bool extra = p->boosted && now < regular_ns(p);

    if (p->boosted)
        p->boost_until_ns = 0;
    p->boosted = false;
    p->take_ns = WV_PACER_NEVER;
    if (!extra) /* that comes on top: the regular dates stay */
        p->due_ns = WV_MAX(p->due_ns, now) + p->interval_ns;
}

void wv_pacer_reset(struct wv_pacer *p)
{
    p->take_ns = WV_PACER_NEVER;
    p->boosted = false;
    p->boost_until_ns = 0;
}
