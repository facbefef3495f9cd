/* A client's session from its first packet to its last: what it hands out, what it says, its numbers and its
 * goodbye. When one is tried for, and on which socket, is connection.c's. */
#include "client/client_private.h"

#include "lib/base/util.h"

#include <string.h>

#define ANNOUNCE_NS (500 * WV_NS_PER_MS) /* a session without a greeting counts as one after this */

/* A connected socket hears one address; what it is called is of no interest to the session. */
static const uint8_t host_address[RIFT_ADDRESS_BYTES] = {1};

static void add_stats(struct rift_session_stats *sum, const struct rift_session *s)
{
    struct rift_session_stats v;
    rift_session_get_stats(s, &v);
    sum->packets_sent += v.packets_sent;
    sum->packets_received += v.packets_received;
    sum->bytes_received += v.bytes_received;
    sum->packets_lost += v.packets_lost;
    sum->dropped_replay += v.dropped_replay;
    sum->dropped_auth += v.dropped_auth;
    sum->dropped_malformed += v.dropped_malformed;
    sum->frames_lost += v.frames_lost;
    sum->keyframe_requests += v.keyframe_requests;
    sum->rtt_ns = v.rtt_ns;
    sum->clock_offset_ns = v.clock_offset_ns;
}

void client_sum_session(const struct wv_client *c, struct rift_session_stats *ret)
{
    *ret = c->past;
    if (c->session)
        add_stats(ret, c->session);
}

void client_drop_session(struct wv_client *c, uint64_t now)
{
    if (!c->session)
        return;
    add_stats(&c->past, c->session);
    c->session = rift_session_free(c->session);
    if (c->connected_since)
        c->connected_ns += now - c->connected_since;
    c->connected_since = 0;
    c->n_pending = 0;
}

void client_announce(struct wv_client *c, uint64_t now)
{
    if (c->announced)
        return;
    c->announced = true;
    c->connects++;
    c->backoff_ns = CLIENT_BACKOFF_FIRST_NS;
    c->connected_since = now;
    client_set_state(c, WV_CLIENT_CONNECTED, WV_CLIENT_REASON_NONE, "");
}

/* The host was heard on the new session: the old one, lost, is over. */
static void promote(struct wv_client *c, uint64_t now)
{
    client_drop_session(c, now);
    c->session = c->candidate;
    c->session_id = c->candidate_id;
    c->candidate = NULL;
    c->initiator = rift_initiator_free(c->initiator);
    c->announced = false;
    c->announce_at = now + ANNOUNCE_NS;
    c->keyframe_wanted = c->broken = false;
    client_begin_secrets(c);
}

void client_drain_events(struct wv_client *c, uint64_t now)
{
    struct rift_event event;
    while (c->session && !client_is_final(c) && rift_session_next_event(c->session, &event) == 0) {
        switch (event.kind) {
        case RIFT_EVENT_FRAME:
            client_announce(c, now);
            if (!client_is_final(c)) /* the caller may have left, and the event's data with the session */
                client_on_frame(c, &event);
            break;
        case RIFT_EVENT_CONTROL:
            client_announce(c, now);
            if (!client_is_final(c))
                client_on_control(c, event.control.data, event.control.len);
            break;
        case RIFT_EVENT_CURSOR:
            if (c->call.cursor)
                c->call.cursor(c->userdata, &event.cursor);
            break;
        case RIFT_EVENT_CLOSED:
            client_on_closed(c, &event, now);
            break;
        case RIFT_EVENT_INPUT:
        case RIFT_EVENT_KEYFRAME_REQUEST:
            break;
        }
    }
}

bool client_take_data(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                      uint64_t now)
{
    uint32_t id;
    if (rift_datagram_receiver(datagram, len, &id) < 0)
        return false;
    if (c->candidate && id == c->candidate_id) {
        rift_session_set_arrival(c->candidate, c->arrival_ns);
        if (rift_session_receive_from(c->candidate, host_address, ecn, datagram, len, now) != 0)
            return false;
        promote(c, now);
    } else {
        if (!c->session || id != c->session_id)
            return false;
        rift_session_set_arrival(c->session, c->arrival_ns);
        if (rift_session_receive_from(c->session, host_address, ecn, datagram, len, now) != 0)
            return false;
    }
    c->last_heard_ns = now;
    return true;
}

/* DSCP EF for input, CS0 for what can wait. */
static uint8_t tos_of(const struct rift_outgoing *out)
{
    return (uint8_t)((out->traffic_class == RIFT_CLASS_INPUT ? 46 << 2 : 0) | out->ecn);
}

void client_send_session(struct wv_client *c, struct rift_session *s, uint64_t now)
{
    for (;;) {
        size_t capacity;
        struct rift_outgoing out;
        uint8_t *room = wv_link_reserve(c->link, &capacity);
        if (rift_session_send_to(s, room, capacity, now, &out) != 0)
            return;
        wv_link_commit(c->link, out.len, tos_of(&out));
    }
}

void client_say_goodbye(struct wv_client *c, uint64_t now)
{
    if (!c->session)
        return;
    rift_session_close(c->session, RIFT_CLOSE_NORMAL, "", now);
    /* The session repeats its goodbye over some time; we are leaving, so all of it goes now. */
    for (int i = 0; i < 3; i++) {
        client_send_session(c, c->session, now);
        uint64_t next = rift_session_timeout(c->session);
        if (next == UINT64_MAX || next > now + WV_NS_PER_S)
            break;
        now = WV_MAX(now, next);
    }
    wv_link_flush(c->link);
}
