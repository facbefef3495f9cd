/* Stages that systemd starts, each from its own unit. Here it is only known who they are, when they may
 * begin, and how they are: starting, killing and limiting them is the unit's. A stage that keeps failing is
 * not granted its descriptors before its pause is over, so that systemd may start it again at once and needs
 * no limit. Never needs a privilege. */
#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <systemd/sd-login.h>

#define LOOK_AGAIN_NS (100 * WV_NS_PER_MS)

/* In a person's own host everybody has one user; the unit is in the control group, which the kernel and the
 * service manager keep. */
static bool is_in_unit(pid_t pid, const char *stage)
{
    wv_cleanup(wv_free_p) char *unit = NULL;
    char wanted[64];
    snprintf(wanted, sizeof wanted, "wavry-%s.service", stage);
    return sd_pid_get_user_unit(pid, &unit) >= 0 && !strcmp(unit, wanted);
}

struct wv_child *wv_managed_find(struct wv_supervisor *s, const struct wv_peer *peer)
{
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        struct wv_child *c = &s->children[i];
        if (peer->uid != s->places.uids[i])
            continue;
        /* A stage's user has no other process than its unit's. */
        if (s->mode == WV_MODE_SYSTEM || is_in_unit(peer->pid, c->wiring->name))
            return c;
    }
    return NULL;
}

static void pause_after_failure(struct wv_child *c, uint64_t now)
{
    uint64_t delay = wv_child_retry_delay(c, now);
    wv_metric_add(c->supervisor->metrics, WV_SUP_FAILURES, 1);
    c->counted = true;
    c->retry_at_ns = now + delay;
    wv_child_enter(c, WV_STATE_BACKING_OFF, now, delay);
}

void wv_managed_depart(struct wv_child *c, uint64_t now)
{
    wv_door_listen(c, now);
    bool hung = c->state == WV_STATE_HUNG;
    snprintf(c->last_exit, sizeof c->last_exit, "%s",
             c->leaving   ? "stopped as asked"
             : hung       ? "hung; killed by systemd's watchdog"
             : c->counted ? "gave up"
                          : "ended unasked: see its journal");
    wv_child_forget_process(c);
    c->asked_in = false;
    if (c->leaving) {
        c->failures = 0;
        c->retry_at_ns = now;
        wv_child_enter(c, WV_STATE_STOPPED, now, 0);
    } else if (!c->counted) {
        pause_after_failure(c, now);
    }
    wv_notice("stage ended", "stage=%s exit=\"%s\" reason=\"%s\"", c->wiring->name, c->last_exit, c->reason);
    wv_spare_promote(c, now);
    wv_supervisor_changed(c->supervisor);
}

static int on_end(void *userdata, uint32_t events, uint64_t now)
{
    wv_managed_depart(userdata, now);
    return 0;
}

void wv_managed_detach(struct wv_child *c)
{
    if (c->connection_source)
        c->connection_source = wv_loop_remove(c->connection_source);
    if (c->pidfd_source)
        c->pidfd_source = wv_loop_remove(c->pidfd_source);
    c->connection = c->pidfd = -1;
    c->pid = 0;
    c->asked_in = c->granted = false;
}

/* Takes PIDFD, also on failure. */
static int watch_process(struct wv_child *c, pid_t pid, int pidfd, uint64_t now)
{
    int r = wv_loop_add_fd(c->supervisor->loop, pidfd, EPOLLIN, on_end, c, &c->pidfd_source);
    if (r < 0) {
        wv_close(pidfd);
        return r;
    }
    if (c->started_ns)
        wv_metric_add(c->supervisor->metrics, WV_SUP_RESTARTS + (unsigned)c->index, 1);
    c->pid = pid;
    c->pidfd = pidfd;
    c->started_ns = now;
    c->ready_ns = 0;
    c->leaving = c->counted = c->asked_in = c->found_running = false;
    snprintf(c->confinement, sizeof c->confinement, "unit wavry-%s%s.service and seccomp", c->wiring->name,
             c->wiring->spare ? "*" : "");
    if (now >= c->retry_at_ns)
        wv_child_enter(c, WV_STATE_STARTING, now, 0);
    return 0;
}

int wv_managed_become(struct wv_child *c, pid_t pid, int pidfd, int connection, uint64_t now)
{
    int r = watch_process(c, pid, pidfd, now);
    if (r < 0) {
        wv_close(connection);
        return r;
    }
    return wv_door_attach(c, connection);
}

int wv_managed_arrive(struct wv_child *c, pid_t pid, uint64_t now)
{
    if (c->pid == pid)
        return 0;
    if (c->pid)
        wv_managed_depart(c, now);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return pidfd < 0 ? -errno : watch_process(c, pid, pidfd, now);
}

/* It ran under the supervisor before us. */
static bool take_over(struct wv_child *c, uint64_t now)
{
    struct wv_supervisor *s = c->supervisor;
    struct wv_metrics_snapshot *page = s->snapshot;
    char item[64];
    snprintf(item, sizeof item, "metrics-%s", c->wiring->name);
    c->found_running = true;
    c->retry_at_ns = 0;
    if (wv_metrics_read(wv_vault_fd(&s->vault, item), page) == 0 && page->pid == (int32_t)c->pid)
        c->started_ns = WV_MIN(page->started_ns, now);
    if (!s->vault.stale[c->index])
        return true;
    wv_notice("a stage holds descriptors of an earlier host; it starts again", "stage=%s", c->wiring->name);
    c->leaving = true;
    wv_child_enter(c, WV_STATE_STOPPING, now, 0);
    (void)wv_door_say_stop(c);
    return false;
}

bool wv_managed_hello(struct wv_child *c, bool resuming, uint64_t now)
{
    if (resuming)
        return take_over(c, now);
    if (wv_spare_must_wait(c, now)) {
        c->asked_in = true;
        wv_child_enter(c, WV_STATE_BACKING_OFF, now, LOOK_AGAIN_NS);
        return false;
    }
    if (now >= c->retry_at_ns) {
        c->reason[0] = 0;
        return true;
    }
    c->asked_in = true;
    wv_child_enter(c, WV_STATE_BACKING_OFF, now, c->retry_at_ns - now);
    wv_notice("a stage that keeps failing waits", "stage=%s failures=%u retry_ms=%u", c->wiring->name,
              c->failures, (unsigned)((c->retry_at_ns - now) / WV_NS_PER_MS));
    return false;
}

static void let_in(struct wv_child *c, uint64_t now)
{
    c->asked_in = false;
    c->retry_at_ns = now;
    c->started_ns = now;
    c->reason[0] = 0;
    wv_child_enter(c, WV_STATE_STARTING, now, 0);
    (void)wv_door_grant(c);
}

void wv_managed_failed(struct wv_child *c, uint64_t now)
{
    if (c->counted)
        return;
    pause_after_failure(c, now);
    if (now >= c->retry_at_ns)
        wv_door_drop(c);
    wv_supervisor_changed(c->supervisor);
}

void wv_managed_timer(struct wv_child *c, uint64_t now)
{
    if (c->state != WV_STATE_BACKING_OFF)
        return;
    if (c->asked_in && wv_spare_must_wait(c, now))
        wv_child_enter(c, WV_STATE_BACKING_OFF, now, LOOK_AGAIN_NS);
    else if (c->asked_in)
        let_in(c, now);
    else if (c->pid && c->counted)
        wv_door_drop(c); /* that ends it, and systemd starts the next */
}

int wv_managed_restart(struct wv_child *c, uint64_t now)
{
    c->failures = 0;
    if (!c->pid) {
        c->retry_at_ns = now;
        return -ENOTCONN;
    }
    if (c->asked_in) {
        let_in(c, now);
        return 0;
    }
    if (c->counted) {
        c->retry_at_ns = now;
        wv_door_drop(c);
        return 0;
    }
    int r = wv_door_say_stop(c);
    if (r < 0)
        return r;
    c->leaving = true;
    wv_child_enter(c, WV_STATE_STOPPING, now, 0);
    return 0;
}

void wv_managed_describe(struct wv_child *c, char *ret, size_t capacity)
{
    const char *person = c->supervisor->mode == WV_MODE_PERSON ? "--user " : "";
    if (c->reason[0])
        snprintf(ret, capacity, "%s", c->reason);
    else
        snprintf(ret, capacity, "not running: systemctl %sstatus wavry-%s says why", person, c->wiring->name);
}
