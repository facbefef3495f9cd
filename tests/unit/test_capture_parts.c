/* The parts of capture that need no display: what changed, when a picture is taken, and how it gets into the
 * ring. */
#include "services/capture/convert.h"
#include "services/capture/pacer.h"
#include "services/capture/painter.h"
#include "services/capture/region.h"
#include "tests/unit/capture_kit.h"
#include "tests/unit/suite.h"

#include <stdlib.h>
#include <string.h>

#define MS WV_NS_PER_MS

/* ---- region ---- */

static bool covers(const struct wv_region *r, int x, int y)
{
    for (uint32_t i = 0; i < r->n; i++) {
        struct wv_rect a = r->rects[i];

        if (x >= a.x && y >= a.y && x < a.x + a.width && y < a.y + a.height)
            return true;
    }
    return false;
}

START_TEST(region_covers_what_was_added)
{
    enum { W = 200, H = 120 };
    static uint8_t truth[H][W];

    srand((unsigned)_i);
    for (int round = 0; round < 40; round++) {
        struct wv_region r = {0};

        memset(truth, 0, sizeof(truth));
        for (int n = rand() % 60; n >= 0; n--) {
            struct wv_rect a = {rand() % (W + 40) - 20, rand() % (H + 40) - 20, rand() % 50, rand() % 30};

            wv_region_add(&r, a, W, H);
            for (int y = a.y < 0 ? 0 : a.y; y < a.y + a.height && y < H; y++)
                for (int x = a.x < 0 ? 0 : a.x; x < a.x + a.width && x < W; x++)
                    truth[y][x] = 1;
        }
        ck_assert_uint_le(r.n, WV_RING_DAMAGE_MAX);
        for (uint32_t i = 0; i < r.n; i++) {
            struct wv_rect a = r.rects[i];

            ck_assert_int_eq((a.x | a.y | a.width | a.height) & 1, 0);
            ck_assert(a.x >= 0 && a.y >= 0 && a.width > 0 && a.height > 0 && a.x + a.width <= W &&
                      a.y + a.height <= H);
        }
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                if (truth[y][x] && !covers(&r, x, y))
                    ck_abort_msg("seed %d: %d,%d is not covered", _i, x, y);
    }
}
END_TEST

START_TEST(region_survives_absurd_rectangles)
{
    struct wv_region r = {0};

    wv_region_add(&r, (struct wv_rect){INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}, 100, 100);
    wv_region_add(&r, (struct wv_rect){INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX}, 100, 100);
    wv_region_add(&r, (struct wv_rect){0, 0, -5, 10}, 100, 100);
    ck_assert(wv_region_empty(&r));
    wv_region_add(&r, (struct wv_rect){-10, -10, INT32_MAX, INT32_MAX}, 100, 100);
    ck_assert_uint_eq(wv_region_area(&r), 100 * 100);
}
END_TEST

START_TEST(region_keeps_far_corners_apart)
{
    struct wv_region r = {0};

    wv_region_add(&r, (struct wv_rect){0, 0, 20, 20}, 1920, 1080);
    wv_region_add(&r, (struct wv_rect){1900, 1060, 20, 20}, 1920, 1080);
    ck_assert_uint_eq(r.n, 2);
    ck_assert_uint_eq(wv_region_area(&r), 800);
}
END_TEST

/* ---- pacer ---- */

START_TEST(still_screen_is_taken_at_once)
{
    struct wv_pacer p;

    wv_pacer_init(&p, 50);
    ck_assert_uint_eq(wv_pacer_take_at(&p), WV_PACER_NEVER);
    wv_pacer_changed(&p, 1000 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1000 * MS);
    wv_pacer_taken(&p, 1000 * MS);
    wv_pacer_changed(&p, 1003 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1010 * MS); /* half an interval early, once */
    wv_pacer_changed(&p, 1009 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1010 * MS);
    wv_pacer_taken(&p, 1010 * MS);
    wv_pacer_changed(&p, 1011 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1030 * MS);
    wv_pacer_taken(&p, 1030 * MS);
    wv_pacer_changed(&p, 1300 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1300 * MS);
}
END_TEST

START_TEST(rate_holds_over_time)
{
    struct wv_pacer p;
    int taken = 0;

    wv_pacer_init(&p, 60);
    for (uint64_t now = 5000 * MS; now < 7000 * MS; now += MS / 2) {
        wv_pacer_changed(&p, now);
        if (wv_pacer_take_at(&p) <= now) {
            wv_pacer_taken(&p, now);
            taken++;
        }
    }
    ck_assert_int_ge(taken, 118);
    ck_assert_int_le(taken, 122);
}
END_TEST

/* A screen that moves at the target rate, each time some ms late or early, must not wait for the rate each
 * time. */
START_TEST(jitter_at_the_target_rate_is_not_delayed)
{
    static const int jitter_ms[] = {0, 3, 1, 4, 0, 2, 9, 1, 0, 3};
    struct wv_pacer p;

    wv_pacer_init(&p, 50);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t now = (1000 + 20 * i + (unsigned)jitter_ms[i % 10]) * MS;

        wv_pacer_changed(&p, now);
        ck_assert_uint_eq(wv_pacer_take_at(&p), now);
        wv_pacer_taken(&p, now);
    }
}
END_TEST

START_TEST(boost_goes_ahead_of_the_rate_once)
{
    struct wv_pacer p;

    wv_pacer_init(&p, 50);
    wv_pacer_changed(&p, 1000 * MS);
    wv_pacer_taken(&p, 1000 * MS);
    wv_pacer_boost(&p, 1001 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), WV_PACER_NEVER);
    wv_pacer_changed(&p, 1003 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1003 * MS);
    wv_pacer_taken(&p, 1003 * MS);
    wv_pacer_changed(&p, 1004 * MS); /* used up; and the regular date has not moved */
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1010 * MS);
}
END_TEST

START_TEST(boost_ends_after_a_while)
{
    struct wv_pacer p;

    wv_pacer_init(&p, 5);
    wv_pacer_changed(&p, 1000 * MS);
    wv_pacer_taken(&p, 1000 * MS);
    wv_pacer_boost(&p, 1001 * MS);
    wv_pacer_changed(&p, 1060 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1100 * MS);
}
END_TEST

START_TEST(boost_hurries_a_pending_change)
{
    struct wv_pacer p;

    wv_pacer_init(&p, 20);
    wv_pacer_changed(&p, 1000 * MS);
    wv_pacer_taken(&p, 1000 * MS);
    wv_pacer_changed(&p, 1002 * MS);
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1025 * MS);
    wv_pacer_boost(&p, 1010 * MS);
    ck_assert_uint_le(wv_pacer_take_at(&p), 1015 * MS);
    wv_pacer_taken(&p, wv_pacer_take_at(&p));
    wv_pacer_changed(&p, 1020 * MS); /* still owed: what was pending came before the input */
    ck_assert_uint_eq(wv_pacer_take_at(&p), 1020 * MS);
}
END_TEST

START_TEST(boosts_are_bounded)
{
    struct wv_pacer p;
    int taken = 0;

    wv_pacer_init(&p, 10);
    for (uint64_t now = 1000 * MS; now < 3000 * MS; now += MS) {
        wv_pacer_boost(&p, now);
        wv_pacer_changed(&p, now);
        if (wv_pacer_take_at(&p) <= now) {
            wv_pacer_taken(&p, now);
            taken++;
        }
    }
    ck_assert_int_le(taken, 2 * (10 + 30) + 10);
}
END_TEST

/* ---- conversion and painter ---- */

START_TEST(known_colours)
{
    static const struct {
        uint8_t b, g, r, y, u, v;
    } known[] = {{255, 255, 255, 235, 128, 128}, {0, 0, 0, 16, 128, 128},   {0, 0, 255, 82, 90, 240},
                 {0, 255, 0, 145, 54, 34},       {255, 0, 0, 41, 240, 110}, {128, 128, 128, 126, 128, 128}};
    uint8_t bgrx[16 * 4 * 2], nv12[16 * 3];

    for (size_t i = 0; i < WV_ARRAY_SIZE(known); i++) {
        for (size_t p = 0; p < sizeof(bgrx); p += 4)
            memcpy(bgrx + p, (uint8_t[]){known[i].b, known[i].g, known[i].r, 77}, 4);
        wv_convert_rect(bgrx, 64, nv12, 16, 2, (struct wv_rect){0, 0, 16, 2});
        for (int x = 0; x < 32; x++)
            ck_assert_int_le(abs(nv12[x] - known[i].y), 1);
        for (int x = 0; x < 16; x += 2) {
            ck_assert_int_le(abs(nv12[32 + x] - known[i].u), 1);
            ck_assert_int_le(abs(nv12[33 + x] - known[i].v), 1);
        }
    }
}
END_TEST

START_TEST(conversion_stays_inside_its_rectangle)
{
    static uint8_t bgrx[32 * 32 * 4], nv12[32 * 48];

    for (size_t i = 0; i < sizeof(bgrx); i++)
        bgrx[i] = (uint8_t)(i * 7);
    memset(nv12, 0xee, sizeof(nv12));
    wv_convert_rect(bgrx, 128, nv12, 32, 32, (struct wv_rect){6, 4, 10, 8});
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 32; x++)
            if (x < 6 || x >= 16 || y < 4 || y >= 12)
                ck_assert_uint_eq(nv12[y * 32 + x], 0xee);
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 32; x++)
            if (x < 6 || x >= 16 || y < 2 || y >= 6)
                ck_assert_uint_eq(nv12[(32 + y) * 32 + x], 0xee);
}
END_TEST

struct canvas {
    struct wv_picture picture;
    uint8_t *pixels;
};

static struct canvas canvas_new(uint32_t width, uint32_t height)
{
    struct canvas c = {.pixels = calloc(1, (size_t)width * height * 4)};

    c.picture = (struct wv_picture){c.pixels, width * 4, width, height};
    return c;
}

static struct wv_region scribble(struct canvas *c)
{
    struct wv_region changed = {0};
    int width = (int)c->picture.width, height = (int)c->picture.height;

    for (int n = rand() % 5; n >= 0; n--) {
        struct wv_rect r = {rand() % width, rand() % height, 1 + rand() % 40, 1 + rand() % 40};

        for (int y = r.y; y < r.y + r.height && y < height; y++)
            for (int x = r.x; x < r.x + r.width && x < width; x++)
                for (int b = 0; b < 4; b++)
                    c->pixels[(y * width + x) * 4 + b] = (uint8_t)rand();
        wv_region_add(&changed, r, width, height);
    }
    return changed;
}

/* Slots come back after one to several pictures, with a reader that takes some, holds some and misses some.
 */
START_TEST(slots_catch_up)
{
    struct capture_ring ring;
    struct canvas c = canvas_new(322, 200);
    struct wv_painter painter;
    struct wv_region changed = {0};
    uint64_t last = 0;

    srand((unsigned)_i);
    capture_ring_open(&ring, 400, 300);
    wv_painter_init(&painter, ring.producer);
    ck_assert_int_eq(wv_painter_set_size(&painter, 322, 200), 0);
    for (int frame = 0; frame < 200; frame++) {
        struct wv_frame_header header = {.capture_ns = 1, .input_seq = (uint32_t)frame};

        changed = scribble(&c);
        wv_painter_changed(&painter, &changed);
        wv_painter_publish(&painter, &c.picture, &header, wv_now_ns);
        if (rand() % 3 == 0)
            continue;
        ck_assert(capture_ring_take(&ring));
        ck_assert_msg(capture_ring_equals(&ring, c.pixels, c.picture.stride), "seed %d frame %d", _i, frame);
        ck_assert_uint_eq(ring.header.input_seq, (uint32_t)frame);
        ck_assert_uint_gt(ring.header.sequence, last);
        last = ring.header.sequence;
        if (rand() % 4 == 0)
            wv_ring_release(ring.consumer);
    }
    free(c.pixels);
    capture_ring_close(&ring);
}
END_TEST

START_TEST(damage_is_since_the_previous_sequence)
{
    struct capture_ring ring;
    struct canvas c = canvas_new(320, 200);
    struct wv_painter painter;
    struct wv_region changed = {0};
    struct wv_frame_header header = {.capture_ns = 1};

    capture_ring_open(&ring, 320, 200);
    wv_painter_init(&painter, ring.producer);
    ck_assert_int_eq(wv_painter_set_size(&painter, 320, 200), 0);
    wv_painter_publish(&painter, &c.picture, &header, wv_now_ns);
    ck_assert(capture_ring_take(&ring));
    ck_assert_uint_eq(ring.header.n_damage, 0);
    wv_region_add(&changed, (struct wv_rect){10, 20, 30, 40}, 320, 200);
    wv_painter_changed(&painter, &changed);
    wv_painter_publish(&painter, &c.picture, &header, wv_now_ns);
    ck_assert(capture_ring_take(&ring));
    ck_assert_uint_eq(ring.header.n_damage, 1);
    ck_assert_int_eq(ring.header.damage[0].x, 10);
    ck_assert_int_eq(ring.header.damage[0].height, 40);
    free(c.pixels);
    capture_ring_close(&ring);
}
END_TEST

START_TEST(a_new_size_starts_anew)
{
    struct capture_ring ring;
    struct wv_painter painter;

    capture_ring_open(&ring, 400, 300);
    wv_painter_init(&painter, ring.producer);
    for (uint32_t size = 0; size < 6; size++) {
        struct canvas c = canvas_new(400 - size * 34, 300 - size * 22);
        struct wv_frame_header header = {.capture_ns = 1};
        struct wv_region changed = scribble(&c);

        ck_assert_int_eq(wv_painter_set_size(&painter, c.picture.width, c.picture.height), 0);
        wv_painter_changed(&painter, &changed);
        wv_painter_publish(&painter, &c.picture, &header, wv_now_ns);
        ck_assert(capture_ring_take(&ring));
        ck_assert_uint_eq(ring.header.width, c.picture.width);
        ck_assert_uint_eq(ring.header.n_damage, 0);
        ck_assert(capture_ring_equals(&ring, c.pixels, c.picture.stride));
        free(c.pixels);
    }
    ck_assert_int_eq(wv_painter_set_size(&painter, 2000, 2000), WV_PAINTER_TOO_BIG);
    ck_assert_int_eq(wv_painter_set_size(&painter, 20000, 2), WV_PAINTER_TOO_BIG);
    capture_ring_close(&ring);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("capture parts");
    TCase *region = tcase_create("region"), *pacer = tcase_create("pacer"),
          *painter = tcase_create("painter");

    tcase_add_loop_test(region, region_covers_what_was_added, 0, 10);
    tcase_add_test(region, region_survives_absurd_rectangles);
    tcase_add_test(region, region_keeps_far_corners_apart);
    tcase_add_test(pacer, still_screen_is_taken_at_once);
    tcase_add_test(pacer, rate_holds_over_time);
    tcase_add_test(pacer, jitter_at_the_target_rate_is_not_delayed);
    tcase_add_test(pacer, boost_goes_ahead_of_the_rate_once);
    tcase_add_test(pacer, boost_ends_after_a_while);
    tcase_add_test(pacer, boost_hurries_a_pending_change);
    tcase_add_test(pacer, boosts_are_bounded);
    tcase_add_test(painter, known_colours);
    tcase_add_test(painter, conversion_stays_inside_its_rectangle);
    tcase_add_loop_test(painter, slots_catch_up, 0, 5);
    tcase_add_test(painter, damage_is_since_the_previous_sequence);
    tcase_add_test(painter, a_new_size_starts_anew);
    tcase_set_timeout(region, 120);
    tcase_set_timeout(painter, 120);
    suite_add_tcase(suite, region);
    suite_add_tcase(suite, pacer);
    suite_add_tcase(suite, painter);
    return wv_run_suite(suite);
}
