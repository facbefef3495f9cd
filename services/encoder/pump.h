/* The encoder's work: raw ring in, access-unit ring out, in between the encoder, its schedule and the media
 * key. One thread, no waiting; the stage calls it when something happened. Must never drop an access unit
 * that was encoded (later ones refer to it), nor hold up a fresh picture for anything, nor put a byte into
 * the ring that is not sealed. */
#pragma once

#include "lib/ipc/au_ring.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/ring.h"
#include "rift/crypto/media_seal.h"
#include "services/encoder/encoder.h"

struct wv_pump;

struct wv_pump_options {
    /* Borrowed; outlive the pump. */
    struct wv_ring_consumer *raw;
    struct wv_au_producer *out;
    struct wv_encoder *encoder;
    struct wv_metrics *metrics; /* laid out by wv_encoder_metrics */
    int au_event;               /* eventfd, gets a 1 after each push; -1: none */

    uint32_t bitrate_bps, fps; /* until the first target */
    uint32_t refine_frames, refine_after_ms;
    uint64_t (*clock)(void); /* CLOCK_MONOTONIC in ns (tests: their own) */
};

enum wv_pump_state {
    WV_PUMP_NO_KEY,     /* nothing to seal with yet; nothing is encoded */
    WV_PUMP_NO_PICTURE, /* no picture has come yet */
    WV_PUMP_NO_VIEWERS,
    WV_PUMP_RUNNING,
    WV_PUMP_RING_FULL, /* transport doesn't read; nothing is encoded */
    WV_PUMP_FAILING,   /* the last picture could not be encoded */
};

int wv_pump_new(struct wv_pump **ret, const struct wv_pump_options *options); /* 0 or -ENOMEM */
struct wv_pump *wv_pump_free(struct wv_pump *p);

/* Seals with key KID from now on. Returns 0, WV_PUMP_KEY_KNOWN (it is the one in use already), or -ESTALE for
 * a KID below that in use: who hands out keys began anew, and so must this process. */
enum { WV_PUMP_KEY_KNOWN = 1 };
int wv_pump_set_key(struct wv_pump *p, uint32_t kid, const uint8_t base[RIFT_MEDIA_KEY_BYTES]);

/* Does what is due, at most one encoding. RET_NEXT_NS: when to call again at the latest, WV_SCHEDULE_NEVER
 * (UINT64_MAX) for not before the next event. Returns 0, or what the encoder failed with ten times in a row,
 * or a negative errno. */
int wv_pump_run(struct wv_pump *p, uint64_t *ret_next_ns);

/* A target of transport. BITRATE_BPS or FPS 0 keeps what is. The caller runs the pump afterwards. */
void wv_pump_set_target(struct wv_pump *p, uint32_t bitrate_bps, uint32_t fps, uint32_t viewers);
/* With each target: begin nothing until the next one (or half a second has passed: transport may be gone),
 * and the size of the coded picture in quarters of the captured one, 4 (as is 0 and all else), 3 or 2. */
void wv_pump_set_brakes(struct wv_pump *p, bool hold, uint32_t scale);
void wv_pump_request_keyframe(struct wv_pump *p, uint32_t after_frame_id);

enum wv_pump_state wv_pump_state(const struct wv_pump *p);
/* Size of the last encoded picture, 0 before the first. */
void wv_pump_size(const struct wv_pump *p, uint32_t *ret_width, uint32_t *ret_height);
uint32_t wv_pump_bitrate_bps(const struct wv_pump *p);
