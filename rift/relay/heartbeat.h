/* What a relay tells the gateways every few seconds, as the bytes that it signs: WIRE.md section 10.6. Bytes
 * only; who may send one and whether it is fresh is another question. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_HEARTBEAT_NAME_MAX        64 /* bytes of a relay's name */
#define RIFT_HEARTBEAT_SIGNATURE_BYTES 64

struct rift_heartbeat {
    const char *relay; /* its name, as leases have it: 1 to 64 bytes */
    uint64_t unix_s;   /* its clock */
    uint32_t load;     /* what it carries of what it may, in thousandths */
    uint32_t leases;   /* held now */
    bool draining;     /* takes no new leases */
};

/* SECRET and KEY are Ed25519, libsodium's 64 and 32 bytes. Returns 0, or -EINVAL for a name of no or too many
 * bytes. */
int rift_heartbeat_sign(const struct rift_heartbeat *beat, const uint8_t secret[64],
                        uint8_t ret_signature[RIFT_HEARTBEAT_SIGNATURE_BYTES]);
bool rift_heartbeat_is_signed(const struct rift_heartbeat *beat,
                              const uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES], const uint8_t key[32]);
