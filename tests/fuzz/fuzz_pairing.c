/* The count of failed pairings as it lies on disk, and the state machine of pairing with every message in
 * every order: never more than three runs to a code, never one that is not counted, and nobody is paired who
 * does not know the code. */
#include "services/identity/pairing.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t now, unix_s;
static unsigned in_code;

static void check(const struct wv_pairing *p)
{
    char state[WV_PAIRING_STATE_BYTES];
    bool damaged;
    struct wv_pairing *again;
    size_t len = wv_pairing_format(p, state);
    if (len != strlen(state) || wv_pairing_new(&again, state, len, &damaged) < 0)
        abort();
    if (damaged || wv_pairing_failures(again) != wv_pairing_failures(p))
        abort();
    wv_pairing_free(again);
}

static void start(struct wv_pairing *p, const uint8_t *op)
{
    static const uint8_t zero[64];
    uint8_t share[RIFT_CPACE_SHARE_BYTES], answer[RIFT_CPACE_SHARE_BYTES], wide[64];
    const struct wv_pairing_start s = {.session = op[1] % 4,
                                       .client_key = zero,
                                       .host_key = zero,
                                       .hash = zero,
                                       .share = share,
                                       .name = op[2] % 2 ? "x" : "",
                                       .token = op[2] % 3 == 0};
    memset(wide, op[2], sizeof wide);
    crypto_core_ristretto255_from_hash(share, wide);
    if (op[3] % 4 == 0)
        memset(share, op[3], sizeof share);
    unsigned before = wv_pairing_failures(p);
    if (wv_pairing_begin(p, &s, now, unix_s, answer) != 0)
        return;
    if (++in_code > WV_PAIRING_TRIES || before >= WV_PAIRING_FAILURES_MAX || wv_pairing_failures(p) == 0)
        abort();
}

static void step(struct wv_pairing **p, const uint8_t *op)
{
    static const struct wv_pairing_offer offer = {.grants = 3};
    char code[WV_PAIRING_CODE_DIGITS + 1], state[WV_PAIRING_STATE_BYTES];
    uint8_t token[WV_PAIRING_TOKEN_BYTES], tag[RIFT_CPACE_TAG_BYTES];
    struct wv_pairing_done done;
    bool damaged;
    switch (op[0] % 8) {
    case 0:
        if (wv_pairing_open(*p, &offer, op[1], now, unix_s, code, token) == 0)
            in_code = 0;
        break;
    case 1:
    case 2:
        start(*p, op);
        break;
    case 3:
        memset(tag, op[2], sizeof tag);
        if (wv_pairing_confirm(*p, op[1] % 4, tag, now, &done) == 0)
            abort(); /* one in 2^512 */
        break;
    case 4:
        wv_pairing_end(*p, op[1] % 4);
        break;
    case 5:
        now += (uint64_t)op[1] * 1000000000;
        unix_s = op[2] % 2 ? unix_s + (uint64_t)op[3] * 1000 : unix_s / 2;
        break;
    case 6: {
        size_t len = wv_pairing_format(*p, state);
        wv_pairing_free(*p);
        if (wv_pairing_new(p, state, len, &damaged) < 0 || damaged || wv_pairing_is_open(*p, now))
            abort();
        break;
    }
    default:
        if (op[1] == 0)
            wv_pairing_reopen(*p);
        else if (op[1] == 1)
            wv_pairing_cancel(*p);
        break;
    }
    check(*p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wv_pairing *p;
    bool damaged;
    if (sodium_init() < 0 || len < 1)
        return 0;
    now = 1;
    unix_s = 1800000000;
    in_code = 0;
    /* Half of the inputs are a file, the other half a history. */
    if (data[0] % 2) {
        if (wv_pairing_new(&p, (const char *)data + 1, len - 1, &damaged) < 0)
            return 0;
        if (damaged && wv_pairing_failures(p) != WV_PAIRING_FAILURES_MAX)
            abort();
        check(p);
    } else {
        if (wv_pairing_new(&p, NULL, 0, &damaged) < 0)
            return 0;
        for (size_t i = 1; i + 4 <= len && i < 400; i += 4)
            step(&p, data + i);
    }
    wv_pairing_free(p);
    return 0;
}
