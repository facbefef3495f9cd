/* Clients that are not heard: perhaps it is this host that nobody hears any more, for its router forgot it.
 * Opens the ways to them again from here, which costs a fixed number of datagrams however often a client
 * plays dead (rift/punch/quiet.h). Must never end a session: that is the session's own to decide. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/transport/internal.h"

#define HEARD_NS (100 * WV_NS_PER_MS)

/* Somebody else gets through, so the network is what it was. */
static bool is_anybody_heard(const struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->top; i++)
        if (session_is_open(&t->slots[i]) && now - WV_MIN(t->slots[i].quiet.heard_ns, now) < HEARD_NS)
            return true;
    return false;
}

static void look_for(struct wv_transport *t, const struct session *s, uint64_t now)
{
    struct way *w = paths_of(t, s);
    if (!w)
        return; /* it came by an address that it was given: it will come again */
    wv_metric_add(t->metrics, WV_T_SILENCES, 1);
    rift_punch_reopen(w->punch, now);
    rift_relay_pair_moved(&w->relays, now);
    if (!is_anybody_heard(t, now))
        stun_doubt(t, now);
}

void silence_pump(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->top && !t->draining; i++) {
        struct session *s = &t->slots[i];
        if (session_is_live(s) &&
            rift_quiet_tick(&s->quiet, s->seen.rtt_ns, s->seen.rtt_ns / 8, now) == RIFT_QUIET_ALARM)
            look_for(t, s, now);
    }
}

uint64_t silence_timeout(const struct wv_transport *t)
{
    uint64_t at = NEVER;
    for (size_t i = 0; i < t->top && !t->draining; i++)
        if (session_is_live(&t->slots[i]))
            at = WV_MIN(at, rift_quiet_timeout(&t->slots[i].quiet, t->slots[i].seen.rtt_ns,
                                               t->slots[i].seen.rtt_ns / 8));
    return at;
}
