/* wavryctl against a host that is played by a thread of the test: what is printed, what is asked, which exit
 * codes. */
#include "ctl/ctl.h"
#include "ctl/format.h"
#include "lib/base/util.h"
#include "lib/ipc/fdpass.h"
#include "lib/ipc/ring.h"
#include "rift/crypto/identity.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>

enum { FRAMES, DROPPED, CAPTURE, N_TABLE };

static const struct wv_metric table[N_TABLE] = {
    [FRAMES] = {"frames_published_total", "frames", WV_METRIC_COUNTER, "Frames \"seen\"."},
    [DROPPED] = {"dropped_total", "frames", WV_METRIC_COUNTER, "Frames dropped."},
    [CAPTURE] = {"capture_us", "us", WV_METRIC_HISTOGRAM, "Time to capture."},
};

static struct host {
    char dir[64], path[96];
    int listener, page, session_fd;
    struct wv_metrics *metrics;
    struct wv_session_page *sessions;
    pthread_t thread;
    /* what it answers, and what it was asked last */
    int error;
    const char *text, *state;
    bool hang_up, rubbish;
    char verb[64], argument[512];
} host;

static char *out_text, *err_text;
static char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];

static void answer(int fd, const Wavry__Bus__ControlRequest *request)
{
    Wavry__Bus__StageState capture = WAVRY__BUS__STAGE_STATE__INIT,
                           supervisor = WAVRY__BUS__STAGE_STATE__INIT;
    Wavry__Bus__StageState *stages[] = {&capture, &supervisor};
    Wavry__Bus__ControlReply reply = WAVRY__BUS__CONTROL_REPLY__INIT;
    char *names[] = {(char[]){"capture"}, (char[]){"session-page"}};
    int fds[2] = {wv_memfd_reopen_read_only(host.page), wv_memfd_reopen_read_only(host.session_fd)};
    capture.name = (char[]){"capture"};
    capture.state = (char *)(uintptr_t)host.state;
    capture.pid = 1234;
    capture.restarts = 2;
    capture.status = (char[]){"streaming\033[2J \"1280x720\""};
    capture.last_exit = (char[]){"killed by signal 9"};
    capture.retry_at_ns = wv_now_ns() + 60 * WV_NS_PER_S;
    capture.confinement = (char[]){"user wavry-capture, seccomp"};
    supervisor.name = (char[]){"supervisor"};
    supervisor.state = (char[]){"ready"};
    reply.error = host.error;
    reply.text = (char *)(uintptr_t)host.text;
    reply.version = (char[]){"9.9"};
    reply.address = (char[]){"[::]:4820"};
    reply.host_key = key_text;
    bool pages = strcmp(request->verb, "pages") == 0;
    if (pages || strcmp(request->verb, "status") == 0) {
        reply.stages = stages;
        reply.n_stages = 2;
    }
    reply.fd_names = names;
    reply.n_fd_names = pages ? 2 : 0;
    uint8_t packed[4096];
    size_t len = wavry__bus__control_reply__pack(&reply, packed);
    wv_fdpass_send(fd, host.rubbish ? (uint8_t *)"\xff\xff\xff" : packed, host.rubbish ? 3 : len, fds,
                   pages ? 2 : 0);
    wv_close(fds[0]);
    wv_close(fds[1]);
}

static void serve(int fd)
{
    uint8_t packed[4096];
    int fds[WV_FDPASS_MAX_FDS];
    size_t len, n_fds;
    int r;
    while ((r = wv_fdpass_receive(fd, packed, sizeof(packed), &len, fds, &n_fds)) == -EAGAIN)
        usleep(1000);
    if (r < 0 || len == 0 || host.hang_up)
        return;
    Wavry__Bus__ControlRequest *request = wavry__bus__control_request__unpack(NULL, len, packed);
    snprintf(host.verb, sizeof(host.verb), "%s", request->verb);
    snprintf(host.argument, sizeof(host.argument), "%s", request->argument);
    answer(fd, request);
    wavry__bus__control_request__free_unpacked(request, NULL);
    if (strcmp(host.verb, "stop") == 0) {
        unlink(host.path);
        host.listener = wv_close(host.listener);
    }
}

static void *be_host(void *unused)
{
    for (;;) {
        struct wv_peer peer;
        int fd = wv_seqpacket_accept(host.listener, &peer);
        if (fd == -EAGAIN) {
            usleep(1000);
            continue;
        }
        if (fd < 0)
            return NULL;
        serve(fd);
        wv_close(fd);
    }
}

static void set_up(void)
{
    host = (struct host){.text = "", .state = "ready"};
    strcpy(host.dir, "/tmp/wavry-test-ctl-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(host.dir));
    snprintf(host.path, sizeof(host.path), "%s/control.sock", host.dir);
    setenv("WAVRY_RUNTIME_DIR", host.dir, 1);
    struct rift_identity identity;
    ck_assert_int_eq(rift_crypto_init(), 0);
    rift_identity_generate(&identity);
    rift_public_key_format(identity.public, key_text);
    ck_assert_int_eq(wv_metrics_create_page(&host.page), 0);
    ck_assert_int_eq(wv_metrics_new(&host.metrics, host.page, "capture", table, N_TABLE), 0);
    ck_assert_int_eq(wv_session_page_create(&host.session_fd), 0);
    ck_assert_int_eq(wv_session_page_map(&host.sessions, host.session_fd, true), 0);
    struct wv_session_record s = {.id = 77, .controls = true, .rtt_ns = 1500000, .frames_sent = 5};
    memcpy(s.peer_key, identity.public, 32);
    strcpy(s.name, "Ada's \"laptop\"");
    strcpy(s.address, "192.0.2.1:5000");
    wv_session_page_set(host.sessions, 2, &s);
    wv_metric_add(host.metrics, FRAMES, 60);
    wv_metric_add(host.metrics, DROPPED, 3);
    for (uint64_t i = 1; i <= 100; i++)
        wv_metric_record(host.metrics, CAPTURE, i * 10);
}

static void start_host(void)
{
    host.listener = wv_seqpacket_listen(host.path, 0600);
    ck_assert_int_ge(host.listener, 0);
    ck_assert_int_eq(pthread_create(&host.thread, NULL, be_host, NULL), 0);
}

static void tear_down(void)
{
    unlink(host.path);
    rmdir(host.dir);
    free(out_text);
    free(err_text);
}

/* Runs wavryctl with these words (the last is NULL). The output is in out_text and err_text. */
static int ctl(const char *first, ...)
{
    char *argv[16] = {(char[]){"wavryctl"}, (char *)(uintptr_t)first};
    int argc = first ? 2 : 1;
    va_list args;
    va_start(args, first);
    while (first && (argv[argc] = va_arg(args, char *)) != NULL)
        argc++;
    va_end(args);
    size_t len;
    free(out_text);
    free(err_text);
    FILE *out = open_memstream(&out_text, &len), *err = open_memstream(&err_text, &len);
    int r = wv_ctl_main(argc, argv, out, err);
    fclose(out);
    fclose(err);
    return r;
}

static void has(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in:\n%s", part, text);
}

static void has_not(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) == NULL, "\"%s\" is in:\n%s", part, text);
}

START_TEST(usage_is_checked)
{
    ck_assert_int_eq(ctl(NULL), EX_USAGE);
    ck_assert_int_eq(ctl("--help", NULL), EX_OK);
    has(out_text, "authorize KEY");
    ck_assert_int_eq(ctl("--version", NULL), EX_OK);
    has(out_text, "wavryctl ");
    ck_assert_int_eq(ctl("dance", NULL), EX_USAGE);
    has(err_text, "dance");
    ck_assert_int_eq(ctl("restart", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("log-level", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("log-level", "capture", NULL), EX_USAGE);
    ck_assert_ptr_nonnull(strstr(err_text, "LEVEL"));
    ck_assert_int_eq(ctl("log-level", "capture", "debug", "now", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("status", "now", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("stop", "--json", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("metrics", "--json", "--openmetrics", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("top", "--count", "many", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("doctor", "--port", "65536", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("--frobnicate", NULL), EX_USAGE);
    has(err_text, "--frobnicate");
    ck_assert_int_eq(ctl("status", "--socket", NULL), EX_USAGE);
}
END_TEST

START_TEST(absent_host)
{
    static const char *const commands[] = {"status", "stages", "sessions", "metrics", "peers", "stop"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(commands); i++) {
        ck_assert_int_eq(ctl(commands[i], NULL), EX_UNAVAILABLE);
        has(err_text, "no host is running here (no answer on ");
        has(err_text, host.path);
        has(err_text, "wavry-supervisor --standalone");
        ck_assert_str_eq(out_text, "");
    }
    ck_assert_int_eq(ctl("top", "--once", NULL), EX_UNAVAILABLE);
    ck_assert_int_eq(ctl("--socket", "/nowhere/at/all", "status", NULL), EX_UNAVAILABLE);
    has(err_text, "/nowhere/at/all");
    char lengthy[300];
    memset(lengthy, 'x', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    ck_assert_int_eq(ctl("--socket", lengthy, "status", NULL), EX_USAGE);
}
END_TEST

START_TEST(status_and_stages)
{
    start_host();
    ck_assert_int_eq(ctl("status", NULL), EX_OK);
    has(out_text, "version 9.9");
    has(out_text, "[::]:4820");
    has(out_text, key_text);
    has(out_text, "sessions  1");
    has(out_text, "2 of 2 ready");
    has(out_text, "user wavry-capture, seccomp");
    has_not(out_text, "\033");
    ck_assert_int_eq(ctl("stages", NULL), EX_OK);
    has(out_text, "streaming?[2J");
    has(out_text, "1234");
    ck_assert_int_eq(ctl("stages", "--json", NULL), EX_OK);
    has(out_text, "{\"name\": \"capture\", \"state\": \"ready\", \"pid\": 1234, \"restarts\": 2");
    has(out_text, "\"status\": \"streaming?[2J \\\"1280x720\\\"\"");
    host.state = "backing off";
    ck_assert_int_eq(ctl("status", NULL), EX_TEMPFAIL); /* a script waits for 0 */
    has(out_text, "1 of 2 ready");
    has(out_text, "next try in");
    has(out_text, "killed by signal 9");
    ck_assert_int_eq(ctl("--json", "status", NULL), EX_TEMPFAIL);
    has(out_text, "\"ready\": false");
    has(out_text, "\"sessions\": 1");
}
END_TEST

START_TEST(sessions_are_listed)
{
    start_host();
    ck_assert_int_eq(ctl("sessions", NULL), EX_OK);
    has(out_text, "Ada's \"laptop\"");
    has(out_text, "192.0.2.1:5000");
    has(out_text, "1.5 ms");
    ck_assert_int_eq(ctl("sessions", "--json", NULL), EX_OK);
    has(out_text, "{\"id\": 77, \"name\": \"Ada's \\\"laptop\\\"\"");
    has(out_text, key_text);
    has(out_text, "\"rtt_us\": 1500");
    wv_session_page_set(host.sessions, 2, NULL);
    ck_assert_int_eq(ctl("sessions", NULL), EX_OK);
    has(out_text, "nobody is connected");
    ck_assert_int_eq(ctl("sessions", "--json", NULL), EX_OK);
    has(out_text, "{\"sessions\": []}");
}
END_TEST

START_TEST(metrics_in_three_forms)
{
    start_host();
    ck_assert_int_eq(ctl("metrics", NULL), EX_OK);
    has(out_text, "frames_published_total");
    has(out_text, "histogram");
    ck_assert_int_eq(ctl("metrics", "--json", NULL), EX_OK);
    has(out_text, "\"capture\": {");
    has(out_text, "\"frames_published_total\": {\"kind\": \"counter\", \"unit\": \"frames\", \"value\": 60}");
    has(out_text,
        "\"capture_us\": {\"kind\": \"histogram\", \"unit\": \"us\", \"count\": 100, \"p50\": 511, \"p99\": "
        "991, \"sum\": 50500}");
    ck_assert_int_eq(ctl("metrics", "--openmetrics", NULL), EX_OK);
    has(out_text, "# TYPE wavry_capture_frames_published counter\n");
    has(out_text, "# HELP wavry_capture_frames_published Frames \\\"seen\\\".");
    has(out_text, "\nwavry_capture_frames_published_total 60\n");
    has(out_text, "wavry_stage_ready{stage=\"capture\"} 1\n");
    has(out_text,
        "# TYPE wavry_capture_capture_seconds histogram\n# UNIT wavry_capture_capture_seconds seconds\n");
    has(out_text, "wavry_capture_capture_seconds_bucket{le=\"0.000511\"} 51\n");
    has(out_text, "wavry_capture_capture_seconds_bucket{le=\"+Inf\"} 100\n");
    has(out_text, "wavry_capture_capture_seconds_sum 0.050500\n");
    ck_assert_str_eq(out_text + strlen(out_text) - 6, "# EOF\n");
}
END_TEST

START_TEST(top_prints_a_second)
{
    start_host();
    ck_assert_int_eq(ctl("top", "--once", NULL), EX_OK);
    has(out_text, "of the last second");
    has(out_text, "capture_us");
    has(out_text, "dropped_total");
    has(out_text, "192.0.2.1:5000");
    has_not(out_text, "\033");
    has_not(out_text, "frames_published_total"); /* a counter that stands still is no rate */
}
END_TEST

START_TEST(orders_are_passed_on)
{
    start_host();
    host.text = "encoder restarts";
    ck_assert_int_eq(ctl("restart", "encoder", NULL), EX_OK);
    ck_assert_str_eq(out_text, "encoder restarts\n");
    ck_assert_str_eq(host.verb, "restart");
    ck_assert_str_eq(host.argument, "encoder");
    char wanted[200];
    snprintf(wanted, sizeof(wanted), "%s my laptop", key_text);
    ck_assert_int_eq(ctl("log-level", "encoder", "debug", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "log-level");
    ck_assert_str_eq(host.argument, "encoder debug");
    ck_assert_int_eq(ctl("authorize", key_text, "--name", "my laptop", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "authorize");
    ck_assert_str_eq(host.argument, wanted);
    ck_assert_int_eq(ctl("revoke", key_text, NULL), EX_OK);
    ck_assert_str_eq(host.verb, "revoke");
    ck_assert_str_eq(host.argument, key_text);
    host.text = "the host stops";
    ck_assert_int_eq(ctl("stop", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "stop");
    ck_assert_int_eq(ctl("status", NULL), EX_UNAVAILABLE);
}
END_TEST

START_TEST(keys_are_checked_before_asking)
{
    start_host();
    char broken[sizeof(key_text)];
    strcpy(broken, key_text);
    broken[20] = '!';
    ck_assert_int_eq(ctl("authorize", broken, NULL), EX_DATAERR);
    has(err_text, broken);
    has(err_text, "is not a public key");
    ck_assert_int_eq(ctl("revoke", "wavry1short", NULL), EX_DATAERR);
    ck_assert_int_eq(ctl("authorize", key_text, "--name", "", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "authorize"); /* only the good one came through */
    char lengthy[600];
    memset(lengthy, 'n', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    ck_assert_int_eq(ctl("authorize", key_text, "--name", lengthy, NULL), EX_DATAERR);
}
END_TEST

START_TEST(peers_are_listed)
{
    start_host();
    ck_assert_int_eq(ctl("peers", NULL), EX_OK);
    has(out_text, "wavryctl authorize KEY");
    host.text = "wavry1aaa my laptop\nwavry1bbb tab\033let\n... and 3 more in the file\n";
    ck_assert_int_eq(ctl("peers", NULL), EX_OK);
    ck_assert_str_eq(out_text, "wavry1aaa my laptop\nwavry1bbb tab?let\n... and 3 more in the file\n");
    ck_assert_int_eq(ctl("peers", "--json", NULL), EX_OK);
    has(out_text, "{\"key\": \"wavry1aaa\", \"name\": \"my laptop\", \"expires\": \"\", \"grants\": []}");
    has(out_text, "{\"key\": \"wavry1bbb\", \"name\": \"tab?let\"");
    has_not(out_text, "more in the file");
}
END_TEST

START_TEST(peers_say_what_they_may_do)
{
    start_host();
    host.text =
        "wavry1aaa grants=view,input expires=2030-01-01T00:00:00Z my laptop\nwavry1bbb grants=view x\n";
    ck_assert_int_eq(ctl("peers", "--json", NULL), EX_OK);
    has(out_text, "{\"key\": \"wavry1aaa\", \"name\": \"my laptop\", \"expires\": \"2030-01-01T00:00:00Z\", "
                  "\"grants\": [\"view\", \"input\"]}");
    has(out_text, "{\"key\": \"wavry1bbb\", \"name\": \"x\", \"expires\": \"\", \"grants\": [\"view\"]}");
}
END_TEST

START_TEST(what_a_key_may_do_is_passed_on)
{
    start_host();
    char wanted[256];
    ck_assert_int_eq(ctl("authorize", key_text, "--grant", "view,files", "--expires", "2030-01-01T00:00:00Z",
                         "--name", "tablet", NULL),
                     EX_OK);
    snprintf(wanted, sizeof(wanted), "%s grants=view,files expires=2030-01-01T00:00:00Z tablet", key_text);
    ck_assert_str_eq(host.argument, wanted);
    ck_assert_int_eq(ctl("grant", key_text, "view", "--expires", "never", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "grant");
    snprintf(wanted, sizeof(wanted), "%s grants=view expires=never", key_text);
    ck_assert_str_eq(host.argument, wanted);
    /* From now on: a time that the host understands. */
    time_t before = time(NULL) + 7200;
    ck_assert_int_eq(ctl("grant", key_text, "view", "--expires", "2h", NULL), EX_OK);
    struct tm t = {0};
    ck_assert_ptr_nonnull(strptime(strstr(host.argument, "expires=") + 8, "%Y-%m-%dT%H:%M:%SZ", &t));
    ck_assert_int_ge(timegm(&t), before);
    ck_assert_int_le(timegm(&t), before + 60);
    /* One word is one word: no list smuggles a second. */
    host.verb[0] = 0;
    ck_assert_int_eq(ctl("grant", key_text, "view expires=never", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("grant", key_text, "view", "--expires", "x y", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("grant", key_text, NULL), EX_USAGE);
    ck_assert_int_eq(ctl("grant", "wavry1short", "view", NULL), EX_DATAERR);
    ck_assert_int_eq(ctl("revoke", key_text, "--grant", "view", NULL), EX_USAGE);
    ck_assert_str_eq(host.verb, "");
}
END_TEST

START_TEST(control_is_given_by_session)
{
    start_host();
    ck_assert_int_eq(ctl("control", "77", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "control");
    ck_assert_str_eq(host.argument, key_text);
    ck_assert_int_eq(ctl("control", "none", NULL), EX_OK);
    ck_assert_str_eq(host.argument, "none");
    ck_assert_int_eq(ctl("control", "78", NULL), EX_DATAERR);
    has(err_text, "78");
    ck_assert_int_eq(ctl("control", NULL), EX_USAGE);
}
END_TEST

START_TEST(a_code_is_shown)
{
    start_host();
    static char text[256];
    snprintf(text, sizeof(text),
             "code 01234567\ntoken AAECAwQFBgcICQoLDA0ODw\nseconds 180\nkey %s\ngrants view\n", key_text);
    host.text = text;
    char url[256];
    snprintf(url, sizeof(url), "wavry:example.org:4820?key=%s&token=AAECAwQFBgcICQoLDA0ODw", key_text);
    ck_assert_int_eq(
        ctl("pair", "--grant", "view", "--ttl", "60s", "--name", "my tablet", "--host", "example.org", NULL),
        EX_OK);
    ck_assert_str_eq(host.verb, "pair");
    ck_assert_str_eq(host.argument, "grants=view ttl=60s my tablet");
    has(out_text, "0123 4567");
    has(out_text, url);
    has_not(out_text, "\u2588"); /* no terminal: no picture */
    ck_assert_int_eq(ctl("pair", "--qr", NULL), EX_OK);
    has(out_text, "\u2588\u2588");
    has_not(out_text, "\033");
    has_not(out_text, "[::]"); /* an address that can be reached */
    ck_assert_int_eq(ctl("pair", "--json", "--host", "example.org", NULL), EX_OK);
    has(out_text, "\"code\": \"01234567\"");
    has(out_text, url);
    ck_assert_int_eq(ctl("pair", "--host", "a?key=b", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("pair", "--host", "[::1", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("pair", "--ttl", "1m x", NULL), EX_USAGE);
    ck_assert_int_eq(ctl("pair", "--host", "[2001:db8::1]", NULL), EX_OK);
    has(out_text, "wavry:[2001:db8::1]:4820?");
    host.text = "code 01234567\n";
    ck_assert_int_eq(ctl("pair", NULL), EX_PROTOCOL);
    host.text = "";
    ck_assert_int_eq(ctl("pair", "--reopen", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "pair-reopen");
    ck_assert_int_eq(ctl("pair", "--cancel", NULL), EX_OK);
    ck_assert_str_eq(host.verb, "pair-cancel");
}
END_TEST

START_TEST(waiting_ends_when_the_code_does)
{
    start_host();
    static char text[256];
    snprintf(
        text, sizeof(text),
        "code 01234567\ntoken AAECAwQFBgcICQoLDA0ODw\nseconds 180\nkey %s\ngrants view\nopen 0\npaired 3\n",
        key_text);
    host.text = text; /* of pair and of pair-status */
    ck_assert_int_eq(ctl("pair", "--wait", NULL), EX_TEMPFAIL);
    has(err_text, "nobody was paired");
    ck_assert_str_eq(host.verb, "pair-status");
}
END_TEST

START_TEST(refusals_are_told)
{
    start_host();
    host.error = -ENOENT;
    host.text = "there is no stage \"nonsense\"";
    ck_assert_int_eq(ctl("restart", "nonsense", NULL), EX_DATAERR);
    has(err_text, "wavryctl: there is no stage \"nonsense\"\n");
    ck_assert_str_eq(out_text, "");
    host.error = -ETIMEDOUT;
    host.text = "";
    ck_assert_int_eq(ctl("peers", NULL), EX_TEMPFAIL);
    has(err_text, strerror(ETIMEDOUT));
    host.error = INT32_MIN; /* no errno at all */
    ck_assert_int_eq(ctl("peers", NULL), EX_UNAVAILABLE);
    host.error = 0;
    host.rubbish = true;
    ck_assert_int_eq(ctl("status", NULL), EX_PROTOCOL);
    host.rubbish = false;
    host.hang_up = true;
    ck_assert_int_eq(ctl("status", NULL), EX_NOPERM);
    has(err_text, "does not talk to user");
}
END_TEST

START_TEST(doctor_always_ends)
{
    start_host();
    unsetenv("DISPLAY");
    ck_assert_int_eq(ctl("doctor", NULL), EX_UNAVAILABLE);
    has(out_text, "DISPLAY is not set");
    has(out_text, "-> ");
    setenv("DISPLAY", ":9999", 1); /* nobody has so many */
    ck_assert_int_eq(ctl("doctor", "--json", NULL), EX_UNAVAILABLE);
    has(out_text, "\"ok\": false");
    has(out_text, "version 9.9, 2 of 2 stages ready");
}
END_TEST

static void duration_is(uint64_t ns, const char *wanted)
{
    char text[64];
    wv_format_duration(ns, text, sizeof(text));
    ck_assert_str_eq(text, wanted);
}

START_TEST(formats)
{
    char text[64];
    duration_is(412 * WV_NS_PER_MS, "412 ms");
    duration_is(3250 * WV_NS_PER_MS, "3.2 s");
    duration_is(42 * WV_NS_PER_S, "42 s");
    duration_is(300 * WV_NS_PER_S, "5 min");
    duration_is(7800 * WV_NS_PER_S, "2 h 10 min");
    duration_is(UINT64_C(270000) * WV_NS_PER_S, "3 d 3 h");
    wv_format_us(850, text, sizeof(text));
    ck_assert_str_eq(text, "850 us");
    wv_format_us(16700, text, sizeof(text));
    ck_assert_str_eq(text, "16.7 ms");
    wv_format_rate(8100000, "bit/s", text, sizeof(text));
    ck_assert_str_eq(text, "8.1 Mbit/s");
    wv_format_rate(12, "bit/s", text, sizeof(text));
    ck_assert_str_eq(text, "12 bit/s");
    ck_assert_uint_eq(wv_format_width("a\xc3\xa9z"), 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl");
    TCase *t = tcase_create("ctl");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, usage_is_checked);
    tcase_add_test(t, absent_host);
    tcase_add_test(t, status_and_stages);
    tcase_add_test(t, sessions_are_listed);
    tcase_add_test(t, metrics_in_three_forms);
    tcase_add_test(t, top_prints_a_second);
    tcase_add_test(t, orders_are_passed_on);
    tcase_add_test(t, keys_are_checked_before_asking);
    tcase_add_test(t, peers_are_listed);
    tcase_add_test(t, peers_say_what_they_may_do);
    tcase_add_test(t, what_a_key_may_do_is_passed_on);
    tcase_add_test(t, control_is_given_by_session);
    tcase_add_test(t, a_code_is_shown);
    tcase_add_test(t, waiting_ends_when_the_code_does);
    tcase_add_test(t, refusals_are_told);
    tcase_add_test(t, doctor_always_ends);
    tcase_add_test(t, formats);
    return wv_run_suite(s);
}
