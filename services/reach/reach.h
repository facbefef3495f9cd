/* What the reach stage does between the gateway, the local network and the two stages that it serves:
 * identity, whose sealed signals it carries and whose signature it asks for, and transport, which it tells of
 * STUN servers. It holds no key and keeps nothing: after a restart it asks and tells everything anew. */
#pragma once

#include "lib/gateway/live.h"
#include "lib/ipc/bus.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "lib/mdns/announce.h"
#include "services/reach/mapping.h"

#define WV_REACH_RULES 5

enum wv_reach_metric {
    WV_REACH_CONNECTED,
    WV_REACH_CONNECTS,
    WV_REACH_LOST,
    WV_REACH_SIGNALS_IN,
    WV_REACH_SIGNALS_OUT,
    WV_REACH_SIGNALS_DROPPED,
    WV_REACH_CANDIDATES,
    WV_REACH_MAPPED,
    WV_REACH_MAPPED_BY,
    WV_REACH_PINHOLE,
    WV_REACH_ROUTER_RESTARTS,
    WV_REACH_ANNOUNCED,
    WV_REACH_METRICS
};
extern const struct wv_metric wv_reach_metrics[WV_REACH_METRICS];
/* For a bus whose userdata is a struct wv_reach. */
extern const struct wv_bus_rule wv_reach_rules[WV_REACH_RULES];

enum wv_reach_to { WV_REACH_TO_IDENTITY, WV_REACH_TO_TRANSPORT };

struct wv_reach_setup {
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_gateway_live *gateway;
    struct wv_announce *announce; /* NULL: not wanted */
    struct wv_mapping *mapping;   /* NULL: not wanted */
    const char *name;             /* that is announced */
    int watch_fd;                 /* wv_reach_watch(); -1 */
    /* Returns 0 or WV_BUS_UNSENT. */
    int (*send)(void *userdata, enum wv_reach_to to, const ProtobufCMessage *message);
    void (*status)(void *userdata, const char *text);
    void *userdata;
};

struct wv_reach;

/* Borrows everything in SETUP. Returns 0 or -ENOMEM. */
int wv_reach_new(struct wv_reach **ret, const struct wv_reach_setup *setup);
struct wv_reach *wv_reach_free(struct wv_reach *r);
/* From here on it works. Returns 0 or a negative errno. */
int wv_reach_start(struct wv_reach *r, uint64_t now);
