/* The sender's side of fec.h: which frames a repair covers, how many there are, and their symbols. Holds the
 * repairs of one frame until they are written, and no pointer into a frame. */
#include "rift/core/fec_code.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define BATCH_TABLES 8192 /* coefficients expanded at once: 64 repairs of 128 fragments */
#define SOURCES      RIFT_FEC_WINDOW_SOURCES
#define OWN_BYTES    (RIFT_FEC_GROUP * RIFT_FEC_TABLE_BYTES)
#define INDEX_AT     10 /* in a repair's head */

struct repair {
    uint8_t head[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW)];
    uint8_t head_len;
    uint16_t symbol_len;
};

/* What the expanded tables stand for: repairs of one frame alone do not depend on which frame it is. */
struct cached {
    unsigned first, n, sources;
};

struct rift_fec_encoder {
    struct rift_fec_tables tables;
    size_t symbol_bytes, stride;
    unsigned n_repairs, n_written;
    unsigned n_groups; /* of the frame at work; its repairs leave in turns of its groups */
    int32_t carry;     /* thousandths of a repair, of frames before */
    struct cached cached;
    struct repair repairs[RIFT_FEC_REPAIRS];
    uint8_t *symbols; /* RIFT_FEC_REPAIRS * stride */
    uint8_t *padded;  /* RIFT_FEC_WINDOW * stride: last fragments, filled up */
    uint8_t *expanded;
    bool have_own[RIFT_FEC_INDICES];
    uint8_t *own; /* per index the tables of all positions of a repair's own frame, made when first used */
    struct rift_fec_encoder_stats stats;
};

/* The fragments that some repairs are made of. */
struct sources {
    unsigned n, at[RIFT_FEC_WINDOW], count[RIFT_FEC_WINDOW]; /* per frame of the window */
    size_t symbol_len;
    uint8_t *data[SOURCES];
};

int rift_fec_encoder_new(struct rift_fec_encoder **ret_encoder, size_t symbol_bytes)
{
    if (symbol_bytes == 0 || symbol_bytes > RIFT_FEC_SYMBOL_MAX)
        return -EINVAL;
    struct rift_fec_encoder *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    e->symbol_bytes = symbol_bytes;
    e->stride = (symbol_bytes + 63) / 64 * 64;
    e->n_groups = 1;
    rift_fec_tables_init(&e->tables);
    e->symbols = aligned_alloc(64, RIFT_FEC_REPAIRS * e->stride);
    e->padded = aligned_alloc(64, RIFT_FEC_WINDOW * e->stride);
    e->expanded = aligned_alloc(64, (size_t)BATCH_TABLES * RIFT_FEC_TABLE_BYTES);
    e->own = aligned_alloc(64, (size_t)RIFT_FEC_INDICES * OWN_BYTES);
    if (!e->symbols || !e->padded || !e->expanded || !e->own) {
        rift_fec_encoder_free(e);
        return -ENOMEM;
    }
    *ret_encoder = e;
    return 0;
}

struct rift_fec_encoder *rift_fec_encoder_free(struct rift_fec_encoder *e)
{
    if (!e)
        return NULL;
    free(e->symbols);
    free(e->padded);
    free(e->expanded);
    free(e->own);
    free(e);
    return NULL;
}

/* Of a frame whose length was checked. */
static unsigned fragments_of(const struct rift_fec_frame *f)
{
    return ((uint32_t)f->len + f->size - 1) / f->size;
}

static bool frame_ok(const struct rift_fec_encoder *e, const struct rift_fec_frame *f)
{
    return f->data && f->size && f->size <= e->symbol_bytes && f->len && f->len <= RIFT_FEC_FRAME_MAX_BYTES &&
           fragments_of(f) <= RIFT_FEC_FRAME_FRAGMENTS;
}

/* Points at the fragments of one frame (one group of it), the last filled up in a copy when it is short. */
static void add_frame(struct rift_fec_encoder *e, struct sources *s, unsigned delta,
                      const struct rift_fec_frame *f, unsigned group)
{
    unsigned count = fragments_of(f), groups = rift_fec_groups(count);
    s->at[delta] = s->n;
    s->count[delta] = rift_fec_group_fragments(count, group);
    for (unsigned i = group; i < count; i += groups) {
        size_t at = (size_t)i * f->size, left = f->len - at;
        uint8_t *data = (uint8_t *)f->data + at; /* ISA-L only reads it, but does not say so */
        if (left < s->symbol_len && !f->padded) {
            uint8_t *copy = e->padded + delta * e->stride;
            memcpy(copy, data, left);
            memset(copy + left, 0, s->symbol_len - left);
            data = copy;
        }
        s->data[s->n++] = data;
    }
}

/* Checks that WINDOW can be covered by one repair and collects what COVER names of it. Returns 0, -EINVAL. */
static int collect(struct rift_fec_encoder *e, struct sources *s, const struct rift_fec_frame *const *window,
                   unsigned cover, unsigned group)
{
    const struct rift_fec_frame *f = window[0];
    size_t longest = 0, total = 0;
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++) {
        if (!(cover >> d & 1))
            continue;
        const struct rift_fec_frame *w = window[d];
        if (!w || !frame_ok(e, w) || w->frame_id != f->frame_id - d || w->epoch != f->epoch ||
            w->size != f->size)
            return -EINVAL;
        if (cover != 1 && fragments_of(w) > RIFT_FEC_GROUP)
            return -EINVAL;
        total += fragments_of(w);
        longest = WV_MAX(longest, w->len);
    }
    if ((cover != 1 && total > SOURCES) || group >= rift_fec_groups(fragments_of(f)))
        return -EINVAL;
    s->n = 0;
    s->symbol_len = WV_MIN(longest, (size_t)f->size);
    memset(s->count, 0, sizeof s->count);
    memset(s->at, 0, sizeof s->at);
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++)
        if (cover >> d & 1)
            add_frame(e, s, d, window[d], group);
    return 0;
}

/* Writes the head of repair INDEX, and how long its symbol is: frames that other repairs cover don't count.
 */
static void describe(struct repair *r, const struct rift_fec_frame *const *window, unsigned cover,
                     unsigned group, unsigned index)
{
    struct wv_writer w;
    wv_writer_init(&w, r->head, sizeof r->head);
    wv_write_u32(&w, window[0]->frame_id);
    wv_write_u16(&w, window[0]->epoch);
    wv_write_u16(&w, window[0]->size);
    wv_write_u8(&w, (uint8_t)cover);
    wv_write_u8(&w, (uint8_t)group);
    wv_write_u8(&w, (uint8_t)index);
    size_t longest = 0;
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++) {
        if (!(cover >> d & 1))
            continue;
        uint32_t shape = (uint32_t)window[d]->len | (window[d]->keyframe ? 1u << 23 : 0);
        wv_write_u16(&w, (uint16_t)shape);
        wv_write_u8(&w, (uint8_t)(shape >> 16));
        longest = WV_MAX(longest, window[d]->len);
    }
    r->symbol_len = (uint16_t)WV_MIN(longest, (size_t)window[0]->size);
    r->head_len = (uint8_t)w.length;
}

/* The same as the one before it but for the index. */
static void describe_next(struct repair *r, unsigned index)
{
    *r = r[-1];
    r->head[INDEX_AT] = (uint8_t)index;
}

/* The tables of repair INDEX for its own frame, which are the same for every frame. */
static const uint8_t *own_tables(struct rift_fec_encoder *e, unsigned index)
{
    uint8_t *own = e->own + (size_t)index * OWN_BYTES;
    if (!e->have_own[index]) {
        uint8_t row[RIFT_FEC_GROUP];
        rift_fec_coefficients(&e->tables, 0, index, 0, RIFT_FEC_GROUP, row);
        rift_fec_expand(&e->tables, row, RIFT_FEC_GROUP, own);
        e->have_own[index] = true;
    }
    return own;
}

/* Writes the tables of repair INDEX, which covers COVER of the sources. */
static void expand_one(struct rift_fec_encoder *e, const struct sources *s, uint32_t frame_id, unsigned index,
                       unsigned cover, uint8_t *out)
{
    unsigned stride = e->tables.stride;
    memcpy(out, own_tables(e, index), (size_t)s->count[0] * stride);
    for (unsigned d = 1; d < RIFT_FEC_WINDOW; d++) {
        uint8_t row[RIFT_FEC_GROUP];
        if (cover >> d & 1)
            rift_fec_coefficients(&e->tables, frame_id, index, d, s->count[d], row);
        else
            memset(row, 0, s->count[d]);
        rift_fec_expand(&e->tables, row, s->count[d], out + (size_t)s->at[d] * stride);
    }
}

/* Does so for N repairs from index FIRST, unless the last ones were the same. */
static void expand(struct rift_fec_encoder *e, const struct sources *s, uint32_t frame_id, unsigned first,
                   unsigned n, const uint8_t *covers)
{
    bool local = s->n == s->count[0];
    struct cached want = {.first = first, .n = n, .sources = s->n};
    if (local && memcmp(&want, &e->cached, sizeof want) == 0)
        return;
    for (unsigned i = 0; i < n; i++)
        expand_one(e, s, frame_id, first + i, covers[i], e->expanded + (size_t)i * s->n * e->tables.stride);
    e->cached = local ? want : (struct cached){0};
}

int rift_fec_encode(struct rift_fec_encoder *e, const struct rift_fec_frame *const window[RIFT_FEC_WINDOW],
                    unsigned group, unsigned first, unsigned n, const uint8_t *covers)
{
    unsigned all = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!(covers[i] & 1) || covers[i] >> RIFT_FEC_WINDOW)
            return -EINVAL;
        all |= covers[i];
    }
    if (!window[0] || n == 0 || first + n > RIFT_FEC_INDICES || first + n < n || !frame_ok(e, window[0]))
        return -EINVAL;
    if (n > RIFT_FEC_REPAIRS - e->n_repairs)
        return -ENOSPC;
    struct sources s;
    if (collect(e, &s, window, all, group) < 0)
        return -EINVAL;
    unsigned batch = n * s.n <= BATCH_TABLES ? n : BATCH_TABLES / s.n;
    for (unsigned i = 0; i < n; i += batch) {
        unsigned part = WV_MIN(batch, n - i);
        uint8_t *out[RIFT_FEC_INDICES];
        for (unsigned k = 0; k < part; k++) {
            struct repair *r = &e->repairs[e->n_repairs + k];
            if (i + k && covers[i + k] == covers[i + k - 1])
                describe_next(r, first + i + k);
            else
                describe(r, window, covers[i + k], group, first + i + k);
            out[k] = e->symbols + (e->n_repairs + k) * e->stride;
        }
        expand(e, &s, window[0]->frame_id, first + i, part, covers + i);
        rift_fec_combine(&e->tables, s.symbol_len, s.n, part, e->expanded, s.data, out);
        e->n_repairs += part;
    }
    e->stats.repairs += n;
    return 0;
}

void rift_fec_encoder_clear(struct rift_fec_encoder *e)
{
    e->stats.repairs_dropped += e->n_repairs - e->n_written;
    e->n_repairs = e->n_written = 0;
    e->n_groups = 1;
}

/* Picks the frames that repairs of FRAMES[0] may cover besides it. */
static void pick_window(const struct rift_fec_encoder *e, const struct rift_fec_frame *frames, unsigned n,
                        const struct rift_fec_frame *ret_window[RIFT_FEC_WINDOW])
{
    const struct rift_fec_frame *f = &frames[0];
    unsigned total = fragments_of(f);
    memset(ret_window, 0, RIFT_FEC_WINDOW * sizeof ret_window[0]);
    ret_window[0] = f;
    if (total > RIFT_FEC_GROUP)
        return;
    bool keyframe = f->keyframe; /* nothing before one is of use once it is there */
    for (unsigned i = 1; i < n && !keyframe; i++) {
        const struct rift_fec_frame *w = &frames[i];
        uint32_t delta = f->frame_id - w->frame_id;
        if (delta == 0 || delta >= RIFT_FEC_WINDOW)
            continue;
        bool fits = frame_ok(e, w) && w->epoch == f->epoch && w->size == f->size &&
                    fragments_of(w) <= RIFT_FEC_GROUP && total + fragments_of(w) <= SOURCES;
        if (!fits)
            return;
        ret_window[delta] = w;
        total += fragments_of(w);
        keyframe = w->keyframe;
    }
}

/* How many repairs each group gets; the rest is carried over. */
static unsigned repairs_per_group(struct rift_fec_encoder *e, unsigned count, uint16_t share_permille)
{
    unsigned groups = rift_fec_groups(count), fragments = rift_fec_group_fragments(count, 0);
    int32_t want = (int32_t)(count * WV_MIN(share_permille, (uint16_t)RIFT_FEC_SHARE_MAX)) + e->carry;
    unsigned n = want > 0 ? (unsigned)want / 1000 : 0;
    unsigned each = (n + groups - 1) / groups;
    each = WV_MIN(each, fragments);
    each = WV_MIN(each, RIFT_FEC_REPAIRS / groups);
    int32_t rest = want - (int32_t)(each * groups * 1000);
    e->carry = WV_MIN(rest, 1000); /* what a limit held back is not made up for */
    return each;
}

int rift_fec_encoder_frame(struct rift_fec_encoder *e, const struct rift_fec_frame *frames, unsigned n,
                           uint16_t share_permille, enum rift_fec_spread spread)
{
    rift_fec_encoder_clear(e);
    if (n == 0 || !frames[0].data || frames[0].size == 0 || frames[0].size > e->symbol_bytes ||
        frames[0].len == 0)
        return -EINVAL;
    if (share_permille == 0) {
        e->carry = 0;
        return RIFT_FEC_IGNORED;
    }
    if (!frame_ok(e, &frames[0]))
        return RIFT_FEC_IGNORED;
    unsigned count = fragments_of(&frames[0]), groups = rift_fec_groups(count);
    unsigned each = repairs_per_group(e, count, share_permille);
    if (each == 0)
        return RIFT_FEC_IGNORED;
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW];
    pick_window(e, frames, n, window);
    unsigned there = 0;
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++)
        there |= window[d] ? 1u << d : 0;
    uint8_t covers[RIFT_FEC_INDICES];
    for (unsigned i = 0; i < each; i++)
        covers[i] = rift_fec_cover(spread, frames[0].frame_id, i) & (uint8_t)there;
    for (unsigned g = 0; g < groups; g++) {
        int r = rift_fec_encode(e, window, g, 0, each, covers);
        if (r < 0)
            return r;
    }
    e->n_groups = groups;
    e->stats.frames++;
    return 0;
}

/* Groups take turns, so that a burst among the repairs spreads over them as one among the fragments does. */
static unsigned next_repair(const struct rift_fec_encoder *e)
{
    unsigned each = e->n_repairs / e->n_groups;
    return e->n_written % e->n_groups * each + e->n_written / e->n_groups;
}

unsigned rift_fec_encoder_pending(const struct rift_fec_encoder *e)
{
    return e->n_repairs - e->n_written;
}

size_t rift_fec_encoder_next_bytes(const struct rift_fec_encoder *e)
{
    if (!rift_fec_encoder_pending(e))
        return 0;
    const struct repair *r = &e->repairs[next_repair(e)];
    return (size_t)r->head_len + r->symbol_len;
}

int rift_fec_encoder_write(struct rift_fec_encoder *e, struct wv_writer *w)
{
    if (!rift_fec_encoder_pending(e))
        return RIFT_FEC_NONE;
    if (wv_writer_space(w) < rift_fec_encoder_next_bytes(e))
        return -ENOSPC;
    unsigned i = next_repair(e);
    wv_write_span(w, e->repairs[i].head, e->repairs[i].head_len);
    wv_write_span(w, e->symbols + i * e->stride, e->repairs[i].symbol_len);
    e->n_written++;
    return 0;
}

void rift_fec_encoder_get_stats(const struct rift_fec_encoder *e, struct rift_fec_encoder_stats *ret_stats)
{
    *ret_stats = e->stats;
}
