/* The decoder gives a picture for every access unit in the same call, survives damage and changes of size. */
#include "client/decoder.h"
#include "tests/unit/h264_maker.h"
#include "tests/unit/suite.h"

#include <stdlib.h>
#include <string.h>

static struct wv_decoder *new_decoder(unsigned threads)
{
    struct wv_decoder *d = NULL;
    ck_assert_int_eq(wv_decoder_gst_new(&d, threads), 0);
    return d;
}

static int luma_at(const struct wv_decoded *p, int x, int y)
{
    return p->plane[0][y * p->stride[0] + x];
}

/* Encodes and decodes one picture; checks that it is that very picture. */
static void round_trip(struct h264_maker *m, struct wv_decoder *d, int width, int height, uint8_t left,
                       bool keyframe)
{
    const uint8_t *data;
    size_t len;
    bool key;
    struct wv_decoded p;
    h264_maker_encode(m, left, 100, 90, 160, keyframe, &data, &len, &key);
    ck_assert_int_eq(wv_decoder_decode(d, data, len, key, &p), 0);
    ck_assert_int_eq(p.width, width);
    ck_assert_int_eq(p.height, height);
    ck_assert_int_lt(abs(luma_at(&p, width / 4, height / 2) - left), 8);
    ck_assert_int_lt(abs(luma_at(&p, width * 3 / 4, height / 2) - 100), 8);
    ck_assert_int_lt(abs(p.plane[1][(height / 4) * p.stride[1] + width / 8] - 90), 8);
    ck_assert_int_lt(abs(p.plane[2][(height / 4) * p.stride[2] + width / 8] - 160), 8);
}

START_TEST(every_picture_comes_in_its_own_call)
{
    struct h264_maker *m = h264_maker_new(320, 180, NULL);
    struct wv_decoder *d = new_decoder((unsigned)_i);
    for (int i = 0; i < 60; i++)
        round_trip(m, d, 320, 180, (uint8_t)(30 + i * 3), false);
    wv_decoder_free(d);
    h264_maker_free(m);
}
END_TEST

START_TEST(a_new_size_is_followed)
{
    struct wv_decoder *d = new_decoder(1);
    static const int sizes[][2] = {{320, 180}, {642, 362}, {128, 96}, {320, 180}};
    for (size_t i = 0; i < 4; i++) {
        struct h264_maker *m = h264_maker_new(sizes[i][0], sizes[i][1], NULL);
        round_trip(m, d, sizes[i][0], sizes[i][1], 60, false);
        round_trip(m, d, sizes[i][0], sizes[i][1], 200, false);
        h264_maker_free(m);
    }
    wv_decoder_free(d);
}
END_TEST

START_TEST(damage_is_an_error_and_a_keyframe_mends_it)
{
    struct h264_maker *m = h264_maker_new(320, 180, NULL);
    struct wv_decoder *d = new_decoder(1);
    struct wv_decoded p;
    const uint8_t *data;
    size_t len;
    bool key;
    round_trip(m, d, 320, 180, 40, false);
    uint8_t garbage[3000];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (uint8_t)(i * 7919 >> 3);
    ck_assert_int_eq(wv_decoder_decode(d, garbage, sizeof garbage, false, &p), WV_DECODER_ERROR);
    ck_assert_int_eq(wv_decoder_decode(d, garbage, 0, false, &p), WV_DECODER_ERROR);
    /* What refers to a damaged picture is not shown, even if it could be decoded somehow. */
    h264_maker_encode(m, 80, 100, 90, 160, false, &data, &len, &key);
    ck_assert(!key);
    ck_assert_int_eq(wv_decoder_decode(d, data, len, key, &p), WV_DECODER_ERROR);
    for (int i = 0; i < 5; i++)
        round_trip(m, d, 320, 180, (uint8_t)(50 + 20 * i), i == 0);
    wv_decoder_free(d);
    h264_maker_free(m);
}
END_TEST

START_TEST(the_first_picture_must_be_a_keyframe)
{
    struct h264_maker *m = h264_maker_new(320, 180, NULL);
    struct wv_decoder *d = new_decoder(1);
    struct wv_decoded p;
    const uint8_t *data;
    size_t len;
    bool key;
    h264_maker_encode(m, 80, 100, 90, 160, false, &data, &len, &key);
    h264_maker_encode(m, 90, 100, 90, 160, false, &data, &len, &key);
    ck_assert_int_eq(wv_decoder_decode(d, data, len, false, &p), WV_DECODER_ERROR);
    round_trip(m, d, 320, 180, 120, true);
    wv_decoder_reset(d);
    h264_maker_encode(m, 90, 100, 90, 160, false, &data, &len, &key);
    ck_assert_int_eq(wv_decoder_decode(d, data, len, false, &p), WV_DECODER_ERROR);
    round_trip(m, d, 320, 180, 150, true);
    wv_decoder_free(d);
    h264_maker_free(m);
}
END_TEST

START_TEST(a_kept_picture_stays)
{
    struct h264_maker *m = h264_maker_new(320, 180, NULL);
    struct wv_decoder *d = new_decoder(1);
    struct wv_decoded kept, p;
    const uint8_t *data;
    size_t len;
    bool key;
    h264_maker_encode(m, 60, 100, 128, 128, false, &data, &len, &key);
    ck_assert_int_eq(wv_decoder_decode(d, data, len, key, &kept), 0);
    wv_decoder_keep(d);
    int before = luma_at(&kept, 80, 90);
    for (int i = 0; i < 20; i++) {
        h264_maker_encode(m, (uint8_t)(100 + 5 * i), 100, 128, 128, false, &data, &len, &key);
        ck_assert_int_eq(wv_decoder_decode(d, data, len, key, &p), 0);
        ck_assert_int_eq(luma_at(&kept, 80, 90), before);
    }
    wv_decoder_free(d);
    h264_maker_free(m);
}
END_TEST

START_TEST(colours_are_as_the_stream_says)
{
    static const struct {
        const char *said;
        bool bt709, full;
    } cases[] = {{"bt601", false, false}, {"bt709", true, false}, {"1:4:0:0", false, true}};
    for (size_t i = 0; i < 3; i++) {
        struct h264_maker *m = h264_maker_new(1280, 720, cases[i].said);
        struct wv_decoder *d = new_decoder(1);
        struct wv_decoded p;
        const uint8_t *data;
        size_t len;
        bool key;
        h264_maker_encode(m, 90, 100, 128, 128, false, &data, &len, &key);
        ck_assert_int_eq(wv_decoder_decode(d, data, len, key, &p), 0);
        ck_assert_msg(p.bt709 == cases[i].bt709, "%s: bt709 %d", cases[i].said, p.bt709);
        ck_assert_msg(p.full_range == cases[i].full, "%s: full %d", cases[i].said, p.full_range);
        wv_decoder_free(d);
        h264_maker_free(m);
    }
}
END_TEST

int main(void)
{
    h264_maker_prepare();
    Suite *s = suite_create("client decoder");
    TCase *t = tcase_create("decoder");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, every_picture_comes_in_its_own_call, 1, 3);
    tcase_add_test(t, a_new_size_is_followed);
    tcase_add_test(t, damage_is_an_error_and_a_keyframe_mends_it);
    tcase_add_test(t, the_first_picture_must_be_a_keyframe);
    tcase_add_test(t, a_kept_picture_stays);
    tcase_add_test(t, colours_are_as_the_stream_says);
    return wv_run_suite(s);
}
