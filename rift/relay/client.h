/* A peer's side of a relay, sans-IO: shows the lease, proves its key, keeps the binding warm and proves anew
 * when the relay forgot it or the address changed; puts the header in front of sealed datagrams and takes it
 * off. One object for each lease. It never looks into a sealed datagram, and trusts a relay with nothing but
 * its way. */
#pragma once

#include "rift/relay/wire.h"

struct rift_relay_client;

enum rift_relay_client_state {
    RIFT_RELAY_CLIENT_ASKING,  /* not bound yet, or not any more */
    RIFT_RELAY_CLIENT_BOUND,   /* datagrams pass, also while a renewal is proven */
    RIFT_RELAY_CLIENT_REFUSED, /* for a reason that another try would not change; see status.reason */
};

struct rift_relay_client_status {
    enum rift_relay_client_state state;
    unsigned reason;    /* enum rift_relay_reason of the last refusal, also a passing one */
    bool peer_present;  /* the other side is bound and was heard lately */
    bool draining;      /* look for another relay */
    bool answered;      /* the relay said anything at all: observed and clock_ahead_s hold */
    uint32_t left_s;    /* of the lease, when the relay last said it */
    uint32_t rate_kbps; /* of each direction, as the relay keeps it */
    uint8_t observed[RIFT_RELAY_OBSERVED]; /* our address as the relay sees it */
    int64_t clock_ahead_s;                 /* the relay's clock minus ours */
    uint64_t rtt_ns;                       /* of the last exchange; 0: not known */
};

enum {
    RIFT_RELAY_CLIENT_IDLE = 1,    /* nothing to send / not from the relay: ignored */
    RIFT_RELAY_CLIENT_PAYLOAD = 2, /* a sealed datagram of the other peer */
    RIFT_RELAY_CLIENT_UNBOUND = 3, /* no way through the relay now */
};

/* LEASE must name the public half of SECRET (Ed25519, libsodium's 64 bytes). Returns 0, -ENOMEM, or -EINVAL:
 * it is no lease, or not ours. */
int rift_relay_client_new(struct rift_relay_client **ret, const uint8_t lease[RIFT_LEASE_BYTES],
                          const uint8_t secret[64], uint64_t now);
struct rift_relay_client *rift_relay_client_free(struct rift_relay_client *c);

/* The next datagram for the relay that is due: 0 or RIFT_RELAY_CLIENT_IDLE; -EMSGSIZE when CAPACITY is below
 * RIFT_RELAY_BIND_BYTES. */
int rift_relay_client_send(struct rift_relay_client *c, uint8_t *buffer, size_t capacity, uint64_t now,
                           size_t *ret_len);
uint64_t rift_relay_client_timeout(const struct rift_relay_client *c);

/* Takes a datagram that came from the relay's address. 0: it was the relay's own word. PAYLOAD: RET_PAYLOAD
 * points to the sealed datagram in it. IDLE: forged, late, or of another lease. UNIX_S is the local clock,
 * only to be compared. */
int rift_relay_client_receive(struct rift_relay_client *c, const uint8_t *datagram, size_t len, uint64_t now,
                              uint64_t unix_s, const uint8_t **ret_payload, size_t *ret_len);
/* The 8 bytes that go in front of every sealed datagram for the other peer. Returns 0 or UNBOUND. */
int rift_relay_client_header(const struct rift_relay_client *c, uint8_t ret_header[RIFT_RELAY_HEADER_BYTES]);

/* A lease of the same id with a later end. Returns 0 or -EINVAL. Datagrams go on passing meanwhile. */
int rift_relay_client_renew(struct rift_relay_client *c, const uint8_t lease[RIFT_LEASE_BYTES], uint64_t now);
/* Our address changed, or may have: proves anew at once. */
void rift_relay_client_moved(struct rift_relay_client *c, uint64_t now);
void rift_relay_client_get_status(const struct rift_relay_client *c, struct rift_relay_client_status *ret);

/* A process before this one was bound with HEADER, from the same address: datagrams pass at once; whether the
 * relay still knows us is asked at once too. */
void rift_relay_client_resume(struct rift_relay_client *c, const uint8_t header[RIFT_RELAY_HEADER_BYTES],
                              uint64_t now);
