/* The client's UDP socket; see link.h. */
#include "client/link.h"

#include "lib/base/util.h"
#include "rift/core/session.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define ADDRESSES_MAX      8
#define RECEIVE_BUFFER     (4 << 20)
#define ADDRESS_TEXT_BYTES 320
#define MESSAGE_BYTES      65536 /* what the kernel joins at most (UDP_GRO) */
#define SEGMENTS_MAX       64    /* of one message */
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* One datagram of the last batch. */
struct segment {
    uint8_t *data;
    size_t len;
    enum rift_ecn ecn;
    uint64_t arrival_ns;
    int message; /* of the batch */
};

struct wv_link {
    char *host;
    uint16_t port;
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    socklen_t lengths[ADDRESSES_MAX];
    size_t n_addresses, next, current;
    int fd, old_fd, watch_fd;
    bool marks;          /* until the kernel refuses them */
    bool any, any_v4;    /* a socket to nobody in particular; of IPv4 alone */
    bool aimed, fronted; /* with `any`: something is sent at all */
    struct sockaddr_in6 aim;
    socklen_t aim_len;
    bool aim_v4;
    uint8_t front[WV_LINK_FRONT];
    char text[ADDRESS_TEXT_BYTES];

    struct mmsghdr in[WV_LINK_BATCH], out[WV_LINK_BATCH];
    struct iovec in_iov[WV_LINK_BATCH], out_iov[WV_LINK_BATCH];
    unsigned n_out;
    union {
        char bytes[2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr align;
    } in_control[WV_LINK_BATCH], out_control[WV_LINK_BATCH];
    struct sockaddr_in6 in_name[WV_LINK_BATCH], out_name[WV_LINK_BATCH]; /* or the shorter one of IPv4 */
    struct segment segments[WV_LINK_BATCH * SEGMENTS_MAX];
    uint8_t in_data[WV_LINK_BATCH][MESSAGE_BYTES]; /* touched only as far as something came */
    uint8_t out_data[WV_LINK_BATCH][WV_LINK_FRONT + RIFT_MTU_MAX_BYTES];
};

int wv_link_new(struct wv_link **ret, const char *host, uint16_t port)
{
    struct wv_link *l = calloc(1, sizeof *l);
    if (!l || !(l->host = strdup(host))) {
        free(l);
        return -ENOMEM;
    }
    l->port = port;
    l->fd = l->old_fd = l->watch_fd = -1;
    snprintf(l->text, sizeof l->text, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    for (int i = 0; i < WV_LINK_BATCH; i++) {
        l->in_iov[i] = (struct iovec){l->in_data[i], sizeof l->in_data[i]};
        l->in[i].msg_hdr.msg_iov = &l->in_iov[i];
        l->in[i].msg_hdr.msg_iovlen = 1;
        l->in[i].msg_hdr.msg_control = l->in_control[i].bytes;
        l->in[i].msg_hdr.msg_name = &l->in_name[i];
        l->out_iov[i] = (struct iovec){l->out_data[i], 0};
        l->out[i].msg_hdr.msg_iov = &l->out_iov[i];
        l->out[i].msg_hdr.msg_iovlen = 1;
    }
    *ret = l;
    return 0;
}

struct wv_link *wv_link_free(struct wv_link *l)
{
    if (l) {
        wv_close(l->fd);
        wv_close(l->old_fd);
        wv_close(l->watch_fd);
        free(l->host);
        free(l);
    }
    return NULL;
}

int wv_link_resolve(struct wv_link *l)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", l->port);
    if (getaddrinfo(l->host, port, &hints, &list) != 0)
        return -ENOENT;
    l->n_addresses = l->next = 0;
    for (struct addrinfo *a = list; a && l->n_addresses < ADDRESSES_MAX; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
            continue;
        memcpy(&l->addresses[l->n_addresses], a->ai_addr, a->ai_addrlen);
        l->lengths[l->n_addresses++] = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return l->n_addresses ? 0 : -ENOENT;
}

static void describe(struct wv_link *l, const struct sockaddr_storage *address, socklen_t len)
{
    char host[128], port[8];
    if (getnameinfo((const struct sockaddr *)address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV | NI_DGRAM) != 0)
        return;
    snprintf(l->text, sizeof l->text, address->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

void wv_link_close(struct wv_link *l)
{
    l->fd = wv_close(l->fd);
    l->old_fd = wv_close(l->old_fd);
    l->n_out = 0;
}

/* Wishes, all of them: what the kernel has not it refuses.
 *
 * UDP_GRO stays on for video although datagrams that were joined share one time of arrival: the kernel joins
 * only what one poll of the interface brought, and such datagrams lie so close without it too that the
 * sender's controller takes nothing from their distance (PAIR_GAP_MIN_NS). Measured over loopback, with and
 * without it its idea of the path was the same; on links that space datagrams out nothing is ever joined. */
static void set_options(int fd, bool v4)
{
    int size = RECEIVE_BUFFER, on = 1, probe = v4 ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    /* Never fragmented: the session finds out by itself what the path carries. */
    if (v4) {
        (void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe);
        (void)setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    } else {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe, sizeof probe);
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on);
    }
}

/* A socket to address I. Returns the descriptor or a negative errno. */
static int open_socket(const struct wv_link *l, size_t i)
{
    const struct sockaddr_storage *a = &l->addresses[i];
    int fd = socket(a->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    set_options(fd, a->ss_family == AF_INET);
    if (connect(fd, (const struct sockaddr *)a, l->lengths[i]) < 0) {
        int r = -errno;
        wv_close(fd);
        return r;
    }
    return fd;
}

int wv_link_open_next(struct wv_link *l)
{
    wv_link_close(l);
    if (l->n_addresses == 0)
        return -ENOENT;
    l->current = l->next++ % l->n_addresses;
    describe(l, &l->addresses[l->current], l->lengths[l->current]);
    l->marks = true;
    l->fd = open_socket(l, l->current);
    int r = l->fd;
    l->fd = WV_MAX(l->fd, -1);
    return r;
}

int wv_link_open_any(struct wv_link *l)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr_in in = {.sin_family = AF_INET};
    int off = 0, fd;
    wv_link_close(l);
    fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    l->any = l->marks = true;
    l->any_v4 = false;
    if (fd >= 0 && (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0 ||
                    bind(fd, (struct sockaddr *)&in6, sizeof in6) < 0))
        fd = wv_close(fd);
    if (fd < 0) { /* a system without IPv6 */
        l->any_v4 = true;
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof in) < 0)
            fd = wv_close(fd);
    }
    if (fd < 0)
        return -errno;
    set_options(fd, true);
    if (!l->any_v4)
        set_options(fd, false);
    l->fd = fd;
    return fd;
}

uint16_t wv_link_port(const struct wv_link *l)
{
    struct sockaddr_in6 name; /* the port is at the same place in both */
    socklen_t len = sizeof name;
    if (!l->any || l->fd < 0 || getsockname(l->fd, (struct sockaddr *)&name, &len) < 0)
        return 0;
    return ntohs(name.sin6_port);
}

static bool is_mapped(const uint8_t *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, mapped, sizeof mapped) == 0;
}

void wv_link_aim(struct wv_link *l, const uint8_t *address, const uint8_t *front)
{
    l->fronted = front != NULL;
    if (front)
        memcpy(l->front, front, sizeof l->front);
    l->aimed = address && (!l->any_v4 || is_mapped(address));
    if (!l->aimed)
        return;
    l->aim_v4 = is_mapped(address);
    memset(&l->aim, 0, sizeof l->aim);
    if (l->any_v4) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, address + 12, 4);
        memcpy(&in.sin_port, address + 16, 2);
        memcpy(&l->aim, &in, sizeof in);
        l->aim_len = sizeof in;
        return;
    }
    l->aim.sin6_family = AF_INET6;
    memcpy(&l->aim.sin6_addr, address, 16);
    memcpy(&l->aim.sin6_port, address + 16, 2);
    l->aim_len = sizeof l->aim;
}

void wv_link_from(const struct wv_link *l, int i, uint8_t ret_address[RIFT_ADDRESS_BYTES])
{
    const struct sockaddr_in6 *name = &l->in_name[l->segments[i].message];
    memset(ret_address, 0, RIFT_ADDRESS_BYTES);
    if (name->sin6_family == AF_INET6) {
        memcpy(ret_address, &name->sin6_addr, 16);
        memcpy(ret_address + 16, &name->sin6_port, 2);
    } else if (name->sin6_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, name, sizeof in);
        ret_address[10] = ret_address[11] = 0xff;
        memcpy(ret_address + 12, &in.sin_addr, 4);
        memcpy(ret_address + 16, &in.sin_port, 2);
    }
}

/* ---- this machine's own address ---- */

int wv_link_watch(struct wv_link *l)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK,
                               .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                            RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
    if (l->watch_fd >= 0)
        return l->watch_fd;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) < 0)
        fd = wv_close(fd);
    l->watch_fd = fd;
    return fd;
}

void wv_link_watched(struct wv_link *l)
{
    uint8_t notice[4096]; /* only that something changed is of interest; ENOBUFS says so too */
    for (int i = 0; i < 64; i++)
        if (recv(l->watch_fd, notice, sizeof notice, MSG_DONTWAIT) < 0 && errno != ENOBUFS)
            return;
}

/* The local address of FD, without its port. */
static bool own_address(int fd, uint8_t ret[16])
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    memset(ret, 0, 16);
    if (getsockname(fd, (struct sockaddr *)&name, &len) < 0)
        return false;
    if (name.ss_family == AF_INET)
        memcpy(ret, &((struct sockaddr_in *)&name)->sin_addr, 4);
    else
        memcpy(ret, &((struct sockaddr_in6 *)&name)->sin6_addr, 16);
    return true;
}

int wv_link_follow(struct wv_link *l, bool force, int *ret_fd)
{
    uint8_t before[16], now[16];
    if (l->fd < 0)
        return 0;
    int fd = open_socket(l, l->current);
    if (fd < 0)
        return fd;
    if (!force && own_address(l->fd, before) && own_address(fd, now) && !memcmp(before, now, sizeof now)) {
        wv_close(fd);
        return 0;
    }
    wv_close(l->old_fd);
    l->old_fd = l->fd;
    l->fd = *ret_fd = fd;
    l->marks = true;
    return WV_LINK_MOVED;
}

void wv_link_drop_old(struct wv_link *l)
{
    l->old_fd = wv_close(l->old_fd);
}

size_t wv_link_n_addresses(const struct wv_link *l)
{
    return l->n_addresses;
}

const char *wv_link_text(const struct wv_link *l)
{
    return l->text;
}

/* ---- in ---- */

/* The kernel's clock of arrivals is not ours: what counts is how long ago it was. */
static uint64_t arrival(const struct timespec *at, const struct timespec *wall, uint64_t now)
{
    int64_t ago = (int64_t)(wall->tv_sec - at->tv_sec) * (int64_t)WV_NS_PER_S + wall->tv_nsec - at->tv_nsec;
    return ago < 0 || ago > (int64_t)WV_NS_PER_S ? now : now - (uint64_t)ago; /* a wall clock may step */
}

/* What the kernel says about a message: its ECN bits, the size of the datagrams that it was joined of, and
 * when it came by the wall clock (zero: not told). */
static void read_control(struct msghdr *h, enum rift_ecn *ret_ecn, size_t *ret_segment,
                         struct timespec *ret_at)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        int value = 0;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && c->cmsg_len >= CMSG_LEN(1))
            *ret_ecn = (enum rift_ecn)(*CMSG_DATA(c) & 3);
        if (c->cmsg_len < CMSG_LEN(sizeof value))
            continue;
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS &&
            c->cmsg_len >= CMSG_LEN(sizeof *ret_at))
            memcpy(ret_at, CMSG_DATA(c), sizeof *ret_at);
        memcpy(&value, CMSG_DATA(c), sizeof value);
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
            *ret_ecn = (enum rift_ecn)(value & 3);
        else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO && value > 0)
            *ret_segment = (size_t)value;
    }
}

/* Takes message I apart. Returns the new number of datagrams. */
static int split(struct wv_link *l, int i, int n, const struct timespec *wall, uint64_t now)
{
    struct timespec at = {0};
    enum rift_ecn ecn = RIFT_ECN_NONE;
    size_t len = l->in[i].msg_len, segment = len;
    read_control(&l->in[i].msg_hdr, &ecn, &segment, &at);
    uint64_t came_ns = at.tv_sec ? arrival(&at, wall, now) : now;
    for (size_t from = 0; from < len && n < (int)WV_ARRAY_SIZE(l->segments); from += segment)
        l->segments[n++] =
            (struct segment){l->in_data[i] + from, WV_MIN(segment, len - from), ecn, came_ns, i};
    return n;
}

int wv_link_receive(struct wv_link *l)
{
    if (l->fd < 0)
        return 0;
    for (int i = 0; i < WV_LINK_BATCH; i++) {
        l->in[i].msg_hdr.msg_controllen = sizeof l->in_control[i].bytes;
        l->in[i].msg_hdr.msg_namelen = sizeof l->in_name[i];
    }
    int messages = recvmmsg(l->fd, l->in, WV_LINK_BATCH, MSG_DONTWAIT, NULL), n = 0;
    if (messages < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t now = wv_now_ns();
    for (int i = 0; i < messages; i++)
        n = split(l, i, n, &wall, now);
    return n;
}

uint8_t *wv_link_datagram(struct wv_link *l, int i, size_t *ret_len, enum rift_ecn *ret_ecn)
{
    *ret_len = l->segments[i].len;
    *ret_ecn = l->segments[i].ecn;
    return l->segments[i].data;
}

uint64_t wv_link_arrival(const struct wv_link *l, int i)
{
    return l->segments[i].arrival_ns;
}

/* ---- out ---- */

uint8_t *wv_link_reserve(struct wv_link *l, size_t *ret_capacity)
{
    if (l->n_out == WV_LINK_BATCH)
        wv_link_flush(l);
    *ret_capacity = RIFT_MTU_MAX_BYTES;
    return l->out_data[l->n_out] + WV_LINK_FRONT;
}

void wv_link_commit(struct wv_link *l, size_t len, uint8_t tos)
{
    if (l->any && !l->aimed)
        return;
    unsigned i = l->n_out++;
    struct msghdr *h = &l->out[i].msg_hdr;
    size_t front = l->any && l->fronted ? WV_LINK_FRONT : 0;
    l->out_iov[i] = (struct iovec){l->out_data[i] + WV_LINK_FRONT - front, front + len};
    if (front)
        memcpy(l->out_data[i], l->front, front);
    h->msg_name = NULL;
    h->msg_namelen = 0;
    if (l->any) {
        l->out_name[i] = l->aim;
        h->msg_name = &l->out_name[i];
        h->msg_namelen = l->aim_len;
    }
    h->msg_control = NULL;
    h->msg_controllen = 0;
    if (!tos || !l->marks || l->fd < 0)
        return;
    bool v4 = l->any ? l->aim_v4 : l->addresses[l->current].ss_family == AF_INET;
    int value = tos;
    h->msg_control = l->out_control[i].bytes;
    h->msg_controllen = CMSG_SPACE(sizeof value);
    memset(l->out_control[i].bytes, 0, sizeof l->out_control[i].bytes);
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    c->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    c->cmsg_type = v4 ? IP_TOS : IPV6_TCLASS;
    c->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(c), &value, sizeof value);
}

/* Datagram I was refused with ERROR. Returns whether it may be tried again as it is now. */
static bool make_humbler(struct wv_link *l, unsigned i, int error)
{
    struct msghdr *h = &l->out[i].msg_hdr;
    if (!h->msg_controllen || (error != EINVAL && error != EPERM && error != ENOPROTOOPT))
        return false;
    l->marks = false; /* until the next socket */
    h->msg_control = NULL;
    h->msg_controllen = 0;
    return true;
}

int wv_link_flush(struct wv_link *l)
{
    unsigned sent = 0;
    int r = 0;
    while (sent < l->n_out && l->fd >= 0) {
        int n = sendmmsg(l->fd, l->out + sent, l->n_out - sent, MSG_DONTWAIT);
        if (n > 0) {
            sent += (unsigned)n;
            continue;
        }
        if (errno == EINTR || make_humbler(l, sent, errno))
            continue;
        /* A probe that is larger than our own interface takes; or there is no way to one of many addresses.
         */
        if (errno == EMSGSIZE || (l->any && errno != EAGAIN && errno != ENOBUFS && errno != EBADF)) {
            sent++;
            continue;
        }
        /* A refusal belongs to an earlier datagram: this one was not sent yet, but one error is one answer.
         */
        r = errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
        break;
    }
    l->n_out = 0;
    return r;
}
