/* A stage's side of the supervisor's socket. Losing the supervisor never stops a stage: it goes on with what
 * it was granted and knocks until somebody answers. */
#include "lib/stage/internal.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/message.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define JOIN_TIMEOUT_MS 5000
/* The supervisor makes a stage that keeps failing wait for up to 5 s. */
#define MANAGED_TIMEOUT_MS 8000
#define BEAT_MS            500
#define STANDBY_TRIES      100
#define ALONE_TIMEOUT_MS   1000
#define RECONNECT_NS       (100 * WV_NS_PER_MS)
#define ORPHAN_NS          (60 * WV_NS_PER_S) /* nobody will come back for us; nothing may be left behind */
#define REPLY_BYTES        32768

static int send_message(struct wv_stage *s, Wavry__Bus__StageMessage *m)
{
    return s->connection < 0 ? -ENOTCONN : wv_message_send(s->connection, &m->base, NULL, 0);
}

static int say_hello(struct wv_stage *s)
{
    Wavry__Bus__StageHello hello = WAVRY__BUS__STAGE_HELLO__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    hello.stage = (char *)s->definition->name;
    hello.protocol = WV_STAGE_PROTOCOL;
    hello.resuming = s->granted;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO;
    m.hello = &hello;
    return send_message(s, &m);
}

void wv_stage_say_ready(struct wv_stage *s)
{
    Wavry__Bus__StageReady ready = WAVRY__BUS__STAGE_READY__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_READY;
    m.ready = &ready;
    (void)send_message(s, &m); /* a broken connection shows itself in the loop, and ready is said again */
}

void wv_stage_say_failed(struct wv_stage *s, const char *reason, int exit_code)
{
    Wavry__Bus__StageFailed failed = WAVRY__BUS__STAGE_FAILED__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    failed.reason = (char *)reason;
    failed.exit_code = exit_code;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_FAILED;
    m.failed = &failed;
    (void)send_message(s, &m);
}

void wv_stage_say_leaving(struct wv_stage *s)
{
    Wavry__Bus__StageStop stop = WAVRY__BUS__STAGE_STOP__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_STOP;
    m.stop = &stop;
    (void)send_message(s, &m);
}

bool wv_stage_is_managed(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

static int patience_ms(void)
{
    return wv_stage_is_managed() ? MANAGED_TIMEOUT_MS : JOIN_TIMEOUT_MS;
}

/* Unblocked, they end the process as if it had no loop. */
static void mask_stop_signals(int how)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGHUP);
    (void)sigprocmask(how, &stop, NULL);
}

void wv_stage_linger(struct wv_stage *s)
{
    if (!wv_stage_is_managed())
        return;
    mask_stop_signals(SIG_UNBLOCK);
    /* Nothing comes any more but the end. */
    struct pollfd p = {.fd = s->connection, .events = POLLRDHUP};
    (void)poll(&p, 1, s->connection < 0 ? ALONE_TIMEOUT_MS : MANAGED_TIMEOUT_MS);
}

static void free_message(Wavry__Bus__StageMessage *m)
{
    protobuf_c_message_free_unpacked(&m->base, NULL);
}

static int receive(struct wv_stage *s, Wavry__Bus__StageMessage **ret, int fds[WV_FDPASS_MAX_FDS],
                   size_t *ret_n)
{
    ProtobufCMessage *m = NULL;
    int r = wv_message_receive(s->connection, &wavry__bus__stage_message__descriptor, &m, fds, ret_n);
    if (r == 0)
        *ret = (Wavry__Bus__StageMessage *)m;
    return r;
}

/* A spare that has said it is ready is watched, also while it looks for the next supervisor. */
static void beat(void)
{
    sd_notify(0, "WATCHDOG=1");
}

static int receive_until(struct wv_stage *s, Wavry__Bus__StageMessage **ret, int fds[WV_FDPASS_MAX_FDS],
                         size_t *ret_n)
{
    for (int waited = 0; waited < patience_ms(); waited += BEAT_MS) {
        struct pollfd p = {.fd = s->connection, .events = POLLIN};
        int n = poll(&p, 1, BEAT_MS);
        if (n < 0 && errno != EINTR)
            return -errno;
        int r = n <= 0 ? -EAGAIN : receive(s, ret, fds, ret_n);
        if (r != -EAGAIN)
            return r;
        beat();
    }
    return -ETIMEDOUT;
}

/* FDS belong to us from here on. */
static int take_grant(struct wv_stage *s, const Wavry__Bus__StageMessage *m, const int *fds, size_t n_fds)
{
    bool fits = m->kind_case == WAVRY__BUS__STAGE_MESSAGE__KIND_GRANT && m->grant->n_fd_names == n_fds;
    for (size_t i = 0; i < n_fds; i++) {
        if (!fits) {
            wv_close(fds[i]);
            continue;
        }
        struct wv_stage_fd *f = &s->fds[s->n_fds++];
        snprintf(f->name, sizeof f->name, "%s", m->grant->fd_names[i]);
        f->fd = fds[i];
    }
    return fits ? 0 : -EPROTO;
}

/* Many may knock at once; the kernel's queue of knocks is short, and a full one empties. */
static int connect_patiently(const char *path)
{
    int fd = wv_seqpacket_connect(path);
    bool comes =
        wv_stage_is_managed(); /* a supervisor that is just starting again will be there in a moment */
    for (int waited = 0; waited < patience_ms(); waited += 10) {
        if (fd != -EAGAIN && !(comes && (fd == -ENOENT || fd == -ECONNREFUSED)))
            break;
        if (waited % BEAT_MS == 0)
            beat();
        (void)poll(NULL, 0, 10);
        fd = wv_seqpacket_connect(path);
    }
    return fd;
}

/* Told to wait while another process of this stage works. For the service manager that is being ready; the
 * stage has nothing but this connection. SIGTERM ends it. Returns as receive() does. */
static int stand_by(struct wv_stage *s, Wavry__Bus__StageMessage **ret, int fds[WV_FDPASS_MAX_FDS],
                    size_t *ret_n)
{
    uint64_t watchdog_us = 0;
    int beat_ms = sd_watchdog_enabled(0, &watchdog_us) > 0 ? (int)(watchdog_us / 3000) : -1;
    mask_stop_signals(SIG_UNBLOCK);
    sd_notify(0, "READY=1\nSTATUS=standing by");
    wv_info("standing by", "pid=%d", (int)getpid());
    for (;;) {
        struct pollfd p = {.fd = s->connection, .events = POLLIN};
        int n = poll(&p, 1, beat_ms);
        if (n < 0 && errno != EINTR)
            return -errno;
        beat();
        int r = n <= 0 ? -EAGAIN : receive(s, ret, fds, ret_n);
        if (r != -EAGAIN)
            return r;
    }
}

/* One conversation, from hello to the grant. WV_MESSAGE_CLOSED after standing by (RET_STOOD_BY is set) means
 * no refusal: the supervisor starts again. */
static int ask_in(struct wv_stage *s, Wavry__Bus__StageMessage **ret, bool *ret_stood_by)
{
    int fds[WV_FDPASS_MAX_FDS], r = say_hello(s);
    size_t n_fds = 0;
    Wavry__Bus__StageMessage *m = NULL;
    if (r == 0)
        r = receive_until(s, &m, fds, &n_fds);
    if (r == 0 && m->kind_case == WAVRY__BUS__STAGE_MESSAGE__KIND_STANDBY && n_fds == 0) {
        free_message(m);
        m = NULL;
        *ret_stood_by = true;
        r = stand_by(s, &m, fds, &n_fds);
        mask_stop_signals(SIG_BLOCK);
    }
    if (r == 0)
        r = take_grant(s, m, fds, n_fds);
    if (r == 0)
        *ret = m;
    else if (m)
        free_message(m);
    return r == -EPIPE ? WV_MESSAGE_CLOSED : r;
}

int wv_stage_join(struct wv_stage *s, Wavry__Bus__StageGrant **ret_grant,
                  Wavry__Bus__StageMessage **ret_message)
{
    Wavry__Bus__StageMessage *m = NULL;
    bool stood_by = false;
    unsigned tries = 0;
    int r;
    do {
        if (tries > 0) /* a dying supervisor's socket may still take a knock */
            (void)poll(NULL, 0, RECONNECT_NS / WV_NS_PER_MS);
        s->connection = wv_close(s->connection);
        int fd = connect_patiently(s->supervisor_path);
        if (fd < 0) {
            wv_error("the supervisor's socket can't be reached", "path=%s error=\"%s\"", s->supervisor_path,
                     strerror(-fd));
            return fd;
        }
        s->connection = fd;
        bool waited = false;
        r = ask_in(s, &m, &waited);
        stood_by = stood_by || waited;
        tries = waited ? 1 : tries + 1;
    } while (r == WV_MESSAGE_CLOSED && stood_by && tries < STANDBY_TRIES);
    if (r != 0) {
        wv_error("the supervisor did not let this stage in", "path=%s error=\"%s\"", s->supervisor_path,
                 r == WV_MESSAGE_CLOSED ? "refused: not the process it started" : strerror(-r));
        if (r == WV_MESSAGE_CLOSED)
            s->connection = wv_close(s->connection);
        return r == WV_MESSAGE_CLOSED ? -EACCES : r;
    }
    s->granted = true;
    *ret_grant = m->grant;
    *ret_message = m;
    return 0;
}

/* Until the process ends: the next one begins with the level that it is started with. */
static int change_log_level(const char *text, char *ret_reply, size_t capacity)
{
    int level = wv_log_level_parse(text);
    if (level < 0) {
        snprintf(ret_reply, capacity,
                 "there is no level \"%.32s\"; there are error, warning, notice, info and debug", text);
        return level;
    }
    wv_log_set_level((enum wv_log_level)level);
    wv_notice("the log level was changed", "level=%s", text);
    snprintf(ret_reply, capacity, "logs from level %s on, until it starts again", text);
    return 0;
}

static void answer_request(struct wv_stage *s, const Wavry__Bus__StageRequest *request)
{
    wv_cleanup(wv_free_p) char *text = calloc(1, REPLY_BYTES);
    Wavry__Bus__StageReply reply = WAVRY__BUS__STAGE_REPLY__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    reply.id = request->id;
    if (!text)
        reply.error = -ENOMEM;
    else if (!strcmp(request->verb, "log-level"))
        reply.error = change_log_level(request->text, text, REPLY_BYTES);
    else if (!s->definition->request)
        reply.error = -EOPNOTSUPP;
    else
        reply.error = s->definition->request(s, s->context, request->verb, request->text, text, REPLY_BYTES);
    if (text)
        reply.text = text;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_REPLY;
    m.reply = &reply;
    (void)send_message(s, &m); /* when it is gone, so is the administrator's question */
}

static void handle(struct wv_stage *s, const Wavry__Bus__StageMessage *m)
{
    switch (m->kind_case) {
    case WAVRY__BUS__STAGE_MESSAGE__KIND_STOP:
        if (!s->draining)
            s->restarting = m->stop->restart;
        wv_stage_drain(s);
        break;
    case WAVRY__BUS__STAGE_MESSAGE__KIND_REQUEST:
        answer_request(s, m->request);
        break;
    case WAVRY__BUS__STAGE_MESSAGE__KIND_GRANT: /* after a reconnect: the same descriptors once more */
        if (s->ready)
            wv_stage_say_ready(s);
        break;
    default:
        wv_warning("message of the supervisor that no stage expects", "kind=%d", (int)m->kind_case);
    }
}

static void lose_connection(struct wv_stage *s, uint64_t now)
{
    s->connection_source = wv_loop_remove(s->connection_source);
    s->connection = wv_close(s->connection);
    if (!s->lost_ns) {
        s->lost_ns = now;
        wv_notice("the supervisor went away; going on without it", "path=%s", s->supervisor_path);
    }
    wv_loop_timer_at(s->reconnect_timer, now + RECONNECT_NS);
}

static int on_connection(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_stage *s = userdata;
    /* Bounded, so that a supervisor gone wrong can't keep the stage from its work. */
    for (unsigned i = 0; i < 8 && s->connection >= 0; i++) {
        Wavry__Bus__StageMessage *m = NULL;
        int fds[WV_FDPASS_MAX_FDS];
        size_t n_fds = 0;
        int r = receive(s, &m, fds, &n_fds);
        if (r == -EAGAIN)
            return 0;
        if (r != 0) {
            lose_connection(s, now);
            return 0;
        }
        for (size_t k = 0; k < n_fds; k++)
            wv_close(fds[k]); /* we have them since the first grant */
        handle(s, m);
        free_message(m);
    }
    return 0;
}

static int watch(struct wv_stage *s)
{
    return wv_loop_add_fd(s->loop, s->connection, EPOLLIN, on_connection, s, &s->connection_source);
}

static int on_reconnect(void *userdata, uint64_t now)
{
    struct wv_stage *s = userdata;
    if (s->connection >= 0)
        return 0;
    s->connection = wv_seqpacket_connect(s->supervisor_path);
    if (s->connection >= 0 && say_hello(s) == 0 && watch(s) == 0) {
        wv_notice("the supervisor is back", "away_ms=%llu",
                  (unsigned long long)((now - s->lost_ns) / WV_NS_PER_MS));
        s->lost_ns = 0;
        return 0;
    }
    s->connection = s->connection < 0 ? -1 : wv_close(s->connection);
    if (now - s->lost_ns > ORPHAN_NS && !s->draining) {
        wv_error("no supervisor for a minute; stopping", "path=%s", s->supervisor_path);
        wv_stage_drain(s);
    }
    wv_loop_timer_at(s->reconnect_timer, now + RECONNECT_NS);
    return 0;
}

int wv_stage_watch_supervisor(struct wv_stage *s)
{
    int r = wv_loop_add_timer(s->loop, on_reconnect, s, &s->reconnect_timer);
    return r < 0 ? r : watch(s);
}

void wv_stage_leave(struct wv_stage *s)
{
    if (s->connection_source)
        s->connection_source = wv_loop_remove(s->connection_source);
    s->connection = wv_close(s->connection);
    for (size_t i = 0; i < s->n_fds; i++)
        wv_close(s->fds[i].fd);
    s->n_fds = 0;
}
