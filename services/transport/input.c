/* Who controls, and the way of the controller's events to the input stage. Must never pass on an event of a
 * session that does not control, nor use a controlling session's number twice. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_input.pb-c.h"
#include "services/transport/internal.h"

#define NUMBER_NS      (10 * WV_NS_PER_MS)
#define ONE_WAY_MAX_NS (10 * WV_NS_PER_S)
#define CLOCK_SLACK_US 1000000u

/* Numbers of controlling sessions rise with the monotonic clock, so that one process of the transport never
 * repeats those of an earlier one: 32 bits of 10 ms are 497 days of uptime, and nobody takes control 100
 * times a second. */
static uint32_t next_control_number(struct wv_transport *t, uint64_t now)
{
    uint32_t tick = (uint32_t)(now / NUMBER_NS);
    bool later = !t->control_number || (int32_t)(tick - t->control_number) > 0;
    t->control_number = later ? tick : t->control_number + 1;
    if (t->control_number == 0)
        t->control_number = 1;
    return t->control_number;
}

void input_choose_controller(struct wv_transport *t, uint64_t now)
{
    if (t->controller)
        return;
    struct session *first = NULL;
    for (size_t i = 0; i < t->top && !t->draining; i++) {
        struct session *s = &t->slots[i];
        if (session_is_live(s) && !s->hello.view_only && (!first || s->number < first->number))
            first = s;
    }
    t->controller = first;
    wv_relay_set_controller(t->relay, first ? next_control_number(t, now) : 0, now);
    if (first)
        first->keep_dirty = true;
    if (first)
        wv_info("a client controls", "session=%u name=\"%s\"", first->id, first->name);
    control_tell_all(t);
}

/* The event's time on our clock. What can't be (the client's clock is its own) is taken as now. */
static uint64_t host_time_us(struct wv_transport *t, const struct session *s, uint64_t time_us, uint64_t now)
{
    struct rift_session_stats stats;
    rift_session_get_stats(s->rift, &stats);
    uint64_t now_us = now / WV_NS_PER_US;
    uint64_t us = time_us - (uint64_t)(stats.clock_offset_ns / (int64_t)WV_NS_PER_US);
    if (!stats.rtt_ns || us > now_us + CLOCK_SLACK_US ||
        now_us - WV_MIN(us, now_us) > ONE_WAY_MAX_NS / WV_NS_PER_US)
        return now_us;
    us = WV_MIN(us, now_us);
    wv_metric_record(t->metrics, WV_T_INPUT_ONE_WAY_US, now_us - us);
    return us;
}

void input_take(struct wv_transport *t, struct session *s, const struct rift_event *event, uint64_t now)
{
    if (s != t->controller || s->closing) {
        wv_metric_add(t->metrics, WV_T_INPUT_DROPPED_VIEWER, 1);
        return;
    }
    struct rift_input_event e = event->input.event;
    e.time_us = host_time_us(t, s, e.time_us, now);
    s->input_events++;
    wv_metric_add(t->metrics, WV_T_INPUT_EVENTS, 1);
    wv_relay_push(t->relay, event->input.seq, &e, now);
}

static bool send_release(struct wv_transport *t, uint32_t session)
{
    Wavry__Bus__InputRelease message = WAVRY__BUS__INPUT_RELEASE__INIT;
    message.session = session;
    return wv_bus_send(t->links.input, &message.base) != WV_BUS_UNSENT;
}

static bool send_batch(struct wv_transport *t, const struct rift_input_event *events, size_t n,
                       uint32_t first_seq)
{
    Wavry__Bus__InputEvent packed[WV_RELAY_BATCH], *pointers[WV_RELAY_BATCH];
    Wavry__Bus__InputBatch message = WAVRY__BUS__INPUT_BATCH__INIT;
    for (size_t i = 0; i < n; i++) {
        wavry__bus__input_event__init(&packed[i]);
        packed[i].kind = events[i].kind;
        packed[i].down = events[i].down;
        packed[i].code = events[i].code;
        packed[i].x = events[i].x;
        packed[i].y = events[i].y;
        packed[i].time_us = events[i].time_us;
        pointers[i] = &packed[i];
    }
    message.session = wv_relay_controller(t->relay);
    message.first_seq = first_seq;
    message.n_events = n;
    message.events = pointers;
    return wv_bus_send(t->links.input, &message.base) != WV_BUS_UNSENT;
}

void input_pump(struct wv_transport *t, uint64_t now)
{
    struct rift_input_event events[WV_RELAY_BATCH];
    uint32_t first_seq, release = wv_relay_release(t->relay, now);
    size_t n;
    if (release)
        wv_relay_release_sent(t->relay, send_release(t, release), now);
    bool any = false;
    while ((n = wv_relay_take(t->relay, now, events, &first_seq))) {
        wv_relay_sent(t->relay, n, send_batch(t, events, n, first_seq), now);
        any = true;
    }
    if (any)
        media_stir(t, now);
}

void input_count(struct wv_transport *t)
{
    struct wv_relay_stats s, *seen = &t->relay_seen;
    wv_relay_get_stats(t->relay, &s);
    wv_metric_add(t->metrics, WV_T_INPUT_DROPPED_STALE, s.dropped_stale - seen->dropped_stale);
    wv_metric_add(t->metrics, WV_T_INPUT_DROPPED_FULL, s.dropped_full - seen->dropped_full);
    wv_metric_add(t->metrics, WV_T_INPUT_RESENT, s.resent - seen->resent);
    *seen = s;
}

int on_input_done(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__InputDone *m = (const Wavry__Bus__InputDone *)base;
    wv_relay_done(t->relay, m->session, m->seq, now);
    return 0;
}
