/* Any bytes as what comes to a path agent, genuine knocks with any content among them: nothing is out of
 * bounds, answers are no more than knocks, and nobody is sent more than his share. The first byte is the
 * role; then for each step: a choice, an address' last byte, a length and so many bytes. */
#include "rift/punch/agent.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

/* A knock that checks out, of these bytes. */
static void make_genuine(const uint8_t *secret, struct wv_reader *r, enum rift_role role, uint8_t *ret)
{
    struct rift_knock_keys keys;
    struct rift_knock k = {.role = 1 - role};
    rift_knock_derive(secret, &keys);
    uint8_t flags = wv_read_u8(r);
    k.kind = flags & 2 ? RIFT_KNOCK_ANSWER : RIFT_KNOCK;
    k.flags = flags & RIFT_KNOCK_USE;
    k.number = wv_read_u8(r) + 1u;
    const uint8_t *address = wv_read_span(r, sizeof k.address);
    if (address)
        memcpy(k.address, address, sizeof k.address);
    rift_knock_write(&keys, &k, ret);
}

static unsigned send_all(struct rift_punch *p, uint64_t now)
{
    uint8_t out[RIFT_KNOCK_BYTES], to[RIFT_ADDRESS_BYTES];
    unsigned n = 0;
    rift_punch_tick(p, now);
    while (rift_punch_send(p, out, now, to) == 0)
        require(++n < 200 && rift_knock_is(out, sizeof out, NULL));
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[RIFT_KNOCK_SECRET_BYTES] = {1};
    uint8_t from[RIFT_ADDRESS_BYTES] = {[10] = 0xff, [11] = 0xff, [12] = 192, [16] = 1},
            made[RIFT_KNOCK_BYTES] = {0};
    struct rift_punch *p;
    struct wv_reader r;
    wv_reader_init(&r, data, size);
    enum rift_role role = wv_read_u8(&r) & 1;
    uint64_t now = WV_NS_PER_S, sent = 0;
    unsigned steps = 0;
    require(rift_punch_new(&p, role, secret, now) == 0);
    for (; !r.failed && steps < 200; steps++) {
        uint8_t choice = wv_read_u8(&r);
        from[15] = wv_read_u8(&r);
        struct rift_candidate c = {.kind = choice >> 4, .priority = choice};
        memcpy(c.address, from, sizeof from);
        switch (choice & 7) {
        case 0:
            (void)rift_punch_add(p, &c, now);
            break;
        case 1:
            rift_punch_heard(p, from, now);
            break;
        case 2:
            now += (uint64_t)from[15] * from[15] * WV_NS_PER_MS;
            break;
        case 3:
            rift_punch_network_changed(p, now);
            break;
        case 4:
            rift_punch_relayed_address(made, from);
            rift_punch_set_relayed(p, choice & 8 ? from : NULL, now);
            memset(from, 0, sizeof from);
            from[10] = from[11] = 0xff, from[12] = 192, from[16] = 1;
            break;
        case 5: {
            size_t len = WV_MIN((size_t)wv_read_u8(&r), r.left);
            const uint8_t *bytes = wv_read_span(&r, len);
            (void)rift_punch_receive(p, from, bytes ? bytes : made, bytes ? len : 0, now);
            break;
        }
        default:
            make_genuine(secret, &r, role, made);
            (void)rift_punch_receive(p, from, made, sizeof made, now);
        }
        if (!(choice & 0x80))
            sent += send_all(p, now);
    }
    struct rift_punch_status s;
    rift_punch_get_status(p, &s);
    require(s.paths < RIFT_PUNCH_PATHS && s.answered <= s.paths && s.knocks_sent <= sent);
    rift_punch_free(p);
    return 0;
}
