#include "lib/stage/stage.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/internal.h"
#include "lib/stage/options.h"

#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#define HEARTBEAT_NS (200 * WV_NS_PER_MS)
#define DRAIN_NS     WV_NS_PER_S

/* The skeleton's own metrics stand after the stage's. */
enum { OWN_BUS_DROPPED, OWN_BUS_UNSENT, OWN_LOOP_LATE, N_OWN };
static const struct wv_metric own_metrics[N_OWN] = {
    [OWN_BUS_DROPPED] = {"bus_dropped_total", "messages", WV_METRIC_COUNTER,
                         "Bus messages refused: unknown, out of phase, over their rate or malformed."},
    [OWN_BUS_UNSENT] = {"bus_unsent_total", "messages", WV_METRIC_COUNTER,
                        "Bus messages not sent because the peer was away or did not read."},
    [OWN_LOOP_LATE] = {"loop_late_us", "us", WV_METRIC_HISTOGRAM,
                       "How late the event loop came to its five heartbeats a second."},
};

struct wv_loop *wv_stage_loop(struct wv_stage *stage)
{
    return stage->loop;
}

struct wv_metrics *wv_stage_metrics(struct wv_stage *stage)
{
    return stage->metrics;
}

struct wv_config *wv_stage_config(struct wv_stage *stage)
{
    return stage->config;
}

struct wv_bus_link *wv_stage_link(struct wv_stage *stage, const char *peer)
{
    return wv_bus_link(stage->bus, peer);
}

int wv_stage_fd(struct wv_stage *stage, const char *name)
{
    for (size_t i = 0; i < stage->n_fds; i++)
        if (!strcmp(stage->fds[i].name, name))
            return stage->fds[i].fd;
    return -1;
}

void wv_stage_status(struct wv_stage *stage, const char *format, ...)
{
    char text[sizeof stage->status];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!strcmp(text, stage->status))
        return;
    memcpy(stage->status, text, sizeof text);
    wv_metrics_status(stage->metrics, text);
    wv_info("status", "text=\"%s\"", text);
    sd_notifyf(0, "STATUS=%s", text);
}

void wv_stage_drained(struct wv_stage *stage)
{
    wv_loop_quit(stage->loop, EX_OK);
}

static int on_drain_timeout(void *userdata, uint64_t now)
{
    struct wv_stage *s = userdata;
    wv_warning("draining took too long; stopping now", "limit_ms=%u", (unsigned)(DRAIN_NS / WV_NS_PER_MS));
    wv_loop_quit(s->loop, EX_OK);
    return 0;
}

void wv_stage_drain(struct wv_stage *s)
{
    if (s->draining)
        return;
    s->draining = true;
    wv_bus_set_phase(s->bus, WV_PHASE_DRAIN);
    wv_stage_status(s, "stopping");
    sd_notify(0, "STOPPING=1");
    wv_loop_timer_at(s->drain_timer, wv_now_ns() + DRAIN_NS);
    if (s->definition->drain)
        s->definition->drain(s, s->context);
    else
        wv_stage_drained(s);
}

bool wv_stage_is_restarting(const struct wv_stage *stage)
{
    return stage->restarting;
}

static int on_stop_signal(void *userdata, int signal, uint64_t now)
{
    struct wv_stage *s = userdata;
    /* systemd ends a process in the same way whether another follows or not; SIGINT says that none does. */
    if (!s->draining)
        s->restarting = wv_stage_is_managed() && signal != SIGINT;
    wv_stage_say_leaving(userdata);
    wv_stage_drain(userdata);
    return 0;
}

static void count_bus(struct wv_stage *s)
{
    struct wv_bus_stats b;
    wv_bus_get_stats(s->bus, &b);
    uint64_t dropped =
        b.dropped_unknown + b.dropped_phase + b.dropped_rate + b.dropped_malformed + b.dropped_size;
    unsigned first = (unsigned)s->definition->n_metrics;
    wv_metric_add(s->metrics, first + OWN_BUS_DROPPED, dropped - s->bus_dropped);
    wv_metric_add(s->metrics, first + OWN_BUS_UNSENT, b.dropped_unsent - s->bus_unsent);
    s->bus_dropped = dropped;
    s->bus_unsent = b.dropped_unsent;
}

/* Comes from the event loop on purpose: a loop that is stuck has no heartbeat. */
static int on_heartbeat(void *userdata, uint64_t now)
{
    struct wv_stage *s = userdata;
    wv_metrics_heartbeat(s->metrics, now);
    if (now >= s->next_beat_ns)
        wv_metric_record(s->metrics, (unsigned)s->definition->n_metrics + OWN_LOOP_LATE,
                         (now - s->next_beat_ns) / WV_NS_PER_US);
    s->next_beat_ns = now + HEARTBEAT_NS;
    wv_loop_timer_at(s->heartbeat_timer, s->next_beat_ns);
    count_bus(s);
    if (s->watchdog_period_ns && now >= s->watchdog_next_ns) {
        s->watchdog_next_ns = now + s->watchdog_period_ns;
        sd_notify(0, "WATCHDOG=1");
    }
    return 0;
}

static int make_loop(struct wv_stage *s)
{
    int r = wv_loop_new(&s->loop);
    /* Blocked before any library makes a thread, which then inherits the mask. */
    if (r == 0)
        r = wv_loop_add_signal(s->loop, SIGTERM, on_stop_signal, s);
    if (r == 0)
        r = wv_loop_add_signal(s->loop, SIGINT, on_stop_signal, s);
    if (r == 0) /* a changed configuration is read by the process that comes after this one */
        r = wv_loop_add_signal(s->loop, SIGHUP, on_stop_signal, s);
    if (r == 0)
        r = wv_loop_add_timer(s->loop, on_heartbeat, s, &s->heartbeat_timer);
    if (r == 0)
        r = wv_loop_add_timer(s->loop, on_drain_timeout, s, &s->drain_timer);
    return r;
}

static int make_metrics(struct wv_stage *s)
{
    const struct wv_stage_definition *d = s->definition;
    s->metric_table = calloc(d->n_metrics + N_OWN, sizeof *s->metric_table);
    if (!s->metric_table)
        return -ENOMEM;
    for (size_t i = 0; i < d->n_metrics; i++)
        s->metric_table[i] = d->metrics[i];
    memcpy(s->metric_table + d->n_metrics, own_metrics, sizeof own_metrics);
    return wv_metrics_new(&s->metrics, wv_stage_fd(s, "metrics"), d->name, s->metric_table,
                          d->n_metrics + N_OWN);
}

/* Links exist before open(), but what handlers are given is made by open(): so the bus is given this. */
static int on_message(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct wv_stage *s = userdata;
    const struct wv_stage_definition *d = s->definition;
    for (size_t i = 0; i < d->n_rules; i++)
        if (d->rules[i].type == message->descriptor)
            return d->rules[i].handle(s->context, message, now);
    return 0;
}

static int copy_rules(struct wv_stage *s)
{
    const struct wv_stage_definition *d = s->definition;
    s->rules = calloc(d->n_rules + 1, sizeof *s->rules);
    if (!s->rules)
        return -ENOMEM;
    for (size_t i = 0; i < d->n_rules; i++) {
        for (size_t k = 0; k < i; k++) /* a handler isn't told the sender: one type, one handler */
            assert(d->rules[k].type != d->rules[i].type || d->rules[k].handle == d->rules[i].handle);
        s->rules[i] = d->rules[i];
        s->rules[i].handle = on_message;
    }
    return 0;
}

static int make_bus(struct wv_stage *s, const Wavry__Bus__StageGrant *grant)
{
    int r = copy_rules(s);
    if (r == 0)
        r = wv_bus_new(&s->bus, s->loop, s->rules, s->definition->n_rules, s);
    for (size_t i = 0; r == 0 && i < grant->n_links; i++) {
        const Wavry__Bus__BusLink *l = grant->links[i];
        struct wv_bus_link *link;
        r = wv_bus_add_link(s->bus, l->peer, l->path, l->bind, &link);
        if (r < 0)
            wv_error("a bus link can't be made", "peer=%s path=%s error=\"%s\"", l->peer, l->path,
                     strerror(-r));
    }
    return r;
}

static int join(struct wv_stage *s)
{
    Wavry__Bus__StageGrant *grant;
    Wavry__Bus__StageMessage *message;
    int r = wv_stage_join(s, &grant, &message);
    if (r < 0)
        return r;
    r = make_metrics(s);
    if (r == 0)
        r = make_bus(s, grant);
    protobuf_c_message_free_unpacked(&message->base, NULL);
    return r;
}

static int lock_down(struct wv_stage *s)
{
    static const struct wv_sandbox narrowest;
    struct wv_sandbox sandbox = s->definition->sandbox ? *s->definition->sandbox : narrowest;
    if (sandbox.file_writes && !sandbox.writable_path && wv_config_has(s->config, "state_dir"))
        sandbox.writable_path = wv_config_string(s->config, "state_dir");
    int r = wv_sandbox_enter(&sandbox);
    if (r < 0)
        wv_error("the process can't be locked down", "error=\"%s\"", strerror(-r));
    return r;
}

static int bring_up(struct wv_stage *s)
{
    int r = join(s);
    if (r == 0)
        r = s->definition->open(s, &s->context);
    if (r < 0)
        return r;
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        s->watchdog_period_ns = watchdog_us * WV_NS_PER_US / 3;
    r = lock_down(s);
    if (r == 0)
        r = wv_stage_watch_supervisor(s);
    if (r == 0 && s->definition->start)
        r = s->definition->start(s, s->context);
    return r;
}

static int run(struct wv_stage *s)
{
    uint64_t now = wv_now_ns();
    wv_metrics_heartbeat(s->metrics, now);
    s->next_beat_ns = now + HEARTBEAT_NS;
    wv_loop_timer_at(s->heartbeat_timer, s->next_beat_ns);
    if (!s->draining)
        wv_bus_set_phase(s->bus, WV_PHASE_RUN);
    s->ready = true;
    wv_stage_say_ready(s);
    sd_notify(0, "READY=1");
    wv_info("ready", "pid=%d", (int)getpid());
    return wv_loop_run(s->loop);
}

static int exit_code_of(int error)
{
    switch (-error) {
    case EINVAL:
        return EX_CONFIG;
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ECONNREFUSED:
    case ENOTCONN:
    case ETIMEDOUT:
    case EADDRINUSE:
        return EX_UNAVAILABLE;
    case EACCES:
    case EPERM:
        return EX_NOPERM;
    case EIO:
        return EX_IOERR;
    case EBADMSG:
    case EPROTO:
        return EX_PROTOCOL;
    default:
        return EX_OSERR;
    }
}

static int fail(struct wv_stage *s, const char *when, int error)
{
    int code = exit_code_of(error);
    char reason[320];
    snprintf(reason, sizeof reason, "%s%s%s: %s", s->status, s->status[0] ? "; " : "", when,
             strerror(-error));
    wv_error("stage failed", "when=\"%s\" error=\"%s\" exit_code=%d status=\"%s\"", when, strerror(-error),
             code, s->status);
    wv_stage_say_failed(s, reason, code);
    wv_stage_linger(s);
    return code;
}

static int live(struct wv_stage *s)
{
    int r = wv_sandbox_prepare();
    if (r == 0)
        r = make_loop(s);
    if (r < 0)
        return fail(s, "setting up the process", r);
    r = bring_up(s);
    int code = r < 0 ? fail(s, "starting", r) : 0;
    if (r == 0) {
        r = run(s);
        code = r < 0 ? fail(s, "running", r) : r;
        wv_info("stopped", "exit_code=%d", code);
    }
    if (s->context && s->definition->close)
        s->definition->close(s, s->context);
    return code;
}

static void fini(struct wv_stage *s)
{
    s->bus = wv_bus_free(s->bus);
    wv_stage_leave(s);
    s->metrics = wv_metrics_free(s->metrics);
    free(s->metric_table);
    free(s->rules);
    s->loop = wv_loop_free(s->loop);
    s->config = wv_config_free(s->config);
}

static int configure(struct wv_stage *s, const struct wv_stage_options *o)
{
    const struct wv_stage_definition *d = s->definition;
    int r = wv_config_new(&s->config, d->name, d->config, d->n_config);
    if (r < 0)
        return EX_OSERR;
    if (o->help) {
        wv_stage_options_help(d, s->config);
        return EX_OK;
    }
    wv_cleanup(wv_free_p) char *message = NULL;
    r = wv_stage_options_load(o, s->config, &message);
    if (r < 0) {
        const char *text = message ? message : strerror(-r);
        wv_error("configuration refused", "reason=\"%s\"", text);
        /* The supervisor shows the reason where the person looks: wavryctl status. */
        s->connection = o->supervisor && !o->check_config ? wv_seqpacket_connect(o->supervisor) : -1;
        if (s->connection >= 0)
            wv_stage_say_failed(s, text, EX_CONFIG);
        wv_stage_linger(s);
        return EX_CONFIG;
    }
    if (o->check_config)
        return EX_OK;
    if (o->print_config) {
        wv_config_print(s->config, stdout);
        return EX_OK;
    }
    if (!o->supervisor) {
        fprintf(stderr,
                "wavry-%s is a stage of a Wavry host and is started by wavry-supervisor.\n"
                "Run \"wavry-supervisor --standalone\" instead, or see wavry-%s --help.\n",
                d->name, d->name);
        return EX_USAGE;
    }
    return -1;
}

int wv_stage_main(const struct wv_stage_definition *definition, int argc, char **argv)
{
    struct wv_stage s = {.definition = definition, .connection = -1};
    struct wv_stage_options o;
    if (wv_stage_options_parse(&o, definition->name, argc, argv) < 0)
        return EX_USAGE;
    if (o.version) {
        printf("wavry-%s %s\n", definition->name, WAVRY_VERSION);
        return EX_OK;
    }
    setlocale(LC_CTYPE, "C.UTF-8");
    wv_log_init(definition->name, o.level);
    signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0); /* wake at the nanosecond that was asked for */
    char comm[16]; /* started by descriptor, the process would be named by a number */
    snprintf(comm, sizeof comm, "wavry-%s", definition->name);
    (void)prctl(PR_SET_NAME, comm, 0, 0, 0);
    s.supervisor_path = o.supervisor;
    int code = configure(&s, &o);
    if (code < 0)
        code = live(&s);
    fini(&s);
    return code;
}
