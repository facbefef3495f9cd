#include "rift/core/input.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define REPEAT_NS      (10 * WV_NS_PER_MS)
#define REPEAT_FAST    3 /* passes at REPEAT_NS before it backs off */
#define REPEAT_PATIENT 16
#define REPEAT_MAX_NS  (200 * WV_NS_PER_MS)
#define FRAME_EVENTS                                                                                         \
    ((RIFT_PAYLOAD_BYTES - RIFT_FRAME_HEADER_BYTES - RIFT_INPUT_HEAD_BYTES) / RIFT_INPUT_EVENT_BYTES)
#define LINUX_CODE_MAX 0x2ff /* KEY_MAX */

int rift_input_event_check(const struct rift_input_event *event)
{
    bool bare = event->x == 0 && event->y == 0;
    switch (event->kind) {
    case RIFT_INPUT_KEY:
    case RIFT_INPUT_BUTTON:
        return event->down <= 1 && event->code > 0 && event->code <= LINUX_CODE_MAX && bare ? 0 : -EINVAL;
    case RIFT_INPUT_POINTER_ABS:
        return !event->down && !event->code && event->x >= 0 && event->x <= 65535 && event->y >= 0 &&
                       event->y <= 65535
                   ? 0
                   : -EINVAL;
    case RIFT_INPUT_POINTER_REL:
    case RIFT_INPUT_SCROLL:
        return !event->down && !event->code && event->x >= INT16_MIN && event->x <= INT16_MAX &&
                       event->y >= INT16_MIN && event->y <= INT16_MAX
                   ? 0
                   : -EINVAL;
    case RIFT_INPUT_RELEASE_ALL:
        return !event->down && !event->code && bare ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

void rift_input_tx_init(struct rift_input_tx *t, const uint8_t key[RIFT_INNER_KEY_BYTES])
{
    *t = (struct rift_input_tx){.first = 1, .next = 1, .fresh = 1, .due = RIFT_NEVER};
    memcpy(t->key, key, sizeof t->key);
}

bool rift_input_tx_used_up(const struct rift_input_tx *t)
{
    return t->next == 0;
}

static bool is_move(const struct rift_input_event *event)
{
    return event->kind == RIFT_INPUT_POINTER_ABS || event->kind == RIFT_INPUT_POINTER_REL;
}

/* Joins EVENT to the last queued one when that was never sent and the result means the same. */
static bool coalesce(struct rift_input_tx *t, const struct rift_input_event *event)
{
    struct rift_input_event *last = &t->events[(t->next - 1) % RIFT_INPUT_QUEUE];
    if (t->fresh == t->next || last->kind != event->kind)
        return false;
    struct rift_input_event sum = *event;
    switch (event->kind) {
    case RIFT_INPUT_POINTER_REL:
        sum.x += last->x;
        sum.y += last->y;
        if (rift_input_event_check(&sum) < 0)
            return false;
        break;
    case RIFT_INPUT_POINTER_ABS:
    case RIFT_INPUT_RELEASE_ALL:
        break;
    default:
        return false;
    }
    *last = sum;
    return true;
}

/* A long queue of moves means a long round trip; every move repeats the whole queue, so they then wait for
 * each other a little. Anything but a move leaves at once. */
static uint64_t move_spacing(const struct rift_input_tx *t)
{
    uint32_t waiting = t->next - t->first;
    if (waiting < 16)
        return 0;
    return waiting < 32 ? 2 * WV_NS_PER_MS : 4 * WV_NS_PER_MS;
}

int rift_input_tx_push(struct rift_input_tx *t, const struct rift_input_event *event, uint64_t now,
                       uint32_t *ret_seq)
{
    if (rift_input_event_check(event) < 0)
        return -EINVAL;
    if (rift_input_tx_used_up(t))
        return RIFT_SESSION_FULL;
    if (coalesce(t, event)) {
        *ret_seq = t->next - 1;
        return 0;
    }
    uint32_t waiting = t->next - t->first;
    if (event->kind == RIFT_INPUT_RELEASE_ALL) {
        /* The last place is its own. Once it is taken, nothing can have come after it. */
        if (waiting == RIFT_INPUT_QUEUE) {
            *ret_seq = t->next - 1;
            return 0;
        }
    } else if (waiting >= RIFT_INPUT_QUEUE - 1) {
        return RIFT_SESSION_FULL;
    }
    t->events[t->next % RIFT_INPUT_QUEUE] = *event;
    *ret_seq = t->next++;
    uint64_t due = is_move(event) ? WV_MAX(now, t->last_pass + move_spacing(t)) : now;
    t->due = rift_earlier(t->due, due);
    t->repeats = 0;
    return 0;
}

static uint64_t repeat_pause(const struct rift_input_tx *t, uint64_t rtt_ns)
{
    if (t->repeats < REPEAT_FAST)
        return REPEAT_NS;
    uint64_t limit = rift_earlier(2 * rtt_ns, REPEAT_MAX_NS);
    /* Without progress for long the pace falls further, whatever the round trip once was. */
    if (t->repeats > REPEAT_PATIENT)
        limit = REPEAT_MAX_NS;
    limit = WV_MAX(2 * REPEAT_NS, limit);
    return rift_backoff_ns(REPEAT_NS, t->repeats - REPEAT_FAST + 1, limit);
}

void rift_input_event_write(struct wv_writer *w, const struct rift_input_event *e)
{
    wv_write_u8(w, e->kind);
    wv_write_u8(w, e->down);
    wv_write_u16(w, e->code);
    wv_write_u32(w, (uint32_t)e->x);
    wv_write_u32(w, (uint32_t)e->y);
    wv_write_u64(w, e->time_us);
}

/* The moment of first sending: from here on the event may not change any more, and is forgotten. */
static void seal_event(struct rift_input_tx *t, uint32_t seq)
{
    struct rift_input_event *event = &t->events[seq % RIFT_INPUT_QUEUE];
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES];
    struct wv_writer w;
    wv_writer_init(&w, plain, sizeof plain);
    rift_input_event_write(&w, event);
    rift_input_seal(t->key, seq, plain, t->sealed[seq % RIFT_INPUT_QUEUE]);
    explicit_bzero(plain, sizeof plain);
    explicit_bzero(event, sizeof *event);
}

bool rift_input_tx_write(struct rift_input_tx *t, struct wv_writer *w, uint64_t rtt_ns, uint64_t now)
{
    if (t->first == t->next || (!t->flushing && now < t->due))
        return false;
    if (!t->flushing || rift_serial_after(t->first, t->flush_next)) {
        t->flushing = true;
        t->flush_next = t->first;
    }
    size_t space = wv_writer_space(w), head = RIFT_FRAME_HEADER_BYTES + RIFT_INPUT_HEAD_BYTES;
    if (space < head + RIFT_INPUT_EVENT_BYTES)
        return false;
    uint32_t count = WV_MIN(t->next - t->flush_next, (uint32_t)((space - head) / RIFT_INPUT_EVENT_BYTES));
    count = WV_MIN(count, (uint32_t)FRAME_EVENTS);
    wv_write_u8(w, RIFT_WIRE_INPUT);
    wv_write_u16(w, (uint16_t)(RIFT_INPUT_HEAD_BYTES + count * RIFT_INPUT_EVENT_BYTES));
    wv_write_u32(w, t->flush_next);
    wv_write_u8(w, (uint8_t)count);
    for (uint32_t i = 0; i < count; i++, t->flush_next++) {
        if (t->flush_next == t->fresh) {
            seal_event(t, t->fresh++);
            t->sent++;
        } else {
            t->repeated++;
        }
        wv_write_span(w, t->sealed[t->flush_next % RIFT_INPUT_QUEUE], RIFT_INPUT_SEALED_BYTES);
    }
    if (t->flush_next == t->next) {
        t->flushing = false;
        t->last_pass = now;
        t->due = now + repeat_pause(t, rtt_ns);
        t->repeats++;
    }
    return true;
}

uint64_t rift_input_tx_timeout(const struct rift_input_tx *t)
{
    if (t->first == t->next)
        return RIFT_NEVER;
    return t->flushing ? 0 : t->due;
}

bool rift_input_tx_ack(struct rift_input_tx *t, uint32_t next)
{
    if (rift_serial_after(next, t->fresh))
        return false;
    if (!rift_serial_after(next, t->first))
        return true;
    t->first = next;
    if (t->first == t->next) {
        t->flushing = false;
        t->due = RIFT_NEVER;
        t->repeats = 0;
    }
    return true;
}

void rift_input_rx_init(struct rift_input_rx *r)
{
    *r = (struct rift_input_rx){.taken = 1, .next = 1};
}

struct rift_input_event rift_input_event_read(struct wv_reader *r)
{
    struct rift_input_event e = {0};
    e.kind = wv_read_u8(r);
    e.down = wv_read_u8(r);
    e.code = wv_read_u16(r);
    e.x = (int32_t)wv_read_u32(r);
    e.y = (int32_t)wv_read_u32(r);
    e.time_us = wv_read_u64(r);
    return e;
}

int rift_input_rx_frame(struct rift_input_rx *r, struct wv_reader *body, uint64_t counter, uint64_t now)
{
    uint32_t seq = wv_read_u32(body);
    uint8_t count = wv_read_u8(body);
    if (body->failed || count == 0 || body->left != (size_t)count * RIFT_INPUT_EVENT_BYTES)
        return -EBADMSG;
    for (; count; count--, seq++) {
        const uint8_t *sealed = wv_read_span(body, RIFT_INPUT_SEALED_BYTES);
        if (seq != r->next)
            continue; /* had it, or something before it is missing: both are repeated anyway */
        if (r->next - r->taken == RIFT_INPUT_QUEUE)
            break; /* the application doesn't take them: not acknowledged, so they come again */
        memcpy(r->events[r->next++ % RIFT_INPUT_QUEUE], sealed, RIFT_INPUT_SEALED_BYTES);
        r->received++;
        r->dirty = true;
    }
    r->ack_due = true;
    r->echo_counter = counter;
    r->echo_ns = now;
    return 0;
}

bool rift_input_rx_pop(struct rift_input_rx *r, uint32_t *ret_seq,
                       uint8_t ret_sealed[RIFT_INPUT_SEALED_BYTES])
{
    if (r->taken == r->next)
        return false;
    *ret_seq = r->taken;
    memcpy(ret_sealed, r->events[r->taken++ % RIFT_INPUT_QUEUE], RIFT_INPUT_SEALED_BYTES);
    return true;
}

void rift_input_rx_write_ack(struct rift_input_rx *r, struct wv_writer *w, uint64_t now)
{
    if (!r->ack_due || (r->held && r->dirty) ||
        wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_INPUT_ACK_BYTES)
        return;
    uint64_t delay_us = (now - r->echo_ns) / WV_NS_PER_US;
    wv_write_u8(w, RIFT_WIRE_INPUT_ACK);
    wv_write_u16(w, RIFT_INPUT_ACK_BYTES);
    wv_write_u32(w, r->next);
    wv_write_u64(w, r->echo_counter);
    wv_write_u32(w, (uint32_t)WV_MIN(delay_us, (uint64_t)UINT32_MAX));
    r->ack_due = false;
}
