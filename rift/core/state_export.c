/* Writes the state of a session, and says when it must be written. Runs every few milliseconds on the path of
 * input: copies, one checksum, nothing else. */
#include "rift/core/state.h"

#include "lib/base/util.h"
#include "rift/crypto/derive.h"

#include <errno.h>

_Static_assert(RIFT_CONTROL_IN_FLIGHT * 2 * (RIFT_CONTROL_CHUNK_BYTES + 4) +
                       RIFT_INPUT_QUEUE * RIFT_INPUT_EVENT_BYTES + RIFT_REPLAY_WORDS * 8 + 1024 <
                   RIFT_STATE_MAX_BYTES,
               "a state always fits");

int rift_session_reserve(struct rift_session *s, uint32_t block)
{
    if (s->role != RIFT_ROLE_HOST || s->stats.packets_sent || s->stats.packets_received)
        return -EINVAL;
    s->held = true;
    block = WV_MAX(block, RIFT_STATE_BLOCK_MIN);
    s->reserve_block = WV_MIN(block, RIFT_STATE_BLOCK_MAX);
    s->reserved_until = s->packet.next_counter;
    s->input_rx->held = true;
    s->control_rx.held = true;
    s->control_tx.held = true;
    s->control_tx.committed = s->control_tx.fresh;
    return 0;
}

bool rift_session_wants_export(const struct rift_session *s)
{
    if (!s->held || s->closed)
        return false;
    uint64_t left = s->reserved_until - s->packet.next_counter;
    return (left <= s->reserve_block / 2 && s->reserved_until < RIFT_STATE_COUNTER_MAX) || s->key_pending ||
           s->path_unstored || s->input_rx->dirty || s->control_rx.dirty ||
           (s->control_tx.next != s->control_tx.committed &&
            rift_serial_after(rift_control_tx_coverable(&s->control_tx), s->control_tx.committed));
}

static void write_packet(const struct rift_packet *p, uint64_t reserved_until, struct wv_writer *w)
{
    wv_write_u32(w, p->local_id);
    wv_write_u32(w, p->remote_id);
    wv_write_u64(w, reserved_until);
    wv_write_u32(w, p->generation_send);
    wv_write_u32(w, p->generation_receive);
    wv_write_span(w, p->key_send, RIFT_KEY_BYTES);
    wv_write_span(w, p->key_receive, RIFT_KEY_BYTES);
    wv_write_u64(w, p->key_packets);
    wv_write_u64(w, p->key_bytes);
    wv_write_u64(w, p->replay.next);
    for (unsigned i = 0; i < RIFT_REPLAY_WORDS; i++)
        wv_write_u64(w, p->replay.words[i]);
    wv_write_u64(w, p->expected);
    wv_write_u64(w, p->received);
}

static void write_measured(const struct rift_session *s, struct wv_writer *w)
{
    bool moved = s->path.state == RIFT_PATH_MOVED;
    wv_write_u8(w, (uint8_t)((s->path.known ? RIFT_STATE_KNOWN : 0) | (moved ? RIFT_STATE_MOVED : 0)));
    wv_write_span(w, s->path.current, RIFT_ADDRESS_BYTES);
    if (moved)
        wv_write_span(w, s->path.other, RIFT_ADDRESS_BYTES);
    wv_write_u64(w, s->timing.srtt_ns);
    wv_write_u64(w, s->timing.rttvar_ns);
    wv_write_u64(w, rift_timing_rtt_min(&s->timing));
    wv_write_u64(w, (uint64_t)rift_timing_offset(&s->timing));
    wv_write_u32(w, s->timing.next_id);
    wv_write_u32(w, s->mtu.next_id);
}

static void write_cursor(const struct rift_session *s, struct wv_writer *w)
{
    wv_write_u32(w, s->cursor_seq);
    wv_write_u16(w, s->cursor.x);
    wv_write_u16(w, s->cursor.y);
    wv_write_u8(w, s->cursor.visible);
    wv_write_u32(w, s->cursor.shape_id);
}

static void write_input(const struct rift_input_rx *r, struct wv_writer *w)
{
    wv_write_u32(w, r->taken);
    wv_write_u16(w, (uint16_t)(r->next - r->taken));
    for (uint32_t seq = r->taken; seq != r->next; seq++)
        wv_write_span(w, r->events[seq % RIFT_INPUT_QUEUE], RIFT_INPUT_SEALED_BYTES);
}

static void write_chunk(const struct rift_control_chunk *c, struct wv_writer *w)
{
    wv_write_u8(w, (uint8_t)((c->last ? RIFT_STATE_LAST : 0) | (c->acked ? RIFT_STATE_ACKED : 0)));
    wv_write_u16(w, c->acked ? 0 : c->len);
    if (!c->acked)
        wv_write_span(w, c->data, c->len);
}

static void write_control_tx(const struct rift_control_tx *t, uint32_t end, struct wv_writer *w)
{
    wv_write_u32(w, t->first);
    wv_write_u8(w, (uint8_t)(end - t->first));
    for (uint32_t seq = t->first; seq != end; seq++)
        write_chunk(t->chunks[seq % RIFT_CONTROL_QUEUE], w);
}

static void write_control_rx(const struct rift_control_rx *r, struct wv_writer *w)
{
    uint64_t present = 0;
    for (uint32_t i = 0; i < RIFT_CONTROL_IN_FLIGHT; i++)
        if (r->chunks[(r->taken + i) % RIFT_CONTROL_WINDOW])
            present |= UINT64_C(1) << i;
    wv_write_u32(w, r->taken);
    wv_write_u32(w, r->number);
    wv_write_u64(w, present);
    for (uint32_t i = 0; i < RIFT_CONTROL_IN_FLIGHT; i++)
        if (present >> i & 1)
            write_chunk(r->chunks[(r->taken + i) % RIFT_CONTROL_WINDOW], w);
}

/* What was just written may now be told to the peer. */
static void release(struct rift_session *s, uint64_t reserved_until, uint32_t committed)
{
    s->reserved_until = reserved_until;
    s->key_pending = s->path_unstored = false;
    s->input_rx->dirty = s->control_rx.dirty = false;
    s->control_tx.committed = committed;
}

int rift_session_export(struct rift_session *s, uint8_t *buffer, size_t capacity, uint64_t now,
                        size_t *ret_len)
{
    if (!s->held || capacity < RIFT_STATE_MAX_BYTES)
        return -EINVAL;
    if (s->closed)
        return RIFT_SESSION_ENDED;
    if (rift_packet_wants_key(&s->packet, now))
        rift_packet_next_key(&s->packet, now);
    uint64_t reserved_until =
        WV_MIN(rift_add_ns(s->packet.next_counter, s->reserve_block), RIFT_STATE_COUNTER_MAX);
    uint32_t committed = rift_control_tx_coverable(&s->control_tx);
    /* What has been sent stays covered, also when its message is longer than what is coverable now. */
    if (rift_serial_after(s->control_tx.committed, committed))
        committed = s->control_tx.committed;
    struct wv_writer w, length;
    wv_writer_init(&w, buffer, capacity);
    wv_write_u32(&w, RIFT_STATE_MAGIC);
    wv_write_u16(&w, RIFT_STATE_VERSION);
    wv_write_u8(&w, (uint8_t)s->role);
    wv_write_u8(&w, 0);
    wv_writer_init(&length, wv_write_reserve(&w, 4), 4);
    wv_write_u32(&w, s->reserve_block);
    write_packet(&s->packet, reserved_until, &w);
    write_measured(s, &w);
    write_cursor(s, &w);
    write_input(s->input_rx, &w);
    wv_write_u8(&w, s->split->started);
    wv_write_u32(&w, s->split->newest_id);
    write_control_tx(&s->control_tx, committed, &w);
    write_control_rx(&s->control_rx, &w);
    wv_write_u64(&w, rift_rate_bps(&s->rate));
    wv_write_u32(&length, (uint32_t)(w.length + RIFT_STATE_CHECKSUM_BYTES));
    wv_write_u64(&w, rift_checksum(buffer, w.length));
    release(s, reserved_until, committed);
    *ret_len = w.length;
    return 0;
}
