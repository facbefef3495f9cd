/* The client's window: shows pictures, turns what a person does into input events, and wakes up by the X
 * connection itself. Knows nothing of sessions. */
#pragma once

#include "client/paint.h"
#include "lib/ipc/loop.h"

struct wv_window;

enum wv_window_renderer { WV_RENDERER_AUTO, WV_RENDERER_SURFACE, WV_RENDERER_GPU };

struct wv_window_options {
    const char *title;
    int width, height; /* 0: as large as the picture, once there is one */
    bool fullscreen;
    bool grab; /* grab the keyboard while fullscreen */
    bool view_only;
    bool overlay; /* statistics from the start */
    enum wv_window_renderer renderer;
};

struct wv_window_callbacks {
    void (*input)(void *userdata, const struct rift_input_event *event);
    void (*flush)(void *userdata); /* the events of this wake-up are complete */
    void (*quit)(void *userdata);  /* closed by the person */
    /* The person wants to control, or not any more; may be NULL. */
    void (*control)(void *userdata);
};

/* Opens the window on LOOP. Returns 0, -ENODEV (no display: SDL_GetError() says why), -ENOMEM, or another
 * negative errno. */
int wv_window_new(struct wv_window **ret, struct wv_loop *loop, const struct wv_window_options *options,
                  const struct wv_window_callbacks *callbacks, void *userdata);
struct wv_window *wv_window_free(struct wv_window *w);

/* Shows PICTURE, which must stay valid until the next call of this function has returned. Input that waits is
 * taken first. Returns false when it was not shown (hidden window). */
bool wv_window_show(struct wv_window *w, const struct wv_client_picture *picture);

/* A line or two over the picture, "" for none. */
void wv_window_notice(struct wv_window *w, const char *text);
/* The statistics, shown while the person wants them. */
void wv_window_stats(struct wv_window *w, const char *text);
bool wv_window_wants_stats(const struct wv_window *w);
void wv_window_title(struct wv_window *w, const char *title);

void wv_window_cursor(struct wv_window *w, const struct rift_cursor *cursor);
void wv_window_cursor_image(struct wv_window *w, uint32_t shape_id, uint32_t width, uint32_t height,
                            uint32_t hot_x, uint32_t hot_y, const uint8_t *bgra);

/* Size of the screen the window is on, or of the window. */
void wv_window_size(const struct wv_window *w, int *ret_width, int *ret_height);
const char *wv_window_renderer_name(const struct wv_window *w);
