/* A host's session that outlives its process: what the peer was told is never forgotten. */
#include "rift/core/state.h"
#include "rift/crypto/derive.h"
#include "tests/unit/session_net.h"
#include "tests/unit/suite.h"

#include <errno.h>

#define BLOCK 4096

static uint8_t state[RIFT_STATE_MAX_BYTES];
static size_t state_len;

static const struct rift_input_event key_down = {.kind = RIFT_INPUT_KEY, .code = 30, .down = 1, .time_us = 5};

static void export(struct pair *p)
{
    ck_assert_int_eq(rift_session_export(p->host, state, sizeof state, p->now, &state_len), 0);
    ck_assert(!rift_session_wants_export(p->host));
}

/* The host dies and comes back from the last export, which is then renewed. */
static void restart(struct pair *p)
{
    struct rift_session_config c = {.role = RIFT_ROLE_HOST};
    p->host = rift_session_free(p->host);
    ck_assert_int_eq(rift_session_import(&p->host, &c, state, state_len, p->now), 0);
    ck_assert(rift_session_wants_export(p->host));
}

static struct pair held_pair(void)
{
    struct pair p = {.now = START};
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    ck_assert_int_eq(rift_session_new(&p.host, &h, p.now), 0);
    ck_assert_int_eq(rift_session_new(&p.client, &c, p.now), 0);
    ck_assert_int_eq(rift_session_reserve(p.host, BLOCK), 0);
    return p;
}

/* As pair_pass(), for a session that may want an export afterwards. */
static unsigned say(struct pair *p, struct rift_session *from, unsigned drop)
{
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    unsigned n = 0;
    for (; rift_session_send(from, d, sizeof d, p->now, &len) == 0; n++)
        if (n != drop)
            rift_session_receive(from == p->host ? p->client : p->host, d, len, p->now);
    ck_assert(rift_session_timeout(from) > p->now || rift_session_wants_export(from));
    return n;
}

/* As pair_run(), with an export whenever one is wanted. */
static void run(struct pair *p, uint64_t later)
{
    for (uint64_t end = p->now + later; p->now < end; p->now += MS) {
        if (rift_session_wants_export(p->host))
            export(p);
        say(p, p->host, DROP_NONE);
        say(p, p->client, DROP_NONE);
    }
    if (rift_session_wants_export(p->host))
        export(p);
}

START_TEST(nothing_is_sent_that_no_state_covers)
{
    struct pair p = held_pair();
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    ck_assert(rift_session_wants_export(p.host));
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), RIFT_SESSION_IDLE);
    ck_assert_uint_le(rift_session_timeout(p.host), p.now);
    run(&p, 300 * MS);
    ck_assert_uint_gt(pair_stats(p.host).packets_sent, 0);

    /* An event is not acknowledged before it is stored. */
    uint32_t seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    say(&p, p.client, DROP_NONE);
    ck_assert(rift_session_wants_export(p.host));
    say(&p, p.host, DROP_NONE); /* a PONG may go */
    ck_assert_uint_eq(p.client->input_tx->first, seq);
    export(&p);
    ck_assert_uint_eq(say(&p, p.host, DROP_NONE), 1);
    ck_assert_uint_eq(p.client->input_tx->first, seq + 1);
    run(&p, 50 * MS);
    ck_assert_uint_eq(pair_stats(p.client).input_repeated, 0);

    /* Nor does a message leave, or is one acknowledged. */
    rift_session_send_control(p.host, (const uint8_t *)"down", 4, p.now);
    say(&p, p.host, DROP_NONE);
    pair_expect_no_event(p.client);
    rift_session_send_control(p.client, (const uint8_t *)"up", 2, p.now);
    say(&p, p.client, DROP_NONE);
    say(&p, p.host, DROP_NONE);
    pair_expect_no_event(p.client);
    ck_assert_uint_ne(p.client->control_tx.first, p.client->control_tx.next);
    export(&p);
    say(&p, p.host, DROP_NONE);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CONTROL);
    ck_assert_uint_eq(p.client->control_tx.first, p.client->control_tx.next);
    pair_free(&p);
}
END_TEST

START_TEST(counters_go_on_past_what_was_reserved)
{
    struct pair p = held_pair();
    run(&p, 300 * MS);
    uint64_t before = p.host->packet.next_counter;
    restart(&p);
    ck_assert_uint_ge(p.host->packet.next_counter, before);
    uint64_t first = p.host->packet.next_counter;
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), RIFT_SESSION_IDLE);
    restart(&p); /* dies again before it stored anything */
    ck_assert_uint_eq(p.host->packet.next_counter, first);
    export(&p);
    restart(&p);
    ck_assert_uint_ge(p.host->packet.next_counter, first + BLOCK);
    run(&p, 300 * MS);
    ck_assert_uint_eq(pair_stats(p.client).dropped_replay, 0);
    /* A block is used up only so far that an export in time is asked for. */
    for (uint32_t id = 0; !rift_session_wants_export(p.host); id++) {
        pair_send_frame(&p, id, 0, true, 100000);
        while (rift_session_send(p.host, d, sizeof d, p.now, &len) == 0)
            ;
    }
    ck_assert_uint_lt(p.host->packet.next_counter, p.host->reserved_until);
    pair_free(&p);
}
END_TEST

START_TEST(no_counter_is_used_that_the_stored_state_begins_with)
{
    struct pair p = held_pair();
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    run(&p, 300 * MS);
    export(&p);
    for (uint32_t id = 0; id < 100; id++) { /* nobody stores anything any more */
        pair_send_frame(&p, id, 0, true, 100000);
        while (rift_session_send(p.host, d, sizeof d, p.now, &len) == 0)
            ;
    }
    uint64_t used = p.host->packet.next_counter;
    ck_assert(rift_session_wants_export(p.host));
    restart(&p);
    ck_assert_uint_eq(p.host->packet.next_counter, used); /* all of the block, and not one more */
    pair_free(&p);
}
END_TEST

START_TEST(a_new_key_waits_until_a_state_holds_it)
{
    struct pair p = held_pair();
    p.host->packet.limit_packets = 64;
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    export(&p);
    for (uint32_t id = 0; id < 5; id++) {
        pair_send_frame(&p, id, 0, true, 100000);
        while (rift_session_send(p.host, d, sizeof d, p.now, &len) == 0)
            ck_assert_uint_eq(d[1], 0);
    }
    ck_assert(rift_session_wants_export(p.host));
    export(&p);
    pair_send_frame(&p, 5, 0, true, 100);
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
    ck_assert_uint_eq(d[1], 1);
    restart(&p);
    ck_assert_uint_eq(pair_stats(p.host).key_generation, 1);
    pair_free(&p);
}
END_TEST

START_TEST(what_was_received_before_the_export_is_a_replay_after_it)
{
    struct pair p = held_pair();
    uint8_t d[8][RIFT_MTU_MAX_BYTES];
    size_t len[8];
    run(&p, 300 * MS);
    for (unsigned i = 0; i < 8; i++) {
        rift_session_send_control(p.client, (const uint8_t *)"x", 1, p.now);
        ck_assert_int_eq(rift_session_send(p.client, d[i], sizeof d[i], p.now, &len[i]), 0);
        if (i != 3)
            ck_assert_int_eq(rift_session_receive(p.host, d[i], len[i], p.now), 0);
    }
    export(&p);
    restart(&p);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(rift_session_receive(p.host, d[i], len[i], p.now),
                         i == 3 ? 0 : RIFT_SESSION_DROPPED);
    ck_assert_uint_eq(pair_stats(p.host).dropped_replay, 7);
    pair_free(&p);
}
END_TEST

START_TEST(events_and_messages_survive_in_order_by_number)
{
    struct pair p = held_pair();
    struct rift_event e;
    uint32_t seq, expected_seq = 1, expected_number = 1, sent = 0;
    run(&p, 300 * MS);
    for (unsigned round = 0; round < 40; round++) {
        uint8_t message[3000];
        memset(message, (int)sent, sizeof message);
        rift_session_send_input(p.client, &key_down, p.now, &seq);
        if (rift_session_send_control(p.client, message, sizeof message, p.now) == 0)
            sent++;
        if (round % 3 == 0)
            run(&p, 5 * MS);
        else
            say(&p, p.client, round % 5 == 0 ? 0 : DROP_NONE);
        while (round % 2 && rift_session_next_event(p.host, &e) == 0) {
            if (e.kind == RIFT_EVENT_INPUT && e.input.seq == expected_seq)
                expected_seq++;
            else if (e.kind == RIFT_EVENT_INPUT)
                ck_assert_uint_lt(e.input.seq, expected_seq);
            if (e.kind == RIFT_EVENT_CONTROL) {
                ck_assert_uint_le(e.control.number, expected_number);
                ck_assert_uint_eq(e.control.data[2999], (e.control.number - 1) & 0xff);
                expected_number += e.control.number == expected_number;
            }
        }
        restart(&p);
    }
    for (unsigned i = 0; i < 30; i++) {
        run(&p, 100 * MS);
        while (rift_session_next_event(p.host, &e) == 0) {
            expected_seq += e.kind == RIFT_EVENT_INPUT && e.input.seq == expected_seq;
            expected_number += e.kind == RIFT_EVENT_CONTROL && e.control.number == expected_number;
        }
    }
    ck_assert_uint_eq(expected_seq, seq + 1);
    ck_assert_uint_eq(expected_number, sent + 1);
    pair_free(&p);
}
END_TEST

START_TEST(the_hosts_own_messages_survive_half_sent)
{
    struct pair p = held_pair();
    static uint8_t large[RIFT_CONTROL_MAX_BYTES];
    struct rift_event e;
    memset(large, 7, sizeof large);
    run(&p, 300 * MS);
    for (unsigned lost = 0; lost < 60; lost += 7) {
        for (unsigned i = 0; i < 3; i++)
            ck_assert_int_eq(rift_session_send_control(p.host, large, sizeof large - i, p.now), 0);
        export(&p);
        say(&p, p.host, lost);
        restart(&p);
        run(&p, 2 * WV_NS_PER_S);
        /* What fits a state was kept whole; what did not is gone whole. */
        ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
        ck_assert_uint_eq(e.control.len, sizeof large);
        pair_expect_no_event(p.client);
    }
    pair_free(&p);
}
END_TEST

START_TEST(keys_go_on_also_when_they_changed_near_the_end)
{
    for (unsigned cut = 0; cut < 40; cut++) {
        struct pair p = {.now = START};
        struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
        h.rekey_packets = c.rekey_packets = 64;
        ck_assert_int_eq(rift_session_new(&p.host, &h, p.now), 0);
        ck_assert_int_eq(rift_session_new(&p.client, &c, p.now), 0);
        ck_assert_int_eq(rift_session_reserve(p.host, BLOCK), 0);
        struct rift_event e;
        for (unsigned i = 0; i < 150 + cut; i++) {
            uint32_t seq;
            rift_session_send_input(p.client, &key_down, p.now, &seq);
            say(&p, p.client, DROP_NONE);
            while (rift_session_next_event(p.host, &e) == 0)
                ;
            if (rift_session_wants_export(p.host))
                export(&p);
            say(&p, p.host, i + 3 > 150 + cut ? 0 : DROP_NONE);
        }
        ck_assert_uint_ge(pair_stats(p.host).key_generation, 1);
        say(&p, p.client, DROP_NONE); /* unstored */
        restart(&p);
        run(&p, 500 * MS);
        uint64_t forged = pair_stats(p.client).dropped_auth;
        run(&p, 500 * MS);
        ck_assert_uint_eq(pair_stats(p.client).dropped_auth + forged, 0);
        uint64_t before = pair_stats(p.client).packets_received;
        run(&p, 3 * WV_NS_PER_S);
        ck_assert_uint_gt(pair_stats(p.client).packets_received, before);
        pair_free(&p);
    }
}
END_TEST

START_TEST(video_goes_on_with_a_keyframe_and_the_cursor_stays_newest)
{
    struct pair p = held_pair();
    run(&p, 300 * MS);
    rift_session_send_cursor(p.host, &(struct rift_cursor){.x = 5, .shape_id = 1}, p.now);
    for (uint32_t i = 0; i < 10; i++) {
        pair_send_frame(&p, i, 0, i == 0, 3000);
        run(&p, 5 * MS);
        struct rift_event e;
        while (rift_session_next_event(p.client, &e) == 0)
            ;
    }
    uint64_t rtt = pair_stats(p.host).rtt_ns;
    export(&p);
    rift_session_send_cursor(p.host, &(struct rift_cursor){.x = 9, .shape_id = 2}, p.now);
    say(&p, p.host, DROP_NONE); /* the client knows a newer cursor than the state */
    restart(&p);
    ck_assert_uint_eq(pair_stats(p.host).rtt_ns, rtt);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_KEYFRAME_REQUEST);
    ck_assert_int_eq(pair_send_frame(&p, 9, 0, true, 100), -EINVAL); /* ids go on */
    ck_assert_int_eq(pair_send_frame(&p, 10, 0, true, 100), 0);
    rift_session_send_cursor(p.host, &(struct rift_cursor){.x = 11, .shape_id = 3}, p.now);
    run(&p, 20 * MS);
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CURSOR);
    ck_assert_uint_eq(e.cursor.shape_id, 3);
    pair_expect_frame(&p, 10, 100);
    pair_free(&p);
}
END_TEST

START_TEST(near_the_end_of_all_counters_nothing_spins)
{
    struct pair p = {.now = START};
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST);
    h.first_counter = RIFT_COUNTER_LIMIT - 10;
    ck_assert_int_eq(rift_session_new(&p.host, &h, p.now), 0);
    ck_assert_int_eq(rift_session_reserve(p.host, UINT32_MAX), 0);
    export(&p); /* and no further one is wanted */
    uint8_t d[RIFT_MTU_MAX_BYTES];
    size_t len;
    for (unsigned i = 0; i < 100; i++, p.now += 100 * MS)
        while (rift_session_send(p.host, d, sizeof d, p.now, &len) == 0)
            ;
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_uint_eq(rift_session_timeout(p.host), UINT64_MAX);
    rift_session_free(p.host);
}
END_TEST

START_TEST(a_session_that_ended_has_no_state)
{
    struct pair p = held_pair();
    run(&p, 300 * MS);
    rift_session_close(p.host, RIFT_CLOSE_NORMAL, "", p.now);
    ck_assert(!rift_session_wants_export(p.host));
    ck_assert_int_eq(rift_session_export(p.host, state, sizeof state, p.now, &state_len), RIFT_SESSION_ENDED);
    pair_free(&p);
    p = held_pair();
    rift_session_close(p.host, RIFT_CLOSE_NORMAL, "", p.now); /* before anything could be sent */
    ck_assert_uint_eq(rift_session_timeout(p.host), UINT64_MAX);
    pair_free(&p);
    p = pair_new();
    ck_assert_int_eq(rift_session_export(p.host, state, sizeof state, p.now, &state_len), -EINVAL);
    ck_assert_int_eq(rift_session_reserve(p.client, BLOCK), -EINVAL);
    ck_assert_int_eq(rift_session_reserve(p.host, BLOCK), -EINVAL); /* too late */
    pair_free(&p);
    p = held_pair();
    ck_assert_int_eq(rift_session_export(p.host, state, sizeof state - 1, p.now, &state_len), -EINVAL);
    pair_free(&p);
}
END_TEST

static void seal_state(void)
{
    struct wv_writer w;
    wv_writer_init(&w, state + state_len - 8, 8);
    wv_write_u64(&w, rift_checksum(state, state_len - 8));
}

START_TEST(a_state_that_does_not_check_out_is_no_session)
{
    struct pair p = held_pair();
    struct rift_session_config c = {.role = RIFT_ROLE_HOST};
    struct rift_session *s = NULL;
    uint32_t seq;
    run(&p, 300 * MS);
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    rift_session_send_control(p.host, (const uint8_t *)"down", 4, p.now);
    rift_session_send_control(p.client, (const uint8_t *)"up", 2, p.now);
    say(&p, p.client, DROP_NONE);
    export(&p);
    for (size_t i = 0; i < state_len; i++) {
        state[i] ^= 1;
        ck_assert_int_eq(rift_session_import(&s, &c, state, state_len, p.now), -EBADMSG);
        state[i] ^= 1;
        ck_assert_int_eq(rift_session_import(&s, &c, state, i, p.now), -EBADMSG);
    }
    ck_assert_ptr_null(s);
    c.role = RIFT_ROLE_CLIENT;
    ck_assert_int_eq(rift_session_import(&s, &c, state, state_len, p.now), -EBADMSG);
    c.role = RIFT_ROLE_HOST;
    /* With a good checksum: version, length, a counter at its end, more events than there can be. */
    static const size_t offsets[] = {0, 4, 6, 7, 8};
    for (size_t i = 0; i < WV_ARRAY_SIZE(offsets); i++) {
        state[offsets[i]] ^= 1;
        seal_state();
        ck_assert_int_eq(rift_session_import(&s, &c, state, state_len, p.now), -EBADMSG);
        state[offsets[i]] ^= 1;
    }
    memset(state + 24, 0xff, 8);
    seal_state();
    ck_assert_int_eq(rift_session_import(&s, &c, state, state_len, p.now), -EBADMSG);
    export(&p);
    const uint8_t *sealed = p.host->input_rx->events[p.host->input_rx->taken % RIFT_INPUT_QUEUE];
    ck_assert_uint_eq(p.host->input_rx->next - p.host->input_rx->taken, 1);
    uint8_t *at = memmem(state, state_len, sealed, RIFT_INPUT_SEALED_BYTES);
    ck_assert_ptr_nonnull(at);
    at[-2] = 2; /* the number of events */
    seal_state();
    ck_assert_int_eq(rift_session_import(&s, &c, state, state_len, p.now), -EBADMSG);
    pair_free(&p);
}
END_TEST

START_TEST(the_path_is_part_of_the_state)
{
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    struct net *n = net_new(&h, &c);
    n->host = rift_session_free(n->host);
    h.address[0] = 1;
    ck_assert_int_eq(rift_session_new(&n->host, &h, n->now), 0);
    ck_assert_int_eq(rift_session_reserve(n->host, BLOCK), 0);
    for (int i = 0; i < 400; i++) {
        if (i == 200)
            n->client_address[0] = 2;
        if (rift_session_wants_export(n->host))
            ck_assert_int_eq(rift_session_export(n->host, state, sizeof state, n->now, &state_len), 0);
        net_run(n, MS);
        if (i == 200)
            rift_session_path_changed(n->client, n->now);
    }
    ck_assert(net_flow_is_at(n, n->client_address));
    n->host = rift_session_free(n->host);
    struct rift_session_config again = {.role = RIFT_ROLE_HOST};
    ck_assert_int_eq(rift_session_import(&n->host, &again, state, state_len, n->now), 0);
    ck_assert(net_flow_is_at(n, n->client_address));
    net_free(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session state");
    TCase *t = tcase_create("session state");
    suite_add_tcase(s, t);
    tcase_add_test(t, nothing_is_sent_that_no_state_covers);
    tcase_add_test(t, counters_go_on_past_what_was_reserved);
    tcase_add_test(t, no_counter_is_used_that_the_stored_state_begins_with);
    tcase_add_test(t, a_new_key_waits_until_a_state_holds_it);
    tcase_add_test(t, what_was_received_before_the_export_is_a_replay_after_it);
    tcase_add_test(t, events_and_messages_survive_in_order_by_number);
    tcase_add_test(t, the_hosts_own_messages_survive_half_sent);
    tcase_add_test(t, keys_go_on_also_when_they_changed_near_the_end);
    tcase_add_test(t, video_goes_on_with_a_keyframe_and_the_cursor_stays_newest);
    tcase_add_test(t, near_the_end_of_all_counters_nothing_spins);
    tcase_add_test(t, a_session_that_ended_has_no_state);
    tcase_add_test(t, a_state_that_does_not_check_out_is_no_session);
    tcase_add_test(t, the_path_is_part_of_the_state);
    return wv_run_suite(s);
}
