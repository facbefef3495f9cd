/* Whether the gateway lives (/healthz) and whether it can be given work (/readyz), for whoever watches it. */
#include "services/gateway/routes.h"

#include "lib/base/util.h"

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

/* That something can be written is only known by writing; more is tried after a trouble, so that the last
 * free page of a disk is not taken for room. */
static void try_write(struct wv_request *q, struct wv_store *store)
{
    struct wv_health *h = &q->gateway->health;
    int r =
        wv_store_try_write(store, wv_health_refuses_writes(h) ? WV_STORE_TRIAL_LARGE : WV_STORE_TRIAL_SMALL);
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

static void ready(struct wv_request *q)
{
    struct wv_gateway *g = q->gateway;
    int error = wv_health_error(&g->health);
    if (wv_health_is_about_writes(error)) {
        q->retry_after_s = 2; /* one write was done; a little longer and it is believed */
        return wv_request_refuse(q, wv_health_refusal(error), NULL);
    }
    const char *missing = g->live.not_ready ? g->live.not_ready(g) : NULL;
    if (missing)
        return wv_request_refuse(q, WV_REFUSE_BUS_AWAY, missing);
    wv_request_answer(q, 200, json_pack("{s:s}", "status", "ready"));
}

static void said_so(struct wv_request *q)
{
    wv_metric_set(q->gateway->metrics, WV_G_READY, q->status == 200);
}

static void readyz(struct wv_request *q)
{
    q->settled = said_so;
    if (q->gateway->draining)
        return wv_request_refuse(q, WV_REFUSE_DRAINING, NULL);
    bool doubtful = wv_health_is_doubtful(&q->gateway->health, wv_now_ns());
    wv_request_run(q, WV_LANE_STORE, doubtful ? try_write : ping, ready);
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
