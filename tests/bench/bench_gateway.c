/* The machines' side of `./wavry bench gateway`: makes a database of hosts and devices, and connects them all
 * from one thread. bench-gateway prepare DATABASE HOSTS DEVICES bench-gateway run PORT HOSTS DEVICES RATE
 * SECONDS run prints a line when all are welcome and waits for a line on stdin; then RATE times a second a
 * device says something to its host, which answers, for SECONDS, and the times of whole exchanges are printed
 * as JSON. Times count from when a message was due, not from when it could be sent. Then it waits for a line
 * again, and so on. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/http_head.h"
#include "services/gateway/store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

#define WINDOW     64 /* connections that are being made at a time */
#define IN_BYTES   2048
#define WARM_UP_NS (2 * WV_NS_PER_S)
#define LAST_NS    (2 * WV_NS_PER_S) /* for answers to what was sent last */
#define SEALED                                                                                               \
    "c2VhbGVkIHRvIHRoZSBwZWVyJ3Mga2V5LCBhcyBsb25nIGFzIGFuIG9mZmVyIHdpdGggY2FuZGlkYXRlcyBpcywg"               \
    "c29tZSB0d28gaHVuZHJlZCBieXRlcyBvciBtb3JlIG9mIGl0LCBzbyB0aGF0IHRoZSB0aW1lcyBhcmUgdHJ1ZQ"

enum state { OPENING, UPGRADING, GREETING, READY };

struct link {
    int fd;
    unsigned index;
    enum state state;
    size_t len;
    char in[IN_BYTES];
};

struct bench {
    struct link *links;
    unsigned hosts, devices, n, opening, ready;
    struct sockaddr_in to;
    int epoll_fd;
    uint64_t *due, *took;
    size_t sent, answered, errors, capacity;
    uint64_t begun;
};

static void die(const char *what)
{
    fprintf(stderr, "bench-gateway: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- who there is: the same for prepare and run ---- */

static void identity_of(unsigned index, struct rift_identity *ret)
{
    uint8_t seed[32] = "wavry bench";
    memcpy(seed + 16, &index, sizeof index);
    rift_identity_from_seed(ret, seed);
}

static void token_of(unsigned index, char ret_text[WV_TOKEN_TEXT_BYTES])
{
    uint8_t token[32] = "wavry bench token";
    memcpy(token + 20, &index, sizeof index);
    sodium_bin2base64(ret_text, WV_TOKEN_TEXT_BYTES, token, sizeof token,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static void add(struct wv_store *s, const struct wv_account *account, unsigned index, bool is_host)
{
    struct wv_machine m = {.is_host = is_host, .created = time(NULL)};
    struct wv_token t = {.created = time(NULL), .expires = time(NULL) + 86400};
    struct rift_identity id;
    char text[WV_TOKEN_TEXT_BYTES];
    identity_of(index, &id);
    memcpy(m.key, id.public, sizeof m.key);
    memcpy(m.sign_key, id.sign_public, sizeof m.sign_key);
    memcpy(m.account, account->id, sizeof m.account);
    snprintf(m.name, sizeof m.name, "machine %u", index);
    token_of(index, text);
    wv_token_hash(text, strlen(text), t.hash);
    memcpy(t.account, account->id, sizeof t.account);
    memcpy(t.device, m.key, sizeof t.device);
    if (wv_store_add_machine(s, &m) < 0 || wv_store_add_token(s, &t) < 0)
        die(wv_store_reason(s));
}

static int prepare(const char *url, unsigned hosts, unsigned devices)
{
    char reason[WV_DB_REASON_BYTES] = "";
    struct wv_account account;
    struct wv_store *s;
    if (wv_store_open(&s, url, reason) < 0)
        die(reason);
    if (wv_store_add_account(s, "bench", "", false, time(NULL), &account) < 0 ||
        wv_db_begin(wv_store_db(s)) < 0)
        die(wv_store_reason(s));
    for (unsigned i = 0; i < hosts + devices; i++)
        add(s, &account, i, i < hosts);
    if (wv_db_commit(wv_store_db(s)) < 0)
        die(wv_store_reason(s));
    wv_store_close(s);
    return 0;
}

/* ---- frames ---- */

static void put(struct link *l, unsigned opcode, const char *text, size_t len)
{
    uint8_t frame[1024] = {(uint8_t)(0x80 | opcode)};
    size_t at = 2;
    if (len > sizeof frame - 8)
        die("a frame is too long");
    frame[1] = (uint8_t)(0x80 | (len < 126 ? len : 126));
    if (len >= 126) {
        frame[at++] = (uint8_t)(len >> 8);
        frame[at++] = (uint8_t)len;
    }
    at += 4; /* the mask: zeros */
    memcpy(frame + at, text, len);
    if (send(l->fd, frame, at + len, MSG_NOSIGNAL) != (ssize_t)(at + len))
        die("send");
}

static void put_signal(struct link *l, const char *to, const char *id)
{
    char text[768];
    int len =
        snprintf(text, sizeof text,
                 "{\"type\":\"signal\",\"to\":\"%.49s\",\"id\":\"%s\",\"sealed\":\"" SEALED "\"}", to, id);
    put(l, 1, text, (size_t)len);
}

/* The value of NAME in a message that the gateway made: no escapes. */
static bool value(const char *text, size_t len, const char *name, char *ret, size_t capacity)
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

static void on_text(struct bench *b, struct link *l, const char *text, size_t len)
{
    char type[16], from[64], id[40];
    if (!value(text, len, "type", type, sizeof type))
        return;
    if (!strcmp(type, "welcome")) {
        l->state = READY;
        b->opening--;
        b->ready++;
    } else if (!strcmp(type, "error") || !strcmp(type, "replaced") || !strcmp(type, "leaving")) {
        if (b->errors++ < 5)
            fprintf(stderr, "bench-gateway: %.*s\n", (int)len, text);
    } else if (!strcmp(type, "signal") && value(text, len, "from", from, sizeof from) &&
               value(text, len, "id", id, sizeof id)) {
        size_t n = strtoull(id, NULL, 10);
        if (l->index < b->hosts)
            put_signal(l, from, id);
        else if (n < b->sent)
            b->took[n] = wv_now_ns() - b->due[n], b->answered++;
    }
}

static void take_frames(struct bench *b, struct link *l)
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
            on_text(b, l, (const char *)p + head, size);
        else if ((p[0] & 15) == 9)
            put(l, 10, (const char *)p + head, size);
        else if ((p[0] & 15) == 8)
            b->errors++;
        at += head + size;
    }
    memmove(l->in, l->in + at, l->len - at);
    l->len -= at;
}

/* ---- connections ---- */

static void open_link(struct bench *b, unsigned index)
{
    const int one = 1;
    struct link *l = &b->links[index];
    *l = (struct link){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .index = index};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = l};
    if (l->fd < 0 || setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        (connect(l->fd, (struct sockaddr *)&b->to, sizeof b->to) < 0 && errno != EINPROGRESS) ||
        epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, l->fd, &e) < 0)
        die("a connection");
    b->opening++;
}

static void on_open(struct bench *b, struct link *l)
{
    static const char upgrade[] =
        "GET /v1/signal HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: wavry-signal.1\r\n\r\n";
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (send(l->fd, upgrade, sizeof upgrade - 1, MSG_NOSIGNAL) < 0 ||
        epoll_ctl(b->epoll_fd, EPOLL_CTL_MOD, l->fd, &e) < 0)
        die("an upgrade");
    l->state = UPGRADING;
}

static void on_input(struct bench *b, struct link *l)
{
    char token[WV_TOKEN_TEXT_BYTES], text[128], *end;
    ssize_t n = recv(l->fd, l->in + l->len, sizeof l->in - l->len, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
            return;
        fprintf(stderr, "bench-gateway: connection %u has ended\n", l->index);
        exit(1);
    }
    l->len += (size_t)n;
    if (l->state == UPGRADING) {
        if (!(end = memmem(l->in, l->len, "\r\n\r\n", 4)))
            return;
        if (memcmp(l->in, "HTTP/1.1 101", 12) != 0)
            die("the gateway refused a connection");
        l->len -= (size_t)(end + 4 - l->in);
        memmove(l->in, end + 4, l->len);
        token_of(l->index, token);
        snprintf(text, sizeof text, "{\"type\":\"hello\",\"token\":\"%s\"}", token);
        put(l, 1, text, strlen(text));
        l->state = GREETING;
    }
    take_frames(b, l);
}

static void turn(struct bench *b, int timeout_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(b->epoll_fd, events, WV_ARRAY_SIZE(events), timeout_ms);
    for (int i = 0; i < n; i++) {
        struct link *l = events[i].data.ptr;
        if (l && l->state == OPENING && (events[i].events & EPOLLOUT))
            on_open(b, l);
        else if (l && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
            on_input(b, l);
    }
}

/* ---- exchanges ---- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(struct bench *b, double rate, double cpu_s)
{
    size_t n = 0, late = 0, first = (size_t)(rate * WARM_UP_NS / WV_NS_PER_S);
    for (size_t i = first; i < b->sent; i++) {
        if (b->took[i])
            b->took[n++] = b->took[i];
        else
            late++;
    }
    qsort(b->took, n, sizeof *b->took, by_size);
#define MS(q) (n ? (double)b->took[(size_t)((q) * (double)(n - 1))] / 1e6 : -1)
    printf("{\"exchanges\": %zu, \"unanswered\": %zu, \"errors\": %zu, \"p50_ms\": %.3f, \"p90_ms\": %.3f, "
           "\"p99_ms\": "
           "%.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, \"load_cpu_s\": %.2f}\n",
           n, late, b->errors, MS(0.5), MS(0.9), MS(0.99), MS(0.999), MS(1), cpu_s);
    fflush(stdout);
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void exchange(struct bench *b, double rate, double seconds)
{
    char(*keys)[RIFT_PUBLIC_KEY_TEXT_BYTES] = calloc(b->devices, sizeof *keys);
    double cpu = cpu_s();
    b->capacity = (size_t)(rate * seconds);
    b->due = calloc(b->capacity + 1, sizeof *b->due);
    b->took = calloc(b->capacity + 1, sizeof *b->took);
    b->sent = b->answered = b->errors = 0;
    for (unsigned i = 0; i < b->devices; i++) {
        struct rift_identity id;
        identity_of(i % b->hosts, &id);
        rift_public_key_format(id.public, keys[i]);
    }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec every = {.it_interval.tv_nsec = 500000, .it_value.tv_nsec = 500000};
    struct epoll_event e = {.events = EPOLLIN};
    timerfd_settime(timer, 0, &every, NULL);
    epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, timer, &e);
    b->begun = wv_now_ns();
    uint64_t end = b->begun + (uint64_t)(seconds * 1e9) + LAST_NS;
    while (wv_now_ns() < end && !(b->sent == b->capacity && b->answered == b->sent)) {
        uint64_t ticks, now = wv_now_ns();
        while (b->sent < b->capacity) {
            uint64_t due = b->begun + (uint64_t)((double)b->sent * 1e9 / rate);
            if (due > now)
                break;
            char id[24];
            unsigned device = (unsigned)(b->sent % b->devices);
            snprintf(id, sizeof id, "%zu", b->sent);
            b->due[b->sent++] = due;
            put_signal(&b->links[b->hosts + device], keys[device], id);
        }
        turn(b, 1);
        while (read(timer, &ticks, sizeof ticks) > 0)
            continue;
    }
    wv_close(timer);
    report(b, rate, cpu_s() - cpu);
    free(b->due);
    free(b->took);
    free(keys);
}

static int run(uint16_t port, unsigned hosts, unsigned devices, double rate, double seconds)
{
    struct bench b = {
        .hosts = hosts,
        .devices = devices,
        .n = hosts + devices,
        .to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    uint64_t begun = wv_now_ns();
    b.links = calloc(b.n, sizeof *b.links);
    if (!b.links || b.epoll_fd < 0)
        die("memory");
    for (unsigned i = 0; b.ready < b.n;) {
        while (i < b.n && b.opening < WINDOW)
            open_link(&b, i++);
        turn(&b, 1000);
    }
    printf("{\"connected\": %u, \"connect_s\": %.2f}\n", b.n, (double)(wv_now_ns() - begun) / 1e9);
    fflush(stdout);
    /* Pings are answered while nothing is asked for. */
    for (char line[16];;) {
        fd_set in;
        struct timeval soon = {.tv_usec = 0};
        FD_ZERO(&in);
        FD_SET(0, &in);
        if (select(1, &in, NULL, NULL, &soon) > 0) {
            if (!fgets(line, sizeof line, stdin))
                return 0;
            exchange(&b, rate, seconds);
        }
        turn(&b, 20);
    }
}

int main(int argc, char **argv)
{
    if (rift_crypto_init() < 0)
        return 1;
    if (argc == 5 && !strcmp(argv[1], "prepare"))
        return prepare(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    if (argc == 7 && !strcmp(argv[1], "run"))
        return run((uint16_t)atoi(argv[2]), (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), atof(argv[5]),
                   atof(argv[6]));
    fputs("usage: bench-gateway prepare DATABASE HOSTS DEVICES | run PORT HOSTS DEVICES RATE SECONDS\n",
          stderr);
    return 64;
}
