/* Signs leases. See leases.h. */
#include "services/gateway/leases.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void wv_leases_init(struct wv_leases *l, const uint8_t seed[WV_LEASES_SEED_BYTES], uint32_t rate_kbps,
                    uint32_t seconds)
{
    crypto_sign_seed_keypair(l->key, l->secret, seed);
    l->rate_kbps = rate_kbps;
    l->seconds = seconds;
}

void wv_leases_fini(struct wv_leases *l)
{
    sodium_memzero(l, sizeof *l);
}

static int sign(const struct wv_leases *l, struct rift_lease *lease, uint64_t unix_s,
                char ret_text[RIFT_LEASE_TEXT_BYTES], uint64_t *ret_expires_s)
{
    uint8_t bytes[RIFT_LEASE_BYTES];
    lease->rate_kbps = l->rate_kbps;
    lease->not_before_s = unix_s;
    lease->expires_s = unix_s + l->seconds;
    int r = rift_lease_sign(lease, l->secret, bytes);
    if (r < 0)
        return r;
    rift_lease_format(bytes, ret_text);
    *ret_expires_s = lease->expires_s;
    return 0;
}

int wv_leases_issue(const struct wv_leases *l, const struct wv_lease_order *order, uint64_t unix_s,
                    char ret_text[RIFT_LEASE_TEXT_BYTES], uint64_t *ret_expires_s)
{
    struct rift_lease lease;
    memset(&lease, 0, sizeof lease);
    randombytes_buf(lease.id, sizeof lease.id);
    rift_relay_id(order->relay, lease.relay);
    memcpy(lease.peers[0], order->host_key, 32);
    memcpy(lease.peers[1], order->client_key, 32);
    return sign(l, &lease, unix_s, ret_text, ret_expires_s);
}

int wv_leases_renew(const struct wv_leases *l, const char *text, const struct wv_lease_order *order,
                    uint64_t unix_s, char ret_text[RIFT_LEASE_TEXT_BYTES], uint64_t *ret_expires_s)
{
    uint8_t bytes[RIFT_LEASE_BYTES], relay[RIFT_RELAY_ID_BYTES];
    struct rift_lease lease;
    if (rift_lease_parse_text(text, bytes) < 0 || rift_lease_parse(bytes, sizeof bytes, &lease) < 0)
        return -EINVAL;
    rift_relay_id(order->relay, relay);
    if (!rift_lease_is_signed(bytes, l->key) || memcmp(lease.relay, relay, sizeof relay) != 0 ||
        memcmp(lease.peers[0], order->host_key, 32) != 0 ||
        memcmp(lease.peers[1], order->client_key, 32) != 0)
        return -EPERM;
    if (unix_s >= lease.expires_s)
        return -ETIME;
    return sign(l, &lease, unix_s, ret_text, ret_expires_s);
}
