/* The capture engine: opens the source (and opens it again when it is lost), lets the pacer say when a
 * picture is taken, paints it into the ring, and follows the pointer. It lives in an event loop, never waits
 * for the display once that is open, and does nothing while nobody watches. */
#pragma once

#include "lib/ipc/input_page.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/ring.h"
#include "services/capture/cursor.h"

enum wv_stream_metric {
    WV_STREAM_CAPTURE_US,
    WV_STREAM_CONVERT_US,
    WV_STREAM_FRAMES,
    WV_STREAM_DAMAGE_EVENTS,
    WV_STREAM_BOOSTS,
    WV_STREAM_RECONNECTS,
    WV_STREAM_WIDTH,
    WV_STREAM_HEIGHT,
    WV_STREAM_N_METRICS
};
extern const struct wv_metric wv_stream_metrics[WV_STREAM_N_METRICS];

enum wv_stream_source { WV_STREAM_AUTO, WV_STREAM_X11, WV_STREAM_PATTERN };

struct wv_stream_options {
    struct wv_loop *loop;
    struct wv_ring_producer *ring;
    struct wv_metrics *metrics;             /* laid out with wv_stream_metrics */
    const struct wv_input_page *input_page; /* NULL: no input stage */
    int publish_event;                      /* eventfd, -1: none */
    enum wv_stream_source source;
    const char *display, *xauthority;
    uint32_t max_fps; /* upper bound of what wv_stream_target() may ask for */
    uint32_t pattern_width, pattern_height;
    struct wv_cursor_handler cursor;
    void (*status)(void *userdata, const char *text); /* a sentence for a person, when it may have changed */
    void *userdata;
};

struct wv_stream;

/* OPTIONS is copied; what it points to must outlive the stream. A display that can't be reached is no error:
 * the status says so and it is tried again. Until told otherwise somebody watches. Returns 0 or a negative
 * errno. */
int wv_stream_new(struct wv_stream **ret, const struct wv_stream_options *options);
struct wv_stream *wv_stream_free(struct wv_stream *s);
/* What transport wants. VIEWERS 0: take no pictures. */
int wv_stream_target(struct wv_stream *s, uint32_t max_fps, uint32_t viewers, uint64_t now);
/* Input was just injected: the next change is taken at once. */
int wv_stream_boost(struct wv_stream *s, uint64_t now);
/* Tells the pointer's shape and position again. */
void wv_stream_repeat_cursor(struct wv_stream *s);
