/* What strangers send to a gateway, before any of it counts: JSON, headers, paths, addresses. */
#include "lib/base/util.h"
#include "services/gateway/http_head.h"
#include "services/gateway/page.h"
#include "services/gateway/routes.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static char reason[WV_JSON_REASON_BYTES];

static int parse(const char *text, json_t **ret)
{
    return wv_json_parse(ret, text, strlen(text), reason);
}

START_TEST(json_that_is_one)
{
    json_t *o;
    ck_assert_int_eq(parse("{\"a\": \"\\u00fc\", \"b\": [1, {\"c\": true}]}", &o), 0);
    ck_assert_str_eq(wv_json_text(o, "a", ""), "ü");
    ck_assert_str_eq(wv_json_text(o, "b", "none"), "none");
    json_decref(o);
}
END_TEST

START_TEST(who_takes_gzip)
{
    static const char *const yes[] = {"gzip",           "GZIP",         "br, gzip", "br;q=1.0,\tgzip;q=0.5",
                                      "gzip ; q=0.001", "deflate,gzip,"};
    static const char *const no[] = {"",          "identity",      "br",       "gzip;q=0", "x-gzip",
                                     "gzip;q=0.", "gzip; q=0.000", "gzipped",  "br;gzip",  ",,;;",
                                     "*",         "gzip;q=",       "gzip;q=x", ", ,"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(yes); i++)
        ck_assert_msg(wv_page_takes_gzip(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < WV_ARRAY_SIZE(no); i++)
        ck_assert_msg(!wv_page_takes_gzip(no[i]), "%s", no[i]);
}
END_TEST

START_TEST(json_that_is_none)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "}",
                                      "[]",
                                      "1",
                                      "null",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":1}x",
                                      "{\"a\":\"\\u0000\"}",
                                      "{\"a\":nan}",
                                      "{'a':1}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\xed\xa0\x80\"}",
                                      "{\"a\":99999999999999999999}",
                                      "{\"o\":{\"a\":1,\"a\":1}}",
                                      "{\"a\":01}"};
    json_t *o = NULL;
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        reason[0] = 0;
        ck_assert_msg(parse(bad[i], &o) == -EINVAL, "%s", bad[i]);
        ck_assert_ptr_null(o);
        ck_assert_uint_ge(strlen(reason), 20);
    }
}
END_TEST

START_TEST(json_that_is_too_much)
{
    static char text[WV_JSON_BYTES_MAX + 2];
    json_t *o = NULL;
    memset(text, ' ', sizeof text - 1);
    memcpy(text, "{}", 2);
    ck_assert_int_eq(wv_json_parse(&o, text, WV_JSON_BYTES_MAX, reason), 0);
    json_decref(o);
    ck_assert_int_eq(wv_json_parse(&o, text, WV_JSON_BYTES_MAX + 1, reason), -EMSGSIZE);
    for (int depth = 14; depth <= 17; depth++) {
        memcpy(text, "{\"a\":", 5);
        memset(text + 5, '[', (size_t)depth);
        memset(text + 5 + depth, ']', (size_t)depth);
        strcpy(text + 5 + 2 * depth, "}");
        int r = parse(text, &o);
        ck_assert_int_eq(r, depth + 1 <= WV_JSON_DEPTH_MAX ? 0 : -E2BIG);
        if (r == 0)
            json_decref(o);
    }
    /* An escaped quote ends no string, so that it hides nothing behind it. */
    ck_assert_int_eq(parse("{\"a\":\"\\\"\",\"b\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}", &o), -E2BIG);
    /* Brackets within a string are none, also behind an escaped quote. */
    ck_assert_int_eq(parse("{\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[\"}", &o), 0);
    json_decref(o);
}
END_TEST

START_TEST(fields)
{
    static const struct wv_json_field table[] = {{"text", WV_JSON_TEXT, true, 2, 4},
                                                 {"int", WV_JSON_INT, false, -1, 5},
                                                 {"flag", WV_JSON_FLAG, false, 0, 0},
                                                 {"real", WV_JSON_REAL, false, 0, 1},
                                                 {"list", WV_JSON_LIST, false, 1, 2},
                                                 {"object", WV_JSON_OBJECT, false, 0, 0},
                                                 {0}};
    static const struct {
        const char *text;
        bool right;
    } cases[] = {{"{\"text\":\"ab\"}", true},
                 {"{}", false},
                 {"{\"text\":\"a\"}", false},
                 {"{\"text\":\"abcde\"}", false},
                 {"{\"text\":\"a\\u0001\"}", false},
                 {"{\"text\":\"ab\",\"more\":1}", false},
                 {"{\"text\":1}", false},
                 {"{\"text\":\"ab\",\"int\":5,\"flag\":false,\"real\":1,\"list\":[1],\"object\":{}}", true},
                 {"{\"text\":\"ab\",\"int\":6}", false},
                 {"{\"text\":\"ab\",\"int\":1.0}", false},
                 {"{\"text\":\"ab\",\"flag\":1}", false},
                 {"{\"text\":\"ab\",\"real\":1.01}", false},
                 {"{\"text\":\"ab\",\"real\":\"1\"}", false},
                 {"{\"text\":\"ab\",\"list\":[]}", false},
                 {"{\"text\":\"ab\",\"list\":[1,2,3]}", false},
                 {"{\"text\":\"ab\",\"object\":[]}", false}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(cases); i++) {
        json_t *o;
        ck_assert_int_eq(parse(cases[i].text, &o), 0);
        ck_assert_msg((wv_json_check(o, table, reason) == 0) == cases[i].right, "%s", cases[i].text);
        json_decref(o);
    }
}
END_TEST

START_TEST(bytes_in_json)
{
    uint8_t in[32], out[32];
    json_t *o = json_object();
    randombytes_buf(in, sizeof in);
    wv_json_set_bytes(o, "b", in, sizeof in);
    ck_assert_int_eq(wv_json_bytes(o, "b", out, sizeof out), 0);
    ck_assert_mem_eq(in, out, sizeof in);
    ck_assert_int_eq(wv_json_bytes(o, "b", out, 31), -EINVAL);
    ck_assert_int_eq(wv_json_bytes(o, "none", out, 32), -EINVAL);
    json_object_set_new(o, "b", json_string("AAAA="));
    ck_assert_int_eq(wv_json_bytes(o, "b", out, 3), -EINVAL);
    json_decref(o);
}
END_TEST

static void address(const char *text, uint8_t ret[16])
{
    memset(ret, 0, 16);
    if (inet_pton(AF_INET6, text, ret) == 1)
        return;
    ret[10] = ret[11] = 0xff;
    ck_assert_int_eq(inet_pton(AF_INET, text, ret + 12), 1);
}

START_TEST(forwarded_addresses)
{
    static const struct {
        const char *from, *header, *want;
    } cases[] = {
        {"203.0.113.1", "192.0.2.1", "203.0.113.1"}, /* not a proxy of ours */
        {"127.0.0.1", "", "127.0.0.1"},
        {"127.0.0.1", "192.0.2.1", "192.0.2.1"},
        {"127.0.0.1", "6.6.6.6, 192.0.2.1", "192.0.2.1"}, /* what the client said itself is to the left */
        {"127.0.0.1", "6.6.6.6, 192.0.2.1, 10.1.2.3", "192.0.2.1"}, /* a chain of ours */
        {"127.0.0.1", "10.1.2.3", "10.1.2.3"},
        {"127.0.0.1", "192.0.2.1, junk", "127.0.0.1"}, /* who must not lie is not believed past it */
        {"127.0.0.1", "192.0.2.1:5555", "192.0.2.1"},
        {"127.0.0.1", "[2001:db8::1]:5555", "2001:db8::1"},
        {"127.0.0.1", "2001:db8::1", "2001:db8::1"},
        {"127.0.0.1", ",,,", "127.0.0.1"},
        {"::1", "192.0.2.1", "::1"},
    };
    struct wv_gateway_settings s;
    char *message = NULL;
    ck_assert_int_eq(wv_gateway_parse_trusted("127.0.0.1 10.0.0.0/8 2001:db8:1::/48", &s, &message), 0);
    for (size_t i = 0; i < WV_ARRAY_SIZE(cases); i++) {
        uint8_t from[16], got[16];
        char text[64];
        address(cases[i].from, from);
        wv_http_forwarded(cases[i].header, s.trusted, s.n_trusted, from, got);
        wv_address_text(got, text, sizeof text);
        ck_assert_str_eq(text, cases[i].want);
    }
}
END_TEST

START_TEST(tokens)
{
    char text[WV_TOKEN_TEXT_BYTES], header[256];
    uint8_t hash[32], got[32];
    wv_token_make(text, hash);
    snprintf(header, sizeof header, "Bearer %s", text);
    ck_assert_int_eq(wv_http_bearer(header, got), 0);
    ck_assert_mem_eq(hash, got, 32);
    snprintf(header, sizeof header, "a=b; " WV_COOKIE_NAME "=%s; c=d", text);
    ck_assert_int_eq(wv_http_cookie(header, got), 0);
    ck_assert_mem_eq(hash, got, 32);
    static const char *const none[] = {"Bearex %s", "Bearer %s!", WV_COOKIE_NAME "x%s",
                                       WV_COOKIE_NAME "=%s!"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(none); i++) { /* a good token, but not where one stands */
        snprintf(header, sizeof header, none[i], text);
        ck_assert_int_eq(wv_http_bearer(header, got), -ENOENT);
        ck_assert_int_eq(wv_http_cookie(header, got), -ENOENT);
    }
    static const char *const bad[] = {"",
                                      "Bearer",
                                      "Bearer ",
                                      "Basic QUJD",
                                      "Bearer AAAA",
                                      "Bearer =",
                                      ";;;=",
                                      WV_COOKIE_NAME "=",
                                      WV_COOKIE_NAME "x=AAAA",
                                      "x" WV_COOKIE_NAME "=AAAA"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        ck_assert_int_eq(wv_http_bearer(bad[i], got), -ENOENT);
        ck_assert_int_eq(wv_http_cookie(bad[i], got), -ENOENT);
    }
}
END_TEST

START_TEST(lengths)
{
    int64_t got = 7;
    ck_assert_int_eq(wv_http_length("0", 10, &got), 0);
    ck_assert_int_eq(got, 0);
    ck_assert_int_eq(wv_http_length("10", 10, &got), 0);
    ck_assert_int_eq(got, 10);
    ck_assert_int_eq(wv_http_length("11", 10, &got), -EMSGSIZE);
    ck_assert_int_eq(wv_http_length("99999999999999999999999999", INT64_MAX / 16, &got), -EMSGSIZE);
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1,1", "1e3"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(wv_http_length(bad[i], 10, &got), -EINVAL);
}
END_TEST

START_TEST(routes)
{
    char args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES], path[300];
    bool known;
    const struct wv_route *r = wv_route_find("DELETE", "/v1/hosts/abc/shares/def", args, &known);
    ck_assert_ptr_nonnull(r);
    ck_assert_str_eq(args[0], "abc");
    ck_assert_str_eq(args[1], "def");
    ck_assert_ptr_null(wv_route_find("PATCH", "/v1/hosts/abc/shares/def", args, &known));
    ck_assert(known);
    static const char *const none[] = {"",
                                       "/",
                                       "/v1/hosts/",
                                       "/v1/hosts//shares",
                                       "/v1/hosts/a/b",
                                       "/v1/login/",
                                       "/v1/logi",
                                       "/v1/hosts/a/shares/b/",
                                       "/v1/hosts/{key}/"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(none); i++) {
        ck_assert_ptr_null(wv_route_find("GET", none[i], args, &known));
        ck_assert(!known);
    }
    memset(path, 'a', sizeof path);
    memcpy(path, "/v1/hosts/", 10);
    path[sizeof path - 1] = 0;
    ck_assert_ptr_null(wv_route_find("DELETE", path, args, &known));
}
END_TEST

/* A route that asked for less would be open to a machine's token, or to any account's. */
START_TEST(who_may_call_what)
{
    static const struct {
        const char *method, *path;
        enum wv_auth auth;
    } want[] = {
        {"GET", "/healthz", WV_AUTH_NONE},
        {"GET", "/readyz", WV_AUTH_NONE},
        {"GET", "/v1/signal", WV_AUTH_NONE},
        {"POST", "/v1/login", WV_AUTH_NONE},
        {"POST", "/v1/logout", WV_AUTH_ANY},
        {"POST", "/v1/challenge", WV_AUTH_NONE},
        {"POST", "/v1/session", WV_AUTH_NONE},
        {"GET", "/v1/account", WV_AUTH_ANY},
        {"POST", "/v1/account/password", WV_AUTH_PERSON},
        {"POST", "/v1/account/totp", WV_AUTH_PERSON},
        {"POST", "/v1/account/totp/confirm", WV_AUTH_PERSON},
        {"POST", "/v1/account/totp/remove", WV_AUTH_PERSON},
        {"POST", "/v1/account/recovery", WV_AUTH_PERSON},
        {"GET", "/v1/audit", WV_AUTH_PERSON},
        {"POST", "/v1/devices", WV_AUTH_PERSON},
        {"GET", "/v1/devices", WV_AUTH_ANY},
        {"DELETE", "/v1/devices/k", WV_AUTH_PERSON},
        {"POST", "/v1/hosts", WV_AUTH_PERSON},
        {"GET", "/v1/hosts", WV_AUTH_ANY},
        {"DELETE", "/v1/hosts/k", WV_AUTH_PERSON},
        {"POST", "/v1/hosts/k/shares", WV_AUTH_PERSON},
        {"GET", "/v1/hosts/k/shares", WV_AUTH_PERSON},
        {"DELETE", "/v1/hosts/k/shares/a", WV_AUTH_PERSON},
        {"GET", "/v1/accounts", WV_AUTH_ADMIN},
        {"POST", "/v1/accounts", WV_AUTH_ADMIN},
        {"PATCH", "/v1/accounts/a", WV_AUTH_ADMIN},
        {"GET", "/v1/relays", WV_AUTH_ADMIN},
        {"PUT", "/v1/relays/r", WV_AUTH_ADMIN},
        {"DELETE", "/v1/relays/r", WV_AUTH_ADMIN},
        {"POST", "/v1/relays/r/drain", WV_AUTH_ADMIN},
        {"POST", "/v1/relays/r/heartbeat", WV_AUTH_NONE},
        {"POST", "/v1/leases", WV_AUTH_MACHINE},
        {"GET", "/v1/sessions", WV_AUTH_ANY},
    };
    char args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES];
    bool known;
    for (size_t i = 0; i < WV_ARRAY_SIZE(want); i++) {
        const struct wv_route *r = wv_route_find(want[i].method, want[i].path, args, &known);
        ck_assert_msg(r && r->auth == want[i].auth, "%s %s", want[i].method, want[i].path);
    }
    static const struct wv_route *const tables[] = {wv_probe_routes,   wv_login_routes, wv_account_routes,
                                                    wv_machine_routes, wv_admin_routes, wv_live_routes};
    size_t n = 0;
    for (size_t i = 0; i < WV_ARRAY_SIZE(tables); i++)
        for (const struct wv_route *r = tables[i]; r->method; r++)
            n++;
    ck_assert_uint_eq(n, WV_ARRAY_SIZE(want)); /* who adds one says here who may call it */
}
END_TEST

START_TEST(queries)
{
    struct wv_request q = {.query = "before=5&x&all=1&long=abcdefgh&all=2"};
    char text[8];
    ck_assert(wv_request_query(&q, "before", text, sizeof text));
    ck_assert_str_eq(text, "5");
    ck_assert(wv_request_query(&q, "all", text, sizeof text));
    ck_assert_str_eq(text, "1");
    ck_assert(!wv_request_query(&q, "x", text, sizeof text));
    ck_assert(!wv_request_query(&q, "long", text, sizeof text));
    ck_assert(!wv_request_query(&q, "efore", text, sizeof text));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gateway: what strangers send");
    TCase *c = tcase_create("all");
    if (sodium_init() < 0)
        return 1;
    tcase_add_test(c, json_that_is_one);
    tcase_add_test(c, who_takes_gzip);
    tcase_add_test(c, json_that_is_none);
    tcase_add_test(c, json_that_is_too_much);
    tcase_add_test(c, fields);
    tcase_add_test(c, bytes_in_json);
    tcase_add_test(c, forwarded_addresses);
    tcase_add_test(c, tokens);
    tcase_add_test(c, lengths);
    tcase_add_test(c, routes);
    tcase_add_test(c, who_may_call_what);
    tcase_add_test(c, queries);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
