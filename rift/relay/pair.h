/* The relays of one way between two peers: the one that the newest lease names, and beside it the one before,
 * which goes on until the session has left it. So a relay that drains, or whose lease is not renewed, is
 * changed without a pause: nothing is given up before its successor works. Sans-IO, two at most, and used by
 * the client and the host alike. Must never drop a relay that carries the session while another one is not
 * proven. */
#pragma once

#include "rift/punch/agent.h"
#include "rift/relay/client.h"

struct rift_relay_place {
    struct rift_relay_client *client; /* NULL: the place is free */
    uint8_t lease[RIFT_LEASE_BYTES];
    uint8_t address[RIFT_ADDRESS_BYTES]; /* of the relay */
    uint8_t name[RIFT_ADDRESS_BYTES];    /* of the way through it: rift_punch_relayed_address() */
    uint64_t since_ns;
};

struct rift_relay_pair {
    struct rift_relay_place newest, before; /* BEFORE only beside NEWEST */
    uint64_t unused_ns;                     /* since when BEFORE carries nothing; 0: it does */
};

/* A lease for RELAY came; SECRET is the half of a key that it must name. A renewal, or the same again, stays
 * with its relay; another one begins beside what there is, and PUNCH (also NULL) learns of the way. USED: the
 * address that the session goes to, NULL or any other when it goes through none of these. Returns 0, -EINVAL
 * (no lease, or not ours), -ENOMEM. */
int rift_relay_pair_take(struct rift_relay_pair *r, struct rift_punch *punch,
                         const uint8_t lease[RIFT_LEASE_BYTES], const uint8_t relay[RIFT_ADDRESS_BYTES],
                         const uint8_t secret[64], const uint8_t *used, uint64_t now);
/* Gives up what is of no use: the one before, some seconds after the session has left it, or when its lease
 * has ended. Call it when something was received and at the timeout. Returns whether anything was. */
bool rift_relay_pair_tidy(struct rift_relay_pair *r, struct rift_punch *punch, const uint8_t *used,
                          uint64_t now);
/* For both: our address may be another one. */
void rift_relay_pair_moved(struct rift_relay_pair *r, uint64_t now);
uint64_t rift_relay_pair_timeout(const struct rift_relay_pair *r);
/* Whose way is called NAME; NULL: none of these. */
struct rift_relay_place *rift_relay_pair_find(struct rift_relay_pair *r,
                                              const uint8_t name[RIFT_ADDRESS_BYTES]);
/* The place I (0: the newest) when there is one, else NULL. */
struct rift_relay_place *rift_relay_pair_at(struct rift_relay_pair *r, unsigned i);
/* Forgets one, and its way. */
void rift_relay_pair_drop(struct rift_relay_pair *r, struct rift_punch *punch,
                          struct rift_relay_place *place);
/* Forgets both; their ways are PUNCH's to forget. */
void rift_relay_pair_fini(struct rift_relay_pair *r);
