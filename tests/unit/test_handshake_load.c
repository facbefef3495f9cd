/* The responder under pressure: cookies, a full table, replays, forgetting, a key holder that dies. */
#include "tests/unit/handshake_fixture.h"
#include "tests/unit/suite.h"

#include <errno.h>

static void address_of(unsigned i, uint8_t ret[RIFT_ADDRESS_BYTES])
{
    memset(ret, 0, RIFT_ADDRESS_BYTES);
    ret[0] = 'a';
    ret[16] = (uint8_t)i;
    ret[17] = (uint8_t)(i >> 8);
}

/* An INIT of a client of its own. */
static struct datagram init_of(uint32_t id, uint64_t now)
{
    struct rift_initiator *h = new_client(id, now);
    struct datagram d = client_send(h, now);
    rift_initiator_free(h);
    return d;
}

/* Begins COUNT associations from addresses that never answer. */
static void fill(unsigned count, uint64_t now)
{
    uint8_t address[RIFT_ADDRESS_BYTES];
    for (unsigned i = 0; i < count; i++) {
        struct datagram d = init_of(5000 + i, now);
        address_of(i, address);
        ck_assert_int_eq(give_host(address, &d, now), 0);
        host_answer_to(address, now);
    }
}

/* Makes the host answer an INIT of ID from ADDRESS by COOKIE, and returns the INIT with it. */
static struct datagram init_with_cookie(const uint8_t *address, uint32_t id, uint64_t now)
{
    struct rift_initiator *h = new_client(id, now);
    struct datagram d = client_send(h, now);
    ck_assert_int_eq(give_host(address, &d, now), RIFT_HANDSHAKE_PENDING);
    d = host_answer_to(address, now);
    ck_assert_int_eq(rift_datagram_kind(d.bytes, d.len), RIFT_DATAGRAM_COOKIE);
    ck_assert_int_eq(give_client(h, &d, now), 0);
    d = client_send(h, now);
    rift_initiator_free(h);
    return d;
}

START_TEST(load_asks_for_a_cookie_and_keeps_nothing)
{
    fill(4, START);
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START), cookie, d;
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_int_eq(give_host(home, &init, START), RIFT_HANDSHAKE_PENDING);
        cookie = host_answer_to(home, START);
        ck_assert_uint_eq(cookie.len, 24);
        expect_no_answer(START);
    }
    ck_assert_uint_eq(host_stats(&host).half_open, 4);
    ck_assert_uint_eq(host_stats(&host).started, 4);
    ck_assert_uint_eq(host_stats(&host).cookies_sent, 1000);

    /* With the cookie the client gets through at once, not after its pause. */
    ck_assert_int_eq(give_client(h, &cookie, START), 0);
    ck_assert_uint_eq(rift_initiator_timeout(h), START);
    d = client_send(h, START);
    ck_assert_int_eq(give_host(home, &d, START), 0);
    d = host_answer_to(home, START);
    ck_assert_int_eq(give_client(h, &d, START), 0);
    d = client_send(h, START);
    ck_assert_int_eq(give_host(home, &d, START), 0);
    expect_agreement(h, 7);
    rift_initiator_free(h);
}
END_TEST

START_TEST(a_cookie_is_good_for_one_address_one_id_and_two_minutes)
{
    fill(4, START);
    struct datagram d = init_with_cookie(home, 7, START), other;
    ck_assert_int_eq(give_host(away, &d, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_answer_to(away, START).len, 24);
    other = d;
    other.bytes[4] ^= 1;
    rekey_for_host(&other);
    ck_assert_int_eq(give_host(home, &other, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_answer_to(home, START).len, 24);
    for (unsigned bit = 0; bit < 128; bit++) {
        other = d;
        other.bytes[8 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        rekey_for_host(&other);
        ck_assert_int_eq(give_host(home, &other, START), RIFT_HANDSHAKE_PENDING);
        ck_assert_uint_eq(host_answer_to(home, START).len, 24);
    }
    ck_assert_uint_eq(host_stats(&host).half_open, 4);

    /* START is 40 s into its minute: good until the end of the next one. */
    ck_assert_uint_eq(START / S % 60, 40);
    ck_assert_int_eq(give_host(home, &d, START + 79 * S), 0);
    host_fini(&host);
    host_init(&host, 8, START);
    ck_assert_int_eq(give_host(home, &d, START + 80 * S), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_answer_to(home, START + 80 * S).len, 24);
    ck_assert_uint_eq(host_stats(&host).started, 0);
}
END_TEST

START_TEST(forged_cookies_do_not_make_a_client_flood)
{
    struct rift_initiator *h = new_client(7, START);
    struct datagram d = client_send(h, START), forged = {.len = 24};
    unsigned sent = 0;
    memcpy(forged.bytes, "\4\1\0\0\7\0\0\0", 8);
    for (unsigned i = 1; i <= 200; i++) {
        forged.bytes[8] = (uint8_t)i;
        give_client(h, &forged, START);
        sent += rift_initiator_send(h, d.bytes, sizeof d.bytes, START, &d.len) == 0;
    }
    ck_assert_uint_le(sent, 3);
    forged.bytes[4] = 8;
    ck_assert_int_eq(give_client(h, &forged, START), RIFT_HANDSHAKE_PENDING);
    /* The real host tells it the real cookie, and all is well. */
    ck_assert_int_eq(give_host(home, &d, START), RIFT_HANDSHAKE_PENDING);
    struct datagram cookie = host_answer_to(home, START);
    ck_assert_int_eq(give_client(h, &cookie, START), 0);
    d = client_send(h, rift_initiator_timeout(h));
    ck_assert_int_eq(give_host(home, &d, START), 0);
    rift_initiator_free(h);
}
END_TEST

START_TEST(a_full_table_keeps_its_bounds_and_makes_room)
{
    uint8_t address[RIFT_ADDRESS_BYTES];
    fill(4, START);
    for (unsigned i = 4; i < 8; i++) {
        address_of(i, address);
        struct datagram d = init_with_cookie(address, 5000 + i, START);
        ck_assert_int_eq(give_host(address, &d, START), 0);
        host_answer_to(address, START);
    }
    ck_assert_uint_eq(host_stats(&host).half_open, 8);

    struct datagram d = init_with_cookie(home, 7, START);
    ck_assert_int_eq(give_host(home, &d, START + 2 * S - 1), RIFT_HANDSHAKE_PENDING);
    expect_no_answer(START);
    ck_assert_uint_eq(host_stats(&host).half_open, 8);
    ck_assert_uint_eq(host_stats(&host).dropped, 1);
    ck_assert_int_eq(give_host(home, &d, START + 2 * S), 0);
    host_answer_to(home, START);
    ck_assert_uint_eq(host_stats(&host).half_open, 8);
    ck_assert_uint_eq(host_stats(&host).expired, 1);
    ck_assert_uint_eq(host_stats(&host).started, 9);
}
END_TEST

START_TEST(finished_ones_make_room_first)
{
    struct datagram d[3];
    for (uint32_t id = 1; id <= 30; id++) {
        struct rift_initiator *h = run_to_finish(id, START, d);
        ck_assert_int_eq(give_host(home, &d[2], START), 0);
        rift_initiator_free(h);
    }
    ck_assert_uint_eq(host.finished, 30);
    ck_assert_uint_eq(host_stats(&host).half_open, 0);
    ck_assert_uint_eq(host_stats(&host).expired, 0);
    ck_assert_uint_eq(host_stats(&host).cookies_sent, 0);
}
END_TEST

START_TEST(associations_expire)
{
    struct datagram d[3];
    struct rift_initiator *h = run_to_finish(7, START, d);
    expect_no_answer(START + 10 * S - 1);
    ck_assert_uint_eq(host_stats(&host).half_open, 1);
    expect_no_answer(START + 10 * S);
    ck_assert_uint_eq(host_stats(&host).half_open, 0);
    ck_assert_uint_eq(host_stats(&host).expired, 1);
    ck_assert_int_eq(give_host(home, &d[2], START + 10 * S), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_stats(&host).dropped, 1);
    rift_initiator_free(h);

    /* Finished ones are forgotten silently. */
    h = run_to_finish(8, START + 20 * S, d);
    ck_assert_int_eq(give_host(home, &d[2], START + 29 * S), 0);
    ck_assert_int_eq(give_host(home, &d[2], START + 39 * S - 1), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_stats(&host).dropped, 1);
    ck_assert_int_eq(give_host(home, &d[2], START + 39 * S), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_stats(&host).dropped, 2);
    ck_assert_uint_eq(host_stats(&host).expired, 1);
    rift_initiator_free(h);
}
END_TEST

START_TEST(replays_lead_nowhere)
{
    struct datagram d[3];
    struct rift_initiator *h = run_to_finish(7, START, d);
    ck_assert_int_eq(give_host(home, &d[2], START), 0);
    rift_initiator_free(h);

    /* INIT from elsewhere, or long after: a new question, a new RESPONSE, and the old FINISH is no answer. */
    ck_assert_int_eq(give_host(away, &d[0], START + S), 0);
    struct datagram response = host_answer_to(away, START + S);
    ck_assert_mem_ne(response.bytes, d[1].bytes, d[1].len);
    ck_assert_int_eq(give_host(away, &d[2], START + S), RIFT_HANDSHAKE_PENDING);
    struct datagram finish = d[2];
    memcpy(finish.bytes + 4, response.bytes + 8, 4); /* readdressed to the new association */
    ck_assert_int_eq(give_host(away, &finish, START + S), 0);
    ck_assert_uint_eq(host.finished, 1);
    ck_assert_uint_eq(host_stats(&host).forged, 1);
    ck_assert_uint_eq(host_stats(&host).half_open, 1); /* waits for its own FINISH, and expires */

    ck_assert_int_eq(give_host(home, &d[0], START + 100 * S), 0);
    host_answer_to(home, START + 100 * S);
    ck_assert_int_eq(give_host(home, &d[2], START + 100 * S), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host.finished, 1);
}
END_TEST

/* Another INIT with the same id from the same address is another association: who watches the network can't
 * stand in a client's way with a copy of its id. */
START_TEST(a_stolen_id_does_not_block)
{
    struct datagram thief = init_of(7, START), d[3];
    ck_assert_int_eq(give_host(home, &thief, START), 0);
    struct datagram for_thief = host_answer_to(home, START);
    struct rift_initiator *h = run_to_finish(7, START, d);
    ck_assert_int_eq(give_client(h, &for_thief, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(give_host(home, &d[2], START), 0);
    expect_agreement(h, 7);
    rift_initiator_free(h);
}
END_TEST

START_TEST(an_id_in_use_is_not_given_again)
{
    struct datagram first = init_of(7, START), second = init_of(8, START);
    ck_assert_int_eq(give_host(home, &first, START), 0);
    host.next_id--;
    ck_assert_int_eq(give_host(home, &second, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_stats(&host).dropped, 1);
    host.next_id++;
    ck_assert_int_eq(give_host(home, &second, START), 0);
}
END_TEST

START_TEST(the_address_of_finish_counts_once_proven)
{
    struct datagram d[3];
    struct rift_initiator *h = run_to_finish(7, START, d);
    host.silent = true;
    ck_assert_int_eq(give_host(away, &d[2], START), 0);
    struct rift_responder_question question = host.last_question;
    ck_assert_int_eq(give_host(home, &d[2], START + S), RIFT_HANDSHAKE_PENDING);
    host_answer(&host, &question, START + S);
    ck_assert_uint_eq(host.finished, 1);
    ck_assert_mem_eq(host.address, away, sizeof away);
    expect_no_answer(START + S);
    rift_initiator_free(h);

    host.silent = false;
    h = run_to_finish(8, START, d);
    struct datagram wrong = d[2];
    wrong.bytes[8] ^= 1; /* both ids must fit */
    ck_assert_int_eq(give_host(away, &wrong, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(give_host(home, &d[2], START), 0);
    ck_assert_mem_eq(host.address, home, sizeof home);
    rift_initiator_free(h);
}
END_TEST

/* ---- the key holder is another process, which can die ---- */

START_TEST(a_lost_question_is_asked_again)
{
    struct rift_initiator *h = new_client(7, START);
    struct datagram d = client_send(h, START);
    host.silent = true;
    ck_assert_int_eq(give_host(home, &d, START), 0);
    struct rift_responder_question first = host.last_question;
    ck_assert_int_eq(give_host(home, &d, START + 249 * MS), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(give_host(home, &d, START + 250 * MS), 0);
    ck_assert_uint_eq(host.asked[1], 2);
    ck_assert_uint_eq(host_stats(&host).started, 1);
    ck_assert_uint_ne(host.last_question.token, first.token);
    ck_assert_uint_eq(host.last_question.local_id, first.local_id);
    expect_no_answer(START);

    /* The first answer comes too late, the second counts, and only once. */
    uint8_t message[100] = {0};
    ck_assert_int_eq(rift_responder_answer(host.responder, first.token, message, 100, START + S), -ENOENT);
    rift_responder_refuse(host.responder, first.token);
    ck_assert_uint_eq(host_stats(&host).half_open, 1);
    host_answer(&host, &host.last_question, START + S);
    ck_assert_int_eq(rift_responder_answer(host.responder, host.last_question.token, message, 100, START + S),
                     -ENOENT);
    d = host_answer_to(home, START + S);
    ck_assert_int_eq(give_client(h, &d, START + S), 0);

    /* The same for message 3, whose token stays: the key holder knows the handshake by it. */
    d = client_send(h, START + S);
    ck_assert_int_eq(give_host(home, &d, START + S), 0);
    ck_assert_int_eq(give_host(home, &d, START + S + 249 * MS), RIFT_HANDSHAKE_PENDING);
    first = host.last_question;
    ck_assert_int_eq(give_host(home, &d, START + S + 250 * MS), 0);
    ck_assert_uint_eq(host.last_question.token, first.token);
    host_answer(&host, &first, START + 2 * S);
    expect_agreement(h, 7);
    /* The repeated question is refused, since it was answered; that must not undo the session. */
    host_answer(&host, &host.last_question, START + 2 * S);
    ck_assert_uint_eq(host_stats(&host).refused, 0);
    ck_assert_int_eq(give_host(home, &d, START + 3 * S), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_stats(&host).dropped, 0);
    rift_initiator_free(h);
}
END_TEST

/* A transport that was restarted must not ask with the tokens of its predecessor. */
START_TEST(tokens_differ_between_lives)
{
    struct datagram d = init_of(7, START);
    ck_assert_int_eq(give_host(home, &d, START), 0);
    uint64_t token = host.last_question.token;
    host_fini(&host);
    host_init(&host, 8, START);
    ck_assert_int_eq(give_host(home, &d, START), 0);
    ck_assert_uint_ne(host.last_question.token, token);
}
END_TEST

/* Two forgeries of message 3, the first of them asked about twice. The second answer to it comes when the
 * true FINISH is being asked about: the client still gets its session. */
START_TEST(a_forged_finish_ends_nothing)
{
    struct datagram d[3], forged;
    struct rift_initiator *h = run_to_finish(7, START, d);
    forged = d[2];
    forged.bytes[30] ^= 1;
    host.silent = true;
    ck_assert_int_eq(give_host(away, &forged, START), 0);
    struct rift_responder_question first = host.last_question;
    ck_assert_int_eq(give_host(away, &forged, START + 250 * MS), 0);
    struct rift_responder_question second = host.last_question;
    host_answer(&host, &first, START + 250 * MS);
    ck_assert_uint_eq(host_stats(&host).forged, 1);
    ck_assert_uint_eq(host_stats(&host).half_open, 1);
    ck_assert_int_eq(give_host(home, &d[2], START + 260 * MS), 0);
    host_answer(&host, &second, START + 260 * MS);
    host_answer(&host, &host.last_question, START + 260 * MS);
    expect_agreement(h, 7);
    ck_assert_mem_eq(host.address, home, sizeof home);
    rift_responder_keep(host.responder, first.token); /* too late, and harmless */
    ck_assert_uint_eq(host_stats(&host).half_open, 0);
    rift_initiator_free(h);
}
END_TEST

/* An answer to step 3 counts only once a FINISH has come. */
START_TEST(keys_before_finish_make_no_session)
{
    struct datagram d[3];
    struct rift_session_config config;
    uint8_t address[RIFT_ADDRESS_BYTES], key[32] = {0};
    rift_initiator_free(run_to_finish(7, START, d));
    ck_assert_int_eq(
        rift_responder_complete(host.responder, host.last_question.token, key, key, START, &config, address),
        -ENOENT);
}
END_TEST

START_TEST(a_refused_association_is_forgotten)
{
    struct datagram d[3];
    struct rift_initiator *h = run_to_finish(7, START, d);
    host.silent = true;
    ck_assert_int_eq(give_host(home, &d[2], START), 0);
    uint64_t token = host.last_question.token;
    rift_responder_refuse(host.responder, token);
    rift_responder_refuse(host.responder, token);
    ck_assert_uint_eq(host_stats(&host).refused, 1);
    ck_assert_uint_eq(host_stats(&host).half_open, 0);
    struct rift_session_config config;
    uint8_t address[RIFT_ADDRESS_BYTES], key[32] = {0};
    ck_assert_int_eq(rift_responder_complete(host.responder, token, key, key, START, &config, address),
                     -ENOENT);
    rift_initiator_free(h);
}
END_TEST

START_TEST(an_answer_after_the_end_finds_nothing)
{
    struct datagram d = init_of(7, START);
    uint8_t message[100] = {0};
    host.silent = true;
    ck_assert_int_eq(give_host(home, &d, START), 0);
    ck_assert_int_eq(rift_responder_answer(host.responder, host.last_question.token, message, sizeof message,
                                           START + 10 * S),
                     -ENOENT);
    ck_assert_uint_eq(host_stats(&host).expired, 1);
    /* The place is used again: the old token must not reach the new association. */
    uint64_t old = host.last_question.token;
    d = init_of(8, START + 11 * S);
    ck_assert_int_eq(give_host(home, &d, START + 11 * S), 0);
    ck_assert_uint_ne(old, host.last_question.token);
    rift_responder_refuse(host.responder, old);
    ck_assert_uint_eq(host_stats(&host).half_open, 1);
}
END_TEST

START_TEST(a_flood_stays_within_memory_and_bytes)
{
    uint8_t address[RIFT_ADDRESS_BYTES], to[RIFT_ADDRESS_BYTES];
    struct datagram d = init_of(7, START), out;
    srand(4711);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t now = START + i * MS;
        struct datagram f = d;
        address_of((unsigned)rand() % 200, address);
        f.bytes[4] = (uint8_t)rand();
        f.bytes[42 + rand() % 32] = (uint8_t)rand();
        if (rand() % 4 == 0)
            f.bytes[rand() % 74] = (uint8_t)rand();
        if (rand() % 8) /* most of them by somebody who knows the host's public key */
            rekey_for_host(&f);
        if (rand() % 8 == 0)
            f.len = (size_t)rand() % (RIFT_MTU_BYTES + 1);
        give_host(address, &f, now);
        if (rand() % 3 == 0) /* the answers come in bursts; host_send checks the bytes */
            while (host_send(&host, out.bytes, now, to, &out.len) == 0)
                ;
        ck_assert_uint_le(host_stats(&host).half_open, 4);
    }
    ck_assert_uint_gt(host_stats(&host).cookies_sent, 1000);
    ck_assert_uint_gt(host_stats(&host).unkeyed, 1000);
    ck_assert_uint_eq(host.finished, 0);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *s = suite_create("handshake under load");
    TCase *t = tcase_create("handshake under load");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    tcase_add_test(t, load_asks_for_a_cookie_and_keeps_nothing);
    tcase_add_test(t, a_cookie_is_good_for_one_address_one_id_and_two_minutes);
    tcase_add_test(t, forged_cookies_do_not_make_a_client_flood);
    tcase_add_test(t, a_full_table_keeps_its_bounds_and_makes_room);
    tcase_add_test(t, finished_ones_make_room_first);
    tcase_add_test(t, associations_expire);
    tcase_add_test(t, replays_lead_nowhere);
    tcase_add_test(t, a_stolen_id_does_not_block);
    tcase_add_test(t, an_id_in_use_is_not_given_again);
    tcase_add_test(t, the_address_of_finish_counts_once_proven);
    tcase_add_test(t, a_lost_question_is_asked_again);
    tcase_add_test(t, tokens_differ_between_lives);
    tcase_add_test(t, a_forged_finish_ends_nothing);
    tcase_add_test(t, keys_before_finish_make_no_session);
    tcase_add_test(t, a_refused_association_is_forgotten);
    tcase_add_test(t, an_answer_after_the_end_finds_nothing);
    tcase_add_test(t, a_flood_stays_within_memory_and_bytes);
    return wv_run_suite(s);
}
