/* Which relay. See relays.h. */
#include "services/gateway/relays.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

struct wv_relays {
    struct place {
        struct wv_relay relay;
        bool kept;
    } * places[WV_RELAYS_MAX];
    size_t n;
};

int wv_relays_new(struct wv_relays **ret)
{
    struct wv_relays *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    *ret = r;
    return 0;
}

struct wv_relays *wv_relays_free(struct wv_relays *r)
{
    for (size_t i = 0; r && i < r->n; i++)
        free(r->places[i]);
    free(r);
    return NULL;
}

static struct place *find(const struct wv_relays *r, const char *id)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->places[i]->relay.record.id, id))
            return r->places[i];
    return NULL;
}

void wv_relays_begin(struct wv_relays *r)
{
    for (size_t i = 0; i < r->n; i++)
        r->places[i]->kept = false;
}

int wv_relays_put(struct wv_relays *r, const struct wv_relay_record *record)
{
    struct place *p = find(r, record->id);
    if (!p) {
        if (r->n == WV_RELAYS_MAX)
            return -ENOBUFS;
        p = calloc(1, sizeof *p);
        if (!p)
            return -ENOMEM;
        r->places[r->n++] = p;
    } else if (memcmp(p->relay.record.key, record->key, sizeof record->key) != 0) {
        p->relay.at = 0; /* another relay of the same name */
    }
    p->relay.record = *record;
    p->kept = true;
    return 0;
}

void wv_relays_end(struct wv_relays *r)
{
    for (size_t i = r->n; i-- > 0;) {
        if (r->places[i]->kept)
            continue;
        free(r->places[i]);
        r->places[i] = r->places[--r->n];
    }
}

const struct wv_relay *wv_relays_find(const struct wv_relays *r, const char *id)
{
    const struct place *p = find(r, id);
    return p ? &p->relay : NULL;
}

int wv_relays_beat(struct wv_relays *r, const struct rift_heartbeat *beat, uint64_t unix_s, uint64_t now)
{
    struct place *p = find(r, beat->relay);
    if (!p)
        return -ENOENT;
    if (beat->unix_s > unix_s + WV_RELAYS_CLOCK_S || beat->unix_s + WV_RELAYS_CLOCK_S < unix_s)
        return -ETIME;
    if (beat->unix_s <= p->relay.at)
        return -EALREADY;
    p->relay.load = beat->load;
    p->relay.leases = beat->leases;
    p->relay.draining = beat->draining;
    p->relay.at = beat->unix_s;
    p->relay.heard = now;
    return 0;
}

bool wv_relay_is_usable(const struct wv_relay *relay, uint64_t now)
{
    return relay->at && now - relay->heard < WV_RELAYS_SILENCE_S * WV_NS_PER_S && !relay->draining &&
           !relay->record.drain && relay->load < WV_RELAYS_FULL;
}

static bool is_candidate(const struct place *p, const char *region, uint64_t now)
{
    return wv_relay_is_usable(&p->relay, now) && (!region || !strcmp(region, p->relay.record.region));
}

static const struct wv_relay *choose_in(const struct wv_relays *r, const char *region, uint32_t chance,
                                        uint64_t now)
{
    uint64_t total = 0;
    for (size_t i = 0; i < r->n; i++)
        if (is_candidate(r->places[i], region, now))
            total += 1000 - r->places[i]->relay.load;
    if (!total)
        return NULL;
    uint64_t at = chance % total;
    for (size_t i = 0; i < r->n; i++) {
        const struct wv_relay *relay = &r->places[i]->relay;
        if (!is_candidate(r->places[i], region, now))
            continue;
        if (at < 1000 - relay->load)
            return relay;
        at -= 1000 - relay->load;
    }
    return NULL;
}

const struct wv_relay *wv_relays_choose(const struct wv_relays *r, const char *region, uint32_t chance,
                                        uint64_t now)
{
    const struct wv_relay *relay = region && *region ? choose_in(r, region, chance, now) : NULL;
    return relay ? relay : choose_in(r, NULL, chance, now);
}

void wv_relays_each(const struct wv_relays *r, wv_relays_fn each, void *userdata)
{
    for (size_t i = 0; i < r->n; i++)
        each(userdata, &r->places[i]->relay);
}

size_t wv_relays_usable(const struct wv_relays *r, uint64_t now)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += wv_relay_is_usable(&r->places[i]->relay, now);
    return n;
}
