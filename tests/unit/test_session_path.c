/* Roaming: the flow follows the peer to a new address within a round trip, and nobody else. */
#include "tests/unit/session_net.h"
#include "tests/unit/suite.h"

#define RTT (2 * NET_ONEWAY)

static void rebind(struct net *n, uint8_t to, bool old_works)
{
    memcpy(n->old_address, n->client_address, sizeof n->old_address);
    n->client_address[0] = to;
    n->old_works = old_works;
}

START_TEST(a_new_address_takes_over_within_a_round_trip_and_fifty_ms)
{
    for (int old_works = 0; old_works < 2; old_works++) {
        struct net *n = net_default();
        uint32_t id = 0;
        net_stream(n, &id, WV_NS_PER_S, 20000);
        ck_assert_uint_eq(pair_stats(n->host).path_changes, 0);
        rebind(n, 2, old_works); /* a NAT may pass on what comes to the old mapping, or not */
        uint64_t began = n->now;
        uint32_t seq;
        struct rift_input_event move = {.kind = RIFT_INPUT_POINTER_REL, .x = 1};
        rift_session_send_input(n->client, &move, n->now, &seq);
        while (!net_flow_is_at(n, n->client_address) && n->now < began + WV_NS_PER_S)
            net_run(n, MS);
        /* One way for the first datagram to arrive, then a round trip and 50 ms. */
        ck_assert_uint_le(n->now - began, NET_ONEWAY + RTT + 50 * MS);
        ck_assert_uint_eq(pair_stats(n->host).path_changes, 1);
        net_stream(n, &id, WV_NS_PER_S, 20000);
        ck_assert(net_flow_is_at(n, n->client_address));
        ck_assert_uint_ge(net_stream(n, &id, WV_NS_PER_S, 20000), 55);
        ck_assert_uint_ge(pair_stats(n->host).rtt_ns, RTT); /* measured anew */
        ck_assert_uint_eq(pair_stats(n->host).path_changes, 1);
        net_free(n);
    }
}
END_TEST

START_TEST(many_moves_in_a_row_and_back)
{
    struct net *n = net_default();
    uint32_t id = 0;
    net_stream(n, &id, WV_NS_PER_S / 2, 5000);
    for (uint8_t i = 0; i < 20; i++) {
        rebind(n, (uint8_t)(1 + i % 3), i % 2);
        net_stream(n, &id, 400 * MS, 5000);
        ck_assert_msg(net_flow_is_at(n, n->client_address), "move %d", i);
    }
    ck_assert_uint_ge(net_stream(n, &id, WV_NS_PER_S, 5000), 55);
    net_free(n);
}
END_TEST

START_TEST(a_client_that_knows_says_so_at_once)
{
    struct net *n = net_default();
    net_run(n, WV_NS_PER_S); /* only keepalives */
    rebind(n, 2, false);
    rift_session_path_changed(n->client, n->now);
    net_run(n, NET_ONEWAY + RTT + 50 * MS);
    ck_assert(net_flow_is_at(n, n->client_address));
    net_free(n);
}
END_TEST

/* The attacker sees all that the client sends, is faster than the network, and passes on all it gets. */
START_TEST(who_forwards_copies_never_becomes_the_path)
{
    for (int kind = 0; kind < 3; kind++) {
        struct net *n = net_default();
        uint32_t id = 0;
        net_stream(n, &id, WV_NS_PER_S, 20000);
        n->attacks = true;
        n->attacker_oneway = kind == 0 ? NET_ONEWAY / 2 : kind == 1 ? 0 : NET_ONEWAY - MS;
        net_stream(n, &id, 5 * WV_NS_PER_S, 20000);
        ck_assert_uint_gt(pair_stats(n->host).path_attempts, 0);
        ck_assert_uint_lt(pair_stats(n->host).path_attempts, 12); /* it is passed over for a while */
        ck_assert_uint_eq(n->to_attacker_media, 0);
        ck_assert_uint_eq(pair_stats(n->host).path_changes, 0);
        ck_assert(net_flow_is_at(n, n->client_address));
        ck_assert_uint_ge(net_stream(n, &id, WV_NS_PER_S, 20000), 55);
        net_free(n);
    }
}
END_TEST

START_TEST(who_forwards_copies_is_left_again_when_loss_helped_him)
{
    struct net *n = net_default();
    uint32_t id = 0;
    net_stream(n, &id, WV_NS_PER_S, 5000);
    n->attacks = true;
    n->lose_to_host = 30; /* often the copy comes, and the original does not */
    for (int i = 0; i < 10; i++)
        net_stream(n, &id, WV_NS_PER_S, 5000);
    n->attacks = false;
    n->lose_to_host = 0;
    net_stream(n, &id, 3 * WV_NS_PER_S, 5000);
    ck_assert(net_flow_is_at(n, n->client_address));
    ck_assert_uint_lt(n->to_attacker_media * 5000, n->media_bytes / 10);
    net_free(n);
}
END_TEST

START_TEST(an_old_address_that_still_speaks_ends_the_attempt_at_once)
{
    static const uint8_t here[RIFT_ADDRESS_BYTES] = {1}, there[RIFT_ADDRESS_BYTES] = {2}, secret[32] = {5};
    struct rift_path p;
    rift_path_init(&p, here, secret, START);
    struct rift_path_arrival a = {
        .address = there, .counter = 10, .newest = true, .len = 50, .rtt_ns = 20 * MS};
    ck_assert_int_eq(rift_path_on_datagram(&p, &a, START), 0);
    a.address = here;
    a.counter = 9; /* was sent before: says nothing */
    a.newest = false;
    rift_path_on_datagram(&p, &a, START);
    ck_assert_int_eq(p.state, RIFT_PATH_TRYING);
    a.counter = 11;
    a.newest = true;
    rift_path_on_datagram(&p, &a, START);
    ck_assert_int_eq(p.state, RIFT_PATH_STEADY);
    /* The answer comes too late, and the next datagram from there is passed over. */
    ck_assert_int_eq(rift_path_on_response(&p, p.to_new.token, there, 12, START), 0);
    a.address = there;
    a.counter = 13;
    rift_path_on_datagram(&p, &a, START);
    ck_assert_int_eq(p.state, RIFT_PATH_STEADY);
    a.counter = 14;
    rift_path_on_datagram(&p, &a, START + 2 * WV_NS_PER_S); /* unless the kept one fell silent */
    ck_assert_int_eq(p.state, RIFT_PATH_TRYING);
    rift_path_wipe(&p);
}
END_TEST

/* As the knocks of rift/punch tell: no challenge, no wait, and what is still under way does not bring it
 * back. */
START_TEST(by_the_peers_word_it_moves_at_once)
{
    static const uint8_t here[RIFT_ADDRESS_BYTES] = {1}, there[RIFT_ADDRESS_BYTES] = {2}, secret[32] = {5};
    struct rift_path p;
    rift_path_init(&p, here, secret, START);
    ck_assert_int_eq(rift_path_move_to(&p, here, START), 0);
    ck_assert_int_eq(rift_path_move_to(&p, there, START), RIFT_PATH_CHANGED);
    ck_assert_mem_eq(p.current, there, sizeof there);
    struct rift_path_arrival a = {
        .address = here, .counter = 10, .newest = true, .len = 50, .rtt_ns = 20 * MS};
    ck_assert_int_eq(rift_path_on_datagram(&p, &a, START + 10 * MS), 0); /* was sent before the word */
    ck_assert_int_eq(p.state, RIFT_PATH_STEADY);
    ck_assert_mem_eq(p.current, there, sizeof there);
    ck_assert_uint_eq(rift_path_timeout(&p), UINT64_MAX); /* nobody is asked */
    /* Back by another word; and in the middle of an attempt of somebody else. */
    static const uint8_t third[RIFT_ADDRESS_BYTES] = {3};
    ck_assert_int_eq(rift_path_move_to(&p, here, START + 20 * MS), RIFT_PATH_CHANGED);
    a.address = third;
    a.counter = 11;
    rift_path_on_datagram(&p, &a, START + 30 * MS);
    ck_assert_int_eq(p.state, RIFT_PATH_TRYING);
    ck_assert_int_eq(rift_path_move_to(&p, here, START + 31 * MS), 0);
    ck_assert_int_eq(p.state, RIFT_PATH_STEADY);
    ck_assert_mem_eq(p.current, here, sizeof here);
    rift_path_wipe(&p);
}
END_TEST

START_TEST(a_replay_from_elsewhere_changes_nothing)
{
    struct net *n = net_default();
    uint8_t d[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing out;
    net_run(n, WV_NS_PER_S);
    rift_session_send_control(n->client, (const uint8_t *)"x", 1, n->now);
    ck_assert_int_eq(rift_session_send_to(n->client, d, sizeof d, n->now, &out), 0);
    ck_assert_int_eq(rift_session_receive_from(n->host, n->client_address, 0, d, out.len, n->now), 0);
    uint64_t attempts = pair_stats(n->host).path_attempts;
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(rift_session_receive_from(n->host, n->attacker, 0, d, out.len, n->now),
                         RIFT_SESSION_DROPPED);
    d[20] ^= 1;
    d[8]++; /* a fresh counter, but forged */
    ck_assert_int_eq(rift_session_receive_from(n->host, n->attacker, 0, d, out.len, n->now),
                     RIFT_SESSION_DROPPED);
    ck_assert_uint_eq(pair_stats(n->host).path_attempts, attempts);
    net_run(n, WV_NS_PER_S);
    ck_assert_uint_eq(n->to_attacker_bytes, 0);
    net_free(n);
}
END_TEST

START_TEST(an_unproven_address_gets_at_most_three_bytes_for_each)
{
    struct net *n = net_default();
    uint32_t id = 0;
    net_stream(n, &id, WV_NS_PER_S, 20000);
    /* The client is gone; somebody sends one captured datagram on that never arrived, from a victim's
     * address. */
    uint8_t d[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing out;
    net_run(n, 100 * MS);
    rift_session_path_changed(n->client, n->now);
    ck_assert_int_eq(rift_session_send_to(n->client, d, sizeof d, n->now, &out), 0);
    n->client_address[0] = 200;
    n->capture_only = true;
    rift_session_receive_from(n->host, n->attacker, 0, d, out.len, n->now);
    for (int i = 0; i < 200; i++) {
        net_frame(n, id++, false, 20000);
        n->now += 17 * MS;
        net_from_host(n);
        ck_assert_uint_le(n->to_attacker_bytes, 3 * out.len);
    }
    ck_assert_uint_gt(n->to_attacker_bytes, 0);
    ck_assert_uint_eq(n->to_attacker_media, 0);
    net_free(n);
}
END_TEST

START_TEST(the_old_interface_never_moves)
{
    struct pair p = pair_new();
    uint8_t address[RIFT_ADDRESS_BYTES], none[RIFT_ADDRESS_BYTES] = {0};
    static const uint8_t challenge[] = {RIFT_WIRE_PATH_CHALLENGE, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    rift_session_frames(p.host, challenge, sizeof challenge, 0, p.now);
    ck_assert_uint_eq(rift_session_timeout(p.host), 0);
    ck_assert_uint_eq(pair_pass(&p, p.host, DROP_NONE), 1);
    rift_session_get_address(p.host, address);
    ck_assert_mem_eq(address, none, sizeof none);
    ck_assert_uint_eq(pair_stats(p.host).path_attempts, 0);
    pair_free(&p);
}
END_TEST

START_TEST(the_host_may_move_too)
{
    struct net *n = net_default();
    uint8_t d[RIFT_MTU_MAX_BYTES], elsewhere[RIFT_ADDRESS_BYTES] = {77}, at[RIFT_ADDRESS_BYTES];
    struct rift_outgoing out;
    net_run(n, 500 * MS);
    /* From now on the host is elsewhere; all that goes to its old address is lost. */
    for (int i = 0; i < 1000; i++, n->now += MS) {
        while (rift_session_send_to(n->host, d, sizeof d, n->now, &out) == 0)
            rift_session_receive_from(n->client, elsewhere, RIFT_ECN_NONE, d, out.len, n->now);
        while (rift_session_send_to(n->client, d, sizeof d, n->now, &out) == 0)
            if (memcmp(out.address, elsewhere, sizeof elsewhere) == 0)
                rift_session_receive_from(n->host, n->client_address, RIFT_ECN_NONE, d, out.len, n->now);
    }
    rift_session_get_address(n->client, at);
    ck_assert_mem_eq(at, elsewhere, sizeof at);
    ck_assert_uint_eq(pair_stats(n->client).path_changes, 1);
    net_free(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session path");
    TCase *t = tcase_create("session path");
    suite_add_tcase(s, t);
    tcase_add_test(t, a_new_address_takes_over_within_a_round_trip_and_fifty_ms);
    tcase_add_test(t, many_moves_in_a_row_and_back);
    tcase_add_test(t, a_client_that_knows_says_so_at_once);
    tcase_add_test(t, who_forwards_copies_never_becomes_the_path);
    tcase_add_test(t, who_forwards_copies_is_left_again_when_loss_helped_him);
    tcase_add_test(t, an_old_address_that_still_speaks_ends_the_attempt_at_once);
    tcase_add_test(t, by_the_peers_word_it_moves_at_once);
    tcase_add_test(t, a_replay_from_elsewhere_changes_nothing);
    tcase_add_test(t, an_unproven_address_gets_at_most_three_bytes_for_each);
    tcase_add_test(t, the_old_interface_never_moves);
    tcase_add_test(t, the_host_may_move_too);
    return wv_run_suite(s);
}
