/* Forward error correction: what must be mended is mended to the byte, and what can't be is not invented. A
 * second, naive decoder says what can be known. */
#include "tests/unit/fec_kit.h"

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

static void add_tests(TCase *t)
{
    tcase_add_test(t, every_pattern_of_losses);
    tcase_add_test(t, large_frames_and_any_losses);
    tcase_add_test(t, symbols_are_what_the_specification_says);
    tcase_add_test(t, long_frames_survive_bursts);
    tcase_add_test(t, later_frames_mend_earlier_ones);
    tcase_add_test(t, a_small_frame_comes_back_whole);
    tcase_add_test(t, what_can_be_known_is_known);
    tcase_add_test(t, a_long_stream_with_losses_reordering_and_repeats);
}

int main(void)
{
    return run_tests("fec", add_tests);
}
