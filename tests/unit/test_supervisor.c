/* A whole supervised host of fake stages (fake_stage.c), seen through the control socket and the process
 * table. */
#include "lib/base/util.h"
#include "lib/ipc/fdpass.h"
#include "lib/ipc/metrics.h"
#include "lib/stage/message.h"
#include "supervisor/keeper.h"
#include "supervisor/vault.h"
#include "supervisor/wiring.h"

#include "proto/bus_control.pb-c.h"
#include "proto/bus_stage.pb-c.h"
#include "tests/unit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

#define PATIENCE_MS 30000

static char folder[64], runtime[96], state_dir[96], log_path[96], control_path[128];
static pid_t keeper;
static const char *const names[] = {"transport", "identity", "capture", "encoder", "input", "reach"};

struct row {
    char state[32], status[512], last_exit[256], confinement[256];
    int pid;
    unsigned restarts;
};

static void setup(void)
{
    strcpy(folder, "/tmp/test_sup.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    chmod(folder, 0711);
    snprintf(runtime, sizeof runtime, "%s/run", folder);
    snprintf(state_dir, sizeof state_dir, "%s/state", folder);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    snprintf(control_path, sizeof control_path, "%s/control.sock", runtime);
    keeper = 0;
}

static uint64_t now_ms(void)
{
    return wv_now_ns() / WV_NS_PER_MS;
}

/* Waits for the process that was started last. Returns its exit code, or 128 + signal. */
static int wait_end(void)
{
    int status;
    uint64_t began = now_ms();
    while (waitpid(keeper, &status, WNOHANG) == 0) {
        ck_assert_msg(now_ms() - began < PATIENCE_MS, "the host did not end");
        usleep(10000);
    }
    keeper = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void teardown(void)
{
    if (keeper > 0) {
        kill(keeper, SIGTERM);
        wait_end();
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static pid_t launch(const char *const *extra)
{
    const char *argv[32] = {
        "wavry-supervisor", "--standalone", "--runtime-dir", runtime, "--state-dir", state_dir,
        "--libexec-dir",    FAKE_STAGES,    "--port",        "0",     "--display",   ":99"};
    size_t n = 12;
    for (; extra && *extra; extra++)
        argv[n++] = *extra;
    pid_t pid = fork();
    if (pid == 0) {
        int log = open(log_path, O_CREAT | O_WRONLY | O_APPEND, 0600);
        dup2(log, 1);
        dup2(log, 2);
        execv(SUPERVISOR, (char **)argv);
        _exit(127);
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

static Wavry__Bus__ControlReply *ask(const char *verb, const char *argument, int fds[WV_FDPASS_MAX_FDS],
                                     size_t *ret_n_fds)
{
    int unused[WV_FDPASS_MAX_FDS];
    size_t n = 0;
    ProtobufCMessage *m = NULL;
    Wavry__Bus__ControlRequest request = WAVRY__BUS__CONTROL_REQUEST__INIT;
    request.verb = (char *)verb;
    request.argument = (char *)argument;
    int fd = wv_seqpacket_connect(control_path);
    if (fd < 0)
        return NULL;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (wv_message_send(fd, &request.base, NULL, 0) == 0 && poll(&p, 1, PATIENCE_MS) == 1)
        (void)wv_message_receive(fd, &wavry__bus__control_reply__descriptor, &m, fds ? fds : unused, &n);
    close(fd);
    for (size_t i = 0; i < n && !fds; i++)
        close(unused[i]);
    if (ret_n_fds)
        *ret_n_fds = n;
    return (Wavry__Bus__ControlReply *)m;
}

static void free_reply(Wavry__Bus__ControlReply *r)
{
    protobuf_c_message_free_unpacked(&r->base, NULL);
}

/* Returns whether there was an answer. */
static bool look(const char *name, struct row *ret)
{
    Wavry__Bus__ControlReply *r = ask("status", "", NULL, NULL);
    bool found = false;
    *ret = (struct row){.pid = 0};
    if (!r)
        return false;
    for (size_t i = 0; i < r->n_stages; i++) {
        if (strcmp(r->stages[i]->name, name))
            continue;
        found = true;
        snprintf(ret->state, sizeof ret->state, "%s", r->stages[i]->state);
        snprintf(ret->status, sizeof ret->status, "%s", r->stages[i]->status);
        snprintf(ret->last_exit, sizeof ret->last_exit, "%s", r->stages[i]->last_exit);
        snprintf(ret->confinement, sizeof ret->confinement, "%s", r->stages[i]->confinement);
        ret->pid = r->stages[i]->pid;
        ret->restarts = r->stages[i]->restarts;
    }
    free_reply(r);
    return found;
}

/* Waits until NAME is in STATE with a process other than OLD_PID. */
static struct row wait_state(const char *name, const char *state, int old_pid)
{
    struct row row;
    uint64_t began = now_ms();
    while (!look(name, &row) || strcmp(row.state, state) || row.pid == old_pid) {
        ck_assert_msg(now_ms() - began < PATIENCE_MS, "%s is \"%s\" (%s), not %s", name, row.state,
                      row.status, state);
        usleep(10000);
    }
    return row;
}

static void start_host(const char *const *extra)
{
    keeper = launch(extra);
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        wait_state(names[i], "ready", -1);
}

static bool alive(int pid)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    const char *after = strrchr(text, ')');
    return after && after[2] != 'Z';
}

static bool in_log(const char *text)
{
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    size_t len;
    return wv_read_file(log_path, 1 << 20, &data, &len) == 0 && strstr((const char *)data, text);
}

START_TEST(wiring_agrees_with_itself)
{
    ck_assert(wv_wiring_agrees());
    ck_assert_int_eq(wv_wiring_find("nonsense"), -1);
}
END_TEST

START_TEST(stage_killed_gets_the_same_descriptors_again)
{
    start_host(NULL);
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++) {
        struct row before = wait_state(names[i], "ready", -1);
        ck_assert(!strncmp(before.status, "fds", 3));
        kill(before.pid, SIGKILL);
        struct row after = wait_state(names[i], "ready", before.pid);
        ck_assert_str_eq(after.status, before.status);
        ck_assert_uint_eq(after.restarts, before.restarts + 1);
        ck_assert_ptr_nonnull(strstr(after.last_exit, "signal 9"));
    }
    struct row capture, encoder;
    ck_assert(look("capture", &capture) && look("encoder", &encoder));
    /* Who reads can't write: each ring has one writer a side. */
    ck_assert_ptr_nonnull(strstr(capture.status, "w raw-reader="));
    ck_assert_ptr_nonnull(strstr(encoder.status, "w au-reader="));
    if (strstr(encoder.confinement, "weaker: same user")) {
        ck_assert_ptr_nonnull(strstr(encoder.status, "r! raw-reader="));
        return;
    }
    ck_assert_ptr_nonnull(strstr(capture.status, "r input-page=")); /* and no way round it by /proc */
    ck_assert_ptr_nonnull(strstr(encoder.status, "r raw-reader="));
    ck_assert_ptr_null(strchr(encoder.status, '!'));
}
END_TEST

START_TEST(stopped_and_spinning_stages_are_found)
{
    start_host((const char *const[]){"--set", "input.behaviour=spin", NULL});
    struct row encoder = wait_state("encoder", "ready", -1);
    kill(encoder.pid, SIGSTOP);
    wait_state("encoder", "ready", encoder.pid);
    ck_assert(in_log("stage is hung"));
    struct row input;
    uint64_t began = now_ms();
    do { /* spins 300 ms after it is ready, every time */
        (void)look("input", &input);
        ck_assert_uint_lt(now_ms() - began, PATIENCE_MS);
        usleep(10000);
    } while (!strstr(input.last_exit, "hung"));
    ck_assert_int_eq(wait_state("capture", "ready", -1).restarts, 0);
}
END_TEST

/* Everybody pauses, and the supervisor is back a little sooner than its stages. Returns by how much, in ms.
 */
static uint64_t pause_all(const struct row *stages, int supervisor)
{
    kill(supervisor, SIGSTOP);
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        kill(stages[i].pid, SIGSTOP);
    usleep(2500000);
    uint64_t back = now_ms();
    kill(supervisor, SIGCONT);
    usleep(300000); /* it looks before they had a chance */
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        kill(stages[i].pid, SIGCONT);
    return now_ms() - back;
}

/* A machine that sleeps, or gives none of us any time, is not a hung stage. */
START_TEST(a_pause_of_everybody_costs_nobody_his_life)
{
    struct row supervisor, before[WV_ARRAY_SIZE(names)];
    uint64_t late = 0;
    start_host(NULL);
    for (int round = 0; round == 0 || (late > 1000 && round < 5);
         round++) { /* unless this test itself was late */
        for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
            before[i] = wait_state(names[i], "ready", -1);
        supervisor = wait_state("supervisor", "ready", -1);
        late = pause_all(before, supervisor.pid);
        usleep(700000);
    }
    for (size_t i = 0; late <= 1000 && i < WV_ARRAY_SIZE(names); i++)
        ck_assert_int_eq(wait_state(names[i], "ready", -1).pid, before[i].pid);
}
END_TEST

START_TEST(crash_loop_backs_off_and_leaves_the_others_alone)
{
    uint64_t began = now_ms();
    keeper = launch(
        (const char *const[]){"--set", "capture.behaviour=crash", "--set", "encoder.behaviour=fail", NULL});
    struct row capture = wait_state("capture", "backing off", -1);
    struct row encoder = wait_state("encoder", "failed", -1);
    ck_assert_ptr_nonnull(strstr(encoder.status, "no such display"));
    ck_assert_ptr_nonnull(strstr(encoder.last_exit, "exit status 69"));
    int identity = wait_state("identity", "ready", -1).pid;
    for (uint64_t end = now_ms() + PATIENCE_MS; !look("capture", &capture) || capture.restarts < 5;
         usleep(10000))
        ck_assert_msg(now_ms() < end, "%u restarts", capture.restarts);
    /* After 0, 100, 200, 400, 800 ms and so on: not a storm. */
    unsigned most = 2;
    for (uint64_t pause = 100, passed = 0; (passed += pause) <= now_ms() - began; pause *= 2)
        most++;
    ck_assert_uint_le(capture.restarts, most);
    ck_assert_int_eq(wait_state("identity", "ready", -1).pid, identity);
    ck_assert_int_eq(wait_state("transport", "ready", -1).restarts, 0);
}
END_TEST

START_TEST(supervisor_killed_finds_its_stages_again)
{
    start_host(NULL);
    struct row before[WV_ARRAY_SIZE(names)], supervisor, after;
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        before[i] = wait_state(names[i], "ready", -1);
    ck_assert(look("supervisor", &supervisor));
    for (int round = 0; round < 2; round++) {
        int old = supervisor.pid;
        kill(old, SIGKILL);
        supervisor = wait_state("supervisor", "ready", old);
        for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++) {
            after = wait_state(names[i], "ready", -1);
            ck_assert_int_eq(after.pid, before[i].pid);
            ck_assert_str_eq(after.status, before[i].status);
        }
    }
    /* One that it did not start itself is watched and replaced all the same. */
    kill(before[2].pid, SIGKILL);
    after = wait_state(names[2], "ready", before[2].pid);
    ck_assert_str_eq(after.status, before[2].status);
    ck_assert_int_gt(kill(keeper, 0), -1);
}
END_TEST

START_TEST(stage_and_supervisor_killed_together)
{
    start_host(NULL);
    struct row supervisor, capture = wait_state("capture", "ready", -1),
                           encoder = wait_state("encoder", "ready", -1);
    ck_assert(look("supervisor", &supervisor));
    kill(supervisor.pid, SIGSTOP);
    kill(capture.pid, SIGKILL);
    kill(supervisor.pid, SIGKILL);
    struct row after = wait_state("capture", "ready", capture.pid);
    ck_assert_str_eq(after.status, capture.status);
    ck_assert_int_eq(wait_state("encoder", "ready", -1).pid, encoder.pid);
}
END_TEST

START_TEST(control_verbs)
{
    start_host(NULL);
    struct row encoder = wait_state("encoder", "ready", -1), supervisor;
    Wavry__Bus__ControlReply *r = ask("restart", "encoder", NULL, NULL);
    ck_assert_int_eq(r->error, 0);
    free_reply(r);
    wait_state("encoder", "ready", encoder.pid);
    r = ask("restart", "nonsense", NULL, NULL);
    ck_assert_int_eq(r->error, -ENOENT);
    ck_assert_ptr_nonnull(strstr(r->text, "nonsense"));
    free_reply(r);
    r = ask("nonsense", "", NULL, NULL);
    ck_assert_int_eq(r->error, -EOPNOTSUPP);
    free_reply(r);
    r = ask("authorize", "KEY --name x", NULL, NULL); /* answered by identity, which is locked down */
    ck_assert_int_eq(r->error, 0);
    ck_assert_str_eq(r->text, "authorize:KEY --name x:1");
    free_reply(r);
    r = ask("revoke", "KEY", NULL, NULL);
    ck_assert_int_eq(r->error, -ENOENT);
    free_reply(r);
    static const struct {
        const char *argument;
        int error;
    } levels[] = {{"encoder error", 0},        {"supervisor notice", 0}, {"encoder loud", -EINVAL},
                  {"nonsense debug", -ENOENT}, {"encoder", -EINVAL},     {"", -ENOENT},
                  {"supervisor ", -EINVAL},    {"supervisor info", 0}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(levels); i++) {
        r = ask("log-level", levels[i].argument, NULL, NULL);
        ck_assert_msg(r->error == levels[i].error, "%s: %d", levels[i].argument, r->error);
        free_reply(r);
    }
    ck_assert(look("supervisor", &supervisor));
    r = ask("restart", "supervisor", NULL, NULL);
    ck_assert_int_eq(r->error, 0);
    free_reply(r);
    wait_state("supervisor", "ready", supervisor.pid);
    r = ask("stop", "", NULL, NULL);
    ck_assert_int_eq(r->error, 0);
    free_reply(r);
    ck_assert_int_eq(wait_end(), 0);
}
END_TEST

START_TEST(silent_stage_and_slow_client_block_nobody)
{
    start_host(NULL);
    int slow[20];
    for (size_t i = 0; i < WV_ARRAY_SIZE(slow); i++) { /* ask and never read */
        Wavry__Bus__ControlRequest request = WAVRY__BUS__CONTROL_REQUEST__INIT;
        request.verb = (char *)"status";
        slow[i] = wv_seqpacket_connect(control_path);
        for (int k = 0; slow[i] >= 0 && k < 500; k++)
            if (wv_message_send(slow[i], &request.base, NULL, 0) < 0)
                break;
    }
    int garbage;
    while ((garbage = wv_seqpacket_connect(control_path)) ==
           -EAGAIN) /* the queue of knocks is full: it empties */
        usleep(10000);
    ck_assert_int_ge(garbage, 0);
    (void)wv_fdpass_send(garbage, "\xff\xff\xff garbage", 11, NULL, 0);
    struct row identity = wait_state("identity", "ready", -1);
    Wavry__Bus__ControlReply *r = ask("peers", "", NULL, NULL); /* the fake one never answers, and hangs */
    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(r->error, -ETIMEDOUT);
    free_reply(r);
    wait_state("identity", "ready", identity.pid);
    close(garbage);
    for (size_t i = 0; i < WV_ARRAY_SIZE(slow); i++)
        wv_close(slow[i]);
}
END_TEST

START_TEST(pages_are_read_only)
{
    start_host(NULL);
    int fds[WV_FDPASS_MAX_FDS];
    size_t n = 0;
    Wavry__Bus__ControlReply *r = ask("pages", "", fds, &n);
    ck_assert_ptr_nonnull(r);
    ck_assert_uint_eq(n, r->n_fd_names);
    ck_assert_uint_eq(n, WV_ARRAY_SIZE(names) + 2);
    static struct wv_metrics_snapshot page;
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(fcntl(fds[i], F_GETFL) & O_ACCMODE, O_RDONLY);
        if (strcmp(r->fd_names[i], "session-page")) {
            ck_assert_int_eq(wv_metrics_read(fds[i], &page), 0);
            ck_assert_str_eq(page.stage, r->fd_names[i]);
        }
        close(fds[i]);
    }
    ck_assert_ptr_nonnull(strchr(r->address, ':'));
    free_reply(r);
}
END_TEST

/* A process that is no child of the supervisor says that it is stage NAME. */
static void knock_as(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/supervisor.sock", runtime);
    Wavry__Bus__StageHello hello = WAVRY__BUS__STAGE_HELLO__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;
    hello.stage = (char *)name;
    hello.protocol = 1;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO;
    m.hello = &hello;
    int fd = wv_seqpacket_connect(path), fds[WV_FDPASS_MAX_FDS];
    ck_assert_int_ge(fd, 0);
    (void)wv_message_send(fd, &m.base, NULL, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
    ProtobufCMessage *answer = NULL;
    size_t n = 0;
    ck_assert_int_eq(wv_message_receive(fd, &wavry__bus__stage_message__descriptor, &answer, fds, &n),
                     WV_MESSAGE_CLOSED);
    close(fd);
}

START_TEST(strangers_get_nothing)
{
    char path[128];
    start_host(NULL);
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        knock_as(wv_wiring_stages[i].name);
    if (getuid() == 0) { /* another user reaches neither the control socket nor anything through it */
        pid_t pid = fork();
        if (pid == 0)
            _exit(setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)
                      ? 2
                      : ask("status", "", NULL, NULL) != NULL);
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(WEXITSTATUS(status), 0);
        /* A link's folder is for its two ends only. */
        struct stat st;
        snprintf(path, sizeof path, "%s/bus/transport-input", runtime);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 02750);
        ck_assert_uint_ne(st.st_uid, 0);
        ck_assert_uint_ne(st.st_gid, st.st_uid);
        struct row row = wait_state("capture", "ready", -1);
        ck_assert_ptr_null(strstr(row.confinement, "weaker: same user"));
    }
}
END_TEST

static bool empty_or_absent(const char *path)
{
    DIR *d = opendir(path);
    bool empty = true;
    if (!d)
        return true;
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            empty = false;
    closedir(d);
    return empty;
}

START_TEST(stop_leaves_no_process_and_no_file)
{
    start_host((const char *const[]){"--set", "capture.behaviour=slow", NULL});
    int pids[WV_ARRAY_SIZE(names)];
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        pids[i] = wait_state(names[i], "ready", -1).pid;
    kill(pids[3], SIGSTOP); /* doesn't hear the request to stop */
    kill(keeper, SIGTERM);
    ck_assert_int_eq(wait_end(), 0);
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        ck_assert(!alive(pids[i]));
    ck_assert(empty_or_absent(runtime));
}
END_TEST

START_TEST(keeper_killed_stops_the_host)
{
    start_host(NULL);
    int pids[WV_ARRAY_SIZE(names)];
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        pids[i] = wait_state(names[i], "ready", -1).pid;
    kill(keeper, SIGKILL);
    wait_end();
    uint64_t began = now_ms();
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++)
        while (alive(pids[i])) {
            ck_assert_msg(now_ms() - began < PATIENCE_MS, "%s outlived its host", names[i]);
            usleep(10000);
        }
    start_host(NULL); /* what the dead one left is no obstacle */
}
END_TEST

START_TEST(second_host_in_the_same_folder_is_refused)
{
    start_host(NULL);
    pid_t first = keeper;
    keeper = launch(NULL);
    ck_assert_int_eq(wait_end(), EX_UNAVAILABLE);
    ck_assert(in_log("another Wavry host already runs"));
    keeper = first;
    wait_state("transport", "ready", -1); /* unharmed */
}
END_TEST

START_TEST(port_in_use_is_said)
{
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    socklen_t len = sizeof a;
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0)
        return; /* a machine without IPv6 */
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    char port[16], said[32];
    snprintf(port, sizeof port, "%u", ntohs(a.sin6_port));
    snprintf(said, sizeof said, "port=%s", port);
    keeper = launch((const char *const[]){"--port", port, NULL});
    ck_assert_int_eq(wait_end(), EX_UNAVAILABLE);
    ck_assert(in_log("in use"));
    ck_assert(in_log(said));
    ck_assert(empty_or_absent(runtime));
    close(fd);
}
END_TEST

START_TEST(wrong_words_on_the_command_line)
{
    static const char *const wrong[][3] = {{"--set", "nonsense.key=1", NULL},
                                           {"--set", "capture=1", NULL},
                                           {"--set", "supervisor.prot=1", NULL},
                                           {"--port", "70000", NULL},
                                           {"--listen", "nowhere", NULL},
                                           {"--config", "/nonexistent", NULL},
                                           {"--nonsense", NULL, NULL}};
    static const int codes[] = {EX_USAGE, EX_USAGE, EX_CONFIG, EX_CONFIG, EX_CONFIG, EX_USAGE, EX_USAGE};
    for (size_t i = 0; i < WV_ARRAY_SIZE(wrong); i++) {
        keeper = launch(wrong[i]);
        int code = wait_end();
        ck_assert_msg(code == codes[i], "%s %s: exit code %d", wrong[i][0], wrong[i][1] ? wrong[i][1] : "",
                      code);
    }
    ck_assert(in_log("\"port\"")); /* the nearest known key */
}
END_TEST

START_TEST(missing_program_is_said_and_the_rest_runs)
{
    char libexec[96], path[192], command[512];
    snprintf(libexec, sizeof libexec, "%s/libexec", folder);
    mkdir(libexec, 0755);
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof path, "%s/wavry-%s", libexec, names[i]);
        snprintf(command, sizeof command, FAKE_STAGES "/wavry-%s", names[i]);
        if (strcmp(names[i], "encoder"))
            ck_assert_int_eq(symlink(command, path), 0);
    }
    keeper = launch((const char *const[]){"--libexec-dir", libexec, NULL});
    ck_assert_ptr_nonnull(strstr(wait_state("encoder", "failed", -1).status, "wavry-encoder"));
    wait_state("capture", "ready", -1);
}
END_TEST

START_TEST(notifications_are_parsed_within_bounds)
{
    char name[WV_KEEPER_NAME_MAX];
    static const char store[] = "FDSTORE=1\nFDNAME=raw-frames\nFDPOLL=0";
    ck_assert_uint_eq(wv_notify_parse(store, strlen(store), name), WV_NOTIFY_STORE);
    ck_assert_str_eq(name, "raw-frames");
    static const char both[] = "READY=1\nSTATUS=x\nFDSTOREREMOVE=1\n";
    ck_assert_uint_eq(wv_notify_parse(both, strlen(both), name), WV_NOTIFY_READY | WV_NOTIFY_REMOVE);
    ck_assert_str_eq(name, "stored");
    static const char *const bad[] = {
        "FDSTORE=1\nFDNAME=a:b", "FDSTORE=1\nFDNAME=",    "FDSTORE=2", "FDSTORE", "",
        "FDSTORE=1\nFDNAME=a b", "FDSTORE=1\nFDNAME=\x01"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_uint_eq(wv_notify_parse(bad[i], strlen(bad[i]), name), WV_NOTIFY_OTHER);
    char huge[512] = "FDSTORE=1\nFDNAME=";
    memset(huge + strlen(huge), 'x', 300);
    ck_assert_uint_eq(wv_notify_parse(huge, sizeof huge, name), WV_NOTIFY_OTHER);
}
END_TEST

START_TEST(addresses_of_the_udp_socket)
{
    char where[64];
    int fd = wv_udp_bind("127.0.0.1:0", 4820, where, sizeof where);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(strncmp(where, "127.0.0.1:", 10), 0);
    close(fd);
    static const char *const bad[] = {"nowhere",       "1.2.3.4:70000", "1.2.3.4:",  "[::1",      "[::1]x",
                                      "[127.0.0.1]:1", "1.2.3.4:-1",    "::1]:4820", "1.2.3:4820"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_msg(wv_udp_bind(bad[i], 0, where, sizeof where) == -EINVAL, "%s was taken", bad[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("supervisor");
    TCase *small = tcase_create("parts"), *tc = tcase_create("host");
    tcase_add_test(small, wiring_agrees_with_itself);
    tcase_add_test(small, notifications_are_parsed_within_bounds);
    tcase_add_test(small, addresses_of_the_udp_socket);
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, stage_killed_gets_the_same_descriptors_again);
    tcase_add_test(tc, stopped_and_spinning_stages_are_found);
    tcase_add_test(tc, a_pause_of_everybody_costs_nobody_his_life);
    tcase_add_test(tc, crash_loop_backs_off_and_leaves_the_others_alone);
    tcase_add_test(tc, supervisor_killed_finds_its_stages_again);
    tcase_add_test(tc, stage_and_supervisor_killed_together);
    tcase_add_test(tc, control_verbs);
    tcase_add_test(tc, silent_stage_and_slow_client_block_nobody);
    tcase_add_test(tc, pages_are_read_only);
    tcase_add_test(tc, strangers_get_nothing);
    tcase_add_test(tc, stop_leaves_no_process_and_no_file);
    tcase_add_test(tc, keeper_killed_stops_the_host);
    tcase_add_test(tc, second_host_in_the_same_folder_is_refused);
    tcase_add_test(tc, port_in_use_is_said);
    tcase_add_test(tc, wrong_words_on_the_command_line);
    tcase_add_test(tc, missing_program_is_said_and_the_rest_runs);
    suite_add_tcase(suite, small);
    suite_add_tcase(suite, tc);
    return wv_run_suite(suite);
}
