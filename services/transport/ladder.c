#include "services/transport/ladder.h"

#include "lib/base/util.h"

/* A step is taken when the rate was too low for this long: one bad report is none. */
#define DOWN_AFTER_NS (300 * WV_NS_PER_MS)
/* The rate for the step above must be this much more than what it needs. */
#define UP_MARGIN_PERCENT 130u

/* The steps, and the least bitrate for each in bits per pixel of a second's pictures, in thousandths: 1.2
 * Mbit/s for 1280x720 at 60 is 22. Fewer pictures each get more, as they differ more from each other. */
static const struct {
    uint32_t fps, scale, milli_bits;
} steps[] = {
    {240, 4, 22}, {30, 4, 30}, {20, 4, 32}, {20, 3, 32}, {20, 2, 0},
};

void wv_ladder_init(struct wv_ladder *l, uint32_t max_fps)
{
    *l = (struct wv_ladder){.max_fps = max_fps};
}

static uint32_t step_fps(const struct wv_ladder *l, unsigned step)
{
    return WV_MIN(l->max_fps, steps[step].fps);
}

/* The least bitrate of STEP. The first is asked as if it were 60 at most: who wants 144 pictures a second and
 * has no rate for them is better off with poorer ones than with half as many. */
static uint64_t needed_bps(const struct wv_ladder *l, unsigned step, uint64_t pixels)
{
    uint64_t fps = step_fps(l, step), scale = steps[step].scale;
    fps = WV_MIN(fps, UINT64_C(60));
    return pixels * scale * scale / 16 * fps * steps[step].milli_bits / 1000;
}

/* A step that changes nothing, because MAX_FPS is as low already, is passed over. */
static bool is_same(const struct wv_ladder *l, unsigned a, unsigned b)
{
    return step_fps(l, a) == step_fps(l, b) && steps[a].scale == steps[b].scale;
}

static unsigned below(const struct wv_ladder *l, unsigned step)
{
    unsigned next = step;
    while (next + 1 < WV_ARRAY_SIZE(steps) && is_same(l, next, step))
        next++;
    return next;
}

static unsigned above(const struct wv_ladder *l, unsigned step)
{
    unsigned next = step;
    while (next > 0 && is_same(l, next, step))
        next--;
    while (next > 0 && is_same(l, next, next - 1))
        next--;
    return next;
}

static void note(uint64_t *since_ns, bool holds, uint64_t now)
{
    if (!holds)
        *since_ns = 0;
    else if (!*since_ns)
        *since_ns = now;
}

static bool lasts(uint64_t since_ns, uint64_t for_ns, uint64_t now)
{
    return since_ns && now - since_ns >= for_ns;
}

static bool go(struct wv_ladder *l, unsigned step, bool up, uint64_t now)
{
    *l = (struct wv_ladder){
        .max_fps = l->max_fps, .step = step, .known = true, .since_ns = now, .last_up = up};
    return true;
}

bool wv_ladder_update(struct wv_ladder *l, uint64_t bitrate_bps, uint32_t width, uint32_t height,
                      uint64_t now)
{
    uint64_t pixels = (uint64_t)width * height;
    unsigned up = above(l, l->step), down = below(l, l->step);
    if (!pixels)
        return false;
    note(&l->low_ns, down != l->step && bitrate_bps < needed_bps(l, l->step, pixels), now);
    note(&l->high_ns, up != l->step && bitrate_bps >= needed_bps(l, up, pixels) * UP_MARGIN_PERCENT / 100,
         now);
    bool may_fall = !l->known || !l->last_up || now - l->since_ns >= WV_LADDER_HOLD_NS;
    if (may_fall && lasts(l->low_ns, DOWN_AFTER_NS, now))
        return go(l, down, false, now);
    if (lasts(l->high_ns, WV_LADDER_HOLD_NS, now) && now - l->since_ns >= WV_LADDER_HOLD_NS)
        return go(l, up, true, now);
    return false;
}

struct wv_ladder_choice wv_ladder_get(const struct wv_ladder *l)
{
    return (struct wv_ladder_choice){step_fps(l, l->step), steps[l->step].scale};
}
