/* DELTA through its vtable, on the small path of cc_link.h. */
#include "rift/core/delta.h"

#include "lib/base/util.h"
#include "tests/unit/cc_link.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define S  WV_NS_PER_S
#define MS WV_NS_PER_MS

static const struct rift_cc_config desktop = {
    .min_bps = 500000,
    .max_bps = 80000000,
    .start_bps = 2000000,
    .fps = 60,
    .mtu_bytes = 1200,
};

static struct cc_link path(double bps)
{
    struct cc_link link = {
        .bps = bps,
        .forward_ns = 20 * MS,
        .back_ns = 20 * MS,
        .queue_ns = 500 * MS,
        .seed = 7,
        .now = 1000 * S,
        .n_flows = 1,
    };
    link.flow[0].config = &desktop;
    link.flow[0].start_ns = link.now;
    return link;
}

/* Runs for DURATION and says what of the path flow 0 used in it. */
static double used(struct cc_link *link, uint64_t duration_ns)
{
    cc_link_clear(link);
    cc_link_run(link, duration_ns);
    return cc_link_used(link, 0, duration_ns, link->bps);
}

START_TEST(clean_link_is_used_with_little_delay)
{
    static const double rates[] = {1e6, 2e6, 10e6, 50e6};
    struct cc_link link = path(rates[_i]);
    cc_link_start(&link);
    cc_link_run(&link, 4 * S);
    double percent = used(&link, 15 * S);
    ck_assert_double_ge(percent, 84);
    ck_assert_double_le(percent, 96);
    ck_assert_double_le(link.flow[0].delay_p95_ms, 24);
    ck_assert_uint_eq(link.flow[0].lost_packets, 0);
    cc_link_stop(&link);
}
END_TEST

START_TEST(start_is_quick)
{
    struct cc_link link = path(20e6);
    cc_link_start(&link);
    cc_link_run(&link, 2 * S);
    ck_assert_double_ge(used(&link, 1 * S), 75);
    ck_assert_uint_le(link.longest_wait_ns, 40 * MS);
    cc_link_stop(&link);
}
END_TEST

START_TEST(falls_and_rises_with_the_capacity)
{
    struct cc_link link = path(6e6);
    cc_link_start(&link);
    cc_link_run(&link, 6 * S);
    link.bps = 1.5e6;
    cc_link_run(&link, 800 * MS);
    used(&link, 2 * S);
    ck_assert_uint_le(link.longest_wait_ns, 60 * MS);
    ck_assert_double_ge(used(&link, 5 * S), 75);
    link.bps = 6e6;
    cc_link_run(&link, 1 * S);
    ck_assert_double_ge(used(&link, 5 * S), 82);
    cc_link_stop(&link);
}
END_TEST

START_TEST(clocks_need_not_agree)
{
    static const double ppm[] = {200, -200};
    static const uint64_t offset[] = {0x7fffffffffffull * 1000, 5 * S};
    struct cc_link link = path(10e6);
    link.flow[0].clock_ppm = ppm[_i];
    link.flow[0].clock_offset_ns = offset[_i];
    cc_link_start(&link);
    cc_link_run(&link, 20 * S);
    ck_assert_double_ge(used(&link, 20 * S), 82);
    ck_assert_double_le(link.flow[0].delay_p95_ms, 26);
    cc_link_stop(&link);
}
END_TEST

START_TEST(clock_steps_are_survived)
{
    struct cc_link link = path(10e6);
    link.flow[0].clock_offset_ns = 50 * S;
    cc_link_start(&link);
    cc_link_run(&link, 5 * S);
    link.flow[0].clock_offset_ns += 30 * S;
    cc_link_run(&link, 4 * S);
    ck_assert_double_ge(used(&link, 5 * S), 75);
    link.flow[0].clock_offset_ns -= 40 * S;
    cc_link_run(&link, 4 * S);
    ck_assert_double_ge(used(&link, 5 * S), 75);
    cc_link_stop(&link);
}
END_TEST

START_TEST(base_follows_a_longer_route)
{
    static const uint64_t added[] = {10 * MS, 40 * MS, 150 * MS};
    struct cc_link link = path(10e6);
    cc_link_start(&link);
    cc_link_run(&link, 10 * S);
    link.forward_ns += added[_i];
    cc_link_run(&link, 3 * S);
    ck_assert_double_ge(used(&link, 5 * S), 75);
    ck_assert_uint_le(link.longest_wait_ns, 40 * MS);
    link.forward_ns -= added[_i];
    cc_link_run(&link, 2 * S);
    ck_assert_double_ge(used(&link, 5 * S), 75);
    cc_link_stop(&link);
}
END_TEST

START_TEST(random_loss_is_not_congestion)
{
    struct cc_link link = path(10e6);
    link.loss = 0.03;
    cc_link_start(&link);
    cc_link_run(&link, 4 * S);
    ck_assert_double_ge(used(&link, 10 * S), 80);
    cc_link_stop(&link);
}
END_TEST

START_TEST(lost_feedback_costs_little)
{
    struct cc_link link = path(10e6);
    link.flow[0].feedback_loss = 0.3;
    cc_link_start(&link);
    cc_link_run(&link, 4 * S);
    ck_assert_double_ge(used(&link, 10 * S), 80);
    cc_link_stop(&link);
}
END_TEST

START_TEST(silence_stops_the_flow_and_ends)
{
    struct cc_link link = path(10e6);
    cc_link_start(&link);
    cc_link_run(&link, 5 * S);
    link.blocked = true;
    cc_link_run(&link, 2 * S);
    struct rift_cc_stats stats;
    rift_delta.get_stats(link.flow[0].cc, &stats);
    ck_assert_uint_le(stats.in_flight_bytes, 400000);
    ck_assert_uint_le(rift_delta.target_bps(link.flow[0].cc, link.now), 60000);
    ck_assert(!rift_delta.frame_wanted(link.flow[0].cc, link.now));
    link.blocked = false;
    cc_link_run(&link, 2 * S);
    ck_assert(rift_delta.frame_wanted(link.flow[0].cc, link.now));
    ck_assert_double_ge(used(&link, 5 * S), 80);
    cc_link_stop(&link);
}
END_TEST

START_TEST(idle_source_does_not_grow)
{
    struct cc_link link = path(10e6);
    cc_link_start(&link);
    cc_link_run(&link, 4 * S);
    link.flow[0].activity = 0.003;
    for (int i = 0; i < 10; i++) {
        cc_link_run(&link, 2 * S);
        ck_assert_uint_le(rift_delta.target_bps(link.flow[0].cc, link.now), 11000000);
    }
    link.flow[0].activity = 0;
    cc_link_clear(&link);
    cc_link_run(&link, 2 * S);
    ck_assert_uint_le(link.longest_wait_ns, 60 * MS);
    ck_assert_double_ge(used(&link, 4 * S), 80);
    cc_link_stop(&link);
}
END_TEST

START_TEST(latecomer_gets_its_share)
{
    struct cc_link link = path(12e6);
    link.n_flows = 2;
    link.flow[1].config = &desktop;
    link.flow[1].start_ns = link.now + 10 * S;
    cc_link_start(&link);
    cc_link_run(&link, 25 * S);
    cc_link_clear(&link);
    cc_link_run(&link, 15 * S);
    double a = cc_link_used(&link, 0, 15 * S, link.bps), b = cc_link_used(&link, 1, 15 * S, link.bps);
    ck_assert_double_ge(a + b, 86);
    ck_assert_double_ge(a, 33);
    ck_assert_double_ge(b, 33);
    ck_assert_double_le(link.flow[1].delay_p95_ms, 35);
    cc_link_stop(&link);
}
END_TEST

START_TEST(pause_and_resume)
{
    struct cc_link link = path(10e6);
    cc_link_start(&link);
    cc_link_run(&link, 5 * S);
    link.flow[0].paused = true;
    rift_delta.pause(link.flow[0].cc, true, link.now);
    cc_link_run(&link, 10 * S);
    link.bps = 3e6;
    link.flow[0].paused = false;
    rift_delta.pause(link.flow[0].cc, false, link.now);
    cc_link_run(&link, 2 * S);
    ck_assert_double_ge(used(&link, 4 * S), 75);
    ck_assert_uint_le(link.longest_wait_ns, 60 * MS);
    cc_link_stop(&link);
}
END_TEST

START_TEST(counters_near_their_end)
{
    struct cc_link link = path(10e6);
    link.flow[0].first_seq = UINT64_MAX - 4000; /* some four seconds */
    cc_link_start(&link);
    cc_link_run(&link, 3 * S);
    ck_assert_double_ge(used(&link, 1 * S), 70);
    cc_link_run(&link, 3 * S); /* past the end nothing more is known, and nothing breaks */
    ck_assert_uint_le(rift_delta.target_bps(link.flow[0].cc, link.now), desktop.max_bps);
    cc_link_stop(&link);
}
END_TEST

/* ---- reports that lie ---- */

/* Two flows that have lived the same life. */
static void twins(struct cc_link *a, struct cc_link *b)
{
    *a = path(10e6);
    *b = path(10e6);
    cc_link_start(a);
    cc_link_start(b);
    cc_link_run(a, 5 * S);
    cc_link_run(b, 5 * S);
}

static void tell(struct cc_link *link, uint64_t seq, uint64_t arrival_ns, size_t n, uint64_t step_ns)
{
    struct rift_cc_arrival arrivals[64];
    ck_assert_uint_le(n, 64);
    for (size_t i = 0; i < n; i++)
        arrivals[i] =
            (struct rift_cc_arrival){.seq = seq + i, .arrival_ns = arrival_ns + i * step_ns, .exact = true};
    struct rift_cc_report report = {.arrivals = arrivals, .n = n, .held_ns = 0};
    rift_delta.on_report(link->flow[0].cc, &report, link->now);
}

START_TEST(packets_never_sent_and_repeated_ones_change_nothing)
{
    struct cc_link honest, lied;
    twins(&honest, &lied);
    for (int i = 0; i < 200; i++) {
        tell(&lied, UINT64_MAX - 100, 12345, 50, 1000);     /* never sent */
        tell(&lied, 1000000000, lied.now, 50, 1);           /* never sent */
        tell(&lied, 100, lied.now + 3600 * S, 50, 77 * MS); /* told long ago */
        cc_link_run(&honest, 20 * MS);
        cc_link_run(&lied, 20 * MS);
        ck_assert_uint_eq(rift_delta.target_bps(honest.flow[0].cc, honest.now),
                          rift_delta.target_bps(lied.flow[0].cc, lied.now));
    }
    ck_assert_uint_eq(honest.flow[0].delivered_bytes, lied.flow[0].delivered_bytes);
    cc_link_stop(&honest);
    cc_link_stop(&lied);
}
END_TEST

START_TEST(impossible_times_hurt_only_for_a_while)
{
    struct cc_link link = path(10e6);
    cc_link_start(&link);
    cc_link_run(&link, 5 * S);
    uint64_t seq = 0;
    for (int i = 0; i < 100; i++) {
        static const uint64_t claim[] = {0, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN, 1};
        /* what is in flight now has numbers around here */
        for (uint64_t k = seq; k < 20000; k += 40)
            tell(&link, k, claim[i % 5], 40, i % 2 ? 1 : UINT64_MAX / 64);
        seq = 2000;
        cc_link_run(&link, 50 * MS);
        uint64_t bps = rift_delta.target_bps(link.flow[0].cc, link.now);
        ck_assert_uint_le(bps, desktop.max_bps);
        ck_assert_uint_ge(bps, 50000);
        struct rift_cc_stats stats;
        rift_delta.get_stats(link.flow[0].cc, &stats);
        ck_assert(stats.loss >= 0 && stats.loss <= 1);
    }
    cc_link_run(&link, 12 * S);
    ck_assert_double_ge(used(&link, 5 * S), 70);
    cc_link_stop(&link);
}
END_TEST

START_TEST(configs_that_make_no_sense_are_refused)
{
    struct rift_cc *cc = NULL;
    struct rift_cc_config c = desktop;
    c.fps = 0;
    ck_assert_int_eq(rift_delta.make(&cc, &c, 0), -EINVAL);
    c = desktop;
    c.start_bps = 0;
    ck_assert_int_eq(rift_delta.make(&cc, &c, 0), -EINVAL);
    c = desktop;
    c.max_bps = c.min_bps - 1;
    ck_assert_int_eq(rift_delta.make(&cc, &c, 0), -EINVAL);
    c = desktop;
    c.mtu_bytes = 0;
    ck_assert_int_eq(rift_delta.make(&cc, &c, 0), -EINVAL);
    ck_assert_ptr_null(cc);
    ck_assert_ptr_null(rift_delta.free(NULL));
}
END_TEST

START_TEST(throughput_mode_uses_more)
{
    struct rift_cc_config config = desktop;
    double percent[2];
    for (int mode = 0; mode < 2; mode++) {
        config.mode = mode ? RIFT_CC_THROUGHPUT : RIFT_CC_LATENCY;
        struct cc_link link = path(10e6);
        link.flow[0].config = &config;
        cc_link_start(&link);
        cc_link_run(&link, 4 * S);
        percent[mode] = used(&link, 10 * S);
        cc_link_stop(&link);
    }
    ck_assert_double_ge(percent[1], percent[0] + 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("delta");
    TCase *tc = tcase_create("delta");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, clean_link_is_used_with_little_delay, 0, 4);
    tcase_add_test(tc, start_is_quick);
    tcase_add_test(tc, falls_and_rises_with_the_capacity);
    tcase_add_loop_test(tc, clocks_need_not_agree, 0, 2);
    tcase_add_test(tc, clock_steps_are_survived);
    tcase_add_loop_test(tc, base_follows_a_longer_route, 0, 3);
    tcase_add_test(tc, random_loss_is_not_congestion);
    tcase_add_test(tc, lost_feedback_costs_little);
    tcase_add_test(tc, silence_stops_the_flow_and_ends);
    tcase_add_test(tc, idle_source_does_not_grow);
    tcase_add_test(tc, latecomer_gets_its_share);
    tcase_add_test(tc, pause_and_resume);
    tcase_add_test(tc, counters_near_their_end);
    tcase_add_test(tc, packets_never_sent_and_repeated_ones_change_nothing);
    tcase_add_test(tc, impossible_times_hurt_only_for_a_while);
    tcase_add_test(tc, configs_that_make_no_sense_are_refused);
    tcase_add_test(tc, throughput_mode_uses_more);
    suite_add_tcase(suite, tc);
    return wv_run_suite(suite);
}
