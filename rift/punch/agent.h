/* Finds the ways between a client and a host that exchanged a secret and where they may be reached, WIRE.md
 * section 12, sans-IO: knocks and answers in and out, and at the client which way is the best one now. It
 * knows nothing of sessions: who owns it sends where it says. A relayed way is an address like another to it,
 * of a kind that is chosen only when nothing direct answers. Bounded: a fixed table, no allocation after
 * rift_punch_new(), and to an address that never answered a fixed number of knocks. */
#pragma once

#include "rift/punch/knock.h"

#define RIFT_PUNCH_CANDIDATES 16 /* that the peer may name */
#define RIFT_PUNCH_PATHS      26 /* with those learnt from knocks, and the relayed ones */
#define RIFT_PUNCH_RELAYED    2  /* the one in use, and the one that is to take over */

enum rift_candidate_kind {
    RIFT_CANDIDATE_LOCAL = 1,     /* of an interface of the peer */
    RIFT_CANDIDATE_REFLEXIVE = 2, /* as a STUN server or a relay sees it */
    RIFT_CANDIDATE_MAPPED = 3,    /* that a router gave it */
    RIFT_CANDIDATE_RELAYED = 4,   /* not to be named: rift_punch_set_relayed() */
    RIFT_CANDIDATE_PEER = 5,      /* not to be named: a genuine knock came from there */
};

struct rift_candidate {
    uint8_t address[RIFT_ADDRESS_BYTES];
    uint8_t kind;
    uint32_t priority; /* higher is tried sooner */
};

/* Why the way is as it is, for a person. */
enum rift_punch_why {
    RIFT_PUNCH_TRYING,        /* there is none yet */
    RIFT_PUNCH_DIRECT,        /* direct */
    RIFT_PUNCH_NO_CANDIDATES, /* relayed: the peer named no address */
    RIFT_PUNCH_NO_ANSWER,     /* relayed: no address that was tried answered */
    RIFT_PUNCH_FELL_SILENT,   /* relayed: the direct way stopped answering */
    RIFT_PUNCH_NOT_YET,       /* relayed: a direct way was slower to come than the relay; it is still tried */
};

struct rift_punch_status {
    bool has_path, relayed;
    uint8_t address[RIFT_ADDRESS_BYTES];  /* of the peer, on the way that was chosen */
    uint8_t observed[RIFT_ADDRESS_BYTES]; /* ours as the peer sees it there; all zero: not known */
    enum rift_candidate_kind kind;
    enum rift_punch_why why;
    uint64_t rtt_ns;   /* of the chosen way; 0: not measured */
    unsigned paths;    /* addresses that were or are tried */
    unsigned answered; /* that answer now, without the relay */
    uint64_t knocks_sent, knocks_received, answers_received;
    uint64_t dropped; /* forged, of our own role, repeated, or for no room */
    uint64_t switches;
};

enum {
    RIFT_PUNCH_DROPPED = 1, /* receive: not genuine, or nothing new */
    RIFT_PUNCH_USE = 2, /* receive, host: the client's datagrams come from this proven address from now on */
    RIFT_PUNCH_SWITCHED = 1, /* tick: another way was chosen */
    RIFT_PUNCH_IDLE = 1,     /* send: nothing is due */
    RIFT_PUNCH_FULL = 2,     /* add: no room */
};

struct rift_punch;

/* SECRET was exchanged under the peers' keys, for this purpose alone. Returns 0 or -ENOMEM. */
int rift_punch_new(struct rift_punch **ret, enum rift_role role,
                   const uint8_t secret[RIFT_KNOCK_SECRET_BYTES], uint64_t now);
struct rift_punch *rift_punch_free(struct rift_punch *p);
const uint8_t *rift_punch_id(const struct rift_punch *p); /* RIFT_KNOCK_ID_BYTES */

/* One more address of the peer. Returns 0 (also when it is known), RIFT_PUNCH_FULL, or -EINVAL: nobody is to
 * be sent anything there (multicast, loopback, broadcast, port 0). */
int rift_punch_add(struct rift_punch *p, const struct rift_candidate *candidate, uint64_t now);
/* The only relayed way: ADDRESS is the owner's name for it; NULL: there is none. */
void rift_punch_set_relayed(struct rift_punch *p, const uint8_t *address, uint64_t now);
/* One more relayed way, which is taken instead of those before it as soon as it has answered twice: a change
 * of relay without a pause. Returns 0 (also when it is known) or RIFT_PUNCH_FULL: RIFT_PUNCH_RELAYED are
 * there. */
int rift_punch_add_relayed(struct rift_punch *p, const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t now);
void rift_punch_drop_relayed(struct rift_punch *p, const uint8_t address[RIFT_ADDRESS_BYTES]);
/* Where we seem to be reached, IPv4 and IPv6 apart: the peer is told by knocks. */
void rift_punch_set_own(struct rift_punch *p, const uint8_t address[RIFT_ADDRESS_BYTES]);

/* A datagram that rift_knock_is() takes for ours came from FROM. Returns 0, RIFT_PUNCH_DROPPED or
 * RIFT_PUNCH_USE. */
int rift_punch_receive(struct rift_punch *p, const uint8_t from[RIFT_ADDRESS_BYTES], const uint8_t *datagram,
                       size_t len, uint64_t now);
/* Client: an authentic datagram of the session came from FROM. */
void rift_punch_heard(struct rift_punch *p, const uint8_t from[RIFT_ADDRESS_BYTES], uint64_t now);
/* The peer is silent, perhaps because a router on our side forgot us: who answered before is knocked at once
 * more, a few times, also through a relay. Addresses that never answered get nothing for that. */
void rift_punch_reopen(struct rift_punch *p, uint64_t now);
/* Our own network is another one, or may be: everything is tried anew. */
void rift_punch_network_changed(struct rift_punch *p, uint64_t now);

/* Client: chooses. Call it after receiving and at the timeout. Returns 0 or RIFT_PUNCH_SWITCHED. */
int rift_punch_tick(struct rift_punch *p, uint64_t now);
/* The next datagram that is due, RIFT_KNOCK_BYTES into BUFFER. Returns 0 or RIFT_PUNCH_IDLE. */
int rift_punch_send(struct rift_punch *p, uint8_t buffer[RIFT_KNOCK_BYTES], uint64_t now,
                    uint8_t ret_to[RIFT_ADDRESS_BYTES]);
/* When to call rift_punch_tick() and rift_punch_send() next; UINT64_MAX: not before something comes. */
uint64_t rift_punch_timeout(const struct rift_punch *p);

void rift_punch_get_status(const struct rift_punch *p, struct rift_punch_status *ret_status);

/* Host: what must be known after a restart so that no old knock counts again: the highest number that came;
 * and back. */
uint32_t rift_punch_number(const struct rift_punch *p);
void rift_punch_set_number(struct rift_punch *p, uint32_t number);

/* The name of the relayed way of a lease: in 100::/64, where no datagram comes from. */
void rift_punch_relayed_address(const uint8_t lease_id[16], uint8_t ret_address[RIFT_ADDRESS_BYTES]);
bool rift_punch_is_relayed(const uint8_t address[RIFT_ADDRESS_BYTES]);
/* Whether anybody may be sent something there. */
bool rift_punch_may_try(const uint8_t address[RIFT_ADDRESS_BYTES]);
