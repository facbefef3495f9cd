/* What is alive, in numbers. See live.h. */
#include "services/gateway/live.h"

#include "lib/base/util.h"

#include <string.h>

static void add(struct wv_live *l, unsigned id, uint64_t now, uint64_t counted)
{
    if (now != counted)
        wv_metric_add(l->gateway->metrics, id, now - counted);
}

static void count_signal(struct wv_live *l)
{
    static const unsigned results[WV_SIGNAL_RESULTS] = {
        [WV_SIGNAL_SENT] = WV_G_SIGNAL_SENT,
        [WV_SIGNAL_OFFLINE] = WV_G_SIGNAL_OFFLINE,
        [WV_SIGNAL_NOT_ALLOWED] = WV_G_SIGNAL_NOT_ALLOWED,
        [WV_SIGNAL_TOO_MANY] = WV_G_SIGNAL_TOO_MANY,
        [WV_SIGNAL_TOO_LARGE] = WV_G_SIGNAL_BAD,
        [WV_SIGNAL_BAD_MESSAGE] = WV_G_SIGNAL_BAD,
        [WV_SIGNAL_UNAVAILABLE] = WV_G_SIGNAL_UNAVAILABLE,
    };
    struct wv_metrics *m = l->gateway->metrics;
    struct wv_signal_numbers n, *c = &l->counted;
    uint64_t us;
    wv_signal_numbers(l->signal, &n);
    wv_metric_set(m, WV_G_SOCKETS, n.connections);
    wv_metric_set(m, WV_G_MACHINES_HERE, n.presence.here);
    wv_metric_set(m, WV_G_MACHINES_THERE, n.presence.there);
    wv_metric_set(m, WV_G_GATEWAYS, n.presence.gateways);
    wv_metric_set(m, WV_G_SESSIONS, wv_sessions_count(wv_signal_sessions(l->signal)));
    add(l, WV_G_SOCKETS_OPENED, n.opened, c->opened);
    add(l, WV_G_SOCKETS_REFUSED, n.refused_hello + n.late_hello, c->refused_hello + c->late_hello);
    add(l, WV_G_SOCKETS_REPLACED, n.replaced, c->replaced);
    add(l, WV_G_SOCKETS_SLOW, n.slow, c->slow);
    add(l, WV_G_SOCKETS_FLOODED, n.flooded, c->flooded);
    add(l, WV_G_SOCKETS_REVOKED, n.revoked, c->revoked);
    add(l, WV_G_SIGNALS, n.signals, c->signals);
    for (unsigned i = 0; i < WV_SIGNAL_RESULTS; i++)
        add(l, results[i], n.results[i], c->results[i]);
    while (wv_signal_take_time(l->signal, &us))
        wv_metric_record(m, WV_G_SIGNAL_US, us);
    add(l, WV_G_BUS_BAD, n.bad_bus, c->bad_bus);
    add(l, WV_G_GATEWAYS_EXPIRED, n.presence.expired, c->presence.expired);
    *c = n;
}

void wv_live_count(struct wv_live *l, uint64_t now)
{
    struct wv_bus_numbers n, *c = &l->bus_counted;
    count_signal(l);
    wv_bus_numbers(l->bus, &n);
    wv_metric_set(l->gateway->metrics, WV_G_BUS_UP, wv_bus_is_up(l->bus));
    wv_metric_set(l->gateway->metrics, WV_G_RELAYS_USABLE, wv_relays_usable(l->relays, now));
    add(l, WV_G_BUS_SENT, n.sent, c->sent);
    add(l, WV_G_BUS_RECEIVED, n.received, c->received);
    add(l, WV_G_BUS_LOST, n.refused + n.dropped, c->refused + c->dropped);
    add(l, WV_G_BUS_RECONNECTS, n.reconnects, c->reconnects);
    *c = n;
}
