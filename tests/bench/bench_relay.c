/* bench-relay: forwarding measured. Sends datagrams of 1,200 bytes through wavry-relay, through a TURN
 * server's channel, or through a bare loop of recvmmsg() and sendmmsg(), and says how many came, how busy the
 * core was that forwarded, and how long they took. relay.py runs it; every figure of one run comes from the
 * same traffic. */
#include "tests/bench/bench_relay.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/relay/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH       32
#define TRAIN_MAX   44
#define DELAYS_MAX  2000000
#define SLICE_BYTES 65536
#define WINDOW_NS   (100 * WV_NS_PER_MS)
#define WINDOWS_MAX 4096
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

struct run {
    const char *target, *name;
    uint16_t port;
    size_t flows;
    unsigned train; /* datagrams of one send, as one segmented message; 1: each its own */
    double seconds;
    double rate; /* datagrams a second; 0: as many as can be */
    int cpu;     /* whose time is counted */
    struct in_addr server;
    uint8_t seed[32];
};

static struct way way;
static struct in_addr here; /* where all sockets of this program are */
static uint32_t delays[DELAYS_MAX];
static size_t n_delays;
static size_t windows[WINDOWS_MAX], n_windows; /* where each tenth of a second begins in delays */

_Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-relay: %s (%s)\n", what, strerror(errno));
    exit(1);
}

int udp_socket(struct sockaddr_in *ret_name)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = here};
    socklen_t len = sizeof name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 8 << 20;
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &len) < 0)
        die("no socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    if (ret_name)
        *ret_name = name;
    return fd;
}

/* ---- the way through the relay ---- */

/* Lets both sides of one lease bind. */
static void bind_pair(struct way *w, struct rift_relay_client *clients[2])
{
    const int fds[2] = {w->send, w->receive};
    for (int i = 0; i < 20000; i++) {
        struct rift_relay_client_status s[2];
        uint8_t d[2048];
        const uint8_t *payload;
        size_t len;
        for (int k = 0; k < 2; k++) {
            if (rift_relay_client_send(clients[k], d, sizeof d, wv_now_ns(), &len) == 0)
                (void)!sendto(fds[k], d, len, 0, (const struct sockaddr *)&w->server, sizeof w->server);
            rift_relay_client_get_status(clients[k], &s[k]);
            if (s[k].state == RIFT_RELAY_CLIENT_REFUSED)
                die(rift_relay_reason_text(s[k].reason));
        }
        if (s[0].state == RIFT_RELAY_CLIENT_BOUND && s[1].state == RIFT_RELAY_CLIENT_BOUND)
            return;
        struct pollfd ready[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
        poll(ready, 2, 1);
        for (int k = 0; k < 2; k++) {
            ssize_t n = ready[k].revents ? recv(fds[k], d, sizeof d, MSG_DONTWAIT) : -1;
            if (n > 0)
                (void)rift_relay_client_receive(clients[k], d, (size_t)n, wv_now_ns(), (uint64_t)time(NULL),
                                                &payload, &len);
        }
    }
    die("the relay does not answer");
}

static void make_peer(uint8_t secret[64], uint8_t public[32])
{
    crypto_sign_keypair(public, secret);
}

void way_through_relay(struct way *w, const char *name, const uint8_t seed[32], size_t flows)
{
    uint8_t issuer[64], public[32], secrets[2][64], bytes[RIFT_LEASE_BYTES];
    struct rift_relay_client *clients[2];
    crypto_sign_seed_keypair(public, issuer, seed);
    w->send = udp_socket(NULL);
    w->receive = udp_socket(NULL);
    w->head = RIFT_RELAY_HEADER_BYTES;
    w->n_flows = flows;
    for (size_t i = 0; i < flows; i++) {
        struct rift_lease lease = {.rate_kbps = 100000000, .not_before_s = (uint64_t)time(NULL)};
        lease.expires_s = lease.not_before_s + 1000;
        randombytes_buf(lease.id, sizeof lease.id);
        rift_relay_id(name, lease.relay);
        for (int k = 0; k < 2; k++)
            make_peer(secrets[k], lease.peers[k]);
        if (rift_lease_sign(&lease, issuer, bytes) < 0)
            die("no lease");
        for (int k = 0; k < 2; k++)
            if (rift_relay_client_new(&clients[k], bytes, secrets[k], wv_now_ns()) < 0)
                die("no client");
        bind_pair(w, clients);
        rift_relay_client_header(clients[0], w->heads[i]);
        for (int k = 0; k < 2; k++)
            rift_relay_client_free(clients[k]);
    }
}

static void way_straight(struct way *w, const struct sockaddr_in *server)
{
    w->send = udp_socket(NULL);
    w->receive = udp_socket(&w->server);
    w->n_flows = 1;
    w->head = HEAD_MAX; /* as long as what the relay is sent */
    if (server) {       /* the loop is told where to by the first datagram of the receiving side */
        uint8_t hello = 1;
        w->server = *server;
        (void)!sendto(w->receive, &hello, 1, 0, (const struct sockaddr *)server, sizeof *server);
        usleep(100000);
    }
}

/* ---- a bare loop ---- */

/* Everything goes to whoever sent a datagram of one byte last. Never ends. */
static void forward_bare(uint16_t port, bool trains)
{
    static uint8_t data[BATCH][SLICE_BYTES + 4416];
    static struct mmsghdr in[BATCH];
    static struct iovec iov[BATCH];
    static struct sockaddr_in from[BATCH];
    static union {
        char bytes[64];
        struct cmsghdr align;
    } control[BATCH];
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = here}, to = name;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 8 << 20, on = 1;
    name.sin_port = htons(port);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0)
        die("the loop can't listen");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    if (trains && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) < 0)
        die("no UDP_GRO");
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            iov[i] = (struct iovec){data[i], SLICE_BYTES};
            in[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                            .msg_namelen = sizeof from[i],
                                            .msg_iov = &iov[i],
                                            .msg_iovlen = 1,
                                            .msg_control = trains ? control[i].bytes : NULL,
                                            .msg_controllen = trains ? sizeof control[i].bytes : 0};
        }
        int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL);
        if (n <= 0)
            continue;
        if (in[0].msg_len == 1)
            to = from[0];
        for (int i = 0; i < n; i++) {
            struct cmsghdr *c = trains ? CMSG_FIRSTHDR(&in[i].msg_hdr) : NULL;
            iov[i].iov_len = in[i].msg_len;
            in[i].msg_hdr.msg_name = &to;
            if (c && c->cmsg_type == UDP_GRO) {
                int segment;
                memcpy(&segment, CMSG_DATA(c), sizeof segment);
                uint16_t out = (uint16_t)segment;
                c->cmsg_type = UDP_SEGMENT;
                c->cmsg_len = CMSG_LEN(sizeof out);
                memcpy(CMSG_DATA(c), &out, sizeof out);
                in[i].msg_hdr.msg_controllen = CMSG_SPACE(sizeof out);
            } else {
                in[i].msg_hdr.msg_control = NULL;
                in[i].msg_hdr.msg_controllen = 0;
            }
        }
        for (int at = 0; at < n;) {
            int sent = sendmmsg(fd, in + at, (unsigned)(n - at), 0);
            at += sent > 0 ? sent : 1;
        }
    }
}

/* ---- traffic ---- */

static uint64_t real_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * WV_NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint8_t out_data[BATCH][TRAIN_MAX * (HEAD_MAX + PAYLOAD)];

/* One batch: 32 datagrams, or 8 trains. Each carries the time at which it was sent. */
static void send_batch(const struct run *r, size_t *flow, unsigned count)
{
    static struct mmsghdr out[BATCH];
    static struct iovec iov[BATCH];
    static union {
        char bytes[CMSG_SPACE(2)];
        struct cmsghdr align;
    } control[BATCH];
    size_t segment = way.head + PAYLOAD;
    uint64_t now = real_ns();
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < r->train; k++) {
            uint8_t *d = out_data[i] + k * segment;
            memcpy(d, way.heads[*flow], way.head);
            memcpy(d + way.head, &now, sizeof now);
        }
        *flow = (*flow + 1) % way.n_flows;
        iov[i] = (struct iovec){out_data[i], r->train * segment};
        out[i].msg_hdr = (struct msghdr){
            .msg_name = &way.server, .msg_namelen = sizeof way.server, .msg_iov = &iov[i], .msg_iovlen = 1};
        if (r->train > 1) {
            uint16_t size = (uint16_t)segment;
            out[i].msg_hdr.msg_control = control[i].bytes;
            out[i].msg_hdr.msg_controllen = sizeof control[i].bytes;
            struct cmsghdr *c = CMSG_FIRSTHDR(&out[i].msg_hdr);
            c->cmsg_level = SOL_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof size);
            memcpy(CMSG_DATA(c), &size, sizeof size);
        }
    }
    for (unsigned at = 0; at < count;) {
        int sent = sendmmsg(way.send, out + at, count - at, 0);
        at += sent > 0 ? (unsigned)sent : 1;
    }
}

/* The kernel's time of arrival, so that this program's own slowness is not counted. */
static void note_delay(struct msghdr *h, const uint8_t *data, size_t head)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS && n_delays < DELAYS_MAX) {
            struct timespec t;
            uint64_t sent;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            memcpy(&sent, data + head, sizeof sent);
            uint64_t came = (uint64_t)t.tv_sec * WV_NS_PER_S + (uint64_t)t.tv_nsec;
            delays[n_delays++] = came > sent ? (uint32_t)WV_MIN(came - sent, (uint64_t)UINT32_MAX) : 0;
        }
}

/* All that has come. Trains stay together, so that receiving costs less than forwarding. */
static uint64_t receive_all(const struct run *r, size_t out_head)
{
    static uint8_t data[BATCH][SLICE_BYTES];
    static struct mmsghdr in[BATCH];
    static struct iovec iov[BATCH];
    static union {
        char bytes[128];
        struct cmsghdr align;
    } control[BATCH];
    size_t segment = out_head + PAYLOAD;
    uint64_t got = 0;
    for (int n = BATCH; n == BATCH;) {
        for (int i = 0; i < BATCH; i++) {
            iov[i] = (struct iovec){data[i], r->rate > 0 ? 2048 : SLICE_BYTES};
            in[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i],
                                            .msg_iovlen = 1,
                                            .msg_control = control[i].bytes,
                                            .msg_controllen = sizeof control[i].bytes};
        }
        n = recvmmsg(way.receive, in, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < n; i++) {
            got += in[i].msg_len / segment;
            if (r->rate > 0 && in[i].msg_len == segment)
                note_delay(&in[i].msg_hdr, data[i], out_head);
        }
    }
    return got;
}

/* Busy time of CPU in seconds. */
static double busy_of(int cpu)
{
    FILE *f = fopen("/proc/stat", "r");
    char line[512], name[16];
    unsigned long long v[8] = {0};
    double busy = -1;
    snprintf(name, sizeof name, "cpu%d ", cpu);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)) &&
            sscanf(line + strlen(name), "%llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2, v + 3, v + 4,
                   v + 5, v + 6) == 7)
            busy = (double)(v[0] + v[1] + v[2] + v[5] + v[6]) / (double)sysconf(_SC_CLK_TCK);
    if (f)
        fclose(f);
    return busy;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* The 99th percentile of a tenth of a second as a rule, the median of them all: what the machine's own
 * pauses, each of which spoils one or two, leave of it. */
static double usual_p99(void)
{
    static uint32_t worst[WINDOWS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < n_windows; i++) {
        size_t begin = windows[i], end = i + 1 < n_windows ? windows[i + 1] : n_delays;
        if (end - begin < 100)
            continue;
        qsort(delays + begin, end - begin, sizeof delays[0], by_value);
        worst[n++] = delays[begin + (end - begin) * 99 / 100];
    }
    qsort(worst, n, sizeof worst[0], by_value);
    return n ? worst[n / 2] / 1e3 : 0;
}

static void report(const struct run *r, uint64_t sent, uint64_t got, double seconds, double busy)
{
    double usual = usual_p99();
    qsort(delays, n_delays, sizeof delays[0], by_value);
    double p95 = n_delays ? delays[n_delays * 95 / 100] / 1e3 : 0;
    double p50 = n_delays ? delays[n_delays / 2] / 1e3 : 0,
           p99 = n_delays ? delays[n_delays * 99 / 100] / 1e3 : 0;
    printf("{\"target\": \"%s\", \"flows\": %zu, \"train\": %u, \"seconds\": %.3f, \"sent\": %llu, "
           "\"received\": %llu, \"busy_s\": %.3f, \"p50_us\": %.1f, \"p95_us\": %.1f, \"p99_us\": %.1f, "
           "\"usual_p99_us\": %.1f, \"samples\": %zu}\n",
           r->target, way.n_flows, r->train, seconds, (unsigned long long)sent, (unsigned long long)got, busy,
           p50, p95, p99, usual, n_delays);
}

/* What share of the time this core does something else, in pauses of more than 100 us: no forwarder can be
 * better. */
static void measure_pauses(double seconds)
{
    uint64_t begin = wv_now_ns(), last = begin, lost = 0;
    while ((double)(last - begin) < seconds * 1e9) {
        uint64_t now = wv_now_ns();
        lost += now - last > 100 * WV_NS_PER_US ? now - last : 0;
        last = now;
    }
    printf("{\"pauses\": %.5f}\n", (double)lost / (double)(last - begin));
}

static void measure(const struct run *r)
{
    size_t out_head = strcmp(r->target, "turn") == 0 ? 0 : way.head, flow = 0;
    uint64_t sent = 0, got = 0, begin = wv_now_ns(), end = begin + (uint64_t)(r->seconds * 1e9);
    unsigned count = r->train > 1 ? 8 : r->rate > 0 ? 1 : BATCH;
    int on = 1;
    if (r->rate > 0)
        (void)setsockopt(way.receive, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    else
        (void)setsockopt(way.receive, SOL_UDP, UDP_GRO, &on, sizeof on);
    double busy = busy_of(r->cpu);
    for (uint64_t now; (now = wv_now_ns()) < end;) {
        if (n_windows < WINDOWS_MAX && now >= begin + n_windows * WINDOW_NS)
            windows[n_windows++] = n_delays;
        if (r->rate <= 0 || (double)sent < r->rate * (double)(now - begin) / 1e9) {
            send_batch(r, &flow, count);
            sent += (uint64_t)count * r->train;
        }
        got += receive_all(r, out_head);
    }
    double seconds = (double)(wv_now_ns() - begin) / 1e9;
    busy = busy_of(r->cpu) - busy;
    usleep(50000);
    got += receive_all(r, out_head);
    report(r, sent, got, seconds, busy);
}

static void prepare(const struct run *r)
{
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_addr = r->server};
    server.sin_port = htons(r->port);
    way.server = server;
    if (!strcmp(r->target, "relay"))
        way_through_relay(&way, r->name, r->seed, r->flows);
    else if (!strcmp(r->target, "turn"))
        way_through_turn(&way);
    else
        way_straight(&way, strcmp(r->target, "direct") == 0 ? NULL : &server);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", 1, NULL, 'p'},  {"name", 1, NULL, 'n'},    {"seed", 1, NULL, 's'}, {"flows", 1, NULL, 'f'},
        {"train", 1, NULL, 't'}, {"seconds", 1, NULL, 'S'}, {"rate", 1, NULL, 'r'}, {"cpu", 1, NULL, 'c'},
        {"here", 1, NULL, 'h'},  {"server", 1, NULL, 'a'},  {NULL, 0, NULL, 0}};
    struct run r = {.name = "bench", .flows = 1, .train = 1, .seconds = 3, .cpu = 1};
    here.s_addr = r.server.s_addr = htonl(INADDR_LOOPBACK);
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'p':
            r.port = (uint16_t)atoi(optarg);
            break;
        case 'n':
            r.name = optarg;
            break;
        case 's':
            if (wv_hex_decode(optarg, r.seed, sizeof r.seed) < 0)
                die("--seed takes 64 hex digits");
            break;
        case 'f':
            r.flows = (size_t)WV_MIN(atol(optarg), (long)FLOWS_MAX);
            break;
        case 't':
            r.train = (unsigned)WV_MIN(atoi(optarg), TRAIN_MAX);
            break;
        case 'S':
            r.seconds = atof(optarg);
            break;
        case 'r':
            r.rate = atof(optarg);
            break;
        case 'c':
            r.cpu = atoi(optarg);
            break;
        case 'h':
        case 'a':
            if (inet_pton(AF_INET, optarg, o == 'h' ? &here : &r.server) != 1)
                die("not an IPv4 address");
            break;
        default:
            return 64;
        }
    }
    if (optind != argc - 1 || rift_crypto_init() < 0)
        die("wrong usage; relay.py runs this");
    r.target = argv[optind];
    if (!strcmp(r.target, "loop") || !strcmp(r.target, "loop-trains"))
        forward_bare(r.port, strcmp(r.target, "loop") != 0);
    if (!strcmp(r.target, "pauses")) {
        measure_pauses(r.seconds);
        return 0;
    }
    prepare(&r);
    if (r.seconds > 0)
        measure(&r);
    else
        report(&r, 0, 0, 0, 0);
    return 0;
}
