/* The client's UDP socket; see link.h. */
#include "client/link.h"

#include "lib/base/util.h"
#include "rift/core/session.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESSES_MAX      8
#define RECEIVE_BUFFER     (4 << 20)
#define DSCP_EF_TOS        0xb8 /* expedited forwarding: what we send is input and feedback */
#define ADDRESS_TEXT_BYTES 320

struct wv_link {
    char *host;
    uint16_t port;
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    socklen_t lengths[ADDRESSES_MAX];
    size_t n_addresses, next;
    int fd;
    char text[ADDRESS_TEXT_BYTES];

    struct mmsghdr in[WV_LINK_BATCH], out[WV_LINK_BATCH];
    struct iovec in_iov[WV_LINK_BATCH], out_iov[WV_LINK_BATCH];
    unsigned n_out;
    uint8_t in_data[WV_LINK_BATCH][WV_LINK_DATAGRAM_BYTES];
    uint8_t out_data[WV_LINK_BATCH][RIFT_MTU_BYTES];
};

int wv_link_new(struct wv_link **ret, const char *host, uint16_t port)
{
    struct wv_link *l = calloc(1, sizeof *l);
    if (!l || !(l->host = strdup(host))) {
        free(l);
        return -ENOMEM;
    }
    l->port = port;
    l->fd = -1;
    snprintf(l->text, sizeof l->text, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    for (int i = 0; i < WV_LINK_BATCH; i++) {
        l->in_iov[i] = (struct iovec){l->in_data[i], sizeof l->in_data[i]};
        l->in[i].msg_hdr.msg_iov = &l->in_iov[i];
        l->in[i].msg_hdr.msg_iovlen = 1;
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
    l->n_out = 0;
}

int wv_link_open_next(struct wv_link *l)
{
    wv_link_close(l);
    if (l->n_addresses == 0)
        return -ENOENT;
    size_t i = l->next++ % l->n_addresses;
    const struct sockaddr_storage *a = &l->addresses[i];
    int fd = socket(a->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int size = RECEIVE_BUFFER, tos = DSCP_EF_TOS;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); /* best effort, as is the marking */
    if (a->ss_family == AF_INET)
        setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    else
        setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
    describe(l, a, l->lengths[i]);
    if (connect(fd, (const struct sockaddr *)a, l->lengths[i]) < 0) {
        int r = -errno;
        wv_close(fd);
        return r;
    }
    l->fd = fd;
    return fd;
}

size_t wv_link_n_addresses(const struct wv_link *l)
{
    return l->n_addresses;
}

const char *wv_link_text(const struct wv_link *l)
{
    return l->text;
}

int wv_link_receive(struct wv_link *l)
{
    if (l->fd < 0)
        return 0;
    int n = recvmmsg(l->fd, l->in, WV_LINK_BATCH, MSG_DONTWAIT, NULL);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

uint8_t *wv_link_datagram(struct wv_link *l, int i, size_t *ret_len)
{
    *ret_len = l->in[i].msg_len;
    return l->in_data[i];
}

uint8_t *wv_link_reserve(struct wv_link *l, size_t *ret_capacity)
{
    if (l->n_out == WV_LINK_BATCH)
        wv_link_flush(l);
    *ret_capacity = sizeof l->out_data[0];
    return l->out_data[l->n_out];
}

void wv_link_commit(struct wv_link *l, size_t len)
{
    l->out_iov[l->n_out++].iov_len = len;
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
        if (errno == EINTR)
            continue;
        /* A refusal belongs to an earlier datagram: this one was not sent yet, but one error is one answer.
         */
        r = errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
        break;
    }
    l->n_out = 0;
    return r;
}
