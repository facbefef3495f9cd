/* A video decoder: one access unit in, at most one picture out, in the same call, on the caller's thread. It
 * holds pictures by reference and copies none. Other decoders (hardware) are further constructors. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wv_decoder;

struct wv_decoded {
    const uint8_t *plane[3]; /* Y, U, V; I420 */
    int stride[3];
    int width, height;
    bool full_range; /* else 16..235 */
    bool bt709;      /* else BT.601, also when the stream does not say */
};

enum {
    WV_DECODER_ERROR = 1, /* no picture from this access unit: ask for a keyframe */
};

/* H.264 in byte-stream format by GStreamer's avdec_h264, without frame threads, so without delay. THREADS:
 * how many slices of a picture may be decoded at once, at least 1. Returns 0, -ENOSYS (plug-in missing), -EIO
 * (GStreamer does not start), -ENOMEM. */
int wv_decoder_gst_new(struct wv_decoder **ret, unsigned threads);
struct wv_decoder *wv_decoder_free(struct wv_decoder *d);

/* Decodes one access unit (copied). KEYFRAME: it can be decoded by itself. RET is valid until the next call.
 * Returns 0, WV_DECODER_ERROR, or -ENOMEM. */
int wv_decoder_decode(struct wv_decoder *d, const uint8_t *data, size_t len, bool keyframe,
                      struct wv_decoded *ret);

/* Keeps the newest picture valid until the next call of this function, so that a picture can be compared with
 * the one shown before it. */
void wv_decoder_keep(struct wv_decoder *d);

/* Forgets all references, after a gap: the next access unit must be a keyframe. */
void wv_decoder_reset(struct wv_decoder *d);
