/* Batched UDP. Runs of equal datagrams to one address and of one marking leave as one segmented message where
 * the kernel can (UDP_SEGMENT). On the way in it joins none (UDP_GRO): little comes to a host, and its filter
 * must see each. Must never end the stage because of what one peer's network does. */
#include "services/transport/udp.h"

#include "lib/base/util.h"
#include "services/transport/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RX_BATCH 32 /* messages of one system call */
/* Datagrams of one wake-up, about: then what is due has its turn, or junk would hold it up. */
#define RX_MOST       128
#define RX_BYTES      1536 /* more than any datagram of RIFT: longer ones are thrown away unread */
#define TX_SLOTS      64
#define SEGMENTS_MAX  44 /* of one message: 44 of the largest, with a front, are below the limit of 64 KiB */
#define SOCKET_BUFFER (4 << 20)
#define UNMARKED_MAX  8 /* so many refused markings in a row, and marking is given up */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

struct wv_udp {
    int fd;
    uint16_t port;
    bool is_v4, segments, marks, blocked;
    size_t alone;      /* so many datagrams go one by one: as a segmented message they were refused */
    bool plain;        /* the next message goes without its marking, which was refused */
    unsigned unmarked; /* messages in a row that went only so */
    struct wv_metrics *metrics;

    struct mmsghdr rx[RX_BATCH];
    struct iovec rx_iov[RX_BATCH];
    struct sockaddr_storage rx_from[RX_BATCH];
    union {
        char bytes[CMSG_SPACE(sizeof(int)) * 3];
        struct cmsghdr align;
    } rx_control[RX_BATCH];
    uint8_t rx_data[RX_BATCH][RX_BYTES];
    uint32_t kernel_drops; /* as counted last */

    size_t tx_first, tx_count; /* committed and not yet taken by the kernel */
    struct wv_address tx_to[TX_SLOTS];
    size_t tx_len[TX_SLOTS];
    uint8_t tx_tos[TX_SLOTS];
    uint8_t tx_front[TX_SLOTS]; /* bytes before the datagram that go with it: 0 or WV_UDP_FRONT */
    uint8_t tx_data[TX_SLOTS][WV_UDP_FRONT + RIFT_MTU_MAX_BYTES];

    /* Scratch of one sendmmsg(). */
    struct mmsghdr tx[TX_SLOTS];
    struct iovec tx_iov[TX_SLOTS];
    struct sockaddr_storage tx_name[TX_SLOTS];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } tx_control[TX_SLOTS];
};

/* Only ever larger: what the supervisor forced past the system's limit stays. */
static void enlarge(int fd, int option)
{
    int size = SOCKET_BUFFER, is = 0;
    socklen_t len = sizeof is;
    if (getsockopt(fd, SOL_SOCKET, option, &is, &len) < 0 || is < 2 * size) /* the kernel shows twice of it */
        (void)setsockopt(fd, SOL_SOCKET, option, &size, sizeof size);
}

/* All of these are wishes: the kernel bounds the buffers, and what it has not it refuses. A dual-stack socket
 * takes the options of both families. */
static void set_options(struct wv_udp *u)
{
    int on = 1, off = 0, v4_probe = IP_PMTUDISC_PROBE, v6_probe = IPV6_PMTUDISC_PROBE;
    int segment = 0;
    socklen_t segment_len = sizeof segment;
    enlarge(u->fd, SO_SNDBUF);
    enlarge(u->fd, SO_RCVBUF);
    (void)setsockopt(u->fd, SOL_UDP, UDP_GRO, &off, sizeof off); /* a process before may have had it */
    u->segments = getsockopt(u->fd, SOL_UDP, UDP_SEGMENT, &segment, &segment_len) == 0;
    /* Never fragmented, never refused for what an ICMP message claims: the session probes by itself. */
    (void)setsockopt(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, &v4_probe, sizeof v4_probe);
    (void)setsockopt(u->fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    if (u->is_v4)
        return;
    (void)setsockopt(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &v6_probe, sizeof v6_probe);
    (void)setsockopt(u->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on);
}

/* Datagrams that the kernel dropped at this socket since it was made: by a filter, or its buffer was full. */
static uint32_t kernel_drops(int fd)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof info;
    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0 ? 0 : info[SK_MEMINFO_DROPS];
}

static bool take_address(const struct sockaddr_storage *from, socklen_t len, struct wv_address *ret);

int wv_udp_new(struct wv_udp **ret, int fd, struct wv_metrics *metrics)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &len) < 0)
        return -errno;
    if (name.ss_family != AF_INET && name.ss_family != AF_INET6)
        return -EAFNOSUPPORT;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    struct wv_udp *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->fd = fd;
    u->is_v4 = name.ss_family == AF_INET;
    struct wv_address own;
    if (take_address(&name, len, &own))
        u->port = (uint16_t)(own.bytes[16] << 8 | own.bytes[17]);
    u->metrics = metrics;
    u->marks = true;
    set_options(u);
    u->kernel_drops = kernel_drops(fd);
    for (size_t i = 0; i < RX_BATCH; i++) {
        u->rx_iov[i] = (struct iovec){.iov_base = u->rx_data[i], .iov_len = RX_BYTES};
        u->rx[i].msg_hdr.msg_iov = &u->rx_iov[i];
        u->rx[i].msg_hdr.msg_iovlen = 1;
        u->rx[i].msg_hdr.msg_name = &u->rx_from[i];
        u->rx[i].msg_hdr.msg_control = u->rx_control[i].bytes;
    }
    *ret = u;
    return 0;
}

struct wv_udp *wv_udp_free(struct wv_udp *u)
{
    free(u);
    return NULL;
}

/* ---- addresses ---- */

static bool is_link_local(const uint8_t *a)
{
    return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

static bool is_mapped(const uint8_t *a)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(a, mapped, sizeof mapped) == 0;
}

static bool take_address(const struct sockaddr_storage *from, socklen_t len, struct wv_address *ret)
{
    memset(ret, 0, sizeof *ret);
    if (from->ss_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof in);
        ret->bytes[10] = ret->bytes[11] = 0xff;
        memcpy(ret->bytes + 12, &in.sin_addr, 4);
        memcpy(ret->bytes + 16, &in.sin_port, 2);
        return in.sin_port != 0;
    }
    if (from->ss_family != AF_INET6 || len < sizeof(struct sockaddr_in6))
        return false;
    struct sockaddr_in6 in6;
    memcpy(&in6, from, sizeof in6);
    memcpy(ret->bytes, &in6.sin6_addr, 16);
    memcpy(ret->bytes + 16, &in6.sin6_port, 2);
    if (is_link_local(ret->bytes))
        memcpy(ret->bytes + 4, &in6.sin6_scope_id, 4);
    return in6.sin6_port != 0;
}

static socklen_t give_address(const struct wv_udp *u, const struct wv_address *to,
                              struct sockaddr_storage *ret)
{
    if (u->is_v4) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, to->bytes + 12, 4);
        memcpy(&in.sin_port, to->bytes + 16, 2);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in6.sin6_addr, to->bytes, 16);
    memcpy(&in6.sin6_port, to->bytes + 16, 2);
    if (is_link_local(to->bytes)) {
        memcpy(&in6.sin6_scope_id, to->bytes + 4, 4);
        memset(in6.sin6_addr.s6_addr + 4, 0, 4);
    }
    memcpy(ret, &in6, sizeof in6);
    return sizeof in6;
}

void wv_address_format(const struct wv_address *address, char ret_text[WV_ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN];
    uint8_t a[16];
    unsigned port = (unsigned)address->bytes[16] << 8 | address->bytes[17];
    memcpy(a, address->bytes, sizeof a);
    if (is_link_local(a))
        memset(a + 4, 0, 4);
    bool mapped = is_mapped(a);
    inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? a + 12 : a, host, sizeof host);
    snprintf(ret_text, WV_ADDRESS_TEXT_BYTES, mapped ? "%s:%u" : "[%s]:%u", host, port);
}

/* ---- in ---- */

static enum rift_ecn read_ecn(struct msghdr *h)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        int value = 0;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && c->cmsg_len >= CMSG_LEN(1))
            return (enum rift_ecn)(*CMSG_DATA(c) & 3);
        if (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_TCLASS ||
            c->cmsg_len < CMSG_LEN(sizeof value))
            continue;
        memcpy(&value, CMSG_DATA(c), sizeof value);
        return (enum rift_ecn)(value & 3);
    }
    return RIFT_ECN_NONE;
}

static void deliver_one(struct wv_udp *u, int i, wv_udp_receive_fn fn, void *userdata, uint64_t now)
{
    struct msghdr *h = &u->rx[i].msg_hdr;
    struct wv_address from;
    enum rift_ecn ecn = read_ecn(h);
    if (ecn == RIFT_ECN_CE)
        wv_metric_add(u->metrics, WV_T_RECEIVED_CE, 1);
    if (!(h->msg_flags & MSG_TRUNC) && take_address(&u->rx_from[i], h->msg_namelen, &from))
        fn(userdata, &from, ecn, u->rx_data[i], u->rx[i].msg_len, now);
    else
        wv_metric_add(u->metrics, WV_T_DROPPED_MALFORMED, 1);
}

static void deliver(struct wv_udp *u, int n, wv_udp_receive_fn fn, void *userdata, uint64_t now)
{
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        deliver_one(u, i, fn, userdata, now);
        bytes += u->rx[i].msg_len;
    }
    wv_metric_add(u->metrics, WV_T_PACKETS_RECEIVED, (uint64_t)n);
    wv_metric_add(u->metrics, WV_T_BYTES_RECEIVED, bytes);
}

void wv_udp_count(struct wv_udp *u)
{
    uint32_t drops = kernel_drops(u->fd);
    wv_metric_add(u->metrics, WV_T_DROPPED_KERNEL, drops - u->kernel_drops);
    u->kernel_drops = drops;
}

static bool is_fatal(int error)
{
    return error == EBADF || error == ENOTSOCK || error == EFAULT || error == EINVAL;
}

int wv_udp_receive(struct wv_udp *u, wv_udp_receive_fn fn, void *userdata, uint64_t now)
{
    for (size_t taken = 0; taken < RX_MOST;) {
        for (size_t i = 0; i < RX_BATCH; i++) {
            u->rx[i].msg_hdr.msg_namelen = sizeof u->rx_from[i];
            u->rx[i].msg_hdr.msg_controllen = sizeof u->rx_control[i].bytes;
        }
        int n = recvmmsg(u->fd, u->rx, RX_BATCH, MSG_DONTWAIT, NULL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n < 0 && is_fatal(errno))
            return -errno;
        if (n < 0) { /* a pending error of some peer's network: read and thereby cleared */
            wv_metric_add(u->metrics, WV_T_RECEIVE_ERRORS, 1);
            taken++;
            continue;
        }
        deliver(u, n, fn, userdata, now);
        taken += (size_t)n;
        if (n < RX_BATCH)
            return 0;
    }
    return WV_UDP_MORE;
}

/* ---- out ---- */

uint8_t wv_udp_tos(enum rift_class traffic_class, enum rift_ecn ecn)
{
    static const uint8_t dscp[] = {
        [RIFT_CLASS_INPUT] = 46, [RIFT_CLASS_CONTROL] = 0, [RIFT_CLASS_MEDIA] = 34};
    return (uint8_t)(dscp[traffic_class] << 2 | ecn);
}

uint8_t *wv_udp_slot(struct wv_udp *u)
{
    if (u->blocked)
        return NULL;
    if (u->tx_first + u->tx_count == TX_SLOTS && wv_udp_flush(u) != 0)
        return NULL;
    return u->tx_data[u->tx_first + u->tx_count] + WV_UDP_FRONT;
}

void wv_udp_commit(struct wv_udp *u, const struct wv_address *to, size_t len, uint8_t tos)
{
    size_t i = u->tx_first + u->tx_count++;
    u->tx_to[i] = *to;
    u->tx_len[i] = len;
    u->tx_tos[i] = tos;
    u->tx_front[i] = 0;
}

void wv_udp_commit_behind(struct wv_udp *u, const struct wv_address *to, const uint8_t front[WV_UDP_FRONT],
                          size_t len, uint8_t tos)
{
    size_t i = u->tx_first + u->tx_count;
    wv_udp_commit(u, to, len + WV_UDP_FRONT, tos);
    memcpy(u->tx_data[i], front, WV_UDP_FRONT);
    u->tx_front[i] = WV_UDP_FRONT;
}

uint16_t wv_udp_port(const struct wv_udp *u)
{
    return u->port;
}

bool wv_udp_reaches(const struct wv_udp *u, const struct wv_address *to)
{
    return !u->is_v4 || is_mapped(to->bytes);
}

bool wv_udp_is_blocked(const struct wv_udp *u)
{
    return u->blocked;
}

/* How many datagrams from slot FIRST on can be one segmented message: one address, one marking, one size,
 * only the last smaller. */
static size_t run_length(const struct wv_udp *u, size_t first, size_t end)
{
    size_t n = 1;
    if (!u->segments || first - u->tx_first < u->alone)
        return 1;
    while (first + n < end && n < SEGMENTS_MAX && u->tx_len[first + n] <= u->tx_len[first] &&
           u->tx_tos[first + n] == u->tx_tos[first] &&
           memcmp(&u->tx_to[first + n], &u->tx_to[first], sizeof u->tx_to[0]) == 0) {
        n++;
        if (u->tx_len[first + n - 1] < u->tx_len[first])
            break;
    }
    return n;
}

/* Puts one more control message behind those of H. */
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

static bool is_marked(const struct wv_udp *u, size_t first)
{
    return u->marks && u->tx_tos[first] && !(u->plain && first == u->tx_first);
}

/* Fills message M with the N datagrams from slot FIRST on. */
static void fill_message(struct wv_udp *u, size_t m, size_t first, size_t n)
{
    struct msghdr *h = &u->tx[m].msg_hdr;
    *h = (struct msghdr){.msg_name = &u->tx_name[m], .msg_iov = &u->tx_iov[first], .msg_iovlen = n};
    h->msg_namelen = give_address(u, &u->tx_to[first], &u->tx_name[m]);
    for (size_t i = first; i < first + n; i++)
        u->tx_iov[i] = (struct iovec){.iov_base = u->tx_data[i] + WV_UDP_FRONT - u->tx_front[i],
                                      .iov_len = u->tx_len[i]};
    memset(&u->tx_control[m], 0, sizeof u->tx_control[m]);
    if (is_marked(u, first)) {
        int tos = u->tx_tos[first];
        bool v4 = u->is_v4 || is_mapped(u->tx_to[first].bytes);
        add_control(h, u->tx_control[m].bytes, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS,
                    &tos, sizeof tos);
    }
    if (n > 1) {
        uint16_t segment = (uint16_t)u->tx_len[first];
        add_control(h, u->tx_control[m].bytes, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
    }
}

static void consume(struct wv_udp *u, size_t n)
{
    u->tx_first += n;
    u->tx_count -= n;
    u->alone -= WV_MIN(u->alone, n);
    if (u->tx_count == 0)
        u->tx_first = 0;
}

/* Whether the first message, of N datagrams, can go in a humbler form: one by one, or without its marking. */
static bool make_humbler(struct wv_udp *u, size_t n, int error)
{
    if (n > 1 && (error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT)) {
        u->segments = false; /* the route's device can't */
        return true;
    }
    if (n > 1 && (error == EINVAL || error == EMSGSIZE)) {
        u->alone = n; /* these are too large for the path that they take */
        return true;
    }
    if ((error == EINVAL || error == EPERM || error == ENOPROTOOPT) && is_marked(u, u->tx_first)) {
        u->plain = true;
        return true;
    }
    return false;
}

/* The first datagrams of the queue can't be sent because of ERROR (positive). */
static int refused(struct wv_udp *u, int error)
{
    size_t n = u->tx[0].msg_hdr.msg_iovlen;
    if (error == EAGAIN || error == EWOULDBLOCK) {
        u->blocked = true;
        wv_metric_add(u->metrics, WV_T_SEND_BLOCKED, 1);
        return WV_UDP_BLOCKED;
    }
    if (error == EINTR)
        return 0;
    if (error == EBADF || error == ENOTSOCK || error == EFAULT)
        return -error;
    if (make_humbler(u, n, error))
        return 0;
    u->plain = false;
    consume(u, n);
    wv_metric_add(u->metrics, error == EMSGSIZE ? WV_T_SEND_TOO_LARGE : WV_T_SEND_ERRORS, n);
    return 0;
}

/* A message that went only without its marking: when that is the rule, marking is not tried any more. */
static void note_plain(struct wv_udp *u, size_t packets)
{
    if (u->plain) {
        wv_metric_add(u->metrics, WV_T_SEND_UNMARKED, packets);
        u->marks = ++u->unmarked < UNMARKED_MAX;
    } else {
        u->unmarked = 0;
    }
    u->plain = false;
}

static void count_sent(struct wv_udp *u, size_t messages)
{
    uint64_t packets = 0, bytes = 0;
    for (size_t m = 0; m < messages; m++) {
        packets += u->tx[m].msg_hdr.msg_iovlen;
        for (size_t i = 0; i < u->tx[m].msg_hdr.msg_iovlen; i++)
            bytes += u->tx[m].msg_hdr.msg_iov[i].iov_len;
    }
    note_plain(u, u->tx[0].msg_hdr.msg_iovlen);
    consume(u, packets);
    wv_metric_add(u->metrics, WV_T_PACKETS_SENT, packets);
    wv_metric_add(u->metrics, WV_T_BYTES_SENT, bytes);
}

int wv_udp_flush(struct wv_udp *u)
{
    u->blocked = false;
    while (u->tx_count) {
        size_t messages = 0, at = u->tx_first, end = u->tx_first + u->tx_count;
        while (at < end) {
            size_t n = run_length(u, at, end);
            fill_message(u, messages++, at, n);
            at += n;
        }
        int sent = sendmmsg(u->fd, u->tx, (unsigned)messages, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            count_sent(u, (size_t)sent);
            continue;
        }
        int r = refused(u, sent < 0 ? errno : EAGAIN);
        if (r != 0)
            return r;
    }
    return 0;
}
