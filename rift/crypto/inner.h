/* The inner channel of a session: what the client and the host's key holder (and the stages that it gives
 * keys to) say to each other through a transport that holds only the outer keys. Its secret is a third output
 * of the Noise Split(), which the transport process is never given. WIRE.md section 11. Pure: no I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_INNER_KEY_BYTES 32
#define RIFT_INNER_OVERHEAD  (8 + 16) /* number and tag */

#define RIFT_INPUT_PLAIN_BYTES  20 /* an event as in WIRE.md section 4 */
#define RIFT_INPUT_SEALED_BYTES (RIFT_INPUT_PLAIN_BYTES + 16)

/* One end of the channel. Plain data without pointers, so that it may lie on a page that outlives a process.
 */
struct rift_inner {
    uint8_t key_send[RIFT_INNER_KEY_BYTES], key_receive[RIFT_INNER_KEY_BYTES];
    uint64_t next_send, next_receive;
};

/* From the 32 bytes of rift_noise_split_inner(): both directions and the key of the input events, each by
 * BLAKE2b-256 keyed with BASE over "RIFT 1 to host", "RIFT 1 to client", "RIFT 1 input". */
void rift_inner_derive(const uint8_t base[RIFT_INNER_KEY_BYTES], bool host, struct rift_inner *ret_inner,
                       uint8_t ret_input_key[RIFT_INNER_KEY_BYTES]);

/* Seals LEN bytes: number (u64, little-endian), ciphertext, tag; LEN + RIFT_INNER_OVERHEAD bytes. The number
 * is used up before anything is written, so that a crash in between never repeats it. Returns 0, -EMSGSIZE
 * (CAPACITY), -EOVERFLOW (numbers are used up). */
int rift_inner_seal(struct rift_inner *inner, const uint8_t *plain, size_t len, uint8_t *ret_sealed,
                    size_t capacity, size_t *ret_len);

/* Opens. Numbers must rise; gaps are allowed. Returns 0, -EBADMSG (cut, forged, repeated; nothing changed),
 * -EMSGSIZE (CAPACITY). */
int rift_inner_open(struct rift_inner *inner, const uint8_t *sealed, size_t len, uint8_t *ret_plain,
                    size_t capacity, size_t *ret_len);

/* One input event, sealed under the input key with its sequence number as nonce: the same event and number
 * give the same bytes, so a repetition reveals nothing. A number must never be used for two events. */
void rift_input_seal(const uint8_t key[RIFT_INNER_KEY_BYTES], uint32_t seq,
                     const uint8_t plain[RIFT_INPUT_PLAIN_BYTES],
                     uint8_t ret_sealed[RIFT_INPUT_SEALED_BYTES]);
/* Returns 0 or -EBADMSG. */
int rift_input_open(const uint8_t key[RIFT_INNER_KEY_BYTES], uint32_t seq,
                    const uint8_t sealed[RIFT_INPUT_SEALED_BYTES], uint8_t ret_plain[RIFT_INPUT_PLAIN_BYTES]);
