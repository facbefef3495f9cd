/* The inner channel and the sealing of input events on libsodium. Must never keep a secret in a local past
 * its use, or write a sealed byte under a number that could be used again. */
#include "rift/crypto/inner.h"

#include "lib/base/bytes.h"
#include "rift/crypto/seal.h"

#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <string.h>

#define KEY          RIFT_INNER_KEY_BYTES
#define NUMBER_BYTES 8
#define TAG          RIFT_SEAL_TAG_BYTES

_Static_assert(RIFT_INNER_OVERHEAD == NUMBER_BYTES + TAG, "number and tag");
_Static_assert(RIFT_INPUT_SEALED_BYTES == RIFT_INPUT_PLAIN_BYTES + TAG, "an event and a tag");

static void derive(const uint8_t base[KEY], const char *label, uint8_t ret_key[KEY])
{
    crypto_generichash(ret_key, KEY, (const uint8_t *)label, strlen(label), base, KEY);
}

void rift_inner_derive(const uint8_t base[KEY], bool host, struct rift_inner *ret_inner,
                       uint8_t ret_input_key[KEY])
{
    struct rift_inner *inner = ret_inner;
    derive(base, "RIFT 1 to host", host ? inner->key_receive : inner->key_send);
    derive(base, "RIFT 1 to client", host ? inner->key_send : inner->key_receive);
    derive(base, "RIFT 1 input", ret_input_key);
    inner->next_send = 0;
    inner->next_receive = 0;
}

int rift_inner_seal(struct rift_inner *inner, const uint8_t *plain, size_t len, uint8_t *ret_sealed,
                    size_t capacity, size_t *ret_len)
{
    if (capacity < RIFT_INNER_OVERHEAD || len > capacity - RIFT_INNER_OVERHEAD)
        return -EMSGSIZE;
    uint64_t number = inner->next_send;
    if (number == UINT64_MAX)
        return -EOVERFLOW;
    inner->next_send = number + 1;
    /* INNER may lie on a page that outlives this process: the number is gone before its first use. */
    atomic_signal_fence(memory_order_seq_cst);

    struct wv_writer w;
    wv_writer_init(&w, ret_sealed, NUMBER_BYTES);
    wv_write_u64(&w, number);
    if (len)
        memmove(ret_sealed + NUMBER_BYTES, plain, len);
    rift_seal(inner->key_send, number, NULL, 0, ret_sealed + NUMBER_BYTES, len);
    *ret_len = len + RIFT_INNER_OVERHEAD;
    return 0;
}

int rift_inner_open(struct rift_inner *inner, const uint8_t *sealed, size_t len, uint8_t *ret_plain,
                    size_t capacity, size_t *ret_len)
{
    struct wv_reader r;
    wv_reader_init(&r, sealed, len);
    uint64_t number = wv_read_u64(&r);
    if (r.failed || r.left < TAG || number < inner->next_receive || number == UINT64_MAX)
        return -EBADMSG;
    size_t text = r.left - TAG;
    if (text > capacity)
        return -EMSGSIZE;
    uint8_t nonce[RIFT_SEAL_NONCE_BYTES];
    rift_seal_nonce(number, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(ret_plain, NULL, r.data, text, r.data + text, NULL,
                                                           0, nonce, inner->key_receive) != 0)
        return -EBADMSG;
    inner->next_receive = number + 1;
    *ret_len = text;
    return 0;
}

void rift_input_seal(const uint8_t key[KEY], uint32_t seq, const uint8_t plain[RIFT_INPUT_PLAIN_BYTES],
                     uint8_t ret_sealed[RIFT_INPUT_SEALED_BYTES])
{
    memmove(ret_sealed, plain, RIFT_INPUT_PLAIN_BYTES);
    rift_seal(key, seq, NULL, 0, ret_sealed, RIFT_INPUT_PLAIN_BYTES);
}

int rift_input_open(const uint8_t key[KEY], uint32_t seq, const uint8_t sealed[RIFT_INPUT_SEALED_BYTES],
                    uint8_t ret_plain[RIFT_INPUT_PLAIN_BYTES])
{
    uint8_t work[RIFT_INPUT_SEALED_BYTES];
    memcpy(work, sealed, sizeof work);
    int r = rift_open(key, seq, NULL, 0, work, sizeof work);
    if (r == 0)
        memcpy(ret_plain, work, RIFT_INPUT_PLAIN_BYTES);
    sodium_memzero(work, sizeof work);
    return r;
}
