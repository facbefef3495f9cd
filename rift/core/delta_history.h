/* What was sent and not yet reported: the sender's own record, so that nothing about a packet but its arrival
 * time has to be believed. Fixed size, no allocation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Packets remembered: a second at 80 Mbit/s. What is older is told too late to matter. */
#define DELTA_HISTORY 8192

struct delta_sent {
    uint64_t seq, sent_ns;
    uint64_t total; /* bytes sent up to and including this packet */
    uint32_t bytes, frame;
    bool acked, last_in_frame;
    bool paired; /* left back to back with the packet before it */
};

struct delta_history {
    struct delta_sent ring[DELTA_HISTORY];
    uint64_t first, next; /* remembered: [first, next) */
    uint64_t total;       /* bytes sent at all */
    uint64_t total_acked; /* of these, up to the newest packet reported */
    uint64_t newest;      /* newest packet reported, when any */
    bool any_sent, any_acked;
};

/* Books a packet. Its seq must be above all earlier ones; else it is not recorded. */
void delta_history_sent(struct delta_history *h, const struct delta_sent *sent);

/* What was sent as SEQ; NULL when it never was, or too long ago. */
struct delta_sent *delta_history_find(struct delta_history *h, uint64_t seq);

/* E was reported for the first time. Returns whether it is the newest so far; RET_LOST then is the number of
 * packets between the newest before and this one that have not been reported. */
bool delta_history_acked(struct delta_history *h, struct delta_sent *e, unsigned *ret_lost);

/* Bytes sent after the newest packet reported. */
uint64_t delta_history_in_flight(const struct delta_history *h);
