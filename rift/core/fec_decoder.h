/* What the decoder holds; shared by fec_decoder.c, which takes things in, and fec_solve.c, which computes
 * what is missing. Internal to these two. */
#pragma once

#include "rift/core/fec_matrix.h"

/* A window, 3 more for later repairs to mend it, and some for equations that only tell something together. */
#define RIFT_FEC_KEPT  16
#define RIFT_FEC_SLOTS (RIFT_FEC_FRAME_FRAGMENTS + RIFT_FEC_GROUP)
#define RIFT_FEC_BATCH 12 /* fragments solved in one pass: a multiple of what ISA-L does at once */

/* What is known of a fragment: the slot it lies in, the column it is missing at, or nothing. */
#define RIFT_FEC_MISSING 0xffff
#define RIFT_FEC_COLUMN  0x8000

struct rift_fec_shape {
    uint32_t id;
    uint16_t epoch, size, count;
    bool keyframe;
    uint32_t len; /* 0: not known yet */
};

struct rift_fec_kept {
    bool used;
    struct rift_fec_shape shape;
    uint16_t missing;
    uint16_t at[RIFT_FEC_FRAME_FRAGMENTS];
};

struct rift_fec_raw {
    bool used;
    uint8_t cover, group, index;
    uint32_t id; /* of the newest frame covered */
    uint16_t len;
};

struct rift_fec_column {
    bool used;
    uint32_t id;
    uint16_t index;
};

struct rift_fec_recovered {
    uint32_t id;
    uint16_t index;
};

struct rift_fec_decoder {
    struct rift_fec_tables tables;
    struct rift_fec_matrix matrix;
    size_t symbol_bytes, stride;
    bool started;
    uint32_t newest;
    struct rift_fec_kept frames[RIFT_FEC_KEPT]; /* by id modulo RIFT_FEC_KEPT */
    struct rift_fec_raw raws[RIFT_FEC_RAWS];
    struct rift_fec_column columns[RIFT_FEC_COLUMNS];
    uint16_t free_slots[RIFT_FEC_SLOTS];
    unsigned n_free;
    struct rift_fec_recovered recovered[RIFT_FEC_COLUMNS];
    unsigned n_recovered, n_taken;
    uint8_t *symbols;  /* RIFT_FEC_SLOTS * stride; behind a fragment's end all is 0 up to the stride */
    uint8_t *repairs;  /* RIFT_FEC_RAWS * stride, the same */
    uint8_t *expanded; /* RIFT_FEC_BATCH * (RIFT_FEC_SLOTS + RIFT_FEC_RAWS) tables */
    uint8_t *known;    /* RIFT_FEC_RAWS * RIFT_FEC_SLOTS coefficients */
    uint8_t *sums;     /* RIFT_FEC_BATCH * RIFT_FEC_SLOTS coefficients */
    struct rift_fec_decoder_stats stats;
};

static inline struct rift_fec_kept *rift_fec_frame_of(struct rift_fec_decoder *d, uint32_t id)
{
    return &d->frames[id % RIFT_FEC_KEPT];
}

static inline struct rift_fec_kept *rift_fec_find_frame(struct rift_fec_decoder *d, uint32_t id)
{
    struct rift_fec_kept *f = rift_fec_frame_of(d, id);
    return f->used && f->shape.id == id ? f : NULL;
}

static inline void rift_fec_release_raw(struct rift_fec_decoder *d, unsigned raw)
{
    d->raws[raw].used = false;
    d->stats.waiting--;
}

/* Forgets a frame, and with it the repairs that can't be computed with any more. */
void rift_fec_retire(struct rift_fec_decoder *d, struct rift_fec_kept *f);

/* The fragment of column C lies in SLOT now. */
void rift_fec_settle(struct rift_fec_decoder *d, unsigned c, uint16_t slot);

/* Computes and queues every fragment that is determined. */
void rift_fec_solve(struct rift_fec_decoder *d);
