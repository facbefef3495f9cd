/* The host's side of video: cuts access units into fragments and keeps what was sent for a while, to repeat
 * it on request. WIRE.md section 6. Bounded in frames and bytes; never decides when to send (the session and
 * its pacer do) and never drops an encoded frame, except those that a new epoch made useless. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/fec.h"
#include "rift/core/pool.h"
#include "rift/core/wire.h"

#define RIFT_SPLIT_FRAGMENTS                                                                                 \
    ((RIFT_FRAME_MAX_BYTES + RIFT_META_BYTES + RIFT_FRAGMENT_BYTES - 1) / RIFT_FRAGMENT_BYTES)
#define RIFT_SPLIT_GONE 16

struct rift_split_frame {
    struct rift_fragment head;
    struct rift_buffer buffer;
    size_t len;
    uint16_t sent;    /* fragments sent for the first time */
    uint16_t repeats; /* bits set in wanted */
    uint64_t wanted[(RIFT_SPLIT_FRAGMENTS + 63) / 64];
};

struct rift_split_written {
    bool fresh; /* a fragment for the first time */
    bool last;  /* of its frame */
    uint32_t frame_id;
};

struct rift_split {
    struct rift_pool *pool;
    uint16_t fragment_bytes;                           /* of frames to come */
    struct rift_split_frame frames[RIFT_VIDEO_FRAMES]; /* a ring, oldest first; ids rise */
    unsigned oldest, n_frames, n_unsent;
    size_t stored_bytes, unsent_bytes;
    size_t dropped_bytes, dropped_fragments; /* never sent; the session clears them */
    bool started;
    uint32_t newest_id;                /* of the last frame queued */
    bool confirmed_all;                /* the client is done with it */
    struct rift_split_written written; /* by the last rift_split_write() */
    /* The last frame sent whole, for VIDEO_END. */
    struct rift_fragment end;
    uint64_t end_due;
    unsigned end_tries;
    /* The last keyframe. */
    bool key_known, key_lost; /* lost: can't be repeated any more and was not confirmed */
    uint32_t key_id;
    uint32_t gone[RIFT_SPLIT_GONE];
    unsigned n_gone;
    uint64_t frames_sent, fragments_repeated;
};

void rift_split_init(struct rift_split *v, struct rift_pool *pool);
void rift_split_fini(struct rift_split *v);

/* Returns 0, -EMSGSIZE (empty or too long), -EINVAL (id not after the last one's), -ENOMEM,
 * RIFT_SESSION_FULL. */
int rift_split_push(struct rift_split *v, const struct rift_frame_meta *meta, const uint8_t *data,
                    size_t len);

/* Frames up to NEWEST_ID were sent by a process before; none of them is here. */
void rift_split_restore(struct rift_split *v, uint32_t newest_id);

/* Fragments of frames that were not begun have at most BYTES from now on. */
void rift_split_resize(struct rift_split *v, uint16_t bytes);

/* The path does not carry fragments of more than BYTES (any more): forgets the frames that were begun with
 * larger ones. Returns whether there were any; a keyframe is needed then. */
bool rift_split_shrink(struct rift_split *v, uint16_t bytes);

/* Writes one VIDEO or VIDEO_END frame: repeats first, then new fragments, then the end mark. Returns whether
 * there was something to write. */
bool rift_split_write(struct rift_split *v, struct wv_writer *w, uint64_t now);

/* Frame ID, which was sent whole, and those directly before it that are still here, newest first, at most
 * MOST. Returns how many; their data is valid until the next call. */
unsigned rift_split_recent(const struct rift_split *v, uint32_t id, struct rift_fec_frame *ret_frames,
                           unsigned most);

/* The frame that was pushed last; there must be one. */
const struct rift_fragment *rift_split_newest(const struct rift_split *v);

/* When rift_split_write() has something next, were there no pacer; 0: now. */
uint64_t rift_split_timeout(const struct rift_split *v);

/* Fragments FIRST + i of frame ID with bit i of BITMAP set are missing; N_BYTES 0: the whole frame is. */
void rift_split_nack(struct rift_split *v, uint32_t id, uint16_t first, const uint8_t *bitmap,
                     size_t n_bytes);

/* The client is done with all frames up to ID, shown or given up. */
void rift_split_confirm(struct rift_split *v, uint32_t id);

/* Whether a request for a keyframe after frame AFTER (KNOWN; else for any) still needs a new one. */
bool rift_split_needs_keyframe(const struct rift_split *v, bool known, uint32_t after);

void rift_split_write_gone(struct rift_split *v, struct wv_writer *w);
