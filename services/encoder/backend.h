/* What an encoder backend implements. Only backends and encoder.c include this. */
#pragma once

#include "services/encoder/encoder.h"

struct wv_encoder_ops {
    const char *name;
    /* Arguments are checked and clamped already; contracts as in encoder.h. */
    int (*set_rate)(struct wv_encoder *e, uint32_t bitrate_bps, uint32_t fps);
    int (*encode)(struct wv_encoder *e, const struct wv_picture *picture, bool keyframe,
                  struct wv_access_unit *ret);
    void (*free)(struct wv_encoder *e);
};

/* First member of a backend's own struct. */
struct wv_encoder {
    const struct wv_encoder_ops *ops;
};
