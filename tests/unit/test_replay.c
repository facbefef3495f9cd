/* The replay window: the kinds of steps that WireGuard checks its own with, then long random runs against a
 * model that remembers everything. */
#include "rift/crypto/replay.h"
#include "tests/unit/suite.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define W RIFT_REPLAY_BITS

static struct rift_replay r;

static void fresh(void)
{
    rift_replay_init(&r);
}

/* check and accept must agree, and check must not change anything. */
#define T(counter, expected)                                                                                 \
    do {                                                                                                     \
        struct rift_replay before = r;                                                                       \
        ck_assert_int_eq(rift_replay_check(&r, counter), expected);                                          \
        ck_assert_mem_eq(&before, &r, sizeof r);                                                             \
        ck_assert_int_eq(rift_replay_accept(&r, counter), expected);                                         \
        if (!(expected))                                                                                     \
            ck_assert_mem_eq(&before, &r, sizeof r);                                                         \
    } while (0)

START_TEST(order_duplicates_and_edges)
{
    fresh();
    for (uint64_t i = 0; i < 10; i++)
        T(i, true);
    for (uint64_t i = 0; i < 10; i++)
        T(i, false);
    T(15, true);
    T(13, true);
    T(14, true);
    T(13, false);
    T(15, false);

    /* Exactly the window's width counts back from the newest; one more is too old. */
    fresh();
    T(W, true);
    T(1, true);
    T(0, false);
    T(1, false);
    T(W + 5, true);
    T(6, true);
    T(5, false);
    T(W - 1, true);
}
END_TEST

START_TEST(jumps_forget_everything_behind)
{
    fresh();
    for (uint64_t i = 0; i < W; i++)
        T(i, true);
    T(4 * W, true);
    T(0, false);
    T(W - 1, false);
    T(3 * W, false);
    /* None of the earlier marks may show through in the same words of the ring. */
    for (uint64_t i = 3 * W + 1; i < 4 * W; i++)
        T(i, true);
    T(4 * W, false);
    T(UINT64_C(1) << 40, true);
    T((UINT64_C(1) << 40) - W + 1, true);
    T((UINT64_C(1) << 40) - W, false);
}
END_TEST

START_TEST(the_end_of_the_counters)
{
    fresh();
    T(UINT64_MAX, false);
    T(0, true);
    T(UINT64_MAX, false);
    T(UINT64_MAX - 1, true);
    T(UINT64_MAX - 1, false);
    T(UINT64_MAX, false);
    T(UINT64_MAX - W, true);
    T(UINT64_MAX - W - 1, false);
    T(0, false);
}
END_TEST

START_TEST(sweeps_up_and_down)
{
    fresh();
    for (uint64_t i = 1; i <= W; i++)
        T(i, true);
    T(0, false);

    fresh();
    for (uint64_t i = 1; i < W; i++)
        T(i, true);
    T(0, true);
    T(0, false);

    for (uint64_t top = W; top <= W + 2; top++) {
        fresh();
        for (uint64_t i = top; i > top - W; i--)
            T(i, true);
        for (uint64_t i = top - W; i > 0; i--)
            T(i, false);
        T(0, false);
        T(top + 1, true);
    }
}
END_TEST

/* Every distance of a jump up to beyond the ring, from every position within a word. */
START_TEST(each_jump_width)
{
    for (uint64_t start = 0; start < 64; start += 9)
        for (uint64_t jump = 1; jump < W + 200; jump++) {
            fresh();
            rift_replay_accept(&r, start);
            rift_replay_accept(&r, start + jump);
            ck_assert(!rift_replay_check(&r, start));
            ck_assert(!rift_replay_check(&r, start + jump));
            if (jump > 1)
                ck_assert(rift_replay_check(&r, start + jump - 1));
            ck_assert_int_eq(rift_replay_check(&r, start + 1), jump > 1 && jump - 1 < W);
        }
}
END_TEST

#define MODEL_SPAN 200000

START_TEST(random_runs_match_a_naive_model)
{
    static uint8_t seen[MODEL_SPAN];
    unsigned seed = 1000 + (unsigned)_i;
    uint64_t base = _i % 2 ? UINT64_MAX - MODEL_SPAN : 0, next = 0;
    srand(seed);
    memset(seen, 0, sizeof seen);
    fresh();
    for (unsigned step = 0; step < 60000; step++) {
        int kind = rand() % 100;
        uint64_t at = kind < 60   ? next
                      : kind < 95 ? next - (uint64_t)(rand() % (W + 300))
                      : kind < 99 ? next + (uint64_t)(rand() % 200)
                                  : next + (uint64_t)(rand() % (2 * W));
        if (at >= MODEL_SPAN) {
            if (at - next < 4 * W) /* would run off the model's end */
                continue;
            at = 0; /* a step back below zero */
        }
        bool expected = !seen[at] && (at >= next || next - at <= W);
        ck_assert_msg(rift_replay_check(&r, base + at) == expected &&
                          rift_replay_accept(&r, base + at) == expected,
                      "seed %u, step %u, counter %llu, next %llu", seed, step, (unsigned long long)at,
                      (unsigned long long)next);
        if (expected) {
            seen[at] = 1;
            next = at >= next ? at + 1 : next;
        }
    }
    ck_assert_uint_gt(next, MODEL_SPAN / 4);
}
END_TEST

/* A state from damaged memory is only garbage in its answers. */
START_TEST(garbage_state_stays_inside)
{
    srand(7);
    for (int i = 0; i < 2000; i++) {
        uint8_t *bytes = (uint8_t *)&r;
        for (size_t k = 0; k < sizeof r; k++)
            bytes[k] = (uint8_t)rand();
        uint64_t counter = r.next + (uint64_t)(rand() % 20000) - 10000;
        bool check = rift_replay_check(&r, counter);
        ck_assert_int_eq(rift_replay_accept(&r, counter), check);
        ck_assert(!rift_replay_accept(&r, counter));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replay");
    TCase *t = tcase_create("replay");
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    tcase_add_test(t, order_duplicates_and_edges);
    tcase_add_test(t, jumps_forget_everything_behind);
    tcase_add_test(t, the_end_of_the_counters);
    tcase_add_test(t, sweeps_up_and_down);
    tcase_add_test(t, each_jump_width);
    tcase_add_loop_test(t, random_runs_match_a_naive_model, 0, 6);
    tcase_add_test(t, garbage_state_stays_inside);
    return wv_run_suite(s);
}
