/* Foreign bytes as a Noise message. The first byte chooses the message that they stand for (1, 2 or 3), the
 * rest is read at that point of an otherwise honest handshake with fixed keys. Messages 2 and 3 are
 * authenticated: whatever is accepted there must be the honest message itself. */
#include "rift/crypto/identity.h"
#include "rift/crypto/noise.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PAYLOAD "hello"

static void require(bool holds)
{
    if (!holds)
        abort();
}

static struct rift_noise *start(bool initiator)
{
    uint8_t secret[32], ephemeral[32];
    struct rift_noise *n = NULL;
    memset(secret, initiator ? 1 : 2, sizeof secret);
    memset(ephemeral, initiator ? 3 : 4, sizeof ephemeral);
    require(rift_noise_new(&n, initiator, secret, (const uint8_t *)"fuzz", 4, ephemeral) == 0);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t honest[256], plain[RIFT_NOISE_MESSAGE_BYTES];
    size_t honest_len, plain_len;
    require(rift_crypto_init() == 0);
    if (len < 1)
        return 0;
    unsigned step = data[0] % 3;
    data++, len--;

    struct rift_noise *side[2] = {start(true), start(false)};
    for (unsigned i = 0;; i++) {
        require(rift_noise_write(side[i % 2], (const uint8_t *)PAYLOAD, strlen(PAYLOAD), honest,
                                 sizeof honest, &honest_len) == 0);
        if (i == step)
            break;
        require(rift_noise_read(side[1 - i % 2], honest, honest_len, plain, sizeof plain, &plain_len) == 0);
    }
    struct rift_noise *reader = side[1 - step % 2];
    if (rift_noise_read(reader, data, len, plain, sizeof plain, &plain_len) == 0) {
        require(step == 0 || (len == honest_len && memcmp(data, honest, len) == 0));
        require(step == 0 || plain_len == strlen(PAYLOAD));
        if (!rift_noise_finished(reader))
            require(rift_noise_write(reader, NULL, 0, honest, sizeof honest, &honest_len) == 0);
    } else {
        require(rift_noise_remote_static(reader) == NULL && !rift_noise_finished(reader));
    }
    rift_noise_free(side[0]);
    rift_noise_free(side[1]);
    return 0;
}
