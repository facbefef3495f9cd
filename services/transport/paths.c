/* Ways to announced clients: offers and leases from identity, knocks, and what goes through relays. Must
 * never send anything to an address that only a stranger named, nor allocate for a datagram. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_paths.pb-c.h"
#include "services/transport/internal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#define IDLE_NS         (75 * WV_NS_PER_S) /* a way that nobody uses is forgotten after this */
#define STATES_NS       (5 * WV_NS_PER_S)
#define RELAY_SILENT_NS (30 * WV_NS_PER_S)
#define YOUNG_NS        (10 * WV_NS_PER_S) /* such a one does not make room for another */

static struct way *find_id(struct wv_transport *t, const uint8_t *id)
{
    for (size_t i = 0; i < t->ways.top; i++)
        if (t->ways.way[i].used && !memcmp(t->ways.way[i].id, id, WAY_ID_BYTES))
            return &t->ways.way[i];
    return NULL;
}

static struct way *find_name(struct wv_transport *t, const uint8_t *name)
{
    for (size_t i = 0; i < t->ways.top; i++) {
        struct way *w = &t->ways.way[i];
        if (w->used && rift_relay_pair_find(&w->relays, name))
            return w;
    }
    return NULL;
}

static struct session *session_of(struct wv_transport *t, const struct way *w)
{
    for (size_t i = 0; i < t->top; i++)
        if (session_is_open(&t->slots[i]) && !memcmp(t->slots[i].peer_key, w->peer_key, KEY_BYTES))
            return &t->slots[i];
    return NULL;
}

struct way *paths_of(struct wv_transport *t, const struct session *s)
{
    struct way *best = NULL;
    for (size_t i = 0; i < t->ways.top; i++) {
        struct way *w = &t->ways.way[i];
        if (!w->used || memcmp(w->peer_key, s->peer_key, KEY_BYTES) != 0)
            continue;
        if (rift_relay_pair_find(&w->relays, s->address.bytes))
            return w;
        if (!best || w->since_ns >= best->since_ns)
            best = w;
    }
    return best;
}

static void forget(struct wv_transport *t, struct way *w)
{
    way_free(w);
    while (t->ways.top && !t->ways.way[t->ways.top - 1].used)
        t->ways.top--;
}

void paths_free(struct wv_transport *t)
{
    for (size_t i = 0; i < WAYS_MAX; i++)
        way_free(&t->ways.way[i]);
    t->ways.top = 0;
}

void paths_forget_key(struct wv_transport *t, const uint8_t key[KEY_BYTES])
{
    for (size_t i = 0; i < t->ways.top; i++)
        if (t->ways.way[i].used && !memcmp(t->ways.way[i].peer_key, key, KEY_BYTES))
            t->ways.way[i].heard_ns = 0; /* not before its session's goodbye has left that way */
}

/* A session goes through it, or a handshake may. */
static bool is_in_use(struct wv_transport *t, struct way *w)
{
    struct session *s = session_of(t, w);
    return s && paths_of(t, s) == w;
}

static struct way *take_place(struct wv_transport *t, const uint8_t *key, uint64_t now)
{
    struct way *oldest = NULL;
    for (size_t i = 0; i < t->ways.top;
         i++) { /* an older offer of the same client is of no use to it any more */
        struct way *w = &t->ways.way[i];
        if (w->used && !memcmp(w->peer_key, key, KEY_BYTES) && !is_in_use(t, w))
            way_free(w);
    }
    for (size_t i = 0; i < WAYS_MAX; i++) {
        struct way *w = &t->ways.way[i];
        if (!w->used) {
            t->ways.top = WV_MAX(t->ways.top, i + 1);
            return w;
        }
        if (!is_in_use(t, w) && now - w->since_ns >= YOUNG_NS && (!oldest || w->since_ns < oldest->since_ns))
            oldest = w;
    }
    if (oldest)
        way_free(oldest);
    return oldest;
}

/* Routers and relays know this host by an address that it may have no more. */
void paths_network_changed(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->ways.top; i++) {
        struct way *w = &t->ways.way[i];
        if (!w->used)
            continue;
        rift_relay_pair_moved(&w->relays, now);
        rift_punch_network_changed(w->punch, now);
    }
}

/* ---- identity's word ---- */

static bool is_well_formed(const Wavry__Bus__PathOffer *m)
{
    return m->id.len == WAY_ID_BYTES && m->client_key.len == KEY_BYTES &&
           m->punch_secret.len == RIFT_KNOCK_SECRET_BYTES && m->n_candidates <= RIFT_PUNCH_CANDIDATES;
}

static void add_candidates(struct wv_transport *t, struct way *w, const Wavry__Bus__PathOffer *m,
                           uint64_t now)
{
    for (size_t i = 0; i < m->n_candidates; i++) {
        const Wavry__Bus__PathCandidate *from = m->candidates[i];
        struct rift_candidate c = {.kind = (uint8_t)WV_MIN(from->kind, 255u), .priority = from->priority};
        struct wv_address address;
        if (from->address.len != sizeof c.address)
            continue;
        memcpy(c.address, from->address.data, sizeof c.address);
        memcpy(address.bytes, c.address, sizeof address.bytes);
        if (wv_udp_reaches(t->udp, &address))
            (void)rift_punch_add(w->punch, &c, now);
    }
}

static struct way *begin(struct wv_transport *t, const Wavry__Bus__PathOffer *m, uint64_t now)
{
    struct rift_punch *punch;
    struct way *w = take_place(t, m->client_key.data, now);
    if (!w || rift_punch_new(&punch, RIFT_ROLE_HOST, m->punch_secret.data, now) < 0)
        return NULL;
    *w = (struct way){.used = true, .punch = punch, .since_ns = now, .heard_ns = now};
    memcpy(w->id, m->id.data, sizeof w->id);
    memcpy(w->peer_key, m->client_key.data, sizeof w->peer_key);
    memcpy(w->secret, m->punch_secret.data, sizeof w->secret);
    crypto_sign_keypair(w->relay_public, w->relay_secret);
    for (size_t i = 0; i < t->ways.n_stun; i++)
        if (t->ways.stun[i].known)
            rift_punch_set_own(punch, t->ways.stun[i].reflexive);
    add_candidates(t, w, m, now);
    wv_metric_add(t->metrics, WV_T_PATH_OFFERS, 1);
    return w;
}

static void answer_offer(struct wv_transport *t, const ProtobufCBinaryData *id, struct way *w)
{
    Wavry__Bus__PathCandidate candidates[STUN_SERVERS], *list[STUN_SERVERS];
    Wavry__Bus__PathAnswer answer = WAVRY__BUS__PATH_ANSWER__INIT;
    answer.id = *id;
    answer.refused = w ? "" : "too many clients knock at once";
    answer.candidates = list;
    for (size_t i = 0; w && i < t->ways.n_stun; i++) {
        struct stun_server *s = &t->ways.stun[i];
        size_t n = answer.n_candidates;
        if (!s->known)
            continue;
        wavry__bus__path_candidate__init(&candidates[n]);
        candidates[n].address = (ProtobufCBinaryData){.len = sizeof s->reflexive, .data = s->reflexive};
        candidates[n].kind = RIFT_CANDIDATE_REFLEXIVE;
        candidates[n].priority = 100;
        list[answer.n_candidates++] = &candidates[n];
    }
    if (w)
        answer.relay_key = (ProtobufCBinaryData){.len = sizeof w->relay_public, .data = w->relay_public};
    (void)wv_bus_send(t->links.identity,
                      &answer.base); /* unsent: identity is gone, and the client asks again */
}

void paths_answer_again(struct wv_transport *t)
{
    for (size_t i = 0; i < t->ways.top; i++) {
        struct way *w = &t->ways.way[i];
        ProtobufCBinaryData id = {.len = sizeof w->id, .data = w->id};
        if (w->used && is_in_use(t, w))
            answer_offer(t, &id, w);
    }
}

int on_path_offer(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__PathOffer *m = (const Wavry__Bus__PathOffer *)base;
    if (t->draining || !is_well_formed(m))
        return 0;
    struct way *w = find_id(t, m->id.data);
    answer_offer(t, &m->id, w ? w : begin(t, m, now));
    transport_pump(t, now);
    return 0;
}

int on_path_lease(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__PathLease *m = (const Wavry__Bus__PathLease *)base;
    struct way *w = m->id.len == WAY_ID_BYTES ? find_id(t, m->id.data) : NULL;
    struct wv_address address;
    if (!w || m->lease.len != RIFT_LEASE_BYTES || m->address.len != sizeof address.bytes)
        return 0;
    memcpy(address.bytes, m->address.data, sizeof address.bytes);
    if (!rift_punch_may_try(address.bytes) || !wv_udp_reaches(t->udp, &address)) {
        wv_warning("a lease names a relay that can't be reached", "session=none");
        return 0;
    }
    struct session *s = session_of(t, w);
    int r = rift_relay_pair_take(&w->relays, w->punch, m->lease.data, address.bytes, w->relay_secret,
                                 s ? s->address.bytes : NULL, now);
    if (r < 0) {
        wv_warning("a lease is of no use", "error=\"%s\"", strerror(-r));
        return 0;
    }
    if (s)
        s->keep_dirty = true;
    transport_pump(t, now);
    return 0;
}

/* ---- in ---- */

static bool take_knock(struct wv_transport *t, const struct wv_address *from, const uint8_t *id,
                       const uint8_t *datagram, size_t len, uint64_t now)
{
    struct way *w = NULL;
    for (size_t i = 0; i < t->ways.top && !w; i++)
        if (t->ways.way[i].used && !memcmp(rift_punch_id(t->ways.way[i].punch), id, RIFT_KNOCK_ID_BYTES))
            w = &t->ways.way[i];
    int r = w ? rift_punch_receive(w->punch, from->bytes, datagram, len, now) : RIFT_PUNCH_DROPPED;
    if (r == RIFT_PUNCH_DROPPED) {
        wv_metric_add(t->metrics, WV_T_DROPPED_KNOCK, 1);
        return false;
    }
    w->heard_ns = now;
    wv_metric_add(t->metrics, WV_T_KNOCKS_RECEIVED, 1);
    struct session *s = session_of(t, w);
    uint8_t before[RIFT_ADDRESS_BYTES];
    if (s)
        rift_quiet_heard(&s->quiet, now);
    if (!s || r != RIFT_PUNCH_USE)
        return true;
    rift_session_get_address(s->rift, before);
    if (memcmp(before, from->bytes, sizeof before) != 0) {
        rift_session_move_to(s->rift, from->bytes, now);
        wv_metric_add(t->metrics, WV_T_PATH_SWITCHES, 1);
    }
    return true;
}

static bool is_of_relay(uint8_t kind)
{
    return (kind >= RIFT_RELAY_REQUEST && kind <= RIFT_RELAY_PONG) || kind == RIFT_RELAY_DATA;
}

static bool take_relayed(struct wv_transport *t, const struct wv_address *from, enum rift_ecn ecn,
                         const uint8_t *datagram, size_t len, uint64_t now)
{
    for (size_t i = 0; i < 2 * t->ways.top; i++) {
        struct way *w = &t->ways.way[i / 2];
        struct rift_relay_place *p = w->used ? rift_relay_pair_at(&w->relays, i % 2) : NULL;
        const uint8_t *payload;
        size_t payload_len;
        if (!p || memcmp(p->address, from->bytes, sizeof from->bytes) != 0)
            continue;
        int r = rift_relay_client_receive(p->client, datagram, len, now, (uint64_t)time(NULL), &payload,
                                          &payload_len);
        if (r == RIFT_RELAY_CLIENT_IDLE)
            continue;
        if (r == 0)
            return true;
        struct wv_address name;
        memcpy(name.bytes, p->name, sizeof name.bytes);
        return transport_take(t, &name, ecn, payload, payload_len, now);
    }
    wv_metric_add(t->metrics, WV_T_DROPPED_RELAY, 1);
    return false;
}

bool paths_receive(struct wv_transport *t, const struct wv_address *from, enum rift_ecn ecn,
                   const uint8_t *datagram, size_t len, uint64_t now)
{
    const uint8_t *id;
    bool relayed = rift_punch_is_relayed(from->bytes); /* a relay inside a relay there is not */
    if (rift_knock_is(datagram, len, &id))
        return take_knock(t, from, id, datagram, len, now);
    if (!relayed && rift_stun_is(datagram, len))
        return stun_receive(t, from, datagram, len, now);
    if (!relayed && len && is_of_relay(datagram[0]))
        return take_relayed(t, from, ecn, datagram, len, now);
    wv_metric_add(t->metrics, WV_T_DROPPED_MALFORMED, 1);
    return false;
}

/* ---- out ---- */

static struct wv_address place_address(const struct rift_relay_place *p)
{
    struct wv_address address;
    memcpy(address.bytes, p->address, sizeof address.bytes);
    return address;
}

void paths_commit(struct wv_transport *t, const struct wv_address *to, size_t len, uint8_t tos)
{
    uint8_t header[RIFT_RELAY_HEADER_BYTES];
    if (!rift_punch_is_relayed(to->bytes)) {
        if (wv_udp_reaches(t->udp, to))
            wv_udp_commit(t->udp, to, len, tos);
        return;
    }
    struct way *w = find_name(t, to->bytes);
    struct rift_relay_place *p = w ? rift_relay_pair_find(&w->relays, to->bytes) : NULL;
    if (!p || rift_relay_client_header(p->client, header) != 0)
        return;
    struct wv_address relay = place_address(p);
    wv_udp_commit_behind(t->udp, &relay, header, len, tos);
}

/* Nobody answers where the client said that a relay is. */
static void give_up_relay(struct way *w, uint64_t now)
{
    struct rift_relay_client_status s;
    struct rift_relay_place *p = rift_relay_pair_at(&w->relays, 0);
    if (!p)
        return;
    rift_relay_client_get_status(p->client, &s);
    if (!s.answered && s.state != RIFT_RELAY_CLIENT_BOUND && now - p->since_ns >= RELAY_SILENT_NS)
        rift_relay_pair_drop(&w->relays, w->punch, p);
}

static void send_to_relays(struct wv_transport *t, struct way *w, uint8_t tos, uint64_t now)
{
    for (unsigned i = 0; i < 2; i++) {
        struct rift_relay_place *p = rift_relay_pair_at(&w->relays, i);
        struct wv_address relay;
        uint8_t *slot;
        size_t len;
        if (!p)
            continue;
        relay = place_address(p);
        while ((slot = wv_udp_slot(t->udp)) &&
               rift_relay_client_send(p->client, slot, RIFT_MTU_BYTES, now, &len) == 0)
            wv_udp_commit(t->udp, &relay, len, tos);
    }
}

static void send_way(struct wv_transport *t, struct way *w, uint64_t now)
{
    uint8_t *slot, tos = wv_udp_tos(RIFT_CLASS_CONTROL, RIFT_ECN_NONE);
    struct wv_address to;
    struct session *s = rift_relay_pair_at(&w->relays, 1) ? session_of(t, w) : NULL;
    give_up_relay(w, now);
    if (rift_relay_pair_tidy(&w->relays, w->punch, s ? s->address.bytes : NULL, now) && s)
        s->keep_dirty = true;
    send_to_relays(t, w, tos, now);
    while ((slot = wv_udp_slot(t->udp)) && rift_punch_send(w->punch, slot, now, to.bytes) == 0) {
        paths_commit(t, &to, RIFT_KNOCK_BYTES, tos);
        wv_metric_add(t->metrics, WV_T_KNOCKS_SENT, 1);
    }
}

static void tell_states(struct wv_transport *t)
{
    Wavry__Bus__PathState states[SLOTS], *list[SLOTS];
    Wavry__Bus__PathStates message = WAVRY__BUS__PATH_STATES__INIT;
    message.states = list;
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        if (!session_is_live(s))
            continue;
        Wavry__Bus__PathState *m = list[message.n_states] = &states[message.n_states];
        message.n_states++;
        wavry__bus__path_state__init(m);
        m->session = s->number;
        m->client_key = (ProtobufCBinaryData){.len = sizeof s->peer_key, .data = s->peer_key};
        m->relayed = rift_punch_is_relayed(s->address.bytes);
        m->rtt_us = (uint32_t)WV_MIN(s->seen.rtt_ns / WV_NS_PER_US, (uint64_t)UINT32_MAX);
        uint64_t sent = s->seen.packets_sent - s->states_sent, lost = s->frames_lost - s->states_lost;
        m->loss_permille = sent ? (uint32_t)WV_MIN(lost * 1000 / sent, (uint64_t)1000) : 0;
        s->states_sent = s->seen.packets_sent;
        s->states_lost = s->frames_lost;
    }
    (void)wv_bus_send(t->links.reach, &message.base);
}

void paths_pump(struct wv_transport *t, uint64_t now)
{
    struct ways *ways = &t->ways;
    for (size_t i = ways->top; i-- > 0;) {
        struct way *w = &ways->way[i];
        if (w->used && now - w->heard_ns >= IDLE_NS && !is_in_use(t, w))
            forget(t, w);
        else if (w->used && !t->draining)
            send_way(t, w, now);
    }
    stun_pump(t, now);
    if (t->links.reach && t->n_live && now >= ways->states_at) {
        ways->states_at = now + STATES_NS;
        tell_states(t);
    }
}

uint64_t paths_timeout(const struct wv_transport *t)
{
    const struct ways *ways = &t->ways;
    uint64_t at = stun_timeout(t);
    if (t->links.reach && t->n_live)
        at = WV_MIN(at, ways->states_at);
    for (size_t i = 0; i < ways->top && !t->draining; i++) {
        const struct way *w = &ways->way[i];
        if (!w->used)
            continue;
        at = WV_MIN(at, rift_punch_timeout(w->punch));
        at = WV_MIN(at, rift_relay_pair_timeout(&w->relays));
        if (!session_of((struct wv_transport *)(uintptr_t)t, w))
            at = WV_MIN(at, w->heard_ns + IDLE_NS);
    }
    return at;
}

void paths_session_moved(struct wv_transport *t, struct session *s)
{
    t->ways.states_at = 0;
    s->keep_dirty = true;
}

/* ---- across a restart ---- */

struct way *paths_adopt(struct wv_transport *t, const struct way *from, const uint8_t peer_key[KEY_BYTES])
{
    for (size_t i = 0; i < WAYS_MAX; i++) {
        struct way *w = &t->ways.way[i];
        if (w->used)
            continue;
        *w = *from;
        memcpy(w->peer_key, peer_key, KEY_BYTES);
        t->ways.top = WV_MAX(t->ways.top, i + 1);
        return w;
    }
    return NULL;
}
