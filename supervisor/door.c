/* supervisor.sock: stages knock here. Who isn't the process that was started under that name gets nothing. */
#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/ipc/ring.h"
#include "lib/stage/message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROTOCOL        1
#define MESSAGES_A_TURN 16

static struct wv_child *child_of(struct wv_supervisor *s, const struct wv_peer *peer)
{
    if (s->mode != WV_MODE_STANDALONE)
        return wv_managed_find(s, peer);
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        struct wv_child *c = &s->children[i];
        if (c->pid > 0 && c->pid == peer->pid && s->places.uids[i] == peer->uid)
            return c;
    }
    return NULL;
}

void wv_door_drop(struct wv_child *c)
{
    if (c->connection_source)
        c->connection_source = wv_loop_remove(c->connection_source);
    c->connection = wv_close(c->connection);
}

static int send_message(struct wv_child *c, Wavry__Bus__StageMessage *m, const int *fds, size_t n_fds)
{
    if (c->connection < 0)
        return -ENOTCONN;
    int r = wv_message_send(c->connection, &m->base, fds, n_fds);
    if (r < 0) { /* a stage that doesn't read is told by its heartbeat, not by us waiting */
        wv_warning("a message to a stage was not sent", "stage=%s error=\"%s\"", c->wiring->name,
                   strerror(-r));
        wv_door_drop(c);
    }
    return r;
}

int wv_door_say_stop(struct wv_child *c)
{
    Wavry__Bus__StageStop stop = WAVRY__BUS__STAGE_STOP__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    stop.restart = !c->supervisor->stopping;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_STOP;
    m.stop = &stop;
    return c->granted || c->found_running ? send_message(c, &m, NULL, 0) : -ENOTCONN;
}

int wv_door_request(struct wv_child *c, uint32_t id, const char *verb, const char *text)
{
    Wavry__Bus__StageRequest request = WAVRY__BUS__STAGE_REQUEST__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    if (c->state != WV_STATE_READY)
        return -ENOTCONN;
    request.id = id;
    request.verb = (char *)verb;
    request.text = (char *)text;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_REQUEST;
    m.request = &request;
    return send_message(c, &m, NULL, 0);
}

struct grant {
    int fds[WV_FDPASS_MAX_FDS];
    bool reopened[WV_FDPASS_MAX_FDS];
    char *names[WV_FDPASS_MAX_FDS];
    size_t n;
};

static int collect(const struct wv_child *c, struct grant *g)
{
    for (const struct wv_wiring_fd *f = c->wiring->fds; f->name; f++) {
        int fd = wv_vault_fd(&c->supervisor->vault, f->item);
        if (fd < 0)
            continue; /* this machine doesn't have it; the stage is told by its absence */
        if (f->read_only)
            fd = wv_memfd_reopen_read_only(fd);
        if (fd < 0)
            return fd;
        g->fds[g->n] = fd;
        g->reopened[g->n] = f->read_only;
        g->names[g->n++] = (char *)f->name;
    }
    return 0;
}

static size_t collect_links(const struct wv_child *c, Wavry__Bus__BusLink *links, char paths[][128])
{
    size_t n = 0;
    for (size_t i = 0; i < wv_wiring_n_links; i++) {
        const struct wv_wiring_link *l = &wv_wiring_links[i];
        bool binds = !strcmp(l->binder, c->wiring->name);
        if (!binds && strcmp(l->connector, c->wiring->name))
            continue;
        wv_places_link_path(&c->supervisor->places, l, paths[n], 128);
        links[n] = (Wavry__Bus__BusLink)WAVRY__BUS__BUS_LINK__INIT;
        links[n].peer = (char *)(binds ? l->connector : l->binder);
        links[n].path = paths[n];
        links[n].bind = binds;
        n++;
    }
    return n;
}

int wv_door_grant(struct wv_child *c)
{
    enum { LINKS_MAX = 8 };
    Wavry__Bus__StageGrant m = WAVRY__BUS__STAGE_GRANT__INIT;
    Wavry__Bus__StageMessage envelope = WAVRY__BUS__STAGE_MESSAGE__INIT;
    Wavry__Bus__BusLink links[LINKS_MAX], *pointers[LINKS_MAX];
    char paths[LINKS_MAX][128];
    struct grant g = {.n = 0};
    int r = collect(c, &g);
    m.n_links = collect_links(c, links, paths);
    for (size_t i = 0; i < m.n_links; i++)
        pointers[i] = &links[i];
    m.links = pointers;
    m.fd_names = g.names;
    m.n_fd_names = g.n;
    envelope.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_GRANT;
    envelope.grant = &m;
    if (r == 0)
        r = send_message(c, &envelope, g.fds, g.n);
    for (size_t i = 0; i < g.n; i++)
        if (g.reopened[i])
            wv_close(g.fds[i]);
    c->granted = r == 0;
    return r;
}

static int refuse(struct wv_child *c, const char *why)
{
    wv_warning("a stage's message was refused", "stage=%s because=\"%s\"", c->wiring->name, why);
    wv_metric_add(c->supervisor->metrics, WV_SUP_REFUSED, 1);
    return -EPROTO;
}

bool wv_door_knows(const struct wv_child *c, const Wavry__Bus__StageHello *hello)
{
    return !strcmp(hello->stage, c->wiring->name) && hello->protocol == PROTOCOL;
}

/* What a stage may say: FAILED and STOP at any time, HELLO once a connection, the rest after its grant. */
static int handle(struct wv_child *c, const Wavry__Bus__StageMessage *m, uint64_t now)
{
    bool managed = c->supervisor->mode != WV_MODE_STANDALONE;
    switch (m->kind_case) {
    case WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO:
        if (c->granted || c->asked_in || strcmp(m->hello->stage, c->wiring->name))
            return refuse(c, "hello of another stage, or twice");
        if (m->hello->protocol != PROTOCOL)
            return refuse(c,
                          "another version of the protocol: program and supervisor are of different builds");
        if (managed && !wv_managed_hello(c, m->hello->resuming, now))
            return 0;
        return wv_door_grant(c);
    case WAVRY__BUS__STAGE_MESSAGE__KIND_FAILED:
        wv_child_failed(c, m->failed->reason);
        if (managed)
            wv_managed_failed(c, now);
        return 0;
    case WAVRY__BUS__STAGE_MESSAGE__KIND_STOP:
        c->leaving = true;
        return 0;
    case WAVRY__BUS__STAGE_MESSAGE__KIND_READY:
        if (!c->granted)
            return refuse(c, "ready before hello");
        wv_child_ready(c, now);
        return 0;
    case WAVRY__BUS__STAGE_MESSAGE__KIND_REPLY:
        if (!c->granted)
            return refuse(c, "reply before hello");
        wv_control_reply(c->supervisor, m->reply);
        return 0;
    default:
        return refuse(c, "not a stage's message");
    }
}

static int on_stage(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_child *c = userdata;
    for (unsigned i = 0; i < MESSAGES_A_TURN && c->connection >= 0; i++) {
        ProtobufCMessage *m = NULL;
        int fds[WV_FDPASS_MAX_FDS];
        size_t n_fds = 0;
        int r = wv_message_receive(c->connection, &wavry__bus__stage_message__descriptor, &m, fds, &n_fds);
        if (r == -EAGAIN)
            return 0;
        if (r == 0) {
            for (size_t k = 0; k < n_fds; k++)
                wv_close(fds[k]); /* a stage has nothing to give */
            r = handle(c, (Wavry__Bus__StageMessage *)m, now);
            protobuf_c_message_free_unpacked(m, NULL);
        } else if (r != WV_MESSAGE_CLOSED) {
            (void)refuse(c, strerror(-r));
        }
        if (r != 0)
            wv_door_drop(c);
    }
    return 0;
}

void wv_door_listen(struct wv_child *c, uint64_t now)
{
    if (c->connection >= 0)
        (void)on_stage(c, 0, now);
}

int wv_door_attach(struct wv_child *c, int fd)
{
    c->connection = fd;
    c->granted = false;
    int r = wv_loop_add_fd(c->supervisor->loop, fd, EPOLLIN, on_stage, c, &c->connection_source);
    if (r < 0)
        c->connection = wv_close(fd);
    return r;
}

static int on_knock(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_supervisor *s = userdata;
    struct wv_peer peer;
    int fd = wv_seqpacket_accept(s->listen_fd, &peer);
    if (fd < 0)
        return 0;
    struct wv_child *c = child_of(s, &peer);
    if (!c) {
        wv_warning("somebody who is no stage of ours knocked; refused", "pid=%d uid=%u", (int)peer.pid,
                   (unsigned)peer.uid);
        wv_metric_add(s->metrics, WV_SUP_REFUSED, 1);
        wv_close(fd);
        return 0;
    }
    if (s->mode != WV_MODE_STANDALONE && wv_spare_takes(c, peer.pid, fd, now))
        return 0;
    wv_door_drop(c); /* one connection a stage: the newest */
    int r = s->mode == WV_MODE_STANDALONE ? 0 : wv_managed_arrive(c, peer.pid, now);
    if (r < 0) { /* gone again */
        wv_close(fd);
        return 0;
    }
    (void)wv_door_attach(c, fd);
    return 0;
}

int wv_door_open(struct wv_supervisor *s)
{
    char path[128];
    wv_places_path(&s->places, "supervisor.sock", path, sizeof path);
    /* Any stage's user has to reach it; who knocks is known by the kernel's word. */
    s->listen_fd = wv_seqpacket_listen(path, s->places.separate ? 0666 : 0600);
    if (s->listen_fd < 0) {
        int r = s->listen_fd;
        s->listen_fd = -1;
        wv_error("the stages' socket can't be made", "path=%s error=\"%s\"", path, strerror(-r));
        return r;
    }
    return wv_loop_add_fd(s->loop, s->listen_fd, EPOLLIN, on_knock, s, NULL);
}

void wv_door_close(struct wv_supervisor *s)
{
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        wv_door_drop(&s->children[i]);
    s->listen_fd = wv_close(s->listen_fd);
}
