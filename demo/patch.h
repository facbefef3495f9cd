/* The patch of the demo's picture: a square whose two colours nothing else in the picture has, so that
 * whoever looks at decoded pictures finds it without knowing where it is. */
#pragma once

#define DEMO_PATCH_SIZE 160
#define DEMO_PATCH_ON   0xff00ff /* magenta: U and V both high */
#define DEMO_PATCH_OFF  0x00ff00 /* green: U and V both low */
