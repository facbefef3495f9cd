/* The cursor's shape is part of what is on the screen (it shows what a person points at), so it is sealed
 * here for those who may see the picture; transport carries it unread. The key is derived from a media key by
 * identity. Pure, apart from random bytes. WIRE.md section 11. */
#pragma once

#include "services/capture/cursor.h"

#include <stddef.h>
#include <stdint.h>

#define WV_CURSOR_KEY_BYTES   32
#define WV_CURSOR_NONCE_BYTES 24
#define WV_CURSOR_TAG_BYTES   16
/* Pixels of a shape that, sealed and packed, fits one control message of 64 KiB. */
#define WV_CURSOR_PIXEL_BYTES (65536u - 512u)

struct wv_cursor_sealer {
    uint8_t blind[16]; /* secret of this process */
    uint32_t kid;      /* 0: no key yet */
    uint8_t key[WV_CURSOR_KEY_BYTES];
    uint8_t nonce[WV_CURSOR_NONCE_BYTES]; /* of the last one sealed */
    uint8_t sealed[WV_CURSOR_PIXEL_BYTES + 256];
    size_t len;
    uint8_t pixels[WV_CURSOR_MAX_SIZE * WV_CURSOR_MAX_SIZE * 4]; /* scratch */
};

void wv_cursor_sealer_init(struct wv_cursor_sealer *s);

/* The id that transport and clients know SHAPE_ID by: the true one is a hash of the image, and would tell an
 * arrow from a text cursor. 0 stays 0. */
uint32_t wv_cursor_blind(const struct wv_cursor_sealer *s, uint32_t shape_id);

/* Packs IMAGE (its id blinded) as a wavry.rift.CursorImage and seals it into S (nonce, sealed, len). One that
 * is too large for a control message is halved until it fits: a large cursor is shown smaller rather than not
 * at all. Returns 0, -ENOKEY, or -EINVAL for an image that can't be. */
int wv_cursor_seal(struct wv_cursor_sealer *s, const struct wv_cursor_image *image);
