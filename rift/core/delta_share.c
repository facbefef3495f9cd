/* Share and brake; delta_share.h says the idea. It must never act on its own past twice: what is still in the
 * loop counts as done. */
#include "rift/core/delta_share.h"

#include "lib/base/util.h"

#include <math.h>

/* The queue at which a flow asks for half of what it would take alone: felt little, yet above the noise of a
 * clean path; in packets, for slow paths. On rough paths waits of some milliseconds are no sign of others. */
#define HALF_S       0.0025
#define HALF_ROUGH_S 0.012
#define HALF_PACKETS 2
/* A queue counts at most as this many halves: a TCP that fills the buffer leaves a tenth of the path. */
#define HALVES_MOST 9.0
/* A path with marks of half the packets is worth as little as one with a queue of one half. */
#define MARKS_WEIGHT 2.0
#define SHARE_LEAST  0.02

/* Time constant of the share in loop delays squared (s per s^2): the loop gains 1 / half from rate to queue,
 * so that with the brake below it stays well damped for any number of flows. */
#define TAU_PER_LOOP2 700.0
#define TAU_MOST_S    30.0
/* Without a foreign queue there is no such loop: quick, but not quicker than the loop can show a mistake. */
#define TAU_FREE_S     0.3
#define TAU_FREE_LOOPS 5.0
#define FREE_LOOPS     8.0  /* no sign of others for so long: alone */
#define FREE_HALVES    0.15 /* what counts as a sign */
#define FAR_HALVES     2.0  /* beyond the expected queue: shares are far off, act quickly */

/* Gain per loop delay. Above pi/2 such a loop would swing, were it not for what in_the_loop() predicts. Rough
 * paths stall and catch up by themselves; there it is more gentle. */
#define BRAKE_GAIN       2.5
#define BRAKE_GAIN_ROUGH 0.6
#define BRAKE_LEAST      0.05
#define BRAKE_MOST       1.1

/* The capacity fell by this much: for some time the queue is our own past. */
#define FELL     0.8
#define GRACE_NS (1500 * WV_NS_PER_MS)

/* A queue that never empties hides the base delay. A flow that has not seen it near empty for this long lets
 * it run dry, at a tenth of its rate for the time that takes and a half more; ever more rarely when somebody
 * else keeps it filled. */
#define EMPTY_S         0.0015
#define DRAIN_EVERY_NS  (4 * WV_NS_PER_S)
#define DRAIN_RARELY_NS (60 * WV_NS_PER_S)
#define DRAIN_MARGIN    1.67
#define DRAIN_MOST_S    0.4
#define DRAIN_SHARE     0.05 /* shares below this don't make the time longer */

/* Loss above this in a window is taken for congestion (a policer, a very short queue) as long as it falls
 * when the rate does; loss that does not care about the rate is left alone for a while. */
#define LOSS_HIGH      0.1
#define LOSS_WINDOW_NS (500 * WV_NS_PER_MS)
#define LOSS_PACKETS   30
#define LOSS_HELPED    0.85 /* of the loss before, at most, after a cut */
#define LOSS_VAIN      3    /* cuts that did not help */
#define LOSS_IGNORE_NS (20 * WV_NS_PER_S)
#define CEILING_GROWTH 1.04 /* per window without such loss */
#define CEILING_LEAST  0.05

static double clamp(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

void delta_share_init(struct delta_share *s)
{
    *s = (struct delta_share){
        .brake = 1, .ceiling = 1, .starting = true, .drain_every = DRAIN_EVERY_NS, .capacity = 0};
}

void delta_share_restart(struct delta_share *s)
{
    s->starting = true;
    s->n_acts = 0;
    s->brake = 1;
}

bool delta_share_draining(const struct delta_share *s, uint64_t now)
{
    return now < s->drain_until;
}

/* What the brake has taken off in the last loop delay, in s of queue. */
static double in_the_loop(const struct delta_share *s, double loop_s, uint64_t now)
{
    uint64_t span = (uint64_t)(loop_s * 1e9);
    double sum = 0;
    unsigned n = WV_MIN(s->n_acts, (unsigned)DELTA_ACTS);
    for (unsigned i = 1; i <= n; i++) {
        unsigned k = (s->n_acts - i) % DELTA_ACTS;
        if (now - s->acts[k].at > span)
            break;
        sum += s->acts[k].taken_s;
    }
    return sum;
}

static void remember_act(struct delta_share *s, double dt_s, uint64_t now)
{
    unsigned k = s->n_acts++ % DELTA_ACTS;
    s->acts[k].at = now;
    s->acts[k].taken_s = (s->brake - 1) * dt_s;
    if (s->n_acts == UINT32_MAX)
        s->n_acts = DELTA_ACTS;
}

static void drain(struct delta_share *s, double queue_s, uint64_t now)
{
    if (queue_s < EMPTY_S || s->empty_at == 0) {
        s->empty_at = now;
        s->drain_every = DRAIN_EVERY_NS;
        return;
    }
    if (now < s->drain_until || now - s->empty_at < s->drain_every)
        return;
    s->drain_every = WV_MIN(2 * s->drain_every, DRAIN_RARELY_NS);
    double time_s = DRAIN_MARGIN * queue_s / fmax(s->share, DRAIN_SHARE);
    s->drain_until = now + (uint64_t)(fmin(time_s, DRAIN_MOST_S) * 1e9);
    s->empty_at = now;
}

/* Moves the share; QUEUE_S is the standing queue, bounded, HALF_S as above. */
static void move_share(struct delta_share *s, const struct delta_share_input *in, double queue_s,
                       double half_s, uint64_t now)
{
    if (queue_s > FREE_HALVES * half_s) {
        s->busy_at = now;
        s->starting = false;
    }
    double expected_s = half_s * (1 / s->share - 1);
    bool alone = now - s->busy_at > (uint64_t)(FREE_LOOPS * in->loop_s * 1e9);
    double tau = fmin(TAU_PER_LOOP2 * in->loop_s * in->loop_s, TAU_MOST_S);
    if (s->starting)
        tau = TAU_FREE_S;
    else if (alone || queue_s > expected_s + FAR_HALVES * half_s)
        tau = fmax(TAU_FREE_S, TAU_FREE_LOOPS * in->loop_s);

    double goal = 1 / (1 + queue_s / half_s + MARKS_WEIGHT * in->marks);
    if (in->capacity_bps < FELL * s->capacity) {
        s->grace_until = now + GRACE_NS;
        s->n_acts = 0;
    }
    if (queue_s < expected_s + half_s)
        s->grace_until = 0;
    if (now < s->grace_until)
        goal = fmax(goal, s->share);
    /* A share that the source can't use says nothing about the path: no growth beyond that. */
    if (goal < s->share || s->share < in->max_bps / in->capacity_bps)
        s->share += (goal - s->share) * fmin(1, in->dt_s / tau);
    s->share = clamp(s->share, SHARE_LEAST, s->ceiling);
}

void delta_share_update(struct delta_share *s, const struct delta_share_input *in, uint64_t now)
{
    if (in->capacity_bps <= 0)
        return;
    if (s->share <= 0)
        s->share = clamp(in->start_bps / in->capacity_bps, SHARE_LEAST, 1);
    double half_s = fmax(in->rough ? HALF_ROUGH_S : HALF_S, HALF_PACKETS * in->packet_s);
    double queue_s = fmin(in->standing_s, HALVES_MOST * half_s);
    move_share(s, in, queue_s, half_s, now);
    s->capacity = in->capacity_bps;
    drain(s, queue_s, now);

    remember_act(s, in->dt_s, now);
    double error_s = in->queue_s - half_s * (1 / s->share - 1) + in_the_loop(s, in->loop_s, now);
    double gain = in->rough ? BRAKE_GAIN_ROUGH : BRAKE_GAIN;
    s->brake = clamp(1 - gain * error_s / in->loop_s, BRAKE_LEAST, BRAKE_MOST);
}

static void judge_loss(struct delta_share *s, double loss, uint64_t now)
{
    if (loss <= LOSS_HIGH || now < s->loss.ignore_until) {
        s->ceiling = fmin(1, s->ceiling * CEILING_GROWTH);
        s->loss.cut = false;
        s->loss.vain = 0;
        return;
    }
    s->loss.vain = s->loss.cut && loss > LOSS_HELPED * s->loss.before ? s->loss.vain + 1 : 0;
    if (s->loss.vain >= LOSS_VAIN) {
        s->loss.ignore_until = now + LOSS_IGNORE_NS;
        s->loss.vain = 0;
        s->ceiling = 1;
        return;
    }
    double used = s->share > 0 ? fmin(s->ceiling, s->share) : s->ceiling;
    s->ceiling = fmax(CEILING_LEAST, used * (1 - loss / 2));
    s->loss.before = loss;
    s->loss.cut = true;
}

void delta_share_loss(struct delta_share *s, unsigned lost, unsigned got, uint64_t now)
{
    if (s->loss.lost + s->loss.got == 0)
        s->loss.since = now;
    s->loss.lost += lost;
    s->loss.got += got;
    unsigned packets = s->loss.lost + s->loss.got;
    if (now - s->loss.since < LOSS_WINDOW_NS || packets < LOSS_PACKETS)
        return;
    judge_loss(s, (double)s->loss.lost / packets, now);
    s->loss.lost = s->loss.got = 0;
}
