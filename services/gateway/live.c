/* Puts what is alive together. See live.h. */
#include "services/gateway/live.h"

#include "lib/base/util.h"
#include "services/gateway/jobs.h"
#include "services/gateway/json.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TICK_NS      (100 * WV_NS_PER_MS)
#define RELAYS_NS    (5 * WV_NS_PER_S)
#define OFFERED_MAX  16 /* relays in a welcome */
#define STUN_MAX     8
#define MACHINES_MAX 200000

/* ---- what signaling asks for ---- */

static void on_writable(void *userdata, void *link)
{
    wv_link_writable(link);
}

static void on_cut(void *userdata, void *link)
{
    wv_link_cut(link);
}

static uint64_t unix_ms(void *userdata)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / WV_NS_PER_MS;
}

static int say(void *userdata, const char *to, struct wv_bus_message *m)
{
    struct wv_live *l = userdata;
    size_t len;
    if (l->bus_is_alone)
        return to ? -ENOTCONN : 0;
    memcpy(m->from, l->gateway->id, sizeof m->from);
    wv_cleanup(wv_free_p) char *text = wv_bus_message_write(m, &len);
    return text ? wv_bus_publish(l->bus, to, text, len) : -ENOMEM;
}

struct offer {
    json_t *relays;
    uint64_t now;
};

static void offer_relay(void *userdata, const struct wv_relay *relay)
{
    struct offer *o = userdata;
    char key[RIFT_SIGN_KEY_TEXT_BYTES];
    if (!wv_relay_is_usable(relay, o->now) || json_array_size(o->relays) >= OFFERED_MAX)
        return;
    rift_sign_key_format(relay->record.key, key);
    json_array_append_new(o->relays,
                          json_pack("{s:s, s:s, s:s, s:s}", "id", relay->record.id, "address",
                                    relay->record.address, "region", relay->record.region, "key", key));
}

static void *offer(void *userdata)
{
    struct wv_live *l = userdata;
    struct offer o = {json_array(), wv_now_ns()};
    json_t *stun = json_array();
    wv_cleanup(wv_free_p) char *list = strdup(wv_config_string(l->gateway->settings.config, "stun_servers"));
    char *rest = NULL;
    for (char *one = list ? strtok_r(list, " ,", &rest) : NULL; one && json_array_size(stun) < STUN_MAX;
         one = strtok_r(NULL, " ,", &rest))
        json_array_append_new(stun, json_string(one));
    wv_relays_each(l->relays, offer_relay, &o);
    return json_pack("{s:o, s:o}", "stun", stun, "relays", o.relays);
}

static void heard_relay(void *userdata, const struct wv_bus_message *m)
{
    struct wv_live *l = userdata;
    const struct wv_relay *relay = wv_relays_find(l->relays, m->relay);
    if (relay && rift_heartbeat_is_signed(&m->beat, m->signature, relay->record.key))
        (void)wv_relays_beat(l->relays, &m->beat, (uint64_t)wv_gateway_unix_s(), wv_now_ns());
}

void wv_live_tell_beat(struct wv_live *l, const struct rift_heartbeat *beat,
                       const uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES])
{
    wv_cleanup(wv_free_p) struct wv_bus_message *m = calloc(1, sizeof *m);
    if (!m)
        return;
    m->kind = WV_BUS_RELAY;
    m->beat = *beat;
    memcpy(m->signature, signature, sizeof m->signature);
    (void)say(l, NULL, m);
}

/* ---- the bus ---- */

static void on_message(void *userdata, const void *data, size_t len)
{
    struct wv_live *l = userdata;
    wv_signal_heard(l->signal, data, len, wv_now_ns());
}

static void on_state(void *userdata, bool up)
{
    struct wv_live *l = userdata;
    if (!l->bus_is_alone)
        wv_notice("the bus to other gateways has changed", "up=%d", up);
    wv_signal_bus(l->signal, up, wv_now_ns());
}

static void on_wake(void *userdata)
{
    struct wv_live *l = userdata;
    if (l->gateway->lws)
        lws_cancel_service(l->gateway->lws);
}

/* ---- the relays of the database ---- */

struct reading {
    struct wv_live *live;
    struct wv_relay_record *records;
    size_t n;
    int r;
};

static int take_record(void *userdata, const struct wv_relay_record *record)
{
    struct reading *reading = userdata;
    if (reading->n < WV_RELAYS_MAX)
        reading->records[reading->n++] = *record;
    return 0;
}

static void read_work(void *userdata, struct wv_store *store)
{
    struct reading *reading = userdata;
    reading->r = wv_store_relays(store, take_record, reading);
}

static void read_done(void *userdata)
{
    struct reading *reading = userdata;
    struct wv_relays *relays = reading->live->relays;
    reading->live->asking_relays = false;
    if (reading->r == 0) {
        wv_relays_begin(relays);
        for (size_t i = 0; i < reading->n; i++)
            (void)wv_relays_put(relays, &reading->records[i]);
        wv_relays_end(relays);
    }
    free(reading->records);
    free(reading);
}

void wv_live_read_relays(struct wv_live *l)
{
    struct reading *reading = calloc(1, sizeof *reading);
    if (reading && (reading->records = calloc(WV_RELAYS_MAX, sizeof *reading->records))) {
        reading->live = l;
        if (wv_jobs_run(l->gateway->jobs, WV_LANE_STORE, read_work, read_done, reading) == 0) {
            l->asking_relays = true;
            return;
        }
    }
    if (reading)
        free(reading->records);
    free(reading);
}

/* ---- life ---- */

static struct wv_live *live_of_tick(lws_sorted_usec_list_t *sul)
{
    return lws_container_of(sul, struct wv_live, tick);
}

static void on_tick(lws_sorted_usec_list_t *sul)
{
    struct wv_live *l = live_of_tick(sul);
    uint64_t now = wv_now_ns();
    lws_sul_schedule(l->gateway->lws, 0, &l->tick, on_tick, TICK_NS / WV_NS_PER_US);
    wv_signal_tick(l->signal, now);
    wv_link_tick(l, now);
    if (now >= l->next_relays_ns && !l->asking_relays) {
        l->next_relays_ns = now + RELAYS_NS;
        wv_live_read_relays(l);
    }
    wv_live_count(l, now);
}

static const char *not_ready(const struct wv_gateway *g)
{
    return wv_bus_is_up(g->alive->bus) ? NULL : "The bus to the other gateways can't be reached now.";
}

static bool is_online(const struct wv_gateway *g, const uint8_t key[WV_STORE_KEY_BYTES])
{
    return wv_signal_is_online(g->alive->signal, key);
}

static void rights_changed(struct wv_gateway *g, const char *account)
{
    wv_signal_changed(g->alive->signal, account, wv_now_ns());
}

static int open_parts(struct wv_live *l)
{
    const struct wv_config *c = l->gateway->settings.config;
    struct wv_signal_limits limits = wv_signal_usual;
    struct wv_signal_calls calls = {.writable = on_writable,
                                    .ask = wv_live_ask,
                                    .say = say,
                                    .offer = offer,
                                    .unix_ms = unix_ms,
                                    .cut = on_cut,
                                    .heard_relay = heard_relay,
                                    .userdata = l};
    struct wv_bus_calls bus = {.message = on_message, .state = on_state, .wake = on_wake, .userdata = l};
    uint64_t patience_ns = (uint64_t)wv_config_int(c, "patience_s") * WV_NS_PER_S;
    uint8_t secret[16];
    char reason[WV_BUS_REASON_BYTES] = "";
    randombytes_buf(secret, sizeof secret);
    limits.connections = (size_t)wv_config_int(c, "max_connections");
    limits.machines = MACHINES_MAX;
    limits.messages_per_s = (double)wv_config_int(c, "signals_per_s");
    limits.messages_burst = 5 * limits.messages_per_s;
    limits.hello_ns = patience_ns / 2;
    limits.stalled_ns = patience_ns / 4 * 3;
    int r = wv_relays_new(&l->relays);
    if (r == 0)
        r = wv_signal_new(&l->signal, l->gateway->id, &limits, &calls, secret);
    if (r == 0)
        r = wv_bus_open(&l->bus, wv_config_string(c, "bus"), l->gateway->id, &bus, reason);
    if (r < 0)
        wv_error("the bus to other gateways can't be opened", "error=\"%s\" reason=\"%s\"", strerror(-r),
                 reason);
    return r;
}

int wv_live_new(struct wv_gateway *g, const uint8_t issuer[WV_LEASES_SEED_BYTES])
{
    struct wv_live *l = calloc(1, sizeof *l);
    char key[RIFT_SIGN_KEY_TEXT_BYTES];
    if (!l)
        return -ENOMEM;
    l->gateway = g;
    l->ping_ns = (uint64_t)wv_config_int(g->settings.config, "ping_s") * WV_NS_PER_S;
    l->silent_ns = l->ping_ns / 5 * 9;
    l->bus_is_alone = !strcmp(wv_config_string(g->settings.config, "bus"), "local:");
    g->alive = l;
    int r = open_parts(l);
    if (r < 0)
        return r;
    g->live = (struct wv_live_calls){rights_changed, is_online, not_ready};
    wv_leases_init(&l->leases, issuer, (uint32_t)wv_config_int(g->settings.config, "lease_kbps"),
                   (uint32_t)wv_config_int(g->settings.config, "lease_seconds"));
    rift_sign_key_format(l->leases.key, key);
    wv_info("leases are signed", "issuer=%s", key);
    return 0;
}

void wv_live_start(struct wv_gateway *g)
{
    wv_bus_dispatch(g->alive->bus);
    lws_sul_schedule(g->lws, 0, &g->alive->tick, on_tick, 1);
}

void wv_live_drain(struct wv_gateway *g)
{
    wv_signal_drain(g->alive->signal, wv_now_ns());
}

bool wv_live_is_idle(const struct wv_gateway *g)
{
    struct wv_signal_numbers n;
    wv_signal_numbers(g->alive->signal, &n);
    return n.connections == 0;
}

void wv_live_stop(struct wv_gateway *g)
{
    if (!g->alive)
        return;
    if (g->lws)
        lws_sul_cancel(&g->alive->tick);
    g->alive->bus_is_alone = true; /* nobody hears it any more */
    g->alive->bus = wv_bus_close(g->alive->bus);
}

void wv_live_free(struct wv_gateway *g)
{
    struct wv_live *l = g->alive;
    g->alive = NULL;
    if (!l)
        return;
    wv_bus_close(l->bus);
    wv_signal_free(l->signal);
    wv_relays_free(l->relays);
    wv_leases_fini(&l->leases);
    free(l);
}
