#include "tests/unit/handshake_host.h"

#include "rift/crypto/noise.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

void host_init(struct host *h, size_t max_half_open, uint64_t now)
{
    uint8_t secret[32], seed[32];
    memset(h, 0, sizeof *h);
    memset(secret, 0x77, sizeof secret);
    memset(seed, 0x66, sizeof seed);
    rift_identity_from_seed(&h->identity, seed);
    h->next_id = 1000;
    require(rift_responder_new(&h->responder, secret, max_half_open, now) == 0);
    rift_responder_set_keys(h->responder, h->identity.public, false);
}

void host_fini(struct host *h)
{
    for (size_t i = 0; i < HOST_PENDING; i++)
        h->pending[i].noise = rift_noise_free(h->pending[i].noise);
    h->responder = rift_responder_free(h->responder);
}

static struct host_traffic *traffic_of(struct host *h, const uint8_t address[RIFT_ADDRESS_BYTES])
{
    static const uint8_t none[RIFT_ADDRESS_BYTES];
    require(memcmp(address, none, sizeof none) != 0);
    for (size_t i = 0; i < HOST_ADDRESSES; i++) {
        struct host_traffic *t = &h->traffic[i];
        if (memcmp(t->address, none, sizeof none) == 0)
            memcpy(t->address, address, sizeof none);
        if (memcmp(t->address, address, sizeof none) == 0)
            return t;
    }
    abort();
}

static struct host_pending *pending_of(struct host *h, uint64_t token)
{
    for (size_t i = 0; i < HOST_PENDING; i++)
        if (h->pending[i].noise && h->pending[i].token == token)
            return &h->pending[i];
    return NULL;
}

/* A free place; when all are taken the oldest token is given up, as a key holder with bounds would. */
static struct host_pending *new_pending(struct host *h)
{
    struct host_pending *oldest = &h->pending[0];
    for (size_t i = 0; i < HOST_PENDING; i++) {
        if (!h->pending[i].noise)
            return &h->pending[i];
        if (h->pending[i].token >> 16 < oldest->token >> 16)
            oldest = &h->pending[i];
    }
    oldest->noise = rift_noise_free(oldest->noise);
    return oldest;
}

static void answer_1(struct host *h, const struct rift_responder_question *q, uint64_t now)
{
    uint8_t prologue[RIFT_PROLOGUE_BYTES], payload[RIFT_HANDSHAKE_MESSAGE_MAX];
    uint8_t message[RIFT_HANDSHAKE_MESSAGE_MAX];
    uint8_t id[4] = {(uint8_t)q->local_id, (uint8_t)(q->local_id >> 8), (uint8_t)(q->local_id >> 16),
                     (uint8_t)(q->local_id >> 24)};
    size_t len;
    struct host_pending *p = new_pending(h);
    rift_handshake_prologue(q->initiator_id, prologue);
    require(rift_noise_new(&p->noise, false, h->identity.secret, prologue, sizeof prologue, h->ephemeral) ==
            0);
    p->token = q->token;
    if (rift_noise_read(p->noise, q->message, q->len, payload, sizeof payload, &len) < 0) {
        p->noise = rift_noise_free(p->noise);
        rift_responder_refuse(h->responder, q->token);
        return;
    }
    require(rift_noise_write(p->noise, id, h->without_id ? 0 : sizeof id, message, sizeof message, &len) ==
            0);
    int r = rift_responder_answer(h->responder, q->token, message, len, now);
    require(r == 0 || r == -ENOENT);
}

static void answer_3(struct host *h, const struct rift_responder_question *q, uint64_t now)
{
    uint8_t payload[RIFT_HANDSHAKE_MESSAGE_MAX], keys[2][32];
    size_t len;
    struct host_pending *p = pending_of(h, q->token);
    if (!p) {
        rift_responder_refuse(h->responder, q->token);
        return;
    }
    /* On a copy: a forgery must not end the handshake that the true message 3 belongs to. */
    struct rift_noise *trial;
    require(rift_noise_new(&trial, false, h->identity.secret, NULL, 0, NULL) == 0);
    rift_noise_copy(trial, p->noise);
    if (rift_noise_read(trial, q->message, q->len, payload, sizeof payload, &len) < 0) {
        rift_noise_free(trial);
        rift_responder_keep(h->responder, q->token);
        return;
    }
    rift_noise_free(p->noise);
    p->noise = trial;
    require(rift_noise_split(p->noise, keys[0], keys[1]) == 0);
    int r = rift_responder_complete(h->responder, q->token, keys[0], keys[1], now, &h->config, h->address);
    require(r == 0 || r == -ENOENT);
    if (r == 0) {
        h->finished++;
        memcpy(h->client_key, rift_noise_remote_static(p->noise), 32);
        require(rift_noise_split_inner(p->noise, h->inner_base) == 0);
        memcpy(h->hash, rift_noise_handshake_hash(p->noise), sizeof h->hash);
        h->payload_len = len < sizeof h->payload ? len : sizeof h->payload;
        memcpy(h->payload, payload, h->payload_len);
    }
    p->noise = rift_noise_free(p->noise);
}

void host_answer(struct host *h, const struct rift_responder_question *q, uint64_t now)
{
    if (q->step == 1)
        answer_1(h, q, now);
    else
        answer_3(h, q, now);
}

int host_receive(struct host *h, const uint8_t address[RIFT_ADDRESS_BYTES], const uint8_t *datagram,
                 size_t len, uint64_t now)
{
    traffic_of(h, address)->in += len;
    struct rift_responder_question q;
    int r = rift_responder_receive(h->responder, address, datagram, len, h->next_id, now, &q);
    require(r == 0 || r == RIFT_HANDSHAKE_PENDING);
    if (r == 0) {
        require((q.step == 1 || q.step == 3) && q.len <= sizeof q.message);
        h->asked[q.step]++;
        h->next_id += q.step == 1;
        h->last_question = q;
        if (!h->silent)
            host_answer(h, &q, now);
    }
    return r;
}

int host_send(struct host *h, uint8_t buffer[RIFT_MTU_BYTES], uint64_t now,
              uint8_t ret_address[RIFT_ADDRESS_BYTES], size_t *ret_len)
{
    int r = rift_responder_send(h->responder, buffer, RIFT_MTU_BYTES, now, ret_address, ret_len);
    require(r == 0 || r == RIFT_HANDSHAKE_PENDING);
    if (r == 0) {
        struct host_traffic *t = traffic_of(h, ret_address);
        t->out += *ret_len;
        /* The bound that the protocol promises, checked in every test. */
        require(t->out <= t->in);
    }
    return r;
}

struct rift_responder_stats host_stats(const struct host *h)
{
    struct rift_responder_stats stats;
    rift_responder_get_stats(h->responder, &stats);
    return stats;
}
