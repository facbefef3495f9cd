/* Ways to inject input into this machine. A backend does what it is told; what may be injected was decided
 * before (see gate.h). */
#pragma once

#include "rift/core/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WV_BACKEND_UNSUPPORTED = 1, /* this event can't be expressed here; nothing happened */
    WV_BACKEND_LOST = 2,        /* of no more use: free it, open another; `reason` says why */
};

struct wv_backend;

struct wv_backend_ops {
    const char *name;
    /* EVENT is a key, a button, motion or scroll within the ranges of rift/core/session.h. May only take
     * effect with flush(). Returns 0, WV_BACKEND_UNSUPPORTED or WV_BACKEND_LOST. */
    int (*inject)(struct wv_backend *b, const struct rift_input_event *event);
    int (*flush)(struct wv_backend *b);   /* 0 or WV_BACKEND_LOST */
    int (*process)(struct wv_backend *b); /* `fd` is readable: 0 or WV_BACKEND_LOST */
    struct wv_backend *(*free)(struct wv_backend *b);
};

struct wv_backend {
    const struct wv_backend_ops *ops;
    int fd; /* to watch for reading, -1: none */
    char reason[160];
};

/* An X server by XTEST. Waits for the server to answer. Returns 0, WV_BACKEND_LOST with the reason, or a
 * negative errno. */
int wv_backend_xtest_open(struct wv_backend **ret, const char *display, const char *xauthority,
                          char *ret_reason, size_t capacity);

/* Virtual devices of the kernel: a keyboard, an absolute pointer and a mouse. FDS are three descriptors of
 * /dev/uinput, taken over; a device that a predecessor made on one of them is used on, so that applications
 * see no unplugging. KEEP: free() leaves the devices in place (somebody else holds the descriptors too).
 * Returns like the above. */
enum wv_uinput_device { WV_UINPUT_KEYBOARD, WV_UINPUT_TABLET, WV_UINPUT_MOUSE, WV_UINPUT_DEVICES };
int wv_backend_uinput_open(struct wv_backend **ret, const int fds[WV_UINPUT_DEVICES], bool keep,
                           char *ret_reason, size_t capacity);
