#include "rift/core/fec_code.h"

#include <endian.h>
#include <isa-l/erasure_code.h>
#include <string.h>

/* How far apart ISA-L lays the tables of two coefficients: whatever it leaves untouched was not its place. */
static unsigned find_stride(void)
{
    uint8_t ones[2] = {1, 1}, probe[2 * RIFT_FEC_TABLE_BYTES];
    memset(probe, 0xaa, sizeof probe);
    ec_init_tables(2, 1, ones, probe);
    for (unsigned i = 16; i < sizeof probe; i++)
        if (probe[i] != 0xaa)
            return RIFT_FEC_TABLE_BYTES;
    return 8;
}

void rift_fec_tables_init(struct rift_fec_tables *t)
{
#if defined(__x86_64__)
    t->avx = __builtin_cpu_supports("avx");
#endif
    t->stride = find_stride();
    for (unsigned i = 0; i < 256; i++) {
        uint8_t c = (uint8_t)i;
        ec_init_tables(1, 1, &c, t->multiply[i]);
        t->inverse[i] = i ? gf_inv(c) : 0;
    }
}

/* ISA-L returns with the upper halves of the vector registers in use. Ordinary code after it then waits for
 * them with every SSE instruction: 300 ns more per frame of 16 fragments, measured. */
#if defined(__x86_64__)
__attribute__((target("avx"))) static void clear_registers(void)
{
    __builtin_ia32_vzeroupper();
}
#else
static void clear_registers(void)
{
}
#endif

void rift_fec_combine(const struct rift_fec_tables *t, size_t len, unsigned n_in, unsigned n_out,
                      const uint8_t *expanded, uint8_t **in, uint8_t **out)
{
    ec_encode_data((int)len, (int)n_in, (int)n_out, (unsigned char *)expanded, in, out);
    if (t->avx)
        clear_registers();
}

void rift_fec_add(const struct rift_fec_tables *t, uint8_t factor, const uint8_t *from, uint8_t *to,
                  size_t len)
{
    if (!factor)
        return;
    ec_encode_data_update((int)len, 1, 1, 0, (unsigned char *)t->multiply[factor], (unsigned char *)from,
                          &to);
    if (t->avx)
        clear_registers();
}

static uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void rift_fec_coefficients(const struct rift_fec_tables *t, uint32_t frame_id, unsigned index, unsigned delta,
                           unsigned n, uint8_t *ret_coefficients)
{
    if (delta == 0) {
        for (unsigned p = 0; p < n; p++)
            ret_coefficients[p] = t->inverse[(RIFT_FEC_GROUP + index) ^ p];
        return;
    }
    uint64_t seed = frame_id | (uint64_t)index << 32 | (uint64_t)delta << 40;
    const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    for (unsigned p = 0; p < n; p += 8) {
        uint64_t z = mix(seed + ((uint64_t)(p / 8) << 48));
        z |= ~(((z & low) + low) | z | low) >> 7; /* 1 for each byte that is 0 */
        uint64_t bytes = htole64(z);
        memcpy(ret_coefficients + p, &bytes, n - p < 8 ? n - p : 8);
    }
}

void rift_fec_expand(const struct rift_fec_tables *t, const uint8_t *coefficients, unsigned n, uint8_t *out)
{
    /* Constant sizes, so that a copy is two instructions. */
    if (t->stride == RIFT_FEC_TABLE_BYTES)
        for (unsigned i = 0; i < n; i++)
            memcpy(out + (size_t)i * RIFT_FEC_TABLE_BYTES, t->multiply[coefficients[i]],
                   RIFT_FEC_TABLE_BYTES);
    else
        for (unsigned i = 0; i < n; i++)
            memcpy(out + (size_t)i * 8, t->multiply[coefficients[i]], 8);
}
