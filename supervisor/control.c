/* control.sock: administrators ask here (wavryctl). Clients are bounded in number, never waited for, and
 * answered only when they are root or the supervisor's own user; one more user may look. */
#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/ipc/ring.h"
#include "lib/stage/message.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CLIENTS_MAX    16
#define RELAYS_MAX     16
#define RELAY_NS       (3 * WV_NS_PER_S)
#define RELAY_CHECK_NS (500 * WV_NS_PER_MS)
#define ARGUMENT_MAX   4096
#define OBSERVER       "wavry-metrics" /* the user who may look and order nothing, where there is one */
#define NO_SUCH_STAGE                                                                                        \
    "there is no stage \"%.64s\"; there are capture, encoder, transport, input, identity and supervisor"
#define STAGES_SHOWN (WV_WIRING_STAGES + 1) /* and the supervisor itself */

struct client {
    struct wv_supervisor *supervisor;
    int fd; /* -1: free */
    struct wv_loop_source *source;
    uint64_t number;
    bool observes; /* may look only */
};

/* A question that a stage is thinking about. */
struct relay {
    uint32_t id; /* 0: free */
    uint64_t client, deadline_ns;
    bool for_host_key; /* our own question */
};

struct wv_control {
    int listen_fd;
    uid_t observer; /* our own: none */
    struct client clients[CLIENTS_MAX];
    struct relay relays[RELAYS_MAX];
    struct wv_loop_source *timer;
    uint64_t last_client;
    uint32_t last_id;
};

struct answer {
    Wavry__Bus__ControlReply reply;
    Wavry__Bus__StageState states[STAGES_SHOWN], *pointers[STAGES_SHOWN];
    char status[STAGES_SHOWN][512];
    char text[512];
    int fds[WV_FDPASS_MAX_FDS];
    char *names[WV_FDPASS_MAX_FDS];
    size_t n_fds;
};

static void drop_client(struct client *c)
{
    if (c->fd < 0)
        return;
    c->source = wv_loop_remove(c->source);
    c->fd = wv_close(c->fd);
    c->number = 0;
}

static void send_reply(struct client *c, Wavry__Bus__ControlReply *reply, const int *fds, size_t n_fds)
{
    int r = wv_message_send(c->fd, &reply->base, fds, n_fds);
    if (r < 0)
        drop_client(c); /* it doesn't read: we don't wait */
}

static void say(struct answer *a, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void say(struct answer *a, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->text, sizeof a->text, format, args);
    va_end(args);
    a->reply.error = error;
    a->reply.text = a->text;
}

static void fill_state(struct wv_child *c, Wavry__Bus__StageState *state, char *status, size_t capacity)
{
    struct wv_supervisor *s = c->supervisor;
    struct wv_metrics_snapshot *page = s->snapshot;
    char item[64];
    snprintf(item, sizeof item, "metrics-%s", c->wiring->name);
    bool live = c->pid > 0 && wv_metrics_read(wv_vault_fd(&s->vault, item), page) == 0 &&
                page->pid == (int32_t)c->pid;
    if (!live && s->mode != WV_MODE_STANDALONE)
        wv_managed_describe(c, status, capacity);
    else
        snprintf(status, capacity, "%s", c->reason[0] ? c->reason : live ? page->status : "");
    state->name = (char *)c->wiring->name;
    state->state = (char *)wv_child_state_name(c);
    state->pid = (int32_t)c->pid;
    state->restarts = (uint32_t)wv_metric_value(s->metrics, WV_SUP_RESTARTS + (unsigned)c->index);
    state->since_ns = c->since_ns;
    state->retry_at_ns = c->state == WV_STATE_BACKING_OFF ? c->retry_at_ns : 0;
    state->last_exit = c->last_exit;
    state->status = status;
    state->confinement = c->confinement;
}

static void answer_status(struct wv_supervisor *s, struct answer *a)
{
    for (size_t i = 0; i < STAGES_SHOWN; i++) {
        a->states[i] = (Wavry__Bus__StageState)WAVRY__BUS__STAGE_STATE__INIT;
        a->pointers[i] = &a->states[i];
        if (i < WV_WIRING_STAGES)
            fill_state(&s->children[i], &a->states[i], a->status[i], sizeof a->status[i]);
    }
    Wavry__Bus__StageState *own = &a->states[WV_WIRING_STAGES];
    own->name = (char *)"supervisor";
    own->state = (char *)(s->stopping ? "stopped" : "ready");
    own->pid = (int32_t)getpid();
    own->since_ns = s->started_ns;
    own->confinement = (char *)(s->mode != WV_MODE_STANDALONE ? "unit wavry-supervisor.service"
                                : getuid() == 0               ? "root: starts stages under their own users"
                                                              : "this user");
    if (wv_metrics_read(wv_vault_fd(&s->vault, "metrics-supervisor"), s->snapshot) == 0)
        own->restarts = s->snapshot->restarts;
    a->reply.stages = a->pointers;
    a->reply.n_stages = STAGES_SHOWN;
}

static void add_page(struct answer *a, const struct wv_supervisor *s, const char *item, const char *name)
{
    int fd = wv_vault_fd(&s->vault, item);
    fd = fd < 0 ? fd : wv_memfd_reopen_read_only(fd);
    if (fd < 0 || a->n_fds == WV_FDPASS_MAX_FDS) {
        wv_close(fd);
        return;
    }
    a->names[a->n_fds] = (char *)name;
    a->fds[a->n_fds++] = fd;
}

/* Metrics pages under the names of their stages, and "session-page". */
static void answer_pages(struct wv_supervisor *s, struct answer *a)
{
    answer_status(s, a);
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        char item[64];
        snprintf(item, sizeof item, "metrics-%s", wv_wiring_stages[i].name);
        add_page(a, s, item, wv_wiring_stages[i].name);
    }
    add_page(a, s, "metrics-supervisor", "supervisor");
    add_page(a, s, "session-page", "session-page");
    a->reply.fd_names = a->names;
    a->reply.n_fd_names = a->n_fds;
}

static void answer_restart(struct wv_supervisor *s, struct answer *a, const char *name, uint64_t now)
{
    int i = wv_wiring_find(name);
    if (s->stopping) {
        say(a, -ESHUTDOWN, "the host is stopping");
    } else if (!strcmp(name, "supervisor")) {
        say(a, 0, "the supervisor starts again; stages go on untouched");
        wv_loop_quit(s->loop, WV_SUPERVISOR_AGAIN);
    } else if (i < 0) {
        say(a, -ENOENT, NO_SUCH_STAGE, name);
    } else if (s->mode == WV_MODE_STANDALONE) {
        wv_child_stop(&s->children[i], true, now);
        say(a, 0, "%s restarts", name);
    } else {
        int r = wv_managed_restart(&s->children[i], now);
        if (r < 0)
            say(a, r, "%s can't be told to restart (%s): systemctl %srestart wavry-%s does it", name,
                strerror(-r), s->mode == WV_MODE_PERSON ? "--user " : "", name);
        else
            say(a, 0, "%s restarts", name);
    }
}

static struct client *client_by_number(struct wv_control *control, uint64_t number)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (control->clients[i].fd >= 0 && control->clients[i].number == number)
            return &control->clients[i];
    return NULL;
}

/* Returns 0 (the stage answers, or on_relay_timer does) or a negative errno. */
static int relay(struct wv_supervisor *s, const char *stage, const char *verb, const char *text,
                 uint64_t client, bool for_host_key, uint64_t now)
{
    struct wv_control *control = s->control;
    for (size_t i = 0; i < RELAYS_MAX; i++) {
        struct relay *r = &control->relays[i];
        if (r->id)
            continue;
        if (++control->last_id == 0)
            control->last_id = 1;
        int error = wv_door_request(&s->children[wv_wiring_find(stage)], control->last_id, verb, text);
        if (error < 0)
            return error;
        *r = (struct relay){control->last_id, client, now + RELAY_NS, for_host_key};
        wv_loop_timer_at(control->timer, now + RELAY_CHECK_NS);
        return 0;
    }
    return -EBUSY;
}

static void finish_relay(struct wv_supervisor *s, struct relay *r, int error, const char *text)
{
    struct client *c = client_by_number(s->control, r->client);
    bool for_host_key = r->for_host_key;
    r->id = 0;
    if (for_host_key) {
        if (error == 0)
            snprintf(s->host_key, sizeof s->host_key, "%s", text);
        else
            s->key_asked_in_vain = true;
        s->key_asked = false;
        wv_supervisor_changed(s);
        return;
    }
    if (!c)
        return; /* it didn't wait for the answer */
    Wavry__Bus__ControlReply reply = WAVRY__BUS__CONTROL_REPLY__INIT;
    reply.error = error;
    reply.text = (char *)text;
    reply.version = (char *)WAVRY_VERSION; /* never an empty message, also when the answer is empty */
    send_reply(c, &reply, NULL, 0);
}

void wv_control_reply(struct wv_supervisor *s, const Wavry__Bus__StageReply *reply)
{
    for (size_t i = 0; i < RELAYS_MAX; i++)
        if (reply->id && s->control->relays[i].id == reply->id) {
            finish_relay(s, &s->control->relays[i], WV_MIN(reply->error, 0), reply->text);
            return;
        }
}

void wv_control_ask_key(struct wv_supervisor *s, uint64_t now)
{
    if (s->host_key[0] || s->key_asked || s->key_asked_in_vain)
        return;
    s->key_asked = relay(s, "identity", "key", "", 0, true, now) == 0;
    s->key_asked_in_vain = !s->key_asked;
}

/* Returns whether the answer is to be sent now: else the stage gives it. */
static bool ask_stage(struct client *c, const char *stage, const char *verb, const char *text,
                      struct answer *a, uint64_t now)
{
    int r = relay(c->supervisor, stage, verb, text, c->number, false, now);
    if (r == -EBUSY)
        say(a, r, "too many questions at once; ask again");
    else if (r < 0)
        say(a, r, "the %s stage is not running; see wavryctl status", stage);
    return r < 0;
}

/* ARGUMENT is "STAGE LEVEL". */
static bool answer_log_level(struct client *c, const char *argument, struct answer *a, uint64_t now)
{
    char stage[32];
    const char *space = strchr(argument, ' '), *level = space ? space + 1 : "";
    snprintf(stage, sizeof stage, "%.*s", (int)WV_MIN(strcspn(argument, " "), sizeof stage - 1), argument);
    int value = wv_log_level_parse(level);
    if (strcmp(stage, "supervisor") && wv_wiring_find(stage) < 0) {
        say(a, -ENOENT, NO_SUCH_STAGE, stage);
    } else if (value < 0) {
        say(a, -EINVAL, "there is no level \"%.32s\"; there are error, warning, notice, info and debug",
            level);
    } else if (strcmp(stage, "supervisor")) {
        return ask_stage(c, stage, "log-level", level, a, now);
    } else {
        wv_log_set_level((enum wv_log_level)value);
        wv_notice("the log level was changed", "level=%s", level);
        say(a, 0, "logs from level %s on, until it starts again", level);
    }
    return true;
}

static bool is_for_identity(const char *verb)
{
    static const char *const verbs[] = {"authorize",   "grant",   "revoke",      "peers",
                                        "control",     "pair",    "pair-status", "pair-cancel",
                                        "pair-reopen", "gateway", "gateway-set", "gateway-sign"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(verbs); i++)
        if (!strcmp(verb, verbs[i]))
            return true;
    return false;
}

/* Returns whether the answer is to be sent now. */
static bool answer(struct client *c, const Wavry__Bus__ControlRequest *request, struct answer *a,
                   uint64_t now)
{
    struct wv_supervisor *s = c->supervisor;
    const char *verb = request->verb;
    if (strlen(request->argument) > ARGUMENT_MAX) {
        say(a, -EMSGSIZE, "the argument is longer than %u bytes", ARGUMENT_MAX);
    } else if (c->observes && strcmp(verb, "status") && strcmp(verb, "pages")) {
        say(a, -EPERM, "the user " OBSERVER " may look at this host and direct nothing");
    } else if (!strcmp(verb, "status")) {
        answer_status(s, a);
    } else if (!strcmp(verb, "pages")) {
        answer_pages(s, a);
    } else if (!strcmp(verb, "restart")) {
        answer_restart(s, a, request->argument, now);
    } else if (!strcmp(verb, "stop") && s->mode != WV_MODE_STANDALONE) {
        say(a, -EPERM, "systemd runs this host: systemctl %sstop wavry-host.target",
            s->mode == WV_MODE_PERSON ? "--user " : "");
    } else if (!strcmp(verb, "stop")) {
        say(a, 0, "the host stops");
        wv_supervisor_stop(s);
    } else if (is_for_identity(verb)) {
        return ask_stage(c, "identity", verb, request->argument, a, now);
    } else if (!strcmp(verb, "log-level")) {
        return answer_log_level(c, request->argument, a, now);
    } else {
        say(a, -EOPNOTSUPP, "unknown verb \"%.64s\"", verb);
    }
    return true;
}

static void serve(struct client *c, const Wavry__Bus__ControlRequest *request, uint64_t now)
{
    struct wv_supervisor *s = c->supervisor;
    struct answer *a = calloc(1, sizeof *a);
    if (!a) {
        drop_client(c);
        return;
    }
    a->reply = (Wavry__Bus__ControlReply)WAVRY__BUS__CONTROL_REPLY__INIT;
    a->reply.version = (char *)WAVRY_VERSION;
    a->reply.started_ns = s->started_ns;
    a->reply.host_key = s->host_key;
    a->reply.address = s->vault.address;
    wv_metric_add(s->metrics, WV_SUP_REQUESTS, 1);
    if (answer(c, request, a, now))
        send_reply(c, &a->reply, a->fds, a->n_fds);
    for (size_t i = 0; i < a->n_fds; i++)
        wv_close(a->fds[i]);
    free(a);
}

/* One request a turn, so that a client that floods doesn't keep the watch from its work. */
static int on_client(void *userdata, uint32_t events, uint64_t now)
{
    struct client *c = userdata;
    ProtobufCMessage *m = NULL;
    int fds[WV_FDPASS_MAX_FDS];
    size_t n_fds = 0;
    int r = wv_message_receive(c->fd, &wavry__bus__control_request__descriptor, &m, fds, &n_fds);
    if (r == -EAGAIN)
        return 0;
    if (r != 0) {
        drop_client(c);
        return 0;
    }
    for (size_t i = 0; i < n_fds; i++)
        wv_close(fds[i]);
    serve(c, (Wavry__Bus__ControlRequest *)m, now);
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}

/* A free place; when there is none, that of the client that is here longest. */
static struct client *place(struct wv_control *control)
{
    struct client *oldest = &control->clients[0];
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (control->clients[i].fd < 0)
            return &control->clients[i];
        if (control->clients[i].number < oldest->number)
            oldest = &control->clients[i];
    }
    drop_client(oldest);
    return oldest;
}

static int on_knock(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_supervisor *s = userdata;
    struct wv_control *control = s->control;
    struct wv_peer peer;
    int fd = wv_seqpacket_accept(control->listen_fd, &peer);
    if (fd < 0)
        return 0;
    bool directs = peer.uid == 0 || peer.uid == getuid();
    if (!directs && peer.uid != control->observer) {
        wv_warning("somebody who may not control this host was refused", "pid=%d uid=%u", (int)peer.pid,
                   (unsigned)peer.uid);
        wv_metric_add(s->metrics, WV_SUP_REFUSED, 1);
        wv_close(fd);
        return 0;
    }
    struct client *c = place(control);
    *c = (struct client){.supervisor = s, .fd = fd, .number = ++control->last_client, .observes = !directs};
    if (wv_loop_add_fd(s->loop, fd, EPOLLIN, on_client, c, &c->source) < 0)
        c->fd = wv_close(fd);
    return 0;
}

/* Runs only while somebody waits. */
static int on_relay_timer(void *userdata, uint64_t now)
{
    struct wv_supervisor *s = userdata;
    bool waiting = false;
    for (size_t i = 0; i < RELAYS_MAX; i++)
        if (s->control->relays[i].id && now >= s->control->relays[i].deadline_ns)
            finish_relay(s, &s->control->relays[i], -ETIMEDOUT,
                         "the stage did not answer in time; see wavryctl status");
    for (size_t i = 0; i < RELAYS_MAX; i++)
        waiting = waiting || s->control->relays[i].id;
    wv_loop_timer_at(s->control->timer, waiting ? now + RELAY_CHECK_NS : 0);
    return 0;
}

int wv_control_open(struct wv_supervisor *s)
{
    char path[128];
    s->control = calloc(1, sizeof *s->control);
    if (!s->control)
        return -ENOMEM;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        s->control->clients[i].fd = -1;
    wv_places_path(&s->places, "control.sock", path, sizeof path);
    const struct passwd *observer = getpwnam(OBSERVER);
    s->control->observer = observer ? observer->pw_uid : getuid();
    /* Who knocks is checked by what the kernel says of the peer. */
    int fd = s->control->listen_fd = wv_seqpacket_listen(path, observer ? 0666 : 0600);
    if (fd < 0) {
        wv_error("the control socket can't be made", "path=%s error=\"%s\"", path, strerror(-fd));
        s->control->listen_fd = -1;
        return fd;
    }
    int r = wv_loop_add_fd(s->loop, fd, EPOLLIN, on_knock, s, NULL);
    if (r == 0)
        r = wv_loop_add_timer(s->loop, on_relay_timer, s, &s->control->timer);
    return r;
}

void wv_control_close(struct wv_supervisor *s)
{
    if (!s->control)
        return;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        drop_client(&s->control->clients[i]);
    wv_close(s->control->listen_fd);
    free(s->control);
    s->control = NULL;
}
