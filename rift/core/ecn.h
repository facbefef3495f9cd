/* Explicit congestion notification: what came marked, and whether the path keeps the marks that we set. After
 * RFC 9000 section 13.4.2; WIRE.md section 9.4. The peer's counts are claims; the worst that a lie does is to
 * end the marking. */
#pragma once

#include "rift/core/wire.h"

enum rift_ecn_state { RIFT_ECN_OFF, RIFT_ECN_TESTING, RIFT_ECN_CAPABLE };

struct rift_ecn_counts {
    uint32_t received; /* datagrams, marked or not */
    uint32_t ect0, ect1, ce;
};

struct rift_marks {
    enum rift_ecn mark; /* RIFT_ECN_NONE: never */
    enum rift_ecn_state state;
    struct rift_ecn_counts seen; /* as receiver; RECEIVED is counted elsewhere */
    /* As sender: what was sent, and what the peer had counted then. */
    uint64_t marked, unmarked;
    uint64_t base_counter; /* counts that cover it become the base */
    bool base_known;
    struct rift_ecn_counts base;
    uint32_t ce_last;
    uint64_t first_marked_ns;
    bool any_came; /* marked ones */
    uint64_t failures, ce_told;
};

/* MARK: NONE, ECT0 or ECT1. */
void rift_marks_init(struct rift_marks *m, enum rift_ecn mark);

/* Begins anew, on a new path or after a restart. COUNTER is the next that we send. */
void rift_marks_reset(struct rift_marks *m, uint64_t counter);

void rift_marks_received(struct rift_marks *m, enum rift_ecn ecn);

/* How a datagram with media leaves; every datagram is then booked. */
enum rift_ecn rift_marks_next(struct rift_marks *m, uint64_t rto_ns, uint64_t now);
void rift_marks_sent(struct rift_marks *m, enum rift_ecn ecn, uint64_t now);

/* The peer has counted COUNTS of our datagrams, up to HIGHEST. */
void rift_marks_feedback(struct rift_marks *m, uint64_t highest, const struct rift_ecn_counts *counts);
