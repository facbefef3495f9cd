/* The x264 encoder on its own: one access unit per picture in the same call, no reordering, rate and size
 * changes, keyframes on request, and what it does with memory that isn't its own. */
#include "lib/base/util.h"
#include "lib/stage/sandbox.h"
#include "services/encoder/lockdown.h"
#include "services/encoder/x264.h"
#include "tests/unit/encoder_kit.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define WIDTH   640u
#define HEIGHT  360u
#define FPS     60u
#define BITRATE 4000000u
#define BUDGET  (BITRATE / FPS / 8) /* bytes of a frame */

static struct wv_encoder *make(void)
{
    struct wv_x264_options options = {.threads = 2, .bitrate_bps = BITRATE, .fps = FPS};
    struct wv_encoder *e = NULL;

    ck_assert_int_eq(wv_encoder_x264_new(&e, &options), 0);
    return e;
}

static struct kit_decoder *make_decoder(void)
{
    struct kit_decoder *d = kit_decoder_new(wv_encoder_x264_plugin_dir());

    ck_assert_msg(d != NULL, "no avdec_h264: install gstreamer1.0-libav");
    return d;
}

static struct wv_access_unit encode(struct wv_encoder *e, const struct kit_picture *p, bool keyframe)
{
    struct wv_picture picture = kit_view(p);
    struct wv_access_unit au = {0};

    ck_assert_int_eq(wv_encoder_encode(e, &picture, keyframe, &au), 0);
    ck_assert_uint_gt(au.len, 0);
    return au;
}

static void assert_keyframe(const struct wv_access_unit *au)
{
    struct kit_nals n = kit_nals(au->data, au->len);

    ck_assert(au->keyframe);
    ck_assert_uint_gt(n.idr, 0);
    ck_assert_uint_eq(n.slices, 0);
    ck_assert_uint_eq(n.sps, 1);
    ck_assert_uint_eq(n.pps, 1);
    ck_assert_uint_eq(n.aud, 0);
}

static void assert_p_frame(const struct wv_access_unit *au)
{
    struct kit_nals n = kit_nals(au->data, au->len);

    ck_assert(!au->keyframe);
    ck_assert_uint_gt(n.slices, 0);
    ck_assert_uint_eq(n.b_slices, 0);
    ck_assert_uint_eq(n.idr + n.sps + n.pps + n.aud, 0);
}

START_TEST(one_picture_in_one_access_unit_out)
{
    struct wv_encoder *e = make();
    struct kit_decoder *d = make_decoder();
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, WIDTH), seen;

    for (uint32_t i = 0; i < 60; i++) {
        struct wv_access_unit au;

        kit_draw_text(&p, i * 4);
        au = encode(e, &p, false);
        if (i == 0)
            assert_keyframe(&au);
        else
            assert_p_frame(&au);
        /* The decoder shows each picture at once and it is this one: nothing is delayed or reordered. */
        ck_assert_int_eq(kit_decode(d, &au, &seen), 1);
        ck_assert_uint_eq(seen.width, WIDTH);
        ck_assert_uint_eq(seen.height, HEIGHT);
        if (i > 40)
            ck_assert_double_gt(kit_ssim(&seen, &p), 0.9);
    }
    ck_assert_double_gt(kit_psnr(&seen, &p), 24);
    kit_picture_free(&p);
    d = kit_decoder_free(d);
    e = wv_encoder_free(e);
}
END_TEST

START_TEST(keyframe_comes_with_the_picture_it_was_asked_for)
{
    struct wv_encoder *e = make();
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, WIDTH);

    kit_draw_text(&p, 0);
    for (uint32_t i = 0; i < 40; i++) {
        bool asked = i % 7 == 3 || i == 11; /* also two in a row: 10 and 11 */
        struct wv_access_unit au = encode(e, &p, asked);

        if (asked || i == 0)
            assert_keyframe(&au);
        else
            assert_p_frame(&au);
    }
    kit_picture_free(&p);
    e = wv_encoder_free(e);
}
END_TEST

/* A picture that is lost is mended by those after it, within two rounds, and no keyframe comes. */
START_TEST(intra_refresh_mends_the_picture_without_keyframes)
{
    struct wv_x264_options options = {.threads = 2, .bitrate_bps = BITRATE, .fps = FPS, .refresh_frames = 8};
    struct wv_encoder *e = NULL;
    struct kit_decoder *d;
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, WIDTH), seen;
    double before = 0;

    ck_assert_int_eq(wv_encoder_x264_new(&e, &options), 0);
    d = make_decoder();
    for (uint32_t i = 0; i < 60; i++) {
        struct wv_access_unit au;

        kit_draw_text(&p, i < 30 ? 0 : 80); /* another page from 30 on; its first picture is lost */
        au = encode(e, &p, false);
        ck_assert_uint_eq(kit_nals(au.data, au.len).idr > 0, i == 0);
        if (i == 30 || kit_decode(d, &au, &seen) != 1)
            continue;
        if (i == 29)
            before = kit_ssim(&seen, &p);
        if (i == 31)
            ck_assert_double_lt(kit_ssim(&seen, &p), before - 0.1);
        if (i == 55)
            ck_assert_double_gt(kit_ssim(&seen, &p), before - 0.05);
    }
    kit_picture_free(&p);
    d = kit_decoder_free(d);
    e = wv_encoder_free(e);
}
END_TEST

/* Mean size of 20 frames of fresh noise. */
static double noise_bytes(struct wv_encoder *e, struct kit_picture *p, uint32_t seed, uint32_t limit)
{
    double sum = 0;

    for (uint32_t i = 0; i < 20; i++) {
        struct wv_access_unit au;

        kit_draw_noise(p, seed + i);
        au = encode(e, p, false);
        assert_p_frame(&au);
        if (i >= 5) {
            sum += (double)au.len / 15;
            ck_assert_uint_lt(au.len, limit);
        }
    }
    return sum;
}

START_TEST(rates_change_at_once_and_without_a_keyframe)
{
    struct wv_encoder *e = make();
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, WIDTH);
    double full, half, slow;

    kit_draw_noise(&p, 0);
    (void)encode(e, &p, false);
    full = noise_bytes(e, &p, 100, BUDGET * 8 / 5);
    ck_assert_int_eq(wv_encoder_set_rate(e, BITRATE / 2, FPS), 0);
    half = noise_bytes(e, &p, 200, BUDGET * 8 / 5 / 2);
    /* Half the frame rate at half the bitrate: the first budget again. */
    ck_assert_int_eq(wv_encoder_set_rate(e, BITRATE / 2, FPS / 2), 0);
    slow = noise_bytes(e, &p, 300, BUDGET * 8 / 5);
    ck_assert_double_gt(full, 0.6 * BUDGET);
    ck_assert_double_lt(half, 0.65 * full);
    ck_assert_double_gt(half, 0.35 * full);
    ck_assert_double_gt(slow, 0.8 * full);
    ck_assert_double_lt(slow, 1.25 * full);
    kit_picture_free(&p);
    e = wv_encoder_free(e);
}
END_TEST

START_TEST(a_new_size_starts_a_new_sequence)
{
    static const uint32_t sizes[][2] = {{640, 360}, {1024, 576}, {322, 178}, {640, 360}, {16, 16}};
    struct wv_encoder *e = make();
    struct kit_decoder *d = make_decoder();

    for (size_t i = 0; i < WV_ARRAY_SIZE(sizes); i++) {
        struct kit_picture p = kit_picture_new(sizes[i][0], sizes[i][1], sizes[i][0] + 2 * (uint32_t)i), seen;

        kit_draw_text(&p, 0);
        for (uint32_t k = 0; k < 3; k++) {
            struct wv_access_unit au = encode(e, &p, false);

            if (k == 0)
                assert_keyframe(&au);
            else
                assert_p_frame(&au);
            ck_assert_int_eq(kit_decode(d, &au, &seen), 1);
            ck_assert_uint_eq(seen.width, p.width);
            ck_assert_uint_eq(seen.height, p.height);
        }
        kit_picture_free(&p);
    }
    d = kit_decoder_free(d);
    e = wv_encoder_free(e);
}
END_TEST

START_TEST(a_still_picture_sharpens_until_nothing_is_left)
{
    struct wv_encoder *e = make();
    struct kit_decoder *d = make_decoder();
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, WIDTH), seen;
    double first = 0, last = 0;
    size_t len = 0;

    kit_draw_text(&p, 0);
    for (uint32_t i = 0; i <= 60; i++) {
        struct wv_access_unit au = encode(e, &p, false);

        ck_assert_int_eq(kit_decode(d, &au, &seen), 1);
        if (i == 0)
            first = kit_ssim(&seen, &p);
        last = kit_ssim(&seen, &p);
        len = au.len;
    }
    ck_assert_double_lt(first, 0.95);
    ck_assert_double_gt(last, 0.98);
    ck_assert_uint_lt(len, 300);
    kit_picture_free(&p);
    d = kit_decoder_free(d);
    e = wv_encoder_free(e);
}
END_TEST

/* The picture lies in a mapping of its own, read only and up to its very last byte, with rows wider than the
 * picture; right after the call the mapping is gone. */
START_TEST(memory_is_only_read_inside_the_picture_and_during_the_call)
{
    const uint32_t stride = WIDTH + 64;
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, stride), seen;
    size_t bytes = kit_picture_bytes(&p), page = 4096, whole = (bytes + page - 1) / page * page;
    struct wv_encoder *e = make();
    struct kit_decoder *d = make_decoder();

    for (uint32_t i = 0; i < 30; i++) {
        uint8_t *m = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct wv_picture picture;
        struct wv_access_unit au;

        ck_assert_ptr_ne(m, MAP_FAILED);
        kit_draw_text(&p, 0);
        for (uint32_t y = 0; y < HEIGHT * 3 / 2; y++)
            memset(p.pixels + (size_t)y * stride + WIDTH, (int)(i * 37 + y), stride - WIDTH);
        memcpy(m + whole - bytes, p.pixels, bytes);
        ck_assert_int_eq(mprotect(m, whole, PROT_READ), 0);
        ck_assert_int_eq(mprotect(m + whole, page, PROT_NONE), 0);
        picture = (struct wv_picture){
            .pixels = m + whole - bytes, .width = WIDTH, .height = HEIGHT, .stride = stride};
        ck_assert_int_eq(wv_encoder_encode(e, &picture, false, &au), 0);
        ck_assert_int_eq(munmap(m, whole + page), 0);
        ck_assert_int_eq(kit_decode(d, &au, &seen), 1);
    }
    ck_assert_double_gt(kit_ssim(&seen, &p), 0.95);
    kit_picture_free(&p);
    d = kit_decoder_free(d);
    e = wv_encoder_free(e);
}
END_TEST

START_TEST(what_is_no_picture_is_refused)
{
    struct wv_encoder *e = make();
    struct kit_picture p = kit_picture_new(WIDTH, HEIGHT, WIDTH);
    struct wv_access_unit au;
    const struct wv_picture good = kit_view(&p);
    struct wv_picture bad[8];

    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].pixels = NULL;
    bad[1].width = 0;
    bad[2].width = WIDTH - 1;
    bad[3].height = HEIGHT - 1;
    bad[4].stride = WIDTH - 2;
    bad[5].height = 4322;
    bad[6].width = bad[6].stride = 7682;
    bad[7].stride = UINT32_MAX;
    (void)encode(e, &p, false);
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(wv_encoder_encode(e, &bad[i], false, &au), -EINVAL);
    au = encode(e, &p, false); /* and the stream goes on as if nothing had been */
    assert_p_frame(&au);
    kit_picture_free(&p);
    e = wv_encoder_free(e);
}
END_TEST

START_TEST(a_missing_plugin_and_a_wrong_preset_are_told_apart)
{
    struct wv_x264_options options = {.preset = "warp", .bitrate_bps = BITRATE, .fps = FPS};
    struct wv_encoder *e = NULL;

    ck_assert_int_eq(wv_encoder_x264_new(&e, &options), -EINVAL);
    options.preset = NULL;
    options.plugin_dir = "/nonexistent";
    ck_assert_int_eq(wv_encoder_x264_new(&e, &options), -ENOENT); /* a process of its own: not loaded yet */
    ck_assert_ptr_null(e);
}
END_TEST

static int encode_locked_down(void)
{
    struct wv_x264_options options = {.threads = 2, .bitrate_bps = BITRATE, .fps = FPS};
    struct wv_encoder *e = NULL;

    if (wv_encoder_x264_new(&e, &options) || wv_sandbox_enter(&wv_encoder_sandbox))
        return 2;
    for (uint32_t i = 0; i < 4; i++) {
        struct kit_picture p = kit_picture_new(WIDTH + 64 * i, HEIGHT, WIDTH + 64 * i);
        struct wv_picture picture = kit_view(&p);
        struct wv_access_unit au;

        kit_draw_text(&p, 0);
        for (uint32_t k = 0; k < 3; k++)
            if (wv_encoder_encode(e, &picture, k == 1, &au))
                return 3;
        kit_picture_free(&p);
    }
    e = wv_encoder_free(e);
    return 0;
}

START_TEST(encodes_and_changes_size_when_locked_down)
{
    pid_t pid = fork();
    int status = 0;

    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(encode_locked_down());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status 0x%x", (unsigned)status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encoder");
    TCase *x264 = tcase_create("x264");

    tcase_add_test(x264, one_picture_in_one_access_unit_out);
    tcase_add_test(x264, keyframe_comes_with_the_picture_it_was_asked_for);
    tcase_add_test(x264, intra_refresh_mends_the_picture_without_keyframes);
    tcase_add_test(x264, rates_change_at_once_and_without_a_keyframe);
    tcase_add_test(x264, a_new_size_starts_a_new_sequence);
    tcase_add_test(x264, a_still_picture_sharpens_until_nothing_is_left);
    tcase_add_test(x264, memory_is_only_read_inside_the_picture_and_during_the_call);
    tcase_add_test(x264, what_is_no_picture_is_refused);
    tcase_add_test(x264, a_missing_plugin_and_a_wrong_preset_are_told_apart);
    tcase_add_test(x264, encodes_and_changes_size_when_locked_down);
    tcase_set_timeout(x264, 120);
    suite_add_tcase(suite, x264);
    return wv_run_suite(suite);
}
