/* What is derived from a key and what needs no secret at all: the next traffic key, tokens that nobody can
 * guess, and a checksum. The handshake's own derivations are Noise's and not here. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RIFT_DERIVE_KEY_BYTES 32
#define RIFT_TOKEN_BYTES      8

/* The traffic key that follows KEY: BLAKE2b-256 keyed with KEY over "RIFT 1 next key". One-way: who learns a
 * key learns none before it. RET_NEXT may be KEY. */
void rift_derive_next_key(const uint8_t key[RIFT_DERIVE_KEY_BYTES], uint8_t ret_next[RIFT_DERIVE_KEY_BYTES]);

/* Token number A, B under SECRET; the same numbers give the same token. */
void rift_derive_token(const uint8_t secret[RIFT_DERIVE_KEY_BYTES], uint64_t a, uint64_t b,
                       uint8_t ret_token[RIFT_TOKEN_BYTES]);

/* Random bytes of the system, for a secret that a caller did not give. */
void rift_derive_secret(uint8_t ret_secret[RIFT_DERIVE_KEY_BYTES]);

/* Finds accidents (a torn write, a flipped bit), not attacks: words folded in four lanes, then SipHash-2-4 of
 * the lanes and the rest under a fixed key. Any change within one word shows for certain. Of this machine
 * only. */
uint64_t rift_checksum(const void *data, size_t len);
