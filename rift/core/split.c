#include "rift/core/split.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define END_FIRST_NS     (8 * WV_NS_PER_MS) /* after the last fragment, were no other frame to follow */
#define END_MAX_NS       (512 * WV_NS_PER_MS)
#define UNSENT_MAX       (RIFT_VIDEO_FRAMES / 2)
#define UNSENT_MAX_BYTES (6u << 20)

void rift_split_init(struct rift_split *v, struct rift_pool *pool)
{
    *v = (struct rift_split){.pool = pool, .fragment_bytes = RIFT_FRAGMENT_BYTES, .end_due = RIFT_NEVER};
}

void rift_split_restore(struct rift_split *v, uint32_t newest_id)
{
    v->started = true;
    v->newest_id = v->key_id = newest_id;
    v->key_known = v->key_lost = true; /* only a new keyframe helps */
}

static struct rift_split_frame *frame_at(struct rift_split *v, unsigned i)
{
    return &v->frames[(v->oldest + i) % RIFT_VIDEO_FRAMES];
}

static bool is_sent(const struct rift_split_frame *f)
{
    return f->sent == f->head.count;
}

static void clear_wanted(struct rift_split_frame *f)
{
    memset(f->wanted, 0, sizeof f->wanted);
    f->repeats = 0;
}

/* Forgets the frame at position I; what lies behind it moves up. */
static void drop_frame(struct rift_split *v, unsigned i)
{
    struct rift_split_frame *f = frame_at(v, i);
    v->stored_bytes -= f->buffer.capacity;
    if (!is_sent(f)) {
        v->unsent_bytes -= f->len;
        v->dropped_fragments += (size_t)(f->head.count - f->sent);
        v->dropped_bytes += f->len - (size_t)f->sent * f->head.size;
        v->n_unsent--;
    }
    rift_pool_give(v->pool, &f->buffer);
    if (i == 0) {
        v->oldest = (v->oldest + 1) % RIFT_VIDEO_FRAMES;
    } else {
        for (; i + 1 < v->n_frames; i++)
            *frame_at(v, i) = *frame_at(v, i + 1);
        frame_at(v, v->n_frames - 1)->buffer = (struct rift_buffer){0};
    }
    v->n_frames--;
}

void rift_split_fini(struct rift_split *v)
{
    while (v->n_frames)
        drop_frame(v, 0);
    v->end_due = RIFT_NEVER;
    v->n_gone = 0;
}

/* A keyframe that starts an epoch makes everything unsent before it useless, and repeats too. */
static void drop_unsent(struct rift_split *v)
{
    for (unsigned i = v->n_frames; i-- > 0;) {
        if (!is_sent(frame_at(v, i)))
            drop_frame(v, i);
        else
            clear_wanted(frame_at(v, i));
    }
    v->key_lost = true; /* until the new one is queued */
}

/* Makes place by forgetting frames that were sent, oldest first. Returns false when the unsent fill it. */
static bool make_room(struct rift_split *v, size_t need)
{
    if (v->n_unsent >= UNSENT_MAX || v->unsent_bytes + need > UNSENT_MAX_BYTES)
        return false;
    while (v->n_frames == RIFT_VIDEO_FRAMES || v->stored_bytes + need > RIFT_VIDEO_BYTES) {
        struct rift_split_frame *f = frame_at(v, 0);
        if (v->n_frames == 0 || !is_sent(f))
            return false;
        if (v->key_known && f->head.frame_id == v->key_id)
            v->key_lost = true;
        drop_frame(v, 0);
    }
    return true;
}

static void write_meta(uint8_t *out, const struct rift_frame_meta *meta)
{
    struct wv_writer w;
    wv_writer_init(&w, out, RIFT_META_BYTES);
    wv_write_u16(&w, meta->width);
    wv_write_u16(&w, meta->height);
    wv_write_u64(&w, meta->capture_us);
    wv_write_u64(&w, meta->encoded_us);
    wv_write_u32(&w, meta->input_seq);
}

static void cut(struct rift_split_frame *f, uint16_t size)
{
    f->head.size = size;
    f->head.count = (uint16_t)((f->len + size - 1) / size);
}

void rift_split_resize(struct rift_split *v, uint16_t bytes)
{
    v->fragment_bytes = bytes;
    for (unsigned i = 0; i < v->n_frames; i++)
        if (frame_at(v, i)->sent == 0 && frame_at(v, i)->head.size > bytes)
            cut(frame_at(v, i), bytes);
}

bool rift_split_shrink(struct rift_split *v, uint16_t bytes)
{
    bool dropped = false;
    rift_split_resize(v, bytes);
    for (unsigned i = v->n_frames; i-- > 0;) {
        if (frame_at(v, i)->head.size <= bytes)
            continue;
        if (v->key_known && frame_at(v, i)->head.frame_id == v->key_id)
            v->key_lost = true;
        drop_frame(v, i);
        dropped = true;
    }
    return dropped;
}

int rift_split_push(struct rift_split *v, const struct rift_frame_meta *meta, const uint8_t *data, size_t len)
{
    if (len == 0 || len > RIFT_FRAME_MAX_BYTES)
        return -EMSGSIZE;
    if (v->started && !rift_serial_after(meta->frame_id, v->newest_id))
        return -EINVAL;
    if (v->n_frames && meta->keyframe && meta->epoch != frame_at(v, v->n_frames - 1)->head.epoch)
        drop_unsent(v);
    size_t total = len + RIFT_META_BYTES;
    if (!make_room(v, total))
        return RIFT_SESSION_FULL;
    struct rift_buffer buffer;
    if (rift_pool_take(v->pool, total, &buffer) < 0)
        return -ENOMEM;
    struct rift_split_frame *f = frame_at(v, v->n_frames++);
    write_meta(buffer.data, meta);
    memcpy(buffer.data + RIFT_META_BYTES, data, len);
    f->buffer = buffer;
    f->len = total;
    f->sent = 0;
    clear_wanted(f);
    f->head = (struct rift_fragment){
        .frame_id = meta->frame_id,
        .epoch = meta->epoch,
        .keyframe = meta->keyframe,
    };
    cut(f, v->fragment_bytes);
    v->stored_bytes += buffer.capacity;
    v->unsent_bytes += total;
    v->n_unsent++;
    v->started = true;
    v->newest_id = meta->frame_id;
    v->confirmed_all = false;
    v->end_due = RIFT_NEVER;
    if (meta->keyframe) {
        v->key_known = true;
        v->key_lost = false;
        v->key_id = meta->frame_id;
    }
    return 0;
}

static void write_fragment(struct wv_writer *w, const struct rift_split_frame *f, uint16_t index)
{
    size_t at = (size_t)index * f->head.size, part = WV_MIN(f->len - at, (size_t)f->head.size);
    wv_write_u8(w, RIFT_WIRE_VIDEO);
    wv_write_u16(w, (uint16_t)(RIFT_VIDEO_HEAD_BYTES + part));
    wv_write_u32(w, f->head.frame_id);
    wv_write_u16(w, f->head.epoch);
    wv_write_u8(w, f->head.keyframe ? RIFT_VIDEO_KEY : 0);
    wv_write_u16(w, f->head.count);
    wv_write_u16(w, f->head.size);
    wv_write_u16(w, index);
    wv_write_span(w, f->buffer.data + at, part);
}

static bool write_repeat(struct rift_split *v, struct wv_writer *w)
{
    for (unsigned i = 0; i < v->n_frames; i++) {
        struct rift_split_frame *f = frame_at(v, i);
        if (!f->repeats)
            continue;
        unsigned word = 0;
        while (!f->wanted[word])
            word++;
        unsigned bit = (unsigned)__builtin_ctzll(f->wanted[word]);
        f->wanted[word] &= f->wanted[word] - 1;
        f->repeats--;
        v->fragments_repeated++;
        write_fragment(w, f, (uint16_t)(word * 64 + bit));
        return true;
    }
    return false;
}

static bool write_fresh(struct rift_split *v, struct wv_writer *w, uint64_t now)
{
    if (!v->n_unsent)
        return false;
    /* The unsent ones are the last N_UNSENT of the ring. */
    struct rift_split_frame *f = frame_at(v, v->n_frames - v->n_unsent);
    write_fragment(w, f, f->sent++);
    v->written = (struct rift_split_written){true, is_sent(f), f->head.frame_id};
    if (!is_sent(f))
        return true;
    v->unsent_bytes -= f->len;
    v->n_unsent--;
    v->frames_sent++;
    v->end = f->head;
    v->end_tries = 0;
    v->end_due = v->n_unsent ? RIFT_NEVER : now + END_FIRST_NS;
    return true;
}

static bool write_end(struct rift_split *v, struct wv_writer *w, uint64_t now)
{
    if (now < v->end_due)
        return false;
    wv_write_u8(w, RIFT_WIRE_VIDEO_END);
    wv_write_u16(w, RIFT_VIDEO_END_BYTES);
    wv_write_u32(w, v->end.frame_id);
    wv_write_u16(w, v->end.epoch);
    wv_write_u8(w, v->end.keyframe ? RIFT_VIDEO_KEY : 0);
    wv_write_u16(w, v->end.count);
    wv_write_u16(w, v->end.size);
    v->end_due = now + rift_backoff_ns(END_FIRST_NS, v->end_tries, END_MAX_NS);
    v->end_tries++;
    return true;
}

bool rift_split_write(struct rift_split *v, struct wv_writer *w, uint64_t now)
{
    v->written = (struct rift_split_written){0};
    return write_repeat(v, w) || write_fresh(v, w, now) || write_end(v, w, now);
}

const struct rift_fragment *rift_split_newest(const struct rift_split *v)
{
    return &v->frames[(v->oldest + v->n_frames - 1) % RIFT_VIDEO_FRAMES].head;
}

uint64_t rift_split_timeout(const struct rift_split *v)
{
    if (v->n_unsent)
        return 0;
    for (unsigned i = 0; i < v->n_frames; i++)
        if (v->frames[(v->oldest + i) % RIFT_VIDEO_FRAMES].repeats)
            return 0;
    return v->end_due;
}

static struct rift_split_frame *find(struct rift_split *v, uint32_t id)
{
    for (unsigned i = v->n_frames; i-- > 0;)
        if (frame_at(v, i)->head.frame_id == id)
            return frame_at(v, i);
    return NULL;
}

static void add_gone(struct rift_split *v, uint32_t id)
{
    for (unsigned i = 0; i < v->n_gone; i++)
        if (v->gone[i] == id)
            return;
    if (v->n_gone < RIFT_SPLIT_GONE)
        v->gone[v->n_gone++] = id;
}

static void want(struct rift_split_frame *f, size_t index)
{
    /* What was not sent yet comes by itself. */
    uint64_t bit = UINT64_C(1) << index % 64;
    if (index >= f->sent || (f->wanted[index / 64] & bit))
        return;
    f->wanted[index / 64] |= bit;
    f->repeats++;
}

void rift_split_nack(struct rift_split *v, uint32_t id, uint16_t first, const uint8_t *bitmap, size_t n_bytes)
{
    if (!v->started || rift_serial_after(id, v->newest_id))
        return;
    struct rift_split_frame *f = find(v, id);
    if (!f) {
        add_gone(v, id);
        return;
    }
    for (size_t i = 0; n_bytes == 0 && i < f->sent; i++)
        want(f, i);
    for (size_t i = 0; i < n_bytes * 8; i++)
        if (bitmap[i / 8] >> i % 8 & 1)
            want(f, first + i);
}

void rift_split_confirm(struct rift_split *v, uint32_t id)
{
    if (!v->started || rift_serial_after(id, v->newest_id))
        return;
    while (v->n_frames && !rift_serial_after(frame_at(v, 0)->head.frame_id, id))
        drop_frame(v, 0);
    if (v->key_known && v->key_lost && !rift_serial_after(v->key_id, id))
        v->key_lost = false;
    if (id == v->newest_id) {
        v->confirmed_all = true;
        v->end_due = RIFT_NEVER;
    }
}

bool rift_split_needs_keyframe(const struct rift_split *v, bool known, uint32_t after)
{
    if (!v->key_known || v->key_lost)
        return true;
    return known && !rift_serial_after(v->key_id, after);
}

void rift_split_write_gone(struct rift_split *v, struct wv_writer *w)
{
    while (v->n_gone && wv_writer_space(w) >= RIFT_FRAME_HEADER_BYTES + RIFT_GONE_BYTES) {
        wv_write_u8(w, RIFT_WIRE_VIDEO_GONE);
        wv_write_u16(w, RIFT_GONE_BYTES);
        wv_write_u32(w, v->gone[--v->n_gone]);
    }
}

unsigned rift_split_recent(const struct rift_split *v, uint32_t id, struct rift_fec_frame *ret_frames,
                           unsigned most)
{
    unsigned n = 0;
    for (unsigned i = v->n_frames; i-- > 0 && n < most;) {
        const struct rift_split_frame *f = &v->frames[(v->oldest + i) % RIFT_VIDEO_FRAMES];
        if (f->head.frame_id != id - n) {
            if (n)
                break;
            continue;
        }
        ret_frames[n++] = (struct rift_fec_frame){
            .frame_id = f->head.frame_id,
            .epoch = f->head.epoch,
            .keyframe = f->head.keyframe,
            .size = f->head.size,
            .len = f->len,
            .data = f->buffer.data,
        };
    }
    return n;
}
