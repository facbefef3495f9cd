/* Datagrams in: authentication first, then one table that says which frames exist, how long they are, and who
 * may send them. A malformed frame is counted and ends the reading of its datagram; a broken promise that
 * would jam an ordered channel for ever ends the session. Nothing here may trust a length, a count or a
 * sequence. */
#include "lib/base/util.h"
#include "rift/core/session_internal.h"

#include <errno.h>
#include <string.h>

#define FEEDBACK_PAUSE_NS (20 * WV_NS_PER_MS)
/* With reports, which say the rest. */
#define FEEDBACK_SELDOM_NS (40 * WV_NS_PER_MS)
#define KEY_TELL_PAUSE_NS  (50 * WV_NS_PER_MS)

struct frame_context {
    uint64_t counter, now;
    const uint8_t *address; /* where the datagram came from; NULL: not told */
};

typedef int (*frame_handler)(struct rift_session *s, struct wv_reader *body, const struct frame_context *c);

static int on_ping(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_timing_on_ping(&s->timing, wv_read_u32(body), c->now);
    return 0;
}

static int on_pong(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint32_t id = wv_read_u32(body);
    uint64_t received = wv_read_u64(body), delay = wv_read_u64(body);
    rift_timing_on_pong(&s->timing, id, received, delay, c->now);
    return 0;
}

static int on_close(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint8_t reason = wv_read_u8(body);
    size_t len = body->left;
    if (len > RIFT_CLOSE_TEXT_BYTES || reason >= RIFT_CLOSE_TIMEOUT)
        return -EBADMSG;
    char text[RIFT_CLOSE_TEXT_BYTES + 1] = {0};
    const uint8_t *words = wv_read_span(body, len);
    for (size_t i = 0; i < len; i++)
        text[i] = words[i] >= 0x20 && words[i] < 0x7f ? (char)words[i] : '?';
    rift_session_end(s, reason, text, false, true, c->now);
    return 0;
}

static int on_padding(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    return 0;
}

static int on_path_challenge(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_path_on_challenge(&s->path, wv_read_span(body, RIFT_PATH_TOKEN_BYTES), c->address);
    return 0;
}

static int on_path_response(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    const uint8_t *token = wv_read_span(body, RIFT_PATH_TOKEN_BYTES);
    if (c->address)
        rift_session_path_result(s, rift_path_on_response(&s->path, token, c->address, c->counter, c->now),
                                 c->now);
    return 0;
}

static int on_mtu_probe(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_mtu_on_probe(&s->mtu, wv_read_u32(body));
    return 0;
}

static int on_mtu_ack(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_session_mtu_result(s, rift_mtu_on_ack(&s->mtu, wv_read_u32(body), c->now), c->now);
    return 0;
}

static int on_input(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_timing_active(&s->timing, c->now);
    return rift_input_rx_frame(s->input_rx, body, c->counter, c->now);
}

static int on_input_ack(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint32_t next = wv_read_u32(body);
    uint64_t echo = wv_read_u64(body);
    uint32_t delay_us = wv_read_u32(body);
    if (!rift_input_tx_ack(s->input_tx, next))
        return -EBADMSG;
    rift_timing_echo(&s->timing, echo, delay_us, c->now);
    return 0;
}

static int on_cursor(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint32_t seq = wv_read_u32(body);
    struct rift_cursor cursor = {.x = wv_read_u16(body), .y = wv_read_u16(body)};
    uint8_t flags = wv_read_u8(body);
    cursor.shape_id = wv_read_u32(body);
    cursor.visible = flags & 1;
    if (flags > 1 || seq == 0)
        return -EBADMSG;
    if (s->cursor_seq != 0 && !rift_serial_after(seq, s->cursor_seq))
        return 0;
    s->cursor_seq = seq;
    s->cursor = cursor;
    s->cursor_pending = true;
    return 0;
}

static int on_control(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_timing_active(&s->timing, c->now);
    return rift_control_rx_frame(&s->control_rx, body);
}

static int on_control_ack(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint32_t next = wv_read_u32(body);
    uint64_t bitmap = wv_read_u64(body);
    return rift_control_tx_ack(&s->control_tx, next, bitmap) ? 0 : -EBADMSG;
}

static void video_came(struct rift_session *s, uint64_t now)
{
    uint64_t pause = s->rate.writer ? FEEDBACK_SELDOM_NS : FEEDBACK_PAUSE_NS;
    rift_timing_active(&s->timing, now);
    if (s->feedback_due == RIFT_NEVER)
        s->feedback_due = s->feedback_last ? WV_MAX(now, s->feedback_last + pause) : now;
}

/* Whether BODY of a VIDEO is the last fragment of its frame, sound or not. */
static bool is_last_fragment(struct wv_reader body)
{
    wv_read_span(&body, 7);
    uint16_t count = wv_read_u16(&body);
    wv_read_u16(&body);
    return wv_read_u16(&body) + 1u == count;
}

static int on_video(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    video_came(s, c->now);
    s->frame_ended |= is_last_fragment(*body);
    struct wv_reader copy = *body;
    int result = rift_join_fragment(s->join, body, c->now);
    if (result == 0)
        rift_repair_source(&s->repair, copy, s->join, c->now);
    return result;
}

static int on_video_repair(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    video_came(s, c->now);
    rift_join_let_go(s->join);
    return rift_repair_take(&s->repair, body, s->join, c->now);
}

static int on_video_end(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    video_came(s, c->now);
    return rift_join_end(s->join, body, c->now);
}

static int on_video_gone(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    rift_join_gone(s->join, wv_read_u32(body), c->now);
    return 0;
}

static int on_video_nack(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint32_t id = wv_read_u32(body);
    uint16_t first = wv_read_u16(body);
    uint8_t n_bytes = wv_read_u8(body);
    if (n_bytes > RIFT_NACK_BITMAP_BYTES || body->left != n_bytes)
        return -EBADMSG;
    s->stats.nacks_received++;
    rift_mtu_suspect(&s->mtu, c->now);
    rift_split_nack(s->split, id, first, wv_read_span(body, n_bytes), n_bytes);
    return 0;
}

static int on_keyframe_request(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint8_t known = wv_read_u8(body);
    uint32_t after = wv_read_u32(body);
    if (known > 1)
        return -EBADMSG;
    if (!rift_split_needs_keyframe(s->split, known, after))
        return 0;
    if (s->key_told && c->now - s->key_told_ns < KEY_TELL_PAUSE_NS)
        return 0;
    s->key_told = true;
    s->key_told_ns = c->now;
    s->key_wanted = true;
    s->stats.keyframe_requests++;
    return 0;
}

static int on_feedback(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    uint64_t highest = wv_read_u64(body);
    uint32_t delay_us = wv_read_u32(body);
    struct rift_ecn_counts counts = {.received = wv_read_u32(body)};
    wv_read_u32(body); /* datagrams missing, for a congestion controller */
    uint8_t known = wv_read_u8(body);
    uint32_t done = wv_read_u32(body);
    counts.ect0 = wv_read_u32(body);
    counts.ect1 = wv_read_u32(body);
    counts.ce = wv_read_u32(body);
    if (known > 1)
        return -EBADMSG;
    rift_timing_echo(&s->timing, highest, delay_us, c->now);
    rift_marks_feedback(&s->marks, highest, &counts);
    if (known)
        rift_split_confirm(s->split, done);
    return 0;
}

static int on_report(struct rift_session *s, struct wv_reader *body, const struct frame_context *c)
{
    struct rift_cc_report report;
    int result = rift_rate_report(&s->rate, body, c->now, &report);
    if (result == 0 && report.n)
        rift_repair_report(&s->repair, &report, rift_rate_congested(&s->rate));
    return result;
}

#define TO_HOST   (1u << RIFT_ROLE_HOST)
#define TO_CLIENT (1u << RIFT_ROLE_CLIENT)

/* Every frame of version 1: who may receive it, and the least and the most bytes of its body. */
static const struct {
    uint8_t type;
    uint8_t to;
    uint16_t least, most;
    frame_handler handler;
} frame_table[] = {
    {RIFT_WIRE_PING, TO_HOST | TO_CLIENT, RIFT_PING_BYTES, RIFT_PING_BYTES, on_ping},
    {RIFT_WIRE_PONG, TO_HOST | TO_CLIENT, RIFT_PONG_BYTES, RIFT_PONG_BYTES, on_pong},
    {RIFT_WIRE_CLOSE, TO_HOST | TO_CLIENT, 1, 1 + RIFT_CLOSE_TEXT_BYTES, on_close},
    {RIFT_WIRE_PADDING, TO_HOST | TO_CLIENT, 0, RIFT_PAYLOAD_MAX_BYTES, on_padding},
    {RIFT_WIRE_PATH_CHALLENGE, TO_HOST | TO_CLIENT, RIFT_PATH_TOKEN_BYTES, RIFT_PATH_TOKEN_BYTES,
     on_path_challenge},
    {RIFT_WIRE_PATH_RESPONSE, TO_HOST | TO_CLIENT, RIFT_PATH_TOKEN_BYTES, RIFT_PATH_TOKEN_BYTES,
     on_path_response},
    {RIFT_WIRE_MTU_PROBE, TO_HOST | TO_CLIENT, RIFT_MTU_ID_BYTES, RIFT_MTU_ID_BYTES, on_mtu_probe},
    {RIFT_WIRE_MTU_ACK, TO_HOST | TO_CLIENT, RIFT_MTU_ID_BYTES, RIFT_MTU_ID_BYTES, on_mtu_ack},
    {RIFT_WIRE_INPUT, TO_HOST, RIFT_INPUT_HEAD_BYTES + RIFT_INPUT_EVENT_BYTES, RIFT_PAYLOAD_BYTES, on_input},
    {RIFT_WIRE_INPUT_ACK, TO_CLIENT, RIFT_INPUT_ACK_BYTES, RIFT_INPUT_ACK_BYTES, on_input_ack},
    {RIFT_WIRE_CURSOR, TO_CLIENT, RIFT_CURSOR_BYTES, RIFT_CURSOR_BYTES, on_cursor},
    {RIFT_WIRE_CONTROL, TO_HOST | TO_CLIENT, RIFT_CONTROL_HEAD_BYTES, RIFT_PAYLOAD_BYTES, on_control},
    {RIFT_WIRE_CONTROL_ACK, TO_HOST | TO_CLIENT, RIFT_CONTROL_ACK_BYTES, RIFT_CONTROL_ACK_BYTES,
     on_control_ack},
    {RIFT_WIRE_VIDEO, TO_CLIENT, RIFT_VIDEO_HEAD_BYTES + 1, RIFT_PAYLOAD_MAX_BYTES, on_video},
    {RIFT_WIRE_VIDEO_END, TO_CLIENT, RIFT_VIDEO_END_BYTES, RIFT_VIDEO_END_BYTES, on_video_end},
    {RIFT_WIRE_VIDEO_REPAIR, TO_CLIENT, RIFT_FEC_HEAD_BYTES(1) + 1, RIFT_PAYLOAD_MAX_BYTES, on_video_repair},
    {RIFT_WIRE_VIDEO_NACK, TO_HOST, RIFT_NACK_HEAD_BYTES, RIFT_NACK_HEAD_BYTES + RIFT_NACK_BITMAP_BYTES,
     on_video_nack},
    {RIFT_WIRE_VIDEO_GONE, TO_CLIENT, RIFT_GONE_BYTES, RIFT_GONE_BYTES, on_video_gone},
    {RIFT_WIRE_KEYFRAME_REQUEST, TO_HOST, RIFT_KEYFRAME_REQUEST_BYTES, RIFT_KEYFRAME_REQUEST_BYTES,
     on_keyframe_request},
    {RIFT_WIRE_FEEDBACK, TO_HOST, RIFT_FEEDBACK_BYTES, RIFT_FEEDBACK_BYTES, on_feedback},
    {RIFT_WIRE_REPORT, TO_HOST, RIFT_REPORT_MIN_BYTES, RIFT_FEEDBACK_MAX_BYTES, on_report},
};

static int handle_frame(struct rift_session *s, uint8_t type, struct wv_reader *body,
                        const struct frame_context *c)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(frame_table); i++) {
        if (frame_table[i].type != type)
            continue;
        if (!(frame_table[i].to & 1u << s->role) || body->left < frame_table[i].least ||
            body->left > frame_table[i].most)
            return -EBADMSG;
        return frame_table[i].handler(s, body, c);
    }
    return type >= RIFT_WIRE_IGNORABLE ? 0 : -EBADMSG;
}

static int read_frames(struct rift_session *s, const uint8_t *payload, size_t len,
                       const struct frame_context *c)
{
    struct wv_reader r;
    wv_reader_init(&r, payload, len);
    while (r.left && !s->closed) {
        uint8_t type = wv_read_u8(&r);
        uint16_t body_len = wv_read_u16(&r);
        const uint8_t *bytes = wv_read_span(&r, body_len);
        int result = -EBADMSG;
        if (!r.failed) {
            struct wv_reader body;
            wv_reader_init(&body, bytes, body_len);
            result = handle_frame(s, type, &body, c);
        }
        if (result < 0) {
            s->stats.dropped_malformed++;
            return RIFT_SESSION_DROPPED;
        }
    }
    return 0;
}

int rift_session_frames(struct rift_session *s, const uint8_t *payload, size_t len, uint64_t counter,
                        uint64_t now)
{
    return read_frames(s, payload, len, &(struct frame_context){.counter = counter, .now = now});
}

void rift_session_set_arrival(struct rift_session *s, uint64_t at)
{
    s->arrival_ns = at;
}

static int receive(struct rift_session *s, const uint8_t *address, enum rift_ecn ecn, const uint8_t *datagram,
                   size_t len, uint64_t now)
{
    uint64_t came_ns = s->arrival_ns ? WV_MIN(s->arrival_ns, now) : now;
    uint8_t payload[RIFT_MTU_MAX_BYTES];
    size_t payload_len;
    uint64_t counter;
    s->arrival_ns = 0;
    switch (rift_packet_unprotect(&s->packet, datagram, len, now, payload, &payload_len, &counter)) {
    case 0:
        break;
    case RIFT_PACKET_REPLAYED:
        s->stats.dropped_replay++;
        rift_session_path_copy(s, address, datagram, len, now);
        return RIFT_SESSION_DROPPED;
    case RIFT_PACKET_FORGED:
        s->stats.dropped_auth++;
        return RIFT_SESSION_DROPPED;
    default:
        s->stats.dropped_malformed++;
        return RIFT_SESSION_DROPPED;
    }
    s->stats.packets_received++;
    s->stats.bytes_received += len;
    s->heard_ns = WV_MAX(s->heard_ns, now);
    rift_marks_received(&s->marks, ecn);
    if (s->closed)
        return RIFT_SESSION_DROPPED;
    rift_session_path_datagram(s, address, counter, len, now);
    s->frame_ended = false;
    read_frames(s, payload, payload_len,
                &(struct frame_context){.counter = counter, .now = now, .address = address});
    rift_rate_arrived(&s->rate, counter, s->frame_ended, ecn == RIFT_ECN_CE, came_ns);
    return 0;
}

int rift_session_receive(struct rift_session *s, const uint8_t *datagram, size_t len, uint64_t now)
{
    return receive(s, NULL, RIFT_ECN_NONE, datagram, len, now);
}

int rift_session_receive_from(struct rift_session *s, const uint8_t address[RIFT_ADDRESS_BYTES],
                              enum rift_ecn ecn, const uint8_t *datagram, size_t len, uint64_t now)
{
    return receive(s, address, ecn, datagram, len, now);
}
