/* When the encoder encodes what: fresh pictures, refinements of a still one, keyframes. Pure: time is told.
 */
#include "lib/base/util.h"
#include "services/encoder/schedule.h"
#include "tests/unit/suite.h"

#define MS    WV_NS_PER_MS
#define FRAME (WV_NS_PER_S / 60)

static enum wv_schedule_step step_at(const struct wv_schedule *s, bool fresh, uint64_t now,
                                     bool *ret_keyframe)
{
    uint64_t next;

    return wv_schedule_next(s, fresh, true, now, ret_keyframe, &next);
}

/* Encodes the first picture, a keyframe, number 1. */
static struct wv_schedule started(uint64_t now)
{
    struct wv_schedule s;
    bool keyframe;

    wv_schedule_init(&s, 5, 40 * MS, 60);
    ck_assert_int_eq(step_at(&s, true, now, &keyframe), WV_STEP_FRESH);
    ck_assert(keyframe);
    wv_schedule_encoded(&s, WV_STEP_FRESH, true, 1, 20000, now);
    return s;
}

START_TEST(nothing_without_a_picture)
{
    struct wv_schedule s;
    uint64_t next = 0;
    bool keyframe;

    wv_schedule_init(&s, 5, 40 * MS, 60);
    ck_assert_int_eq(wv_schedule_next(&s, false, false, 1, &keyframe, &next), WV_STEP_NOTHING);
    ck_assert_uint_eq(next, WV_SCHEDULE_NEVER);
}
END_TEST

START_TEST(a_still_picture_is_refined_then_left_alone)
{
    uint64_t now = 1000 * MS, next;
    struct wv_schedule s = started(now);
    bool keyframe;
    unsigned n = 0;

    ck_assert_int_eq(wv_schedule_next(&s, false, true, now, &keyframe, &next), WV_STEP_NOTHING);
    ck_assert_uint_eq(next, now + 40 * MS);
    while (next != WV_SCHEDULE_NEVER) {
        ck_assert_int_eq(step_at(&s, false, next - 1, &keyframe), WV_STEP_NOTHING);
        now = next;
        ck_assert_int_eq(step_at(&s, false, now, &keyframe), WV_STEP_REFINE);
        ck_assert(!keyframe);
        wv_schedule_encoded(&s, WV_STEP_REFINE, false, 2 + n++, 5000, now);
        ck_assert_int_eq(wv_schedule_next(&s, false, true, now, &keyframe, &next), WV_STEP_NOTHING);
        ck_assert(next == WV_SCHEDULE_NEVER || next == now + FRAME);
    }
    ck_assert_uint_eq(n, 5);
    /* A fresh picture goes at once, and is refined again. */
    ck_assert_int_eq(step_at(&s, true, now + 1, &keyframe), WV_STEP_FRESH);
    ck_assert(!keyframe);
    wv_schedule_encoded(&s, WV_STEP_FRESH, false, 9, 900, now + 1);
    ck_assert_int_eq(step_at(&s, true, now + 41 * MS, &keyframe),
                     WV_STEP_FRESH); /* before a refinement due */
    ck_assert_int_eq(step_at(&s, false, now + 41 * MS, &keyframe), WV_STEP_REFINE);
}
END_TEST

START_TEST(refinement_ends_when_three_in_a_row_change_nothing)
{
    static const size_t sizes[] = {200, 100, 5000, 299, 40, 11};
    uint64_t now = 1000 * MS;
    struct wv_schedule s;
    bool keyframe;

    wv_schedule_init(&s, 100, 40 * MS, 60);
    wv_schedule_encoded(&s, WV_STEP_FRESH, true, 1, 20000, now);
    for (size_t i = 0; i < WV_ARRAY_SIZE(sizes); i++) {
        now += 40 * MS;
        ck_assert_int_eq(step_at(&s, false, now, &keyframe), WV_STEP_REFINE);
        wv_schedule_encoded(&s, WV_STEP_REFINE, false, (uint32_t)(2 + i), sizes[i], now);
    }
    ck_assert_int_eq(step_at(&s, false, now + WV_NS_PER_S, &keyframe), WV_STEP_NOTHING);
}
END_TEST

START_TEST(keyframe_requests_are_answered_together_and_not_twice)
{
    uint64_t now = 1000 * MS, next;
    struct wv_schedule s = started(now);
    bool keyframe;

    wv_schedule_encoded(&s, WV_STEP_FRESH, false, 2, 900, now);
    /* The keyframe 1 itself is lost: another one, but not within 100 ms. */
    ck_assert(wv_schedule_request_keyframe(&s, 1));
    ck_assert(wv_schedule_request_keyframe(&s, 2));
    ck_assert_int_eq(step_at(&s, true, now + 50 * MS, &keyframe), WV_STEP_FRESH);
    ck_assert(!keyframe);
    wv_schedule_encoded(&s, WV_STEP_FRESH, false, 3, 900, now + 90 * MS);
    ck_assert_int_eq(wv_schedule_next(&s, false, true, now + 90 * MS, &keyframe, &next), WV_STEP_NOTHING);
    ck_assert_uint_eq(next, now + 100 * MS);
    ck_assert_int_eq(step_at(&s, false, now + 100 * MS, &keyframe), WV_STEP_REPEAT);
    ck_assert(keyframe);
    wv_schedule_encoded(&s, WV_STEP_REPEAT, true, 4, 20000, now + 100 * MS);
    /* Requests for what was lost before keyframe 4 are answered by it; unknown ones and later losses aren't.
     */
    ck_assert(!wv_schedule_request_keyframe(&s, 2));
    ck_assert(!wv_schedule_request_keyframe(&s, 3));
    ck_assert_int_eq(step_at(&s, true, now + 300 * MS, &keyframe), WV_STEP_FRESH);
    ck_assert(!keyframe);
    ck_assert(wv_schedule_request_keyframe(&s, 0));
    ck_assert_int_eq(step_at(&s, true, now + 300 * MS, &keyframe), WV_STEP_FRESH);
    ck_assert(keyframe);
}
END_TEST

START_TEST(frame_ids_wrap)
{
    struct wv_schedule s = started(1000 * MS);

    wv_schedule_encoded(&s, WV_STEP_REPEAT, true, 3, 20000, 2000 * MS);
    ck_assert(!wv_schedule_request_keyframe(&s, UINT32_MAX - 2)); /* six frames before */
    ck_assert(wv_schedule_request_keyframe(&s, 5));
}
END_TEST

START_TEST(viewers_start_and_stop_it)
{
    uint64_t now = 1000 * MS, next;
    struct wv_schedule s = started(now);
    bool keyframe;

    wv_schedule_set_target(&s, 0, 0);
    ck_assert_int_eq(wv_schedule_next(&s, true, true, now + WV_NS_PER_S, &keyframe, &next), WV_STEP_NOTHING);
    ck_assert_uint_eq(next, WV_SCHEDULE_NEVER);
    wv_schedule_set_target(&s, 0, 2);
    ck_assert_int_eq(step_at(&s, false, now + WV_NS_PER_S, &keyframe), WV_STEP_REPEAT);
    ck_assert(keyframe);
    wv_schedule_encoded(&s, WV_STEP_REPEAT, true, 2, 20000, now + WV_NS_PER_S);
    wv_schedule_set_target(&s, 0, 1); /* transport says it again and again: no keyframe for that */
    wv_schedule_set_target(&s, 0, 1);
    ck_assert_int_eq(step_at(&s, true, now + 2 * WV_NS_PER_S, &keyframe), WV_STEP_FRESH);
    ck_assert(!keyframe);
}
END_TEST

START_TEST(after_a_break_the_next_one_is_a_keyframe_at_once)
{
    uint64_t now = 1000 * MS;
    struct wv_schedule s = started(now);
    bool keyframe;

    wv_schedule_break(&s);
    ck_assert_int_eq(step_at(&s, true, now + 1, &keyframe), WV_STEP_FRESH);
    ck_assert(keyframe);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("encoder: schedule");
    TCase *t = tcase_create("schedule");
    tcase_add_test(t, nothing_without_a_picture);
    tcase_add_test(t, a_still_picture_is_refined_then_left_alone);
    tcase_add_test(t, refinement_ends_when_three_in_a_row_change_nothing);
    tcase_add_test(t, keyframe_requests_are_answered_together_and_not_twice);
    tcase_add_test(t, frame_ids_wrap);
    tcase_add_test(t, viewers_start_and_stop_it);
    tcase_add_test(t, after_a_break_the_next_one_is_a_keyframe_at_once);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
