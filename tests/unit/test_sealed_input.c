/* Input through whole sessions: joined until it is sealed, repeated until it has come, opaque to the host. */
#include "rift/core/session_internal.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

#include <errno.h>

static const struct rift_input_event key_down = {.kind = RIFT_INPUT_KEY, .code = 30, .down = 1, .time_us = 5};
static const struct rift_input_event move = {.kind = RIFT_INPUT_POINTER_REL, .x = 3, .y = -4};

START_TEST(input_is_there_with_its_first_datagram)
{
    struct pair p = pair_new();
    uint32_t seq = 0;
    ck_assert_int_eq(rift_session_send_input(p.client, &key_down, p.now, &seq), 0);
    ck_assert_uint_eq(seq, 1);
    ck_assert_uint_eq(pair_pass(&p, p.client, DROP_NONE), 1);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_INPUT);
    ck_assert_uint_eq(e.input.seq, 1);
    ck_assert_uint_eq(pair_input(&e).code, 30);
    ck_assert_uint_eq(pair_input(&e).down, 1);
    ck_assert_uint_eq(pair_input(&e).time_us, 5);
    ck_assert_uint_eq(pair_pass(&p, p.host, DROP_NONE), 1); /* acknowledged at once */
    pair_run(&p, 50 * MS);
    ck_assert_uint_eq(pair_stats(p.client).input_repeated, 0);
    pair_free(&p);
}
END_TEST

START_TEST(a_lost_input_datagram_costs_ten_milliseconds)
{
    struct pair p = pair_new();
    uint32_t seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    pair_pass(&p, p.client, 0);
    ck_assert_uint_eq(rift_session_timeout(p.client), p.now + 10 * MS);
    p.now += 4 * MS;
    rift_session_send_input(p.client, &move, p.now, &seq); /* carries the first one too */
    pair_pass(&p, p.client, DROP_NONE);
    struct rift_event e;
    for (uint32_t i = 1; i <= 2; i++) {
        ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
        ck_assert_uint_eq(e.input.seq, i);
    }
    pair_expect_no_event(p.host);
    pair_free(&p);
}
END_TEST

START_TEST(unsent_moves_join_and_sent_ones_do_not)
{
    struct pair p = pair_new();
    uint32_t seq;
    for (int i = 0; i < 3; i++) {
        rift_session_send_input(p.client, &move, p.now, &seq);
        ck_assert_uint_eq(seq, 1);
    }
    pair_pass(&p, p.client, 0);
    rift_session_send_input(p.client, &move, p.now, &seq);
    ck_assert_uint_eq(seq, 2);
    struct rift_input_event far = {.kind = RIFT_INPUT_POINTER_REL, .x = 32767};
    rift_session_send_input(p.client, &far, p.now, &seq); /* the sum would be out of range */
    ck_assert_uint_eq(seq, 3);
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    ck_assert_uint_eq(seq, 5); /* keys never join */
    pair_run(&p, 20 * MS);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(pair_input(&e).x, 9);
    ck_assert_int_eq(pair_input(&e).y, -12);
    pair_free(&p);
}
END_TEST

START_TEST(a_deaf_host_fills_the_queue_but_for_release_all)
{
    struct pair p = pair_new();
    uint32_t seq = 0, last = 0;
    int r;
    while ((r = rift_session_send_input(p.client, &key_down, p.now, &seq)) == 0)
        last = seq;
    ck_assert_int_eq(r, RIFT_SESSION_FULL);
    ck_assert_uint_eq(last, RIFT_INPUT_QUEUE - 1);
    struct rift_input_event release = {.kind = RIFT_INPUT_RELEASE_ALL};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(rift_session_send_input(p.client, &release, p.now, &seq), 0);
        ck_assert_uint_eq(seq, RIFT_INPUT_QUEUE);
    }
    pair_run(&p, 100 * MS);
    struct rift_event e;
    for (uint32_t i = 1; i <= RIFT_INPUT_QUEUE; i++) {
        ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
        ck_assert_uint_eq(e.input.seq, i);
    }
    ck_assert_int_eq(pair_input(&e).kind, RIFT_INPUT_RELEASE_ALL);
    pair_expect_no_event(p.host);
    pair_free(&p);
}
END_TEST

START_TEST(events_out_of_range_are_refused)
{
    const struct rift_input_event bad[] = {
        {.kind = 0},
        {.kind = 7},
        {.kind = RIFT_INPUT_KEY, .code = 0, .down = 1},
        {.kind = RIFT_INPUT_KEY, .code = 0x300, .down = 1},
        {.kind = RIFT_INPUT_KEY, .code = 30, .down = 2},
        {.kind = RIFT_INPUT_BUTTON, .code = 0x110, .x = 1},
        {.kind = RIFT_INPUT_POINTER_ABS, .x = 65536},
        {.kind = RIFT_INPUT_POINTER_ABS, .y = -1},
        {.kind = RIFT_INPUT_POINTER_REL, .x = 32768},
        {.kind = RIFT_INPUT_SCROLL, .y = -32769},
        {.kind = RIFT_INPUT_SCROLL, .code = 1},
        {.kind = RIFT_INPUT_RELEASE_ALL, .down = 1},
    };
    struct pair p = pair_new();
    uint32_t seq;
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        ck_assert_int_eq(rift_input_event_check(&bad[i]), -EINVAL);
        ck_assert_int_eq(rift_session_send_input(p.client, &bad[i], p.now, &seq), -EINVAL);
    }
    pair_free(&p);
}
END_TEST

/* What a sealed event says is not this module's to judge: any 36 bytes go on, and the session lives. */
START_TEST(a_host_passes_on_what_it_can_not_open)
{
    struct pair p = pair_new();
    uint8_t frame[3 + 5 + 36] = {RIFT_WIRE_INPUT, 41, 0, 1, 0, 0, 0, 1, /* no event at all */ 9};
    rift_session_frames(p.host, frame, sizeof frame, 0, p.now);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_INPUT);
    ck_assert_uint_eq(e.input.seq, 1);
    ck_assert_mem_eq(e.input.sealed, frame + 8, sizeof e.input.sealed);
    pair_expect_no_event(p.host);
    pair_free(&p);
}
END_TEST

/* Whoever has the host's session and all its memory can't read an event: a key held down, sealed twice under
 * two numbers, shows nothing in common, and nothing of the plain text. */
START_TEST(events_are_sealed_on_the_wire)
{
    struct pair p = pair_new();
    struct rift_event a, b;
    struct rift_input_event event;
    uint32_t seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    pair_run(&p, 5 * MS);
    ck_assert_int_eq(rift_session_next_event(p.host, &a), 0);
    ck_assert_int_eq(rift_session_next_event(p.host, &b), 0);
    for (size_t i = 0; i + 4 <= sizeof a.input.sealed; i++)
        ck_assert_mem_ne(a.input.sealed + i, b.input.sealed + i, 4);
    struct rift_session_config c = pair_config(RIFT_ROLE_CLIENT);
    ck_assert_int_eq(input_opened(c.input_key, &a, &event), 0);
    a.input.seq = 2; /* moved to another place */
    ck_assert_int_eq(input_opened(c.input_key, &a, &event), -EBADMSG);
    ck_assert_int_eq(input_opened(c.key_send, &b, &event), -EBADMSG);
    pair_free(&p);
}
END_TEST

/* The last number ends the session: none is ever used for two events. */
START_TEST(a_session_ends_with_its_input_numbers)
{
    struct pair p = pair_new();
    struct rift_event e;
    uint32_t seq;
    p.client->input_tx->first = p.client->input_tx->next = p.client->input_tx->fresh = UINT32_MAX - 1;
    ck_assert_int_eq(rift_session_send_input(p.client, &key_down, p.now, &seq), 0);
    pair_expect_no_event(p.client);
    ck_assert_int_eq(rift_session_send_input(p.client, &key_down, p.now, &seq), 0);
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_int_eq(e.closed.reason, RIFT_CLOSE_NORMAL);
    ck_assert_int_eq(rift_session_send_input(p.client, &key_down, p.now, &seq), RIFT_SESSION_FULL);
    pair_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sealed input");
    TCase *t = tcase_create("sealed input");
    suite_add_tcase(s, t);
    tcase_add_test(t, input_is_there_with_its_first_datagram);
    tcase_add_test(t, a_lost_input_datagram_costs_ten_milliseconds);
    tcase_add_test(t, unsent_moves_join_and_sent_ones_do_not);
    tcase_add_test(t, a_deaf_host_fills_the_queue_but_for_release_all);
    tcase_add_test(t, events_out_of_range_are_refused);
    tcase_add_test(t, a_host_passes_on_what_it_can_not_open);
    tcase_add_test(t, events_are_sealed_on_the_wire);
    tcase_add_test(t, a_session_ends_with_its_input_numbers);
    return wv_run_suite(s);
}
