/* Lockdown of the calling process, fail closed: what can't be set up is an error, except where the caller
 * allows a weaker form and then logs what is weaker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wv_sandbox {
    const char *const
        *syscalls;          /* allow-list on top of the base list that every stage needs; NULL-terminated */
    bool network;           /* may create AF_INET/AF_INET6 sockets */
    bool watches_addresses; /* may create netlink sockets for addresses and routes (NETLINK_ROUTE; reach) */
    bool threads_later;     /* makes threads after lockdown (clone with thread flags only) */
    bool file_reads;        /* openat O_RDONLY after lockdown */
    bool file_writes;       /* openat for writing, rename, unlink, fsync after lockdown (identity) */
    const char *writable_path; /* with file_writes: the only folder written to, where the kernel has Landlock;
                                  NULL: anywhere. The stage skeleton fills in the config key state_dir. */
    uint64_t max_memory_bytes; /* RLIMIT_AS; 0: none */
    uint32_t max_files;        /* RLIMIT_NOFILE */
};

/* The part that belongs before any thread is made and any library is loaded: no new privileges, no
 * capabilities, not dumpable, no core files. Returns 0 or a negative errno. */
int wv_sandbox_prepare(void);

/* No new privileges, no capabilities, not dumpable, rlimits, seccomp. All threads of the process (TSYNC).
 * Forbidden system calls fail with EPERM, those that no stage could have a use for (execve, ptrace, mount,
 * ...) kill. The environment WAVRY_SECCOMP=log logs violations instead (developers). Returns 0 or a negative
 * errno. */
int wv_sandbox_enter(const struct wv_sandbox *sandbox);
