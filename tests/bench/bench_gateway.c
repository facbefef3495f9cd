/* The machines' side of `./wavry bench gateway`.
 *
 *   bench-gateway prepare DATABASE HOSTS DEVICES         makes a database of hosts and devices
 *   bench-gateway hosts PORT TLS HOSTS                   connects the hosts, which are idle and answer what
 * they are told bench-gateway devices PORT TLS HOSTS DEVICES RATE SECONDS connects the devices; RATE times a
 * second one says something to a host, and waits for what that says bench-gateway identity INDEX the keys of
 * a machine
 *
 * Hosts and devices are processes of their own, each with one thread; each prints a line when all of it are
 * welcome. For a word on stdin the devices run exchanges for SECONDS, and print their times as JSON: "warm",
 * each device with one host, so that the gateway knows after the first time who may speak to whom; "cold",
 * each with another host every time, so that the database is asked for each, in both directions. Times count
 * from when a message was due, not from when it could be sent; how late the load itself was is said beside
 * them. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/http_head.h"
#include "services/gateway/store.h"
#include "tests/bench/bench_link.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>

#define WINDOW     64 /* connections that are being made at a time */
#define WARM_UP_NS (2 * WV_NS_PER_S)
#define LAST_NS    (2 * WV_NS_PER_S) /* for answers to what was sent last */
#define SEALED                                                                                               \
    "c2VhbGVkIHRvIHRoZSBwZWVyJ3Mga2V5LCBhcyBsb25nIGFzIGFuIG9mZmVyIHdpdGggY2FuZGlkYXRlcyBpcywg"               \
    "c29tZSB0d28gaHVuZHJlZCBieXRlcyBvciBtb3JlIG9mIGl0LCBzbyB0aGF0IHRoZSB0aW1lcyBhcmUgdHJ1ZQ"

struct exchange {
    uint64_t due, late, took; /* took: 0 until it was answered */
};

struct bench {
    struct bench_net net;
    struct bench_link *links;
    unsigned hosts, first, n, ready;
    char (*keys)[RIFT_PUBLIC_KEY_TEXT_BYTES]; /* of the hosts: making one takes longer than saying it */
    struct exchange *exchanges;
    size_t sent, answered, errors, capacity, base;
};

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

static void write_token(unsigned index, char *ret_text, size_t capacity)
{
    char text[WV_TOKEN_TEXT_BYTES];
    token_of(index, text);
    snprintf(ret_text, capacity, "%s", text);
}

static int print_identity(unsigned index)
{
    struct rift_identity id;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], secret[2 * sizeof id.sign_secret + 1];
    identity_of(index, &id);
    rift_public_key_format(id.public, key);
    sodium_bin2hex(secret, sizeof secret, id.sign_secret, sizeof id.sign_secret);
    printf("{\"key\": \"%s\", \"sign_secret\": \"%s\"}\n", key, secret);
    return 0;
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
        bench_die(wv_store_reason(s));
}

static int prepare(const char *url, unsigned hosts, unsigned devices)
{
    char reason[WV_DB_REASON_BYTES] = "";
    struct wv_account account;
    struct wv_store *s;
    if (wv_store_open(&s, url, reason) < 0)
        bench_die(reason);
    if (wv_store_add_account(s, "bench", "", false, time(NULL), &account) < 0 ||
        wv_db_begin(wv_store_db(s)) < 0)
        bench_die(wv_store_reason(s));
    for (unsigned i = 0; i < hosts + devices; i++)
        add(s, &account, i, i < hosts);
    if (wv_db_commit(wv_store_db(s)) < 0)
        bench_die(wv_store_reason(s));
    wv_store_close(s);
    return 0;
}

/* ---- what is said ---- */

static void put_signal(struct bench_link *l, const char *to, const char *id)
{
    char text[768];
    int len =
        snprintf(text, sizeof text,
                 "{\"type\":\"signal\",\"to\":\"%.49s\",\"id\":\"%s\",\"sealed\":\"" SEALED "\"}", to, id);
    bench_link_put(l, text, (size_t)len);
}

static void on_text(void *userdata, struct bench_link *l, const char *text, size_t len)
{
    struct bench *b = userdata;
    char type[16], from[64], id[40];
    if (!bench_value(text, len, "type", type, sizeof type))
        return;
    if (!strcmp(type, "welcome")) {
        b->ready++;
    } else if (!strcmp(type, "error") || !strcmp(type, "replaced") || !strcmp(type, "leaving")) {
        if (b->errors++ < 5)
            fprintf(stderr, "bench-gateway: %.*s\n", (int)len, text);
    } else if (!strcmp(type, "signal") && bench_value(text, len, "from", from, sizeof from) &&
               bench_value(text, len, "id", id, sizeof id)) {
        size_t n = strtoull(id, NULL, 10);
        if (l->index < b->hosts)
            put_signal(l, from, id);
        else if (n < b->sent && !b->exchanges[n].took) {
            b->exchanges[n].took = WV_MAX(wv_now_ns() - b->exchanges[n].due, (uint64_t)1);
            b->answered++;
        }
    }
}

static void join(struct bench *b, unsigned port, bool tls)
{
    uint64_t begun = wv_now_ns();
    b->net.token = write_token;
    b->net.text = on_text;
    b->net.userdata = b;
    bench_net_init(&b->net, (uint16_t)port, tls);
    b->links = calloc(b->n, sizeof *b->links);
    b->keys = calloc(b->hosts, sizeof *b->keys);
    if (!b->links || !b->keys)
        bench_die("memory");
    for (unsigned i = 0; i < b->hosts && b->first; i++) {
        struct rift_identity id;
        identity_of(i, &id);
        rift_public_key_format(id.public, b->keys[i]);
    }
    for (unsigned i = 0; b->ready < b->n;) {
        for (; i < b->n && i - b->ready < WINDOW; i++)
            bench_link_open(&b->net, &b->links[i], b->first + i);
        bench_net_turn(&b->net, 1000);
    }
    printf("{\"connected\": %u, \"connect_s\": %.2f}\n", b->n, (double)(wv_now_ns() - begun) / 1e9);
    fflush(stdout);
}

/* ---- exchanges ---- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The value that a share Q of N sorted ones does not exceed, in ms. */
static double at_ms(const uint64_t *sorted, size_t n, double q)
{
    return n ? (double)sorted[(size_t)(q * (double)(n - 1))] / 1e6 : -1;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void report(const struct bench *b, double rate, double cpu)
{
    size_t n = 0, unanswered = 0, first = (size_t)(rate * WARM_UP_NS / WV_NS_PER_S);
    uint64_t *took = calloc(b->sent + 1, sizeof *took), *late = calloc(b->sent + 1, sizeof *late);
    if (!took || !late)
        bench_die("memory");
    for (size_t i = first; i < b->sent; i++) {
        if (b->exchanges[i].took) {
            late[n] = b->exchanges[i].late;
            took[n++] = b->exchanges[i].took;
        } else {
            unanswered++;
        }
    }
    qsort(took, n, sizeof *took, by_size);
    qsort(late, n, sizeof *late, by_size);
    printf("{\"exchanges\": %zu, \"unanswered\": %zu, \"errors\": %zu, \"p50_ms\": %.3f, \"p90_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, \"load_late_p99_ms\": %.3f, "
           "\"load_late_max_ms\": %.3f, \"devices_cpu_s\": %.2f}\n",
           n, unanswered, b->errors, at_ms(took, n, 0.5), at_ms(took, n, 0.9), at_ms(took, n, 0.99),
           at_ms(took, n, 0.999), at_ms(took, n, 1), at_ms(late, n, 0.99), at_ms(late, n, 1), cpu);
    fflush(stdout);
    free(took);
    free(late);
}

/* Cold: no device meets a host twice within HOSTS squared exchanges. */
static void say_next(struct bench *b, bool cold, uint64_t due, uint64_t now)
{
    size_t i = b->sent++, all = b->base + i;
    unsigned device = (unsigned)(i % b->n);
    unsigned host = cold ? (unsigned)((all * 7919 + all / b->hosts) % b->hosts) : device % b->hosts;
    char text[24];
    snprintf(text, sizeof text, "%zu", i);
    b->exchanges[i] = (struct exchange){.due = due, .late = now - due};
    put_signal(&b->links[device], b->keys[host], text);
}

static void exchange(struct bench *b, bool cold, double rate, double seconds)
{
    double cpu = cpu_s();
    b->capacity = (size_t)(rate * seconds);
    b->exchanges = calloc(b->capacity + 1, sizeof *b->exchanges);
    b->sent = b->answered = b->errors = 0;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec every = {.it_interval.tv_nsec = 500000, .it_value.tv_nsec = 500000};
    struct epoll_event e = {.events = EPOLLIN};
    if (!b->exchanges || timerfd_settime(timer, 0, &every, NULL) < 0 ||
        epoll_ctl(b->net.epoll_fd, EPOLL_CTL_ADD, timer, &e) < 0)
        bench_die("a timer");
    uint64_t begun = wv_now_ns(), end = begun + (uint64_t)(seconds * 1e9) + LAST_NS;
    while (wv_now_ns() < end && !(b->sent == b->capacity && b->answered == b->sent)) {
        uint64_t ticks;
        while (b->sent < b->capacity) {
            uint64_t due = begun + (uint64_t)((double)b->sent * 1e9 / rate), now = wv_now_ns();
            if (due > now)
                break;
            say_next(b, cold, due, now);
        }
        bench_net_turn(&b->net, 1);
        while (read(timer, &ticks, sizeof ticks) > 0)
            continue;
    }
    wv_close(timer);
    report(b, rate, cpu_s() - cpu);
    b->base += b->sent;
    free(b->exchanges);
}

/* Pings and, by hosts, messages are answered until stdin ends or says what to do. */
static int serve(struct bench *b, double rate, double seconds)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(b->net.epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &e) < 0)
        bench_die("stdin");
    for (char line[16];;) {
        fd_set in;
        struct timeval none = {0};
        FD_ZERO(&in);
        FD_SET(STDIN_FILENO, &in);
        if (select(1, &in, NULL, NULL, &none) > 0) {
            if (!fgets(line, sizeof line, stdin))
                return 0;
            exchange(b, !strcmp(line, "cold\n"), rate, seconds);
        }
        bench_net_turn(&b->net, 1000);
    }
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (rift_crypto_init() < 0)
        return 1;
    if (argc == 5 && !strcmp(argv[1], "prepare"))
        return prepare(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    if (argc == 3 && !strcmp(argv[1], "identity"))
        return print_identity((unsigned)atoi(argv[2]));
    bool hosts = argc == 5 && !strcmp(argv[1], "hosts"), devices = argc == 8 && !strcmp(argv[1], "devices");
    if (!hosts && !devices) {
        fputs("usage: bench-gateway prepare DATABASE HOSTS DEVICES | hosts PORT TLS HOSTS | devices PORT TLS "
              "HOSTS "
              "DEVICES RATE SECONDS | identity INDEX\n",
              stderr);
        return 64;
    }
    b.hosts = (unsigned)atoi(argv[4]);
    b.first = hosts ? 0 : b.hosts;
    b.n = hosts ? b.hosts : (unsigned)atoi(argv[5]);
    join(&b, (unsigned)atoi(argv[2]), atoi(argv[3]) != 0);
    return serve(&b, devices ? atof(argv[6]) : 0, devices ? atof(argv[7]) : 0);
}
