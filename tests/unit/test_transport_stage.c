/* The transport stage whole: pictures, input, cursors, rubbish, paths, its farewell. */
#include "lib/base/util.h"
#include "lib/ipc/au_ring_layout.h"
#include "proto/bus_media.pb-c.h"
#include "tests/unit/transport_waits.h"

#include <linux/input-event-codes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static bool has_size(struct kit *k, void *argument)
{
    const struct kit_client *c = argument;
    return c->width == 1280 && c->height == 720;
}

static bool keyframes_were_asked(struct kit *k, void *argument)
{
    return k->keyframe_requests >= *(unsigned *)argument;
}

static bool shapes_were_asked(struct kit *k, void *argument)
{
    return k->shape_requests >= 1;
}

static void wait_keyframe_requests(unsigned n)
{
    kit_until(&kit, keyframes_were_asked, &n);
}

/* ---- pictures ---- */

START_TEST(a_client_sees_frames)
{
    static struct kit_client c;
    connect_controller(&c, 1);
    wait_viewers(1);
    ck_assert_uint_eq(kit.encoder_bitrate, 8000000);
    ck_assert_uint_ge(kit.keyframe_requests, 1);

    /* What it could not decode is not sent to it. */
    kit_push(&kit, false, 7, 5000, 0);
    wait_metric(WV_T_FRAMES_SKIPPED, 1);
    ck_assert_uint_eq(c.n_frames, 0);

    kit_push(&kit, true, 42, 60000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert(c.frame.keyframe);
    ck_assert_uint_eq(c.frame_first_byte, 42);
    ck_assert_uint_eq(c.frame_len, 60000);
    ck_assert_uint_eq(c.frame.width, 1280);
    ck_assert_uint_gt(c.frame.capture_us, 0);
    c.n_frames = 0;
    kit_push(&kit, false, 43, 3000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert_uint_eq(c.frame_first_byte, 43);
    kit_until(&kit, has_size, &c);
    wait_metric(WV_T_FRAMES_SENT, 2);
    wait_metric(WV_T_PACE_US, 2);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_FRAMES_SENT), 2);

    rift_session_close(c.session, RIFT_CLOSE_NORMAL, "bye", wv_now_ns());
    wait_viewers(0);
}
END_TEST

START_TEST(rubbish_in_the_ring_is_counted_and_followed_by_a_keyframe)
{
    static struct kit_client c;
    uint64_t one = 1;
    connect_client(&c, 1, false);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    kit_run(&kit, 300);
    unsigned requests = kit.keyframe_requests;
    struct au_control *control =
        mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, kit.au_entries, 0);
    ck_assert_ptr_ne(control, MAP_FAILED);
    uint64_t honest = atomic_exchange(&control->write, UINT64_MAX - 5);
    ck_assert_int_eq(write(kit.au_event, &one, sizeof one), sizeof one);
    wait_metric(WV_T_AU_BAD, 1);
    atomic_store(&control->write, honest);
    munmap(control, sizeof *control);

    c.n_frames = 0;
    for (unsigned i = 0; i < 3; i++) { /* what refers to what was lost is not sent */
        kit_push(&kit, false, 2, 1000, 0);
        kit_run(&kit, 20);
    }
    wait_keyframe_requests(requests + 1);
    ck_assert_uint_eq(c.n_frames, 0);
    kit_push(&kit, true, 3, 1000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert_uint_eq(c.frame_first_byte, 3);
}
END_TEST

START_TEST(a_request_brings_one_keyframe_request)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    uint64_t begun = 0, took = UINT64_MAX;
    for (unsigned tries = 0; took >= 45 * WV_NS_PER_MS; tries++) { /* then the client asks again, and may */
        ck_assert_uint_lt(tries, 30);
        c.n_frames = 0;
        kit_push(&kit, true, 1, 1000, 0);
        kit_until(&kit, has_frames, &c);
        kit_run(&kit, 300); /* no request is taken for an echo of that keyframe */
        unsigned before = kit.keyframe_requests;
        begun = wv_now_ns();
        rift_session_request_keyframe(c.session, begun);
        wait_keyframe_requests(before + 1);
        kit_run(&kit, 30);
        took = wv_now_ns() - begun;
        ck_assert(took >= 45 * WV_NS_PER_MS || kit.keyframe_requests == before + 1);
    }
}
END_TEST

START_TEST(a_restarted_encoder_is_told_its_target)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    wait_viewers(1);
    kit_stage_disconnect(&kit.encoder);
    kit.encoder_viewers = 0;
    kit_run(&kit, 100);
    kit_stage_connect(&kit, &kit.encoder, "encoder");
    wait_viewers(1);
}
END_TEST

static bool has_notice(struct kit *k, void *argument)
{
    struct kit_client *c = argument;
    return c->notice[0] != 0;
}

static bool has_no_notice(struct kit *k, void *argument)
{
    return !has_notice(k, argument);
}

START_TEST(clients_are_told_why_there_is_no_picture)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    kit_stage_disconnect(&kit.encoder);
    kit_until(&kit, has_notice, &c);
    kit_stage_connect(&kit, &kit.encoder, "encoder");
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_no_notice, &c);
}
END_TEST

/* ---- input ---- */

/* What was acknowledged does not come again. On a busy machine the acknowledgement may be late, and it comes
 * twice or thrice; without one it would come for ever, at least twice a second. */
static void events_rest(void)
{
    for (unsigned n = 0; n != kit.n_events;) {
        ck_assert_uint_le(kit.n_events, 4);
        n = kit.n_events;
        kit_run(&kit, 600);
    }
}

START_TEST(input_reaches_the_input_stage_and_pictures_say_so)
{
    static struct kit_client c;
    connect_controller(&c, 1);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    kit_client_key(&c, KEY_A, true);
    kit_until(&kit, has_event, NULL);
    ck_assert_uint_eq(kit.events[0].seq, 1);
    ck_assert_uint_eq(kit.events[0].kind, RIFT_INPUT_KEY);
    ck_assert_uint_eq(kit.events[0].code, KEY_A);
    ck_assert(kit.events[0].down);
    ck_assert_uint_ne(kit.events[0].session, 0);
    events_rest(); /* acknowledged: not repeated */

    c.n_frames = 0;
    kit_push(&kit, false, 2, 1000, 1);
    kit_until(&kit, has_frames, &c);
    ck_assert_uint_eq(c.frame.input_seq, 1);
    /* A number that was never sent is of another session. */
    c.n_frames = 0;
    kit_push(&kit, false, 3, 1000, 99);
    kit_until(&kit, has_frames, &c);
    ck_assert_uint_eq(c.frame.input_seq, 0);
}
END_TEST

static bool is_told_who_controls(struct kit *k, void *argument)
{
    return !strcmp(((struct kit_client *)argument)->notice, "somebody controls this host.");
}

START_TEST(a_viewer_gets_control_when_the_controller_leaves)
{
    static struct kit_client first, second, viewer;
    connect_client(&viewer, 3, true);
    ck_assert(!viewer.controls);
    connect_controller(&first, 1);
    connect_client(&second, 2, false);
    kit_push(&kit, true, 1, 1000, 0); /* that there is no picture would be told before anything else */
    kit_until(&kit, is_told_who_controls, &second);
    ck_assert(!second.controls);
    kit_until(&kit, has_no_notice, &viewer);
    kit_client_key(&second, KEY_B, true);
    wait_metric(WV_T_INPUT_DROPPED_VIEWER, 1);
    ck_assert_uint_eq(kit.n_events, 0);
    kit_client_key(&first, KEY_A, true);
    kit_until(&kit, has_event, NULL);
    uint32_t number = kit.events[0].session;

    rift_session_close(first.session, RIFT_CLOSE_NORMAL, "", wv_now_ns());
    kit_until(&kit, has_release, NULL);
    ck_assert_uint_eq(kit.released, number);
    kit_until(&kit, controls, &second);
    ck_assert(!is_told_who_controls(&kit, &second));
    ck_assert(!viewer.controls);
    ck_assert(!is_told_who_controls(&kit, &viewer));
    kit.n_events = 0;
    kit_client_key(&second, KEY_C, true);
    kit_until(&kit, has_event, NULL);
    ck_assert_uint_eq(kit.events[0].code, KEY_C);
    ck_assert_uint_ne(kit.events[0].session, number);
}
END_TEST

START_TEST(a_restarted_input_stage_gets_what_was_not_done)
{
    static struct kit_client c;
    connect_controller(&c, 1);
    kit.acknowledges = false;
    kit_client_key(&c, KEY_A, false); /* a release never grows too old */
    kit_until(&kit, has_event, NULL);
    kit_stage_disconnect(&kit.input);
    kit.n_events = 0;
    kit.acknowledges = true;
    kit_run(&kit, 30);
    kit_stage_connect(&kit, &kit.input, "input");
    kit_until(&kit, has_event, NULL);
    ck_assert_uint_eq(kit.events[0].seq, 1);
    ck_assert_uint_eq(kit.events[0].code, KEY_A);
    events_rest();
}
END_TEST

/* ---- bad input and bad paths ---- */

static uint32_t next_random(void)
{
    static uint64_t state = 0x2545f4914f6cdd1d;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

START_TEST(garbage_is_counted_and_harmless)
{
    static struct kit_client c;
    connect_controller(&c, 1);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&kit.address, sizeof kit.address), 0);
    uint8_t datagram[2000];
    for (unsigned i = 0; i < 2000; i++) {
        size_t len = next_random() % sizeof datagram;
        for (size_t j = 0; j < len; j++)
            datagram[j] = (uint8_t)next_random();
        static const uint8_t kinds[] = {1, 2, 3, 4, 16};
        if (len && i % 2)
            datagram[0] = kinds[next_random() % sizeof kinds];
        (void)!send(fd, datagram, len, 0);
        if (i % 100 == 0)
            kit_run(&kit, 3);
    }
    wait_metric(WV_T_DROPPED_KERNEL, 501);
    wait_metric(WV_T_DROPPED_MALFORMED, 51);

    /* A true datagram again, cut short, damaged, and for a session that isn't there. */
    kit_client_key(&c, KEY_A, true);
    kit_until(&kit, has_event, NULL);
    memcpy(datagram, c.last_sent, c.last_sent_len);
    size_t len = c.last_sent_len;
    (void)!send(fd, datagram, len, 0);
    wait_metric(WV_T_DROPPED_REPLAY, 1);
    datagram[15] ^= 0x10; /* another counter */
    (void)!send(fd, datagram, len, 0);
    wait_metric(WV_T_DROPPED_AUTH, 1);
    (void)!send(fd, datagram, 33, 0);
    wait_metric(WV_T_DROPPED_AUTH, 2);
    datagram[4] ^= 0xff;
    (void)!send(fd, datagram, len, 0);
    wait_metric(WV_T_DROPPED_UNKNOWN, 1);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_MOVED), 0);
    close(fd);

    c.n_frames = 0;
    kit_push(&kit, false, 9, 1000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert(!c.closed);
}
END_TEST

/* Knocks of nobody, answers to STUN requests that were not sent, and what looks like a relay's: each is
 * counted, none is answered. */
START_TEST(strangers_on_the_way_are_counted_and_not_answered)
{
    static const uint8_t stun[20] = {1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
    uint8_t datagram[64] = {80, 1, 1};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&kit.address, sizeof kit.address), 0);
    for (unsigned i = 0; i < 50; i++) {
        datagram[0] = i % 2 ? 80 : 81;
        (void)!send(fd, datagram, sizeof datagram, 0);
        (void)!send(fd, stun, sizeof stun, 0);
        datagram[0] = i % 2 ? 48 : 35;
        (void)!send(fd, datagram, sizeof datagram, 0);
    }
    wait_metric(WV_T_DROPPED_KNOCK, 50);
    wait_metric(WV_T_DROPPED_STUN, 50);
    wait_metric(WV_T_DROPPED_RELAY, 50);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_PACKETS_SENT), 0);
    close(fd);
}
END_TEST

START_TEST(clients_that_vanish_half_way_keep_nobody_out)
{
    static struct kit_client ghosts[40], c;
    for (size_t i = 0; i < WV_ARRAY_SIZE(ghosts); i++)
        kit_client_init(&kit, &ghosts[i], (uint8_t)(100 + i), false);
    kit_run(&kit, 4);
    for (size_t i = 0; i < WV_ARRAY_SIZE(ghosts); i++)
        ghosts[i].mute = true;
    wait_metric(WV_T_HANDSHAKES_STARTED, 20);
    connect_controller(&c, 1);
}
END_TEST

START_TEST(a_session_follows_its_client)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    kit_client_move(&c);
    kit_client_key(&c, KEY_A, true);
    wait_metric(WV_T_SESSIONS_MOVED, 1);
    c.n_frames = 0;
    kit_push(&kit, false, 2, 1000, 0);
    kit_until(&kit, has_frames, &c);
}
END_TEST

START_TEST(a_malformed_control_message_ends_its_session_only)
{
    static struct kit_client good, bad;
    connect_client(&good, 1, false);
    connect_client(&bad, 2, false);
    const uint8_t nonsense[] = {0xff, 0xff, 0xff, 0xff, 0xff};
    ck_assert_int_eq(rift_session_send_control(bad.session, nonsense, sizeof nonsense, wv_now_ns()), 0);
    kit_until(&kit, client_is_closed, &bad);
    ck_assert_int_eq(bad.reason, RIFT_CLOSE_PROTOCOL);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &good);
}
END_TEST

/* ---- the rest ---- */

static bool has_cursor(struct kit *k, void *argument)
{
    struct kit_client *c = argument;
    return c->n_images && c->n_cursors && c->cursor.shape_id == 5;
}

/* As capture does: what is in it is nobody's business here. */
static void send_cursor(uint32_t kid, uint8_t filling, size_t len)
{
    static uint8_t sealed[70000];
    uint8_t nonce[24];
    memset(sealed, filling, len);
    memset(nonce, filling + 1, sizeof nonce);
    Wavry__Bus__CursorShape shape = WAVRY__BUS__CURSOR_SHAPE__INIT;
    shape.shape_id = 5;
    shape.kid = kid;
    shape.nonce = (ProtobufCBinaryData){.len = sizeof nonce, .data = nonce};
    shape.sealed = (ProtobufCBinaryData){.len = len, .data = sealed};
    Wavry__Bus__CursorMoved moved = WAVRY__BUS__CURSOR_MOVED__INIT;
    moved.x = 100;
    moved.y = -5;
    moved.visible = true;
    moved.shape_id = 5;
    wv_bus_send(kit.capture.link, &shape.base);
    wv_bus_send(kit.capture.link, &moved.base);
}

static bool has_images(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->n_images >= 2;
}

START_TEST(the_cursor_travels_beside_the_video)
{
    static struct kit_client c, late;
    connect_client(&c, 1, false);
    kit_until(&kit, shapes_were_asked, NULL);
    send_cursor(3, 0x77, RIFT_CONTROL_MAX_BYTES); /* more than a control message holds */
    kit_run(&kit, 20);
    ck_assert_uint_eq(c.n_images, 0);
    send_cursor(3, 0x77, 60000);
    kit_until(&kit, has_cursor, &c);
    ck_assert_uint_eq(c.image_kid, 3);
    ck_assert_uint_eq(c.image_len, 60000);
    ck_assert_uint_eq(c.image_nonce[23], 0x78);
    ck_assert_uint_eq(c.image_sealed[255], 0x77);
    ck_assert_uint_eq(c.cursor.x, 100);
    ck_assert_uint_eq(c.cursor.y, 0);
    connect_client(&late, 2, false);
    kit_until(&kit, has_cursor, &late);
    /* The same shape is not told again, but under another key it is. */
    send_cursor(3, 0x78, 60000);
    kit_run(&kit, 50);
    ck_assert_uint_eq(c.n_images, 1);
    send_cursor(4, 0x79, 60000);
    kit_until(&kit, has_images, &c);
    kit_until(&kit, has_images, &late);
    ck_assert_uint_eq(late.image_kid, 4);
    ck_assert_uint_eq(late.image_sealed[0], 0x79);
}
END_TEST

START_TEST(stopping_says_goodbye)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    wv_transport_drain(kit.transport);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_SHUTDOWN);
    kit_until(&kit, is_drained, NULL);
}
END_TEST

static bool page_shows_control(struct kit *k, void *argument)
{
    struct wv_session_record *record = argument;
    return wv_session_page_get(k->page, 0, record) == 0 && record->controls;
}

START_TEST(an_ipv4_socket_will_do)
{
    static struct kit_client c;
    kit_fini(&kit);
    kit_init(&kit, 1, true);
    connect_client(&c, 1, false);
    kit_push(&kit, true, 1, 200000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert_uint_eq(c.frame_len, 200000);
    struct wv_session_record record;
    kit_until(&kit, page_shows_control, &record);
    ck_assert_int_eq(strncmp(record.address, "127.0.0.1:", 10), 0);
    ck_assert_str_eq(record.name, "somebody");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transport stage");
    TCase *c = tcase_create("stage");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_client_sees_frames);
    tcase_add_test(c, rubbish_in_the_ring_is_counted_and_followed_by_a_keyframe);
    tcase_add_test(c, a_request_brings_one_keyframe_request);
    tcase_add_test(c, a_restarted_encoder_is_told_its_target);
    tcase_add_test(c, clients_are_told_why_there_is_no_picture);
    tcase_add_test(c, input_reaches_the_input_stage_and_pictures_say_so);
    tcase_add_test(c, a_viewer_gets_control_when_the_controller_leaves);
    tcase_add_test(c, a_restarted_input_stage_gets_what_was_not_done);
    tcase_add_test(c, garbage_is_counted_and_harmless);
    tcase_add_test(c, strangers_on_the_way_are_counted_and_not_answered);
    tcase_add_test(c, clients_that_vanish_half_way_keep_nobody_out);
    tcase_add_test(c, a_session_follows_its_client);
    tcase_add_test(c, a_malformed_control_message_ends_its_session_only);
    tcase_add_test(c, the_cursor_travels_beside_the_video);
    tcase_add_test(c, stopping_says_goodbye);
    tcase_add_test(c, an_ipv4_socket_will_do);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
