/* Messages with descriptors over unix SOCK_SEQPACKET sockets, with the peer's credentials checked. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WV_FDPASS_MAX_FDS   16
#define WV_FDPASS_MAX_BYTES 65536

struct wv_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/* Binds PATH (an old socket there is replaced, anything else is -EEXIST) with MODE. Returns the fd or -errno.
 */
int wv_seqpacket_listen(const char *path, unsigned mode);
int wv_seqpacket_connect(const char *path); /* returns the fd (non-blocking) or a negative errno */
int wv_seqpacket_accept(int listen_fd, struct wv_peer *ret_peer); /* credentials by SO_PEERCRED */

/* One message with N_FDS descriptors (not consumed). Returns 0, -EAGAIN, -EMSGSIZE, -EPIPE, -errno. */
int wv_fdpass_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds);
/* One message. Received descriptors are CLOEXEC and the caller's. Returns 0 with RET_LEN (0 only at end of
 * stream), -EAGAIN, -EMSGSIZE (message or descriptors truncated: all closed), -errno. */
int wv_fdpass_receive(int fd, void *data, size_t capacity, size_t *ret_len, int ret_fds[WV_FDPASS_MAX_FDS],
                      size_t *ret_n_fds);
