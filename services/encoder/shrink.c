/* See shrink.h. */
#include "services/encoder/shrink.h"

#include <libyuv/scale.h>
#include <stdlib.h>

#define LEAST_PIXELS 64u /* of a side that is made smaller */

static uint32_t smaller(uint32_t pixels, unsigned quarters)
{
    return pixels * quarters / 4 & ~1u;
}

static bool make_room(struct wv_shrink *s, size_t bytes)
{
    if (s->bytes == bytes)
        return true;
    free(s->pixels);
    s->pixels = malloc(bytes);
    s->bytes = s->pixels ? bytes : 0;
    return s->pixels;
}

void wv_shrink(struct wv_shrink *s, struct wv_picture *picture, unsigned quarters)
{
    uint32_t width = smaller(picture->width, quarters), height = smaller(picture->height, quarters);

    if (quarters >= WV_SHRINK_NONE || !picture->pixels || picture->stride < picture->width ||
        width < LEAST_PIXELS || height < LEAST_PIXELS || picture->width > INT16_MAX ||
        picture->height > INT16_MAX)
        return;
    if (!make_room(s, (size_t)width * height * 3 / 2))
        return;
    const uint8_t *chroma = picture->pixels + (size_t)picture->stride * picture->height;
    uint8_t *to = s->pixels + (size_t)width * height;
    if (NV12Scale(picture->pixels, (int)picture->stride, chroma, (int)picture->stride, (int)picture->width,
                  (int)picture->height, s->pixels, (int)width, to, (int)width, (int)width, (int)height,
                  kFilterBox) != 0)
        return;
    *picture = (struct wv_picture){.pixels = s->pixels, .width = width, .height = height, .stride = width};
}

void wv_shrink_fini(struct wv_shrink *s)
{
    free(s->pixels);
    *s = (struct wv_shrink){0};
}
