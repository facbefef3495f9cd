/* The reach stage's work; see reach.h. Must never believe a gateway more than that it carries bytes, or hand
 * identity more of it than the bus takes. */
#include "services/reach/reach.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_paths.pb-c.h"
#include "rift/crypto/identity.h"
#include "services/reach/addresses.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define ASK_NS          (100 * WV_NS_PER_MS) /* until identity has answered */
#define TELL_NS         (2 * WV_NS_PER_S)    /* either of the two may have been started again */
#define CANDIDATES      12
#define KIND_LOCAL      1
#define KIND_MAPPED     3
#define PRIORITY_MAPPED 180
#define SESSIONS_MAX    64
#define SEEN_MAX        4
/* Of what the gateway says: identity, the router and transport have their turns. */
#define EVENTS_AT_ONCE  8
#define EVENTS_APART_NS (20 * WV_NS_PER_MS)

const struct wv_metric wv_reach_metrics[WV_REACH_METRICS] = {
    [WV_REACH_CONNECTED] = {"gateway_connected", "connections", WV_METRIC_GAUGE,
                            "1 while this host is signed in to its gateway."},
    [WV_REACH_CONNECTS] = {"gateway_connects_total", "connections", WV_METRIC_COUNTER,
                           "Times that this host signed in to its gateway."},
    [WV_REACH_LOST] = {"gateway_failures_total", "connections", WV_METRIC_COUNTER,
                       "Connections to the gateway that ended or did not come about."},
    [WV_REACH_SIGNALS_IN] = {"signals_in_total", "messages", WV_METRIC_COUNTER,
                             "Sealed messages of clients that were handed to identity."},
    [WV_REACH_SIGNALS_OUT] = {"signals_out_total", "messages", WV_METRIC_COUNTER,
                              "Sealed messages of identity that were handed to the gateway."},
    [WV_REACH_SIGNALS_DROPPED] = {"signals_dropped_total", "messages", WV_METRIC_COUNTER,
                                  "Sealed messages that could not be passed on; clients try again."},
    [WV_REACH_CANDIDATES] = {"addresses", "addresses", WV_METRIC_GAUGE,
                             "Addresses of this machine that clients are told of."},
    [WV_REACH_MAPPED] = {"port_mapped", "ports", WV_METRIC_GAUGE,
                         "1 while a router forwards a port to this host."},
    [WV_REACH_MAPPED_BY] = {"port_mapped_by", "protocol", WV_METRIC_GAUGE,
                            "What the router was asked by: 1 PCP, 2 NAT-PMP, 3 UPnP; 0: no port is mapped."},
    [WV_REACH_PINHOLE] = {"ipv6_pinhole", "ports", WV_METRIC_GAUGE,
                          "1 while a router's firewall lets IPv6 in to this host's port (PCP)."},
    [WV_REACH_ROUTER_RESTARTS] =
        {"router_restarts_total", "routers", WV_METRIC_COUNTER,
         "Times that a router had forgotten this host's mapping and was asked again (PCP)."},
    [WV_REACH_ANNOUNCED] = {"mdns_announced", "names", WV_METRIC_GAUGE,
                            "1 while this host is announced on the local network."},
};

struct wv_reach {
    struct wv_reach_setup s;
    struct wv_loop_source *timer, *gateway_source, *mapping_source, *watch_source, *rest;
    uint64_t rest_until;                     /* what the gateway says waits until then */
    bool asked;                              /* identity has said which gateway */
    bool online, network_changed, signed_in; /* the last: transport has not heard it */
    uint32_t token;                          /* of the newest challenge */
    uint8_t challenge[32];
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    struct wv_gateway_url url; /* port 0: none */
    uint16_t port;             /* of transport's socket; 0: not known yet */
    uint8_t stun[WV_LIVE_STUN_MAX][WV_LIVE_ADDRESS_BYTES];
    size_t n_stun;
    uint8_t seen[SEEN_MAX][18]; /* how STUN servers see transport's socket */
    size_t n_seen;
    struct wv_mapping_state mapped;
    bool mapping_failed; /* was said */
    struct wv_reach_address local[WV_REACH_ADDRESSES_MAX];
    size_t n_local;
    char announced_key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint16_t announced_port;
    char gateway_text[WV_LIVE_TEXT_BYTES + WV_GATEWAY_NAME_BYTES + 8];
    char status[WV_LIVE_TEXT_BYTES + WV_GATEWAY_NAME_BYTES + 264];
    struct wv_gateway_event event; /* large */
};

static bool tell(struct wv_reach *r, enum wv_reach_to to, const ProtobufCMessage *m)
{
    return r->s.send(r->s.userdata, to, m) != WV_BUS_UNSENT;
}

/* ---- the router ---- */

static bool is_offered(const struct wv_reach *r, const uint8_t address[18])
{
    return wv_reach_is_offered(address, r->seen, r->n_seen);
}

static bool is_local(const struct wv_reach *r, const uint8_t address[18])
{
    for (size_t i = 0; i < r->n_local; i++)
        if (!memcmp(r->local[i].address, address, 18))
            return true;
    return false;
}

static void describe_mapping(const struct wv_reach *r, char *text, size_t size)
{
    const struct wv_mapping_state *m = &r->mapped;
    unsigned port = (unsigned)m->address[16] << 8 | m->address[17];
    const char *method = wv_mapping_method_name(m->method);
    int n = 0;
    text[0] = '\0';
    if (method && is_offered(r, m->address))
        n = snprintf(text, size, "; the router forwards port %u (%s)", port, method);
    else if (method)
        n = snprintf(text, size, "; the router forwards port %u (%s), but another router stands before it",
                     port, method);
    if (m->pinhole && n >= 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, "; the router lets IPv6 in (PCP)");
}

/* Once for each change. */
static void log_mapping(struct wv_reach *r, const struct wv_mapping_state *before)
{
    const struct wv_mapping_state *m = &r->mapped;
    const char *method = wv_mapping_method_name(m->method);
    if (method && (m->method != before->method || memcmp(m->address, before->address, 18) != 0))
        wv_notice("the router forwards a port to this host", "by=%s port=%u private=%s", method,
                  (unsigned)m->address[16] << 8 | m->address[17],
                  wv_reach_scope(m->address) == WV_REACH_SCOPE_GLOBAL ? "no" : "yes");
    if (m->pinhole && !before->pinhole)
        wv_notice("the router's firewall lets IPv6 in to this host", "by=PCP");
    if (m->restarts != before->restarts)
        wv_notice("the router had forgotten what it was asked, and is asked again", "times=%u", m->restarts);
    if (method || m->pinhole) {
        r->mapping_failed = false;
    } else if (m->tried && !r->mapping_failed) {
        r->mapping_failed = true;
        wv_notice("no router here forwards a port; clients find other ways", "tried=\"PCP NAT-PMP UPnP\"");
    }
}

static void read_mapping(struct wv_reach *r)
{
    struct wv_mapping_state before = r->mapped;
    if (!r->s.mapping)
        return;
    wv_mapping_get(r->s.mapping, &r->mapped);
    log_mapping(r, &before);
    wv_metric_add(r->s.metrics, WV_REACH_ROUTER_RESTARTS, r->mapped.restarts - before.restarts);
}

/* ---- what a person sees ---- */

static void show(struct wv_reach *r)
{
    static const char *const words[] = {[WV_ANNOUNCE_NO_DAEMON] = "not announced: no avahi-daemon answers",
                                        [WV_ANNOUNCE_WAITING] = "being announced on the local network",
                                        [WV_ANNOUNCE_OK] = "announced on the local network",
                                        [WV_ANNOUNCE_FAILED] = "not announced: avahi-daemon refuses"};
    char text[sizeof r->status], mapped[sizeof r->status - sizeof r->gateway_text - 64];
    enum wv_announce_state state = r->s.announce ? wv_announce_state(r->s.announce) : WV_ANNOUNCE_WAITING;
    describe_mapping(r, mapped, sizeof mapped);
    snprintf(text, sizeof text, "%s%s%s%s", r->gateway_text, r->s.announce ? "; " : "",
             r->s.announce ? words[state] : "", mapped);
    wv_metric_set(r->s.metrics, WV_REACH_ANNOUNCED, r->s.announce && state == WV_ANNOUNCE_OK);
    wv_metric_set(r->s.metrics, WV_REACH_MAPPED, r->mapped.method != WV_MAPPING_NONE);
    wv_metric_set(r->s.metrics, WV_REACH_MAPPED_BY, r->mapped.method);
    wv_metric_set(r->s.metrics, WV_REACH_PINHOLE, r->mapped.pinhole);
    wv_metric_set(r->s.metrics, WV_REACH_CONNECTED, r->online);
    if (!strcmp(text, r->status))
        return;
    snprintf(r->status, sizeof r->status, "%s", text);
    r->s.status(r->s.userdata, text);
}

/* ---- telling ---- */

static void add_candidate(Wavry__Bus__LocalCandidates *m, Wavry__Bus__PathCandidate *room, uint8_t *address,
                          uint32_t kind, uint32_t priority)
{
    Wavry__Bus__PathCandidate *c = &room[m->n_candidates];
    wavry__bus__path_candidate__init(c);
    c->address = (ProtobufCBinaryData){.len = WV_REACH_ADDRESS_BYTES, .data = address};
    c->kind = kind;
    c->priority = priority;
    m->candidates[m->n_candidates++] = c;
}

static void tell_candidates(struct wv_reach *r)
{
    Wavry__Bus__LocalCandidates m = WAVRY__BUS__LOCAL_CANDIDATES__INIT;
    Wavry__Bus__PathCandidate room[CANDIDATES], *list[CANDIDATES];
    struct wv_mapping_state *p = &r->mapped;
    m.candidates = list;
    for (size_t i = 0; i < r->n_local; i++)
        add_candidate(&m, room, r->local[i].address, KIND_LOCAL, r->local[i].priority);
    if (p->method != WV_MAPPING_NONE && is_offered(r, p->address))
        add_candidate(&m, room, p->address, KIND_MAPPED, PRIORITY_MAPPED);
    if (p->pinhole && is_offered(r, p->pinhole_address) && !is_local(r, p->pinhole_address))
        add_candidate(&m, room, p->pinhole_address, KIND_MAPPED, PRIORITY_MAPPED); /* a translated prefix */
    wv_metric_set(r->s.metrics, WV_REACH_CANDIDATES, m.n_candidates);
    (void)tell(r, WV_REACH_TO_IDENTITY, &m.base);
}

static void tell_transport(struct wv_reach *r)
{
    Wavry__Bus__StunServers m = WAVRY__BUS__STUN_SERVERS__INIT;
    ProtobufCBinaryData list[WV_LIVE_STUN_MAX];
    for (size_t i = 0; i < r->n_stun; i++)
        list[i] = (ProtobufCBinaryData){.len = WV_LIVE_ADDRESS_BYTES, .data = r->stun[i]};
    m.address = list;
    m.n_address = r->n_stun;
    m.network_changed = r->network_changed;
    m.signed_in = r->signed_in;
    if (tell(r, WV_REACH_TO_TRANSPORT, &m.base))
        r->network_changed = r->signed_in = false;
}

static void ask_gateway(struct wv_reach *r)
{
    Wavry__Bus__GatewayQuestion m = WAVRY__BUS__GATEWAY_QUESTION__INIT;
    (void)tell(r, WV_REACH_TO_IDENTITY, &m.base);
}

/* Says where this host is to the router and the local network, when that has changed. */
static void follow_place(struct wv_reach *r)
{
    r->n_local = r->port && r->url.port ? wv_reach_addresses(r->port, r->local) : 0;
    if (r->s.mapping)
        wv_mapping_want(r->s.mapping, r->url.port ? r->port : 0);
    if (!r->s.announce || !r->key[0])
        return;
    if (r->announced_port == r->port && !strcmp(r->announced_key, r->key))
        return;
    snprintf(r->announced_key, sizeof r->announced_key, "%s", r->key);
    r->announced_port = r->port;
    wv_announce_set(r->s.announce, r->s.name, r->key, r->port);
}

static int on_timer(void *userdata, uint64_t now)
{
    struct wv_reach *r = userdata;
    if (!r->asked)
        ask_gateway(r);
    follow_place(r);
    tell_candidates(r);
    tell_transport(r);
    show(r);
    wv_loop_timer_at(r->timer, now + (r->asked && (r->port || !r->url.port) ? TELL_NS : ASK_NS));
    return 0;
}

/* ---- identity ---- */

static int on_gateway_is(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_reach *r = userdata;
    const Wavry__Bus__GatewayIs *m = (const Wavry__Bus__GatewayIs *)base;
    struct wv_gateway_url url = {0};
    if (m->key.len != 32)
        return 0;
    rift_public_key_format(m->key.data, r->key);
    if (m->url[0] && wv_gateway_url_parse(m->url, &url) < 0)
        url = (struct wv_gateway_url){0};
    if (!r->asked || strcmp(r->url.name, url.name) != 0 || r->url.tls != url.tls) {
        r->online = false;
        r->n_stun = 0;
        if (url.port)
            snprintf(r->gateway_text, sizeof r->gateway_text, "signing in to %s", url.name);
        else
            snprintf(r->gateway_text, sizeof r->gateway_text, "registered with no gateway");
    }
    r->asked = true;
    r->url = url;
    wv_gateway_live_aim(r->s.gateway, url.port ? &r->url : NULL, r->key);
    return on_timer(r, now);
}

static int on_signature(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_reach *r = userdata;
    const Wavry__Bus__GatewaySignature *m = (const Wavry__Bus__GatewaySignature *)base;
    if (m->token == r->token && m->signature.len == 64)
        wv_gateway_live_sign(r->s.gateway, r->challenge, m->signature.data);
    else if (m->token == r->token)
        wv_warning("identity did not sign for the gateway", "gateway=\"%s\"", r->url.name);
    return 0;
}

static int on_sealed(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_reach *r = userdata;
    const Wavry__Bus__SealedSignal *m = (const Wavry__Bus__SealedSignal *)base;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    if (m->peer_key.len != 32)
        return 0;
    rift_public_key_format(m->peer_key.data, key);
    int sent = wv_gateway_live_signal(r->s.gateway, key, m->id, m->sealed.data, m->sealed.len);
    wv_metric_add(r->s.metrics, sent == 0 ? WV_REACH_SIGNALS_OUT : WV_REACH_SIGNALS_DROPPED, 1);
    return 0;
}

/* ---- transport ---- */

static int on_addresses(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_reach *r = userdata;
    const Wavry__Bus__TransportAddresses *m = (const Wavry__Bus__TransportAddresses *)base;
    if (m->unheard)
        wv_gateway_live_moved(r->s.gateway);
    r->n_seen = 0;
    for (size_t i = 0; i < m->n_reflexive && r->n_seen < SEEN_MAX; i++)
        if (m->reflexive[i].len == sizeof r->seen[0])
            memcpy(r->seen[r->n_seen++], m->reflexive[i].data, sizeof r->seen[0]);
    if (m->port > UINT16_MAX || m->port == r->port)
        return 0;
    r->port = (uint16_t)m->port;
    follow_place(r);
    tell_candidates(r);
    return 0;
}

static int on_paths(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_reach *r = userdata;
    const Wavry__Bus__PathStates *m = (const Wavry__Bus__PathStates *)base;
    static struct wv_gateway_session list[SESSIONS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < m->n_states && n < SESSIONS_MAX; i++) {
        const Wavry__Bus__PathState *p = m->states[i];
        if (p->client_key.len != 32)
            continue;
        rift_public_key_format(p->client_key.data, list[n].peer);
        list[n].relayed = p->relayed;
        list[n].rtt_us = p->rtt_us;
        list[n++].loss_permille = p->loss_permille;
    }
    if (r->online)
        (void)wv_gateway_live_sessions(r->s.gateway, list, n);
    return 0;
}

const struct wv_bus_rule wv_reach_rules[WV_REACH_RULES] = {
    {"identity", &wavry__bus__gateway_is__descriptor, WV_PHASE_RUN, 50, 512, on_gateway_is},
    {"identity", &wavry__bus__gateway_signature__descriptor, WV_PHASE_RUN, 20, 512, on_signature},
    {"identity", &wavry__bus__sealed_signal__descriptor, WV_PHASE_RUN, 100, 8192, on_sealed},
    {"transport", &wavry__bus__transport_addresses__descriptor, WV_PHASE_RUN, 50, 512, on_addresses},
    {"transport", &wavry__bus__path_states__descriptor, WV_PHASE_RUN, 20, 8192, on_paths},
};

/* ---- the gateway ---- */

static void on_challenge(struct wv_reach *r, struct wv_gateway_event *e)
{
    Wavry__Bus__GatewayChallenge m = WAVRY__BUS__GATEWAY_CHALLENGE__INIT;
    m.token = ++r->token;
    memcpy(r->challenge, e->challenge, sizeof r->challenge);
    m.name = r->url.name;
    m.challenge = (ProtobufCBinaryData){.len = sizeof e->challenge, .data = e->challenge};
    (void)tell(r, WV_REACH_TO_IDENTITY, &m.base); /* unsent: the next try asks again */
}

static void on_signal(struct wv_reach *r, struct wv_gateway_event *e)
{
    Wavry__Bus__SealedSignal m = WAVRY__BUS__SEALED_SIGNAL__INIT;
    uint8_t key[32];
    bool passed = rift_public_key_parse(e->key, key) == 0;
    m.peer_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    m.id = e->id;
    m.sealed = (ProtobufCBinaryData){.len = e->sealed_len, .data = e->sealed};
    passed = passed && tell(r, WV_REACH_TO_IDENTITY, &m.base);
    wv_metric_add(r->s.metrics, passed ? WV_REACH_SIGNALS_IN : WV_REACH_SIGNALS_DROPPED, 1);
}

static void on_welcome(struct wv_reach *r, const struct wv_gateway_event *e)
{
    r->online = r->signed_in = true;
    memcpy(r->stun, e->stun, sizeof r->stun);
    r->n_stun = e->n_stun;
    wv_metric_add(r->s.metrics, WV_REACH_CONNECTS, 1);
    wv_notice("signed in to the gateway", "gateway=\"%s\" stun=%zu", r->url.name, e->n_stun);
    snprintf(r->gateway_text, sizeof r->gateway_text, "signed in to %s", r->url.name);
    tell_transport(r);
}

static void on_lost(struct wv_reach *r, const struct wv_gateway_event *e)
{
    r->online = false;
    wv_metric_add(r->s.metrics, WV_REACH_LOST, 1);
    wv_warning("the gateway can't be used; sessions go on, and it is tried again",
               "gateway=\"%s\" why=\"%s\"", r->url.name, e->text);
    snprintf(r->gateway_text, sizeof r->gateway_text, "%s: %s", r->url.name, e->text);
}

static void take_event(struct wv_reach *r)
{
    struct wv_gateway_event *e = &r->event;
    switch (e->kind) {
    case WV_GATEWAY_CHALLENGE:
        on_challenge(r, e);
        break;
    case WV_GATEWAY_WELCOME:
        on_welcome(r, e);
        break;
    case WV_GATEWAY_LOST:
    case WV_GATEWAY_DENIED:
        on_lost(r, e);
        break;
    case WV_GATEWAY_SIGNAL:
        on_signal(r, e);
        break;
    case WV_GATEWAY_ERROR: /* the client has left, as a rule */
        wv_debug("the gateway did not take a message", "error=\"%s\"", e->error);
        break;
    case WV_GATEWAY_SENT:
    case WV_GATEWAY_LEASE:
        break;
    }
}

/* A gateway may say as much as it likes: it waits, and is dropped in the end. */
static int on_rest(void *userdata, uint64_t now)
{
    struct wv_reach *r = userdata;
    int n = 0;
    while (n < EVENTS_AT_ONCE && wv_gateway_live_next(r->s.gateway, &r->event)) {
        take_event(r);
        n++;
    }
    if (n == EVENTS_AT_ONCE) {
        r->rest_until = now + EVENTS_APART_NS;
        wv_loop_timer_at(r->rest, r->rest_until);
    }
    show(r);
    return 0;
}

static int on_gateway(void *userdata, uint64_t now)
{
    struct wv_reach *r = userdata;
    return now < r->rest_until ? 0 : on_rest(r, now);
}

static int on_mapping(void *userdata, uint64_t now)
{
    struct wv_reach *r = userdata;
    read_mapping(r);
    tell_candidates(r);
    show(r);
    return 0;
}

static int on_network(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_reach *r = userdata;
    struct wv_reach_address before[WV_REACH_ADDRESSES_MAX];
    size_t n = r->n_local;
    wv_reach_watched(r->s.watch_fd);
    memcpy(before, r->local, sizeof before);
    follow_place(r);
    bool same = n == r->n_local && !memcmp(before, r->local, n * sizeof *before);
    if (r->s.mapping)
        wv_mapping_look(r->s.mapping, !same);
    if (same)
        return 0;
    r->network_changed = true;
    wv_gateway_live_moved(r->s.gateway);
    tell_candidates(r);
    tell_transport(r);
    return 0;
}

int wv_reach_new(struct wv_reach **ret, const struct wv_reach_setup *setup)
{
    struct wv_reach *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->s = *setup;
    snprintf(r->gateway_text, sizeof r->gateway_text, "asking identity for the gateway");
    *ret = r;
    return 0;
}

struct wv_reach *wv_reach_free(struct wv_reach *r)
{
    free(r);
    return NULL;
}

int wv_reach_start(struct wv_reach *r, uint64_t now)
{
    int error = wv_loop_add_timer(r->s.loop, on_timer, r, &r->timer);
    if (error == 0)
        error = wv_loop_add_timer(r->s.loop, on_rest, r, &r->rest);
    if (error == 0)
        error = wv_loop_add_eventfd(r->s.loop, wv_gateway_live_fd(r->s.gateway), on_gateway, r,
                                    &r->gateway_source);
    if (error == 0 && r->s.mapping)
        error =
            wv_loop_add_eventfd(r->s.loop, wv_mapping_fd(r->s.mapping), on_mapping, r, &r->mapping_source);
    if (error == 0 && r->s.watch_fd >= 0)
        error = wv_loop_add_fd(r->s.loop, r->s.watch_fd, EPOLLIN, on_network, r, &r->watch_source);
    return error < 0 ? error : on_timer(r, now);
}
