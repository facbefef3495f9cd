#include "lib/base/bytes.h"

#include <string.h>

void wv_reader_init(struct wv_reader *r, const void *data, size_t len)
{
    *r = (struct wv_reader){.data = data, .left = len};
}

const uint8_t *wv_read_span(struct wv_reader *r, size_t len)
{
    if (r->failed || len > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->data;
    r->data += len;
    r->left -= len;
    return p;
}

static uint64_t read_le(struct wv_reader *r, size_t n)
{
    const uint8_t *p = wv_read_span(r, n);
    uint64_t v = 0;
    for (size_t i = 0; p && i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t wv_read_u8(struct wv_reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t wv_read_u16(struct wv_reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t wv_read_u32(struct wv_reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t wv_read_u64(struct wv_reader *r)
{
    return read_le(r, 8);
}

void wv_writer_init(struct wv_writer *w, void *data, size_t capacity)
{
    *w = (struct wv_writer){.data = data, .capacity = capacity};
}

size_t wv_writer_space(const struct wv_writer *w)
{
    return w->failed ? 0 : w->capacity - w->length;
}

uint8_t *wv_write_reserve(struct wv_writer *w, size_t len)
{
    if (w->failed || len > w->capacity - w->length) {
        w->failed = true;
        return NULL;
    }
    uint8_t *p = w->data + w->length;
    w->length += len;
    return p;
}

static void write_le(struct wv_writer *w, uint64_t v, size_t n)
{
    uint8_t *p = wv_write_reserve(w, n);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void wv_write_u8(struct wv_writer *w, uint8_t v)
{
    write_le(w, v, 1);
}

void wv_write_u16(struct wv_writer *w, uint16_t v)
{
    write_le(w, v, 2);
}

void wv_write_u32(struct wv_writer *w, uint32_t v)
{
    write_le(w, v, 4);
}

void wv_write_u64(struct wv_writer *w, uint64_t v)
{
    write_le(w, v, 8);
}

void wv_write_span(struct wv_writer *w, const void *data, size_t len)
{
    uint8_t *p = wv_write_reserve(w, len);
    if (p && len)
        memcpy(p, data, len);
}
