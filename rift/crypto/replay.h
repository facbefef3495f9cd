/* Replay window over 64-bit packet counters (RFC 6479): 4,096 packets wide, fixed size, in place. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RIFT_REPLAY_BITS  4096
#define RIFT_REPLAY_WORDS (RIFT_REPLAY_BITS / 64 + 1)

struct rift_replay {
    uint64_t next; /* one past the highest counter seen */
    uint64_t words[RIFT_REPLAY_WORDS];
};

void rift_replay_init(struct rift_replay *r);

/* Whether COUNTER would be accepted: neither seen before nor older than the window. Changes nothing. */
bool rift_replay_check(const struct rift_replay *r, uint64_t counter);

/* Marks COUNTER as seen; call only after the packet was authenticated. Returns false when it was not
 * acceptable (then nothing changed). UINT64_MAX is never acceptable. */
bool rift_replay_accept(struct rift_replay *r, uint64_t counter);
