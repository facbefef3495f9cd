/* Between the two sessions: sockets with addresses, a NAT that forgets, a stranger who forwards copies, and a
 * host whose process dies at any moment and comes back from what it stored. */
#include "lib/base/util.h"
#include "rift/core/session_internal.h"
#include "tests/known.h"
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY_MAX  (14u << 20)
#define INSTANT_MAX 20000 /* datagrams that one side may send without time passing */

static const uint8_t host_address[SIM_ADDRESS] = {SIM_HOST};
static const uint8_t attacker_address[SIM_ADDRESS] = {66};

void sim_road_prepare(struct sim_world *w)
{
    w->client_address[0] = 1;
    w->next_rebind = UINT64_MAX;
    if (sim_random_hit(&w->random, 400000)) {
        w->rebind_pause = WV_NS_PER_MS * (100 + sim_random_below(&w->random, 2000));
        w->next_rebind = sim_random_below(&w->random, 2 * w->rebind_pause);
    }
    w->attacked = sim_random_hit(&w->random, 200000);
    w->attacker_delay = sim_random_below(&w->random, 5 * WV_NS_PER_MS);
}

void sim_road_step(struct sim_world *w)
{
    if (w->now < w->next_rebind)
        return;
    w->next_rebind = w->now + w->rebind_pause / 2 + sim_random_below(&w->random, w->rebind_pause);
    memcpy(w->old_address, w->client_address, SIM_ADDRESS);
    w->old_alive = sim_random_hit(&w->random, 500000);
    w->client_address[1] = (uint8_t)sim_random_below(&w->random, 256);
    w->rebinds++;
    if (sim_random_hit(&w->random, 300000))
        rift_session_path_changed(w->client, w->now + w->client_clock);
}

bool sim_flow_is_at_client(const struct sim_world *w)
{
    uint8_t address[SIM_ADDRESS];
    rift_session_get_address(w->host, address);
    return memcmp(address, w->client_address, SIM_ADDRESS) == 0;
}

/* Counters go up and never back, over the deaths of a process too. */
static void check_counter(struct sim_world *w, bool from_host, const uint8_t *datagram)
{
    uint64_t counter = 0;
    for (int i = 7; i >= 0; i--)
        counter = counter << 8 | datagram[8 + i];
    uint64_t *next = &w->next_counter[from_host ? 0 : 1];
    if (counter < *next)
        sim_fail(w, "packet counter %llu was used before", (unsigned long long)counter);
    *next = counter + 1;
}

/* ---- the end of the host's process ---- */

static void store(struct sim_world *w)
{
    if (!rift_session_wants_export(w->host))
        return;
    if (rift_session_export(w->host, w->state, sizeof w->state, w->now + w->host_clock, &w->state_len) != 0 ||
        rift_session_wants_export(w->host))
        sim_fail(w, "no export");
    const struct rift_control_tx *t = &w->host->control_tx;
    w->down.covered = w->down.sent;
    for (uint32_t seq = t->committed; seq != t->next; seq++)
        w->down.covered -= t->chunks[seq % RIFT_CONTROL_QUEUE]->last;
}

static void restart(struct sim_world *w)
{
    if (w->state_len == 0)
        return;
    w->host = rift_session_free(w->host);
    if (rift_session_import(&w->host, &w->host_config, w->state, w->state_len, w->now + w->host_clock) != 0) {
        sim_fail(w, "no import");
        w->restart_ppm = 0;
        if (rift_session_new(&w->host, &w->host_config, w->now + w->host_clock) != 0)
            abort();
        return;
    }
    w->restarts++;
    for (unsigned i = w->down.covered; i < w->down.sent; i++)
        w->down.gone[i] = true;
    /* What came after the last export may come again; the replay window does not know it. */
    for (size_t i = 0; i < WV_ARRAY_SIZE(w->kept); i++)
        if (w->kept[i] && w->kept_to_host[i]) {
            free(w->kept[i]);
            w->kept[i] = NULL;
        }
    w->cursor_sent = false; /* a cursor that was never sent died with the process; sent again below */
    if (w->cursor.shape_id) {
        w->cursor.shape_id++;
        rift_session_send_cursor(w->host, &w->cursor, w->now + w->host_clock);
        w->cursor_sent = true;
    }
}

/* ---- sending ---- */

static void check_idle(struct sim_world *w, const struct rift_session *s, uint64_t now)
{
    if (rift_session_timeout(s) <= now)
        sim_fail(w, "idle, but the timeout is not in the future");
    struct rift_session_stats stats;
    rift_session_get_stats(s, &stats);
    if (stats.memory_bytes > MEMORY_MAX)
        sim_fail(w, "%zu bytes held", stats.memory_bytes);
}

/* The stranger sends a copy of what the client sent, by a quicker way. */
static void attack(struct sim_world *w, const struct sim_packet *p)
{
    if (!w->attacked || !sim_random_hit(&w->random, 300000))
        return;
    struct sim_link_config keep = w->to_host.config;
    struct sim_packet copy = *p;
    memcpy(copy.address, attacker_address, SIM_ADDRESS);
    w->to_host.config = (struct sim_link_config){.delay_ns = w->attacker_delay};
    sim_link_send(&w->to_host, &copy, w->now);
    w->to_host.config = keep;
}

static void host_sent(struct sim_world *w, const struct sim_packet *p, enum rift_class traffic_class)
{
    bool to_attacker = memcmp(p->address, attacker_address, SIM_ADDRESS) == 0;
    if (traffic_class == RIFT_CLASS_MEDIA) {
        w->media++;
        w->media_to_attacker += to_attacker;
    }
    sim_link_send(&w->to_client, p, w->now); /* the stranger passes on what he gets */
}

void sim_pump_send(struct sim_world *w, bool from_host)
{
    uint64_t now = w->now + (from_host ? w->host_clock : w->client_clock);
    for (unsigned n = 0; !w->failure[0]; n++) {
        struct sim_packet p = {.intact = true};
        struct rift_outgoing out;
        if (from_host && sim_random_hit(&w->random, w->restart_ppm))
            restart(w);
        if (from_host)
            store(w);
        struct rift_session *s = from_host ? w->host : w->client;
        int r = rift_session_send_to(s, known_forget(p.data, sizeof p.data), sizeof p.data, now, &out);
        if (r == RIFT_SESSION_IDLE && from_host && rift_session_wants_export(s))
            continue; /* what was sent last made it so */
        if (r == RIFT_SESSION_IDLE)
            break;
        if (r != 0 || out.len > sizeof p.data)
            sim_fail(w, "send: %d", r);
        else if (n == INSTANT_MAX)
            sim_fail(w, "sends without end");
        check_counter(w, from_host, p.data);
        p.len = out.len;
        p.ecn = (uint8_t)out.ecn;
        memcpy(p.address, from_host ? out.address : w->client_address, SIM_ADDRESS);
        if (from_host) {
            host_sent(w, &p, out.traffic_class);
        } else {
            sim_link_send(&w->to_host, &p, w->now);
            attack(w, &p);
        }
    }
    check_idle(w, from_host ? w->host : w->client, now);
}

/* ---- receiving ---- */

void sim_drain(struct sim_world *w)
{
    if (w->now >= w->host_drain) {
        sim_host_events(w);
        w->host_drain = w->now + w->host_lazy;
    }
    if (w->now >= w->client_drain) {
        sim_client_events(w);
        w->client_drain = w->now + w->client_lazy;
    }
}

/* Sends a datagram again that was accepted before, from elsewhere: nothing may change but the count of
 * replays.
 */
static void replay(struct sim_world *w)
{
    unsigned i = (unsigned)sim_random_below(&w->random, WV_ARRAY_SIZE(w->kept));
    static const uint8_t elsewhere[SIM_ADDRESS] = {67};
    if (!w->kept[i] || w->host_lazy || w->client_lazy)
        return;
    struct rift_session *s = w->kept_to_host[i] ? w->host : w->client;
    uint64_t clock = w->kept_to_host[i] ? w->host_clock : w->client_clock;
    sim_drain(w);
    struct rift_session_stats before, after;
    rift_session_get_stats(s, &before);
    uint64_t timeout = rift_session_timeout(s);
    if (rift_session_receive_from(s, elsewhere, RIFT_ECN_CE, w->kept[i]->data, w->kept[i]->len,
                                  w->now + clock) != RIFT_SESSION_DROPPED)
        sim_fail(w, "a replayed datagram was accepted");
    rift_session_get_stats(s, &after);
    before.dropped_replay++;
    if (memcmp(&before, &after, sizeof before) != 0 || timeout != rift_session_timeout(s))
        sim_fail(w, "a replayed datagram changed something");
    if (sim_host_events(w) + sim_client_events(w) != 0)
        sim_fail(w, "a replayed datagram made an event");
    w->replays++;
}

static void keep(struct sim_world *w, struct sim_packet *p, bool to_host)
{
    unsigned i = (unsigned)sim_random_below(&w->random, WV_ARRAY_SIZE(w->kept));
    free(w->kept[i]);
    w->kept[i] = p;
    w->kept_to_host[i] = to_host;
}

/* Whether a datagram to ADDRESS gets to the client. */
static bool reaches_client(const struct sim_world *w, const uint8_t *address)
{
    return memcmp(address, w->client_address, SIM_ADDRESS) == 0 ||
           (w->old_alive && memcmp(address, w->old_address, SIM_ADDRESS) == 0) ||
           (w->attacked && memcmp(address, attacker_address, SIM_ADDRESS) == 0);
}

void sim_pump_receive(struct sim_world *w, bool to_host)
{
    struct sim_link *link = to_host ? &w->to_host : &w->to_client;
    uint64_t clock = to_host ? w->host_clock : w->client_clock;
    struct sim_packet *p;
    while ((p = sim_link_receive(link, w->now))) {
        if (!to_host && !reaches_client(w, p->address)) {
            free(p);
            continue;
        }
        struct rift_session *s = to_host ? w->host : w->client;
        int r = rift_session_receive_from(s, to_host ? p->address : host_address, (enum rift_ecn)p->ecn,
                                          p->data, p->len, w->now + clock);
        if (r == 0 && !p->intact)
            sim_fail(w, "a damaged datagram was accepted");
        sim_drain(w);
        if (r == 0 && sim_random_hit(&w->random, 20000))
            keep(w, p, to_host);
        else
            free(p);
        if (to_host && sim_random_hit(&w->random, w->restart_ppm))
            restart(w);
        if (sim_random_hit(&w->random, 5000))
            replay(w);
    }
}
