/* Datagram protection: ChaCha20-Poly1305 (RFC 8439, libsodium's IETF variant) with the 64-bit packet counter
 * as nonce (32 zero bits, then the counter, little-endian: the nonce of the Noise specification,
 * section 12.3). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RIFT_SEAL_KEY_BYTES   32
#define RIFT_SEAL_TAG_BYTES   16
#define RIFT_SEAL_NONCE_BYTES 12

/* The nonce of COUNTER. */
void rift_seal_nonce(uint64_t counter, uint8_t ret_nonce[RIFT_SEAL_NONCE_BYTES]);

/* Encrypts LEN bytes at DATA in place and writes the tag behind them (room for LEN + 16). AD is
 * authenticated. */
void rift_seal(const uint8_t key[RIFT_SEAL_KEY_BYTES], uint64_t counter, const uint8_t *ad, size_t ad_len,
               uint8_t *data, size_t len);

/* Opens LEN bytes (ciphertext and tag) at DATA in place; the plaintext is LEN - 16 bytes. Returns 0, or
 * -EBADMSG when LEN < 16 or the tag is wrong; DATA then holds nothing of use. */
int rift_open(const uint8_t key[RIFT_SEAL_KEY_BYTES], uint64_t counter, const uint8_t *ad, size_t ad_len,
              uint8_t *data, size_t len);
