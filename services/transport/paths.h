/* The ways to clients that identity announced: their knocks, and datagrams that pass through a relay. A
 * relayed way has a name in the form of an address (rift_punch_relayed_address()), so that nothing else knows
 * of relays. One struct way for each announced client, in a fixed table; a flood of strangers costs a
 * comparison for each datagram and no memory. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/punch/agent.h"
#include "rift/punch/stun.h"
#include "rift/relay/pair.h"
#include "services/transport/udp.h"

#define WAYS_MAX       32
#define STUN_SERVERS   4
#define WAY_ID_BYTES   16
#define WAY_KEEP_BYTES 512 /* more than the state of a way */

struct way {
    bool used;
    uint8_t id[WAY_ID_BYTES]; /* of the offer */
    uint8_t peer_key[32], secret[RIFT_KNOCK_SECRET_BYTES];
    uint8_t relay_public[32], relay_secret[64]; /* made for this offer; Ed25519 */
    uint64_t since_ns, heard_ns;
    struct rift_punch *punch;

    struct rift_relay_pair relays; /* that there are leases for */
};

struct stun_server {
    struct wv_address address;
    uint8_t id[RIFT_STUN_ID_BYTES];
    uint64_t due_ns;
    unsigned tries; /* of this id */
    bool known;
    uint8_t reflexive[RIFT_ADDRESS_BYTES];
};

struct ways {
    struct way way[WAYS_MAX];
    size_t top;
    struct stun_server stun[STUN_SERVERS];
    size_t n_stun;
    bool tell_reach; /* what STUN says is another thing than reach was told */
    bool doubted;    /* and that nobody is heard */
    uint64_t doubted_ns;
    uint64_t again_until; /* clients are to be told where we are once reach is signed in; 0: they know */
    uint64_t states_at;
};

/* What must outlive this process of a way, and back. Returns 0 or -EBADMSG, -ENOMEM. */
void way_write(const struct way *w, struct wv_writer *out);
int way_read(struct way *w, struct wv_reader *in, uint64_t now);
void way_free(struct way *w);
