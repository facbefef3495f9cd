/* A machine's proof to a gateway; see prove.h. */
#include "rift/crypto/prove.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LABEL "RIFT 1 gateway"

int rift_prove_gateway(const uint8_t sign_secret[64], const char *name,
                       const uint8_t challenge[RIFT_PROVE_CHALLENGE_BYTES], uint8_t ret_signature[64])
{
    uint8_t text[sizeof LABEL + RIFT_PROVE_NAME_MAX + 1 + RIFT_PROVE_CHALLENGE_BYTES];
    size_t len = strlen(name);
    if (len == 0 || len > RIFT_PROVE_NAME_MAX)
        return -EINVAL;
    memcpy(text, LABEL, sizeof LABEL); /* with its zero byte, as the name */
    memcpy(text + sizeof LABEL, name, len + 1);
    memcpy(text + sizeof LABEL + len + 1, challenge, RIFT_PROVE_CHALLENGE_BYTES);
    crypto_sign_detached(ret_signature, NULL, text, sizeof LABEL + len + 1 + RIFT_PROVE_CHALLENGE_BYTES,
                         sign_secret);
    return 0;
}
