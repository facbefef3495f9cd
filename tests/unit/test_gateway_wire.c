/* What a machine takes for its gateway: whose certificate passes, by name and by address. */
#include "lib/base/util.h"
#include "lib/gateway/sign_in.h"
#include "lib/gateway/wire.h"
#include "tests/unit/gateway_stand_in.h"
#include "tests/unit/suite.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MS 20000

static char folder[64];

static const char *file(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void set_up(void)
{
    strcpy(folder, "/tmp/test_wire.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void)
{
    (void)unlink(file("own.pem"));
    (void)unlink(file("other.pem"));
    ck_assert_int_eq(rmdir(folder), 0);
}

static void say_yes(struct stand_in_peer *peer, void *userdata, const char *head, const char *body)
{
    stand_in_answer(peer, 200, "{\"well\":true}");
}

/* ---- certificates ---- */

static const struct {
    const char *host, *common_name, *names;
    bool v6, passes;
} certificates[] = {
    {"127.0.0.1", "gateway", "IP:127.0.0.1", false, true},
    {"127.0.0.1", "gateway", "DNS:gw.example,IP:192.0.2.1,IP:127.0.0.1", false, true},
    {"127.0.0.1", "gateway", "IP:127.0.0.2", false, false},
    {"127.0.0.1", "gateway", "DNS:localhost", false, false},
    {"127.0.0.1", "gateway", "DNS:127.0.0.1", false, false}, /* a name that looks like it is none */
    {"127.0.0.1", "127.0.0.1", "", false, false},
    {"127.0.0.1", "gateway", "IP:0:0:0:0:0:ffff:7f00:1", false, false},
    {"[::1]", "gateway", "IP:::1", true, true},
    {"[0:0::0:1]", "gateway", "IP:::1", true, true},
    {"[::1]", "gateway", "IP:::2,IP:127.0.0.1", true, false},
    {"[::1]", "gateway", "DNS:localhost", true, false},
    {"localhost", "gateway", "DNS:localhost", false, true},
    {"localhost", "gateway", "DNS:gw.example", false, false},
    {"localhost", "gateway", "IP:127.0.0.1", false, false},
};

static int dial(struct wv_gateway *g, const char *host, uint16_t port, struct wv_gateway_answer *ret)
{
    struct wv_gateway_url url;
    char text[100];
    snprintf(text, sizeof text, "https://%s:%u", host, port);
    ck_assert_int_eq(wv_gateway_url_parse(text, &url), 0);
    wv_gateway_aim(g, &url);
    return wv_gateway_request(g, "GET", "/v1/hosts", "token", NULL, ANSWER_MS, ret);
}

START_TEST(a_certificate_must_be_for_what_was_dialled)
{
    struct wv_gateway_answer answer;
    struct wv_gateway *g;
    stand_in_certificate(file("own.pem"), certificates[_i].common_name, certificates[_i].names);
    struct stand_in *s = stand_in_new(certificates[_i].v6, file("own.pem"), say_yes, NULL);
    ck_assert_int_eq(wv_gateway_new(&g, file("own.pem")), 0);
    int r = dial(g, certificates[_i].host, stand_in_port(s), &answer);
    if (certificates[_i].passes)
        ck_assert_msg(r == 0 && answer.body, "%d %s", r, answer.sentence);
    else
        ck_assert_msg(r < 0, "%s passes for %s", certificates[_i].names, certificates[_i].host);
    wv_gateway_answer_fini(&answer);
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

/* One that is aimed at an address, a name, and an address again goes by what it is aimed at. */
START_TEST(what_is_checked_follows_the_aim)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "127.0.0.1", "localhost"};
    struct wv_gateway_answer answer;
    struct wv_gateway *g;
    stand_in_certificate(file("own.pem"), "gateway", _i ? "IP:127.0.0.1" : "DNS:localhost");
    struct stand_in *s = stand_in_new(false, file("own.pem"), say_yes, NULL);
    ck_assert_int_eq(wv_gateway_new(&g, file("own.pem")), 0);
    for (size_t i = 0; i < WV_ARRAY_SIZE(hosts); i++) {
        bool passes = (i % 2 == 0) == (_i == 1);
        ck_assert_int_eq(dial(g, hosts[i], stand_in_port(s), &answer) == 0, passes);
        wv_gateway_answer_fini(&answer);
    }
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

START_TEST(a_certificate_that_nobody_vouches_for)
{
    struct wv_gateway_answer answer;
    struct wv_gateway *g;
    stand_in_certificate(file("own.pem"), "gateway", "IP:127.0.0.1,DNS:localhost");
    struct stand_in *s = stand_in_new(false, file("own.pem"), say_yes, NULL);
    stand_in_certificate(file("other.pem"), "gateway", "IP:127.0.0.1,DNS:localhost");
    ck_assert_int_eq(wv_gateway_new(&g, file("other.pem")), 0);
    ck_assert_int_lt(dial(g, _i ? "localhost" : "127.0.0.1", stand_in_port(s), &answer), 0);
    wv_gateway_answer_fini(&answer);
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gateway wire");
    TCase *tls = tcase_create("certificates");
    signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(tls, 120);
    tcase_add_checked_fixture(tls, set_up, tear_down);
    tcase_add_loop_test(tls, a_certificate_must_be_for_what_was_dialled, 0, (int)WV_ARRAY_SIZE(certificates));
    tcase_add_loop_test(tls, what_is_checked_follows_the_aim, 0, 2);
    tcase_add_loop_test(tls, a_certificate_that_nobody_vouches_for, 0, 2);
    suite_add_tcase(suite, tls);
    return wv_run_suite(suite);
}
