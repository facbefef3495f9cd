/* Rates are kept by delay: what comes faster than a direction's rate, or than the relay's, waits in a bounded
 * queue and leaves when it is paid for. Directions take turns, a datagram each. Where the sender's network
 * knows ECN, a long queue is told by a mark before it is told by a loss. */
#include "rift/relay/relay_internal.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define BURST_NS  (20 * WV_NS_PER_MS)  /* may pass at once after silence */
#define CHUNK_NS  (200 * WV_NS_PER_US) /* the queue is looked at so often at most */
#define CROWD     1000                 /* directions with a queue: then less often */
#define CROWD_NS  WV_NS_PER_MS
#define COST_UNIT 1024 /* costs are in 1/1024 ns a byte */
#define ECN_CE    3

int rift_relay_shape_init(struct rift_relay *r)
{
    uint32_t n = (uint32_t)r->config.queue_slots;
    r->first_active = r->last_active = NONE;
    r->next_due = UINT64_MAX;
    r->total_cost = r->config.total_kbps ? UINT64_C(8000000) * COST_UNIT / r->config.total_kbps : 0;
    /* Untouched memory of it costs nothing until it is needed. */
    r->held = calloc(n ? n : 1, sizeof *r->held);
    if (!r->held)
        return -ENOMEM;
    r->free_held = 0;
    return 0;
}

static uint64_t cost_of(uint64_t byte_cost, size_t len)
{
    return byte_cost * len / COST_UNIT;
}

static bool is_paid(uint64_t paid_ns, uint64_t now)
{
    return paid_ns <= now + BURST_NS;
}

static void pay(struct rift_relay *r, struct channel *c, size_t len, uint64_t now)
{
    c->paid_ns = WV_MAX(c->paid_ns, now) + cost_of(c->byte_cost, len);
    if (r->total_cost)
        r->total_paid_ns = WV_MAX(r->total_paid_ns, now) + cost_of(r->total_cost, len);
}

bool rift_relay_may_pass(struct rift_relay *r, struct channel *c, size_t len, uint64_t now)
{
    if (c->active || !is_paid(c->paid_ns, now))
        return false;
    /* Others wait for the relay's own limit: this one queues up behind them. */
    if (r->total_cost && (!is_paid(r->total_paid_ns, now) || r->n_active))
        return false;
    pay(r, c, len, now);
    return true;
}

/* Free slots are chained by number + 1; 0 means the slot behind this one, so that fresh memory is a list. */
static uint32_t take_slot(struct rift_relay *r)
{
    uint32_t i = r->free_held;
    if (i >= r->config.queue_slots)
        return NONE;
    uint32_t next = r->held[i].next;
    r->free_held = next ? next - 1 : i + 1;
    return i;
}

static void give_slot(struct rift_relay *r, uint32_t i)
{
    r->held[i].next = r->free_held + 1;
    r->free_held = i;
}

static uint64_t due_of(const struct rift_relay *r, const struct channel *c)
{
    uint64_t paid = r->total_cost ? WV_MAX(c->paid_ns, r->total_paid_ns) : c->paid_ns;
    return paid > BURST_NS ? paid - BURST_NS : 0;
}

static void set_active(struct rift_relay *r, uint32_t number)
{
    struct channel *c = &r->channels[number];
    c->next_active = NONE;
    if (r->last_active == NONE)
        r->first_active = number;
    else
        r->channels[r->last_active].next_active = number;
    r->last_active = number;
    r->n_active += !c->active;
    c->active = true;
}

static uint32_t pop_active(struct rift_relay *r)
{
    uint32_t number = r->first_active;
    r->first_active = r->channels[number].next_active;
    if (r->first_active == NONE)
        r->last_active = NONE;
    return number;
}

void rift_relay_hold(struct rift_relay *r, uint32_t number, const uint8_t *data, size_t len, uint8_t *ecn,
                     uint64_t now)
{
    struct channel *c = &r->channels[number];
    uint32_t i = c->queued + len > c->queue_max ? NONE : take_slot(r);
    if (i == NONE) {
        r->stats.dropped_queue++;
        return;
    }
    struct held *h = &r->held[i];
    bool long_queue = c->queued > c->queue_max / 4;
    h->next = NONE;
    h->len = (uint16_t)len;
    h->ecn = long_queue && *ecn ? ECN_CE : *ecn;
    r->stats.marked += h->ecn != *ecn;
    memcpy(h->data, data, len);
    if (c->tail == NONE)
        c->head = i;
    else
        r->held[c->tail].next = i;
    c->tail = i;
    c->queued += (uint32_t)len;
    r->stats.shaped++;
    r->stats.queued++;
    if (!c->active)
        set_active(r, number);
    uint64_t due = WV_MAX(due_of(r, c), now);
    r->next_due = WV_MIN(r->next_due, due);
}

static void drop_head(struct rift_relay *r, struct channel *c)
{
    uint32_t i = c->head;
    c->head = r->held[i].next;
    if (c->head == NONE)
        c->tail = NONE;
    c->queued -= r->held[i].len;
    r->stats.queued--;
    give_slot(r, i);
}

void rift_relay_forget_held(struct rift_relay *r, uint32_t number)
{
    struct channel *c = &r->channels[number];
    while (c->head != NONE) /* the turn that it still has finds nothing */
        drop_head(r, c);
}

/* The first datagram of channel NUMBER leaves. The slot is free again, its bytes last until the next call. */
static void emit(struct rift_relay *r, uint32_t number, uint64_t now, struct rift_relay_out *ret)
{
    struct channel *c = &r->channels[number], *to = &r->channels[number ^ 1];
    struct held *h = &r->held[c->head];
    memcpy(h->data, to->header, RIFT_RELAY_HEADER_BYTES);
    *ret = (struct rift_relay_out){.to = to->address, .data = h->data, .len = h->len, .ecn = h->ecn};
    pay(r, c, h->len, now);
    r->stats.forwarded++;
    r->stats.forwarded_bytes += h->len;
    drop_head(r, c);
}

/* The turn of channel NUMBER: whether it sends. Without anything left it has no more turns. */
static bool take_turn(struct rift_relay *r, uint32_t number, uint64_t now, uint64_t *due,
                      struct rift_relay_out *ret)
{
    struct channel *c = &r->channels[number];
    bool sent = false;
    if (c->head != NONE && !rift_relay_is_present(&r->channels[number ^ 1], now)) {
        r->stats.dropped_absent++;
        drop_head(r, c);
    } else if (c->head != NONE && is_paid(c->paid_ns, now)) {
        emit(r, number, now, ret);
        sent = true;
    }
    if (c->head == NONE) {
        c->active = false;
        r->n_active--;
        return sent;
    }
    *due = WV_MIN(*due, due_of(r, c));
    set_active(r, number);
    return sent;
}

int rift_relay_send_held(struct rift_relay *r, uint64_t now, struct rift_relay_out *ret)
{
    if (now < r->next_due)
        return RIFT_RELAY_IDLE;
    uint64_t due = UINT64_MAX;
    size_t turns = r->n_active;
    if (r->total_cost && turns && !is_paid(r->total_paid_ns, now)) {
        r->next_due = WV_MAX(r->total_paid_ns - BURST_NS, now + CHUNK_NS);
        return RIFT_RELAY_IDLE;
    }
    while (turns--)
        if (take_turn(r, pop_active(r), now, &due, ret)) {
            r->next_due = r->n_active ? now : UINT64_MAX;
            return 0;
        }
    uint64_t pause = r->n_active > CROWD ? CROWD_NS : CHUNK_NS;
    r->next_due = r->n_active ? WV_MAX(due, now + pause) : UINT64_MAX;
    return RIFT_RELAY_IDLE;
}
