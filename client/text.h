/* Text in a bitmap, for the few words that the client shows over the picture: a fixed font, ASCII, a dark
 * box. No font files, no library. */
#pragma once

#include "client/paint.h"

#include <stddef.h>

#define WV_TEXT_CELL_WIDTH  6
#define WV_TEXT_CELL_HEIGHT 13

/* Renders TEXT (lines parted by newlines) into RET's pixels (reused by realloc; the caller frees them), SCALE
 * times enlarged. Returns 0, -ENOMEM, -EMSGSIZE. */
int wv_text_render(const char *text, int scale, struct wv_sprite *ret);

/* Copies TEXT with newlines at word ends, so that lines have at most COLUMNS bytes where words allow. */
void wv_text_wrap(const char *text, int columns, char *ret, size_t capacity);
