/* Real H.264 for tests, made by GStreamer's x264enc as a host makes it: one access unit for each picture. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct h264_maker;

/* Loads the plug-ins. Called before Check forks, it is done once for all tests. */
void h264_maker_prepare(void);

/* Pictures of WIDTH x HEIGHT, I420. Aborts when x264enc is missing. COLORIMETRY NULL: not said. */
struct h264_maker *h264_maker_new(int width, int height, const char *colorimetry);
struct h264_maker *h264_maker_free(struct h264_maker *m);

/* Encodes a picture with luma LEFT in its left half and RIGHT in its right half, chroma U and V. The access
 * unit is valid until the next call. */
void h264_maker_encode(struct h264_maker *m, uint8_t left, uint8_t right, uint8_t u, uint8_t v, bool keyframe,
                       const uint8_t **ret_data, size_t *ret_len, bool *ret_keyframe);
