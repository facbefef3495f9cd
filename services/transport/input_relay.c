/* Keeps input events until the input stage has dealt with them. Must never drop one in silence: a number that
 * is missing tells the input stage to let go of everything. */
#include "services/transport/input_relay.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define NEVER       UINT64_MAX
#define BACKOFF_MAX (500 * WV_NS_PER_MS)

struct entry {
    uint32_t seq;
    uint8_t sealed[RIFT_INPUT_SEALED_BYTES];
    uint64_t since;
};

struct wv_relay {
    uint32_t controller;
    uint32_t highest_sent, highest_done;
    struct entry entries[WV_RELAY_EVENTS]; /* a ring, by rising seq */
    size_t head, count;
    size_t sent;       /* so many of the oldest were sent and wait for an acknowledgement */
    uint64_t round_ns; /* when the wait of the oldest began */
    uint64_t backoff_ns;
    uint64_t retry_at; /* not before then: nobody was there; 0: no such wait */
    uint32_t release;
    uint64_t release_at, release_until;
    struct wv_relay_stats stats;
};

int wv_relay_new(struct wv_relay **ret)
{
    struct wv_relay *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    *ret = r;
    return 0;
}

struct wv_relay *wv_relay_free(struct wv_relay *r)
{
    free(r);
    return NULL;
}

static struct entry *at(struct wv_relay *r, size_t i)
{
    return &r->entries[(r->head + i) % WV_RELAY_EVENTS];
}

static void restart_wait(struct wv_relay *r, uint64_t now)
{
    r->round_ns = now;
    r->backoff_ns = WV_RELAY_UNACKED_NS;
}

void wv_relay_set_controller(struct wv_relay *r, uint32_t session, uint64_t now)
{
    if (session == r->controller)
        return;
    if (r->controller) {
        r->release = r->controller;
        r->release_at = now;
        r->release_until = now + WV_RELAY_RELEASE_NS;
    }
    r->controller = session;
    r->head = r->count = r->sent = 0;
    r->highest_sent = r->highest_done = 0;
    r->retry_at = 0;
}

uint32_t wv_relay_controller(const struct wv_relay *r)
{
    return r->controller;
}

static void drop_oldest(struct wv_relay *r)
{
    r->head = (r->head + 1) % WV_RELAY_EVENTS;
    r->count--;
    r->sent -= r->sent > 0;
}

void wv_relay_push(struct wv_relay *r, uint32_t seq, const uint8_t sealed[RIFT_INPUT_SEALED_BYTES],
                   uint64_t now)
{
    if (!r->controller)
        return;
    if (r->count == WV_RELAY_EVENTS) {
        drop_oldest(r);
        r->stats.dropped_full++;
    }
    struct entry *e = at(r, r->count++);
    e->seq = seq;
    e->since = now;
    memcpy(e->sealed, sealed, sizeof e->sealed);
    r->stats.pushed++;
}

uint32_t wv_relay_release(struct wv_relay *r, uint64_t now)
{
    if (r->release && now >= r->release_until)
        r->release = 0;
    return r->release && now >= r->release_at ? r->release : 0;
}

void wv_relay_release_sent(struct wv_relay *r, bool sent, uint64_t now)
{
    if (sent)
        r->release = 0;
    r->release_at = now + WV_RELAY_UNSENT_NS;
}

size_t wv_relay_take(struct wv_relay *r, uint64_t now, struct wv_relay_batch *ret_batch)
{
    if (r->sent && now - r->round_ns >= r->backoff_ns) {
        r->stats.resent += r->sent;
        r->sent = 0;
        r->round_ns = now;
        r->backoff_ns = WV_MIN(2 * r->backoff_ns, BACKOFF_MAX);
    }
    if (r->sent == r->count || now < r->retry_at)
        return 0;
    size_t n = 0;
    ret_batch->first_seq = at(r, r->sent)->seq;
    while (n < WV_RELAY_BATCH && r->sent + n < r->count) {
        const struct entry *e = at(r, r->sent + n);
        if (e->seq != ret_batch->first_seq + n)
            break;
        memcpy(ret_batch->events + n * RIFT_INPUT_SEALED_BYTES, e->sealed, sizeof e->sealed);
        ret_batch->came_us[n++] = e->since / WV_NS_PER_US;
    }
    ret_batch->n = n;
    return n;
}

void wv_relay_sent(struct wv_relay *r, size_t n, bool sent, uint64_t now)
{
    if (!sent) {
        bool young = r->count && now - at(r, r->count - 1)->since <= WV_RELAY_FRESH_NS;
        r->retry_at = now + (young ? WV_RELAY_UNSENT_NS : WV_RELAY_SLOW_NS);
        return;
    }
    r->retry_at = 0;
    if (r->sent == 0 && r->round_ns != now)
        restart_wait(r, now);
    r->sent += n;
    if (r->sent && (int32_t)(at(r, r->sent - 1)->seq - r->highest_sent) > 0)
        r->highest_sent = at(r, r->sent - 1)->seq;
}

void wv_relay_done(struct wv_relay *r, uint32_t session, uint32_t seq, uint64_t now)
{
    if (session != r->controller || !session)
        return; /* of a session that is over: expected */
    if ((int32_t)(seq - r->highest_sent) > 0) {
        r->stats.bad_acks++;
        return;
    }
    if ((int32_t)(seq - r->highest_done) > 0)
        r->highest_done = seq;
    while (r->count && (int32_t)(seq - at(r, 0)->seq) >= 0) {
        drop_oldest(r);
        restart_wait(r, now);
    }
}

void wv_relay_again(struct wv_relay *r, uint32_t session, uint64_t now)
{
    if (session != r->controller || !session)
        return;
    r->stats.resent += r->sent;
    r->sent = 0;
    r->retry_at = 0;
    restart_wait(r, now);
}

uint64_t wv_relay_timeout(const struct wv_relay *r)
{
    uint64_t release = r->release ? r->release_at : NEVER, events = NEVER;
    if (r->sent < r->count)
        events = r->retry_at;
    if (r->sent) {
        uint64_t again = WV_MAX(r->round_ns + r->backoff_ns, r->retry_at);
        events = WV_MIN(events, again);
    }
    return WV_MIN(release, events);
}

uint32_t wv_relay_shown(const struct wv_relay *r, uint32_t seq)
{
    /* The page that capture reads may still hold the number of an earlier session until the first event of
     * this one was injected. */
    bool possible = r->controller && r->highest_done && (int32_t)(seq - r->highest_sent) <= 0;
    return possible ? seq : 0;
}

/* ---- over a restart ---- */

void wv_relay_release_unknown(struct wv_relay *r, uint64_t now)
{
    r->release = UINT32_MAX;
    r->release_at = now;
    r->release_until = now + WV_RELAY_RELEASE_NS;
}

void wv_relay_write(const struct wv_relay *r, struct wv_writer *w)
{
    wv_write_u32(w, r->controller);
    wv_write_u32(w, r->highest_sent);
    wv_write_u32(w, r->highest_done);
    wv_write_u16(w, (uint16_t)r->count);
    for (size_t i = 0; i < r->count; i++) {
        const struct entry *e = &r->entries[(r->head + i) % WV_RELAY_EVENTS];
        wv_write_u32(w, e->seq);
        wv_write_u64(w, e->since);
        wv_write_span(w, e->sealed, sizeof e->sealed);
    }
}

static struct entry read_entry(struct wv_reader *in, uint64_t now)
{
    struct entry e = {.seq = wv_read_u32(in), .since = wv_read_u64(in)};
    const uint8_t *sealed = wv_read_span(in, sizeof e.sealed);
    e.since = WV_MIN(e.since, now);
    if (sealed)
        memcpy(e.sealed, sealed, sizeof e.sealed);
    return e;
}

int wv_relay_read(struct wv_relay *r, struct wv_reader *in, uint64_t now)
{
    uint32_t controller = wv_read_u32(in), sent = wv_read_u32(in), done = wv_read_u32(in), last = 0;
    uint16_t count = wv_read_u16(in);
    if (in->failed || r->controller || !controller || count > WV_RELAY_EVENTS || (int32_t)(done - sent) > 0)
        return -EBADMSG;
    for (size_t i = 0; i < count; i++) {
        struct entry e = read_entry(in, now);
        if (in->failed || (i && (int32_t)(e.seq - last) <= 0))
            return -EBADMSG;
        last = e.seq;
        r->entries[i] = e;
    }
    r->controller = controller;
    r->highest_sent = sent;
    r->highest_done = done;
    r->head = r->sent = 0;
    r->count = count;
    r->retry_at = now;
    return 0;
}

void wv_relay_forget(struct wv_relay *r)
{
    r->controller = r->highest_sent = r->highest_done = 0;
    r->head = r->count = r->sent = 0;
    r->retry_at = 0;
}

void wv_relay_get_stats(const struct wv_relay *r, struct wv_relay_stats *ret)
{
    *ret = r->stats;
}
