/* Inner messages and sealed input events through a transport that does with them what it likes. The input is
 * a script: an honest message is sealed, or one of the last is delivered: whole, cut, with bytes turned, to
 * the wrong end, again; or any bytes are. What opens must be an honest message, unchanged, and newer than the
 * last one. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/inner.h"

#include <stdlib.h>
#include <string.h>

#define KEPT      8
#define PLAIN_MAX 64
#define CAPACITY  (PLAIN_MAX + RIFT_INNER_OVERHEAD)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct message {
    uint8_t plain[PLAIN_MAX], sealed[CAPACITY];
    size_t plain_len, sealed_len;
};

struct world {
    struct rift_inner end[2]; /* client, host */
    struct message kept[2][KEPT];
    unsigned n[2];
    uint64_t opened[2]; /* number of the next message that may open, of each sender */
    uint8_t input_key[32];
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void seal_one(struct world *w, unsigned from, const uint8_t *plain, size_t len)
{
    struct message *m = &w->kept[from][w->n[from]++ % KEPT];
    m->plain_len = WV_MIN(len, (size_t)PLAIN_MAX);
    if (m->plain_len)
        memcpy(m->plain, plain, m->plain_len);
    require(rift_inner_seal(&w->end[from], m->plain, m->plain_len, m->sealed, sizeof m->sealed,
                            &m->sealed_len) == 0);
}

static void deliver(struct world *w, unsigned to, const uint8_t *sealed, size_t len)
{
    uint8_t plain[PLAIN_MAX];
    size_t plain_len;
    struct rift_inner before = w->end[to];
    int r = rift_inner_open(&w->end[to], sealed, len, plain, sizeof plain, &plain_len);
    if (r < 0) {
        require(memcmp(&before, &w->end[to], sizeof before) == 0);
        return;
    }
    for (unsigned i = 0; i < KEPT; i++) {
        const struct message *m = &w->kept[1 - to][i];
        if (m->sealed_len != len || memcmp(m->sealed, sealed, len) != 0)
            continue;
        uint64_t number = w->end[to].next_receive - 1;
        require(plain_len == m->plain_len && memcmp(plain, m->plain, plain_len) == 0);
        require(number >= w->opened[to]);
        w->opened[to] = number + 1;
        return;
    }
    abort(); /* nobody sealed that */
}

static void input(struct world *w, uint32_t seq, struct wv_reader *r)
{
    uint8_t sealed[RIFT_INPUT_SEALED_BYTES], plain[RIFT_INPUT_PLAIN_BYTES] = {1}, out[sizeof plain];
    rift_input_seal(w->input_key, seq, plain, sealed);
    uint8_t at = wv_read_u8(r) % sizeof sealed, bits = wv_read_u8(r);
    uint32_t as = seq + wv_read_u8(r);
    sealed[at] ^= bits;
    require((rift_input_open(w->input_key, as, sealed, out) == 0) == (bits == 0 && as == seq));
}

static void step(struct world *w, struct wv_reader *r)
{
    uint8_t copy[CAPACITY], what = wv_read_u8(r);
    unsigned side = what >> 3 & 1;
    const struct message *m = &w->kept[side][(what >> 4) % KEPT];
    size_t len = what % 4 < 2 ? WV_MIN((size_t)wv_read_u8(r), r->left) : 0;
    const uint8_t *bytes = wv_read_span(r, len);
    if (r->failed)
        return;
    switch (what % 8) {
    case 0: /* an honest one */
    case 4:
        seal_one(w, side, bytes, len);
        break;
    case 1: /* any bytes */
    case 5:
        deliver(w, side, bytes, len);
        break;
    case 2: /* a kept one, to where it belongs or back */
        deliver(w, 1 - side, m->sealed, m->sealed_len);
        break;
    case 3:
        deliver(w, side, m->sealed, m->sealed_len);
        break;
    case 6: /* changed */
        memcpy(copy, m->sealed, sizeof copy);
        copy[wv_read_u8(r) % CAPACITY] ^= wv_read_u8(r);
        deliver(w, 1 - side, copy, m->sealed_len);
        break;
    case 7: /* cut, or an event */
        if (side)
            input(w, what, r);
        else
            deliver(w, 1, m->sealed, WV_MIN((size_t)wv_read_u8(r), m->sealed_len));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world w;
    static const uint8_t base[32] = {7};
    struct wv_reader r;
    require(rift_crypto_init() == 0);
    memset(&w, 0, sizeof w);
    rift_inner_derive(base, false, &w.end[0], w.input_key);
    rift_inner_derive(base, true, &w.end[1], w.input_key);
    wv_reader_init(&r, data, len);
    while (r.left && !r.failed)
        step(&w, &r);
    return 0;
}
