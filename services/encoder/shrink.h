/* Makes a picture smaller before it is encoded, for a path that carries too little for all of it. Memory is
 * taken when the size changes, never per picture. Must never write to the picture that it was given. */
#pragma once

#include "services/encoder/encoder.h"

#define WV_SHRINK_NONE 4u /* quarters: as it is */

struct wv_shrink {
    uint8_t *pixels;
    size_t bytes;
};

/* PICTURE to QUARTERS (2, 3 or 4) of its width and height, even, in memory of S that is valid until the next
 * call. What can't be made smaller (too small already, no memory, no picture) stays as it is. */
void wv_shrink(struct wv_shrink *s, struct wv_picture *picture, unsigned quarters);
void wv_shrink_fini(struct wv_shrink *s);
