/* Where a gateway is and what a person's programs remember of it: what is taken, and what is refused. */
#include "lib/base/util.h"
#include "lib/gateway/account.h"
#include "lib/gateway/live.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

START_TEST(urls)
{
    static const struct {
        const char *text, *url, *name;
    } good[] = {
        {"https://gw.example", "https://gw.example:443", "gw.example:443"},
        {"gw.example", "https://gw.example:443", "gw.example:443"},
        {"GW.Example:8443", "https://gw.example:8443", "gw.example:8443"},
        {"https://gw.example:8443/", "https://gw.example:8443", "gw.example:8443"},
        {"http://localhost:8080", "http://localhost:8080", "localhost:8080"},
        {"http://127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:80"},
        {"https://192.0.2.1", "https://192.0.2.1:443", "192.0.2.1:443"},
        {"[2001:DB8:0::1]", "https://[2001:db8::1]:443", "[2001:db8::1]:443"},
        {"https://[::1]:8443/", "https://[::1]:8443", "[::1]:8443"},
        {"http://[::1]:8443", "http://[::1]:8443", "[::1]:8443"},
    };
    static const char *const bad[] = {
        "",
        "https://",
        "https://gw.example/path",
        "https://gw.example:0",
        "https://gw.example:65536",
        "https://:1",
        "https://gw:1:2",
        "https://user@gw.example",
        "https://gw example",
        "https://gw.example:1x",
        "https://-a",
        "https://gw?x",
        "ftp://gw.example",
        "https://gw.example:\n",
        "https://g\xc3\xbc.example",
        "https://[]",
        "https://[::1",
        "https://::1",
        "https://[::1]8443",
        "https://[::1]x:8443",
        "https://[::1]:",
        "https://[::1%eth0]",
        "https://[127.0.0.1]",
        "https://[gw.example]:443",
        "https://[0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:1]",
    };
    struct wv_gateway_url url;
    char text[WV_GATEWAY_URL_BYTES], longest[600] = "https://";
    for (size_t i = 0; i < WV_ARRAY_SIZE(good); i++) {
        ck_assert_msg(wv_gateway_url_parse(good[i].text, &url) == 0, "%s", good[i].text);
        wv_gateway_url_format(&url, text);
        ck_assert_str_eq(text, good[i].url);
        ck_assert_str_eq(url.name, good[i].name);
        ck_assert_int_eq(wv_gateway_url_parse(text, &url), 0);
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_msg(wv_gateway_url_parse(bad[i], &url) == -EINVAL, "\"%s\"", bad[i]);
    ck_assert_int_eq(wv_gateway_url_parse("http://[2001:db8::1]", &url), -EPERM);
    ck_assert_int_eq(wv_gateway_url_parse("http://gw.example", &url),
                     -EPERM); /* a password would go over it */
    memset(longest + 8, 'a', 500);
    ck_assert_int_eq(wv_gateway_url_parse(longest, &url), -EINVAL);
}
END_TEST

START_TEST(places_become_addresses)
{
    static const uint8_t v4[18] = {[10] = 0xff, 0xff, 192, 0, 2, 7, 0x12, 0xd5};
    static const uint8_t v6[18] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1, [16] = 0, [17] = 80};
    uint8_t got[4][18];
    ck_assert_uint_eq(wv_gateway_resolve("192.0.2.7:4821", got, 4), 1);
    ck_assert_mem_eq(got[0], v4, 18);
    ck_assert_uint_eq(wv_gateway_resolve("[2001:db8::1]:80", got, 4), 1);
    ck_assert_mem_eq(got[0], v6, 18);
    static const char *const bad[] = {
        "", "192.0.2.7", ":80", "192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "[]:1"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_msg(wv_gateway_resolve(bad[i], got, 4) == 0, "\"%s\"", bad[i]);
}
END_TEST

static char folder[64], path[128];

static void setup(void)
{
    strcpy(folder, "/tmp/test_gateway.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/deep/gateway.conf", folder);
}

static void teardown(void)
{
    char deep[96];
    (void)unlink(path);
    snprintf(deep, sizeof deep, "%s/deep", folder);
    (void)rmdir(deep);
    ck_assert_int_eq(rmdir(folder), 0);
}

static void make(struct wv_gateway_account *a)
{
    *a = (struct wv_gateway_account){.account = "Alice B", .token = "secret", .expires = 1800000000};
    ck_assert_int_eq(wv_gateway_url_parse("https://gw.example:8443", &a->url), 0);
}

START_TEST(an_account_is_kept_in_private)
{
    struct wv_gateway_account a, b;
    char message[512] = "";
    struct stat st;
    make(&a);
    ck_assert_int_eq(wv_gateway_account_load(path, &b, message, sizeof message), WV_ACCOUNT_NONE);
    ck_assert_int_eq(wv_gateway_account_save(path, &a, message, sizeof message), 0);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(wv_gateway_account_load(path, &b, message, sizeof message), 0);
    ck_assert_str_eq(b.url.name, "gw.example:8443");
    ck_assert(b.url.tls);
    ck_assert_str_eq(b.account, "Alice B");
    ck_assert_str_eq(b.token, "secret");
    ck_assert_str_eq(b.ca_file, "");
    ck_assert_uint_eq(b.expires, 1800000000);
    ck_assert_int_eq(chmod(path, 0640), 0);
    ck_assert_int_eq(wv_gateway_account_load(path, &b, message, sizeof message), -EACCES);
    ck_assert_ptr_nonnull(strstr(message, path));
}
END_TEST

START_TEST(a_damaged_file_is_said)
{
    static const char *const bad[] = {"",
                                      "account = a\n",
                                      "url = ftp://x\n",
                                      "url = https://gw.example\nexpires = soon\n",
                                      "url = https://gw.example\nother = 1\n",
                                      "url=https://gw.example\n",
                                      "url = https://gw.example\nrubbish\n"};
    struct wv_gateway_account a, b;
    char message[512];
    make(&a);
    ck_assert_int_eq(wv_gateway_account_save(path, &a, message, sizeof message), 0);
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        message[0] = '\0';
        ck_assert_int_eq(wv_write_file_atomic(path, bad[i], strlen(bad[i]), 0600), 0);
        ck_assert_msg(wv_gateway_account_load(path, &b, message, sizeof message) == -EINVAL, "%s", bad[i]);
        ck_assert_ptr_nonnull(strstr(message, "damaged"));
    }
    static char large[6000];
    memset(large, '#', sizeof large);
    ck_assert_int_eq(wv_write_file_atomic(path, large, sizeof large, 0600), 0);
    ck_assert_int_eq(wv_gateway_account_load(path, &b, message, sizeof message), -EINVAL);
}
END_TEST

/* Nobody is at that port: the thread says so, goes on trying, and ends when it is told to. */
START_TEST(a_gateway_that_is_not_there)
{
    static struct wv_gateway_event e;
    struct wv_gateway_live *l;
    struct wv_gateway_url url;
    bool lost = false;
    ck_assert_int_eq(wv_gateway_url_parse("http://127.0.0.1:1", &url), 0);
    ck_assert_int_eq(wv_gateway_live_new(&l, "/no/such/file"), -ENOENT);
    ck_assert_int_eq(wv_gateway_live_new(&l, NULL), 0);
    ck_assert_int_eq(wv_gateway_live_signal(l, "wavry1x", "1", (const uint8_t *)"x", 1), -ENOTCONN);
    wv_gateway_live_aim(l, &url, "wavry1x");
    for (uint64_t until = wv_now_ns() + 30 * WV_NS_PER_S; !lost && wv_now_ns() < until; usleep(5000))
        while (wv_gateway_live_next(l, &e))
            lost = lost || e.kind == WV_GATEWAY_LOST;
    ck_assert(lost);
    ck_assert_ptr_nonnull(strstr(e.text, "does not answer"));
    wv_gateway_live_aim(l, NULL, "");
    ck_assert_ptr_null(wv_gateway_live_free(l));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gateway account");
    TCase *tcase = tcase_create("account");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, urls);
    tcase_add_test(tcase, places_become_addresses);
    tcase_add_test(tcase, an_account_is_kept_in_private);
    tcase_add_test(tcase, a_damaged_file_is_said);
    tcase_add_test(tcase, a_gateway_that_is_not_there);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
