/* The wavry: URL: what is taken, and that nothing can be slipped in with it. */
#include "client/options.h"
#include "client/url.h"
#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEY   "wavry1AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define TOKEN "AAECAwQFBgcICQoLDA0ODw"
#define REST  "?key=" KEY "&token=" TOKEN

static struct wv_url url;

static int parse(const char *text)
{
    memset(&url, 0xee, sizeof url);
    return wv_url_parse(text, &url);
}

START_TEST(whole_urls_are_taken)
{
    static const struct {
        const char *text, *host;
        int port;
    } cases[] = {
        {"wavry:host:4820" REST, "host", 4820},
        {"wavry:my-host_2.example.org:1" REST, "my-host_2.example.org", 1},
        {"wavry:192.0.2.7:65535" REST, "192.0.2.7", 65535},
        {"wavry:[2001:db8::1]:4820" REST, "2001:db8::1", 4820},
        {"wavry:host:4820?token=" TOKEN "&key=" KEY, "host", 4820},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(cases); i++) {
        ck_assert_msg(parse(cases[i].text) == 0, "%s", cases[i].text);
        ck_assert_str_eq(url.host, cases[i].host);
        ck_assert_int_eq(url.port, cases[i].port);
        for (uint8_t b = 0; b < 32; b++)
            ck_assert_uint_eq(url.key[b], b);
        for (uint8_t b = 0; b < 16; b++)
            ck_assert_uint_eq(url.token[b], b);
    }
}
END_TEST

START_TEST(anything_else_is_not)
{
    static const char *const cases[] = {
        "",
        "wavry",
        "wavry:",
        "host:4820" REST,
        "WAVRY:host:4820" REST,
        "wavry://host:4820" REST,
        "wavry:host" REST,
        "wavry:host:" REST,
        "wavry:host:0" REST,
        "wavry:host:65536" REST,
        "wavry::4820" REST,
        "wavry:2001:db8::1" REST,
        "wavry:[2001:db8::1]" REST,
        "wavry:[host]:1" REST,
        "wavry:[::1:1" REST,
        "wavry:host]:1" REST,
        "wavry:user@host:1" REST,
        "wavry:host/path:1" REST,
        "wavry:../../etc/passwd:1" REST,
        "wavry:ho%20st:1" REST,
        "wavry:host :1" REST,
        "wavry:host\n:1" REST,
        "wavry:host\n[client]\nrecord=x:1" REST,
        "wavry:host=x:1" REST,
        "wavry:--config:1" REST,
        "wavry:-h:1" REST,
        "wavry:.:1" REST,
        "wavry:$(id):1" REST,
        "wavry:host:1",
        "wavry:host:1?",
        "wavry:host:1?key=" KEY,
        "wavry:host:1?token=" TOKEN,
        "wavry:host:1" REST "&",
        "wavry:host:1" REST "&token=" TOKEN,
        "wavry:host:1" REST "&key=" KEY,
        "wavry:host:1" REST "&set=record=/tmp/x",
        "wavry:host:1" REST "&identity=/tmp/x",
        "wavry:host:1" REST "#x",
        "wavry:host:1" REST " ",
        "wavry:host:1" REST "\n",
        "wavry:host:1?&key=" KEY "&token=" TOKEN,
        "wavry:host:1?Key=" KEY "&token=" TOKEN,
        "wavry:host:1?key=" KEY "&token=" TOKEN "A",
        "wavry:host:1?key=" KEY "&token=AAECAwQFBgcICQoLDA0OD",
        "wavry:host:1?key=" KEY "&token=AAECAwQFBgcICQoLDA0O+w",
        "wavry:host:1?key=" KEY "&token=",
        "wavry:host:1?key=wavry1short&token=" TOKEN,
        "wavry:host:1??key=" KEY "&token=" TOKEN,
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(cases); i++) {
        ck_assert_msg(parse(cases[i]) == -EINVAL, "taken: %s", cases[i]);
        ck_assert_msg((uint8_t)url.host[0] == 0xee, "touched: %s", cases[i]);
    }
    char much[1200] = "wavry:";
    memset(much + 6, 'a', 800);
    strcpy(much + 806, ":1" REST);
    ck_assert_int_eq(parse(much), -EINVAL);
}
END_TEST

/* Every key of the configuration, as a URL's parameter and inside its host. */
START_TEST(no_setting_is_reached_by_a_url)
{
    static const char *const keys[] = {
        "host",   "host_key",  "identity", "known_hosts",  "headless", "fullscreen",
        "window", "view_only", "grab",     "take_control", "renderer", "decode_threads",
        "stats",  "seconds",   "give_up",  "stats_json",   "snapshot", "record",
        "config", "set",       "name",     "code",         "new-key",
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(keys); i++) {
        char text[512];
        snprintf(text, sizeof text, "wavry:host:1%s&%s=/tmp/x", REST, keys[i]);
        ck_assert_msg(parse(text) == -EINVAL, "%s", text);
        snprintf(text, sizeof text, "wavry:host:1?%s=/tmp/x&key=%s&token=%s", keys[i], KEY, TOKEN);
        ck_assert_msg(parse(text) == -EINVAL || strcmp(keys[i], "key") == 0, "%s", text);
        snprintf(text, sizeof text, "wavry:host\n%s=/tmp/x:1%s", keys[i], REST);
        ck_assert_msg(parse(text) == -EINVAL, "%s", text);
        snprintf(text, sizeof text, "wavry:--%s=/tmp/x:1%s", keys[i], REST);
        ck_assert_msg(parse(text) == -EINVAL, "%s", text);
    }
}
END_TEST

START_TEST(a_url_sets_the_host_and_nothing_else)
{
    char program[] = "wavry-client", text[] = "wavry:host:4821" REST;
    char *argv[] = {program, text, NULL};
    struct wv_options o;
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    ck_assert_int_eq(wv_options_read(&o, 2, argv), 0);
    ck_assert(o.have_url && o.action == WV_OPTIONS_RUN);
    ck_assert_str_eq(o.host, "host");
    ck_assert_uint_eq(o.port, 4821);
    ck_assert_str_eq(wv_config_string(o.config, "host_key"), "");
    ck_assert_str_eq(wv_config_string(o.config, "record"), "");
    ck_assert_str_eq(wv_config_string(o.config, "identity"), "");
    ck_assert(!o.new_key && !o.code && !o.name);
    wv_options_fini(&o);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client URL");
    TCase *t = tcase_create("url");
    suite_add_tcase(s, t);
    tcase_add_test(t, whole_urls_are_taken);
    tcase_add_test(t, anything_else_is_not);
    tcase_add_test(t, no_setting_is_reached_by_a_url);
    tcase_add_test(t, a_url_sets_the_host_and_nothing_else);
    return wv_run_suite(s);
}
