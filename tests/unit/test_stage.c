/* The stage skeleton as the supervisor sees it: a fake supervisor on one end of the socket, a whole stage
 * process on the other. */
#include "lib/base/util.h"
#include "lib/ipc/fdpass.h"
#include "lib/ipc/metrics.h"
#include "lib/stage/message.h"

#include "proto/bus_stage.pb-c.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

#define PATIENCE_MS 30000

static char folder[64], path[96], log_path[96];
static int listener = -1, page = -1;
static pid_t stage;

static void setup(void)
{
    strcpy(folder, "/tmp/test_stage.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    listener = wv_seqpacket_listen(path, 0600);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(wv_metrics_create_page(&page), 0);
    stage = 0;
}

static void teardown(void)
{
    if (stage > 0) {
        kill(stage, SIGKILL);
        waitpid(stage, NULL, 0);
    }
    wv_close(listener);
    wv_close(page);
    unlink(path);
    unlink(log_path);
    rmdir(folder);
}

static void start_stage(const char *const *extra)
{
    const char *argv[16] = {"wavry-capture", "--supervisor", path};
    size_t n = 3;
    for (; extra && *extra; extra++)
        argv[n++] = *extra;
    stage = fork();
    if (stage == 0) {
        ck_assert_ptr_nonnull(freopen(log_path, "a", stderr));
        execv(FAKE_STAGES "/wavry-capture", (char **)argv);
        _exit(127);
    }
    ck_assert_int_gt(stage, 0);
}

static int wait_exit(void)
{
    int status;
    for (unsigned waited = 0; waitpid(stage, &status, WNOHANG) == 0; waited += 10) {
        ck_assert_msg(waited < PATIENCE_MS, "the stage did not end");
        usleep(10000);
    }
    stage = 0;
    ck_assert_msg(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static int accept_stage(void)
{
    struct wv_peer peer;
    struct pollfd p = {.fd = listener, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
    int fd = wv_seqpacket_accept(listener, &peer);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(peer.pid, stage);
    return fd;
}

/* NULL at the end of the stream. */
static Wavry__Bus__StageMessage *receive(int fd)
{
    ProtobufCMessage *m = NULL;
    int fds[WV_FDPASS_MAX_FDS], r;
    size_t n_fds = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
    r = wv_message_receive(fd, &wavry__bus__stage_message__descriptor, &m, fds, &n_fds);
    if (r == WV_MESSAGE_CLOSED || r == -ECONNRESET)
        return NULL;
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(n_fds, 0);
    return (Wavry__Bus__StageMessage *)m;
}

static void expect(int fd, Wavry__Bus__StageMessage__KindCase kind)
{
    Wavry__Bus__StageMessage *m = receive(fd);
    ck_assert_ptr_nonnull(m);
    ck_assert_int_eq(m->kind_case, kind);
    if (kind == WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO) {
        ck_assert_str_eq(m->hello->stage, "capture");
        ck_assert_uint_eq(m->hello->protocol, 1);
    }
    protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void send_grant(int fd)
{
    Wavry__Bus__StageGrant grant = WAVRY__BUS__STAGE_GRANT__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    char *names[] = {(char *)"metrics"};
    grant.fd_names = names;
    grant.n_fd_names = 1;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_GRANT;
    m.grant = &grant;
    ck_assert_int_eq(wv_message_send(fd, &m.base, &page, 1), 0);
}

/* A stage that is up: hello, grant, ready. */
static int bring_up(const char *const *extra)
{
    start_stage(extra);
    int fd = accept_stage();
    expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
    send_grant(fd);
    expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    return fd;
}

static uint64_t heartbeat(void)
{
    static struct wv_metrics_snapshot s;
    return wv_metrics_read(page, &s) == 0 ? s.heartbeat_ns : 0;
}

static void send_stop(int fd)
{
    Wavry__Bus__StageStop stop = WAVRY__BUS__STAGE_STOP__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_STOP;
    m.stop = &stop;
    ck_assert_int_eq(wv_message_send(fd, &m.base, NULL, 0), 0);
}

START_TEST(ready_heartbeat_and_stop)
{
    int fd = bring_up(NULL);
    uint64_t first = heartbeat();
    ck_assert_uint_gt(first, 0);
    for (unsigned waited = 0; heartbeat() == first; waited += 10) {
        ck_assert_msg(waited < PATIENCE_MS, "no second heartbeat");
        usleep(10000);
    }
    send_stop(fd);
    ck_assert_int_eq(wait_exit(), EX_OK);
    close(fd);
}
END_TEST

START_TEST(sigterm_drains)
{
    int fd = bring_up(NULL);
    kill(stage, SIGTERM);
    ck_assert_int_eq(wait_exit(), EX_OK);
    close(fd);
}
END_TEST

START_TEST(draining_has_an_end)
{
    int fd = bring_up((const char *const[]){"--set", "behaviour=slow", NULL});
    send_stop(fd);
    ck_assert_int_eq(wait_exit(), EX_OK);
    close(fd);
}
END_TEST

START_TEST(outlives_its_supervisor)
{
    int fd = bring_up(NULL);
    for (int round = 0; round < 2; round++) {
        close(fd);
        fd = accept_stage();
        expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
        send_grant(fd);
        expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    }
    /* The repeated descriptors were closed: it still holds one page and one connection of each kind. */
    uint64_t before = heartbeat();
    for (unsigned waited = 0; heartbeat() == before; waited += 10) {
        ck_assert_uint_lt(waited, PATIENCE_MS);
        usleep(10000);
    }
    send_stop(fd);
    ck_assert_int_eq(wait_exit(), EX_OK);
    close(fd);
}
END_TEST

START_TEST(garbage_costs_the_connection_only)
{
    int fd = bring_up(NULL);
    ck_assert_int_eq(wv_fdpass_send(fd, "\xff\xff\xff\xff garbage", 12, &page, 1), 0);
    ck_assert_ptr_null(receive(fd));
    close(fd);
    fd = accept_stage();
    expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
    send_grant(fd);
    expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    send_stop(fd);
    ck_assert_int_eq(wait_exit(), EX_OK);
    close(fd);
}
END_TEST

START_TEST(requests_are_answered_under_lockdown)
{
    int fd = bring_up(NULL);
    Wavry__Bus__StageRequest request = WAVRY__BUS__STAGE_REQUEST__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    request.id = 7;
    request.verb = (char *)"authorize";
    request.text = (char *)"somebody";
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_REQUEST;
    m.request = &request;
    ck_assert_int_eq(wv_message_send(fd, &m.base, NULL, 0), 0);
    Wavry__Bus__StageMessage *reply = receive(fd);
    ck_assert_ptr_nonnull(reply);
    ck_assert_int_eq(reply->kind_case, WAVRY__BUS__STAGE_MESSAGE__KIND_REPLY);
    ck_assert_uint_eq(reply->reply->id, 7);
    ck_assert_int_eq(reply->reply->error, 0);
    ck_assert_str_eq(reply->reply->text,
                     "authorize:somebody:1"); /* its attempt to get a network socket: EPERM */
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    request.verb = (char *)"revoke";
    ck_assert_int_eq(wv_message_send(fd, &m.base, NULL, 0), 0);
    reply = receive(fd);
    ck_assert_int_eq(reply->reply->error, -ENOENT);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    close(fd);
}
END_TEST

START_TEST(the_log_level_is_changed_by_the_skeleton)
{
    static const struct {
        const char *level;
        int error;
    } asked[] = {{"debug", 0}, {"loud", -EINVAL}, {"", -EINVAL}};
    int fd = bring_up(NULL);
    for (size_t i = 0; i < WV_ARRAY_SIZE(asked); i++) {
        Wavry__Bus__StageRequest request = WAVRY__BUS__STAGE_REQUEST__INIT;
        Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
        request.id = 9;
        request.verb = (char *)"log-level";
        request.text = (char *)(uintptr_t)asked[i].level;
        m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_REQUEST;
        m.request = &request;
        ck_assert_int_eq(wv_message_send(fd, &m.base, NULL, 0), 0);
        Wavry__Bus__StageMessage *reply = receive(fd);
        ck_assert_ptr_nonnull(reply);
        ck_assert_int_eq(reply->reply->error, asked[i].error);
        ck_assert_ptr_nonnull(strstr(reply->reply->text, asked[i].level));
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    close(fd);
}
END_TEST

static void expect_failure(int fd, int code, const char *word)
{
    Wavry__Bus__StageMessage *m = receive(fd);
    ck_assert_ptr_nonnull(m);
    ck_assert_int_eq(m->kind_case, WAVRY__BUS__STAGE_MESSAGE__KIND_FAILED);
    ck_assert_int_eq(m->failed->exit_code, code);
    ck_assert_msg(strstr(m->failed->reason, word), "\"%s\" not in \"%s\"", word, m->failed->reason);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    ck_assert_int_eq(wait_exit(), code);
}

START_TEST(failure_to_open_is_said)
{
    start_stage((const char *const[]){"--set", "behaviour=fail", NULL});
    int fd = accept_stage();
    expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
    send_grant(fd);
    expect_failure(fd, EX_UNAVAILABLE, "no such display");
    close(fd);
}
END_TEST

START_TEST(failure_while_running_is_said)
{
    int fd = bring_up((const char *const[]){"--set", "behaviour=error", NULL});
    expect_failure(fd, EX_IOERR, "running");
    close(fd);
}
END_TEST

START_TEST(wrong_configuration_is_said)
{
    start_stage((const char *const[]){"--set", "behavior=good", NULL});
    int fd = accept_stage();
    expect_failure(fd, EX_CONFIG, "behaviour");
    close(fd);
}
END_TEST

START_TEST(a_grant_that_does_not_add_up_is_refused)
{
    start_stage(NULL);
    int fd = accept_stage();
    expect(fd, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
    Wavry__Bus__StageGrant grant = WAVRY__BUS__STAGE_GRANT__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_GRANT;
    m.grant = &grant;
    ck_assert_int_eq(wv_message_send(fd, &m.base, &page, 1), 0); /* one descriptor, no name */
    expect_failure(fd, EX_PROTOCOL, "starting");
    close(fd);
}
END_TEST

START_TEST(refused_by_the_supervisor)
{
    start_stage(NULL);
    int fd = accept_stage();
    close(fd);
    ck_assert_int_eq(wait_exit(), EX_NOPERM);
}
END_TEST

START_TEST(by_hand_it_explains_itself)
{
    ck_assert_int_eq(WEXITSTATUS(system(FAKE_STAGES "/wavry-capture 2>/dev/null")), EX_USAGE);
    ck_assert_int_eq(WEXITSTATUS(system(FAKE_STAGES "/wavry-capture --nonsense 2>/dev/null")), EX_USAGE);
    ck_assert_int_eq(WEXITSTATUS(system(FAKE_STAGES "/wavry-capture --help >/dev/null")), EX_OK);
    ck_assert_int_eq(WEXITSTATUS(system(FAKE_STAGES "/wavry-capture --version >/dev/null")), EX_OK);
    ck_assert_int_eq(WEXITSTATUS(system(FAKE_STAGES "/wavry-capture --set display=:9 --print-config "
                                                    "| grep -q 'display = :9  # --set'")),
                     EX_OK);
}
END_TEST

START_TEST(configuration_by_descriptor_names_its_file)
{
    char file[128], command[1024];
    snprintf(file, sizeof file, "%s/log", folder);
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fputs("[capture]\ndisplay = :4\n", f);
    fclose(f);
    snprintf(command, sizeof command,
             FAKE_STAGES "/wavry-capture --config-fd 5 --print-config 5<%s | grep -q 'display = :4  # %s:2'",
             file, file);
    ck_assert_int_eq(WEXITSTATUS(system(command)), EX_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stage");
    TCase *tc = tcase_create("stage");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, ready_heartbeat_and_stop);
    tcase_add_test(tc, sigterm_drains);
    tcase_add_test(tc, draining_has_an_end);
    tcase_add_test(tc, outlives_its_supervisor);
    tcase_add_test(tc, garbage_costs_the_connection_only);
    tcase_add_test(tc, requests_are_answered_under_lockdown);
    tcase_add_test(tc, the_log_level_is_changed_by_the_skeleton);
    tcase_add_test(tc, failure_to_open_is_said);
    tcase_add_test(tc, failure_while_running_is_said);
    tcase_add_test(tc, wrong_configuration_is_said);
    tcase_add_test(tc, a_grant_that_does_not_add_up_is_refused);
    tcase_add_test(tc, refused_by_the_supervisor);
    tcase_add_test(tc, by_hand_it_explains_itself);
    tcase_add_test(tc, configuration_by_descriptor_names_its_file);
    suite_add_tcase(suite, tc);
    return wv_run_suite(suite);
}
