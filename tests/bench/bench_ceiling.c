/* What one core can push through RIFT: frames split, sealed, paced and sent by the transport's own socket
 * code, received by the client's, opened and joined; beside bare libsodium and segmented sendmmsg() of the
 * same datagrams. Both in one process over loopback, in turns; prints the medians and their ratios. */
#include "client/link.h"
#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "rift/core/session.h"
#include "rift/crypto/identity.h"
#include "services/transport/metrics.h"
#include "services/transport/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define TURNS       15
#define FRAMES      200                    /* of one turn */
#define WARM_UP     60                     /* frames before a turn: the path's MTU is found */
#define FRAME_BYTES (50000000 / 8 / 60)    /* 50 Mbit/s at 60 a second */
#define RATE_BPS    UINT64_C(400000000000) /* the pacer is asked each time and never says no */
#define RUN         44 /* datagrams of one segmented message, as in services/transport/udp.c */
#define DATAGRAMS   256
#define OVERHEAD    32 /* header and tag of a datagram */

struct cost {
    double ns; /* of CPU, for one datagram */
    double bytes;
};

struct turn {
    struct cost send, receive;
};

/* The sizes of the datagrams of one frame, as RIFT made them. */
static size_t sizes[DATAGRAMS];
static size_t n_sizes;

static void die(const char *what)
{
    fprintf(stderr, "bench-ceiling: %s: %s\n", what, strerror(errno));
    exit(71);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * WV_NS_PER_S + (uint64_t)t.tv_nsec;
}

static int open_socket(uint16_t *ret_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20;
    if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof in) < 0 ||
        getsockname(fd, (struct sockaddr *)&in, &len) < 0)
        die("a socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    *ret_port = ntohs(in.sin_port);
    return fd;
}

/* ---- RIFT ---- */

struct pair {
    struct rift_session *host, *client;
    struct wv_udp *udp;
    struct wv_link *link;
    struct wv_metrics *metrics;
    int fd;
    uint32_t frame, frames_got;
    uint64_t now; /* of both sides; a frame is a sixtieth of a second, however fast they are made here */
    uint64_t datagrams, bytes, received;
};

/* DELTA in full, but deaf to reports: its rate stays what it is. */
static struct rift_cc_ops deaf_delta;

static void ignore_report(struct rift_cc *cc, const struct rift_cc_report *report, uint64_t now)
{
}

static void pair_open(struct pair *p)
{
    struct rift_session_config h = {.role = RIFT_ROLE_HOST, .local_id = 1, .remote_id = 2, .fps = 60};
    struct rift_session_config c = {.role = RIFT_ROLE_CLIENT, .local_id = 2, .remote_id = 1, .fps = 60};
    uint16_t port;
    deaf_delta = rift_delta;
    deaf_delta.on_report = ignore_report;
    h.congestion = &deaf_delta;
    h.min_bps = 500000, h.max_bps = h.start_bps = RATE_BPS;
    h.ecn = RIFT_ECN_ECT1;
    memset(h.key_send, 7, sizeof h.key_send);
    memcpy(c.key_receive, h.key_send, sizeof h.key_send);
    *p = (struct pair){.fd = open_socket(&port), .now = wv_now_ns()};
    if (wv_metrics_new(&p->metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS) < 0 ||
        wv_udp_new(&p->udp, p->fd, p->metrics) < 0 || wv_link_new(&p->link, "127.0.0.1", port) < 0 ||
        wv_link_resolve(p->link) < 0 || wv_link_open_next(p->link) < 0 ||
        rift_session_new(&p->host, &h, p->now) < 0 || rift_session_new(&p->client, &c, p->now) < 0)
        die("a session");
}

static void pair_close(struct pair *p)
{
    rift_session_free(p->host);
    rift_session_free(p->client);
    wv_link_free(p->link);
    wv_udp_free(p->udp);
    wv_metrics_free(p->metrics);
    wv_close(p->fd);
}

static void on_datagram(void *userdata, const struct wv_address *from, enum rift_ecn ecn,
                        const uint8_t *datagram, size_t len, uint64_t now)
{
    struct pair *p = userdata;
    (void)rift_session_receive_from(p->host, from->bytes, ecn, datagram, len, now);
}

/* All that the host has to send, in the manner of the transport. */
static void host_send(struct pair *p)
{
    struct rift_outgoing out;
    struct wv_address to;
    uint8_t *slot;
    n_sizes = 0;
    while ((slot = wv_udp_slot(p->udp)) &&
           rift_session_send_to(p->host, slot, RIFT_MTU_MAX_BYTES, p->now, &out) == 0) {
        memcpy(to.bytes, out.address, sizeof to.bytes);
        wv_udp_commit(p->udp, &to, out.len, wv_udp_tos(out.traffic_class, out.ecn));
        if (out.traffic_class == RIFT_CLASS_MEDIA && n_sizes < DATAGRAMS)
            sizes[n_sizes++] = out.len;
        p->datagrams++;
        p->bytes += out.len;
    }
    if (wv_udp_flush(p->udp) != 0)
        die("sending");
}

static void push_frame(struct pair *p)
{
    static uint8_t frame[FRAME_BYTES];
    struct rift_frame_meta meta = {
        .frame_id = p->frame, .keyframe = p->frame == 0, .width = 1280, .height = 720};
    p->frame++;
    if (rift_session_send_frame(p->host, &meta, frame, sizeof frame, p->now) != 0)
        die("a frame");
}

static void client_receive(struct pair *p)
{
    static const uint8_t address[RIFT_ADDRESS_BYTES] = {1};
    struct rift_event e;
    int n;
    while ((n = wv_link_receive(p->link)) > 0) {
        for (int i = 0; i < n; i++) {
            size_t len;
            enum rift_ecn ecn;
            const uint8_t *datagram = wv_link_datagram(p->link, i, &len, &ecn);
            rift_session_set_arrival(p->client, p->now);
            p->received += rift_session_receive_from(p->client, address, ecn, datagram, len, p->now) == 0;
        }
        while (rift_session_next_event(p->client, &e) == 0)
            p->frames_got += e.kind == RIFT_EVENT_FRAME;
    }
}

static void client_send(struct pair *p)
{
    for (;;) {
        size_t capacity;
        struct rift_outgoing out;
        uint8_t *room = wv_link_reserve(p->link, &capacity);
        if (rift_session_send_to(p->client, room, capacity, p->now, &out) != 0)
            break;
        wv_link_commit(p->link, out.len, 0);
    }
    if (wv_link_flush(p->link) < 0)
        die("answering");
}

static void pair_turn(struct turn *ret)
{
    struct pair p;
    uint64_t sending = 0, receiving = 0, datagrams = 0, bytes = 0, received = 0, t0, t1, t2;
    pair_open(&p);
    client_send(&p); /* the host learns where it is */
    for (unsigned i = 0; i < WARM_UP + FRAMES; i++, p.now += WV_NS_PER_S / 60) {
        if (i == WARM_UP) {
            sending = receiving = 0;
            datagrams = p.datagrams, bytes = p.bytes, received = p.received;
        }
        if (wv_udp_receive(p.udp, on_datagram, &p, p.now) < 0)
            die("receiving");
        host_send(&p); /* answers and probes: not counted */
        client_receive(&p);
        t0 = cpu_ns();
        push_frame(&p);
        host_send(&p);
        t1 = cpu_ns();
        client_receive(&p);
        client_send(&p);
        t2 = cpu_ns();
        sending += t1 - t0;
        receiving += t2 - t1;
    }
    if (p.frames_got < FRAMES) {
        fprintf(stderr, "bench-ceiling: only %u frames arrived\n", p.frames_got);
        exit(70);
    }
    double n = (double)(p.datagrams - datagrams);
    ret->send = (struct cost){(double)sending / n, (double)(p.bytes - bytes) / n};
    n = (double)(p.received - received);
    ret->receive = (struct cost){(double)receiving / n, ret->send.bytes};
    pair_close(&p);
}

/* ---- bare ---- */

struct bare {
    int out, in;
    uint8_t key[crypto_aead_chacha20poly1305_ietf_KEYBYTES];
    uint64_t sealed, opened;
    uint8_t data[DATAGRAMS][RIFT_MTU_MAX_BYTES];
    struct mmsghdr messages[DATAGRAMS];
    struct iovec iov[DATAGRAMS];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control[DATAGRAMS];
    uint8_t received[32][65536];
};

static void nonce_of(uint64_t counter, uint8_t ret[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
    memset(ret, 0, 4);
    memcpy(ret + 4, &counter, 8);
}

static void bare_open(struct bare *b)
{
    uint16_t port;
    int on = 1;
    b->in = open_socket(&port);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    b->out = open_socket(&port);
    if (connect(b->out, (struct sockaddr *)&to, sizeof to) < 0 ||
        setsockopt(b->in, SOL_UDP, UDP_GRO, &on, sizeof on) < 0)
        die("a bare socket");
}

static void bare_send(struct bare *b)
{
    unsigned messages = 0, done = 0;
    for (size_t i = 0; i < n_sizes; i++) {
        uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES], *d = b->data[i];
        size_t len = sizes[i] - OVERHEAD;
        memcpy(d + 8, &b->sealed, 8);
        nonce_of(b->sealed++, nonce);
        crypto_aead_chacha20poly1305_ietf_encrypt_detached(d + 16, d + 16 + len, NULL, d + 16, len, d, 16,
                                                           NULL, nonce, b->key);
        b->iov[i] = (struct iovec){d, sizes[i]};
    }
    for (size_t from = 0, n; from < n_sizes; from += n) {
        for (n = 1; from + n < n_sizes && n < RUN && sizes[from + n - 1] == sizes[from] &&
                    sizes[from + n] <= sizes[from];
             n++)
            ;
        struct msghdr *h = &b->messages[messages].msg_hdr;
        *h = (struct msghdr){.msg_iov = &b->iov[from], .msg_iovlen = n};
        h->msg_control = b->control[messages].bytes;
        h->msg_controllen = sizeof b->control[messages].bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(h);
        uint16_t segment = (uint16_t)sizes[from];
        *c = (struct cmsghdr){
            .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof segment)};
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
        messages++;
    }
    while (done < messages) {
        int n = sendmmsg(b->out, b->messages + done, messages - done, 0);
        if (n < 0)
            die("sendmmsg");
        done += (unsigned)n;
    }
}

/* Opens the datagrams of a message in place. Each begins with its counter, at byte 8. */
static void bare_take(struct bare *b, uint8_t *data, size_t len, size_t segment)
{
    for (size_t from = 0; from < len; from += segment) {
        uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES], *d = data + from;
        size_t text = WV_MIN(segment, len - from) - OVERHEAD;
        uint64_t counter;
        memcpy(&counter, d + 8, 8);
        nonce_of(counter, nonce);
        if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(d + 16, NULL, d + 16, text, d + 16 + text, d,
                                                               16, nonce, b->key) == 0)
            b->opened++;
    }
}

static void bare_receive(struct bare *b)
{
    struct mmsghdr m[32];
    struct iovec iov[32];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control[32];
    for (;;) {
        for (int i = 0; i < 32; i++) {
            iov[i] = (struct iovec){b->received[i], sizeof b->received[i]};
            m[i].msg_hdr =
                (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = control[i].bytes};
            m[i].msg_hdr.msg_controllen = sizeof control[i].bytes;
        }
        int n = recvmmsg(b->in, m, 32, MSG_DONTWAIT, NULL);
        if (n <= 0)
            return;
        for (int i = 0; i < n; i++) {
            int segment = (int)m[i].msg_len;
            struct cmsghdr *c = CMSG_FIRSTHDR(&m[i].msg_hdr);
            if (c && c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
                memcpy(&segment, CMSG_DATA(c), sizeof segment);
            bare_take(b, b->received[i], m[i].msg_len, (size_t)segment);
        }
    }
}

static void bare_turn(struct turn *ret)
{
    static struct bare b;
    uint64_t sending = 0, receiving = 0, t0, t1, t2;
    double bytes = 0;
    b.sealed = b.opened = 0;
    bare_open(&b);
    for (unsigned i = 0; i < FRAMES; i++) {
        t0 = cpu_ns();
        bare_send(&b);
        t1 = cpu_ns();
        bare_receive(&b);
        t2 = cpu_ns();
        sending += t1 - t0;
        receiving += t2 - t1;
    }
    for (size_t i = 0; i < n_sizes; i++)
        bytes += (double)sizes[i];
    if (b.opened != b.sealed) {
        fprintf(stderr, "bench-ceiling: %llu of %llu bare datagrams opened\n", (unsigned long long)b.opened,
                (unsigned long long)b.sealed);
        exit(70);
    }
    bytes /= (double)n_sizes;
    ret->send = (struct cost){(double)sending / (double)b.sealed, bytes};
    ret->receive = (struct cost){(double)receiving / (double)b.opened, bytes};
    wv_close(b.in);
    wv_close(b.out);
}

/* ---- both ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* Prints a row and its JSON. Returns the ratio in per cent. */
static double report(const char *what, const struct cost *rift, const struct cost *bare, size_t step)
{
    double ours[TURNS], theirs[TURNS], ratio[TURNS];
    for (size_t i = 0; i < TURNS; i++) {
        const struct cost *r = (const void *)((const char *)rift + i * step);
        const struct cost *b = (const void *)((const char *)bare + i * step);
        ours[i] = r->ns;
        theirs[i] = b->ns;
        ratio[i] = 100 * b->ns / r->ns;
    }
    double r = median(ours, TURNS), b = median(theirs, TURNS), q = median(ratio, TURNS), size = rift->bytes;
    printf(
        "%-8s RIFT %7.0f datagrams/s (%5.2f Gbit/s, %4.0f ns each)   bare %7.0f (%5.2f Gbit/s, %4.0f ns)   "
        "ratio %5.1f %%\n",
        what, 1e9 / r, size * 8 / r, r, 1e9 / b, size * 8 / b, b, q);
    printf("{\"bench\":\"ceiling\",\"path\":\"%s\",\"datagrams_per_s\":%.0f,\"gbit_per_s\":%.3f,"
           "\"bare_datagrams_per_s\":%.0f,\"bare_gbit_per_s\":%.3f,\"ratio_percent\":%.1f}\n",
           what, 1e9 / r, size * 8 / r, 1e9 / b, size * 8 / b, q);
    return q;
}

int main(void)
{
    static struct turn rift[TURNS], bare[TURNS];
    if (rift_crypto_init() < 0)
        return 71;
    for (size_t i = 0; i < TURNS; i++) {
        pair_turn(&rift[i]);
        bare_turn(&bare[i]);
    }
    printf("one core, frames of %d bytes in datagrams of %zu (the last %zu), %d turns each:\n", FRAME_BYTES,
           sizes[0], sizes[n_sizes - 1], TURNS);
    double sent = report("send", &rift[0].send, &bare[0].send, sizeof rift[0]);
    double received = report("receive", &rift[0].receive, &bare[0].receive, sizeof rift[0]);
    return sent >= 70 && received >= 70 ? 0 : 1;
}
