/* A whole host for tests of the handshake: the transport's responder and, behind it, a key holder with real
 * keys. Counts bytes per address and aborts when an address gets more than it sent. */
#pragma once

#include "rift/core/handshake.h"
#include "rift/crypto/identity.h"

#define HOST_PENDING   128
#define HOST_ADDRESSES 256

struct host_pending {
    uint64_t token;
    struct rift_noise *noise;
};

struct host_traffic {
    uint8_t address[RIFT_ADDRESS_BYTES];
    uint64_t in, out;
};

struct host {
    struct rift_responder *responder;
    struct rift_identity identity;
    struct host_pending pending[HOST_PENDING];
    struct host_traffic traffic[HOST_ADDRESSES];
    uint32_t next_id;
    const uint8_t *ephemeral; /* fixed ephemeral key, or NULL */
    bool silent;              /* the key holder is dead: questions are counted and lost */
    bool without_id;          /* message 2 has an empty payload */
    unsigned asked[4];        /* by step */
    struct rift_responder_question last_question;

    /* The last one that finished. */
    unsigned finished;
    struct rift_session_config config;
    uint8_t address[RIFT_ADDRESS_BYTES];
    uint8_t client_key[32];
    uint8_t inner_base[32], hash[64]; /* of the inner channel; of the handshake */
    uint8_t payload[RIFT_HANDSHAKE_PAYLOAD_MAX];
    size_t payload_len;
};

void host_init(struct host *h, size_t max_half_open, uint64_t now);
void host_fini(struct host *h);

/* Takes a datagram and lets the key holder answer at once. Returns what the responder returned. */
int host_receive(struct host *h, const uint8_t address[RIFT_ADDRESS_BYTES], const uint8_t *datagram,
                 size_t len, uint64_t now);

/* The key holder's work on a question. */
void host_answer(struct host *h, const struct rift_responder_question *q, uint64_t now);

/* Next datagram out: 0 or RIFT_HANDSHAKE_PENDING. */
int host_send(struct host *h, uint8_t buffer[RIFT_MTU_BYTES], uint64_t now,
              uint8_t ret_address[RIFT_ADDRESS_BYTES], size_t *ret_len);

struct rift_responder_stats host_stats(const struct host *h);
