#include "rift/core/ecn.h"

#include "lib/base/util.h"

/* Datagrams that may have crossed a change of base, or wait for their turn in the peer's counts. */
#define SLACK   10
#define ENOUGH  10
#define WAIT_NS WV_NS_PER_S

void rift_marks_init(struct rift_marks *m, enum rift_ecn mark)
{
    *m = (struct rift_marks){.mark = mark, .base_known = true};
    m->state = mark == RIFT_ECN_NONE ? RIFT_ECN_OFF : RIFT_ECN_TESTING;
}

void rift_marks_reset(struct rift_marks *m, uint64_t counter)
{
    m->state = m->mark == RIFT_ECN_NONE ? RIFT_ECN_OFF : RIFT_ECN_TESTING;
    m->marked = m->unmarked = 0;
    m->base_counter = counter;
    m->base_known = m->any_came = false;
    m->first_marked_ns = 0;
}

void rift_marks_received(struct rift_marks *m, enum rift_ecn ecn)
{
    m->seen.ect0 += ecn == RIFT_ECN_ECT0;
    m->seen.ect1 += ecn == RIFT_ECN_ECT1;
    m->seen.ce += ecn == RIFT_ECN_CE;
}

static void give_up(struct rift_marks *m)
{
    m->state = RIFT_ECN_OFF;
    m->failures++;
}

enum rift_ecn rift_marks_next(struct rift_marks *m, uint64_t rto_ns, uint64_t now)
{
    if (m->state == RIFT_ECN_OFF)
        return RIFT_ECN_NONE;
    /* Nothing that was marked ever came: the path may drop it for its mark. */
    if (m->state == RIFT_ECN_TESTING && !m->any_came && m->marked >= ENOUGH &&
        now - m->first_marked_ns >= WV_MAX(3 * rto_ns, (uint64_t)WAIT_NS)) {
        give_up(m);
        return RIFT_ECN_NONE;
    }
    return m->mark;
}

void rift_marks_sent(struct rift_marks *m, enum rift_ecn ecn, uint64_t now)
{
    if (ecn == RIFT_ECN_NONE) {
        m->unmarked++;
        return;
    }
    if (m->marked++ == 0)
        m->first_marked_ns = now;
}

/* True when a count of the peer went backwards: it came back from an older state. */
static bool went_back(const struct rift_ecn_counts *base, const struct rift_ecn_counts *c)
{
    return rift_serial_after(base->received, c->received) || rift_serial_after(base->ect0, c->ect0) ||
           rift_serial_after(base->ect1, c->ect1) || rift_serial_after(base->ce, c->ce);
}

void rift_marks_feedback(struct rift_marks *m, uint64_t highest, const struct rift_ecn_counts *c)
{
    if (m->state == RIFT_ECN_OFF)
        return;
    if (m->base_known && went_back(&m->base, c)) {
        m->base_known = false;
        m->base_counter = highest;
    }
    if (!m->base_known) {
        if (highest < m->base_counter)
            return;
        m->base_known = true;
        m->base = *c;
        m->ce_last = c->ce;
        return;
    }
    uint32_t ect0 = c->ect0 - m->base.ect0, ect1 = c->ect1 - m->base.ect1, ce = c->ce - m->base.ce;
    uint64_t kept = (uint64_t)(m->mark == RIFT_ECN_ECT0 ? ect0 : ect1) + ce;
    uint64_t changed = m->mark == RIFT_ECN_ECT0 ? ect1 : ect0;
    uint64_t received = c->received - m->base.received;
    if (changed > 0 || kept > m->marked + SLACK || received > m->unmarked + kept + SLACK) {
        give_up(m);
        return;
    }
    if (rift_serial_after(c->ce, m->ce_last)) {
        m->ce_told += c->ce - m->ce_last;
        m->ce_last = c->ce;
    }
    m->any_came = m->any_came || kept > 0;
    if (kept >= ENOUGH)
        m->state = RIFT_ECN_CAPABLE;
}
