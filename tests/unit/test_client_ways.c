/* The client's ways to a host, on virtual time and without a socket: what is asked of STUN servers, when an
 * offer is made and repeated, what an answer does, which way is taken, and what happens when the machine is
 * in another network. */
#include "tests/unit/client_ways_kit.h"

/* ---- STUN ---- */

START_TEST(a_request_is_repeated_with_growing_pauses)
{
    static const unsigned pauses[] = {0, 100, 200, 400, 800};
    uint8_t id[RIFT_STUN_ID_BYTES];
    uint64_t began = now;
    struct rift_stun_message m;
    unsigned n = 0;
    set_servers(1);
    for (uint64_t at = 0; now < began + 3000 * MS; now += MS) {
        n_sent = 0;
        wv_ways_pump(ways, now);
        const struct datagram *d = request_to(0);
        if (!d)
            continue;
        ck_assert_int_eq(rift_stun_read(d->data, d->len, &m), 0);
        if (n == 0)
            memcpy(id, m.id, sizeof id);
        ck_assert_mem_eq(m.id, id, sizeof id); /* the same question */
        ck_assert_uint_lt(n, 5);
        ck_assert_uint_eq((now - began - at) / MS, n ? pauses[n] : 0);
        at = now - began;
        n++;
    }
    ck_assert_uint_eq(n, 5); /* then it is left alone for a while */
    run(NULL, 24000);
    const struct datagram *d = NULL;
    for (int i = 0; i < 3000 && !d; i++) {
        run(NULL, 1);
        d = request_to(0);
    }
    ck_assert_ptr_nonnull(d);
    ck_assert_int_eq(rift_stun_read(d->data, d->len, &m), 0);
    ck_assert_mem_ne(m.id, id, sizeof id); /* another question */
}
END_TEST

START_TEST(the_offer_goes_when_all_servers_answered)
{
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    const struct datagram first = *request_to(0), second = *request_to(1);
    now += 30 * MS;
    stun_answer(0, first.data + 8, 77, 1111);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 0);
    now += 30 * MS;
    stun_answer(1, second.data + 8, 77, 2222);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 1);
    ck_assert(has_candidate(77, 1111) && has_candidate(77, 2222));
    ck_assert_uint_eq(offer.n_candidates, 2); /* no local ones: there is no port */
}
END_TEST

START_TEST(or_without_those_that_take_too_long)
{
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    stun_answer(1, request_to(1)->data + 8, 78, 3333);
    ck_assert_uint_eq(until_offer(NULL, 2000), 400);
    ck_assert(has_candidate(78, 3333));
    ck_assert_uint_eq(offer.n_candidates, 1);
}
END_TEST

START_TEST(without_servers_it_goes_at_once)
{
    run(NULL, 5000);
    ck_assert_uint_eq(n_offers, 0); /* nobody has asked for ways */
    set_servers(0);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 1);
    ck_assert_int_eq(wv_ways_set_stun(ways, servers, 5, now), -EINVAL);
}
END_TEST

/* Nobody is believed but the server that was asked, and only what it was asked. */
START_TEST(hostile_stun_answers)
{
    uint8_t bytes[RIFT_STUN_RESPONSE_BYTES], own[RIFT_ADDRESS_BYTES], elsewhere[RIFT_ADDRESS_BYTES];
    struct rift_stun_message m;
    set_servers(1);
    n_sent = 0;
    wv_ways_pump(ways, now);
    ck_assert_int_eq(rift_stun_read(request_to(0)->data, request_to(0)->len, &m), 0);
    address(own, 99, 9999);
    address(elsewhere, 66, 3478);
    size_t len = rift_stun_respond(m.id, own, bytes);
    give(elsewhere, bytes, len); /* the right words of somebody else */
    for (size_t bit = 0; bit < 8 * len; bit++) {
        if (bit / 8 >= len - 8 && bit / 8 < len - 4)
            continue; /* of FINGERPRINT, the same message without one */
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        give(servers[0], bytes, len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++)
        give(servers[0], bytes, cut);
    give(servers[0], sent[0].data, sent[0].len); /* its own question back */
    ck_assert_uint_eq(until_offer(NULL, 2000), 400);
    ck_assert_uint_eq(offer.n_candidates, 0);
    /* An address where nobody may be sent anything is no candidate, even of the right server. */
    const uint8_t loopback[RIFT_ADDRESS_BYTES] = {[10] = 0xff, 0xff, 127, 0, 0, 1, 1, 1};
    give(servers[0], bytes, rift_stun_respond(m.id, loopback, bytes));
    ck_assert_uint_eq(until_offer(NULL, 8000), 5000 - 400 + 400);
    ck_assert_uint_eq(offer.n_candidates, 0);
}
END_TEST

/* An answer that was used up does not count again; the next question has another id. */
START_TEST(an_old_stun_answer)
{
    uint8_t id[RIFT_STUN_ID_BYTES];
    set_servers(1);
    n_sent = 0;
    wv_ways_pump(ways, now);
    memcpy(id, request_to(0)->data + 8, sizeof id);
    stun_answer(0, id, 77, 1111);
    wv_ways_pump(ways, now);
    ck_assert(has_candidate(77, 1111));
    stun_answer(0, id, 88, 2222);
    until_offer(NULL, 8000);
    ck_assert(has_candidate(77, 1111) && !has_candidate(88, 2222));
}
END_TEST

/* ---- offers ---- */

START_TEST(an_offer_that_brings_nothing_is_repeated_with_growing_pauses)
{
    static const unsigned pauses[] = {0, 5000, 10000, 20000, 30000, 30000};
    uint8_t secrets[6][32];
    set_servers(0);
    for (size_t i = 0; i < 6; i++) {
        uint64_t last = i ? offered_at : now;
        until_offer(NULL, 60000);
        ck_assert_uint_eq((offered_at - last) / MS, pauses[i]);
        memcpy(secrets[i], offer.secret, 32);
        for (size_t k = 0; k < i; k++)
            ck_assert_mem_ne(secrets[i], secrets[k], 32);
    }
}
END_TEST

/* No gateway at the moment: the way that is there stays, and the next one is tried for later. */
START_TEST(an_offer_that_cant_be_carried)
{
    struct host h = {0};
    offer_result = -ENOTCONN;
    set_servers(0);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 1);
    struct rift_candidate c = {.kind = RIFT_CANDIDATE_LOCAL};
    address(c.address, 1, 4820);
    ck_assert_int_eq(wv_ways_answer(ways, &c, 1, now), -EINVAL); /* to what? */
    offer_result = 0;
    set_servers(0); /* the gateway is back */
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 2);
    host_new(&h, 1);
    answer(&h);
    run(&h, 1000);
    ck_assert(wv_ways_found(ways));
    offer_result = -ENOTCONN;
    h.silent = true;
    run(&h, 12000);
    ck_assert_uint_gt(n_offers, 2);
    h.silent = false;
    run(&h, 20000);
    ck_assert(wv_ways_found(ways)); /* the old secret still counts */
    rift_punch_free(h.punch);
}
END_TEST

START_TEST(an_answer_leads_to_a_direct_way)
{
    struct host h = {0};
    set_servers(0);
    wv_ways_pump(ways, now);
    host_new(&h, 1);
    ck_assert_str_eq(tell().path, "");
    ck_assert_str_eq(tell().path_why, "No way to the host is known yet.");
    answer(&h);
    run(&h, 1000);
    ck_assert(wv_ways_found(ways));
    ck_assert_uint_le(client.attempt_at, now); /* a handshake may begin */
    ck_assert_str_eq(tell().path, "direct");
    ck_assert_str_eq(tell().path_why, "Direct: the host answers without a relay.");
    ck_assert_str_eq(tell().path_address, "203.0.113.1:4820");
    ck_assert(is_aimed && !is_fronted && !memcmp(aimed, h.address, sizeof aimed));
    unsigned n = n_offers;
    run(&h, 60000);
    ck_assert_uint_eq(n_offers, n); /* what works is left alone */
    give(h.address, (const uint8_t *)"hello", 5);
    ck_assert_uint_eq(passed, 1);
    rift_punch_free(h.punch);
}
END_TEST

/* The host answers an offer that another one has replaced: its knocks prove nothing any more. */
START_TEST(the_answer_of_an_old_offer)
{
    struct host old = {0};
    set_servers(0);
    wv_ways_pump(ways, now);
    host_new(&old, 1);
    until_offer(NULL, 8000);
    answer(&old);
    run(&old, 3000);
    ck_assert_uint_gt(old.knocks, 0);
    ck_assert(!wv_ways_found(ways));
    rift_punch_free(old.punch);
}
END_TEST

START_TEST(a_hostile_answer)
{
    static const uint8_t bad[][RIFT_ADDRESS_BYTES] = {
        {[10] = 0xff, 0xff, 127, 0, 0, 1, 1, 1}, {[10] = 0xff, 0xff, 224, 0, 0, 1, 1, 1},
        {[10] = 0xff, 0xff, 0, 0, 0, 0, 1, 1},   {[10] = 0xff, 0xff, 203, 0, 113, 1, 0, 0},
        {[0] = 0xff, 2, [15] = 1, 1, 1},         {[15] = 1, 1, 1},
        {[0] = 0xfe, 0x80, [15] = 1, 1, 1},      {[0] = 1, [15] = 1, 1, 1}};
    struct rift_candidate many[40];
    set_servers(0);
    wv_ways_pump(ways, now);
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        struct rift_candidate c = {.kind = RIFT_CANDIDATE_LOCAL};
        memcpy(c.address, bad[i], sizeof c.address);
        ck_assert_int_eq(wv_ways_answer(ways, &c, 1, now), -EINVAL);
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(many); i++) {
        many[i] = (struct rift_candidate){.kind = RIFT_CANDIDATE_LOCAL};
        address(many[i].address, (uint8_t)(100 + i), 4820);
    }
    (void)wv_ways_answer(ways, many, WV_ARRAY_SIZE(many), now);
    unsigned to[256] = {0};
    for (int i = 0; i < 4000; i++) {
        n_sent = 0;
        wv_ways_pump(ways, now);
        for (size_t k = 0; k < n_sent; k++)
            to[sent[k].to[15]]++;
        now += MS;
    }
    for (size_t i = 0; i < 256; i++) {
        ck_assert_uint_eq(to[i] > 0, i >= 100 && i < 100 + RIFT_PUNCH_CANDIDATES);
        ck_assert_uint_le(to[i], 8); /* it floods nobody */
    }
}
END_TEST

/* ---- silence, another network ---- */

static void meet(struct host *h)
{
    set_servers(0);
    wv_ways_pump(ways, now);
    host_new(h, 1);
    answer(h);
    run(h, 1000);
    ck_assert(wv_ways_found(ways));
}

START_TEST(when_all_ways_are_silent_another_offer_goes)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    h.silent = true;
    unsigned after = until_offer(&h, 30000);
    ck_assert_uint_ge(after, 1000);
    ck_assert_uint_lt(after, 10000); /* an idle way is knocked at every five seconds */
    host_new(&h, 2);
    answer(&h);
    run(&h, 1000);
    ck_assert_str_eq(tell().path_address, "203.0.113.2:4820");
    rift_punch_free(h.punch);
}
END_TEST

START_TEST(in_another_network_the_old_way_is_tried_first)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    unsigned knocks = h.knocks, offers = n_offers;
    address(h.client, 201, 40001); /* the host sees another address */
    now += MS;
    wv_ways_network_changed(ways, now);
    ck_assert_uint_eq(n_moved, 1);
    run(&h, 20);
    ck_assert_uint_gt(h.knocks, knocks); /* at once */
    run(&h, 10000);
    ck_assert_uint_eq(n_offers, offers); /* it is there: nobody has to be told */
    ck_assert(wv_ways_found(ways));
    rift_punch_free(h.punch);
}
END_TEST

START_TEST(in_another_network_an_offer_goes_at_once_when_that_fails)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    h.silent = true;
    wv_ways_network_changed(ways, now);
    ck_assert_uint_eq(until_offer(&h, 10000), 150);
    ck_assert(!wv_ways_found(ways));
    host_new(&h, 2);
    answer(&h);
    run(&h, 300);
    ck_assert_str_eq(tell().path_address, "203.0.113.2:4820");
    rift_punch_free(h.punch);
}
END_TEST

/* The kernel tells of every address and route by itself, and a network may come and go all the time. */
START_TEST(changes_of_the_network_do_not_make_a_flood)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    h.silent = true;
    unsigned offers = n_offers;
    for (int i = 0; i < 500; i++) {
        wv_ways_network_changed(ways, now);
        run(&h, 20);
    }
    ck_assert_uint_ge(n_offers - offers, 2);
    ck_assert_uint_le(n_offers - offers, 21); /* two a second */
    rift_punch_free(h.punch);
}
END_TEST

/* With servers to ask it waits until the new network has brought one answer, but not for long. */
START_TEST(an_offer_waits_for_the_new_network)
{
    struct host h = {0};
    uint8_t id[RIFT_STUN_ID_BYTES];
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    stun_answer(0, request_to(0)->data + 8, 77, 1111);
    until_offer(NULL, 1000);
    host_new(&h, 1);
    answer(&h);
    run(&h, 10000);
    ck_assert(wv_ways_found(ways));
    h.silent = true;
    for (int answers = 0; answers < 2; answers++) {
        wv_ways_network_changed(ways, now);
        n_sent = 0;
        wv_ways_pump(ways, now);
        memcpy(id, request_to(0)->data + 8, sizeof id);
        uint64_t began = now;
        run(&h, 200);
        if (answers)
            stun_answer(0, id, 79, 4444);
        unsigned offers = n_offers;
        while (n_offers == offers && now < began + 3000 * MS)
            run(&h, 1);
        ck_assert_uint_eq((offered_at - began) / MS, answers ? 200 : 400);
        ck_assert(has_candidate(79, 4444) == (answers == 1));
        ck_assert(!has_candidate(77, 1111)); /* of the old network */
        host_new(&h, 1);
        answer(&h);
        run(&h, 1000);
        h.silent = true;
    }
    rift_punch_free(h.punch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client ways");
    TCase *tcase = tcase_create("ways");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_request_is_repeated_with_growing_pauses);
    tcase_add_test(tcase, the_offer_goes_when_all_servers_answered);
    tcase_add_test(tcase, or_without_those_that_take_too_long);
    tcase_add_test(tcase, without_servers_it_goes_at_once);
    tcase_add_test(tcase, hostile_stun_answers);
    tcase_add_test(tcase, an_old_stun_answer);
    tcase_add_test(tcase, an_offer_that_brings_nothing_is_repeated_with_growing_pauses);
    tcase_add_test(tcase, an_offer_that_cant_be_carried);
    tcase_add_test(tcase, an_answer_leads_to_a_direct_way);
    tcase_add_test(tcase, the_answer_of_an_old_offer);
    tcase_add_test(tcase, a_hostile_answer);
    tcase_add_test(tcase, when_all_ways_are_silent_another_offer_goes);
    tcase_add_test(tcase, in_another_network_the_old_way_is_tried_first);
    tcase_add_test(tcase, in_another_network_an_offer_goes_at_once_when_that_fails);
    tcase_add_test(tcase, changes_of_the_network_do_not_make_a_flood);
    tcase_add_test(tcase, an_offer_waits_for_the_new_network);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
