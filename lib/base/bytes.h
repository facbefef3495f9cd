/* Bounded reader and writer for foreign bytes. Every parser of the project reads through these; no struct
 * is ever cast over a buffer. All integers are little-endian. A failed access is sticky: read on, check once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wv_reader {
    const uint8_t *data;
    size_t left;
    bool failed;
};

struct wv_writer {
    uint8_t *data;
    size_t capacity;
    size_t length;
    bool failed;
};

/* Reads LEN bytes at DATA; DATA must outlive the reader. */
void wv_reader_init(struct wv_reader *r, const void *data, size_t len);

/* Return the next integer, or 0 with r->failed set when too few bytes are left. */
uint8_t wv_read_u8(struct wv_reader *r);
uint16_t wv_read_u16(struct wv_reader *r);
uint32_t wv_read_u32(struct wv_reader *r);
uint64_t wv_read_u64(struct wv_reader *r);

/* Returns a pointer to the next LEN bytes inside the input, or NULL with r->failed set. */
const uint8_t *wv_read_span(struct wv_reader *r, size_t len);

/* Writes to at most CAPACITY bytes at DATA; w->length is what was written. */
void wv_writer_init(struct wv_writer *w, void *data, size_t capacity);

void wv_write_u8(struct wv_writer *w, uint8_t v);
void wv_write_u16(struct wv_writer *w, uint16_t v);
void wv_write_u32(struct wv_writer *w, uint32_t v);
void wv_write_u64(struct wv_writer *w, uint64_t v);
void wv_write_span(struct wv_writer *w, const void *data, size_t len);

/* Returns LEN writable bytes inside the output and moves past them, or NULL with w->failed set. */
uint8_t *wv_write_reserve(struct wv_writer *w, size_t len);

size_t wv_writer_space(const struct wv_writer *w);
