/* The life of one stage: started, ready, watched, ended, started again. Others are never touched by it. */
#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>

#define START_LIMIT_NS   (10 * WV_NS_PER_S)
#define ADOPT_LIMIT_NS   (2 * WV_NS_PER_S)
#define STOP_LIMIT_NS    (2 * WV_NS_PER_S)
#define HUNG_NS          (1500 * WV_NS_PER_MS)
#define STARVED_LIMIT_NS (8 * WV_NS_PER_S)
#define GOOD_LIFE_NS     WV_NS_PER_S /* of use, and then a fault: started again at once, as often as it takes */
#define RETRY_FIRST_NS   (100 * WV_NS_PER_MS)
#define RETRY_MAX_NS     (5 * WV_NS_PER_S)

const char *wv_child_state_name(const struct wv_child *c)
{
    static const char *const names[] = {
        [WV_STATE_STOPPED] = "stopped", [WV_STATE_STARTING] = "starting",
        [WV_STATE_READY] = "ready",     [WV_STATE_STOPPING] = "stopped",
        [WV_STATE_HUNG] = "hung",       [WV_STATE_BACKING_OFF] = "backing off",
    };
    /* It said why it can't work: a person has something to do. */
    return c->state == WV_STATE_BACKING_OFF && c->reason[0] ? "failed" : names[c->state];
}

void wv_child_enter(struct wv_child *c, enum wv_stage_state state, uint64_t now, uint64_t limit_ns)
{
    c->state = state;
    c->since_ns = now;
    wv_loop_timer_at(c->timer, limit_ns ? now + limit_ns : 0);
}

void wv_child_kill(struct wv_child *c)
{
    if (c->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

static const char *meaning(int code)
{
    switch (code) {
    case EX_USAGE:
        return " (wrong usage)";
    case EX_CONFIG:
        return " (configuration error)";
    case EX_UNAVAILABLE:
        return " (something it needs is not there)";
    case EX_NOPERM:
        return " (permission denied)";
    case EX_OSERR:
        return " (system error)";
    case EX_IOERR:
        return " (input/output error)";
    default:
        return "";
    }
}

static void describe_exit(struct wv_child *c)
{
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        snprintf(c->last_exit, sizeof c->last_exit, "ended (seen by the keeper only)");
    else if (info.si_code == CLD_EXITED)
        snprintf(c->last_exit, sizeof c->last_exit, "exit status %d%s", info.si_status,
                 meaning(info.si_status));
    else
        snprintf(c->last_exit, sizeof c->last_exit, "killed by signal %d (%s)%s%s", info.si_status,
                 strsignal(info.si_status), c->state == WV_STATE_HUNG ? " because it was hung" : "",
                 info.si_code == CLD_DUMPED ? ", core dumped" : "");
}

void wv_child_forget_process(struct wv_child *c)
{
    c->pidfd_source = wv_loop_remove(c->pidfd_source);
    c->pidfd = wv_close(c->pidfd);
    c->pid = 0;
    wv_door_drop(c);
    if (c->supervisor->mode == WV_MODE_STANDALONE)
        wv_vault_forget_pid(c->wiring->name);
}

/* At once the first time, then 100 ms doubling to 5 s while it keeps failing young. */
uint64_t wv_child_retry_delay(struct wv_child *c, uint64_t now)
{
    if (c->ready_ns && now - c->ready_ns > GOOD_LIFE_NS)
        c->failures = 0;
    c->failures++;
    if (c->failures == 1)
        return 0;
    unsigned doublings = WV_MIN(c->failures - 2, 10u);
    return WV_MIN(RETRY_FIRST_NS << doublings, RETRY_MAX_NS);
}

static void plan_restart(struct wv_child *c, uint64_t now)
{
    struct wv_supervisor *s = c->supervisor;
    uint64_t delay = c->restart_asked ? 0 : wv_child_retry_delay(c, now);
    wv_metric_add(s->metrics, WV_SUP_RESTARTS + (unsigned)c->index, 1);
    if (!c->restart_asked)
        wv_metric_add(s->metrics, WV_SUP_FAILURES, 1);
    c->restart_asked = false;
    c->retry_at_ns = now + delay;
    wv_warning("stage ended", "stage=%s exit=\"%s\" reason=\"%s\" retry_ms=%u", c->wiring->name, c->last_exit,
               c->reason, (unsigned)(delay / WV_NS_PER_MS));
    if (delay == 0) {
        wv_child_start(c, now);
        return;
    }
    wv_child_enter(c, WV_STATE_BACKING_OFF, now, delay);
}

static int on_exit_of_child(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_child *c = userdata;
    struct wv_supervisor *s = c->supervisor;
    describe_exit(c);
    wv_child_forget_process(c);
    if (s->stopping) {
        wv_child_enter(c, WV_STATE_STOPPED, now, 0);
        wv_info("stage stopped", "stage=%s exit=\"%s\"", c->wiring->name, c->last_exit);
    } else {
        plan_restart(c, now);
    }
    wv_supervisor_changed(s);
    return 0;
}

static int on_timer(void *userdata, uint64_t now)
{
    struct wv_child *c = userdata;
    if (c->supervisor->mode != WV_MODE_STANDALONE) {
        wv_managed_timer(c, now);
        return 0;
    }
    switch (c->state) {
    case WV_STATE_BACKING_OFF:
        wv_child_start(c, now);
        break;
    case WV_STATE_STARTING:
        wv_warning("stage was not ready in time; killing it", "stage=%s pid=%d limit_ms=%u", c->wiring->name,
                   (int)c->pid, (unsigned)((now - c->since_ns) / WV_NS_PER_MS));
        snprintf(c->reason, sizeof c->reason, "not ready within %u s",
                 (unsigned)((now - c->since_ns) / WV_NS_PER_S));
        wv_child_enter(c, WV_STATE_HUNG, now, 0);
        wv_child_kill(c);
        break;
    case WV_STATE_STOPPING:
        wv_warning("stage did not stop in time; killing it", "stage=%s pid=%d", c->wiring->name, (int)c->pid);
        wv_child_kill(c);
        break;
    default:
        break;
    }
    return 0;
}

int wv_child_init(struct wv_child *c, struct wv_supervisor *s, size_t index)
{
    *c = (struct wv_child){.supervisor = s,
                           .wiring = &wv_wiring_stages[index],
                           .index = index,
                           .pidfd = -1,
                           .connection = -1,
                           .spare = {.pidfd = -1, .connection = -1}};
    return wv_loop_add_timer(s->loop, on_timer, c, &c->timer);
}

static int watch_process(struct wv_child *c, pid_t pid, int pidfd)
{
    c->pid = pid;
    c->pidfd = pidfd;
    return wv_loop_add_fd(c->supervisor->loop, pidfd, EPOLLIN, on_exit_of_child, c, &c->pidfd_source);
}

void wv_child_start(struct wv_child *c, uint64_t now)
{
    pid_t pid;
    int pidfd;
    assert(c->pid == 0);
    c->granted = c->found_running = false;
    c->ready_ns = 0;
    c->started_ns = now;
    int r = wv_launch(c, &pid, &pidfd);
    if (r < 0) {
        snprintf(c->last_exit, sizeof c->last_exit, "could not be started: %s", strerror(-r));
        snprintf(c->reason, sizeof c->reason, "%.200s/%s can't be started: %s", c->supervisor->libexec,
                 c->wiring->program, strerror(-r));
        c->failures = WV_MAX(c->failures, 1u); /* at once again would be the same again */
        plan_restart(c, now);
        wv_supervisor_changed(c->supervisor);
        return;
    }
    c->reason[0] = 0;
    r = watch_process(c, pid, pidfd);
    wv_child_enter(c, WV_STATE_STARTING, now, START_LIMIT_NS);
    if (r < 0) /* no memory for a watch: it will be found by its missing hello */
        wv_error("a stage can't be watched", "stage=%s error=\"%s\"", c->wiring->name, strerror(-r));
    wv_info("stage started", "stage=%s pid=%d confinement=\"%s\"", c->wiring->name, (int)pid, c->confinement);
}

void wv_child_adopt(struct wv_child *c, pid_t pid, int pidfd, uint64_t now)
{
    struct wv_metrics_snapshot *page = c->supervisor->snapshot;
    char item[64];
    c->found_running = true;
    snprintf(item, sizeof item, "metrics-%s", c->wiring->name);
    bool ran = wv_metrics_read(wv_vault_fd(&c->supervisor->vault, item), page) == 0 &&
               page->pid == (int32_t)pid && page->heartbeat_ns != 0;
    c->started_ns = ran ? page->started_ns : now;
    if (c->started_ns > now)
        c->started_ns = now;
    snprintf(c->confinement, sizeof c->confinement, "as set up by the supervisor before this one");
    (void)watch_process(c, pid, pidfd);
    /* One that ran knocks within 100 ms; one that was still starting has its own time. */
    wv_child_enter(c, WV_STATE_STARTING, now, ran ? ADOPT_LIMIT_NS : START_LIMIT_NS);
    wv_notice("stage found running", "stage=%s pid=%d", c->wiring->name, (int)pid);
}

void wv_child_stop(struct wv_child *c, bool restart, uint64_t now)
{
    c->restart_asked = restart;
    if (c->pid == 0) {
        if (restart) {
            c->failures = 0;
            c->restart_asked = false;
            wv_child_start(c, now);
        } else {
            wv_child_enter(c, WV_STATE_STOPPED, now, 0);
        }
        return;
    }
    if (wv_door_say_stop(c) < 0)
        (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGTERM, NULL, 0);
    if (c->state != WV_STATE_STOPPING)
        wv_child_enter(c, WV_STATE_STOPPING, now, STOP_LIMIT_NS);
}

void wv_child_ready(struct wv_child *c, uint64_t now)
{
    if (c->state != WV_STATE_STARTING)
        return;
    wv_child_enter(c, WV_STATE_READY, now, 0);
    c->ready_ns = c->found_running ? c->started_ns : now;
    c->seen_ns = now;
    c->reason[0] = 0;
    c->supervisor->key_asked_in_vain = false; /* another identity may answer */
    if (c->found_running)
        wv_notice("stage reconnected", "stage=%s pid=%d", c->wiring->name, (int)c->pid);
    else
        wv_notice("stage ready", "stage=%s pid=%d after_ms=%u", c->wiring->name, (int)c->pid,
                  (unsigned)((now - c->started_ns) / WV_NS_PER_MS));
    wv_supervisor_changed(c->supervisor);
}

void wv_child_failed(struct wv_child *c, const char *reason)
{
    snprintf(c->reason, sizeof c->reason, "%s", reason);
    wv_error("stage says it can't work", "stage=%s reason=\"%s\"", c->wiring->name, c->reason);
}

/* Whether the process wants to run and gets no CPU: then the machine is at fault. RET_TICKS is the CPU time
 * that it has had, in clock ticks. */
static bool wants_to_run(pid_t pid, uint64_t *ret_ticks)
{
    char path[64];
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    size_t len;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (wv_read_file(path, 4096, &text, &len) < 0)
        return false;
    const char *after = strrchr((const char *)text, ')'); /* the name may hold anything */
    char state = 0;
    unsigned long long user = 0, system = 0;
    if (!after || sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &state, &user,
                         &system) != 3)
        return false;
    *ret_ticks = user + system;
    return state == 'R';
}

static void declare_hung(struct wv_child *c, uint64_t now)
{
    bool managed = c->supervisor->mode != WV_MODE_STANDALONE;
    wv_error(managed ? "stage is hung: no heartbeat; systemd's watchdog will kill it"
                     : "stage is hung: no heartbeat; killing it",
             "stage=%s pid=%d silent_ms=%u", c->wiring->name, (int)c->pid,
             (unsigned)((now - c->seen_ns) / WV_NS_PER_MS));
    wv_metric_add(c->supervisor->metrics, WV_SUP_HANGS, 1);
    wv_child_enter(c, WV_STATE_HUNG, now, 0);
    if (managed)
        wv_supervisor_changed(c->supervisor);
    else
        wv_child_kill(c);
}

/* Whether the stage said since the last look that it lives. */
static bool has_beaten(struct wv_child *c)
{
    char item[64];
    int32_t pid;
    uint64_t heartbeat_ns;
    snprintf(item, sizeof item, "metrics-%s", c->wiring->name);
    if (wv_metrics_read_heartbeat(wv_vault_fd(&c->supervisor->vault, item), &pid, &heartbeat_ns) < 0 ||
        heartbeat_ns == c->heartbeat_ns)
        return false;
    c->heartbeat_ns = heartbeat_ns;
    return true;
}

/* The machine may be at fault, and not the stage: it would run if it were given a processor. */
static bool is_starved(struct wv_child *c, uint64_t silent_ns)
{
    uint64_t ticks = 0;
    bool waiting = wants_to_run(c->pid, &ticks);
    if (!c->starved_ticks && waiting)
        c->starved_ticks = ticks + 1; /* look again next time: does it run or does it wait? */
    uint64_t used_ms =
        (ticks + 1 - WV_MIN(c->starved_ticks, ticks + 1)) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    return waiting && used_ms < 100 && silent_ns < STARVED_LIMIT_NS;
}

void wv_child_watch(struct wv_child *c, uint64_t now, uint64_t late_ns)
{
    bool managed = c->supervisor->mode != WV_MODE_STANDALONE;
    if (c->state != WV_STATE_READY && !(managed && c->state == WV_STATE_HUNG))
        return;
    c->seen_ns += late_ns; /* while we did not run, nobody else can be blamed for it */
    if (c->seen_ns > now)
        c->seen_ns = now;
    if (has_beaten(c)) {
        c->seen_ns = now;
        c->starved_ticks = 0;
        if (c->state == WV_STATE_HUNG) {
            wv_notice("stage goes on", "stage=%s pid=%d", c->wiring->name, (int)c->pid);
            wv_child_enter(c, WV_STATE_READY, now, 0);
            wv_supervisor_changed(c->supervisor);
        }
        return;
    }
    uint64_t silent = now - c->seen_ns;
    if (silent <= HUNG_NS || c->state == WV_STATE_HUNG)
        return;
    if (managed || !is_starved(c, silent))
        declare_hung(c, now);
}
