/* When a peer's silence is odd: it answers what it gets within a round trip, and says something of itself
 * several times a second, so a host that hears nothing at all may itself be the one that is not heard: its
 * router may have forgotten it. Decides when all known ways are to be opened again, sans-IO. Must never let a
 * peer, by being silent, cause more than a fixed number of alarms. */
#pragma once

#include <stdint.h>

/* All zero: nothing was heard yet, and nothing is awaited. */
struct rift_quiet {
    uint64_t heard_ns;
    uint64_t asked_ns; /* when the first left, since then, of what is answered at once; 0: none did */
    uint64_t next_ns;  /* of this silence, when it goes on */
    unsigned alarms;   /* of this silence */
    unsigned doubts;   /* silences with an alarm lately: the next one may last longer */
    uint64_t doubted_ns;
    unsigned spent; /* alarms that are not forgotten yet */
    uint64_t forgiven_ns;
};

enum { RIFT_QUIET_ALARM = 1 };

/* Something authentic of the peer came, by whichever way. */
void rift_quiet_heard(struct rift_quiet *q, uint64_t now);
/* Something left that the peer answers at once: video, which it reports on. */
void rift_quiet_sent(struct rift_quiet *q, uint64_t now);
/* RTT_NS and VAR_NS as measured, 0: not known. Returns 0 or RIFT_QUIET_ALARM: open all ways again. */
int rift_quiet_tick(struct rift_quiet *q, uint64_t rtt_ns, uint64_t var_ns, uint64_t now);
/* When to call rift_quiet_tick() next, unless something is heard. */
uint64_t rift_quiet_timeout(const struct rift_quiet *q, uint64_t rtt_ns, uint64_t var_ns);
