/* Renewal of the traffic keys: nothing waits for it, nothing is lost by it, no counter comes twice. */
#include "rift/core/handshake.h"
#include "rift/crypto/derive.h"
#include "rift/crypto/seal.h"
#include "tests/unit/session_net.h"
#include "tests/unit/suite.h"

#define WRAP_GENERATIONS 300

static struct net *rekeying_net(uint64_t host_packets, uint64_t client_packets)
{
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    h.rekey_packets = host_packets;
    c.rekey_packets = client_packets;
    return net_new(&h, &c);
}

START_TEST(a_next_key_is_another_and_the_way_back_is_closed)
{
    uint8_t a[32] = {1}, b[32], c[32], d[32] = {2};
    rift_derive_next_key(a, b);
    rift_derive_next_key(b, c);
    rift_derive_next_key(d, d);
    ck_assert_mem_ne(a, b, 32);
    ck_assert_mem_ne(b, c, 32);
    ck_assert_mem_ne(b, d, 32);
}
END_TEST

START_TEST(packets_bytes_and_time_renew_the_key)
{
    for (int kind = 0; kind < 3; kind++) {
        struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
        h.rekey_packets = kind == 0 ? 500 : 0;
        h.rekey_bytes = kind == 1 ? 500000 : 0;
        h.rekey_ns = kind == 2 ? 400 * MS : 0;
        struct net *n = net_new(&h, &c);
        uint32_t id = 0;
        unsigned shown = net_stream(n, &id, 2 * WV_NS_PER_S, 10000);
        ck_assert_uint_ge(shown, id - 3);
        ck_assert_uint_ge(pair_stats(n->host).key_generation, 2);
        ck_assert_uint_le(pair_stats(n->host).key_generation, 5);
        ck_assert_uint_eq(pair_stats(n->client).key_generation, pair_stats(n->host).key_generation);
        ck_assert_uint_eq(pair_stats(n->client).packets_lost, 0);
        ck_assert_uint_eq(pair_stats(n->client).dropped_auth + pair_stats(n->host).dropped_auth, 0);
        net_free(n);
    }
}
END_TEST

START_TEST(both_at_once_under_loss_and_past_the_byte_of_the_header)
{
    struct net *n = rekeying_net(64, 64);
    uint32_t id = 0;
    n->lose_to_client = n->lose_to_host = 10;
    for (int i = 0; i < 60 && pair_stats(n->host).key_generation < WRAP_GENERATIONS; i++)
        net_stream(n, &id, WV_NS_PER_S, 10000);
    ck_assert_uint_ge(pair_stats(n->host).key_generation, WRAP_GENERATIONS);
    n->lose_to_client = n->lose_to_host = 0;
    net_stream(n, &id, WV_NS_PER_S, 10000);
    ck_assert_uint_ge(net_stream(n, &id, WV_NS_PER_S, 10000), 55);
    ck_assert_uint_eq(pair_stats(n->client).dropped_auth + pair_stats(n->host).dropped_auth, 0);
    net_free(n);
}
END_TEST

static size_t next_datagram(struct rift_session *s, uint8_t d[RIFT_MTU_MAX_BYTES], uint64_t now)
{
    size_t len;
    rift_session_send_control(s, (const uint8_t *)"x", 1, now);
    ck_assert_int_eq(rift_session_send(s, d, RIFT_MTU_MAX_BYTES, now, &len), 0);
    return len;
}

START_TEST(a_datagram_overtaken_by_the_change_is_taken_for_a_while)
{
    for (int late = 0; late < 2; late++) {
        struct pair p = pair_new();
        uint8_t before[RIFT_MTU_MAX_BYTES], after[RIFT_MTU_MAX_BYTES];
        size_t before_len = next_datagram(p.host, before, p.now);
        rift_packet_next_key(&p.host->packet, p.now);
        size_t after_len = next_datagram(p.host, after, p.now);
        ck_assert_uint_ne(before[1], after[1]);
        ck_assert_int_eq(rift_session_receive(p.client, after, after_len, p.now), 0);
        p.now += late ? 4 * WV_NS_PER_S : 2 * WV_NS_PER_S;
        uint8_t d[RIFT_MTU_MAX_BYTES];
        size_t len;
        while (rift_session_send(p.client, d, sizeof d, p.now, &len) == 0)
            ;
        ck_assert_int_eq(rift_session_receive(p.client, before, before_len, p.now),
                         late ? RIFT_SESSION_DROPPED : 0);
        pair_free(&p);
    }
}
END_TEST

START_TEST(where_no_key_is_none_is_taken)
{
    static const uint8_t zero[RIFT_KEY_BYTES];
    for (int late = 0; late < 2; late++) {
        struct pair p = pair_new();
        uint8_t d[RIFT_MTU_MAX_BYTES];
        size_t len;
        if (late) { /* the key before was wiped; else there was none */
            rift_packet_next_key(&p.host->packet, p.now);
            pair_run(&p, 5 * WV_NS_PER_S);
        }
        ck_assert_uint_eq(p.client->packet.generation_receive, late);
        struct wv_writer w;
        wv_writer_init(&w, d, RIFT_HEADER_BYTES);
        wv_write_u8(&w, RIFT_DATAGRAM_DATA);
        wv_write_u8(&w, (uint8_t)(late - 1));
        wv_write_u16(&w, 0);
        wv_write_u32(&w, 9);
        wv_write_u64(&w, p.host->packet.next_counter);
        len = RIFT_HEADER_BYTES + RIFT_TAG_BYTES;
        rift_seal(zero, p.host->packet.next_counter, d, RIFT_HEADER_BYTES, d + RIFT_HEADER_BYTES, 0);
        ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now), RIFT_SESSION_DROPPED);
        pair_free(&p);
    }
}
END_TEST

START_TEST(a_side_does_not_run_ahead_of_a_peer_that_does_not_follow)
{
    struct rift_session_config c = pair_config(RIFT_ROLE_HOST);
    struct rift_session *host;
    c.rekey_packets = 64;
    ck_assert_int_eq(rift_session_new(&host, &c, START), 0);
    struct pair p = {.host = host, .now = START};
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    for (uint32_t i = 0; i < 60; i++, p.now += 10 * MS) {
        pair_send_frame(&p, i, 0, i == 0, 20000);
        while (rift_session_send(host, d, sizeof d, p.now, &len) == 0)
            ;
    }
    ck_assert_uint_gt(pair_stats(host).packets_sent, 2 * 64);
    ck_assert_uint_eq(pair_stats(host).key_generation, 1);
    rift_session_free(host);
}
END_TEST

START_TEST(a_peer_that_runs_ahead_is_not_followed)
{
    struct pair p = pair_new();
    uint8_t d[RIFT_MTU_MAX_BYTES];
    for (int i = 0; i < 3; i++)
        rift_packet_next_key(&p.host->packet, p.now);
    size_t len = next_datagram(p.host, d, p.now);
    uint64_t forged = pair_stats(p.client).dropped_auth;
    ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now), RIFT_SESSION_DROPPED);
    ck_assert_uint_eq(pair_stats(p.client).dropped_auth, forged + 1);
    ck_assert_uint_eq(pair_stats(p.client).key_generation, 0);
    pair_free(&p);
    /* Two ahead at once is only possible when this side has begun the first of them too. */
    p = pair_new();
    rift_packet_next_key(&p.host->packet, p.now);
    rift_packet_next_key(&p.host->packet, p.now);
    len = next_datagram(p.host, d, p.now);
    ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now), RIFT_SESSION_DROPPED);
    rift_packet_next_key(&p.client->packet, p.now);
    ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now), 0);
    pair_free(&p);
}
END_TEST

START_TEST(a_wrong_generation_in_the_header_is_a_forgery)
{
    struct pair p = pair_new();
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len = next_datagram(p.host, d, p.now);
    for (unsigned g = 1; g < 256; g++) {
        d[1] = (uint8_t)g;
        ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now), RIFT_SESSION_DROPPED);
    }
    ck_assert_uint_eq(pair_stats(p.client).dropped_auth, 255);
    d[1] = 0;
    ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now), 0);
    pair_free(&p);
}
END_TEST

START_TEST(the_limit_of_forgeries_ends_a_session)
{
    struct pair p = pair_new();
    p.host->stats.dropped_auth = RIFT_FORGED_LIMIT - 1;
    pair_run(&p, MS);
    pair_expect_no_event(p.host);
    p.host->stats.dropped_auth++;
    pair_run(&p, 2 * WV_NS_PER_S);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    pair_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session keys");
    TCase *t = tcase_create("session keys");
    suite_add_tcase(s, t);
    tcase_add_test(t, a_next_key_is_another_and_the_way_back_is_closed);
    tcase_add_test(t, packets_bytes_and_time_renew_the_key);
    tcase_add_test(t, both_at_once_under_loss_and_past_the_byte_of_the_header);
    tcase_add_test(t, a_datagram_overtaken_by_the_change_is_taken_for_a_while);
    tcase_add_test(t, where_no_key_is_none_is_taken);
    tcase_add_test(t, a_side_does_not_run_ahead_of_a_peer_that_does_not_follow);
    tcase_add_test(t, a_peer_that_runs_ahead_is_not_followed);
    tcase_add_test(t, a_wrong_generation_in_the_header_is_a_forgery);
    tcase_add_test(t, the_limit_of_forgeries_ends_a_session);
    return wv_run_suite(s);
}
