/* The client's side of video: joins fragments to access units, asks for what is missing while it can still
 * come in time (nack.c), gives up otherwise, and hands out only frames that can be decoded, in order. WIRE.md
 * section 6. Bounded in frames and bytes; never lets a frame out that lacks a byte. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/pool.h"
#include "rift/core/timing.h"
#include "rift/core/wire.h"

struct rift_join_slot {
    bool used;
    bool known;  /* a fragment or end mark told the shape; else only the id is known */
    bool gone;   /* can't be completed any more */
    bool whole;  /* all fragments should have come */
    bool mended; /* a repair gave back a fragment */
    struct rift_fragment head;
    size_t len;              /* meta data and access unit, known with the last fragment; 0 before */
    uint16_t received, high; /* fragments; one past the highest */
    uint16_t asked;          /* fragments below it were asked for at least once */
    uint64_t ask_at;         /* first request for those from `asked` on; RIFT_NEVER: no hole there */
    uint64_t repeat_at;      /* next request for those below `asked` */
    uint64_t give_up_at;     /* RIFT_NEVER: nothing is missing */
    uint64_t give_up_last;   /* progress moves give_up_at, never past this */
    uint64_t first_ns, last_ns;
    struct rift_buffer buffer;
    uint64_t have[(RIFT_FRAGMENTS_MAX + 63) / 64];
};

struct rift_join {
    struct rift_pool *pool;
    const struct rift_timing *timing;
    struct rift_join_slot slots[RIFT_VIDEO_FRAMES]; /* by frame id modulo its size */
    struct rift_buffer lent;                        /* of the frame handed out last */
    size_t stored_bytes;
    bool started;    /* some frame is known */
    bool passed_any; /* some frame was handed out or given up */
    uint32_t head;   /* next frame to hand out or give up */
    uint32_t end;    /* one past the highest known frame */
    bool chain;      /* the decoder can take the next frame of `epoch` */
    uint16_t epoch;
    bool key_complete; /* a whole keyframe waits at key_id */
    uint32_t key_id;
    /* Requests for a keyframe. */
    bool wants_key;
    uint64_t key_ask_at;
    uint64_t key_requests, frames_received, frames_lost, nacks_sent;
    uint64_t frames_repaired; /* that got a fragment from a repair */
    uint64_t repair_wait_ns;  /* before something is asked for: repairs may bring it */
};

void rift_join_init(struct rift_join *j, struct rift_pool *pool, const struct rift_timing *timing);
void rift_join_fini(struct rift_join *j);

/* What was handed out last may be overwritten. */
void rift_join_let_go(struct rift_join *j);

/* Take a VIDEO or VIDEO_END frame. Return 0 (also when it is of no use) or -EBADMSG. */
int rift_join_fragment(struct rift_join *j, struct wv_reader *body, uint64_t now);
/* A fragment that was computed of repairs. Returns whether it was of use. */
bool rift_join_recovered(struct rift_join *j, const struct rift_fragment *head, const uint8_t *data,
                         size_t len, uint64_t now);
int rift_join_end(struct rift_join *j, struct wv_reader *body, uint64_t now);
void rift_join_gone(struct rift_join *j, uint32_t id, uint64_t now);

/* Gives up what is too late. */
void rift_join_tick(struct rift_join *j, uint64_t now);

/* Hands out the next frame. Returns 0 or RIFT_SESSION_NONE. */
int rift_join_pop(struct rift_join *j, struct rift_event *ret_event, uint64_t now);

/* The decoder lost its way: nothing before a keyframe is of use. */
void rift_join_want_keyframe(struct rift_join *j, uint64_t now);

/* Write what is due and fits. */
void rift_join_write_nacks(struct rift_join *j, struct wv_writer *w, uint64_t now);
void rift_join_write_key_request(struct rift_join *j, struct wv_writer *w, uint64_t now);
uint64_t rift_join_timeout(const struct rift_join *j);

/* For FEEDBACK: all frames up to RET_ID are handed out or given up. False: none yet. */
bool rift_join_done(const struct rift_join *j, uint32_t *ret_id);

/* ---- between join.c and nack.c ---- */

struct rift_join_slot *rift_join_slot(struct rift_join *j, uint32_t id);
bool rift_join_complete(const struct rift_join_slot *s);
/* Something in S became overdue: starts its timers unless they run. */
void rift_nack_hole(struct rift_join *j, struct rift_join_slot *s, uint64_t now);
/* A missing fragment came. */
void rift_nack_progress(struct rift_join *j, struct rift_join_slot *s, uint64_t now);
bool rift_nack_missing(const struct rift_join_slot *s, unsigned from, unsigned to);
