/* The receiver's side of fec.h. Holds the fragments of the last 8 frames and the repairs that wait for
 * something; works on coefficients only (fec_matrix.h) until fragments can be solved, then computes all of
 * those at once. Never gives out a fragment of a frame whose length it does not know. */
#include "rift/core/fec_matrix.h"

#include "lib/base/util.h"

#include <assert.h>
#include <errno.h>
#include <isa-l/erasure_code.h>
#include <string.h>

#define FRAMES 8 /* a window, 3 more for later repairs to mend it, and one for stragglers */
#define SLOTS  (RIFT_FEC_FRAME_FRAGMENTS + RIFT_FEC_GROUP)
#define BATCH  12 /* fragments solved in one pass: a multiple of what ISA-L does at once */
/* Fragments that the rows of one pass may be made of: all that are held. */
#define SOURCES SLOTS

/* What is known of a fragment: the slot it lies in, the column it is missing at, or nothing. */
#define MISSING 0xffff
#define COLUMN  0x8000

struct shape {
    uint32_t id;
    uint16_t epoch, size, count;
    bool keyframe;
    uint32_t len; /* 0: not known yet */
};

struct frame {
    bool used;
    struct shape shape;
    uint16_t missing;
    uint16_t at[RIFT_FEC_FRAME_FRAGMENTS];
};

struct raw {
    bool used;
    uint8_t cover, group, index;
    uint32_t id; /* of the newest frame covered */
    uint16_t len;
};

struct column {
    bool used;
    uint32_t id;
    uint16_t index;
};

struct recovered {
    uint32_t id;
    uint16_t index;
};

struct rift_fec_decoder {
    struct rift_fec_tables tables;
    struct rift_fec_matrix matrix;
    size_t symbol_bytes, stride;
    bool started;
    uint32_t newest;
    struct frame frames[FRAMES]; /* by id modulo FRAMES */
    struct raw raws[RIFT_FEC_RAWS];
    struct column columns[RIFT_FEC_COLUMNS];
    uint16_t free_slots[SLOTS];
    unsigned n_free;
    struct recovered recovered[RIFT_FEC_COLUMNS];
    unsigned n_recovered, n_taken;
    uint8_t *symbols;  /* SLOTS * stride; behind a fragment's end all is 0 up to the stride */
    uint8_t *repairs;  /* RIFT_FEC_RAWS * stride, the same */
    uint8_t *expanded; /* BATCH * (SOURCES + RIFT_FEC_RAWS) tables */
    uint8_t *known;    /* RIFT_FEC_RAWS * SOURCES coefficients */
    uint8_t *sums;     /* BATCH * SOURCES coefficients */
    struct rift_fec_decoder_stats stats;
};

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
    for (unsigned i = 0; i < SLOTS; i++)
        d->free_slots[d->n_free++] = (uint16_t)(SLOTS - 1 - i);
    d->symbols = aligned_alloc(64, SLOTS * d->stride);
    d->repairs = aligned_alloc(64, RIFT_FEC_RAWS * d->stride);
    d->expanded = aligned_alloc(64, (size_t)BATCH * (SOURCES + RIFT_FEC_RAWS) * RIFT_FEC_TABLE_BYTES);
    d->known = aligned_alloc(64, (size_t)RIFT_FEC_RAWS * SOURCES);
    d->sums = aligned_alloc(64, (size_t)BATCH * SOURCES);
    if (!d->symbols || !d->repairs || !d->expanded || !d->known || !d->sums) {
        rift_fec_decoder_free(d);
        return -ENOMEM;
    }
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

static struct frame *frame_of(struct rift_fec_decoder *d, uint32_t id)
{
    return &d->frames[id % FRAMES];
}

static struct frame *find_frame(struct rift_fec_decoder *d, uint32_t id)
{
    struct frame *f = frame_of(d, id);
    return f->used && f->shape.id == id ? f : NULL;
}

static void release_raw(struct rift_fec_decoder *d, unsigned raw)
{
    d->raws[raw].used = false;
    d->stats.waiting--;
}

static void give_up_raw(struct rift_fec_decoder *d, unsigned raw)
{
    rift_fec_matrix_drop(&d->matrix, raw);
    release_raw(d, raw);
    d->stats.repairs_given_up++;
}

/* Forgets a frame, and with it the repairs that can't be computed with any more. */
static void retire(struct rift_fec_decoder *d, struct frame *f)
{
    if (!f->used)
        return;
    for (unsigned i = 0; i < RIFT_FEC_RAWS && d->stats.waiting; i++) {
        uint32_t back = d->raws[i].id - f->shape.id;
        if (d->raws[i].used && back < RIFT_FEC_WINDOW && (d->raws[i].cover >> back & 1))
            give_up_raw(d, i);
    }
    for (unsigned i = 0; i < f->shape.count; i++) {
        if (f->at[i] == MISSING)
            continue;
        if (f->at[i] & COLUMN)
            d->columns[f->at[i] & ~COLUMN].used = false;
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
        return ahead > -FRAMES;
    for (int32_t i = 1; i <= WV_MIN(ahead, (int32_t)FRAMES); i++)
        retire(d, frame_of(d, d->newest + (uint32_t)i));
    d->newest = id;
    return true;
}

static bool agrees(const struct shape *a, const struct shape *b)
{
    return a->epoch == b->epoch && a->size == b->size && a->count == b->count && a->keyframe == b->keyframe &&
           (a->len == 0 || b->len == 0 || a->len == b->len);
}

/* Opens frame S->id unless it is there, and learns its length. It must be in sight and not contradict S. */
static struct frame *open_frame(struct rift_fec_decoder *d, const struct shape *s)
{
    struct frame *f = frame_of(d, s->id);
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
static bool take_slot(struct rift_fec_decoder *d, const struct frame *f, uint16_t *ret_slot)
{
    for (uint32_t back = FRAMES - 1; d->n_free == 0 && back > 0; back--) {
        struct frame *old = find_frame(d, d->newest - back);
        if (old && (int32_t)(old->shape.id - f->shape.id) < 0)
            retire(d, old);
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

/* ---- Solving ---- */

/* The rows of one pass and what they are made of. */
struct pass {
    unsigned n_rows, rows[BATCH];
    unsigned n_raws, raws[RIFT_FEC_RAWS];
    unsigned n_sources;
    size_t len;
    uint8_t *in[SOURCES + RIFT_FEC_RAWS], *out[BATCH];
};

static void collect_raws(struct rift_fec_decoder *d, struct pass *p)
{
    p->n_raws = 0;
    p->len = 0;
    for (unsigned j = 0; j < RIFT_FEC_RAWS; j++) {
        bool wanted = false;
        for (unsigned i = 0; i < p->n_rows; i++)
            wanted |= d->matrix.rows[p->rows[i]].raw[j] != 0;
        if (!wanted)
            continue;
        p->raws[p->n_raws++] = j;
        p->len = WV_MAX(p->len, (size_t)d->raws[j].len);
    }
}

/* Adds the known fragments of F that are of group GROUP, and what each raw repair of P has of them. */
static void collect_group(struct rift_fec_decoder *d, struct pass *p, const struct frame *f, unsigned group)
{
    unsigned groups = rift_fec_groups(f->shape.count), first = p->n_sources, n = 0;
    uint16_t position[RIFT_FEC_GROUP];
    for (unsigned i = group, at = 0; i < f->shape.count; i += groups, at++) {
        if (f->at[i] & COLUMN)
            continue;
        position[n++] = (uint16_t)at;
        p->in[p->n_sources++] = d->symbols + f->at[i] * d->stride;
    }
    for (unsigned k = 0; k < p->n_raws; k++) {
        const struct raw *raw = &d->raws[p->raws[k]];
        uint8_t *row = d->known + (size_t)k * SOURCES + first, all[RIFT_FEC_GROUP];
        uint32_t back = raw->id - f->shape.id;
        memset(row, 0, n);
        if (back >= RIFT_FEC_WINDOW || !(raw->cover >> back & 1) || raw->group != group)
            continue;
        rift_fec_coefficients(&d->tables, raw->id, raw->index, back,
                              rift_fec_group_fragments(f->shape.count, group), all);
        for (unsigned i = 0; i < n; i++)
            row[i] = all[position[i]];
    }
}

/* Collects every known fragment that a raw repair of P covers. */
static void collect_sources(struct rift_fec_decoder *d, struct pass *p)
{
    p->n_sources = 0;
    for (uint32_t back = 0; back < FRAMES; back++) {
        const struct frame *f = find_frame(d, d->newest - back);
        uint8_t groups = 0; /* a frame has at most 8 */
        for (unsigned k = 0; f && k < p->n_raws; k++) {
            const struct raw *raw = &d->raws[p->raws[k]];
            uint32_t from = raw->id - f->shape.id;
            if (from < RIFT_FEC_WINDOW && (raw->cover >> from & 1))
                groups |= (uint8_t)(1u << raw->group);
        }
        for (unsigned g = 0; groups >> g; g++)
            if (groups >> g & 1)
                collect_group(d, p, f, g);
    }
}

/* Computes the rows of P: for each, the raw repairs in it and the known fragments in those. */
static void compute(struct rift_fec_decoder *d, struct pass *p)
{
    unsigned stride = d->tables.stride, n = p->n_sources + p->n_raws;
    uint8_t *rows[RIFT_FEC_RAWS], *sums[BATCH], mix[BATCH][RIFT_FEC_RAWS];
    for (unsigned k = 0; k < p->n_raws; k++) {
        rows[k] = d->known + (size_t)k * SOURCES;
        p->in[p->n_sources + k] = d->repairs + p->raws[k] * d->stride;
    }
    for (unsigned i = 0; i < p->n_rows; i++) {
        sums[i] = d->sums + (size_t)i * SOURCES;
        for (unsigned k = 0; k < p->n_raws; k++)
            mix[i][k] = d->matrix.rows[p->rows[i]].raw[p->raws[k]];
        rift_fec_expand(&d->tables, mix[i], p->n_raws, d->expanded + (size_t)i * p->n_raws * stride);
    }
    if (p->n_sources)
        ec_encode_data((int)p->n_sources, (int)p->n_raws, (int)p->n_rows, d->expanded, rows, sums);
    for (unsigned i = 0; i < p->n_rows; i++) {
        uint8_t *at = d->expanded + (size_t)i * n * stride;
        rift_fec_expand(&d->tables, sums[i], p->n_sources, at);
        rift_fec_expand(&d->tables, mix[i], p->n_raws, at + (size_t)p->n_sources * stride);
    }
    ec_encode_data((int)p->len, (int)n, (int)p->n_rows, d->expanded, p->in, p->out);
}

/* The fragment of column C lies in SLOT now. */
static void settle(struct rift_fec_decoder *d, unsigned c, uint16_t slot)
{
    struct frame *f = find_frame(d, d->columns[c].id);
    assert(f && f->at[d->columns[c].index] == (COLUMN | c));
    f->at[d->columns[c].index] = slot;
    f->missing--;
    d->columns[c].used = false;
}

static void hand_out(struct rift_fec_decoder *d, const struct column *c)
{
    d->recovered[d->n_recovered++] = (struct recovered){.id = c->id, .index = c->index};
    d->stats.recovered++;
}

/* Takes up to BATCH solved rows with a place for each. Returns false when there are none. */
static bool begin_pass(struct rift_fec_decoder *d, struct pass *p, uint16_t slots[BATCH])
{
    bool any = false;
    for (unsigned i = 0; i < d->matrix.n_rows && !any; i++)
        any = rift_fec_matrix_solved(&d->matrix, i);
    p->n_rows = 0;
    for (uint32_t back = FRAMES - 1; any && d->n_free < BATCH && back > 0; back--) {
        struct frame *old = find_frame(d, d->newest - back);
        if (old)
            retire(d, old);
    }
    for (unsigned i = 0; i < d->matrix.n_rows && p->n_rows < BATCH; i++) {
        if (!rift_fec_matrix_solved(&d->matrix, i) || d->n_free == 0)
            continue;
        slots[p->n_rows] = d->free_slots[--d->n_free];
        p->out[p->n_rows] = d->symbols + slots[p->n_rows] * d->stride;
        p->rows[p->n_rows++] = i;
    }
    return p->n_rows > 0;
}

static void solve(struct rift_fec_decoder *d)
{
    struct pass p;
    uint16_t slots[BATCH];
    while (d->n_recovered < RIFT_FEC_COLUMNS - BATCH && begin_pass(d, &p, slots)) {
        collect_raws(d, &p);
        collect_sources(d, &p);
        compute(d, &p);
        uint8_t columns[BATCH];
        for (unsigned i = 0; i < p.n_rows; i++) {
            columns[i] = d->matrix.pivot[p.rows[i]];
            memset(p.out[i] + p.len, 0, d->stride - p.len);
            hand_out(d, &d->columns[columns[i]]);
            settle(d, columns[i], slots[i]);
        }
        /* From the last row on, since taking one moves the very last into its place. */
        for (unsigned i = p.n_rows; i-- > 0;)
            release_raw(d, rift_fec_matrix_take(&d->matrix, p.rows[i]));
    }
}

/* ---- Fragments ---- */

static int source_shape(struct rift_fec_decoder *d, const struct rift_fec_fragment *g,
                        struct shape *ret_shape)
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
    *ret_shape = (struct shape){
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
    struct shape s;
    int r = source_shape(d, g, &s);
    if (r != 0)
        return r < 0 ? malformed(d) : r;
    const struct frame *there = find_frame(d, s.id);
    if (there && !agrees(&there->shape, &s))
        return malformed(d);
    if (!in_sight(d, s.id))
        return RIFT_FEC_IGNORED;
    struct frame *f = open_frame(d, &s);
    uint16_t was = f->at[g->index], slot;
    if (!(was & COLUMN))
        return RIFT_FEC_IGNORED;
    if (!take_slot(d, f, &slot)) {
        d->stats.refused++;
        return RIFT_FEC_IGNORED;
    }
    /* Making room may have taken repairs away, never a column of this frame. */
    fill(d, d->symbols + slot * d->stride, g->data, g->len);
    d->stats.sources++;
    if (was == MISSING) {
        f->at[g->index] = slot;
        f->missing--;
        return 0;
    }
    unsigned column = was & ~COLUMN & 0xffff;
    settle(d, column, slot);
    int spare = rift_fec_matrix_known(&d->matrix, column);
    if (spare >= 0)
        release_raw(d, (unsigned)spare);
    solve(d);
    return 0;
}

/* ---- Repairs ---- */

/* A repair's head as it came. */
struct head {
    struct raw raw;
    unsigned n;
    struct shape shapes[RIFT_FEC_WINDOW];
};

static bool read_shape(struct wv_reader *body, struct shape *s)
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
    h->raw = (struct raw){.used = true, .id = id};
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
        struct shape *s = &h->shapes[h->n++];
        *s = (struct shape){.id = id - back, .epoch = epoch, .size = size};
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
        const struct frame *f = find_frame(d, h->shapes[i].id);
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
    if (d->started && newest - oldest >= FRAMES) {
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
static bool column_of(struct rift_fec_decoder *d, struct frame *f, unsigned index, unsigned *ret_column)
{
    if (f->at[index] != MISSING) {
        *ret_column = f->at[index] & ~COLUMN & 0xffff;
        return true;
    }
    for (unsigned c = 0; c < RIFT_FEC_COLUMNS; c++) {
        if (d->columns[c].used)
            continue;
        d->columns[c] = (struct column){.used = true, .id = f->shape.id, .index = (uint16_t)index};
        f->at[index] = (uint16_t)(COLUMN | c);
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
        frame_of(d, d->columns[c].id)->at[d->columns[c].index] = MISSING;
        d->columns[c].used = false;
    }
}

/* Writes the coefficients of what is missing under H. Returns false when there are not enough columns. */
static bool try_row(struct rift_fec_decoder *d, const struct head *h, uint8_t row[RIFT_FEC_COLUMNS])
{
    memset(row, 0, RIFT_FEC_COLUMNS);
    for (unsigned k = 0; k < h->n; k++) {
        struct frame *f = frame_of(d, h->shapes[k].id);
        unsigned count = f->shape.count, groups = rift_fec_groups(count);
        uint8_t coefficients[RIFT_FEC_GROUP];
        rift_fec_coefficients(&d->tables, h->raw.id, h->raw.index, h->raw.id - f->shape.id,
                              rift_fec_group_fragments(count, h->raw.group), coefficients);
        for (unsigned i = h->raw.group, at = 0; i < count && f->missing; i += groups, at++) {
            unsigned column;
            if (!(f->at[i] & COLUMN))
                continue;
            if (!column_of(d, f, i, &column))
                return false;
            row[column] = coefficients[at];
        }
    }
    return true;
}

/* The same, with older repairs giving way. */
static bool make_row(struct rift_fec_decoder *d, const struct head *h, uint8_t row[RIFT_FEC_COLUMNS])
{
    while (!try_row(d, h, row)) {
        sweep_columns(d);
        if (try_row(d, h, row))
            return true;
        unsigned oldest = oldest_raw(d);
        if (oldest == RIFT_FEC_RAWS || (int32_t)(d->raws[oldest].id - h->raw.id) >= 0)
            return false;
        give_up_raw(d, oldest);
    }
    return true;
}

static unsigned count_missing(struct rift_fec_decoder *d, const struct head *h)
{
    unsigned missing = 0;
    for (unsigned k = 0; k < h->n; k++) {
        const struct frame *f = frame_of(d, h->shapes[k].id);
        unsigned groups = rift_fec_groups(f->shape.count);
        for (unsigned i = h->raw.group; i < f->shape.count && f->missing; i += groups)
            missing += f->at[i] >= COLUMN;
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
    if (missing > RIFT_FEC_COLUMNS || !make_row(d, &h, row)) {
        d->stats.repairs_given_up++;
        return RIFT_FEC_IGNORED;
    }
    unsigned raw = take_raw(d);
    if (!rift_fec_matrix_add(&d->matrix, raw, row)) {
        d->stats.repairs_spare++;
        return RIFT_FEC_IGNORED;
    }
    d->raws[raw] = h.raw;
    fill(d, d->repairs + raw * d->stride, wv_read_span(body, h.raw.len), h.raw.len);
    d->stats.repairs++;
    d->stats.waiting++;
    solve(d);
    return 0;
}

int rift_fec_decoder_next(struct rift_fec_decoder *d, struct rift_fec_fragment *ret_fragment)
{
    if (d->n_taken == d->n_recovered)
        return RIFT_FEC_NONE;
    const struct recovered *r = &d->recovered[d->n_taken++];
    const struct frame *f = find_frame(d, r->id);
    assert(f && !(f->at[r->index] & COLUMN) && f->shape.len);
    const struct shape *s = &f->shape;
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
