/* What an identity stage before may have left on its page: whatever lies there, what is taken over is sound,
 * and everything that is done with sessions works on it. */
#include "services/identity/live.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define NOW UINT64_C(1000000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct wv_live *l)
{
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        const struct wv_live_session *s = &l->sessions[i];
        if (!s->number)
            continue;
        if (s->grants > WV_GRANTS_ALL || (s->pairing && s->grants) || s->since_ns > NOW ||
            strnlen(s->name, sizeof s->name) == sizeof s->name ||
            strnlen(s->device, sizeof s->device) == sizeof s->device)
            abort();
        for (size_t j = 0; j < i; j++)
            if (l->sessions[j].number == s->number)
                abort();
    }
}

static void use(struct wv_live *l)
{
    uint8_t base[32] = {0}, key[32] = {7}, hash[64] = {0};
    const struct wv_live_new n = {
        .peer_key = key, .inner_base = base, .hash = hash, .name = "n", .device = "d", .grants = 3};
    struct wv_live_session *s;
    if (wv_live_add(l, &n, NOW, &s) == 0 && wv_live_find(l, s->number) == NULL)
        abort();
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        s = &l->sessions[i];
        if (!s->number)
            continue;
        (void)wv_live_missing(s, NOW);
        (void)wv_live_is_over(s, NOW, 5);
        (void)wv_live_take(l, s, i % 2);
        wv_live_grant(l, s, WV_GRANTS_USUAL, 0, "name");
        if (i % 3 == 0)
            wv_live_remove(l, s);
        struct wv_live_session *controls = wv_live_find(l, wv_live_settle(l));
        if (controls && !wv_live_may_control(controls))
            abort();
    }
    uint32_t kid = l->kid;
    wv_live_rekey(l, NOW);
    if (l->kid == 0 || (kid && kid != UINT32_MAX && l->kid != kid + 1))
        abort();
}

/* The bytes lie over a table with some sessions in it: at the place that the first two name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct wv_live live;
    if (len < 2 || sodium_init() < 0)
        return 0;
    wv_live_init(&live);
    live.last_number = 1000;
    for (uint32_t i = 0; i < 4; i++) {
        live.sessions[i].number = 10 + i;
        live.sessions[i].grants = i;
        memset(live.sessions[i].peer_key, (int)i, 32);
    }
    size_t at = (data[0] | (size_t)data[1] << 8) % sizeof live;
    memcpy((uint8_t *)&live + at, data + 2, len - 2 < sizeof live - at ? len - 2 : sizeof live - at);
    if (wv_live_adopt(&live, NOW)) {
        check(&live);
        use(&live);
    }
    return 0;
}
