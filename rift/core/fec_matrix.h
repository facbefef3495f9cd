/* The equations that repairs make about missing fragments, kept in reduced row echelon form on the fly.
 * Columns are missing fragments, rows are sums of repairs that are held ("raw"): a row knows how much of each
 * raw repair is in it, so that no symbol is touched before something can be solved. There are always as many
 * rows as raw repairs. Bounded; internal to fec*.c. */
#pragma once

#include "rift/core/fec_code.h"

#define RIFT_FEC_COLUMNS   192
#define RIFT_FEC_RAWS      128
#define RIFT_FEC_ROW_BYTES (RIFT_FEC_COLUMNS + RIFT_FEC_RAWS)

struct rift_fec_row {
    _Alignas(64) uint8_t column[RIFT_FEC_COLUMNS];
    uint8_t raw[RIFT_FEC_RAWS];
};

struct rift_fec_matrix {
    const struct rift_fec_tables *tables;
    struct rift_fec_row rows[RIFT_FEC_RAWS]; /* the first N_ROWS */
    uint8_t pivot[RIFT_FEC_RAWS];            /* column of a row's leading 1, 0 in all other rows */
    unsigned n_rows;
    unsigned n_columns, n_raws; /* none behind these is in any row */
};

void rift_fec_matrix_init(struct rift_fec_matrix *m, const struct rift_fec_tables *tables);

/* Adds repair RAW, which is the sum of COEFFICIENTS * missing fragments; those from N on are 0. Returns false
 * when it says nothing new; then it is not held. */
bool rift_fec_matrix_add(struct rift_fec_matrix *m, unsigned raw,
                         const uint8_t coefficients[RIFT_FEC_COLUMNS], unsigned n);

/* The fragment of COLUMN is known from elsewhere. Returns the raw repair that became spare, or -1. */
int rift_fec_matrix_known(struct rift_fec_matrix *m, unsigned column);

/* Forgets repair RAW. */
void rift_fec_matrix_drop(struct rift_fec_matrix *m, unsigned raw);

/* Whether row ROW determines its pivot alone. */
bool rift_fec_matrix_solved(const struct rift_fec_matrix *m, unsigned row);

/* Takes a solved row out. Returns the raw repair that is not needed any more. */
unsigned rift_fec_matrix_take(struct rift_fec_matrix *m, unsigned row);
