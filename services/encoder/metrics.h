/* The encoder's metrics, declared once. */
#pragma once

#include "lib/ipc/metrics.h"

enum wv_encoder_metric {
    WV_ENCODER_RAW_WAIT_US,
    WV_ENCODER_ENCODE_US,
    WV_ENCODER_DAMAGE_TO_AU_US,
    WV_ENCODER_AU_BYTES,
    WV_ENCODER_FRAMES,
    WV_ENCODER_KEYFRAMES,
    WV_ENCODER_REFINE_FRAMES,
    WV_ENCODER_BYTES,
    WV_ENCODER_KEYFRAME_REQUESTS,
    WV_ENCODER_AU_RING_FULL,
    WV_ENCODER_RING_BAD,
    WV_ENCODER_ERRORS,
    WV_ENCODER_BITRATE,
    WV_ENCODER_FPS,
    WV_ENCODER_VIEWERS,
    WV_ENCODER_WIDTH,
    WV_ENCODER_HEIGHT,
    WV_ENCODER_N_METRICS,
};

extern const struct wv_metric wv_encoder_metrics[WV_ENCODER_N_METRICS];
