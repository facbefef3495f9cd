/* Token bucket with nanosecond precision, as virtual scheduling (GCRA, ITU-T I.371): the only state is the
 * time at which everything sent so far would have left a link of the given rate. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rift_pacer {
    uint64_t bps;      /* 0: no pacing */
    uint64_t burst_ns; /* how far sending may run ahead; a burst, less the datagram that ends it */
    uint64_t busy_until;
};

/* After idleness BURST_BYTES may leave at once (at least one datagram may). */
void rift_pacer_set(struct rift_pacer *p, uint64_t bps, uint32_t burst_bytes);

/* Books LEN bytes that leave at NOW. */
void rift_pacer_charge(struct rift_pacer *p, size_t len, uint64_t now);

/* The first time at which the next datagram may leave; in the past when it already may. */
uint64_t rift_pacer_release(const struct rift_pacer *p);
