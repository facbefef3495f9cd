#include "supervisor/keeper.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/ipc/loop.h"
#include "supervisor/places.h"
#include "supervisor/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#define STORE_MAX      64
#define NOTE_FDS_MAX   16
#define NOTE_MAX_BYTES 4096
#define GOOD_LIFE_NS   (10 * WV_NS_PER_S)
#define RETRY_FIRST_NS (100 * WV_NS_PER_MS)
#define RETRY_MAX_NS   (5 * WV_NS_PER_S)
#define STOP_LIMIT_NS  (8 * WV_NS_PER_S)

struct kept {
    char name[WV_KEEPER_NAME_MAX];
    int fd;
};

struct keeper {
    struct wv_places places;
    struct wv_loop *loop;
    struct wv_loop_source *retry_timer, *stop_timer;
    char **argv;
    char notify_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int notify_fd, lock_fd;
    struct kept store[STORE_MAX];
    size_t n_store;
    pid_t supervisor; /* 0: none */
    uint64_t started_ns;
    unsigned failures;
    bool ever_ready, stopping;
};

/* ---- the store ---- */

static void store_remove(struct keeper *k, const char *name)
{
    for (size_t i = 0; i < k->n_store;) {
        if (strcmp(k->store[i].name, name)) {
            i++;
            continue;
        }
        wv_close(k->store[i].fd);
        k->store[i] = k->store[--k->n_store];
    }
}

static void store_add(struct keeper *k, const char *name, int fd)
{
    if (k->n_store == STORE_MAX) {
        wv_error("the descriptor store is full", "name=%s", name);
        wv_close(fd);
        return;
    }
    struct kept *e = &k->store[k->n_store++];
    snprintf(e->name, sizeof e->name, "%s", name);
    e->fd = fd;
}

struct note {
    char text[NOTE_MAX_BYTES];
    size_t len;
    int fds[NOTE_FDS_MAX];
    size_t n_fds;
    struct ucred sender;
};

/* Returns 0 or -EAGAIN (nothing there, or nothing that we take). */
static int receive_note(int fd, struct note *n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * NOTE_FDS_MAX) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec iov = {.iov_base = n->text, .iov_len = sizeof n->text};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return -errno;
    n->n_fds = 0;
    n->len = (size_t)got;
    n->sender = (struct ucred){.pid = -1, .uid = (uid_t)-1};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof n->sender))
            memcpy(&n->sender, CMSG_DATA(c), sizeof n->sender);
        if (c->cmsg_type == SCM_RIGHTS) {
            n->n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(n->fds, CMSG_DATA(c), n->n_fds * sizeof(int));
        }
    }
    if (m.msg_flags & MSG_TRUNC)
        n->len = 0;
    return 0;
}

static void take_note(struct keeper *k, const struct note *n)
{
    char name[WV_KEEPER_NAME_MAX];
    bool ours = n->sender.pid == k->supervisor && n->sender.uid == getuid();
    unsigned kind = ours ? wv_notify_parse(n->text, n->len, name) : WV_NOTIFY_OTHER;
    if (!ours)
        wv_warning("a notification that is not the supervisor's was left out", "pid=%d", (int)n->sender.pid);
    if (kind & WV_NOTIFY_REMOVE)
        store_remove(k, name);
    for (size_t i = 0; i < n->n_fds; i++) {
        if (kind & WV_NOTIFY_STORE)
            store_add(k, name, n->fds[i]);
        else
            wv_close(n->fds[i]);
    }
    if (kind & WV_NOTIFY_READY) {
        k->ever_ready = true;
        sd_notify(0, "READY=1"); /* our own service manager, where there is one */
    }
    if (kind & WV_NOTIFY_STOPPING) {
        k->stopping = true;
        sd_notify(0, "STOPPING=1");
    }
}

static int on_note(void *userdata, uint32_t events, uint64_t now)
{
    struct keeper *k = userdata;
    struct note n;
    for (unsigned i = 0; i < 64 && receive_note(k->notify_fd, &n) == 0; i++)
        take_note(k, &n);
    return 0;
}

static int open_notify(struct keeper *k)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int on = 1;
    wv_places_path(&k->places, "notify.sock", k->notify_path, sizeof k->notify_path);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", k->notify_path);
    (void)unlink(k->notify_path); /* we hold the lock: it is a dead keeper's */
    k->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (k->notify_fd < 0 || fchmod(k->notify_fd, 0600) < 0 ||
        setsockopt(k->notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(k->notify_fd, (struct sockaddr *)&a, sizeof a) < 0) {
        int r = -errno;
        wv_error("the keeper's socket can't be made", "path=%s error=\"%s\"", k->notify_path, strerror(-r));
        return r;
    }
    return wv_loop_add_fd(k->loop, k->notify_fd, EPOLLIN, on_note, k, NULL);
}

/* ---- the supervisor's process ---- */

/* Moves the store to 3, 4, ... by way of high numbers, so that none is overwritten before it was moved. */
static int arrange_store(const struct keeper *k, char *names, size_t capacity)
{
    enum { HIGH = 256 };
    size_t used = 0;
    int high[STORE_MAX];
    names[0] = 0;
    for (size_t i = 0; i < k->n_store; i++) {
        high[i] = fcntl(k->store[i].fd, F_DUPFD_CLOEXEC, HIGH);
        if (high[i] < 0)
            return -errno;
        used += (size_t)snprintf(names + used, capacity - used, "%s%s", i ? ":" : "", k->store[i].name);
    }
    int lock = fcntl(k->lock_fd, F_DUPFD, HIGH); /* held as long as either of us lives */
    if (lock < 0)
        return -errno;
    if (syscall(SYS_close_range, 3, HIGH - 1, 0) < 0)
        return -errno;
    for (size_t i = 0; i < k->n_store; i++)
        if (dup2(high[i], SD_LISTEN_FDS_START + (int)i) < 0)
            return -errno;
    return 0;
}

static void become_supervisor(struct keeper *k, pid_t keeper)
{
    char names[STORE_MAX * (WV_KEEPER_NAME_MAX + 1)], number[32];
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* Without its keeper it could never be whole again: it stops in good order. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    if (getppid() != keeper || arrange_store(k, names, sizeof names) < 0)
        _exit(EX_OSERR);
    snprintf(number, sizeof number, "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
    snprintf(number, sizeof number, "%zu", k->n_store);
    setenv("LISTEN_FDS", number, 1);
    setenv("LISTEN_FDNAMES", names, 1);
    setenv("NOTIFY_SOCKET", k->notify_path, 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    execv("/proc/self/exe", k->argv);
    _exit(EX_OSERR);
}

static void start_supervisor(struct keeper *k, uint64_t now)
{
    pid_t keeper = getpid(), pid = fork();
    if (pid == 0)
        become_supervisor(k, keeper);
    k->started_ns = now;
    if (pid < 0) {
        wv_error("the supervisor can't be started", "error=\"%s\"", strerror(errno));
        wv_loop_timer_at(k->retry_timer, now + RETRY_MAX_NS);
        return;
    }
    k->supervisor = pid;
}

static int on_retry(void *userdata, uint64_t now)
{
    struct keeper *k = userdata;
    if (!k->supervisor)
        start_supervisor(k, now);
    return 0;
}

static uint64_t retry_delay(struct keeper *k, uint64_t now)
{
    if (now - k->started_ns > GOOD_LIFE_NS)
        k->failures = 0;
    if (++k->failures == 1)
        return 0;
    unsigned doublings = WV_MIN(k->failures - 2, 10u);
    return WV_MIN(RETRY_FIRST_NS << doublings, RETRY_MAX_NS);
}

/* The supervisor ended with STATUS: again, or for good. */
static void supervisor_ended(struct keeper *k, int status, uint64_t now)
{
    (void)on_note(k, 0, now); /* what it said last counts */
    k->supervisor = 0;
    bool exited = WIFEXITED(status);
    int code = exited ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    bool hopeless = exited && code != EX_TEMPFAIL && !k->ever_ready; /* it said why: port in use, ... */
    if ((exited && code == 0) || k->stopping || hopeless) {
        wv_loop_quit(k->loop, code);
        return;
    }
    uint64_t delay = exited && code == EX_TEMPFAIL ? 0 : retry_delay(k, now);
    wv_warning("the supervisor ended; starting it again, the stages go on", "%s=%d retry_ms=%u",
               exited ? "exit_status" : "signal", exited ? code : WTERMSIG(status),
               (unsigned)(delay / WV_NS_PER_MS));
    if (delay == 0)
        start_supervisor(k, now);
    else
        wv_loop_timer_at(k->retry_timer, now + delay);
}

static int on_child(void *userdata, int signal, uint64_t now)
{
    struct keeper *k = userdata;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == k->supervisor)
            supervisor_ended(k, status, now);
    return 0;
}

static int on_stop(void *userdata, int signal, uint64_t now)
{
    struct keeper *k = userdata;
    k->stopping = true;
    if (!k->supervisor) {
        wv_loop_quit(k->loop, EX_OK);
        return 0;
    }
    kill(k->supervisor, SIGTERM);
    wv_loop_timer_at(k->stop_timer, now + STOP_LIMIT_NS);
    return 0;
}

static int on_stop_limit(void *userdata, uint64_t now)
{
    struct keeper *k = userdata;
    wv_error("the supervisor did not stop in time; killing it", "pid=%d", (int)k->supervisor);
    if (k->supervisor)
        kill(k->supervisor, SIGKILL);
    return 0;
}

/* ---- begin and end ---- */

static int open_all(struct keeper *k)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return -errno;
    int r = wv_loop_new(&k->loop);
    if (r == 0)
        r = open_notify(k);
    if (r == 0)
        r = wv_loop_add_signal(k->loop, SIGTERM, on_stop, k);
    if (r == 0)
        r = wv_loop_add_signal(k->loop, SIGINT, on_stop, k);
    if (r == 0)
        r = wv_loop_add_signal(k->loop, SIGHUP, on_stop, k);
    if (r == 0)
        r = wv_loop_add_signal(k->loop, SIGCHLD, on_child, k);
    if (r == 0)
        r = wv_loop_add_timer(k->loop, on_retry, k, &k->retry_timer);
    return r < 0 ? r : wv_loop_add_timer(k->loop, on_stop_limit, k, &k->stop_timer);
}

/* Whoever is still there when the supervisor is gone for good: parked pidfds name the stages. Nothing may be
 * left behind; waits until they are reaped. */
static void end_stages(struct keeper *k)
{
    for (size_t i = 0; i < k->n_store; i++) {
        if (strncmp(k->store[i].name, "pid-", 4))
            continue;
        if (syscall(SYS_pidfd_send_signal, k->store[i].fd, SIGKILL, NULL, 0) == 0)
            (void)waitid(P_PIDFD, (id_t)k->store[i].fd, &(siginfo_t){0}, WEXITED);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int wv_keeper_run(const char *runtime, const char *state, char **argv)
{
    struct keeper k = {.argv = argv, .notify_fd = -1, .lock_fd = -1};
    bool created = false;
    if (wv_places_init(&k.places, runtime, state, &created) < 0)
        return EX_CANTCREAT;
    k.lock_fd = wv_places_lock(&k.places);
    if (k.lock_fd < 0)
        return k.lock_fd == -EWOULDBLOCK ? EX_UNAVAILABLE : EX_CANTCREAT;
    int r = open_all(&k);
    if (r == 0) {
        start_supervisor(&k, wv_now_ns());
        r = wv_loop_run(k.loop);
    }
    if (r < 0)
        wv_error("the keeper can't go on", "error=\"%s\"", strerror(-r));
    if (k.supervisor) {
        kill(k.supervisor, SIGKILL);
        waitpid(k.supervisor, NULL, 0);
    }
    end_stages(&k);
    wv_places_remove(&k.places, created);
    k.loop = wv_loop_free(k.loop);
    wv_close(k.notify_fd);
    for (size_t i = 0; i < k.n_store; i++)
        wv_close(k.store[i].fd);
    wv_close(k.lock_fd);
    return r < 0 ? EX_OSERR : r;
}
