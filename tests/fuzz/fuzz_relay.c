/* A relay with a bound pair, and datagrams from anybody. The input is a script: per step one byte of what to
 * do, for some a length (u16) and bytes. The relay must never answer with more than it was given (where it
 * serves STUN, 32 bytes more), forward what a stranger sent, or forget the pair. */
#include "lib/base/bytes.h"
#include "tests/unit/relay_kit.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void step(struct kit *k, struct wv_reader *r)
{
    uint8_t what = wv_read_u8(r), d[2048] = {0};
    struct rift_relay_address stranger = kit_address(77, 7777);
    size_t said = wv_read_u16(r), room = WV_MIN(r->left, sizeof d), n = WV_MIN(said, room);
    const uint8_t *bytes = wv_read_span(r, n);
    if (bytes)
        memcpy(d, bytes, n);
    switch (what % 8) {
    case 0: /* a stranger */
        if (kit_give(k, &stranger, d, n))
            abort();
        break;
    case 1: /* a peer, whatever it says */
        kit_give(k, &k->peers[0].address, d, n);
        break;
    case 2: /* a peer with its own header */
        if (n >= RIFT_RELAY_HEADER_BYTES && rift_relay_client_header(k->peers[0].client, d) == 0)
            kit_give(k, &k->peers[0].address, d, n);
        break;
    case 3: /* the relay's last word to a peer, bent, back to the relay and to the peer */
        if (k->peers[0].last_len && n) {
            const uint8_t *payload;
            size_t payload_len, at = d[0] % k->peers[0].last_len;
            uint8_t bent[2048];
            memcpy(bent, k->peers[0].last, k->peers[0].last_len);
            bent[at] ^= (uint8_t)n;
            (void)rift_relay_client_receive(k->peers[0].client, bent, k->peers[0].last_len, k->clock.now,
                                            KIT_UNIX, &payload, &payload_len);
            kit_give(k, &stranger, bent, k->peers[0].last_len);
        }
        break;
    case 4: { /* the relay is played to a peer */
        const uint8_t *payload;
        size_t payload_len;
        (void)rift_relay_client_receive(k->peers[1].client, d, n, k->clock.now, KIT_UNIX, &payload,
                                        &payload_len);
        break;
    }
    case 5: /* a record */
        if (n >= RIFT_RELAY_RECORD_BYTES)
            (void)rift_relay_import(k->relay, d[0] % 5, d, &k->clock);
        break;
    default:
        kit_run(k, (n + 1) * WV_NS_PER_MS);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct kit k;
    struct wv_reader r;
    kit_init(&k, 4);
    k.config.stun_per_s = len & 1 ? 20 : 0; /* with it the bound is 32 bytes more */
    k.longer = len & 1 ? 32 : 0;
    kit_restart(&k, false);
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    kit_lease(&k, 0, 1, &terms);
    kit_run(&k, 10 * WV_NS_PER_MS);
    wv_reader_init(&r, data, len);
    for (int i = 0; i < 64 && r.left; i++)
        step(&k, &r);
    if (k.longest_answer || kit_stats(&k)->leases > 4)
        abort();
    kit_fini(&k);
    return 0;
}
