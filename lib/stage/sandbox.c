#include "lib/stage/sandbox.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* The leak checker of sanitizer builds stops the process with ptrace from a helper of its own at exit. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#define CLONE_THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

/* What any event loop over inherited descriptors needs. Calls whose arguments matter are in add_filtered().
 */
static const char *const base_calls[] = {
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "close",
    "fstat",
    "newfstatat",
    "lseek",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd4",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sigaltstack",
    "restart_syscall",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "futex",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "membarrier",
    "getcpu",
    "gettid",
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getpgrp",
    "uname",
    "sysinfo",
    "getrusage",
    "getrlimit",
    "times",
    "getrandom",
    "brk",
    "munmap",
    "mremap",
    "madvise",
    "mincore",
    "msync",
    "mlock",
    "munlock",
    "connect",
    "accept4",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "sendto",
    "recvfrom",
    "getsockopt",
    "setsockopt",
    "getsockname",
    "getpeername",
    "shutdown",
    "pipe2",
    "dup",
    "dup3",
    "fcntl",
    "exit",
    "exit_group",
    NULL,
};

static const char *const read_calls[] = {
    "access",     "faccessat",  "faccessat2", "stat",   "lstat",   "statx",     "readlink",
    "readlinkat", "getdents64", "getcwd",     "statfs", "fstatfs", "fadvise64", NULL,
};

static const char *const write_calls[] = {
    "openat",    "open",      "rename", "renameat", "renameat2", "unlink", "unlinkat", "fsync",
    "fdatasync", "ftruncate", "fchmod", "mkdir",    "mkdirat",   "flock",  NULL,
};

static const char *const sanitizer_calls[] = {
    "ptrace",   "clone",     "wait4",      "prctl",    "openat",
    "open",     "prlimit64", "readlink",   "stat",     "sched_setaffinity",
    "kill",     "tgkill",    "getdents64", "getdents", "mmap",
    "mprotect", NULL,
};

/* No stage has a use for these: whoever calls them is somebody else by now. */
static const char *const deadly_calls[] = {
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "setns",
    "unshare",
    "open_by_handle_at",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "add_key",
    "request_key",
    "keyctl",
    "reboot",
    "swapon",
    "swapoff",
    "iopl",
    "ioperm",
    "modify_ldt",
    "acct",
    "quotactl",
    "fsopen",
    "fsmount",
    "move_mount",
    "open_tree",
    "pidfd_getfd",
    NULL,
};

static int add_rule(scmp_filter_ctx ctx, uint32_t action, const char *name)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr == __NR_SCMP_ERROR)
        return 0; /* younger than this libseccomp: refused by default */
    int r = seccomp_rule_add(ctx, action, nr, 0);
    return r == -EDOM || r == -EEXIST ? 0 : r; /* not on this machine; already there */
}

static int add_list(scmp_filter_ctx ctx, uint32_t action, const char *const *names)
{
    int r = 0;
    for (; r == 0 && names && *names; names++)
        r = add_rule(ctx, action, *names);
    return r;
}

static bool in_list(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

static int add_deadly(scmp_filter_ctx ctx, const struct wv_sandbox *sandbox)
{
    int r = 0;
    for (const char *const *p = deadly_calls; r == 0 && *p; p++) {
        if (in_list(sandbox->syscalls, *p) || (SANITIZED && in_list(sanitizer_calls, *p)))
            continue;
        r = add_rule(ctx, SCMP_ACT_KILL_PROCESS, *p);
    }
    return r;
}

static int allow(scmp_filter_ctx ctx, int nr, unsigned n, const struct scmp_arg_cmp *args)
{
    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr, n, args);
}

/* Memory is never both written as data and run as code: no new executable mapping, no old one made so. */
static int add_memory(scmp_filter_ctx ctx)
{
    const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    int r = allow(ctx, SCMP_SYS(mmap), 1, &no_exec);
    return r < 0 ? r : allow(ctx, SCMP_SYS(mprotect), 1, &no_exec);
}

static int add_sockets(scmp_filter_ctx ctx, const struct wv_sandbox *sandbox)
{
    static const uint64_t families[] = {AF_UNIX, AF_INET, AF_INET6};
    int r = 0;
    for (unsigned i = 0; r == 0 && i < (sandbox->network ? 3u : 1u); i++) {
        const struct scmp_arg_cmp family = SCMP_A0(SCMP_CMP_EQ, families[i]);
        r = allow(ctx, SCMP_SYS(socket), 1, &family);
    }
    /* Of all that netlink leads to (audit, packet filters, IPsec, drivers), addresses and routes alone. */
    const struct scmp_arg_cmp routes[] = {SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
                                          SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE)};
    if (r == 0 && sandbox->watches_addresses)
        r = allow(ctx, SCMP_SYS(socket), 2, routes);
    const struct scmp_arg_cmp unix_pair = SCMP_A0(SCMP_CMP_EQ, AF_UNIX);
    if (r == 0)
        r = allow(ctx, SCMP_SYS(socketpair), 1, &unix_pair);
    return r;
}

static int add_threads(scmp_filter_ctx ctx, bool threads_later)
{
    /* clone3 takes its flags in memory, where a filter can't look; with ENOSYS glibc falls back to clone. */
    int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    const struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD_FLAGS, CLONE_THREAD_FLAGS);
    if (r == 0 && threads_later)
        r = allow(ctx, SCMP_SYS(clone), 1, &thread);
    return r;
}

static int add_open(scmp_filter_ctx ctx)
{
    const uint64_t writing = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
    const struct scmp_arg_cmp at = SCMP_A2(SCMP_CMP_MASKED_EQ, writing, 0);
    const struct scmp_arg_cmp plain = SCMP_A1(SCMP_CMP_MASKED_EQ, writing, 0);
    int r = allow(ctx, SCMP_SYS(openat), 1, &at);
    return r < 0 ? r : allow(ctx, SCMP_SYS(open), 1, &plain);
}

/* Small doors of calls that can do much more. */
static int add_narrow(scmp_filter_ctx ctx)
{
    static const uint64_t ioctls[] = {FIONREAD, FIONBIO, FIOCLEX, TCGETS};
    static const uint64_t prctls[] = {PR_SET_NAME,     PR_GET_NAME, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK,
                                      PR_GET_DUMPABLE, 0x53564d41 /* PR_SET_VMA: names of anonymous maps */};
    int r = 0;
    for (unsigned i = 0; r == 0 && i < WV_ARRAY_SIZE(ioctls); i++) {
        const struct scmp_arg_cmp request = SCMP_A1(SCMP_CMP_EQ, ioctls[i]);
        r = allow(ctx, SCMP_SYS(ioctl), 1, &request);
    }
    for (unsigned i = 0; r == 0 && i < WV_ARRAY_SIZE(prctls); i++) {
        const struct scmp_arg_cmp option = SCMP_A0(SCMP_CMP_EQ, prctls[i]);
        r = allow(ctx, SCMP_SYS(prctl), 1, &option);
    }
    /* ZeroMQ's thread sets the policy that it has when it begins, which may be after lockdown. */
    const struct scmp_arg_cmp ordinary = SCMP_A1(SCMP_CMP_EQ, SCHED_OTHER);
    if (r == 0)
        r = allow(ctx, SCMP_SYS(sched_setscheduler), 1, &ordinary);
    const struct scmp_arg_cmp self = SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid());
    if (r == 0)
        r = allow(ctx, SCMP_SYS(tgkill), 1, &self); /* abort(), pthread_kill() */
    const struct scmp_arg_cmp limits[] = {SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0)};
    if (r == 0)
        r = allow(ctx, SCMP_SYS(prlimit64), 2, limits); /* reading our own */
    return r;
}

static int fill_filter(scmp_filter_ctx ctx, const struct wv_sandbox *sandbox)
{
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* binary tree: the check is on every call */
    /* Whole-call rules come first: libseccomp drops a narrower rule when the wider one exists. */
    if (r == 0)
        r = add_list(ctx, SCMP_ACT_ALLOW, base_calls);
    if (r == 0 && (sandbox->file_reads || sandbox->file_writes))
        r = add_list(ctx, SCMP_ACT_ALLOW, read_calls);
    if (r == 0 && sandbox->file_writes)
        r = add_list(ctx, SCMP_ACT_ALLOW, write_calls);
    if (r == 0)
        r = add_list(ctx, SCMP_ACT_ALLOW, sandbox->syscalls);
    if (r == 0 && SANITIZED)
        r = add_list(ctx, SCMP_ACT_ALLOW, sanitizer_calls);
    if (r == 0)
        r = add_deadly(ctx, sandbox);
    if (r == 0)
        r = add_memory(ctx);
    if (r == 0)
        r = add_sockets(ctx, sandbox);
    if (r == 0)
        r = add_threads(ctx, sandbox->threads_later);
    if (r == 0 && sandbox->file_reads && !sandbox->file_writes)
        r = add_open(ctx);
    return r < 0 ? r : add_narrow(ctx);
}

static int enter_seccomp(const struct wv_sandbox *sandbox)
{
    const char *mode = getenv("WAVRY_SECCOMP");
    bool log_only = mode && !strcmp(mode, "log");
    if (log_only)
        wv_warning("forbidden system calls are only logged", "because=WAVRY_SECCOMP=log");
    scmp_filter_ctx ctx = seccomp_init(log_only ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    int r = fill_filter(ctx, sandbox);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r == -ECANCELED ? -ENOSYS : r;
}

/* Best effort beside seccomp: with Landlock in the kernel nothing below / can be changed, except below
 * WRITABLE_PATH where there is one. Returns whether it holds. */
static bool enter_landlock(const char *writable_path)
{
    const uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                            LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                            LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                            LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                            LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
    struct landlock_ruleset_attr attr = {.handled_access_fs = writes | LANDLOCK_ACCESS_FS_EXECUTE};
    wv_cleanup(wv_close_p) int ruleset =
        (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0);
    if (ruleset < 0)
        return false;
    if (writable_path) {
        wv_cleanup(wv_close_p) int dir = open(writable_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct landlock_path_beneath_attr beneath = {.allowed_access = writes, .parent_fd = dir};
        if (dir < 0 || syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
            return false;
    }
    return syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
}

static int drop_capabilities(void)
{
    /* Each step may be refused to somebody who has nothing to drop; what counts is checked at the end. */
    for (int cap = 0; cap <= 63; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            break;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    (void)syscall(SYS_capset, &header, data);
    memset(data, 0xff, sizeof data);
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    return data[0].permitted | data[1].permitted | data[0].effective | data[1].effective ? -EPERM : 0;
}

static int limit(int resource, uint64_t value)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
        return -errno;
    if (now.rlim_max != RLIM_INFINITY && value > now.rlim_max)
        value = now.rlim_max;
    struct rlimit l = {value, value};
    return setrlimit((__rlimit_resource_t)resource, &l) < 0 ? -errno : 0;
}

/* Should a core ever be written all the same, by whoever makes us dumpable again, no memory is in it. A
 * second lock: best effort, and out of reach once the process is not dumpable. */
static void empty_core(void)
{
    wv_cleanup(wv_close_p) int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    (void)!write(fd, "0", 1);
}

int wv_sandbox_prepare(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (!SANITIZED && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        empty_core();
    if (!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    int r = limit(RLIMIT_CORE, 0);
    return r < 0 ? r : drop_capabilities();
}

int wv_sandbox_enter(const struct wv_sandbox *sandbox)
{
    int r = wv_sandbox_prepare();
    if (r == 0 && sandbox->max_memory_bytes && !SANITIZED) /* shadow memory is counted in terabytes */
        r = limit(RLIMIT_AS, sandbox->max_memory_bytes);
    if (r == 0 && sandbox->max_files)
        r = limit(RLIMIT_NOFILE, sandbox->max_files);
    if (r < 0)
        return r;
    if (!sandbox->file_writes || sandbox->writable_path)
        (void)enter_landlock(sandbox->writable_path);
    return enter_seccomp(sandbox);
}
