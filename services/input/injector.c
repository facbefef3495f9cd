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

const struct wv_metric wv_injector_metrics[WV_INJECTOR_N_METRICS] = {
    [WV_INJECTOR_EVENT_US] = {"event_to_injected_us", "us", WV_METRIC_HISTOGRAM,
                              "From the event at the client (clock offset applied) to its injection."},
    [WV_INJECTOR_BATCH_US] = {"inject_us", "us", WV_METRIC_HISTOGRAM,
                              "From waking up for a batch of events to having injected all of it."},
    [WV_INJECTOR_INJECTED] = {"events_injected_total", "events", WV_METRIC_COUNTER, "Input events injected."},
    [WV_INJECTOR_REFUSED] =
        {"events_refused_total", "events", WV_METRIC_COUNTER,
         "Input events not injected: out of range, over the rate, or nowhere to inject them."},
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
    struct wv_gate told; /* totals as the metrics have them */
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
    return g->refused_range + g->refused_rate + g->refused_no_backend;
}

static void count(struct wv_injector *i)
{
    const struct wv_gate *g = &i->gate, *t = &i->told;
    uint64_t held = 0;

    add_difference(i, WV_INJECTOR_INJECTED, g->injected, t->injected);
    add_difference(i, WV_INJECTOR_REFUSED, refused(g), refused(t));
    add_difference(i, WV_INJECTOR_REFUSED_RATE, g->refused_rate, t->refused_rate);
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

int wv_injector_batch(struct wv_injector *i, uint32_t session, uint32_t first_seq,
                      const struct rift_input_event *events, size_t n, uint64_t now, uint32_t *ret_done)
{
    bool urgent;
    bool lost = wv_gate_batch(&i->gate, session, first_seq, events, n, now, &urgent) == WV_GATE_LOST;
    uint64_t after;

    if (urgent)
        boost(i); /* first of all: a person waits */
    after = wv_now_ns();
    if (n && events[n - 1].time_us && events[n - 1].time_us <= after / WV_NS_PER_US)
        wv_metric_record(i->options.metrics, WV_INJECTOR_EVENT_US,
                         after / WV_NS_PER_US - events[n - 1].time_us);
    wv_metric_record(i->options.metrics, WV_INJECTOR_BATCH_US, (after - now) / WV_NS_PER_US);
    count(i);
    if (lost)
        lose_backend(i, i->backend->reason, now);
    *ret_done = wv_input_page_injected(i->options.page);
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
    free(i);
    return NULL;
}
