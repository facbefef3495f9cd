/* Batched forwarding over UDP sockets. See udp.h. Must never end the relay because of what one peer's network
 * does. */
#include "services/relay/udp.h"

#include "lib/base/util.h"
#include "services/relay/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RX_BATCH      32
#define RX_BYTES      65536
#define RX_STRIDE     (RX_BYTES + 4096 + 320) /* heads of buffers must not all fall into the same cache sets */
#define SEGMENTS_MAX  64                      /* of one message, as old kernels have it */
#define MESSAGE_MAX   65000
#define TX_MAX        128 /* messages of one flush */
#define TX_LOOK_BACK  16  /* so many of the last ones may still take a datagram to the same address */
#define OWN_SLOTS     64  /* datagrams of ours before a flush */
#define SOCKET_BUFFER (8 << 20)
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

struct socket {
    int fd;
    bool is_v4, segments;
};

struct control {
    union {
        char bytes[CMSG_SPACE(sizeof(int)) * 2 + CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    };
};

/* A message on its way out: one or more segments to one address, wherever they lie. */
struct departure {
    const struct rift_relay_address *to; /* only to tell whether the next one has the same */
    uint32_t len;
    uint16_t segment, n, n_iov;
    uint8_t ecn, socket;
    bool closed; /* its last segment is shorter */
    struct iovec iov[SEGMENTS_MAX];
};

struct wv_relay_udp {
    struct wv_metrics *metrics;
    struct socket sockets[WV_RELAY_LISTEN_MAX];
    size_t n_sockets;

    struct mmsghdr rx[RX_BATCH];
    struct iovec rx_iov[RX_BATCH];
    struct sockaddr_storage rx_from[RX_BATCH];
    struct control rx_control[RX_BATCH];
    uint8_t *rx_data;

    size_t n_tx;
    struct departure departures[TX_MAX];
    struct mmsghdr tx[TX_MAX];
    struct sockaddr_storage tx_to[TX_MAX];
    struct control tx_control[TX_MAX];

    size_t n_own;
    uint8_t own[OWN_SLOTS][RIFT_RELAY_DATAGRAM_MAX];
};

int wv_relay_udp_new(struct wv_relay_udp **ret, struct wv_metrics *metrics)
{
    struct wv_relay_udp *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->metrics = metrics;
    u->rx_data = malloc((size_t)RX_BATCH * RX_STRIDE);
    if (!u->rx_data) {
        free(u);
        return -ENOMEM;
    }
    for (size_t i = 0; i < RX_BATCH; i++) {
        u->rx_iov[i] = (struct iovec){.iov_base = u->rx_data + i * RX_STRIDE, .iov_len = RX_BYTES};
        u->rx[i].msg_hdr.msg_iov = &u->rx_iov[i];
        u->rx[i].msg_hdr.msg_iovlen = 1;
        u->rx[i].msg_hdr.msg_name = &u->rx_from[i];
        u->rx[i].msg_hdr.msg_control = u->rx_control[i].bytes;
    }
    *ret = u;
    return 0;
}

struct wv_relay_udp *wv_relay_udp_free(struct wv_relay_udp *u)
{
    if (!u)
        return NULL;
    for (size_t i = 0; i < u->n_sockets; i++)
        wv_close(u->sockets[i].fd);
    free(u->rx_data);
    free(u);
    return NULL;
}

/* ---- addresses ---- */

static bool is_link_local(const uint8_t *a)
{
    return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

static void map_v4(const struct in_addr *in, uint8_t ret[16])
{
    memset(ret, 0, 10);
    ret[10] = ret[11] = 0xff;
    memcpy(ret + 12, in, 4);
}

static bool take_address(const struct sockaddr_storage *from, socklen_t len, size_t socket,
                         struct rift_relay_address *ret)
{
    ret->bytes[18] = (uint8_t)socket;
    ret->bytes[19] = 0;
    if (from->ss_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        memcpy(ret->bytes, &in6.sin6_addr, 16);
        memcpy(ret->bytes + 16, &in6.sin6_port, 2);
        if (is_link_local(ret->bytes))
            memcpy(ret->bytes + 4, &in6.sin6_scope_id, 4);
        return true;
    }
    if (from->ss_family != AF_INET || len < sizeof(struct sockaddr_in))
        return false;
    struct sockaddr_in in;
    memcpy(&in, from, sizeof in);
    map_v4(&in.sin_addr, ret->bytes);
    memcpy(ret->bytes + 16, &in.sin_port, 2);
    return true;
}

static socklen_t give_address(bool is_v4, const uint8_t *a, struct sockaddr_storage *ret)
{
    if (is_v4) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, a + 12, 4);
        memcpy(&in.sin_port, a + 16, 2);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in6.sin6_addr, a, 16);
    memcpy(&in6.sin6_port, a + 16, 2);
    if (is_link_local(a)) {
        memcpy(&in6.sin6_scope_id, a + 4, 4);
        memset(in6.sin6_addr.s6_addr + 4, 0, 4);
    }
    memcpy(ret, &in6, sizeof in6);
    return sizeof in6;
}

/* ---- sockets ---- */

/* All of these are wishes: what the kernel has not it refuses. A socket for both families takes both's. */
static void set_options(struct socket *s)
{
    int on = 1, v4_probe = IP_PMTUDISC_PROBE, v6_probe = IPV6_PMTUDISC_PROBE, segment = 0;
    socklen_t segment_len = sizeof segment;
    s->segments = getsockopt(s->fd, SOL_UDP, UDP_SEGMENT, &segment, &segment_len) == 0;
    if (s->segments)
        (void)setsockopt(s->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
    /* Never fragmented: the peers probe sizes by themselves. */
    (void)setsockopt(s->fd, IPPROTO_IP, IP_MTU_DISCOVER, &v4_probe, sizeof v4_probe);
    (void)setsockopt(s->fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    if (s->is_v4)
        return;
    (void)setsockopt(s->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &v6_probe, sizeof v6_probe);
    (void)setsockopt(s->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on);
}

/* IPv4 alone where there is no IPv6 at all. */
static int bind_any(uint16_t port, bool *ret_is_v4)
{
    int off = 0;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    wv_cleanup(wv_close_p) int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *ret_is_v4 = fd < 0;
    if (fd < 0)
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    else if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
        return -errno;
    const void *address = *ret_is_v4 ? (const void *)&four : &six;
    if (fd < 0 || bind(fd, address, *ret_is_v4 ? sizeof four : sizeof six) < 0)
        return -errno;
    int bound = fd;
    fd = -1;
    return bound;
}

static bool is_mapped(const uint8_t *ip)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(ip, mapped, sizeof mapped) == 0;
}

static int bind_one(const struct wv_listen_at *l, bool *ret_is_v4)
{
    uint8_t a[18];
    struct sockaddr_storage name;
    int on = 1;
    memcpy(a, l->ip, 16);
    a[16] = (uint8_t)(l->port >> 8);
    a[17] = (uint8_t)l->port;
    *ret_is_v4 = is_mapped(l->ip);
    socklen_t len = give_address(*ret_is_v4, a, &name);
    wv_cleanup(wv_close_p) int fd =
        socket(*ret_is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (!*ret_is_v4 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
        bind(fd, (const struct sockaddr *)&name, len) < 0)
        return -errno;
    int bound = fd;
    fd = -1;
    return bound;
}

static int add_socket(struct wv_relay_udp *u, int take_fd, bool is_v4)
{
    struct socket s = {.fd = take_fd, .is_v4 = is_v4};
    int flags = fcntl(take_fd, F_GETFL), error = 0;
    if (u->n_sockets == WV_RELAY_LISTEN_MAX)
        error = -E2BIG;
    else if (flags < 0 || fcntl(take_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        error = -errno;
    if (error < 0) {
        wv_close(take_fd);
        return error;
    }
    set_options(&s);
    u->sockets[u->n_sockets++] = s;
    return 0;
}

int wv_relay_udp_open(struct wv_relay_udp *u, const struct wv_listen_at *l)
{
    bool is_v4;
    int size = SOCKET_BUFFER, fd = l->any ? bind_any(l->port, &is_v4) : bind_one(l, &is_v4);
    if (fd < 0)
        return fd;
    /* As far as the system lets us; of a socket that was handed over, who opened it has thought of that. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return add_socket(u, fd, is_v4);
}

int wv_relay_udp_take(struct wv_relay_udp *u, int take_fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name, type_len = sizeof(int);
    int type = 0;
    if (getsockname(take_fd, (struct sockaddr *)&name, &len) < 0 ||
        getsockopt(take_fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_DGRAM ||
        (name.ss_family != AF_INET && name.ss_family != AF_INET6)) {
        wv_close(take_fd);
        return -ENOTSOCK;
    }
    return add_socket(u, take_fd, name.ss_family == AF_INET);
}

size_t wv_relay_udp_count(const struct wv_relay_udp *u)
{
    return u->n_sockets;
}

int wv_relay_udp_fd(const struct wv_relay_udp *u, size_t socket)
{
    return u->sockets[socket].fd;
}

static size_t add_interfaces(const uint8_t port[2], size_t socket, struct rift_relay_address *ret,
                             size_t capacity)
{
    struct ifaddrs *list = NULL;
    size_t n = 0;
    if (getifaddrs(&list) < 0)
        return 0;
    for (struct ifaddrs *i = list; i && n < capacity; i = i->ifa_next) {
        struct sockaddr_storage name = {0};
        int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        socklen_t len = family == AF_INET    ? sizeof(struct sockaddr_in)
                        : family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                             : 0;
        memcpy(&name, i->ifa_addr, len);
        if (!len || !take_address(&name, len, socket, &ret[n]))
            continue;
        memcpy(ret[n++].bytes + 16, port, 2);
    }
    freeifaddrs(list);
    return n;
}

size_t wv_relay_udp_own(const struct wv_relay_udp *u, struct rift_relay_address *ret, size_t capacity)
{
    static const uint8_t any_v4[16] = {[10] = 0xff, [11] = 0xff}, any_v6[16];
    size_t n = 0;
    for (size_t i = 0; i < u->n_sockets && n < capacity; i++) {
        struct sockaddr_storage name;
        socklen_t len = sizeof name;
        struct rift_relay_address *a = &ret[n];
        if (getsockname(u->sockets[i].fd, (struct sockaddr *)&name, &len) < 0 ||
            !take_address(&name, len, i, a))
            continue;
        uint8_t port[2] = {a->bytes[16], a->bytes[17]};
        if (memcmp(a->bytes, any_v6, 16) == 0 || memcmp(a->bytes, any_v4, 16) == 0)
            n += add_interfaces(port, i, a, capacity - n);
        else
            n++;
    }
    return n;
}

/* ---- out ---- */

static void add_control(struct msghdr *h, void *room, int level, int type, const void *data, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)((char *)room + h->msg_controllen);
    h->msg_control = room;
    h->msg_controllen += CMSG_SPACE(len);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
}

static bool goes_v4(const struct sockaddr_storage *to)
{
    struct sockaddr_in6 six;
    if (to->ss_family == AF_INET)
        return true;
    memcpy(&six, to, sizeof six);
    return is_mapped(six.sin6_addr.s6_addr);
}

/* Fills in what was not known before the last segment joined. */
static void complete(struct wv_relay_udp *u, size_t i)
{
    const struct departure *d = &u->departures[i];
    struct msghdr *h = &u->tx[i].msg_hdr;
    h->msg_iovlen = d->n_iov;
    if (d->ecn) {
        int tos = d->ecn;
        bool v4 = goes_v4(&u->tx_to[i]);
        add_control(h, u->tx_control[i].bytes, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS,
                    &tos, sizeof tos);
    }
    if (d->n > 1)
        add_control(h, u->tx_control[i].bytes, SOL_UDP, UDP_SEGMENT, &d->segment, sizeof d->segment);
}

static void count_lost(struct wv_relay_udp *u, int error, size_t n)
{
    bool full = error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
    wv_metric_add(u->metrics, full ? WV_R_SEND_BLOCKED : WV_R_SEND_ERRORS, n);
}

/* Message I was refused as a train: its segments one by one, without a marking. */
static void send_alone(struct wv_relay_udp *u, size_t i)
{
    const struct departure *d = &u->departures[i];
    for (size_t v = 0; v < d->n_iov; v++)
        for (size_t at = 0; at < d->iov[v].iov_len; at += d->segment) {
            size_t len = WV_MIN((size_t)d->segment, d->iov[v].iov_len - at);
            if (sendto(u->sockets[d->socket].fd, (uint8_t *)d->iov[v].iov_base + at, len,
                       MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&u->tx_to[i],
                       u->tx[i].msg_hdr.msg_namelen) < 0)
                count_lost(u, errno, 1);
        }
}

/* Message I can't be sent because of ERROR. */
static void refused(struct wv_relay_udp *u, size_t i, int error)
{
    struct departure *d = &u->departures[i];
    if (d->n > 1 && (error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT))
        u->sockets[d->socket].segments = false; /* the route's device can't */
    if (d->n > 1 && error != EAGAIN && error != EWOULDBLOCK && error != ENOBUFS)
        send_alone(u, i);
    else
        count_lost(u, error, d->n);
}

static void send_departures(struct wv_relay_udp *u)
{
    for (size_t i = 0; i < u->n_tx; i++)
        complete(u, i);
    for (size_t at = 0; at < u->n_tx;) {
        uint8_t socket = u->departures[at].socket;
        size_t n = 1;
        while (at + n < u->n_tx && u->departures[at + n].socket == socket)
            n++;
        int sent = sendmmsg(u->sockets[socket].fd, u->tx + at, (unsigned)n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            refused(u, at, sent < 0 ? errno : EAGAIN);
        at += sent > 0 ? (size_t)sent : 1;
    }
    wv_metric_add(u->metrics, WV_R_MESSAGES_OUT, u->n_tx);
    u->n_tx = 0;
}

/* Whether a segment of LEN bytes can go with departure D. */
static bool joins(const struct departure *d, size_t len, uint8_t ecn)
{
    return !d->closed && d->ecn == ecn && len <= d->segment && d->n < SEGMENTS_MAX &&
           d->len + len <= MESSAGE_MAX;
}

static void add_segment(struct departure *d, uint8_t *data, size_t len)
{
    struct iovec *last = &d->iov[d->n_iov ? d->n_iov - 1 : 0];
    if (d->n_iov && (uint8_t *)last->iov_base + last->iov_len == data)
        last->iov_len += len;
    else
        d->iov[d->n_iov++] = (struct iovec){.iov_base = data, .iov_len = len};
    d->len += (uint32_t)len;
    d->n++;
    d->closed = len < d->segment;
}

/* The last message to TO, if it takes one more: a later one must not overtake it. */
static struct departure *find_departure(struct wv_relay_udp *u, const struct rift_relay_address *to,
                                        size_t len, uint8_t ecn)
{
    size_t end = u->n_tx > TX_LOOK_BACK ? u->n_tx - TX_LOOK_BACK : 0;
    for (size_t i = u->n_tx; i > end; i--) {
        struct departure *d = &u->departures[i - 1];
        if (d->to == to)
            return u->sockets[d->socket].segments && joins(d, len, ecn) ? d : NULL;
    }
    return NULL;
}

static void depart(struct wv_relay_udp *u, const struct rift_relay_address *to, uint8_t *data, size_t len,
                   uint8_t ecn)
{
    struct departure *d = find_departure(u, to, len, ecn);
    if (d) {
        add_segment(d, data, len);
        return;
    }
    if (u->n_tx == TX_MAX)
        send_departures(u);
    size_t i = u->n_tx++, socket = to->bytes[18] < u->n_sockets ? to->bytes[18] : 0;
    d = &u->departures[i];
    d->to = to;
    d->len = 0;
    d->segment = (uint16_t)len;
    d->n = d->n_iov = 0;
    d->ecn = ecn;
    d->socket = (uint8_t)socket;
    add_segment(d, data, len);
    u->tx[i].msg_hdr = (struct msghdr){.msg_name = &u->tx_to[i], .msg_iov = d->iov};
    u->tx[i].msg_hdr.msg_namelen = give_address(u->sockets[socket].is_v4, to->bytes, &u->tx_to[i]);
}

void wv_relay_udp_put(struct wv_relay_udp *u, const struct rift_relay_out *out)
{
    if (u->n_own == OWN_SLOTS)
        wv_relay_udp_flush(u);
    uint8_t *data = u->own[u->n_own++];
    memcpy(data, out->data, out->len);
    depart(u, &out->to, data, out->len, out->ecn);
    u->departures[u->n_tx - 1].to = NULL; /* the caller's variable: the next one's is the same */
}

void wv_relay_udp_flush(struct wv_relay_udp *u)
{
    send_departures(u);
    u->n_own = 0;
}

/* ---- in ---- */

/* The segment size of a train (0: a single datagram) and the two bits of ECN. */
static size_t take_controls(struct msghdr *h, uint8_t *ret_ecn)
{
    int segment = 0, tclass;
    *ret_ecn = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO && c->cmsg_len >= CMSG_LEN(sizeof segment))
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
        else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && c->cmsg_len >= CMSG_LEN(1))
            *ret_ecn = *CMSG_DATA(c) & 3;
        else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS &&
                 c->cmsg_len >= CMSG_LEN(sizeof tclass)) {
            memcpy(&tclass, CMSG_DATA(c), sizeof tclass);
            *ret_ecn = (uint8_t)(tclass & 3);
        }
    }
    return segment > 0 ? (size_t)segment : 0;
}

static void take_message(struct wv_relay_udp *u, size_t socket, size_t i, wv_relay_datagram_fn fn,
                         void *userdata)
{
    struct msghdr *h = &u->rx[i].msg_hdr;
    struct rift_relay_address from;
    uint8_t ecn, *data = u->rx_data + i * RX_STRIDE;
    size_t len = u->rx[i].msg_len, segment = take_controls(h, &ecn);
    if ((h->msg_flags & MSG_TRUNC) || !take_address(&u->rx_from[i], h->msg_namelen, socket, &from)) {
        wv_metric_add(u->metrics, WV_R_DROPPED_MALFORMED, 1);
        return;
    }
    if (!segment)
        segment = len ? len : 1;
    for (size_t at = 0; at < len; at += segment) {
        const struct rift_relay_address *to;
        uint8_t mark = ecn;
        size_t n = WV_MIN(segment, len - at);
        if (fn(userdata, &from, data + at, n, &mark, &to) == RIFT_RELAY_FORWARD)
            depart(u, to, data + at, n, mark);
    }
}

int wv_relay_udp_turn(struct wv_relay_udp *u, size_t socket, wv_relay_datagram_fn fn, void *userdata,
                      size_t *n_messages)
{
    for (size_t i = 0; i < RX_BATCH; i++) {
        u->rx[i].msg_hdr.msg_namelen = sizeof u->rx_from[i];
        u->rx[i].msg_hdr.msg_controllen = sizeof u->rx_control[i].bytes;
    }
    int n = recvmmsg(u->sockets[socket].fd, u->rx, RX_BATCH, MSG_DONTWAIT, NULL);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n < 0 && (errno == EBADF || errno == ENOTSOCK || errno == EFAULT || errno == EINVAL))
        return -errno;
    if (n < 0) { /* a pending error of some peer's network: read and thereby cleared */
        wv_metric_add(u->metrics, WV_R_RECEIVE_ERRORS, 1);
        return 1;
    }
    for (int i = 0; i < n; i++)
        take_message(u, socket, (size_t)i, fn, userdata);
    wv_metric_add(u->metrics, WV_R_MESSAGES_IN, (uint64_t)n);
    wv_relay_udp_flush(u);
    *n_messages += (size_t)n;
    return n == RX_BATCH;
}
