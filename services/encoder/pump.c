/* See pump.h. */
#include "services/encoder/pump.h"

#include "lib/base/util.h"
#include "services/encoder/metrics.h"
#include "services/encoder/schedule.h"
#include "services/encoder/shrink.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A full ring is asked again this often; an encoder that failed gets this pause. */
#define RETRY_NS     (5 * WV_NS_PER_MS)
#define ERRORS_LIMIT 10u
#define HOLD_NS      (500 * WV_NS_PER_MS)

struct wv_pump {
    struct wv_pump_options o;
    struct wv_schedule schedule;
    uint32_t bitrate_bps;

    /* the picture that is held in the raw ring */
    struct wv_frame_header frame;
    const uint8_t *pixels; /* NULL: none */
    uint64_t acquired_ns;
    bool fresh; /* not encoded yet */

    /* an access unit that is encoded but not in the ring: the encoder's memory, until its next call */
    struct wv_access_unit waiting;
    struct wv_au_header waiting_header;
    enum wv_schedule_step waiting_step;
    bool is_waiting;

    struct rift_media_sealer sealer;
    uint32_t last_id; /* of the last access unit pushed */
    uint32_t errors;  /* in a row */
    uint64_t retry_ns;
    uint32_t width, height;
    unsigned scale; /* quarters */
    struct wv_shrink shrink;
};

int wv_pump_new(struct wv_pump **ret, const struct wv_pump_options *options)
{
    struct wv_pump *p = calloc(1, sizeof(*p));

    if (!p)
        return -ENOMEM;
    p->o = *options;
    p->bitrate_bps = options->bitrate_bps;
    p->scale = WV_SHRINK_NONE;
    wv_schedule_init(&p->schedule, options->refine_frames, options->refine_after_ms * WV_NS_PER_MS,
                     options->fps);
    wv_metric_set(p->o.metrics, WV_ENCODER_VIEWERS, p->schedule.viewers);
    wv_pump_set_target(p, options->bitrate_bps, options->fps, p->schedule.viewers);
    *ret = p;
    return 0;
}

struct wv_pump *wv_pump_free(struct wv_pump *p)
{
    if (p && p->pixels)
        wv_ring_release(p->o.raw);
    if (p)
        wv_shrink_fini(&p->shrink);
    if (p)
        explicit_bzero(&p->sealer, sizeof(p->sealer));
    free(p);
    return NULL;
}

void wv_pump_set_target(struct wv_pump *p, uint32_t bitrate_bps, uint32_t fps, uint32_t viewers)
{
    if (bitrate_bps)
        p->bitrate_bps = bitrate_bps;
    if (fps > WV_ENCODER_MAX_FPS)
        fps = WV_ENCODER_MAX_FPS;
    wv_schedule_set_target(&p->schedule, fps, viewers);
    (void)wv_encoder_set_rate(p->o.encoder, p->bitrate_bps, p->schedule.fps);
    wv_metric_set(p->o.metrics, WV_ENCODER_BITRATE, p->bitrate_bps);
    wv_metric_set(p->o.metrics, WV_ENCODER_FPS, p->schedule.fps);
    wv_metric_set(p->o.metrics, WV_ENCODER_VIEWERS, viewers);
}

void wv_pump_set_brakes(struct wv_pump *p, bool hold, uint32_t scale)
{
    wv_schedule_hold(&p->schedule, hold ? p->o.clock() + HOLD_NS : 0);
    p->scale = scale == 2 || scale == 3 ? scale : WV_SHRINK_NONE;
    wv_metric_set(p->o.metrics, WV_ENCODER_SCALE, p->scale);
    if (hold)
        wv_metric_add(p->o.metrics, WV_ENCODER_HOLDS, 1);
}

void wv_pump_request_keyframe(struct wv_pump *p, uint32_t after_frame_id)
{
    wv_metric_add(p->o.metrics, WV_ENCODER_KEYFRAME_REQUESTS, 1);
    (void)wv_schedule_request_keyframe(&p->schedule, after_frame_id);
}

/* The newest picture, if there is a newer one. The slot stays held until then (also while nobody watches), so
 * that a keyframe of a still screen needs nothing from capture. */
static void acquire(struct wv_pump *p)
{
    struct wv_frame_header header;
    const uint8_t *pixels;
    int r = wv_ring_acquire(p->o.raw, &header, &pixels);

    if (r == WV_RING_BAD)
        wv_metric_add(p->o.metrics, WV_ENCODER_RING_BAD, 1);
    if (r)
        return;
    p->frame = header;
    p->pixels = pixels;
    p->fresh = true;
    p->acquired_ns = p->o.clock();
    if (p->acquired_ns > header.publish_ns)
        wv_metric_record(p->o.metrics, WV_ENCODER_RAW_WAIT_US,
                         (p->acquired_ns - header.publish_ns) / WV_NS_PER_US);
}

static void count(struct wv_pump *p, const struct wv_au_header *h, enum wv_schedule_step step)
{
    struct wv_metrics *m = p->o.metrics;
    uint64_t since = h->damage_ns ? h->damage_ns : h->capture_ns;

    wv_metric_add(m, WV_ENCODER_FRAMES, 1);
    wv_metric_add(m, WV_ENCODER_BYTES, h->size);
    wv_metric_record(m, WV_ENCODER_AU_BYTES, h->size);
    if (h->keyframe)
        wv_metric_add(m, WV_ENCODER_KEYFRAMES, 1);
    if (step == WV_STEP_REFINE)
        wv_metric_add(m, WV_ENCODER_REFINE_FRAMES, 1);
    if (step == WV_STEP_FRESH && h->publish_ns > since)
        wv_metric_record(m, WV_ENCODER_DAMAGE_TO_AU_US, (h->publish_ns - since) / WV_NS_PER_US);
}

int wv_pump_set_key(struct wv_pump *p, uint32_t kid, const uint8_t base[RIFT_MEDIA_KEY_BYTES])
{
    if (kid == p->sealer.kid)
        return WV_PUMP_KEY_KNOWN; /* starting it anew would use its numbers twice */
    if (kid < p->sealer.kid)
        return -ESTALE;
    rift_media_sealer_init(&p->sealer, kid, base);
    wv_metric_set(p->o.metrics, WV_ENCODER_KID, kid);
    return 0;
}

/* Seals the waiting access unit into the ring, without a copy between. Returns 0, WV_AU_FULL, -EMSGSIZE. */
static int seal_into_ring(struct wv_pump *p)
{
    struct wv_au_header *h = &p->waiting_header;
    struct rift_media_about about = {
        .epoch = wv_au_producer_epoch(p->o.out),
        .keyframe = h->keyframe != 0,
        .width = h->width,
        .height = h->height,
    };
    size_t capacity = p->waiting.len + RIFT_MEDIA_OVERHEAD_MAX, len;
    uint8_t *room;
    uint64_t start = p->o.clock();
    int r = wv_au_reserve(p->o.out, capacity, &room);

    if (!r)
        r = rift_media_seal(&p->sealer, &about, p->waiting.data, p->waiting.len, room, capacity, &len);
    if (r)
        return r;
    wv_metric_record(p->o.metrics, WV_ENCODER_SEAL_US, (p->o.clock() - start) / WV_NS_PER_US);
    return wv_au_commit(p->o.out, h, len, p->o.clock());
}

/* Puts the waiting access unit into the ring. Returns 0, WV_AU_FULL, or -EMSGSIZE. */
static int push(struct wv_pump *p)
{
    struct wv_au_header *h = &p->waiting_header;
    uint64_t one = 1;
    int r;

    h->refers_to = p->last_id;
    r = seal_into_ring(p);
    if (r == WV_AU_FULL) {
        if (!p->is_waiting)
            wv_metric_add(p->o.metrics, WV_ENCODER_AU_RING_FULL, 1);
        p->is_waiting = true;
        return r;
    }
    p->is_waiting = false;
    if (r)
        return r;
    /* A full eventfd already says what is to be said. */
    if (p->o.au_event >= 0 && write(p->o.au_event, &one, sizeof(one)) < 0 && errno != EAGAIN)
        return -errno;
    p->last_id = h->frame_id;
    count(p, h, p->waiting_step);
    wv_schedule_encoded(&p->schedule, p->waiting_step, h->keyframe, h->frame_id, h->size, h->encode_start_ns);
    return 0;
}

static void fill_header(struct wv_pump *p, enum wv_schedule_step step, uint64_t start, uint64_t end)
{
    struct wv_au_header *h = &p->waiting_header;

    *h = (struct wv_au_header){
        .keyframe = p->waiting.keyframe,
        .width = (uint16_t)p->width,
        .height = (uint16_t)p->height,
        .source_width = (uint16_t)p->frame.width,
        .source_height = (uint16_t)p->frame.height,
        .input_seq = p->frame.input_seq,
        .damage_ns = p->frame.damage_ns,
        .capture_ns = p->frame.capture_ns,
        .raw_publish_ns = p->frame.publish_ns,
        .encode_start_ns = start,
        .encode_end_ns = end,
    };
    if (step != WV_STEP_FRESH) {
        /* An old picture shown again: the display still looked like this when we began, and no change waits
         * to be seen. Its first times would count a still screen as latency. */
        h->damage_ns = 0;
        h->capture_ns = start;
        h->raw_publish_ns = start;
    }
}

static int on_encoder_error(struct wv_pump *p, int error, uint64_t now)
{
    wv_metric_add(p->o.metrics, WV_ENCODER_ERRORS, 1);
    wv_schedule_break(&p->schedule);
    p->fresh = true; /* once more */
    p->retry_ns = now + RETRY_NS;
    return ++p->errors < ERRORS_LIMIT ? 0 : error;
}

static int encode(struct wv_pump *p, enum wv_schedule_step step, bool keyframe)
{
    struct wv_picture picture = {
        .pixels = p->pixels, .width = p->frame.width, .height = p->frame.height, .stride = p->frame.stride};
    uint64_t start = p->o.clock(), end;
    int r;

    wv_shrink(&p->shrink, &picture, p->scale);
    r = wv_encoder_encode(p->o.encoder, &picture, keyframe, &p->waiting);
    p->fresh = false;
    if (r ==
        -EINVAL) { /* the ring let something through that is no picture for us: not the encoder's fault */
        wv_metric_add(p->o.metrics, WV_ENCODER_RING_BAD, 1);
        p->pixels = NULL;
        wv_ring_release(p->o.raw);
        return 0;
    }
    end = p->o.clock();
    if (r)
        return on_encoder_error(p, r, end);
    p->errors = 0;
    if (picture.width != p->width || picture.height != p->height) {
        p->width = picture.width;
        p->height = picture.height;
        wv_metric_set(p->o.metrics, WV_ENCODER_WIDTH, p->width);
        wv_metric_set(p->o.metrics, WV_ENCODER_HEIGHT, p->height);
    }
    fill_header(p, step, start, end);
    p->waiting_step = step;
    r = push(p);
    wv_metric_record(p->o.metrics, WV_ENCODER_ENCODE_US, (end - start) / WV_NS_PER_US);
    if (r == -EMSGSIZE) /* larger than any entry may be: lost, so what follows must not refer to it */
        return on_encoder_error(p, r, end);
    return r < 0 ? r : 0;
}

/* Returns whether encoding may go on. */
static int push_waiting(struct wv_pump *p, uint64_t *ret_next_ns)
{
    bool was_keyframe = p->waiting_header.keyframe;
    int r = push(p);

    if (r == WV_AU_FULL)
        *ret_next_ns = p->o.clock() + RETRY_NS;
    /* It went in late and in order, so nothing is broken. But whoever reads now was away and has skipped: a
     * keyframe now is sooner than one that it first must ask for. */
    else if (!r && !was_keyframe)
        p->schedule.keyframe_needed = true;
    return r;
}

int wv_pump_run(struct wv_pump *p, uint64_t *ret_next_ns)
{
    enum wv_schedule_step step;
    uint64_t now, next;
    bool keyframe;
    int r;

    if (!p->schedule.viewers || !p->sealer.kid) {
        *ret_next_ns = WV_SCHEDULE_NEVER;
        return 0;
    }
    if (p->is_waiting) {
        r = push_waiting(p, ret_next_ns);
        if (r)
            return r < 0 ? r : 0;
    }
    acquire(p);
    now = p->o.clock();
    if (p->errors && now < p->retry_ns) {
        *ret_next_ns = p->retry_ns;
        return 0;
    }
    step = wv_schedule_next(&p->schedule, p->fresh, p->pixels, now, &keyframe, &next);
    if (step != WV_STEP_NOTHING) {
        r = encode(p, step, keyframe);
        if (r)
            return r;
        /* Whatever came meanwhile is told by its event; ask the schedule about the rest only. */
        step = wv_schedule_next(&p->schedule, false, p->pixels, now, &keyframe, &next);
        if (step != WV_STEP_NOTHING)
            next = now;
    }
    if (p->is_waiting || p->errors)
        next = now + RETRY_NS;
    *ret_next_ns = next;
    return 0;
}

enum wv_pump_state wv_pump_state(const struct wv_pump *p)
{
    if (!p->sealer.kid)
        return WV_PUMP_NO_KEY;
    if (!p->schedule.viewers)
        return WV_PUMP_NO_VIEWERS;
    if (p->errors)
        return WV_PUMP_FAILING;
    if (p->is_waiting)
        return WV_PUMP_RING_FULL;
    return p->pixels ? WV_PUMP_RUNNING : WV_PUMP_NO_PICTURE;
}

void wv_pump_size(const struct wv_pump *p, uint32_t *ret_width, uint32_t *ret_height)
{
    *ret_width = p->width;
    *ret_height = p->height;
}

uint32_t wv_pump_bitrate_bps(const struct wv_pump *p)
{
    return p->bitrate_bps;
}
