/* Sealed access units on their way to the decoder: opened when their key is known, kept for a bounded while
 * when it may still come. Also the keys of the cursor's shapes, which come of the same ones. */
#pragma once

#include "rift/core/session.h"
#include "rift/crypto/media_seal.h"

#define WV_FRAMES_WAITING     32
#define WV_FRAMES_WAIT_NS     1000000000ull
#define WV_CURSOR_NONCE_BYTES 24
#define WV_CURSOR_TAG_BYTES   16

struct wv_frames;

struct wv_frame {
    struct rift_frame_meta meta;
    uint8_t *data; /* sealed when it goes in, opened when it comes out; valid until the next one goes in */
    size_t len;
    uint64_t first_packet_ns, last_packet_ns;
};

/* Room is taken at once and kept: RIFT_FRAME_MAX_BYTES of address space. */
int wv_frames_new(struct wv_frames **ret);
struct wv_frames *wv_frames_free(struct wv_frames *f);

/* A new session: keys and frames of the one before are forgotten. */
void wv_frames_reset(struct wv_frames *f);

void wv_frames_add_key(struct wv_frames *f, uint32_t kid, const uint8_t base[RIFT_MEDIA_KEY_BYTES]);

enum {
    WV_FRAMES_NONE = 1, /* nothing, or nothing that can be opened yet */
    WV_FRAMES_LOST = 2, /* put: no room; take: the key did not come in time. All that waited was dropped */
};

/* Puts a sealed frame (copied) behind those that wait. Returns 0 or WV_FRAMES_LOST. */
int wv_frames_put(struct wv_frames *f, const struct wv_frame *frame, uint64_t now);

/* Takes the oldest frame, opened. Returns 0, WV_FRAMES_NONE, WV_FRAMES_LOST, or -EBADMSG: it was forged,
 * repeated or malformed, and is dropped. */
int wv_frames_take(struct wv_frames *f, uint64_t now, struct wv_frame *ret);

/* When wv_frames_take() would say that a key did not come; UINT64_MAX: nothing waits. */
uint64_t wv_frames_timeout(const struct wv_frames *f);

/* Opens a cursor's shape (SealedCursor) into RET (LEN - WV_CURSOR_TAG_BYTES bytes). Returns 0,
 * WV_FRAMES_NONE (the key of KID is not known), -EBADMSG. */
int wv_frames_open_cursor(const struct wv_frames *f, uint32_t kid, const uint8_t nonce[WV_CURSOR_NONCE_BYTES],
                          const uint8_t *sealed, size_t len, uint8_t *ret);
