/* Control messages of the client; see control.h. */
#include "client/control.h"

#include "proto/rift.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence at TEXT (well-formed as RFC 3629 has it), 0 when it is none. */
static size_t utf8_len(const unsigned char *t)
{
    if (t[0] < 0x80)
        return 1;
    size_t n = t[0] >= 0xc2 && t[0] <= 0xdf   ? 2
               : t[0] >= 0xe0 && t[0] <= 0xef ? 3
               : t[0] >= 0xf0 && t[0] <= 0xf4 ? 4
                                              : 0;
    for (size_t i = 1; i < n; i++)
        if ((t[i] & 0xc0) != 0x80)
            return 0;
    if ((t[0] == 0xe0 && t[1] < 0xa0) || (t[0] == 0xed && t[1] > 0x9f) || (t[0] == 0xf0 && t[1] < 0x90) ||
        (t[0] == 0xf4 && t[1] > 0x8f))
        return 0;
    return n;
}

void wv_text_clean(const char *text, char *ret, size_t capacity)
{
    const unsigned char *t = (const unsigned char *)(text ? text : "");
    size_t out = 0;
    while (*t) {
        size_t n = utf8_len(t);
        /* C0, DEL and C1 (U+0080..U+009F) move cursors and more. */
        bool control = (n == 1 && (*t < 0x20 || *t == 0x7f)) || (n == 2 && t[0] == 0xc2 && t[1] < 0xa0);
        size_t used = n ? n : 1, made = n && !control ? n : 1;
        if (out + made + 1 > capacity)
            break;
        if (n && !control)
            memcpy(ret + out, t, n);
        else
            ret[out] = '?';
        out += made;
        t += used;
    }
    ret[out] = '\0';
}

static int take_cursor(const Wavry__Rift__CursorImage *m, struct wv_control *ret)
{
    if (m->width == 0 || m->height == 0 || m->width > WV_CURSOR_MAX_PIXELS ||
        m->height > WV_CURSOR_MAX_PIXELS || m->hot_x >= m->width || m->hot_y >= m->height ||
        m->argb.len != (size_t)m->width * m->height * 4)
        return -EBADMSG;
    *ret = (struct wv_control){
        .kind = WV_CONTROL_CURSOR_IMAGE,
        .cursor = {m->shape_id, m->width, m->height, m->hot_x, m->hot_y, m->argb.data},
    };
    return 0;
}

static int take_hello(const Wavry__Rift__HostHello *m, struct wv_control *ret)
{
    if (m->width > 16384 || m->height > 16384)
        return -EBADMSG;
    *ret = (struct wv_control){
        .kind = WV_CONTROL_HOST_HELLO,
        .hello = {.width = m->width, .height = m->height, .controls = m->controls},
    };
    ret->hello.codec_known = m->codec[0] == '\0' || strcmp(m->codec, "h264") == 0;
    wv_text_clean(m->name, ret->hello.name, sizeof ret->hello.name);
    wv_text_clean(m->notice, ret->hello.notice, sizeof ret->hello.notice);
    return 0;
}

static int take_sealed_cursor(const Wavry__Rift__SealedCursor *m, struct wv_control *ret)
{
    if (m->kid == 0 || m->nonce.len != 24 || m->sealed.len < 16)
        return -EBADMSG;
    *ret = (struct wv_control){
        .kind = WV_CONTROL_SEALED_CURSOR,
        .sealed = {m->kid, m->nonce.data, m->sealed.data, m->sealed.len},
    };
    return 0;
}

int wv_control_parse(const uint8_t *data, size_t len, struct wv_control *ret)
{
    Wavry__Rift__ControlMessage *m = wavry__rift__control_message__unpack(NULL, len, data);
    if (!m)
        return -EBADMSG;
    int r = 0;
    switch (m->kind_case) {
    case WAVRY__RIFT__CONTROL_MESSAGE__KIND_HOST_HELLO:
        r = take_hello(m->host_hello, ret);
        break;
    case WAVRY__RIFT__CONTROL_MESSAGE__KIND_SEALED_CURSOR:
        r = take_sealed_cursor(m->sealed_cursor, ret);
        break;
    case WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER:
        *ret = (struct wv_control){.kind = WV_CONTROL_INNER, .inner = {m->inner.data, m->inner.len}};
        break;
    default:
        *ret = (struct wv_control){.kind = WV_CONTROL_OTHER};
    }
    if (r == 0 && (ret->kind == WV_CONTROL_SEALED_CURSOR || ret->kind == WV_CONTROL_INNER))
        ret->storage = m;
    else
        wavry__rift__control_message__free_unpacked(m, NULL);
    return r;
}

int wv_control_parse_cursor(const uint8_t *data, size_t len, struct wv_control *ret)
{
    Wavry__Rift__CursorImage *m = wavry__rift__cursor_image__unpack(NULL, len, data);
    if (!m)
        return -EBADMSG;
    int r = take_cursor(m, ret);
    if (r == 0)
        ret->image = m;
    else
        wavry__rift__cursor_image__free_unpacked(m, NULL);
    return r;
}

void wv_control_fini(struct wv_control *c)
{
    if (c->storage)
        wavry__rift__control_message__free_unpacked(c->storage, NULL);
    if (c->image)
        wavry__rift__cursor_image__free_unpacked(c->image, NULL);
    c->storage = c->image = NULL;
}

int wv_control_pack_report(const struct wv_control_report *report, uint8_t *buffer, size_t capacity)
{
    Wavry__Rift__ClientReport r = WAVRY__RIFT__CLIENT_REPORT__INIT;
    r.frames = report->frames;
    r.decode_p50_us = report->decode_p50_us;
    r.decode_p99_us = report->decode_p99_us;
    r.reassemble_p50_us = report->reassemble_p50_us;
    r.reassemble_p99_us = report->reassemble_p99_us;
    r.present_p50_us = report->present_p50_us;
    r.present_p99_us = report->present_p99_us;
    r.glass_p50_us = report->glass_p50_us;
    r.glass_p99_us = report->glass_p99_us;
    r.network_p50_us = report->network_p50_us;
    r.network_p99_us = report->network_p99_us;
    r.lost_frames = report->lost_frames;
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_CLIENT_REPORT;
    m.client_report = &r;
    if (wavry__rift__control_message__get_packed_size(&m) > capacity)
        return -EMSGSIZE;
    return (int)wavry__rift__control_message__pack(&m, buffer);
}

int wv_control_pack_hello(const char *software, const char *device, bool view_only, uint32_t width,
                          uint32_t height, uint8_t *buffer, size_t capacity)
{
    char clean_software[WV_CONTROL_NAME_BYTES], clean_device[WV_CONTROL_NAME_BYTES];
    wv_text_clean(software, clean_software, sizeof clean_software);
    wv_text_clean(device, clean_device, sizeof clean_device);
    Wavry__Rift__ClientHello m = WAVRY__RIFT__CLIENT_HELLO__INIT;
    m.software = clean_software;
    m.device = clean_device;
    m.view_only = view_only;
    m.width = width;
    m.height = height;
    if (wavry__rift__client_hello__get_packed_size(&m) > capacity)
        return -EMSGSIZE;
    return (int)wavry__rift__client_hello__pack(&m, buffer);
}
