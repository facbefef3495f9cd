/* The numbers of the code: multiplication tables for ISA-L and the coefficients of fec.h. Internal to fec*.c.
 */
#pragma once

#include "rift/core/fec.h"

#define RIFT_FEC_TABLE_BYTES 32 /* what ISA-L needs per coefficient, at most */

struct rift_fec_tables {
    bool avx;        /* this processor has it */
    unsigned stride; /* what it needs on this processor: newer releases take 8 bytes with GFNI */
    uint8_t multiply[256][RIFT_FEC_TABLE_BYTES];
    uint8_t inverse[256]; /* [0] is 0 */
};

void rift_fec_tables_init(struct rift_fec_tables *t);

/* Writes the coefficients of positions 0 to N - 1 of frame FRAME_ID - DELTA in repair INDEX of frame
 * FRAME_ID. */
void rift_fec_coefficients(const struct rift_fec_tables *t, uint32_t frame_id, unsigned index, unsigned delta,
                           unsigned n, uint8_t *ret_coefficients);

/* How a frame of COUNT fragments falls into groups. */
static inline unsigned rift_fec_groups(unsigned count)
{
    return (count + RIFT_FEC_GROUP - 1) / RIFT_FEC_GROUP;
}

static inline unsigned rift_fec_group_fragments(unsigned count, unsigned group)
{
    unsigned groups = rift_fec_groups(count);
    return (count - group + groups - 1) / groups;
}

/* OUT[i] = sum over j of coefficient (i, j) * IN[j], LEN bytes each; EXPANDED holds N_OUT rows of N_IN
 * tables. */
void rift_fec_combine(const struct rift_fec_tables *t, size_t len, unsigned n_in, unsigned n_out,
                      const uint8_t *expanded, uint8_t **in, uint8_t **out);

/* TO += FACTOR * FROM, LEN bytes. */
void rift_fec_add(const struct rift_fec_tables *t, uint8_t factor, const uint8_t *from, uint8_t *to,
                  size_t len);

/* Expands N coefficients to N * t->stride bytes of tables. */
void rift_fec_expand(const struct rift_fec_tables *t, const uint8_t *coefficients, unsigned n, uint8_t *out);
