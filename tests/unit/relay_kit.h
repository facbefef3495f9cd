/* A relay and peers on virtual time, for the tests and the fuzz target: addresses, leases, and a network that
 * loses nothing and takes no time. */
#pragma once

#include "lib/base/util.h"
#include "rift/relay/client.h"
#include "rift/relay/relay.h"

#define KIT_PEERS 8
#define KIT_UNIX  UINT64_C(1800000000)

struct kit_peer {
    struct rift_relay_address address;
    uint8_t secret[64], public[32];
    struct rift_relay_client *client;
    uint8_t last[2048]; /* what the relay sent last */
    size_t last_len, got, payloads;
    uint8_t payload[2048]; /* what the other peer sent last */
    size_t payload_len;
};

struct kit {
    struct rift_relay *relay;
    struct rift_relay_config config;
    struct rift_relay_clock clock;
    uint8_t issuer[32], issuer_secret[64];
    struct kit_peer peers[KIT_PEERS];
    size_t longer;         /* by so much answers may be longer than what they answer: STUN's */
    size_t longest_answer; /* to a datagram that kit_give() gave, beyond its own length: 0, or the relay is
                              wrong */
    uint8_t ecn;           /* of the last datagram that left */
};

/* A relay "r" that trusts one issuer, with room for MAX leases; peers at 203.0.113.N. */
void kit_init(struct kit *k, size_t max_leases);
void kit_fini(struct kit *k);
/* Frees the relay and makes another one of the same configuration; KEEP: with its records. */
void kit_restart(struct kit *k, bool keep);
struct rift_relay_address kit_address(uint8_t last, uint16_t port);

/* A lease for peers A and B of 600 s from now on. */
struct rift_lease kit_terms(const struct kit *k, size_t a, size_t b, uint8_t id);
void kit_sign(const struct kit *k, const struct rift_lease *terms, uint8_t ret[RIFT_LEASE_BYTES]);
/* Gives both a client with the same lease. */
void kit_lease(struct kit *k, size_t a, size_t b, const struct rift_lease *terms);
/* The exchange by hand, so that any part of it can be wrong: asks for a challenge from FROM, and writes the
 * BIND that shows LEASE for SIDE, signed with SECRET. Returns its length. */
size_t kit_bind(struct kit *k, const struct rift_relay_address *from, const uint8_t lease[RIFT_LEASE_BYTES],
                uint8_t side, const uint8_t secret[64], uint8_t ret_bind[RIFT_RELAY_BIND_BYTES]);
void kit_client(struct kit *k, size_t peer, const uint8_t lease[RIFT_LEASE_BYTES]);

/* One datagram to the relay; all that the relay then sends is delivered. Returns whether it was forwarded. */
bool kit_give(struct kit *k, const struct rift_relay_address *from, const void *datagram, size_t len);
/* Lets clients and relay do what is due until NS have passed. */
void kit_run(struct kit *k, uint64_t ns);
/* Peer sends LEN bytes of FILL to the other. Returns whether they were forwarded at once. */
bool kit_send(struct kit *k, size_t peer, uint8_t fill, size_t len);
struct rift_relay_client_status kit_status(const struct kit *k, size_t peer);
const struct rift_relay_stats *kit_stats(const struct kit *k);
