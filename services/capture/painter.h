/* From a source's picture into the slots of the frame ring. A slot keeps the picture that it was last
 * published with, so only what changed since then is converted: the work is in proportion to the damage. */
#pragma once

#include "lib/ipc/ring.h"
#include "services/capture/source.h"

struct wv_painter {
    struct wv_ring_producer *ring;         /* not owned */
    uint32_t width, height, stride;        /* of the slots' pictures */
    struct wv_region stale[WV_RING_SLOTS]; /* where a slot differs from the source's picture */
    struct wv_region unpublished;          /* changed since the last publish */
    bool whole;                            /* the next header says that everything may have changed */
};

enum { WV_PAINTER_TOO_BIG = 1 };

void wv_painter_init(struct wv_painter *p, struct wv_ring_producer *ring);
/* The source's picture is a new one of this size (even). Returns 0 or WV_PAINTER_TOO_BIG: a slot can't hold
 * it. */
int wv_painter_set_size(struct wv_painter *p, uint32_t width, uint32_t height);
void wv_painter_changed(struct wv_painter *p, const struct wv_region *changed);
/* Brings a slot up to date from PICTURE and publishes it. HEADER has capture_ns, damage_ns and input_seq; the
 * rest is filled in. CLOCK gives publish_ns (after the conversion). */
void wv_painter_publish(struct wv_painter *p, const struct wv_picture *picture,
                        struct wv_frame_header *header, uint64_t (*clock)(void));
