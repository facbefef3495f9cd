/* The client's ways to a host; see ways.h. */
#include "client/client_private.h"

#include "rift/punch/stun.h"
#include "rift/relay/pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SERVERS      4
#define STUN_TRIES   5
#define STUN_NS      (100 * WV_NS_PER_MS) /* to the first repetition, then doubling */
#define STUN_WAIT_NS (400 * WV_NS_PER_MS) /* then the offer goes without those that did not answer */
#define STUN_KEEP_NS (25 * WV_NS_PER_S)
#define OFFER_NS     (5 * WV_NS_PER_S) /* an offer that brought no way is repeated, then less often */
#define OFFER_MAX_NS (30 * WV_NS_PER_S)
#define LOST_NS      (3 * WV_NS_PER_S) /* nothing heard on any way: a new offer */
/* After a change of the network: the old way, and a relay that was bound, get so long to be heard on. */
#define MOVED_NS         (150 * WV_NS_PER_MS)
#define MOVED_RELAYED_NS WV_NS_PER_S
#define MOVED_PAUSE_NS   WV_NS_PER_S /* to the second offer: the host may have moved too, and not heard one */
#define MOVED_APART_NS   (500 * WV_NS_PER_MS) /* offers for that reason */

struct server {
    uint8_t address[RIFT_ADDRESS_BYTES], id[RIFT_STUN_ID_BYTES], reflexive[RIFT_ADDRESS_BYTES];
    uint64_t due_ns;
    unsigned tries;
    bool known;
};

struct wv_ways {
    struct wv_client *client;
    struct wv_client_ways setup;
    struct server servers[SERVERS];
    size_t n_servers;
    bool asked;                        /* wv_ways_set_stun() was called */
    uint64_t offer_at, offer_pause_ns; /* NEVER: no offer is due */
    struct rift_punch *punch;          /* of the newest offer */
    uint8_t relay_secret[64];
    struct rift_relay_pair relays;    /* of that offer */
    uint8_t from[RIFT_ADDRESS_BYTES]; /* of the datagram at hand; the name of the relayed way for one from a
                                         relay */
    uint64_t heard_ns, switches;
    uint64_t moved_ns, moved_until_ns; /* when the network changed, 0: not; how long the host is waited for */
    uint64_t moved_offer_ns;           /* when an offer was made for that, 0: never */
    uint8_t last[RIFT_ADDRESS_BYTES];  /* the direct way that was taken last */
    bool has_last;
};

int wv_ways_new(struct wv_ways **ret, struct wv_client *c, const struct wv_client_ways *setup)
{
    struct wv_ways *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->client = c;
    w->setup = *setup;
    w->offer_at = UINT64_MAX;
    w->offer_pause_ns = OFFER_NS;
    *ret = w;
    return 0;
}

struct wv_ways *wv_ways_free(struct wv_ways *w)
{
    if (w) {
        rift_punch_free(w->punch);
        rift_relay_pair_fini(&w->relays);
        sodium_memzero(w, sizeof *w);
        free(w);
    }
    return NULL;
}

/* ---- our own addresses ---- */

static void ask(struct server *s, uint64_t now)
{
    randombytes_buf(s->id, sizeof s->id);
    s->tries = 0;
    s->due_ns = now;
}

int wv_ways_set_stun(struct wv_ways *w, const uint8_t (*addresses)[RIFT_ADDRESS_BYTES], size_t n,
                     uint64_t now)
{
    if (n > SERVERS)
        return -EINVAL;
    w->n_servers = 0;
    for (size_t i = 0; i < n; i++) {
        struct server *s = &w->servers[w->n_servers];
        if (!rift_punch_may_try(addresses[i]))
            continue;
        *s = (struct server){0};
        memcpy(s->address, addresses[i], sizeof s->address);
        ask(s, now);
        w->n_servers++;
    }
    if (!w->asked || w->offer_at != UINT64_MAX)
        w->offer_at = w->n_servers ? now + STUN_WAIT_NS : now;
    w->asked = true;
    wv_loop_timer_at(w->client->timer, now);
    return 0;
}

static bool all_answered(const struct wv_ways *w)
{
    for (size_t i = 0; i < w->n_servers; i++)
        if (!w->servers[i].known)
            return false;
    return true;
}

/* The network has changed, and the host was not heard since for longer than that should take. */
static bool is_left(const struct wv_ways *w, uint64_t now)
{
    return w->moved_ns && w->heard_ns <= w->moved_ns && now >= w->moved_until_ns;
}

/* An offer from a network that is not there yet would be lost, and the next one is some time away. */
static bool waits_for_network(const struct wv_ways *w, uint64_t now)
{
    for (size_t i = 0; i < w->n_servers; i++)
        if (w->servers[i].known)
            return false;
    return w->n_servers && is_left(w, now) && now < w->moved_ns + STUN_WAIT_NS;
}

static void take_stun(struct wv_ways *w, const uint8_t *datagram, size_t len, uint64_t now)
{
    struct rift_stun_message m;
    if (rift_stun_read(datagram, len, &m) < 0 || m.kind != RIFT_STUN_SUCCESS || !m.has_address || m.unknown)
        return;
    for (size_t i = 0; i < w->n_servers; i++) {
        struct server *s = &w->servers[i];
        if (!s->tries || memcmp(s->address, w->from, sizeof w->from) != 0 ||
            sodium_memcmp(s->id, m.id, sizeof s->id) != 0)
            continue;
        s->known = true;
        memcpy(s->reflexive, m.address, sizeof s->reflexive);
        ask(s, now);
        s->due_ns = now + STUN_KEEP_NS;
        if (w->punch)
            rift_punch_set_own(w->punch, s->reflexive);
        if (w->offer_at != UINT64_MAX && (w->punch ? is_left(w, now) : all_answered(w)))
            w->offer_at = now;
    }
}

static void send_stun(struct wv_ways *w, struct server *s, uint64_t now)
{
    size_t capacity;
    if (s->tries == STUN_TRIES) {
        s->known = false;
        ask(s, now);
        s->due_ns = now + STUN_KEEP_NS;
        return;
    }
    wv_link_aim(w->client->link, s->address, NULL);
    rift_stun_request(s->id, wv_link_reserve(w->client->link, &capacity));
    wv_link_commit(w->client->link, RIFT_STUN_REQUEST_BYTES, 0);
    s->due_ns = now + (STUN_NS << s->tries++);
}

static void add_candidate(struct wv_client_offer *o, const uint8_t *address, enum rift_candidate_kind kind,
                          uint32_t priority)
{
    for (size_t i = 0; i < o->n_candidates; i++)
        if (!memcmp(o->candidates[i].address, address, RIFT_ADDRESS_BYTES))
            return;
    if (o->n_candidates == RIFT_PUNCH_CANDIDATES || !rift_punch_may_try(address))
        return;
    struct rift_candidate *c = &o->candidates[o->n_candidates++];
    *c = (struct rift_candidate){.kind = (uint8_t)kind, .priority = priority};
    memcpy(c->address, address, RIFT_ADDRESS_BYTES);
}

/* The addresses of this machine's interfaces, with the port of our socket. */
static void add_own(struct wv_client_offer *o, uint16_t port)
{
    struct ifaddrs *list = NULL;
    if (!port || getifaddrs(&list) < 0)
        return;
    for (struct ifaddrs *a = list; a; a = a->ifa_next) {
        uint8_t address[RIFT_ADDRESS_BYTES] = {
            [10] = 0xff, [11] = 0xff, [16] = (uint8_t)(port >> 8), (uint8_t)port};
        struct sockaddr_in6 in6;
        struct sockaddr_in in;
        if (!a->ifa_addr || !(a->ifa_flags & IFF_UP) || a->ifa_flags & IFF_LOOPBACK)
            continue;
        if (a->ifa_addr->sa_family == AF_INET6) {
            memcpy(&in6, a->ifa_addr, sizeof in6);
            memcpy(address, &in6.sin6_addr, 16);
        } else if (a->ifa_addr->sa_family == AF_INET) {
            memcpy(&in, a->ifa_addr, sizeof in);
            memcpy(address + 12, &in.sin_addr, 4);
        } else {
            continue;
        }
        add_candidate(o, address, RIFT_CANDIDATE_LOCAL, 200);
    }
    freeifaddrs(list);
}

static void fill_offer(struct wv_ways *w, struct wv_client_offer *o, struct rift_punch *punch)
{
    for (size_t i = 0; i < w->n_servers; i++)
        if (w->servers[i].known) {
            add_candidate(o, w->servers[i].reflexive, RIFT_CANDIDATE_REFLEXIVE, 100);
            rift_punch_set_own(punch, w->servers[i].reflexive);
        }
    add_own(o, wv_link_port(w->client->link));
}

/* Nothing of the offer before counts any more; only where datagrams went does, until a way is found anew. */
static void replace_punch(struct wv_ways *w, struct rift_punch *punch)
{
    struct rift_punch_status s = {0};
    if (w->punch)
        rift_punch_get_status(w->punch, &s);
    w->switches += s.switches;
    rift_punch_free(w->punch);
    w->punch = punch;
    rift_relay_pair_fini(&w->relays);
}

/* A new offer, with another secret. */
static void make_offer(struct wv_ways *w, uint64_t now)
{
    struct wv_client_offer o = {0};
    uint8_t relay_secret[64];
    struct rift_punch *punch;
    w->offer_at = now + w->offer_pause_ns;
    w->offer_pause_ns = WV_MIN(2 * w->offer_pause_ns, OFFER_MAX_NS);
    randombytes_buf(o.secret, sizeof o.secret);
    if (rift_punch_new(&punch, RIFT_ROLE_CLIENT, o.secret, now) < 0)
        return;
    crypto_sign_keypair(o.relay_key, relay_secret);
    fill_offer(w, &o, punch);
    if (w->setup.offer(w->setup.userdata, &o) < 0) {
        rift_punch_free(punch);
    } else {
        replace_punch(w, punch);
        memcpy(w->relay_secret, relay_secret, sizeof w->relay_secret);
        if (w->moved_ns)
            w->moved_offer_ns = now;
        w->moved_ns = 0;
    }
    sodium_memzero(relay_secret, sizeof relay_secret);
    sodium_memzero(&o, sizeof o);
}

/* ---- what the gateway brings ---- */

int wv_ways_answer(struct wv_ways *w, const struct rift_candidate *candidates, size_t n, uint64_t now)
{
    size_t good = 0;
    for (size_t i = 0; w->punch && i < n; i++)
        good += rift_punch_add(w->punch, &candidates[i], now) >= 0;
    wv_loop_timer_at(w->client->timer, now);
    return good || (w->punch && n == 0) ? 0 : -EINVAL;
}

int wv_ways_lease(struct wv_ways *w, const uint8_t *lease, const uint8_t relay[RIFT_ADDRESS_BYTES],
                  uint64_t now)
{
    struct rift_punch_status s;
    if (!w->punch || !rift_punch_may_try(relay))
        return -EINVAL;
    wv_loop_timer_at(w->client->timer, now);
    rift_punch_get_status(w->punch, &s);
    return rift_relay_pair_take(&w->relays, w->punch, lease, relay, w->relay_secret,
                                s.has_path ? s.address : NULL, now);
}

/* ---- in ---- */

static void take_inside(struct wv_ways *w, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                        uint64_t now)
{
    if (rift_knock_is(datagram, len, NULL)) {
        if (w->punch && rift_punch_receive(w->punch, w->from, datagram, len, now) == 0)
            w->heard_ns = now;
    } else {
        client_take_datagram(w->client, datagram, len, ecn, now);
    }
}

void wv_ways_take(struct wv_ways *w, int i, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                  uint64_t now)
{
    bool relayed = false;
    wv_link_from(w->client->link, i, w->from);
    if (rift_stun_is(datagram, len)) {
        take_stun(w, datagram, len, now);
        return;
    }
    for (unsigned k = 0; k < 2; k++) {
        const uint8_t *payload;
        size_t payload_len;
        struct rift_relay_place *p = rift_relay_pair_at(&w->relays, k);
        if (!p || memcmp(w->from, p->address, sizeof w->from) != 0)
            continue;
        relayed = true;
        int r = rift_relay_client_receive(p->client, datagram, len, now, (uint64_t)time(NULL), &payload,
                                          &payload_len);
        if (r == RIFT_RELAY_CLIENT_IDLE)
            continue; /* the other lease may be for the same relay */
        if (r == RIFT_RELAY_CLIENT_PAYLOAD) {
            memcpy(w->from, p->name, sizeof w->from);
            take_inside(w, payload, payload_len, ecn, now);
        }
        return;
    }
    if (!relayed)
        take_inside(w, datagram, len, ecn, now);
}

void wv_ways_heard(struct wv_ways *w, uint64_t now)
{
    w->heard_ns = now;
    if (w->punch)
        rift_punch_heard(w->punch, w->from, now);
}

/* ---- changes ---- */

bool wv_ways_found(const struct wv_ways *w)
{
    struct rift_punch_status s = {0};
    if (w->punch)
        rift_punch_get_status(w->punch, &s);
    return s.has_path;
}

void wv_ways_failed(struct wv_ways *w, uint64_t now)
{
    if (w->asked)
        w->offer_at = WV_MIN(w->offer_at, now + OFFER_NS);
}

/* The host may still be there for us at our new address: it lets in whom it knows, or everybody. Only if it
 * is not heard soon it must be told where we are. */
static void expect_host(struct wv_ways *w, uint64_t now)
{
    struct rift_relay_client_status relay = {0};
    struct rift_punch_status s = {0};
    uint64_t wait = MOVED_NS;
    if (!w->punch || w->offer_at == UINT64_MAX)
        return;
    rift_punch_get_status(w->punch, &s);
    for (unsigned i = 0; i < 2; i++) {
        struct rift_relay_place *p = rift_relay_pair_at(&w->relays, i);
        if (p)
            rift_relay_client_get_status(p->client, &relay);
        if (p && relay.state != RIFT_RELAY_CLIENT_REFUSED) /* also one that a change before this one asks */
            wait = MOVED_RELAYED_NS;
    }
    w->moved_ns = now;
    w->moved_until_ns = now + WV_MAX(wait, 2 * s.rtt_ns);
    if (w->moved_offer_ns)
        w->moved_until_ns = WV_MAX(w->moved_until_ns, w->moved_offer_ns + MOVED_APART_NS);
    w->offer_at = WV_MIN(w->offer_at, w->moved_until_ns);
}

void wv_ways_network_changed(struct wv_ways *w, uint64_t now)
{
    for (size_t i = 0; i < w->n_servers; i++) {
        w->servers[i].known = false;
        ask(&w->servers[i], now);
    }
    rift_relay_pair_moved(&w->relays, now);
    if (w->punch)
        rift_punch_network_changed(w->punch, now);
    w->offer_pause_ns = MOVED_PAUSE_NS;
    expect_host(w, now);
    if (w->client->session)
        rift_session_path_changed(w->client->session, now);
    if (w->setup.moved)
        w->setup.moved(w->setup.userdata);
}

/* Whether the newest offer has brought what it can: then another one is due. */
static bool needs_offer(const struct wv_ways *w, uint64_t now)
{
    bool silent = now - WV_MIN(w->heard_ns, now) >= LOST_NS;
    return w->asked && (!w->punch || !wv_ways_found(w) || silent || is_left(w, now));
}

static void on_switch(struct wv_ways *w, bool had_path, uint64_t now)
{
    struct wv_client *c = w->client;
    struct rift_punch_status s;
    rift_punch_get_status(w->punch, &s);
    w->offer_pause_ns = OFFER_NS;
    if (w->setup.changed)
        w->setup.changed(w->setup.userdata, s.relayed);
    if (!had_path)
        c->attempt_at = WV_MIN(c->attempt_at, now);
    if (!c->session)
        return;
    rift_session_path_changed(c->session, now);
    /* What was under way on a way that died is lost: nothing but a keyframe brings the picture back sooner.
     */
    if (s.why == RIFT_PUNCH_FELL_SILENT || !had_path)
        rift_session_request_keyframe(c->session, now);
}

/* ---- out ---- */

/* To ADDRESS, or through the relay when it is the name of that way. */
static void aim(struct wv_ways *w, const uint8_t *address)
{
    uint8_t header[RIFT_RELAY_HEADER_BYTES];
    bool relayed = address && rift_punch_is_relayed(address);
    struct rift_relay_place *p = relayed ? rift_relay_pair_find(&w->relays, address) : NULL;
    if (!relayed)
        wv_link_aim(w->client->link, address, NULL);
    else if (p && rift_relay_client_header(p->client, header) == 0)
        wv_link_aim(w->client->link, p->address, header);
    else
        wv_link_aim(w->client->link, NULL, NULL);
}

static void send_relay(struct wv_ways *w, struct rift_relay_place *p, uint64_t now)
{
    size_t capacity, len;
    wv_link_aim(w->client->link, p->address, NULL);
    for (;;) {
        uint8_t *room = wv_link_reserve(w->client->link, &capacity);
        if (rift_relay_client_send(p->client, room, capacity, now, &len) != 0)
            return;
        wv_link_commit(w->client->link, len, 0);
    }
}

static void send_knocks(struct wv_ways *w, uint64_t now)
{
    uint8_t to[RIFT_ADDRESS_BYTES];
    size_t capacity;
    for (;;) {
        uint8_t *room = wv_link_reserve(w->client->link, &capacity);
        if (rift_punch_send(w->punch, room, now, to) != 0)
            return;
        aim(w, to);
        wv_link_commit(w->client->link, RIFT_KNOCK_BYTES, 0);
    }
}

void wv_ways_pump(struct wv_ways *w, uint64_t now)
{
    for (size_t i = 0; i < w->n_servers; i++)
        if (now >= w->servers[i].due_ns)
            send_stun(w, &w->servers[i], now);
    if (now >= w->offer_at) {
        if (waits_for_network(w, now))
            w->offer_at = w->moved_ns + STUN_WAIT_NS;
        else if (needs_offer(w, now))
            make_offer(w, now);
        else
            w->offer_at = now + OFFER_NS;
    }
    for (unsigned i = 0; i < 2; i++)
        if (rift_relay_pair_at(&w->relays, i))
            send_relay(w, rift_relay_pair_at(&w->relays, i), now);
    if (!w->punch)
        return;
    bool had_path = wv_ways_found(w);
    if (rift_punch_tick(w->punch, now) == RIFT_PUNCH_SWITCHED)
        on_switch(w, had_path, now);
    send_knocks(w, now);
    struct rift_punch_status s;
    rift_punch_get_status(w->punch, &s);
    if (s.has_path && !s.relayed) {
        memcpy(w->last, s.address, sizeof w->last);
        w->has_last = true;
    }
    (void)rift_relay_pair_tidy(&w->relays, w->punch, s.has_path ? s.address : NULL, now);
    /* While a new offer is on its way a session goes on where it went: it may be heard there yet. */
    aim(w, s.has_path ? s.address : w->client->session && w->has_last ? w->last : NULL);
}

uint64_t wv_ways_timeout(const struct wv_ways *w)
{
    uint64_t at = w->offer_at;
    for (size_t i = 0; i < w->n_servers; i++)
        at = WV_MIN(at, w->servers[i].due_ns);
    at = WV_MIN(at, rift_relay_pair_timeout(&w->relays));
    if (w->punch)
        at = WV_MIN(at, rift_punch_timeout(w->punch));
    return at;
}

/* ---- words ---- */

/* Two servers saw us at different ports: a NAT that nobody can be told the address of. */
static bool is_symmetric(const struct wv_ways *w)
{
    const struct server *first = NULL;
    for (size_t i = 0; i < w->n_servers; i++) {
        const struct server *s = &w->servers[i];
        if (!s->known || s->reflexive[0] || !s->reflexive[10])
            continue;
        if (first && !memcmp(first->reflexive, s->reflexive, 16) &&
            memcmp(first->reflexive, s->reflexive, 18) != 0)
            return true;
        first = s;
    }
    return false;
}

static const char *why_text(const struct wv_ways *w, const struct rift_punch_status *s)
{
    switch (s->why) {
    case RIFT_PUNCH_TRYING:
        return "No way to the host is known yet.";
    case RIFT_PUNCH_DIRECT:
        return "Direct: the host answers without a relay.";
    case RIFT_PUNCH_NO_CANDIDATES:
        return "Relayed because the host named no address that can be tried.";
    case RIFT_PUNCH_NO_ANSWER:
        return is_symmetric(w)
                   ? "Relayed because the router here gives every connection another port, and the host's "
                     "router or firewall lets none in."
                   : "Relayed because none of the host's addresses answered: a router or firewall on the "
                     "way lets nothing through.";
    case RIFT_PUNCH_FELL_SILENT:
        return "Relayed because the direct way stopped answering; it is tried again.";
    case RIFT_PUNCH_NOT_YET:
        break;
    }
    return "Relayed because the direct way answered late; it is about to be taken.";
}

void wv_ways_tell(const struct wv_ways *w, struct wv_client_stats *stats)
{
    struct rift_punch_status s = {0};
    char host[INET6_ADDRSTRLEN];
    if (w->punch)
        rift_punch_get_status(w->punch, &s);
    stats->path = !s.has_path ? "" : s.relayed ? "relayed" : "direct";
    stats->path_why = why_text(w, &s);
    stats->path_switches = w->switches + s.switches;
    stats->path_address[0] = '\0';
    if (!s.has_path)
        return;
    const struct rift_relay_place *p = &w->relays.newest;
    if (s.relayed && !memcmp(w->relays.before.name, s.address, sizeof s.address))
        p = &w->relays.before;
    const uint8_t *a = s.relayed ? p->address : s.address;
    bool v4 = a[10] == 0xff && a[11] == 0xff && !a[0];
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a + 12 : a, host, sizeof host);
    snprintf(stats->path_address, sizeof stats->path_address, v4 ? "%s:%u" : "[%s]:%u", host,
             (unsigned)a[16] << 8 | a[17]);
}
