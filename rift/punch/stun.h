/* STUN (RFC 8489), as much as it takes to learn the address that our datagrams come from: Binding requests
 * from the very socket that carries the session, and their answers; and the answering side, for a relay that
 * does both. Without credentials: nothing is believed but that whoever saw the 96-bit id of our request
 * answered it, and what he says is used only as an address to be reached at, which is proven before anything
 * goes there. Pure: no I/O. */
#pragma once

#include "rift/core/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_STUN_ID_BYTES       12
#define RIFT_STUN_MAX_BYTES      548 /* of an answer that is read; RFC 8489 section 6.1 */
#define RIFT_STUN_REQUEST_BYTES  28
#define RIFT_STUN_RESPONSE_BYTES 52 /* at most */

/* Whether a datagram is STUN and not RIFT: both may come to one socket. Type below 0x4000, the magic cookie,
 * a length that fits; a RIFT INIT of the same first bytes has the length field 0 and 1,200 bytes. */
bool rift_stun_is(const uint8_t *datagram, size_t len);

/* A Binding request with FINGERPRINT: RIFT_STUN_REQUEST_BYTES. ID must be random. */
void rift_stun_request(const uint8_t id[RIFT_STUN_ID_BYTES], uint8_t ret_request[RIFT_STUN_REQUEST_BYTES]);

enum rift_stun_kind { RIFT_STUN_REQUEST = 1, RIFT_STUN_SUCCESS, RIFT_STUN_ERROR, RIFT_STUN_INDICATION };

struct rift_stun_message {
    enum rift_stun_kind kind;
    uint16_t method; /* 1: Binding */
    uint8_t id[RIFT_STUN_ID_BYTES];
    bool has_fingerprint; /* and it is right */
    bool has_address;
    uint8_t address[RIFT_ADDRESS_BYTES]; /* of XOR-MAPPED-ADDRESS, else of MAPPED-ADDRESS */
    unsigned error;                      /* 300..699 of ERROR-CODE, 0: none */
    unsigned unknown;                    /* attributes that must be understood and are not */
};

/* Returns 0, or -EBADMSG: no STUN message, cut, an attribute out of its bounds, a wrong FINGERPRINT or one
 * that is not the last attribute. Of an attribute that comes twice the first counts. */
int rift_stun_read(const uint8_t *datagram, size_t len, struct rift_stun_message *ret_message);

/* The answer to a Binding request that came from ADDRESS: a success with XOR-MAPPED-ADDRESS and FINGERPRINT.
 * Returns its length, 40 (IPv4) or 52 bytes. */
size_t rift_stun_respond(const uint8_t id[RIFT_STUN_ID_BYTES], const uint8_t address[RIFT_ADDRESS_BYTES],
                         uint8_t ret_response[RIFT_STUN_RESPONSE_BYTES]);
