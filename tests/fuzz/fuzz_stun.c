/* Any bytes as STUN: what is read is within its ranges, and an address that was read is written and read
 * again. */
#include "rift/punch/stun.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rift_stun_message m, again;
    uint8_t answer[RIFT_STUN_RESPONSE_BYTES];
    if (rift_stun_read(data, size, &m) < 0)
        return 0;
    require(rift_stun_is(data, size));
    require(m.error == 0 || (m.error >= 300 && m.error < 700));
    require(m.method < 0x1000);
    if (!m.has_address)
        return 0;
    size_t n = rift_stun_respond(m.id, m.address, answer);
    require(n <= sizeof answer && rift_stun_read(answer, n, &again) == 0);
    require(again.has_fingerprint && !memcmp(again.address, m.address, sizeof m.address));
    return 0;
}
