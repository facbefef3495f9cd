#include "tests/sim/link.h"

#include "tests/known.h"

#include <stdlib.h>
#include <string.h>

uint64_t sim_random_next(struct sim_random *r)
{
    /* SplitMix64 (Steele, Lea, Flood 2014): any seed is a good one. */
    uint64_t z = r->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

uint64_t sim_random_below(struct sim_random *r, uint64_t below)
{
    return below ? sim_random_next(r) % below : 0;
}

bool sim_random_hit(struct sim_random *r, uint32_t p_ppm)
{
    return sim_random_below(r, 1000000) < p_ppm;
}

void sim_link_init(struct sim_link *l, const struct sim_link_config *config, uint64_t seed)
{
    *l = (struct sim_link){.config = *config, .random = {seed}};
}

void sim_link_fini(struct sim_link *l)
{
    while (l->n_packets)
        free(l->heap[--l->n_packets]);
}

static bool before(const struct sim_packet *a, const struct sim_packet *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(struct sim_link *l, size_t a, size_t b)
{
    struct sim_packet *p = l->heap[a];
    l->heap[a] = l->heap[b];
    l->heap[b] = p;
}

static void put(struct sim_link *l, const struct sim_packet *packet, bool intact, uint64_t at)
{
    if (l->n_packets == SIM_LINK_PACKETS) {
        l->lost++;
        return;
    }
    struct sim_packet *p = malloc(sizeof *p);
    if (!p)
        abort();
    p->at = at;
    p->order = l->order++;
    p->len = packet->len;
    p->intact = intact;
    p->ecn = packet->ecn;
    if (p->ecn && l->config.bleach)
        p->ecn = 0;
    else if (p->ecn && sim_random_hit(&l->random, l->config.ce_ppm))
        p->ecn = 3;
    memcpy(p->address, packet->address, SIM_ADDRESS);
    memcpy(p->data, packet->data, packet->len);
    size_t i = l->n_packets++;
    l->heap[i] = p;
    for (; i && before(l->heap[i], l->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(l, i, (i - 1) / 2);
}

static bool is_lost(struct sim_link *l)
{
    const struct sim_link_config *c = &l->config;
    l->in_burst = l->in_burst ? !sim_random_hit(&l->random, c->burst_end_ppm)
                              : sim_random_hit(&l->random, c->burst_begin_ppm);
    return l->in_burst || sim_random_hit(&l->random, c->loss_ppm);
}

static uint64_t travel(struct sim_link *l)
{
    const struct sim_link_config *c = &l->config;
    uint64_t t = c->delay_ns + sim_random_below(&l->random, c->jitter_ns + 1);
    if (sim_random_hit(&l->random, c->reorder_ppm))
        t += sim_random_below(&l->random, c->reorder_ns + 1);
    return t;
}

/* Sends a copy that is cut short or has bits turned. */
static void send_damaged(struct sim_link *l, const struct sim_packet *packet, bool cut, uint64_t at)
{
    struct sim_packet copy = *packet;
    if (cut) {
        copy.len = sim_random_below(&l->random, copy.len);
    } else {
        uint64_t bits = copy.len * 8, flips = 1 + sim_random_below(&l->random, 4);
        uint64_t bit = sim_random_below(&l->random, bits);
        for (uint64_t i = 0; i < flips; i++)
            copy.data[(bit + i) % bits / 8] ^= (uint8_t)(1u << (bit + i) % 8);
    }
    put(l, &copy, false, at);
}

void sim_link_send(struct sim_link *l, const struct sim_packet *packet, uint64_t now)
{
    const struct sim_link_config *c = &l->config;
    uint64_t leaves = now;
    size_t len = packet->len;
    known_check(packet->data, len);
    l->sent++;
    if (c->mtu_bytes && len > c->mtu_bytes) {
        l->lost++;
        return;
    }
    if (c->rate_bps) {
        uint64_t start = l->busy_until > now ? l->busy_until : now;
        if ((start - now) / 8 * c->rate_bps / 1000000000 > c->queue_bytes) {
            l->lost++;
            return;
        }
        leaves = l->busy_until = start + len * 8000000000u / c->rate_bps;
    }
    if (is_lost(l)) {
        l->lost++;
        return;
    }
    if (sim_random_hit(&l->random, c->truncate_ppm)) {
        send_damaged(l, packet, true, leaves + travel(l));
        return;
    }
    if (sim_random_hit(&l->random, c->corrupt_ppm)) {
        send_damaged(l, packet, false, leaves + travel(l));
        return;
    }
    put(l, packet, true, leaves + travel(l));
    if (sim_random_hit(&l->random, c->duplicate_ppm))
        put(l, packet, true, leaves + travel(l) + sim_random_below(&l->random, c->reorder_ns + 1));
}

uint64_t sim_link_next(const struct sim_link *l)
{
    return l->n_packets ? l->heap[0]->at : UINT64_MAX;
}

struct sim_packet *sim_link_receive(struct sim_link *l, uint64_t now)
{
    if (!l->n_packets || l->heap[0]->at > now)
        return NULL;
    struct sim_packet *first = l->heap[0];
    l->heap[0] = l->heap[--l->n_packets];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < l->n_packets && before(l->heap[left], l->heap[least]))
            least = left;
        if (right < l->n_packets && before(l->heap[right], l->heap[least]))
            least = right;
        if (least == i)
            return first;
        swap(l, i, least);
        i = least;
    }
}
