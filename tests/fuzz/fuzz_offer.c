/* Sealed signals through a gateway that does with them what it likes. The input is a script: each end seals,
 * and what was sealed is delivered to either end as it is, cut, or with bytes turned; or any bytes are. What
 * opens must be what the other end sealed, whole; and no id is taken twice. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/offer.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN_MAX 96
#define CAPACITY  (PLAIN_MAX + RIFT_OFFER_OVERHEAD)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct world {
    struct rift_identity id[2]; /* client, host */
    struct rift_offer_end end[2];
    uint8_t plain[2][PLAIN_MAX], sealed[2][CAPACITY];
    size_t plain_len[2], sealed_len[2];
    struct rift_offer_memory memory;
    bool taken[256];
    uint64_t now;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void deliver(struct world *w, unsigned to, const uint8_t *sealed, size_t len)
{
    uint8_t plain[CAPACITY];
    size_t n;
    unsigned from = 1 - to;
    if (rift_offer_open(&w->end[to], sealed, len, plain, sizeof plain, &n) < 0)
        return;
    require(len == w->sealed_len[from] && memcmp(sealed, w->sealed[from], len) == 0);
    require(n == w->plain_len[from] && memcmp(plain, w->plain[from], n) == 0);
}

static void take(struct world *w, uint8_t number, uint8_t age)
{
    uint8_t id[RIFT_OFFER_ID_BYTES] = {number};
    w->now += age;
    int r = rift_offer_take(&w->memory, id, w->id[0].public, 1000000 + number, w->now);
    require(r != RIFT_OFFER_FRESH || !w->taken[number]);
    require(r != RIFT_OFFER_REPLAYED || w->taken[number]);
    w->taken[number] = w->taken[number] || r == RIFT_OFFER_FRESH;
}

static void step(struct world *w, struct wv_reader *r)
{
    uint8_t copy[CAPACITY], what = wv_read_u8(r), a = wv_read_u8(r), b = wv_read_u8(r);
    unsigned side = what >> 3 & 1;
    size_t most = WV_MIN(r->left, (size_t)PLAIN_MAX), len = what % 8 < 2 ? WV_MIN((size_t)a, most) : 0;
    const uint8_t *bytes = wv_read_span(r, len);
    if (r->failed)
        return;
    switch (what % 8) {
    case 0:
        if (len)
            memcpy(w->plain[side], bytes, len);
        w->plain_len[side] = len;
        require(rift_offer_seal(&w->end[side], NULL, bytes, len, w->sealed[side], CAPACITY,
                                &w->sealed_len[side]) == 0);
        break;
    case 1:
        deliver(w, side, bytes, len);
        break;
    case 2:
    case 3: /* as it is: to where it belongs, or back */
        deliver(w, what % 2 ? side : 1 - side, w->sealed[side], w->sealed_len[side]);
        break;
    case 4: /* changed */
        memcpy(copy, w->sealed[side], sizeof copy);
        copy[a % CAPACITY] ^= b;
        deliver(w, 1 - side, copy, w->sealed_len[side]);
        break;
    case 5: /* cut */
        deliver(w, 1 - side, w->sealed[side], WV_MIN((size_t)a, w->sealed_len[side]));
        break;
    default:
        take(w, a, b);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world w;
    uint8_t seed[64];
    struct wv_reader r;
    require(rift_crypto_init() == 0);
    memset(&w, 0, sizeof w);
    w.now = 1000000;
    /* Keys of this input alone: the fuzzer remembers what it saw. */
    crypto_generichash(seed, sizeof seed, data, len, NULL, 0);
    for (unsigned i = 0; i < 2; i++)
        rift_identity_from_seed(&w.id[i], seed + 32 * (size_t)i);
    for (unsigned i = 0; i < 2; i++)
        w.end[i] = (struct rift_offer_end){i == 1, w.id[i].secret, w.id[i].public, w.id[1 - i].public};
    wv_reader_init(&r, data, len);
    while (r.left && !r.failed)
        step(&w, &r);
    return 0;
}
