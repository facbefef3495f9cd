#include "lib/stage/sandbox.h"

#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Each attempt runs in a child of its own that has entered the sandbox. 0: it worked, else errno. */
typedef int (*attempt_fn)(void);

enum { REFUSED_KILLED = 1000, REFUSED_OTHER };

static int outcome(const struct wv_sandbox *sandbox, attempt_fn attempt)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (wv_sandbox_enter(sandbox) < 0)
            _exit(255);
        _exit(attempt());
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGSYS ? REFUSED_KILLED : REFUSED_OTHER;
    ck_assert_int_ne(WEXITSTATUS(status), 255);
    return WEXITSTATUS(status);
}

#define ATTEMPT(name, expression)                                                                            \
    static int name(void)                                                                                    \
    {                                                                                                        \
        return (expression) < 0 ? errno : 0;                                                                 \
    }

ATTEMPT(inet_socket, socket(AF_INET, SOCK_DGRAM, 0))
ATTEMPT(inet6_socket, socket(AF_INET6, SOCK_STREAM, 0))
ATTEMPT(route_socket, socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE))
ATTEMPT(generic_netlink_socket, socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC))
ATTEMPT(uevent_socket, socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT))
ATTEMPT(packet_socket, socket(AF_PACKET, SOCK_RAW, 0))
ATTEMPT(unix_socket, socket(AF_UNIX, SOCK_SEQPACKET, 0))
ATTEMPT(exec_shell, execl("/bin/true", "true", NULL))
ATTEMPT(exec_at, syscall(SYS_execveat, -1, "/bin/true", NULL, NULL, 0))
ATTEMPT(trace_parent, ptrace(PTRACE_ATTACH, getppid(), 0, 0))
ATTEMPT(open_write, open("/tmp", O_TMPFILE | O_RDWR, 0600))
ATTEMPT(open_create, open("/tmp/test_sandbox_must_not_exist", O_CREAT | O_WRONLY, 0600))
ATTEMPT(open_shadow, openat(AT_FDCWD, "/etc/shadow", O_RDONLY))
ATTEMPT(open_read, open("/etc/passwd", O_RDONLY))
ATTEMPT(become_nobody, setresuid(65534, 65534, 65534))
ATTEMPT(become_root, setuid(0))
ATTEMPT(mount_tmpfs, mount("none", "/mnt", "tmpfs", 0, NULL))
ATTEMPT(io_uring, syscall(SYS_io_uring_setup, 8, NULL))
ATTEMPT(user_fault, syscall(SYS_userfaultfd, 0))
ATTEMPT(bpf_call, syscall(SYS_bpf, 0, NULL, 0))
ATTEMPT(kexec, syscall(SYS_kexec_load, 0, 0, NULL, 0))
ATTEMPT(new_namespace, unshare(CLONE_NEWUSER))
ATTEMPT(kill_parent, kill(getppid(), SIGKILL))
ATTEMPT(signal_thread_of_parent, syscall(SYS_tgkill, getppid(), getppid(), SIGKILL))
ATTEMPT(make_process, syscall(SYS_fork))
ATTEMPT(raise_limit, setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024}))
ATTEMPT(become_dumpable, prctl(PR_SET_DUMPABLE, 1))
ATTEMPT(remove_file, unlink("/tmp/test_sandbox_must_not_exist"))
ATTEMPT(list_keys, syscall(SYS_keyctl, 0, 0))
ATTEMPT(tty_inject, syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x"))

static int read_parent_memory(void)
{
    char there = 0;
    struct iovec a = {&there, 1}, b = {&there, 1};
    return process_vm_readv(getppid(), &a, 1, &b, 1, 0) < 0 ? errno : 0;
}

static int map_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int protect_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 0; /* data must be mappable: shows up as a missing refusal */
    return mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

static void *thread_main(void *userdata)
{
    *(int *)userdata = 1;
    return NULL;
}

static int make_thread(void)
{
    pthread_t thread;
    int ran = 0, r = pthread_create(&thread, NULL, thread_main, &ran);
    if (r)
        return r;
    pthread_join(thread, NULL);
    return ran ? 0 : EIO;
}

static int loop_work(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), pair[2];
    struct itimerspec soon = {.it_value.tv_nsec = 1000};
    struct epoll_event event = {.events = EPOLLIN};
    char byte = 1;
    if (epoll < 0 || timer < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return errno;
    if (timerfd_settime(timer, 0, &soon, NULL) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event) < 0 ||
        epoll_wait(epoll, &event, 1, 2000) != 1)
        return errno ? errno : ETIME;
    if (write(pair[0], &byte, 1) != 1 || read(pair[1], &byte, 1) != 1)
        return EIO;
    char *big = malloc(8 << 20);
    if (!big)
        return ENOMEM;
    memset(big, 1, 8 << 20);
    free(big);
    return 0;
}

static int no_capability_and_no_privilege(void)
{
    /* /proc is closed by now; the kernel still answers these. */
    if (prctl(PR_GET_DUMPABLE) != (SANITIZED ? 1 : 0))
        return EBUSY;
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_max != 0)
        return EBUSY;
    return 0;
}

static const struct wv_sandbox narrow = {.max_files = 64};

static const struct {
    const char *name;
    attempt_fn fn;
    bool kills;
    bool skip_sanitized; /* the sanitizer's runtime needs this door open */
} refused[] = {
    {"socket inet", inet_socket, false, false},
    {"socket inet6", inet6_socket, false, false},
    {"socket netlink route", route_socket, false, false},
    {"socket netlink generic", generic_netlink_socket, false, false},
    {"socket packet", packet_socket, false, false},
    {"execve", exec_shell, true, false},
    {"execveat", exec_at, true, false},
    {"ptrace", trace_parent, true, true},
    {"process_vm_readv", read_parent_memory, true, false},
    {"mount", mount_tmpfs, true, false},
    {"userfaultfd", user_fault, true, false},
    {"bpf", bpf_call, true, false},
    {"kexec_load", kexec, true, false},
    {"unshare", new_namespace, true, false},
    {"keyctl", list_keys, true, false},
    {"open for writing", open_write, false, true},
    {"open to create", open_create, false, true},
    {"open /etc/shadow", open_shadow, false, true},
    {"open to read", open_read, false, true},
    {"setresuid", become_nobody, false, false},
    {"setuid", become_root, false, false},
    {"io_uring_setup", io_uring, false, false},
    {"kill", kill_parent, false, true},
    {"tgkill of another process", signal_thread_of_parent, false, true},
    {"fork", make_process, false, false},
    {"setrlimit", raise_limit, false, true},
    {"prctl dumpable", become_dumpable, false, true},
    {"unlink", remove_file, false, false},
    {"ioctl TIOCSTI", tty_inject, false, false},
    {"mmap exec", map_code, false, true},
    {"mprotect exec", protect_code, false, true},
};

START_TEST(forbidden_calls_fail)
{
    if (SANITIZED && refused[_i].skip_sanitized)
        return;
    int got = outcome(&narrow, refused[_i].fn);
    int wanted = refused[_i].kills ? REFUSED_KILLED : EPERM;
    ck_assert_msg(got == wanted, "%s: outcome %d instead of %d", refused[_i].name, got, wanted);
}
END_TEST

START_TEST(honest_work_goes_on)
{
    const struct wv_sandbox threads = {.threads_later = true};
    ck_assert_int_eq(outcome(&narrow, loop_work), 0);
    ck_assert_int_eq(outcome(&narrow, unix_socket), 0);
    ck_assert_int_eq(outcome(&narrow, no_capability_and_no_privilege), 0);
    ck_assert_int_eq(outcome(&threads, make_thread), 0);
    ck_assert_int_eq(outcome(&threads, make_process), EPERM);
}
END_TEST

START_TEST(threads_only_where_asked_for)
{
    if (!SANITIZED)
        ck_assert_int_eq(outcome(&narrow, make_thread), EPERM);
}
END_TEST

START_TEST(file_rights_are_what_was_asked_for)
{
    const struct wv_sandbox reads = {.file_reads = true}, writes = {.file_writes = true};
    ck_assert_int_eq(outcome(&reads, open_read), 0);
    if (!SANITIZED) {
        ck_assert_int_eq(outcome(&reads, open_write), EPERM);
        ck_assert_int_eq(outcome(&reads, open_create), EPERM);
    }
    ck_assert_int_eq(outcome(&reads, remove_file), EPERM);
    ck_assert_int_eq(outcome(&writes, remove_file), ENOENT);
}
END_TEST

START_TEST(network_only_where_asked_for)
{
    const struct wv_sandbox network = {.network = true};
    ck_assert_int_eq(outcome(&network, inet_socket), 0);
    ck_assert_int_eq(outcome(&network, inet6_socket), 0);
    ck_assert_int_eq(outcome(&network, packet_socket), EPERM);
    ck_assert_int_eq(outcome(&network, route_socket), EPERM);
    ck_assert_int_eq(outcome(&network, generic_netlink_socket), EPERM);
}
END_TEST

START_TEST(addresses_are_watched_only_where_asked_for)
{
    const struct wv_sandbox both = {.network = true, .watches_addresses = true};
    const struct wv_sandbox watches = {.watches_addresses = true};
    /* The kernel itself refuses none of these: what is refused below is the sandbox's doing. */
    ck_assert_int_eq(route_socket() | generic_netlink_socket() | uevent_socket(), 0);
    ck_assert_int_eq(outcome(&both, route_socket), 0);
    ck_assert_int_eq(outcome(&both, inet_socket), 0);
    ck_assert_int_eq(outcome(&both, generic_netlink_socket), EPERM);
    ck_assert_int_eq(outcome(&both, uevent_socket), EPERM);
    ck_assert_int_eq(outcome(&watches, route_socket), 0);
    ck_assert_int_eq(outcome(&watches, inet_socket), EPERM);
}
END_TEST

static const char *const extra_calls[] = {"io_uring_setup", NULL};

START_TEST(a_stage_may_name_more_calls)
{
    const struct wv_sandbox extra = {.syscalls = extra_calls};
    ck_assert_int_ne(outcome(&extra, io_uring), EPERM);
}
END_TEST

static void *late_thread(void *userdata)
{
    volatile int *entered = userdata;
    while (!__atomic_load_n(entered, __ATOMIC_ACQUIRE))
        sched_yield();
    return (void *)(intptr_t)inet_socket();
}

/* A thread that was there before lockdown is held by it too. */
START_TEST(all_threads_are_locked_down)
{
    pid_t pid = fork();
    if (pid == 0) {
        int entered = 0;
        void *got = NULL;
        pthread_t thread;
        if (pthread_create(&thread, NULL, late_thread, &entered) || wv_sandbox_enter(&narrow) < 0)
            _exit(255);
        __atomic_store_n(&entered, 1, __ATOMIC_RELEASE);
        pthread_join(thread, &got);
        _exit((int)(intptr_t)got);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), EPERM);
}
END_TEST

static int capability_lines_are_zero(void)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0)
        return EIO;
    text[n] = 0;
    for (const char *const *line = (const char *const[]){"CapPrm:\t", "CapEff:\t", "CapInh:\t", NULL}; *line;
         line++) {
        const char *p = strstr(text, *line);
        if (!p || strtoull(p + strlen(*line), NULL, 16) != 0)
            return EACCES;
    }
    return strstr(text, "NoNewPrivs:\t1") && strstr(text, "Seccomp:\t2") ? 0 : EACCES;
}

START_TEST(no_capability_is_left)
{
    const struct wv_sandbox reads = {.file_reads = true};
    ck_assert_int_eq(outcome(&reads, capability_lines_are_zero), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox");
    TCase *tc = tcase_create("sandbox");
    tcase_add_loop_test(tc, forbidden_calls_fail, 0, (int)WV_ARRAY_SIZE(refused));
    tcase_add_test(tc, honest_work_goes_on);
    tcase_add_test(tc, threads_only_where_asked_for);
    tcase_add_test(tc, file_rights_are_what_was_asked_for);
    tcase_add_test(tc, network_only_where_asked_for);
    tcase_add_test(tc, addresses_are_watched_only_where_asked_for);
    tcase_add_test(tc, a_stage_may_name_more_calls);
    tcase_add_test(tc, all_threads_are_locked_down);
    tcase_add_test(tc, no_capability_is_left);
    suite_add_tcase(suite, tc);
    return wv_run_suite(suite);
}
