/* What is between the client and the host's inner stages: keys of pictures and cursors, who controls,
 * pairing, and disconnecting at every step of it. The host runs in the same process, over real UDP on
 * loopback. */
#include "client/wavry_client.h"
#include "lib/base/util.h"
#include "proto/rift.pb-c.h"
#include "tests/unit/client_fake_host.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_NS (20 * WV_NS_PER_S)

enum call {
    CALL_NONE,
    CALL_STATE,
    CALL_UNIT,
    CALL_PICTURE,
    CALL_IMAGE,
    CALL_HELLO,
    CALL_STANDING,
    CALL_LAST
};

static struct {
    struct wv_loop *loop;
    struct wv_loop_source *check;
    struct fake_host host;
    struct wv_client *client;
    struct rift_identity identity;
    bool (*until)(void);
    uint64_t deadline;
    bool timed_out;
    unsigned datagrams; /* of the host's, to wait for */
    unsigned forged;    /* frames, to wait for */

    enum call close_in;
    unsigned units, pictures, images, hellos, standings;
    bool controls;
    char text[WV_CLIENT_TEXT_BYTES], notice[600];
    enum wv_client_reason reason;
    struct wv_client_standing standing;
    struct {
        unsigned n;
        enum wv_client_pair_outcome outcome;
        uint8_t key[32];
        uint32_t tries_left;
        char reason[128];
    } pair;
} t;

static void called(enum call call)
{
    if (t.close_in == call)
        wv_client_close(t.client);
}

static void on_state(void *userdata, enum wv_client_state state, enum wv_client_reason reason,
                     const char *text)
{
    t.reason = reason;
    snprintf(t.text, sizeof t.text, "%s", text);
    if (state == WV_CLIENT_CONNECTED)
        called(CALL_STATE);
}

static void on_unit(void *userdata, const struct rift_frame_meta *meta, const uint8_t *data, size_t len)
{
    t.units++;
    called(CALL_UNIT);
}

static void on_picture(void *userdata, const struct wv_client_picture *picture)
{
    t.pictures++;
    wv_client_presented(t.client, wv_now_ns());
    called(CALL_PICTURE);
}

static void on_image(void *userdata, uint32_t id, uint32_t width, uint32_t height, uint32_t hot_x,
                     uint32_t hot_y, const uint8_t *bgra)
{
    t.images++;
    ck_assert_uint_eq(bgra[width * height * 4 - 1], 0x7f);
    called(CALL_IMAGE);
}

static void on_hello(void *userdata, const char *name, uint32_t width, uint32_t height, bool controls,
                     const char *notice)
{
    t.hellos++;
    t.controls = controls;
    snprintf(t.notice, sizeof t.notice, "%s", notice);
    called(CALL_HELLO);
}

static void on_standing(void *userdata, const struct wv_client_standing *standing)
{
    t.standings++;
    t.standing = *standing;
    called(CALL_STANDING);
}

static void on_paired(void *userdata, enum wv_client_pair_outcome outcome, const uint8_t host_key[32],
                      uint32_t tries_left, const char *reason)
{
    t.pair.n++;
    t.pair.outcome = outcome;
    t.pair.tries_left = tries_left;
    memcpy(t.pair.key, host_key, 32);
    snprintf(t.pair.reason, sizeof t.pair.reason, "%s", reason);
}

static const struct wv_client_callbacks callbacks = {
    .state = on_state,
    .access_unit = on_unit,
    .picture = on_picture,
    .cursor_image = on_image,
    .host_hello = on_hello,
    .standing = on_standing,
    .paired = on_paired,
};

static int on_check(void *userdata, uint64_t now)
{
    t.timed_out = now >= t.deadline;
    if ((t.until && t.until()) || t.timed_out)
        wv_loop_quit(t.loop, 0);
    return 0;
}

static void run_for(uint64_t ns)
{
    t.until = NULL;
    t.deadline = wv_now_ns() + ns;
    ck_assert_int_eq(wv_loop_run(t.loop), 0);
}

static void run_until(bool (*until)(void))
{
    t.until = until;
    t.deadline = wv_now_ns() + PATIENCE_NS;
    ck_assert_int_eq(wv_loop_run(t.loop), 0);
    ck_assert_msg(until(), "waited in vain; said: %s", t.text);
}

static void setup(void)
{
    memset(&t, 0, sizeof t);
    ck_assert_int_eq(rift_crypto_init(), 0);
    rift_identity_generate(&t.identity);
    ck_assert_int_eq(wv_loop_new(&t.loop), 0);
    ck_assert_int_eq(wv_loop_add_timer(t.loop, on_check, NULL, &t.check), 0);
    wv_loop_timer_every(t.check, WV_NS_PER_MS);
    fake_host_init(&t.host, t.loop, 0, 320, 180);
}

static void teardown(void)
{
    t.client = wv_client_free(t.client);
    fake_host_fini(&t.host);
    wv_loop_free(t.loop);
}

static void start(bool decode)
{
    const struct wv_client_options options = {.host = "127.0.0.1",
                                              .port = t.host.port,
                                              .identity = &t.identity,
                                              .host_key = t.host.handshake.identity.public,
                                              .no_decode = !decode};
    ck_assert_int_eq(wv_client_new(&t.client, t.loop, &options, &callbacks, NULL), 0);
}

static struct wv_client_stats stats(void)
{
    struct wv_client_stats s;
    wv_client_get_stats(t.client, &s);
    return s;
}

static bool ten_pictures(void)
{
    return t.pictures >= 10;
}

static bool five_frames_came(void)
{
    return stats().frames_received >= 5;
}

/* ---- pictures ---- */

START_TEST(frames_wait_for_their_key)
{
    t.host.keep_key = true;
    fake_host_stream(&t.host, true);
    start(true);
    run_until(five_frames_came);
    ck_assert_uint_eq(t.pictures, 0);
    ck_assert_uint_eq(t.units, 0);
    fake_host_grant_key(&t.host, false);
    run_until(ten_pictures);
    ck_assert_uint_eq(stats().frames_unkeyed, 0);
    ck_assert_uint_eq(stats().frames_forged, 0);
    ck_assert_uint_eq(stats().decode_errors, 0);
    ck_assert_uint_ge(t.units, 5);
}
END_TEST

static bool gave_up_waiting(void)
{
    return stats().frames_unkeyed >= 2 && t.host.keyframe_requests >= 1;
}

START_TEST(a_key_that_never_comes_is_not_waited_for)
{
    t.host.keep_key = true;
    fake_host_stream(&t.host, true);
    start(true);
    run_until(gave_up_waiting);
    ck_assert_uint_eq(t.units, 0);
    fake_host_grant_key(&t.host, false);
    run_until(ten_pictures);
}
END_TEST

static bool nothing_waits(void)
{
    return stats().frames_received == t.units;
}

START_TEST(a_new_key_loses_no_frame)
{
    fake_host_stream(&t.host, true);
    start(true);
    run_until(ten_pictures);
    for (unsigned i = 0; i < 8; i++) {
        fake_host_grant_key(&t.host, true);
        run_for(60 * WV_NS_PER_MS);
    }
    ck_assert_uint_eq(t.host.kid, 9);
    run_until(nothing_waits); /* the last key may still be on its way */
    struct wv_client_stats s = stats();
    ck_assert_uint_eq(s.frames_forged + s.frames_unkeyed + s.decode_errors, 0);
}
END_TEST

static bool forged_was_seen(void)
{
    return stats().frames_forged == t.forged;
}

/* One at a time: frames behind one that was lost are not handed out, and are no longer looked at. */
START_TEST(a_forged_frame_is_never_decoded)
{
    fake_host_stream(&t.host, true);
    start(true);
    run_until(ten_pictures);
    for (t.forged = 1; t.forged <= 3; t.forged++) {
        unsigned units = t.units;
        uint64_t requests = t.host.keyframe_requests;
        t.host.forge_frames = 1;
        run_until(forged_was_seen);
        t.pictures = 0;
        run_until(ten_pictures);
        struct wv_client_stats s = stats();
        ck_assert_uint_gt(t.units, units);
        ck_assert_uint_eq(s.frames_forged, t.forged);
        ck_assert_uint_gt(t.host.keyframe_requests, requests);
        ck_assert_uint_eq(s.decode_errors, 0); /* what built on it was left out */
        ck_assert_uint_le(t.units + t.forged, s.frames_received);
    }
}
END_TEST

static bool keyframes_were_forged(void)
{
    return t.host.forge_keyframes == 0;
}

/* The session's request ends when a keyframe has come, and whether that one opens is not its business. */
START_TEST(a_forged_keyframe_is_asked_for_again)
{
    fake_host_stream(&t.host, true);
    start(true);
    run_until(ten_pictures);
    t.host.forge_keyframes = 3;
    t.host.forge_frames = 1;
    run_until(keyframes_were_forged);
    t.pictures = 0;
    run_until(ten_pictures);
    ck_assert_uint_eq(stats().frames_forged, 4);
    ck_assert_uint_ge(t.host.keyframe_requests, 4);
}
END_TEST

/* ---- the cursor's shape ---- */

static bool one_image(void)
{
    return t.images >= 1;
}

static bool one_control_error(void)
{
    return stats().control_errors >= 1;
}

static bool connected(void)
{
    return wv_client_get_state(t.client) == WV_CLIENT_CONNECTED && t.hellos;
}

START_TEST(the_cursor_has_a_shape)
{
    start(false);
    run_until(connected);
    fake_host_send_cursor_image(&t.host, 7, 16, true);
    run_until(one_control_error);
    ck_assert_uint_eq(t.images, 0);
    fake_host_send_cursor_image(&t.host, 7, 32, false);
    run_until(one_image);
}
END_TEST

START_TEST(a_shape_waits_for_its_key)
{
    t.host.keep_key = true;
    start(false);
    run_until(connected);
    fake_host_stream(&t.host, true); /* makes the key, and grants it to nobody */
    fake_host_send_cursor_image(&t.host, 7, 16, false);
    fake_host_send_cursor_image(&t.host, 8, 16, false);
    run_for(100 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.images, 0);
    fake_host_grant_key(&t.host, false);
    run_until(one_image);
    run_for(100 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.images, 1); /* the newest */
    ck_assert_uint_eq(stats().control_errors, 0);
}
END_TEST

START_TEST(a_shape_that_transport_could_have_made_is_not_shown)
{
    start(false);
    run_until(connected);
    uint8_t pixels[4 * 4 * 4] = {0}, buffer[256];
    Wavry__Rift__CursorImage image = WAVRY__RIFT__CURSOR_IMAGE__INIT;
    image.width = image.height = 4;
    image.argb = (ProtobufCBinaryData){.len = sizeof pixels, .data = pixels};
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_CURSOR_IMAGE;
    m.cursor_image = &image;
    fake_host_send_control(&t.host, buffer, wavry__rift__control_message__pack(&m, buffer));
    run_for(200 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.images, 0);
}
END_TEST

/* ---- who controls ---- */

static bool other_controls(void)
{
    return t.standings && !t.controls && strcmp(t.notice, "Ann controls.?[2J") == 0;
}

static bool controls_now(void)
{
    return t.controls;
}

static bool may_only_look(void)
{
    return !t.controls && t.standing.grants == WV_CLIENT_GRANT_VIEW;
}

static bool no_picture_was_said(void)
{
    return strcmp(t.notice, "There is no picture.") == 0;
}

static bool host_was_asked(void)
{
    return t.host.takes == 1;
}

static bool host_was_given_back(void)
{
    return t.host.releases == 1;
}

START_TEST(control_is_taken_and_given_back)
{
    static const char *const grants[] = {"view", "input", "from-the-future"};
    t.host.standing_follows = true;
    start(false);
    run_until(connected);
    ck_assert(t.controls); /* transport's word, while there is no better one */
    ck_assert_int_eq(wv_client_take_control(t.client, false), -EPERM);
    fake_host_send_standing(&t.host, grants, 3, false, "Ann controls.\x1b[2J");
    run_until(other_controls);
    ck_assert_uint_eq(t.standing.grants, WV_CLIENT_GRANT_VIEW | WV_CLIENT_GRANT_INPUT);
    ck_assert_int_eq(wv_client_take_control(t.client, false), 0);
    run_until(host_was_asked);
    fake_host_send_standing(&t.host, grants, 2, true, "");
    run_until(controls_now);
    ck_assert_int_eq(wv_client_take_control(t.client, true), 0);
    run_until(host_was_given_back);
    /* Transport's greeting does not change what identity has said. */
    fake_host_send_standing(&t.host, grants, 1, false, "");
    run_until(may_only_look);
    fake_host_send_hello(&t.host, "fake", "There is no picture.");
    run_until(no_picture_was_said);
    ck_assert(!t.controls);
    ck_assert_int_eq(wv_client_take_control(t.client, false), -EPERM);
    ck_assert_uint_eq(t.host.bad_inner, 0);
}
END_TEST

static bool five_control_errors(void)
{
    return stats().control_errors >= 5;
}

static bool six_control_errors(void)
{
    return stats().control_errors >= 6;
}

START_TEST(what_is_not_identitys_is_not_believed)
{
    start(false);
    run_until(connected);
    unsigned standings = t.standings;
    uint8_t sealed[64] = {1}, buffer[128];
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    for (size_t len = 0; len <= sizeof sealed; len += 16) {
        m.inner = (ProtobufCBinaryData){.len = len, .data = sealed};
        fake_host_send_control(&t.host, buffer, wavry__rift__control_message__pack(&m, buffer));
    }
    run_until(five_control_errors);
    ck_assert_uint_eq(t.standings, standings);
    static const uint8_t rubbish[] = {0xff, 0xff, 0xff, 0x7f};
    fake_host_send_inner(&t.host, rubbish, sizeof rubbish); /* authentic, and still nonsense */
    run_until(six_control_errors);
    run_for(100 * WV_NS_PER_MS);
    ck_assert_uint_eq(stats().control_errors, 6);
    ck_assert(connected());
}
END_TEST

/* ---- pairing ---- */

static bool paired(void)
{
    return t.pair.n > 0;
}

static void start_pairing(const char *code, size_t len, bool token, bool key)
{
    const struct wv_client_pair pair = {
        .secret = (const uint8_t *)code, .secret_len = len, .token = token, .name = "Ann's\x1b laptop"};
    const struct wv_client_options options = {.host = "127.0.0.1",
                                              .port = t.host.port,
                                              .identity = &t.identity,
                                              .host_key = key ? t.host.handshake.identity.public : NULL,
                                              .pair = &pair};
    rift_responder_set_keys(t.host.handshake.responder, t.host.handshake.identity.public, !key);
    ck_assert_int_eq(wv_client_new(&t.client, t.loop, &options, &callbacks, NULL), 0);
}

static void host_code(const char *code, size_t len)
{
    t.host.code = code;
    t.host.code_len = len;
}

START_TEST(the_right_secret_pairs)
{
    static const char token[16] = "\0\1\2\3tokenbytes\xff";
    bool by_url = _i;
    host_code(by_url ? token : "12345678", by_url ? 16 : 8);
    start_pairing(t.host.code, t.host.code_len, by_url, by_url);
    run_until(paired);
    ck_assert_uint_eq(t.pair.outcome, WV_CLIENT_PAIRED);
    ck_assert_int_eq(memcmp(t.pair.key, t.host.handshake.identity.public, 32), 0);
    ck_assert_uint_eq(t.host.paired, 1);
    ck_assert(t.host.pair_token == by_url);
    ck_assert_str_eq(t.host.pair_name, "Ann's? laptop");
    ck_assert_uint_eq(wv_client_get_state(t.client), WV_CLIENT_CLOSED);
    ck_assert_uint_eq(t.pair.n, 1);
    ck_assert_uint_eq(t.host.n_inputs, 0);
}
END_TEST

START_TEST(a_wrong_code_is_one_try)
{
    host_code("12345678", 8);
    start_pairing("12345679", 8, false, false);
    run_until(paired);
    ck_assert_uint_eq(t.pair.outcome, WV_CLIENT_PAIR_WRONG);
    ck_assert_uint_eq(t.pair.tries_left, 2);
    ck_assert_str_eq(t.pair.reason, "wrong?code");
    run_for(500 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.host.pair_starts, 1); /* not again by itself */
    ck_assert_uint_eq(t.pair.n, 1);
}
END_TEST

START_TEST(a_host_that_does_not_know_the_code_is_not_believed)
{
    host_code("99999999", 8);
    t.host.lie = true;
    start_pairing("12345678", 8, false, false);
    run_until(paired);
    ck_assert_uint_eq(t.pair.outcome, WV_CLIENT_PAIR_UNPROVEN);
    ck_assert_uint_eq(t.host.paired, 0);
}
END_TEST

START_TEST(a_host_that_says_nothing_is_not_waited_for)
{
    host_code("12345678", 8);
    t.host.stall = (unsigned)_i;
    start_pairing("12345678", 8, false, false);
    run_until(paired);
    ck_assert_uint_eq(t.pair.outcome, WV_CLIENT_PAIR_LOST);
    ck_assert_uint_eq(t.host.pair_starts, 1);
}
END_TEST

static bool said(void)
{
    return t.text[0] != '\0';
}

START_TEST(pairing_that_is_not_open_is_said)
{
    host_code("12345678", 8);
    t.host.refuse = true;
    t.host.refuse_reason = RIFT_CLOSE_UNAUTHORIZED;
    t.host.refuse_text = "closed after 10 failures";
    start_pairing("12345678", 8, false, false);
    run_until(said);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_UNPAIRED);
    ck_assert_ptr_nonnull(strstr(t.text, "closed after 10 failures"));
    ck_assert_uint_eq(wv_client_get_state(t.client), WV_CLIENT_REFUSED);
}
END_TEST

START_TEST(a_host_without_a_code_does_not_answer)
{
    host_code("12345678", 8);
    start_pairing("12345678", 8, false, false);
    rift_responder_set_keys(t.host.handshake.responder, t.host.handshake.identity.public, false);
    run_until(said);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_NO_CODE);
    ck_assert_uint_eq(t.host.handshake.asked[1], 0);
}
END_TEST

/* ---- disconnecting at every step ---- */

static bool enough_datagrams(void)
{
    return t.host.n_datagrams >= t.datagrams;
}

/* The client goes, or the host does, after every number of datagrams from none to a running stream. */
START_TEST(a_disconnect_at_every_step_is_survived)
{
    t.datagrams = (unsigned)_i / 2;
    bool pairing = _i % 2;
    if (pairing) {
        host_code("12345678", 8);
        start_pairing("12345678", 8, false, false);
        t.until = enough_datagrams;
        t.deadline = wv_now_ns() + 300 * WV_NS_PER_MS; /* a run that is over sends no more */
        ck_assert_int_eq(wv_loop_run(t.loop), 0);
    } else {
        fake_host_stream(&t.host, true);
        start(true);
        run_until(enough_datagrams);
    }
    if (t.host.session && t.datagrams % 2) {
        t.host.refuse = true;
        rift_session_close(t.host.session, RIFT_CLOSE_REVOKED, "", wv_now_ns());
        run_for(20 * WV_NS_PER_MS);
    }
    t.client = wv_client_free(t.client);
    run_for(10 * WV_NS_PER_MS);
}
END_TEST

static bool is_closed(void)
{
    return wv_client_get_state(t.client) == WV_CLIENT_CLOSED;
}

START_TEST(closing_in_any_callback_is_safe)
{
    t.close_in = (enum call)_i;
    fake_host_stream(&t.host, true);
    start(true);
    if (t.close_in == CALL_IMAGE) {
        run_until(ten_pictures);
        fake_host_send_cursor_image(&t.host, 7, 16, false);
    }
    run_until(is_closed);
    run_for(30 * WV_NS_PER_MS);
}
END_TEST

int main(void)
{
    h264_maker_prepare();
    Suite *s = suite_create("client, the inner channel");
    TCase *c = tcase_create("inner");
    suite_add_tcase(s, c);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, frames_wait_for_their_key);
    tcase_add_test(c, a_key_that_never_comes_is_not_waited_for);
    tcase_add_test(c, a_new_key_loses_no_frame);
    tcase_add_test(c, a_forged_frame_is_never_decoded);
    tcase_add_test(c, a_forged_keyframe_is_asked_for_again);
    tcase_add_test(c, the_cursor_has_a_shape);
    tcase_add_test(c, a_shape_waits_for_its_key);
    tcase_add_test(c, a_shape_that_transport_could_have_made_is_not_shown);
    tcase_add_test(c, control_is_taken_and_given_back);
    tcase_add_test(c, what_is_not_identitys_is_not_believed);
    tcase_add_loop_test(c, the_right_secret_pairs, 0, 2);
    tcase_add_test(c, a_wrong_code_is_one_try);
    tcase_add_test(c, a_host_that_does_not_know_the_code_is_not_believed);
    tcase_add_loop_test(c, a_host_that_says_nothing_is_not_waited_for, 1, 3);
    tcase_add_test(c, pairing_that_is_not_open_is_said);
    tcase_add_test(c, a_host_without_a_code_does_not_answer);
    tcase_add_loop_test(c, a_disconnect_at_every_step_is_survived, 0, 40);
    tcase_add_loop_test(c, closing_in_any_callback_is_safe, CALL_STATE, CALL_LAST);
    return wv_run_suite(s);
}
