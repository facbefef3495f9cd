/* Who may say something to whom, and the way there. See signal.h. */
#include "services/gateway/signal_internal.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define YES_NS         (30 * WV_NS_PER_S)
#define NO_NS          (2 * WV_NS_PER_S)
#define FORWARD_NS     (3 * WV_NS_PER_S) /* then the other gateway is taken for gone */
#define WAITING_MAX    4096
#define WAITING_OF_ONE 64 /* of one connection */

/* ---- passing it on ---- */

static enum wv_signal_result hand_over(struct wv_signal *s, uint64_t connection, const uint8_t *from,
                                       const char *sealed, const struct wv_signal_origin *origin)
{
    struct wv_signal_connection *c = wv_signal_connection_of(s, connection);
    size_t len;
    if (!c)
        return WV_SIGNAL_OFFLINE;
    char *text = wv_signal_write_sealed(WV_SIGNAL_HEADROOM, from, origin->id, sealed, &len);
    switch (wv_signal_queue(c, text, len, origin)) {
    case 0:
        return WV_SIGNAL_SENT;
    case -ENOTCONN:
        return WV_SIGNAL_OFFLINE;
    case -ENOBUFS:
        return WV_SIGNAL_TOO_MANY;
    default:
        return WV_SIGNAL_UNAVAILABLE;
    }
}

static enum wv_signal_result forward(struct wv_signal *s, const char *gateway, const uint8_t *from,
                                     const uint8_t *to, const char *sealed,
                                     const struct wv_signal_origin *origin, uint64_t now)
{
    struct wv_signal_forward *f = &s->forwards[s->next_forward % WV_SIGNAL_FORWARDS];
    struct wv_bus_message *m = &s->out;
    if (f->number)
        return WV_SIGNAL_TOO_MANY;
    if (!s->bus_up)
        return WV_SIGNAL_UNAVAILABLE;
    m->kind = WV_BUS_SIGNAL;
    m->number = s->next_forward;
    memcpy(m->sender, from, sizeof m->sender);
    memcpy(m->recipient, to, sizeof m->recipient);
    memcpy(m->id, origin->id, sizeof m->id);
    snprintf(m->sealed, sizeof m->sealed, "%s", sealed);
    if (s->calls.say(s->calls.userdata, gateway, m) < 0)
        return WV_SIGNAL_UNAVAILABLE;
    *f =
        (struct wv_signal_forward){.number = s->next_forward++, .until = now + FORWARD_NS, .origin = *origin};
    return WV_SIGNAL_SENT;
}

/* Settles at once what can't go; what is on its way is settled when it was written. */
static void pass_on(struct wv_signal *s, const uint8_t *from, const uint8_t *to, const char *sealed,
                    const struct wv_signal_origin *origin, uint64_t now)
{
    char gateway[WV_BUS_ID_BYTES];
    uint64_t connection;
    enum wv_signal_result result = WV_SIGNAL_OFFLINE;
    switch (wv_presence_find(s->presence, to, &connection, gateway)) {
    case WV_PRESENCE_HERE:
        result = hand_over(s, connection, from, sealed, origin);
        break;
    case WV_PRESENCE_THERE:
        result = forward(s, gateway, from, to, sealed, origin, now);
        break;
    case WV_PRESENCE_NOWHERE:
        break;
    }
    if (result != WV_SIGNAL_SENT)
        wv_signal_settle(s, origin, result, now);
}

/* ---- rights ---- */

static size_t bucket_of(struct wv_signal *s, const uint8_t *from, const uint8_t *to)
{
    uint8_t both[2 * WV_STORE_KEY_BYTES], hash[crypto_shorthash_BYTES];
    uint32_t value;
    memcpy(both, from, WV_STORE_KEY_BYTES);
    memcpy(both + WV_STORE_KEY_BYTES, to, WV_STORE_KEY_BYTES);
    crypto_shorthash(hash, both, sizeof both, s->secret);
    memcpy(&value, hash, sizeof value);
    return value % WV_SIGNAL_ACCESS_BUCKETS;
}

/* What was asked before a change of rights answers those who waited for it then, and nobody after them. */
static struct wv_signal_access *find_access(struct wv_signal *s, const uint8_t *from, const uint8_t *to)
{
    struct wv_signal_access *a = s->access[bucket_of(s, from, to)];
    while (a &&
           (a->stale || memcmp(a->from, from, sizeof a->from) != 0 || memcmp(a->to, to, sizeof a->to) != 0))
        a = a->next;
    return a;
}

/* Removes what is over, or (ALL) all that nobody waits for. */
static void sweep_access(struct wv_signal *s, uint64_t now, bool all)
{
    for (size_t i = 0; i < WV_SIGNAL_ACCESS_BUCKETS; i++) {
        struct wv_signal_access **at = &s->access[i];
        while (*at) {
            struct wv_signal_access *a = *at;
            if (a->state == WV_ACCESS_ASKED || (!all && now < a->until)) {
                at = &a->next;
                continue;
            }
            *at = a->next;
            free(a);
            s->n_access--;
        }
    }
}

static struct wv_signal_access *add_access(struct wv_signal *s, const uint8_t *from, const uint8_t *to,
                                           uint64_t now)
{
    if (s->n_access >= WV_SIGNAL_ACCESS_MAX)
        sweep_access(s, now, true);
    struct wv_signal_access *a = s->n_access < WV_SIGNAL_ACCESS_MAX ? calloc(1, sizeof *a) : NULL;
    if (!a)
        return NULL;
    struct wv_signal_access **bucket = &s->access[bucket_of(s, from, to)];
    memcpy(a->from, from, sizeof a->from);
    memcpy(a->to, to, sizeof a->to);
    a->last = &a->first;
    a->next = *bucket;
    *bucket = a;
    s->n_access++;
    return a;
}

static int ask(struct wv_signal *s, struct wv_signal_access *a)
{
    struct wv_signal_question q = {.kind = WV_SIGNAL_ASK_ACCESS};
    /* Says by itself where its answer belongs. */
    uint64_t at = s->next_number++ * WV_SIGNAL_ACCESS_BUCKETS + bucket_of(s, a->from, a->to);
    a->number = q.number = at << 1 | WV_SIGNAL_QUESTION_ACCESS;
    memcpy(q.from, a->from, sizeof q.from);
    memcpy(q.to, a->to, sizeof q.to);
    a->state = WV_ACCESS_ASKED;
    a->stale = false;
    return s->calls.ask(s->calls.userdata, &q);
}

static enum wv_signal_result wait_for(struct wv_signal_connection *c, struct wv_signal_access *a,
                                      const char *sealed, const struct wv_signal_origin *origin)
{
    struct wv_signal *s = c->signal;
    size_t len = strlen(sealed);
    if (s->n_waiting >= WAITING_MAX || c->waiting >= WAITING_OF_ONE)
        return WV_SIGNAL_TOO_MANY;
    struct wv_signal_waiting *w = malloc(sizeof *w + len + 1);
    if (!w)
        return WV_SIGNAL_UNAVAILABLE;
    w->next = NULL;
    w->origin = *origin;
    memcpy(w->sealed, sealed, len + 1);
    *a->last = w;
    a->last = &w->next;
    s->n_waiting++;
    c->waiting++;
    return WV_SIGNAL_SENT;
}

void wv_signal_route(struct wv_signal_connection *c, const struct wv_signal_message *m, uint64_t now)
{
    struct wv_signal *s = c->signal;
    const uint8_t *from = c->machine.key;
    struct wv_signal_origin origin = {.wanted = true, .number = c->number, .received = now};
    struct wv_signal_access *a = find_access(s, from, m->to);
    enum wv_signal_result result = WV_SIGNAL_SENT;
    memcpy(origin.id, m->id, sizeof origin.id);
    s->numbers.signals++;
    bool fresh = a && (a->state == WV_ACCESS_ASKED || now < a->until);
    if (fresh && a->state == WV_ACCESS_YES)
        return pass_on(s, from, m->to, m->sealed, &origin, now);
    if (fresh && a->state == WV_ACCESS_NO)
        return wv_signal_settle(s, &origin, WV_SIGNAL_NOT_ALLOWED, now);
    if (!a)
        a = add_access(s, from, m->to, now);
    result = a ? wait_for(c, a, m->sealed, &origin) : WV_SIGNAL_TOO_MANY;
    if (result != WV_SIGNAL_SENT)
        return wv_signal_settle(s, &origin, result, now);
    if (!fresh && ask(s, a) < 0) {
        struct wv_signal_reply reply = {.r = -EAGAIN};
        wv_signal_route_told(s, a->number, &reply, now);
    }
}

static struct wv_signal_access *asked(struct wv_signal *s, uint64_t number)
{
    struct wv_signal_access *a = s->access[(number >> 1) % WV_SIGNAL_ACCESS_BUCKETS];
    while (a && (a->state != WV_ACCESS_ASKED || a->number != number))
        a = a->next;
    return a;
}

void wv_signal_route_told(struct wv_signal *s, uint64_t number, const struct wv_signal_reply *reply,
                          uint64_t now)
{
    struct wv_signal_access *a = asked(s, number);
    if (!a)
        return;
    struct wv_signal_waiting *w = a->first;
    a->first = NULL;
    a->last = &a->first;
    a->state = reply->r == 0 ? WV_ACCESS_YES : WV_ACCESS_NO;
    a->until = now + (reply->r == 0 ? YES_NS : reply->r == -ENOENT ? NO_NS : 0);
    if (a->stale)
        a->until = now;
    while (w) {
        struct wv_signal_waiting *next = w->next;
        struct wv_signal_connection *c = wv_signal_connection_of(s, w->origin.number);
        s->n_waiting--;
        if (c)
            c->waiting--;
        if (reply->r == 0)
            pass_on(s, a->from, a->to, w->sealed, &w->origin, now);
        else
            wv_signal_settle(s, &w->origin,
                             reply->r == -ENOENT ? WV_SIGNAL_NOT_ALLOWED : WV_SIGNAL_UNAVAILABLE, now);
        free(w);
        w = next;
    }
}

void wv_signal_route_changed(struct wv_signal *s)
{
    sweep_access(s, 0, true);
    for (size_t i = 0; i < WV_SIGNAL_ACCESS_BUCKETS; i++)
        for (struct wv_signal_access *a = s->access[i]; a; a = a->next)
            a->stale = true;
}

/* ---- other gateways ---- */

void wv_signal_route_here(struct wv_signal *s, const struct wv_bus_message *m, uint64_t now)
{
    struct wv_signal_origin origin = {.wanted = true, .number = m->number, .received = now};
    uint64_t connection;
    enum wv_signal_result result = WV_SIGNAL_OFFLINE;
    memcpy(origin.gateway, m->from, sizeof origin.gateway);
    memcpy(origin.id, m->id, sizeof origin.id);
    if (wv_presence_find(s->presence, m->recipient, &connection, NULL) == WV_PRESENCE_HERE)
        result = hand_over(s, connection, m->sender, m->sealed, &origin);
    if (result != WV_SIGNAL_SENT)
        wv_signal_settle(s, &origin, result, now);
}

void wv_signal_route_answered(struct wv_signal *s, const struct wv_bus_message *m, uint64_t now)
{
    struct wv_signal_forward *f = &s->forwards[m->number % WV_SIGNAL_FORWARDS];
    if (!f->number || f->number != m->number)
        return;
    struct wv_signal_origin origin = f->origin;
    f->number = 0;
    wv_signal_settle(s, &origin, m->result, now);
}

void wv_signal_route_tick(struct wv_signal *s, uint64_t now, bool sweep)
{
    for (; s->oldest_forward < s->next_forward; s->oldest_forward++) {
        struct wv_signal_forward *f = &s->forwards[s->oldest_forward % WV_SIGNAL_FORWARDS];
        if (f->number != s->oldest_forward)
            continue;
        if (now < f->until)
            break;
        struct wv_signal_origin origin = f->origin;
        f->number = 0;
        wv_signal_settle(s, &origin, WV_SIGNAL_OFFLINE, now);
    }
    if (sweep)
        sweep_access(s, now, false);
}

void wv_signal_route_fini(struct wv_signal *s)
{
    for (size_t i = 0; i < WV_SIGNAL_ACCESS_BUCKETS; i++) {
        for (struct wv_signal_access *a = s->access[i], *next; a; a = next) {
            next = a->next;
            for (struct wv_signal_waiting *w = a->first, *after; w; w = after) {
                after = w->next;
                free(w);
            }
            free(a);
        }
    }
}
