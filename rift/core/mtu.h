/* How large a datagram the path carries: packetisation layer path MTU discovery by RFC 8899, WIRE.md section
 * 9.3. Sizes are UDP payloads. It begins at RIFT_MTU_BYTES, which every path must carry, asks for the largest
 * first, then halves the range. Loss alone never shrinks it: only a probe that is lost while a small one
 * beside it arrives does. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/wire.h"

struct rift_mtu {
    uint32_t max;       /* configured */
    uint32_t capacity;  /* what the caller's buffers hold; 0: not told yet */
    uint32_t current;   /* confirmed */
    uint32_t low, high; /* while searching: carried, not carried */
    bool searching;
    bool confirming;   /* whether CURRENT still arrives */
    uint32_t probe;    /* size under way; 0: none */
    uint32_t first_id; /* of the probes of that size, in pairs: even ids are large, odd ones small */
    uint32_t next_id;
    unsigned tries;
    bool write_small; /* the small one of the pair is due */
    bool small_came;  /* of the last pair */
    uint64_t send_at; /* next probe, or the end of waiting for the last one */
    uint64_t confirm_after;
    uint64_t search_again_at;
    uint64_t probes, black_holes;
    uint32_t acks[4]; /* ids of the peer's probes to be acknowledged */
    unsigned n_acks;
};

void rift_mtu_init(struct rift_mtu *m, uint32_t max);

/* A new path: nothing is known of it. */
void rift_mtu_reset(struct rift_mtu *m, uint64_t now);

/* There are large datagrams to send: begins a search when one is due. */
void rift_mtu_search(struct rift_mtu *m, uint64_t now);

/* Something was lost: asks whether the size still arrives. */
void rift_mtu_suspect(struct rift_mtu *m, uint64_t now);

enum { RIFT_MTU_CHANGED = 1, RIFT_MTU_BLACK_HOLE = 2 };

/* The following return 0, or RIFT_MTU_* when CURRENT rose, or fell. */
int rift_mtu_on_ack(struct rift_mtu *m, uint32_t id, uint64_t now);
int rift_mtu_tick(struct rift_mtu *m, uint64_t now);

void rift_mtu_on_probe(struct rift_mtu *m, uint32_t id);
void rift_mtu_write_acks(struct rift_mtu *m, struct wv_writer *w);

/* Size of the datagram that the probe now due needs; 0: none is. Then write it into W, which is empty and has
 * exactly that room (less RIFT_SEAL_BYTES). RTO_NS: how long to wait for its answer. */
uint32_t rift_mtu_due(const struct rift_mtu *m, uint64_t now);
void rift_mtu_write(struct rift_mtu *m, struct wv_writer *w, uint64_t rto_ns, uint64_t now);
uint64_t rift_mtu_timeout(const struct rift_mtu *m);
