/* A video encoder as the stage sees it: one picture in, one access unit out, in the same call. Backends (x264
 * by hand today, hardware later) stand behind a const vtable (services/encoder/backend.h). An encoder must
 * never hold a picture back, reorder, or keep the picture's memory after the call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_ENCODER_MIN_BITRATE_BPS 64000u
#define WV_ENCODER_MAX_BITRATE_BPS 400000000u
#define WV_ENCODER_MAX_FPS         240u

struct wv_encoder;

/* NV12, BT.601 limited range: LUMA plane, then interleaved chroma at stride * height. */
struct wv_picture {
    const uint8_t *pixels;
    uint32_t width, height; /* pixels, even */
    uint32_t stride;        /* bytes per row of both planes */
};

struct wv_access_unit {
    const uint8_t *data; /* Annex B; a keyframe carries its SPS and PPS */
    size_t len;
    bool keyframe; /* IDR */
};

/* The budget of one frame is BITRATE_BPS / FPS. Values are clamped to what the encoder can do. Takes effect
 * with the next picture, without a keyframe. Returns 0 or a negative errno. */
int wv_encoder_set_rate(struct wv_encoder *e, uint32_t bitrate_bps, uint32_t fps);

/* Encodes PICTURE and waits for the result. A size other than the last one's starts a new sequence by itself
 * (with SPS, PPS and IDR). RET is valid until the next call with this encoder. Returns 0; -EINVAL: not a
 * picture (nothing was encoded); any other negative errno: the encoder is broken and started anew by the next
 * call, which gives a keyframe. */
int wv_encoder_encode(struct wv_encoder *e, const struct wv_picture *picture, bool keyframe,
                      struct wv_access_unit *ret);

/* Short and constant: "x264". */
const char *wv_encoder_name(const struct wv_encoder *e);

struct wv_encoder *wv_encoder_free(struct wv_encoder *e);
