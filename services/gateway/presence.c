/* The table of who is connected where. See presence.h. */
#include "services/gateway/presence.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define BUCKETS_MIN  64
#define ASK_AGAIN_NS WV_NS_PER_S
#define BEAT_NS      (WV_PRESENCE_BEAT_S * WV_NS_PER_S)
/* Half a heartbeat later than the third one should have come. */
#define SILENT_NS (WV_PRESENCE_MISSED * BEAT_NS + BEAT_NS / 2)

struct gateway {
    struct gateway *next;
    char id[WV_BUS_ID_BYTES];
    uint64_t heard, asked, count, digest;
    uint32_t generation; /* of the list that is coming in, or came last */
};

struct machine {
    struct machine *next; /* in its bucket */
    struct gateway *gateway;
    struct wv_presence_entry entry;
    uint64_t connection; /* here only */
    uint32_t generation;
};

struct wv_presence {
    struct wv_presence_limits limits;
    struct wv_presence_calls calls;
    uint8_t secret[16];
    struct gateway self; /* the first of the list */
    struct machine **buckets;
    size_t n_buckets, n_machines, n_gateways;
    uint64_t clock; /* the newest stamp that was seen or given */
    uint64_t next_beat;
    uint64_t displaced, expired, lists;
    bool left; /* has said goodbye: any word after that would make others wait for the next one */
    struct wv_presence_word word; /* being made: too large for a stack that is not ours */
};

static uint64_t hash(const struct wv_presence *p, const uint8_t *data, size_t len)
{
    uint8_t out[8];
    uint64_t value;
    crypto_shorthash(out, data, len, p->secret);
    memcpy(&value, out, sizeof value);
    return value;
}

/* The same on every gateway, so not keyed: it finds tables that differ by accident. */
static uint64_t fingerprint(const struct wv_presence_entry *e)
{
    static const uint8_t no_key[crypto_shorthash_KEYBYTES];
    uint8_t bytes[sizeof e->key + 8], out[8];
    uint64_t value = 0;
    memcpy(bytes, e->key, sizeof e->key);
    for (int i = 0; i < 8; i++)
        bytes[sizeof e->key + (size_t)i] = (uint8_t)(e->stamp >> (8 * i));
    crypto_shorthash(out, bytes, sizeof bytes, no_key);
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)out[i] << (8 * i);
    return value;
}

int wv_presence_new(struct wv_presence **ret, const char *self, const struct wv_presence_limits *limits,
                    const struct wv_presence_calls *calls, const uint8_t secret[16])
{
    if (!self[0] || strlen(self) >= WV_BUS_ID_BYTES || limits->machines == 0)
        return -EINVAL;
    struct wv_presence *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->limits = *limits;
    p->calls = *calls;
    memcpy(p->secret, secret, sizeof p->secret);
    snprintf(p->self.id, sizeof p->self.id, "%s", self);
    p->n_buckets = BUCKETS_MIN;
    p->buckets = calloc(p->n_buckets, sizeof *p->buckets);
    if (!p->buckets) {
        free(p);
        return -ENOMEM;
    }
    *ret = p;
    return 0;
}

struct wv_presence *wv_presence_free(struct wv_presence *p)
{
    if (!p)
        return NULL;
    for (size_t i = 0; i < p->n_buckets; i++) {
        for (struct machine *m = p->buckets[i], *next; m; m = next) {
            next = m->next;
            free(m);
        }
    }
    for (struct gateway *g = p->self.next, *next; g; g = next) {
        next = g->next;
        free(g);
    }
    free(p->buckets);
    free(p);
    return NULL;
}

/* ---- the table ---- */

static struct machine **place_of(const struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES])
{
    struct machine **at = &p->buckets[hash(p, key, WV_PRESENCE_KEY_BYTES) % p->n_buckets];
    while (*at && memcmp((*at)->entry.key, key, WV_PRESENCE_KEY_BYTES) != 0)
        at = &(*at)->next;
    return at;
}

static void grow(struct wv_presence *p)
{
    size_t n = p->n_buckets * 2;
    struct machine **buckets = calloc(n, sizeof *buckets);
    if (!buckets)
        return; /* slower, but right */
    for (size_t i = 0; i < p->n_buckets; i++) {
        for (struct machine *m = p->buckets[i], *next; m; m = next) {
            next = m->next;
            size_t to = hash(p, m->entry.key, sizeof m->entry.key) % n;
            m->next = buckets[to];
            buckets[to] = m;
        }
    }
    free(p->buckets);
    p->buckets = buckets;
    p->n_buckets = n;
}

static void count_in(struct machine *m)
{
    m->gateway->count++;
    m->gateway->digest ^= fingerprint(&m->entry);
    m->generation = m->gateway->generation;
}

static void count_out(struct machine *m)
{
    m->gateway->count--;
    m->gateway->digest ^= fingerprint(&m->entry);
}

static void remove_at(struct wv_presence *p, struct machine **at)
{
    struct machine *m = *at;
    count_out(m);
    *at = m->next;
    free(m);
    p->n_machines--;
}

/* Puts ENTRY of G where it is, or is not yet. What stood there was older. */
static int put(struct wv_presence *p, struct gateway *g, const struct wv_presence_entry *entry,
               uint64_t connection)
{
    struct machine **at = place_of(p, entry->key), *m = *at;
    uint64_t displaced = 0;
    if (m) {
        count_out(m);
        displaced = m->connection;
    } else {
        if (p->n_machines >= p->limits.machines)
            return -ENOBUFS;
        m = calloc(1, sizeof *m);
        if (!m)
            return -ENOMEM;
        *at = m;
        p->n_machines++;
    }
    m->gateway = g;
    m->entry = *entry;
    m->connection = connection;
    count_in(m);
    if (p->n_machines > 2 * p->n_buckets)
        grow(p);
    if (displaced) {
        p->displaced++;
        p->calls.displaced(p->calls.userdata, entry->key, displaced);
    }
    return 0;
}

static void remove_of(struct wv_presence *p, const struct gateway *g, bool old_only)
{
    for (size_t i = 0; i < p->n_buckets; i++) {
        struct machine **at = &p->buckets[i];
        while (*at) {
            if ((*at)->gateway == g && (!old_only || (*at)->generation != g->generation))
                remove_at(p, at);
            else
                at = &(*at)->next;
        }
    }
}

enum wv_presence_place wv_presence_find(const struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES],
                                        uint64_t *ret_connection, char ret_gateway[WV_BUS_ID_BYTES])
{
    const struct machine *m = *place_of(p, key);
    if (!m)
        return WV_PRESENCE_NOWHERE;
    if (m->gateway == &p->self) {
        if (ret_connection)
            *ret_connection = m->connection;
        return WV_PRESENCE_HERE;
    }
    if (ret_gateway)
        memcpy(ret_gateway, m->gateway->id, WV_BUS_ID_BYTES);
    return WV_PRESENCE_THERE;
}

/* ---- what is said ---- */

static struct wv_presence_word *word(struct wv_presence *p, enum wv_presence_kind kind)
{
    p->word.kind = kind;
    p->word.count = p->self.count;
    p->word.digest = p->self.digest;
    p->word.first = p->word.last = false;
    p->word.n = 0;
    return &p->word;
}

static void say(struct wv_presence *p, const char *to)
{
    if (p->left)
        return;
    p->calls.say(p->calls.userdata, to, &p->word);
}

static void say_one(struct wv_presence *p, enum wv_presence_kind kind, const struct wv_presence_entry *entry)
{
    struct wv_presence_word *w = word(p, kind);
    w->entries[w->n++] = *entry;
    say(p, NULL);
}

static void say_list(struct wv_presence *p, const char *to)
{
    struct wv_presence_word *w = word(p, WV_PRESENCE_LIST);
    w->first = true;
    for (size_t i = 0; i < p->n_buckets; i++) {
        for (const struct machine *m = p->buckets[i]; m; m = m->next) {
            if (m->gateway != &p->self)
                continue;
            if (w->n == WV_PRESENCE_LIST_ENTRIES) {
                say(p, to);
                w->first = false;
                w->n = 0;
            }
            w->entries[w->n++] = m->entry;
        }
    }
    w->last = true;
    say(p, to);
}

int wv_presence_join(struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES], uint64_t connection,
                     uint64_t unix_ms)
{
    struct wv_presence_entry entry = {.stamp = WV_MIN(unix_ms, (uint64_t)WV_PRESENCE_STAMP_MAX)};
    entry.stamp = WV_MAX(entry.stamp, p->clock + 1);
    memcpy(entry.key, key, sizeof entry.key);
    int r = put(p, &p->self, &entry, connection);
    if (r < 0)
        return r;
    p->clock = entry.stamp;
    say_one(p, WV_PRESENCE_JOINED, &entry);
    return 0;
}

void wv_presence_leave(struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES], uint64_t connection)
{
    struct machine **at = place_of(p, key);
    if (!*at || (*at)->gateway != &p->self || (*at)->connection != connection)
        return;
    struct wv_presence_entry entry = (*at)->entry;
    remove_at(p, at);
    say_one(p, WV_PRESENCE_LEFT, &entry);
}

/* ---- what is heard ---- */

static struct gateway *gateway(struct wv_presence *p, const char *id)
{
    struct gateway *g = p->self.next;
    while (g && strcmp(g->id, id) != 0)
        g = g->next;
    if (g || p->n_gateways >= p->limits.gateways)
        return g;
    g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    snprintf(g->id, sizeof g->id, "%s", id);
    g->next = p->self.next;
    p->self.next = g;
    p->n_gateways++;
    return g;
}

static void forget(struct wv_presence *p, struct gateway *g)
{
    struct gateway **at = &p->self.next;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    remove_of(p, g, false);
    free(g);
    p->n_gateways--;
}

/* Which of two claims counts: the newer one; of two at the same time, everywhere the same one. */
static bool is_newer(const struct wv_presence_entry *e, const struct gateway *g, const struct machine *than)
{
    if (e->stamp != than->entry.stamp)
        return e->stamp > than->entry.stamp;
    return strcmp(g->id, than->gateway->id) > 0;
}

static void claim(struct wv_presence *p, struct gateway *g, const struct wv_presence_entry *e)
{
    if (e->stamp > WV_PRESENCE_STAMP_MAX)
        return;
    p->clock = WV_MAX(p->clock, e->stamp);
    struct machine *m = *place_of(p, e->key);
    if (m && m->gateway == g && m->entry.stamp == e->stamp)
        m->generation = g->generation;
    else if (!m || is_newer(e, g, m))
        (void)put(p, g, e, 0); /* a full table: the digest goes on to differ, and it is asked again */
}

static void unclaim(struct wv_presence *p, struct gateway *g, const struct wv_presence_entry *e)
{
    struct machine **at = place_of(p, e->key);
    if (*at && (*at)->gateway == g && (*at)->entry.stamp <= e->stamp)
        remove_at(p, at);
}

static void compare(struct wv_presence *p, struct gateway *g, const struct wv_presence_word *w, uint64_t now)
{
    if ((w->count == g->count && w->digest == g->digest) || (g->asked && now - g->asked < ASK_AGAIN_NS))
        return;
    g->asked = now;
    p->lists++;
    word(p, WV_PRESENCE_ASK);
    say(p, g->id);
}

void wv_presence_hear(struct wv_presence *p, const char *from, const struct wv_presence_word *w, uint64_t now)
{
    struct gateway *g = strcmp(from, p->self.id) ? gateway(p, from) : NULL;
    if (!g)
        return;
    g->heard = now;
    if (w->kind == WV_PRESENCE_LIST && w->first)
        g->generation++;
    for (size_t i = 0; i < w->n && i < WV_PRESENCE_LIST_ENTRIES; i++) {
        if (w->kind == WV_PRESENCE_JOINED || w->kind == WV_PRESENCE_LIST)
            claim(p, g, &w->entries[i]);
        else if (w->kind == WV_PRESENCE_LEFT)
            unclaim(p, g, &w->entries[i]);
    }
    if (w->kind == WV_PRESENCE_LIST && w->last)
        remove_of(p, g, true);
    else if (w->kind == WV_PRESENCE_BEAT)
        compare(p, g, w, now);
    else if (w->kind == WV_PRESENCE_ASK)
        say_list(p, g->id);
    else if (w->kind == WV_PRESENCE_BYE)
        forget(p, g);
}

void wv_presence_bus_is_up(struct wv_presence *p, uint64_t now)
{
    /* Nobody could be heard meanwhile: their silence counts from now. */
    for (struct gateway *g = p->self.next; g; g = g->next)
        g->heard = now;
    word(p, WV_PRESENCE_BEAT);
    say(p, NULL);
    word(p, WV_PRESENCE_ASK);
    say(p, NULL);
    p->next_beat = now + BEAT_NS;
}

uint64_t wv_presence_tick(struct wv_presence *p, uint64_t now)
{
    for (struct gateway *g = p->self.next, *next; g; g = next) {
        next = g->next;
        if (now - g->heard >= SILENT_NS) {
            p->expired++;
            forget(p, g);
        }
    }
    if (now >= p->next_beat) {
        word(p, WV_PRESENCE_BEAT);
        say(p, NULL);
        p->next_beat = now + BEAT_NS;
    }
    return p->next_beat;
}

void wv_presence_bye(struct wv_presence *p)
{
    word(p, WV_PRESENCE_BYE);
    say(p, NULL);
    p->left = true;
}

void wv_presence_numbers(const struct wv_presence *p, struct wv_presence_numbers *ret)
{
    *ret = (struct wv_presence_numbers){.here = p->self.count,
                                        .there = p->n_machines - p->self.count,
                                        .gateways = p->n_gateways,
                                        .displaced = p->displaced,
                                        .expired = p->expired,
                                        .lists = p->lists};
}
