/* The transport stage and identity: keys passed on, who controls, who may connect and who is out. */
#include "lib/base/util.h"
#include "services/identity/internal.h"
#include "services/identity/live_page.h"
#include "tests/unit/transport_waits.h"

#include <linux/input-event-codes.h>
#include <stdio.h>
#include <string.h>

static bool does_not_control(struct kit *k, void *argument)
{
    return !((struct kit_client *)argument)->controls;
}

/* ---- identity's word ---- */

static bool has_key(struct kit *k, void *argument)
{
    struct kit_client *c = argument;
    return k->kid && c->granted_kid == k->kid && memcmp(c->granted_key, k->media_key, 32) == 0;
}

static void encoder_asks(void)
{
    /* As an encoder's first word, by the kit's own bus: the kit stands in for that link. */
    wv_arbiter_on_media_key_question(kit.identity, NULL, wv_now_ns());
}

START_TEST(viewers_get_the_media_key_through_the_transport)
{
    static struct kit_client first, second;
    connect_client(&first, 1, false);
    encoder_asks();
    kit_until(&kit, has_key, &first);
    connect_client(&second, 2, true);
    kit_until(&kit, has_key, &second);
    ck_assert_uint_eq(first.n_inner_bad + second.n_inner_bad, 0);
    /* One leaves: another key, for those who stay, before the encoder has it. */
    uint32_t kid = kit.kid;
    rift_session_close(second.session, RIFT_CLOSE_NORMAL, "", wv_now_ns());
    wait_viewers(1);
    while (kit.kid == kid)
        kit_run(&kit, 50);
    kit_until(&kit, has_key, &first);
    ck_assert_uint_eq(second.granted_kid, kid);
}
END_TEST

START_TEST(a_new_transport_passes_on_what_the_last_one_did_not)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    kit_transport_kill(&kit);
    encoder_asks(); /* and its client can't be told */
    kit_run(&kit, 30);
    ck_assert(!has_key(&kit, &c));
    kit_transport_start(&kit);
    kit_until(&kit, has_key, &c);
    ck_assert_uint_eq(c.n_inner_bad, 0);
}
END_TEST

START_TEST(control_is_taken_by_asking_identity)
{
    static struct kit_client first, second;
    connect_controller(&first, 1);
    connect_client(&second, 2, false);
    kit_client_key(&first, KEY_A, true);
    kit_until(&kit, has_event, NULL);
    Wavry__Rift__TakeControl take = WAVRY__RIFT__TAKE_CONTROL__INIT;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL;
    m.take_control = &take;
    kit_client_inner(&second, &m);
    kit_until(&kit, controls, &second);
    kit_until(&kit, has_release, NULL);
    kit_until(&kit, does_not_control, &first);
    kit.n_events = 0;
    kit_client_key(&first, KEY_B, true);
    wait_metric(WV_T_INPUT_DROPPED_VIEWER, 1);
    kit_client_key(&second, KEY_C, true);
    kit_until(&kit, has_event, NULL);
    ck_assert_uint_eq(kit.events[0].code, KEY_C);
    /* And back: numbers go on where they were. */
    kit_client_inner(&first, &m);
    kit_until(&kit, controls, &first);
    kit.n_events = 0;
    kit_client_key(&first, KEY_D, true);
    kit_until(&kit, has_event, NULL);
    ck_assert_uint_eq(kit.events[0].code, KEY_D);
    ck_assert_uint_eq(kit.events[0].seq, 3);
}
END_TEST

START_TEST(a_chatty_client_is_cut_short)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    Wavry__Rift__TakeControl take = WAVRY__RIFT__TAKE_CONTROL__INIT;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL;
    m.take_control = &take;
    /* Five a second pass: on a busy machine that may be most of a hundred. */
    for (unsigned i = 0; i < 3000 && kit_metric(&kit, WV_T_INNER_DROPPED) < 50; i++) {
        kit_client_inner(&c, &m);
        kit_run(&kit, 2);
    }
    ck_assert_uint_ge(kit_metric(&kit, WV_T_INNER_DROPPED), 50);
    ck_assert(!c.closed);
}
END_TEST

START_TEST(a_stranger_gets_no_answer_unless_somebody_pairs)
{
    static struct kit_client stranger, third, fourth;
    char reply[2048];
    kit_stranger_init(&kit, &stranger, 5);
    wait_metric(WV_T_DROPPED_UNKEYED, 2);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_HANDSHAKES_STARTED), 0);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_PACKETS_SENT), 0);
    kit_request(&kit, "pair", "", reply, sizeof reply);
    while (!stranger.session)
        kit_run(&kit, 20);
    kit_run(&kit, 200);
    ck_assert(!stranger.closed);
    ck_assert_uint_eq(stranger.n_hellos, 0);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS), 0);
    kit_push(&kit, true, 1, 1000, 0);
    rift_session_request_keyframe(stranger.session, wv_now_ns());
    kit_client_key(&stranger, KEY_A, true);
    kit_run(&kit, 100);
    ck_assert_uint_eq(stranger.n_frames, 0);
    ck_assert_uint_eq(kit.n_events, 0);
    /* Two at once, no more. */
    kit_stranger_init(&kit, &third, 6);
    kit_stranger_init(&kit, &fourth, 7);
    while (!third.session || !fourth.session || !(stranger.closed + third.closed + fourth.closed))
        kit_run(&kit, 20);
    kit_run(&kit, 100);
    ck_assert_uint_eq(stranger.closed + third.closed + fourth.closed, 1);
    ck_assert_uint_eq(kit.encoder_viewers, 0);
}
END_TEST

/* ---- who may connect ---- */

START_TEST(an_unknown_key_is_told_so)
{
    static struct kit_client c;
    kit_client_init(&kit, &c, 9, false);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_UNAUTHORIZED);
    ck_assert_uint_eq(c.n_hellos, 0);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_STARTED), 0);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_HANDSHAKES_UNKNOWN_KEY), 1);
    ck_assert_uint_eq(kit.encoder_viewers, 0);
}
END_TEST

START_TEST(the_same_key_replaces_its_session)
{
    static struct kit_client old, new;
    connect_client(&old, 1, false);
    connect_client(&new, 1, false);
    kit_until(&kit, client_is_closed, &old);
    ck_assert_int_eq(old.reason, RIFT_CLOSE_REPLACED);
    kit_until(&kit, controls, &new);
    wait_viewers(1);
}
END_TEST

START_TEST(no_more_clients_than_places)
{
    static struct kit_client c[9];
    for (uint8_t i = 0; i < 8; i++)
        connect_client(&c[i], (uint8_t)(i + 1), false);
    kit_authorize(&kit, 9, "late");
    kit_client_init(&kit, &c[8], 9, false);
    kit_until(&kit, client_is_closed, &c[8]);
    ck_assert_int_eq(c[8].reason, RIFT_CLOSE_BUSY);
    wait_page(8);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS), 8);
}
END_TEST

START_TEST(a_revoked_key_is_out_at_once)
{
    static struct kit_client c;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    connect_client(&c, 1, false);
    rift_public_key_format(c.identity.public, key);
    kit_request(&kit, "revoke", key, NULL, 0);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_REVOKED);
    kit_client_fini(&c);
    kit_client_init(&kit, &c, 1, false);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_UNAUTHORIZED);
}
END_TEST

START_TEST(a_key_taken_out_of_the_file_is_out_at_once)
{
    static struct kit_client c;
    char path[128];
    connect_client(&c, 1, false);
    snprintf(path, sizeof path, "%s/identity/peers", kit.folder);
    ck_assert_int_eq(wv_write_file_atomic(path, "# nobody\n", 9, 0600), 0);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_REVOKED);
}
END_TEST

START_TEST(a_session_outlives_the_identity_stage)
{
    static struct kit_client c, late;
    connect_client(&c, 1, false);
    kit_authorize(&kit, 2, "late");
    kit_identity_kill(&kit);
    kit_client_init(&kit, &late, 2, false);
    wait_metric(WV_T_DROPPED_UNANSWERED, 1);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    kit_identity_start(&kit);
    kit_client_connected(&kit, &late);
    ck_assert(!c.closed);
    ck_assert_mem_eq(c.host_key, late.host_key, 32);
}
END_TEST

/* Also one that began long after this transport last had anything to tell: identity hears of it by itself. */
START_TEST(a_session_that_identity_forgot_is_told_so)
{
    static const uint8_t zero[WV_LIVE_PAGE_BYTES];
    static struct kit_client c;
    kit_run(&kit, 700);
    connect_client(&c, 1, false);
    kit_run(&kit, 50);
    kit_identity_kill(&kit);
    ck_assert_int_eq(pwrite(kit.identity_page_fd, zero, sizeof zero, 0), sizeof zero);
    kit_identity_start(&kit);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_SHUTDOWN);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transport and identity");
    TCase *c = tcase_create("stage");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, viewers_get_the_media_key_through_the_transport);
    tcase_add_test(c, a_new_transport_passes_on_what_the_last_one_did_not);
    tcase_add_test(c, control_is_taken_by_asking_identity);
    tcase_add_test(c, a_chatty_client_is_cut_short);
    tcase_add_test(c, a_stranger_gets_no_answer_unless_somebody_pairs);
    tcase_add_test(c, an_unknown_key_is_told_so);
    tcase_add_test(c, the_same_key_replaces_its_session);
    tcase_add_test(c, no_more_clients_than_places);
    tcase_add_test(c, a_revoked_key_is_out_at_once);
    tcase_add_test(c, a_key_taken_out_of_the_file_is_out_at_once);
    tcase_add_test(c, a_session_outlives_the_identity_stage);
    tcase_add_test(c, a_session_that_identity_forgot_is_told_so);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
