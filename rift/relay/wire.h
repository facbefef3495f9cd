/* The datagrams between a peer and a relay as bytes, WIRE.md section 10.2. Shared by both sides; must never
 * decide anything. */
#pragma once

#include "rift/relay/lease.h"

#define RIFT_RELAY_VERSION         1
#define RIFT_RELAY_REQUEST_BYTES   96 /* padded: no answer to it is longer */
#define RIFT_RELAY_CHALLENGE_BYTES 62
#define RIFT_RELAY_BIND_BYTES      292
#define RIFT_RELAY_BOUND_BYTES     54
#define RIFT_RELAY_REFUSED_BYTES   20
#define RIFT_RELAY_PING_BYTES      16 /* and PONG */
#define RIFT_RELAY_HEADER_BYTES    8  /* in front of every sealed datagram */
#define RIFT_RELAY_PAYLOAD_MAX     1452
#define RIFT_RELAY_DATAGRAM_MAX    (RIFT_RELAY_HEADER_BYTES + RIFT_RELAY_PAYLOAD_MAX)
#define RIFT_RELAY_TRANSACTION     8
#define RIFT_RELAY_CHALLENGE       24 /* stamp and MAC: the relay's own matter */
#define RIFT_RELAY_OBSERVED        18 /* IPv6 address, IPv4 ones mapped, and port */

enum rift_relay_kind {
    RIFT_RELAY_REQUEST = 32,
    RIFT_RELAY_CHALLENGED = 33,
    RIFT_RELAY_BIND = 34,
    RIFT_RELAY_BOUND = 35,
    RIFT_RELAY_REFUSED = 36,
    RIFT_RELAY_PING = 37,
    RIFT_RELAY_PONG = 38,
    RIFT_RELAY_DATA = 48,
};

enum rift_relay_reason {
    RIFT_RELAY_NO_REASON,
    RIFT_RELAY_MALFORMED,   /* the lease is none */
    RIFT_RELAY_OTHER_RELAY, /* the lease is for another relay */
    RIFT_RELAY_NOT_TRUSTED, /* the relay does not know the issuer */
    RIFT_RELAY_FORGED,      /* the issuer did not sign it */
    RIFT_RELAY_NOT_YET,     /* valid later, by the relay's clock */
    RIFT_RELAY_EXPIRED,     /* over, by the relay's clock */
    RIFT_RELAY_TOO_LONG,    /* lasts longer than the relay allows */
    RIFT_RELAY_UNPROVEN,    /* the peer does not hold the key that the lease names */
    RIFT_RELAY_CONFLICT,    /* another lease with this id is in use */
    RIFT_RELAY_FULL,        /* no place for another lease */
    RIFT_RELAY_DRAINING,    /* the relay takes no new leases */
    RIFT_RELAY_BAD_ADDRESS, /* the relay does not forward to the peer's address */
    RIFT_RELAY_BUSY,        /* too many proofs at once: again later */
    RIFT_RELAY_STALE,       /* a newer proof of this side was accepted: ask again */
    RIFT_RELAY_REASONS,
};

/* A word for logs ("other-relay") and a sentence for a person. Any number gives some text. */
const char *rift_relay_reason_word(unsigned reason);
const char *rift_relay_reason_text(unsigned reason);

struct rift_relay_request {
    uint8_t transaction[RIFT_RELAY_TRANSACTION];
    uint8_t lease_id[RIFT_LEASE_ID_BYTES];
};

struct rift_relay_challenged {
    uint8_t transaction[RIFT_RELAY_TRANSACTION];
    uint8_t challenge[RIFT_RELAY_CHALLENGE];
    uint8_t observed[RIFT_RELAY_OBSERVED]; /* the peer's address as the relay sees it */
    uint64_t unix_s;                       /* the relay's clock */
};

struct rift_relay_bind {
    uint8_t side; /* 0 or 1: which of the lease's peers */
    uint8_t transaction[RIFT_RELAY_TRANSACTION];
    uint8_t challenge[RIFT_RELAY_CHALLENGE];
    uint8_t lease[RIFT_LEASE_BYTES];
    uint8_t signature[64];
};

#define RIFT_RELAY_FLAG_PEER     1 /* the other side is there */
#define RIFT_RELAY_FLAG_DRAINING 2

struct rift_relay_bound {
    uint8_t flags, side;
    uint8_t transaction[RIFT_RELAY_TRANSACTION];
    uint8_t header[RIFT_RELAY_HEADER_BYTES]; /* of DATA, to be sent and to be expected */
    uint32_t left_s, rate_kbps;
    uint8_t observed[RIFT_RELAY_OBSERVED];
    uint64_t unix_s;
};

struct rift_relay_refused {
    uint8_t reason;
    uint8_t transaction[RIFT_RELAY_TRANSACTION];
    uint64_t unix_s;
};

struct rift_relay_ping { /* and PONG */
    uint8_t kind;
    uint8_t channel[RIFT_RELAY_HEADER_BYTES - 1]; /* the header of DATA without its kind */
    uint32_t id;                                  /* 0 in a PONG that nobody asked for */
    uint8_t flags;                                /* of PONG */
    uint16_t left_s;                              /* of PONG; 65535: that or more */
};

/* Each reads a whole datagram and returns 0, or -EBADMSG for anything but exactly that. */
int rift_relay_read_request(const uint8_t *d, size_t len, struct rift_relay_request *ret);
int rift_relay_read_challenged(const uint8_t *d, size_t len, struct rift_relay_challenged *ret);
int rift_relay_read_bind(const uint8_t *d, size_t len, struct rift_relay_bind *ret);
int rift_relay_read_bound(const uint8_t *d, size_t len, struct rift_relay_bound *ret);
int rift_relay_read_refused(const uint8_t *d, size_t len, struct rift_relay_refused *ret);
int rift_relay_read_ping(const uint8_t *d, size_t len, struct rift_relay_ping *ret);

/* Each writes exactly its RIFT_RELAY_..._BYTES to D. */
void rift_relay_write_request(const struct rift_relay_request *m, uint8_t *d);
void rift_relay_write_challenged(const struct rift_relay_challenged *m, uint8_t *d);
void rift_relay_write_bound(const struct rift_relay_bound *m, uint8_t *d);
void rift_relay_write_refused(const struct rift_relay_refused *m, uint8_t *d);
void rift_relay_write_ping(const struct rift_relay_ping *m, uint8_t *d);
/* Signs with SECRET (Ed25519) what it writes; M->signature is not looked at. */
void rift_relay_write_bind(const struct rift_relay_bind *m, const uint8_t secret[64], uint8_t *d);
/* Whether the holder of KEY signed the well-formed BIND D. */
bool rift_relay_bind_is_signed(const uint8_t *d, const uint8_t key[32]);

/* The header of DATA of channel number CHANNEL (24 bits) and TOKEN. */
void rift_relay_write_header(uint32_t channel, uint32_t token, uint8_t ret[RIFT_RELAY_HEADER_BYTES]);
