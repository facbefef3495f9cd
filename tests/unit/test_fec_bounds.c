/* Forward error correction under wrong and hostile input, the sender's choices, and the plan. */
#include "tests/unit/fec_kit.h"

/* ---- Hostile and wrong input ---- */

static size_t good_repair(struct stream *s, uint8_t *body)
{
    for (uint32_t id = 10; id < 14; id++) {
        const struct rift_fec_frame *f = stream_frame(s, id, 5 * SYMBOL + 9);
        for (unsigned p = 0; p < 6; p++)
            if (p || id != 12)
                deliver(s, f, p);
    }
    encode(s, 13, 1, 0xf);
    return write_repair(s, body);
}

START_TEST(wrong_repairs_are_refused_and_change_nothing)
{
    struct stream s;
    uint8_t good[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL], bad[sizeof good + 1];
    static const struct {
        uint8_t at, value;
    } changes[] = {
        {4, 9},     /* epoch */
        {6, 0},     /* size 0 */
        {6, 63},    /* another size */
        {7, 1},     /* too large a size */
        {8, 0x1f},  /* cover beyond the window */
        {8, 0x0e},  /* without its own frame */
        {8, 0x07},  /* fewer frames than lengths */
        {9, 1},     /* no such group */
        {10, 128},  /* no such index */
        {11, 0},    /* another length */
        {13, 0x80}, /* keyframe */
        {13, 0x7f}, /* too long a frame */
        {14, 1},    /* another length of an earlier frame */
        {0, 12},    /* other frames, of which one is not like that: see below */
    };
    stream_new(&s, SYMBOL);
    size_t len = good_repair(&s, good);
    for (size_t i = 0; i + 1 < WV_ARRAY_SIZE(changes); i++) {
        memcpy(bad, good, len);
        bad[changes[i].at] = changes[i].value;
        ck_assert_msg(deliver_body(&s, bad, len) == -EBADMSG, "change %zu", i);
    }
    for (size_t n = 0; n < len; n++) {
        memcpy(bad, good, n);
        ck_assert_int_eq(deliver_body(&s, bad, n), -EBADMSG);
    }
    memcpy(bad, good, len);
    ck_assert_int_eq(deliver_body(&s, bad, len + 1), -EBADMSG);
    struct rift_fec_decoder_stats stats;
    rift_fec_decoder_get_stats(s.decoder, &stats);
    ck_assert_uint_eq(stats.malformed, WV_ARRAY_SIZE(changes) - 1 + len + 1);
    ck_assert_uint_eq(stats.waiting, 0);
    ck_assert_uint_eq(s.recovered, 0);
    ck_assert_int_eq(deliver_body(&s, good, len), 0);
    ck_assert_uint_eq(s.recovered, 1);
    ck_assert_int_eq(deliver_body(&s, good, len), RIFT_FEC_IGNORED);
    stream_free(&s);
}
END_TEST

START_TEST(repairs_that_reach_back_too_far_are_ignored)
{
    struct stream s;
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    static const uint32_t ahead[] = {13, 100, 1u << 20, INT32_MAX};
    for (size_t i = 0; i < WV_ARRAY_SIZE(ahead); i++) {
        stream_new(&s, SYMBOL);
        size_t len = good_repair(&s, body);
        struct rift_fec_frame far = {
            .frame_id = 13 + ahead[i], .epoch = 7, .size = SYMBOL, .len = 1, .data = body};
        struct rift_fec_fragment g = fragment_of(&far, 0);
        ck_assert_int_eq(rift_fec_decoder_source(s.decoder, &g), 0);
        ck_assert_int_eq(deliver_body(&s, body, len), RIFT_FEC_IGNORED);
        struct rift_fec_decoder_stats stats;
        rift_fec_decoder_get_stats(s.decoder, &stats);
        ck_assert_uint_eq(stats.repairs_late, 1);
        /* As far away as ids can be. */
        uint32_t opposite = far.frame_id + (1u << 31);
        struct wv_writer w;
        wv_writer_init(&w, body, 4);
        wv_write_u32(&w, opposite);
        ck_assert_int_eq(deliver_body(&s, body, len), RIFT_FEC_IGNORED);
        g.frame_id = opposite;
        ck_assert_int_eq(rift_fec_decoder_source(s.decoder, &g), RIFT_FEC_IGNORED);
        stream_free(&s);
    }
}
END_TEST

START_TEST(wrong_fragments_are_refused)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    struct rift_fec_frame *f = stream_frame(&s, 5, 3 * SYMBOL + 5);
    deliver(&s, f, 0);
    struct rift_fec_fragment g = fragment_of(f, 1), h;
#define REFUSED(change, result)                                                                              \
    do {                                                                                                     \
        h = g;                                                                                               \
        change;                                                                                              \
        ck_assert_int_eq(rift_fec_decoder_source(s.decoder, &h), result);                                    \
    } while (0)
    REFUSED(h.count = 0, -EBADMSG);
    REFUSED(h.size = 0, -EBADMSG);
    REFUSED(h.index = 4, -EBADMSG);
    REFUSED(h.len = SYMBOL - 1, -EBADMSG);
    REFUSED(h.len = SYMBOL + 1, -EBADMSG);
    REFUSED(h.len = 0, -EBADMSG);
    REFUSED(h.epoch++, -EBADMSG);
    REFUSED(h.keyframe = true, -EBADMSG);
    REFUSED(h.count = 5, -EBADMSG);
    REFUSED((h.size = h.len = 32), -EBADMSG);
    REFUSED((h.frame_id++, h.size = SYMBOL + 1, h.len = SYMBOL + 1), RIFT_FEC_IGNORED);
    REFUSED((h.frame_id++, h.count = RIFT_FEC_FRAME_FRAGMENTS + 1), RIFT_FEC_IGNORED);
    REFUSED(h.frame_id -= 20, 0 + RIFT_FEC_IGNORED);
    REFUSED(h = g, 0);
    REFUSED(h = g, RIFT_FEC_IGNORED);
    stream_free(&s);
}
END_TEST

START_TEST(any_bytes_stay_inside)
{
    struct stream s;
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    stream_new(&s, SYMBOL);
    size_t len = good_repair(&s, body);
    for (unsigned i = 0; i < 50000; i++) {
        uint8_t copy[sizeof body];
        memcpy(copy, body, len);
        copy[0] = (uint8_t)(i / 100 + rnd(12)); /* ids that rise, all shapes claimed of them at once */
        for (unsigned k = rnd(4); k-- > 0;)
            copy[rnd(i % 2 ? 23 : (uint32_t)len)] = (uint8_t)rnd(256);
        struct wv_reader r;
        wv_reader_init(&r, copy, len);
        rift_fec_decoder_repair(s.decoder, &r);
        struct rift_fec_fragment g;
        while (rift_fec_decoder_next(s.decoder, &g) == 0)
            ck_assert(g.len > 0 && g.len <= g.size && g.index < g.count && g.size <= SYMBOL);
        struct rift_fec_decoder_stats stats;
        rift_fec_decoder_get_stats(s.decoder, &stats);
        ck_assert_uint_le(stats.waiting, 128);
    }
    stream_free(&s);
}
END_TEST

/* A flood of windows in which everything is missing leaves no trace once it is over. */
START_TEST(a_flood_of_hopeless_repairs_passes)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    uint32_t id = 0;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 5; i++, id++) {
            stream_frame(&s, id, 60 * SYMBOL);
            encode(&s, id, 30, id % 2 ? 0xf : 0x1);
            deliver_repairs(&s, 0);
        }
        const struct rift_fec_frame *f = stream_frame(&s, id, 60 * SYMBOL);
        for (unsigned p = 2; p < 60; p++)
            deliver(&s, f, p);
        encode(&s, id++, 2, 1);
        deliver_repairs(&s, 0);
        ck_assert_uint_eq(missing(&s, f), 0);
    }
    stream_free(&s);
}
END_TEST

START_TEST(more_frames_than_there_is_room_for)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    for (uint32_t id = 0; id < 20; id++) {
        struct rift_fec_frame *f = stream_frame(&s, id, 1000 * SYMBOL);
        for (unsigned p = 0; p < 1000; p++)
            if (p % 101) /* 10 are lost, at most 2 of a group */
                ck_assert_int_eq(deliver(&s, f, p), 0);
        ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, f, 1, 20, RIFT_FEC_WIDE), 0);
        deliver_repairs(&s, 0);
        ck_assert_uint_eq(missing(&s, f), 0);
    }
    stream_free(&s);
}
END_TEST

/* ---- The sender's choices ---- */

START_TEST(the_share_is_kept)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    static const uint16_t shares[] = {1, 50, 125, 250, 500, 600};
    for (size_t i = 0; i < WV_ARRAY_SIZE(shares); i++) {
        uint64_t fragments = 0, repairs = 0;
        for (uint32_t id = 0; id < 3000; id++) {
            struct rift_fec_frame *f = stream_frame(&s, id, 1 + rnd((rnd(20) ? 6 : 300) * SYMBOL));
            fragments += count_of(f);
            rift_fec_encoder_frame(s.encoder, f, 1, shares[i], RIFT_FEC_LOCAL);
            repairs += rift_fec_encoder_pending(s.encoder);
        }
        uint64_t share = WV_MIN(shares[i], (uint16_t)RIFT_FEC_SHARE_MAX);
        ck_assert_uint_le(repairs * 1000, fragments * share + 8000);
        ck_assert_uint_ge(repairs * 1000 * 100 / 99 + 8000, fragments * share);
    }
    ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, &s.frames[0], 1, 0, RIFT_FEC_WIDE), RIFT_FEC_IGNORED);
    ck_assert_uint_eq(rift_fec_encoder_pending(s.encoder), 0);
    stream_free(&s);
}
END_TEST

static uint8_t cover_of(struct stream *s, const struct rift_fec_frame *frames, unsigned n)
{
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    ck_assert_int_eq(rift_fec_encoder_frame(s->encoder, frames, n, 500, RIFT_FEC_WIDE), 0);
    size_t len = write_repair(s, body);
    ck_assert_uint_gt(len, 8);
    rift_fec_encoder_clear(s->encoder);
    return body[8];
}

START_TEST(windows_end_where_they_must)
{
    struct stream s;
    struct rift_fec_frame f[5];
    stream_new(&s, SYMBOL);
    for (uint32_t i = 0; i < 5; i++)
        f[i] = *stream_frame(&s, 4 - i, 10 * SYMBOL);
    ck_assert_uint_eq(cover_of(&s, f, 1), 0x1);
    ck_assert_uint_eq(cover_of(&s, f, 2), 0x3);
    ck_assert_uint_eq(cover_of(&s, f, 5), 0xf);
    f[1].keyframe = true;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x3);
    f[0].keyframe = true;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x1);
    f[0].keyframe = f[1].keyframe = false;
    f[2].epoch++;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x3);
    f[2].epoch--;
    f[3].size--;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x7);
    f[3].size++;
    f[1].frame_id = 2; /* one was never sent */
    f[2].frame_id = 1;
    ck_assert_uint_eq(cover_of(&s, f, 3), 0xd);
    f[0].len = f[1].len = f[2].len = 100 * SYMBOL;
    ck_assert_uint_eq(cover_of(&s, f, 3), 0x5);
    stream_free(&s);
}
END_TEST

START_TEST(bad_calls_are_refused)
{
    struct stream s;
    struct rift_fec_encoder *e;
    struct rift_fec_decoder *d;
    uint8_t covers[2] = {1, 1}, small[20];
    ck_assert_int_eq(rift_fec_encoder_new(&e, 0), -EINVAL);
    ck_assert_int_eq(rift_fec_decoder_new(&d, RIFT_FEC_SYMBOL_MAX + 1), -EINVAL);
    ck_assert_ptr_null(rift_fec_encoder_free(NULL));
    ck_assert_ptr_null(rift_fec_decoder_free(NULL));
    stream_new(&s, SYMBOL);
    struct rift_fec_frame f = *stream_frame(&s, 9, 4 * SYMBOL);
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW] = {&f};
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 1, 0, 2, covers), -EINVAL);
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 127, 2, covers), -EINVAL);
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 0, covers), -EINVAL);
    covers[1] = 3;
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -EINVAL);
    covers[1] = 0x11;
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -EINVAL);
    covers[1] = 1;
    f.len = 0;
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -EINVAL);
    ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, &f, 1, 500, RIFT_FEC_WIDE), -EINVAL);
    f.len = (size_t)RIFT_FEC_FRAME_FRAGMENTS * SYMBOL + 1; /* not protected, which is no error */
    ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, &f, 1, 500, RIFT_FEC_WIDE), RIFT_FEC_IGNORED);
    f.len = 4 * SYMBOL;
    for (unsigned i = 0; i < RIFT_FEC_REPAIRS / 2; i++)
        ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), 0);
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -ENOSPC);
    struct wv_writer w;
    wv_writer_init(&w, small, sizeof small);
    ck_assert_int_eq(rift_fec_encoder_write(s.encoder, &w), -ENOSPC);
    ck_assert_uint_eq(rift_fec_encoder_pending(s.encoder), RIFT_FEC_REPAIRS);
    rift_fec_encoder_clear(s.encoder);
    ck_assert_int_eq(rift_fec_encoder_write(s.encoder, &w), RIFT_FEC_NONE);
    stream_free(&s);
}
END_TEST

/* ---- The plan ---- */

static struct rift_fec_plan plan(uint32_t loss_ppm, uint32_t burst_milli, uint64_t rtt_ms, uint32_t fragments)
{
    struct rift_fec_path path = {.loss_ppm = loss_ppm,
                                 .burst_milli = burst_milli,
                                 .rtt_ns = rtt_ms * WV_NS_PER_MS,
                                 .fragments = fragments};
    struct rift_fec_plan p;
    rift_fec_plan(&path, &p);
    ck_assert_uint_le(p.share_permille, RIFT_FEC_SHARE_MAX);
    ck_assert_uint_gt(strlen(rift_fec_reason_text(p.reason)), 10);
    if (p.share_permille)
        ck_assert_uint_lt(p.residual_ppm, rift_fec_residual_ppm(&path, WV_MIN(fragments, 64u), 0));
    if (p.reason != RIFT_FEC_PROTECT && p.reason != RIFT_FEC_LIMIT)
        ck_assert_uint_eq(p.share_permille, 0);
    return p;
}

START_TEST(the_plan_has_reasons)
{
    ck_assert_int_eq(plan(0, 0, 80, 16).reason, RIFT_FEC_CLEAN);
    ck_assert_int_eq(plan(100, 0, 80, 16).reason, RIFT_FEC_CLEAN);
    ck_assert_int_eq(plan(30000, 0, 5, 16).reason, RIFT_FEC_RETRANSMIT);
    ck_assert_int_eq(plan(10000, 0, 40, 16).reason, RIFT_FEC_PROTECT);
    ck_assert_int_eq(plan(300000, 0, 80, 16).reason, RIFT_FEC_LIMIT);
    ck_assert_int_eq(plan(600000, 0, 80, 16).reason, RIFT_FEC_HOPELESS);
    ck_assert_int_eq(plan(UINT32_MAX, UINT32_MAX, UINT64_MAX / WV_NS_PER_MS, UINT32_MAX).reason,
                     RIFT_FEC_HOPELESS);
    ck_assert_int_eq(plan(10000, 0, 0, 16).reason,
                     RIFT_FEC_PROTECT); /* an unknown round trip is a long one */
    ck_assert_int_eq(plan(10000, 0, 40, 16).spread, RIFT_FEC_WIDE);
    ck_assert_int_eq(plan(300000, 0, 80, 16).spread, RIFT_FEC_LOCAL);
    /* The usual cases of a bad line. */
    ck_assert_uint_eq(plan(10000, 0, 40, 16).share_permille, 125);
    ck_assert_uint_eq(plan(50000, 0, 80, 16).share_permille, 250);
    /* Rare bursts are cheaper to ask for again than to insure against. */
    ck_assert_int_eq(plan(1000, 4000, 80, 16).reason, RIFT_FEC_CLEAN);
}
END_TEST

START_TEST(the_plan_grows_with_the_need)
{
    for (uint32_t fragments = 1; fragments <= 2000; fragments += 1 + fragments / 3) {
        uint16_t last = 0;
        for (uint32_t loss = 0; loss <= 150000; loss += 10000) {
            uint16_t share = plan(loss, 0, 60, fragments).share_permille;
            ck_assert_uint_ge(share, last);
            last = share;
        }
        ck_assert_uint_gt(last, 200);
        ck_assert_uint_ge(plan(20000, 0, 100, fragments).share_permille,
                          plan(20000, 0, 20, fragments).share_permille);
    }
    /* Longer blocks need less. */
    ck_assert_uint_lt(plan(20000, 0, 60, 100).share_permille, plan(20000, 0, 60, 10).share_permille);
}
END_TEST

START_TEST(the_model_of_losses_is_right)
{
    /* 16 + 2 with independent losses: 1 - sum of the first three terms of the binomial distribution. */
    struct rift_fec_path path = {.loss_ppm = 50000};
    ck_assert_uint_eq(rift_fec_residual_ppm(&path, 16, 0), 559873);
    ck_assert_int_le(labs((long)rift_fec_residual_ppm(&path, 16, 2) - 58127), 5);
    /* And counted. */
    path.burst_milli = 4000;
    unsigned hit = 0, n = 200000, bad = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned lost = 0;
        for (unsigned k = 0; k < 18; k++) {
            bad = bad ? rnd(1000000) >= 250000 : rnd(1000000) < 13158;
            lost += bad;
        }
        hit += lost > 2;
    }
    ck_assert_int_le(labs((long)rift_fec_residual_ppm(&path, 16, 2) - (long)hit * (1000000 / (long)n)), 3000);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, wrong_repairs_are_refused_and_change_nothing);
    tcase_add_test(t, repairs_that_reach_back_too_far_are_ignored);
    tcase_add_test(t, wrong_fragments_are_refused);
    tcase_add_test(t, any_bytes_stay_inside);
    tcase_add_test(t, a_flood_of_hopeless_repairs_passes);
    tcase_add_test(t, more_frames_than_there_is_room_for);
    tcase_add_test(t, the_share_is_kept);
    tcase_add_test(t, windows_end_where_they_must);
    tcase_add_test(t, bad_calls_are_refused);
    tcase_add_test(t, the_plan_has_reasons);
    tcase_add_test(t, the_plan_grows_with_the_need);
    tcase_add_test(t, the_model_of_losses_is_right);
}

int main(void)
{
    return run_tests("fec_bounds", add_tests);
}
