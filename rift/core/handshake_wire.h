/* The four handshake datagrams as bytes, WIRE.md section 1. Internal to the handshake; must never look inside
 * a Noise message. */
#pragma once

#include "rift/core/handshake.h"

#define RIFT_HANDSHAKE_VERSION 1
#define RIFT_COOKIE_BYTES      16
#define RIFT_INIT_MAC_BYTES    16

/* kind, version, two zero bytes, first id */
#define RIFT_HANDSHAKE_HEAD_BYTES  8
#define RIFT_INIT_KEYED_BYTES      (RIFT_HANDSHAKE_HEAD_BYTES + RIFT_COOKIE_BYTES + 2) /* before the MAC */
#define RIFT_INIT_HEAD_BYTES       (RIFT_INIT_KEYED_BYTES + RIFT_INIT_MAC_BYTES)
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

/* Whether an INIT, whatever else it is, carries the MAC of KEY (rift_handshake_first_key()). Looks at nothing
 * else: the first thing that is asked of a datagram by nobody. Also false for what is too short. */
bool rift_handshake_is_keyed(const uint8_t *datagram, size_t len, const uint8_t key[32]);

/* Writes D (the padding of INIT included). KEY makes an INIT's MAC; NULL for the other kinds. Returns 0, or
 * -EMSGSIZE when it doesn't fit into CAPACITY or into RIFT_MTU_BYTES. */
int rift_handshake_build(const struct rift_handshake_datagram *d, const uint8_t *key, uint8_t *buffer,
                         size_t capacity, size_t *ret_len);
