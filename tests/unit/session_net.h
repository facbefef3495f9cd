/* A host and a client session with addresses between them. The network is a queue in each direction: tests
 * say how long it takes, what is lost, and who else sits on it. */
#pragma once

#include "rift/core/session_internal.h"
#include "tests/unit/session_pair.h"

#define NET_QUEUE  512
#define NET_ONEWAY (10 * MS)

struct net_datagram {
    uint64_t at;
    size_t len;
    uint8_t address[RIFT_ADDRESS_BYTES]; /* to the host: source. To the client: destination. */
    enum rift_ecn ecn;
    uint8_t data[RIFT_MTU_MAX_BYTES];
};

struct net {
    struct rift_session *host, *client;
    uint64_t now;
    uint8_t client_address[RIFT_ADDRESS_BYTES]; /* where the client is */
    uint8_t old_address[RIFT_ADDRESS_BYTES];    /* a mapping that still works towards the client */
    bool old_works;
    uint8_t attacker[RIFT_ADDRESS_BYTES]; /* forwards copies of what the client sends, and what it gets */
    bool attacks;
    uint64_t attacker_oneway;
    size_t mtu;           /* larger ones vanish on the way to the client */
    enum rift_ecn bleach; /* what ECT marks become on the way to the client; ECT1: they stay */
    unsigned lose_to_client, lose_to_host; /* of a hundred */
    unsigned dice;
    struct net_datagram to_host[NET_QUEUE], to_client[NET_QUEUE];
    size_t n_to_host, n_to_client;
    uint64_t to_attacker_bytes, to_attacker_media, from_attacker_bytes, media_bytes, largest;
    bool capture_only; /* the attacker sends nothing on to the client */
};

static const uint8_t net_host[RIFT_ADDRESS_BYTES] = {99, 9};

static inline struct net *net_new(const struct rift_session_config *host,
                                  const struct rift_session_config *client)
{
    struct net *n = calloc(1, sizeof *n);
    ck_assert_ptr_nonnull(n);
    n->now = START;
    n->mtu = SIZE_MAX;
    n->bleach = RIFT_ECN_ECT1;
    n->attacker_oneway = NET_ONEWAY / 2;
    n->client_address[0] = 1;
    n->attacker[0] = 66;
    struct rift_session_config h = *host, c = *client;
    memcpy(h.address, n->client_address, RIFT_ADDRESS_BYTES);
    memcpy(c.address, net_host, RIFT_ADDRESS_BYTES);
    memset(h.entropy, 3, sizeof h.entropy);
    memset(c.entropy, 4, sizeof c.entropy);
    ck_assert_int_eq(rift_session_new(&n->host, &h, n->now), 0);
    ck_assert_int_eq(rift_session_new(&n->client, &c, n->now), 0);
    return n;
}

static inline struct net *net_default(void)
{
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    return net_new(&h, &c);
}

static inline void net_free(struct net *n)
{
    rift_session_free(n->host);
    rift_session_free(n->client);
    free(n);
}

static inline bool net_lost(struct net *n, unsigned percent)
{
    n->dice = n->dice * 1103515245 + 12345;
    return (n->dice >> 16) % 100 < percent;
}

static inline void net_put(struct net_datagram *queue, size_t *count, const uint8_t *address,
                           const uint8_t *data, size_t len, enum rift_ecn ecn, uint64_t at)
{
    if (*count == NET_QUEUE)
        return;
    size_t i = (*count)++;
    for (; i && queue[i - 1].at > at; i--)
        queue[i] = queue[i - 1];
    queue[i].at = at;
    queue[i].len = len;
    queue[i].ecn = ecn;
    memcpy(queue[i].address, address, RIFT_ADDRESS_BYTES);
    memcpy(queue[i].data, data, len);
}

static inline void net_from_client(struct net *n)
{
    uint8_t d[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing out;
    while (rift_session_send_to(n->client, d, sizeof d, n->now, &out) == 0) {
        if (n->attacks && !net_lost(n, n->lose_to_host)) {
            net_put(n->to_host, &n->n_to_host, n->attacker, d, out.len, RIFT_ECN_NONE,
                    n->now + n->attacker_oneway);
            n->from_attacker_bytes += out.len;
        }
        if (!net_lost(n, n->lose_to_host))
            net_put(n->to_host, &n->n_to_host, n->client_address, d, out.len, out.ecn, n->now + NET_ONEWAY);
    }
}

static inline void net_from_host(struct net *n)
{
    uint8_t d[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing out;
    while (rift_session_send_to(n->host, d, sizeof d, n->now, &out) == 0) {
        bool media = out.traffic_class == RIFT_CLASS_MEDIA;
        bool attacker = memcmp(out.address, n->attacker, sizeof n->attacker) == 0;
        bool reaches = memcmp(out.address, n->client_address, sizeof n->client_address) == 0 ||
                       (n->old_works && memcmp(out.address, n->old_address, sizeof n->old_address) == 0);
        n->to_attacker_bytes += attacker ? out.len : 0;
        n->to_attacker_media += attacker && media;
        n->media_bytes += media ? out.len : 0;
        n->largest = WV_MAX(n->largest, (uint64_t)out.len);
        if (n->bleach != RIFT_ECN_ECT1 && out.ecn != RIFT_ECN_NONE)
            out.ecn = n->bleach;
        if (((attacker && !n->capture_only) || reaches) && out.len <= n->mtu &&
            !net_lost(n, n->lose_to_client))
            net_put(n->to_client, &n->n_to_client, out.address, d, out.len, out.ecn,
                    n->now + (attacker ? n->attacker_oneway : NET_ONEWAY));
    }
}

static inline void net_deliver(struct net *n)
{
    while (n->n_to_host && n->to_host[0].at <= n->now) {
        struct net_datagram d = n->to_host[0];
        memmove(n->to_host, n->to_host + 1, --n->n_to_host * sizeof d);
        rift_session_receive_from(n->host, d.address, d.ecn, d.data, d.len, n->now);
    }
    while (n->n_to_client && n->to_client[0].at <= n->now) {
        struct net_datagram d = n->to_client[0];
        memmove(n->to_client, n->to_client + 1, --n->n_to_client * sizeof d);
        rift_session_receive_from(n->client, net_host, d.ecn, d.data, d.len, n->now);
    }
}

/* One millisecond at a time, for LATER ns. */
static inline void net_run(struct net *n, uint64_t later)
{
    for (uint64_t end = n->now + later; n->now < end; n->now += MS) {
        net_deliver(n);
        net_from_client(n);
        net_from_host(n);
    }
}

static inline int net_frame(struct net *n, uint32_t id, bool key, size_t len)
{
    struct pair p = {.host = n->host, .now = n->now};
    return pair_send_frame(&p, id, 0, key, len);
}

/* Video of 60 frames a second and a moving pointer for LATER ns; takes the events. Returns frames shown. */
static inline unsigned net_stream(struct net *n, uint32_t *id, uint64_t later, size_t len)
{
    unsigned shown = 0;
    bool key = *id == 0;
    struct rift_event e;
    for (uint64_t end = n->now + later; n->now < end;) {
        struct rift_input_event move = {.kind = RIFT_INPUT_POINTER_ABS, .x = (int32_t)(*id % 65536)};
        uint32_t seq;
        while (rift_session_next_event(n->host, &e) == 0)
            key = key || e.kind == RIFT_EVENT_KEYFRAME_REQUEST;
        key = net_frame(n, (*id)++, key, len) == RIFT_SESSION_FULL;
        rift_session_send_input(n->client, &move, n->now, &seq);
        net_run(n, 17 * MS);
        while (rift_session_next_event(n->client, &e) == 0)
            shown += e.kind == RIFT_EVENT_FRAME;
    }
    return shown;
}

static inline bool net_flow_is_at(const struct net *n, const uint8_t *address)
{
    uint8_t current[RIFT_ADDRESS_BYTES];
    rift_session_get_address(n->host, current);
    return memcmp(current, address, sizeof current) == 0;
}
