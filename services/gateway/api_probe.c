/* Whether the gateway lives (/healthz) and whether it can be given work (/readyz), for whoever watches it. */
#include "services/gateway/routes.h"

static void healthz(struct wv_request *q)
{
    wv_request_answer(q, 200, json_pack("{s:s}", "status", "ok"));
}

static void ping(struct wv_request *q, struct wv_store *store)
{
    int r = wv_store_ping(store);
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

static void ready(struct wv_request *q)
{
    const struct wv_gateway *g = q->gateway;
    const char *missing = g->live.not_ready ? g->live.not_ready(g) : NULL;
    if (missing)
        return wv_request_refuse(q, WV_REFUSE_BUS_AWAY, missing);
    wv_request_answer(q, 200, json_pack("{s:s}", "status", "ready"));
}

static void readyz(struct wv_request *q)
{
    if (q->gateway->draining)
        return wv_request_refuse(q, WV_REFUSE_DRAINING, NULL);
    wv_request_run(q, WV_LANE_STORE, ping, ready);
}

/* A WebSocket never comes here: the library has taken it by then. */
static void not_upgraded(struct wv_request *q)
{
    wv_request_refuse(q, WV_REFUSE_UPGRADE, NULL);
}

const struct wv_route wv_probe_routes[] = {
    {.method = "GET", .path = "/healthz", .begin = healthz, .unlimited = true},
    {.method = "GET", .path = "/readyz", .begin = readyz, .unlimited = true},
    {.method = "GET", .path = "/v1/signal", .begin = not_upgraded},
    {0},
};
