/* How a machine proves to a gateway which one it is: by its Ed25519 key over the gateway's name and a
 * challenge of it, so that no other gateway can use the answer. Bytes only. */
#pragma once

#include <stdint.h>

#define RIFT_PROVE_CHALLENGE_BYTES 32
#define RIFT_PROVE_NAME_MAX        263

/* Signs "RIFT 1 gateway", 0, NAME (HOST:PORT as it is dialled), 0, CHALLENGE with SIGN_SECRET. Returns 0 or
 * -EINVAL: NAME is empty or too long. */
int rift_prove_gateway(const uint8_t sign_secret[64], const char *name,
                       const uint8_t challenge[RIFT_PROVE_CHALLENGE_BYTES], uint8_t ret_signature[64]);
