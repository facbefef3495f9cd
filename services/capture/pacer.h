/* When a picture is taken: at once when the screen had been still, at most at the target rate while it moves,
 * and at once for the first change after an input, ahead of the rate. Pure; time is a parameter. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WV_PACER_NEVER UINT64_MAX

struct wv_pacer {
    uint64_t interval_ns;
    uint64_t due_ns;         /* the regular date of the next picture; it may come half an interval before */
    uint64_t take_ns;        /* the pending change is taken then; WV_PACER_NEVER: nothing pending */
    uint64_t boost_until_ns; /* a change before this is taken at once; 0: no boost */
    bool boosted;            /* the pending change is taken on account of the boost */
    uint32_t tokens;         /* boosts left */
    uint64_t refill_ns;      /* when tokens was last topped up */
};

void wv_pacer_init(struct wv_pacer *p, uint32_t max_fps);
void wv_pacer_set_rate(struct wv_pacer *p, uint32_t max_fps);
/* Something changed on the screen. */
void wv_pacer_changed(struct wv_pacer *p, uint64_t now);
/* Input was just injected; what changed before was already told by wv_pacer_changed(). */
void wv_pacer_boost(struct wv_pacer *p, uint64_t now);
/* The pending change is to be taken at this time (may be past), or WV_PACER_NEVER. */
uint64_t wv_pacer_take_at(const struct wv_pacer *p);
/* A picture of everything pending is being taken. */
void wv_pacer_taken(struct wv_pacer *p, uint64_t now);
/* Forget what is pending (display lost, nobody watches). */
void wv_pacer_reset(struct wv_pacer *p);
