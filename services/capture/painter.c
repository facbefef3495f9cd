#include "services/capture/painter.h"

#include "lib/base/util.h"
#include "services/capture/convert.h"

#include <assert.h>
#include <string.h>

void wv_painter_init(struct wv_painter *p, struct wv_ring_producer *ring)
{
    *p = (struct wv_painter){.ring = ring, .whole = true};
}

static size_t picture_bytes(uint64_t stride, uint64_t height)
{
    return (size_t)(stride * height * 3 / 2);
}

int wv_painter_set_size(struct wv_painter *p, uint32_t width, uint32_t height)
{
    uint32_t stride = (width + 63) & ~63u;

    if (!width || !height || width > WV_RING_MAX_WIDTH || height > WV_RING_MAX_HEIGHT)
        return WV_PAINTER_TOO_BIG;
    if (picture_bytes(stride, height) > wv_ring_slot_bytes(p->ring))
        stride = width;
    if (picture_bytes(stride, height) > wv_ring_slot_bytes(p->ring))
        return WV_PAINTER_TOO_BIG;
    p->width = width;
    p->height = height;
    p->stride = stride;
    p->whole = true;
    wv_region_clear(&p->unpublished);
    for (unsigned i = 0; i < WV_RING_SLOTS; i++)
        wv_region_set_all(&p->stale[i], (int32_t)width, (int32_t)height);
    return 0;
}

void wv_painter_changed(struct wv_painter *p, const struct wv_region *changed)
{
    wv_region_merge(&p->unpublished, changed);
    for (unsigned i = 0; i < WV_RING_SLOTS; i++)
        wv_region_merge(&p->stale[i], changed);
}

void wv_painter_publish(struct wv_painter *p, const struct wv_picture *picture,
                        struct wv_frame_header *header, uint64_t (*clock)(void))
{
    uint8_t *pixels;
    unsigned slot = wv_ring_begin(p->ring, &pixels);
    struct wv_region *stale = &p->stale[slot];

    assert(picture->width == p->width && picture->height == p->height);
    if (wv_ring_slot_sequence(p->ring, slot) == 0)
        wv_region_set_all(stale, (int32_t)p->width, (int32_t)p->height);
    for (uint32_t i = 0; i < stale->n; i++)
        wv_convert_rect(picture->pixels, picture->stride, pixels, p->stride, p->height, stale->rects[i]);
    wv_region_clear(stale);

    header->format = WV_PIXEL_NV12;
    header->width = p->width;
    header->height = p->height;
    header->stride = p->stride;
    header->n_damage = p->whole ? 0 : p->unpublished.n;
    memcpy(header->damage, p->unpublished.rects, header->n_damage * sizeof(header->damage[0]));
    p->whole = false;
    wv_region_clear(&p->unpublished);
    wv_ring_publish(p->ring, header, clock());
}
