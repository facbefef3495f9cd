/* What a gateway that is hostile, broken or none at all can do to a machine that asks it: take a bounded
 * time, a bounded memory, and be told of in words. */
#include "lib/base/util.h"
#include "lib/gateway/wire.h"
#include "tests/unit/certificates.h"
#include "tests/unit/gateway_stand_in.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_MS 20000
#define SHORT_MS    300
#define DRIP_MS     10
#define SENT_MAX    (64u << 20) /* what is written to somebody who has stopped reading ends in buffers */
#define OK          "HTTP/1.1 200 OK\r\n"
#define JSON        "content-type: application/json\r\n"

/* ---- answers ---- */

struct hostile {
    const char *what, *head; /* that comes at once */
    const char *again;       /* then this, for ever; NULL: nothing */
    bool drips, stays;       /* byte by byte; and then silence, not the end */
    unsigned timeout_ms;
    int result;
    const char *words;
};

static const struct hostile answers[] = {
    {"an answer a byte at a time", OK JSON, OK, true, true, SHORT_MS, -ETIMEDOUT, "in time"},
    {"a body a byte at a time", OK JSON "content-length: 200000\r\n\r\n", " ", true, true, SHORT_MS,
     -ETIMEDOUT, "does not end in time"},
    {"no answer", "", NULL, false, true, SHORT_MS, -ETIMEDOUT, "no answer in time"},
    {"the greeting of something else", "SSH-2.0-OpenSSH_9.2\r\n", NULL, false, true, SHORT_MS, -ETIMEDOUT,
     "in time"},
    {"a body without end", OK JSON "\r\n{\"a\":\"", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false, true,
     PATIENCE_MS, -EPROTO, "more than 256 KiB"},
    {"chunks without end", OK JSON "transfer-encoding: chunked\r\n\r\n", "8\r\n[[[[[[[[\r\n", false, true,
     PATIENCE_MS, -EPROTO, "more than 256 KiB"},
    {"a length of 2^64 and more", OK JSON "content-length: 99999999999999999999999\r\n\r\n{", NULL, false,
     true, PATIENCE_MS, -EPROTO, "more than 256 KiB"},
    {"a length below nothing", OK JSON "content-length: -1\r\n\r\n{", NULL, false, true, PATIENCE_MS, -EPROTO,
     "more than 256 KiB"},
    {"a header without end", OK "x: ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false,
     true, PATIENCE_MS, -EPROTO, "no HTTP"},
    {"headers without end", OK, "x-aaaaaaaa: bbbbbbbbbbbbbbbb\r\n", false, true, PATIENCE_MS, 0, ""},
    {"half a body", OK JSON "content-length: 100\r\n\r\n{}", NULL, false, false, PATIENCE_MS, -ECONNRESET,
     "in the middle"},
    {"no body, but a length", OK JSON "content-length: 100\r\n\r\n", NULL, false, false, PATIENCE_MS,
     -ECONNRESET, "in the middle"},
    {"a chunk that is cut off", OK JSON "transfer-encoding: chunked\r\n\r\n8\r\n{", NULL, false, false,
     PATIENCE_MS, -EPROTO, "no gateway of Wavry"},
    {"chunks that never come", OK JSON "transfer-encoding: chunked\r\n\r\n", NULL, false, false, PATIENCE_MS,
     -ECONNRESET, "in the middle"},
    {"half a header", OK "content-le", NULL, false, false, PATIENCE_MS, -ECONNREFUSED, "does not answer"},
    {"no word", "", NULL, false, false, PATIENCE_MS, -ECONNREFUSED, "ends the connection"},
    {"it leads elsewhere", "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
     NULL, false, false, PATIENCE_MS, -EPROTO, "leads elsewhere"},
    {"it moved", "HTTP/1.1 308 Moved\r\nlocation: /v2\r\ncontent-length: 0\r\n\r\n", NULL, false, false,
     PATIENCE_MS, -EPROTO, "leads elsewhere"},
    {"a page", OK "content-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>", NULL, false, false,
     PATIENCE_MS, -EPROTO, "no gateway of Wavry"},
    {"a page of a proxy", "HTTP/1.1 502 Bad\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
     NULL, false, false, PATIENCE_MS, -EPROTO, "no gateway of Wavry"},
    {"no object", OK JSON "content-length: 2\r\n\r\n[]", NULL, false, false, PATIENCE_MS, -EPROTO,
     "no gateway of Wavry"},
    {"a key twice", OK JSON "content-length: 16\r\n\r\n{\"a\":1,\"a\":true}", NULL, false, false, PATIENCE_MS,
     -EPROTO, "no gateway of Wavry"},
    {"one answer after the other", "", "HTTP/1.1 100 Continue\r\n\r\n", false, true, PATIENCE_MS, -EPROTO,
     "no gateway of Wavry"},
};

static struct {
    const struct hostile *now; /* NULL: a gateway as it should be */
    atomic_size_t sent;
} play;

static void answer(struct stand_in_peer *peer, void *userdata, const char *head, const char *body)
{
    const struct hostile *h = play.now;
    atomic_store(&play.sent, 0);
    if (!h) {
        stand_in_answer(peer, 200, "{\"well\":true}");
        return;
    }
    stand_in_put(peer, h->head, strlen(h->head));
    while (h->again && (h->drips ? stand_in_drip(peer, h->again, DRIP_MS)
                                 : stand_in_put(peer, h->again, strlen(h->again))))
        atomic_fetch_add(&play.sent, strlen(h->again));
    if (h->stays)
        stand_in_wait(peer, 3600000);
}

static void aim(struct wv_gateway *g, const char *scheme, const char *host, uint16_t port)
{
    struct wv_gateway_url url;
    char text[100];
    snprintf(text, sizeof text, "%s://%s:%u", scheme, host, port);
    ck_assert_int_eq(wv_gateway_url_parse(text, &url), 0);
    wv_gateway_aim(g, &url);
}

static int ask(struct wv_gateway *g, unsigned timeout_ms, struct wv_gateway_answer *ret)
{
    return wv_gateway_request(g, "GET", "/v1/hosts", "token", NULL, timeout_ms, ret);
}

/* What a person can do something with: where it is, and not a library's words for what it is. */
static void assert_readable(const char *sentence, const char *where)
{
    static const char *const theirs[] = {"SSL err", "X509", "error:", "errno", "lib(", "HS:", "pollhup"};
    ck_assert_msg(strstr(sentence, where), "\"%s\" does not say where", sentence);
    ck_assert_msg(sentence[strlen(sentence) - 1] == '.' || sentence[strlen(sentence) - 1] == '?', "\"%s\"",
                  sentence);
    for (size_t i = 0; i < WV_ARRAY_SIZE(theirs); i++)
        ck_assert_msg(!strstr(sentence, theirs[i]), "\"%s\"", sentence);
}

START_TEST(an_answer_that_is_none)
{
    const struct hostile *h = &answers[_i];
    struct wv_gateway_answer a;
    struct wv_gateway *g;
    struct stand_in *s = stand_in_new(false, NULL, answer, NULL);
    ck_assert_int_eq(wv_gateway_new(&g, NULL), 0);
    aim(g, "http", "127.0.0.1", stand_in_port(s));
    for (int again = 0; again < 2; again++) {
        play.now = h;
        int r = ask(g, h->timeout_ms, &a);
        if (h->result) {
            ck_assert_msg(r == h->result && strstr(a.sentence, h->words), "%s: %d \"%s\"", h->what, r,
                          a.sentence);
            ck_assert_ptr_null(a.body);
            assert_readable(a.sentence, "127.0.0.1:");
        } else {
            ck_assert_msg(r < 0, "%s: %d", h->what, r);
        }
        wv_gateway_answer_fini(&a);
        ck_assert_uint_lt(atomic_load(&play.sent), SENT_MAX);
    }
    play.now = NULL; /* and the next question gets its answer */
    ck_assert_msg(ask(g, PATIENCE_MS, &a) == 0 && a.body, "%s: then %s", h->what, a.sentence);
    wv_gateway_answer_fini(&a);
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

/* "Done", from the gateway itself or from a proxy that closes behind each answer: such an answer has no
 * length (RFC 9110, 8.6). */
static const struct hostile done[] = {
    {"and it stays", "HTTP/1.1 204 No Content\r\n\r\n", NULL, false, true, PATIENCE_MS, 0, NULL},
    {"and it closes", "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", NULL, false, false, PATIENCE_MS,
     0, NULL},
    {"a length all the same", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", NULL, false, true,
     PATIENCE_MS, 0, NULL},
};

START_TEST(an_answer_without_a_body)
{
    struct wv_gateway_answer a;
    struct wv_gateway *g;
    struct stand_in *s = stand_in_new(false, NULL, answer, NULL);
    play.now = &done[_i];
    ck_assert_int_eq(wv_gateway_new(&g, NULL), 0);
    aim(g, "http", "127.0.0.1", stand_in_port(s));
    int r = ask(g, PATIENCE_MS, &a);
    ck_assert_msg(r == 0, "%s: %d %s", done[_i].what, r, a.sentence);
    ck_assert_uint_eq(a.status, 204);
    wv_gateway_answer_fini(&a);
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

static void answer_deep(struct stand_in_peer *peer, void *userdata, const char *head, const char *body)
{
    static char deep[200001];
    for (size_t i = 0; i + 5 < sizeof deep; i += 5)
        memcpy(deep + i, "{\"a\":", 5);
    stand_in_answer(peer, 200, deep);
}

START_TEST(a_deep_answer)
{
    struct wv_gateway_answer a;
    struct wv_gateway *g;
    struct stand_in *s = stand_in_new(false, NULL, answer_deep, NULL);
    ck_assert_int_eq(wv_gateway_new(&g, NULL), 0);
    aim(g, "http", "127.0.0.1", stand_in_port(s));
    ck_assert_int_eq(ask(g, PATIENCE_MS, &a), -EPROTO);
    ck_assert_ptr_null(a.body);
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

START_TEST(nobody_is_there)
{
    struct wv_gateway_answer a;
    struct wv_gateway *g;
    ck_assert_int_eq(wv_gateway_new(&g, NULL), 0);
    aim(g, _i ? "https" : "http", "127.0.0.1", 1);
    ck_assert_int_eq(ask(g, PATIENCE_MS, &a), -ECONNREFUSED);
    assert_readable(a.sentence, "127.0.0.1:1 does not answer");
    wv_gateway_free(g);
}
END_TEST

/* ---- certificates ---- */

static char folder[64];

static const char *file(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void set_up(void)
{
    strcpy(folder, "/tmp/test_hostile.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    const struct certificate authority = {.from_s = -86400, .until_s = 86400, .is_issuer = true};
    certificate_write(file("trusted.pem"), &authority);
    certificate_write(file("other.pem"), &authority);
}

static void tear_down(void)
{
    (void)unlink(file("trusted.pem"));
    (void)unlink(file("other.pem"));
    (void)unlink(file("own.pem"));
    ck_assert_int_eq(rmdir(folder), 0);
}

static const struct {
    const char *what, *issuer; /* NULL: itself */
    struct certificate certificate;
    const char *words[3]; /* NULL: it passes */
} faults[] = {
    {"good", "trusted.pem", {.names = "IP:127.0.0.1,DNS:localhost", .from_s = -60, .until_s = 3600}, {NULL}},
    {"of an unknown authority",
     "other.pem",
     {.names = "IP:127.0.0.1,DNS:localhost", .from_s = -60, .until_s = 3600},
     {"nobody whom this machine trusts", "wavryctl login --ca-file FILE", "ca_file in [reach]"}},
    {"signed by itself",
     NULL,
     {.names = "IP:127.0.0.1,DNS:localhost", .from_s = -60, .until_s = 3600},
     {"signed its certificate itself", "wavryctl login --ca-file FILE", "ca_file in [reach]"}},
    {"expired an hour ago",
     "trusted.pem",
     {.names = "IP:127.0.0.1,DNS:localhost", .from_s = -7200, .until_s = -3600},
     {"ended at 20", "this machine's clock says 20", "renew"}},
    {"valid in an hour",
     "trusted.pem",
     {.names = "IP:127.0.0.1,DNS:localhost", .from_s = 3600, .until_s = 7200},
     {"begins at 20", "this machine's clock says 20", "Set the clock"}},
    {"for another name",
     "trusted.pem",
     {.names = "IP:127.0.0.2,DNS:gw.example", .from_s = -60, .until_s = 3600},
     {"for another name than ", "Use the name that it is for", "operator"}},
};

START_TEST(a_certificate_that_does_not_pass)
{
    struct certificate c = faults[_i / 2].certificate;
    const char *host = _i % 2 ? "localhost" : "127.0.0.1";
    struct wv_gateway_answer a;
    struct wv_gateway *g;
    c.issuer = faults[_i / 2].issuer ? file(faults[_i / 2].issuer) : NULL;
    certificate_write(file("own.pem"), &c);
    play.now = NULL;
    struct stand_in *s = stand_in_new(false, file("own.pem"), answer, NULL);
    ck_assert_int_eq(wv_gateway_new(&g, file("trusted.pem")), 0);
    aim(g, "https", host, stand_in_port(s));
    int r = ask(g, PATIENCE_MS, &a);
    ck_assert_msg(r == (faults[_i / 2].words[0] ? -EKEYREJECTED : 0), "%s: %d \"%s\"", faults[_i / 2].what, r,
                  a.sentence);
    for (size_t i = 0; i < 3 && faults[_i / 2].words[i]; i++) {
        ck_assert_msg(strstr(a.sentence, faults[_i / 2].words[i]), "%s: \"%s\"", faults[_i / 2].what,
                      a.sentence);
        assert_readable(a.sentence, host);
    }
    wv_gateway_answer_fini(&a);
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

static const struct {
    const char *greeting;
    size_t len;
    const char *words;
} no_tls[] = {
    {"HTTP/1.1 400 Bad Request\r\n\r\n", 28, "does not speak TLS"},
    {"SSH-2.0-OpenSSH_9.2\r\n", 21, "does not speak TLS"},
    {"\x15\x03\x03\0\x02\x02\x28", 7, "no encryption in common"}, /* handshake_failure */
    {"\x15\x03\x03\0\x02\x02\x46", 7, "no encryption in common"}, /* protocol_version */
};

START_TEST(a_port_without_tls)
{
    struct wv_gateway_answer a;
    struct wv_gateway *g;
    play.now = NULL;
    struct stand_in *s = stand_in_new(false, NULL, answer, NULL);
    stand_in_set_greeting(s, no_tls[_i].greeting, no_tls[_i].len);
    ck_assert_int_eq(wv_gateway_new(&g, NULL), 0);
    aim(g, "https", "127.0.0.1", stand_in_port(s));
    int r = ask(g, PATIENCE_MS, &a);
    ck_assert_msg(r == -EPROTO && strstr(a.sentence, no_tls[_i].words), "%d \"%s\"", r, a.sentence);
    assert_readable(a.sentence, "127.0.0.1:");
    wv_gateway_free(g);
    stand_in_free(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hostile gateway");
    TCase *http = tcase_create("answers"), *tls = tcase_create("certificates");
    signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(http, 120);
    tcase_set_timeout(tls, 120);
    tcase_add_loop_test(http, an_answer_that_is_none, 0, (int)WV_ARRAY_SIZE(answers));
    tcase_add_loop_test(http, an_answer_without_a_body, 0, (int)WV_ARRAY_SIZE(done));
    tcase_add_test(http, a_deep_answer);
    tcase_add_loop_test(http, nobody_is_there, 0, 2);
    tcase_add_checked_fixture(tls, set_up, tear_down);
    tcase_add_loop_test(tls, a_certificate_that_does_not_pass, 0, 2 * (int)WV_ARRAY_SIZE(faults));
    tcase_add_loop_test(tls, a_port_without_tls, 0, (int)WV_ARRAY_SIZE(no_tls));
    suite_add_tcase(suite, http);
    suite_add_tcase(suite, tls);
    return wv_run_suite(suite);
}
