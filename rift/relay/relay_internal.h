/* What the relay's files share. Places, channels and slots are numbers into fixed arrays; NONE ends a list.
 */
#pragma once

#include "rift/punch/stun.h"
#include "rift/relay/relay.h"

#define NONE        UINT32_MAX
#define REPLIES_MAX 256
#define REPLY_BYTES RIFT_RELAY_CHALLENGE_BYTES
#define SILENT_NS   (60 * UINT64_C(1000000000)) /* a side that was not heard for so long gets nothing */
#define SOURCES     4096                        /* counters, shared by addresses that hash alike */

_Static_assert(REPLY_BYTES >= RIFT_RELAY_BOUND_BYTES && REPLY_BYTES >= RIFT_RELAY_PING_BYTES &&
                   REPLY_BYTES >= RIFT_RELAY_REFUSED_BYTES && REPLY_BYTES >= RIFT_STUN_RESPONSE_BYTES &&
                   RIFT_RELAY_REQUEST_BYTES >= REPLY_BYTES,
               "answers");

/* One side of a lease; what forwarding touches, a cache line and a half. Channel number = 2 * place + side.
 */
struct channel {
    struct rift_relay_address address;
    uint32_t token;
    uint8_t header[RIFT_RELAY_HEADER_BYTES];
    uint64_t heard_ns; /* 0: not bound */
    /* What this side sends to the other, shaped: the time at which all that was let through is paid for. */
    uint64_t paid_ns;
    uint64_t byte_cost; /* nanoseconds / 1024 */
    uint32_t queue_max; /* bytes */
    uint32_t queued;    /* bytes held back */
    uint32_t head, tail;
    uint32_t next_active;
    bool active;
};

struct lease {
    bool used, changed;
    struct rift_lease terms;
    uint8_t bytes[RIFT_LEASE_BYTES];
    uint64_t stamps[2]; /* of the last challenge that each side has answered */
    uint32_t next;      /* of the same hash, or of the free ones */
    uint32_t previous;  /* of the free ones */
    uint32_t next_changed;
};

struct held {
    uint32_t next;
    uint16_t len;
    uint8_t ecn;
    uint8_t data[RIFT_RELAY_DATAGRAM_MAX];
};

struct reply {
    struct rift_relay_address to;
    uint8_t len;
    uint8_t data[REPLY_BYTES];
};

struct rift_relay {
    struct rift_relay_config config;
    bool draining;
    struct rift_relay_stats stats;

    struct channel *channels; /* 2 * max_leases */
    struct lease *leases;
    uint64_t *ends; /* monotonic, per place; 0: unused */
    uint32_t *buckets, n_buckets;
    uint32_t free_lease, first_changed, last_changed;

    struct held *held;
    uint32_t free_held;
    uint32_t first_active, last_active;
    size_t n_active;
    uint64_t total_paid_ns, total_cost;
    uint64_t next_due;

    uint64_t sources[SOURCES], all_proofs; /* paid until */
    uint64_t stun_sources[SOURCES];
    size_t replies_head, replies_count;
    struct reply replies[REPLIES_MAX];
};

/* ---- relay.c: the table ---- */
uint32_t rift_relay_find(const struct rift_relay *r, const uint8_t id[RIFT_LEASE_ID_BYTES]);
/* Takes the free place AT (NONE: any). Returns NONE when there is none. */
uint32_t rift_relay_place(struct rift_relay *r, uint32_t at, const struct rift_lease *terms,
                          const uint8_t bytes[RIFT_LEASE_BYTES]);
void rift_relay_remove(struct rift_relay *r, uint32_t place);
void rift_relay_note_changed(struct rift_relay *r, uint32_t place);
/* Rate and queue of both directions, by the lease's terms and the relay's. */
void rift_relay_set_rates(struct rift_relay *r, uint32_t place);
void rift_relay_set_channel(struct rift_relay *r, uint32_t number, const struct rift_relay_address *address,
                            uint32_t token, uint64_t heard_ns);
const uint8_t *rift_relay_issuer(const struct rift_relay *r, const uint8_t id[RIFT_LEASE_ISSUER_BYTES]);
bool rift_relay_is_present(const struct channel *c, uint64_t now);
uint32_t rift_relay_left_s(const struct rift_relay *r, uint32_t place, uint64_t now);
/* Room for an answer of LEN bytes to TO, or NULL. */
uint8_t *rift_relay_reply(struct rift_relay *r, const struct rift_relay_address *to, size_t len);
void rift_relay_pong(struct rift_relay *r, uint32_t number, uint32_t id, uint64_t now);

/* ---- relay_bind.c ---- */
void rift_relay_take_request(struct rift_relay *r, const struct rift_relay_address *from,
                             const struct rift_relay_request *m, const struct rift_relay_clock *clock);
void rift_relay_take_bind(struct rift_relay *r, const struct rift_relay_address *from,
                          const uint8_t *datagram, const struct rift_relay_bind *m,
                          const struct rift_relay_clock *clock);
void rift_relay_take_stun(struct rift_relay *r, const struct rift_relay_address *from,
                          const struct rift_stun_message *m, uint64_t now);

/* ---- relay_shape.c ---- */
int rift_relay_shape_init(struct rift_relay *r);
/* Whether LEN bytes of C may leave now; they are then paid for. */
bool rift_relay_may_pass(struct rift_relay *r, struct channel *c, size_t len, uint64_t now);
void rift_relay_hold(struct rift_relay *r, uint32_t number, const uint8_t *data, size_t len, uint8_t *ecn,
                     uint64_t now);
int rift_relay_send_held(struct rift_relay *r, uint64_t now, struct rift_relay_out *ret);
void rift_relay_forget_held(struct rift_relay *r, uint32_t number);

/* ---- relay_address.c ---- */
bool rift_relay_is_own(const struct rift_relay *r, const struct rift_relay_address *address);
