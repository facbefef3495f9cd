/* Listening sockets that only this machine reaches. */
#include "metrics/server.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 16

static int split(const char *text, char host[64], const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || !colon[1])
        return -EINVAL;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return -EINVAL; /* IPv6 goes into brackets */
    }
    if (len == 0 || len > 63)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = 0;
    *ret_port = colon + 1;
    return strspn(colon + 1, "0123456789") == strlen(colon + 1) && atol(colon + 1) <= 65535 ? 0 : -EINVAL;
}

static bool is_loopback(const struct addrinfo *a)
{
    if (a->ai_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, a->ai_addr, sizeof six);
        return IN6_IS_ADDR_LOOPBACK(&six.sin6_addr);
    }
    struct sockaddr_in four;
    memcpy(&four, a->ai_addr, sizeof four);
    return a->ai_family == AF_INET && ntohl(four.sin_addr.s_addr) >> 24 == 127;
}

static int listen_at(int family, const struct sockaddr *address, socklen_t len, int *ret_fd)
{
    int one = 1;
    wv_cleanup(wv_close_p) int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        return -errno;
    if (bind(fd, address, len) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int wv_server_listen_loopback(const char *text, int *ret_fd)
{
    char host[64];
    const char *port;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    int r = split(text, host, &port);
    if (r < 0)
        return r;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -EINVAL;
    r = is_loopback(found) ? listen_at(found->ai_family, found->ai_addr, found->ai_addrlen, ret_fd) : -EPERM;
    freeaddrinfo(found);
    return r;
}

/* Whether somebody answers at PATH; what nobody answers on is left over. */
static bool in_use(const struct sockaddr_un *address)
{
    wv_cleanup(wv_close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
}

int wv_server_listen_unix(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return -EEXIST;
        if (in_use(&address))
            return -EADDRINUSE;
        if (unlink(path) < 0)
            return -errno;
    }
    mode_t old = umask(0117); /* user and group: the folder may be open to all */
    int r = listen_at(AF_UNIX, (const struct sockaddr *)&address, sizeof address, ret_fd);
    umask(old);
    return r;
}
