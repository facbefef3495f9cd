/* Issues leases of relays (rift/relay/lease.h) with a key that all gateways of one database share. Pure: time
 * comes in. Must never sign for peers who were not checked, nor for longer than it was told. */
#pragma once

#include "rift/relay/lease.h"

#define WV_LEASES_SEED_BYTES 32
#define WV_LEASES_SETTING    "lease-issuer" /* the seed's name in the store */

struct wv_leases {
    uint8_t secret[64], key[32]; /* Ed25519 */
    uint32_t rate_kbps, seconds;
};

struct wv_lease_order {
    const char *relay;                    /* its name */
    uint8_t host_key[32], client_key[32]; /* of this lease alone, Ed25519 */
};

void wv_leases_init(struct wv_leases *l, const uint8_t seed[WV_LEASES_SEED_BYTES], uint32_t rate_kbps,
                    uint32_t seconds);
void wv_leases_fini(struct wv_leases *l);

/* Returns 0, or -EINVAL: the keys are the same one. */
int wv_leases_issue(const struct wv_leases *l, const struct wv_lease_order *order, uint64_t unix_s,
                    char ret_text[RIFT_LEASE_TEXT_BYTES], uint64_t *ret_expires_s);
/* The same lease, by its id, for longer. Returns 0, -EINVAL (no lease), -EPERM (not of this issuer, these
 * peers or this relay), -ETIME (over). */
int wv_leases_renew(const struct wv_leases *l, const char *text, const struct wv_lease_order *order,
                    uint64_t unix_s, char ret_text[RIFT_LEASE_TEXT_BYTES], uint64_t *ret_expires_s);
