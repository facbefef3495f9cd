/* What the encoder is told of the paths to the clients: bitrate, frame rate, size, and when to hold. All
 * clients get the same stream, so the poorest path of those that take frames decides; a client that takes
 * none (its path stands still) gets a keyframe when it is back and holds nobody up. Must never look at
 * anything but the sessions' controllers. */
#include "lib/base/util.h"
#include "services/transport/internal.h"

/* A change is told at once from this on, and a smaller one after a while. */
#define CHANGE_PERCENT 3u
#define CHANGE_NS      (100 * WV_NS_PER_MS)

void rate_init(struct wv_transport *t)
{
    struct media_rate *r = &t->media.rate;
    wv_ladder_init(&r->ladder, t->setup.max_fps);
    r->target_bps = r->told_bps = t->setup.congestion ? t->setup.start_bps : t->setup.bitrate_bps;
    r->hold = false;
}

struct wv_ladder_choice rate_choice(const struct wv_transport *t)
{
    return wv_ladder_get(&t->media.rate.ladder);
}

bool rate_wants_frame(const struct session *s, uint64_t now)
{
    return rift_session_frame_wanted(s->rift, now);
}

/* Whether nobody would get a frame that is begun now. */
static bool must_hold(const struct wv_transport *t, uint64_t now)
{
    bool any = false;
    for (size_t i = 0; i < t->top; i++) {
        if (!session_is_live(&t->slots[i]))
            continue;
        if (rate_wants_frame(&t->slots[i], now))
            return false;
        any = true;
    }
    return any;
}

/* The rate for the next frame, and the steady one behind it. */
static void ask_sessions(struct wv_transport *t, uint64_t now, uint64_t *ret_target_bps,
                         uint64_t *ret_mean_bps)
{
    uint64_t target = t->setup.bitrate_bps, mean = t->setup.bitrate_bps;
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        if (!session_is_live(s))
            continue;
        struct rift_session_rate_stats stats;
        uint64_t bps = rift_session_target_bps(s->rift, now);
        if (!bps || (!rate_wants_frame(s, now) && !t->media.rate.hold))
            continue;
        rift_session_get_rate_stats(s->rift, &stats);
        target = WV_MIN(target, bps);
        mean = WV_MIN(mean, stats.controller.rate_bps);
    }
    *ret_target_bps = target;
    *ret_mean_bps = mean;
}

static bool is_news(const struct media_rate *r, uint64_t now)
{
    uint64_t a = r->target_bps, b = r->told_bps, difference = a > b ? a - b : b - a;
    return difference * 100 > b * CHANGE_PERCENT || (difference && now - r->told_ns >= CHANGE_NS);
}

void rate_before_frame(struct wv_transport *t, uint64_t now)
{
    t->media.rate.hold = must_hold(t, now);
}

void rate_after_frame(struct wv_transport *t, uint64_t now)
{
    struct media_rate *r = &t->media.rate;
    const struct media *m = &t->media;
    uint64_t mean;
    if (!t->setup.congestion)
        return;
    r->hold = must_hold(t, now);
    ask_sessions(t, now, &r->target_bps, &mean);
    if (wv_ladder_update(&r->ladder, mean, m->source_width, m->source_height, now))
        t->media.targets_at = now; /* capture too */
    wv_metric_set(t->metrics, WV_T_TARGET, r->target_bps);
    r->news = is_news(r, now);
}

void rate_pump(struct wv_transport *t, uint64_t now)
{
    struct media_rate *r = &t->media.rate;
    if (!t->setup.congestion || !t->n_live || t->draining)
        return;
    r->hold = must_hold(t, now);
    if (r->hold != r->told_hold || r->news)
        media_tell_encoder(t, now);
}

void rate_publish(struct wv_transport *t)
{
    uint64_t capacity = 0, queue = 0, share = 0;
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        struct rift_session_rate_stats stats;
        if (!session_is_live(s))
            continue;
        rift_session_get_rate_stats(s->rift, &stats);
        const struct rift_cc_stats *c = &stats.controller;
        if (c->capacity_bps && (!capacity || c->capacity_bps < capacity))
            capacity = c->capacity_bps;
        queue = WV_MAX(queue, c->queue_ns);
        share = WV_MAX(share, (uint64_t)s->seen.repair_permille);
        wv_metric_add(t->metrics, WV_T_REPORTS, stats.reports_received - s->rate_seen.reports_received);
        s->rate_seen = stats;
    }
    wv_metric_set(t->metrics, WV_T_CAPACITY, capacity);
    wv_metric_set(t->metrics, WV_T_QUEUE, queue / WV_NS_PER_US);
    wv_metric_set(t->metrics, WV_T_REPAIR_SHARE, share);
}
