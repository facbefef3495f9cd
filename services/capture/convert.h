/* BGRX (what X servers give) to NV12, BT.601 limited range, by libyuv's SIMD. */
#pragma once

#include "lib/ipc/ring.h"

#include <stdint.h>

/* Converts RECT (even coordinates, inside both) of the BGRX picture SOURCE into the NV12 picture TARGET:
 * HEIGHT rows of TARGET_STRIDE bytes, then the interleaved colour plane of half as many. */
void wv_convert_rect(const uint8_t *source, uint32_t source_stride, uint8_t *target, uint32_t target_stride,
                     uint32_t height, struct wv_rect rect);
