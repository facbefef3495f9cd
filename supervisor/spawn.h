/* One stage's process: its own session, user, network namespace and a clean environment. Nothing of the
 * supervisor leaks into it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define WV_SPAWN_CONFIGS 8

struct wv_spawn {
    const char *program; /* path */
    char *const *argv;
    char *const *envp;
    bool change_user; /* needs root */
    uid_t uid;
    gid_t gid;
    bool no_network;            /* an empty network namespace */
    int keep[WV_SPAWN_CONFIGS]; /* become descriptors 3, 4, ... */
    size_t n_keep;
};

struct wv_spawned {
    pid_t pid;
    int pidfd;
    bool network_closed;
    int network_error; /* why not */
};

/* PARK is called with the pidfd before the program begins: whoever dies then knows of the child or the child
 * does not begin. Returns 0 or the negative errno of what failed in the child (-ENOENT: no such program). */
int wv_spawn(const struct wv_spawn *s, void (*park)(void *userdata, int pidfd), void *userdata,
             struct wv_spawned *ret);
