/* Asks STUN servers, from the socket of the sessions, which address that socket has outside. Servers are
 * addresses that reach named: no name is ever resolved here. Must never believe an answer to a question that
 * was not asked. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_paths.pb-c.h"
#include "services/transport/internal.h"

#include <sodium.h>
#include <string.h>

#define FIRST_NS (250 * WV_NS_PER_MS) /* RFC 8489 has 500 ms; a client waits for this */
#define TRIES    5
#define AGAIN_NS (25 * WV_NS_PER_S) /* keeps the NAT's mapping for those who are told of it */
#define DOUBT_NS WV_NS_PER_S        /* between doubts */
#define AGAIN_MOST_NS                                                                                        \
    (20 * WV_NS_PER_S) /* so long clients may be told of a new address through the gateway */

static void ask(struct stun_server *s, uint64_t now)
{
    randombytes_buf(s->id, sizeof s->id);
    s->tries = 0;
    s->due_ns = now;
}

static void tell_reach(struct wv_transport *t)
{
    ProtobufCBinaryData list[STUN_SERVERS];
    Wavry__Bus__TransportAddresses message = WAVRY__BUS__TRANSPORT_ADDRESSES__INIT;
    message.reflexive = list;
    for (size_t i = 0; i < t->ways.n_stun; i++)
        if (t->ways.stun[i].known)
            list[message.n_reflexive++] =
                (ProtobufCBinaryData){.len = RIFT_ADDRESS_BYTES, .data = t->ways.stun[i].reflexive};
    message.port = wv_udp_port(t->udp);
    message.unheard = t->ways.doubted;
    t->ways.tell_reach = wv_bus_send(t->links.reach, &message.base) == WV_BUS_UNSENT && t->links.reach;
    t->ways.doubted = t->ways.doubted && t->ways.tell_reach;
}

int on_stun_servers(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    struct ways *ways = &t->ways;
    const Wavry__Bus__StunServers *m = (const Wavry__Bus__StunServers *)base;
    struct stun_server before[STUN_SERVERS];
    size_t n_before = ways->n_stun;
    memcpy(before, ways->stun, sizeof before);
    ways->n_stun = 0;
    for (size_t i = 0; i < m->n_address && ways->n_stun < STUN_SERVERS; i++) {
        struct stun_server *s = &ways->stun[ways->n_stun];
        *s = (struct stun_server){0};
        if (m->address[i].len != sizeof s->address.bytes)
            continue;
        memcpy(s->address.bytes, m->address[i].data, sizeof s->address.bytes);
        if (!rift_punch_may_try(s->address.bytes) || !wv_udp_reaches(t->udp, &s->address))
            continue;
        for (size_t j = 0; j < n_before && !m->network_changed; j++)
            if (!memcmp(before[j].address.bytes, s->address.bytes, sizeof s->address.bytes))
                *s = before[j];
        if (!s->known)
            ask(s, now);
        ways->n_stun++;
    }
    if (m->network_changed)
        paths_network_changed(t, now);
    if (m->signed_in && now < ways->again_until) {
        ways->again_until = 0;
        paths_answer_again(t);
    }
    tell_reach(t);
    transport_pump(t, now);
    return 0;
}

void stun_doubt(struct wv_transport *t, uint64_t now)
{
    struct ways *ways = &t->ways;
    if (ways->doubted_ns && now - ways->doubted_ns < DOUBT_NS)
        return;
    ways->doubted_ns = now;
    ways->doubted = ways->tell_reach = true;
    wv_metric_add(t->metrics, WV_T_NETWORK_DOUBTS, 1);
    for (size_t i = 0; i < ways->n_stun; i++)
        ask(&ways->stun[i], now);
}

/* Our address outside is another one: clients are told, by knocks and by reach. */
static void moved_outside(struct wv_transport *t, const uint8_t *address, bool again, uint64_t now)
{
    for (size_t i = 0; i < t->ways.top; i++) {
        struct way *w = &t->ways.way[i];
        if (!w->used)
            continue;
        rift_punch_set_own(w->punch, address);
        if (again)
            rift_punch_reopen(w->punch, now);
    }
    t->ways.tell_reach = true;
    if (!again)
        return;
    t->ways.again_until = now + AGAIN_MOST_NS;
    paths_answer_again(t);
}

bool stun_receive(struct wv_transport *t, const struct wv_address *from, const uint8_t *datagram, size_t len,
                  uint64_t now)
{
    struct rift_stun_message m;
    for (size_t i = 0; i < t->ways.n_stun; i++) {
        struct stun_server *s = &t->ways.stun[i];
        if (!s->tries || memcmp(s->address.bytes, from->bytes, sizeof from->bytes) != 0 ||
            rift_stun_read(datagram, len, &m) < 0 || m.kind != RIFT_STUN_SUCCESS || m.method != 1 ||
            sodium_memcmp(m.id, s->id, sizeof s->id) != 0 || !m.has_address || m.unknown)
            continue;
        wv_metric_add(t->metrics, WV_T_STUN_ANSWERS, 1);
        bool differs = memcmp(s->reflexive, m.address, sizeof m.address) != 0;
        bool is_first = sodium_is_zero(s->reflexive, sizeof s->reflexive), known = s->known;
        s->known = true;
        memcpy(s->reflexive, m.address, sizeof s->reflexive);
        ask(s, now);
        s->due_ns = now + AGAIN_NS;
        if (differs || !known)
            moved_outside(t, m.address, differs && !is_first, now);
        return true;
    }
    wv_metric_add(t->metrics, WV_T_DROPPED_STUN, 1);
    return false;
}

static void send_request(struct wv_transport *t, struct stun_server *s, uint64_t now)
{
    if (s->tries == TRIES) { /* nobody there: what it said before is not true any more */
        s->known = false;
        ask(s, now);
        s->due_ns = now + AGAIN_NS;
        return;
    }
    uint8_t *slot = wv_udp_slot(t->udp);
    if (!slot)
        return;
    rift_stun_request(s->id, slot);
    wv_udp_commit(t->udp, &s->address, RIFT_STUN_REQUEST_BYTES,
                  wv_udp_tos(RIFT_CLASS_CONTROL, RIFT_ECN_NONE));
    wv_metric_add(t->metrics, WV_T_STUN_SENT, 1);
    s->due_ns = now + (FIRST_NS << s->tries);
    s->tries++;
}

void stun_pump(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->ways.n_stun && !t->draining; i++)
        if (now >= t->ways.stun[i].due_ns)
            send_request(t, &t->ways.stun[i], now);
    if (t->ways.tell_reach)
        tell_reach(t);
}

uint64_t stun_timeout(const struct wv_transport *t)
{
    uint64_t at = NEVER;
    for (size_t i = 0; i < t->ways.n_stun && !t->draining; i++)
        at = WV_MIN(at, t->ways.stun[i].due_ns);
    return at;
}
