/* The transport's engine: datagrams in, everything that is due, datagrams out, one timer. Must never allocate
 * per packet, wait for anybody, or let one session's fault touch another. */
#include "services/transport/transport.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "proto/bus_paths.pb-c.h"
#include "rift/crypto/identity.h"
#include "services/transport/internal.h"
#include "services/transport/udp_filter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FLOOR_NS    (20 * WV_NS_PER_US) /* no wake-up sooner: two packets of the fastest pacer */
#define SLACK_NS    (20 * WV_NS_PER_US) /* of the timer; the pacer is content with 100 us */
#define COUNT_NS    (20 * WV_NS_PER_MS) /* junk shows in the metrics so late at most */
#define JUNK_NS     (1 * WV_NS_PER_MS)  /* after junk the socket has so long a rest */
#define KEEP_ROUNDS 4                   /* states written in one turn of a session */

const struct wv_bus_rule wv_transport_rules[WV_TRANSPORT_RULES] = {
    {"identity", &wavry__bus__handshake_answer__descriptor, WV_PHASE_ANY, 1000, 2048, on_handshake_answer},
    {"identity", &wavry__bus__handshake_done__descriptor, WV_PHASE_ANY, 1000, 2048, on_handshake_done},
    {"identity", &wavry__bus__handshake_refused__descriptor, WV_PHASE_ANY, 1000, 512, on_handshake_refused},
    {"identity", &wavry__bus__first_key__descriptor, WV_PHASE_ANY, 1000, 64, on_first_key},
    {"identity", &wavry__bus__controller_is__descriptor, WV_PHASE_ANY, 1000, 16, on_controller_is},
    {"identity", &wavry__bus__inner_message__descriptor, WV_PHASE_ANY, 2000, WV_PEER_INNER_MAX_BYTES + 16,
     on_inner_message},
    {"identity", &wavry__bus__key_revoked__descriptor, WV_PHASE_ANY, 2000, 64, on_key_revoked},
    {"identity", &wavry__bus__session_end__descriptor, WV_PHASE_ANY, 2000, 512, on_session_end},
    {"identity", &wavry__bus__path_offer__descriptor, WV_PHASE_ANY, 100, 1024, on_path_offer},
    {"identity", &wavry__bus__path_lease__descriptor, WV_PHASE_ANY, 100, 512, on_path_lease},
    {"reach", &wavry__bus__stun_servers__descriptor, WV_PHASE_ANY, 20, 256, on_stun_servers},
    {"input", &wavry__bus__input_done__descriptor, WV_PHASE_ANY, 8000, 64, on_input_done},
    {"capture", &wavry__bus__cursor_moved__descriptor, WV_PHASE_ANY, 2000, 64, on_cursor_moved},
    {"capture", &wavry__bus__cursor_shape__descriptor, WV_PHASE_ANY, 200, 70000, on_cursor_shape},
};

static void arm_timer(struct wv_transport *t, uint64_t now);

/* ---- datagrams in ---- */

/* Returns whether it changed anything. */
static bool receive_data(struct wv_transport *t, const struct wv_address *from, enum rift_ecn ecn,
                         const uint8_t *datagram, size_t len, uint64_t now)
{
    uint32_t id;
    if (rift_datagram_receiver(datagram, len, &id) < 0) {
        wv_metric_add(t->metrics, WV_T_DROPPED_MALFORMED, 1);
        return false;
    }
    struct session *s = session_find(t, id);
    if (!s) {
        wv_metric_add(t->metrics, WV_T_DROPPED_UNKNOWN, 1);
        return false;
    }
    /* What it drops it counts. */
    if (rift_session_receive_from(s->rift, from->bytes, ecn, datagram, len, now) != 0)
        return false;
    rift_quiet_heard(&s->quiet, now);
    return true;
}

bool transport_take(struct wv_transport *t, const struct wv_address *from, enum rift_ecn ecn,
                    const uint8_t *datagram, size_t len, uint64_t now)
{
    switch (rift_datagram_kind(datagram, len)) {
    case RIFT_DATAGRAM_DATA:
        return receive_data(t, from, ecn, datagram, len, now);
    case RIFT_DATAGRAM_INIT:
    case RIFT_DATAGRAM_FINISH:
        return handshake_receive(t, from, datagram, len, now);
    default:
        return paths_receive(t, from, ecn, datagram, len, now);
    }
}

static void on_datagram(void *userdata, const struct wv_address *from, enum rift_ecn ecn,
                        const uint8_t *datagram, size_t len, uint64_t now)
{
    struct wv_transport *t = userdata;
    t->came = true;
    if (rift_punch_is_relayed(
            from->bytes)) /* no datagram comes from there: somebody tries the name of a way */
        wv_metric_add(t->metrics, WV_T_DROPPED_RELAY, 1);
    else
        t->stirred |= transport_take(t, from, ecn, datagram, len, now);
}

static void watch_socket(struct wv_transport *t)
{
    if (t->udp_source)
        wv_loop_modify_fd(t->udp_source, (t->resting ? 0 : EPOLLIN) | (t->waits_writable ? EPOLLOUT : 0));
}

/* In a flood every datagram would be a wake-up. What brought nothing but junk is not woken by for a while:
 * then dozens are dealt with at once. A peer's datagram waits so long at most, and only in a flood. */
static void rest(struct wv_transport *t, bool resting, uint64_t now)
{
    wv_loop_timer_at(t->junk_timer, resting ? now + JUNK_NS : 0);
    if (resting == t->resting)
        return;
    t->resting = resting;
    watch_socket(t);
}

static int on_udp(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_transport *t = userdata;
    t->stirred = events != EPOLLIN;
    t->came = false;
    /* What is left over wakes the loop again: the socket is watched by level. */
    int r = wv_udp_receive(t->udp, on_datagram, t, now);
    if (r < 0) {
        wv_error("the UDP socket is of no use", "error=\"%s\"", strerror(-r));
        return r;
    }
    rest(t, t->came && !t->stirred && r == 0, now);
    if (t->stirred)
        transport_pump(t, now);
    else if (t->count_at == NEVER) { /* a flood of junk must not buy a turn of everything per wake-up */
        t->count_at = now + COUNT_NS;
        arm_timer(t, now);
    }
    return 0;
}

static int on_rested(void *userdata, uint64_t now)
{
    return on_udp(userdata, EPOLLIN, now);
}

/* ---- events of the sessions ---- */

static void on_closed(struct wv_transport *t, struct session *s, const struct rift_event *e, uint64_t now)
{
    if (s->closing)
        return; /* we closed it */
    if (e->closed.reason == RIFT_CLOSE_TIMEOUT)
        wv_metric_add(t->metrics, WV_T_SESSIONS_TIMED_OUT, 1);
    wv_notice("session ended", "session=%u name=\"%s\" reason=%d text=\"%s\"", s->number, s->name,
              (int)e->closed.reason, e->closed.text);
    session_end(t, s, now);
}

static void take_events(struct wv_transport *t, struct session *s, uint64_t now)
{
    struct rift_event e;
    while (s->rift && rift_session_next_event(s->rift, &e) == 0) {
        switch (e.kind) {
        case RIFT_EVENT_INPUT:
            input_take(t, s, &e, now);
            break;
        case RIFT_EVENT_CONTROL:
            if (!s->closing)
                control_take(t, s, e.control.data, e.control.len, now);
            break;
        case RIFT_EVENT_KEYFRAME_REQUEST:
            media_keyframe(t, s, now);
            break;
        case RIFT_EVENT_CLOSED:
            on_closed(t, s, &e, now);
            break;
        default:
            break; /* a client's event */
        }
    }
}

/* ---- what is due ---- */

static void tick(struct wv_transport *t, uint64_t now)
{
    uint64_t bytes = wv_metric_value(t->metrics, WV_T_BYTES_SENT), passed = now - t->last_tick;
    wv_udp_count(t->udp);
    if (t->last_tick && passed)
        wv_metric_set(t->metrics, WV_T_BITRATE,
                      (uint64_t)((double)(bytes - t->bytes_at_tick) * 8e9 / (double)passed));
    t->bytes_at_tick = bytes;
    t->last_tick = now;
    media_judge(t, now);
    rate_publish(t);
    sessions_publish(t);
    t->next_tick = t->n_live ? now + TICK_NS : NEVER;
    if (!t->n_live) {
        wv_metric_set(t->metrics, WV_T_BITRATE, 0);
        t->last_tick = 0;
    }
}

static void send_due(struct wv_transport *t, struct session *s, uint64_t now)
{
    uint8_t *slot;
    struct rift_outgoing out;
    struct wv_address to;
    while ((slot = wv_udp_slot(t->udp)) &&
           rift_session_send_to(s->rift, slot, RIFT_MTU_MAX_BYTES, now, &out) == 0) {
        memcpy(to.bytes, out.address, sizeof to.bytes);
        paths_commit(t, &to, out.len, wv_udp_tos(out.traffic_class, out.ecn));
        if (out.traffic_class == RIFT_CLASS_MEDIA)
            rift_quiet_sent(&s->quiet, now);
        if (out.planned_ns && !t->planned_ns)
            t->planned_ns = out.planned_ns;
    }
}

/* What the client is told must be kept first; and what sending brings up may have to be kept before more is
 * sent. */
static void send_session(struct wv_transport *t, struct session *s, uint64_t now)
{
    keep_write(t, s, now);
    send_due(t, s, now);
    for (int round = 1; round < KEEP_ROUNDS && keep_write(t, s, now); round++)
        send_due(t, s, now);
}

static void send_all(struct wv_transport *t, uint64_t now)
{
    uint64_t before = wv_now_ns();
    for (size_t i = 0; i < t->top; i++) {
        if (!t->slots[i].rift)
            continue;
        control_pump(t, &t->slots[i], now);
        send_session(t, &t->slots[i], now);
    }
    handshake_send(t, now);
    silence_pump(t, now);
    paths_pump(t, now);
    int r = wv_udp_flush(t->udp);
    if (r < 0) {
        wv_error("the UDP socket is of no use", "error=\"%s\"", strerror(-r));
        wv_loop_quit(t->setup.loop, r);
        return;
    }
    uint64_t after = wv_now_ns();
    media_time_frames(t, before, after);
    if (t->planned_ns)
        wv_metric_record(t->metrics, WV_T_PACING_ERROR_US,
                         (after > t->planned_ns ? after - t->planned_ns : t->planned_ns - after) /
                             WV_NS_PER_US);
    t->planned_ns = 0;
    bool blocked = r == WV_UDP_BLOCKED;
    if (blocked != t->waits_writable) {
        t->waits_writable = blocked;
        watch_socket(t);
    }
}

static void arm_timer(struct wv_transport *t, uint64_t now)
{
    uint64_t at = WV_MIN(t->next_tick, media_timeout(t));
    at = WV_MIN(at, t->keep_at);
    at = WV_MIN(at, t->count_at);
    at = WV_MIN(at, identity_timeout(t));
    at = WV_MIN(at, inner_timeout(t));
    at = WV_MIN(at, silence_timeout(t));
    if (!t->waits_writable)
        at = WV_MIN(at, paths_timeout(t));
    at = WV_MIN(at, wv_relay_timeout(t->relay));
    for (size_t i = 0; i < t->top; i++) {
        const struct session *s = &t->slots[i];
        if (!s->rift)
            continue;
        if (s->closing)
            at = WV_MIN(at, s->goodbye_until);
        else if (s->restricted)
            at = WV_MIN(at, s->restricted_until);
        if (s->control_retry_at)
            at = WV_MIN(at, s->control_retry_at);
        /* With a full socket, EPOLLOUT comes first. */
        if (!t->waits_writable)
            at = WV_MIN(at, rift_session_timeout(s->rift));
    }
    if (at == NEVER)
        wv_loop_timer_at(t->timer, 0);
    else
        wv_loop_timer_about(t->timer, WV_MAX(at, now + FLOOR_NS), SLACK_NS);
}

static void all_events(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->top; i++)
        if (t->slots[i].rift)
            take_events(t, &t->slots[i], now);
}

static void count_all(struct wv_transport *t)
{
    for (size_t i = 0; i < t->top; i++)
        if (t->slots[i].rift)
            session_count(t, &t->slots[i]);
    handshake_count(t);
    input_count(t);
}

/* Whether somebody must still be told that this process ends. */
static bool has_sessions(const struct wv_transport *t)
{
    for (size_t i = 0; i < t->top; i++)
        if (t->slots[i].rift && !(t->handing_over && t->slots[i].keep))
            return true;
    return false;
}

static void finish(struct wv_transport *t, uint64_t now)
{
    void (*drained)(void *) = t->setup.drained;
    if (t->handing_over)
        keep_write_all(t, now);
    if (t->vault)
        wv_session_vault_leave(t->vault);
    t->setup.drained = NULL;
    drained(t->setup.userdata);
}

void transport_pump(struct wv_transport *t, uint64_t now)
{
    all_events(t, now);
    input_pump(t, now);
    media_pump(t, now);
    inner_pump(t, now);
    send_all(t, now);
    rate_pump(t, now);  /* what has left makes room for the next picture */
    all_events(t, now); /* sending is where a session notices that its client is gone */
    sessions_reap(t, now);
    count_all(t);
    t->count_at = NEVER;
    if (now >= t->next_tick)
        tick(t, now);
    identity_pump(t, now);
    if (now >= t->keep_at)
        t->keep_at = wv_session_vault_live(t->vault, now);
    arm_timer(t, now);
    if ((t->draining || t->handing_over) && !has_sessions(t) && t->setup.drained)
        finish(t, now);
}

static int on_timer(void *userdata, uint64_t now)
{
    struct wv_transport *t = userdata;
    if (t->media.more)
        return media_on_au(t, now);
    transport_pump(t, now);
    return 0;
}

/* ---- beginning and end ---- */

static int open_parts(struct wv_transport *t, const char **ret_why)
{
    const struct wv_transport_setup *s = &t->setup;
    *ret_why = "the UDP socket";
    int r = wv_udp_new(&t->udp, s->udp_fd, s->metrics);
    if (r < 0)
        return r;
    *ret_why = "a filter for the UDP socket";
    r = wv_udp_filter_attach(s->udp_fd);
    if (r < 0)
        return r;
    *ret_why = "the access-unit ring";
    r = wv_au_consumer_new(&t->media.ring, s->au_entries_fd, s->au_reader_fd);
    if (r < 0)
        return r;
    *ret_why = "the session page";
    r = s->session_page_fd < 0 ? 0 : wv_session_page_map(&t->page, s->session_page_fd, true);
    if (r < 0)
        return r;
    *ret_why = "the session vault";
    r = keep_open(t, wv_now_ns());
    if (r < 0)
        return r;
    *ret_why = "memory";
    r = wv_relay_new(&t->relay);
    if (r == 0)
        r = handshake_init(t);
    t->scratch = malloc(RIFT_CONTROL_MAX_BYTES);
    return r < 0 ? r : t->scratch ? 0 : -ENOMEM;
}

int wv_transport_new(struct wv_transport **ret, const struct wv_transport_setup *setup, const char **ret_why)
{
    *ret_why = "libsodium";
    if (rift_crypto_init() < 0)
        return -EIO;
    *ret_why = "memory";
    struct wv_transport *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->setup = *setup;
    t->setup.max_sessions = WV_MIN(setup->max_sessions, (uint32_t)WV_TRANSPORT_MAX_SESSIONS);
    t->metrics = setup->metrics;
    t->next_tick = t->keep_at = t->count_at = NEVER;
    t->media.notice = "";
    rate_init(t);
    snprintf(t->host_name, sizeof t->host_name, "%s", setup->host_name);
    int r = open_parts(t, ret_why);
    if (r < 0) {
        wv_transport_free(t);
        return r;
    }
    *ret = t;
    return 0;
}

struct wv_transport *wv_transport_free(struct wv_transport *t)
{
    if (!t)
        return NULL;
    if (t->udp_source)
        wv_loop_remove(t->udp_source);
    if (t->au_source)
        wv_loop_remove(t->au_source);
    if (t->timer)
        wv_loop_remove(t->timer);
    if (t->junk_timer)
        wv_loop_remove(t->junk_timer);
    for (size_t i = 0; i < t->top; i++)
        if (t->slots[i].rift)
            rift_session_free(t->slots[i].rift);
    rift_responder_free(t->responder);
    wv_relay_free(t->relay);
    paths_free(t);
    wv_au_consumer_free(t->media.ring);
    if (t->page)
        wv_session_page_unmap(t->page);
    wv_session_vault_close(t->vault);
    wv_udp_free(t->udp);
    free(t->scratch);
    free(t);
    return NULL;
}

int wv_transport_start(struct wv_transport *t, const struct wv_transport_links *links)
{
    struct wv_loop *loop = t->setup.loop;
    t->links = *links;
    /* Of what lies in the ring, sessions of the process before have an unknown part: they go on with a
     * keyframe. What the page shows is of that process. */
    wv_au_skip_all(t->media.ring);
    t->page_used = WV_SESSIONS_MAX;
    t->next_tick = 0;
    int r = wv_loop_add_timer(loop, on_timer, t, &t->timer);
    if (r == 0)
        r = wv_loop_add_timer(loop, on_rested, t, &t->junk_timer);
    if (r == 0)
        r = wv_loop_add_fd(loop, t->setup.udp_fd, EPOLLIN, on_udp, t, &t->udp_source);
    if (r == 0)
        r = wv_loop_add_eventfd(loop, t->setup.au_event_fd, media_on_au, t, &t->au_source);
    if (r < 0)
        return r;
    uint64_t now = wv_now_ns();
    keep_restore(t, now);
    media_viewers_changed(t, now);
    if (t->n_live)
        control_want_shape(t, now);
    transport_pump(t, now);
    return 0;
}

void wv_transport_drain(struct wv_transport *t)
{
    uint64_t now = wv_now_ns();
    t->draining = true;
    for (size_t i = 0; i < t->top; i++)
        session_close(t, &t->slots[i], RIFT_CLOSE_SHUTDOWN, "the host is stopping", now);
    transport_pump(t, now);
}

void wv_transport_hand_over(struct wv_transport *t)
{
    uint64_t now = wv_now_ns();
    t->handing_over = true;
    for (size_t i = 0; i < t->top; i++)
        if (!t->slots[i].keep)
            session_close(t, &t->slots[i], RIFT_CLOSE_SHUTDOWN, "the host is starting again", now);
    transport_pump(t, now);
}
