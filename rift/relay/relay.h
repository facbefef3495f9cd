/* The relay, sans-IO: a table of leases, whose peers bind their addresses to them by proof, and the
 * forwarding of sealed datagrams between the two, shaped to the lease's rate. WIRE.md section 10 is its
 * contract. It holds nobody's keys and reads nothing but the 8 bytes in front of a datagram. Nothing is
 * allocated after the start, no datagram gets an answer longer than itself, and none but the stateless
 * challenge goes to an address that has not proven itself; answers of STUN, where they are wanted, are 32
 * bytes longer at most. */
#pragma once

#include "rift/relay/wire.h"

/* Address (IPv4 mapped into IPv6; link-local ones carry their scope in bytes 4 to 7), port in network order,
 * the number of the socket that it is reached through, one byte of zero. */
#define RIFT_RELAY_ADDRESS_BYTES 20
struct rift_relay_address {
    uint8_t bytes[RIFT_RELAY_ADDRESS_BYTES];
};

/* Ranges that are not forwarded to unless allowed. */
enum rift_relay_range {
    RIFT_RELAY_LOOPBACK = 1,
    RIFT_RELAY_PRIVATE = 2,
    RIFT_RELAY_LINK_LOCAL = 4,
    RIFT_RELAY_MULTICAST = 8, /* and broadcast */
};
/* The ranges that ADDRESS lies in, also by way of NAT64 and 6to4; 0: a public one. UNUSABLE lies outside of
 * all: unspecified, reserved, port 0. */
#define RIFT_RELAY_UNUSABLE 128u
unsigned rift_relay_address_ranges(const struct rift_relay_address *address);

struct rift_relay_config {
    uint8_t id[RIFT_RELAY_ID_BYTES];
    size_t max_leases;              /* 1 to 1,000,000 */
    uint32_t max_lease_s, leeway_s; /* longest lease; how far clocks may differ */
    uint32_t max_rate_kbps;         /* of one direction of a lease; 0: as leases say */
    uint64_t total_kbps;            /* of all that is forwarded; 0: no limit */
    uint32_t queue_ms;              /* what a direction may hold back, in time at its rate */
    size_t queue_slots;             /* datagrams held back in all */
    uint32_t proofs_per_s;          /* signatures checked for one address (IPv4) or /56 (IPv6) */
    uint32_t stun_per_s;            /* STUN requests answered for one address or /56; 0: none */
    unsigned allow;                 /* of enum rift_relay_range */
    const uint8_t (*issuers)[32];   /* Ed25519, N_ISSUERS; copied */
    size_t n_issuers;
    const struct rift_relay_address *own; /* the relay's own addresses, N_OWN, any socket number; copied */
    size_t n_own;
    uint8_t secret[32]; /* of challenges; one that a restart keeps saves the peers a round */
};

struct rift_relay_clock {
    uint64_t now;    /* monotonic, nanoseconds */
    uint64_t unix_s; /* what leases are written in */
};

struct rift_relay_stats {
    uint64_t forwarded, forwarded_bytes; /* what left, held back or not */
    uint64_t shaped;                     /* held back for a while */
    uint64_t marked;                     /* given CE for it */
    uint64_t dropped_queue;              /* a direction's queue, or all of it, was full */
    uint64_t dropped_unknown;            /* no such channel, or another address or token */
    uint64_t dropped_malformed;          /* no datagram of ours, or too long */
    uint64_t dropped_absent;             /* the other side is not there */
    uint64_t dropped_replies;            /* the queue of answers was full */
    uint64_t challenges, unproven;       /* sent; BINDs without a valid one */
    uint64_t binds, moves, renewals; /* proofs accepted; of which from another address, with a later end */
    uint64_t stun_answers, stun_dropped; /* requests of STUN: answered; too many, or from no usable address */
    uint64_t expired, withdrawn;         /* leases: over; their issuer is trusted no more */
    uint64_t refused[RIFT_RELAY_REASONS];
    uint64_t leases, bound; /* now */
    uint64_t queued;        /* datagrams held back now */
};

struct rift_relay;

enum {
    RIFT_RELAY_FORWARD = 1, /* send it on */
    RIFT_RELAY_IDLE = 2,    /* nothing to send before the timeout */
    RIFT_RELAY_EMPTY = 3,   /* a record of no lease */
};

/* Returns 0, -EINVAL or -ENOMEM. */
int rift_relay_new(struct rift_relay **ret, const struct rift_relay_config *config);
struct rift_relay *rift_relay_free(struct rift_relay *r);

/* Takes one datagram. RIFT_RELAY_FORWARD: its first 8 bytes were rewritten, and it is to be sent to *RET_TO
 * (valid until the next call of any function) now. 0: it was consumed; an answer, if any, comes out of
 * rift_relay_send(). ECN are the two bits that it came with, and is to be sent with. */
int rift_relay_receive(struct rift_relay *r, const struct rift_relay_address *from, uint8_t *datagram,
                       size_t len, uint8_t *ecn, const struct rift_relay_clock *clock,
                       const struct rift_relay_address **ret_to);

struct rift_relay_out {
    struct rift_relay_address to;
    const uint8_t *data; /* valid until the next call of any function */
    size_t len;
    uint8_t ecn;
};
/* The next answer or held datagram that is due: 0, or RIFT_RELAY_IDLE. */
int rift_relay_send(struct rift_relay *r, uint64_t now, struct rift_relay_out *ret);
/* When rift_relay_send() will next have something; UINT64_MAX: never. */
uint64_t rift_relay_timeout(const struct rift_relay *r);
/* Removes what is over; once a second. */
void rift_relay_sweep(struct rift_relay *r, uint64_t now);

void rift_relay_set_draining(struct rift_relay *r, bool draining);
bool rift_relay_is_draining(const struct rift_relay *r);
const struct rift_relay_stats *rift_relay_get_stats(const struct rift_relay *r);

/* ---- what a restart keeps: a record per place in the table ---- */

#define RIFT_RELAY_RECORD_BYTES 280

/* The next place whose record changed since it was last told. */
bool rift_relay_next_changed(struct rift_relay *r, size_t *ret_place);
void rift_relay_export(const struct rift_relay *r, size_t place, uint8_t ret_record[RIFT_RELAY_RECORD_BYTES]);
/* Takes a record into an unused place of a new relay; monotonic time must have gone on since it was written.
 * Foreign bytes. Returns 0, RIFT_RELAY_EMPTY, or -EBADMSG: damaged, over, of an unknown issuer or relay. */
int rift_relay_import(struct rift_relay *r, size_t place, const uint8_t record[RIFT_RELAY_RECORD_BYTES],
                      const struct rift_relay_clock *clock);
