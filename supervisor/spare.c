/* A spare of a stage: a second process from a unit of its own, whole but without descriptors, that waits for
 * the first to end. What takes time at a start (the unit's namespaces above all) is then over already. Which
 * of the two works is nobody's choice but the order in which they came. Never lets two work at once: the
 * second gets its descriptors only when the kernel says that the first has ended. */
#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/message.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>

/* For so long after our own start a process that works may still be on its way to us. */
#define FINDING_NS (3 * WV_NS_PER_S)

static bool has_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return pidfd >= 0 && poll(&p, 1, 0) > 0;
}

void wv_spare_drop(struct wv_child *c)
{
    struct wv_spare *spare = &c->spare;
    if (spare->connection_source)
        wv_loop_remove(spare->connection_source);
    if (spare->pidfd_source)
        wv_loop_remove(spare->pidfd_source);
    wv_close(spare->connection);
    wv_close(spare->pidfd);
    *spare = (struct wv_spare){.pidfd = -1, .connection = -1};
}

static void stand_by(struct wv_child *c)
{
    Wavry__Bus__StageStandby standby = WAVRY__BUS__STAGE_STANDBY__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_STANDBY;
    m.standby = &standby;
    c->spare.waiting = wv_message_send(c->spare.connection, &m.base, NULL, 0) == 0;
    if (c->spare.waiting)
        wv_notice("a spare stands by", "stage=%s pid=%d", c->wiring->name, (int)c->spare.pid);
    else
        wv_spare_drop(c);
}

static int on_spare(void *userdata, uint32_t events, uint64_t now);
static int on_spare_end(void *userdata, uint32_t events, uint64_t now);

static int watch_spare(struct wv_child *c)
{
    struct wv_loop *loop = c->supervisor->loop;
    struct wv_spare *spare = &c->spare;
    int r = wv_loop_add_fd(loop, spare->pidfd, EPOLLIN, on_spare_end, c, &spare->pidfd_source);
    if (r == 0)
        r = wv_loop_add_fd(loop, spare->connection, EPOLLIN, on_spare, c, &spare->connection_source);
    if (r < 0)
        wv_spare_drop(c);
    return r;
}

/* The process that knocked second has worked under an earlier supervisor; the first only wanted to. */
static void change_places(struct wv_child *c, uint64_t now)
{
    struct wv_spare worker = c->spare,
                    waiter = {.pid = c->pid, .pidfd = c->pidfd, .connection = c->connection};
    wv_loop_remove(worker.connection_source);
    wv_loop_remove(worker.pidfd_source);
    wv_managed_detach(c);
    c->spare = waiter;
    if (waiter.connection < 0 || watch_spare(c) < 0)
        wv_spare_drop(c);
    else
        stand_by(c);
    if (wv_managed_become(c, worker.pid, worker.pidfd, worker.connection, now) == 0 &&
        wv_managed_hello(c, true, now))
        (void)wv_door_grant(c);
}

static int handle(struct wv_child *c, const Wavry__Bus__StageMessage *m, uint64_t now)
{
    bool hello = m->kind_case == WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO;
    if (!hello || c->spare.waiting || !wv_door_knows(c, m->hello))
        return -EPROTO;
    if (!m->hello->resuming) {
        stand_by(c);
        return 0;
    }
    if (c->granted) {
        wv_error("two processes say that they are this stage; the second is refused",
                 "stage=%s pid=%d other=%d", c->wiring->name, (int)c->pid, (int)c->spare.pid);
        return -EPROTO;
    }
    change_places(c, now);
    return 0;
}

static int on_spare(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_child *c = userdata;
    ProtobufCMessage *m = NULL;
    int fds[WV_FDPASS_MAX_FDS];
    size_t n_fds = 0;
    int r = wv_message_receive(c->spare.connection, &wavry__bus__stage_message__descriptor, &m, fds, &n_fds);
    if (r == -EAGAIN)
        return 0;
    if (r == 0) {
        for (size_t i = 0; i < n_fds; i++)
            wv_close(fds[i]);
        r = handle(c, (Wavry__Bus__StageMessage *)m, now);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    if (r != 0)
        wv_spare_drop(c);
    return 0;
}

static int on_spare_end(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_child *c = userdata;
    wv_notice("a spare ended", "stage=%s pid=%d", c->wiring->name, (int)c->spare.pid);
    wv_spare_drop(c);
    return 0;
}

bool wv_spare_takes(struct wv_child *c, pid_t pid, int connection, uint64_t now)
{
    struct wv_spare *spare = &c->spare;
    if (c->pid && c->pid != pid && has_ended(c->pidfd))
        wv_managed_depart(c, now); /* its spare, if any, works now */
    if (!c->wiring->spare || !c->pid || c->pid == pid)
        return false;
    if (spare->pid && spare->pid != pid && !has_ended(spare->pidfd)) {
        wv_warning("a third process of a stage knocked; refused", "stage=%s pid=%d", c->wiring->name,
                   (int)pid);
        wv_close(connection);
        return true;
    }
    wv_spare_drop(c);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        wv_close(connection);
        return true;
    }
    *spare = (struct wv_spare){.pid = pid, .pidfd = pidfd, .connection = connection};
    (void)watch_spare(c);
    return true;
}

void wv_spare_promote(struct wv_child *c, uint64_t now)
{
    struct wv_spare spare = c->spare;
    if (!spare.waiting)
        return;
    wv_loop_remove(spare.connection_source);
    wv_loop_remove(spare.pidfd_source);
    c->spare = (struct wv_spare){.pidfd = -1, .connection = -1};
    wv_notice("the spare takes over", "stage=%s pid=%d", c->wiring->name, (int)spare.pid);
    if (wv_managed_become(c, spare.pid, spare.pidfd, spare.connection, now) == 0 &&
        wv_managed_hello(c, false, now))
        (void)wv_door_grant(c);
}

bool wv_spare_must_wait(struct wv_child *c, uint64_t now)
{
    struct wv_supervisor *s = c->supervisor;
    char item[64];
    int32_t pid;
    uint64_t heartbeat_ns;
    if (!c->wiring->spare || now - s->started_ns > FINDING_NS)
        return false;
    snprintf(item, sizeof item, "metrics-%s", c->wiring->name);
    if (wv_metrics_read_heartbeat(wv_vault_fd(&s->vault, item), &pid, &heartbeat_ns) < 0 || pid <= 0 ||
        pid == (int32_t)c->pid)
        return false;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool lives = pidfd >= 0 && !has_ended(pidfd);
    wv_close(pidfd);
    return lives;
}
