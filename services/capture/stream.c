#include "services/capture/stream.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/x11/display.h"
#include "services/capture/pacer.h"
#include "services/capture/painter.h"
#include "services/capture/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RETRY_FIRST_NS (100 * WV_NS_PER_MS)
#define RETRY_MAX_NS   (2 * WV_NS_PER_S)
#define SILENCE_NS     WV_NS_PER_S /* a display that owes an answer for this long is reported */
#define MAX_FPS        240u

const struct wv_metric wv_stream_metrics[WV_STREAM_N_METRICS] = {
    [WV_STREAM_CAPTURE_US] = {"capture_us", "us", WV_METRIC_HISTOGRAM,
                              "From noticing a change of the screen to having read its pixels."},
    [WV_STREAM_CONVERT_US] = {"convert_us", "us", WV_METRIC_HISTOGRAM,
                              "Converting what changed into a slot of the frame ring."},
    [WV_STREAM_FRAMES] = {"frames_published_total", "frames", WV_METRIC_COUNTER,
                          "Pictures put into the frame ring."},
    [WV_STREAM_DAMAGE_EVENTS] = {"damage_events_total", "events", WV_METRIC_COUNTER,
                                 "Changes of the screen that the display told of."},
    [WV_STREAM_BOOSTS] = {"boosts_total", "boosts", WV_METRIC_COUNTER,
                          "Times that injected input asked for the next change to be taken at once."},
    [WV_STREAM_RECONNECTS] = {"display_reconnects_total", "connections", WV_METRIC_COUNTER,
                              "Times that a lost display was opened again."},
    [WV_STREAM_WIDTH] = {"picture_width", "pixels", WV_METRIC_GAUGE, "Width of the captured picture."},
    [WV_STREAM_HEIGHT] = {"picture_height", "pixels", WV_METRIC_GAUGE, "Height of the captured picture."},
};

struct wv_stream {
    struct wv_stream_options options;
    bool pattern; /* else a display */
    uint32_t fps, viewers;
    struct wv_pacer pacer;
    struct wv_painter painter;

    struct wv_source *source; /* NULL: lost, opened again at retry_ns */
    struct wv_loop_source *source_watch, *cursor_watch, *timer, *silence_timer;
    uint32_t source_mask, cursor_mask; /* what epoll watches now */
    struct wv_cursor *cursor;          /* NULL: none */
    uint64_t retry_ns, retry_pause_ns;
    bool was_open;
    bool fits;    /* the picture fits the ring's slots */
    bool watched; /* the source was told that somebody watches */
    bool silent;  /* the display owes an answer for too long */
    bool silence_armed;
    uint64_t changes;   /* of the source, seen so far */
    uint32_t input_seq; /* injected before the picture under way was asked for */
};

static int step(struct wv_stream *s, bool readable, uint64_t now);

static void say(struct wv_stream *s, const char *text)
{
    if (s->options.status)
        s->options.status(s->options.userdata, text);
}

static void say_state(struct wv_stream *s)
{
    const struct wv_source *source = s->source;
    const char *what = s->pattern ? "the test pattern" : wv_x11_name(s->options.display);
    char text[160];

    if (!source)
        return; /* said when it was lost */
    if (s->silent)
        snprintf(text, sizeof(text), "display %.32s does not answer; waiting for it", what);
    else if (!s->fits)
        snprintf(text, sizeof(text),
                 "%.32s is %ux%u, larger than the frame ring was made for; make it smaller", what,
                 source->picture.width, source->picture.height);
    else
        snprintf(text, sizeof(text), "%s %.32s %ux%u%s", s->viewers ? "capturing" : "nobody watches", what,
                 source->picture.width, source->picture.height,
                 s->pattern || wv_source_x11_transport(source) != WV_X11_PLAIN
                     ? ""
                     : " (without shared memory: slow)");
    say(s, text);
}

/* ---- opening and losing ---- */

static void close_source(struct wv_stream *s)
{
    /* Their descriptors are closed below: epoll must let go first. */
    s->source_watch = wv_loop_remove(s->source_watch);
    s->cursor_watch = wv_loop_remove(s->cursor_watch);
    s->cursor = wv_cursor_free(s->cursor);
    if (s->source)
        s->source = s->source->ops->free(s->source);
    s->watched = s->silent = s->fits = false;
    wv_pacer_reset(&s->pacer);
}

static void lose_source(struct wv_stream *s, const char *reason, uint64_t now)
{
    char text[160];

    snprintf(text, sizeof(text), "%s", reason);
    close_source(s);
    s->retry_pause_ns = s->retry_pause_ns ? WV_MIN(s->retry_pause_ns * 2, RETRY_MAX_NS) : RETRY_FIRST_NS;
    s->retry_ns = now + s->retry_pause_ns;
    say(s, text);
}

static int on_source(void *userdata, uint32_t events, uint64_t now)
{
    return step(userdata, true, now);
}

static int on_timer(void *userdata, uint64_t now)
{
    return step(userdata, false, now);
}

static int on_silence(void *userdata, uint64_t now)
{
    struct wv_stream *s = userdata;

    s->silence_armed = false;
    return step(s, false, now);
}

static int on_cursor(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_stream *s = userdata;

    if (wv_cursor_process(s->cursor, now) == WV_CURSOR_LOST)
        lose_source(s, "the display went away", now);
    return step(s, false, now);
}

/* The picture goes on without a pointer when that can't be had. */
static int open_cursor(struct wv_stream *s)
{
    char reason[160];
    int r = wv_cursor_open(&s->cursor, s->options.display, s->options.xauthority, &s->options.cursor, reason,
                           sizeof(reason));

    if (r == WV_CURSOR_LOST) {
        wv_warning("the pointer is not followed", "because=\"%s\"", reason);
        return 0;
    }
    if (r < 0)
        return r;
    s->cursor_mask = EPOLLIN;
    return wv_loop_add_fd(s->options.loop, wv_cursor_fd(s->cursor), EPOLLIN, on_cursor, s, &s->cursor_watch);
}

static int open_display(struct wv_stream *s, uint64_t now)
{
    struct wv_x11_options options = {.display = s->options.display, .xauthority = s->options.xauthority};
    char reason[160];
    int r = wv_source_x11_open(&s->source, &options, reason, sizeof(reason));

    if (r == WV_SOURCE_LOST) {
        lose_source(s, reason, now);
        return 0;
    }
    if (r < 0)
        return r;
    if (s->was_open)
        wv_metric_add(s->options.metrics, WV_STREAM_RECONNECTS, 1);
    s->source_mask = EPOLLIN;
    r = wv_loop_add_fd(s->options.loop, s->source->fd, EPOLLIN, on_source, s, &s->source_watch);
    return r < 0 ? r : open_cursor(s);
}

static int open_source(struct wv_stream *s, uint64_t now)
{
    int r;

    s->retry_ns = 0;
    if (s->pattern)
        r = wv_source_pattern_open(&s->source, s->options.pattern_width, s->options.pattern_height, s->fps);
    else
        r = open_display(s, now);
    if (r < 0 || !s->source)
        return r;
    s->was_open = true;
    s->changes = s->source->changes;
    return 0;
}

/* ---- the way of a picture ---- */

/* Follows the size of the source's picture. */
static void check_size(struct wv_stream *s)
{
    const struct wv_picture *p = &s->source->picture;

    if (s->fits && p->width == s->painter.width && p->height == s->painter.height)
        return;
    s->fits = wv_painter_set_size(&s->painter, p->width, p->height) == 0;
    wv_metric_set(s->options.metrics, WV_STREAM_WIDTH, p->width);
    wv_metric_set(s->options.metrics, WV_STREAM_HEIGHT, p->height);
    say_state(s);
}

/* Tells source and cursor whether somebody watches. */
static int check_watch(struct wv_stream *s, uint64_t now)
{
    bool on = s->viewers > 0 && s->fits;
    int r;

    if (on == s->watched)
        return 0;
    s->watched = on;
    if (!on)
        wv_pacer_reset(&s->pacer);
    if (s->cursor)
        wv_cursor_watch(s->cursor, on, now);
    r = s->source->ops->watch(s->source, on, now);
    if (r == 0 && on)
        wv_pacer_changed(&s->pacer, now); /* the whole picture pends */
    return r;
}

static void publish(struct wv_stream *s, uint64_t now)
{
    struct wv_source *source = s->source;
    struct wv_frame_header header = {
        .capture_ns = now, .damage_ns = source->fresh_ns, .input_seq = s->input_seq};
    uint64_t one = 1;

    if (source->fresh_ns)
        wv_metric_record(s->options.metrics, WV_STREAM_CAPTURE_US, (now - source->fresh_ns) / WV_NS_PER_US);
    now = wv_now_ns();
    wv_painter_changed(&s->painter, &source->fresh);
    source->ready = false;
    wv_painter_publish(&s->painter, &source->picture, &header, wv_now_ns);
    if (s->options.publish_event >= 0 && write(s->options.publish_event, &one, sizeof(one)) < 0 &&
        errno != EAGAIN)
        wv_warning("the encoder can't be woken", "errno=%d", errno);
    wv_metric_record(s->options.metrics, WV_STREAM_CONVERT_US, (header.publish_ns - now) / WV_NS_PER_US);
    wv_metric_add(s->options.metrics, WV_STREAM_FRAMES, 1);
    s->retry_pause_ns = 0; /* it works: a later loss is a new one */
    if (s->cursor)
        wv_cursor_poke(s->cursor, now);
}

static bool pending(const struct wv_stream *s)
{
    return s->watched && !s->source->reading && !s->source->ready && !wv_region_empty(&s->source->pending);
}

static bool due(const struct wv_stream *s, uint64_t now)
{
    return pending(s) && wv_pacer_take_at(&s->pacer) <= now;
}

static int request(struct wv_stream *s, uint64_t now)
{
    wv_pacer_taken(&s->pacer, now);
    /* Before the picture is read: it may show later input too, never less. */
    s->input_seq = s->options.input_page ? wv_input_page_injected(s->options.input_page) : 0;
    return s->source->ops->request(s->source, now);
}

static void count_changes(struct wv_stream *s, uint64_t now)
{
    if (s->changes == s->source->changes)
        return;
    wv_metric_add(s->options.metrics, WV_STREAM_DAMAGE_EVENTS, s->source->changes - s->changes);
    s->changes = s->source->changes;
    if (s->watched &&
        !wv_region_empty(&s->source->pending)) /* else it was read along with what came before */
        wv_pacer_changed(&s->pacer, now);
}

static int process(struct wv_stream *s, uint64_t now)
{
    int r = s->source->ops->process(s->source, now);

    if (r)
        return r;
    check_size(s);
    r = check_watch(s, now);
    if (r)
        return r;
    count_changes(s, now);
    if (s->source->ready)
        publish(s, now);
    return 0;
}

static int step_source(struct wv_stream *s, bool readable, uint64_t now)
{
    bool silent;
    int r = 0;

    if (readable || s->source->change_ns <= now || due(s, now))
        r = process(s, now);
    if (!r && due(s, now)) {
        r = request(s, now);
        if (!r && s->source->ready)
            publish(s, now);
    }
    silent = s->source->reading && now >= s->source->reading_ns + SILENCE_NS;
    if (!r && silent != s->silent) {
        s->silent = silent;
        say_state(s);
    }
    return r;
}

/* ---- sleeping ---- */

static void set_mask(struct wv_loop_source *watch, uint32_t *mask, bool wanted)
{
    uint32_t now = wanted ? EPOLLIN : 0;

    if (!watch || *mask == now)
        return;
    *mask = now;
    (void)wv_loop_modify_fd(watch, now);
}

static uint64_t next_time(const struct wv_stream *s)
{
    uint64_t next = WV_SOURCE_NEVER;

    if (!s->source)
        return s->retry_ns;
    next = s->source->change_ns;
    if (pending(s))
        next = WV_MIN(next, wv_pacer_take_at(&s->pacer));
    if (s->cursor) {
        uint64_t cursor = wv_cursor_timeout(s->cursor);

        next = WV_MIN(next, cursor);
    }
    return next;
}

/* While a change waits for its date, more of them need not wake us: they are read then, all at once. Only
 * after an input the next one matters at once. */
static void sleep_well(struct wv_stream *s, uint64_t now)
{
    uint64_t next = next_time(s);
    bool boosting = s->pacer.boost_until_ns && now <= s->pacer.boost_until_ns;

    if (s->source)
        set_mask(s->source_watch, &s->source_mask, !pending(s) || boosting);
    if (s->cursor)
        set_mask(s->cursor_watch, &s->cursor_mask, wv_cursor_wants_read(s->cursor));
    wv_loop_timer_at(s->timer, next == WV_SOURCE_NEVER ? 0 : next);
    /* Set at most once a second, not for each picture: mostly it finds that all is well. */
    if (s->source && s->source->reading && !s->silent && !s->silence_armed) {
        s->silence_armed = true;
        wv_loop_timer_at(s->silence_timer, s->source->reading_ns + SILENCE_NS);
    }
}

static int step(struct wv_stream *s, bool readable, uint64_t now)
{
    int r = 0;

    if (!s->source && s->retry_ns && now >= s->retry_ns) {
        r = open_source(s, now);
        readable = true; /* opening may have read events that the socket does not announce again */
    }
    if (!r && s->source)
        r = step_source(s, readable, now);
    if (r == WV_SOURCE_LOST) {
        lose_source(s, s->source->reason, now);
        r = 0;
    }
    if (!r && s->cursor && wv_cursor_timeout(s->cursor) <= now &&
        wv_cursor_process(s->cursor, now) == WV_CURSOR_LOST)
        lose_source(s, "the display went away", now);
    sleep_well(s, now);
    return r;
}

/* ---- what the stage calls ---- */

int wv_stream_target(struct wv_stream *s, uint32_t max_fps, uint32_t viewers, uint64_t now)
{
    uint32_t fps = max_fps ? WV_MIN(max_fps, s->options.max_fps) : s->options.max_fps;
    bool changed = !viewers != !s->viewers;
    int r = 0;

    if (fps != s->fps) {
        s->fps = fps;
        wv_pacer_set_rate(&s->pacer, fps);
        if (s->pattern && s->source)
            wv_source_pattern_set_rate(s->source, fps, now);
    }
    s->viewers = viewers;
    if (changed && s->source) {
        r = check_watch(s, now);
        say_state(s);
    }
    if (r == WV_SOURCE_LOST)
        lose_source(s, s->source->reason, now);
    return step(s, false, now);
}

int wv_stream_boost(struct wv_stream *s, uint64_t now)
{
    int r;

    if (!s->source || !s->watched)
        return 0;
    wv_metric_add(s->options.metrics, WV_STREAM_BOOSTS, 1);
    /* What the display has told so far was drawn before, so it does not use the boost up. */
    r = step(s, s->source->fd >= 0, now);
    wv_pacer_boost(&s->pacer, now);
    return r < 0 ? r : step(s, false, now);
}

void wv_stream_repeat_cursor(struct wv_stream *s)
{
    if (s->cursor)
        wv_cursor_repeat(s->cursor);
}

int wv_stream_new(struct wv_stream **ret, const struct wv_stream_options *options)
{
    struct wv_stream *s = calloc(1, sizeof(*s));
    uint64_t now = wv_now_ns();
    int r;

    if (!s)
        return -ENOMEM;
    s->options = *options;
    s->options.max_fps = options->max_fps ? WV_MIN(options->max_fps, MAX_FPS) : MAX_FPS;
    s->fps = s->options.max_fps;
    s->viewers = 1;
    s->pattern = options->source == WV_STREAM_PATTERN;
    if (options->source == WV_STREAM_AUTO && !wv_x11_configured(options->display)) {
        wv_notice("no display is configured and DISPLAY is not set: showing the test pattern", "source=auto");
        s->pattern = true;
    }
    wv_pacer_init(&s->pacer, s->fps);
    wv_painter_init(&s->painter, options->ring);
    s->retry_ns = now;
    r = wv_loop_add_timer(options->loop, on_timer, s, &s->timer);
    if (r >= 0)
        r = wv_loop_add_timer(options->loop, on_silence, s, &s->silence_timer);
    if (r >= 0)
        r = step(s, true, now);
    if (r < 0) {
        wv_stream_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct wv_stream *wv_stream_free(struct wv_stream *s)
{
    if (!s)
        return NULL;
    close_source(s);
    wv_loop_remove(s->timer);
    wv_loop_remove(s->silence_timer);
    free(s);
    return NULL;
}
