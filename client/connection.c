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
#define BACKOFF_MAX_NS    (2 * WV_NS_PER_S)
#define HANDSHAKE_NS      (3 * WV_NS_PER_S)
#define HANDSHAKE_EACH_NS WV_NS_PER_S          /* when the name has several addresses */
#define QUIET_NS          (400 * WV_NS_PER_MS) /* more than a keepalive: look whether our address changed */
#define REBIND_NS         (750 * WV_NS_PER_MS) /* and take a new socket, for a NAT that forgot the old one */
#define ROAM_AGAIN_NS     (50 * WV_NS_PER_MS)  /* while there is no way to the host */
#define BATCHES_MAX       16                  /* datagram batches of one wake-up, before pictures are shown */
#define TIMER_SLACK_NS    (50 * WV_NS_PER_US) /* never spin on a timeout that has passed */

void client_set_state(struct wv_client *c, enum wv_client_state state, enum wv_client_reason reason,
                      const char *detail)
{
    if (c->pairs && !c->have_host_key && reason == WV_CLIENT_REASON_ABSENT)
        reason = WV_CLIENT_REASON_NO_CODE;
    if (c->pairs && reason == WV_CLIENT_REASON_UNAUTHORIZED)
        reason = WV_CLIENT_REASON_UNPAIRED;
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

static void drop_handshake(struct wv_client *c)
{
    c->initiator = rift_initiator_free(c->initiator);
    c->candidate = rift_session_free(c->candidate);
}

bool client_is_final(const struct wv_client *c)
{
    return c->state == WV_CLIENT_REFUSED || c->state == WV_CLIENT_CLOSED;
}

static void refuse(struct wv_client *c, enum wv_client_reason reason, const char *detail, uint64_t now)
{
    drop_handshake(c);
    client_drop_session(c, now);
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
    if (c->ways)
        wv_ways_failed(c->ways, now);
    size_t n = wv_link_n_addresses(c->link);
    if (n > 1 && c->attempts % n != 0) {
        c->attempt_at = now;
        return;
    }
    c->attempt_at = now + c->backoff_ns;
    c->backoff_ns = WV_MIN(c->backoff_ns * 2, BACKOFF_MAX_NS);
    fall_back(c, reason, detail);
}

static int on_socket(void *userdata, uint32_t events, uint64_t now);

/* ---- our own address ---- */

/* Takes a new socket when the old one's address is not ours any more; the session goes on from there. */
static void roam(struct wv_client *c, bool force, uint64_t now)
{
    int fd;
    c->roam_at = UINT64_MAX;
    if (c->ways) {
        c->roamed_ns = now;
        wv_ways_network_changed(c->ways, now);
        return;
    }
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
    /* The kernel tells of every route by itself. */
    c->roam_at = c->ways && c->roamed_ns ? WV_MAX(now, c->roamed_ns + ROAM_AGAIN_NS) : now;
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
    if (!c->session) {
        if (c->ways && now >= c->roam_at)
            roam(c, false, now);
        return;
    }
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
    int fd = c->ways ? wv_link_open_any(c->link) : wv_link_open_next(c->link);
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
    return rift_initiator_new(&c->initiator, c->identity.secret, c->have_host_key ? c->host_key : NULL,
                              c->initiator_id, hello, (size_t)len, now, limit);
}

static void start_attempt(struct wv_client *c, uint64_t now)
{
    size_t n = wv_link_n_addresses(c->link);
    if (c->ways) {
        int r = new_handshake(c, now);
        if (r < 0)
            attempt_failed(c, WV_CLIENT_REASON_NETWORK, strerror(-r), now);
        return;
    }
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

/* ---- the host ---- */

void client_on_closed(struct wv_client *c, const struct rift_event *event, uint64_t now)
{
    enum wv_client_reason reason = wv_reason_of_close(event->closed.reason);
    bool greeted = c->announced;
    /* By our own new session, whose FINISH the host has read before we heard it. */
    bool by_us = reason == WV_CLIENT_REASON_REPLACED && c->candidate;
    char detail[sizeof event->closed.text];
    memcpy(detail, event->closed.text, sizeof detail);
    detail[sizeof detail - 1] = '\0';
    client_drop_session(c, now);
    if (c->pairing.step != WV_PAIRING_NONE && !wv_reason_is_final(reason)) {
        client_end_pairing(c, WV_CLIENT_PAIR_LOST, 0, detail);
        return;
    }
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

/* The host has proven its key: the one that was expected, which the handshake sees to. */
static void take_response(struct wv_client *c, uint64_t now)
{
    struct rift_session_config config = {0};
    if (rift_initiator_finish(c->initiator, &config, c->candidate_secrets.host_key) != 0)
        return;
    config.pacing_bps = 100000000;
    config.pacing_burst_bytes = 64 * RIFT_MTU_BYTES;
    config.keepalive_ns = KEEPALIVE_NS;
    config.fps = 60; /* reports at the end of frames that come at this rate */
    c->candidate_id = config.local_id;
    int r = client_derive_secrets(c, &config);
    if (r == 0)
        r = rift_session_new(&c->candidate, &config, now);
    explicit_bzero(&config, sizeof config);
    if (r < 0)
        attempt_failed(c, WV_CLIENT_REASON_NETWORK, strerror(-r), now);
}

static void take_answer(struct wv_client *c, const uint8_t *datagram, size_t len, uint64_t now)
{
    int r = rift_initiator_receive(c->initiator, datagram, len, now);
    if (r == RIFT_HANDSHAKE_WRONG_KEY)
        refuse(c, WV_CLIENT_REASON_HOST_KEY, "", now);
    else if (r == 0 && !c->candidate)
        take_response(c, now);
}

/* One of the protocol itself, whichever way it came. */
void client_take_datagram(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                          uint64_t now)
{
    switch (rift_datagram_kind(datagram, len)) {
    case RIFT_DATAGRAM_DATA:
        if (client_take_data(c, datagram, len, ecn, now) && c->ways)
            wv_ways_heard(c->ways, now);
        break;
    case RIFT_DATAGRAM_RESPONSE:
    case RIFT_DATAGRAM_COOKIE:
        if (c->initiator)
            take_answer(c, datagram, len, now);
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
    for (int batch = 0; batch < BATCHES_MAX && !client_is_final(c); batch++) {
        int n = wv_link_receive(c->link);
        now = wv_now_ns();
        if (n < 0) {
            path_error(c, n, now);
            break;
        }
        for (int i = 0; i < n && !client_is_final(c); i++) {
            size_t len;
            enum rift_ecn ecn;
            const uint8_t *datagram = wv_link_datagram(c->link, i, &len, &ecn);
            c->arrival_ns = wv_link_arrival(c->link, i);
            if (c->ways)
                wv_ways_take(c->ways, i, datagram, len, ecn, now);
            else
                client_take_datagram(c, datagram, len, ecn, now);
        }
        /* Acknowledgements leave before the pictures are decoded: that takes milliseconds. */
        client_pump(c, now);
        client_drain_events(c, now);
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
            client_announce(c, now);
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
            c->backoff_ns = CLIENT_BACKOFF_FIRST_NS;
            client_set_state(c, WV_CLIENT_CONNECTED, WV_CLIENT_REASON_NONE, "");
        }
    }
    bool need = !c->session || c->state == WV_CLIENT_LOST;
    if (need && !c->initiator && now >= c->attempt_at && (!c->ways || wv_ways_found(c->ways)))
        start_attempt(c, now);
}

static void arm_timer(struct wv_client *c, uint64_t now)
{
    uint64_t at = WV_MIN(c->second_at, client_secrets_timeout(c));
    bool may_try = !c->ways || wv_ways_found(c->ways);
    if (c->ways) {
        at = WV_MIN(at, wv_ways_timeout(c->ways));
        at = WV_MIN(at, c->roam_at);
    }
    if (c->initiator)
        at = WV_MIN(at, rift_initiator_timeout(c->initiator));
    else if (may_try && (!c->session || c->state == WV_CLIENT_LOST))
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
        else if (r == RIFT_HANDSHAKE_WRONG_KEY)
            refuse(c, WV_CLIENT_REASON_HOST_KEY, "", now);
        else
            attempt_failed(c, WV_CLIENT_REASON_ABSENT, "", now);
    }
}

void client_pump(struct wv_client *c, uint64_t now)
{
    if (client_is_final(c))
        return;
    if (c->ways)
        wv_ways_pump(c->ways, now);
    send_handshake(c, now);
    if (c->candidate)
        client_send_session(c, c->candidate, now);
    if (c->session)
        client_send_session(c, c->session, now);
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
    if (client_is_final(c)) {
        wv_loop_timer_at(c->timer, 0);
        return false;
    }
    now = wv_now_ns();
    check_roaming(c, now);
    check_clock(c, now);
    client_check_secrets(c, now);
    client_pump(c, now);
    client_drain_events(c, now); /* the session's own timeout speaks here */
    client_show_newest(c);
    if (client_is_final(c))
        return false;
    if (now >= c->second_at)
        client_second(c, now);
    arm_timer(c, now);
    return false;
}

int client_connection_start(struct wv_client *c)
{
    uint64_t now = wv_now_ns();
    c->backoff_ns = CLIENT_BACKOFF_FIRST_NS;
    c->attempt_at = now;
    c->roam_at = UINT64_MAX;
    c->second_started = now;
    c->second_at = now + WV_NS_PER_S;
    int r = wv_loop_add_timer(c->loop, on_timer, c, &c->timer);
    if (r == 0)
        r = wv_loop_add_prepare(c->loop, on_prepare, c, &c->prepare);
    if (r == 0 && c->ways)
        r = open_socket(c);
    if (r >= 0)
        wv_loop_timer_at(c->timer, now); /* a loop that already runs must look at us */
    return WV_MIN(r, 0);
}

void client_connection_stop(struct wv_client *c)
{
    drop_handshake(c);
    client_drop_session(c, wv_now_ns());
    c->socket_source = wv_loop_remove(c->socket_source);
    c->watch_source = wv_loop_remove(c->watch_source);
    c->timer = wv_loop_remove(c->timer);
    c->prepare = wv_loop_remove(c->prepare);
}
