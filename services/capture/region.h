/* A bounded set of rectangles: what changed. It only ever covers more than what was added, never less; at
 * most WV_RING_DAMAGE_MAX rectangles, so that it fits a frame header and costs nothing to keep. Pure. */
#pragma once

#include "lib/ipc/ring.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wv_region {
    uint32_t n;
    struct wv_rect rects[WV_RING_DAMAGE_MAX];
};

void wv_region_clear(struct wv_region *r);
/* Adds RECT, clipped to WIDTH x HEIGHT and grown to even coordinates (NV12 holds one colour for 2x2 pixels).
 * WIDTH and HEIGHT are even. */
void wv_region_add(struct wv_region *r, struct wv_rect rect, int32_t width, int32_t height);
/* Adds all of FROM, which is of a picture of the same size. */
void wv_region_merge(struct wv_region *r, const struct wv_region *from);
void wv_region_set_all(struct wv_region *r, int32_t width, int32_t height);
bool wv_region_empty(const struct wv_region *r);
uint64_t wv_region_area(const struct wv_region *r); /* sum over the rectangles, pixels */
