#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#define WATCH_NS      (250 * WV_NS_PER_MS)
#define OWN_USER      "wavry-supervisor"
#define STOP_LIMIT_NS (2500 * WV_NS_PER_MS)

static const struct wv_metric metrics[WV_SUP_N_METRICS] = {
    {"restarts_transport_total", "restarts", WV_METRIC_COUNTER, "Times that transport was started again."},
    {"restarts_identity_total", "restarts", WV_METRIC_COUNTER, "Times that identity was started again."},
    {"restarts_capture_total", "restarts", WV_METRIC_COUNTER, "Times that capture was started again."},
    {"restarts_encoder_total", "restarts", WV_METRIC_COUNTER, "Times that encoder was started again."},
    {"restarts_input_total", "restarts", WV_METRIC_COUNTER, "Times that input was started again."},
    {"restarts_reach_total", "restarts", WV_METRIC_COUNTER, "Times that reach was started again."},
    [WV_SUP_HANGS] = {"hangs_total", "stages", WV_METRIC_COUNTER,
                      "Stages killed because their heartbeat stopped."},
    [WV_SUP_FAILURES] = {"failures_total", "stages", WV_METRIC_COUNTER,
                         "Stages that ended without being asked."},
    [WV_SUP_REFUSED] = {"refused_total", "messages", WV_METRIC_COUNTER,
                        "Connections and messages of stages and administrators that were refused."},
    [WV_SUP_REQUESTS] = {"control_requests_total", "requests", WV_METRIC_COUNTER,
                         "Questions of administrators."},
    [WV_SUP_WATCH_LATE] = {"watch_late_us", "us", WV_METRIC_HISTOGRAM,
                           "How late the watch over the stages came."},
};

static int on_watch(void *userdata, uint64_t now)
{
    struct wv_supervisor *s = userdata;
    uint64_t late = now > s->next_watch_ns ? now - s->next_watch_ns : 0;
    wv_metric_record(s->metrics, WV_SUP_WATCH_LATE, late / WV_NS_PER_US);
    wv_metrics_heartbeat(s->metrics, now);
    for (size_t i = 0; i < WV_WIRING_STAGES && !s->stopping; i++)
        wv_child_watch(&s->children[i], now, late);
    s->next_watch_ns = now + WATCH_NS;
    wv_loop_timer_at(s->watch_timer, s->next_watch_ns);
    sd_notify(0, "WATCHDOG=1");
    return 0;
}

static int on_stop_limit(void *userdata, uint64_t now)
{
    struct wv_supervisor *s = userdata;
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        wv_child_kill(&s->children[i]);
    wv_loop_timer_at(s->stop_timer, now + STOP_LIMIT_NS);
    return 0;
}

void wv_supervisor_stop(struct wv_supervisor *s)
{
    uint64_t now = wv_now_ns();
    if (s->stopping)
        return;
    s->stopping = true;
    if (s->mode != WV_MODE_STANDALONE) { /* stages have their own units, and go on when we only start again */
        sd_notify(0, "STOPPING=1\nSTATUS=stopping");
        wv_metrics_status(s->metrics, "stopping");
        wv_loop_quit(s->loop, EX_OK);
        return;
    }
    wv_notice("stopping", "runtime_dir=%s", s->places.runtime);
    sd_notify(0, "STOPPING=1");
    wv_metrics_status(s->metrics, "stopping");
    wv_loop_timer_at(s->stop_timer, now + STOP_LIMIT_NS);
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        wv_child_stop(&s->children[i], false, now);
    wv_supervisor_changed(s);
}

static int on_stop_signal(void *userdata, int signal, uint64_t now)
{
    wv_supervisor_stop(userdata);
    return 0;
}

/* A changed configuration is read by starting again, which no stage notices. */
static int on_reload_signal(void *userdata, int signal, uint64_t now)
{
    struct wv_supervisor *s = userdata;
    wv_notice("asked to read the configuration again", "runtime_dir=%s", s->places.runtime);
    wv_loop_quit(s->loop, WV_SUPERVISOR_AGAIN);
    return 0;
}

/* "4 of 5 stages ready on *:4820; encoder: failed". */
static void say_status(struct wv_supervisor *s, size_t ready)
{
    char text[160];
    size_t used = (size_t)snprintf(text, sizeof text, "%zu of %d stages ready", ready, WV_WIRING_STAGES);
    if (s->mode != WV_MODE_STANDALONE)
        used += (size_t)snprintf(text + used, sizeof text - used, " on %s", s->vault.address);
    for (size_t i = 0; s->announced && i < WV_WIRING_STAGES && used < sizeof text; i++)
        if (s->children[i].state != WV_STATE_READY)
            used += (size_t)snprintf(text + used, sizeof text - used, "; %s: %s", s->children[i].wiring->name,
                                     wv_child_state_name(&s->children[i]));
    wv_metrics_status(s->metrics, text);
    sd_notifyf(0, "STATUS=%s", text);
}

static void announce(struct wv_supervisor *s, size_t ready)
{
    s->announced = true;
    sd_notify(0, "READY=1");
    wv_notice(ready == WV_WIRING_STAGES ? "host is up" : "host is up, but not whole: see wavryctl status",
              "address=%s host_key=%s runtime_dir=%s", s->vault.address,
              s->host_key[0] ? s->host_key : "unknown", s->places.runtime);
    if (isatty(STDERR_FILENO))
        fprintf(stderr,
                "\nThis host listens on %s; its key is %s\n"
                "On the other machine:  wavry-client --print-key\n"
                "Let that key in here:  wavryctl --socket %s/control.sock authorize KEY\n"
                "Then, over there:      wavry-client <this machine>\n\n",
                s->vault.address, s->host_key[0] ? s->host_key : "unknown", s->places.runtime);
}

void wv_supervisor_changed(struct wv_supervisor *s)
{
    size_t ready = 0, settled = 0, gone = 0;
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        struct wv_child *c = &s->children[i];
        bool up = c->state == WV_STATE_READY;
        ready += up;
        settled += up || c->state == WV_STATE_BACKING_OFF;
        gone += c->pid == 0;
    }
    if (s->stopping) {
        if (gone == WV_WIRING_STAGES)
            wv_loop_quit(s->loop, EX_OK);
        return;
    }
    int identity = wv_wiring_find("identity");
    if (s->children[identity].state == WV_STATE_READY)
        wv_control_ask_key(s, wv_now_ns());
    bool key = s->host_key[0] || s->children[identity].state != WV_STATE_READY || s->key_asked_in_vain;
    if (!s->announced && settled == WV_WIRING_STAGES && key)
        announce(s, ready);
    if (s->announced || s->mode != WV_MODE_STANDALONE)
        say_status(s, ready);
}

/* Where the stages' programs are: beside our own. */
static int find_libexec(struct wv_supervisor *s)
{
    if (s->options->libexec) {
        snprintf(s->libexec, sizeof s->libexec, "%s", s->options->libexec);
        return 0;
    }
    ssize_t n = readlink("/proc/self/exe", s->libexec, sizeof s->libexec - 1);
    if (n < 0)
        return -errno;
    s->libexec[n] = 0;
    char *slash = strrchr(s->libexec, '/');
    if (slash)
        *slash = 0;
    return 0;
}

static int open_vault(struct wv_supervisor *s)
{
    struct wv_vault_plan plan = {.listen = wv_config_string(s->config, "listen"),
                                 .port = (uint16_t)wv_config_int(s->config, "port"),
                                 /* Without privilege all memory stays ours: nobody else can open it anew. */
                                 .uids = s->places.separate && s->mode == WV_MODE_STANDALONE ? s->places.uids
                                                                                             : NULL,
                                 .gids = s->places.gids,
                                 .socket_given = s->mode != WV_MODE_STANDALONE};
    int r = wv_vault_open(&s->vault, &plan);
    if (r < 0)
        return r;
    return wv_metrics_new(&s->metrics, wv_vault_fd(&s->vault, "metrics-supervisor"), "supervisor", metrics,
                          WV_SUP_N_METRICS);
}

static int make_loop(struct wv_supervisor *s)
{
    int r = wv_loop_new(&s->loop);
    if (r == 0)
        r = wv_loop_add_signal(s->loop, SIGTERM, on_stop_signal, s);
    if (r == 0)
        r = wv_loop_add_signal(s->loop, SIGINT, on_stop_signal, s);
    if (r == 0 && s->mode != WV_MODE_STANDALONE)
        r = wv_loop_add_signal(s->loop, SIGHUP, on_reload_signal, s);
    if (r == 0)
        r = wv_loop_add_timer(s->loop, on_watch, s, &s->watch_timer);
    if (r == 0)
        r = wv_loop_add_timer(s->loop, on_stop_limit, s, &s->stop_timer);
    for (size_t i = 0; r == 0 && i < WV_WIRING_STAGES; i++)
        r = wv_child_init(&s->children[i], s, i);
    return r;
}

/* Stages that an earlier supervisor started go on, unless they hold descriptors that are no longer ours. */
static void begin_stages(struct wv_supervisor *s)
{
    if (s->mode != WV_MODE_STANDALONE) {
        sd_notify(0, "READY=1"); /* theirs wait for this; they knock when systemd has started them */
        return;
    }
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        struct wv_child *c = &s->children[i];
        uint64_t now = wv_now_ns();
        int pidfd = s->vault.pidfds[i];
        s->vault.pidfds[i] = -1;
        if (pidfd < 0) {
            wv_child_start(c, now);
            continue;
        }
        wv_child_adopt(c, s->vault.pids[i], pidfd, now);
        if (s->vault.stale[i]) {
            c->restart_asked = true;
            wv_child_kill(c);
        }
    }
}

static int open_all(struct wv_supervisor *s)
{
    s->snapshot = calloc(1, sizeof *s->snapshot);
    int r = s->snapshot ? find_libexec(s) : -ENOMEM;
    if (r == 0)
        r = open_vault(s);
    if (r == 0)
        r = s->mode == WV_MODE_SYSTEM ? wv_places_check(&s->places) : wv_places_make(&s->places);
    if (r == 0)
        r = make_loop(s);
    if (r == 0)
        r = wv_door_open(s);
    return r < 0 ? r : wv_control_open(s);
}

static void close_all(struct wv_supervisor *s)
{
    wv_control_close(s);
    if (s->loop)
        wv_door_close(s);
    s->metrics = wv_metrics_free(s->metrics);
    s->loop = wv_loop_free(s->loop);
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        wv_close(s->children[i].pidfd);
        wv_close(s->children[i].spare.pidfd);
        wv_close(s->children[i].spare.connection);
    }
    wv_vault_close(&s->vault);
    free(s->snapshot);
    wv_close(s->lock_fd);
}

/* Who starts the stages, and under which users. */
static int choose_mode(struct wv_supervisor *s)
{
    if (!s->options->managed) {
        wv_places_choose_users(&s->places, (uint32_t)wv_config_int(s->config, "uid_base"));
        return 0;
    }
    const struct passwd *own = getpwnam(OWN_USER);
    bool system = own && own->pw_uid == getuid();
    if (!system && getuid() == 0) {
        wv_error("without --standalone root has no place here: the unit runs this program as its own user",
                 "user=%s", OWN_USER);
        return -EPERM;
    }
    s->mode = system ? WV_MODE_SYSTEM : WV_MODE_PERSON;
    int r = wv_places_find_users(&s->places, system);
    if (r < 0)
        return r;
    s->lock_fd = wv_places_lock(&s->places);
    return WV_MIN(s->lock_fd, 0);
}

static int exit_code_of(int r)
{
    return r >= 0                                                      ? r
           : r == -EADDRINUSE || r == -EADDRNOTAVAIL || r == -ENOTCONN ? EX_UNAVAILABLE
           : r == -EINVAL                                              ? EX_CONFIG
           : r == -EACCES || r == -EPERM || r == -EWOULDBLOCK          ? EX_NOPERM
                                                                       : EX_OSERR;
}

int wv_supervisor_run(const struct wv_supervisor_options *options, struct wv_config *config)
{
    struct wv_supervisor s = {
        .options = options, .config = config, .listen_fd = -1, .lock_fd = -1, .started_ns = wv_now_ns()};
    bool created;
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        s.children[i] =
            (struct wv_child){.pidfd = -1, .connection = -1, .spare = {.pidfd = -1, .connection = -1}};
    if (wv_places_init(&s.places, options->runtime, options->state, &created) < 0)
        return EX_CANTCREAT;
    memset(s.vault.fds, 0xff, sizeof s.vault.fds); /* -1 */
    memset(s.vault.pidfds, 0xff, sizeof s.vault.pidfds);
    int r = choose_mode(&s);
    if (r == 0)
        r = open_all(&s);
    if (r == 0) {
        s.next_watch_ns = wv_now_ns() + WATCH_NS;
        wv_loop_timer_at(s.watch_timer, s.next_watch_ns);
        begin_stages(&s);
        wv_supervisor_changed(&s);
        r = wv_loop_run(s.loop);
    }
    close_all(&s);
    if (r < 0)
        wv_error("the supervisor can't go on", "error=\"%s\"", strerror(-r));
    return exit_code_of(r);
}
