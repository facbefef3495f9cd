/* Noise_XX_25519_ChaChaPoly_BLAKE2b (Noise specification, revision 34), on libsodium's primitives. Pure state
 * machine: no I/O. Three messages: -> e   <- e, ee, s, es   -> s, se. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_NOISE_KEY_BYTES     32
#define RIFT_NOISE_HASH_BYTES    64
#define RIFT_NOISE_MESSAGE_BYTES 65535 /* largest message, from the specification */
#define RIFT_NOISE_OVERHEAD_1    32
#define RIFT_NOISE_OVERHEAD_2    96
#define RIFT_NOISE_OVERHEAD_3    64

struct rift_noise;

/* Starts a handshake. STATIC_SECRET is an X25519 secret key (copied). EPHEMERAL_SECRET is NULL except in
 * tests on published vectors. Returns 0, -ENOMEM, -EINVAL. */
int rift_noise_new(struct rift_noise **ret_noise, bool initiator,
                   const uint8_t static_secret[RIFT_NOISE_KEY_BYTES], const uint8_t *prologue,
                   size_t prologue_len, const uint8_t *ephemeral_secret);

/* Wipes all secrets. Returns NULL. */
struct rift_noise *rift_noise_free(struct rift_noise *n);

/* Copies the whole state of FROM into TO (which came from rift_noise_new). Lets a message that anybody could
 * have forged be tried on a copy, so that a forgery doesn't end the handshake. A copy must never write
 * another message than the original: the ephemeral key is the same. */
void rift_noise_copy(struct rift_noise *to, const struct rift_noise *from);

/* Writes the next handshake message with PAYLOAD. Returns 0, -EPROTO when it isn't our turn, -EMSGSIZE when
 * CAPACITY is too small or the message would exceed 65,535 bytes. After an error the handshake is dead and
 * its secrets are gone; only being called after the end (-EPROTO) leaves a finished handshake as it is. */
int rift_noise_write(struct rift_noise *n, const uint8_t *payload, size_t payload_len, uint8_t *message,
                     size_t capacity, size_t *ret_len);

/* Reads the next handshake message; the payload goes to PAYLOAD. Returns 0, -EPROTO (not our turn), -EBADMSG
 * (truncated, forged, low-order key), -EMSGSIZE (CAPACITY). After an error the handshake is dead. */
int rift_noise_read(struct rift_noise *n, const uint8_t *message, size_t len, uint8_t *payload,
                    size_t capacity, size_t *ret_len);

bool rift_noise_finished(const struct rift_noise *n);

/* The peer's static public key; NULL until it was received and authenticated. */
const uint8_t *rift_noise_remote_static(const struct rift_noise *n);

/* The handshake hash (64 bytes) for channel binding, NULL before the end. Public: never a key. */
const uint8_t *rift_noise_handshake_hash(const struct rift_noise *n);

/* Split(): transport keys, each 32 bytes, ours to send and to receive. Returns 0, or -EPROTO before the end.
 */
int rift_noise_split(const struct rift_noise *n, uint8_t ret_send[RIFT_NOISE_KEY_BYTES],
                     uint8_t ret_receive[RIFT_NOISE_KEY_BYTES]);

/* A third output of the HKDF that Split() is the first two of (the same inputs, one more output): 32 bytes
 * that who knows the traffic keys can't compute. Keys of the inner channel come from it
 * (rift/crypto/inner.h). Returns 0, or -EPROTO before the end. */
int rift_noise_split_inner(const struct rift_noise *n, uint8_t ret_base[RIFT_NOISE_KEY_BYTES]);
