/* Durations in histograms, since the start and over the last one to two seconds. */
#pragma once

#include "lib/ipc/metrics.h"

#include <stdint.h>

struct wv_timing {
    struct wv_metric_value all, mark[2]; /* mark[0]: at the last roll, mark[1]: at the one before */
};

void wv_timing_record(struct wv_timing *t, uint64_t us);
/* Called once a second: what is "recent" begins at the roll before this one. */
void wv_timing_roll(struct wv_timing *t);
/* The duration below which the share Q of the records lies, 0 when there are none. */
uint64_t wv_timing_quantile(const struct wv_timing *t, double q);
uint64_t wv_timing_recent(const struct wv_timing *t, double q);
/* The same, since the last roll. */
uint64_t wv_timing_since_roll(const struct wv_timing *t, double q);
uint64_t wv_timing_recent_count(const struct wv_timing *t);
