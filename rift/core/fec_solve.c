/* Computes missing fragments: works on coefficients only (fec_matrix.h) until some can be solved, then does
 * all of those in one pass of ISA-L over the known fragments and the repairs that they take. */
#include "rift/core/fec_decoder.h"

#include "lib/base/util.h"

#include <assert.h>
#include <string.h>

/* The rows of one pass and what they are made of. */
struct pass {
    unsigned n_rows, rows[RIFT_FEC_BATCH];
    unsigned n_raws, raws[RIFT_FEC_RAWS];
    unsigned n_sources;
    size_t len;
    uint8_t *in[RIFT_FEC_SLOTS + RIFT_FEC_RAWS], *out[RIFT_FEC_BATCH];
};

static void collect_raws(struct rift_fec_decoder *d, struct pass *p)
{
    p->n_raws = 0;
    p->len = 0;
    for (unsigned j = 0; j < d->matrix.n_raws; j++) {
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
static void collect_group(struct rift_fec_decoder *d, struct pass *p, const struct rift_fec_kept *f,
                          unsigned group)
{
    unsigned groups = rift_fec_groups(f->shape.count), first = p->n_sources, n = 0;
    uint16_t position[RIFT_FEC_GROUP];
    for (unsigned i = group, at = 0; i < f->shape.count; i += groups, at++) {
        if (f->at[i] & RIFT_FEC_COLUMN)
            continue;
        position[n++] = (uint16_t)at;
        p->in[p->n_sources++] = d->symbols + f->at[i] * d->stride;
    }
    for (unsigned k = 0; k < p->n_raws; k++) {
        const struct rift_fec_raw *raw = &d->raws[p->raws[k]];
        uint8_t *row = d->known + (size_t)k * RIFT_FEC_SLOTS + first, all[RIFT_FEC_GROUP];
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
    for (uint32_t back = 0; back < RIFT_FEC_KEPT; back++) {
        const struct rift_fec_kept *f = rift_fec_find_frame(d, d->newest - back);
        uint8_t groups = 0; /* a frame has at most 8 */
        for (unsigned k = 0; f && k < p->n_raws; k++) {
            const struct rift_fec_raw *raw = &d->raws[p->raws[k]];
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
    uint8_t *rows[RIFT_FEC_RAWS], *sums[RIFT_FEC_BATCH], mix[RIFT_FEC_BATCH][RIFT_FEC_RAWS];
    for (unsigned k = 0; k < p->n_raws; k++) {
        rows[k] = d->known + (size_t)k * RIFT_FEC_SLOTS;
        p->in[p->n_sources + k] = d->repairs + p->raws[k] * d->stride;
    }
    for (unsigned i = 0; i < p->n_rows; i++) {
        sums[i] = d->sums + (size_t)i * RIFT_FEC_SLOTS;
        for (unsigned k = 0; k < p->n_raws; k++)
            mix[i][k] = d->matrix.rows[p->rows[i]].raw[p->raws[k]];
        rift_fec_expand(&d->tables, mix[i], p->n_raws, d->expanded + (size_t)i * p->n_raws * stride);
    }
    /* At least the length from which on ISA-L is quick; what lies behind the sources is of no matter. */
    size_t len = WV_MAX(p->n_sources, 64u);
    rift_fec_combine(&d->tables, len, p->n_raws, p->n_rows, d->expanded, rows, sums);
    for (unsigned i = 0; i < p->n_rows; i++) {
        uint8_t *at = d->expanded + (size_t)i * n * stride;
        rift_fec_expand(&d->tables, sums[i], p->n_sources, at);
        rift_fec_expand(&d->tables, mix[i], p->n_raws, at + (size_t)p->n_sources * stride);
    }
    rift_fec_combine(&d->tables, p->len, n, p->n_rows, d->expanded, p->in, p->out);
}

void rift_fec_settle(struct rift_fec_decoder *d, unsigned c, uint16_t slot)
{
    struct rift_fec_kept *f = rift_fec_find_frame(d, d->columns[c].id);
    assert(f && f->at[d->columns[c].index] == (RIFT_FEC_COLUMN | c));
    f->at[d->columns[c].index] = slot;
    f->missing--;
    d->columns[c].used = false;
}

static void hand_out(struct rift_fec_decoder *d, const struct rift_fec_column *c)
{
    d->recovered[d->n_recovered++] = (struct rift_fec_recovered){.id = c->id, .index = c->index};
    d->stats.recovered++;
}

/* Frees slots for what is to be recovered: the oldest frames give way. */
static void make_room(struct rift_fec_decoder *d)
{
    for (uint32_t back = RIFT_FEC_KEPT - 1; d->n_free < RIFT_FEC_BATCH && back > 0; back--) {
        struct rift_fec_kept *old = rift_fec_find_frame(d, d->newest - back);
        if (old)
            rift_fec_retire(d, old);
    }
}

/* Takes up to RIFT_FEC_BATCH solved rows with a place for each. Returns false when there are none. */
static bool begin_pass(struct rift_fec_decoder *d, struct pass *p, uint16_t slots[RIFT_FEC_BATCH])
{
    p->n_rows = 0;
    for (unsigned i = 0; i < d->matrix.n_rows && p->n_rows < RIFT_FEC_BATCH; i++)
        if (rift_fec_matrix_solved(&d->matrix, i))
            p->rows[p->n_rows++] = i;
    if (p->n_rows > d->n_free) {
        make_room(d); /* the rows may be others now */
        return d->n_free >= RIFT_FEC_BATCH && begin_pass(d, p, slots);
    }
    for (unsigned i = 0; i < p->n_rows; i++) {
        slots[i] = d->free_slots[--d->n_free];
        p->out[i] = d->symbols + slots[i] * d->stride;
    }
    return p->n_rows > 0;
}

void rift_fec_solve(struct rift_fec_decoder *d)
{
    struct pass p;
    uint16_t slots[RIFT_FEC_BATCH];
    while (d->n_recovered < RIFT_FEC_COLUMNS - RIFT_FEC_BATCH && begin_pass(d, &p, slots)) {
        collect_raws(d, &p);
        collect_sources(d, &p);
        compute(d, &p);
        uint8_t columns[RIFT_FEC_BATCH];
        for (unsigned i = 0; i < p.n_rows; i++) {
            columns[i] = d->matrix.pivot[p.rows[i]];
            memset(p.out[i] + p.len, 0, d->stride - p.len);
            hand_out(d, &d->columns[columns[i]]);
            rift_fec_settle(d, columns[i], slots[i]);
        }
        /* From the last row on, since taking one moves the very last into its place. */
        for (unsigned i = p.n_rows; i-- > 0;)
            rift_fec_release_raw(d, rift_fec_matrix_take(&d->matrix, p.rows[i]));
    }
}
