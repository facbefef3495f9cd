/* The memory that an X server copies pixels into: shared by descriptor (MIT-SHM 1.2), by a SysV segment, or
 * private when neither works and pixels come through the socket. */
#pragma once

#include "services/capture/source.h"

#include <stddef.h>
#include <stdint.h>
#include <xcb/shm.h>
#include <xcb/xcb.h>

struct wv_x11_segment {
    enum wv_x11_transport transport;
    xcb_shm_seg_t id; /* 0: not shared */
    uint8_t *memory;
    size_t bytes;
};

/* Tries the ways of TRANSPORTS (or-ed) from the best on. Waits for the server. Returns 0, WV_SOURCE_LOST (the
 * connection broke, or no way is left), -ENOMEM. */
int wv_x11_segment_new(struct wv_x11_segment *ret, xcb_connection_t *c, size_t bytes, unsigned transports);
/* The connection may be broken or NULL by now. */
void wv_x11_segment_fini(struct wv_x11_segment *s, xcb_connection_t *c);
