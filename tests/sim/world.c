#include "tests/sim/world.h"

#include "lib/base/util.h"
#include "rift/core/delta.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ROUGH_NS   (2500 * WV_NS_PER_MS)
#define CALM_NS    (3500 * WV_NS_PER_MS) /* nothing is lost any more */
#define SILENCE_NS (2500 * WV_NS_PER_MS)

void sim_fail(struct sim_world *w, const char *format, ...)
{
    if (w->failure[0])
        return;
    va_list args;
    va_start(args, format);
    int n = snprintf(w->failure, sizeof w->failure, "at %.6f s: ", (double)w->now / 1e9);
    vsnprintf(w->failure + n, sizeof w->failure - (size_t)n, format, args);
    va_end(args);
}

static struct sim_link_config random_link(struct sim_world *w)
{
    struct sim_random *r = &w->random;
    struct sim_link_config c = {.delay_ns = 100000 + sim_random_below(r, 60 * WV_NS_PER_MS)};
    if (sim_random_hit(r, 300000))
        c.delay_ns = 50000;
    c.jitter_ns = sim_random_hit(r, 500000) ? sim_random_below(r, 15 * WV_NS_PER_MS) : 0;
    if (sim_random_hit(r, 300000)) {
        c.rate_bps = 4000000 + sim_random_below(r, 100000000);
        c.queue_bytes = 20000 + (uint32_t)sim_random_below(r, 200000);
    }
    c.loss_ppm = (uint32_t)sim_random_below(r, sim_random_hit(r, 200000) ? 400000 : 50000);
    if (sim_random_hit(r, 400000)) {
        c.burst_begin_ppm = (uint32_t)sim_random_below(r, 5000);
        c.burst_end_ppm = 20000 + (uint32_t)sim_random_below(r, 200000);
    }
    c.reorder_ppm = (uint32_t)sim_random_below(r, 100000);
    c.reorder_ns = sim_random_below(r, 30 * WV_NS_PER_MS);
    c.duplicate_ppm = (uint32_t)sim_random_below(r, 100000);
    c.truncate_ppm = (uint32_t)sim_random_below(r, 10000);
    c.corrupt_ppm = (uint32_t)sim_random_below(r, 10000);
    if (sim_random_hit(r, 300000))
        c.mtu_bytes = 1200 + (uint32_t)sim_random_below(r, 260);
    c.bleach = sim_random_hit(r, 200000);
    c.ce_ppm = (uint32_t)sim_random_below(r, 100000);
    return c;
}

static struct sim_link_config calm(struct sim_link_config c)
{
    return (struct sim_link_config){.delay_ns = c.delay_ns, .mtu_bytes = c.mtu_bytes, .bleach = c.bleach};
}

static void random_config(struct sim_world *w, struct rift_session_config *c)
{
    c->pacing_bps = 5000000 + sim_random_below(&w->random, 100000000);
    c->pacing_burst_bytes = (uint32_t)sim_random_below(&w->random, 60000);
    for (size_t i = 0; i < sizeof c->entropy; i++)
        c->entropy[i] = (uint8_t)(1 + sim_random_below(&w->random, 255));
    if (sim_random_hit(&w->random, 500000))
        c->rekey_packets = 64 + sim_random_below(&w->random, 2000);
    if (sim_random_hit(&w->random, 200000))
        c->rekey_ns = WV_NS_PER_MS * (100 + sim_random_below(&w->random, 3000));
    c->ecn = (enum rift_ecn)sim_random_below(&w->random, 3);
}

static int new_sessions(struct sim_world *w)
{
    struct rift_session_config h, c;
    if (sim_greet(w, &h, &c) < 0)
        return -1;
    random_config(w, &h);
    random_config(w, &c);
    if (w->seed % 2) {
        h.congestion = &rift_delta;
        h.min_bps = 500000;
        h.max_bps = 50000000;
        h.start_bps = 1000000 + sim_random_below(&w->random, 8000000);
        h.mode = w->seed % 4 == 1 ? RIFT_CC_LATENCY : RIFT_CC_THROUGHPUT;
        h.fps = c.fps = 60;
        h.fec = sim_random_hit(&w->random, 700000);
    }
    memcpy(h.address, w->client_address, SIM_ADDRESS);
    c.address[0] = SIM_HOST;
    if (sim_random_hit(&w->random, 100000))
        w->restored = h.first_counter = sim_random_next(&w->random) >> 1;
    w->host_config = h;
    if (rift_session_new(&w->host, &h, w->now + w->host_clock) < 0 ||
        rift_session_new(&w->client, &c, w->now + w->client_clock) < 0)
        return -1;
    w->held = sim_random_hit(&w->random, 400000);
    if (w->held && rift_session_reserve(w->host, 1024 + (uint32_t)sim_random_below(&w->random, 100000)) < 0)
        return -1;
    w->restart_ppm = w->held ? (uint32_t)sim_random_below(&w->random, 2000) : 0;
    return 0;
}

static int prepare(struct sim_world *w)
{
    w->random.state = w->seed;
    struct sim_link_config down = random_link(w), up = random_link(w);
    w->clean = sim_random_hit(&w->random, 100000);
    if (w->clean) {
        down = calm(down);
        up = calm(up);
    }
    sim_link_init(&w->to_client, &down, sim_random_next(&w->random));
    sim_link_init(&w->to_host, &up, sim_random_next(&w->random));
    w->host_clock = WV_NS_PER_S * (1 + sim_random_below(&w->random, 100000));
    w->client_clock = WV_NS_PER_S * (1 + sim_random_below(&w->random, 100000));
    w->frame_pause = WV_NS_PER_S / (10 + sim_random_below(&w->random, 90));
    w->frame_bytes = 200 + sim_random_below(&w->random, sim_random_hit(&w->random, 100000) ? 60000 : 6000);
    w->input_pause = WV_NS_PER_MS * (1 + sim_random_below(&w->random, 60));
    if (sim_random_hit(&w->random, 150000))
        w->host_lazy = WV_NS_PER_MS * sim_random_below(&w->random, 300);
    if (sim_random_hit(&w->random, 150000))
        w->client_lazy = WV_NS_PER_MS * sim_random_below(&w->random, 300);
    w->down.salt = sim_random_next(&w->random);
    w->up.salt = sim_random_next(&w->random);
    sim_road_prepare(w);
    return new_sessions(w);
}

static void run_until(struct sim_world *w, uint64_t end)
{
    while (w->now < end && !w->failure[0]) {
        sim_host_step(w);
        sim_client_step(w);
        sim_road_step(w);
        sim_pump_send(w, true);
        sim_pump_send(w, false);
        uint64_t next = WV_MIN(end, sim_next_step(w));
        next = WV_MIN(next, sim_link_next(&w->to_client));
        next = WV_MIN(next, sim_link_next(&w->to_host));
        next = WV_MIN(next, w->next_rebind);
        uint64_t host = rift_session_timeout(w->host), client = rift_session_timeout(w->client);
        if (host != UINT64_MAX)
            next = WV_MIN(next, host - w->host_clock);
        if (client != UINT64_MAX)
            next = WV_MIN(next, client - w->client_clock);
        if (w->host_lazy)
            next = WV_MIN(next, w->host_drain);
        if (w->client_lazy)
            next = WV_MIN(next, w->client_drain);
        w->now = WV_MAX(next, w->now);
        sim_pump_receive(w, true);
        sim_pump_receive(w, false);
        sim_drain(w);
    }
}

static void check_clock(struct sim_world *w, struct rift_session *s, uint64_t own, uint64_t other)
{
    struct rift_session_stats stats;
    rift_session_get_stats(s, &stats);
    int64_t error = stats.clock_offset_ns - (int64_t)(other - own);
    if (stats.rtt_ns == 0 || stats.rtt_min_ns == 0)
        sim_fail(w, "no round trip was measured");
    /* Half a round trip is the limit of what asymmetry can hide (plus the drift allowance of old samples). */
    else if ((uint64_t)llabs(error) > stats.rtt_min_ns / 2 + WV_NS_PER_MS)
        sim_fail(w, "clock offset is wrong by %lld ns at %llu ns round trip", (long long)error,
                 (unsigned long long)stats.rtt_min_ns);
}

/* What the counts of both sides say of each other. */
static void check_losses(struct sim_world *w, const struct rift_session_stats *host,
                         const struct rift_session_stats *client)
{
    if (host->packets_lost != client->packets_sent - host->packets_received ||
        (!w->restored && !w->rebinds && !w->attacked && /* the very last may have gone elsewhere */
         client->packets_lost != host->packets_sent - client->packets_received))
        sim_fail(w, "packets_lost is wrong: host %llu of %llu, client %llu of %llu",
                 (unsigned long long)host->packets_lost,
                 (unsigned long long)(client->packets_sent - host->packets_received),
                 (unsigned long long)client->packets_lost,
                 (unsigned long long)(host->packets_sent - client->packets_received));
    if (w->clean && !w->client_lazy && !w->rebinds && !w->attacked && client->nacks_sent != 0)
        sim_fail(w, "a clean path, and yet %llu NACKs", (unsigned long long)client->nacks_sent);
}

/* All that must have come about once nothing was lost for a while. */
static void check_end(struct sim_world *w)
{
    struct rift_session_stats host, client;
    rift_session_get_stats(w->host, &host);
    rift_session_get_stats(w->client, &client);
    if (w->n_seen != w->n_events)
        sim_fail(w, "%u of %u input events arrived", w->n_seen, w->n_events);
    for (uint32_t i = 1; i <= w->n_seen; i++)
        if (w->seen[i].x != w->events[i].x || w->seen[i].kind != w->events[i].kind)
            sim_fail(w, "input event %u was changed after it was sent", i);
    sim_skip_gone(&w->down);
    if (w->down.received != w->down.sent || w->up.received != w->up.sent)
        sim_fail(w, "control: %u of %u down (counting the gone), %u of %u up", w->down.received, w->down.sent,
                 w->up.received, w->up.sent);
    if (w->cursor_sent && (w->cursor.x != w->cursor_seen.x || w->cursor.shape_id != w->cursor_seen.shape_id))
        sim_fail(w, "the last cursor position did not arrive");
    if (!w->any_frame || w->last_frame != w->last_accepted)
        sim_fail(w, "the last frame did not arrive");
    if (!sim_flow_is_at_client(w))
        sim_fail(w, "the flow goes where the client is not");
    /* Who forwards everything, and sooner than a client that has just moved, can't be told from that client;
     * all others get next to nothing. */
    if (!w->rebinds && w->media_to_attacker > w->media / 10)
        sim_fail(w, "%u of %u datagrams of video went to the attacker", w->media_to_attacker, w->media);
    if (!w->restarts)
        check_losses(w, &host, &client);
    if (client.dropped_auth + host.dropped_auth && w->clean)
        sim_fail(w, "forged datagrams on a clean path");
    check_clock(w, w->host, w->host_clock, w->client_clock);
    check_clock(w, w->client, w->client_clock, w->host_clock);
}

static void check_close(struct sim_world *w)
{
    bool by_host = w->seed % 2;
    w->closing = true;
    if (by_host)
        rift_session_close(w->host, RIFT_CLOSE_SHUTDOWN, "bye", w->now + w->host_clock);
    else
        rift_session_close(w->client, RIFT_CLOSE_NORMAL, NULL, w->now + w->client_clock);
    run_until(w, w->now + WV_NS_PER_S);
    enum rift_close_reason reason = by_host ? RIFT_CLOSE_SHUTDOWN : RIFT_CLOSE_NORMAL;
    if (!w->host_ended || !w->client_ended || w->host_closed != reason || w->client_closed != reason)
        sim_fail(w, "the close did not arrive");
    struct rift_session_stats host, client;
    rift_session_get_stats(w->host, &host);
    rift_session_get_stats(w->client, &client);
    if (host.memory_bytes || client.memory_bytes)
        sim_fail(w, "a closed session holds %zu and %zu bytes", host.memory_bytes, client.memory_bytes);
    if (rift_session_timeout(w->host) != UINT64_MAX || rift_session_timeout(w->client) != UINT64_MAX)
        sim_fail(w, "a closed session still wants to send");
}

static void print_summary(struct sim_world *w)
{
    struct rift_session_stats h, c;
    rift_session_get_stats(w->host, &h);
    rift_session_get_stats(w->client, &c);
    printf(
        "frames %u sent %u shown %llu lost, nacks %llu, repeated %llu, key requests %llu (%u told), "
        "datagrams down %llu (lost %llu) up %llu (lost %llu), input %u events %llu repeated, rtt %.1f ms, "
        "replays %llu, restarts %u, addresses %u (%llu moves), size %u, keys %u, ECN %s, repairs %llu gave "
        "back %llu\n",
        w->n_frames, w->frames_seen, (unsigned long long)c.frames_lost, (unsigned long long)c.nacks_sent,
        (unsigned long long)h.fragments_retransmitted, (unsigned long long)c.keyframe_requests, w->key_events,
        (unsigned long long)h.packets_sent, (unsigned long long)c.packets_lost,
        (unsigned long long)c.packets_sent, (unsigned long long)h.packets_lost, w->n_events,
        (unsigned long long)c.input_repeated, (double)c.rtt_ns / 1e6, (unsigned long long)w->replays,
        w->restarts, w->rebinds, (unsigned long long)h.path_changes, h.mtu_bytes, h.key_generation,
        h.ecn_capable ? "kept" : "off", (unsigned long long)h.repairs_sent,
        (unsigned long long)c.fragments_recovered);
}

/* The last input, message and cursor position; then nothing more, but for the keyframe that may be asked for.
 */
static void end_applications(struct sim_world *w)
{
    w->quiet = true;
    run_until(w, w->now + 200 * WV_NS_PER_MS);
    w->next_input = w->next_cursor = w->next_message = UINT64_MAX;
    w->next_frame = w->force_key ? w->now : UINT64_MAX;
    w->ended = true;
    w->restart_ppm = 0;
    w->attacked = false;
}

int sim_world_run(struct sim_world *w, uint64_t seed, bool verbose)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->verbose = verbose;
    if (prepare(w) < 0) {
        sim_fail(w, "no session");
        return -1;
    }
    uint64_t began = w->now; /* the handshake took its time */
    run_until(w, began + ROUGH_NS);
    if (w->seed % 2)
        end_applications(w); /* also the very last of everything may be lost */
    w->to_client.config = calm(w->to_client.config);
    w->to_host.config = calm(w->to_host.config);
    w->to_client.in_burst = w->to_host.in_burst = false;
    w->next_rebind = UINT64_MAX;
    w->attacked = w->attacked && sim_random_hit(&w->random, 500000);
    run_until(w, began + ROUGH_NS + CALM_NS);
    end_applications(w);
    run_until(w, w->now + SILENCE_NS);
    /* Nothing on its way: what was sent has come or is lost. */
    for (int i = 0; i < 100 && w->to_client.n_packets + w->to_host.n_packets; i++)
        run_until(w, w->now + 10 * WV_NS_PER_MS);
    if (!w->failure[0])
        check_end(w);
    if (verbose)
        print_summary(w);
    if (!w->failure[0])
        check_close(w);
    return w->failure[0] ? -1 : 0;
}

void sim_world_fini(struct sim_world *w)
{
    w->host = rift_session_free(w->host);
    w->client = rift_session_free(w->client);
    sim_link_fini(&w->to_client);
    sim_link_fini(&w->to_host);
    for (size_t i = 0; i < WV_ARRAY_SIZE(w->kept); i++)
        free(w->kept[i]);
}
