/* Which message may come from whom, when, how often and how large; all else is counted and dropped. Never
 * allocates after it was made: messages are unpacked into an arena that is empty again when the handler
 * returns, and a message that would unfold to more than the arena is malformed. */
#include "lib/base/util.h"
#include "lib/ipc/bus_internal.h"

#include <errno.h>
#include <string.h>

/* An unpacked message is larger than a packed one: a submessage of 12 bytes becomes 72 with its pointer. */
#define ARENA_FACTOR 16
#define ARENA_EXTRA  65536
#define ARENA_ALIGN  16

struct bucket {
    uint64_t level_ns; /* unspent time; a message costs 1 s / max_per_second */
    uint64_t filled_ns;
};

struct arena {
    uint8_t *memory;
    size_t capacity, used;
};

struct bus_dispatcher {
    const struct wv_bus_rule *rules;
    size_t n_rules;
    void *userdata;
    enum wv_bus_phase phase;
    struct wv_bus_stats stats;
    struct arena arena;
    ProtobufCAllocator allocator;
    struct bucket buckets[];
};

static void *arena_alloc(void *userdata, size_t size)
{
    struct arena *a = userdata;
    if (size > a->capacity - a->used)
        return NULL;
    void *memory = a->memory + a->used;
    size_t rounded = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    a->used += WV_MIN(rounded, a->capacity - a->used);
    return memory;
}

static void arena_release(void *userdata, void *memory)
{
    /* All at once, when the handler is done. */
}

static bool rule_checks_out(const struct wv_bus_rule *rule)
{
    return rule->sender && rule->type && rule->handle && rule->max_per_second > 0 &&
           rule->max_per_second <= WV_NS_PER_S && rule->max_bytes <= SIZE_MAX / ARENA_FACTOR - ARENA_EXTRA &&
           strlen(rule->type->name) < BUS_NAME_MAX;
}

int bus_dispatcher_new(struct bus_dispatcher **ret, const struct wv_bus_rule *rules, size_t n_rules,
                       void *userdata)
{
    size_t largest = 0;
    for (size_t i = 0; i < n_rules; i++) {
        if (!rule_checks_out(&rules[i]))
            return -EINVAL;
        largest = WV_MAX(largest, rules[i].max_bytes);
    }
    struct bus_dispatcher *d = calloc(1, sizeof(*d) + n_rules * sizeof(d->buckets[0]));
    if (!d)
        return -ENOMEM;
    d->arena.capacity = largest * ARENA_FACTOR + ARENA_EXTRA;
    d->arena.memory = malloc(d->arena.capacity);
    if (!d->arena.memory) {
        free(d);
        return -ENOMEM;
    }
    d->rules = rules;
    d->n_rules = n_rules;
    d->userdata = userdata;
    d->phase = WV_PHASE_START;
    d->allocator = (ProtobufCAllocator){arena_alloc, arena_release, &d->arena};
    for (size_t i = 0; i < n_rules; i++)
        d->buckets[i].level_ns = WV_NS_PER_S;
    *ret = d;
    return 0;
}

struct bus_dispatcher *bus_dispatcher_free(struct bus_dispatcher *d)
{
    if (!d)
        return NULL;
    free(d->arena.memory);
    free(d);
    return NULL;
}

void bus_dispatcher_set_phase(struct bus_dispatcher *d, enum wv_bus_phase phase)
{
    d->phase = phase;
}

struct wv_bus_stats *bus_dispatcher_stats(struct bus_dispatcher *d)
{
    return &d->stats;
}

size_t bus_dispatcher_max_bytes(const struct bus_dispatcher *d, const char *sender)
{
    size_t largest = 0;
    for (size_t i = 0; i < d->n_rules; i++)
        if (strcmp(d->rules[i].sender, sender) == 0)
            largest = WV_MAX(largest, d->rules[i].max_bytes);
    return largest;
}

static bool take_token(struct bucket *bucket, uint32_t max_per_second, uint64_t now)
{
    if (now > bucket->filled_ns) {
        uint64_t gained = WV_MIN(now - bucket->filled_ns, WV_NS_PER_S);
        bucket->level_ns = WV_MIN(bucket->level_ns + gained, WV_NS_PER_S);
        bucket->filled_ns = now;
    }
    uint64_t cost = WV_NS_PER_S / max_per_second;
    if (bucket->level_ns < cost)
        return false;
    bucket->level_ns -= cost;
    return true;
}

/* The rule for a message of this NAME from SENDER; of several, one that holds in this phase. */
static const struct wv_bus_rule *find_rule(const struct bus_dispatcher *d, const char *sender,
                                           const void *name, size_t name_len)
{
    const struct wv_bus_rule *found = NULL;
    for (size_t i = 0; i < d->n_rules; i++) {
        const struct wv_bus_rule *rule = &d->rules[i];
        if (strcmp(rule->sender, sender) != 0 || strlen(rule->type->name) != name_len ||
            memcmp(rule->type->name, name, name_len) != 0)
            continue;
        if (rule->phases & d->phase)
            return rule;
        found = rule;
    }
    return found;
}

int bus_dispatch(struct bus_dispatcher *d, const char *sender, size_t n_parts, const void *name,
                 size_t name_len, const void *data, size_t len, uint64_t now)
{
    d->stats.received++;
    if (n_parts != 2) {
        d->stats.dropped_malformed++;
        return 0;
    }
    const struct wv_bus_rule *rule = name_len < BUS_NAME_MAX ? find_rule(d, sender, name, name_len) : NULL;
    if (!rule) {
        d->stats.dropped_unknown++;
        return 0;
    }
    if (len > rule->max_bytes) {
        d->stats.dropped_size++;
        return 0;
    }
    if (!(rule->phases & d->phase)) {
        d->stats.dropped_phase++;
        return 0;
    }
    if (!take_token(&d->buckets[rule - d->rules], rule->max_per_second, now)) {
        d->stats.dropped_rate++;
        return 0;
    }
    d->arena.used = 0;
    ProtobufCMessage *message = protobuf_c_message_unpack(rule->type, &d->allocator, len, data);
    if (!message) {
        d->stats.dropped_malformed++;
        return 0;
    }
    int r = rule->handle(d->userdata, message, now);
    explicit_bzero(d->arena.memory, d->arena.used); /* a key does not stay behind its message */
    return r < 0 ? r : 0;
}
