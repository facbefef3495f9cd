/* Datagrams out: what is due, in strict order of its class. The pacer, or the congestion controller instead
 * of it, is asked for video only, but booked for everything. */
#include "lib/base/util.h"
#include "rift/core/session_internal.h"

#include <errno.h>
#include <string.h>

#define CLOSE_REPEAT_NS  (50 * WV_NS_PER_MS)
#define CURSOR_FIRST_NS  (20 * WV_NS_PER_MS)
#define CURSOR_DOUBLINGS 4 /* 20, 40, 80, 160 ms after a change; then with every ping */
/* Video may leave up to 100 us before its planned time, and is on its way some 30 us after the clock was
 * read: the datagrams of a fast stream share a wake-up and a system call. The timer is set a little early, as
 * timers are late; what it delays all the same does not delay what is behind it (the pacers see to that). */
#define EARLY_NS (130 * WV_NS_PER_US)
#define LEAD_NS  (40 * WV_NS_PER_US)

static bool write_cursor(struct rift_session *s, struct wv_writer *w, uint64_t now)
{
    if (s->role != RIFT_ROLE_HOST || s->cursor_seq == 0 ||
        wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_CURSOR_BYTES)
        return false;
    wv_write_u8(w, RIFT_WIRE_CURSOR);
    wv_write_u16(w, RIFT_CURSOR_BYTES);
    wv_write_u32(w, s->cursor_seq);
    wv_write_u16(w, s->cursor.x);
    wv_write_u16(w, s->cursor.y);
    wv_write_u8(w, s->cursor.visible);
    wv_write_u32(w, s->cursor.shape_id);
    return true;
}

static void fill_input(struct rift_session *s, struct wv_writer *w, uint64_t now)
{
    if (s->input_tx)
        rift_input_tx_write(s->input_tx, w, s->timing.srtt_ns, now);
    if (s->input_rx)
        rift_input_rx_write_ack(s->input_rx, w, now);
    if (now >= s->cursor_due && write_cursor(s, w, now)) {
        s->cursor_due =
            s->cursor_repeats < CURSOR_DOUBLINGS ? now + (CURSOR_FIRST_NS << s->cursor_repeats) : RIFT_NEVER;
        s->cursor_repeats++;
    }
    rift_timing_write_pongs(&s->timing, w, now);
    if (rift_timing_write_ping(&s->timing, w, now) && s->cursor_due == RIFT_NEVER)
        write_cursor(s, w, now);
}

static void write_feedback(struct rift_session *s, struct wv_writer *w, uint64_t now)
{
    if (now < s->feedback_due || wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_FEEDBACK_BYTES)
        return;
    uint32_t done = 0;
    bool known = rift_join_done(s->join, &done);
    uint64_t delay_us = (now - s->packet.highest_ns) / WV_NS_PER_US;
    wv_write_u8(w, RIFT_WIRE_FEEDBACK);
    wv_write_u16(w, RIFT_FEEDBACK_BYTES);
    wv_write_u64(w, s->packet.highest);
    wv_write_u32(w, (uint32_t)WV_MIN(delay_us, (uint64_t)UINT32_MAX));
    wv_write_u32(w, (uint32_t)s->packet.received);
    wv_write_u32(w, (uint32_t)rift_packet_lost(&s->packet));
    wv_write_u8(w, known);
    wv_write_u32(w, done);
    wv_write_u32(w, s->marks.seen.ect0);
    wv_write_u32(w, s->marks.seen.ect1);
    wv_write_u32(w, s->marks.seen.ce);
    s->feedback_due = RIFT_NEVER;
    s->feedback_last = now;
}

static void fill_control(struct rift_session *s, struct wv_writer *w, uint64_t now)
{
    rift_control_rx_write_ack(&s->control_rx, w);
    rift_mtu_write_acks(&s->mtu, w);
    if (s->join) {
        rift_join_write_key_request(s->join, w, now);
        write_feedback(s, w, now);
        rift_rate_write_report(&s->rate, w, now);
        rift_join_write_nacks(s->join, w, now);
    }
    if (s->split)
        rift_split_write_gone(s->split, w);
    while (rift_control_tx_write(&s->control_tx, w, rift_timing_rto(&s->timing), now))
        ;
}

/* When video may leave: at most NOW: now. */
static uint64_t video_release(const struct rift_session *s, uint64_t now)
{
    return s->rate.ops ? rift_rate_next(&s->rate, s->mtu.current, now) : rift_pacer_release(&s->pacer);
}

static bool has_video(const struct rift_session *s, uint64_t now)
{
    return rift_repair_pending(&s->repair) || rift_split_timeout(s->split) <= now;
}

/* W begins empty and grows to what the path carries. */
static void fill_video(struct rift_session *s, struct wv_writer *w, uint64_t now, struct rift_outgoing *out)
{
    w->capacity = RIFT_PAYLOAD_MAX_BYTES;
    if (!s->split)
        return;
    uint64_t release = video_release(s, now);
    if (release > rift_add_ns(now, EARLY_NS)) {
        s->video_held = has_video(s, now) ? release : 0;
        return;
    }
    s->split->written = (struct rift_split_written){0};
    if (rift_repair_write(&s->repair, w) || rift_split_write(s->split, w, now)) {
        /* What had to wait for a report was not held back by the pacer. */
        out->planned_ns = s->video_held <= rift_add_ns(now, EARLY_NS) ? s->video_held : 0;
        s->video_held = 0;
        return;
    }
    s->video_held = 0;
    size_t padding = rift_rate_padding(&s->rate, s->mtu.current, now);
    if (padding == 0)
        return;
    size_t body = padding - RIFT_SEAL_BYTES - RIFT_FRAME_HEADER_BYTES;
    wv_write_u8(w, RIFT_WIRE_PADDING);
    wv_write_u16(w, (uint16_t)body);
    memset(wv_write_reserve(w, body), 0, body);
    s->rate.padding_sent++;
}

static void fill_close(struct rift_session *s, struct wv_writer *w, uint64_t now)
{
    if (s->closes_left == 0 || now < s->close_due)
        return;
    size_t len = 0;
    while (s->close_text[len])
        len++;
    wv_write_u8(w, RIFT_WIRE_CLOSE);
    wv_write_u16(w, (uint16_t)(1 + len));
    wv_write_u8(w, (uint8_t)s->close_reason);
    wv_write_span(w, s->close_text, len);
    s->closes_left--;
    s->close_due = now + CLOSE_REPEAT_NS;
}

/* Does what time alone demands. */
static void tick(struct rift_session *s, uint64_t now)
{
    if (s->closed)
        return;
    if (rift_packet_exhausted(&s->packet)) {
        rift_session_end(s, RIFT_CLOSE_NORMAL, "packet counter used up", true, false, now);
        return;
    }
    if (s->stats.dropped_auth >= RIFT_FORGED_LIMIT) {
        rift_session_end(s, RIFT_CLOSE_NORMAL, "too many forged datagrams", true, false, now);
        return;
    }
    if (now >= rift_add_ns(s->heard_ns, s->idle_timeout_ns)) {
        rift_session_end(s, RIFT_CLOSE_TIMEOUT, "", false, true, now);
        return;
    }
    rift_packet_tick(&s->packet, now);
    rift_session_path_result(s, rift_path_tick(&s->path, now), now);
    rift_session_mtu_result(s, rift_mtu_tick(&s->mtu, now), now);
    rift_rate_tick(&s->rate, now);
    if (s->split)
        rift_session_settle_rate(s, now);
    if (s->join)
        rift_join_tick(s->join, now);
}

/* Fills the payload of the next datagram; W stays empty when nothing is due. Returns whether what becomes of
 * it tells something of the path: not one to another address, nor a probe that may be too large. */
static bool fill(struct rift_session *s, struct wv_writer *w, uint64_t now, struct rift_outgoing *out)
{
    out->traffic_class = RIFT_CLASS_CONTROL;
    if (s->closed) {
        fill_close(s, w, now);
        return false;
    }
    if (rift_path_write(&s->path, w, now, out->address))
        return false;
    fill_input(s, w, now);
    if (w->length)
        out->traffic_class = RIFT_CLASS_INPUT;
    fill_control(s, w, now);
    if (w->length)
        return true;
    uint32_t probe = rift_mtu_due(&s->mtu, now);
    if (probe) {
        w->capacity = probe - RIFT_SEAL_BYTES;
        rift_mtu_write(&s->mtu, w, rift_timing_rto(&s->timing), now);
        return false;
    }
    out->traffic_class = RIFT_CLASS_MEDIA;
    fill_video(s, w, now, out);
    return true;
}

/* Tells the controller of the datagram that leaves under COUNTER. */
static void book_rate(struct rift_session *s, uint64_t counter, const struct rift_outgoing *out, uint64_t now)
{
    struct rift_rate_sent sent = {.counter = counter, .len = out->len};
    if (s->split && out->traffic_class == RIFT_CLASS_MEDIA) {
        sent.fresh = s->split->written.fresh;
        sent.last = s->split->written.last;
        sent.frame_id = s->split->written.frame_id;
    }
    rift_rate_sent(&s->rate, &sent, now);
    if (sent.last)
        rift_repair_frame(&s->repair, s->split, sent.frame_id, s->timing.srtt_ns, now);
}

int rift_session_send_to(struct rift_session *s, uint8_t *buffer, size_t capacity, uint64_t now,
                         struct rift_outgoing *ret_datagram)
{
    capacity = WV_MIN(capacity, (size_t)RIFT_MTU_MAX_BYTES);
    if (capacity < RIFT_MTU_BYTES || capacity < s->mtu.capacity)
        return -EINVAL;
    s->mtu.capacity = (uint32_t)capacity;
    tick(s, now);
    if (s->held && s->packet.next_counter >= s->reserved_until)
        return RIFT_SESSION_IDLE; /* until a state with a new reservation is stored */
    struct rift_outgoing out = {0};
    memcpy(out.address, s->path.current, RIFT_ADDRESS_BYTES);
    struct wv_writer w;
    wv_writer_init(&w, buffer + RIFT_HEADER_BYTES, RIFT_PAYLOAD_BYTES);
    bool measured = fill(s, &w, now, &out);
    if (w.length == 0)
        return RIFT_SESSION_IDLE;
    if (rift_packet_wants_key(&s->packet, now)) {
        if (s->held)
            s->key_pending = true;
        else
            rift_packet_next_key(&s->packet, now);
    }
    uint64_t counter;
    out.len = rift_packet_protect(&s->packet, buffer, w.length, &counter);
    if (out.len == 0)
        return RIFT_SESSION_IDLE;
    if (out.traffic_class == RIFT_CLASS_MEDIA)
        out.ecn = rift_marks_next(&s->marks, rift_timing_rto(&s->timing), now);
    rift_marks_sent(&s->marks, out.ecn, now);
    rift_timing_sent(&s->timing, counter, now);
    rift_pacer_charge(&s->pacer, out.len, now);
    if (measured)
        book_rate(s, counter, &out, now);
    s->stats.packets_sent++;
    s->stats.bytes_sent += out.len;
    *ret_datagram = out;
    return 0;
}

int rift_session_send(struct rift_session *s, uint8_t *buffer, size_t capacity, uint64_t now, size_t *ret_len)
{
    struct rift_outgoing out;
    int r = rift_session_send_to(s, buffer, WV_MIN(capacity, (size_t)RIFT_MTU_BYTES), now, &out);
    if (r == 0)
        *ret_len = out.len;
    return r;
}

uint64_t rift_session_timeout(const struct rift_session *s)
{
    bool may_send = !s->held || s->packet.next_counter < s->reserved_until;
    if (s->closed)
        return s->closes_left && may_send ? s->close_due : RIFT_NEVER;
    if (rift_packet_exhausted(&s->packet) || rift_session_wants_export(s))
        return 0;
    uint64_t at = rift_add_ns(s->heard_ns, s->idle_timeout_ns);
    at = rift_earlier(at, rift_timing_timeout(&s->timing));
    at = rift_earlier(at, rift_control_tx_timeout(&s->control_tx, rift_timing_rto(&s->timing)));
    at = rift_earlier(at, rift_earlier(rift_path_timeout(&s->path), rift_mtu_timeout(&s->mtu)));
    at = rift_earlier(at, rift_rate_timeout(&s->rate));
    if (s->control_rx.ack_due)
        return 0;
    if (s->role == RIFT_ROLE_CLIENT) {
        at = rift_earlier(at, rift_input_tx_timeout(s->input_tx));
        at = rift_earlier(at, rift_join_timeout(s->join));
        return rift_earlier(at, s->feedback_due);
    }
    if (s->input_rx->ack_due || s->split->n_gone)
        return 0;
    at = rift_earlier(at, s->cursor_due);
    uint64_t video = rift_repair_pending(&s->repair) ? 0 : rift_split_timeout(s->split);
    if (video != RIFT_NEVER) {
        uint64_t release = video_release(s, s->rate.now);
        release -= WV_MIN(release, LEAD_NS);
        at = rift_earlier(at, WV_MAX(video, release));
    }
    return at;
}
