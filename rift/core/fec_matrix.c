#include "rift/core/fec_matrix.h"

#include "lib/base/util.h"

#include <assert.h>
#include <isa-l/erasure_code.h>
#include <string.h>

_Static_assert(sizeof(struct rift_fec_row) == RIFT_FEC_ROW_BYTES, "a row is two arrays without padding");

void rift_fec_matrix_init(struct rift_fec_matrix *m, const struct rift_fec_tables *tables)
{
    m->tables = tables;
    m->n_rows = m->n_columns = m->n_raws = 0;
}

/* TO += FACTOR * FROM. */
static void add(const struct rift_fec_matrix *m, struct rift_fec_row *to, const struct rift_fec_row *from,
                uint8_t factor)
{
    rift_fec_add(m->tables, factor, (const uint8_t *)from, (uint8_t *)to, sizeof *to);
}

static int first_column(const struct rift_fec_matrix *m, const struct rift_fec_row *row)
{
    for (unsigned c = 0; c < m->n_columns; c++)
        if (row->column[c])
            return (int)c;
    return -1;
}

/* Makes COLUMN the pivot of row I: 1 there, 0 in all others. */
static void set_pivot(struct rift_fec_matrix *m, unsigned i, unsigned column)
{
    struct rift_fec_row scaled;
    memset(&scaled, 0, sizeof scaled);
    add(m, &scaled, &m->rows[i], m->tables->inverse[m->rows[i].column[column]]);
    m->rows[i] = scaled;
    m->pivot[i] = (uint8_t)column;
    for (unsigned k = 0; k < m->n_rows; k++)
        if (k != i)
            add(m, &m->rows[k], &m->rows[i], m->rows[k].column[column]);
}

bool rift_fec_matrix_add(struct rift_fec_matrix *m, unsigned raw,
                         const uint8_t coefficients[RIFT_FEC_COLUMNS], unsigned n)
{
    assert(m->n_rows < RIFT_FEC_RAWS);
    if (m->n_rows == 0)
        m->n_columns = m->n_raws = 0;
    m->n_columns = WV_MAX(m->n_columns, n);
    m->n_raws = WV_MAX(m->n_raws, raw + 1);
    struct rift_fec_row *row = &m->rows[m->n_rows];
    memcpy(row->column, coefficients, RIFT_FEC_COLUMNS);
    memset(row->raw, 0, sizeof row->raw);
    row->raw[raw] = 1;
    for (unsigned i = 0; i < m->n_rows; i++)
        add(m, row, &m->rows[i], row->column[m->pivot[i]]);
    int column = first_column(m, row);
    if (column < 0)
        return false;
    m->n_rows++;
    set_pivot(m, m->n_rows - 1, (unsigned)column);
    return true;
}

static void remove_row(struct rift_fec_matrix *m, unsigned i)
{
    m->n_rows--;
    m->rows[i] = m->rows[m->n_rows];
    m->pivot[i] = m->pivot[m->n_rows];
}

/* Takes row I out, and with it repair RAW from all others. */
static void eliminate_raw(struct rift_fec_matrix *m, unsigned i, unsigned raw)
{
    uint8_t inverse = m->tables->inverse[m->rows[i].raw[raw]];
    for (unsigned k = 0; k < m->n_rows; k++)
        if (k != i && m->rows[k].raw[raw])
            add(m, &m->rows[k], &m->rows[i], gf_mul(m->rows[k].raw[raw], inverse));
    remove_row(m, i);
}

/* Takes row I out, which says nothing about what is missing. */
static unsigned spare_row(struct rift_fec_matrix *m, unsigned i)
{
    unsigned raw = 0;
    while (raw < m->n_raws && !m->rows[i].raw[raw])
        raw++;
    assert(raw < m->n_raws); /* rows are independent sums of raw repairs */
    eliminate_raw(m, i, raw);
    return raw;
}

int rift_fec_matrix_known(struct rift_fec_matrix *m, unsigned column)
{
    int orphan = -1;
    for (unsigned i = 0; i < m->n_rows; i++) {
        m->rows[i].column[column] = 0;
        if (m->pivot[i] == column)
            orphan = (int)i;
    }
    if (orphan < 0)
        return -1;
    int next = first_column(m, &m->rows[orphan]);
    if (next < 0)
        return (int)spare_row(m, (unsigned)orphan);
    set_pivot(m, (unsigned)orphan, (unsigned)next);
    return -1;
}

void rift_fec_matrix_drop(struct rift_fec_matrix *m, unsigned raw)
{
    for (unsigned i = 0; i < m->n_rows; i++)
        if (m->rows[i].raw[raw]) {
            /* Its pivot becomes an ordinary column of the rows that it is added to. */
            eliminate_raw(m, i, raw);
            return;
        }
}

bool rift_fec_matrix_solved(const struct rift_fec_matrix *m, unsigned row)
{
    const uint8_t *column = m->rows[row].column;
    for (unsigned c = 0; c < m->n_columns; c++)
        if (column[c] && c != m->pivot[row])
            return false;
    return true;
}

unsigned rift_fec_matrix_take(struct rift_fec_matrix *m, unsigned row)
{
    m->rows[row].column[m->pivot[row]] = 0;
    return spare_row(m, row);
}
