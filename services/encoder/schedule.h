/* When the encoder encodes what: a fresh picture at once, a keyframe when somebody needs one, and a few
 * refinements when the screen stands still, so that it sharpens. Pure: time is a parameter, nothing is
 * encoded or read here. Must never let a refinement go before a fresh picture. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wv_schedule_step {
    WV_STEP_NOTHING,
    WV_STEP_FRESH,  /* encode the picture that has just come */
    WV_STEP_REPEAT, /* encode the held picture again because somebody needs a keyframe */
    WV_STEP_REFINE, /* encode the held picture again, so that it sharpens */
};

#define WV_SCHEDULE_NEVER UINT64_MAX

struct wv_schedule {
    /* settings */
    uint32_t refine_frames;
    uint64_t refine_after_ns;
    uint32_t fps, viewers;
    /* state */
    bool keyframe_needed;
    bool keyframe_sent; /* by this process; the next two are valid */
    uint32_t keyframe_id;
    uint64_t keyframe_ns;
    uint64_t hold_until;  /* nothing is begun before */
    uint64_t encoded_ns;  /* start of the last encoding, 0: none */
    uint32_t refine_left; /* refinements still to do for the held picture */
    uint32_t refine_done;
    uint32_t tiny; /* refinements in a row that changed nothing */
};

/* Assumes one viewer until told otherwise: a restarted encoder does not wait for transport to speak. */
void wv_schedule_init(struct wv_schedule *s, uint32_t refine_frames, uint64_t refine_after_ns, uint32_t fps);
/* FPS 0 keeps what is. From no viewer to some, a keyframe is needed. */
void wv_schedule_set_target(struct wv_schedule *s, uint32_t fps, uint32_t viewers);
/* Nothing is begun before UNTIL, a keyframe neither: the way is full. 0: goes on. */
void wv_schedule_hold(struct wv_schedule *s, uint64_t until);
/* Frames up to AFTER_FRAME_ID (0: unknown) can't be decoded. Returns false when a later keyframe is already
 * on its way. Requests are answered together, by at most ten keyframes a second. */
bool wv_schedule_request_keyframe(struct wv_schedule *s, uint32_t after_frame_id);
/* The stream broke off (an access unit was lost, the encoder failed): whatever comes next is a keyframe, now.
 */
void wv_schedule_break(struct wv_schedule *s);
/* What comes now. FRESH: a picture newer than the last encoded one is there; HELD: there is one to encode
 * again. RET_KEYFRAME: it must be a keyframe. RET_NEXT_NS: with WV_STEP_NOTHING, when to ask again if nothing
 * happens before; else WV_SCHEDULE_NEVER (ask again when the step is done). */
enum wv_schedule_step wv_schedule_next(const struct wv_schedule *s, bool fresh, bool held, uint64_t now,
                                       bool *ret_keyframe, uint64_t *ret_next_ns);
/* STEP was taken at NOW and gave an access unit of LEN bytes, number FRAME_ID. */
void wv_schedule_encoded(struct wv_schedule *s, enum wv_schedule_step step, bool keyframe, uint32_t frame_id,
                         size_t len, uint64_t now);
