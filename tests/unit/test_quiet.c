/* When silence is odd, on virtual time: soon where an answer is overdue, later where nothing was asked, and
 * never often, whatever a peer does. */
#include "rift/punch/quiet.h"

#include "lib/base/util.h"
#include "tests/unit/suite.h"

#define MS  WV_NS_PER_MS
#define RTT (40 * MS)

static struct rift_quiet q;
static uint64_t now;

static void set_up(void)
{
    q = (struct rift_quiet){0};
    now = 1000 * WV_NS_PER_S;
}

/* Lets NS pass, with a frame of video every FRAME (0: none) and a word of the peer every WORD (0: none).
 * Returns the alarms. */
static unsigned pass(uint64_t ns, uint64_t frame, uint64_t word, uint64_t *ret_first)
{
    unsigned alarms = 0;
    uint64_t begun = now;
    for (uint64_t end = now + ns; now < end; now += MS) {
        if (word && (now - begun) % word == 0)
            rift_quiet_heard(&q, now);
        if (frame && (now - begun) % frame == 0)
            rift_quiet_sent(&q, now);
        bool due = rift_quiet_timeout(&q, RTT, RTT / 8) <= now;
        int r = rift_quiet_tick(&q, RTT, RTT / 8, now);
        ck_assert_int_eq(r == RIFT_QUIET_ALARM, due); /* who sleeps until the timeout misses nothing */
        if (due && alarms++ == 0 && ret_first)
            *ret_first = now - begun;
    }
    return alarms;
}

START_TEST(nothing_is_awaited_of_a_peer_that_never_spoke)
{
    ck_assert_uint_eq(rift_quiet_timeout(&q, RTT, 0), UINT64_MAX);
    ck_assert_uint_eq(pass(60 * WV_NS_PER_S, 16 * MS, 0, NULL), 0);
}
END_TEST

START_TEST(a_healthy_peer_is_left_alone)
{
    ck_assert_uint_eq(pass(60 * WV_NS_PER_S, 16 * MS, 20 * MS, NULL), 0); /* it reports */
    ck_assert_uint_eq(pass(60 * WV_NS_PER_S, 0, 250 * MS, NULL), 0);      /* it keeps alive */
    for (unsigned i = 0; i < 50; i++) { /* video comes and goes: what was reported on is not awaited again */
        ck_assert_uint_eq(pass(300 * MS, 16 * MS, 20 * MS, NULL), 0);
        rift_quiet_heard(&q, now);
        ck_assert_uint_eq(pass(250 * MS, 0, 0, NULL), 0);
    }
}
END_TEST

START_TEST(a_missing_answer_is_noticed_soon)
{
    uint64_t first = 0;
    pass(5 * WV_NS_PER_S, 16 * MS, 20 * MS, NULL);
    rift_quiet_heard(&q, now);
    ck_assert_uint_gt(pass(WV_NS_PER_S, 16 * MS, 0, &first), 0);
    ck_assert_uint_ge(first, RTT + 60 * MS);
    ck_assert_uint_le(first, 150 * MS);
}
END_TEST

START_TEST(a_missing_word_is_noticed_later)
{
    uint64_t first = 0;
    rift_quiet_heard(&q, now);
    ck_assert_uint_gt(pass(WV_NS_PER_S, 0, 0, &first), 0);
    ck_assert_uint_eq(first, 400 * MS);
}
END_TEST

START_TEST(a_peer_that_is_gone_costs_less_and_less)
{
    rift_quiet_heard(&q, now);
    unsigned soon = pass(4 * WV_NS_PER_S, 16 * MS, 0, NULL);
    ck_assert_uint_ge(soon, 3); /* the router may take its time to come back */
    ck_assert_uint_le(soon, 5);
    ck_assert_uint_le(pass(60 * WV_NS_PER_S, 16 * MS, 0, NULL), 9);
}
END_TEST

/* Who goes silent and speaks again, as fast as pays, for ten minutes. */
START_TEST(a_peer_that_plays_dead_is_bounded)
{
    unsigned alarms = 0, rounds = 0;
    for (uint64_t end = now + 600 * WV_NS_PER_S; now < end; rounds++) {
        rift_quiet_heard(&q, now);
        unsigned got = 0;
        while (!got && now < end)
            got = pass(MS, MS, 0, NULL);
        alarms += got;
    }
    ck_assert_uint_gt(rounds, 50);
    ck_assert_uint_le(alarms, 8 + 600 / 5);
}
END_TEST

/* A bad radio: pauses of 300 ms every second are odd at first, and usual later. */
START_TEST(pauses_that_are_usual_are_awaited)
{
    for (unsigned i = 0; i < 30; i++) {
        pass(700 * MS, 16 * MS, 20 * MS, NULL);
        unsigned alarms = pass(300 * MS, 16 * MS, 0, NULL);
        rift_quiet_heard(&q, now);
        ck_assert_msg(i < 3 || alarms == 0, "pause %u was an alarm", i);
    }
    /* And are odd again after a time without any. */
    pass(200 * WV_NS_PER_S, 16 * MS, 20 * MS, NULL);
    rift_quiet_heard(&q, now);
    ck_assert_uint_gt(pass(150 * MS, 16 * MS, 0, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quiet");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, nothing_is_awaited_of_a_peer_that_never_spoke);
    tcase_add_test(tcase, a_healthy_peer_is_left_alone);
    tcase_add_test(tcase, a_missing_answer_is_noticed_soon);
    tcase_add_test(tcase, a_missing_word_is_noticed_later);
    tcase_add_test(tcase, a_peer_that_is_gone_costs_less_and_less);
    tcase_add_test(tcase, a_peer_that_plays_dead_is_bounded);
    tcase_add_test(tcase, pauses_that_are_usual_are_awaited);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
