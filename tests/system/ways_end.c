/* One end of a connection without a known address, for tests/system/test_paths.py: a host (a whole transport,
 * with stand-ins for the other stages and a picture 60 times a second) or a client (the client library). A
 * unix socket between them stands in for the gateway: it carries offers, answers and leases, each after a
 * pause, and the client signs the leases itself. Network namespaces do not part unix sockets.
 *
 * host SOCKET [stun=IP:PORT]...                prints its key; "restart" on stdin kills and restarts
 * transport client SOCKET key=HEX [stun=IP:PORT]... [relay=IP:PORT issuer=HEXSEED] [signal_ms=N] [login_ms=N]
 *   says on stdout, a line of JSON each: "path" when it changes, "first" for the first picture; "mark" on
 * stdin prints what was since the mark before. */
#include "client/wavry_client.h"
#include "lib/base/util.h"
#include "rift/relay/lease.h"
#include "tests/unit/transport_bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define PORT  4820
#define STUNS 4

/* What passes through the stand-in for the gateway. */
enum what { OFFER = 1, ANSWER, LEASE };
struct letter {
    enum what what;
    uint8_t key[32], secret[32], relay_key[32], lease[RIFT_LEASE_BYTES], relay[RIFT_ADDRESS_BYTES];
    uint8_t id[16];
    struct rift_candidate candidates[RIFT_PUNCH_CANDIDATES];
    size_t n;
};

struct options {
    uint8_t stun[STUNS][RIFT_ADDRESS_BYTES], relay[RIFT_ADDRESS_BYTES], key[32], issuer[32];
    size_t n_stun;
    bool relayed;
    unsigned signal_ms, login_ms;
};

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "ways: %s: %s\n", what, strerror(errno));
    exit(70);
}

static void parse_address(const char *text, uint8_t *ret)
{
    char host[80];
    snprintf(host, sizeof host, "%s", *text == '[' ? text + 1 : text);
    char *colon = strrchr(host, ':');
    need(colon != NULL, text);
    unsigned port = (unsigned)atoi(colon + 1);
    colon[*text == '[' ? -1 : 0] = '\0';
    memset(ret, 0, RIFT_ADDRESS_BYTES);
    ret[10] = ret[11] = 0xff;
    need(inet_pton(AF_INET, host, ret + 12) == 1 || inet_pton(AF_INET6, host, ret) == 1, text);
    ret[16] = (uint8_t)(port >> 8);
    ret[17] = (uint8_t)port;
}

static void parse(struct options *o, int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        need(value != NULL, argv[i]);
        size_t len = (size_t)(value++ - argv[i]);
#define IS(name) (len == sizeof name - 1 && !strncmp(argv[i], name, len))
        if (IS("stun") && o->n_stun < STUNS)
            parse_address(value, o->stun[o->n_stun++]);
        else if (IS("relay"))
            parse_address(value, o->relay), o->relayed = true;
        else if (IS("key"))
            need(wv_hex_decode(value, o->key, 32) == 0, "the key");
        else if (IS("issuer"))
            need(wv_hex_decode(value, o->issuer, 32) == 0, "the issuer");
        else if (IS("signal_ms"))
            o->signal_ms = (unsigned)atoi(value);
        else if (IS("login_ms"))
            o->login_ms = (unsigned)atoi(value);
        else
            need(false, argv[i]);
#undef IS
    }
}

static void own_candidates(struct letter *l, uint16_t port)
{
    struct ifaddrs *list = NULL;
    need(getifaddrs(&list) == 0, "interfaces");
    for (struct ifaddrs *a = list; a; a = a->ifa_next) {
        struct rift_candidate *c = &l->candidates[l->n];
        *c = (struct rift_candidate){
            .address = {[10] = 0xff, [11] = 0xff, [16] = (uint8_t)(port >> 8), (uint8_t)port},
            .kind = RIFT_CANDIDATE_LOCAL,
            .priority = 200};
        if (!a->ifa_addr || a->ifa_flags & IFF_LOOPBACK || l->n == RIFT_PUNCH_CANDIDATES)
            continue;
        if (a->ifa_addr->sa_family == AF_INET)
            memcpy(c->address + 12, (uint8_t *)a->ifa_addr + offsetof(struct sockaddr_in, sin_addr), 4);
        else if (a->ifa_addr->sa_family == AF_INET6)
            memcpy(c->address, (uint8_t *)a->ifa_addr + offsetof(struct sockaddr_in6, sin6_addr), 16);
        else
            continue;
        l->n += rift_punch_may_try(c->address);
    }
    freeifaddrs(list);
}

/* ---- the host ---- */

struct host {
    struct bed bed;
    struct letter answer;
    int listener, peer;
    struct wv_loop_source *listening, *reading, *input, *later;
    const struct options *options;
};

static int on_letter(void *userdata, uint32_t events, uint64_t now)
{
    struct host *h = userdata;
    struct letter l;
    ssize_t n = recv(h->peer, &l, sizeof l, MSG_DONTWAIT);
    if (n != sizeof l) {
        h->reading = wv_loop_remove(h->reading);
        h->peer = wv_close(h->peer);
        return 0;
    }
    ProtobufCBinaryData id = {sizeof l.id, l.id};
    if (l.what == OFFER) {
        Wavry__Bus__PathOffer m = WAVRY__BUS__PATH_OFFER__INIT;
        Wavry__Bus__PathCandidate all[RIFT_PUNCH_CANDIDATES], *list[RIFT_PUNCH_CANDIDATES];
        for (size_t i = 0; i < l.n; i++) {
            wavry__bus__path_candidate__init(&all[i]);
            all[i].address = (ProtobufCBinaryData){RIFT_ADDRESS_BYTES, l.candidates[i].address};
            all[i].kind = l.candidates[i].kind;
            all[i].priority = l.candidates[i].priority;
            list[i] = &all[i];
        }
        m.id = id;
        m.client_key = (ProtobufCBinaryData){32, l.key};
        m.punch_secret = (ProtobufCBinaryData){32, l.secret};
        m.n_candidates = l.n;
        m.candidates = list;
        bed_say_as_identity(&h->bed, &m.base);
    } else if (l.what == LEASE) {
        Wavry__Bus__PathLease m = WAVRY__BUS__PATH_LEASE__INIT;
        m.id = id;
        m.lease = (ProtobufCBinaryData){sizeof l.lease, l.lease};
        m.address = (ProtobufCBinaryData){sizeof l.relay, l.relay};
        bed_say_as_identity(&h->bed, &m.base);
    }
    return 0;
}

static void on_path_answer(void *userdata, const Wavry__Bus__PathAnswer *m)
{
    struct host *h = userdata;
    struct letter l = {.what = ANSWER};
    own_candidates(&l, PORT);
    for (size_t i = 0; i < m->n_candidates && l.n < RIFT_PUNCH_CANDIDATES; i++) {
        struct rift_candidate *c = &l.candidates[l.n++];
        *c = (struct rift_candidate){.kind = (uint8_t)m->candidates[i]->kind, .priority = 100};
        memcpy(c->address, m->candidates[i]->address.data, RIFT_ADDRESS_BYTES);
    }
    need(m->id.len == sizeof l.id && m->relay_key.len == 32 && !m->refused[0], "transport takes the offer");
    memcpy(l.id, m->id.data, sizeof l.id);
    memcpy(l.relay_key, m->relay_key.data, 32);
    if (h->peer >= 0)
        (void)!send(h->peer, &l, sizeof l, MSG_NOSIGNAL);
}

/* Says so once every STUN server has answered. */
static void on_addresses(void *userdata, const Wavry__Bus__TransportAddresses *m)
{
    const struct host *h = userdata;
    if (m->n_reflexive < h->options->n_stun)
        return;
    puts("addressed");
    fflush(stdout);
}

static int on_client(void *userdata, uint32_t events, uint64_t now)
{
    struct host *h = userdata;
    h->reading = wv_loop_remove(h->reading);
    wv_close(h->peer);
    h->peer = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return wv_loop_add_fd(h->bed.loop, h->peer, EPOLLIN, on_letter, h, &h->reading);
}

static void tell_stun(struct host *h)
{
    Wavry__Bus__StunServers m = WAVRY__BUS__STUN_SERVERS__INIT;
    ProtobufCBinaryData list[STUNS];
    for (size_t i = 0; i < h->options->n_stun; i++)
        list[i] = (ProtobufCBinaryData){RIFT_ADDRESS_BYTES, (uint8_t *)(uintptr_t)h->options->stun[i]};
    m.address = list;
    m.n_address = h->options->n_stun;
    if (wv_bus_send(h->bed.stages[4].link, &m.base) != 0) /* transport is not there yet */
        wv_loop_timer_at(h->later, wv_now_ns() + WV_NS_PER_S / 20);
}

static int on_later(void *userdata, uint64_t now)
{
    tell_stun(userdata);
    return 0;
}

static int on_host_command(void *userdata, uint32_t events, uint64_t now)
{
    struct host *h = userdata;
    char line[64];
    ssize_t n = read(0, line, sizeof line);
    if (n <= 0) {
        wv_loop_quit(h->bed.loop, 0);
        return 0;
    }
    if (n > 3 && !strncmp(line, "restart", 7)) {
        bed_restart_transport(&h->bed);
        wv_loop_timer_at(h->later, wv_now_ns() + WV_NS_PER_S / 20);
        puts("restarted");
        fflush(stdout);
    }
    return 0;
}

static int run_host(const char *path, const struct options *o)
{
    static struct host h;
    const struct bed_options options = {
        .port = PORT, .bitrate_bps = 4000000, .start_bps = 4000000, .fps = 60, .fec = true};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char hex[65];
    h = (struct host){.peer = -1, .options = o};
    bed_init(&h.bed, &options);
    h.bed.on_path_answer = on_path_answer;
    h.bed.on_addresses = on_addresses;
    h.bed.userdata = &h;
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    h.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    need(bind(h.listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(h.listener, 4) == 0, path);
    need(wv_loop_add_fd(h.bed.loop, h.listener, EPOLLIN, on_client, &h, &h.listening) == 0 &&
             wv_loop_add_fd(h.bed.loop, 0, EPOLLIN, on_host_command, &h, &h.input) == 0 &&
             wv_loop_add_timer(h.bed.loop, on_later, &h, &h.later) == 0,
         "the loop");
    wv_loop_timer_at(h.later, wv_now_ns());
    wv_hex_encode(h.bed.host_key, 32, hex);
    printf("%s\n", hex);
    fflush(stdout);
    need(wv_loop_run(h.bed.loop) >= 0, "the loop");
    bed_fini(&h.bed);
    return 0;
}

/* ---- the client ---- */

struct waiting {
    bool used;
    uint64_t due;
    bool out; /* to the host; else from it */
    struct letter letter;
};

struct eyes {
    const struct options *options;
    struct wv_loop *loop;
    struct wv_client *client;
    struct rift_identity identity;
    struct wv_loop_source *clock, *reading, *input;
    struct waiting waiting[8];
    int gateway;
    uint8_t id[16], relay_key[32];
    uint64_t started, first, last, longest, frames;
    bool signed_in;
    char path[16], why[200];
};

static unsigned ms_since(uint64_t from, uint64_t to)
{
    return (unsigned)((to - from) / WV_NS_PER_MS);
}

static void pass_on(struct eyes *e, const struct letter *l, bool out)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(e->waiting); i++) {
        struct waiting *w = &e->waiting[i];
        if (w->used)
            continue;
        *w = (struct waiting){true, wv_now_ns() + e->options->signal_ms * WV_NS_PER_MS, out, *l};
        return;
    }
    need(false, "room for a letter");
}

static int on_offer(void *userdata, const struct wv_client_offer *offer)
{
    struct eyes *e = userdata;
    struct letter l = {.what = OFFER, .n = offer->n_candidates};
    randombytes_buf(e->id, sizeof e->id);
    memcpy(l.id, e->id, sizeof l.id);
    memcpy(l.key, e->identity.public, 32);
    memcpy(l.secret, offer->secret, 32);
    memcpy(e->relay_key, offer->relay_key, 32);
    memcpy(l.candidates, offer->candidates, offer->n_candidates * sizeof l.candidates[0]);
    printf("{\"event\": \"offer\", \"ms\": %u}\n", ms_since(e->started, wv_now_ns()));
    fflush(stdout);
    pass_on(e, &l, true);
    return 0;
}

/* The host's answer: its addresses; and the gateway gives a lease for both. */
static void take_answer(struct eyes *e, const struct letter *l)
{
    struct rift_lease terms = {.rate_kbps = 50000};
    struct letter lease = {.what = LEASE};
    uint8_t public[32], secret[64];
    if (memcmp(l->id, e->id, sizeof e->id) != 0)
        return;
    (void)wv_client_answer(e->client, l->candidates, l->n);
    if (!e->options->relayed)
        return;
    rift_relay_id("r", terms.relay);
    randombytes_buf(terms.id, sizeof terms.id);
    memcpy(terms.peers[0], e->relay_key, 32);
    memcpy(terms.peers[1], l->relay_key, 32);
    terms.not_before_s = (uint64_t)time(NULL) - 5;
    terms.expires_s = terms.not_before_s + 600;
    crypto_sign_seed_keypair(public, secret, e->options->issuer);
    need(rift_lease_sign(&terms, secret, lease.lease) == 0, "a lease");
    memcpy(lease.relay, e->options->relay, sizeof lease.relay);
    memcpy(lease.id, e->id, sizeof lease.id);
    pass_on(e, &lease, true);
    pass_on(e, &lease, false);
}

static void deliver(struct eyes *e, const struct waiting *w)
{
    if (w->out)
        (void)!send(e->gateway, &w->letter, sizeof w->letter, MSG_NOSIGNAL);
    else if (w->letter.what == ANSWER)
        take_answer(e, &w->letter);
    else
        (void)wv_client_lease(e->client, w->letter.lease, w->letter.relay);
}

static void tell_path(struct eyes *e, uint64_t now)
{
    struct wv_client_stats s;
    wv_client_get_stats(e->client, &s);
    if (!strcmp(s.path, e->path) && !strcmp(s.path_why, e->why))
        return;
    snprintf(e->path, sizeof e->path, "%s", s.path);
    snprintf(e->why, sizeof e->why, "%s", s.path_why);
    printf("{\"event\": \"path\", \"ms\": %u, \"path\": \"%s\", \"address\": \"%s\", \"why\": \"%s\"}\n",
           ms_since(e->started, now), s.path, s.path_address, s.path_why);
    fflush(stdout);
}

static int on_clock(void *userdata, uint64_t now)
{
    struct eyes *e = userdata;
    now = wv_now_ns();
    if (!e->signed_in && now >= e->started + e->options->login_ms * WV_NS_PER_MS) {
        e->signed_in = true;
        need(wv_client_set_stun(e->client, e->options->stun, e->options->n_stun) == 0, "STUN servers");
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(e->waiting); i++)
        if (e->waiting[i].used && now >= e->waiting[i].due) {
            struct waiting w = e->waiting[i];
            e->waiting[i].used = false;
            deliver(e, &w);
        }
    tell_path(e, now);
    return 0;
}

static int on_gateway(void *userdata, uint32_t events, uint64_t now)
{
    struct eyes *e = userdata;
    struct letter l;
    if (recv(e->gateway, &l, sizeof l, MSG_DONTWAIT) == sizeof l)
        pass_on(e, &l, false);
    else
        e->reading = wv_loop_remove(e->reading);
    return 0;
}

static void on_access_unit(void *userdata, const struct rift_frame_meta *meta, const uint8_t *data,
                           size_t len)
{
    struct eyes *e = userdata;
    uint64_t now = wv_now_ns();
    if (!e->first) {
        e->first = now;
        tell_path(e, now);
        printf("{\"event\": \"first\", \"ms\": %u}\n", ms_since(e->started, now));
        fflush(stdout);
    } else {
        e->longest = WV_MAX(e->longest, now - e->last);
    }
    e->last = now;
    e->frames++;
}

static void tell_mark(struct eyes *e)
{
    struct wv_client_stats s;
    uint64_t now = wv_now_ns();
    wv_client_get_stats(e->client, &s);
    uint64_t longest = e->first ? WV_MAX(e->longest, now - e->last) : 0;
    printf("{\"event\": \"mark\", \"frames\": %lu, \"longest_gap_ms\": %u, \"path\": \"%s\", \"address\": "
           "\"%s\", "
           "\"why\": \"%s\", \"switches\": %lu, \"connects\": %lu, \"rtt_ms\": %.1f}\n",
           (unsigned long)e->frames, (unsigned)(longest / WV_NS_PER_MS), s.path, s.path_address, s.path_why,
           (unsigned long)s.path_switches, (unsigned long)s.connects, (double)s.rtt_us / 1000);
    fflush(stdout);
    e->longest = e->frames = 0;
}

static int on_client_command(void *userdata, uint32_t events, uint64_t now)
{
    struct eyes *e = userdata;
    char line[64];
    ssize_t n = read(0, line, sizeof line);
    if (n <= 0)
        wv_loop_quit(e->loop, 0);
    else if (!strncmp(line, "mark", 4))
        tell_mark(e);
    return 0;
}

static int run_client(const char *path, const struct options *o)
{
    static struct eyes e;
    uint8_t seed[RIFT_IDENTITY_SEED_BYTES];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memset(seed, 77, sizeof seed); /* whom the bed knows */
    e = (struct eyes){.options = o, .started = wv_now_ns()};
    need(rift_crypto_init() == 0, "libsodium");
    rift_identity_from_seed(&e.identity, seed);
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    e.gateway = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    need(connect(e.gateway, (struct sockaddr *)&name, sizeof name) == 0, path);
    const struct wv_client_ways ways = {.offer = on_offer, .userdata = &e};
    const struct wv_client_options options = {
        .host = "the-host", .identity = &e.identity, .host_key = o->key, .ways = &ways, .no_decode = true};
    const struct wv_client_callbacks callbacks = {.access_unit = on_access_unit};
    need(wv_loop_new(&e.loop) == 0 && wv_client_new(&e.client, e.loop, &options, &callbacks, &e) == 0,
         "a client");
    need(wv_loop_add_timer(e.loop, on_clock, &e, &e.clock) == 0 &&
             wv_loop_add_fd(e.loop, e.gateway, EPOLLIN, on_gateway, &e, &e.reading) == 0 &&
             wv_loop_add_fd(e.loop, 0, EPOLLIN, on_client_command, &e, &e.input) == 0,
         "the loop");
    wv_loop_timer_every(e.clock, 2 * WV_NS_PER_MS);
    need(wv_loop_run(e.loop) >= 0, "the loop");
    wv_client_free(e.client);
    return 0;
}

int main(int argc, char **argv)
{
    static struct options o;
    if (argc < 3)
        return 64;
    parse(&o, argc, argv);
    return strcmp(argv[1], "host") == 0 ? run_host(argv[2], &o) : run_client(argv[2], &o);
}
