/* Unix SOCK_SEQPACKET with descriptors. Never leaks a received descriptor: what doesn't fit is closed here.
 */
#include "lib/ipc/fdpass.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LISTEN_BACKLOG 16

static int unix_address(const char *path, struct sockaddr_un *ret, socklen_t *ret_len)
{
    size_t len = strlen(path);
    if (len == 0)
        return -EINVAL;
    if (len >= sizeof(ret->sun_path))
        return -ENAMETOOLONG;
    memset(ret, 0, sizeof(*ret));
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path, path, len + 1);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

static int remove_old_socket(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int wv_seqpacket_listen(const char *path, unsigned mode)
{
    struct sockaddr_un address;
    socklen_t len;
    int r = unix_address(path, &address, &len);
    if (r >= 0)
        r = remove_old_socket(path);
    if (r < 0)
        return r;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* The socket file takes the mode of the socket, so there is no moment in which it is open to others. */
    if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || chmod(path, mode) < 0 ||
        listen(fd, LISTEN_BACKLOG) < 0) {
        r = -errno;
        wv_close(fd);
        return r;
    }
    return fd;
}

int wv_seqpacket_connect(const char *path)
{
    struct sockaddr_un address;
    socklen_t len;
    int r = unix_address(path, &address, &len);
    if (r < 0)
        return r;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, len) < 0) {
        r = -errno;
        wv_close(fd);
        return r;
    }
    return fd;
}

int wv_seqpacket_accept(int listen_fd, struct wv_peer *ret_peer)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    struct ucred credentials;
    socklen_t len = sizeof(credentials);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0) {
        int r = -errno;
        wv_close(fd);
        return r;
    }
    *ret_peer = (struct wv_peer){.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
    return fd;
}

union control_buffer {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * WV_FDPASS_MAX_FDS)];
};

int wv_fdpass_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds)
{
    if (len == 0 || len > WV_FDPASS_MAX_BYTES || n_fds > WV_FDPASS_MAX_FDS)
        return -EMSGSIZE;
    union control_buffer control;
    memset(&control, 0, sizeof(control));
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    return (size_t)n == len ? 0 : -EMSGSIZE;
}

static size_t take_descriptors(struct msghdr *message, int ret_fds[WV_FDPASS_MAX_FDS])
{
    size_t n_fds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (n_fds < WV_FDPASS_MAX_FDS)
                ret_fds[n_fds++] = fd;
            else
                wv_close(fd);
        }
    }
    return n_fds;
}

int wv_fdpass_receive(int fd, void *data, size_t capacity, size_t *ret_len, int ret_fds[WV_FDPASS_MAX_FDS],
                      size_t *ret_n_fds)
{
    union control_buffer control;
    int fds[WV_FDPASS_MAX_FDS];
    struct iovec iov = {.iov_base = data, .iov_len = capacity};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    size_t n_fds = take_descriptors(&message, fds);
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (size_t i = 0; i < n_fds; i++)
            wv_close(fds[i]);
        return -EMSGSIZE;
    }
    memcpy(ret_fds, fds, n_fds * sizeof(int));
    *ret_len = (size_t)n;
    *ret_n_fds = n_fds;
    return 0;
}
