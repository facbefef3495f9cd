/* The pacer; it must never hold a packet for good: a full window lets a probe pass now and then. */
#include "rift/core/delta_pacer.h"

#include "lib/base/util.h"

#include <math.h>

#define PROBE_NS (250 * WV_NS_PER_MS)
#define LATE_NS  (100 * WV_NS_PER_US)

bool delta_pacer_pair_open(const struct delta_pacer *p, uint64_t now)
{
    return p->pair_open && now == p->pair_at;
}

bool delta_pacer_sent(struct delta_pacer *p, uint32_t bytes, uint64_t now)
{
    bool second = delta_pacer_pair_open(p, now);
    p->pair_open = !second;
    p->pair_at = now;
    /* A timer that came late costs the stream nothing. */
    bool late = p->busy_until < now && now - p->busy_until <= LATE_NS;
    uint64_t from = late ? p->busy_until : WV_MAX(p->busy_until, now);
    p->busy_until = from + (uint64_t)fmin((double)bytes * 8e9 / p->pace_bps, 1e9);
    p->probe_at = now + PROBE_NS;
    return second;
}

uint64_t delta_pacer_next(const struct delta_pacer *p, uint32_t bytes, uint64_t in_flight, uint64_t now)
{
    if (delta_pacer_pair_open(p, now))
        return now;
    uint64_t at = p->busy_until;
    if (in_flight > 0 && in_flight + bytes > p->window_bytes)
        at = WV_MAX(at, p->probe_at);
    return at;
}
