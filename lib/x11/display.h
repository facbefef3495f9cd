/* What the stages that talk to an X server share: opening a connection with a sentence that says what went
 * wrong, and the root window's geometry. XCB only; never Xlib (its error handler ends the process). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xcb/xcb.h>

enum { WV_X11_UNREACHABLE = 1 };

struct wv_x11_geometry {
    uint16_t width, height; /* of the root window, pixels */
};

/* Whether a display is configured: NAME, or $DISPLAY when NAME is empty or NULL. */
bool wv_x11_configured(const char *name);
/* The name that wv_x11_open() would use, "" when none is configured. */
const char *wv_x11_name(const char *name);

/* Connects to NAME (empty or NULL: $DISPLAY). XAUTHORITY (empty or NULL: leave the environment's) is the file
 * of the access cookie. Waits for the server's answer. Returns 0, or WV_X11_UNREACHABLE with a sentence in
 * RET_REASON. */
int wv_x11_open(const char *name, const char *xauthority, xcb_connection_t **ret_connection,
                xcb_screen_t **ret_screen, char *ret_reason, size_t capacity);

/* Asks the server for the root window's size. One round trip. Returns 0 or WV_X11_UNREACHABLE. */
int wv_x11_geometry(xcb_connection_t *c, xcb_window_t root, struct wv_x11_geometry *ret);

/* Disconnects; NULL is fine. Returns NULL. */
xcb_connection_t *wv_x11_close(xcb_connection_t *c);
