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
    Wavry__Rift__CursorImage image = WAVRY__RIFT__CURSOR_IMAGE__INIT;
    image.shape_id = c->shape_id;
    image.width = c->width;
    image.height = c->height;
    image.hot_x = c->hot_x;
    image.hot_y = c->hot_y;
    image.argb = (ProtobufCBinaryData){.len = (size_t)c->width * c->height * 4, .data = c->pixels};
    Wavry__Rift__ControlMessage message = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    message.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_CURSOR_IMAGE;
    message.cursor_image = &image;
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

void control_take(struct wv_transport *t, struct session *s, const uint8_t *data, size_t len, uint64_t now)
{
    struct wv_client_report report;
    int r = wv_peer_control_parse(data, len, &report);
    if (r < 0) {
        wv_metric_add(t->metrics, WV_T_CONTROL_BAD, 1);
        session_close(t, s, RIFT_CLOSE_PROTOCOL, "a control message is malformed", now);
        return;
    }
    if (r == WV_PEER_OTHER)
        return;
    s->report = report;
    s->frames_lost += report.lost_frames;
    if (report.frames == 0)
        return;
    wv_metric_record(t->metrics, WV_T_CLIENT_NETWORK_US, report.network_p50_us);
    wv_metric_record(t->metrics, WV_T_CLIENT_DECODE_US, report.decode_p50_us);
    wv_metric_record(t->metrics, WV_T_CLIENT_PRESENT_US, report.present_p50_us);
    wv_metric_record(t->metrics, WV_T_CLIENT_GLASS_US, report.glass_p50_us);
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

/* Halves the shape in place until it fits a control message: a large cursor is shown smaller rather than not
 * at all. */
static void shrink(struct cursor *c)
{
    while ((size_t)c->width * c->height * 4 > SHAPE_BYTES_LIMIT) {
        uint32_t width = c->width / 2, height = c->height / 2;
        for (uint32_t y = 0; y < height; y++)
            for (uint32_t x = 0; x < width; x++)
                for (uint32_t i = 0; i < 4; i++) {
                    const uint8_t *from = c->pixels + ((size_t)2 * y * c->width + 2 * x) * 4 + i;
                    unsigned sum =
                        from[0] + from[4] + from[(size_t)c->width * 4] + from[(size_t)c->width * 4 + 4];
                    c->pixels[((size_t)y * width + x) * 4 + i] = (uint8_t)(sum / 4);
                }
        c->width = width;
        c->height = height;
        c->hot_x = WV_MIN(c->hot_x / 2, width - 1);
        c->hot_y = WV_MIN(c->hot_y / 2, height - 1);
    }
}

static bool is_sound(const Wavry__Bus__CursorShape *m)
{
    return m->width && m->height && m->width <= CURSOR_SIDE_MAX && m->height <= CURSOR_SIDE_MAX &&
           m->hot_x < m->width && m->hot_y < m->height && m->argb.len == (size_t)m->width * m->height * 4;
}

int on_cursor_shape(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__CursorShape *m = (const Wavry__Bus__CursorShape *)base;
    struct cursor *c = &t->cursor;
    if (!is_sound(m)) {
        wv_warning("capture sent a cursor shape that can't be", "width=%u height=%u bytes=%zu", m->width,
                   m->height, m->argb.len);
        return 0;
    }
    bool same = c->version && c->shape_id == m->shape_id && c->width == m->width && c->height == m->height &&
                c->hot_x == m->hot_x && c->hot_y == m->hot_y &&
                memcmp(c->pixels, m->argb.data, m->argb.len) == 0;
    if (same)
        return 0;
    c->shape_id = m->shape_id;
    c->width = m->width;
    c->height = m->height;
    c->hot_x = m->hot_x;
    c->hot_y = m->hot_y;
    memcpy(c->pixels, m->argb.data, m->argb.len);
    shrink(c);
    if (++c->version == 0)
        c->version = 1;
    if (t->n_live)
        transport_pump(t, now);
    return 0;
}
