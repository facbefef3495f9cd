/* The library against a host in the same process, over real UDP on loopback: how sessions come, what they
 * carry, and what a person is told when they don't come, break or are refused. */
#include "client/wavry_client.h"
#include "lib/base/util.h"
#include "tests/unit/client_fake_host.h"
#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define PATIENCE_NS (20 * WV_NS_PER_S)

/* Everything that a test looks at. */
static struct {
    struct wv_loop *loop;
    struct wv_loop_source *check;
    struct fake_host host;
    struct wv_client *client;
    struct rift_identity identity;
    bool (*until)(void);
    uint64_t deadline;
    bool timed_out;

    unsigned wanted_pictures;
    uint64_t connects;
    unsigned states[WV_CLIENT_CLOSED + 1], pictures, units, hellos, images, cursors, standings;
    bool hold_presented, close_in_unit, controls;
    struct wv_client_standing standing;
    enum wv_client_reason reason;
    char text[WV_CLIENT_TEXT_BYTES], name[64], notice[256];
    int left;
    int width, height;
    struct rift_cursor cursor;
    uint32_t image_id;
    struct {
        bool done;
        enum wv_client_pair_outcome outcome;
        uint8_t key[32];
        uint32_t tries_left;
        char reason[128];
    } pair;
} t;

static void on_state(void *userdata, enum wv_client_state state, enum wv_client_reason reason,
                     const char *text)
{
    t.states[state]++;
    t.reason = reason;
    snprintf(t.text, sizeof t.text, "%s", text);
}

static void on_unit(void *userdata, const struct rift_frame_meta *meta, const uint8_t *data, size_t len)
{
    t.units++;
    if (t.close_in_unit)
        wv_client_close(t.client);
}

static void on_picture(void *userdata, const struct wv_client_picture *p)
{
    t.pictures++;
    t.width = p->width;
    t.height = p->height;
    t.left = p->plane[0][(p->height / 2) * p->stride[0] + p->width / 4];
    if (!t.hold_presented)
        wv_client_presented(t.client, wv_now_ns());
}

static void on_cursor(void *userdata, const struct rift_cursor *cursor)
{
    t.cursors++;
    t.cursor = *cursor;
}

static void on_cursor_image(void *userdata, uint32_t id, uint32_t width, uint32_t height, uint32_t hot_x,
                            uint32_t hot_y, const uint8_t *bgra)
{
    t.images++;
    t.image_id = id;
}

static void on_standing(void *userdata, const struct wv_client_standing *standing)
{
    t.standings++;
    t.standing = *standing;
}

static void on_paired(void *userdata, enum wv_client_pair_outcome outcome, const uint8_t host_key[32],
                      uint32_t tries_left, const char *reason)
{
    ck_assert(!t.pair.done);
    t.pair.done = true;
    t.pair.outcome = outcome;
    t.pair.tries_left = tries_left;
    memcpy(t.pair.key, host_key, 32);
    snprintf(t.pair.reason, sizeof t.pair.reason, "%s", reason);
}

static void on_hello(void *userdata, const char *name, uint32_t width, uint32_t height, bool controls,
                     const char *notice)
{
    t.hellos++;
    t.controls = controls;
    snprintf(t.name, sizeof t.name, "%s", name);
    snprintf(t.notice, sizeof t.notice, "%s", notice);
}

static const struct wv_client_callbacks callbacks = {
    on_state, on_unit, on_picture, on_cursor, on_cursor_image, on_hello, on_standing, on_paired,
};

static int on_check(void *userdata, uint64_t now)
{
    if (t.until && t.until())
        wv_loop_quit(t.loop, 0);
    else if (now >= t.deadline) {
        t.timed_out = true;
        wv_loop_quit(t.loop, 0);
    }
    return 0;
}

/* Runs the loop until UNTIL holds; fails the test when it does not within PATIENCE_NS. */
static void run_until(bool (*until)(void))
{
    t.until = until;
    t.deadline = wv_now_ns() + PATIENCE_NS;
    ck_assert_int_eq(wv_loop_run(t.loop), 0);
    ck_assert_msg(!t.timed_out, "waited in vain; state %d, said: %s",
                  t.client ? (int)wv_client_get_state(t.client) : -1, t.text);
}

static void run_for(uint64_t ns)
{
    t.until = NULL;
    t.deadline = wv_now_ns() + ns;
    ck_assert_int_eq(wv_loop_run(t.loop), 0);
    t.timed_out = false;
}

static void setup(void)
{
    memset(&t, 0, sizeof t);
    ck_assert_int_eq(rift_crypto_init(), 0);
    rift_identity_generate(&t.identity);
    ck_assert_int_eq(wv_loop_new(&t.loop), 0);
    ck_assert_int_eq(wv_loop_add_timer(t.loop, on_check, NULL, &t.check), 0);
    wv_loop_timer_every(t.check, 2 * WV_NS_PER_MS);
}

static void teardown(void)
{
    t.client = wv_client_free(t.client);
    if (t.host.loop)
        fake_host_fini(&t.host);
    wv_loop_free(t.loop);
}

static void start_client(const char *host, uint16_t port, const uint8_t *key)
{
    static const uint8_t any[32] = {9};
    const struct wv_client_options options = {
        .host = host, .port = port, .identity = &t.identity, .host_key = key ? key : any};
    ck_assert_int_eq(wv_client_new(&t.client, t.loop, &options, &callbacks, NULL), 0);
}

static void start_both(void)
{
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    fake_host_stream(&t.host, true);
    start_client("127.0.0.1", t.host.port, t.host.handshake.identity.public);
}

static bool connected(void)
{
    return wv_client_get_state(t.client) == WV_CLIENT_CONNECTED;
}

static bool ten_pictures(void)
{
    return t.pictures >= 10;
}

static bool wanted_pictures(void)
{
    return t.pictures >= t.wanted_pictures;
}

static void run_for_pictures(unsigned more)
{
    t.wanted_pictures = t.pictures + more;
    run_until(wanted_pictures);
}

static bool refused(void)
{
    return wv_client_get_state(t.client) == WV_CLIENT_REFUSED;
}

static bool said_something(void)
{
    return t.text[0] != '\0';
}

static struct wv_client_stats stats(void)
{
    struct wv_client_stats s;
    wv_client_get_stats(t.client, &s);
    return s;
}

/* Rates and reports are of the second before; the newest picture may be with the decoder. */
static bool all_is_counted(void)
{
    struct wv_client_stats s = stats();
    return s.fps > 5 && s.bitrate_bps > 0 && t.host.n_reports >= 1 && s.frames_decoded == s.frames_received &&
           s.frames_decoded == s.frames_shown + s.frames_skipped;
}

START_TEST(pictures_come_and_are_counted)
{
    start_both();
    run_until(ten_pictures);
    run_until(all_is_counted);
    ck_assert(connected());
    ck_assert_uint_eq(t.standings, 1);
    ck_assert_uint_eq(t.standing.grants, WV_CLIENT_GRANT_VIEW | WV_CLIENT_GRANT_INPUT);
    ck_assert(t.controls);
    ck_assert_int_eq(memcmp(t.host.handshake.client_key, t.identity.public, 32), 0);
    ck_assert_str_eq(t.name, "fake");
    ck_assert_int_eq(t.width, 320);
    ck_assert_ptr_nonnull(strstr(t.host.software, "wavry-client"));
    struct wv_client_stats s = stats();
    ck_assert_uint_eq(s.connects, 1);
    ck_assert_uint_eq(s.frames_shown, t.pictures);
    ck_assert_uint_eq(s.frames_received, t.units);
    ck_assert_uint_eq(s.decode_errors, 0);
    ck_assert_uint_gt(s.media_bytes, 0);
    ck_assert(s.stage[WV_CLIENT_STAGE_DECODE].count == s.frames_decoded);
    ck_assert(s.stage[WV_CLIENT_STAGE_GLASS].count > 0);
    /* The picture is 2 ms old when it is sent. */
    ck_assert_uint_ge(s.stage[WV_CLIENT_STAGE_GLASS].p50_us, 2000);
}
END_TEST

static bool input_seen(void)
{
    return t.host.n_inputs >= 5 && t.left > 40 + KEY_B * 4 % 160 - 8 && t.left < 40 + KEY_B * 4 % 160 + 8;
}

START_TEST(input_arrives_in_order_and_changes_the_picture)
{
    start_both();
    run_until(ten_pictures);
    const struct rift_input_event events[] = {
        {.kind = RIFT_INPUT_POINTER_ABS, .x = 65535, .y = 0},
        {.kind = RIFT_INPUT_BUTTON, .code = BTN_LEFT, .down = 1},
        {.kind = RIFT_INPUT_BUTTON, .code = BTN_LEFT},
        {.kind = RIFT_INPUT_SCROLL, .y = -120},
        {.kind = RIFT_INPUT_KEY, .code = KEY_B, .down = 1},
    };
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t seq;
        ck_assert_int_eq(wv_client_send_input(t.client, &events[i], &seq), 0);
        ck_assert_uint_eq(seq, i + 1);
    }
    wv_client_flush(t.client);
    run_until(input_seen);
    for (uint32_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(t.host.inputs[i].kind, events[i].kind);
        ck_assert_uint_eq(t.host.inputs[i].code, events[i].code);
        ck_assert_int_eq(t.host.inputs[i].x, events[i].x);
        ck_assert_int_eq(t.host.inputs[i].y, events[i].y);
        ck_assert_uint_gt(t.host.inputs[i].time_us, 0);
    }
    ck_assert_uint_eq(stats().input_sent, 5);
    ck_assert_uint_eq(stats().stage[WV_CLIENT_STAGE_INPUT].count, 2); /* the two presses */
    ck_assert_int_eq(wv_client_send_input(
                         t.client, &(struct rift_input_event){.kind = RIFT_INPUT_KEY, .code = 5000}, NULL),
                     -EINVAL);
}
END_TEST

static bool client_gone(void)
{
    return t.host.client_closed;
}

START_TEST(a_goodbye_releases_everything)
{
    start_both();
    run_until(ten_pictures);
    wv_client_send_input(t.client,
                         &(struct rift_input_event){.kind = RIFT_INPUT_KEY, .code = KEY_A, .down = 1}, NULL);
    wv_client_close(t.client);
    ck_assert_uint_eq(wv_client_get_state(t.client), WV_CLIENT_CLOSED);
    run_until(client_gone);
    ck_assert_uint_eq(t.host.client_close, RIFT_CLOSE_NORMAL);
    ck_assert_uint_eq(t.host.inputs[t.host.n_inputs - 1].kind, RIFT_INPUT_RELEASE_ALL);
    unsigned pictures = t.pictures;
    run_for(300 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.pictures, pictures);
    ck_assert_int_eq(wv_client_send_input(t.client, &(struct rift_input_event){.kind = 6}, NULL), -ENOTCONN);
}
END_TEST

static bool closed(void)
{
    return wv_client_get_state(t.client) == WV_CLIENT_CLOSED && t.host.client_closed;
}

START_TEST(closing_inside_a_callback_is_safe)
{
    start_both();
    t.close_in_unit = true;
    run_until(closed);
    ck_assert_uint_eq(t.units, 1);
}
END_TEST

START_TEST(an_absent_host_is_said_and_awaited)
{
    /* A port that nobody listens on: taken once, given back. */
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    uint16_t port = t.host.port;
    uint8_t key[32];
    memcpy(key, t.host.handshake.identity.public, sizeof key);
    fake_host_fini(&t.host);
    t.host.loop = NULL;
    start_client("127.0.0.1", port, key);
    run_until(said_something);
    ck_assert_uint_eq(wv_client_get_state(t.client), WV_CLIENT_CONNECTING);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_ABSENT);
    ck_assert_ptr_nonnull(strstr(t.text, "No Wavry host with the known key answers at 127.0.0.1"));
    ck_assert_ptr_nonnull(strstr(t.text, "Is it running?"));
    run_for(700 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.states[WV_CLIENT_CONNECTING], 1); /* said once, not at every try */
    fake_host_init(&t.host, t.loop, port, 320, 180);
    fake_host_stream(&t.host, true);
    run_until(ten_pictures);
    ck_assert(connected());
}
END_TEST

START_TEST(silence_from_the_host_is_absence)
{
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    t.host.mute = true;
    start_client("127.0.0.1", t.host.port, t.host.handshake.identity.public);
    run_until(said_something);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_ABSENT);
    t.host.mute = false;
    run_until(connected);
}
END_TEST

START_TEST(an_unknown_name_is_said)
{
    start_client("no-such-host.invalid", 4820, NULL);
    run_until(said_something);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_NAME);
    ck_assert_ptr_nonnull(strstr(t.text, "no-such-host.invalid"));
}
END_TEST

START_TEST(a_refusal_says_what_to_do)
{
    static const struct {
        enum rift_close_reason close;
        enum wv_client_reason reason;
        const char *words;
    } cases[] = {
        {RIFT_CLOSE_UNAUTHORIZED, WV_CLIENT_REASON_UNAUTHORIZED, "wavryctl authorize wavry1"},
        {RIFT_CLOSE_REVOKED, WV_CLIENT_REASON_REVOKED, "no longer accepts"},
        {RIFT_CLOSE_REPLACED, WV_CLIENT_REASON_REPLACED, "Another client with the same key"},
        {RIFT_CLOSE_PROTOCOL, WV_CLIENT_REASON_PROTOCOL, "same version"},
    };
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    t.host.refuse = true;
    t.host.refuse_reason = cases[_i].close;
    start_client("127.0.0.1", t.host.port, t.host.handshake.identity.public);
    run_until(refused);
    ck_assert_uint_eq(t.reason, cases[_i].reason);
    ck_assert_msg(strstr(t.text, cases[_i].words) != NULL, "said: %s", t.text);
    ck_assert_uint_eq(t.states[WV_CLIENT_CONNECTED], 0);
    ck_assert_uint_eq(t.pictures, 0);
    run_for(400 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.host.sessions, 1); /* no second try */
}
END_TEST

START_TEST(a_busy_host_is_tried_again)
{
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    fake_host_stream(&t.host, true);
    t.host.refuse = true;
    t.host.refuse_reason = RIFT_CLOSE_BUSY;
    t.host.refuse_text = "8 of 8\x1b[31m";
    start_client("127.0.0.1", t.host.port, t.host.handshake.identity.public);
    run_until(said_something);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_BUSY);
    ck_assert_ptr_nonnull(strstr(t.text, "8 of 8"));
    ck_assert_ptr_null(strchr(t.text, '\x1b'));
    t.host.refuse = false;
    run_until(ten_pictures);
}
END_TEST

START_TEST(another_host_key_is_not_shown_our_identity)
{
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    /* An impostor that knows the true host's key takes the first datagram, and can't prove the key. */
    rift_responder_set_keys(t.host.handshake.responder, t.identity.public, false);
    start_client("127.0.0.1", t.host.port, t.identity.public);
    run_until(refused);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_HOST_KEY);
    run_for(300 * WV_NS_PER_MS);
    ck_assert_uint_eq(t.host.handshake.finished, 0);
    ck_assert_uint_eq(t.host.handshake.asked[3], 0);
}
END_TEST

START_TEST(a_host_with_another_key_is_not_even_spoken_with)
{
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    start_client("127.0.0.1", t.host.port, t.identity.public);
    run_until(said_something);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_ABSENT);
    ck_assert_ptr_nonnull(strstr(t.text, "set up anew"));
    ck_assert_uint_eq(t.host.handshake.asked[1], 0);
    ck_assert_uint_gt(host_stats(&t.host.handshake).unkeyed, 0);
}
END_TEST

static bool lost(void)
{
    return wv_client_get_state(t.client) == WV_CLIENT_LOST;
}

static bool reconnected(void)
{
    return stats().connects == 2 && connected();
}

START_TEST(a_short_silence_keeps_the_session)
{
    start_both();
    run_until(ten_pictures);
    t.host.mute = true;
    run_until(lost);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_SILENT);
    t.host.mute = false;
    run_until(connected);
    run_for_pictures(1);
}
END_TEST

START_TEST(a_host_that_died_is_found_again)
{
    start_both();
    run_until(ten_pictures);
    uint16_t port = t.host.port;
    fake_host_fini(&t.host);
    t.host.loop = NULL;
    run_until(lost);
    fake_host_init(&t.host, t.loop, port, 320, 180);
    fake_host_stream(&t.host, true);
    run_until(reconnected);
    run_for_pictures(1);
}
END_TEST

static bool connected_anew(void)
{
    return refused() || (t.host.sessions == 2 && t.pictures && connected());
}

/* The host says goodbye to the old session because of our new one: that is no other client. */
START_TEST(a_session_that_we_replace_ourselves_is_no_refusal)
{
    start_both();
    run_until(ten_pictures);
    t.host.replaces = t.host.session_hangs = true;
    run_until(lost);
    t.pictures = 0;
    run_until(connected_anew);
    ck_assert_uint_eq(t.states[WV_CLIENT_REFUSED], 0);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_NONE);
}
END_TEST

START_TEST(a_host_that_goes_away_says_so_and_comes_back)
{
    start_both();
    run_until(ten_pictures);
    rift_session_close(t.host.session, RIFT_CLOSE_SHUTDOWN, "maintenance until 9", wv_now_ns());
    t.text[0] = '\0';
    run_until(said_something);
    ck_assert_uint_eq(t.reason, WV_CLIENT_REASON_SHUTDOWN);
    ck_assert_ptr_nonnull(strstr(t.text, "maintenance until 9"));
    ck_assert_uint_eq(t.states[WV_CLIENT_RECONNECTING], 1);
    run_until(reconnected);
}
END_TEST

static bool asked_for_keyframe(void)
{
    return t.host.keyframe_requests > 0 && stats().decode_errors > 0;
}

START_TEST(what_cannot_be_decoded_asks_for_a_keyframe)
{
    start_both();
    run_until(ten_pictures);
    fake_host_send_garbage_frame(&t.host);
    run_until(asked_for_keyframe);
    run_for_pictures(4);
}
END_TEST

static bool larger(void)
{
    return t.width == 640 && t.height == 368 && t.pictures > 15;
}

START_TEST(a_change_of_size_is_followed)
{
    start_both();
    run_until(ten_pictures);
    fake_host_resize(&t.host, 640, 368);
    run_until(larger);
    ck_assert_uint_eq(stats().decode_errors, 0);
}
END_TEST

static bool renamed_or_anew(void)
{
    return strcmp(t.name, "na?me") == 0 || stats().connects != t.connects;
}

START_TEST(nonsense_in_control_is_counted_and_survived)
{
    start_both();
    run_until(ten_pictures);
    static const uint8_t nonsense[] = {0xff, 0xff, 0xff, 0xff, 0x7f, 0x01};
    do { /* on a machine that stands still for seconds the session may be another one meanwhile */
        t.connects = stats().connects;
        fake_host_send_control(&t.host, nonsense, sizeof nonsense);
        fake_host_send_hello(&t.host, "na\x07me", "line\x1b[2J");
        run_until(renamed_or_anew);
    } while (strcmp(t.name, "na?me") != 0 && t.connects < 10);
    ck_assert_uint_eq(stats().control_errors, 1);
    ck_assert_str_eq(t.name, "na?me");
    ck_assert_str_eq(t.notice, "line?[2J");
}
END_TEST

static bool cursor_seen(void)
{
    return t.cursors > 0;
}

START_TEST(the_cursor_moves)
{
    start_both();
    run_until(ten_pictures);
    rift_session_send_cursor(t.host.session, &(struct rift_cursor){17, 33, true, 9}, wv_now_ns());
    run_until(cursor_seen);
    ck_assert_uint_eq(t.cursor.x, 17);
    ck_assert_uint_eq(t.cursor.y, 33);
    ck_assert_uint_eq(t.cursor.shape_id, 9);
}
END_TEST

START_TEST(forged_datagrams_change_nothing)
{
    start_both();
    run_until(ten_pictures);
    /* From the host's own address, as a spoofer would. */
    struct sockaddr_in a = {.sin_family = AF_INET};
    memcpy(&a.sin_addr, t.host.peer + 12, 4);
    memcpy(&a.sin_port, t.host.peer + 16, 2);
    uint8_t datagram[1200];
    for (unsigned i = 0; i < 400; i++) {
        for (size_t j = 0; j < sizeof datagram; j++)
            datagram[j] = (uint8_t)((i * 2654435761u + j * 40503u) >> 7);
        static const uint8_t kinds[] = {1, 2, 3, 4, 16, 0};
        datagram[0] = kinds[i % 6];
        sendto(t.host.fd, datagram, i * 3, MSG_DONTWAIT, (struct sockaddr *)&a, sizeof a);
    }
    run_for(400 * WV_NS_PER_MS);
    run_for_pictures(1);
    ck_assert(connected());
    ck_assert_uint_eq(stats().connects, 1);
}
END_TEST

START_TEST(view_only_sends_no_input)
{
    fake_host_init(&t.host, t.loop, 0, 320, 180);
    const struct wv_client_options options = {.host = "127.0.0.1",
                                              .port = t.host.port,
                                              .identity = &t.identity,
                                              .host_key = t.host.handshake.identity.public,
                                              .view_only = true,
                                              .no_decode = true};
    ck_assert_int_eq(wv_client_new(&t.client, t.loop, &options, &callbacks, NULL), 0);
    run_until(connected);
    ck_assert(t.host.view_only);
    ck_assert_int_eq(
        wv_client_send_input(t.client,
                             &(struct rift_input_event){.kind = RIFT_INPUT_KEY, .code = 30, .down = 1}, NULL),
        -ENOTCONN);
    ck_assert_int_eq(wv_client_take_control(t.client, false), -ENOTCONN);
    wv_client_close(t.client); /* not even that everything comes up */
    run_until(client_gone);
    ck_assert_uint_eq(t.host.n_inputs + t.host.bad_inputs + t.host.takes, 0);
}
END_TEST

START_TEST(options_are_checked)
{
    struct wv_client *c = NULL;
    const uint8_t key[32] = {9};
    const struct wv_client_pair long_secret = {.secret = key, .secret_len = 33};
    const struct wv_client_options no_host = {.host = "", .identity = &t.identity, .host_key = key};
    const struct wv_client_options no_identity = {.host = "127.0.0.1", .host_key = key};
    const struct wv_client_options no_key = {.host = "127.0.0.1", .identity = &t.identity};
    const struct wv_client_options too_long = {
        .host = "127.0.0.1", .identity = &t.identity, .pair = &long_secret};
    ck_assert_int_eq(wv_client_new(&c, t.loop, &no_key, &callbacks, NULL), -EINVAL);
    ck_assert_int_eq(wv_client_new(&c, t.loop, &too_long, &callbacks, NULL), -EINVAL);
    ck_assert_int_eq(wv_client_new(&c, t.loop, &no_host, &callbacks, NULL), -EINVAL);
    ck_assert_int_eq(wv_client_new(&c, t.loop, &no_identity, &callbacks, NULL), -EINVAL);
    ck_assert_ptr_null(c);
}
END_TEST

int main(void)
{
    h264_maker_prepare();
    Suite *s = suite_create("client connection");
    TCase *c = tcase_create("connection");
    suite_add_tcase(s, c);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, pictures_come_and_are_counted);
    tcase_add_test(c, input_arrives_in_order_and_changes_the_picture);
    tcase_add_test(c, a_goodbye_releases_everything);
    tcase_add_test(c, closing_inside_a_callback_is_safe);
    tcase_add_test(c, an_absent_host_is_said_and_awaited);
    tcase_add_test(c, silence_from_the_host_is_absence);
    tcase_add_test(c, an_unknown_name_is_said);
    tcase_add_loop_test(c, a_refusal_says_what_to_do, 0, 4);
    tcase_add_test(c, a_busy_host_is_tried_again);
    tcase_add_test(c, another_host_key_is_not_shown_our_identity);
    tcase_add_test(c, a_host_with_another_key_is_not_even_spoken_with);
    tcase_add_test(c, a_short_silence_keeps_the_session);
    tcase_add_test(c, a_host_that_died_is_found_again);
    tcase_add_test(c, a_session_that_we_replace_ourselves_is_no_refusal);
    tcase_add_test(c, a_host_that_goes_away_says_so_and_comes_back);
    tcase_add_test(c, what_cannot_be_decoded_asks_for_a_keyframe);
    tcase_add_test(c, a_change_of_size_is_followed);
    tcase_add_test(c, nonsense_in_control_is_counted_and_survived);
    tcase_add_test(c, the_cursor_moves);
    tcase_add_test(c, forged_datagrams_change_nothing);
    tcase_add_test(c, view_only_sends_no_input);
    tcase_add_test(c, options_are_checked);
    return wv_run_suite(s);
}
