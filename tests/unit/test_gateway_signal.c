/* Signaling when rights change while the database is still asked: its answers come from a thread of their
 * own, so one that is older than the change may come after it. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/json.h"
#include "services/gateway/signal.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define HELLO "{\"type\":\"hello\",\"token\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"

static struct wv_signal *hub;
static struct wv_signal_question asked[16];
static size_t n_asked;
static uint64_t now;

static void nothing(void *userdata, void *link)
{
}

static int ask(void *userdata, const struct wv_signal_question *q)
{
    ck_assert_uint_lt(n_asked, WV_ARRAY_SIZE(asked));
    asked[n_asked++] = *q;
    return 0;
}

static int say(void *userdata, const char *to, struct wv_bus_message *m)
{
    return 0;
}

static void *offer(void *userdata)
{
    return json_pack("{s:[], s:[]}", "stun", "relays");
}

static uint64_t unix_ms(void *userdata)
{
    return 1800000000000;
}

static void heard_relay(void *userdata, const struct wv_bus_message *m)
{
}

/* What question I is answered with. */
static void tell(size_t i, int r, uint8_t who)
{
    struct wv_signal_reply reply = {.r = r};
    reply.machine.key[0] = who;
    strcpy(reply.machine.account, "a");
    ck_assert_uint_lt(i, n_asked);
    wv_signal_told(hub, asked[i].number, &reply, now);
}

/* The words of type TYPE (of an error: that one) among what C is told now. */
static unsigned told(struct wv_signal_connection *c, const char *type, const char *error)
{
    unsigned n = 0, close;
    const char *why;
    char *text;
    size_t len;
    while (wv_signal_next(c, &text, &len, &close, &why)) {
        const char *is = "", *code = "";
        json_t *o = json_loadb(text, len, 0, NULL);
        ck_assert_ptr_nonnull(o);
        (void)json_unpack(o, "{s:s}", "type", &is);
        (void)json_unpack(o, "{s:s}", "error", &code);
        n += !strcmp(is, type) && (!error || !strcmp(code, error));
        json_decref(o);
        wv_signal_written(c, now);
    }
    return n;
}

static void receive(struct wv_signal_connection *c, const char *text)
{
    wv_signal_receive(c, text, strlen(text), now);
}

static struct wv_signal_connection *join(uint8_t who)
{
    struct wv_signal_connection *c = wv_signal_open(hub, NULL, now);
    ck_assert_ptr_nonnull(c);
    receive(c, HELLO);
    tell(n_asked - 1, 0, who);
    ck_assert_uint_eq(told(c, "welcome", NULL), 1);
    return c;
}

static void send_to(struct wv_signal_connection *c, uint8_t whom)
{
    uint8_t key[WV_STORE_KEY_BYTES] = {whom};
    char name[RIFT_PUBLIC_KEY_TEXT_BYTES], text[300];
    rift_public_key_format(key, name);
    snprintf(text, sizeof text, "{\"type\":\"signal\",\"id\":\"1\",\"to\":\"%s\",\"sealed\":\"AAAA\"}", name);
    receive(c, text);
}

static void setup(void)
{
    static const struct wv_signal_calls calls = {nothing, ask,     say,         offer,
                                                 unix_ms, nothing, heard_relay, NULL};
    static const uint8_t secret[16];
    ck_assert_int_ge(sodium_init(), 0);
    wv_json_init();
    now = 1000 * WV_NS_PER_S;
    n_asked = 0;
    ck_assert_int_eq(wv_signal_new(&hub, "self", &wv_signal_usual, &calls, secret), 0);
    wv_signal_bus(hub, true, now);
}

static void teardown(void)
{
    hub = wv_signal_free(hub);
}

START_TEST(an_answer_from_before_a_change_is_nobodys_after_it)
{
    struct wv_signal_connection *a = join(1), *b = join(2);
    size_t first = n_asked;
    send_to(a, 2);
    ck_assert_uint_eq(n_asked, first + 1);
    wv_signal_changed(hub, "other", now); /* and is acknowledged */
    send_to(a, 2);
    ck_assert_uint_eq(n_asked, first + 2); /* asked anew */
    tell(first, 0, 0);                     /* as it was before */
    ck_assert_uint_eq(told(b, "signal", NULL), 1);
    ck_assert_uint_eq(told(a, "sent", NULL), 1);
    tell(first + 1, -ENOENT, 0);
    ck_assert_uint_eq(told(b, "signal", NULL), 0);
    ck_assert_uint_eq(told(a, "error", "not_allowed"), 1);
    send_to(a, 2); /* the old answer was not kept, the new one is */
    ck_assert_uint_eq(n_asked, first + 2);
    ck_assert_uint_eq(told(a, "error", "not_allowed"), 1);
    wv_signal_closed(a);
    wv_signal_closed(b);
}
END_TEST

START_TEST(who_was_let_in_by_an_answer_from_before_a_change_is_asked_for_again)
{
    struct wv_signal_connection *c = wv_signal_open(hub, NULL, now);
    struct wv_signal_numbers numbers;
    receive(c, HELLO);
    wv_signal_changed(hub, "a", now); /* the machine is taken off the account */
    tell(0, 0, 1);
    ck_assert_uint_eq(told(c, "welcome", NULL), 1);
    now += WV_NS_PER_S;
    wv_signal_tick(hub, now);
    ck_assert_uint_eq(n_asked, 2);
    ck_assert_int_eq(asked[1].kind, WV_SIGNAL_ASK_MACHINE);
    tell(1, -ENOENT, 0);
    wv_signal_numbers(hub, &numbers);
    ck_assert_uint_eq(numbers.revoked, 1);
    wv_signal_closed(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gateway signal");
    TCase *t = tcase_create("rights");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_answer_from_before_a_change_is_nobodys_after_it);
    tcase_add_test(t, who_was_let_in_by_an_answer_from_before_a_change_is_asked_for_again);
    suite_add_tcase(suite, t);
    return wv_run_suite(suite);
}
