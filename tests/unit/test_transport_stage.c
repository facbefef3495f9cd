/* The whole transport over loopback, with the identity stage's code behind its link. */
#include "lib/base/util.h"
#include "lib/ipc/au_ring_layout.h"
#include "proto/bus_media.pb-c.h"
#include "services/identity/internal.h"
#include "services/identity/live_page.h"
#include "tests/unit/transport_kit.h"

#include <check.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static struct kit kit;

static void setup(void)
{
    kit_init(&kit, 8, false);
}

static void teardown(void)
{
    kit_fini(&kit);
}

/* ---- conditions ---- */

static bool client_is_closed(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->closed;
}

static bool viewers_are(struct kit *k, void *argument)
{
    return k->encoder_viewers == *(uint32_t *)argument && k->capture_viewers == *(uint32_t *)argument;
}

static bool has_frames(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->n_frames > 0;
}

static bool has_event(struct kit *k, void *argument)
{
    return k->n_events > 0;
}

static bool has_release(struct kit *k, void *argument)
{
    return k->n_releases > 0;
}

static bool controls(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->controls;
}

static bool does_not_control(struct kit *k, void *argument)
{
    return !((struct kit_client *)argument)->controls;
}

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

/* The page is written some times a second. */
static bool page_shows(struct kit *k, void *argument)
{
    struct wv_session_record record;
    unsigned shown = 0;
    for (unsigned i = 0; i < WV_SESSIONS_MAX; i++)
        shown += wv_session_page_get(k->page, i, &record) == 0 && record.name[0];
    return shown == *(unsigned *)argument;
}

static void wait_keyframe_requests(unsigned n)
{
    kit_until(&kit, keyframes_were_asked, &n);
}

static void wait_page(unsigned n)
{
    kit_until(&kit, page_shows, &n);
}

static void wait_viewers(uint32_t n)
{
    kit_until(&kit, viewers_are, &n);
}

struct metric_wait {
    enum wv_transport_metric id;
    uint64_t least;
};

static bool metric_reached(struct kit *k, void *argument)
{
    const struct metric_wait *w = argument;
    return kit_metric(k, w->id) >= w->least;
}

static void wait_metric(enum wv_transport_metric id, uint64_t least)
{
    struct metric_wait w = {id, least};
    kit_until(&kit, metric_reached, &w);
}

static bool is_controller(struct kit *k, void *argument)
{
    return ((const struct kit_client *)argument)->controls;
}

static void connect_client(struct kit_client *c, uint8_t seed, bool view_only)
{
    kit_authorize(&kit, seed, "somebody");
    kit_client_init(&kit, c, seed, view_only);
    kit_client_connected(&kit, c);
}

/* ---- pictures ---- */

START_TEST(a_client_sees_frames)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    kit_until(&kit, is_controller, &c); /* the first word may come before identity's */
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
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    kit_run(&kit, 300); /* no request is taken for an echo of that keyframe */
    unsigned before = kit.keyframe_requests;
    rift_session_request_keyframe(c.session, wv_now_ns());
    wait_keyframe_requests(before + 1);
    kit_run(&kit, 50);
    ck_assert_uint_eq(kit.keyframe_requests, before + 1);
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

START_TEST(input_reaches_the_input_stage_and_pictures_say_so)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    kit_client_key(&c, KEY_A, true);
    kit_until(&kit, has_event, NULL);
    ck_assert_uint_eq(kit.events[0].seq, 1);
    ck_assert_uint_eq(kit.events[0].kind, RIFT_INPUT_KEY);
    ck_assert_uint_eq(kit.events[0].code, KEY_A);
    ck_assert(kit.events[0].down);
    ck_assert_uint_ne(kit.events[0].session, 0);
    kit_run(&kit, 30);
    ck_assert_uint_eq(kit.n_events, 1); /* acknowledged: not repeated */

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

START_TEST(a_viewer_gets_control_when_the_controller_leaves)
{
    static struct kit_client first, second, viewer;
    connect_client(&viewer, 3, true);
    ck_assert(!viewer.controls);
    connect_client(&first, 1, false);
    ck_assert(first.controls);
    connect_client(&second, 2, false);
    ck_assert(!second.controls);
    ck_assert_str_eq(second.notice, "somebody controls this host.");
    ck_assert_str_eq(viewer.notice, "");
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
    ck_assert_str_ne(second.notice, "somebody controls this host.");
    ck_assert(!viewer.controls);
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
    connect_client(&c, 1, false);
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
    kit_run(&kit, 30);
    unsigned n = kit.n_events;
    kit_run(&kit, 300);
    ck_assert_uint_eq(kit.n_events, n);
}
END_TEST

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
    connect_client(&first, 1, false);
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
    for (unsigned i = 0; i < 100; i++) {
        kit_client_inner(&c, &m);
        kit_run(&kit, 2);
    }
    wait_metric(WV_T_INNER_DROPPED, 50);
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
    connect_client(&c, 1, false);
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
    connect_client(&c, 1, false);
    ck_assert(c.controls);
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

/* ---- the transport's own end ---- */

/* Events that are not acknowledged soon come again: their number says which were seen, not how many came. */
static bool has_seq(struct kit *k, void *argument)
{
    return k->n_events && k->events[k->n_events - 1].seq >= *(uint32_t *)argument;
}

static void wait_seq(uint32_t seq)
{
    kit_until(&kit, has_seq, &seq);
}

static bool has_events(struct kit *k, void *argument)
{
    return k->n_events >= *(unsigned *)argument;
}

static void wait_events(unsigned n)
{
    kit_until(&kit, has_events, &n);
}

/* One controlling client and one that looks on, both with a picture. */
static void two_clients(struct kit_client *first, struct kit_client *second)
{
    connect_client(first, 1, false);
    connect_client(second, 2, true);
    kit_push(&kit, true, 1, 40000, 0);
    kit_until(&kit, has_frames, first);
    kit_until(&kit, has_frames, second);
}

START_TEST(sessions_outlive_the_transport)
{
    static struct kit_client first, second;
    struct wv_session_record record;
    two_clients(&first, &second);
    kit_client_key(&first, KEY_A, true);
    wait_events(1);
    uint32_t number = kit.events[0].session;
    for (unsigned round = 0; round < 5; round++) {
        kit_transport_kill(&kit);
        kit.n_events = kit.n_releases = kit.keyframe_requests = 0;
        first.n_frames = second.n_frames = 0;
        kit_client_key(&first, KEY_B, round % 2 == 0); /* into the socket of nobody */
        kit_run(&kit, 20);
        kit_transport_start(&kit);
        ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 2 * (round + 1));
        wait_seq(round + 2);
        ck_assert_uint_eq(kit.events[0].session, number);
        ck_assert_uint_eq(kit.events[kit.n_events - 1].code, KEY_B);
        ck_assert_uint_eq(kit.events[kit.n_events - 1].seq, round + 2);
        ck_assert_uint_eq(kit.n_releases, 0);
        kit_push(&kit, true, 2, 40000, 0);
        kit_until(&kit, has_frames, &first);
        kit_until(&kit, has_frames, &second);
        ck_assert(first.controls);
        ck_assert(!first.closed);
        ck_assert(!second.closed);
        /* As long as a process lives until it counts as one that the vault did not kill. */
        kit_run(&kit, 150);
    }
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_STARTED), 2);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_VAULT_BAD), 0);
    wait_page(2);
    ck_assert_int_eq(wv_session_page_get(kit.page, 0, &record), 0);
    ck_assert_str_eq(record.name, "somebody");
}
END_TEST

START_TEST(events_that_were_not_done_are_handed_over)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    kit.acknowledges = false;
    for (unsigned i = 0; i < 3; i++) {
        kit_client_key(&c, (uint16_t)(KEY_A + i), true);
        wait_seq(i + 1);
    }
    kit_run(&kit, 10);
    kit_transport_kill(&kit);
    kit.n_events = 0;
    kit.acknowledges = true;
    kit_transport_start(&kit);
    wait_events(3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(kit.events[i].seq, i + 1);
        ck_assert_uint_eq(kit.events[i].code, KEY_A + i);
    }
}
END_TEST

START_TEST(a_key_revoked_meanwhile_is_out)
{
    static struct kit_client c;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    connect_client(&c, 1, false);
    kit_transport_kill(&kit);
    rift_public_key_format(c.identity.public, key);
    kit_request(&kit, "revoke", key, NULL, 0);
    kit_run(&kit, 20);
    kit_transport_start(&kit);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 1);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_UNAUTHORIZED); /* identity does not know it any more */
}
END_TEST

START_TEST(a_damaged_vault_is_a_clean_start)
{
    static struct kit_client first, second;
    two_clients(&first, &second);
    kit_transport_kill(&kit);
    uint8_t *memory = mmap(NULL, WV_SESSION_VAULT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, kit.vault_fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    /* Both copies of the first slot: the older one must not stand in. */
    memory[WV_SESSION_VAULT_HEAD_BYTES + 200] ^= 1;
    memory[WV_SESSION_VAULT_HEAD_BYTES + WV_SESSION_VAULT_COPY_BYTES + 200] ^= 1;
    munmap(memory, WV_SESSION_VAULT_BYTES);
    kit_transport_start(&kit);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 1);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_VAULT_BAD), 1);
    kit_until(&kit, has_release, NULL); /* whoever controlled is unknown now */
    second.n_frames = 0;
    kit_push(&kit, true, 2, 1000, 0);
    kit_until(&kit, has_frames, &second);
    first.n_frames = 0;
    kit_run(&kit, 50);
    ck_assert_uint_eq(first.n_frames, 0);
}
END_TEST

START_TEST(a_vault_that_kills_is_wiped)
{
    static struct kit_client first, second;
    two_clients(&first, &second);
    kit_run(&kit, 150);
    for (unsigned i = 0; i < 2; i++) {
        kit_transport_kill(&kit);
        kit_transport_start(&kit); /* and lives for no time at all */
        ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 2 * (i + 1));
    }
    kit_transport_kill(&kit);
    kit_transport_start(&kit);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 4);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_VAULT_BAD), 1);
}
END_TEST

START_TEST(an_ended_session_leaves_nothing_behind)
{
    static struct kit_client c;
    static const uint8_t zero[4096];
    connect_client(&c, 1, false);
    kit_client_key(&c, KEY_A, true);
    wait_events(1);
    rift_session_close(c.session, RIFT_CLOSE_NORMAL, "", wv_now_ns());
    wait_viewers(0);
    uint8_t *memory = mmap(NULL, WV_SESSION_VAULT_BYTES, PROT_READ, MAP_SHARED, kit.vault_fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    for (size_t at = WV_SESSION_VAULT_HEAD_BYTES; at < WV_SESSION_VAULT_BYTES; at += sizeof zero)
        ck_assert_mem_eq(memory + at, zero, sizeof zero);
    munmap(memory, WV_SESSION_VAULT_BYTES);
}
END_TEST

static bool is_drained(struct kit *k, void *argument);

START_TEST(a_restart_hands_over_without_a_word)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    wv_transport_hand_over(kit.transport);
    kit_until(&kit, is_drained, NULL);
    kit_transport_kill(&kit);
    kit_transport_start(&kit);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert(!c.closed);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_STARTED), 1);
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

static bool is_drained(struct kit *k, void *argument)
{
    return k->drained;
}

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

START_TEST(an_ipv4_socket_will_do)
{
    static struct kit_client c;
    kit_fini(&kit);
    kit_init(&kit, 1, true);
    connect_client(&c, 1, false);
    kit_push(&kit, true, 1, 200000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert_uint_eq(c.frame_len, 200000);
    kit_run(&kit, 300);
    struct wv_session_record record;
    ck_assert_int_eq(wv_session_page_get(kit.page, 0, &record), 0);
    ck_assert_int_eq(strncmp(record.address, "127.0.0.1:", 10), 0);
    ck_assert_str_eq(record.name, "somebody");
    ck_assert(record.controls);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transport stage");
    TCase *c = tcase_create("stage");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_client_sees_frames);
    tcase_add_test(c, rubbish_in_the_ring_is_counted_and_followed_by_a_keyframe);
    tcase_add_test(c, a_request_brings_one_keyframe_request);
    tcase_add_test(c, a_restarted_encoder_is_told_its_target);
    tcase_add_test(c, clients_are_told_why_there_is_no_picture);
    tcase_add_test(c, input_reaches_the_input_stage_and_pictures_say_so);
    tcase_add_test(c, a_viewer_gets_control_when_the_controller_leaves);
    tcase_add_test(c, a_restarted_input_stage_gets_what_was_not_done);
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
    tcase_add_test(c, garbage_is_counted_and_harmless);
    tcase_add_test(c, strangers_on_the_way_are_counted_and_not_answered);
    tcase_add_test(c, clients_that_vanish_half_way_keep_nobody_out);
    tcase_add_test(c, a_session_follows_its_client);
    tcase_add_test(c, a_malformed_control_message_ends_its_session_only);
    tcase_add_test(c, sessions_outlive_the_transport);
    tcase_add_test(c, events_that_were_not_done_are_handed_over);
    tcase_add_test(c, a_key_revoked_meanwhile_is_out);
    tcase_add_test(c, a_damaged_vault_is_a_clean_start);
    tcase_add_test(c, a_vault_that_kills_is_wiped);
    tcase_add_test(c, an_ended_session_leaves_nothing_behind);
    tcase_add_test(c, a_restart_hands_over_without_a_word);
    tcase_add_test(c, the_cursor_travels_beside_the_video);
    tcase_add_test(c, stopping_says_goodbye);
    tcase_add_test(c, an_ipv4_socket_will_do);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
