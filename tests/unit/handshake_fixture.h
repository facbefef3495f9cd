/* What the tests of the handshake share: one host, one client's identity, two addresses, and single steps
 * that must succeed. */
#pragma once

#include "lib/base/util.h"
#include "tests/unit/handshake_host.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MS         WV_NS_PER_MS
#define S          WV_NS_PER_S
#define TIME_LIMIT (5 * S)
#define START      (1000 * S)

static const uint8_t home[RIFT_ADDRESS_BYTES] = "home address 0001";
static const uint8_t away[RIFT_ADDRESS_BYTES] = "away address 0002";
static const uint8_t hello[] = "hello, host";

struct datagram {
    uint8_t bytes[RIFT_MTU_BYTES];
    size_t len;
};

static struct host host;
static struct rift_identity client;

static inline void setup(void)
{
    uint8_t seed[32];
    memset(seed, 0x55, sizeof seed);
    rift_identity_from_seed(&client, seed);
    host_init(&host, 8, START);
}

static inline void teardown(void)
{
    host_fini(&host);
}

static inline struct rift_initiator *new_client(uint32_t id, uint64_t now)
{
    struct rift_initiator *h = NULL;
    ck_assert_int_eq(
        rift_initiator_new(&h, client.secret, host.identity.public, id, hello, sizeof hello, now, TIME_LIMIT),
        0);
    return h;
}

static inline struct datagram client_send(struct rift_initiator *h, uint64_t now)
{
    struct datagram d;
    ck_assert_int_eq(rift_initiator_send(h, d.bytes, sizeof d.bytes, now, &d.len), 0);
    return d;
}

/* Expects an answer to ADDRESS. */
static inline struct datagram host_answer_to(const uint8_t *address, uint64_t now)
{
    struct datagram d;
    uint8_t to[RIFT_ADDRESS_BYTES];
    ck_assert_int_eq(host_send(&host, d.bytes, now, to, &d.len), 0);
    ck_assert_mem_eq(to, address, sizeof to);
    return d;
}

static inline void expect_no_answer(uint64_t now)
{
    struct datagram d;
    uint8_t to[RIFT_ADDRESS_BYTES];
    ck_assert_int_eq(host_send(&host, d.bytes, now, to, &d.len), RIFT_HANDSHAKE_PENDING);
}

/* Gives an INIT that was changed the MAC of KEY again: what somebody can do who knows the host's public key.
 * Only the first 26 bytes and a Noise message of 32 are under it. */
static inline void rekey(struct datagram *d, const uint8_t key[32])
{
    uint8_t first[44] = "RIFT 1 first", mac_key[32];
    memcpy(first + 12, key, 32);
    crypto_generichash(mac_key, 32, first, sizeof first, NULL, 0);
    crypto_generichash_state state;
    crypto_generichash_init(&state, mac_key, 32, 16);
    crypto_generichash_update(&state, d->bytes, 26);
    crypto_generichash_update(&state, d->bytes + 42, 32);
    crypto_generichash_final(&state, d->bytes + 26, 16);
}

static inline void rekey_for_host(struct datagram *d)
{
    rekey(d, host.identity.public);
}

static inline int give_host(const uint8_t *address, const struct datagram *d, uint64_t now)
{
    return host_receive(&host, address, d->bytes, d->len, now);
}

static inline int give_client(struct rift_initiator *h, const struct datagram *d, uint64_t now)
{
    return rift_initiator_receive(h, d->bytes, d->len, now);
}

/* Both ends hold the same keys, crosswise, and each knows the other. */
static inline void expect_agreement(struct rift_initiator *h, uint32_t id)
{
    struct rift_session_config config = {.pacing_bps = 12345};
    uint8_t host_key[32];
    ck_assert_int_eq(rift_initiator_finish(h, &config, host_key), 0);
    ck_assert_mem_eq(host_key, host.identity.public, 32);
    ck_assert_mem_eq(host.client_key, client.public, 32);
    ck_assert_int_eq(config.role, RIFT_ROLE_CLIENT);
    ck_assert_int_eq(host.config.role, RIFT_ROLE_HOST);
    ck_assert_uint_eq(config.local_id, id);
    ck_assert_uint_eq(host.config.remote_id, id);
    ck_assert_uint_eq(config.remote_id, host.config.local_id);
    ck_assert_mem_eq(config.key_send, host.config.key_receive, 32);
    ck_assert_mem_eq(config.key_receive, host.config.key_send, 32);
    ck_assert_mem_ne(config.key_send, config.key_receive, 32);
    uint8_t base[32], hash[64];
    ck_assert_int_eq(rift_initiator_inner(h, base, hash), 0);
    ck_assert_mem_eq(base, host.inner_base, 32);
    ck_assert_mem_eq(hash, host.hash, 64);
    ck_assert_uint_eq(config.pacing_bps, 12345);
    ck_assert_uint_eq(host.payload_len, sizeof hello);
    ck_assert_mem_eq(host.payload, hello, sizeof hello);
}

/* Runs as far as FINISH is written: INIT, RESPONSE and FINISH in RET. */
static inline struct rift_initiator *run_to_finish(uint32_t id, uint64_t now, struct datagram ret[3])
{
    struct rift_initiator *h = new_client(id, now);
    ret[0] = client_send(h, now);
    ck_assert_int_eq(give_host(home, &ret[0], now), 0);
    ret[1] = host_answer_to(home, now);
    ck_assert_int_eq(give_client(h, &ret[1], now), 0);
    ret[2] = client_send(h, now);
    return h;
}
