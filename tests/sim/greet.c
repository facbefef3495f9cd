/* The handshake, over the same links as everything after it. The Noise keys are the system's random ones; no
 * time and no size depends on them, so that a seed still tells all that happens. */
#include "lib/base/util.h"
#include "tests/known.h"
#include "tests/sim/world.h"
#include "tests/unit/handshake_host.h"

#include <stdlib.h>
#include <string.h>

#define TRY_NS (12 * WV_NS_PER_S)
#define TRIES  20

static void client_sends(struct sim_world *w, struct rift_initiator *client)
{
    struct sim_packet p = {.intact = true};
    memcpy(p.address, w->client_address, SIM_ADDRESS);
    while (rift_initiator_send(client, known_forget(p.data, sizeof p.data), sizeof p.data,
                               w->now + w->client_clock, &p.len) == 0)
        sim_link_send(&w->to_host, &p, w->now);
}

static void host_sends(struct sim_world *w, struct host *host)
{
    struct sim_packet p = {.intact = true};
    while (host_send(host, known_forget(p.data, sizeof p.data), w->now + w->host_clock, p.address, &p.len) ==
           0)
        sim_link_send(&w->to_client, &p, w->now);
}

static void deliver(struct sim_world *w, struct rift_initiator *client, struct host *host)
{
    struct sim_packet *p;
    while ((p = sim_link_receive(&w->to_host, w->now))) {
        host_receive(host, p->address, p->data, p->len, w->now + w->host_clock);
        free(p);
    }
    while ((p = sim_link_receive(&w->to_client, w->now))) {
        rift_initiator_receive(client, p->data, p->len, w->now + w->client_clock);
        free(p);
    }
}

/* Until both have their keys, or LIMIT. Returns 0 or RIFT_HANDSHAKE_TIMEOUT. */
static int greet(struct sim_world *w, struct rift_initiator *client, struct host *host, uint64_t limit,
                 struct rift_session_config *ret_client)
{
    uint8_t key[32], base[32], hash[64];
    struct rift_inner inner;
    while (w->now < limit) {
        client_sends(w, client);
        host_sends(w, host);
        if (host->finished && rift_initiator_finish(client, ret_client, key) == 0) {
            if (memcmp(key, host->identity.public, sizeof key) != 0 ||
                memcmp(ret_client->key_send, host->config.key_receive, sizeof key) != 0)
                sim_fail(w, "the handshake gave other keys");
            if (rift_initiator_inner(client, base, hash) != 0 || memcmp(base, host->inner_base, 32) != 0)
                sim_fail(w, "the handshake gave another inner key");
            rift_inner_derive(base, false, &inner, ret_client->input_key);
            rift_inner_derive(host->inner_base, true, &inner, w->input_key);
            return 0;
        }
        uint64_t next = WV_MIN(sim_link_next(&w->to_client), sim_link_next(&w->to_host));
        next = WV_MIN(next, rift_initiator_timeout(client) - w->client_clock);
        next = WV_MAX(w->now, next);
        w->now = WV_MIN(next, limit);
        deliver(w, client, host);
    }
    return RIFT_HANDSHAKE_TIMEOUT;
}

int sim_greet(struct sim_world *w, struct rift_session_config *ret_host,
              struct rift_session_config *ret_client)
{
    struct rift_identity identity;
    struct host *host = malloc(sizeof *host);
    if (!host)
        return -1;
    rift_identity_generate(&identity);
    host_init(host, 64, w->host_clock);
    memset(ret_client, 0, sizeof *ret_client);
    int r = RIFT_HANDSHAKE_TIMEOUT;
    /* A host forgets a handshake after 10 s; a client then begins another. */
    for (unsigned tries = 0; r == RIFT_HANDSHAKE_TIMEOUT && tries < TRIES; tries++) {
        struct rift_initiator *client;
        host->finished = 0;
        r = rift_initiator_new(&client, identity.secret, host->identity.public,
                               (uint32_t)sim_random_next(&w->random), (const uint8_t *)"sim", 3,
                               w->now + w->client_clock, TRY_NS);
        if (r != 0)
            break;
        r = greet(w, client, host, w->now + TRY_NS, ret_client);
        rift_initiator_free(client);
    }
    *ret_host = host->config;
    host_fini(host);
    free(host);
    return r == 0 ? 0 : -1;
}
