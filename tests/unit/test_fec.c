/* Forward error correction: what must be mended is mended to the byte, what can't be is not invented, and no
 * repair whatever leads outside. A second, naive decoder says what can be known. */
#include "lib/base/util.h"
#include "rift/core/fec.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#define SYMBOL 64
#define FRAMES 8

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

/* ---- Allocations are counted, not believed ---- */

static unsigned allocations;
static bool counting; /* while the library works, not the test */
#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_memalign(size_t a, size_t n);

void *malloc(size_t n)
{
    allocations += counting;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    allocations += counting;
    return __libc_calloc(n, m);
}

void *aligned_alloc(size_t a, size_t n)
{
    allocations += counting;
    return __libc_memalign(a, n);
}
#endif

/* ---- A stream of frames and what came of it ---- */

#define MAX_FRAGMENTS RIFT_FEC_FRAME_FRAGMENTS

struct stream {
    struct rift_fec_encoder *encoder;
    struct rift_fec_decoder *decoder;
    struct rift_fec_frame frames[FRAMES]; /* by id modulo FRAMES */
    uint8_t *data[FRAMES];
    bool have[FRAMES][MAX_FRAGMENTS]; /* delivered or recovered */
    unsigned recovered;
    size_t symbol;
};

static void stream_new(struct stream *s, size_t symbol)
{
    memset(s, 0, sizeof *s);
    s->symbol = symbol;
    ck_assert_int_eq(rift_fec_encoder_new(&s->encoder, symbol), 0);
    ck_assert_int_eq(rift_fec_decoder_new(&s->decoder, symbol), 0);
    for (unsigned i = 0; i < FRAMES; i++)
        s->data[i] = malloc(MAX_FRAGMENTS * symbol);
}

static void stream_free(struct stream *s)
{
    ck_assert_ptr_null(rift_fec_encoder_free(s->encoder));
    ck_assert_ptr_null(rift_fec_decoder_free(s->decoder));
    for (unsigned i = 0; i < FRAMES; i++)
        free(s->data[i]);
}

static unsigned count_of(const struct rift_fec_frame *f)
{
    return (unsigned)((f->len + f->size - 1) / f->size);
}

static struct rift_fec_frame *stream_frame(struct stream *s, uint32_t id, size_t len)
{
    unsigned i = id % FRAMES;
    for (size_t k = 0; k < len; k++)
        s->data[i][k] = (uint8_t)rnd(256);
    memset(s->have[i], 0, sizeof s->have[i]);
    s->frames[i] = (struct rift_fec_frame){
        .frame_id = id, .epoch = 7, .size = (uint16_t)s->symbol, .len = len, .data = s->data[i]};
    return &s->frames[i];
}

static struct rift_fec_fragment fragment_of(const struct rift_fec_frame *f, unsigned index)
{
    size_t at = (size_t)index * f->size;
    return (struct rift_fec_fragment){.frame_id = f->frame_id,
                                      .epoch = f->epoch,
                                      .keyframe = f->keyframe,
                                      .count = (uint16_t)count_of(f),
                                      .size = f->size,
                                      .index = (uint16_t)index,
                                      .data = f->data + at,
                                      .len = WV_MIN((size_t)f->size, f->len - at)};
}

/* Takes what was recovered and compares it with what was sent. */
static void drain(struct stream *s)
{
    struct rift_fec_fragment g;
    while (rift_fec_decoder_next(s->decoder, &g) == 0) {
        const struct rift_fec_frame *f = &s->frames[g.frame_id % FRAMES];
        ck_assert_uint_eq(f->frame_id, g.frame_id);
        ck_assert_uint_lt(g.index, count_of(f));
        ck_assert(!s->have[g.frame_id % FRAMES][g.index]);
        struct rift_fec_fragment want = fragment_of(f, g.index);
        ck_assert_uint_eq(g.len, want.len);
        ck_assert_uint_eq(g.count, want.count);
        ck_assert_uint_eq(g.size, want.size);
        ck_assert_uint_eq(g.epoch, want.epoch);
        ck_assert_int_eq(g.keyframe, want.keyframe);
        ck_assert_mem_eq(g.data, want.data, want.len);
        s->have[g.frame_id % FRAMES][g.index] = true;
        s->recovered++;
    }
}

static int deliver(struct stream *s, const struct rift_fec_frame *f, unsigned index)
{
    struct rift_fec_fragment g = fragment_of(f, index);
    counting = true;
    int r = rift_fec_decoder_source(s->decoder, &g);
    counting = false;
    ck_assert_int_ge(r, 0);
    s->have[f->frame_id % FRAMES][index] = true;
    drain(s);
    return r;
}

static int deliver_body(struct stream *s, const uint8_t *body, size_t len)
{
    struct wv_reader r;
    wv_reader_init(&r, body, len);
    counting = true;
    int result = rift_fec_decoder_repair(s->decoder, &r);
    counting = false;
    drain(s);
    return result;
}

static size_t write_repair(struct stream *s, uint8_t *body)
{
    struct wv_writer w;
    wv_writer_init(&w, body, RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + s->symbol);
    size_t want = rift_fec_encoder_next_bytes(s->encoder);
    ck_assert_int_eq(rift_fec_encoder_write(s->encoder, &w), 0);
    ck_assert_uint_eq(w.length, want);
    return w.length;
}

/* Passes all repairs on but those whose bit is set in LOST, in their order. */
static void deliver_repairs(struct stream *s, uint64_t lost)
{
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + RIFT_FEC_SYMBOL_MAX];
    for (unsigned i = 0; rift_fec_encoder_pending(s->encoder); i++) {
        size_t len = write_repair(s, body);
        if (i >= 64 || !(lost >> i & 1))
            ck_assert_int_ge(deliver_body(s, body, len), 0);
    }
}

static unsigned missing(const struct stream *s, const struct rift_fec_frame *f)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count_of(f); i++)
        n += !s->have[f->frame_id % FRAMES][i];
    return n;
}

/* N repairs of frame ID with COVER each; the frames it does not know are left out. */
static void encode(struct stream *s, uint32_t id, unsigned n, uint8_t cover)
{
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW];
    uint8_t covers[RIFT_FEC_INDICES];
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++) {
        window[d] = &s->frames[(id - d) % FRAMES];
        if (!window[d]->data || window[d]->frame_id != id - d)
            cover &= (uint8_t) ~(1u << d);
    }
    memset(covers, cover, sizeof covers);
    rift_fec_encoder_clear(s->encoder);
    ck_assert_int_eq(rift_fec_encode(s->encoder, window, 0, 0, n, covers), 0);
}

/* ---- One frame ---- */

START_TEST(every_pattern_of_losses)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    uint32_t id = 100;
    for (unsigned k = 1; k <= 7; k++) {
        for (unsigned r = 1; r <= 4; r++) {
            for (uint32_t lost = 0; lost < 1u << (k + r); lost++) {
                const struct rift_fec_frame *f = stream_frame(&s, id++, (k - 1) * SYMBOL + 1 + rnd(SYMBOL));
                encode(&s, f->frame_id, r, 1);
                for (unsigned i = 0; i < k; i++)
                    if (!(lost >> i & 1))
                        deliver(&s, f, i);
                deliver_repairs(&s, lost >> k);
                unsigned sources = (unsigned)__builtin_popcount(lost & ((1u << k) - 1));
                unsigned repairs = r - (unsigned)__builtin_popcount(lost >> k);
                ck_assert_uint_eq(missing(&s, f), sources <= repairs ? 0 : sources);
            }
        }
    }
    stream_free(&s);
}
END_TEST

START_TEST(large_frames_and_any_losses)
{
    struct stream s;
    stream_new(&s, 200);
    for (unsigned i = 0; i < 200; i++) {
        unsigned k = 1 + rnd(RIFT_FEC_GROUP), r = 1 + rnd(64);
        const struct rift_fec_frame *f = stream_frame(&s, i, (k - 1) * 200 + 1 + rnd(200));
        encode(&s, i, r, 1);
        unsigned gone = 0;
        for (unsigned p = 0; p < k; p++) {
            if (gone < r && rnd(k) < r)
                gone++;
            else
                deliver(&s, f, p);
        }
        deliver_repairs(&s, 0);
        ck_assert_uint_eq(missing(&s, f), 0);
    }
    stream_free(&s);
}
END_TEST

/* The sum that fec.h describes, by schoolbook arithmetic. */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned x = a, sum = 0;
    for (; b; b >>= 1, x = x << 1 ^ (x & 0x80 ? 0x11d : 0))
        sum ^= b & 1 ? x : 0;
    return (uint8_t)sum;
}

static uint8_t coefficient(uint32_t id, unsigned index, unsigned delta, unsigned p)
{
    if (delta == 0) {
        unsigned inverse = 1;
        while (multiply((uint8_t)inverse, (uint8_t)((128 + index) ^ p)) != 1)
            inverse++;
        return (uint8_t)inverse;
    }
    uint64_t z = id + ((uint64_t)index << 32) + ((uint64_t)delta << 40) + ((uint64_t)(p / 8) << 48);
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z = z ^ (z >> 31);
    uint8_t c = (uint8_t)(z >> 8 * (p % 8));
    return c ? c : 1;
}

static void check_symbol(const struct stream *s, const uint8_t *body, size_t len)
{
    struct wv_reader r;
    wv_reader_init(&r, body, len);
    uint32_t id = wv_read_u32(&r);
    ck_assert_uint_eq(wv_read_u16(&r), 7);
    unsigned size = wv_read_u16(&r), cover = wv_read_u8(&r), group = wv_read_u8(&r), index = wv_read_u8(&r);
    uint8_t sum[RIFT_FEC_SYMBOL_MAX] = {0};
    size_t longest = 0;
    for (unsigned d = 0; d < RIFT_FEC_WINDOW; d++) {
        if (!(cover >> d & 1))
            continue;
        const struct rift_fec_frame *f = &s->frames[(id - d) % FRAMES];
        size_t shape = wv_read_u16(&r);
        shape |= (size_t)wv_read_u8(&r) << 16;
        ck_assert_uint_eq(shape & 0x7fffff, f->len);
        ck_assert_uint_eq(shape >> 23, f->keyframe);
        longest = WV_MAX(longest, f->len);
        unsigned groups = (count_of(f) + 127) / 128;
        for (unsigned i = group, p = 0; i < count_of(f); i += groups, p++) {
            struct rift_fec_fragment g = fragment_of(f, i);
            uint8_t c = coefficient(id, index, d, p);
            for (size_t b = 0; b < g.len; b++)
                sum[b] ^= multiply(c, g.data[b]);
        }
    }
    ck_assert_uint_eq(r.left, WV_MIN(longest, (size_t)size));
    ck_assert_mem_eq(wv_read_span(&r, r.left), sum, WV_MIN(longest, (size_t)size));
}

START_TEST(symbols_are_what_the_specification_says)
{
    struct stream s;
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + 100];
    for (unsigned round = 0; round < 60; round++) {
        size_t symbol = 1 + rnd(100);
        stream_new(&s, symbol);
        uint32_t first = UINT32_MAX - 2;
        for (uint32_t i = 0; i < 4; i++) {
            stream_frame(&s, first + i, 1 + rnd(round % 2 ? (uint32_t)symbol : (uint32_t)(40 * symbol)));
            s.frames[(first + i) % FRAMES].keyframe = i == 0;
        }
        encode(&s, first + 3, 5, round % 3 ? 0xf : 0xd);
        for (unsigned i = 0; i < 5; i++) {
            size_t len = write_repair(&s, body);
            check_symbol(&s, body, len);
        }
        struct rift_fec_frame *f = stream_frame(&s, 77, 129 * symbol + 1 + rnd(400 * (uint32_t)symbol));
        ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, f, 1, 30, RIFT_FEC_WIDE), 0);
        while (rift_fec_encoder_pending(s.encoder)) {
            size_t len = write_repair(&s, body);
            check_symbol(&s, body, len);
        }
        stream_free(&s);
    }
}
END_TEST

START_TEST(long_frames_survive_bursts)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    for (unsigned i = 0; i < 30; i++) {
        unsigned k = 129 + rnd(RIFT_FEC_FRAME_FRAGMENTS - 128);
        struct rift_fec_frame *f = stream_frame(&s, i, (k - 1) * SYMBOL + 1 + rnd(SYMBOL));
        ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, f, 1, 125, RIFT_FEC_WIDE), 0);
        unsigned groups = (k + 127) / 128, n = rift_fec_encoder_pending(s.encoder), each = n / groups;
        ck_assert_uint_eq(n, each * groups);
        ck_assert_uint_ge(n + 2 * groups, k / 8);
        /* Half of the repairs are lost in one burst, and as many fragments in another. */
        unsigned burst = each / 2 * groups, from = rnd(k - burst);
        for (unsigned p = 0; p < k; p++)
            if (p < from || p >= from + burst)
                deliver(&s, f, p);
        uint8_t body[RIFT_FEC_HEAD_BYTES(1) + SYMBOL];
        unsigned lost_from = rnd(n - burst + 1);
        for (unsigned p = 0; p < n; p++) {
            size_t len = write_repair(&s, body);
            if (p < lost_from || p >= lost_from + burst)
                deliver_body(&s, body, len);
        }
        ck_assert_uint_eq(missing(&s, f), 0);
    }
    stream_free(&s);
}
END_TEST

/* ---- Windows ---- */

START_TEST(later_frames_mend_earlier_ones)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    uint32_t id = UINT32_MAX - 50; /* over the wrap of the ids */
    for (unsigned round = 0; round < 40; round++) {
        /* A frame loses 5 of 16 and has 2 repairs, the next two lose nothing: 6 repairs. */
        const struct rift_fec_frame *broken = NULL;
        for (unsigned i = 0; i < 4; i++, id++) {
            const struct rift_fec_frame *f = stream_frame(&s, id, 15 * SYMBOL + 1 + rnd(SYMBOL));
            broken = i == 0 ? f : broken;
            for (unsigned p = 0; p < 16; p++)
                if (i > 0 || p % 3 != 1)
                    deliver(&s, f, p);
            encode(&s, id, 2, 0xf);
            deliver_repairs(&s, 0);
            /* 4 repairs can't mend 5, though by chance one of them. */
            ck_assert(i < 2 ? missing(&s, broken) >= 4 : missing(&s, broken) == 0);
        }
    }
    ck_assert_uint_eq(s.recovered, 40 * 5);
    stream_free(&s);
}
END_TEST

START_TEST(a_small_frame_comes_back_whole)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    for (uint32_t id = 0; id < 40; id++) {
        struct rift_fec_frame *f = stream_frame(&s, id, 1 + rnd(SYMBOL));
        f->keyframe = id % 10 == 0;
        if (id % 4 != 1)
            deliver(&s, f, 0);
        const struct rift_fec_frame frames[] = {*f, s.frames[(id - 1) % FRAMES], s.frames[(id - 2) % FRAMES],
                                                s.frames[(id - 3) % FRAMES]};
        unsigned known = WV_MIN(id + 1, 4u);
        int r = rift_fec_encoder_frame(s.encoder, frames, known, 250, RIFT_FEC_WIDE);
        ck_assert_int_eq(r, id % 4 == 3 ? 0 : RIFT_FEC_IGNORED);
        deliver_repairs(&s, 0);
    }
    /* One repair for 4 frames, which leaves out the frame before its own every other time; here it never
     * does. */
    ck_assert_uint_eq(s.recovered, 8);
    stream_free(&s);
}
END_TEST

/* What can be known, by brute force: rows over all unknown fragments of all frames, reduced from scratch. */
struct oracle {
    unsigned n_unknown, n_rows;
    uint16_t frame[600], index[600];
    uint8_t rows[64][600];
};

static uint8_t invert(uint8_t a)
{
    for (unsigned b = 1; b < 256; b++)
        if (multiply(a, (uint8_t)b) == 1)
            return (uint8_t)b;
    return 0;
}

static void oracle_reduce(struct oracle *o)
{
    unsigned rank = 0;
    for (unsigned c = 0; c < o->n_unknown && rank < o->n_rows; c++) {
        unsigned p = rank;
        while (p < o->n_rows && !o->rows[p][c])
            p++;
        if (p == o->n_rows)
            continue;
        uint8_t row[600], inverse = invert(o->rows[p][c]);
        memcpy(row, o->rows[p], sizeof row);
        memcpy(o->rows[p], o->rows[rank], sizeof row);
        for (unsigned k = 0; k < o->n_unknown; k++)
            o->rows[rank][k] = multiply(row[k], inverse);
        for (unsigned i = 0; i < o->n_rows; i++) {
            uint8_t factor = o->rows[i][c];
            for (unsigned k = 0; i != rank && factor && k < o->n_unknown; k++)
                o->rows[i][k] ^= multiply(factor, o->rows[rank][k]);
        }
        rank++;
    }
}

static bool oracle_knows(const struct oracle *o, unsigned unknown)
{
    for (unsigned i = 0; i < o->n_rows; i++) {
        bool alone = o->rows[i][unknown] != 0;
        for (unsigned k = 0; alone && k < o->n_unknown; k++)
            alone = k == unknown || o->rows[i][k] == 0;
        if (alone)
            return true;
    }
    return false;
}

static void oracle_add(struct oracle *o, const uint8_t *body, size_t len)
{
    struct wv_reader r;
    wv_reader_init(&r, body, len);
    uint32_t id = wv_read_u32(&r);
    wv_read_u32(&r);
    unsigned cover = wv_read_u8(&r);
    wv_read_u8(&r);
    unsigned index = wv_read_u8(&r);
    for (unsigned u = 0; u < o->n_unknown; u++) {
        unsigned d = id - o->frame[u];
        bool covered = d < RIFT_FEC_WINDOW && (cover >> d & 1);
        o->rows[o->n_rows][u] = covered ? coefficient(id, index, d, o->index[u]) : 0;
    }
    o->n_rows++;
}

/* One run of 6 frames, shuffled or not: afterwards exactly what can be known is known. */
static void compare_with_oracle(bool shuffled)
{
    struct stream s;
    static struct oracle o;
    static uint8_t bodies[64][RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    size_t lengths[64];
    unsigned n = 0, kept[600], n_kept = 0;
    stream_new(&s, SYMBOL);
    memset(&o, 0, sizeof o);
    uint32_t loss = 2 + rnd(25);
    for (uint32_t id = 0; id < 6; id++) {
        const struct rift_fec_frame *f = stream_frame(&s, id, 1 + rnd(20 * SYMBOL));
        for (unsigned p = 0; p < count_of(f); p++) {
            if (rnd(100) >= loss) {
                kept[n_kept++] = id << 16 | p;
            } else {
                o.frame[o.n_unknown] = (uint16_t)id;
                o.index[o.n_unknown++] = (uint16_t)p;
            }
        }
        static const uint8_t covers[] = {0x1, 0xf, 0xd, 0x3, 0x9};
        encode(&s, id, 1 + rnd(4), covers[rnd(5)]);
        while (rift_fec_encoder_pending(s.encoder)) {
            lengths[n] = write_repair(&s, bodies[n]);
            kept[n_kept++] = 1u << 31 | n++;
        }
    }
    for (unsigned i = n_kept; shuffled && i > 1; i--) {
        unsigned k = rnd(i), was = kept[i - 1];
        kept[i - 1] = kept[k];
        kept[k] = was;
    }
    for (unsigned i = 0; i < n_kept; i++) {
        if (!(kept[i] >> 31)) {
            unsigned frame = kept[i] >> 16, p = kept[i] & 0xffff;
            deliver(&s, &s.frames[frame], p);
        } else if (rnd(100) >= loss) {
            unsigned k = kept[i] & 0xffff;
            oracle_add(&o, bodies[k], lengths[k]);
            ck_assert_int_ge(deliver_body(&s, bodies[k], lengths[k]), 0);
        }
    }
    oracle_reduce(&o);
    for (unsigned u = 0; u < o.n_unknown; u++)
        ck_assert_int_eq(s.have[o.frame[u]][o.index[u]], oracle_knows(&o, u));
    stream_free(&s);
}

START_TEST(what_can_be_known_is_known)
{
    for (unsigned i = 0; i < 300; i++) {
        seed = 1000 + i * 2654435761u;
        compare_with_oracle(i % 2);
    }
}
END_TEST

/* ---- A long life with everything in it ---- */

START_TEST(a_long_stream_with_losses_reordering_and_repeats)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    uint32_t id = UINT32_MAX - 300;
    unsigned whole = 0;
    for (unsigned n = 0; n < 600; n++, id++) {
        bool big = rnd(50) == 0;
        struct rift_fec_frame *f = stream_frame(&s, id, 1 + rnd((big ? 600 : 30) * SYMBOL));
        f->keyframe = big;
        struct rift_fec_frame recent[4] = {*f};
        for (uint32_t d = 1; d < 4; d++)
            recent[d] = s.frames[(id - d) % FRAMES];
        unsigned loss = n / 100 * 3;
        for (unsigned p = 0; p < count_of(f); p++)
            if (rnd(100) >= loss)
                deliver(&s, f, rnd(10) ? p : rnd(count_of(f)));
        unsigned known = WV_MIN(n + 1, 4u);
        enum rift_fec_spread spread = rnd(2) ? RIFT_FEC_WIDE : RIFT_FEC_LOCAL;
        counting = true;
        rift_fec_encoder_frame(s.encoder, recent, known, 250, spread);
        counting = false;
        uint64_t lost = 0;
        for (unsigned i = 0; i < 64; i++)
            lost |= (uint64_t)(rnd(100) < loss) << i;
        deliver_repairs(&s, lost);
        /* Something of an earlier frame is sent again. */
        const struct rift_fec_frame *old = &s.frames[(id - rnd(WV_MIN(n, 6u) + 1)) % FRAMES];
        unsigned again = rnd(count_of(old));
        if (!s.have[old->frame_id % FRAMES][again])
            ck_assert_int_eq(deliver(&s, old, again), 0);
        else
            ck_assert_int_eq(deliver(&s, old, again), RIFT_FEC_IGNORED);
        whole += missing(&s, f) == 0;
        struct rift_fec_decoder_stats stats;
        rift_fec_decoder_get_stats(s.decoder, &stats);
        ck_assert_uint_le(stats.waiting, 128);
        ck_assert_uint_eq(stats.recovered, s.recovered);
    }
    ck_assert_uint_eq(allocations, 0);
    ck_assert_uint_gt(whole, 300);
    ck_assert_uint_gt(s.recovered, 300);
    stream_free(&s);
}
END_TEST

/* ---- Hostile and wrong input ---- */

static size_t good_repair(struct stream *s, uint8_t *body)
{
    for (uint32_t id = 10; id < 14; id++) {
        const struct rift_fec_frame *f = stream_frame(s, id, 5 * SYMBOL + 9);
        for (unsigned p = 0; p < 6; p++)
            if (p || id != 12)
                deliver(s, f, p);
    }
    encode(s, 13, 1, 0xf);
    return write_repair(s, body);
}

START_TEST(wrong_repairs_are_refused_and_change_nothing)
{
    struct stream s;
    uint8_t good[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL], bad[sizeof good + 1];
    static const struct {
        uint8_t at, value;
    } changes[] = {
        {4, 9},     /* epoch */
        {6, 0},     /* size 0 */
        {6, 63},    /* another size */
        {7, 1},     /* too large a size */
        {8, 0x1f},  /* cover beyond the window */
        {8, 0x0e},  /* without its own frame */
        {8, 0x07},  /* fewer frames than lengths */
        {9, 1},     /* no such group */
        {10, 128},  /* no such index */
        {11, 0},    /* another length */
        {13, 0x80}, /* keyframe */
        {13, 0x7f}, /* too long a frame */
        {14, 1},    /* another length of an earlier frame */
        {0, 12},    /* other frames, of which one is not like that: see below */
    };
    stream_new(&s, SYMBOL);
    size_t len = good_repair(&s, good);
    for (size_t i = 0; i + 1 < WV_ARRAY_SIZE(changes); i++) {
        memcpy(bad, good, len);
        bad[changes[i].at] = changes[i].value;
        ck_assert_msg(deliver_body(&s, bad, len) == -EBADMSG, "change %zu", i);
    }
    for (size_t n = 0; n < len; n++) {
        memcpy(bad, good, n);
        ck_assert_int_eq(deliver_body(&s, bad, n), -EBADMSG);
    }
    memcpy(bad, good, len);
    ck_assert_int_eq(deliver_body(&s, bad, len + 1), -EBADMSG);
    struct rift_fec_decoder_stats stats;
    rift_fec_decoder_get_stats(s.decoder, &stats);
    ck_assert_uint_eq(stats.malformed, WV_ARRAY_SIZE(changes) - 1 + len + 1);
    ck_assert_uint_eq(stats.waiting, 0);
    ck_assert_uint_eq(s.recovered, 0);
    ck_assert_int_eq(deliver_body(&s, good, len), 0);
    ck_assert_uint_eq(s.recovered, 1);
    ck_assert_int_eq(deliver_body(&s, good, len), RIFT_FEC_IGNORED);
    stream_free(&s);
}
END_TEST

START_TEST(repairs_that_reach_back_too_far_are_ignored)
{
    struct stream s;
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    static const uint32_t ahead[] = {5, 100, 1u << 20, INT32_MAX};
    for (size_t i = 0; i < WV_ARRAY_SIZE(ahead); i++) {
        stream_new(&s, SYMBOL);
        size_t len = good_repair(&s, body);
        struct rift_fec_frame far = {
            .frame_id = 13 + ahead[i], .epoch = 7, .size = SYMBOL, .len = 1, .data = body};
        struct rift_fec_fragment g = fragment_of(&far, 0);
        ck_assert_int_eq(rift_fec_decoder_source(s.decoder, &g), 0);
        ck_assert_int_eq(deliver_body(&s, body, len), RIFT_FEC_IGNORED);
        struct rift_fec_decoder_stats stats;
        rift_fec_decoder_get_stats(s.decoder, &stats);
        ck_assert_uint_eq(stats.repairs_late, 1);
        /* As far away as ids can be. */
        uint32_t opposite = far.frame_id + (1u << 31);
        struct wv_writer w;
        wv_writer_init(&w, body, 4);
        wv_write_u32(&w, opposite);
        ck_assert_int_eq(deliver_body(&s, body, len), RIFT_FEC_IGNORED);
        g.frame_id = opposite;
        ck_assert_int_eq(rift_fec_decoder_source(s.decoder, &g), RIFT_FEC_IGNORED);
        stream_free(&s);
    }
}
END_TEST

START_TEST(wrong_fragments_are_refused)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    struct rift_fec_frame *f = stream_frame(&s, 5, 3 * SYMBOL + 5);
    deliver(&s, f, 0);
    struct rift_fec_fragment g = fragment_of(f, 1), h;
#define REFUSED(change, result)                                                                              \
    do {                                                                                                     \
        h = g;                                                                                               \
        change;                                                                                              \
        ck_assert_int_eq(rift_fec_decoder_source(s.decoder, &h), result);                                    \
    } while (0)
    REFUSED(h.count = 0, -EBADMSG);
    REFUSED(h.size = 0, -EBADMSG);
    REFUSED(h.index = 4, -EBADMSG);
    REFUSED(h.len = SYMBOL - 1, -EBADMSG);
    REFUSED(h.len = SYMBOL + 1, -EBADMSG);
    REFUSED(h.len = 0, -EBADMSG);
    REFUSED(h.epoch++, -EBADMSG);
    REFUSED(h.keyframe = true, -EBADMSG);
    REFUSED(h.count = 5, -EBADMSG);
    REFUSED((h.size = h.len = 32), -EBADMSG);
    REFUSED((h.frame_id++, h.size = SYMBOL + 1, h.len = SYMBOL + 1), RIFT_FEC_IGNORED);
    REFUSED((h.frame_id++, h.count = RIFT_FEC_FRAME_FRAGMENTS + 1), RIFT_FEC_IGNORED);
    REFUSED(h.frame_id -= 20, 0 + RIFT_FEC_IGNORED);
    REFUSED(h = g, 0);
    REFUSED(h = g, RIFT_FEC_IGNORED);
    stream_free(&s);
}
END_TEST

START_TEST(any_bytes_stay_inside)
{
    struct stream s;
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    stream_new(&s, SYMBOL);
    size_t len = good_repair(&s, body);
    for (unsigned i = 0; i < 50000; i++) {
        uint8_t copy[sizeof body];
        memcpy(copy, body, len);
        copy[0] = (uint8_t)(i / 100 + rnd(12)); /* ids that rise, all shapes claimed of them at once */
        for (unsigned k = rnd(4); k-- > 0;)
            copy[rnd(i % 2 ? 23 : (uint32_t)len)] = (uint8_t)rnd(256);
        struct wv_reader r;
        wv_reader_init(&r, copy, len);
        rift_fec_decoder_repair(s.decoder, &r);
        struct rift_fec_fragment g;
        while (rift_fec_decoder_next(s.decoder, &g) == 0)
            ck_assert(g.len > 0 && g.len <= g.size && g.index < g.count && g.size <= SYMBOL);
        struct rift_fec_decoder_stats stats;
        rift_fec_decoder_get_stats(s.decoder, &stats);
        ck_assert_uint_le(stats.waiting, 128);
    }
    stream_free(&s);
}
END_TEST

/* A flood of windows in which everything is missing leaves no trace once it is over. */
START_TEST(a_flood_of_hopeless_repairs_passes)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    uint32_t id = 0;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 5; i++, id++) {
            stream_frame(&s, id, 60 * SYMBOL);
            encode(&s, id, 30, id % 2 ? 0xf : 0x1);
            deliver_repairs(&s, 0);
        }
        const struct rift_fec_frame *f = stream_frame(&s, id, 60 * SYMBOL);
        for (unsigned p = 2; p < 60; p++)
            deliver(&s, f, p);
        encode(&s, id++, 2, 1);
        deliver_repairs(&s, 0);
        ck_assert_uint_eq(missing(&s, f), 0);
    }
    stream_free(&s);
}
END_TEST

START_TEST(more_frames_than_there_is_room_for)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    for (uint32_t id = 0; id < 20; id++) {
        struct rift_fec_frame *f = stream_frame(&s, id, 1000 * SYMBOL);
        for (unsigned p = 0; p < 1000; p++)
            if (p % 101) /* 10 are lost, at most 2 of a group */
                ck_assert_int_eq(deliver(&s, f, p), 0);
        ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, f, 1, 20, RIFT_FEC_WIDE), 0);
        deliver_repairs(&s, 0);
        ck_assert_uint_eq(missing(&s, f), 0);
    }
    stream_free(&s);
}
END_TEST

/* ---- The sender's choices ---- */

START_TEST(the_share_is_kept)
{
    struct stream s;
    stream_new(&s, SYMBOL);
    static const uint16_t shares[] = {1, 50, 125, 250, 500, 600};
    for (size_t i = 0; i < WV_ARRAY_SIZE(shares); i++) {
        uint64_t fragments = 0, repairs = 0;
        for (uint32_t id = 0; id < 3000; id++) {
            struct rift_fec_frame *f = stream_frame(&s, id, 1 + rnd((rnd(20) ? 6 : 300) * SYMBOL));
            fragments += count_of(f);
            rift_fec_encoder_frame(s.encoder, f, 1, shares[i], RIFT_FEC_LOCAL);
            repairs += rift_fec_encoder_pending(s.encoder);
        }
        uint64_t share = WV_MIN(shares[i], (uint16_t)RIFT_FEC_SHARE_MAX);
        ck_assert_uint_le(repairs * 1000, fragments * share + 8000);
        ck_assert_uint_ge(repairs * 1000 * 100 / 99 + 8000, fragments * share);
    }
    ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, &s.frames[0], 1, 0, RIFT_FEC_WIDE), RIFT_FEC_IGNORED);
    ck_assert_uint_eq(rift_fec_encoder_pending(s.encoder), 0);
    stream_free(&s);
}
END_TEST

static uint8_t cover_of(struct stream *s, const struct rift_fec_frame *frames, unsigned n)
{
    uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL];
    ck_assert_int_eq(rift_fec_encoder_frame(s->encoder, frames, n, 500, RIFT_FEC_WIDE), 0);
    size_t len = write_repair(s, body);
    ck_assert_uint_gt(len, 8);
    rift_fec_encoder_clear(s->encoder);
    return body[8];
}

START_TEST(windows_end_where_they_must)
{
    struct stream s;
    struct rift_fec_frame f[5];
    stream_new(&s, SYMBOL);
    for (uint32_t i = 0; i < 5; i++)
        f[i] = *stream_frame(&s, 4 - i, 10 * SYMBOL);
    ck_assert_uint_eq(cover_of(&s, f, 1), 0x1);
    ck_assert_uint_eq(cover_of(&s, f, 2), 0x3);
    ck_assert_uint_eq(cover_of(&s, f, 5), 0xf);
    f[1].keyframe = true;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x3);
    f[0].keyframe = true;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x1);
    f[0].keyframe = f[1].keyframe = false;
    f[2].epoch++;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x3);
    f[2].epoch--;
    f[3].size--;
    ck_assert_uint_eq(cover_of(&s, f, 5), 0x7);
    f[3].size++;
    f[1].frame_id = 2; /* one was never sent */
    f[2].frame_id = 1;
    ck_assert_uint_eq(cover_of(&s, f, 3), 0xd);
    f[0].len = f[1].len = f[2].len = 100 * SYMBOL;
    ck_assert_uint_eq(cover_of(&s, f, 3), 0x5);
    stream_free(&s);
}
END_TEST

START_TEST(bad_calls_are_refused)
{
    struct stream s;
    struct rift_fec_encoder *e;
    struct rift_fec_decoder *d;
    uint8_t covers[2] = {1, 1}, small[20];
    ck_assert_int_eq(rift_fec_encoder_new(&e, 0), -EINVAL);
    ck_assert_int_eq(rift_fec_decoder_new(&d, RIFT_FEC_SYMBOL_MAX + 1), -EINVAL);
    ck_assert_ptr_null(rift_fec_encoder_free(NULL));
    ck_assert_ptr_null(rift_fec_decoder_free(NULL));
    stream_new(&s, SYMBOL);
    struct rift_fec_frame f = *stream_frame(&s, 9, 4 * SYMBOL);
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW] = {&f};
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 1, 0, 2, covers), -EINVAL);
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 127, 2, covers), -EINVAL);
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 0, covers), -EINVAL);
    covers[1] = 3;
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -EINVAL);
    covers[1] = 0x11;
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -EINVAL);
    covers[1] = 1;
    f.len = 0;
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -EINVAL);
    ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, &f, 1, 500, RIFT_FEC_WIDE), -EINVAL);
    f.len = (size_t)RIFT_FEC_FRAME_FRAGMENTS * SYMBOL + 1; /* not protected, which is no error */
    ck_assert_int_eq(rift_fec_encoder_frame(s.encoder, &f, 1, 500, RIFT_FEC_WIDE), RIFT_FEC_IGNORED);
    f.len = 4 * SYMBOL;
    for (unsigned i = 0; i < RIFT_FEC_REPAIRS / 2; i++)
        ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), 0);
    ck_assert_int_eq(rift_fec_encode(s.encoder, window, 0, 0, 2, covers), -ENOSPC);
    struct wv_writer w;
    wv_writer_init(&w, small, sizeof small);
    ck_assert_int_eq(rift_fec_encoder_write(s.encoder, &w), -ENOSPC);
    ck_assert_uint_eq(rift_fec_encoder_pending(s.encoder), RIFT_FEC_REPAIRS);
    rift_fec_encoder_clear(s.encoder);
    ck_assert_int_eq(rift_fec_encoder_write(s.encoder, &w), RIFT_FEC_NONE);
    stream_free(&s);
}
END_TEST

/* ---- The plan ---- */

static struct rift_fec_plan plan(uint32_t loss_ppm, uint32_t burst_milli, uint64_t rtt_ms, uint32_t fragments)
{
    struct rift_fec_path path = {.loss_ppm = loss_ppm,
                                 .burst_milli = burst_milli,
                                 .rtt_ns = rtt_ms * WV_NS_PER_MS,
                                 .fragments = fragments};
    struct rift_fec_plan p;
    rift_fec_plan(&path, &p);
    ck_assert_uint_le(p.share_permille, RIFT_FEC_SHARE_MAX);
    ck_assert_uint_gt(strlen(rift_fec_reason_text(p.reason)), 10);
    if (p.reason == RIFT_FEC_PROTECT)
        ck_assert_uint_le(p.residual_ppm, p.target_ppm);
    if (p.reason != RIFT_FEC_PROTECT && p.reason != RIFT_FEC_LIMIT)
        ck_assert_uint_eq(p.share_permille, 0);
    return p;
}

START_TEST(the_plan_has_reasons)
{
    ck_assert_int_eq(plan(0, 0, 80, 16).reason, RIFT_FEC_CLEAN);
    ck_assert_int_eq(plan(2, 0, 80, 16).reason, RIFT_FEC_CLEAN);
    ck_assert_int_eq(plan(30000, 0, 5, 16).reason, RIFT_FEC_RETRANSMIT);
    ck_assert_int_eq(plan(10000, 0, 40, 16).reason, RIFT_FEC_PROTECT);
    ck_assert_int_eq(plan(400000, 0, 80, 16).reason, RIFT_FEC_LIMIT);
    ck_assert_int_eq(plan(600000, 0, 80, 16).reason, RIFT_FEC_HOPELESS);
    ck_assert_int_eq(plan(UINT32_MAX, UINT32_MAX, UINT64_MAX / WV_NS_PER_MS, UINT32_MAX).reason,
                     RIFT_FEC_HOPELESS);
    ck_assert_int_eq(plan(10000, 0, 0, 16).reason,
                     RIFT_FEC_PROTECT); /* an unknown round trip is a long one */
    ck_assert_int_eq(plan(10000, 0, 40, 16).spread, RIFT_FEC_WIDE);
    ck_assert_int_eq(plan(400000, 0, 80, 16).spread, RIFT_FEC_LOCAL);
}
END_TEST

START_TEST(the_plan_grows_with_the_need)
{
    for (uint32_t fragments = 1; fragments <= 2000; fragments += 1 + fragments / 3) {
        uint16_t last = 0;
        for (uint32_t loss = 0; loss <= 400000; loss += 20000) {
            uint16_t share = plan(loss, 0, 60, fragments).share_permille;
            ck_assert_uint_ge(share, last);
            last = share;
        }
        ck_assert_uint_gt(last, 200);
        ck_assert_uint_ge(plan(20000, 0, 100, fragments).share_permille,
                          plan(20000, 0, 30, fragments).share_permille);
        if (fragments > 8)
            ck_assert_uint_gt(plan(20000, 4000, 60, fragments).share_permille,
                              plan(20000, 0, 60, fragments).share_permille);
    }
    /* Longer blocks need less. */
    ck_assert_uint_lt(plan(20000, 0, 60, 100).share_permille, plan(20000, 0, 60, 10).share_permille);
}
END_TEST

START_TEST(the_model_of_losses_is_right)
{
    /* 16 + 2 with independent losses: 1 - sum of the first three terms of the binomial distribution. */
    struct rift_fec_path path = {.loss_ppm = 50000};
    ck_assert_uint_eq(rift_fec_residual_ppm(&path, 16, 0), 559873);
    ck_assert_int_le(labs((long)rift_fec_residual_ppm(&path, 16, 2) - 58127), 5);
    /* And counted. */
    path.burst_milli = 4000;
    unsigned hit = 0, n = 200000, bad = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned lost = 0;
        for (unsigned k = 0; k < 18; k++) {
            bad = bad ? rnd(1000000) >= 250000 : rnd(1000000) < 13158;
            lost += bad;
        }
        hit += lost > 2;
    }
    ck_assert_int_le(labs((long)rift_fec_residual_ppm(&path, 16, 2) - (long)hit * (1000000 / (long)n)), 3000);
}
END_TEST

static void start(void)
{
    seed = 0x5eed5eed5eed;
}

int main(void)
{
    Suite *suite = suite_create("fec");
    TCase *t = tcase_create("fec");
    tcase_add_checked_fixture(t, start, NULL);
    tcase_set_timeout(t, 50);
    tcase_add_test(t, every_pattern_of_losses);
    tcase_add_test(t, large_frames_and_any_losses);
    tcase_add_test(t, symbols_are_what_the_specification_says);
    tcase_add_test(t, long_frames_survive_bursts);
    tcase_add_test(t, later_frames_mend_earlier_ones);
    tcase_add_test(t, a_small_frame_comes_back_whole);
    tcase_add_test(t, what_can_be_known_is_known);
    tcase_add_test(t, a_long_stream_with_losses_reordering_and_repeats);
    tcase_add_test(t, wrong_repairs_are_refused_and_change_nothing);
    tcase_add_test(t, repairs_that_reach_back_too_far_are_ignored);
    tcase_add_test(t, wrong_fragments_are_refused);
    tcase_add_test(t, any_bytes_stay_inside);
    tcase_add_test(t, a_flood_of_hopeless_repairs_passes);
    tcase_add_test(t, more_frames_than_there_is_room_for);
    tcase_add_test(t, the_share_is_kept);
    tcase_add_test(t, windows_end_where_they_must);
    tcase_add_test(t, bad_calls_are_refused);
    tcase_add_test(t, the_plan_has_reasons);
    tcase_add_test(t, the_plan_grows_with_the_need);
    tcase_add_test(t, the_model_of_losses_is_right);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
