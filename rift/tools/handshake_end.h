/* The two ends of rift-handshake: sockets and printing around the handshake's own modules. */
#pragma once

#include "rift/core/handshake.h"
#include "rift/crypto/identity.h"

#include <stdbool.h>
#include <stdint.h>

struct handshake_end {
    bool initiator, pairing, has_host_key;
    uint8_t secret[32], host_key[32];
    const char *address, *payload;
    uint16_t port;
    unsigned seconds;
};

enum { HANDSHAKE_END_NOTHING = 1, HANDSHAKE_END_WRONG_KEY = 2 };

/* Runs until a data datagram of the other end was opened. Returns 0, HANDSHAKE_END_NOTHING,
 * HANDSHAKE_END_WRONG_KEY, or a negative errno of the network. */
int handshake_end_run(const struct handshake_end *end);
