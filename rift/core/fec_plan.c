/* How much protection a path deserves, and of which kind. Pure functions of what was measured; no state. */
#include "rift/core/fec.h"

#include "lib/base/util.h"

#include <string.h>

/* Up to this round trip a lost fragment that is asked for comes within a frame or so; repairs would only take
 * capacity from the picture. */
#define RETRANSMIT_RTT_NS (12 * WV_NS_PER_MS)
/* How long a frame that is not mended by its own repairs stalls at most: later frames' repairs mend it, or it
 * is sent again. */
#define STALL_NS (50 * WV_NS_PER_MS)
/* The rate of exchange: a thousandth more of repairs is worth it if it saves this many stalls of STALL_NS, in
 * millionths of the frames; for shorter stalls more. */
#define PPM_PER_PERMILLE 100.0
#define LOSS_MAX_PPM     450000 /* above, not even RIFT_FEC_SHARE_MAX brings a usual frame through */
/* Where repairs that cover 4 frames drown: what they can't mend takes the later frames along. Measured:
 * rift-fec-table, 12.5 % and 25 % overhead. */
#define DROWN_PPM 200000

struct channel {
    double start, stop; /* probability that a run of losses begins, ends, per datagram */
};

static struct channel channel_of(const struct rift_fec_path *path)
{
    double loss = WV_MIN(path->loss_ppm, 999999u) / 1e6;
    double alone = 1 / (1 - loss); /* mean run of independent losses */
    double burst = path->burst_milli / 1e3;
    if (burst < alone)
        burst = alone;
    struct channel c = {.stop = 1 / burst};
    c.start = loss * c.stop / (1 - loss);
    return c;
}

/* Probabilities of having lost j datagrams so far, by whether the last one was lost. More than MAX are lost
 * is what is left to 1. */
struct losses {
    unsigned max;
    double good[RIFT_FEC_INDICES], bad[RIFT_FEC_INDICES];
};

static void losses_init(struct losses *l, const struct channel *c, unsigned max)
{
    memset(l, 0, sizeof *l);
    l->max = max;
    double bad = c->start / (c->start + c->stop);
    /* The state before the first datagram. */
    l->good[0] = 1 - bad;
    l->bad[0] = bad;
}

static void losses_step(struct losses *l, const struct channel *c)
{
    for (unsigned j = l->max + 1; j-- > 0;) {
        double good = l->good[j] * (1 - c->start) + l->bad[j] * c->stop;
        double bad = j ? l->good[j - 1] * c->start + l->bad[j - 1] * (1 - c->stop) : 0;
        l->good[j] = good;
        l->bad[j] = bad;
    }
}

static uint32_t more_than_ppm(const struct losses *l, unsigned n)
{
    double rest = 1;
    for (unsigned j = 0; j <= n && j <= l->max; j++)
        rest -= l->good[j] + l->bad[j];
    return rest > 0 ? (uint32_t)(rest * 1e6 + 0.5) : 0;
}

uint32_t rift_fec_residual_ppm(const struct rift_fec_path *path, unsigned fragments, unsigned repairs)
{
    if (path->loss_ppm == 0)
        return 0;
    fragments = WV_MIN(fragments, (unsigned)RIFT_FEC_GROUP);
    repairs = WV_MIN(repairs, (unsigned)RIFT_FEC_INDICES - 1);
    struct channel c = channel_of(path);
    struct losses l;
    losses_init(&l, &c, repairs);
    for (unsigned i = 0; i < fragments + repairs; i++)
        losses_step(&l, &c);
    return more_than_ppm(&l, repairs);
}

enum rift_fec_spread rift_fec_spread_for(uint32_t residual_ppm)
{
    return residual_ppm > DROWN_PPM ? RIFT_FEC_LOCAL : RIFT_FEC_WIDE;
}

uint8_t rift_fec_cover(enum rift_fec_spread spread, uint32_t frame_id, unsigned index)
{
    if (spread == RIFT_FEC_LOCAL)
        return 1;
    return (frame_id + index) % 2 ? 0xd : 0xf;
}

/* Fragments that stand behind one decision: of the larger frames a group, of tiny ones those of a window. */
static unsigned block_of(unsigned fragments)
{
    fragments = WV_MIN(fragments, (unsigned)RIFT_FEC_FRAME_FRAGMENTS);
    fragments = WV_MAX(fragments, 1u);
    if (fragments > RIFT_FEC_GROUP) {
        unsigned groups = (fragments + RIFT_FEC_GROUP - 1) / RIFT_FEC_GROUP;
        return (fragments + groups - 1) / groups;
    }
    return fragments >= 8 ? fragments : WV_MIN(fragments * RIFT_FEC_WINDOW, 8u);
}

/* What a thousandth of repairs has to save. */
static double price_ppm(uint64_t rtt_ns)
{
    uint64_t stall = rtt_ns && rtt_ns < STALL_NS ? rtt_ns : STALL_NS;
    return PPM_PER_PERMILLE * (double)STALL_NS / (double)stall;
}

/* The number of repairs for a block of K, at most MAX, that is worth most. */
static unsigned search(const struct channel *c, unsigned k, unsigned max, double price,
                       uint32_t *ret_residual)
{
    struct losses l;
    losses_init(&l, c, max);
    for (unsigned i = 0; i < k; i++)
        losses_step(&l, c);
    unsigned best = 0;
    double best_cost = 0;
    for (unsigned r = 0; r <= max; r++, losses_step(&l, c)) {
        uint32_t residual = more_than_ppm(&l, r);
        double cost = residual + price * 1000 * r / k;
        if (r > 0 && cost >= best_cost)
            continue;
        best = r;
        best_cost = cost;
        *ret_residual = residual;
    }
    return best;
}

void rift_fec_plan(const struct rift_fec_path *path, struct rift_fec_plan *ret_plan)
{
    struct rift_fec_plan p = {.spread = RIFT_FEC_WIDE};
    unsigned k = block_of(path->fragments), max = k * RIFT_FEC_SHARE_MAX / 1000, r = 0;
    if (path->loss_ppm > LOSS_MAX_PPM) {
        p.reason = RIFT_FEC_HOPELESS;
    } else if (path->rtt_ns && path->rtt_ns <= RETRANSMIT_RTT_NS) {
        p.reason = RIFT_FEC_RETRANSMIT;
    } else if (path->loss_ppm) {
        struct channel c = channel_of(path);
        r = search(&c, k, max, price_ppm(path->rtt_ns), &p.residual_ppm);
    }
    if (r > 0) {
        p.reason = r < max ? RIFT_FEC_PROTECT : RIFT_FEC_LIMIT;
        p.share_permille = (uint16_t)((r * 1000 + k - 1) / k);
        p.spread = rift_fec_spread_for(p.residual_ppm);
    } else {
        p.residual_ppm = rift_fec_residual_ppm(path, k, 0);
    }
    *ret_plan = p;
}

const char *rift_fec_reason_text(enum rift_fec_reason reason)
{
    static const char *const texts[] = {
        [RIFT_FEC_CLEAN] = "protection would cost more than the losses do",
        [RIFT_FEC_RETRANSMIT] = "asking again is quick enough",
        [RIFT_FEC_PROTECT] = "protected against the measured losses",
        [RIFT_FEC_LIMIT] = "protected with the largest share allowed",
        [RIFT_FEC_HOPELESS] = "more losses than repairs can mend",
    };
    return (unsigned)reason < WV_ARRAY_SIZE(texts) ? texts[reason] : "unknown";
}
