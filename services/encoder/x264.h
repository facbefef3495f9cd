/* H.264 by x264, through GStreamer's x264enc element driven by hand. */
#pragma once

#include "services/encoder/encoder.h"

struct wv_x264_options {
    const char *plugin_dir; /* folder of libgstx264.so; NULL or "": the one found when this was built */
    const char *preset;     /* "desktop" or x264's own, "ultrafast" ... "medium"; NULL: "desktop" */
    uint32_t threads;       /* slices encoded at once; 0: by the number of processors, at most 4 */
    uint32_t vbv_percent;   /* size of the VBV buffer in percent of one frame's budget; 0: 100 */
    uint32_t qp_min;        /* finest quantizer (1..51); 0: 12 */
    const char *tuning;     /* further x264 options "a=1:b=2" (measurements, tests); NULL: none */
    uint32_t
        refresh_frames; /* intra refresh: every place is coded anew once in so many pictures; 0: keyframes */
    uint32_t bitrate_bps, fps;
};

/* Loads the plugin and makes an encoder. Initialises GStreamer for this process without its registry: no
 * scan, no helper process, no file written. Reads files and so belongs before lockdown; later calls on the
 * encoder make threads but open nothing. Returns 0; -ENOENT: no plugin in the folder; -ENOSYS: the plugin has
 * no x264enc; -EINVAL: unknown preset; -ENOMEM. */
int wv_encoder_x264_new(struct wv_encoder **ret, const struct wv_x264_options *options);

/* The folder that was found when this was built. */
const char *wv_encoder_x264_plugin_dir(void);
