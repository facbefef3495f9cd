#include "services/gateway/limits.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

/* A key may be in any of this many places behind its own. */
#define WAYS 8

struct bucket {
    uint8_t key[WV_LIMIT_KEY_BYTES];
    double level; /* tokens at `since` */
    uint64_t since;
    bool used;
};

struct wv_limits {
    struct wv_limit limit;
    uint8_t secret[16];
    size_t places;
    struct bucket buckets[];
};

static int check(const struct wv_limit *limit)
{
    return limit->per_second > 0 && limit->burst >= 1 ? 0 : -EINVAL;
}

int wv_limits_new(struct wv_limits **ret, size_t places, const struct wv_limit *limit,
                  const uint8_t secret[16])
{
    if (places < WAYS || places > SIZE_MAX / 2 / sizeof(struct bucket) || check(limit) < 0)
        return -EINVAL;
    struct wv_limits *l = calloc(1, sizeof *l + places * sizeof l->buckets[0]);
    if (!l)
        return -ENOMEM;
    l->places = places;
    l->limit = *limit;
    memcpy(l->secret, secret, sizeof l->secret);
    *ret = l;
    return 0;
}

struct wv_limits *wv_limits_free(struct wv_limits *l)
{
    free(l);
    return NULL;
}

void wv_limits_set(struct wv_limits *l, const struct wv_limit *limit)
{
    if (check(limit) == 0)
        l->limit = *limit;
}

static double level_at(const struct wv_limits *l, const struct bucket *b, uint64_t now)
{
    double grown = (double)(now - WV_MIN(b->since, now)) / (double)WV_NS_PER_S * l->limit.per_second;
    return WV_MIN(b->level + grown, l->limit.burst);
}

/* The bucket of KEY; when it has none, the fullest of those places that it may have: its owner loses least.
 */
static struct bucket *place_of(struct wv_limits *l, const uint8_t key[WV_LIMIT_KEY_BYTES], uint64_t now,
                               bool *ret_known)
{
    uint64_t hash;
    struct bucket *best = NULL;
    double most = -1;
    _Static_assert(crypto_shorthash_BYTES == sizeof hash, "a place is 64 bits of SipHash");
    crypto_shorthash((uint8_t *)&hash, key, WV_LIMIT_KEY_BYTES, l->secret);
    for (size_t i = 0; i < WAYS; i++) {
        struct bucket *b = &l->buckets[(hash + i) % l->places];
        *ret_known = b->used && !memcmp(b->key, key, WV_LIMIT_KEY_BYTES);
        if (*ret_known)
            return b;
        double level = b->used ? level_at(l, b, now) : l->limit.burst + 1;
        if (level > most) {
            most = level;
            best = b;
        }
    }
    return best;
}

uint64_t wv_limits_take(struct wv_limits *l, const uint8_t key[WV_LIMIT_KEY_BYTES], double cost, uint64_t now)
{
    bool known;
    struct bucket *b = place_of(l, key, now, &known);
    if (cost > l->limit.burst)
        return UINT64_MAX;
    double level = known ? level_at(l, b, now) : l->limit.burst;
    if (level < cost)
        return (uint64_t)((cost - level) / l->limit.per_second * 1000) + 1;
    memcpy(b->key, key, WV_LIMIT_KEY_BYTES);
    b->level = level - cost;
    b->since = now;
    b->used = true;
    return 0;
}

void wv_limits_give(struct wv_limits *l, const uint8_t key[WV_LIMIT_KEY_BYTES], double cost, uint64_t now)
{
    bool known;
    struct bucket *b = place_of(l, key, now, &known);
    if (!known)
        return;
    b->level = WV_MIN(level_at(l, b, now) + cost, l->limit.burst);
    b->since = now;
}

size_t wv_limits_used(const struct wv_limits *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->places; i++)
        n += l->buckets[i].used;
    return n;
}

void wv_limit_key(const uint8_t address[16], const char *text, uint8_t ret_key[WV_LIMIT_KEY_BYTES])
{
    static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t input[16] = {0};
    crypto_generichash_state state;
    memcpy(input, address, memcmp(address, v4_mapped, sizeof v4_mapped) ? 8 : 16);
    if (!text) {
        memcpy(ret_key, input, WV_LIMIT_KEY_BYTES);
        return;
    }
    crypto_generichash_init(&state, NULL, 0, WV_LIMIT_KEY_BYTES);
    crypto_generichash_update(&state, input, sizeof input);
    crypto_generichash_update(&state, (const uint8_t *)text, strlen(text));
    crypto_generichash_final(&state, ret_key, WV_LIMIT_KEY_BYTES);
}
