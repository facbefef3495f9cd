/* Which way the client takes: a direct one by delay, a relayed one when nothing else answers, and off one
 * that fell silent before a person notices. Must never leave a way that works for one that may not. */
#include "rift/punch/agent_internal.h"

#define RELAY_WAIT_NS   (250 * WV_NS_PER_MS) /* a direct way may come so much later than the relay answers */
#define RESTLESS_NS     WV_NS_PER_S          /* between changes for a shorter delay */
#define BETTER_NS       (5 * WV_NS_PER_MS)
#define FAILED_NS       (10 * WV_NS_PER_S) /* a way that failed must show more before it is taken again */
#define FAILED_STREAK   4
#define MEASURED_STREAK 3
#define SILENT_MIN_NS   (35 * WV_NS_PER_MS)
#define SILENT_MAX_NS   (300 * WV_NS_PER_MS)
#define PROBE_NS        (20 * WV_NS_PER_MS)
#define PROBE_SLOW_NS   (250 * WV_NS_PER_MS)
#define PROBES_FAST     8
#define PROBES_MOST     200 /* of one doubt */
#define RTT_UNKNOWN_NS  (100 * WV_NS_PER_MS)
#define USE_NS          (20 * WV_NS_PER_MS)
#define USE_TRIES       12

static bool is_relayed(const struct path *t)
{
    return t->kind == RIFT_CANDIDATE_RELAYED;
}

/* ---- the chosen way ---- */

static uint64_t heard(const struct rift_punch *p)
{
    return WV_MAX(p->paths[p->current].heard_ns, p->chosen_ns);
}

/* How long the chosen way may be silent before it is asked: a few times the pause that is usual. */
static uint64_t patience(const struct rift_punch *p)
{
    uint64_t pause = WV_MAX(3 * p->gap_ns, SILENT_MIN_NS);
    return WV_MIN(pause, SILENT_MAX_NS);
}

void punch_current_lives(struct rift_punch *p, uint64_t now)
{
    p->suspect_ns = 0;
    p->probes = 0;
}

void rift_punch_heard(struct rift_punch *p, const uint8_t from[RIFT_ADDRESS_BYTES], uint64_t now)
{
    struct path *t = punch_find(p, from);
    if (!t)
        return;
    p->peer_ns = now;
    if (t - p->paths == p->current) {
        uint64_t gap = now - WV_MIN(heard(p), now);
        p->gap_ns = (7 * p->gap_ns + WV_MIN(gap, SILENT_MAX_NS)) / 8;
        punch_current_lives(p, now);
    }
    t->heard_ns = now;
}

static void choose(struct rift_punch *p, struct path *t, uint64_t now)
{
    if (p->current >= 0)
        p->counts.switches++;
    p->current = (int)(t - p->paths);
    p->chosen_ns = now;
    p->gap_ns = SILENT_MAX_NS / 3;
    if (!is_relayed(t))
        p->fell_silent = false;
    p->use_tries = USE_TRIES;
    p->use_ns = now;
    punch_current_lives(p, now);
}

/* ---- others ---- */

static bool is_trusted(const struct path *t, uint64_t now)
{
    bool failed = t->failed_ns && now - t->failed_ns < FAILED_NS;
    return t->kind && t->proven && t->tries <= 1 && (!failed || t->streak >= FAILED_STREAK);
}

static struct path *best_direct(struct rift_punch *p, uint64_t now)
{
    struct path *best = NULL;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (is_trusted(t, now) && !is_relayed(t) && (!best || t->srtt_ns < best->srtt_ns))
            best = t;
    }
    return best;
}

/* The newest that answers. */
static struct path *relayed(struct rift_punch *p)
{
    struct path *newest = NULL;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (is_relayed(t) && t->proven && (!newest || t->priority > newest->priority))
            newest = t;
    }
    return newest;
}

/* What answered a knock that left after the chosen way was first doubted. */
static struct path *living_other(struct rift_punch *p)
{
    struct path *best = NULL;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if ((int)i == p->current || !t->kind || !t->proven || t->answered_sent_ns < p->suspect_ns)
            continue;
        if (!best || (is_relayed(best) && !is_relayed(t)) ||
            (is_relayed(best) == is_relayed(t) && t->srtt_ns < best->srtt_ns))
            best = t;
    }
    return best;
}

/* When a doubt becomes a verdict. */
static uint64_t verdict_ns(const struct rift_punch *p)
{
    const struct path *t = &p->paths[p->current];
    return p->suspect_ns + (t->srtt_ns ? t->srtt_ns + punch_slack(t) : RTT_UNKNOWN_NS);
}

static int judge_current(struct rift_punch *p, uint64_t now)
{
    struct path *t = &p->paths[p->current];
    if (!p->suspect_ns && now >= heard(p) + patience(p)) {
        p->suspect_ns = p->probe_ns = now;
        p->verdict_due = true;
    }
    if (p->suspect_ns && now >= verdict_ns(p))
        p->verdict_due = false; /* from then on only an answer changes anything */
    struct path *other = p->suspect_ns && now >= verdict_ns(p) ? living_other(p) : NULL;
    if (!other)
        return 0;
    p->fell_silent = !is_relayed(t);
    t->failed_ns = now;
    t->proven = false;
    t->tries = 0;
    t->streak = 0;
    t->due_ns = now + 10 * PROBE_NS;
    choose(p, other, now);
    return RIFT_PUNCH_SWITCHED;
}

/* The relay in use is to be left for a newer one, which shows that it works before that. */
static int follow_relay(struct rift_punch *p, uint64_t now)
{
    const struct path *t = &p->paths[p->current];
    struct path *newest = is_relayed(t) && !p->suspect_ns ? relayed(p) : NULL;
    if (!newest || newest->priority <= t->priority || newest->streak < 2 || !is_trusted(newest, now))
        return 0;
    choose(p, newest, now);
    return RIFT_PUNCH_SWITCHED;
}

static int improve(struct rift_punch *p, uint64_t now)
{
    const struct path *t = &p->paths[p->current];
    struct path *direct = best_direct(p, now);
    if (!direct || direct == t || p->suspect_ns)
        return follow_relay(p, now);
    bool better = direct->srtt_ns + WV_MAX(BETTER_NS, t->srtt_ns / 10) < t->srtt_ns;
    bool measured = direct->streak >= MEASURED_STREAK && now - p->chosen_ns >= RESTLESS_NS;
    if (!is_relayed(t) && !(better && measured))
        return 0;
    if (is_relayed(t) && direct->streak < 2)
        return 0;
    choose(p, direct, now);
    return RIFT_PUNCH_SWITCHED;
}

int rift_punch_tick(struct rift_punch *p, uint64_t now)
{
    if (p->role != RIFT_ROLE_CLIENT)
        return 0;
    if (p->current >= 0) {
        int r = judge_current(p, now);
        return r ? r : improve(p, now);
    }
    struct path *t = best_direct(p, now), *relay = relayed(p);
    if (!t && relay && now >= relay->proven_ns + RELAY_WAIT_NS)
        t = relay;
    if (!t)
        return 0;
    choose(p, t, now);
    return RIFT_PUNCH_SWITCHED;
}

/* ---- knocks that do not wait ---- */

/* The other ways are asked together with the doubted one: whoever answers is the way to go. */
static struct path *next_probe(struct rift_punch *p)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        const struct sent_knock *last = &t->sent[(t->n_sent + SENT_RING - 1) % SENT_RING];
        bool asked = t->n_sent && last->at_ns >= p->probe_ns;
        if (t->kind && (t->proven || (int)i == p->current) && !asked)
            return t;
    }
    return NULL;
}

struct path *punch_urgent(struct rift_punch *p, uint64_t now, bool *ret_use)
{
    if (p->current < 0)
        return NULL;
    if (p->use_tries && now >= p->use_ns) {
        p->use_tries--;
        p->use_ns = now + USE_NS;
        *ret_use = true;
        return &p->paths[p->current];
    }
    if (!p->suspect_ns || now < p->probe_ns || p->probes >= PROBES_MOST)
        return NULL;
    struct path *t = next_probe(p);
    if (!t)
        p->probe_ns = now + (++p->probes < PROBES_FAST ? PROBE_NS : PROBE_SLOW_NS);
    return t;
}

uint64_t punch_choose_timeout(const struct rift_punch *p)
{
    if (p->current < 0) {
        uint64_t at = NEVER;
        for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++)
            if (is_relayed(&p->paths[i]) && p->paths[i].proven)
                at = WV_MIN(at, p->paths[i].proven_ns + RELAY_WAIT_NS);
        return at;
    }
    uint64_t at = p->use_tries ? p->use_ns : NEVER;
    if (!p->suspect_ns)
        return WV_MIN(at, heard(p) + patience(p));
    if (p->verdict_due)
        at = WV_MIN(at, verdict_ns(p));
    return p->probes < PROBES_MOST ? WV_MIN(at, p->probe_ns) : at;
}
