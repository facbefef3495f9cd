/* What the parts of the path agent share. Nothing outside rift/punch includes this. */
#pragma once

#include "lib/base/util.h"
#include "rift/punch/agent.h"

#include <string.h>

#define SENT_RING  8   /* knocks of one path whose answers still count */
#define ANSWERS    16  /* that wait to be sent */
#define FIRST_MOST 100 /* knocks before the first answers, over all addresses */
#define NEVER      UINT64_MAX

#define PEER_GONE_NS (60 * WV_NS_PER_S) /* nothing more is sent to a peer that was silent so long */

struct sent_knock {
    uint32_t number; /* 0: none */
    uint8_t nonce[RIFT_KNOCK_NONCE_BYTES];
    uint64_t at_ns;
    bool use;
};

struct path {
    uint8_t address[RIFT_ADDRESS_BYTES];
    enum rift_candidate_kind kind; /* 0: the place is free */
    uint32_t priority;
    uint64_t due_ns;
    unsigned tries;  /* knocks without an answer */
    unsigned budget; /* knocks that it may still get without an answer */
    uint64_t refill_ns;

    bool proven; /* it answered, and did not fall silent since */
    uint64_t proven_ns, answered_ns, heard_ns, failed_ns;
    uint64_t answered_sent_ns; /* when the knock left that was answered last */
    unsigned streak;           /* answers in a row */
    uint64_t srtt_ns, var_ns;
    uint8_t observed[RIFT_ADDRESS_BYTES];
    struct sent_knock sent[SENT_RING];
    unsigned n_sent;
};

struct waiting_answer {
    uint8_t to[RIFT_ADDRESS_BYTES];
    uint32_t number;
    uint8_t nonce[RIFT_KNOCK_NONCE_BYTES];
    uint8_t flags;
};

struct rift_punch {
    enum rift_role role;
    struct rift_knock_keys keys;
    struct path paths[RIFT_PUNCH_PATHS];
    struct waiting_answer answers[ANSWERS];
    unsigned n_answers;
    uint8_t own[2][RIFT_ADDRESS_BYTES]; /* IPv4, IPv6; all zero: not known */
    unsigned own_next;

    uint32_t number;  /* of our last knock */
    uint32_t highest; /* of the peer's */
    uint64_t window;  /* which of the 64 up to it came */

    uint64_t paced_ns, peer_ns; /* last paced knock; peer last heard */
    unsigned first_sent;        /* knocks to who has not answered, since the network changed */

    /* The client's choice. */
    int current; /* index, -1: none */
    uint64_t chosen_ns, gap_ns;
    uint64_t suspect_ns, probe_ns; /* since when the current way is doubted, 0: it is not; next probe */
    unsigned probes;
    bool verdict_due, fell_silent;
    unsigned use_tries; /* times that the host is still told which way is in use */
    uint64_t use_ns;

    struct rift_punch_status counts; /* only its counters */
};

/* agent_choose.c */
/* PATH answered or the session was heard on it. */
void punch_current_lives(struct rift_punch *p, uint64_t now);
uint64_t punch_choose_timeout(const struct rift_punch *p);
/* Knocks that must leave now, past the pacing: doubts and news of the choice. Returns the path or NULL. */
struct path *punch_urgent(struct rift_punch *p, uint64_t now, bool *ret_use);

/* agent.c */
struct path *punch_find(struct rift_punch *p, const uint8_t *address);
static inline bool punch_is_same(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, RIFT_ADDRESS_BYTES) == 0;
}
static inline uint64_t punch_slack(const struct path *t)
{
    uint64_t slack = WV_MAX(4 * t->var_ns, 15 * WV_NS_PER_MS);
    return WV_MIN(slack, 200 * WV_NS_PER_MS);
}
