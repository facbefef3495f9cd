/* What a standing connection does with a gateway that is hostile, broken or in trouble: it says what is
 * wrong, waits, and goes on. */
#include "lib/base/util.h"
#include "lib/gateway/live.h"
#include "tests/unit/gateway_stand_in.h"
#include "tests/unit/suite.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_NS (30 * WV_NS_PER_S)
#define SHORT_MS    400
#define LONG_MS     20000
#define FRAGMENT    0x01 /* a text that goes on */
#define MORE        0x00
#define TEXT        0x81
#define BINARY      0x82
#define PING        0x89
#define KEY         "wavry1x"
#define CHALLENGE   "{\"challenge\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"
#define WELCOME     "{\"type\":\"welcome\",\"stun\":[]}"

/* One kind of gateway: what it says to each question; NULL: what is right. */
struct kind {
    const char *what, *challenge, *session;
    void (*socket)(struct stand_in_peer *peer, const char *head);
    unsigned patience_ms;
    const char *words; /* of what the owner hears */
};

static struct {
    const struct kind *_Atomic now; /* NULL: a gateway as it should be */
    atomic_ullong left_at;          /* when the stand-in hung up; 0: not yet */
    atomic_ullong pauses[2];        /* from that to the next question */
    atomic_uint n_pauses;
} play;

static void forever(struct stand_in_peer *peer, const void *data, size_t len)
{
    while (stand_in_put(peer, data, len))
        ;
}

/* The upgrade is right, and so far is all of it. */
static void hear_hello(struct stand_in_peer *peer, const char *head)
{
    char text[1024];
    stand_in_upgrade(peer, head);
    (void)stand_in_read_frame(peer, text, sizeof text);
}

static void be_right(struct stand_in_peer *peer, const char *head)
{
    char text[1024];
    hear_hello(peer, head);
    (void)stand_in_frame(peer, WELCOME);
    while (stand_in_read_frame(peer, text, sizeof text))
        ;
}

static void say_too_much(struct stand_in_peer *peer, const char *head)
{
    static char much[1 << 20];
    memset(much, ' ', sizeof much);
    hear_hello(peer, head);
    (void)stand_in_any_frame(peer, TEXT, sizeof much, much, sizeof much);
    stand_in_wait(peer, 3600000);
}

static void announce_everything(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_any_frame(peer, TEXT, UINT64_C(1) << 62, "{", 1);
    for (char spaces[4096]; memset(spaces, ' ', sizeof spaces), stand_in_put(peer, spaces, sizeof spaces);)
        ;
}

static void fragment_without_end(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_any_frame(peer, FRAGMENT, 1, "{", 1);
    while (stand_in_any_frame(peer, MORE, 64,
                              "                                                                ", 64))
        ;
}

static void fragment_of_nothing(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_any_frame(peer, FRAGMENT, 1, "{", 1);
    forever(peer, "\0\0", 2);
}

static void ping_without_end(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    while (stand_in_any_frame(peer, PING, 4, "ping", 4))
        ;
}

static void nest_deeply(struct stand_in_peer *peer, const char *head)
{
    static char deep[16001];
    memset(deep, '[', sizeof deep - 1);
    hear_hello(peer, head);
    (void)stand_in_frame(peer, deep);
    stand_in_wait(peer, 3600000);
}

static void say_bytes(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_any_frame(peer, BINARY, sizeof WELCOME - 1, WELCOME, sizeof WELCOME - 1);
    stand_in_wait(peer, 3600000);
}

static void say_no_object(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_frame(peer, "[\"welcome\"]");
    stand_in_wait(peer, 3600000);
}

static void say_a_key_twice(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_frame(peer, "{\"type\":\"error\",\"type\":\"welcome\"}");
    stand_in_wait(peer, 3600000);
}

static void end_in_the_middle(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_any_frame(peer, TEXT, sizeof WELCOME - 1, WELCOME, 5);
}

static void upgrade_slowly(struct stand_in_peer *peer, const char *head)
{
    while (stand_in_drip(peer, "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n", 20))
        ;
}

static void never_upgrade(struct stand_in_peer *peer, const char *head)
{
    stand_in_wait(peer, 3600000);
}

static void lead_elsewhere(struct stand_in_peer *peer, const char *head)
{
    static const char text[] =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/v1/signal\r\ncontent-length: 0\r\n\r\n";
    stand_in_put(peer, text, strlen(text));
}

static void be_no_socket(struct stand_in_peer *peer, const char *head)
{
    stand_in_answer(peer, 200, "{}");
}

static void accept_somebody_else(struct stand_in_peer *peer, const char *head)
{
    stand_in_upgrade(peer, "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n");
    stand_in_wait(peer, 3600000);
}

static void never_welcome(struct stand_in_peer *peer, const char *head)
{
    char text[1024];
    stand_in_upgrade(peer, head);
    while (stand_in_read_frame(peer, text, sizeof text))
        ;
}

#define SENSELESS "makes no sense"
static const struct kind kinds[] = {
    {"no challenge", "{}", NULL, NULL, LONG_MS, "challenge of the gateway 127.0.0.1:"},
    {"a short challenge", "{\"challenge\":\"AAAA\"}", NULL, NULL, LONG_MS,
     "challenge of the gateway 127.0.0.1:"},
    {"a challenge that is none", "{\"challenge\":[1]}", NULL, NULL, LONG_MS,
     "challenge of the gateway 127.0.0.1:"},
    {"no token", NULL, "{\"token\":7}", NULL, LONG_MS, "127.0.0.1:"},
    {"a message too large", NULL, NULL, say_too_much, LONG_MS, SENSELESS},
    {"a message as large as can be said", NULL, NULL, announce_everything, LONG_MS, SENSELESS},
    {"fragments without end", NULL, NULL, fragment_without_end, LONG_MS, SENSELESS},
    {"fragments of nothing without end", NULL, NULL, fragment_of_nothing, SHORT_MS, "did not say welcome"},
    {"pings without end", NULL, NULL, ping_without_end, SHORT_MS, "did not say welcome"},
    {"a deep message", NULL, NULL, nest_deeply, LONG_MS, SENSELESS},
    {"a message of bytes", NULL, NULL, say_bytes, LONG_MS, SENSELESS},
    {"a message that is no object", NULL, NULL, say_no_object, LONG_MS, SENSELESS},
    {"a key twice", NULL, NULL, say_a_key_twice, LONG_MS, SENSELESS},
    {"an end in the middle of a message", NULL, NULL, end_in_the_middle, LONG_MS, "has ended the connection"},
    {"an upgrade a byte at a time", NULL, NULL, upgrade_slowly, SHORT_MS, "127.0.0.1:"},
    {"no upgrade", NULL, NULL, never_upgrade, SHORT_MS, "127.0.0.1:"},
    {"a way to elsewhere", NULL, NULL, lead_elsewhere, LONG_MS, "opens no WebSocket of Wavry's"},
    {"no WebSocket", NULL, NULL, be_no_socket, LONG_MS, "opens no WebSocket of Wavry's"},
    {"another's WebSocket", NULL, NULL, accept_somebody_else, LONG_MS, "opens no WebSocket of Wavry's"},
    {"no welcome", NULL, NULL, never_welcome, SHORT_MS, "did not say welcome"},
};

static void note_return(void)
{
    uint64_t left_at = atomic_exchange(&play.left_at, 0);
    unsigned n = atomic_load(&play.n_pauses);
    if (left_at && n < WV_ARRAY_SIZE(play.pauses)) {
        atomic_store(&play.pauses[n], wv_now_ns() - left_at);
        atomic_store(&play.n_pauses, n + 1);
    }
}

static void talk(struct stand_in_peer *peer, void *userdata, const char *head, const char *body)
{
    const struct kind *k = atomic_load(&play.now);
    if (strstr(head, "/v1/challenge")) {
        note_return();
        stand_in_answer(peer, 200, k && k->challenge ? k->challenge : CHALLENGE);
    } else if (strstr(head, "/v1/session")) {
        stand_in_answer(peer, 200, k && k->session ? k->session : "{\"token\":\"t\"}");
    } else if (strstr(head, "/v1/signal")) {
        (k && k->socket ? k->socket : be_right)(peer, head);
    }
}

/* ---- the owner ---- */

static int sign(void *userdata, const char *name, const uint8_t challenge[32], uint8_t ret_signature[64])
{
    memset(ret_signature, 7, 64);
    return 0;
}

static struct stand_in *stand_in;
static struct wv_gateway_live *live;
static struct wv_gateway_event event;

static void begin(const struct kind *kind, unsigned patience_ms, wv_gateway_sign_fn fn)
{
    struct wv_gateway_url url;
    char text[64];
    atomic_store(&play.now, kind);
    atomic_store(&play.left_at, 0);
    atomic_store(&play.n_pauses, 0);
    stand_in = stand_in_new(false, NULL, talk, NULL);
    snprintf(text, sizeof text, "http://127.0.0.1:%u", stand_in_port(stand_in));
    ck_assert_int_eq(wv_gateway_url_parse(text, &url), 0);
    ck_assert_int_eq(wv_gateway_live_new(&live, NULL), 0);
    wv_gateway_live_set_sign(live, fn, NULL);
    wv_gateway_live_set_patience(live, patience_ms);
    wv_gateway_live_aim(live, &url, KEY);
}

static void finish(void)
{
    live = wv_gateway_live_free(live);
    stand_in = stand_in_free(stand_in);
}

/* The next event of KIND; HURRIES: the pause until the next try is cut short. */
static void wait_event(enum wv_gateway_event_kind kind, bool hurries)
{
    for (uint64_t until = wv_now_ns() + PATIENCE_NS; wv_now_ns() < until; poll(NULL, 0, 20)) {
        while (wv_gateway_live_next(live, &event))
            if (event.kind == kind)
                return;
        if (hurries)
            wv_gateway_live_moved(live);
    }
    ck_abort_msg("no event %d came", kind);
}

START_TEST(a_gateway_that_is_none_and_one_that_is)
{
    const struct kind *k = &kinds[_i];
    event.text[0] = '\0';
    begin(k, k->patience_ms, sign);
    /* On a machine that is slow enough a question may take too long before. */
    for (uint64_t until = wv_now_ns() + PATIENCE_NS; !strstr(event.text, k->words);) {
        ck_assert_msg(wv_now_ns() < until, "%s: \"%s\"", k->what, event.text);
        wait_event(WV_GATEWAY_LOST, false);
    }
    ck_assert_msg(strstr(event.text, "127.0.0.1:"), "%s: \"%s\"", k->what, event.text);
    atomic_store(&play.now, NULL);
    wv_gateway_live_set_patience(live, LONG_MS);
    wait_event(WV_GATEWAY_WELCOME, true);
    finish();
}
END_TEST

/* By itself, after a pause of half a second at least. */
START_TEST(it_goes_on_after_a_pause)
{
    uint64_t before = wv_now_ns();
    begin(&kinds[0], LONG_MS, sign);
    wait_event(WV_GATEWAY_LOST, false);
    atomic_store(&play.now, NULL);
    wait_event(WV_GATEWAY_WELCOME, false);
    ck_assert_uint_ge(wv_now_ns() - before, 500 * WV_NS_PER_MS);
    finish();
}
END_TEST

static void welcome_and_leave(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_frame(peer, WELCOME);
    atomic_store(&play.left_at, wv_now_ns());
}

/* One that welcomes everybody and hangs up is not asked once a second for ever. */
START_TEST(a_welcome_that_does_not_last)
{
    static const struct kind short_lived = {.what = "a short welcome", .socket = welcome_and_leave};
    begin(&short_lived, LONG_MS, sign);
    for (uint64_t until = wv_now_ns() + PATIENCE_NS; atomic_load(&play.n_pauses) < 2 && wv_now_ns() < until;)
        wait_event(WV_GATEWAY_WELCOME, false);
    ck_assert_uint_eq(atomic_load(&play.n_pauses), 2);
    ck_assert_uint_ge(atomic_load(&play.pauses[0]), 500 * WV_NS_PER_MS);
    ck_assert_uint_ge(atomic_load(&play.pauses[1]), 1000 * WV_NS_PER_MS);
    finish();
}
END_TEST

static int sign_nothing(void *userdata, const char *name, const uint8_t challenge[32],
                        uint8_t ret_signature[64])
{
    return -1;
}

START_TEST(an_owner_that_does_not_sign)
{
    begin(NULL, LONG_MS, sign_nothing);
    wait_event(WV_GATEWAY_LOST, false);
    ck_assert_ptr_nonnull(strstr(event.text, "did not sign"));
    finish();
}
END_TEST

/* ---- floods ---- */

static void welcome_again_and_again(struct stand_in_peer *peer, const char *head)
{
    char text[1024];
    hear_hello(peer, head);
    for (int i = 0; i < 20; i++)
        (void)stand_in_frame(peer, WELCOME);
    (void)stand_in_frame(peer,
                         "{\"type\":\"error\",\"error\":\"last\",\"message\":\"say \\\"x\\\" \\u001b[2J\"}");
    while (stand_in_read_frame(peer, text, sizeof text))
        ;
}

/* A welcome costs questions to a resolver: one for each connection. What is shown has neither control
 * characters nor quotes in it. */
START_TEST(one_welcome_for_each_connection)
{
    static const struct kind welcoming = {.what = "many welcomes", .socket = welcome_again_and_again};
    unsigned welcomes = 0;
    begin(&welcoming, LONG_MS, sign);
    for (bool last = false; !last;) {
        if (!wv_gateway_live_next(live, &event)) {
            poll(NULL, 0, 1);
            continue;
        }
        welcomes += event.kind == WV_GATEWAY_WELCOME;
        last = event.kind == WV_GATEWAY_ERROR;
    }
    ck_assert_uint_eq(welcomes, 1);
    ck_assert_str_eq(event.text, "say 'x' ?[2J");
    finish();
}
END_TEST

static atomic_bool flooded;

static void flood_and_leave(struct stand_in_peer *peer, const char *head)
{
    hear_hello(peer, head);
    (void)stand_in_frame(peer, WELCOME);
    for (int i = 0; i < 3000; i++)
        (void)stand_in_frame(peer, "{\"type\":\"error\",\"error\":\"noise\",\"message\":\"x\"}");
    (void)stand_in_any_frame(peer, PING, 4, "done", 4); /* its answer comes when all is taken */
    atomic_store(&flooded, stand_in_hear(peer));
}

/* Nobody takes what a gateway says: little of it is kept, and that the connection is over is heard of. */
START_TEST(a_flood_hides_nothing)
{
    static const struct kind flooding = {.what = "a flood", .socket = flood_and_leave};
    unsigned noise = 0;
    atomic_store(&flooded, false);
    begin(&flooding, LONG_MS, sign);
    for (uint64_t until = wv_now_ns() + PATIENCE_NS; !atomic_load(&flooded) && wv_now_ns() < until;)
        poll(NULL, 0, 1);
    ck_assert(atomic_load(&flooded));
    for (bool lost = false; !lost;) {
        if (!wv_gateway_live_next(live, &event)) {
            poll(NULL, 0, 1);
            continue;
        }
        noise += event.kind == WV_GATEWAY_ERROR;
        lost = event.kind == WV_GATEWAY_LOST;
    }
    ck_assert_uint_ge(noise, 8);
    ck_assert_uint_le(noise, 32);
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("standing connection to a hostile gateway");
    TCase *tcase = tcase_create("live");
    signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_gateway_that_is_none_and_one_that_is, 0, (int)WV_ARRAY_SIZE(kinds));
    tcase_add_test(tcase, it_goes_on_after_a_pause);
    tcase_add_test(tcase, a_welcome_that_does_not_last);
    tcase_add_test(tcase, an_owner_that_does_not_sign);
    tcase_add_test(tcase, one_welcome_for_each_connection);
    tcase_add_test(tcase, a_flood_hides_nothing);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
