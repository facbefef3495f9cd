/* The four handshake datagrams as bytes, WIRE.md section 1. Internal to the handshake; must never look inside
 * a Noise message. */
#pragma once

#include "rift/core/handshake.h"

#define RIFT_HANDSHAKE_VERSION 1
#define RIFT_COOKIE_BYTES      16

/* kind, version, two zero bytes, first id */
#define RIFT_HANDSHAKE_HEAD_BYTES  8
#define RIFT_INIT_HEAD_BYTES       (RIFT_HANDSHAKE_HEAD_BYTES + RIFT_COOKIE_BYTES + 2)
#define RIFT_REPLY_HEAD_BYTES      (RIFT_HANDSHAKE_HEAD_BYTES + 4) /* RESPONSE and FINISH */
#define RIFT_COOKIE_DATAGRAM_BYTES (RIFT_HANDSHAKE_HEAD_BYTES + RIFT_COOKIE_BYTES)

/* The smallest Noise messages: those without a payload. */
#define RIFT_MESSAGE_1_BYTES 32
#define RIFT_MESSAGE_2_BYTES 96
#define RIFT_MESSAGE_3_BYTES 64

struct rift_handshake_datagram {
    enum rift_datagram_kind kind;
    uint32_t initiator_id, responder_id; /* responder_id: RESPONSE and FINISH only */
    uint8_t cookie[RIFT_COOKIE_BYTES];   /* INIT and COOKIE only; all zero: none */
    const uint8_t *message;              /* into the datagram; INIT, RESPONSE and FINISH only */
    size_t message_len;
};

/* Returns 0, or -EBADMSG for anything but a well-formed handshake datagram of this version. */
int rift_handshake_parse(const uint8_t *datagram, size_t len, struct rift_handshake_datagram *ret_parsed);

/* Writes D (the padding of INIT included). Returns 0, or -EMSGSIZE when it doesn't fit into CAPACITY or into
 * RIFT_MTU_BYTES. */
int rift_handshake_build(const struct rift_handshake_datagram *d, uint8_t *buffer, size_t capacity,
                         size_t *ret_len);
