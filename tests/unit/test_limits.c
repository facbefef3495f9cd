/* Token buckets in a bounded table: what they let through, and that nobody can make another one's room or
 * forgiveness. */
#include "lib/base/util.h"
#include "services/gateway/limits.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define T(s) ((uint64_t)((s)*1e9) + UINT64_C(1000000000000))

static const struct wv_limit two_a_second = {.per_second = 2, .burst = 5};
static const uint8_t secret[16] = {7};
static struct wv_limits *l;

static void make(size_t places)
{
    ck_assert_int_eq(wv_limits_new(&l, places, &two_a_second, secret), 0);
}

static uint64_t take(uint32_t who, double at)
{
    uint8_t key[WV_LIMIT_KEY_BYTES] = {0};
    memcpy(key, &who, sizeof who);
    return wv_limits_take(l, key, 1, T(at));
}

START_TEST(a_burst_and_then_the_rate)
{
    make(64);
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(take(1, 0), 0);
    uint64_t wait = take(1, 0);
    ck_assert(wait > 400 && wait <= 501);
    ck_assert_uint_eq(take(2, 0), 0);
    ck_assert_uint_ne(take(1, 0.4), 0); /* asking in vain costs nothing */
    ck_assert_uint_eq(take(1, 0.51), 0);
    ck_assert_uint_ne(take(1, 0.52), 0);
    /* A long rest gives a burst and no more; a clock that goes back gives nothing. */
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(take(1, 1000), 0);
    ck_assert_uint_ne(take(1, 1000), 0);
    ck_assert_uint_ne(take(1, 10), 0);
    l = wv_limits_free(l);
}
END_TEST

START_TEST(given_back_and_too_much)
{
    uint8_t key[WV_LIMIT_KEY_BYTES] = {9};
    make(64);
    ck_assert_uint_eq(wv_limits_take(l, key, 6, T(0)), UINT64_MAX);
    ck_assert_uint_eq(wv_limits_take(l, key, 5, T(0)), 0);
    wv_limits_give(l, key, 5, T(0));
    wv_limits_give(l, key, 5, T(0));
    ck_assert_uint_eq(wv_limits_take(l, key, 5, T(0)), 0);
    ck_assert_uint_ne(wv_limits_take(l, key, 1, T(0)), 0);
    l = wv_limits_free(l);
}
END_TEST

/* A flood of addresses: the table does not grow, and who has used up his is not forgotten for it. */
START_TEST(a_flood_forgives_nobody)
{
    make(256);
    for (int i = 0; i < 5; i++)
        take(1, 0);
    for (uint32_t who = 100; who < 100000; who++)
        ck_assert_uint_eq(take(who, 0.001), 0);
    ck_assert_uint_ne(take(1, 0.002), 0);
    ck_assert_uint_le(wv_limits_used(l), 256);
    l = wv_limits_free(l);
}
END_TEST

START_TEST(keys_are_addresses_and_networks)
{
    uint8_t v4[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1},
            next[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 2};
    uint8_t v6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1}, same[16] = {0x20, 1, 0xd, 0xb8, [8] = 9, [15] = 7};
    uint8_t a[16], b[16];
    wv_limit_key(v4, NULL, a);
    wv_limit_key(next, NULL, b);
    ck_assert_mem_ne(a, b, 16);
    wv_limit_key(v6, NULL, a);
    wv_limit_key(same, NULL, b);
    ck_assert_mem_eq(a, b, 16);
    wv_limit_key(v6, "ann", a);
    wv_limit_key(same, "ann", b);
    ck_assert_mem_eq(a, b, 16);
    wv_limit_key(v6, "bob", b);
    ck_assert_mem_ne(a, b, 16);
    wv_limit_key(v4, "ann", b);
    ck_assert_mem_ne(a, b, 16);
}
END_TEST

START_TEST(what_makes_no_sense)
{
    struct wv_limit bad = {.per_second = 0, .burst = 5};
    ck_assert_int_eq(wv_limits_new(&l, 64, &bad, secret), -EINVAL);
    bad = (struct wv_limit){.per_second = 1, .burst = 0.5};
    ck_assert_int_eq(wv_limits_new(&l, 64, &bad, secret), -EINVAL);
    ck_assert_int_eq(wv_limits_new(&l, 1, &two_a_second, secret), -EINVAL);
    ck_assert_int_eq(wv_limits_new(&l, SIZE_MAX, &two_a_second, secret), -EINVAL);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0)
        return EXIT_FAILURE;
    Suite *s = suite_create("limits");
    TCase *t = tcase_create("limits");
    tcase_add_test(t, a_burst_and_then_the_rate);
    tcase_add_test(t, given_back_and_too_much);
    tcase_add_test(t, a_flood_forgives_nobody);
    tcase_add_test(t, keys_are_addresses_and_networks);
    tcase_add_test(t, what_makes_no_sense);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
