/* WebSockets by the thousand. See bench_link.h. */
#include "tests/bench/bench_link.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void bench_die(const char *what)
{
    fprintf(stderr, "bench-gateway: %s: %s\n", what, strerror(errno));
    exit(1);
}

void bench_net_init(struct bench_net *net, uint16_t port, bool tls)
{
    net->to = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    net->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    net->tls = tls ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (net->epoll_fd < 0 || (tls && !net->tls))
        bench_die("memory");
    if (tls) /* the certificate is made for the occasion */
        SSL_CTX_set_mode(net->tls, SSL_MODE_RELEASE_BUFFERS);
}

static void send_all(struct bench_link *l, const void *data, size_t len)
{
    bool sent = l->ssl ? SSL_write(l->ssl, data, (int)len) == (int)len
                       : send(l->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
    if (!sent)
        bench_die("send");
}

/* 0: nothing now. */
static size_t receive(struct bench_link *l)
{
    void *at = l->in + l->len;
    size_t room = sizeof l->in - l->len;
    ssize_t n = l->ssl ? SSL_read(l->ssl, at, (int)room) : recv(l->fd, at, room, 0);
    if (n > 0)
        return (size_t)n;
    if (l->ssl ? SSL_get_error(l->ssl, (int)n) == SSL_ERROR_WANT_READ : n < 0 && errno == EAGAIN)
        return 0;
    fprintf(stderr, "bench-gateway: connection %u has ended\n", l->index);
    exit(1);
}

/* ---- frames ---- */

static void put(struct bench_link *l, unsigned opcode, const char *text, size_t len)
{
    uint8_t frame[1024] = {(uint8_t)(0x80 | opcode)};
    size_t at = 2;
    if (len > sizeof frame - 8)
        bench_die("a frame is too long");
    frame[1] = (uint8_t)(0x80 | (len < 126 ? len : 126));
    if (len >= 126) {
        frame[at++] = (uint8_t)(len >> 8);
        frame[at++] = (uint8_t)len;
    }
    at += 4; /* the mask: zeros */
    memcpy(frame + at, text, len);
    send_all(l, frame, at + len);
}

void bench_link_put(struct bench_link *link, const char *text, size_t len)
{
    put(link, 1, text, len);
}

bool bench_value(const char *text, size_t len, const char *name, char *ret, size_t capacity)
{
    char want[32];
    int n = snprintf(want, sizeof want, "\"%s\":\"", name);
    const char *p = memmem(text, len, want, (size_t)n), *end;
    if (!p)
        return false;
    p += n;
    end = memchr(p, '"', (size_t)(text + len - p));
    if (!end || (size_t)(end - p) >= capacity)
        return false;
    memcpy(ret, p, (size_t)(end - p));
    ret[end - p] = 0;
    return true;
}

static void on_text(struct bench_net *net, struct bench_link *l, const char *text, size_t len)
{
    char type[16];
    if (l->state == BENCH_GREETING) {
        if (!bench_value(text, len, "type", type, sizeof type) || strcmp(type, "welcome") != 0)
            bench_die("a machine is not welcome");
        l->state = BENCH_READY;
    }
    net->text(net->userdata, l, text, len);
}

static void take_frames(struct bench_net *net, struct bench_link *l)
{
    size_t at = 0;
    while (l->len - at >= 2) {
        const uint8_t *p = (const uint8_t *)l->in + at;
        size_t size = p[1] & 127, head = size == 126 ? 4 : 2;
        if (l->len - at < head)
            break;
        size = size == 126 ? (size_t)p[2] << 8 | p[3] : size;
        if (l->len - at < head + size)
            break;
        if ((p[0] & 15) == 1)
            on_text(net, l, (const char *)p + head, size);
        else if ((p[0] & 15) == 9)
            put(l, 10, (const char *)p + head, size);
        else if ((p[0] & 15) == 8)
            bench_die("the gateway closed a connection");
        at += head + size;
    }
    memmove(l->in, l->in + at, l->len - at);
    l->len -= at;
}

/* ---- the way to the welcome ---- */

void bench_link_open(struct bench_net *net, struct bench_link *l, unsigned index)
{
    const int one = 1;
    *l = (struct bench_link){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                             .index = index};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = l};
    if (l->fd < 0 || setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        (connect(l->fd, (struct sockaddr *)&net->to, sizeof net->to) < 0 && errno != EINPROGRESS) ||
        epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, l->fd, &e) < 0)
        bench_die("a connection");
}

static void upgrade(struct bench_link *l)
{
    static const char words[] =
        "GET /v1/signal HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: wavry-signal.1\r\n\r\n";
    send_all(l, words, sizeof words - 1);
    l->state = BENCH_UPGRADING;
}

static void shake(struct bench_link *l)
{
    int n = SSL_connect(l->ssl);
    if (n == 1)
        return upgrade(l);
    if (SSL_get_error(l->ssl, n) != SSL_ERROR_WANT_READ)
        bench_die("a TLS handshake");
}

static void on_connected(struct bench_net *net, struct bench_link *l)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(net->epoll_fd, EPOLL_CTL_MOD, l->fd, &e) < 0)
        bench_die("epoll");
    if (!net->tls)
        return upgrade(l);
    l->ssl = SSL_new(net->tls);
    if (!l->ssl || SSL_set_fd(l->ssl, l->fd) != 1)
        bench_die("TLS");
    l->state = BENCH_SHAKING;
    shake(l);
}

/* Whether the answer is all there, and HELLO is said. */
static bool greet(struct bench_net *net, struct bench_link *l)
{
    char token[64], text[128];
    const char *end = memmem(l->in, l->len, "\r\n\r\n", 4);
    if (!end)
        return false;
    if (memcmp(l->in, "HTTP/1.1 101", 12) != 0)
        bench_die("the gateway refused a connection");
    l->len -= (size_t)(end + 4 - l->in);
    memmove(l->in, end + 4, l->len);
    net->token(l->index, token, sizeof token);
    int n = snprintf(text, sizeof text, "{\"type\":\"hello\",\"token\":\"%s\"}", token);
    put(l, 1, text, (size_t)n);
    l->state = BENCH_GREETING;
    return true;
}

static void on_input(struct bench_net *net, struct bench_link *l)
{
    if (l->state == BENCH_SHAKING)
        return shake(l);
    for (size_t n; (n = receive(l));) {
        l->len += n;
        if (l->state == BENCH_UPGRADING && !greet(net, l))
            continue;
        take_frames(net, l);
        if (!l->ssl)
            return; /* the rest wakes again; what TLS holds would not */
    }
}

void bench_net_turn(struct bench_net *net, int timeout_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(net->epoll_fd, events, WV_ARRAY_SIZE(events), timeout_ms);
    for (int i = 0; i < n; i++) {
        struct bench_link *l = events[i].data.ptr;
        if (l && l->state == BENCH_OPENING && (events[i].events & EPOLLOUT))
            on_connected(net, l);
        else if (l && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
            on_input(net, l);
    }
}
