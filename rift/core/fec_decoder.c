/* The receiver's side of fec.h. Holds the fragments of the last 16 frames and the repairs that wait for
 * something. Never gives out a fragment of a frame whose length it does not know. */
#include "rift/core/fec_decoder.h"

#include "lib/base/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int rift_fec_decoder_new(struct rift_fec_decoder **ret_decoder, size_t symbol_bytes)
{
    if (symbol_bytes == 0 || symbol_bytes > RIFT_FEC_SYMBOL_MAX)
        return -EINVAL;
    struct rift_fec_decoder *d = aligned_alloc(64, (sizeof *d + 63) / 64 * 64);
    if (!d)
        return -ENOMEM;
    memset(d, 0, sizeof *d);
    d->symbol_bytes = symbol_bytes;
    d->stride = (symbol_bytes + 63) / 64 * 64;
    rift_fec_tables_init(&d->tables);
    rift_fec_matrix_init(&d->matrix, &d->tables);
    for (unsigned i = 0; i < RIFT_FEC_SLOTS; i++)
        d->free_slots[d->n_free++] = (uint16_t)(RIFT_FEC_SLOTS - 1 - i);
    d->symbols = aligned_alloc(64, RIFT_FEC_SLOTS * d->stride);
    d->repairs = aligned_alloc(64, RIFT_FEC_RAWS * d->stride);
    d->expanded =
        aligned_alloc(64, (size_t)RIFT_FEC_BATCH * (RIFT_FEC_SLOTS + RIFT_FEC_RAWS) * RIFT_FEC_TABLE_BYTES);
    d->known = aligned_alloc(64, (size_t)RIFT_FEC_RAWS * RIFT_FEC_SLOTS);
    d->sums = aligned_alloc(64, (size_t)RIFT_FEC_BATCH * RIFT_FEC_SLOTS);
    if (!d->symbols || !d->repairs || !d->expanded || !d->known || !d->sums) {
        rift_fec_decoder_free(d);
        return -ENOMEM;
    }
    memset(d->known, 0, (size_t)RIFT_FEC_RAWS * RIFT_FEC_SLOTS);
    *ret_decoder = d;
    return 0;
}

struct rift_fec_decoder *rift_fec_decoder_free(struct rift_fec_decoder *d)
{
    if (!d)
        return NULL;
    free(d->symbols);
    free(d->repairs);
    free(d->expanded);
    free(d->known);
    free(d->sums);
    free(d);
    return NULL;
}

static void give_up_raw(struct rift_fec_decoder *d, unsigned raw)
{
    rift_fec_matrix_drop(&d->matrix, raw);
    rift_fec_release_raw(d, raw);
    d->stats.repairs_given_up++;
}

void rift_fec_retire(struct rift_fec_decoder *d, struct rift_fec_kept *f)
{
    if (!f->used)
        return;
    for (unsigned i = 0; i < RIFT_FEC_RAWS && d->stats.waiting; i++) {
        uint32_t back = d->raws[i].id - f->shape.id;
        if (d->raws[i].used && back < RIFT_FEC_WINDOW && (d->raws[i].cover >> back & 1))
            give_up_raw(d, i);
    }
    for (unsigned i = 0; i < f->shape.count; i++) {
        if (f->at[i] == RIFT_FEC_MISSING)
            continue;
        if (f->at[i] & RIFT_FEC_COLUMN)
            d->columns[f->at[i] & ~RIFT_FEC_COLUMN].used = false;
        else
            d->free_slots[d->n_free++] = f->at[i];
    }
    f->used = false;
}

/* Whether frame ID is not behind what is kept; moves on when it is ahead. */
static bool in_sight(struct rift_fec_decoder *d, uint32_t id)
{
    if (!d->started) {
        d->started = true;
        d->newest = id;
    }
    int32_t ahead = (int32_t)(id - d->newest);
    if (ahead <= 0)
        return ahead > -RIFT_FEC_KEPT;
    for (int32_t i = 1; i <= WV_MIN(ahead, (int32_t)RIFT_FEC_KEPT); i++)
        rift_fec_retire(d, rift_fec_frame_of(d, d->newest + (uint32_t)i));
    d->newest = id;
    return true;
}

static bool agrees(const struct rift_fec_shape *a, const struct rift_fec_shape *b)
{
    return a->epoch == b->epoch && a->size == b->size && a->count == b->count && a->keyframe == b->keyframe &&
           (a->len == 0 || b->len == 0 || a->len == b->len);
}

/* Opens frame S->id unless it is there, and learns its length. It must be in sight and not contradict S. */
static struct rift_fec_kept *open_frame(struct rift_fec_decoder *d, const struct rift_fec_shape *s)
{
    struct rift_fec_kept *f = rift_fec_frame_of(d, s->id);
    if (!f->used) {
        f->used = true;
        f->shape = *s;
        f->missing = s->count;
        memset(f->at, 0xff, s->count * sizeof f->at[0]);
    }
    if (s->len)
        f->shape.len = s->len;
    return f;
}

/* Finds a place for a fragment of F; frames older than F give way. Returns false when there is none. */
static bool take_slot(struct rift_fec_decoder *d, const struct rift_fec_kept *f, uint16_t *ret_slot)
{
    for (uint32_t back = RIFT_FEC_KEPT - 1; d->n_free == 0 && back > 0; back--) {
        struct rift_fec_kept *old = rift_fec_find_frame(d, d->newest - back);
        if (old && (int32_t)(old->shape.id - f->shape.id) < 0)
            rift_fec_retire(d, old);
    }
    if (d->n_free == 0)
        return false;
    *ret_slot = d->free_slots[--d->n_free];
    return true;
}

static void fill(struct rift_fec_decoder *d, uint8_t *symbol, const uint8_t *data, size_t len)
{
    memcpy(symbol, data, len);
    memset(symbol + len, 0, d->stride - len);
}

/* ---- Fragments ---- */

static int source_shape(struct rift_fec_decoder *d, const struct rift_fec_fragment *g,
                        struct rift_fec_shape *ret_shape)
{
    if (g->count == 0 || g->size == 0 || g->index >= g->count || g->len == 0 || g->len > g->size)
        return -EBADMSG;
    bool last = g->index + 1 == g->count;
    size_t end = (size_t)g->index * g->size + g->len;
    if ((!last && g->len != g->size) || end > RIFT_FEC_FRAME_MAX_BYTES)
        return -EBADMSG;
    if (g->count > RIFT_FEC_FRAME_FRAGMENTS || g->size > d->symbol_bytes) {
        d->stats.refused++;
        return RIFT_FEC_IGNORED;
    }
    *ret_shape = (struct rift_fec_shape){
        .id = g->frame_id,
        .epoch = g->epoch,
        .size = g->size,
        .count = g->count,
        .keyframe = g->keyframe,
        .len = last ? (uint32_t)end : 0,
    };
    return 0;
}

static int malformed(struct rift_fec_decoder *d)
{
    d->stats.malformed++;
    return -EBADMSG;
}

static void begin(struct rift_fec_decoder *d)
{
    d->n_recovered = d->n_taken = 0;
}

int rift_fec_decoder_source(struct rift_fec_decoder *d, const struct rift_fec_fragment *g)
{
    begin(d);
    struct rift_fec_shape s;
    int r = source_shape(d, g, &s);
    if (r != 0)
        return r < 0 ? malformed(d) : r;
    const struct rift_fec_kept *there = rift_fec_find_frame(d, s.id);
    if (there && !agrees(&there->shape, &s))
        return malformed(d);
    if (!in_sight(d, s.id))
        return RIFT_FEC_IGNORED;
    struct rift_fec_kept *f = open_frame(d, &s);
    uint16_t was = f->at[g->index], slot;
    if (!(was & RIFT_FEC_COLUMN))
        return RIFT_FEC_IGNORED;
    if (!take_slot(d, f, &slot)) {
        d->stats.refused++;
        return RIFT_FEC_IGNORED;
    }
    /* Making room may have taken repairs away, never a column of this frame. */
    fill(d, d->symbols + slot * d->stride, g->data, g->len);
    d->stats.sources++;
    if (was == RIFT_FEC_MISSING) {
        f->at[g->index] = slot;
        f->missing--;
        return 0;
    }
    unsigned column = was & ~RIFT_FEC_COLUMN & 0xffff;
    rift_fec_settle(d, column, slot);
    int spare = rift_fec_matrix_known(&d->matrix, column);
    if (spare >= 0)
        rift_fec_release_raw(d, (unsigned)spare);
    rift_fec_solve(d);
    return 0;
}

/* ---- Repairs ---- */

/* A repair's head as it came. */
struct head {
    struct rift_fec_raw raw;
    unsigned n;
    struct rift_fec_shape shapes[RIFT_FEC_WINDOW];
};

static bool read_shape(struct wv_reader *body, struct rift_fec_shape *s)
{
    uint32_t v = wv_read_u16(body);
    v |= (uint32_t)wv_read_u8(body) << 16;
    s->keyframe = v >> 23;
    s->len = v & 0x7fffff;
    uint32_t count = (s->len + s->size - 1u) / s->size;
    s->count = (uint16_t)count;
    return s->len && s->len <= RIFT_FEC_FRAME_MAX_BYTES && count <= RIFT_FEC_FRAME_FRAGMENTS;
}

static int read_head(struct wv_reader *body, struct head *h)
{
    uint32_t id = wv_read_u32(body);
    uint16_t epoch = wv_read_u16(body), size = wv_read_u16(body);
    h->n = 0;
    h->raw = (struct rift_fec_raw){.used = true, .id = id};
    h->raw.cover = wv_read_u8(body);
    h->raw.group = wv_read_u8(body);
    h->raw.index = wv_read_u8(body);
    if (body->failed || size == 0 || !(h->raw.cover & 1) || h->raw.cover >> RIFT_FEC_WINDOW ||
        h->raw.index >= RIFT_FEC_INDICES)
        return -EBADMSG;
    uint32_t longest = 0, total = 0;
    for (unsigned back = 0; back < RIFT_FEC_WINDOW; back++) {
        if (!(h->raw.cover >> back & 1))
            continue;
        struct rift_fec_shape *s = &h->shapes[h->n++];
        *s = (struct rift_fec_shape){.id = id - back, .epoch = epoch, .size = size};
        if (!read_shape(body, s) || (h->raw.cover != 1 && s->count > RIFT_FEC_GROUP))
            return -EBADMSG;
        longest = WV_MAX(longest, s->len);
        total += s->count;
    }
    h->raw.len = (uint16_t)WV_MIN(longest, (uint32_t)size);
    if ((h->raw.cover != 1 && total > RIFT_FEC_WINDOW_SOURCES) ||
        h->raw.group >= rift_fec_groups(h->shapes[0].count) || body->failed || body->left != h->raw.len)
        return -EBADMSG;
    return 0;
}

/* Whether all frames of H are or may be kept. Changes nothing unless they are. */
static int admit(struct rift_fec_decoder *d, const struct head *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        const struct rift_fec_kept *f = rift_fec_find_frame(d, h->shapes[i].id);
        if (f && !agrees(&f->shape, &h->shapes[i]))
            return -EBADMSG;
    }
    if (h->shapes[0].size > d->symbol_bytes) {
        d->stats.refused++;
        return RIFT_FEC_IGNORED;
    }
    uint32_t newest = d->newest, oldest = h->shapes[h->n - 1].id;
    if (d->started && (int32_t)(h->raw.id - newest) > 0)
        newest = h->raw.id;
    if (d->started && newest - oldest >= RIFT_FEC_KEPT) {
        d->stats.repairs_late++;
        return RIFT_FEC_IGNORED;
    }
    in_sight(d, h->raw.id);
    return 0;
}

/* The repair of the oldest frame, or RIFT_FEC_RAWS. */
static unsigned oldest_raw(const struct rift_fec_decoder *d)
{
    unsigned oldest = RIFT_FEC_RAWS;
    for (unsigned i = 0; i < RIFT_FEC_RAWS; i++)
        if (d->raws[i].used && (oldest == RIFT_FEC_RAWS || (int32_t)(d->raws[i].id - d->raws[oldest].id) < 0))
            oldest = i;
    return oldest;
}

/* A free place for a repair; the oldest gives way. */
static unsigned take_raw(struct rift_fec_decoder *d)
{
    for (unsigned i = 0; i < RIFT_FEC_RAWS; i++)
        if (!d->raws[i].used)
            return i;
    unsigned oldest = oldest_raw(d);
    give_up_raw(d, oldest);
    return oldest;
}

/* Finds the column of fragment INDEX of F. Returns false when there is none left. */
static bool column_of(struct rift_fec_decoder *d, struct rift_fec_kept *f, unsigned index,
                      unsigned *ret_column)
{
    if (f->at[index] != RIFT_FEC_MISSING) {
        *ret_column = f->at[index] & ~RIFT_FEC_COLUMN & 0xffff;
        return true;
    }
    for (unsigned c = 0; c < RIFT_FEC_COLUMNS; c++) {
        if (d->columns[c].used)
            continue;
        d->columns[c] = (struct rift_fec_column){.used = true, .id = f->shape.id, .index = (uint16_t)index};
        f->at[index] = (uint16_t)(RIFT_FEC_COLUMN | c);
        *ret_column = c;
        return true;
    }
    return false;
}

/* Frees the columns that no equation is about. */
static void sweep_columns(struct rift_fec_decoder *d)
{
    for (unsigned c = 0; c < RIFT_FEC_COLUMNS; c++) {
        uint8_t any = 0;
        for (unsigned i = 0; i < d->matrix.n_rows; i++)
            any |= d->matrix.rows[i].column[c];
        if (any || !d->columns[c].used)
            continue;
        rift_fec_frame_of(d, d->columns[c].id)->at[d->columns[c].index] = RIFT_FEC_MISSING;
        d->columns[c].used = false;
    }
}

/* Writes the coefficients of what is missing under H and returns how many columns that takes, or 0 when there
 * are not enough. */
static unsigned try_row(struct rift_fec_decoder *d, const struct head *h, uint8_t row[RIFT_FEC_COLUMNS])
{
    unsigned n = 0;
    memset(row, 0, RIFT_FEC_COLUMNS);
    for (unsigned k = 0; k < h->n; k++) {
        struct rift_fec_kept *f = rift_fec_frame_of(d, h->shapes[k].id);
        unsigned count = f->shape.count, groups = rift_fec_groups(count);
        uint8_t coefficients[RIFT_FEC_GROUP];
        rift_fec_coefficients(&d->tables, h->raw.id, h->raw.index, h->raw.id - f->shape.id,
                              rift_fec_group_fragments(count, h->raw.group), coefficients);
        for (unsigned i = h->raw.group, at = 0; i < count && f->missing; i += groups, at++) {
            unsigned column;
            if (!(f->at[i] & RIFT_FEC_COLUMN))
                continue;
            if (!column_of(d, f, i, &column))
                return 0;
            row[column] = coefficients[at];
            n = WV_MAX(n, column + 1);
        }
    }
    return n;
}

/* The same, with older repairs giving way. */
static unsigned make_row(struct rift_fec_decoder *d, const struct head *h, uint8_t row[RIFT_FEC_COLUMNS])
{
    unsigned n = try_row(d, h, row);
    while (n == 0) {
        sweep_columns(d);
        n = try_row(d, h, row);
        unsigned oldest = oldest_raw(d);
        if (n || oldest == RIFT_FEC_RAWS || (int32_t)(d->raws[oldest].id - h->raw.id) >= 0)
            break;
        give_up_raw(d, oldest);
    }
    return n;
}

static unsigned count_missing(struct rift_fec_decoder *d, const struct head *h)
{
    unsigned missing = 0;
    for (unsigned k = 0; k < h->n; k++) {
        const struct rift_fec_kept *f = rift_fec_frame_of(d, h->shapes[k].id);
        unsigned groups = rift_fec_groups(f->shape.count);
        for (unsigned i = h->raw.group; i < f->shape.count && f->missing; i += groups)
            missing += f->at[i] >= RIFT_FEC_COLUMN;
    }
    return missing;
}

int rift_fec_decoder_repair(struct rift_fec_decoder *d, struct wv_reader *body)
{
    begin(d);
    struct head h;
    if (read_head(body, &h) < 0)
        return malformed(d);
    int r = admit(d, &h);
    if (r != 0)
        return r < 0 ? malformed(d) : r;
    for (unsigned k = 0; k < h.n; k++)
        open_frame(d, &h.shapes[k]);
    unsigned missing = count_missing(d, &h);
    if (missing == 0) {
        d->stats.repairs_spare++;
        return RIFT_FEC_IGNORED;
    }
    uint8_t row[RIFT_FEC_COLUMNS];
    unsigned n = missing > RIFT_FEC_COLUMNS ? 0 : make_row(d, &h, row);
    if (n == 0) {
        d->stats.repairs_given_up++;
        return RIFT_FEC_IGNORED;
    }
    unsigned raw = take_raw(d);
    if (!rift_fec_matrix_add(&d->matrix, raw, row, n)) {
        d->stats.repairs_spare++;
        return RIFT_FEC_IGNORED;
    }
    d->raws[raw] = h.raw;
    fill(d, d->repairs + raw * d->stride, wv_read_span(body, h.raw.len), h.raw.len);
    d->stats.repairs++;
    d->stats.waiting++;
    rift_fec_solve(d);
    return 0;
}

int rift_fec_decoder_next(struct rift_fec_decoder *d, struct rift_fec_fragment *ret_fragment)
{
    if (d->n_taken == d->n_recovered)
        return RIFT_FEC_NONE;
    const struct rift_fec_recovered *r = &d->recovered[d->n_taken++];
    const struct rift_fec_kept *f = rift_fec_find_frame(d, r->id);
    assert(f && !(f->at[r->index] & RIFT_FEC_COLUMN) && f->shape.len);
    const struct rift_fec_shape *s = &f->shape;
    size_t at = (size_t)r->index * s->size;
    *ret_fragment = (struct rift_fec_fragment){
        .frame_id = s->id,
        .epoch = s->epoch,
        .keyframe = s->keyframe,
        .count = s->count,
        .size = s->size,
        .index = r->index,
        .data = d->symbols + f->at[r->index] * d->stride,
        .len = WV_MIN((size_t)s->size, s->len - at),
    };
    return 0;
}

void rift_fec_decoder_get_stats(const struct rift_fec_decoder *d, struct rift_fec_decoder_stats *ret_stats)
{
    *ret_stats = d->stats;
}
