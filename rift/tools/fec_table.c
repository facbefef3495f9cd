/* What forward error correction is worth: sends frames of 16 fragments through simulated losses with the real
 * encoder and decoder, and prints the share of frames that were not whole when their last repair had come,
 * and when 3 more frames had. Beside it: what others reach, and what no code can beat. Same seeds, same
 * losses for every code of the same overhead. rift-fec-table [--frames N] [--seed S] [--check]
 * --check: ends 1 when what the plan would send is worse than the reference by more than chance. */
#include "lib/base/util.h"
#include "rift/core/fec.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define K          16
#define SYMBOL     16
#define LATER      3
#define KEPT       8
#define MAX_FRAMES 10000000

enum { CASES = 6, OVERHEADS = 2 };

static const struct {
    const char *name;
    struct rift_fec_path path;
} cases[CASES] = {
    {"random 1 %", {.loss_ppm = 10000}},
    {"random 2 %", {.loss_ppm = 20000}},
    {"random 5 %", {.loss_ppm = 50000}},
    {"random 10 %", {.loss_ppm = 100000}},
    {"bursts 4, 2 %", {.loss_ppm = 20000, .burst_milli = 4000}},
    {"bursts 4, 5 %", {.loss_ppm = 50000, .burst_milli = 4000}},
};

/* Lost frames in per cent: within the frame, within LATER frames. */
struct outcome {
    double at_once, later;
};

/* The issue that this answers: sliding random linear code over 4 frames. */
static const struct outcome reference[OVERHEADS][CASES] = {
    {{.10, 0}, {.58, 0}, {8.1, .56}, {56, 37}, {5.9, 2.0}, {16, 6.8}},
    {{0, 0}, {0, 0}, {.32, 0}, {5.1, .12}, {3.7, .37}, {9.5, 1.4}},
};
static const double reference_rs[CASES] = {.09, .54, 5.8, 26, 5.5, 13};

enum code { NONE, XOR, LOCAL, SLIDING, WIDE, PLANNED, BOUND, CODES };

static const char *const names[CODES] = {
    [NONE] = "none",
    [XOR] = "XOR, interleaved",
    [LOCAL] = "local: Reed-Solomon per frame",
    [SLIDING] = "all repairs over 4 frames",
    [WIDE] = "wide: over frames 0-1-2-3 / 0-2-3 in turns",
    [PLANNED] = "as planned (local or wide)",
    [BOUND] = "no code can be below",
};

struct run {
    unsigned n_repairs;
    uint32_t frames;
    uint64_t seed;
    uint8_t *lost; /* frames * (K + n_repairs) */
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static bool chance(uint64_t *seed, double p)
{
    return (double)(next_random(seed) >> 11) / 9007199254740992.0 < p;
}

/* A two-state channel: runs of losses with the path's mean length. */
static void draw_losses(struct run *r, const struct rift_fec_path *path)
{
    uint64_t seed = r->seed;
    for (unsigned i = 0; i < 16; i++)
        next_random(&seed);
    double loss = path->loss_ppm / 1e6, stop = path->burst_milli ? 1e3 / path->burst_milli : 1 - loss;
    double start = loss * stop / (1 - loss);
    bool bad = false;
    for (size_t i = 0; i < (size_t)r->frames * (K + r->n_repairs); i++) {
        bad = bad ? !chance(&seed, stop) : chance(&seed, start);
        r->lost[i] = bad;
    }
}

static unsigned count_lost(const struct run *r, uint32_t frame, unsigned from, unsigned to)
{
    const uint8_t *lost = r->lost + (size_t)frame * (K + r->n_repairs);
    unsigned n = 0;
    for (unsigned i = from; i < to; i++)
        n += lost[i];
    return n;
}

static struct outcome percent(const struct run *r, uint32_t at_once, uint32_t later)
{
    return (struct outcome){100.0 * at_once / r->frames, 100.0 * later / (r->frames - LATER)};
}

static struct outcome run_none(const struct run *r)
{
    uint32_t n = 0;
    for (uint32_t f = 0; f < r->frames; f++)
        n += count_lost(r, f, 0, K) > 0;
    return percent(r, n, n);
}

/* Repair i is the sum of every n_repairs-th fragment from i on. */
static struct outcome run_xor(const struct run *r)
{
    uint32_t n = 0;
    for (uint32_t f = 0; f < r->frames; f++) {
        const uint8_t *lost = r->lost + (size_t)f * (K + r->n_repairs);
        bool broken = false;
        for (unsigned g = 0; g < r->n_repairs; g++) {
            unsigned sources = 0;
            for (unsigned i = g; i < K; i += r->n_repairs)
                sources += lost[i];
            broken |= sources + lost[K + g] > 1 && sources > 0;
        }
        n += broken;
    }
    return percent(r, n, n);
}

/* Within the frame: only its own repairs say anything about it, and each at most one fragment's worth. Later:
 * even with all earlier frames known, the first fragments and repairs received from it on must balance
 * somewhere (repairs that cover their own frame, too). */
static struct outcome run_bound(const struct run *r)
{
    uint32_t at_once = 0, later = 0;
    for (uint32_t f = 0; f < r->frames; f++) {
        unsigned sources = 0, repairs = 0;
        bool balanced = false;
        for (uint32_t d = 0; d <= LATER && f + d < r->frames; d++) {
            sources += count_lost(r, f + d, 0, K);
            repairs += r->n_repairs - count_lost(r, f + d, K, K + r->n_repairs);
            balanced |= sources <= repairs;
            at_once += d == 0 && !balanced;
        }
        balanced |= count_lost(r, f, 0, K) == 0;
        later += !balanced && f + LATER < r->frames;
    }
    return percent(r, at_once, later);
}

/* ---- The real thing ---- */

struct stream {
    struct rift_fec_encoder *encoder;
    struct rift_fec_decoder *decoder;
    struct rift_fec_frame frames[KEPT];
    uint8_t bytes[KEPT][K * SYMBOL];
    bool have[KEPT][K];
};

static bool whole(const struct stream *s, uint32_t frame)
{
    return !memchr(s->have[frame % KEPT], 0, K);
}

static void take_recovered(struct stream *s)
{
    struct rift_fec_fragment g;
    while (rift_fec_decoder_next(s->decoder, &g) == 0) {
        unsigned i = g.frame_id % KEPT;
        if (s->frames[i].frame_id != g.frame_id)
            continue; /* longer ago than anybody waits */
        if (g.len != SYMBOL || memcmp(g.data, s->bytes[i] + (size_t)g.index * SYMBOL, SYMBOL) != 0) {
            fprintf(stderr, "rift-fec-table: a fragment came back wrong\n");
            exit(EX_SOFTWARE);
        }
        s->have[i][g.index] = true;
    }
}

static void send_sources(struct stream *s, const uint8_t *lost, uint32_t frame, uint64_t *seed)
{
    unsigned n = frame % KEPT;
    for (unsigned i = 0; i < K * SYMBOL; i++)
        s->bytes[n][i] = (uint8_t)(next_random(seed) >> 32);
    s->frames[n] = (struct rift_fec_frame){
        .frame_id = frame, .size = SYMBOL, .len = K * SYMBOL, .padded = true, .data = s->bytes[n]};
    for (unsigned i = 0; i < K; i++) {
        s->have[n][i] = !lost[i];
        struct rift_fec_fragment g = {.frame_id = frame,
                                      .count = K,
                                      .size = SYMBOL,
                                      .index = (uint16_t)i,
                                      .data = s->bytes[n] + (size_t)i * SYMBOL,
                                      .len = SYMBOL};
        if (lost[i])
            continue;
        rift_fec_decoder_source(s->decoder, &g);
        take_recovered(s);
    }
}

static void send_repairs(struct stream *s, const uint8_t *lost, uint32_t frame, unsigned n, enum code code)
{
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW] = {0};
    uint8_t covers[RIFT_FEC_INDICES];
    for (uint32_t d = 0; d < RIFT_FEC_WINDOW && d <= frame; d++)
        window[d] = &s->frames[(frame - d) % KEPT];
    for (unsigned i = 0; i < n; i++) {
        covers[i] =
            code == SLIDING ? 0xf : rift_fec_cover(code == LOCAL ? RIFT_FEC_LOCAL : RIFT_FEC_WIDE, frame, i);
        covers[i] &= frame < RIFT_FEC_WINDOW ? (uint8_t)((2u << frame) - 1) : 0xf;
    }
    rift_fec_encoder_clear(s->encoder);
    if (rift_fec_encode(s->encoder, window, 0, 0, n, covers) < 0)
        exit(EX_SOFTWARE);
    for (unsigned i = 0; i < n; i++) {
        uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
        struct wv_writer w;
        wv_writer_init(&w, body, sizeof body);
        rift_fec_encoder_write(s->encoder, &w);
        struct wv_reader r;
        wv_reader_init(&r, body, w.length);
        if (lost[i])
            continue;
        rift_fec_decoder_repair(s->decoder, &r);
        take_recovered(s);
    }
}

static struct outcome run_code(const struct run *r, enum code code)
{
    static struct stream s;
    memset(&s, 0, sizeof s);
    if (rift_fec_encoder_new(&s.encoder, SYMBOL) < 0 || rift_fec_decoder_new(&s.decoder, SYMBOL) < 0)
        exit(EX_OSERR);
    uint32_t at_once = 0, later = 0;
    uint64_t seed = r->seed;
    for (uint32_t f = 0; f < r->frames; f++) {
        const uint8_t *lost = r->lost + (size_t)f * (K + r->n_repairs);
        send_sources(&s, lost, f, &seed);
        send_repairs(&s, lost + K, f, r->n_repairs, code);
        at_once += !whole(&s, f);
        later += f >= LATER && !whole(&s, f - LATER);
    }
    rift_fec_encoder_free(s.encoder);
    rift_fec_decoder_free(s.decoder);
    return percent(r, at_once, later);
}

static enum code planned(unsigned n_repairs, const struct rift_fec_path *path)
{
    return rift_fec_spread_for(rift_fec_residual_ppm(path, K, n_repairs)) == RIFT_FEC_LOCAL ? LOCAL : WIDE;
}

static void run_case(struct run *r, const struct rift_fec_path *path, struct outcome ret[CODES])
{
    draw_losses(r, path);
    ret[NONE] = run_none(r);
    ret[XOR] = run_xor(r);
    for (enum code c = LOCAL; c <= WIDE; c++)
        ret[c] = run_code(r, c);
    ret[PLANNED] = ret[planned(r->n_repairs, path)];
    ret[BOUND] = run_bound(r);
}

/* ---- Printing ---- */

static void print_cell(struct outcome o)
{
    char text[32];
    if (o.at_once == o.later)
        snprintf(text, sizeof text, "%.2f", o.at_once);
    else
        snprintf(text, sizeof text, "%.2f > %.2f", o.at_once, o.later);
    printf(" | %13s", text);
}

static void print_row(const char *name, const struct outcome *row)
{
    printf("%-44s", name);
    for (unsigned c = 0; c < CASES; c++)
        print_cell(row[c]);
    printf("\n");
}

/* Whether a share in per cent measured in N frames is worse than REFERENCE, which was measured too, by more
 * than 4 standard deviations and what rounding hides. */
static bool worse(double measured, double ref, uint32_t n)
{
    double p = WV_MAX(ref, 0.02) / 100, excess = measured - ref - WV_MAX(ref * 0.05, 0.03);
    return excess > 0 && excess * excess > 16 * 2 * p * (1 - p) / n * 1e4;
}

static bool print_table(const struct run *r, unsigned o, struct outcome all[CODES][CASES])
{
    printf("\n%.1f %% overhead (16 + %u): frames lost in %%, within the frame > within 3 frames; %u frames, "
           "seed %llu\n%-44s",
           100.0 * r->n_repairs / K, r->n_repairs, r->frames, (unsigned long long)r->seed, "");
    for (unsigned c = 0; c < CASES; c++)
        printf(" | %13s", cases[c].name);
    printf("\n");
    for (unsigned i = 0; i < CODES; i++)
        print_row(names[i], all[i]);
    if (o == 0) {
        struct outcome rs[CASES];
        for (unsigned c = 0; c < CASES; c++)
            rs[c] = (struct outcome){reference_rs[c], reference_rs[c]};
        print_row("reference: Reed-Solomon 16+2", rs);
    }
    print_row("reference: sliding code over 4 frames", reference[o]);
    bool good = true;
    printf("%-44s", "as planned against the reference");
    for (unsigned c = 0; c < CASES; c++) {
        bool bad = worse(all[PLANNED][c].at_once, reference[o][c].at_once, r->frames) ||
                   worse(all[PLANNED][c].later, reference[o][c].later, r->frames);
        good &= !bad;
        printf(" | %13s", bad ? "WORSE" : "ok");
    }
    printf("\n");
    return good;
}

static void print_json(const struct run *r, struct outcome all[CODES][CASES])
{
    for (unsigned c = 0; c < CASES; c++)
        printf(
            "{\"bench\":\"fec-table\",\"repairs\":%u,\"frames\":%u,\"seed\":%llu,\"case\":\"%s\","
            "\"local\":[%.3f,%.3f],\"sliding\":[%.3f,%.3f],\"wide\":[%.3f,%.3f],\"planned\":[%.3f,%.3f]}\n",
            r->n_repairs, r->frames, (unsigned long long)r->seed, cases[c].name, all[LOCAL][c].at_once,
            all[LOCAL][c].later, all[SLIDING][c].at_once, all[SLIDING][c].later, all[WIDE][c].at_once,
            all[WIDE][c].later, all[PLANNED][c].at_once, all[PLANNED][c].later);
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-' || v < min || v > max)
        return false;
    *ret_value = v;
    return true;
}

static int usage(void)
{
    fprintf(stderr, "usage: rift-fec-table [--frames N (100 to %u)] [--seed S (1 or more)] [--check]\n",
            MAX_FRAMES);
    return EX_USAGE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"frames", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},
        {"check", no_argument, NULL, 'c'},
        {0},
    };
    uint64_t frames = 20000, seed = 1;
    bool check = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'c')
            check = true;
        else if (c == 'f' ? !number(optarg, 100, MAX_FRAMES, &frames)
                          : c != 's' || !number(optarg, 1, UINT64_MAX, &seed))
            return usage();
    }
    if (optind != argc)
        return usage();
    bool good = true;
    for (unsigned o = 0; o < OVERHEADS; o++) {
        struct run r = {.n_repairs = 2u << o, .frames = (uint32_t)frames, .seed = seed};
        static struct outcome all[CODES][CASES];
        r.lost = malloc(frames * (K + r.n_repairs));
        if (!r.lost) {
            fprintf(stderr, "rift-fec-table: no memory for %llu frames; take fewer\n",
                    (unsigned long long)frames);
            return EX_OSERR;
        }
        for (unsigned c = 0; c < CASES; c++) {
            struct outcome one[CODES];
            run_case(&r, &cases[c].path, one);
            for (unsigned i = 0; i < CODES; i++)
                all[i][c] = one[i];
        }
        good &= print_table(&r, o, all);
        print_json(&r, all);
        free(r.lost);
    }
    return check && !good ? 1 : 0;
}
