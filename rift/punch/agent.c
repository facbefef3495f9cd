/* The path agent: its table, what comes in and what goes out. See agent.h; the client's choice is in
 * agent_choose.c. */
#include "rift/punch/agent_internal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define PACE_NS      (5 * WV_NS_PER_MS) /* between knocks to those who have not answered */
#define AGAIN_NS     (15 * WV_NS_PER_S) /* an address that did not answer is tried again */
#define WARM_NS      (5 * WV_NS_PER_S)  /* a way that is not in use is kept open, by the client */
#define HOST_WARM_NS (12 * WV_NS_PER_S) /* and by the host */
#define MEASURE_NS   (100 * WV_NS_PER_MS)
#define MEASURES     3 /* answers in a row at that pace */
#define UNANSWERED   3 /* knocks in a row: the way is gone */
#define BUDGET       24
#define FIRST_TRIES  8u
#define LEARNT_MOST  8 /* addresses from knocks */

static const uint64_t pauses_ms[FIRST_TRIES] = {40, 60, 100, 200, 400, 800, 1200, 2000};
static const uint8_t zero[RIFT_ADDRESS_BYTES];

/* ---- addresses ---- */

static bool is_mapped(const uint8_t *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(a, mapped, sizeof mapped) == 0;
}

void rift_punch_relayed_address(const uint8_t lease_id[16], uint8_t ret_address[RIFT_ADDRESS_BYTES])
{
    memset(ret_address, 0, RIFT_ADDRESS_BYTES);
    ret_address[0] = 1; /* 100::/64 (RFC 6666) */
    memcpy(ret_address + 8, lease_id, 8);
    ret_address[17] = 1;
}

bool rift_punch_is_relayed(const uint8_t address[RIFT_ADDRESS_BYTES])
{
    return address[0] == 1 && sodium_is_zero(address + 1, 7) && address[16] == 0 && address[17] == 1;
}

bool rift_punch_may_try(const uint8_t address[RIFT_ADDRESS_BYTES])
{
    const uint8_t *v4 = address + 12;
    if ((address[16] | address[17]) == 0)
        return false;
    if (is_mapped(address))
        return v4[0] != 0 && v4[0] != 127 && v4[0] < 224;
    bool discard = address[0] == 1 && sodium_is_zero(address + 1, 7);
    bool link_local = address[0] == 0xfe && (address[1] & 0xc0) == 0x80; /* means nothing elsewhere */
    return address[0] != 0xff && !link_local && !discard && !sodium_is_zero(address, 12);
}

/* ---- the table ---- */

struct path *punch_find(struct rift_punch *p, const uint8_t *address)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++)
        if (p->paths[i].kind && punch_is_same(p->paths[i].address, address))
            return &p->paths[i];
    return NULL;
}

static unsigned count(const struct rift_punch *p, bool learnt)
{
    unsigned n = 0;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++)
        n += p->paths[i].kind && p->paths[i].kind != RIFT_CANDIDATE_RELAYED &&
             (p->paths[i].kind == RIFT_CANDIDATE_PEER) == learnt;
    return n;
}

static struct path *insert(struct rift_punch *p, const uint8_t *address, enum rift_candidate_kind kind,
                           uint32_t priority, uint64_t now)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (t->kind)
            continue;
        *t = (struct path){
            .kind = kind, .priority = priority, .due_ns = now, .budget = BUDGET, .refill_ns = now};
        memcpy(t->address, address, RIFT_ADDRESS_BYTES);
        return t;
    }
    return NULL;
}

/* An address that a genuine knock came from or named. The longest silent one that never answered makes room.
 */
static struct path *learn(struct rift_punch *p, const uint8_t *address, uint64_t now)
{
    struct path *victim = NULL;
    if (!rift_punch_may_try(address))
        return NULL;
    if (count(p, true) < LEARNT_MOST)
        return insert(p, address, RIFT_CANDIDATE_PEER, 1u << 20, now);
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (t->kind == RIFT_CANDIDATE_PEER && !t->proven && (int)i != p->current && t->tries >= FIRST_TRIES &&
            (!victim || t->heard_ns < victim->heard_ns))
            victim = t;
    }
    if (!victim)
        return NULL;
    victim->kind = 0;
    return insert(p, address, RIFT_CANDIDATE_PEER, 1u << 20, now);
}

int rift_punch_new(struct rift_punch **ret, enum rift_role role,
                   const uint8_t secret[RIFT_KNOCK_SECRET_BYTES], uint64_t now)
{
    struct rift_punch *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->role = role;
    p->current = -1;
    p->peer_ns = now;
    rift_knock_derive(secret, &p->keys);
    *ret = p;
    return 0;
}

struct rift_punch *rift_punch_free(struct rift_punch *p)
{
    if (p) {
        sodium_memzero(p, sizeof *p);
        free(p);
    }
    return NULL;
}

const uint8_t *rift_punch_id(const struct rift_punch *p)
{
    return p->keys.id;
}

int rift_punch_add(struct rift_punch *p, const struct rift_candidate *candidate, uint64_t now)
{
    if (candidate->kind < RIFT_CANDIDATE_LOCAL || candidate->kind > RIFT_CANDIDATE_MAPPED ||
        !rift_punch_may_try(candidate->address))
        return -EINVAL;
    if (punch_find(p, candidate->address))
        return 0;
    uint32_t priority = WV_MIN(candidate->priority, UINT32_C(1) << 19);
    if (count(p, false) >= RIFT_PUNCH_CANDIDATES ||
        !insert(p, candidate->address, (enum rift_candidate_kind)candidate->kind, priority, now))
        return RIFT_PUNCH_FULL;
    return 0;
}

int rift_punch_add_relayed(struct rift_punch *p, const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t now)
{
    uint32_t newest = 0;
    unsigned n = 0;
    if (punch_find(p, address))
        return 0;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++)
        if (p->paths[i].kind == RIFT_CANDIDATE_RELAYED) {
            newest = WV_MAX(newest, p->paths[i].priority + 1);
            n++;
        }
    if (n == RIFT_PUNCH_RELAYED || !insert(p, address, RIFT_CANDIDATE_RELAYED, newest, now))
        return RIFT_PUNCH_FULL;
    return 0;
}

static void drop_path(struct rift_punch *p, struct path *t)
{
    t->kind = 0;
    if (p->current == t - p->paths)
        p->current = -1;
}

void rift_punch_drop_relayed(struct rift_punch *p, const uint8_t address[RIFT_ADDRESS_BYTES])
{
    struct path *t = punch_find(p, address);
    if (t && t->kind == RIFT_CANDIDATE_RELAYED)
        drop_path(p, t);
}

void rift_punch_set_relayed(struct rift_punch *p, const uint8_t *address, uint64_t now)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (t->kind == RIFT_CANDIDATE_RELAYED && !(address && punch_is_same(t->address, address)))
            drop_path(p, t);
    }
    if (address)
        (void)rift_punch_add_relayed(p, address, now);
}

void rift_punch_set_own(struct rift_punch *p, const uint8_t address[RIFT_ADDRESS_BYTES])
{
    memcpy(p->own[!is_mapped(address)], address, RIFT_ADDRESS_BYTES);
}

void rift_punch_reopen(struct rift_punch *p, uint64_t now)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (!t->kind || !(t->answered_ns || t->kind == RIFT_CANDIDATE_RELAYED))
            continue;
        t->due_ns = now;
        t->tries = 0;
        t->budget = WV_MAX(t->budget, UNANSWERED + 1u);
    }
}

void rift_punch_network_changed(struct rift_punch *p, uint64_t now)
{
    p->peer_ns = now;
    p->first_sent = 0;
    memset(p->own, 0, sizeof p->own);
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        t->due_ns = now;
        t->tries = t->streak = 0;
        t->budget = WV_MAX(t->budget, FIRST_TRIES);
    }
    if (p->current >= 0 && !p->suspect_ns)
        p->suspect_ns = p->probe_ns = now;
}

/* ---- in ---- */

static bool is_new_number(struct rift_punch *p, uint32_t number)
{
    if (number > p->highest) {
        uint32_t by = number - p->highest;
        p->window = by >= 64 ? 1 : p->window << by | 1;
        p->highest = number;
        return true;
    }
    uint32_t behind = p->highest - number;
    if (behind >= 64 || p->window >> behind & 1)
        return false;
    p->window |= UINT64_C(1) << behind;
    return true;
}

static bool queue_answer(struct rift_punch *p, const uint8_t *to, const struct rift_knock *k, bool use)
{
    if (p->n_answers == ANSWERS)
        return false;
    struct waiting_answer *a = &p->answers[p->n_answers++];
    memcpy(a->to, to, sizeof a->to);
    memcpy(a->nonce, k->nonce, sizeof a->nonce);
    a->number = k->number;
    a->flags = use ? RIFT_KNOCK_USE : 0;
    return true;
}

static int take_knock(struct rift_punch *p, const uint8_t *from, const struct rift_knock *k, uint64_t now)
{
    bool newest = k->number > p->highest;
    if (!is_new_number(p, k->number))
        return RIFT_PUNCH_DROPPED;
    struct path *t = punch_find(p, from);
    if (!t && !(t = learn(p, from, now)))
        return RIFT_PUNCH_DROPPED;
    p->counts.knocks_received++;
    p->peer_ns = t->heard_ns = now;
    if (!t->proven) { /* what could not get through may now */
        t->due_ns = WV_MIN(t->due_ns, now);
        if (t->tries >= FIRST_TRIES && p->first_sent < FIRST_MOST)
            t->tries = FIRST_TRIES - 3;
    }
    if (t->proven && p->suspect_ns &&
        t - p->paths != p->current) /* the way in use is doubted: is this one good? */
        t->due_ns = WV_MIN(t->due_ns, now);
    bool use = k->flags & RIFT_KNOCK_USE && p->role == RIFT_ROLE_HOST && t->proven && newest &&
               punch_is_same(k->address, from);
    if (!queue_answer(p, from, k, use))
        return RIFT_PUNCH_DROPPED;
    if (!(k->flags & RIFT_KNOCK_USE) && newest && !punch_is_same(k->address, zero) &&
        !punch_find(p, k->address))
        (void)learn(p, k->address, now);
    return use ? RIFT_PUNCH_USE : 0;
}

static void measure(struct path *t, uint64_t rtt)
{
    if (t->srtt_ns == 0) {
        t->srtt_ns = rtt;
        t->var_ns = rtt / 4;
        return;
    }
    uint64_t off = rtt > t->srtt_ns ? rtt - t->srtt_ns : t->srtt_ns - rtt;
    t->var_ns = (3 * t->var_ns + off) / 4;
    t->srtt_ns = (7 * t->srtt_ns + rtt) / 8;
}

static int take_answer(struct rift_punch *p, const uint8_t *from, const struct rift_knock *k, uint64_t now)
{
    struct path *t = punch_find(p, from);
    struct sent_knock *s = NULL;
    for (unsigned i = 0; t && i < SENT_RING; i++)
        if (t->sent[i].number == k->number && !memcmp(t->sent[i].nonce, k->nonce, sizeof k->nonce))
            s = &t->sent[i];
    if (!s)
        return RIFT_PUNCH_DROPPED;
    p->counts.answers_received++;
    p->peer_ns = t->heard_ns = t->answered_ns = now;
    t->answered_sent_ns = WV_MAX(t->answered_sent_ns, s->at_ns);
    measure(t, now - s->at_ns);
    if (!t->proven)
        t->proven_ns = now;
    t->proven = true;
    t->streak++;
    t->tries = 0;
    t->budget = BUDGET;
    uint64_t warm = p->role == RIFT_ROLE_CLIENT ? WARM_NS : HOST_WARM_NS;
    t->due_ns = now + (p->role == RIFT_ROLE_CLIENT && t->streak < MEASURES ? MEASURE_NS : warm);
    memcpy(t->observed, k->address, sizeof t->observed);
    if (t - p->paths == p->current) {
        if (k->flags & RIFT_KNOCK_USE)
            p->use_tries = 0;
        punch_current_lives(p, now);
    }
    s->number = 0;
    return 0;
}

int rift_punch_receive(struct rift_punch *p, const uint8_t from[RIFT_ADDRESS_BYTES], const uint8_t *datagram,
                       size_t len, uint64_t now)
{
    struct rift_knock k;
    int r = RIFT_PUNCH_DROPPED;
    if (rift_knock_read(&p->keys, datagram, len, &k) == 0 && k.role != p->role)
        r = k.kind == RIFT_KNOCK ? take_knock(p, from, &k, now) : take_answer(p, from, &k, now);
    p->counts.dropped += r == RIFT_PUNCH_DROPPED;
    return r;
}

/* ---- out ---- */

static void refill(struct path *t, uint64_t now)
{
    if (now - t->refill_ns >= AGAIN_NS && t->budget < BUDGET) {
        t->budget++;
        t->refill_ns = now;
    }
}

/* A knock to T is written; USE tells that it is in use. */
static void write_knock(struct rift_punch *p, struct path *t, bool use, uint64_t now, uint8_t *buffer)
{
    struct sent_knock *s = &t->sent[t->n_sent++ % SENT_RING];
    struct rift_knock k = {
        .kind = RIFT_KNOCK, .role = p->role, .flags = use ? RIFT_KNOCK_USE : 0, .number = ++p->number};
    randombytes_buf(k.nonce, sizeof k.nonce);
    if (use)
        memcpy(k.address, t->observed, sizeof k.address);
    else
        memcpy(k.address, p->own[p->own_next++ % 2], sizeof k.address);
    *s = (struct sent_knock){.number = k.number, .at_ns = now, .use = use};
    memcpy(s->nonce, k.nonce, sizeof s->nonce);
    rift_knock_write(&p->keys, &k, buffer);
    p->counts.knocks_sent++;
}

/* The first tries are used up: all others come at the pace of later ones. */
static void slow_down(struct rift_punch *p, uint64_t now)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (t->proven || t->tries >= FIRST_TRIES)
            continue;
        t->tries = FIRST_TRIES;
        t->due_ns = now + AGAIN_NS;
    }
}

/* What becomes of T after it got a knock of its own schedule. */
static void schedule(struct rift_punch *p, struct path *t, uint64_t now)
{
    t->tries++;
    if (t->proven) {
        t->streak = t->tries > 1 ? 0 : t->streak;
        t->due_ns = now + WV_MAX(3 * t->srtt_ns, MEASURE_NS);
        if (t->tries > UNANSWERED) {
            t->proven = false;
            t->failed_ns = now;
            t->tries = FIRST_TRIES;
            t->due_ns = now + AGAIN_NS / 3;
        }
        return;
    }
    t->budget -= t->budget > 0;
    t->due_ns = now + (t->tries <= FIRST_TRIES ? pauses_ms[t->tries - 1] * WV_NS_PER_MS : AGAIN_NS);
    if (++p->first_sent == FIRST_MOST)
        slow_down(p, now);
}

static bool may_knock(const struct path *t)
{
    return t->kind && (t->proven || t->budget);
}

static uint64_t due_of(const struct rift_punch *p, const struct path *t)
{
    if (!may_knock(t))
        return t->kind && !t->budget ? WV_MAX(t->refill_ns + AGAIN_NS, t->due_ns) : NEVER;
    return t->proven ? t->due_ns : WV_MAX(t->due_ns, p->paced_ns ? p->paced_ns + PACE_NS : 0);
}

/* Who is next: of those that are due, the one with the fewest tries, then the highest priority. */
static struct path *next_due(struct rift_punch *p, uint64_t now)
{
    struct path *best = NULL;
    if (now - WV_MIN(p->peer_ns, now) >= PEER_GONE_NS)
        return NULL;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        struct path *t = &p->paths[i];
        if (!t->kind)
            continue;
        refill(t, now);
        if (!may_knock(t) || due_of(p, t) > now)
            continue;
        if (!best || t->tries < best->tries || (t->tries == best->tries && t->priority > best->priority))
            best = t;
    }
    return best;
}

static void write_answer(struct rift_punch *p, uint8_t *buffer, uint8_t *ret_to)
{
    const struct waiting_answer *a = &p->answers[--p->n_answers];
    struct rift_knock k = {
        .kind = RIFT_KNOCK_ANSWER, .role = p->role, .flags = a->flags, .number = a->number};
    memcpy(k.nonce, a->nonce, sizeof k.nonce);
    memcpy(k.address, a->to, sizeof k.address);
    memcpy(ret_to, a->to, sizeof a->to);
    rift_knock_write(&p->keys, &k, buffer);
}

int rift_punch_send(struct rift_punch *p, uint8_t buffer[RIFT_KNOCK_BYTES], uint64_t now,
                    uint8_t ret_to[RIFT_ADDRESS_BYTES])
{
    bool use = false;
    if (p->n_answers) {
        write_answer(p, buffer, ret_to);
        return 0;
    }
    struct path *t = p->role == RIFT_ROLE_CLIENT ? punch_urgent(p, now, &use) : NULL;
    if (!t) {
        t = next_due(p, now);
        if (!t)
            return RIFT_PUNCH_IDLE;
        if (!t->proven)
            p->paced_ns = now;
        schedule(p, t, now);
    }
    write_knock(p, t, use, now, buffer);
    memcpy(ret_to, t->address, RIFT_ADDRESS_BYTES);
    return 0;
}

uint64_t rift_punch_timeout(const struct rift_punch *p)
{
    uint64_t at = p->n_answers ? 0 : NEVER, gone = p->peer_ns + PEER_GONE_NS;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++)
        if (p->paths[i].kind) {
            uint64_t due = due_of(p, &p->paths[i]);
            at = WV_MIN(at, due < gone ? due : NEVER);
        }
    return p->role == RIFT_ROLE_CLIENT ? WV_MIN(at, punch_choose_timeout(p)) : at;
}

/* ---- for the owner ---- */

uint32_t rift_punch_number(const struct rift_punch *p)
{
    return p->highest;
}

void rift_punch_set_number(struct rift_punch *p, uint32_t number)
{
    p->highest = number;
    p->window = UINT64_MAX;
}

static bool was_direct_tried(const struct rift_punch *p)
{
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++)
        if (p->paths[i].kind && p->paths[i].kind != RIFT_CANDIDATE_RELAYED)
            return true;
    return false;
}

static enum rift_punch_why explain(const struct rift_punch *p, unsigned answered)
{
    if (p->current < 0)
        return RIFT_PUNCH_TRYING;
    if (p->paths[p->current].kind != RIFT_CANDIDATE_RELAYED)
        return RIFT_PUNCH_DIRECT;
    if (answered)
        return RIFT_PUNCH_NOT_YET;
    if (p->fell_silent)
        return RIFT_PUNCH_FELL_SILENT;
    return was_direct_tried(p) ? RIFT_PUNCH_NO_ANSWER : RIFT_PUNCH_NO_CANDIDATES;
}

void rift_punch_get_status(const struct rift_punch *p, struct rift_punch_status *ret_status)
{
    struct rift_punch_status s = p->counts;
    for (size_t i = 0; i < RIFT_PUNCH_PATHS; i++) {
        const struct path *t = &p->paths[i];
        s.paths += t->kind && t->kind != RIFT_CANDIDATE_RELAYED;
        s.answered += t->kind && t->kind != RIFT_CANDIDATE_RELAYED && t->proven;
    }
    s.why = explain(p, s.answered);
    if (p->current >= 0) {
        const struct path *t = &p->paths[p->current];
        s.has_path = true;
        s.relayed = t->kind == RIFT_CANDIDATE_RELAYED;
        s.kind = t->kind;
        s.rtt_ns = t->srtt_ns;
        memcpy(s.address, t->address, sizeof s.address);
        memcpy(s.observed, t->observed, sizeof s.observed);
    }
    *ret_status = s;
}
