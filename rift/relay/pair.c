/* One or two relays of a way; see pair.h. */
#include "rift/relay/pair.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define UNUSED_NS (3 * WV_NS_PER_S) /* what is under way through it still comes */

static bool is_used(const struct rift_relay_place *p, const uint8_t *used)
{
    return p->client && used && !memcmp(p->name, used, sizeof p->name);
}

static enum rift_relay_client_state state_of(const struct rift_relay_place *p)
{
    struct rift_relay_client_status s;
    rift_relay_client_get_status(p->client, &s);
    return s.state;
}

static void clear(struct rift_relay_place *p)
{
    rift_relay_client_free(p->client);
    explicit_bzero(p, sizeof *p);
}

void rift_relay_pair_drop(struct rift_relay_pair *r, struct rift_punch *punch, struct rift_relay_place *place)
{
    if (punch && place->client)
        rift_punch_drop_relayed(punch, place->name);
    clear(place);
    if (place != &r->newest)
        return;
    r->newest = r->before;
    explicit_bzero(&r->before, sizeof r->before);
}

void rift_relay_pair_fini(struct rift_relay_pair *r)
{
    clear(&r->newest);
    clear(&r->before);
}

/* It is a later word on the newest one. */
static bool is_known(struct rift_relay_place *p, const uint8_t *lease, const uint8_t *relay, uint64_t now)
{
    if (!p->client)
        return false;
    if (!memcmp(p->lease, lease, sizeof p->lease))
        return true;
    if (memcmp(p->address, relay, sizeof p->address) != 0 ||
        rift_relay_client_renew(p->client, lease, now) != 0)
        return false;
    memcpy(p->lease, lease, sizeof p->lease);
    return true;
}

/* What carries the session stays, and what was there first where none does. */
static void make_room(struct rift_relay_pair *r, struct rift_punch *punch, const uint8_t *used)
{
    if (!r->newest.client)
        return;
    if (r->before.client)
        rift_relay_pair_drop(r, punch, is_used(&r->before, used) ? &r->newest : &r->before);
    r->before = r->newest;
    r->newest = (struct rift_relay_place){0};
}

int rift_relay_pair_take(struct rift_relay_pair *r, struct rift_punch *punch,
                         const uint8_t lease[RIFT_LEASE_BYTES], const uint8_t relay[RIFT_ADDRESS_BYTES],
                         const uint8_t secret[64], const uint8_t *used, uint64_t now)
{
    struct rift_relay_client *client;
    struct rift_lease terms;
    if (rift_lease_parse(lease, RIFT_LEASE_BYTES, &terms) < 0)
        return -EINVAL;
    if (is_known(&r->newest, lease, relay, now))
        return 0;
    int e = rift_relay_client_new(&client, lease, secret, now);
    if (e < 0)
        return e;
    make_room(r, punch, used);
    r->newest.client = client;
    r->newest.since_ns = now;
    memcpy(r->newest.lease, lease, sizeof r->newest.lease);
    memcpy(r->newest.address, relay, sizeof r->newest.address);
    rift_punch_relayed_address(terms.id, r->newest.name);
    r->unused_ns = r->before.client ? now : 0;
    if (punch)
        (void)rift_punch_add_relayed(punch, r->newest.name, now); /* there is room: two at most */
    return 0;
}

bool rift_relay_pair_tidy(struct rift_relay_pair *r, struct rift_punch *punch, const uint8_t *used,
                          uint64_t now)
{
    if (!r->before.client)
        return false;
    bool works = state_of(&r->newest) == RIFT_RELAY_CLIENT_BOUND;
    if (is_used(&r->before, used) || !works)
        r->unused_ns = now;
    bool is_over = state_of(&r->before) == RIFT_RELAY_CLIENT_REFUSED ||
                   (works && state_of(&r->before) != RIFT_RELAY_CLIENT_BOUND);
    if (!is_over && now - r->unused_ns < UNUSED_NS)
        return false;
    rift_relay_pair_drop(r, punch, &r->before);
    return true;
}

void rift_relay_pair_moved(struct rift_relay_pair *r, uint64_t now)
{
    for (unsigned i = 0; i < 2; i++)
        if (rift_relay_pair_at(r, i))
            rift_relay_client_moved(rift_relay_pair_at(r, i)->client, now);
}

uint64_t rift_relay_pair_timeout(const struct rift_relay_pair *r)
{
    uint64_t at = UINT64_MAX;
    if (r->newest.client)
        at = rift_relay_client_timeout(r->newest.client);
    if (r->before.client) {
        at = WV_MIN(at, rift_relay_client_timeout(r->before.client));
        at = WV_MIN(at, r->unused_ns + UNUSED_NS);
    }
    return at;
}

struct rift_relay_place *rift_relay_pair_find(struct rift_relay_pair *r,
                                              const uint8_t name[RIFT_ADDRESS_BYTES])
{
    for (unsigned i = 0; i < 2; i++) {
        struct rift_relay_place *p = rift_relay_pair_at(r, i);
        if (p && !memcmp(p->name, name, sizeof p->name))
            return p;
    }
    return NULL;
}

struct rift_relay_place *rift_relay_pair_at(struct rift_relay_pair *r, unsigned i)
{
    struct rift_relay_place *p = i == 0 ? &r->newest : &r->before;
    return p->client ? p : NULL;
}
