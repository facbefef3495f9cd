/* What bench-scene draws and bench-glass reads: a patch in the middle of the screen that changes at every
 * press, and a barcode at the top left that says when the picture was drawn. Both stay readable when the
 * picture is shown smaller than it is and enlarged again. */
#pragma once

#include <stdint.h>

#define GLASS_PATCH_SIZE 160
#define GLASS_PATCH_OFF  0x102040u
#define GLASS_PATCH_ON   0xf0f0d0u

#define GLASS_CELL    16 /* pixels */
#define GLASS_COLUMNS 16
#define GLASS_ROWS    2
#define GLASS_WIDTH   (GLASS_COLUMNS * GLASS_CELL)
#define GLASS_HEIGHT  (GLASS_ROWS * GLASS_CELL)

/* 24 bits of a clock in milliseconds and 8 that check them. */
static inline uint32_t glass_code(uint32_t ms)
{
    uint32_t low = ms & 0xffffffu, sum = low ^ low >> 8 ^ low >> 16 ^ 0x5a;
    return low << 8 | (sum & 0xff);
}

static inline uint32_t glass_code_ms(uint32_t code)
{
    return code >> 8;
}
