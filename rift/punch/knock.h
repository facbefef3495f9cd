/* Knocks, WIRE.md section 12.1: small authentic datagrams by which two peers that exchanged a secret find out
 * at which addresses they reach each other, how long the way takes and which one is in use. Bytes only; must
 * never decide anything. */
#pragma once

#include "rift/core/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_KNOCK_BYTES        64 /* an answer is as long: nothing is won by asking */
#define RIFT_KNOCK_ID_BYTES     8
#define RIFT_KNOCK_NONCE_BYTES  8
#define RIFT_KNOCK_SECRET_BYTES 32

/* First bytes that no STUN message, no kind of RIFT and no channel of TURN begins with. */
enum rift_knock_kind { RIFT_KNOCK = 80, RIFT_KNOCK_ANSWER = 81 };

/* In a knock: the client's datagrams come from here on, from `address`, as the host sees it. In an answer:
 * and that is where the host sends to. */
#define RIFT_KNOCK_USE 1

struct rift_knock_keys {
    uint8_t id[RIFT_KNOCK_ID_BYTES]; /* tells the receiver whose it is */
    uint8_t mac[32];
};

struct rift_knock {
    enum rift_knock_kind kind;
    enum rift_role role; /* of the sender */
    uint8_t flags;
    uint32_t number; /* of a knock: rises by one with each of this sender. Of an answer: that of the knock */
    uint8_t nonce[RIFT_KNOCK_NONCE_BYTES];
    uint8_t
        address[RIFT_ADDRESS_BYTES]; /* of an answer: where the knock came from. Of a knock with USE: that of
                                      * the answer before. Of any other: one more to try, all zero for none */
};

/* The keys of the two that share SECRET. */
void rift_knock_derive(const uint8_t secret[RIFT_KNOCK_SECRET_BYTES], struct rift_knock_keys *ret_keys);

/* Whether a datagram can be a knock or an answer; then RET_ID is whose (NULL: not asked). */
bool rift_knock_is(const uint8_t *datagram, size_t len, const uint8_t **ret_id);

void rift_knock_write(const struct rift_knock_keys *keys, const struct rift_knock *knock,
                      uint8_t ret_datagram[RIFT_KNOCK_BYTES]);
/* Returns 0, or -EBADMSG for what is no genuine knock of these keys. */
int rift_knock_read(const struct rift_knock_keys *keys, const uint8_t *datagram, size_t len,
                    struct rift_knock *ret_knock);
