/* The inside of struct wv_window, shared by window.c (the window and what it shows), window_input.c (what the
 * person does) and cursor.c (the pointer's shape), and by nobody else. */
#pragma once

#include "client/window.h"

#define SHAPES_MAX 32 /* cursor shapes remembered; the oldest goes */

struct cursor_shape {
    uint32_t id;
    uint64_t used;
    SDL_Cursor *cursor;
    struct wv_sprite sprite; /* for drawing it into the picture */
    int hot_x, hot_y;
};

struct wv_window {
    struct wv_loop *loop;
    struct wv_window_callbacks call;
    void *userdata;
    SDL_Window *window;
    Uint32 id;
    struct wv_painter *painter;
    struct wv_loop_source *x_source, *timer, *prepare;
    void *x_display; /* Display *, NULL when the video driver is another one */
    unsigned long x_window;

    bool view_only, grab, fullscreen, follow_size, hidden, overlay;
    bool managed;    /* a window manager is there, and does what it is asked */
    SDL_Rect before; /* place and size before fullscreen, where nobody else remembers them */
    int window_width, window_height;
    struct wv_client_picture picture;
    bool have_picture, everything, repaint;
    struct wv_sprite notice, stats;
    char stats_text[1024];

    /* What is held down, as the host was told. */
    bool key_down[768];
    bool button_down[16];
    bool motion_waits;
    struct rift_input_event motion;
    bool relative, keyboard_grabbed;
    double wheel_x, wheel_y; /* parts of a step that were not sent yet */

    struct cursor_shape shapes[SHAPES_MAX];
    uint64_t shape_clock;
    struct rift_cursor cursor;
    bool have_cursor;
};

/* window.c */
void window_paint(struct wv_window *w, bool picture_changed);
SDL_Rect window_area(const struct wv_window *w);
void window_set_fullscreen(struct wv_window *w, bool on);
void window_take_focus(struct wv_window *w);

/* window_input.c */
void window_pump(struct wv_window *w);
void window_release_all(struct wv_window *w);

/* cursor.c */
void cursor_apply(struct wv_window *w);
const struct wv_sprite *cursor_sprite(struct wv_window *w);
void cursor_free(struct wv_window *w);
