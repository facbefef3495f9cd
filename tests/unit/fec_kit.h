/* A stream of frames through encoder, channel and decoder for the tests of forward error correction: what
 * comes back is compared with what was sent. Included by one test program each. */
#pragma once

#include "lib/base/util.h"
#include "rift/core/fec.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#define SYMBOL 64
#define FRAMES 16

static uint64_t seed;

static __attribute__((unused)) uint32_t rnd(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

/* ---- Allocations are counted, not believed ---- */

static __attribute__((unused)) unsigned allocations; /* the sanitizers count their own */
static bool counting;                                /* while the library works, not the test */
#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_memalign(size_t a, size_t n);

void *malloc(size_t n)
{
    allocations += counting;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    allocations += counting;
    return __libc_calloc(n, m);
}

void *aligned_alloc(size_t a, size_t n)
{
    allocations += counting;
    return __libc_memalign(a, n);
}
#endif

/* ---- A stream of frames and what came of it ---- */

#define MAX_FRAGMENTS RIFT_FEC_FRAME_FRAGMENTS

struct stream {
    struct rift_fec_encoder *encoder;
    struct rift_fec_decoder *decoder;
    struct rift_fec_frame frames[FRAMES]; /* by id modulo FRAMES */
    uint8_t *data[FRAMES];
    bool have[FRAMES][MAX_FRAGMENTS]; /* delivered or recovered */
    unsigned recovered;
    size_t symbol;
};

static __attribute__((unused)) void stream_new(struct stream *s, size_t symbol)
{
    memset(s, 0, sizeof *s);
    s->symbol = symbol;
    ck_assert_int_eq(rift_fec_encoder_new(&s->encoder, symbol), 0);
    ck_assert_int_eq(rift_fec_decoder_new(&s->decoder, symbol), 0);
    for (unsigned i = 0; i < FRAMES; i++)
        s->data[i] = malloc(MAX_FRAGMENTS * symbol);
}

static __attribute__((unused)) void stream_free(struct stream *s)
{
    ck_assert_ptr_null(rift_fec_encoder_free(s->encoder));
    ck_assert_ptr_null(rift_fec_decoder_free(s->decoder));
    for (unsigned i = 0; i < FRAMES; i++)
        free(s->data[i]);
}

static __attribute__((unused)) unsigned count_of(const struct rift_fec_frame *f)
{
    return (unsigned)((f->len + f->size - 1) / f->size);
}

static __attribute__((unused)) struct rift_fec_frame *stream_frame(struct stream *s, uint32_t id, size_t len)
{
    unsigned i = id % FRAMES;
    for (size_t k = 0; k < len; k++)
        s->data[i][k] = (uint8_t)rnd(256);
    memset(s->have[i], 0, sizeof s->have[i]);
    s->frames[i] = (struct rift_fec_frame){
        .frame_id = id, .epoch = 7, .size = (uint16_t)s->symbol, .len = len, .data = s->data[i]};
    return &s->frames[i];
}

static __attribute__((unused)) struct rift_fec_fragment fragment_of(const struct rift_fec_frame *f,
                                                                    unsigned index)
{
    size_t at = (size_t)index * f->size;
    return (struct rift_fec_fragment){.frame_id = f->frame_id,
                                      .epoch = f->epoch,
                                      .keyframe = f->keyframe,
                                      .count = (uint16_t)count_of(f),
                                      .size = f->size,
                                      .index = (uint16_t)index,
                                      .data = f->data + at,
                                      .len = WV_MIN((size_t)f->size, f->len - at)};
}

/* Takes what was recovered and compares it with what was sent. */
static __attribute__((unused)) void drain(struct stream *s)
{
    struct rift_fec_fragment g;
    while (rift_fec_decoder_next(s->decoder, &g) == 0) {
        const struct rift_fec_frame *f = &s->frames[g.frame_id % FRAMES];
        ck_assert_uint_eq(f->frame_id, g.frame_id);
        ck_assert_uint_lt(g.index, count_of(f));
        ck_assert(!s->have[g.frame_id % FRAMES][g.index]);
        struct rift_fec_fragment want = fragment_of(f, g.index);
        ck_assert_uint_eq(g.len, want.len);
        ck_assert_uint_eq(g.count, want.count);
        ck_assert_uint_eq(g.size, want.size);
        ck_assert_uint_eq(g.epoch, want.epoch);
        ck_assert_int_eq(g.keyframe, want.keyframe);
        ck_assert_mem_eq(g.data, want.data, want.len);
        s->have[g.frame_id % FRAMES][g.index] = true;
        s->recovered++;
    }
}

static __attribute__((unused)) int deliver(struct stream *s, const struct rift_fec_frame *f, unsigned index)
{
    struct rift_fec_fragment g = fragment_of(f, index);
    counting = true;
    int r = rift_fec_decoder_source(s->decoder, &g);
    counting = false;
    ck_assert_int_ge(r, 0);
    s->have[f->frame_id % FRAMES][index] = true;
    drain(s);
    return r;
}

static __attribute__((unused)) int deliver_body(struct stream *s, const uint8_t *body, size_t len)
{
    struct wv_reader r;
    wv_reader_init(&r, body, len);
    counting = true;
    int result = rift_fec_decoder_repair(s->decoder, &r);
    counting = false;
    drain(s);
    return result;
}

static __attribute__((unused)) size_t write_repair(struct stream *s, uint8_t *body)
{
    struct wv_writer w;
    wv_writer_init(&w, body, RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + s->symbol);
    size_t want = rift_fec_encoder_next_bytes(s->encoder);
    ck_assert_int_eq(rift_fec_encoder_write(s->encoder, &w), 0);
    ck_assert_uint_eq(w.length, want);
    return w.length;
}

/* Passes all repairs on but those whose bit is set in LOST, in their order. */
static __attribute__((unused)) void deliver_repairs(struct stream *s, uint64_t lost)
{
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + RIFT_FEC_SYMBOL_MAX];
    for (unsigned i = 0; rift_fec_encoder_pending(s->encoder); i++) {
        size_t len = write_repair(s, body);
        if (i >= 64 || !(lost >> i & 1))
            ck_assert_int_ge(deliver_body(s, body, len), 0);
    }
}

static __attribute__((unused)) unsigned missing(const struct stream *s, const struct rift_fec_frame *f)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count_of(f); i++)
        n += !s->have[f->frame_id % FRAMES][i];
    return n;
}

/* N repairs of frame ID with COVER each; the frames it does not know are left out. */
static __attribute__((unused)) void encode(struct stream *s, uint32_t id, unsigned n, uint8_t cover)
{
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW];
    uint8_t covers[RIFT_FEC_INDICES];
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++) {
        window[d] = &s->frames[(id - d) % FRAMES];
        if (!window[d]->data || window[d]->frame_id != id - d)
            cover &= (uint8_t) ~(1u << d);
    }
    memset(covers, cover, sizeof covers);
    rift_fec_encoder_clear(s->encoder);
    ck_assert_int_eq(rift_fec_encode(s->encoder, window, 0, 0, n, covers), 0);
}

static void run_tests_begin(void)
{
    seed = 0x5eed5eed5eed;
}

static int run_tests(const char *name, void (*add)(TCase *))
{
    Suite *suite = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_add_checked_fixture(t, run_tests_begin, NULL);
    tcase_set_timeout(t, 50);
    add(t);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
