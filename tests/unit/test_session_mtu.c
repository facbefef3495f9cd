/* What the path carries: how large, and with which marks. */
#include "tests/unit/session_net.h"
#include "tests/unit/suite.h"

#include <errno.h>

START_TEST(the_largest_size_is_found_on_any_path)
{
    for (size_t mtu = 1200; mtu <= 1460; mtu += 52) {
        struct net *n = net_default();
        uint32_t id = 0;
        n->mtu = mtu;
        unsigned shown = net_stream(n, &id, 1500 * MS, 20000);
        uint32_t found = pair_stats(n->host).mtu_bytes;
        ck_assert_uint_le(found, mtu);
        ck_assert_uint_ge(found + 16, WV_MIN(mtu, (size_t)RIFT_MTU_MAX_BYTES));
        ck_assert_uint_ge(shown, id - 3); /* nothing was lost by trying */
        ck_assert_uint_eq(pair_stats(n->client).nacks_sent, 0);
        n->largest = 0;
        net_stream(n, &id, WV_NS_PER_S, 20000);
        ck_assert_uint_eq(n->largest, found); /* and it is used */
        net_free(n);
    }
}
END_TEST

START_TEST(the_configured_most_and_the_callers_buffers_are_bounds)
{
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    uint32_t id = 0;
    h.mtu_max_bytes = 1300;
    struct net *n = net_new(&h, &c);
    net_stream(n, &id, WV_NS_PER_S, 20000);
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, 1300);
    ck_assert_uint_eq(n->largest, 1300);
    struct rift_outgoing out;
    uint8_t d[RIFT_MTU_MAX_BYTES];
    ck_assert_int_eq(rift_session_send_to(n->host, d, RIFT_MTU_MAX_BYTES - 1, n->now, &out), -EINVAL);
    net_free(n);
    struct rift_session *s = NULL;
    h.mtu_max_bytes = 1199;
    ck_assert_int_eq(rift_session_new(&s, &h, START), -EINVAL);
    h.mtu_max_bytes = RIFT_MTU_MAX_BYTES + 1;
    ck_assert_int_eq(rift_session_new(&s, &h, START), -EINVAL);
    /* Callers of the old interface have buffers of 1200 bytes. */
    struct pair p = pair_new();
    for (uint32_t i = 0; i < 60; i++) {
        pair_send_frame(&p, i, 0, i == 0, 20000);
        pair_run(&p, 17 * MS);
        pair_expect_frame(&p, i, 20000);
    }
    ck_assert_uint_eq(pair_stats(p.host).mtu_probes, 0);
    pair_free(&p);
}
END_TEST

START_TEST(a_black_hole_is_left_and_loss_alone_is_none)
{
    struct net *n = net_default();
    uint32_t id = 0;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, RIFT_MTU_MAX_BYTES);
    n->lose_to_client = 20;
    net_stream(n, &id, 5 * WV_NS_PER_S, 5000);
    ck_assert_uint_eq(pair_stats(n->host).mtu_black_holes, 0);
    n->lose_to_client = 100; /* an outage is none either */
    net_stream(n, &id, WV_NS_PER_S, 5000);
    n->lose_to_client = 0;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    ck_assert_uint_eq(pair_stats(n->host).mtu_black_holes, 0);
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, RIFT_MTU_MAX_BYTES);
    n->mtu = 1300;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    ck_assert_uint_eq(pair_stats(n->host).mtu_black_holes, 1);
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, RIFT_MTU_BYTES);
    ck_assert_uint_ge(net_stream(n, &id, WV_NS_PER_S, 20000), 55);
    net_stream(n, &id, 61 * WV_NS_PER_S, 2000); /* it tries again, and finds what there is */
    ck_assert_uint_ge(pair_stats(n->host).mtu_bytes, 1284);
    ck_assert_uint_le(pair_stats(n->host).mtu_bytes, 1300);
    net_free(n);
}
END_TEST

START_TEST(frames_begun_before_a_black_hole_are_gone_and_a_keyframe_follows)
{
    struct net *n = net_default();
    uint32_t id = 0;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    n->mtu = 1200;
    uint64_t began = n->now;
    net_frame(n, id++, false, 20000);
    struct rift_event e;
    bool asked = false;
    while (pair_stats(n->host).mtu_bytes != RIFT_MTU_BYTES && n->now < began + WV_NS_PER_S) {
        asked = false;
        net_run(n, MS);
        while (rift_session_next_event(n->host, &e) == 0)
            asked = asked || e.kind == RIFT_EVENT_KEYFRAME_REQUEST;
    }
    ck_assert(asked);
    ck_assert_uint_le(n->now - began, 300 * MS);
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, RIFT_MTU_BYTES);
    net_frame(n, id, true, 20000);
    net_run(n, 30 * MS);
    bool shown = false;
    while (rift_session_next_event(n->client, &e) == 0)
        shown = shown || (e.kind == RIFT_EVENT_FRAME && e.frame.meta.frame_id == id);
    ck_assert(shown);
    net_free(n);
}
END_TEST

START_TEST(a_new_path_begins_small_again)
{
    struct net *n = net_default();
    uint32_t id = 0;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    n->client_address[0] = 2;
    n->mtu = 1200;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    ck_assert_uint_eq(pair_stats(n->host).path_changes, 1);
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, RIFT_MTU_BYTES);
    ck_assert_uint_ge(net_stream(n, &id, WV_NS_PER_S, 20000), 55);
    net_free(n);
}
END_TEST

START_TEST(acknowledgements_of_probes_never_sent_change_nothing)
{
    struct net *n = net_default();
    uint32_t id = 0;
    n->mtu = 1200;
    net_stream(n, &id, 100 * MS, 20000); /* the search runs */
    for (uint32_t i = 100; i < 200; i++) {
        uint8_t ack[] = {RIFT_WIRE_MTU_ACK, 4, 0, (uint8_t)i, 0, 0, (uint8_t)(i % 2 ? 0xff : 0)};
        rift_session_frames(n->host, ack, sizeof ack, 0, n->now);
    }
    ck_assert_uint_eq(pair_stats(n->host).mtu_bytes, RIFT_MTU_BYTES);
    net_free(n);
}
END_TEST

/* ---- marks ---- */

static struct net *marking_net(enum rift_ecn mark)
{
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    h.ecn = mark;
    return net_new(&h, &c);
}

START_TEST(marks_that_arrive_are_counted_and_congestion_is_told)
{
    for (enum rift_ecn mark = RIFT_ECN_ECT1; mark <= RIFT_ECN_ECT0; mark++) {
        struct net *n = marking_net(mark);
        uint32_t id = 0;
        n->lose_to_client = n->lose_to_host = 5;
        net_stream(n, &id, WV_NS_PER_S, 20000);
        ck_assert(pair_stats(n->host).ecn_capable);
        ck_assert_uint_eq(pair_stats(n->host).ecn_ce_sent, 0);
        n->bleach = RIFT_ECN_CE;
        net_stream(n, &id, WV_NS_PER_S, 20000);
        ck_assert(pair_stats(n->host).ecn_capable);
        ck_assert_uint_gt(pair_stats(n->host).ecn_ce_sent, 100);
        ck_assert_uint_le(pair_stats(n->host).ecn_ce_sent, pair_stats(n->client).ecn_ce);
        n->bleach = RIFT_ECN_ECT1;
        n->client_address[0] = 2; /* a new path is tested anew */
        net_stream(n, &id, WV_NS_PER_S, 20000);
        ck_assert_uint_eq(pair_stats(n->host).path_changes, 1);
        ck_assert(pair_stats(n->host).ecn_capable);
        ck_assert_uint_eq(pair_stats(n->host).ecn_failures, 0);
        net_free(n);
    }
}
END_TEST

START_TEST(a_path_that_eats_or_changes_marks_gets_none)
{
    static const enum rift_ecn becomes[] = {RIFT_ECN_NONE, RIFT_ECN_ECT0};
    for (size_t i = 0; i < WV_ARRAY_SIZE(becomes); i++)
        for (int late = 0; late < 2; late++) {
            struct net *n = marking_net(RIFT_ECN_ECT1);
            uint32_t id = 0;
            n->bleach = late ? RIFT_ECN_ECT1 : becomes[i];
            net_stream(n, &id, WV_NS_PER_S, 20000);
            n->bleach = becomes[i];
            net_stream(n, &id, WV_NS_PER_S, 20000);
            ck_assert(!pair_stats(n->host).ecn_capable);
            ck_assert_uint_eq(pair_stats(n->host).ecn_failures, 1);
            uint8_t d[RIFT_MTU_MAX_BYTES];
            struct rift_outgoing out;
            net_frame(n, id, false, 2000);
            ck_assert_int_eq(rift_session_send_to(n->host, d, sizeof d, n->now, &out), 0);
            ck_assert_int_eq(out.ecn, RIFT_ECN_NONE);
            net_free(n);
        }
}
END_TEST

START_TEST(counts_that_lie_end_the_marking_and_nothing_else)
{
    struct rift_marks m;
    rift_marks_init(&m, RIFT_ECN_ECT1);
    for (int i = 0; i < 100; i++)
        rift_marks_sent(&m, RIFT_ECN_ECT1, START);
    struct rift_ecn_counts more = {.received = 100, .ect1 = 50, .ce = 100};
    rift_marks_feedback(&m, 100, &more);
    ck_assert_int_eq(m.state, RIFT_ECN_OFF);
    ck_assert_uint_eq(m.ce_told, 0);
    /* From a peer that was restarted: its counts went back, and are the base of what follows. */
    rift_marks_init(&m, RIFT_ECN_ECT1);
    rift_marks_sent(&m, RIFT_ECN_ECT1, START);
    rift_marks_reset(&m, 200);
    rift_marks_feedback(&m, 199, &(struct rift_ecn_counts){.received = 1000});
    ck_assert(!m.base_known);
    rift_marks_feedback(&m, 200, &(struct rift_ecn_counts){.received = 1000, .ect1 = 900});
    for (int i = 0; i < 40; i++)
        rift_marks_sent(&m, RIFT_ECN_ECT1, START);
    rift_marks_feedback(&m, 220, &(struct rift_ecn_counts){.received = 990, .ect1 = 890});
    ck_assert_int_eq(m.state, RIFT_ECN_TESTING);
    rift_marks_feedback(&m, 221, &(struct rift_ecn_counts){.received = 991, .ect1 = 891});
    rift_marks_feedback(&m, 240, &(struct rift_ecn_counts){.received = 1011, .ect1 = 911});
    ck_assert_int_eq(m.state, RIFT_ECN_CAPABLE);
}
END_TEST

START_TEST(a_path_that_drops_marked_datagrams_gets_none)
{
    struct rift_marks m;
    rift_marks_init(&m, RIFT_ECN_ECT0);
    uint64_t now = START;
    for (; m.state == RIFT_ECN_TESTING && now < START + 5 * WV_NS_PER_S; now += 10 * MS)
        rift_marks_sent(&m, rift_marks_next(&m, 30 * MS, now), now);
    ck_assert_int_eq(m.state, RIFT_ECN_OFF);
    ck_assert_uint_le(now, START + 1100 * MS);
}
END_TEST

START_TEST(each_datagram_tells_its_class)
{
    struct net *n = marking_net(RIFT_ECN_ECT1);
    uint8_t d[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing out;
    uint32_t seq;
    net_run(n, WV_NS_PER_S);
    static const struct rift_input_event key = {.kind = RIFT_INPUT_KEY, .code = 30, .down = 1};
    rift_session_send_input(n->client, &key, n->now, &seq);
    ck_assert_int_eq(rift_session_send_to(n->client, d, sizeof d, n->now, &out), 0);
    ck_assert(out.traffic_class == RIFT_CLASS_INPUT && out.ecn == RIFT_ECN_NONE);
    net_run(n, 400 * MS);
    n->host->timing.next_ping = n->now + MS; /* so that it has nothing of the input class to say */
    rift_session_send_control(n->host, (const uint8_t *)"x", 1, n->now);
    net_frame(n, 0, true, 800);
    n->host->timing.next_ping = n->now + MS;
    ck_assert_int_eq(rift_session_send_to(n->host, d, sizeof d, n->now, &out), 0);
    ck_assert(out.traffic_class == RIFT_CLASS_CONTROL && out.ecn == RIFT_ECN_NONE);
    ck_assert_int_eq(rift_session_send_to(n->host, d, sizeof d, n->now, &out), 0);
    ck_assert(out.traffic_class == RIFT_CLASS_CONTROL); /* the probe */
    ck_assert_int_eq(rift_session_send_to(n->host, d, sizeof d, n->now, &out), 0);
    ck_assert(out.traffic_class == RIFT_CLASS_MEDIA && out.ecn == RIFT_ECN_ECT1);
    ck_assert_mem_eq(out.address, n->client_address, sizeof out.address);
    net_free(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session mtu");
    TCase *t = tcase_create("session mtu");
    suite_add_tcase(s, t);
    tcase_add_test(t, the_largest_size_is_found_on_any_path);
    tcase_add_test(t, the_configured_most_and_the_callers_buffers_are_bounds);
    tcase_add_test(t, a_black_hole_is_left_and_loss_alone_is_none);
    tcase_add_test(t, frames_begun_before_a_black_hole_are_gone_and_a_keyframe_follows);
    tcase_add_test(t, a_new_path_begins_small_again);
    tcase_add_test(t, acknowledgements_of_probes_never_sent_change_nothing);
    tcase_add_test(t, marks_that_arrive_are_counted_and_congestion_is_told);
    tcase_add_test(t, a_path_that_eats_or_changes_marks_gets_none);
    tcase_add_test(t, counts_that_lie_end_the_marking_and_nothing_else);
    tcase_add_test(t, a_path_that_drops_marked_datagrams_gets_none);
    tcase_add_test(t, each_datagram_tells_its_class);
    return wv_run_suite(s);
}
