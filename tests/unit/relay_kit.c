#include "tests/unit/relay_kit.h"

#include "rift/crypto/identity.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define STEP_NS (5 * WV_NS_PER_MS)

static void must(bool what)
{
    if (!what)
        abort();
}

struct rift_relay_address kit_address(uint8_t last, uint16_t port)
{
    struct rift_relay_address a = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 203, [13] = 0, [14] = 113}};
    a.bytes[15] = last;
    a.bytes[16] = (uint8_t)(port >> 8);
    a.bytes[17] = (uint8_t)port;
    return a;
}

void kit_init(struct kit *k, size_t max_leases)
{
    uint8_t seed[32] = {1};
    must(rift_crypto_init() == 0);
    *k = (struct kit){.clock = {1000 * WV_NS_PER_S, KIT_UNIX}};
    crypto_sign_seed_keypair(k->issuer, k->issuer_secret, seed);
    for (size_t i = 0; i < KIT_PEERS; i++) {
        seed[0] = (uint8_t)(2 + i);
        crypto_sign_seed_keypair(k->peers[i].public, k->peers[i].secret, seed);
        k->peers[i].address = kit_address((uint8_t)(10 + i), 5000);
    }
    k->config = (struct rift_relay_config){.max_leases = max_leases,
                                           .max_lease_s = 3600,
                                           .leeway_s = 30,
                                           .queue_ms = 50,
                                           .queue_slots = 256,
                                           .proofs_per_s = 50,
                                           .n_issuers = 1};
    rift_relay_id("r", k->config.id);
    kit_restart(k, false);
}

void kit_fini(struct kit *k)
{
    for (size_t i = 0; i < KIT_PEERS; i++)
        rift_relay_client_free(k->peers[i].client);
    rift_relay_free(k->relay);
}

void kit_restart(struct kit *k, bool keep)
{
    static uint8_t records[16][RIFT_RELAY_RECORD_BYTES];
    must(!keep || k->config.max_leases <= 16);
    for (size_t i = 0; keep && i < k->config.max_leases; i++)
        rift_relay_export(k->relay, i, records[i]);
    rift_relay_free(k->relay);
    k->config.issuers = &k->issuer;
    must(rift_relay_new(&k->relay, &k->config) == 0);
    for (size_t i = 0; keep && i < k->config.max_leases; i++)
        (void)rift_relay_import(k->relay, i, records[i], &k->clock);
}

struct rift_lease kit_terms(const struct kit *k, size_t a, size_t b, uint8_t id)
{
    struct rift_lease l = {.rate_kbps = 8000, .not_before_s = k->clock.unix_s};
    l.expires_s = l.not_before_s + 600;
    l.id[0] = id;
    rift_relay_id("r", l.relay);
    memcpy(l.peers[0], k->peers[a].public, 32);
    memcpy(l.peers[1], k->peers[b].public, 32);
    return l;
}

void kit_sign(const struct kit *k, const struct rift_lease *terms, uint8_t ret[RIFT_LEASE_BYTES])
{
    must(rift_lease_sign(terms, k->issuer_secret, ret) == 0);
}

void kit_client(struct kit *k, size_t peer, const uint8_t lease[RIFT_LEASE_BYTES])
{
    struct kit_peer *p = &k->peers[peer];
    rift_relay_client_free(p->client);
    must(rift_relay_client_new(&p->client, lease, p->secret, k->clock.now) == 0);
}

void kit_lease(struct kit *k, size_t a, size_t b, const struct rift_lease *terms)
{
    uint8_t lease[RIFT_LEASE_BYTES];
    kit_sign(k, terms, lease);
    kit_client(k, a, lease);
    kit_client(k, b, lease);
}

static void arrive(struct kit *k, const struct rift_relay_address *to, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < KIT_PEERS; i++) {
        struct kit_peer *p = &k->peers[i];
        const uint8_t *payload;
        size_t n;
        if (memcmp(&p->address, to, sizeof *to) != 0)
            continue;
        memcpy(p->last, data, len);
        p->last_len = len;
        p->got++;
        if (p->client && rift_relay_client_receive(p->client, data, len, k->clock.now, KIT_UNIX, &payload,
                                                   &n) == RIFT_RELAY_CLIENT_PAYLOAD) {
            memcpy(p->payload, payload, n);
            p->payload_len = n;
            p->payloads++;
        }
    }
}

static void drain(struct kit *k, const struct rift_relay_address *asker, size_t asked)
{
    struct rift_relay_out out;
    while (rift_relay_send(k->relay, k->clock.now, &out) == 0) {
        if (asker && memcmp(&out.to, asker, sizeof *asker) == 0 && out.len > asked + k->longer)
            k->longest_answer = WV_MAX(k->longest_answer, out.len - asked);
        uint8_t copy[2048];
        k->ecn = out.ecn;
        memcpy(copy, out.data, out.len);
        arrive(k, &out.to, copy, out.len);
    }
}

bool kit_give(struct kit *k, const struct rift_relay_address *from, const void *datagram, size_t len)
{
    uint8_t copy[4096];
    const struct rift_relay_address *to;
    must(len <= sizeof copy);
    memcpy(copy, datagram, len);
    int r = rift_relay_receive(k->relay, from, copy, len, &k->ecn, &k->clock, &to);
    must(r == 0 || r == RIFT_RELAY_FORWARD);
    if (r == RIFT_RELAY_FORWARD)
        arrive(k, to, copy, len);
    drain(k, from, len);
    return r == RIFT_RELAY_FORWARD;
}

void kit_run(struct kit *k, uint64_t ns)
{
    for (uint64_t end = k->clock.now + ns;;) {
        for (size_t i = 0; i < KIT_PEERS; i++) {
            uint8_t d[RIFT_RELAY_BIND_BYTES];
            size_t len;
            while (k->peers[i].client &&
                   rift_relay_client_send(k->peers[i].client, d, sizeof d, k->clock.now, &len) == 0)
                kit_give(k, &k->peers[i].address, d, len);
        }
        drain(k, NULL, 0);
        if (k->clock.now >= end)
            return;
        uint64_t due = rift_relay_timeout(k->relay), next = WV_MIN(end, k->clock.now + STEP_NS), before;
        next = due > k->clock.now ? WV_MIN(next, due) : next;
        before = k->clock.now / WV_NS_PER_S;
        k->clock.now = next;
        if (k->clock.now / WV_NS_PER_S != before) {
            k->clock.unix_s += k->clock.now / WV_NS_PER_S - before;
            rift_relay_sweep(k->relay, k->clock.now);
        }
    }
}

bool kit_send(struct kit *k, size_t peer, uint8_t fill, size_t len)
{
    uint8_t d[2048];
    must(rift_relay_client_header(k->peers[peer].client, d) == 0);
    memset(d + RIFT_RELAY_HEADER_BYTES, fill, len);
    return kit_give(k, &k->peers[peer].address, d, RIFT_RELAY_HEADER_BYTES + len);
}

struct rift_relay_client_status kit_status(const struct kit *k, size_t peer)
{
    struct rift_relay_client_status s;
    rift_relay_client_get_status(k->peers[peer].client, &s);
    return s;
}

const struct rift_relay_stats *kit_stats(const struct kit *k)
{
    return rift_relay_get_stats(k->relay);
}

size_t kit_bind(struct kit *k, const struct rift_relay_address *from, const uint8_t lease[RIFT_LEASE_BYTES],
                uint8_t side, const uint8_t secret[64], uint8_t ret_bind[RIFT_RELAY_BIND_BYTES])
{
    struct rift_relay_request request = {.transaction = {1, 2, 3}};
    struct rift_relay_challenged challenged;
    struct rift_relay_bind bind = {.side = side};
    uint8_t d[RIFT_RELAY_REQUEST_BYTES];
    struct kit_peer *last = &k->peers[KIT_PEERS - 1];
    struct rift_relay_address real = last->address;
    last->address = *from;
    memcpy(request.lease_id, lease + 12, sizeof request.lease_id);
    rift_relay_write_request(&request, d);
    kit_give(k, from, d, sizeof d);
    must(rift_relay_read_challenged(last->last, last->last_len, &challenged) == 0);
    last->address = real;
    memcpy(bind.transaction, request.transaction, sizeof bind.transaction);
    memcpy(bind.challenge, challenged.challenge, sizeof bind.challenge);
    memcpy(bind.lease, lease, sizeof bind.lease);
    rift_relay_write_bind(&bind, secret, ret_bind);
    return RIFT_RELAY_BIND_BYTES;
}
