/* A peer's share and associated data, which come from somebody who has proven nothing yet. The first byte
 * says which side we are, then 32 bytes are the share, the rest its associated data. Whatever comes, our
 * secrets are gone afterwards, and only the honest share gives the honest side's tags. */
#include "rift/crypto/cpace.h"
#include "rift/crypto/identity.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void begin(struct rift_cpace *c, uint8_t scalar_byte)
{
    static const uint8_t sid[64] = {1}, channel[] = "RIFT 1 pair";
    uint8_t scalar[32] = {scalar_byte};
    require(rift_cpace_begin(c, (const uint8_t *)"12345678", 8, channel, sizeof channel, sid, sizeof sid,
                             scalar) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t key[2][64] = {{0}}, own[2][64], peer[2][64], ours[32], theirs[32], share[32] = {0};
    struct rift_cpace us, them;
    require(rift_crypto_init() == 0);
    if (len < 1)
        return 0;
    bool initiator = data[0] & 1;
    size_t share_len = len - 1 < 32 ? len - 1 : 32;
    memcpy(share, data + 1, share_len);
    const uint8_t *ad = data + 1 + share_len;
    size_t ad_len = len - 1 - share_len;

    begin(&us, 5);
    begin(&them, 6);
    memcpy(ours, us.share, 32);
    memcpy(theirs, them.share, 32);
    /* Two special cases that no mutation finds: what we sent, come back, and the honest answer. */
    if (data[0] & 2)
        memcpy(share, data[0] & 4 ? theirs : ours, 32);
    memset(own, 9, sizeof own);
    int r = rift_cpace_finish(&us, initiator, NULL, 0, share, ad, ad_len, key[0], own[0], peer[0]);
    require(sodium_is_zero((const uint8_t *)&us, sizeof us));
    if (r < 0) {
        require(own[0][0] == 9 && own[0][63] == 9 && sodium_is_zero(key[0], 64));
        return 0;
    }
    require(memcmp(share, ours, 32) != 0);
    require(memcmp(own[0], peer[0], 64) != 0);
    require(rift_cpace_finish(&them, !initiator, ad, ad_len, ours, NULL, 0, key[1], own[1], peer[1]) == 0);
    bool honest = memcmp(share, theirs, 32) == 0;
    require((memcmp(key[0], key[1], 64) == 0) == honest);
    require((memcmp(own[1], peer[0], 64) == 0) == honest && (memcmp(own[0], peer[1], 64) == 0) == honest);
    return 0;
}
