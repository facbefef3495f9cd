/* How a client's session comes, stays and goes: handshakes with back-off, the moment a session is heard, the
 * silence after which it counts as lost, and the datagrams of all of them on one socket. A lost session is
 * kept while a new handshake runs beside it; whichever is heard first wins. */
#include "client/client_private.h"
#include "client/control.h"
#include "client/reasons.h"

#include "lib/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define SILENCE_NS WV_NS_PER_S /* then the session counts as lost */
/* A host whose transport hangs is back with the same session once its watchdog (2 s) has acted: only then is
 * a new handshake the better try. */
#define PATIENCE_NS       (1500 * WV_NS_PER_MS)
#define KEEPALIVE_NS      (250 * WV_NS_PER_MS) /* makes a quiet host answer well within SILENCE_NS */
#define BACKOFF_FIRST_NS  (100 * WV_NS_PER_MS)
#define BACKOFF_MAX_NS    (2 * WV_NS_PER_S)
#define HANDSHAKE_NS      (3 * WV_NS_PER_S)
#define HANDSHAKE_EACH_NS WV_NS_PER_S          /* when the name has several addresses */
#define ANNOUNCE_NS       (500 * WV_NS_PER_MS) /* a session without a greeting counts as one after this */
#define QUIET_NS          (400 * WV_NS_PER_MS) /* more than a keepalive: look whether our address changed */
#define REBIND_NS         (750 * WV_NS_PER_MS) /* and take a new socket, for a NAT that forgot the old one */
#define ROAM_AGAIN_NS     (50 * WV_NS_PER_MS)  /* while there is no way to the host */
#define BATCHES_MAX       16                  /* datagram batches of one wake-up, before pictures are shown */
#define TIMER_SLACK_NS    (50 * WV_NS_PER_US) /* never spin on a timeout that has passed */

void client_set_state(struct wv_client *c, enum wv_client_state state, enum wv_client_reason reason,
                      const char *detail)
{
    if (c->state == state && c->reason == reason)
        return;
    c->state = state;
    c->reason = reason;
    if (!c->call.state)
        return;
    char text[WV_CLIENT_TEXT_BYTES], clean[128];
    wv_text_clean(detail, clean, sizeof clean);
    wv_reason_text(reason, c->where, c->own_key, clean, text);
    c->call.state(c->userdata, state, reason, text);
}

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

static void drop_session(struct wv_client *c, uint64_t now)
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

static void drop_handshake(struct wv_client *c)
{
    c->initiator = rift_initiator_free(c->initiator);
    c->candidate = rift_session_free(c->candidate);
}

static bool is_final(const struct wv_client *c)
{
    return c->state == WV_CLIENT_REFUSED || c->state == WV_CLIENT_CLOSED;
}

static void refuse(struct wv_client *c, enum wv_client_reason reason, const char *detail, uint64_t now)
{
    drop_handshake(c);
    drop_session(c, now);
    client_set_state(c, WV_CLIENT_REFUSED, reason, detail);
}

/* The state of a client that has no session to show for itself. */
static void fall_back(struct wv_client *c, enum wv_client_reason reason, const char *detail)
{
    if (c->session)
        client_set_state(c, WV_CLIENT_LOST, reason, detail);
    else
        client_set_state(c, c->connects ? WV_CLIENT_RECONNECTING : WV_CLIENT_CONNECTING, reason, detail);
}

/* A try has come to nothing: the next address at once, or the first one again after a pause. */
static void attempt_failed(struct wv_client *c, enum wv_client_reason reason, const char *detail,
                           uint64_t now)
{
    drop_handshake(c);
    if (c->session && c->state == WV_CLIENT_CONNECTED) { /* the old session came back meanwhile */
        c->attempt_at = UINT64_MAX;
        return;
    }
    c->reopen = true;
    size_t n = wv_link_n_addresses(c->link);
    if (n > 1 && c->attempts % n != 0) {
        c->attempt_at = now;
        return;
    }
    c->attempt_at = now + c->backoff_ns;
    c->backoff_ns = WV_MIN(c->backoff_ns * 2, BACKOFF_MAX_NS);
    fall_back(c, reason, detail);
}

/* A connected socket hears one address; what it is called is of no interest to the session. */
static const uint8_t host_address[RIFT_ADDRESS_BYTES] = {1};

static int on_socket(void *userdata, uint32_t events, uint64_t now);

/* ---- our own address ---- */

/* Takes a new socket when the old one's address is not ours any more; the session goes on from there. */
static void roam(struct wv_client *c, bool force, uint64_t now)
{
    int fd;
    c->roam_at = UINT64_MAX;
    if (!c->session || !c->socket_source)
        return;
    int r = wv_link_follow(c->link, force, &fd);
    if (r < 0)
        c->roam_at = now + ROAM_AGAIN_NS;
    if (r != WV_LINK_MOVED)
        return;
    c->socket_source = wv_loop_remove(c->socket_source);
    wv_link_drop_old(c->link);
    if (wv_loop_add_fd(c->loop, fd, EPOLLIN, on_socket, c, &c->socket_source) < 0) {
        c->reopen = true;
        return;
    }
    rift_session_path_changed(c->session, now);
}

static int on_network_changed(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_client *c = userdata;
    wv_link_watched(c->link);
    c->roam_at = now;
    return 0; /* the prepare hook does what is due */
}

/* Errors that may mean that this machine is elsewhere now. */
static bool is_of_our_own_network(int error)
{
    return error == -ENETUNREACH || error == -EHOSTUNREACH || error == -EADDRNOTAVAIL || error == -ENETDOWN ||
           error == -ENODEV || error == -EINVAL;
}

static void check_roaming(struct wv_client *c, uint64_t now)
{
    if (!c->session)
        return;
    uint64_t silent = now - WV_MIN(c->last_heard_ns, now);
    if (silent < QUIET_NS)
        c->rebound = false;
    if (now >= c->roam_at)
        roam(c, false, now);
    else if (silent >= REBIND_NS && !c->rebound && c->announced) {
        c->rebound = true;
        roam(c, true, now);
    }
}

static int open_socket(struct wv_client *c)
{
    c->socket_source = wv_loop_remove(c->socket_source);
    int fd = wv_link_open_next(c->link);
    if (fd < 0)
        return fd;
    c->reopen = false;
    /* Without it a change is noticed by errors and by silence. */
    if (!c->watch_source && wv_link_watch(c->link) >= 0)
        (void)wv_loop_add_fd(c->loop, wv_link_watch(c->link), EPOLLIN, on_network_changed, c,
                             &c->watch_source);
    return wv_loop_add_fd(c->loop, fd, EPOLLIN, on_socket, c, &c->socket_source);
}

static int new_handshake(struct wv_client *c, uint64_t now)
{
    uint8_t hello[RIFT_HANDSHAKE_PAYLOAD_MAX];
    char device[65] = "";
    if (gethostname(device, sizeof device - 1) < 0)
        device[0] = '\0';
    int len =
        wv_control_pack_hello(c->software, device, c->view_only, c->width, c->height, hello, sizeof hello);
    if (len < 0)
        return len;
    do {
        if (getrandom(&c->initiator_id, sizeof c->initiator_id, 0) != sizeof c->initiator_id)
            return -EIO;
    } while (c->initiator_id == 0 || (c->session && c->initiator_id == c->session_id));
    uint64_t limit = wv_link_n_addresses(c->link) > 1 ? HANDSHAKE_EACH_NS : HANDSHAKE_NS;
    /* Any key is taken here: only then can a changed one be shown to the person. It is compared before our
     * own identity leaves. */
    return rift_initiator_new(&c->initiator, c->identity.secret, NULL, c->initiator_id, hello, (size_t)len,
                              now, limit);
}

static void start_attempt(struct wv_client *c, uint64_t now)
{
    size_t n = wv_link_n_addresses(c->link);
    /* The resolver may block: ask it again only while nothing runs, once all its answers have failed. */
    if (n == 0 || (!c->session && c->attempts >= 2 * n)) {
        c->attempts = 0;
        if (wv_link_resolve(c->link) < 0 && wv_link_n_addresses(c->link) == 0) {
            attempt_failed(c, WV_CLIENT_REASON_NAME, "", now);
            return;
        }
    }
    c->attempts++;
    int r = c->reopen || !c->socket_source ? open_socket(c) : 0;
    if (r == 0)
        r = new_handshake(c, now);
    if (r < 0)
        attempt_failed(c, WV_CLIENT_REASON_NETWORK, strerror(-r), now);
}

/* ---- sessions ---- */

static void announce(struct wv_client *c, uint64_t now)
{
    if (c->announced)
        return;
    c->announced = true;
    c->connects++;
    c->backoff_ns = BACKOFF_FIRST_NS;
    c->connected_since = now;
    client_set_state(c, WV_CLIENT_CONNECTED, WV_CLIENT_REASON_NONE, "");
}

/* The host was heard on the new session: the old one, lost, is over. */
static void promote(struct wv_client *c, uint64_t now)
{
    drop_session(c, now);
    c->session = c->candidate;
    c->session_id = c->candidate_id;
    c->candidate = NULL;
    c->initiator = rift_initiator_free(c->initiator);
    c->announced = false;
    c->announce_at = now + ANNOUNCE_NS;
    c->keyframe_wanted = false;
}

static void on_closed(struct wv_client *c, const struct rift_event *event, uint64_t now)
{
    enum wv_client_reason reason = wv_reason_of_close(event->closed.reason);
    bool greeted = c->announced;
    /* By our own new session, whose FINISH the host has read before we heard it. */
    bool by_us = reason == WV_CLIENT_REASON_REPLACED && c->candidate;
    char detail[sizeof event->closed.text];
    memcpy(detail, event->closed.text, sizeof detail);
    detail[sizeof detail - 1] = '\0';
    drop_session(c, now);
    if ((wv_reason_is_final(reason) && !by_us) || (reason == WV_CLIENT_REASON_PROTOCOL && !greeted)) {
        refuse(c, reason, detail, now);
        return;
    }
    if (!c->initiator) {
        c->reopen = true;
        c->attempt_at = now + c->backoff_ns;
        c->backoff_ns = WV_MIN(c->backoff_ns * 2, BACKOFF_MAX_NS);
    }
    fall_back(c, reason, detail);
}

static void drain_events(struct wv_client *c, uint64_t now)
{
    struct rift_event event;
    while (c->session && !is_final(c) && rift_session_next_event(c->session, &event) == 0) {
        switch (event.kind) {
        case RIFT_EVENT_FRAME:
            announce(c, now);
            client_on_frame(c, &event);
            break;
        case RIFT_EVENT_CONTROL:
            announce(c, now);
            client_on_control(c, event.control.data, event.control.len);
            break;
        case RIFT_EVENT_CURSOR:
            if (c->call.cursor)
                c->call.cursor(c->userdata, &event.cursor);
            break;
        case RIFT_EVENT_CLOSED:
            on_closed(c, &event, now);
            break;
        case RIFT_EVENT_INPUT:
        case RIFT_EVENT_KEYFRAME_REQUEST:
            break;
        }
    }
}

static void take_host_key(struct wv_client *c, uint64_t now)
{
    struct rift_session_config config = {0};
    uint8_t key[32];
    if (rift_initiator_finish(c->initiator, &config, key) != 0)
        return;
    bool good = c->have_expected_key ? memcmp(key, c->expected_key, sizeof key) == 0
                                     : c->call.host_key && c->call.host_key(c->userdata, key);
    if (!good) {
        refuse(c, WV_CLIENT_REASON_HOST_KEY, "", now);
    } else {
        config.pacing_bps = 100000000;
        config.pacing_burst_bytes = 64 * RIFT_MTU_BYTES;
        config.keepalive_ns = KEEPALIVE_NS;
        config.fps = 60; /* reports at the end of frames that come at this rate */
        c->candidate_id = config.local_id;
        if (rift_session_new(&c->candidate, &config, now) < 0)
            attempt_failed(c, WV_CLIENT_REASON_NETWORK, strerror(ENOMEM), now);
    }
    explicit_bzero(&config, sizeof config);
}

static void take_data(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                      uint64_t now)
{
    uint32_t id;
    if (rift_datagram_receiver(datagram, len, &id) < 0)
        return;
    if (c->candidate && id == c->candidate_id) {
        rift_session_set_arrival(c->candidate, c->arrival_ns);
        if (rift_session_receive_from(c->candidate, host_address, ecn, datagram, len, now) != 0)
            return;
        promote(c, now);
    } else {
        if (!c->session || id != c->session_id)
            return;
        rift_session_set_arrival(c->session, c->arrival_ns);
        if (rift_session_receive_from(c->session, host_address, ecn, datagram, len, now) != 0)
            return;
    }
    c->last_heard_ns = now;
}

static void take_datagram(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                          uint64_t now)
{
    switch (rift_datagram_kind(datagram, len)) {
    case RIFT_DATAGRAM_DATA:
        take_data(c, datagram, len, ecn, now);
        break;
    case RIFT_DATAGRAM_RESPONSE:
    case RIFT_DATAGRAM_COOKIE:
        if (c->initiator && rift_initiator_receive(c->initiator, datagram, len, now) == 0 && !c->candidate)
            take_host_key(c, now);
        break;
    default:
        break;
    }
}

/* What the kernel said about the path: an ICMP answer, or no route. */
static void path_error(struct wv_client *c, int error, uint64_t now)
{
    bool refused = error == -ECONNREFUSED;
    enum wv_client_reason reason = refused ? WV_CLIENT_REASON_ABSENT : WV_CLIENT_REASON_NETWORK;
    const char *detail = refused ? "the port is closed" : strerror(-error);
    if (c->initiator) {
        attempt_failed(c, reason, detail, now);
    } else if (c->session && is_of_our_own_network(error)) {
        if (c->roam_at == UINT64_MAX)
            c->roam_at = now;
    } else if (c->session && c->state == WV_CLIENT_CONNECTED && refused) {
        /* The process that held the port is gone; nothing will be heard, so do not wait for the silence. */
        c->lost_ns = now;
        client_set_state(c, WV_CLIENT_LOST, reason, detail);
        c->attempt_at = now + c->backoff_ns;
        c->reopen = true;
    }
}

static int on_socket(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_client *c = userdata;
    for (int batch = 0; batch < BATCHES_MAX && !is_final(c); batch++) {
        int n = wv_link_receive(c->link);
        now = wv_now_ns();
        if (n < 0) {
            path_error(c, n, now);
            break;
        }
        for (int i = 0; i < n && !is_final(c); i++) {
            size_t len;
            enum rift_ecn ecn;
            const uint8_t *datagram = wv_link_datagram(c->link, i, &len, &ecn);
            c->arrival_ns = wv_link_arrival(c->link, i);
            take_datagram(c, datagram, len, ecn, now);
        }
        /* Acknowledgements leave before the pictures are decoded: that takes milliseconds. */
        client_pump(c, now);
        drain_events(c, now);
        if (n < WV_LINK_BATCH)
            break;
    }
    client_show_newest(c);
    return 0;
}

/* ---- time ---- */

static void check_clock(struct wv_client *c, uint64_t now)
{
    if (c->session) {
        if (!c->announced && now >= c->announce_at)
            announce(c, now);
        bool silent = now >= c->last_heard_ns + SILENCE_NS;
        if (c->announced && silent && c->state == WV_CLIENT_CONNECTED) {
            c->lost_ns = now;
            client_set_state(c, WV_CLIENT_LOST, WV_CLIENT_REASON_SILENT, "");
            c->attempt_at = now + PATIENCE_NS;
        } else if (c->announced && c->state == WV_CLIENT_LOST && c->last_heard_ns > c->lost_ns) {
            /* The old session speaks again. A handshake whose end has left us goes on: the host may put its
             * session in the place of this one. */
            if (!c->candidate)
                drop_handshake(c);
            c->attempt_at = UINT64_MAX;
            c->backoff_ns = BACKOFF_FIRST_NS;
            client_set_state(c, WV_CLIENT_CONNECTED, WV_CLIENT_REASON_NONE, "");
        }
    }
    bool need = !c->session || c->state == WV_CLIENT_LOST;
    if (need && !c->initiator && now >= c->attempt_at)
        start_attempt(c, now);
}

static void arm_timer(struct wv_client *c, uint64_t now)
{
    uint64_t at = c->second_at;
    if (c->initiator)
        at = WV_MIN(at, rift_initiator_timeout(c->initiator));
    else if (!c->session || c->state == WV_CLIENT_LOST)
        at = WV_MIN(at, c->attempt_at);
    if (c->candidate)
        at = WV_MIN(at, rift_session_timeout(c->candidate));
    if (c->session) {
        at = WV_MIN(at, c->roam_at);
        if (!c->rebound && c->announced)
            at = WV_MIN(at, c->last_heard_ns + REBIND_NS);
        at = WV_MIN(at, rift_session_timeout(c->session));
        if (!c->announced)
            at = WV_MIN(at, c->announce_at);
        else if (c->state == WV_CLIENT_CONNECTED)
            at = WV_MIN(at, c->last_heard_ns + SILENCE_NS);
    }
    wv_loop_timer_at(c->timer, WV_MAX(at, now + TIMER_SLACK_NS));
}

/* DSCP EF for input, CS0 for what can wait. */
static uint8_t tos_of(const struct rift_outgoing *out)
{
    return (uint8_t)((out->traffic_class == RIFT_CLASS_INPUT ? 46 << 2 : 0) | out->ecn);
}

static void send_session(struct wv_client *c, struct rift_session *s, uint64_t now)
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

static void send_handshake(struct wv_client *c, uint64_t now)
{
    while (c->initiator) {
        size_t capacity, len;
        uint8_t *room = wv_link_reserve(c->link, &capacity);
        int r = rift_initiator_send(c->initiator, room, capacity, now, &len);
        if (r == 0)
            wv_link_commit(c->link, len, 0);
        else if (r == RIFT_HANDSHAKE_PENDING)
            return;
        else
            attempt_failed(c, WV_CLIENT_REASON_ABSENT, "", now);
    }
}

void client_pump(struct wv_client *c, uint64_t now)
{
    if (is_final(c))
        return;
    send_handshake(c, now);
    if (c->candidate)
        send_session(c, c->candidate, now);
    if (c->session)
        send_session(c, c->session, now);
    int r = wv_link_flush(c->link);
    if (r < 0)
        path_error(c, r, now);
}

static int on_timer(void *userdata, uint64_t now)
{
    return 0; /* the prepare hook does what is due */
}

static bool on_prepare(void *userdata, uint64_t now)
{
    struct wv_client *c = userdata;
    if (is_final(c)) {
        wv_loop_timer_at(c->timer, 0);
        return false;
    }
    now = wv_now_ns();
    check_roaming(c, now);
    check_clock(c, now);
    client_pump(c, now);
    drain_events(c, now); /* the session's own timeout speaks here */
    client_show_newest(c);
    if (is_final(c))
        return false;
    if (now >= c->second_at)
        client_second(c, now);
    arm_timer(c, now);
    return false;
}

int client_connection_start(struct wv_client *c)
{
    uint64_t now = wv_now_ns();
    c->backoff_ns = BACKOFF_FIRST_NS;
    c->attempt_at = now;
    c->roam_at = UINT64_MAX;
    c->second_started = now;
    c->second_at = now + WV_NS_PER_S;
    int r = wv_loop_add_timer(c->loop, on_timer, c, &c->timer);
    if (r == 0)
        r = wv_loop_add_prepare(c->loop, on_prepare, c, &c->prepare);
    if (r == 0)
        wv_loop_timer_at(c->timer, now); /* a loop that already runs must look at us */
    return r;
}

void client_say_goodbye(struct wv_client *c, uint64_t now)
{
    if (!c->session)
        return;
    rift_session_close(c->session, RIFT_CLOSE_NORMAL, "", now);
    /* The session repeats its goodbye over some time; we are leaving, so all of it goes now. */
    for (int i = 0; i < 3; i++) {
        send_session(c, c->session, now);
        uint64_t next = rift_session_timeout(c->session);
        if (next == UINT64_MAX || next > now + WV_NS_PER_S)
            break;
        now = WV_MAX(now, next);
    }
    wv_link_flush(c->link);
}

void client_connection_stop(struct wv_client *c)
{
    drop_handshake(c);
    drop_session(c, wv_now_ns());
    c->socket_source = wv_loop_remove(c->socket_source);
    c->watch_source = wv_loop_remove(c->watch_source);
    c->timer = wv_loop_remove(c->timer);
    c->prepare = wv_loop_remove(c->prepare);
}
