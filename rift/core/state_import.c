/* Makes a session of a stored state. The state is foreign bytes: a torn, old or hostile one gives no session,
 * never a session that breaks a rule of its own modules. */
#include "rift/core/state.h"

#include "lib/base/util.h"
#include "rift/crypto/derive.h"

#include <errno.h>
#include <string.h>

/* The process before may have used some more of these since the state was written. */
#define NUMBERS_SKIPPED 0x10000u
#define RTT_MAX_NS      (60 * WV_NS_PER_S)

/* Checks what frames the state. Returns 0 or -EBADMSG, with BODY after the length. */
static int open_state(const uint8_t *state, size_t len, enum rift_role role, struct wv_reader *ret_body)
{
    struct wv_reader r, sum;
    if (len < RIFT_STATE_CHECKSUM_BYTES || len > RIFT_STATE_MAX_BYTES)
        return -EBADMSG;
    wv_reader_init(&r, state, len - RIFT_STATE_CHECKSUM_BYTES);
    wv_reader_init(&sum, state + r.left, RIFT_STATE_CHECKSUM_BYTES);
    if (wv_read_u64(&sum) != rift_checksum(state, r.left))
        return -EBADMSG;
    uint32_t magic = wv_read_u32(&r);
    uint16_t version = wv_read_u16(&r);
    uint8_t written_by = wv_read_u8(&r), zero = wv_read_u8(&r);
    uint32_t length = wv_read_u32(&r);
    if (r.failed || magic != RIFT_STATE_MAGIC || version != RIFT_STATE_VERSION || zero != 0 ||
        length != len || written_by != role || role != RIFT_ROLE_HOST)
        return -EBADMSG;
    *ret_body = r;
    return 0;
}

/* Into CONFIG: what a new session needs. */
static int read_identity(struct wv_reader *r, struct rift_session_config *config, uint32_t generations[2])
{
    config->local_id = wv_read_u32(r);
    config->remote_id = wv_read_u32(r);
    config->first_counter = wv_read_u64(r);
    generations[0] = wv_read_u32(r);
    generations[1] = wv_read_u32(r);
    const uint8_t *send = wv_read_span(r, RIFT_KEY_BYTES), *receive = wv_read_span(r, RIFT_KEY_BYTES);
    if (!receive || config->first_counter >= RIFT_COUNTER_LIMIT ||
        generations[1] > (uint64_t)generations[0] + 1)
        return -EBADMSG;
    memcpy(config->key_send, send, RIFT_KEY_BYTES);
    memcpy(config->key_receive, receive, RIFT_KEY_BYTES);
    return 0;
}

static int read_packet(struct wv_reader *r, struct rift_packet *p, const uint32_t generations[2],
                       uint64_t now)
{
    p->generation_send = generations[0];
    p->generation_receive = generations[1];
    p->key_packets = wv_read_u64(r);
    p->key_bytes = wv_read_u64(r);
    p->replay.next = wv_read_u64(r);
    for (unsigned i = 0; i < RIFT_REPLAY_WORDS; i++)
        p->replay.words[i] = wv_read_u64(r);
    p->expected = wv_read_u64(r);
    p->received = wv_read_u64(r);
    p->received_any = p->replay.next > 0;
    p->highest = p->received_any ? p->replay.next - 1 : 0;
    p->highest_ns = now;
    return r->failed ? -EBADMSG : 0;
}

static int read_measured(struct wv_reader *r, struct rift_session *s, uint64_t now)
{
    uint8_t flags = wv_read_u8(r);
    const uint8_t *address = wv_read_span(r, RIFT_ADDRESS_BYTES);
    const uint8_t *old = flags & RIFT_STATE_MOVED ? wv_read_span(r, RIFT_ADDRESS_BYTES) : NULL;
    uint64_t srtt = wv_read_u64(r), var = wv_read_u64(r), least = wv_read_u64(r);
    int64_t offset = (int64_t)wv_read_u64(r);
    uint32_t ping_id = wv_read_u32(r), probe_id = wv_read_u32(r);
    if (r->failed || flags > (RIFT_STATE_KNOWN | RIFT_STATE_MOVED) || flags == RIFT_STATE_MOVED ||
        srtt > RTT_MAX_NS || var > RTT_MAX_NS || least > RTT_MAX_NS)
        return -EBADMSG;
    rift_path_restore(&s->path, flags & RIFT_STATE_KNOWN ? address : NULL, old, now);
    rift_timing_restore(&s->timing, srtt, var, least, offset, now);
    s->timing.next_id = ping_id + NUMBERS_SKIPPED;
    s->mtu.next_id = (probe_id & ~1u) + NUMBERS_SKIPPED; /* even, as mtu.c wants it */
    return 0;
}

static int read_cursor(struct wv_reader *r, struct rift_session *s, uint64_t now)
{
    uint32_t seq = wv_read_u32(r);
    struct rift_cursor cursor = {.x = wv_read_u16(r), .y = wv_read_u16(r)};
    uint8_t visible = wv_read_u8(r);
    cursor.shape_id = wv_read_u32(r);
    if (r->failed || visible > 1)
        return -EBADMSG;
    cursor.visible = visible;
    if (seq == 0)
        return 0;
    rift_session_send_cursor(s, &cursor, now);
    s->cursor_seq = seq + NUMBERS_SKIPPED ? seq + NUMBERS_SKIPPED : 1;
    return 0;
}

static int read_input(struct wv_reader *r, struct rift_input_rx *in)
{
    in->taken = wv_read_u32(r);
    uint16_t n = wv_read_u16(r);
    if (r->failed || n > RIFT_INPUT_QUEUE)
        return -EBADMSG;
    in->next = in->taken + n;
    for (uint32_t seq = in->taken; seq != in->next; seq++) {
        const uint8_t *sealed = wv_read_span(r, RIFT_INPUT_SEALED_BYTES);
        if (!sealed)
            return -EBADMSG;
        memcpy(in->events[seq % RIFT_INPUT_QUEUE], sealed, RIFT_INPUT_SEALED_BYTES);
    }
    in->ack_due = in->next != 1; /* what was said last may be lost */
    return 0;
}

static int read_video(struct wv_reader *r, struct rift_session *s)
{
    uint8_t started = wv_read_u8(r);
    uint32_t newest = wv_read_u32(r);
    if (r->failed || started > 1)
        return -EBADMSG;
    if (started)
        rift_split_restore(s->split, newest);
    s->key_wanted = true; /* also of frames since the export, that nobody knows of any more */
    return 0;
}

/* Returns 0 with a new chunk, -EBADMSG or -ENOMEM. */
static int read_chunk(struct wv_reader *r, struct rift_control_chunk **ret_chunk)
{
    uint8_t flags = wv_read_u8(r);
    uint16_t len = wv_read_u16(r);
    const uint8_t *data = wv_read_span(r, len);
    if (r->failed || flags > (RIFT_STATE_LAST | RIFT_STATE_ACKED) || len > RIFT_CONTROL_CHUNK_BYTES ||
        ((flags & RIFT_STATE_ACKED) && len))
        return -EBADMSG;
    /* Only the last chunk of a message may be short. */
    if (flags == 0 && len != RIFT_CONTROL_CHUNK_BYTES)
        return -EBADMSG;
    struct rift_control_chunk *c = rift_control_chunk_new(data, len, flags & RIFT_STATE_LAST);
    if (!c)
        return -ENOMEM;
    c->acked = flags & RIFT_STATE_ACKED;
    *ret_chunk = c;
    return 0;
}

static int read_control_tx(struct wv_reader *r, struct rift_control_tx *t, uint64_t now)
{
    t->first = t->fresh = t->next = wv_read_u32(r);
    uint8_t n = wv_read_u8(r);
    if (r->failed || n > RIFT_CONTROL_IN_FLIGHT)
        return -EBADMSG;
    for (unsigned i = 0; i < n; i++) {
        struct rift_control_chunk *c;
        int result = read_chunk(r, &c);
        if (result < 0)
            return result;
        t->memory_bytes += sizeof *c + c->len;
        t->chunks[t->next++ % RIFT_CONTROL_QUEUE] = c;
        /* Any of them may have been sent; all that are not known to have come go again. */
        c->tries = 1;
        c->sent_ns = now;
        c->lost = !c->acked;
    }
    /* Message follows message: the end of what is stored is the end of one. */
    if (n && !t->chunks[(t->next - 1) % RIFT_CONTROL_QUEUE]->last)
        return -EBADMSG;
    if (n && t->chunks[t->first % RIFT_CONTROL_QUEUE]->acked)
        return -EBADMSG; /* it would have been dropped */
    t->fresh = t->next;
    return 0;
}

static int read_control_rx(struct wv_reader *r, struct rift_control_rx *in)
{
    in->taken = in->next = wv_read_u32(r);
    in->number = wv_read_u32(r);
    uint64_t present = wv_read_u64(r);
    for (uint32_t i = 0; i < RIFT_CONTROL_IN_FLIGHT; i++) {
        if (!(present >> i & 1))
            continue;
        struct rift_control_chunk *c;
        int result = read_chunk(r, &c);
        if (result < 0)
            return result;
        in->memory_bytes += sizeof *c + c->len;
        in->chunks[(in->taken + i) % RIFT_CONTROL_WINDOW] = c;
        if (c->acked)
            return -EBADMSG;
    }
    while (in->next - in->taken < RIFT_CONTROL_IN_FLIGHT && in->chunks[in->next % RIFT_CONTROL_WINDOW])
        in->next++;
    in->ack_due = true;
    return r->failed ? -EBADMSG : 0;
}

/* Reports about what the process before sent say nothing to the new controller, which has no record of it. */
static void read_rate(struct wv_reader *r, struct rift_rate *rate, uint64_t now)
{
    uint64_t bps = wv_read_u64(r);
    if (bps)
        rift_rate_restart(rate, bps, now);
}

static int read_channels(struct wv_reader *r, struct rift_session *s, uint64_t now)
{
    int result = read_measured(r, s, now);
    if (result == 0)
        result = read_cursor(r, s, now);
    if (result == 0)
        result = read_input(r, s->input_rx);
    if (result == 0)
        result = read_video(r, s);
    if (result == 0)
        result = read_control_tx(r, &s->control_tx, now);
    if (result == 0)
        result = read_control_rx(r, &s->control_rx);
    if (result == 0)
        read_rate(r, &s->rate, now);
    return result == 0 && (r->failed || r->left != 0) ? -EBADMSG : result;
}

int rift_session_import(struct rift_session **ret_session, const struct rift_session_config *config,
                        const uint8_t *state, size_t len, uint64_t now)
{
    struct rift_session_config c = *config;
    struct rift_session *s = NULL;
    struct wv_reader r;
    uint32_t generations[2];
    int result = open_state(state, len, config->role, &r);
    if (result < 0)
        return result;
    uint32_t block = wv_read_u32(&r);
    result = block < RIFT_STATE_BLOCK_MIN || block > RIFT_STATE_BLOCK_MAX
                 ? -EBADMSG
                 : read_identity(&r, &c, generations);
    if (result == 0)
        result = rift_session_new(&s, &c, now);
    if (result == 0)
        result = rift_session_reserve(s, block);
    if (result == 0)
        result = read_packet(&r, &s->packet, generations, now);
    if (result == 0)
        result = read_channels(&r, s, now);
    explicit_bzero(&c, sizeof c);
    if (result < 0) {
        rift_session_free(s);
        return result;
    }
    s->control_tx.committed = s->control_tx.next;
    rift_marks_reset(&s->marks, s->packet.next_counter);
    *ret_session = s;
    return 0;
}
