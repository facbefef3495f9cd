/* Identity files and the text of public keys. What is accepted must be written back as it was read. */
#include "rift/crypto/identity.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rift_identity identity;
    char identity_text[RIFT_IDENTITY_TEXT_BYTES], key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint8_t key[32];
    if (rift_crypto_init() < 0)
        abort();
    if (rift_identity_parse((const char *)data, len, &identity) == 0) {
        rift_identity_format(&identity, identity_text);
        if (len != strlen(identity_text) || strncasecmp(identity_text, (const char *)data, len) != 0)
            abort();
    }
    char *text = malloc(len + 1);
    if (!text)
        abort();
    memcpy(text, data, len);
    text[len] = 0;
    if (rift_public_key_parse(text, key) == 0) {
        rift_public_key_format(key, key_text);
        if (strcmp(text, key_text) != 0)
            abort();
    }
    free(text);
    return 0;
}
