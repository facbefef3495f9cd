/* See cursor_seal.h. Must never give out a shape that is not sealed. */
#include "services/capture/cursor_seal.h"

#include "lib/base/util.h"
#include "proto/rift.pb-c.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define KEY crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define TAG crypto_aead_xchacha20poly1305_ietf_ABYTES
_Static_assert(WV_CURSOR_KEY_BYTES == KEY, "key size");
_Static_assert(WV_CURSOR_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce size");
_Static_assert(WV_CURSOR_TAG_BYTES == TAG, "tag size");

_Static_assert(sizeof((struct wv_cursor_sealer){0}.blind) == crypto_shorthash_KEYBYTES, "key size");

void wv_cursor_sealer_init(struct wv_cursor_sealer *s)
{
    memset(s, 0, sizeof(*s));
    randombytes_buf(s->blind, sizeof(s->blind));
}

uint32_t wv_cursor_blind(const struct wv_cursor_sealer *s, uint32_t shape_id)
{
    uint8_t hash[crypto_shorthash_BYTES];
    uint32_t id;

    if (!shape_id)
        return 0;
    crypto_shorthash(hash, (const uint8_t *)&shape_id, sizeof(shape_id), s->blind);
    memcpy(&id, hash, sizeof(id));
    return id ? id : 1;
}

static size_t pixel_bytes(const struct wv_cursor_image *i)
{
    return (size_t)i->width * i->height * 4;
}

static bool is_sound(const struct wv_cursor_image *i)
{
    return i->width && i->height && i->width <= WV_CURSOR_MAX_SIZE && i->height <= WV_CURSOR_MAX_SIZE &&
           i->hot_x < i->width && i->hot_y < i->height;
}

/* Half as wide and high, in place: each pixel is the mean of four. */
static void halve(struct wv_cursor_image *i, uint8_t *pixels)
{
    uint32_t width = i->width / 2, height = i->height / 2;
    size_t row = (size_t)i->width * 4;

    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            const uint8_t *from = pixels + 2 * y * row + (size_t)2 * x * 4;
            uint8_t *to = pixels + ((size_t)y * width + x) * 4;

            for (unsigned n = 0; n < 4; n++)
                to[n] = (uint8_t)((from[n] + from[n + 4] + from[n + row] + from[n + row + 4]) / 4);
        }
    }
    i->width = width;
    i->height = height;
    i->hot_x = WV_MIN(i->hot_x / 2, width - 1);
    i->hot_y = WV_MIN(i->hot_y / 2, height - 1);
}

/* Packs I with PIXELS. Returns its length. */
static size_t pack(const struct wv_cursor_image *i, uint8_t *pixels, uint8_t *ret)
{
    Wavry__Rift__CursorImage m = WAVRY__RIFT__CURSOR_IMAGE__INIT;

    m.shape_id = i->shape_id;
    m.width = i->width;
    m.height = i->height;
    m.hot_x = i->hot_x;
    m.hot_y = i->hot_y;
    m.argb = (ProtobufCBinaryData){.data = pixels, .len = pixel_bytes(i)};
    return wavry__rift__cursor_image__pack(&m, ret);
}

int wv_cursor_seal(struct wv_cursor_sealer *s, const struct wv_cursor_image *image)
{
    struct wv_cursor_image i = *image;
    unsigned long long len;
    size_t plain;

    if (!s->kid)
        return -ENOKEY;
    if (!is_sound(&i))
        return -EINVAL;
    memcpy(s->pixels, i.argb, pixel_bytes(&i));
    i.shape_id = wv_cursor_blind(s, i.shape_id);
    while (pixel_bytes(&i) > WV_CURSOR_PIXEL_BYTES)
        halve(&i, s->pixels);
    /* Five numbers, and the tags and lengths of six fields: far below the spare bytes. */
    plain = pack(&i, s->pixels, s->sealed);
    randombytes_buf(s->nonce, sizeof(s->nonce));
    crypto_aead_xchacha20poly1305_ietf_encrypt(s->sealed, &len, s->sealed, plain, NULL, 0, NULL, s->nonce,
                                               s->key);
    s->len = (size_t)len;
    return 0;
}
