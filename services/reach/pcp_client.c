/* PCP's client; see pcp_client.h. Must never take a datagram that is not the router's answer to what was
 * asked, let a router make it send more than a datagram a second, or hold a mapping for true past its end. */
#include "services/reach/pcp_client.h"

#include "lib/base/util.h"
#include "services/reach/addresses.h"

#include <errno.h>
#include <string.h>

/* RFC 6887, section 8.1.1: IRT and MRT, spread by a tenth. It would ask for ever; whoever has no answer after
 * ASK_NS looks for another way. */
#define FIRST_NS       (3 * WV_NS_PER_S)
#define LONGEST_NS     (1024 * WV_NS_PER_S)
#define ASK_NS         (6 * WV_NS_PER_S)
#define DELETE_NS      (300 * WV_NS_PER_MS) /* who ends can't wait for FIRST_NS */
#define RENEW_MIN_NS   (4 * WV_NS_PER_S)    /* section 11.2.1 */
#define LIFETIME_MAX_S (24u * 3600)         /* section 15: what a router gives at most */
#define CHECK_NS       (60 * WV_NS_PER_S)   /* between questions whether the router remembers */
#define SPREAD_NS      (5 * WV_NS_PER_S)    /* section 14.1: after a multicast */
#define GAP_NS         (1 * WV_NS_PER_S)    /* between requests, whatever a router says */
#define DOUBT_NS       (60 * WV_NS_PER_S)   /* a mapping that the router forgot counts no longer than this */
#define LATER_MIN_S    30u
#define LATER_MAX_S    1800u
#define NEVER          UINT64_MAX

struct wv_pcp_client {
    struct wv_pcp_setup s;
    enum wv_pcp_state state;
    uint8_t result;
    struct wv_pcp_map map; /* what is asked for; mapped: what was given */
    uint64_t due_ns;       /* of the next request for the mapping */
    uint64_t end_ns;       /* asking: given up; mapped: its end */
    uint64_t check_ns;     /* of the next ANNOUNCE */
    uint64_t checked_ns;   /* the last one; 0: none yet */
    uint64_t pause_ns;     /* before the next repetition */
    uint64_t sent_ns;      /* the last request for the mapping; 0: none yet */
    bool urgent;           /* mapped, but the router has forgotten it */
    bool epoch_known;
    uint32_t epoch_s;
    uint64_t epoch_ns, random;
    uint32_t restarts;
};

/* 0 to BELOW - 1; only to spread times. */
static uint64_t draw(struct wv_pcp_client *c, uint64_t below)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random % below;
}

/* PAUSE, a tenth more or less. */
static uint64_t spread(struct wv_pcp_client *c, uint64_t pause_ns)
{
    return pause_ns - pause_ns / 10 + draw(c, pause_ns / 5 + 1);
}

static void end(struct wv_pcp_client *c, enum wv_pcp_state state)
{
    c->state = state;
    c->due_ns = c->end_ns = c->check_ns = NEVER;
}

static uint64_t soonest(const struct wv_pcp_client *c, uint64_t now)
{
    return c->sent_ns ? WV_MAX(now, c->sent_ns + GAP_NS) : now;
}

static void ask(struct wv_pcp_client *c, uint64_t now)
{
    c->state = WV_PCP_ASKING;
    c->due_ns = soonest(c, now);
    c->end_ns = now + ASK_NS;
    c->check_ns = NEVER;
    c->pause_ns = 0;
}

/* All zeros of the own family (section 11.1). Returns whether something else was there. */
static bool forget_suggestion(struct wv_pcp_client *c)
{
    static const uint8_t any_v4[16] = {[10] = 0xff, [11] = 0xff}, any_v6[16];
    const uint8_t *any = wv_reach_is_v4(c->s.own) ? any_v4 : any_v6;
    bool had = c->map.external_port || memcmp(c->map.external, any, 16) != 0;
    memcpy(c->map.external, any, 16);
    c->map.external_port = 0;
    return had;
}

int wv_pcp_client_new(struct wv_pcp_client **ret, const struct wv_pcp_setup *setup, uint64_t now)
{
    struct wv_pcp_client *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->s = *setup;
    c->random = setup->random | 1;
    c->map.protocol = WV_PCP_UDP;
    memcpy(c->map.nonce, setup->nonce, sizeof c->map.nonce);
    (void)forget_suggestion(c);
    c->map.internal_port = c->map.external_port = setup->port;
    ask(c, now);
    *ret = c;
    return 0;
}

struct wv_pcp_client *wv_pcp_client_free(struct wv_pcp_client *c)
{
    free(c);
    return NULL;
}

/* ---- what came ---- */

/* Section 8.5. Returns whether the router remembers what it was asked before. */
static bool is_same_epoch(struct wv_pcp_client *c, uint32_t epoch_s, uint64_t now)
{
    bool same = true;
    if (c->epoch_known) {
        uint64_t mine = (now - c->epoch_ns) / WV_NS_PER_S;
        uint64_t its = epoch_s >= c->epoch_s ? epoch_s - c->epoch_s : 0;
        same =
            (uint64_t)epoch_s + 1 >= c->epoch_s && mine + 2 >= its - its / 16 && its + 2 >= mine - mine / 16;
    }
    c->epoch_known = true;
    c->epoch_s = epoch_s;
    c->epoch_ns = now;
    return same;
}

/* The router has lost its table: what was mapped is asked for once more. */
static void mapped_no_more(struct wv_pcp_client *c, bool multicast, uint64_t now)
{
    if (c->state == WV_PCP_LATER)
        ask(c, now);
    if (c->state != WV_PCP_MAPPED || c->urgent)
        return;
    c->urgent = true;
    c->pause_ns = 0;
    c->end_ns = WV_MIN(c->end_ns, now + DOUBT_NS);
    c->due_ns = soonest(c, now) + (multicast ? draw(c, SPREAD_NS) : 0);
}

/* Half of what is left, up to an eighth later (section 11.2.1). */
static void plan_renewal(struct wv_pcp_client *c, uint64_t now)
{
    uint64_t left = c->end_ns > now ? c->end_ns - now : 0;
    c->due_ns = now + WV_MAX(left / 2 + draw(c, left / 8 + 1), RENEW_MIN_NS);
}

static void take_mapping(struct wv_pcp_client *c, const struct wv_pcp_response *m, uint64_t now)
{
    bool fits = wv_reach_is_v4(m->map.external) == wv_reach_is_v4(c->s.own) && m->map.external_port != 0 &&
                wv_reach_scope(m->map.external) != WV_REACH_SCOPE_NONE;
    c->result = WV_PCP_SUCCESS;
    if (!fits || m->lifetime_s == 0) { /* an address that nobody could reach */
        end(c, WV_PCP_REFUSED);
        return;
    }
    c->map.external_port = m->map.external_port;
    memcpy(c->map.external, m->map.external, sizeof c->map.external);
    c->state = WV_PCP_MAPPED;
    c->urgent = false;
    c->end_ns = now + WV_MIN(m->lifetime_s, LIFETIME_MAX_S) * WV_NS_PER_S;
    c->check_ns = now + spread(c, CHECK_NS);
    plan_renewal(c, now);
}

/* Those of section 7.4 that pass; the router says when. */
static void take_error(struct wv_pcp_client *c, const struct wv_pcp_response *m, uint64_t now)
{
    uint32_t later_s;
    c->result = m->result;
    switch (m->result) {
    case WV_PCP_UNSUPP_VERSION:
        end(c, WV_PCP_NATPMP);
        return;
    case WV_PCP_NETWORK_FAILURE:
    case WV_PCP_NO_RESOURCES:
    case WV_PCP_USER_EX_QUOTA:
        if (c->state == WV_PCP_MAPPED) { /* what there is stays until its end */
            plan_renewal(c, now);
            return;
        }
        c->state = WV_PCP_LATER;
        c->end_ns = NEVER;
        later_s = WV_MIN(m->lifetime_s, LATER_MAX_S);
        c->due_ns = now + WV_MAX(later_s, LATER_MIN_S) * WV_NS_PER_S;
        return;
    case WV_PCP_CANNOT_PROVIDE_EXTERNAL:
        if (forget_suggestion(c)) {
            ask(c, now);
            return;
        }
        break;
    default:
        break;
    }
    end(c, WV_PCP_REFUSED);
}

static bool answers(const struct wv_pcp_client *c, const struct wv_pcp_response *m)
{
    return m->has_map && m->map.protocol == c->map.protocol && m->map.internal_port == c->map.internal_port &&
           !memcmp(m->map.nonce, c->map.nonce, sizeof c->map.nonce);
}

static void take_map(struct wv_pcp_client *c, const struct wv_pcp_response *m, uint64_t now)
{
    if (c->state == WV_PCP_DELETING) { /* refused: there is nothing that it would delete */
        end(c, WV_PCP_DELETED);
        return;
    }
    if (m->result == WV_PCP_SUCCESS)
        take_mapping(c, m, now);
    else
        take_error(c, m, now);
}

static bool is_at_end(const struct wv_pcp_client *c)
{
    return c->state == WV_PCP_NATPMP || c->state == WV_PCP_REFUSED || c->state == WV_PCP_SILENT ||
           c->state == WV_PCP_DELETED;
}

void wv_pcp_client_receive(struct wv_pcp_client *c, const uint8_t from[18], const void *data, size_t len,
                           bool multicast, uint64_t now)
{
    struct wv_pcp_response m;
    unsigned port = (unsigned)from[16] << 8 | from[17];
    if (is_at_end(c) || memcmp(from, c->s.router, 16) != 0 || port != WV_PCP_PORT ||
        wv_pcp_read(data, len, &m) < 0)
        return;
    if (m.result == WV_PCP_UNSUPP_VERSION) { /* may be all that the router understood: it repeats no nonce */
        if (c->state == WV_PCP_ASKING && !multicast)
            take_error(c, &m, now);
        return;
    }
    if (m.version != WV_PCP_VERSION)
        return;
    bool map = m.opcode == WV_PCP_MAP && !multicast && answers(c, &m);
    if (!map && m.opcode != WV_PCP_ANNOUNCE)
        return;
    bool same = is_same_epoch(c, m.epoch_s, now);
    c->restarts += !same;
    if (map)
        take_map(c, &m, now);
    else if (!same)
        mapped_no_more(c, multicast, now);
}

void wv_pcp_client_refused(struct wv_pcp_client *c)
{
    if (c->state == WV_PCP_ASKING)
        end(c, WV_PCP_SILENT);
    else if (c->state == WV_PCP_DELETING)
        end(c, WV_PCP_DELETED);
}

void wv_pcp_client_check(struct wv_pcp_client *c, uint64_t now)
{
    uint64_t soon = c->checked_ns ? WV_MAX(now, c->checked_ns + GAP_NS) : now;
    if (c->state == WV_PCP_MAPPED)
        c->check_ns = WV_MIN(c->check_ns, soon);
}

/* ---- what is sent ---- */

static void plan_repetition(struct wv_pcp_client *c, uint64_t now)
{
    if (c->state == WV_PCP_MAPPED && !c->urgent) {
        plan_renewal(c, now);
        return;
    }
    uint64_t first = c->state == WV_PCP_DELETING ? DELETE_NS : FIRST_NS;
    c->pause_ns = spread(c, c->pause_ns ? WV_MIN(2 * c->pause_ns, LONGEST_NS) : first);
    c->due_ns = now + c->pause_ns;
}

size_t wv_pcp_client_send(struct wv_pcp_client *c, uint64_t now, uint8_t ret[WV_PCP_MAP_BYTES])
{
    if (is_at_end(c))
        return 0;
    if (now >= c->end_ns) {
        end(c, c->state == WV_PCP_DELETING ? WV_PCP_DELETED : WV_PCP_SILENT);
        return 0;
    }
    if (now >= c->due_ns) {
        if (c->state == WV_PCP_LATER)
            ask(c, now);
        c->sent_ns = now;
        plan_repetition(c, now);
        return wv_pcp_write_map(c->s.own, c->state == WV_PCP_DELETING ? 0 : c->s.lifetime_s, &c->map, ret);
    }
    if (now >= c->check_ns) {
        c->checked_ns = now;
        c->check_ns = now + spread(c, CHECK_NS);
        return wv_pcp_write_announce(c->s.own, ret);
    }
    return 0;
}

uint64_t wv_pcp_client_timeout(const struct wv_pcp_client *c)
{
    uint64_t sooner = WV_MIN(c->due_ns, c->end_ns);
    return WV_MIN(sooner, c->check_ns);
}

void wv_pcp_client_delete(struct wv_pcp_client *c, uint64_t now)
{
    if (is_at_end(c) || c->state == WV_PCP_DELETING)
        return;
    if (c->state == WV_PCP_LATER) {
        end(c, WV_PCP_DELETED);
        return;
    }
    c->state = WV_PCP_DELETING; /* also when asking: the answer may be what was lost */
    (void)forget_suggestion(c); /* section 15.1 */
    c->check_ns = NEVER;
    c->pause_ns = 0;
    c->due_ns = now;
    c->end_ns = now + 2 * DELETE_NS;
}

enum wv_pcp_state wv_pcp_client_state(const struct wv_pcp_client *c)
{
    return c->state;
}

uint8_t wv_pcp_client_result(const struct wv_pcp_client *c)
{
    return c->result;
}

uint32_t wv_pcp_client_restarts(const struct wv_pcp_client *c)
{
    return c->restarts;
}

bool wv_pcp_client_mapped(const struct wv_pcp_client *c, uint8_t ret_address[18])
{
    if (c->state != WV_PCP_MAPPED)
        return false;
    memcpy(ret_address, c->map.external, 16);
    ret_address[16] = (uint8_t)(c->map.external_port >> 8);
    ret_address[17] = (uint8_t)c->map.external_port;
    return true;
}
