/* A session as its two applications see it. Loss and reordering at large are the simulator's; here stands
 * what must happen at a certain datagram or moment. */
#include "rift/core/packet.h"
#include "rift/core/session_internal.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

#include <errno.h>

static const struct rift_input_event key_down = {.kind = RIFT_INPUT_KEY, .code = 30, .down = 1, .time_us = 5};

/* ---- life ---- */

START_TEST(impossible_configurations_are_refused)
{
    struct rift_session *s = NULL;
    struct rift_session_config c = pair_config(RIFT_ROLE_HOST);
    c.role = 7;
    ck_assert_int_eq(rift_session_new(&s, &c, START), -EINVAL);
    c = pair_config(RIFT_ROLE_HOST);
    c.first_counter = UINT64_MAX;
    ck_assert_int_eq(rift_session_new(&s, &c, START), -EINVAL);
    ck_assert_ptr_null(s);
    ck_assert_ptr_null(rift_session_free(NULL));
}
END_TEST

START_TEST(functions_of_the_other_role_do_nothing)
{
    struct pair p = pair_new();
    uint32_t seq;
    struct rift_frame_meta meta = {.keyframe = true};
    ck_assert_int_eq(rift_session_send_input(p.host, &key_down, p.now, &seq), -EINVAL);
    ck_assert_int_eq(rift_session_send_frame(p.client, &meta, (const uint8_t *)"x", 1, p.now), -EINVAL);
    rift_session_send_cursor(p.client, &(struct rift_cursor){.x = 1}, p.now);
    rift_session_request_keyframe(p.host, p.now);
    ck_assert_uint_eq(pair_pass(&p, p.host, DROP_NONE) + pair_pass(&p, p.client, DROP_NONE), 0);
    uint8_t small[RIFT_MTU_BYTES - 1];
    size_t len;
    ck_assert_int_eq(rift_session_send(p.host, small, sizeof small, p.now, &len), -EINVAL);
    pair_free(&p);
}
END_TEST

START_TEST(close_is_told_here_at_once_and_there_with_words)
{
    struct pair p = pair_new();
    pair_send_frame(&p, 0, 0, true, 5000);
    rift_session_close(p.host, RIFT_CLOSE_REVOKED, "key\nrevoked", p.now);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_int_eq(e.closed.reason, RIFT_CLOSE_REVOKED);
    pair_expect_no_event(p.host);
    ck_assert_uint_eq(pair_stats(p.host).memory_bytes, 0);
    ck_assert_uint_eq(pair_pass(&p, p.host, 0), 1); /* lost */
    ck_assert_uint_ne(rift_session_timeout(p.host), UINT64_MAX);
    p.now = rift_session_timeout(p.host);
    pair_pass(&p, p.host, DROP_NONE);
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_int_eq(e.closed.reason, RIFT_CLOSE_REVOKED);
    ck_assert_str_eq(e.closed.text, "key?revoked");
    pair_expect_no_event(p.client);
    ck_assert_uint_eq(rift_session_timeout(p.client), UINT64_MAX);
    uint32_t seq;
    ck_assert_int_eq(rift_session_send_input(p.client, &key_down, p.now, &seq), RIFT_SESSION_FULL);
    ck_assert_int_eq(rift_session_send_control(p.client, (const uint8_t *)"x", 1, p.now), RIFT_SESSION_FULL);
    pair_free(&p);
}
END_TEST

START_TEST(what_came_before_a_close_can_still_be_taken)
{
    struct pair p = pair_new();
    uint32_t seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    rift_session_send_control(p.client, (const uint8_t *)"bye", 3, p.now);
    pair_pass(&p, p.client, DROP_NONE);
    rift_session_close(p.client, RIFT_CLOSE_NORMAL, NULL, p.now);
    pair_pass(&p, p.client, DROP_NONE);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_INPUT);
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CONTROL);
    ck_assert_mem_eq(e.control.data, "bye", 3);
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    pair_free(&p);
}
END_TEST

START_TEST(silence_ends_the_session)
{
    struct pair p = pair_new();
    pair_run(&p, 60 * WV_NS_PER_S); /* keepalive alone holds it */
    pair_expect_no_event(p.host);
    uint64_t last = p.now;
    uint8_t datagram[RIFT_MTU_BYTES];
    size_t len;
    while (p.now < last + 11 * WV_NS_PER_S && rift_session_timeout(p.host) != UINT64_MAX) {
        p.now = rift_session_timeout(p.host);
        while (rift_session_send(p.host, datagram, sizeof datagram, p.now, &len) == 0)
            ;
    }
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_int_eq(e.closed.reason, RIFT_CLOSE_TIMEOUT);
    ck_assert_uint_ge(p.now, last + 9 * WV_NS_PER_S);
    ck_assert_uint_le(p.now, last + 10 * WV_NS_PER_S);
    pair_free(&p);
}
END_TEST

START_TEST(the_last_counters_are_kept_for_goodbye)
{
    struct pair p = {.now = START};
    struct rift_session_config host = pair_config(RIFT_ROLE_HOST), client = pair_config(RIFT_ROLE_CLIENT);
    host.first_counter = RIFT_COUNTER_LIMIT - 2;
    rift_session_new(&p.host, &host, p.now);
    rift_session_new(&p.client, &client, p.now);
    pair_run(&p, 5 * WV_NS_PER_S);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    pair_free(&p);
}
END_TEST

/* ---- datagrams ---- */

START_TEST(the_receiver_id_is_read_from_data_datagrams_only)
{
    struct pair p = pair_new();
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    uint32_t id = 0, seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    ck_assert_int_eq(rift_session_send(p.client, d, sizeof d, p.now, &len), 0);
    ck_assert_int_eq(rift_datagram_receiver(d, len, &id), 0);
    ck_assert_uint_eq(id, 7);
    ck_assert_int_eq(rift_datagram_receiver(d, 31, &id), -EBADMSG);
    ck_assert_int_eq(rift_datagram_receiver(d, 0, &id), -EBADMSG);
    d[2] = 1; /* reserved */
    ck_assert_int_eq(rift_datagram_receiver(d, len, &id), -EBADMSG);
    d[2] = 0;
    d[0] = 1;
    ck_assert_int_eq(rift_datagram_receiver(d, len, &id), -EBADMSG);
    pair_free(&p);
}
END_TEST

START_TEST(forged_replayed_and_misaddressed_change_nothing)
{
    struct pair p = pair_new();
    uint8_t d[RIFT_MTU_BYTES], bad[RIFT_MTU_BYTES];
    size_t len;
    uint32_t seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    ck_assert_int_eq(rift_session_send(p.client, d, sizeof d, p.now, &len), 0);
    uint64_t timeout = rift_session_timeout(p.host);
    for (size_t i = 0; i < len; i++) {
        memcpy(bad, d, len);
        bad[i] ^= 0x40;
        ck_assert_int_eq(rift_session_receive(p.host, bad, len, p.now + MS), RIFT_SESSION_DROPPED);
        ck_assert_int_eq(rift_session_receive(p.host, d, i, p.now + MS), RIFT_SESSION_DROPPED);
    }
    pair_expect_no_event(p.host);
    ck_assert_uint_eq(rift_session_timeout(p.host), timeout);
    ck_assert_int_eq(rift_session_receive(p.host, d, len, p.now), 0);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(rift_session_receive(p.host, d, len, p.now), RIFT_SESSION_DROPPED);
    pair_expect_no_event(p.host);
    ck_assert_uint_eq(pair_stats(p.host).dropped_replay, 1);
    ck_assert_uint_gt(pair_stats(p.host).dropped_auth, 0);
    ck_assert_uint_gt(pair_stats(p.host).dropped_malformed, 0);
    pair_free(&p);
}
END_TEST

START_TEST(unknown_frames_are_skipped_or_end_the_datagram)
{
    struct pair p = pair_new();
    static const uint8_t skipped[] = {0x80, 2, 0, 9, 9, 0x01, 4, 0, 1, 2, 3, 4};
    uint64_t before = pair_stats(p.host).dropped_malformed;
    ck_assert_int_eq(rift_session_frames(p.host, skipped, sizeof skipped, 0, p.now), 0);
    ck_assert_uint_eq(rift_session_timeout(p.host), 0); /* it has a ping to answer */
    pair_pass(&p, p.host, DROP_NONE);
    static const uint8_t unknown[] = {0x7f, 0, 0, 0x01, 4, 0, 1, 2, 3, 4};
    static const uint8_t cut[] = {0x01, 5, 0, 1, 2, 3, 4};
    static const uint8_t too_long[] = {0x01, 5, 0, 1, 2, 3, 4, 5};
    static const uint8_t not_for_a_host[] = {RIFT_WIRE_VIDEO_GONE, 4, 0, 0, 0, 0, 0};
    static const uint8_t half[] = {0x01, 4};
    const struct {
        const uint8_t *bytes;
        size_t len;
    } bad[] = {{unknown, sizeof unknown},
               {cut, sizeof cut},
               {too_long, sizeof too_long},
               {not_for_a_host, sizeof not_for_a_host},
               {half, sizeof half}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        ck_assert_int_eq(rift_session_frames(p.host, bad[i].bytes, bad[i].len, 0, p.now),
                         RIFT_SESSION_DROPPED);
        ck_assert_uint_eq(pair_stats(p.host).dropped_malformed, before + i + 1);
        ck_assert_uint_gt(rift_session_timeout(p.host), p.now);
    }
    pair_expect_no_event(p.host);
    pair_free(&p);
}
END_TEST

START_TEST(classes_leave_in_strict_order)
{
    struct pair p = pair_new();
    uint32_t seq;
    uint8_t message[5000] = {0};
    pair_send_frame(&p, 0, 0, true, 5000);
    rift_session_send_control(p.host, message, sizeof message, p.now);
    rift_session_send_cursor(p.host, &(struct rift_cursor){.x = 5, .y = 6, .visible = true}, p.now);
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    struct rift_event e;
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
    rift_session_receive(p.client, d, len, p.now);
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CURSOR);
    ck_assert_uint_eq(e.cursor.y, 6);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
        rift_session_receive(p.client, d, len, p.now);
    }
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CONTROL);
    ck_assert_uint_eq(pair_pass(&p, p.host, DROP_NONE), 5);
    pair_expect_frame(&p, 0, 5000);
    ck_assert_int_eq(rift_session_send_input(p.client, &key_down, p.now, &seq), 0);
    pair_free(&p);
}
END_TEST

/* ---- control ---- */

START_TEST(control_survives_the_loss_of_any_datagram)
{
    static uint8_t message[RIFT_CONTROL_MAX_BYTES + 1];
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i * 7 + i / 256);
    for (unsigned lost = 0; lost < 32; lost += 5) {
        struct pair p = pair_new();
        ck_assert_int_eq(rift_session_send_control(p.host, message, sizeof message, p.now), -EMSGSIZE);
        ck_assert_int_eq(rift_session_send_control(p.host, message, RIFT_CONTROL_MAX_BYTES, p.now), 0);
        ck_assert_int_eq(rift_session_send_control(p.host, message, 0, p.now), 0);
        pair_pass(&p, p.host, lost);
        pair_run(&p, 300 * MS);
        struct rift_event e;
        ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
        ck_assert_uint_eq(e.control.len, RIFT_CONTROL_MAX_BYTES);
        ck_assert_mem_eq(e.control.data, message, RIFT_CONTROL_MAX_BYTES);
        ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
        ck_assert_uint_eq(e.control.len, 0);
        pair_expect_no_event(p.client);
        pair_free(&p);
    }
}
END_TEST

START_TEST(control_to_a_deaf_peer_is_bounded)
{
    struct pair p = pair_new();
    static uint8_t message[1000];
    unsigned n = 0;
    while (rift_session_send_control(p.host, message, sizeof message, p.now) == 0)
        ck_assert_uint_lt(n++, 1000);
    ck_assert_uint_lt(pair_stats(p.host).memory_bytes, 400000);
    pair_run(&p, 5 * WV_NS_PER_S); /* the client's application takes nothing yet */
    ck_assert_uint_lt(pair_stats(p.client).memory_bytes, 400000);
    struct rift_event e;
    for (unsigned i = 0; i < n; i++) {
        if (rift_session_next_event(p.client, &e) == RIFT_SESSION_NONE) {
            pair_run(&p, 3 * WV_NS_PER_S);
            ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
        }
        ck_assert_uint_eq(e.control.len, sizeof message);
    }
    pair_free(&p);
}
END_TEST

START_TEST(a_control_message_without_end_ends_the_session)
{
    struct pair p = pair_new();
    struct rift_event e;
    int r = RIFT_SESSION_NONE;
    for (uint32_t seq = 0; seq < 70 && r != 0; seq++) {
        static uint8_t frame[3 + 5 + 1100];
        frame[0] = RIFT_WIRE_CONTROL;
        frame[1] = (5 + 1100) & 0xff;
        frame[2] = (5 + 1100) >> 8;
        frame[3] = (uint8_t)seq;
        rift_session_frames(p.client, frame, sizeof frame, 0, p.now);
        r = rift_session_next_event(p.client, &e);
    }
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_int_eq(e.closed.reason, RIFT_CLOSE_PROTOCOL);
    pair_free(&p);
}
END_TEST

/* ---- video ---- */

START_TEST(a_frame_is_there_with_its_last_datagram)
{
    struct pair p = pair_new();
    ck_assert_int_eq(pair_send_frame(&p, 10, 3, true, 20000), 0);
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    for (int i = 0; i < 18; i++) {
        pair_expect_no_event(p.client);
        ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
        ck_assert_int_eq(rift_session_receive(p.client, d, len, p.now + i), 0);
    }
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_FRAME);
    ck_assert_uint_eq(e.frame.len, 20000);
    ck_assert_uint_eq(e.frame.first_packet_ns, p.now);
    ck_assert_uint_eq(e.frame.last_packet_ns, p.now + 17);
    ck_assert_uint_eq(e.frame.meta.epoch, 3);
    ck_assert_uint_eq(e.frame.meta.width, 1280);
    ck_assert_uint_eq(e.frame.meta.height, 720);
    ck_assert_uint_eq(e.frame.meta.capture_us, 111);
    ck_assert_uint_eq(e.frame.meta.encoded_us, 222);
    ck_assert_uint_eq(e.frame.meta.input_seq, 33);
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), RIFT_SESSION_IDLE);
    pair_free(&p);
}
END_TEST

START_TEST(bad_frames_are_refused)
{
    struct pair p = pair_new();
    ck_assert_int_eq(pair_send_frame(&p, 1, 0, true, 0), -EMSGSIZE);
    ck_assert_int_eq(pair_send_frame(&p, 1, 0, true, RIFT_FRAME_MAX_BYTES + 1), -EMSGSIZE);
    ck_assert_int_eq(pair_send_frame(&p, 1, 0, true, RIFT_FRAME_MAX_BYTES), 0);
    ck_assert_int_eq(pair_send_frame(&p, 1, 0, true, 10), -EINVAL);
    pair_pass(&p, p.host, DROP_NONE);
    pair_expect_frame(&p, 1, RIFT_FRAME_MAX_BYTES);
    pair_free(&p);
}
END_TEST

START_TEST(any_lost_fragment_comes_again)
{
    for (unsigned lost = 0; lost < 18; lost++) {
        struct pair p = pair_new();
        pair_send_frame(&p, 0, 0, true, 20000);
        pair_pass(&p, p.host, lost);
        pair_expect_no_event(p.client);
        pair_run(&p, 20 * MS);
        pair_expect_frame(&p, 0, 20000);
        ck_assert_uint_eq(pair_stats(p.host).fragments_retransmitted, 1);
        ck_assert_uint_eq(pair_stats(p.client).packets_lost, 1);
        ck_assert_uint_eq(pair_stats(p.client).frames_lost, 0);
        pair_free(&p);
    }
}
END_TEST

START_TEST(a_wholly_lost_frame_comes_again)
{
    struct pair p = pair_new();
    pair_send_frame(&p, 0, 0, true, 800);
    pair_pass(&p, p.host, DROP_NONE);
    pair_expect_frame(&p, 0, 800);
    pair_send_frame(&p, 1, 0, false, 800);
    pair_pass(&p, p.host, 0);
    pair_run(&p, 20 * MS); /* the end mark tells */
    pair_expect_frame(&p, 1, 800);
    pair_send_frame(&p, 2, 0, false, 800);
    pair_pass(&p, p.host, 0);
    pair_send_frame(&p, 3, 0, false, 800);
    pair_pass(&p, p.host, DROP_NONE); /* the next frame tells */
    pair_expect_no_event(p.client);
    pair_run(&p, 5 * MS);
    pair_expect_frame(&p, 2, 800);
    pair_expect_frame(&p, 3, 800);
    pair_free(&p);
}
END_TEST

/* Runs with every datagram of the host lost. */
static void host_unheard(struct pair *p, uint64_t later)
{
    uint64_t end = p->now + later;
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    for (; p->now < end; p->now += MS) {
        while (rift_session_send(p->host, d, sizeof d, p->now, &len) == 0)
            ;
        pair_pass(p, p->client, DROP_NONE);
    }
}

START_TEST(what_is_too_late_is_given_up_and_a_keyframe_asked_for)
{
    struct pair p = pair_new();
    pair_send_frame(&p, 0, 0, true, 800);
    pair_run(&p, MS);
    pair_expect_frame(&p, 0, 800);
    pair_send_frame(&p, 1, 0, false, 3000);
    pair_pass(&p, p.host, 1);
    host_unheard(&p, 200 * MS);
    ck_assert_uint_eq(pair_stats(p.client).frames_lost, 1);
    ck_assert_uint_ge(pair_stats(p.client).nacks_sent, 2);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_KEYFRAME_REQUEST);
    pair_send_frame(&p, 2, 0, false, 800); /* can't be decoded */
    pair_run(&p, MS);
    pair_expect_no_event(p.client);
    pair_send_frame(&p, 3, 0, true, 800);
    pair_send_frame(&p, 4, 0, false, 800);
    pair_run(&p, MS);
    pair_expect_frame(&p, 3, 800);
    pair_expect_frame(&p, 4, 800);
    while (rift_session_next_event(p.host, &e) == 0)
        ;
    uint64_t asked = pair_stats(p.client).keyframe_requests;
    pair_run(&p, WV_NS_PER_S);
    pair_expect_no_event(p.host);
    ck_assert_uint_eq(pair_stats(p.client).keyframe_requests, asked); /* answered: no more of them */
    pair_free(&p);
}
END_TEST

START_TEST(a_late_joiner_asks_for_a_keyframe)
{
    struct pair p = pair_new();
    pair_send_frame(&p, 500, 0, false, 800);
    pair_run(&p, MS);
    pair_expect_no_event(p.client);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_KEYFRAME_REQUEST);
    pair_free(&p);
}
END_TEST

START_TEST(a_keyframe_overtakes_what_is_missing)
{
    struct pair p = pair_new();
    pair_send_frame(&p, 0, 0, true, 800);
    pair_run(&p, MS);
    pair_expect_frame(&p, 0, 800);
    pair_send_frame(&p, 1, 0, false, 3000);
    pair_pass(&p, p.host, 0);
    pair_send_frame(&p, 2, 0, true, 800);
    pair_pass(&p, p.host, DROP_NONE);
    pair_expect_frame(&p, 2, 800); /* at once */
    ck_assert_uint_eq(pair_stats(p.client).frames_lost, 1);
    ck_assert_uint_eq(pair_stats(p.client).keyframe_requests, 0);
    pair_free(&p);
}
END_TEST

START_TEST(a_new_epoch_replaces_what_is_unsent)
{
    struct pair p = pair_new_with(8000000, 1200);
    pair_send_frame(&p, 0, 0, true, 800);
    pair_run(&p, 10 * MS);
    pair_expect_frame(&p, 0, 800);
    pair_send_frame(&p, 1, 0, false, 50000);
    pair_pass(&p, p.host, DROP_NONE);
    pair_send_frame(&p, 2, 1, true, 800);
    p.now += 2 * MS;
    pair_pass(&p, p.host, DROP_NONE);
    pair_expect_frame(&p, 2, 800);
    pair_run(&p, 200 * MS);
    pair_expect_no_event(p.client);
    /* A frame of yet another epoch that is no keyframe can't be decoded. */
    pair_send_frame(&p, 3, 2, false, 800);
    pair_run(&p, 10 * MS);
    pair_expect_no_event(p.client);
    pair_free(&p);
}
END_TEST

START_TEST(too_much_unsent_is_refused_and_the_gap_is_told)
{
    struct pair p = pair_new_with(1000000, 0);
    uint32_t id = 0;
    while (pair_send_frame(&p, id, 0, id == 0, 500) == 0)
        ck_assert_uint_lt(id++, 100);
    uint32_t refused = id++;
    pair_run(&p, WV_NS_PER_S);
    for (uint32_t i = 0; i < refused; i++)
        pair_expect_frame(&p, i, 500);
    pair_send_frame(&p, id++, 0, false, 500);
    pair_run(&p, 30 * MS); /* well before the frame would be given up: the host says that it is gone */
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_KEYFRAME_REQUEST);
    pair_free(&p);
}
END_TEST

START_TEST(memory_is_bounded_whatever_the_host_claims)
{
    struct pair p = pair_new();
    for (uint32_t id = 0; id < 300; id++) {
        uint8_t frame[3 + 13 + 1152] = {RIFT_WIRE_VIDEO};
        struct wv_writer w;
        wv_writer_init(&w, frame + 1, sizeof frame - 1);
        wv_write_u16(&w, 13 + 1152);
        wv_write_u32(&w, id);
        wv_write_u16(&w, 0);
        wv_write_u8(&w, 0);
        wv_write_u16(&w, 3641);
        wv_write_u16(&w, 1152);
        wv_write_u16(&w, 0);
        rift_session_frames(p.client, frame, sizeof frame, 0, p.now);
        ck_assert_uint_le(pair_stats(p.client).memory_bytes, 14u << 20);
    }
    pair_free(&p);
}
END_TEST

/* ---- time ---- */

START_TEST(round_trip_and_clock_offset_are_measured)
{
    struct rift_session *host, *client;
    struct rift_session_config a = pair_config(RIFT_ROLE_HOST), b = pair_config(RIFT_ROLE_CLIENT);
    const uint64_t host_clock = 5 * WV_NS_PER_S, one_way = 7 * MS;
    rift_session_new(&host, &a, START + host_clock);
    rift_session_new(&client, &b, START);
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    ck_assert_int_eq(rift_session_send(client, d, sizeof d, START, &len), 0);
    rift_session_receive(host, d, len, START + one_way + host_clock);
    /* The host takes its time to answer; that is no part of the round trip. */
    uint64_t answered = START + one_way + 3 * MS;
    ck_assert_int_eq(rift_session_send(host, d, sizeof d, answered + host_clock, &len), 0);
    rift_session_receive(client, d, len, answered + one_way);
    struct rift_session_stats stats = pair_stats(client);
    ck_assert_uint_eq(stats.rtt_ns, 2 * one_way);
    ck_assert_uint_eq(stats.rtt_min_ns, 2 * one_way);
    ck_assert_int_eq(stats.clock_offset_ns, (int64_t)host_clock);
    rift_session_free(host);
    rift_session_free(client);
}
END_TEST

START_TEST(a_still_session_is_nearly_silent)
{
    struct pair p = pair_new();
    rift_session_send_cursor(p.host, &(struct rift_cursor){.x = 1}, p.now);
    pair_send_frame(&p, 0, 0, true, 20000);
    pair_run(&p, MS);
    struct rift_event e;
    while (rift_session_next_event(p.client, &e) == 0)
        ;
    pair_run(&p, 5 * WV_NS_PER_S);
    uint64_t before = pair_stats(p.host).packets_sent + pair_stats(p.client).packets_sent;
    pair_run(&p, 10 * WV_NS_PER_S);
    uint64_t sent = pair_stats(p.host).packets_sent + pair_stats(p.client).packets_sent - before;
    ck_assert_uint_ge(sent, 20); /* keepalive */
    ck_assert_uint_le(sent, 44);
    pair_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session");
    TCase *t = tcase_create("session");
    suite_add_tcase(s, t);
    tcase_add_test(t, impossible_configurations_are_refused);
    tcase_add_test(t, functions_of_the_other_role_do_nothing);
    tcase_add_test(t, close_is_told_here_at_once_and_there_with_words);
    tcase_add_test(t, what_came_before_a_close_can_still_be_taken);
    tcase_add_test(t, silence_ends_the_session);
    tcase_add_test(t, the_last_counters_are_kept_for_goodbye);
    tcase_add_test(t, the_receiver_id_is_read_from_data_datagrams_only);
    tcase_add_test(t, forged_replayed_and_misaddressed_change_nothing);
    tcase_add_test(t, unknown_frames_are_skipped_or_end_the_datagram);
    tcase_add_test(t, classes_leave_in_strict_order);
    tcase_add_test(t, control_survives_the_loss_of_any_datagram);
    tcase_add_test(t, control_to_a_deaf_peer_is_bounded);
    tcase_add_test(t, a_control_message_without_end_ends_the_session);
    tcase_add_test(t, a_frame_is_there_with_its_last_datagram);
    tcase_add_test(t, bad_frames_are_refused);
    tcase_add_test(t, any_lost_fragment_comes_again);
    tcase_add_test(t, a_wholly_lost_frame_comes_again);
    tcase_add_test(t, what_is_too_late_is_given_up_and_a_keyframe_asked_for);
    tcase_add_test(t, a_late_joiner_asks_for_a_keyframe);
    tcase_add_test(t, a_keyframe_overtakes_what_is_missing);
    tcase_add_test(t, a_new_epoch_replaces_what_is_unsent);
    tcase_add_test(t, too_much_unsent_is_refused_and_the_gap_is_told);
    tcase_add_test(t, memory_is_bounded_whatever_the_host_claims);
    tcase_add_test(t, round_trip_and_clock_offset_are_measured);
    tcase_add_test(t, a_still_session_is_nearly_silent);
    return wv_run_suite(s);
}
