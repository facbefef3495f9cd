/* The way of the controller's events to the input stage. Who controls is identity's word; the input stage has
 * it too, and opens nobody else's events. Must never pass on an event of a session that does not control. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_input.pb-c.h"
#include "services/transport/internal.h"

void input_find_controller(struct wv_transport *t, uint64_t now)
{
    struct session *s = session_by_number(t, t->controller_number);
    if (s && !session_is_live(s))
        s = NULL;
    if (s == t->controller && (!s || s->number == wv_relay_controller(t->relay)))
        return;
    if (t->controller)
        t->controller->keep_dirty = true;
    t->controller = s;
    wv_relay_set_controller(t->relay, s ? s->number : 0, now);
    if (s) {
        s->keep_dirty = true;
        wv_info("a client controls", "session=%u name=\"%s\"", s->number, s->name);
    }
    control_tell_all(t);
}

void input_take(struct wv_transport *t, struct session *s, const struct rift_event *event, uint64_t now)
{
    if (s != t->controller || s->closing) {
        wv_metric_add(t->metrics, WV_T_INPUT_DROPPED_VIEWER, 1);
        return;
    }
    s->input_events++;
    wv_metric_add(t->metrics, WV_T_INPUT_EVENTS, 1);
    wv_relay_push(t->relay, event->input.seq, event->input.sealed, now);
}

static bool send_release(struct wv_transport *t, uint32_t session)
{
    Wavry__Bus__InputRelease message = WAVRY__BUS__INPUT_RELEASE__INIT;
    message.session = session;
    return wv_bus_send(t->links.input, &message.base) != WV_BUS_UNSENT;
}

static bool send_batch(struct wv_transport *t, struct wv_relay_batch *batch)
{
    Wavry__Bus__InputBatch message = WAVRY__BUS__INPUT_BATCH__INIT;
    struct rift_session_stats stats = {0};
    if (t->controller)
        rift_session_get_stats(t->controller->rift, &stats);
    message.session = wv_relay_controller(t->relay);
    message.first_seq = batch->first_seq;
    message.events = (ProtobufCBinaryData){.len = batch->n * RIFT_INPUT_SEALED_BYTES, .data = batch->events};
    message.clock_offset_us = stats.clock_offset_ns / (int64_t)WV_NS_PER_US;
    message.clock_known = stats.rtt_ns != 0;
    message.came_us = batch->came_us;
    message.n_came_us = batch->n;
    return wv_bus_send(t->links.input, &message.base) != WV_BUS_UNSENT;
}

void input_pump(struct wv_transport *t, uint64_t now)
{
    struct wv_relay_batch batch;
    uint32_t release = wv_relay_release(t->relay, now);
    if (release)
        wv_relay_release_sent(t->relay, send_release(t, release), now);
    bool any = false;
    while (wv_relay_take(t->relay, now, &batch)) {
        wv_relay_sent(t->relay, batch.n, send_batch(t, &batch), now);
        any = true;
    }
    if (any)
        media_stir(t, now);
}

void input_count(struct wv_transport *t)
{
    struct wv_relay_stats s, *seen = &t->relay_seen;
    wv_relay_get_stats(t->relay, &s);
    wv_metric_add(t->metrics, WV_T_INPUT_DROPPED_FULL, s.dropped_full - seen->dropped_full);
    wv_metric_add(t->metrics, WV_T_INPUT_RESENT, s.resent - seen->resent);
    *seen = s;
}

int on_input_done(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__InputDone *m = (const Wavry__Bus__InputDone *)base;
    wv_relay_done(t->relay, m->session, m->seq, now);
    if (m->again) {
        wv_relay_again(t->relay, m->session, now);
        transport_pump(t, now);
    }
    return 0;
}
