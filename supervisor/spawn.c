#include "supervisor/spawn.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CHILD_TIMEOUT_MS 3000

/* Child to parent, twice at most: prepared (or why not), then why exec failed. */
struct report {
    int32_t error;
    int32_t network_error;
};

static int write_text(const char *path, const char *text)
{
    wv_cleanup(wv_close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int leave_network(const struct wv_spawn *s)
{
    if (unshare(CLONE_NEWNET) == 0)
        return 0;
    if (errno != EPERM)
        return -errno;
    /* A person may do it inside a user namespace of their own, in which they stay who they are. */
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return -errno;
    int r = write_text("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", (unsigned)uid, (unsigned)uid);
    if (r == 0)
        r = write_text("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", (unsigned)gid, (unsigned)gid);
    return r < 0 ? r : write_text("/proc/self/gid_map", map);
}

static int become(const struct wv_spawn *s)
{
    for (int cap = 0; cap <= 63; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            break;
    if (setgroups(0, NULL) < 0 || setresgid(s->gid, s->gid, s->gid) < 0 ||
        setresuid(s->uid, s->uid, s->uid) < 0)
        return -errno;
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int i = 1; i < SIGRTMIN; i++)
        (void)signal(i, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Descriptors: 0 reads nothing, 1 and 2 are the log, 3... are the kept ones. Everything else is CLOEXEC, and
 * is marked so once more, whoever made it. */
static int arrange_descriptors(const struct wv_spawn *s)
{
    wv_cleanup(wv_close_p) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0)
        return -errno;
    if (syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */) < 0)
        return -errno;
    for (size_t i = 0; i < s->n_keep; i++)
        if (fcntl(s->keep[i], F_SETFD, 0) < 0)
            return -errno;
    return 0;
}

static int prepare(const struct wv_spawn *s, struct report *report)
{
    reset_signals();
    umask(077);
    if (setsid() < 0 || chdir("/") < 0)
        return -errno;
    if (s->no_network)
        report->network_error = leave_network(s);
    int r = s->change_user ? become(s) : 0;
    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = -errno;
    return r == 0 ? arrange_descriptors(s) : r;
}

static void child(const struct wv_spawn *s, int program, int channel)
{
    struct report report = {0};
    char go;
    report.error = prepare(s, &report);
    if (write(channel, &report, sizeof report) != sizeof report || report.error < 0)
        _exit(71);
    if (read(channel, &go, 1) != 1)
        _exit(71); /* the supervisor died first: nobody knows of us */
    /* By descriptor: the stage's user need not be able to walk to where the program lies. */
    syscall(SYS_execveat, program, "", s->argv, s->envp, AT_EMPTY_PATH);
    report.error = -errno;
    (void)!write(channel, &report, sizeof report);
    _exit(71);
}

/* Returns 0 with a report, 1 at the end (the program runs), or a negative errno. */
static int read_report(int channel, struct report *ret)
{
    struct pollfd p = {.fd = channel, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, CHILD_TIMEOUT_MS);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? -errno : -ETIMEDOUT;
    ssize_t got = recv(channel, ret, sizeof *ret, 0);
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return 1;
    return got == sizeof *ret ? 0 : -EIO;
}

static int follow(int channel, void (*park)(void *, int), void *userdata, struct wv_spawned *c)
{
    struct report report;
    int r = read_report(channel, &report);
    if (r != 0)
        return r < 0 ? r : -EIO;
    if (report.error < 0)
        return report.error;
    c->network_error = report.network_error;
    park(userdata, c->pidfd);
    if (send(channel, "g", 1, MSG_NOSIGNAL) != 1)
        return -EPIPE;
    r = read_report(channel, &report);
    if (r == 1)
        return 0;
    return r < 0 ? r : report.error;
}

int wv_spawn(const struct wv_spawn *s, void (*park)(void *userdata, int pidfd), void *userdata,
             struct wv_spawned *ret)
{
    int channel[2];
    wv_cleanup(wv_close_p) int program = open(s->program, O_PATH | O_CLOEXEC);
    if (program < 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
        return -errno;
    struct wv_spawned c = {.pid = fork(), .pidfd = -1};
    if (c.pid == 0) {
        close(channel[0]);
        child(s, program, channel[1]);
    }
    int r = c.pid < 0 ? -errno : 0;
    wv_close(channel[1]);
    if (r == 0) {
        c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
        r = c.pidfd < 0 ? -errno : follow(channel[0], park, userdata, &c);
        if (r < 0) {
            kill(c.pid, SIGKILL);
            waitpid(c.pid, NULL, 0);
            wv_close(c.pidfd);
        }
    }
    wv_close(channel[0]);
    if (r < 0)
        return r;
    c.network_closed = s->no_network && c.network_error == 0;
    *ret = c;
    return 0;
}
