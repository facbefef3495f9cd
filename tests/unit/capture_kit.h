/* What the tests of capture share: a frame ring with both ends, and a comparison with a conversion of
 * everything. */
#pragma once

#include "lib/base/util.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/ring.h"
#include "services/capture/source.h"

#include <stdbool.h>
#include <stdint.h>

struct capture_ring {
    int fds[4];
    struct wv_ring_producer *producer;
    struct wv_ring_consumer *consumer;
    struct wv_frame_header header; /* of what was acquired last */
    const uint8_t *pixels;
};

void capture_ring_open(struct capture_ring *k, uint32_t max_width, uint32_t max_height);
void capture_ring_close(struct capture_ring *k);
/* Takes the newest picture if there is a newer one. */
bool capture_ring_take(struct capture_ring *k);
/* The picture that was taken last is exactly what converting all of BGRX (rows of STRIDE bytes) gives. */
bool capture_ring_equals(const struct capture_ring *k, const uint8_t *bgrx, uint32_t stride);

/* Runs LOOP until DONE says so; false after 20 s. */
bool run_until(struct wv_loop *loop, bool (*done)(void *userdata), void *userdata);
/* Runs LOOP for a while. */
void run_for(struct wv_loop *loop, uint64_t ns);
