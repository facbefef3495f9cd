/* The host's one network socket. Bound here, never read here: what comes from the network is transport's. */
#include "supervisor/vault.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_BYTES (4 << 20)

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
};

static int parse_port(const char *text, uint16_t *ret)
{
    char *end = NULL;
    unsigned long port = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || port > 65535)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

/* "192.0.2.1:4820", "[2001:db8::1]:4820", or without the port. */
static int parse_address(const char *text, uint16_t port, union address *ret, socklen_t *ret_len)
{
    char host[64];
    union address a = {.any.sa_family = AF_UNSPEC};
    const char *colon = strrchr(text, ':');
    bool bracket = *text == '[';
    const char *close = bracket ? strchr(text, ']') : NULL;
    if (bracket && !close)
        return -EINVAL;
    if (!bracket && colon && strchr(text, ':') != colon)
        colon = NULL; /* a bare IPv6 address */
    if (bracket && colon && colon < close)
        colon = NULL;
    if (bracket && close[1] && close + 1 != colon)
        return -EINVAL;
    size_t len = bracket ? (size_t)(close - text - 1) : colon ? (size_t)(colon - text) : strlen(text);
    if (len >= sizeof host)
        return -EINVAL;
    memcpy(host, text + bracket, len);
    host[len] = 0;
    if (colon && parse_port(colon + 1, &port) < 0)
        return -EINVAL;
    if (inet_pton(AF_INET, host, &a.v4.sin_addr) == 1 && !bracket) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(port);
        *ret_len = sizeof a.v4;
    } else if (inet_pton(AF_INET6, host, &a.v6.sin6_addr) == 1) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(port);
        *ret_len = sizeof a.v6;
    } else {
        return -EINVAL;
    }
    *ret = a;
    return 0;
}

static void set_buffer(int fd, int forced, int plain)
{
    int bytes = BUFFER_BYTES;
    /* Past net.core.?mem_max only with privilege; what the kernel gives is better than nothing. */
    if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) < 0)
        (void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

static int make_socket(const union address *a, socklen_t len, bool dual)
{
    int fd = socket(a->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int only = !dual;
    if (a->any.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
    if (bind(fd, &a->any, len) < 0) {
        int r = -errno;
        wv_close(fd);
        return r;
    }
    return fd;
}

static void explain(int error, const char *where, uint16_t port)
{
    if (error == -EADDRINUSE)
        wv_error(
            "the UDP port is in use by another program, perhaps another Wavry host: stop that one, or choose "
            "a free port with --port N",
            "address=%s port=%u", where, port);
    else if (error == -EADDRNOTAVAIL)
        wv_error("this machine has no such address: give one of `ip address` to --listen, or leave it out",
                 "address=%s", where);
    else if (error == -EACCES)
        wv_error("ports below 1024 need privileges: choose a higher one with --port N", "port=%u", port);
    else
        wv_error("the UDP socket can't be made", "address=%s port=%u error=\"%s\"", where, port,
                 strerror(-error));
}

int wv_udp_bind(const char *listen, uint16_t port, char *ret_address, size_t capacity)
{
    union address a;
    socklen_t len = sizeof a.v6;
    int r;
    if (*listen) {
        r = parse_address(listen, port, &a, &len);
        if (r < 0) {
            wv_error("--listen takes ADDR:PORT, for example 192.0.2.1:4820 or [2001:db8::1]:4820",
                     "got=\"%s\"", listen);
            return r;
        }
        r = make_socket(&a, len, false);
    } else {
        a = (union address){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
        r = make_socket(&a, len, true);
        if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) { /* a machine without IPv6 */
            a = (union address){.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
            len = sizeof a.v4;
            r = make_socket(&a, len, false);
        }
    }
    uint16_t wanted = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    if (r < 0)
        explain(r, *listen ? listen : "all addresses", wanted);
    else
        (void)wv_udp_describe(r, ret_address, capacity);
    return r;
}

int wv_udp_describe(int fd, char *ret_address, size_t capacity)
{
    union address a;
    socklen_t len = sizeof a;
    int type = 0;
    socklen_t type_len = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || getsockname(fd, &a.any, &len) < 0)
        return -errno;
    char host[INET6_ADDRSTRLEN];
    if (type != SOCK_DGRAM)
        return -EBADMSG;
    if (a.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a.v6.sin6_addr))
        snprintf(ret_address, capacity, "*:%u", ntohs(a.v6.sin6_port));
    else if (a.any.sa_family == AF_INET6)
        snprintf(ret_address, capacity, "[%s]:%u", inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof host),
                 ntohs(a.v6.sin6_port));
    else if (a.any.sa_family == AF_INET)
        snprintf(ret_address, capacity, "%s:%u", inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof host),
                 ntohs(a.v4.sin_port));
    else
        return -EBADMSG;
    return 0;
}
