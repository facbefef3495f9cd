/* Datagram protection on libsodium. A counter must never be used twice with one key: that is the caller's
 * promise, nothing here can check it. */
#include "rift/crypto/seal.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>

_Static_assert(RIFT_SEAL_KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "key size");
_Static_assert(RIFT_SEAL_TAG_BYTES == crypto_aead_chacha20poly1305_ietf_ABYTES, "tag size");

_Static_assert(RIFT_SEAL_NONCE_BYTES == crypto_aead_chacha20poly1305_ietf_NPUBBYTES, "nonce size");

void rift_seal_nonce(uint64_t counter, uint8_t ret_nonce[RIFT_SEAL_NONCE_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret_nonce, RIFT_SEAL_NONCE_BYTES);
    wv_write_u32(&w, 0);
    wv_write_u64(&w, counter);
}

void rift_seal(const uint8_t key[RIFT_SEAL_KEY_BYTES], uint64_t counter, const uint8_t *ad, size_t ad_len,
               uint8_t *data, size_t len)
{
    uint8_t nonce[RIFT_SEAL_NONCE_BYTES];
    rift_seal_nonce(counter, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(data, data + len, NULL, data, len, ad, ad_len, NULL,
                                                       nonce, key);
}

int rift_open(const uint8_t key[RIFT_SEAL_KEY_BYTES], uint64_t counter, const uint8_t *ad, size_t ad_len,
              uint8_t *data, size_t len)
{
    if (len < RIFT_SEAL_TAG_BYTES)
        return -EBADMSG;
    uint8_t nonce[RIFT_SEAL_NONCE_BYTES];
    rift_seal_nonce(counter, nonce);
    size_t text = len - RIFT_SEAL_TAG_BYTES;
    if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(data, NULL, data, text, data + text, ad, ad_len,
                                                           nonce, key) != 0)
        return -EBADMSG;
    return 0;
}
