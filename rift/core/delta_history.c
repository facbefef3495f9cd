/* The record of packets sent. It must never be indexed by anything but its own sequence numbers. */
#include "rift/core/delta_history.h"

#include <stddef.h>

void delta_history_sent(struct delta_history *h, const struct delta_sent *sent)
{
    if (h->any_sent && sent->seq < h->next)
        return;
    if (sent->seq == UINT64_MAX)
        return;
    if (!h->any_sent || sent->seq - h->next >= DELTA_HISTORY)
        h->first = sent->seq;
    /* numbers that were skipped carry nothing */
    else
        for (uint64_t s = h->next; s < sent->seq; s++)
            h->ring[s % DELTA_HISTORY] = (struct delta_sent){.seq = s, .acked = true};
    h->any_sent = true;
    h->total += sent->bytes;
    struct delta_sent *e = &h->ring[sent->seq % DELTA_HISTORY];
    *e = *sent;
    e->total = h->total;
    h->next = sent->seq + 1;
    if (h->next - h->first > DELTA_HISTORY)
        h->first = h->next - DELTA_HISTORY;
}

struct delta_sent *delta_history_find(struct delta_history *h, uint64_t seq)
{
    if (!h->any_sent || seq < h->first || seq >= h->next)
        return NULL;
    return &h->ring[seq % DELTA_HISTORY];
}

bool delta_history_acked(struct delta_history *h, struct delta_sent *e, unsigned *ret_lost)
{
    e->acked = true;
    if (h->any_acked && e->seq < h->newest)
        return false;
    unsigned lost = 0;
    uint64_t from = h->any_acked ? h->newest + 1 : h->first;
    for (uint64_t s = from < h->first ? h->first : from; s < e->seq; s++)
        lost += !h->ring[s % DELTA_HISTORY].acked;
    *ret_lost = lost;
    h->any_acked = true;
    h->newest = e->seq;
    h->total_acked = e->total;
    return true;
}

uint64_t delta_history_in_flight(const struct delta_history *h)
{
    return h->total - h->total_acked;
}
