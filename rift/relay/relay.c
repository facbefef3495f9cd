/* The table of leases and the way of a datagram through it. See relay.h. */
#include "rift/relay/relay_internal.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LEASES_MAX 1000000
#define SLOTS_MAX  (1u << 20)

static uint32_t bucket_of(const struct rift_relay *r, const uint8_t id[RIFT_LEASE_ID_BYTES])
{
    uint8_t hash[crypto_shorthash_BYTES];
    uint32_t h;
    crypto_shorthash(hash, id, RIFT_LEASE_ID_BYTES, r->config.secret);
    memcpy(&h, hash, sizeof h);
    return h & (r->n_buckets - 1);
}

static int copy_lists(struct rift_relay *r, const struct rift_relay_config *c)
{
    uint8_t(*issuers)[32] = calloc(c->n_issuers + 1, sizeof *issuers);
    struct rift_relay_address *own = calloc(c->n_own + 1, sizeof *own);
    r->config.issuers = (const uint8_t(*)[32])issuers;
    r->config.own = own;
    if (!issuers || !own)
        return -ENOMEM;
    if (c->n_issuers)
        memcpy(issuers, c->issuers, c->n_issuers * sizeof *issuers);
    if (c->n_own)
        memcpy(own, c->own, c->n_own * sizeof *own);
    return 0;
}

static int make_table(struct rift_relay *r)
{
    size_t n = r->config.max_leases;
    for (r->n_buckets = 16; r->n_buckets < 2 * n; r->n_buckets *= 2)
        ;
    r->channels = calloc(2 * n, sizeof *r->channels);
    r->leases = calloc(n, sizeof *r->leases);
    r->ends = calloc(n, sizeof *r->ends);
    r->buckets = malloc(r->n_buckets * sizeof *r->buckets);
    if (!r->channels || !r->leases || !r->ends || !r->buckets)
        return -ENOMEM;
    memset(r->buckets, 0xff, r->n_buckets * sizeof *r->buckets);
    for (size_t i = 0; i < n; i++) {
        r->leases[i].next = i + 1 < n ? (uint32_t)(i + 1) : NONE;
        r->leases[i].previous = i ? (uint32_t)(i - 1) : NONE;
    }
    for (size_t i = 0; i < 2 * n; i++)
        r->channels[i].head = r->channels[i].tail = NONE;
    r->free_lease = 0;
    r->first_changed = r->last_changed = NONE;
    return 0;
}

int rift_relay_new(struct rift_relay **ret, const struct rift_relay_config *config)
{
    if (config->max_leases < 1 || config->max_leases > LEASES_MAX || config->queue_slots > SLOTS_MAX ||
        config->proofs_per_s < 1)
        return -EINVAL;
    struct rift_relay *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->config = *config;
    int error = copy_lists(r, config);
    if (error == 0)
        error = make_table(r);
    if (error == 0)
        error = rift_relay_shape_init(r);
    if (error < 0) {
        rift_relay_free(r);
        return error;
    }
    *ret = r;
    return 0;
}

struct rift_relay *rift_relay_free(struct rift_relay *r)
{
    if (!r)
        return NULL;
    free((void *)r->config.issuers);
    free((void *)r->config.own);
    free(r->channels);
    free(r->leases);
    free(r->ends);
    free(r->buckets);
    free(r->held);
    sodium_memzero(r->config.secret, sizeof r->config.secret);
    free(r);
    return NULL;
}

/* ---- the table ---- */

uint32_t rift_relay_find(const struct rift_relay *r, const uint8_t id[RIFT_LEASE_ID_BYTES])
{
    uint32_t i = r->buckets[bucket_of(r, id)];
    while (i != NONE && memcmp(r->leases[i].terms.id, id, RIFT_LEASE_ID_BYTES) != 0)
        i = r->leases[i].next;
    return i;
}

/* Out of the list of free places; a restart fills given ones. */
static void take_free(struct rift_relay *r, uint32_t place)
{
    const struct lease *l = &r->leases[place];
    if (l->previous == NONE)
        r->free_lease = l->next;
    else
        r->leases[l->previous].next = l->next;
    if (l->next != NONE)
        r->leases[l->next].previous = l->previous;
}

static void give_free(struct rift_relay *r, uint32_t place)
{
    struct lease *l = &r->leases[place];
    l->next = r->free_lease;
    l->previous = NONE;
    if (l->next != NONE)
        r->leases[l->next].previous = place;
    r->free_lease = place;
}

uint32_t rift_relay_place(struct rift_relay *r, uint32_t at, const struct rift_lease *terms,
                          const uint8_t bytes[RIFT_LEASE_BYTES])
{
    uint32_t place = at == NONE ? r->free_lease : at;
    if (place == NONE)
        return NONE;
    take_free(r, place);
    struct lease *l = &r->leases[place];
    uint32_t *bucket = &r->buckets[bucket_of(r, terms->id)];
    l->used = true;
    l->terms = *terms;
    memcpy(l->bytes, bytes, sizeof l->bytes);
    memset(l->stamps, 0, sizeof l->stamps);
    l->next = *bucket;
    *bucket = place;
    r->stats.leases++;
    rift_relay_set_rates(r, place);
    return place;
}

void rift_relay_remove(struct rift_relay *r, uint32_t place)
{
    struct lease *l = &r->leases[place];
    uint32_t *link = &r->buckets[bucket_of(r, l->terms.id)];
    while (*link != place)
        link = &r->leases[*link].next;
    *link = l->next;
    for (uint32_t side = 0; side < 2; side++) {
        struct channel *c = &r->channels[2 * place + side];
        rift_relay_forget_held(r, 2 * place + side);
        r->stats.bound -= c->heard_ns != 0;
        c->heard_ns = 0;
        c->token = 0;
        memset(&c->address, 0, sizeof c->address);
    }
    l->used = false;
    r->ends[place] = 0;
    give_free(r, place);
    r->stats.leases--;
    rift_relay_note_changed(r, place);
}

void rift_relay_note_changed(struct rift_relay *r, uint32_t place)
{
    struct lease *l = &r->leases[place];
    if (l->changed)
        return;
    l->changed = true;
    l->next_changed = NONE;
    if (r->last_changed == NONE)
        r->first_changed = place;
    else
        r->leases[r->last_changed].next_changed = place;
    r->last_changed = place;
}

bool rift_relay_next_changed(struct rift_relay *r, size_t *ret_place)
{
    uint32_t place = r->first_changed;
    if (place == NONE)
        return false;
    r->first_changed = r->leases[place].next_changed;
    if (r->first_changed == NONE)
        r->last_changed = NONE;
    r->leases[place].changed = false;
    *ret_place = place;
    return true;
}

void rift_relay_set_rates(struct rift_relay *r, uint32_t place)
{
    uint64_t kbps = r->leases[place].terms.rate_kbps;
    if (r->config.max_rate_kbps)
        kbps = WV_MIN(kbps, (uint64_t)r->config.max_rate_kbps);
    uint64_t queue = WV_MAX(kbps * r->config.queue_ms / 8, UINT64_C(16) << 10);
    for (uint32_t side = 0; side < 2; side++) {
        struct channel *c = &r->channels[2 * place + side];
        c->byte_cost = UINT64_C(8000000) * 1024 / kbps;
        c->queue_max = (uint32_t)WV_MIN(queue, UINT64_C(64) << 20);
    }
}

void rift_relay_set_channel(struct rift_relay *r, uint32_t number, const struct rift_relay_address *address,
                            uint32_t token, uint64_t heard_ns)
{
    struct channel *c = &r->channels[number];
    r->stats.bound += (uint64_t)(heard_ns != 0) - (uint64_t)(c->heard_ns != 0);
    c->address = *address;
    c->token = token;
    c->heard_ns = heard_ns;
    rift_relay_write_header(number, token, c->header);
}

const uint8_t *rift_relay_issuer(const struct rift_relay *r, const uint8_t id[RIFT_LEASE_ISSUER_BYTES])
{
    uint8_t known[RIFT_LEASE_ISSUER_BYTES];
    for (size_t i = 0; i < r->config.n_issuers; i++) {
        rift_lease_issuer_id(r->config.issuers[i], known);
        if (memcmp(known, id, sizeof known) == 0)
            return r->config.issuers[i];
    }
    return NULL;
}

bool rift_relay_is_present(const struct channel *c, uint64_t now)
{
    return c->heard_ns && now < c->heard_ns + SILENT_NS;
}

uint32_t rift_relay_left_s(const struct rift_relay *r, uint32_t place, uint64_t now)
{
    uint64_t end = r->ends[place];
    return end <= now ? 0 : (uint32_t)WV_MIN((end - now) / WV_NS_PER_S, (uint64_t)UINT32_MAX);
}

void rift_relay_sweep(struct rift_relay *r, uint64_t now)
{
    for (uint32_t i = 0; i < r->config.max_leases; i++)
        if (r->ends[i] && r->ends[i] <= now) {
            rift_relay_remove(r, i);
            r->stats.expired++;
        }
}

void rift_relay_set_draining(struct rift_relay *r, bool draining)
{
    r->draining = draining;
}

bool rift_relay_is_draining(const struct rift_relay *r)
{
    return r->draining;
}

const struct rift_relay_stats *rift_relay_get_stats(const struct rift_relay *r)
{
    return &r->stats;
}

/* ---- datagrams ---- */

uint8_t *rift_relay_reply(struct rift_relay *r, const struct rift_relay_address *to, size_t len)
{
    if (r->replies_count == REPLIES_MAX) {
        r->stats.dropped_replies++;
        return NULL;
    }
    struct reply *reply = &r->replies[(r->replies_head + r->replies_count++) % REPLIES_MAX];
    reply->to = *to;
    reply->len = (uint8_t)len;
    return reply->data;
}

void rift_relay_pong(struct rift_relay *r, uint32_t number, uint32_t id, uint64_t now)
{
    const struct channel *c = &r->channels[number], *other = &r->channels[number ^ 1];
    uint8_t *d = rift_relay_reply(r, &c->address, RIFT_RELAY_PING_BYTES);
    if (!d)
        return;
    struct rift_relay_ping m = {.kind = RIFT_RELAY_PONG, .id = id};
    memcpy(m.channel, c->header + 1, sizeof m.channel);
    m.flags = (rift_relay_is_present(other, now) ? RIFT_RELAY_FLAG_PEER : 0) |
              (r->draining ? RIFT_RELAY_FLAG_DRAINING : 0);
    m.left_s = (uint16_t)WV_MIN(rift_relay_left_s(r, number / 2, now), (uint32_t)UINT16_MAX);
    rift_relay_write_ping(&m, d);
}

/* The number of the channel whose bound address, proven, and token this datagram has; else NONE. */
static uint32_t find_channel(struct rift_relay *r, const struct rift_relay_address *from,
                             const uint8_t *datagram, uint64_t now)
{
    struct wv_reader in;
    wv_reader_init(&in, datagram, RIFT_RELAY_HEADER_BYTES);
    uint32_t number = wv_read_u32(&in) >> 8, token = wv_read_u32(&in);
    if (number < 2 * r->config.max_leases) {
        struct channel *c = &r->channels[number];
        if (c->token == token && c->heard_ns &&
            memcmp(c->address.bytes, from->bytes, sizeof from->bytes) == 0 && now < r->ends[number / 2]) {
            c->heard_ns = now;
            return number;
        }
    }
    r->stats.dropped_unknown++;
    return NONE;
}

static int forward(struct rift_relay *r, const struct rift_relay_address *from, uint8_t *datagram, size_t len,
                   uint8_t *ecn, uint64_t now, const struct rift_relay_address **ret_to)
{
    if (len < RIFT_RELAY_HEADER_BYTES || len > RIFT_RELAY_DATAGRAM_MAX) {
        r->stats.dropped_malformed++;
        return 0;
    }
    uint32_t number = find_channel(r, from, datagram, now);
    if (number == NONE)
        return 0;
    struct channel *c = &r->channels[number], *to = &r->channels[number ^ 1];
    if (!rift_relay_is_present(to, now)) {
        r->stats.dropped_absent++;
        return 0;
    }
    if (!rift_relay_may_pass(r, c, len, now)) {
        rift_relay_hold(r, number, datagram, len, ecn, now);
        return 0;
    }
    memcpy(datagram, to->header, RIFT_RELAY_HEADER_BYTES);
    r->stats.forwarded++;
    r->stats.forwarded_bytes += len;
    *ret_to = &to->address;
    return RIFT_RELAY_FORWARD;
}

static void take_ping(struct rift_relay *r, const struct rift_relay_address *from, const uint8_t *datagram,
                      const struct rift_relay_ping *m, uint64_t now)
{
    uint32_t number = find_channel(r, from, datagram, now);
    if (number != NONE)
        rift_relay_pong(r, number, m->id, now);
}

int rift_relay_receive(struct rift_relay *r, const struct rift_relay_address *from, uint8_t *datagram,
                       size_t len, uint8_t *ecn, const struct rift_relay_clock *clock,
                       const struct rift_relay_address **ret_to)
{
    struct rift_relay_request request;
    struct rift_relay_bind bind;
    struct rift_relay_ping ping;
    struct rift_stun_message stun;
    if (len && datagram[0] == RIFT_RELAY_DATA)
        return forward(r, from, datagram, len, ecn, clock->now, ret_to);
    if (rift_relay_read_request(datagram, len, &request) == 0)
        rift_relay_take_request(r, from, &request, clock);
    else if (rift_relay_read_bind(datagram, len, &bind) == 0)
        rift_relay_take_bind(r, from, datagram, &bind, clock);
    else if (rift_relay_read_ping(datagram, len, &ping) == 0 && ping.kind == RIFT_RELAY_PING)
        take_ping(r, from, datagram, &ping, clock->now);
    else if (r->config.stun_per_s && rift_stun_read(datagram, len, &stun) == 0)
        rift_relay_take_stun(r, from, &stun, clock->now);
    else
        r->stats.dropped_malformed++;
    return 0;
}

int rift_relay_send(struct rift_relay *r, uint64_t now, struct rift_relay_out *ret)
{
    if (!r->replies_count)
        return rift_relay_send_held(r, now, ret);
    const struct reply *reply = &r->replies[r->replies_head];
    r->replies_head = (r->replies_head + 1) % REPLIES_MAX;
    r->replies_count--;
    *ret = (struct rift_relay_out){.to = reply->to, .data = reply->data, .len = reply->len};
    return 0;
}

uint64_t rift_relay_timeout(const struct rift_relay *r)
{
    return r->replies_count ? 0 : r->next_due;
}
