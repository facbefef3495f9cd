/* One direction of a path on virtual time: what a datagram may suffer between two sockets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

uint64_t sim_random_next(struct sim_random *r);
/* 0 .. below-1 */
uint64_t sim_random_below(struct sim_random *r, uint64_t below);
/* True P times out of a million. */
bool sim_random_hit(struct sim_random *r, uint32_t p_ppm);

struct sim_link_config {
    uint64_t delay_ns, jitter_ns;
    uint64_t rate_bps; /* 0: without limit */
    uint32_t queue_bytes;
    uint32_t loss_ppm;
    uint32_t burst_begin_ppm, burst_end_ppm; /* Gilbert's model: all is lost in a burst */
    uint32_t reorder_ppm;
    uint64_t reorder_ns;
    uint32_t duplicate_ppm, truncate_ppm, corrupt_ppm;
    uint32_t mtu_bytes; /* larger ones vanish; 0: without limit */
    uint32_t ce_ppm;    /* marked datagrams that come with congestion marked */
    bool bleach;        /* marks are taken off */
};

#define SIM_LINK_PACKETS 4096
#define SIM_LINK_MTU     1452
#define SIM_ADDRESS      18

struct sim_packet {
    uint64_t at;
    uint64_t order;
    size_t len;
    bool intact;
    uint8_t ecn;                  /* the two bits of the IP header */
    uint8_t address[SIM_ADDRESS]; /* to the host: where it came from; from the host: where it goes */
    uint8_t data[SIM_LINK_MTU];
};

struct sim_link {
    struct sim_link_config config;
    struct sim_random random;
    bool in_burst;
    uint64_t busy_until, order;
    size_t n_packets;
    struct sim_packet *heap[SIM_LINK_PACKETS]; /* by arrival */
    uint64_t sent, lost;
};

void sim_link_init(struct sim_link *l, const struct sim_link_config *config, uint64_t seed);
void sim_link_fini(struct sim_link *l);
void sim_link_send(struct sim_link *l, const struct sim_packet *packet, uint64_t now);
/* Arrival of the next datagram; UINT64_MAX: none is under way. */
uint64_t sim_link_next(const struct sim_link *l);
/* Takes the next datagram that has arrived by NOW; the caller frees it. NULL: none. */
struct sim_packet *sim_link_receive(struct sim_link *l, uint64_t now);
