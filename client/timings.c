/* Durations in histograms; see timings.h. */
#include "client/timings.h"

void wv_timing_record(struct wv_timing *t, uint64_t us)
{
    t->all.buckets[wv_histogram_bucket(us)]++;
    t->all.value++;
    t->all.sum += us;
}

void wv_timing_roll(struct wv_timing *t)
{
    t->mark[1] = t->mark[0];
    t->mark[0] = t->all;
}

uint64_t wv_timing_quantile(const struct wv_timing *t, double q)
{
    return wv_histogram_quantile(&t->all, NULL, q);
}

uint64_t wv_timing_recent(const struct wv_timing *t, double q)
{
    return wv_histogram_quantile(&t->all, &t->mark[1], q);
}

uint64_t wv_timing_since_roll(const struct wv_timing *t, double q)
{
    return wv_histogram_quantile(&t->all, &t->mark[0], q);
}

uint64_t wv_timing_recent_count(const struct wv_timing *t)
{
    return t->all.value - t->mark[1].value;
}
