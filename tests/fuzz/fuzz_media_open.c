/* Sealed access units through a transport that does with them what it likes: changes them or what is said
 * about them, repeats, reorders and cuts them, holds back keys. What opens must be what the encoder sealed,
 * with what it said, and in its order. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/media_seal.h"

#include <stdlib.h>
#include <string.h>

#define KEPT     16
#define UNIT_MAX 48
#define CAPACITY (UNIT_MAX + RIFT_MEDIA_OVERHEAD_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct unit {
    uint8_t plain[UNIT_MAX], sealed[CAPACITY];
    size_t plain_len, sealed_len;
    struct rift_media_about about;
    unsigned order;
};

struct world {
    struct rift_media_sealer sealer;
    struct rift_media_opener opener;
    struct unit kept[KEPT];
    unsigned n, opened; /* units sealed; the order of the next that may open */
    uint8_t base[32];
    uint32_t kid;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool same_about(const struct rift_media_about *a, const struct rift_media_about *b)
{
    return a->epoch == b->epoch && a->keyframe == b->keyframe && a->width == b->width &&
           a->height == b->height;
}

static void new_key(struct world *w, bool told)
{
    w->base[w->kid++ % sizeof w->base]++;
    rift_media_sealer_init(&w->sealer, w->kid, w->base);
    if (told)
        rift_media_opener_add(&w->opener, w->kid, w->base);
}

static void seal_one(struct world *w, struct wv_reader *r)
{
    struct unit *u = &w->kept[w->n % KEPT];
    u->about.epoch = wv_read_u8(r);
    u->about.keyframe = wv_read_u8(r) & 1;
    u->about.width = wv_read_u16(r);
    u->about.height = 16;
    w->sealer.next += wv_read_u16(r);
    size_t len = WV_MIN((size_t)wv_read_u8(r), r->left);
    len = WV_MIN(len, (size_t)UNIT_MAX);
    const uint8_t *plain = wv_read_span(r, len);
    u->plain_len = r->failed ? 0 : len;
    if (u->plain_len)
        memcpy(u->plain, plain, u->plain_len);
    u->order = ++w->n;
    require(rift_media_seal(&w->sealer, &u->about, u->plain, u->plain_len, u->sealed, sizeof u->sealed,
                            &u->sealed_len) == 0);
}

static void deliver(struct world *w, const struct rift_media_about *about, const uint8_t *sealed, size_t len)
{
    uint8_t copy[512], *plain;
    size_t plain_len;
    struct rift_media_opener before = w->opener;
    len = WV_MIN(len, sizeof copy);
    if (len)
        memcpy(copy, sealed, len);
    int r = rift_media_open(&w->opener, about, copy, len, &plain, &plain_len);
    if (r != 0) {
        require(memcmp(&before, &w->opener, sizeof before) == 0);
        require(r != RIFT_MEDIA_UNKNOWN_KEY || memcmp(copy, sealed, len) == 0);
        return;
    }
    for (unsigned i = 0; i < KEPT; i++) {
        const struct unit *u = &w->kept[i];
        if (u->sealed_len != len || memcmp(u->sealed, sealed, len) != 0 || !same_about(about, &u->about))
            continue;
        require(plain_len == u->plain_len && memcmp(plain, u->plain, plain_len) == 0);
        require(u->order > w->opened);
        w->opened = u->order;
        return;
    }
    abort(); /* nobody sealed that */
}

static void step(struct world *w, struct wv_reader *r)
{
    uint8_t copy[CAPACITY], what = wv_read_u8(r);
    const struct unit *u = &w->kept[what >> 3 & (KEPT - 1)];
    struct rift_media_about about = u->about;
    size_t len = 0;
    switch (what % 8) {
    case 0:
    case 1:
        seal_one(w, r);
        break;
    case 2: /* whole */
        deliver(w, &about, u->sealed, u->sealed_len);
        break;
    case 3: /* changed; most often the header, which is at the front */
        memcpy(copy, u->sealed, sizeof copy);
        copy[wv_read_u8(r) % CAPACITY] ^= wv_read_u8(r);
        deliver(w, &about, copy, u->sealed_len);
        break;
    case 4: /* cut */
        deliver(w, &about, u->sealed, WV_MIN((size_t)wv_read_u8(r), u->sealed_len));
        break;
    case 5: /* with another word about it */
        about.epoch ^= wv_read_u8(r);
        about.keyframe ^= wv_read_u8(r) & 1;
        about.height ^= wv_read_u8(r);
        deliver(w, &about, u->sealed, u->sealed_len);
        break;
    case 6: /* any bytes */
        len = WV_MIN((size_t)wv_read_u8(r), r->left);
        deliver(w, &about, wv_read_span(r, len), len);
        break;
    case 7: /* another key, told or held back, and perhaps told late */
        if (what & 8)
            rift_media_opener_add(&w->opener, w->kid, w->base);
        else
            new_key(w, what & 16);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world w;
    struct wv_reader r;
    require(rift_crypto_init() == 0);
    memset(&w, 0, sizeof w);
    rift_media_opener_init(&w.opener);
    new_key(&w, true);
    wv_reader_init(&r, data, len);
    while (r.left && !r.failed)
        step(&w, &r);
    return 0;
}
