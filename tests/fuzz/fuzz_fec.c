/* A decoder fed by a hostile but authenticated host. Input: a byte that picks the symbol size, then steps: a
 * byte for the kind, and what it needs. Whatever comes, the decoder holds bounded state and hands out only
 * well-formed fragments that nobody delivered. Kind 2 sends an honest frame through a lossy channel: what is
 * recovered of it must be right as long as no other step has lied. */
#include "lib/base/util.h"
#include "rift/core/fec.h"

#include <string.h>

#define STEPS_MAX     200
#define SYMBOL_MAX    128
#define HONEST_FRAMES 16
#define HONEST_BYTES  (20 * SYMBOL_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct world {
    struct rift_fec_decoder *decoder;
    struct rift_fec_encoder *encoder;
    uint16_t symbol;
    bool honest; /* so far */
    uint32_t next_id;
    struct rift_fec_frame frames[HONEST_FRAMES]; /* by id modulo their number */
    uint8_t bytes[HONEST_FRAMES][HONEST_BYTES];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void drain(struct world *w)
{
    struct rift_fec_fragment g;
    uint8_t sum = 0;
    while (rift_fec_decoder_next(w->decoder, &g) == 0) {
        require(g.len > 0 && g.len <= g.size && g.size <= w->symbol && g.index < g.count);
        require(g.index + 1u == g.count || g.len == g.size);
        for (size_t i = 0; i < g.len; i++)
            sum ^= g.data[i];
        const struct rift_fec_frame *f = &w->frames[g.frame_id % HONEST_FRAMES];
        if (w->honest)
            require(f->frame_id == g.frame_id &&
                    memcmp(g.data, f->data + (size_t)g.index * f->size, g.len) == 0);
    }
    __asm__ volatile("" ::"r"(sum)); /* the reads above are the point */
    struct rift_fec_decoder_stats stats;
    rift_fec_decoder_get_stats(w->decoder, &stats);
    require(stats.waiting <= 128);
}

static void raw_source(struct world *w, struct wv_reader *r)
{
    struct rift_fec_fragment g = {.frame_id = w->next_id + (uint32_t)(int8_t)wv_read_u8(r)};
    uint8_t flags = wv_read_u8(r);
    g.epoch = flags >> 1;
    g.keyframe = flags & 1;
    g.count = wv_read_u16(r);
    g.size = wv_read_u8(r);
    g.index = wv_read_u16(r);
    size_t n = wv_read_u8(r);
    g.len = WV_MIN(n, r->left);
    g.data = wv_read_span(r, g.len);
    w->honest = false;
    rift_fec_decoder_source(w->decoder, &g);
}

static void raw_repair(struct world *w, struct wv_reader *r)
{
    size_t n = wv_read_u8(r);
    n = WV_MIN(n, r->left);
    struct wv_reader body;
    wv_reader_init(&body, wv_read_span(r, n), n);
    w->honest = false;
    rift_fec_decoder_repair(w->decoder, &body);
}

static void deliver_honest(struct world *w, const struct rift_fec_frame *f, unsigned index)
{
    size_t at = (size_t)index * f->size;
    struct rift_fec_fragment g = {.frame_id = f->frame_id,
                                  .epoch = f->epoch,
                                  .keyframe = f->keyframe,
                                  .count = (uint16_t)((f->len + f->size - 1) / f->size),
                                  .size = f->size,
                                  .index = (uint16_t)index,
                                  .data = f->data + at,
                                  .len = WV_MIN((size_t)f->size, f->len - at)};
    int result = rift_fec_decoder_source(w->decoder, &g);
    if (w->honest)
        require(result >= 0);
    drain(w);
}

/* One frame with its repairs; bits of LOST are what the channel loses. */
static void honest_frame(struct world *w, struct wv_reader *r)
{
    uint32_t id = w->next_id++;
    struct rift_fec_frame *f = &w->frames[id % HONEST_FRAMES];
    size_t n = wv_read_u16(r);
    uint8_t flags = wv_read_u8(r);
    uint64_t lost = wv_read_u64(r);
    *f = (struct rift_fec_frame){.frame_id = id,
                                 .keyframe = flags >> 7,
                                 .size = w->symbol,
                                 .len = 1 + n % (20u * w->symbol),
                                 .data = w->bytes[id % HONEST_FRAMES]};
    memset(w->bytes[id % HONEST_FRAMES], (uint8_t)(id * 37 + n), f->len);
    unsigned count = (unsigned)((f->len + f->size - 1) / f->size);
    for (unsigned i = 0; i < count; i++, lost = lost >> 1 | lost << 63)
        if (!(lost & 1))
            deliver_honest(w, f, i);
    struct rift_fec_frame recent[RIFT_FEC_WINDOW];
    unsigned n_recent = 0;
    for (uint32_t d = 0; d < RIFT_FEC_WINDOW && w->frames[(id - d) % HONEST_FRAMES].data; d++)
        recent[n_recent++] = w->frames[(id - d) % HONEST_FRAMES];
    rift_fec_encoder_frame(w->encoder, recent, n_recent, (flags & 0x3f) * 8,
                           flags & 0x40 ? RIFT_FEC_LOCAL : RIFT_FEC_WIDE);
    while (rift_fec_encoder_pending(w->encoder)) {
        uint8_t body[RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) + SYMBOL_MAX];
        struct wv_writer out;
        wv_writer_init(&out, body, sizeof body);
        require(rift_fec_encoder_write(w->encoder, &out) == 0);
        struct wv_reader in;
        wv_reader_init(&in, body, out.length);
        lost = lost >> 1 | lost << 63;
        int result = lost & 1 ? 0 : rift_fec_decoder_repair(w->decoder, &in);
        if (w->honest)
            require(result >= 0);
        drain(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world w;
    struct wv_reader r;
    wv_reader_init(&r, data, len);
    memset(w.frames, 0, sizeof w.frames);
    uint8_t first = wv_read_u8(&r);
    w.symbol = (uint16_t)(1 + first % SYMBOL_MAX);
    w.honest = true;
    w.next_id = first >> 7 ? UINT32_MAX - 3 : 1000;
    require(rift_fec_decoder_new(&w.decoder, w.symbol) == 0);
    require(rift_fec_encoder_new(&w.encoder, w.symbol) == 0);
    for (unsigned i = 0; i < STEPS_MAX && r.left; i++) {
        switch (wv_read_u8(&r) % 4) {
        case 0:
            raw_source(&w, &r);
            break;
        case 1:
            raw_repair(&w, &r);
            break;
        case 2:
            honest_frame(&w, &r);
            break;
        case 3:
            w.next_id += wv_read_u8(&r) % 16; /* frames that were never sent */
            break;
        }
        drain(&w);
    }
    rift_fec_decoder_free(w.decoder);
    rift_fec_encoder_free(w.encoder);
    return 0;
}
