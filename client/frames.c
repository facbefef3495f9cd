/* Sealed access units; see frames.h. */
#include "client/frames.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define CURSOR_PURPOSE "RIFT 1 cursor"

struct waiting {
    struct wv_frame frame;
    uint64_t since;
};

struct wv_frames {
    struct rift_media_opener opener;
    struct {
        uint32_t kid; /* 0: free */
        uint8_t key[32];
    } cursor[RIFT_MEDIA_KEYS];
    unsigned next_cursor;
    struct waiting waiting[WV_FRAMES_WAITING];
    unsigned first, n;
    size_t used; /* of the room; all of it is free again when nothing waits */
    uint8_t room[RIFT_FRAME_MAX_BYTES];
};

int wv_frames_new(struct wv_frames **ret)
{
    struct wv_frames *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    rift_media_opener_init(&f->opener);
    *ret = f;
    return 0;
}

struct wv_frames *wv_frames_free(struct wv_frames *f)
{
    if (f) {
        explicit_bzero(&f->opener, sizeof f->opener);
        explicit_bzero(f->cursor, sizeof f->cursor);
        free(f);
    }
    return NULL;
}

static void drop_all(struct wv_frames *f)
{
    f->first = f->n = 0;
    f->used = 0;
}

void wv_frames_reset(struct wv_frames *f)
{
    explicit_bzero(&f->opener, sizeof f->opener);
    explicit_bzero(f->cursor, sizeof f->cursor);
    rift_media_opener_init(&f->opener);
    f->next_cursor = 0;
    drop_all(f);
}

void wv_frames_add_key(struct wv_frames *f, uint32_t kid, const uint8_t base[RIFT_MEDIA_KEY_BYTES])
{
    rift_media_opener_add(&f->opener, kid, base);
    for (size_t i = 0; i < RIFT_MEDIA_KEYS; i++)
        if (f->cursor[i].kid == kid)
            return; /* a key that is known stays */
    unsigned i = f->next_cursor++ % RIFT_MEDIA_KEYS;
    f->cursor[i].kid = kid;
    crypto_generichash(f->cursor[i].key, sizeof f->cursor[i].key, (const uint8_t *)CURSOR_PURPOSE,
                       sizeof CURSOR_PURPOSE - 1, base, RIFT_MEDIA_KEY_BYTES);
}

int wv_frames_put(struct wv_frames *f, const struct wv_frame *frame, uint64_t now)
{
    if (f->n == 0)
        drop_all(f);
    if (f->n == WV_FRAMES_WAITING || frame->len > sizeof f->room - f->used) {
        drop_all(f);
        return WV_FRAMES_LOST;
    }
    struct waiting *w = &f->waiting[(f->first + f->n++) % WV_FRAMES_WAITING];
    *w = (struct waiting){.frame = *frame, .since = now};
    w->frame.data = f->room + f->used;
    memcpy(w->frame.data, frame->data, frame->len);
    f->used += frame->len;
    return 0;
}

int wv_frames_take(struct wv_frames *f, uint64_t now, struct wv_frame *ret)
{
    if (f->n == 0)
        return WV_FRAMES_NONE;
    const struct waiting *w = &f->waiting[f->first];
    struct wv_frame frame = w->frame;
    const struct rift_media_about about = {.epoch = frame.meta.epoch,
                                           .keyframe = frame.meta.keyframe,
                                           .width = frame.meta.width,
                                           .height = frame.meta.height};
    int r = rift_media_open(&f->opener, &about, w->frame.data, w->frame.len, &frame.data, &frame.len);
    if (r == RIFT_MEDIA_UNKNOWN_KEY) {
        if (now - w->since < WV_FRAMES_WAIT_NS)
            return WV_FRAMES_NONE;
        drop_all(f);
        return WV_FRAMES_LOST;
    }
    f->first = (f->first + 1) % WV_FRAMES_WAITING;
    f->n--;
    if (r == 0)
        *ret = frame;
    return r;
}

uint64_t wv_frames_timeout(const struct wv_frames *f)
{
    return f->n ? f->waiting[f->first].since + WV_FRAMES_WAIT_NS : UINT64_MAX;
}

int wv_frames_open_cursor(const struct wv_frames *f, uint32_t kid, const uint8_t nonce[WV_CURSOR_NONCE_BYTES],
                          const uint8_t *sealed, size_t len, uint8_t *ret)
{
    if (len < WV_CURSOR_TAG_BYTES || kid == 0)
        return -EBADMSG;
    for (size_t i = 0; i < RIFT_MEDIA_KEYS; i++)
        if (f->cursor[i].kid == kid)
            return crypto_aead_xchacha20poly1305_ietf_decrypt(ret, NULL, NULL, sealed, len, NULL, 0, nonce,
                                                              f->cursor[i].key) == 0
                       ? 0
                       : -EBADMSG;
    return WV_FRAMES_NONE;
}
