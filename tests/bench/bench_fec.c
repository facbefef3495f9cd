/* What protection costs: the library's encoder and decoder against bare ISA-L doing the same sums, in one run
 * and in turns. Prints a table for people and a line of JSON per case; medians of ROUNDS turns. */
#include "lib/base/util.h"
#include "rift/core/fec.h"

#include <isa-l/erasure_code.h>
#include <stdio.h>
#include <string.h>

#define SYMBOL 1142 /* a fragment that leaves room for a repair's head in 1200 bytes */
#define ROUNDS 401
#define FRAMES 4

static uint8_t *bytes[FRAMES];
static uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
static uint8_t tables[128 * 128 * 32], matrix[128 * 128], out[128][SYMBOL];
static double samples[2][ROUNDS];
static size_t short_by; /* bytes that the last fragment lacks */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, compare);
    return v[ROUNDS / 2];
}

static void report(const char *what, unsigned k, unsigned n, size_t data_bytes, double limit)
{
    double bare = median(samples[0]), ours = median(samples[1]);
    printf("%-34s k=%-3u %-3u  bare %8.0f ns  ours %8.0f ns  ratio %.2f%s  %6.0f MB/s of video\n", what, k, n,
           bare, ours, ours / bare,
           limit == 0             ? ""
           : ours / bare <= limit ? " (ok)"
                                  : " (OVER)",
           (double)data_bytes * 1e3 / ours);
    printf("{\"bench\":\"fec\",\"case\":\"%s\",\"fragments\":%u,\"n\":%u,\"bare_ns\":%.0f,\"ours_ns\":%.0f,"
           "\"ratio\":%.3f,\"limit\":%.2f}\n",
           what, k, n, bare, ours, ours / bare, limit);
}

static struct rift_fec_frame frame(uint32_t id, unsigned k)
{
    return (struct rift_fec_frame){
        .frame_id = id, .size = SYMBOL, .len = (size_t)k * SYMBOL - short_by, .data = bytes[id % FRAMES]};
}

/* Lets one call end before the next begins: a sender has other things to do in between, so neither side may
 * hide its beginning in the end of the call before. */
static void finish(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence();
#endif
}

/* Calls per sample, so that one sample is about 20 us or more. */
static unsigned repeats_for(unsigned k, unsigned n)
{
    return 1 + 2048 / (k * n);
}

static void bare_encode(unsigned sources, unsigned n, unsigned repeats, double *ret_ns)
{
    uint8_t *in[RIFT_FEC_WINDOW_SOURCES], *to[128];
    for (unsigned i = 0; i < sources; i++)
        in[i] = bytes[i / RIFT_FEC_GROUP] + (size_t)(i % RIFT_FEC_GROUP) * SYMBOL;
    for (unsigned i = 0; i < n; i++)
        to[i] = out[i];
    uint64_t began = wv_now_ns();
    for (unsigned i = 0; i < repeats; i++) {
        ec_encode_data(SYMBOL, (int)sources, (int)n, tables, in, to);
        finish();
    }
    *ret_ns = (double)(wv_now_ns() - began) / repeats;
}

/* COVER is 1 or 0xf; VARY: every frame is of another size than the last, so that nothing can be kept. */
static void encode(struct rift_fec_encoder *e, unsigned k, unsigned n, uint8_t cover, bool vary)
{
    unsigned repeats = repeats_for(k, n), sources = cover == 1 ? k : 4 * k;
    uint8_t covers[RIFT_FEC_INDICES];
    memset(covers, cover, sizeof covers);
    for (unsigned i = 0; i < sources * n; i++)
        matrix[i] = (uint8_t)(1 + i % 255);
    ec_init_tables((int)sources, (int)n, matrix, tables);
    struct rift_fec_frame f[FRAMES], g = frame(3, k > 1 ? k - 1 : 1);
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW], *other[RIFT_FEC_WINDOW] = {&g};
    for (unsigned d = 0; d < FRAMES; d++) {
        f[d] = frame(3 - d, k);
        window[d] = &f[d];
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        bare_encode(sources, n, repeats, &samples[0][round]);
        uint64_t began = wv_now_ns();
        for (unsigned i = 0; i < repeats; i++) {
            rift_fec_encoder_clear(e);
            if (rift_fec_encode(e, vary && i % 2 ? other : window, 0, 0, n, covers) != 0)
                abort();
            finish();
        }
        samples[1][round] = (double)(wv_now_ns() - began) / repeats;
    }
    const char *what = vary ? "encode, changing sizes" : short_by ? "encode, short last fragment" : "encode";
    report(cover == 1 ? what : "encode over 4 frames", k, n, (size_t)k * SYMBOL, 1.2);
}

/* What a program with nothing but ISA-L does for E losses among K: inverts E x E, expands, sums. */
static void bare_decode(unsigned k, unsigned e, unsigned repeats, double *ret_ns)
{
    static uint8_t square[128 * 128], inverse[128 * 128];
    uint8_t *in[256], *to[128];
    for (unsigned i = 0; i < k; i++)
        in[i] = bytes[0] + (size_t)i * SYMBOL;
    for (unsigned i = 0; i < e; i++)
        to[i] = out[i];
    uint64_t began = wv_now_ns();
    for (unsigned turn = 0; turn < repeats; turn++) {
        for (unsigned i = 0; i < e; i++)
            for (unsigned j = 0; j < e; j++)
                square[i * e + j] = gf_inv((uint8_t)((128 + i) ^ (j * (k / e))));
        if (gf_invert_matrix(square, inverse, (int)e) != 0)
            abort();
        for (unsigned i = 0; i < e; i++) {
            for (unsigned p = 0; p + e < k; p++) {
                uint8_t sum = 0;
                for (unsigned j = 0; j < e; j++)
                    sum ^= gf_mul(inverse[i * e + j], gf_inv((uint8_t)((128 + j) ^ p)));
                matrix[i * k + p] = sum;
            }
            for (unsigned j = 0; j < e; j++)
                matrix[i * k + k - e + j] = inverse[i * e + j];
        }
        ec_init_tables((int)k, (int)e, matrix, tables);
        ec_encode_data(SYMBOL, (int)k, (int)e, tables, in, to);
        finish();
    }
    *ret_ns = (double)(wv_now_ns() - began) / repeats;
}

static void give_sources(struct rift_fec_decoder *d, const struct rift_fec_frame *f, unsigned k, unsigned e)
{
    for (unsigned i = 0; i < k; i++) {
        struct rift_fec_fragment g = {.frame_id = f->frame_id,
                                      .count = (uint16_t)k,
                                      .size = SYMBOL,
                                      .index = (uint16_t)i,
                                      .data = f->data + (size_t)i * SYMBOL,
                                      .len = i + 1 == k ? SYMBOL - short_by : SYMBOL};
        bool lost = i % (k / e) == 0 && i / (k / e) < e;
        if (!lost && rift_fec_decoder_source(d, &g) != 0)
            abort();
    }
}

/* One frame: E fragments lost, E repairs. Only what the repairs cause is timed: taking them in, solving, and
 * handing out. */
static double decode_one(struct rift_fec_encoder *enc, struct rift_fec_decoder *d, uint32_t id, unsigned k,
                         unsigned e)
{
    static uint8_t repairs[128][sizeof body];
    struct rift_fec_frame f = frame(id, k);
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW] = {&f};
    uint8_t covers[RIFT_FEC_INDICES];
    size_t len = 0;
    memset(covers, 1, sizeof covers);
    rift_fec_encoder_clear(enc);
    if (rift_fec_encode(enc, window, 0, 0, e, covers) != 0)
        abort();
    for (unsigned i = 0; i < e; i++) {
        struct wv_writer w;
        wv_writer_init(&w, repairs[i], sizeof repairs[i]);
        rift_fec_encoder_write(enc, &w);
        len = w.length;
    }
    give_sources(d, &f, k, e);
    unsigned recovered = 0;
    struct rift_fec_fragment g;
    uint64_t began = wv_now_ns();
    for (unsigned i = 0; i < e; i++) {
        struct wv_reader r;
        wv_reader_init(&r, repairs[i], len);
        rift_fec_decoder_repair(d, &r);
        while (rift_fec_decoder_next(d, &g) == 0)
            recovered++;
    }
    finish();
    uint64_t took = wv_now_ns() - began;
    if (recovered != e)
        abort();
    return (double)took;
}

static void decode(struct rift_fec_encoder *enc, struct rift_fec_decoder *d, unsigned k, unsigned e)
{
    static uint32_t id;
    unsigned repeats = repeats_for(k, e);
    for (unsigned round = 0; round < ROUNDS; round++) {
        bare_decode(k, e, repeats, &samples[0][round]);
        double sum = 0;
        for (unsigned i = 0; i < repeats; i++)
            sum += decode_one(enc, d, id++, k, e);
        samples[1][round] = sum / repeats;
    }
    report("decode", k, e, (size_t)k * SYMBOL, 1.5);
}

int main(void)
{
    static const unsigned shapes[][2] = {{16, 2}, {16, 4}, {64, 8}, {128, 16}, {128, 32}};
    struct rift_fec_encoder *e;
    struct rift_fec_decoder *d;
    for (unsigned i = 0; i < FRAMES; i++) {
        bytes[i] = malloc(RIFT_FEC_GROUP * SYMBOL);
        if (!bytes[i])
            return 71;
        for (size_t k = 0; k < RIFT_FEC_GROUP * SYMBOL; k++)
            bytes[i][k] = (uint8_t)(k * 2654435761u >> 13);
    }
    if (rift_fec_encoder_new(&e, SYMBOL) < 0 || rift_fec_decoder_new(&d, SYMBOL) < 0)
        return 71;
    for (size_t i = 0; i < WV_ARRAY_SIZE(shapes); i++)
        encode(e, shapes[i][0], shapes[i][1], 1, false);
    for (size_t i = 0; i < WV_ARRAY_SIZE(shapes); i++)
        encode(e, shapes[i][0], shapes[i][1], 1, true);
    short_by = 100;
    encode(e, 16, 2, 1, false);
    encode(e, 64, 8, 1, false);
    short_by = 0;
    encode(e, 16, 2, 0xf, false);
    encode(e, 16, 4, 0xf, false);
    decode(e, d, 16, 1);
    for (size_t i = 0; i < WV_ARRAY_SIZE(shapes); i++)
        decode(e, d, shapes[i][0], shapes[i][1]);
    rift_fec_encoder_free(e);
    rift_fec_decoder_free(d);
    return 0;
}
