/* Sealed signals: what a client and a host's key holder tell each other through a gateway before there is a
 * path between them. WIRE.md section 13. A gateway can delay, drop and repeat them, and neither read nor make
 * one. Bytes only; what they say (proto/signal.proto) is the callers' business. Must never read a clock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_OFFER_NONCE_BYTES 24
/* Nonce, tag and the head that names the direction and both ends. */
#define RIFT_OFFER_OVERHEAD  (RIFT_OFFER_NONCE_BYTES + 16 + 14 + 32 + 32)
#define RIFT_OFFER_MAX_BYTES 6144 /* sealed */
#define RIFT_OFFER_ID_BYTES  16
#define RIFT_OFFER_LEEWAY_S  600 /* how far two clocks may be apart, and how old an offer may be */

/* One of the two ends: its X25519 key pair, and the public key of the other. */
struct rift_offer_end {
    bool is_host;
    const uint8_t *secret, *public, *peer; /* 32 bytes each */
};

/* Seals LEN bytes for the other end with NONCE (NULL: a random one, as everybody but a test must have it).
 * Returns 0, -EMSGSIZE (CAPACITY, RIFT_OFFER_MAX_BYTES), -EINVAL (the peer's key is of low order). */
int rift_offer_seal(const struct rift_offer_end *end, const uint8_t nonce[RIFT_OFFER_NONCE_BYTES],
                    const uint8_t *plain, size_t len, uint8_t *ret_sealed, size_t capacity, size_t *ret_len);
/* Opens what the other end sealed for us. Returns 0 or -EBADMSG (cut, forged, of somebody else, to somebody
 * else, our own), -EMSGSIZE (CAPACITY). RET_PLAIN is undefined on failure. */
int rift_offer_open(const struct rift_offer_end *end, const uint8_t *sealed, size_t len, uint8_t *ret_plain,
                    size_t capacity, size_t *ret_len);

/* The ids of offers that were taken, so that none is taken twice. Plain data. */
#define RIFT_OFFER_MEMORY   2048
#define RIFT_OFFER_PER_PEER 128 /* so that no peer fills it for the others */

struct rift_offer_memory {
    struct rift_offer_seen {
        uint64_t until_s; /* 0: free */
        uint8_t id[RIFT_OFFER_ID_BYTES], peer[32];
    } seen[RIFT_OFFER_MEMORY];
};

enum rift_offer_verdict {
    RIFT_OFFER_FRESH = 0,
    RIFT_OFFER_REPLAYED = 1,
    RIFT_OFFER_CLOCK = 2, /* too old, or of the future */
    RIFT_OFFER_BUSY = 3,  /* too many of this peer, or of all */
};

/* Whether offer ID of PEER, made at UNIX_S by its own clock, is to be taken at NOW_S; notes it if so. Only
 * after it was opened: nobody else can put an id here. Returns an enum rift_offer_verdict. */
int rift_offer_take(struct rift_offer_memory *m, const uint8_t id[RIFT_OFFER_ID_BYTES],
                    const uint8_t peer[32], uint64_t unix_s, uint64_t now_s);
