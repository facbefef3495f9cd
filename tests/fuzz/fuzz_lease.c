/* Leases as bytes and as text, and lists of issuers' keys. What is accepted must be written back as it was
 * read. */
#include "rift/crypto/identity.h"
#include "rift/relay/lease.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rift_lease lease;
    uint8_t bytes[RIFT_LEASE_BYTES], key[32];
    char lease_text[RIFT_LEASE_TEXT_BYTES], key_text[RIFT_SIGN_KEY_TEXT_BYTES];
    if (rift_crypto_init() < 0)
        abort();
    if (rift_lease_parse(data, len, &lease) == 0) {
        uint8_t secret[64] = {0}, again[RIFT_LEASE_BYTES];
        memcpy(again, data, sizeof again);
        /* All but the issuer and the signature, which are the signer's. */
        if (rift_lease_sign(&lease, secret, again) < 0 || memcmp(again, data, 4) != 0 ||
            memcmp(again + 12, data + 12, RIFT_LEASE_SIGNED_BYTES - 12) != 0)
            abort();
        (void)rift_lease_check(&lease, lease.relay, lease.not_before_s, UINT32_MAX, UINT32_MAX);
        (void)rift_lease_is_signed(data, lease.peers[0]);
    }
    char *text = malloc(len + 1);
    if (!text)
        abort();
    memcpy(text, data, len);
    text[len] = 0;
    if (rift_lease_parse_text(text, bytes) == 0) {
        rift_lease_format(bytes, lease_text);
        if (strcmp(text, lease_text) != 0)
            abort();
    }
    if (rift_sign_key_parse(text, key) == 0) {
        rift_sign_key_format(key, key_text);
        if (strcmp(text, key_text) != 0)
            abort();
    }
    free(text);
    return 0;
}
