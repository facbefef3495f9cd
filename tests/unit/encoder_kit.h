/* For the encoder's tests and bench: pictures to encode, a decoder to look at the result with, and the usual
 * two measures of likeness. Never part of a program that is installed. */
#pragma once

#include "services/encoder/encoder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NV12, malloc'ed; the rows are STRIDE bytes apart. */
struct kit_picture {
    uint8_t *pixels;
    uint32_t width, height, stride;
};

struct kit_picture kit_picture_new(uint32_t width, uint32_t height, uint32_t stride);
void kit_picture_free(struct kit_picture *p);
size_t kit_picture_bytes(const struct kit_picture *p);
struct wv_picture kit_view(const struct kit_picture *p);

/* A page of dense text in several colours, scrolled up by OFFSET rows (even). */
void kit_draw_text(struct kit_picture *p, uint32_t offset);
/* Noise that no encoder can compress; another SEED, another picture. */
void kit_draw_noise(struct kit_picture *p, uint32_t seed);
/* A filled rectangle of one luma. */
void kit_draw_box(struct kit_picture *p, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                  uint8_t luma);

/* Which kinds of NAL units are in an access unit. */
struct kit_nals {
    unsigned sps, pps, idr, slices, b_slices, aud, other;
};
struct kit_nals kit_nals(const uint8_t *data, size_t len);

struct kit_decoder;
/* NULL when there is no avdec_h264 in PLUGIN_DIR. GStreamer must be initialised (make an encoder first). */
struct kit_decoder *kit_decoder_new(const char *plugin_dir);
struct kit_decoder *kit_decoder_free(struct kit_decoder *d);
/* Feeds one access unit. Returns how many pictures came out of it (1 from a stream without delay); the last
 * one is in RET, which belongs to the decoder and is valid until the next call. -1: the decoder refused. */
int kit_decode(struct kit_decoder *d, const struct wv_access_unit *au, struct kit_picture *ret);

double kit_psnr(const struct kit_picture *a, const struct kit_picture *b); /* luma, dB, at most 99 */
double kit_ssim(const struct kit_picture *a, const struct kit_picture *b); /* luma, 8x8 windows, 4 apart */
