/* See schedule.h. */
#include "services/encoder/schedule.h"

#include "lib/base/util.h"

#define KEYFRAME_INTERVAL_NS (100 * WV_NS_PER_MS)

/* A refinement below this changed next to nothing. The quantizer falls by 4 a frame, so one that changed
 * nothing may be followed by one that does: only several in a row mean that the picture is as good as it
 * gets.
 */
#define TINY_BYTES 300u
#define TINY_LIMIT 3u

void wv_schedule_init(struct wv_schedule *s, uint32_t refine_frames, uint64_t refine_after_ns, uint32_t fps)
{
    *s = (struct wv_schedule){
        .refine_frames = refine_frames,
        .refine_after_ns = refine_after_ns,
        .fps = fps ? fps : 1,
        .viewers = 1,
        .keyframe_needed = true,
    };
}

void wv_schedule_set_target(struct wv_schedule *s, uint32_t fps, uint32_t viewers)
{
    if (fps)
        s->fps = fps;
    if (viewers && !s->viewers)
        s->keyframe_needed = true;
    s->viewers = viewers;
}

void wv_schedule_hold(struct wv_schedule *s, uint64_t until)
{
    s->hold_until = until;
}

bool wv_schedule_request_keyframe(struct wv_schedule *s, uint32_t after_frame_id)
{
    /* Frame ids wrap: compare by distance. An id from the future is a peer's mistake and counts as unknown.
     */
    if (after_frame_id && s->keyframe_sent && (int32_t)(s->keyframe_id - after_frame_id) > 0)
        return false;
    s->keyframe_needed = true;
    return true;
}

void wv_schedule_break(struct wv_schedule *s)
{
    s->keyframe_needed = true;
    s->keyframe_sent = false;
}

static uint64_t keyframe_due_ns(const struct wv_schedule *s)
{
    if (!s->keyframe_needed)
        return WV_SCHEDULE_NEVER;
    return s->keyframe_sent ? s->keyframe_ns + KEYFRAME_INTERVAL_NS : 0;
}

static uint64_t refine_due_ns(const struct wv_schedule *s)
{
    uint64_t period = WV_NS_PER_S / s->fps;

    if (!s->refine_left)
        return WV_SCHEDULE_NEVER;
    /* The first one waits until the screen really stands still: among the pictures of a slow scroll it would
     * only be in the next one's way. */
    return s->encoded_ns + (s->refine_done ? period : WV_MAX(period, s->refine_after_ns));
}

enum wv_schedule_step wv_schedule_next(const struct wv_schedule *s, bool fresh, bool held, uint64_t now,
                                       bool *ret_keyframe, uint64_t *ret_next_ns)
{
    uint64_t keyframe_ns = keyframe_due_ns(s), refine_ns = refine_due_ns(s);
    bool keyframe = keyframe_ns <= now;

    *ret_keyframe = false;
    *ret_next_ns = WV_SCHEDULE_NEVER;
    if (!s->viewers || (!fresh && !held))
        return WV_STEP_NOTHING;
    if (now < s->hold_until) {
        *ret_next_ns = s->hold_until;
        return WV_STEP_NOTHING;
    }
    *ret_keyframe = keyframe;
    if (fresh)
        return WV_STEP_FRESH;
    if (keyframe)
        return WV_STEP_REPEAT;
    if (refine_ns <= now)
        return WV_STEP_REFINE;
    *ret_next_ns = WV_MIN(keyframe_ns, refine_ns);
    return WV_STEP_NOTHING;
}

void wv_schedule_encoded(struct wv_schedule *s, enum wv_schedule_step step, bool keyframe, uint32_t frame_id,
                         size_t len, uint64_t now)
{
    s->encoded_ns = now;
    if (keyframe) {
        s->keyframe_needed = false;
        s->keyframe_sent = true;
        s->keyframe_id = frame_id;
        s->keyframe_ns = now;
    }
    if (step != WV_STEP_REFINE) {
        s->refine_left = s->refine_frames;
        s->refine_done = 0;
        s->tiny = 0;
        return;
    }
    s->refine_done++;
    s->refine_left -= s->refine_left > 0;
    s->tiny = len < TINY_BYTES ? s->tiny + 1 : 0;
    if (s->tiny >= TINY_LIMIT)
        s->refine_left = 0;
}
