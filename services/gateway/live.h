/* What of a gateway is alive: machines' connections, the bus to other gateways, relays and their leases.
 * Joins signal.h, bus.h, relays.h and leases.h with the event loop, the database and the HTTP API. On the
 * loop's thread alone. */
#pragma once

#include "services/gateway/gateway.h"
#include "services/gateway/leases.h"
#include "services/gateway/relays.h"
#include "services/gateway/signal.h"

#define WV_LIVE_PROTOCOL "wavry-signal.1"
#define WV_LINK_SLOTS    512

struct wv_live {
    struct wv_gateway *gateway;
    struct wv_signal *signal;
    struct wv_bus *bus;
    struct wv_relays *relays;
    struct wv_leases leases;
    struct wv_link *links[WV_LINK_SLOTS]; /* by when to look at them */
    uint64_t looked_slot;
    uint64_t ping_ns, silent_ns; /* when a link is asked whether it is there, and cut */
    lws_sorted_usec_list_t tick;
    uint64_t next_relays_ns;
    bool asking_relays, bus_is_alone;
    struct wv_signal_numbers counted; /* in the metrics already */
    struct wv_bus_numbers bus_counted;
};

/* Opens the bus and all that needs no event loop; G has its settings, metrics and id. ISSUER: the seed of the
 * key that signs leases. Returns 0 or a negative errno, logged. */
int wv_live_new(struct wv_gateway *g, const uint8_t issuer[WV_LEASES_SEED_BYTES]);
void wv_live_start(struct wv_gateway *g);
/* Everybody goes elsewhere. */
void wv_live_drain(struct wv_gateway *g);
bool wv_live_is_idle(const struct wv_gateway *g); /* no connection is left */
/* The bus first, while the event loop still is; free when all connections are gone. */
void wv_live_stop(struct wv_gateway *g);
void wv_live_free(struct wv_gateway *g);

/* The list of relays has changed in the database. */
void wv_live_read_relays(struct wv_live *l);
/* Tells the other gateways. */
void wv_live_tell_beat(struct wv_live *l, const struct rift_heartbeat *beat,
                       const uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES]);
/* Brings metrics up to date. */
void wv_live_count(struct wv_live *l, uint64_t now);

/* signal_link.c: WebSockets. */
struct wv_link;
int wv_link_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
size_t wv_link_session_bytes(void);
void wv_link_writable(void *link);
void wv_link_cut(void *link);
void wv_link_tick(struct wv_live *l, uint64_t now); /* asks who is silent, closes who does not answer */
/* signal_ask.c: the database's answers. USERDATA: struct wv_live. */
int wv_live_ask(void *userdata, const struct wv_signal_question *question);
