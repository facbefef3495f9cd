/* The ladder of frame rates and sizes, on virtual time. */
#include "lib/base/util.h"
#include "services/transport/ladder.h"
#include "tests/unit/suite.h"

#define MS     WV_NS_PER_MS
#define WIDTH  1280
#define HEIGHT 720

/* Feeds BPS every frame time for LASTING; returns how many steps were taken. */
static unsigned feed(struct wv_ladder *l, uint64_t *now, uint64_t bps, uint64_t lasting)
{
    unsigned changes = 0;
    for (uint64_t end = *now + lasting; *now < end; *now += 16 * MS)
        changes += wv_ladder_update(l, bps, WIDTH, HEIGHT, *now);
    return changes;
}

static void expect(const struct wv_ladder *l, uint32_t fps, uint32_t scale)
{
    struct wv_ladder_choice c = wv_ladder_get(l);
    ck_assert_uint_eq(c.max_fps, fps);
    ck_assert_uint_eq(c.scale, scale);
}

START_TEST(plenty_changes_nothing)
{
    struct wv_ladder l;
    uint64_t now = 1000 * MS;
    wv_ladder_init(&l, 60);
    ck_assert_uint_eq(feed(&l, &now, 8000000, 60 * WV_NS_PER_S), 0);
    expect(&l, 60, 4);
}
END_TEST

START_TEST(it_falls_step_by_step_and_comes_back)
{
    struct wv_ladder l;
    uint64_t now = 1000 * MS;
    wv_ladder_init(&l, 60);
    feed(&l, &now, 1000000, 2 * WV_NS_PER_S);
    expect(&l, 30, 4);
    feed(&l, &now, 700000, 2 * WV_NS_PER_S);
    expect(&l, 20, 4);
    feed(&l, &now, 400000, 2 * WV_NS_PER_S);
    expect(&l, 20, 3);
    feed(&l, &now, 100000, 10 * WV_NS_PER_S);
    expect(&l, 20, 2);
    /* Each step up takes ten seconds of a rate that is enough. */
    ck_assert_uint_eq(feed(&l, &now, 8000000, 9 * WV_NS_PER_S), 0);
    ck_assert_uint_eq(feed(&l, &now, 8000000, 2 * WV_NS_PER_S), 1);
    expect(&l, 20, 3);
    ck_assert_uint_eq(feed(&l, &now, 8000000, 40 * WV_NS_PER_S), 3);
    expect(&l, 60, 4);
}
END_TEST

START_TEST(one_low_report_is_none)
{
    struct wv_ladder l;
    uint64_t now = 1000 * MS;
    wv_ladder_init(&l, 60);
    for (int i = 0; i < 50; i++) {
        feed(&l, &now, 60000, 200 * MS);
        feed(&l, &now, 5000000, 50 * MS);
    }
    expect(&l, 60, 4);
}
END_TEST

START_TEST(no_flapping_within_ten_seconds)
{
    /* Rates that swing around every threshold, with every period from 50 ms to 30 s. */
    for (uint64_t period = 50; period < 30000; period = period * 3 / 2) {
        struct wv_ladder l;
        uint64_t now = 1000 * MS, last = 0;
        struct wv_ladder_choice before = {60, 4};
        bool last_up = false;
        wv_ladder_init(&l, 60);
        for (int i = 0; i < 10000; i++, now += 16 * MS) {
            uint64_t bps = now / MS % period < period / 2 ? 200000 : 3000000;
            if (!wv_ladder_update(&l, bps, WIDTH, HEIGHT, now))
                continue;
            struct wv_ladder_choice c = wv_ladder_get(&l);
            ck_assert(c.max_fps != before.max_fps || c.scale != before.scale);
            bool up = c.max_fps > before.max_fps || c.scale > before.scale;
            if (last)
                ck_assert(up == last_up || now - last >= WV_LADDER_HOLD_NS);
            last = now;
            last_up = up;
            before = c;
        }
    }
}
END_TEST

START_TEST(steps_that_change_nothing_are_passed_over)
{
    struct wv_ladder l;
    uint64_t now = 1000 * MS;
    wv_ladder_init(&l, 25); /* 30 is not less */
    ck_assert_uint_eq(feed(&l, &now, 400000, 400 * MS), 1);
    expect(&l, 20, 4);
    wv_ladder_init(&l, 15); /* nor is 20 */
    ck_assert_uint_eq(feed(&l, &now, 50000, 400 * MS), 1);
    expect(&l, 15, 3);
    ck_assert_uint_eq(feed(&l, &now, 8000000, 60 * WV_NS_PER_S), 1);
    expect(&l, 15, 4);
}
END_TEST

START_TEST(without_a_picture_it_waits)
{
    struct wv_ladder l;
    wv_ladder_init(&l, 60);
    for (uint64_t now = MS; now < WV_NS_PER_S; now += MS)
        ck_assert(!wv_ladder_update(&l, 0, 0, 0, now));
    expect(&l, 60, 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ladder");
    TCase *t = tcase_create("ladder");
    suite_add_tcase(s, t);
    tcase_add_test(t, plenty_changes_nothing);
    tcase_add_test(t, it_falls_step_by_step_and_comes_back);
    tcase_add_test(t, one_low_report_is_none);
    tcase_add_test(t, no_flapping_within_ten_seconds);
    tcase_add_test(t, steps_that_change_nothing_are_passed_over);
    tcase_add_test(t, without_a_picture_it_waits);
    return wv_run_suite(s);
}
