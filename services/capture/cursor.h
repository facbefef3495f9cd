/* The pointer of an X display, beside the picture: where it is and what it looks like. A connection of its
 * own, so that it never waits for pixels. Reads only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_CURSOR_MAX_SIZE 256
#define WV_CURSOR_NEVER    UINT64_MAX

enum { WV_CURSOR_LOST = 1 };

struct wv_cursor_state {
    int32_t x, y; /* pixels of the root window */
    bool visible;
    uint32_t
        shape_id; /* derived from the image: the same image has the same id, also after a restart; 0: none */
};

struct wv_cursor_image {
    uint32_t shape_id;
    uint32_t width, height, hot_x, hot_y;
    const uint8_t *argb; /* B, G, R, A in memory, premultiplied; width * height * 4 bytes */
};

struct wv_cursor_handler {
    void (*moved)(void *userdata, const struct wv_cursor_state *state); /* something in it changed */
    void (*shape)(void *userdata,
                  const struct wv_cursor_image *image); /* before the first moved() with its id */
    void *userdata;
};

struct wv_cursor;

/* Returns 0, WV_CURSOR_LOST with a reason, negative errno. */
int wv_cursor_open(struct wv_cursor **ret, const char *display, const char *xauthority,
                   const struct wv_cursor_handler *handler, char *ret_reason, size_t capacity);
struct wv_cursor *wv_cursor_free(struct wv_cursor *c);
int wv_cursor_fd(const struct wv_cursor *c);
/* Whether the descriptor is worth watching now, and when process() must be called without it
 * (WV_CURSOR_NEVER: not). While a question is held back for its rate, neither motion nor anything else wakes
 * the process. */
bool wv_cursor_wants_read(const struct wv_cursor *c);
uint64_t wv_cursor_timeout(const struct wv_cursor *c);
/* Somebody watches: shape and position are told, and from then on their changes. */
void wv_cursor_watch(struct wv_cursor *c, bool on, uint64_t now);
/* Returns 0 or WV_CURSOR_LOST. */
int wv_cursor_process(struct wv_cursor *c, uint64_t now);
/* The pointer may have been moved in a way that makes no event (programs that warp it): asks, but seldom. */
void wv_cursor_poke(struct wv_cursor *c, uint64_t now);
/* Tells shape and position again. */
void wv_cursor_repeat(struct wv_cursor *c);
