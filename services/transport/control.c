/* Control messages: what clients are told about the host and the cursor, and what they report. Must never
 * queue more for a client than its newest state: what it has not been told yet is told once, as it is then.
 */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_media.pb-c.h"
#include "proto/rift.pb-c.h"
#include "services/transport/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RETRY_NS     (50 * WV_NS_PER_MS)
#define SHAPE_ASK_NS (250 * WV_NS_PER_MS)

static int send_control(struct wv_transport *t, struct session *s, const Wavry__Rift__ControlMessage *message,
                        uint64_t now)
{
    size_t len = wavry__rift__control_message__get_packed_size(message);
    if (len > RIFT_CONTROL_MAX_BYTES)
        return -EMSGSIZE;
    wavry__rift__control_message__pack(message, t->scratch);
    return rift_session_send_control(s->rift, t->scratch, len, now);
}

static int send_hello(struct wv_transport *t, struct session *s, uint64_t now)
{
    char software[] = "wavry " WAVRY_VERSION, codec[] = "h264", notice[128];
    Wavry__Rift__HostHello hello = WAVRY__RIFT__HOST_HELLO__INIT;
    if (!*t->media.notice && t->controller && t->controller != s && !s->hello.view_only)
        snprintf(notice, sizeof notice, "%s controls this host.", t->controller->name);
    else
        snprintf(notice, sizeof notice, "%s", t->media.notice);
    hello.software = software;
    hello.name = t->host_name;
    hello.codec = codec;
    hello.width = t->media.width;
    hello.height = t->media.height;
    hello.max_fps = t->setup.max_fps;
    hello.bitrate_bps = t->setup.bitrate_bps;
    hello.controls = t->controller == s;
    hello.notice = notice;
    Wavry__Rift__ControlMessage message = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    message.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_HOST_HELLO;
    message.host_hello = &hello;
    return send_control(t, s, &message, now);
}

static int send_shape(struct wv_transport *t, struct session *s, uint64_t now)
{
    struct cursor *c = &t->cursor;
    Wavry__Rift__SealedCursor sealed = WAVRY__RIFT__SEALED_CURSOR__INIT;
    sealed.kid = c->kid;
    sealed.nonce = (ProtobufCBinaryData){.len = sizeof c->nonce, .data = c->nonce};
    sealed.sealed = (ProtobufCBinaryData){.len = c->len, .data = c->sealed};
    Wavry__Rift__ControlMessage message = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    message.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_SEALED_CURSOR;
    message.sealed_cursor = &sealed;
    return send_control(t, s, &message, now);
}

int control_send_inner(struct wv_transport *t, struct session *s, const uint8_t *sealed, size_t len,
                       uint64_t now)
{
    Wavry__Rift__ControlMessage message = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    message.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    message.inner = (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)sealed}; /* only packed */
    return send_control(t, s, &message, now);
}

/* In pixels of the coded picture, which may be smaller than the captured one. */
static void send_cursor(struct wv_transport *t, struct session *s, uint64_t now)
{
    const struct media *m = &t->media;
    struct rift_cursor c = t->cursor.position;
    if (m->source_width && m->source_height) {
        c.x = (uint16_t)((uint32_t)c.x * m->width / m->source_width);
        c.y = (uint16_t)((uint32_t)c.y * m->height / m->source_height);
    }
    rift_session_send_cursor(s->rift, &c, now);
}

void control_cursor_all(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; t->cursor.known && i < t->top; i++)
        if (session_is_live(&t->slots[i]))
            send_cursor(t, &t->slots[i], now);
}

void control_pump(struct wv_transport *t, struct session *s, uint64_t now)
{
    if (!session_is_live(s) || now < s->control_retry_at)
        return;
    s->control_retry_at = 0;
    if (s->hello_due)
        s->hello_due = send_hello(t, s, now) == RIFT_SESSION_FULL;
    if (s->shape_version != t->cursor.version) {
        /* A client may keep one shape or many, so each change is told, also back to an earlier one. */
        if (send_shape(t, s, now) != RIFT_SESSION_FULL) {
            s->shape_version = t->cursor.version;
            if (t->cursor.known)
                send_cursor(t, s, now);
        }
    }
    if (s->hello_due || s->shape_version != t->cursor.version)
        s->control_retry_at = now + RETRY_NS;
}

void control_tell_all(struct wv_transport *t)
{
    for (size_t i = 0; i < t->top; i++)
        t->slots[i].hello_due = true;
}

static void take_report(struct wv_transport *t, struct session *s, const struct wv_client_report *report)
{
    s->report = *report;
    s->frames_lost += report->lost_frames;
    if (report->frames == 0)
        return;
    wv_metric_record(t->metrics, WV_T_CLIENT_NETWORK_US, report->network_p50_us);
    wv_metric_record(t->metrics, WV_T_CLIENT_DECODE_US, report->decode_p50_us);
    wv_metric_record(t->metrics, WV_T_CLIENT_PRESENT_US, report->present_p50_us);
    wv_metric_record(t->metrics, WV_T_CLIENT_GLASS_US, report->glass_p50_us);
}

void control_take(struct wv_transport *t, struct session *s, const uint8_t *data, size_t len, uint64_t now)
{
    struct wv_peer_control message;
    int r = wv_peer_control_parse(data, len, &message);
    if (r < 0) {
        wv_metric_add(t->metrics, WV_T_CONTROL_BAD, 1);
        session_close(t, s, RIFT_CLOSE_PROTOCOL, "a control message is malformed", now);
        return;
    }
    if (message.kind == WV_PEER_INNER)
        inner_take(t, s, message.inner, message.inner_len, now);
    else if (message.kind == WV_PEER_REPORT && session_is_live(s))
        take_report(t, s, &message.report);
}

/* ---- the cursor, from capture ---- */

void control_want_shape(struct wv_transport *t, uint64_t now)
{
    struct cursor *c = &t->cursor;
    bool have = c->version && (!c->known || c->position.shape_id == c->shape_id);
    if (have || (c->asked_ns && now - c->asked_ns < SHAPE_ASK_NS))
        return;
    Wavry__Bus__CursorShapeRequest request = WAVRY__BUS__CURSOR_SHAPE_REQUEST__INIT;
    if (wv_bus_send(t->links.capture, &request.base) != WV_BUS_UNSENT)
        c->asked_ns = now;
}

static uint16_t clamp_16(int32_t v)
{
    return (uint16_t)(v < 0 ? 0 : v > UINT16_MAX ? UINT16_MAX : v);
}

int on_cursor_moved(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__CursorMoved *m = (const Wavry__Bus__CursorMoved *)base;
    t->cursor.known = true;
    t->cursor.position = (struct rift_cursor){
        .x = clamp_16(m->x), .y = clamp_16(m->y), .visible = m->visible, .shape_id = m->shape_id};
    control_cursor_all(t, now);
    if (t->n_live) {
        control_want_shape(t, now);
        transport_pump(t, now);
    }
    return 0;
}

int on_cursor_shape(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__CursorShape *m = (const Wavry__Bus__CursorShape *)base;
    struct cursor *c = &t->cursor;
    if (!m->kid || m->nonce.len != SHAPE_NONCE_BYTES || !m->sealed.len || m->sealed.len > SHAPE_BYTES_LIMIT) {
        wv_warning("capture sent a cursor shape that can't be", "kid=%u nonce=%zu bytes=%zu", m->kid,
                   m->nonce.len, m->sealed.len);
        return 0;
    }
    if (c->version && c->shape_id == m->shape_id && c->kid == m->kid)
        return 0; /* asked for twice: sealed anew, but the same */
    c->shape_id = m->shape_id;
    c->kid = m->kid;
    c->len = m->sealed.len;
    memcpy(c->nonce, m->nonce.data, sizeof c->nonce);
    memcpy(c->sealed, m->sealed.data, c->len);
    if (++c->version == 0)
        c->version = 1;
    if (t->n_live)
        transport_pump(t, now);
    return 0;
}
