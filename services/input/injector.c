#include "services/input/injector.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/x11/display.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define RETRY_FIRST_NS (100 * WV_NS_PER_MS)
#define RETRY_MAX_NS   (2 * WV_NS_PER_S)
/* A client's clock is its own: what would lie further away than this is no time of an event. */
#define ONE_WAY_MAX_US 10000000u
#define AHEAD_MAX_US   1000000u

const struct wv_metric wv_injector_metrics[WV_INJECTOR_N_METRICS] = {
    [WV_INJECTOR_ONE_WAY_US] =
        {"input_one_way_us", "us", WV_METRIC_HISTOGRAM,
         "From the event at the client (clock offset applied) to its arrival at the host."},
    [WV_INJECTOR_EVENT_US] = {"event_to_injected_us", "us", WV_METRIC_HISTOGRAM,
                              "From the event at the client (clock offset applied) to its injection."},
    [WV_INJECTOR_BATCH_US] = {"inject_us", "us", WV_METRIC_HISTOGRAM,
                              "From waking up for a batch of events to having injected all of it."},
    [WV_INJECTOR_INJECTED] = {"events_injected_total", "events", WV_METRIC_COUNTER, "Input events injected."},
    [WV_INJECTOR_REFUSED] =
        {"events_refused_total", "events", WV_METRIC_COUNTER,
         "Input events not injected: forged, stale, out of range, over the rate, or nowhere to inject them."},
    [WV_INJECTOR_REFUSED_FORGED] =
        {"events_refused_forged_total", "events", WV_METRIC_COUNTER,
         "Input events that did not open: not sealed by the client that controls, or changed on the way."},
    [WV_INJECTOR_REFUSED_STALE] = {"events_refused_stale_total", "events", WV_METRIC_COUNTER,
                                   "Input events that waited too long for this stage; releases are applied."},
    [WV_INJECTOR_GAPS] = {"event_gaps_total", "times", WV_METRIC_COUNTER,
                          "Times that numbers of events were missing, and everything held came up."},
    [WV_INJECTOR_REFUSED_RATE] = {"events_refused_rate_total", "events", WV_METRIC_COUNTER,
                                  "Input events not injected because there were too many a second."},
    [WV_INJECTOR_REPEATED] = {"events_repeated_total", "events", WV_METRIC_COUNTER,
                              "Input events that came again after having been dealt with."},
    [WV_INJECTOR_RELEASED] = {"released_total", "keys", WV_METRIC_COUNTER,
                              "Keys and buttons released because nobody held them any more."},
    [WV_INJECTOR_HELD] = {"held", "keys", WV_METRIC_GAUGE, "Keys and buttons held down now."},
    [WV_INJECTOR_RECONNECTS] = {"backend_reconnects_total", "connections", WV_METRIC_COUNTER,
                                "Times that a lost display or device was opened again."},
};

struct wv_injector {
    struct wv_injector_options options;
    enum wv_injector_backend kind; /* what AUTO became; AUTO: not decided yet */
    struct wv_gate gate;
    struct wv_gate told;            /* totals as the metrics have them */
    struct wv_injector_clock clock; /* of the batch at hand */
    uint64_t last_us;               /* when its last event happened, on our clock; 0: not known */
    struct wv_backend *backend;
    struct wv_loop_source *watch, *timer;
    uint64_t retry_pause_ns;
    bool was_open;
};

static void say(struct wv_injector *i, const char *text)
{
    if (i->options.status)
        i->options.status(i->options.userdata, text);
}

static void add_difference(struct wv_injector *i, enum wv_injector_metric metric, uint64_t now, uint64_t told)
{
    if (now != told)
        wv_metric_add(i->options.metrics, metric, now - told);
}

static uint64_t refused(const struct wv_gate *g)
{
    return g->refused_range + g->refused_rate + g->refused_no_backend + g->refused_forged + g->refused_stale;
}

static void count(struct wv_injector *i)
{
    const struct wv_gate *g = &i->gate, *t = &i->told;
    uint64_t held = 0;

    add_difference(i, WV_INJECTOR_INJECTED, g->injected, t->injected);
    add_difference(i, WV_INJECTOR_REFUSED, refused(g), refused(t));
    add_difference(i, WV_INJECTOR_REFUSED_RATE, g->refused_rate, t->refused_rate);
    add_difference(i, WV_INJECTOR_REFUSED_FORGED, g->refused_forged, t->refused_forged);
    add_difference(i, WV_INJECTOR_REFUSED_STALE, g->refused_stale, t->refused_stale);
    add_difference(i, WV_INJECTOR_GAPS, g->gaps, t->gaps);
    add_difference(i, WV_INJECTOR_REPEATED, g->repeated, t->repeated);
    add_difference(i, WV_INJECTOR_RELEASED, g->released, t->released);
    for (unsigned n = 0; n < WV_ARRAY_SIZE(g->held); n++)
        held += (uint64_t)__builtin_popcountll(g->held[n]);
    wv_metric_set(i->options.metrics, WV_INJECTOR_HELD, held);
    i->told = *g;
}

/* ---- the backend ---- */

static void close_backend(struct wv_injector *i)
{
    i->watch = wv_loop_remove(i->watch); /* before its descriptor is closed */
    i->gate.backend = NULL;
    if (i->backend)
        i->backend = i->backend->ops->free(i->backend);
}

static void lose_backend(struct wv_injector *i, const char *reason, uint64_t now)
{
    char text[160];

    snprintf(text, sizeof(text), "%s", reason);
    close_backend(i);
    i->retry_pause_ns = i->retry_pause_ns ? WV_MIN(i->retry_pause_ns * 2, RETRY_MAX_NS) : RETRY_FIRST_NS;
    wv_loop_timer_at(i->timer, now + i->retry_pause_ns);
    say(i, text);
}

static int on_backend(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_injector *i = userdata;

    if (i->backend->ops->process(i->backend) == WV_BACKEND_LOST)
        lose_backend(i, i->backend->reason, now);
    return 0;
}

static bool have_uinput(const struct wv_injector *i)
{
    return i->options.uinput[0] >= 0;
}

static int open_uinput(struct wv_injector *i, char *ret_reason, size_t capacity)
{
    int fds[WV_UINPUT_DEVICES];

    if (!have_uinput(i)) {
        snprintf(ret_reason, capacity,
                 "no uinput device: load the module uinput and give this stage /dev/uinput");
        return WV_BACKEND_LOST;
    }
    for (unsigned n = 0; n < WV_UINPUT_DEVICES; n++)
        fds[n] = fcntl(i->options.uinput[n], F_DUPFD_CLOEXEC, 3);
    return wv_backend_uinput_open(&i->backend, fds, i->options.keep_devices, ret_reason, capacity);
}

/* AUTO takes the display where one is configured and answers, else uinput where there is one; with neither
 * the display is tried again and again. What it once found it stays with. */
static int open_any(struct wv_injector *i, char *ret_reason, size_t capacity)
{
    const struct wv_injector_options *o = &i->options;
    int r = WV_BACKEND_LOST;

    if (i->kind != WV_INJECTOR_UINPUT &&
        (i->kind == WV_INJECTOR_XTEST || wv_x11_configured(o->display) || !have_uinput(i))) {
        r = wv_backend_xtest_open(&i->backend, o->display, o->xauthority, ret_reason, capacity);
        if (r == 0)
            i->kind = WV_INJECTOR_XTEST;
    }
    if (r == WV_BACKEND_LOST &&
        (i->kind == WV_INJECTOR_UINPUT || (i->kind == WV_INJECTOR_AUTO && have_uinput(i)))) {
        r = open_uinput(i, ret_reason, capacity);
        if (r == 0)
            i->kind = WV_INJECTOR_UINPUT;
    }
    return r;
}

static void say_open(struct wv_injector *i)
{
    char text[160];

    if (i->kind == WV_INJECTOR_XTEST)
        snprintf(text, sizeof(text), "injecting into display %.32s by %s", wv_x11_name(i->options.display),
                 i->backend->ops->name);
    else
        snprintf(text, sizeof(text), "injecting by %s", i->backend->ops->name);
    say(i, text);
}

static int open_backend(struct wv_injector *i, uint64_t now)
{
    char reason[160] = "";
    int r;

    if (i->kind == WV_INJECTOR_NONE) {
        say(i, "input is switched off (backend=none)");
        return 0;
    }
    r = open_any(i, reason, sizeof(reason));
    if (r == WV_BACKEND_LOST) {
        lose_backend(i, reason, now);
        return 0;
    }
    if (r == 0 && i->backend->fd >= 0)
        r = wv_loop_add_fd(i->options.loop, i->backend->fd, EPOLLIN, on_backend, i, &i->watch);
    if (r < 0)
        return r;
    if (i->was_open)
        wv_metric_add(i->options.metrics, WV_INJECTOR_RECONNECTS, 1);
    i->was_open = true;
    i->retry_pause_ns = 0;
    say_open(i);
    if (wv_gate_set_backend(&i->gate, i->backend) == WV_GATE_LOST)
        lose_backend(i, i->backend->reason, now);
    else if (i->backend->fd >= 0)
        r = on_backend(i, EPOLLIN, now); /* opening may have read what the socket does not announce again */
    count(i);
    return r;
}

static int on_retry(void *userdata, uint64_t now)
{
    return open_backend(userdata, now);
}

/* ---- what the stage calls ---- */

static void boost(struct wv_injector *i)
{
    uint64_t one = 1;

    if (i->options.boost_event >= 0 && write(i->options.boost_event, &one, sizeof(one)) < 0 &&
        errno != EAGAIN)
        wv_warning("capture can't be told of input", "errno=%d", errno);
}

/* An event opened: for the figures. */
static void on_seen(void *userdata, uint64_t time_us, uint64_t came_us)
{
    struct wv_injector *i = userdata;
    uint64_t at_us = time_us - (uint64_t)i->clock.offset_us;

    i->last_us = 0;
    if (!i->clock.known || at_us > came_us + AHEAD_MAX_US ||
        came_us - WV_MIN(at_us, came_us) > ONE_WAY_MAX_US)
        return;
    i->last_us = WV_MIN(at_us, came_us);
    wv_metric_record(i->options.metrics, WV_INJECTOR_ONE_WAY_US, came_us - i->last_us);
}

int wv_injector_set_controller(struct wv_injector *i, uint32_t session,
                               const uint8_t key[RIFT_INNER_KEY_BYTES], uint64_t now)
{
    bool lost = wv_gate_set_controller(&i->gate, session, key) == WV_GATE_LOST;

    if (i->gate.forgotten)
        wv_warning("this session's input can't be used: too many others controlled since it did; it must "
                   "connect anew",
                   "session=%u", session);
    count(i);
    if (lost)
        lose_backend(i, i->backend->reason, now);
    return 0;
}

int wv_injector_batch(struct wv_injector *i, const struct wv_sealed_batch *batch,
                      const struct wv_injector_clock *clock, uint64_t now, uint32_t *ret_done)
{
    bool urgent;
    uint64_t after;
    int r;

    i->clock = *clock;
    i->last_us = 0;
    r = wv_gate_batch(&i->gate, batch, now, &urgent, ret_done);
    if (r == WV_GATE_NOT_CONTROLLER)
        return WV_INJECTOR_NOT_CONTROLLER;
    if (urgent)
        boost(i); /* first of all: a person waits */
    after = wv_now_ns();
    if (i->last_us && i->last_us <= after / WV_NS_PER_US)
        wv_metric_record(i->options.metrics, WV_INJECTOR_EVENT_US, after / WV_NS_PER_US - i->last_us);
    wv_metric_record(i->options.metrics, WV_INJECTOR_BATCH_US, (after - now) / WV_NS_PER_US);
    count(i);
    if (r == WV_GATE_LOST)
        lose_backend(i, i->backend->reason, now);
    return 0;
}

int wv_injector_release(struct wv_injector *i, uint64_t now)
{
    if (wv_gate_release_all(&i->gate) == WV_GATE_LOST)
        lose_backend(i, i->backend->reason, now);
    count(i);
    return 0;
}

int wv_injector_new(struct wv_injector **ret, const struct wv_injector_options *options)
{
    struct wv_injector *i = calloc(1, sizeof(*i));
    int r;

    if (!i)
        return -ENOMEM;
    i->options = *options;
    i->kind = options->backend;
    wv_gate_init(&i->gate, options->page);
    i->gate.seen = on_seen;
    i->gate.userdata = i;
    r = wv_loop_add_timer(options->loop, on_retry, i, &i->timer);
    if (r >= 0)
        r = open_backend(i, wv_now_ns());
    if (r < 0) {
        wv_injector_free(i);
        return r;
    }
    *ret = i;
    return 0;
}

struct wv_injector *wv_injector_free(struct wv_injector *i)
{
    if (!i)
        return NULL;
    (void)wv_gate_release_all(&i->gate);
    close_backend(i);
    wv_loop_remove(i->timer);
    explicit_bzero(&i->gate, sizeof(i->gate));
    free(i);
    return NULL;
}
