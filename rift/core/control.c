#include "rift/core/control.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define FLAG_LAST     0x01
#define WINDOW_FIRST  32u
#define WINDOW_LEAST  4u
#define REORDERED     3u /* acknowledged chunks past one that wasn't: it is lost */
#define RETRY_MAX_NS  (2 * WV_NS_PER_S)
#define MESSAGE_ROUND 4096u
#define MESSAGE_KEEP  16384u

struct rift_control_chunk *rift_control_chunk_new(const uint8_t *data, size_t len, bool last)
{
    struct rift_control_chunk *c = malloc(sizeof *c + len);
    if (!c)
        return NULL;
    *c = (struct rift_control_chunk){.len = (uint16_t)len, .capacity = (uint16_t)len, .last = last};
    if (len)
        memcpy(c->data, data, len);
    return c;
}

void rift_control_tx_init(struct rift_control_tx *t)
{
    *t = (struct rift_control_tx){.window = WINDOW_FIRST};
}

static void drop_tx(struct rift_control_tx *t, uint32_t seq)
{
    struct rift_control_chunk **c = &t->chunks[seq % RIFT_CONTROL_QUEUE];
    if (*c)
        t->memory_bytes -= sizeof **c + (*c)->len;
    free(*c);
    *c = NULL;
}

void rift_control_tx_fini(struct rift_control_tx *t)
{
    for (; t->first != t->next; t->first++)
        drop_tx(t, t->first);
    t->fresh = t->next;
}

int rift_control_tx_push(struct rift_control_tx *t, const uint8_t *data, size_t len)
{
    if (len > RIFT_CONTROL_MAX_BYTES)
        return -EMSGSIZE;
    uint32_t count =
        len == 0 ? 1 : (uint32_t)((len + RIFT_CONTROL_CHUNK_BYTES - 1) / RIFT_CONTROL_CHUNK_BYTES);
    if (t->next - t->first + count > RIFT_CONTROL_QUEUE)
        return RIFT_SESSION_FULL;
    uint32_t began = t->next;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)i * RIFT_CONTROL_CHUNK_BYTES;
        size_t part = WV_MIN(len - at, (size_t)RIFT_CONTROL_CHUNK_BYTES);
        struct rift_control_chunk *c = rift_control_chunk_new(part ? data + at : NULL, part, i + 1 == count);
        if (!c) {
            while (t->next != began)
                drop_tx(t, --t->next);
            return RIFT_SESSION_FULL;
        }
        t->memory_bytes += sizeof *c + part;
        t->chunks[t->next++ % RIFT_CONTROL_QUEUE] = c;
    }
    return 0;
}

static uint64_t retry_at(const struct rift_control_chunk *c, uint64_t rto_ns)
{
    if (c->lost)
        return 0;
    return c->sent_ns + rift_backoff_ns(rto_ns, c->tries - 1u, RETRY_MAX_NS);
}

static unsigned in_flight(const struct rift_control_tx *t)
{
    unsigned n = 0;
    for (uint32_t seq = t->first; seq != t->fresh; seq++)
        n += !t->chunks[seq % RIFT_CONTROL_QUEUE]->acked;
    return n;
}

static bool may_send_fresh(const struct rift_control_tx *t)
{
    return t->fresh != t->next && t->fresh - t->first < RIFT_CONTROL_IN_FLIGHT &&
           (!t->held || t->fresh != t->committed) && in_flight(t) < t->window;
}

uint32_t rift_control_tx_coverable(const struct rift_control_tx *t)
{
    uint32_t end = t->first;
    for (uint32_t seq = t->first; seq != t->next && seq - t->first < RIFT_CONTROL_IN_FLIGHT; seq++)
        if (t->chunks[seq % RIFT_CONTROL_QUEUE]->last)
            end = seq + 1;
    return end;
}

static bool write_chunk(struct wv_writer *w, uint32_t seq, struct rift_control_chunk *c, uint64_t now)
{
    if (wv_writer_space(w) < (size_t)RIFT_FRAME_HEADER_BYTES + RIFT_CONTROL_HEAD_BYTES + c->len)
        return false;
    wv_write_u8(w, RIFT_WIRE_CONTROL);
    wv_write_u16(w, (uint16_t)(RIFT_CONTROL_HEAD_BYTES + c->len));
    wv_write_u32(w, seq);
    wv_write_u8(w, c->last ? FLAG_LAST : 0);
    wv_write_span(w, c->data, c->len);
    c->sent_ns = now;
    c->lost = false;
    if (c->tries < UINT8_MAX)
        c->tries++;
    return true;
}

bool rift_control_tx_write(struct rift_control_tx *t, struct wv_writer *w, uint64_t rto_ns, uint64_t now)
{
    for (uint32_t seq = t->first; seq != t->fresh; seq++) {
        struct rift_control_chunk *c = t->chunks[seq % RIFT_CONTROL_QUEUE];
        if (c->acked || now < retry_at(c, rto_ns))
            continue;
        bool timed_out = !c->lost;
        if (!write_chunk(w, seq, c, now))
            return false;
        if (timed_out)
            t->window = WV_MAX(t->window / 2, WINDOW_LEAST);
        return true;
    }
    if (!may_send_fresh(t) || !write_chunk(w, t->fresh, t->chunks[t->fresh % RIFT_CONTROL_QUEUE], now))
        return false;
    t->fresh++;
    return true;
}

uint64_t rift_control_tx_timeout(const struct rift_control_tx *t, uint64_t rto_ns)
{
    if (may_send_fresh(t))
        return 0;
    uint64_t at = RIFT_NEVER;
    for (uint32_t seq = t->first; seq != t->fresh; seq++) {
        const struct rift_control_chunk *c = t->chunks[seq % RIFT_CONTROL_QUEUE];
        if (!c->acked)
            at = rift_earlier(at, retry_at(c, rto_ns));
    }
    return at;
}

static void mark_acked(struct rift_control_tx *t, uint32_t seq)
{
    struct rift_control_chunk *c = t->chunks[seq % RIFT_CONTROL_QUEUE];
    if (c->acked)
        return;
    c->acked = true;
    if (++t->window_credit >= t->window) {
        t->window_credit = 0;
        t->window = WV_MIN(t->window + 1, (unsigned)RIFT_CONTROL_IN_FLIGHT);
    }
}

/* A chunk sent once with enough acknowledged ones behind it is sent again without waiting for its timer. */
static void mark_lost(struct rift_control_tx *t)
{
    unsigned acked_after = 0;
    for (uint32_t seq = t->fresh; seq != t->first;) {
        struct rift_control_chunk *c = t->chunks[--seq % RIFT_CONTROL_QUEUE];
        if (c->acked)
            acked_after++;
        else if (acked_after >= REORDERED && c->tries == 1)
            c->lost = true;
    }
}

bool rift_control_tx_ack(struct rift_control_tx *t, uint32_t next, uint64_t bitmap)
{
    if (rift_serial_after(next, t->fresh))
        return false;
    for (uint32_t i = 0; i < 64; i++)
        if ((bitmap >> i & 1) && !rift_serial_after(t->fresh, next + 1 + i))
            return false;
    for (uint32_t i = 0; i < 64; i++)
        if ((bitmap >> i & 1) && !rift_serial_after(t->first, next + 1 + i))
            mark_acked(t, next + 1 + i);
    for (uint32_t seq = t->first; rift_serial_after(next, seq); seq++)
        mark_acked(t, seq);
    while (t->first != t->fresh && t->chunks[t->first % RIFT_CONTROL_QUEUE]->acked)
        drop_tx(t, t->first++);
    mark_lost(t);
    return true;
}

void rift_control_rx_init(struct rift_control_rx *r)
{
    *r = (struct rift_control_rx){0};
}

static void drop_rx(struct rift_control_rx *r, uint32_t seq)
{
    struct rift_control_chunk **c = &r->chunks[seq % RIFT_CONTROL_WINDOW];
    if (!*c)
        return;
    if (!r->spare && (*c)->capacity == RIFT_CONTROL_CHUNK_BYTES) {
        r->spare = *c;
    } else {
        r->memory_bytes -= sizeof **c + (*c)->capacity;
        free(*c);
    }
    *c = NULL;
}

/* A chunk with LEN bytes of DATA, with room for the longest, so that it can be used again. NULL: no memory.
 */
static struct rift_control_chunk *take_chunk(struct rift_control_rx *r, const uint8_t *data, size_t len,
                                             bool last)
{
    struct rift_control_chunk *c = r->spare;
    r->spare = NULL;
    if (!c) {
        c = malloc(sizeof *c + RIFT_CONTROL_CHUNK_BYTES);
        if (!c)
            return NULL;
        r->memory_bytes += sizeof *c + RIFT_CONTROL_CHUNK_BYTES;
    }
    *c =
        (struct rift_control_chunk){.len = (uint16_t)len, .capacity = RIFT_CONTROL_CHUNK_BYTES, .last = last};
    if (len)
        memcpy(c->data, data, len);
    return c;
}

static void drop_message(struct rift_control_rx *r)
{
    r->memory_bytes -= r->message_capacity;
    free(r->message);
    r->message = NULL;
    r->message_len = r->message_capacity = 0;
    r->message_lent = false;
}

void rift_control_rx_fini(struct rift_control_rx *r)
{
    for (uint32_t i = 0; i < RIFT_CONTROL_WINDOW; i++)
        drop_rx(r, i);
    if (r->spare)
        r->memory_bytes -= sizeof *r->spare + r->spare->capacity;
    free(r->spare);
    r->spare = NULL;
    drop_message(r);
}

int rift_control_rx_frame(struct rift_control_rx *r, struct wv_reader *body)
{
    uint32_t seq = wv_read_u32(body);
    uint8_t flags = wv_read_u8(body);
    if (body->failed || flags > FLAG_LAST || body->left > RIFT_CONTROL_CHUNK_BYTES)
        return -EBADMSG;
    size_t len = body->left;
    if (len != RIFT_CONTROL_CHUNK_BYTES && flags != FLAG_LAST)
        return -EBADMSG;
    r->ack_due = true;
    struct rift_control_chunk **place = &r->chunks[seq % RIFT_CONTROL_WINDOW];
    /* Unsigned distance: old sequences are far ahead too, so one check keeps both out of the window. */
    uint32_t window = r->held ? RIFT_CONTROL_IN_FLIGHT : RIFT_CONTROL_WINDOW;
    if (seq - r->taken >= window || *place)
        return 0;
    struct rift_control_chunk *c = take_chunk(r, wv_read_span(body, len), len, flags & FLAG_LAST);
    if (!c)
        return 0; /* as if it had been lost: it comes again */
    *place = c;
    r->dirty = true;
    while (r->next - r->taken < RIFT_CONTROL_WINDOW && r->chunks[r->next % RIFT_CONTROL_WINDOW])
        r->next++;
    return 0;
}

static int grow_message(struct rift_control_rx *r, size_t need)
{
    if (need <= r->message_capacity)
        return 0;
    size_t capacity = (need * 2 + MESSAGE_ROUND - 1) / MESSAGE_ROUND * MESSAGE_ROUND;
    uint8_t *grown = realloc(r->message, capacity);
    if (!grown)
        return -ENOMEM;
    r->memory_bytes += capacity - r->message_capacity;
    r->message = grown;
    r->message_capacity = capacity;
    return 0;
}

/* Where the next message ends and how long it is. Returns 0, RIFT_CONTROL_NONE when not all of it has come,
 * -EPROTO when it is too long. */
static int find_message(const struct rift_control_rx *r, uint32_t *ret_end, size_t *ret_len)
{
    size_t len = 0;
    for (uint32_t seq = r->taken; seq != r->next; seq++) {
        const struct rift_control_chunk *c = r->chunks[seq % RIFT_CONTROL_WINDOW];
        len += c->len;
        if (len > RIFT_CONTROL_MAX_BYTES)
            return -EPROTO;
        if (c->last) {
            *ret_end = seq + 1;
            *ret_len = len;
            return 0;
        }
    }
    return RIFT_CONTROL_NONE;
}

int rift_control_rx_pop(struct rift_control_rx *r, const uint8_t **ret_data, size_t *ret_len)
{
    if (r->message_lent) {
        r->message_lent = false;
        r->message_len = 0;
        if (r->message_capacity > MESSAGE_KEEP)
            drop_message(r);
    }
    uint32_t end;
    size_t len;
    int result = find_message(r, &end, &len);
    if (result != 0)
        return result;
    if (grow_message(r, len + 1) < 0)
        return -ENOMEM;
    while (r->taken != end) {
        struct rift_control_chunk *c = r->chunks[r->taken % RIFT_CONTROL_WINDOW];
        memcpy(r->message + r->message_len, c->data, c->len);
        r->message_len += c->len;
        drop_rx(r, r->taken++);
    }
    r->number++;
    r->message_lent = true;
    *ret_data = r->message;
    *ret_len = len;
    return 0;
}

void rift_control_rx_write_ack(struct rift_control_rx *r, struct wv_writer *w)
{
    if (!r->ack_due || (r->held && r->dirty) ||
        wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_CONTROL_ACK_BYTES)
        return;
    uint64_t bitmap = 0;
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t seq = r->next + 1 + i;
        if (seq - r->taken < RIFT_CONTROL_WINDOW && r->chunks[seq % RIFT_CONTROL_WINDOW])
            bitmap |= UINT64_C(1) << i;
    }
    wv_write_u8(w, RIFT_WIRE_CONTROL_ACK);
    wv_write_u16(w, RIFT_CONTROL_ACK_BYTES);
    wv_write_u32(w, r->next);
    wv_write_u64(w, bitmap);
    r->ack_due = false;
}
