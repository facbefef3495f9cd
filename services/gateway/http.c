/* Requests over libwebsockets. See http.h. */
#include "services/gateway/http.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/gateway/http_head.h"
#include "services/gateway/listen.h"
#include "services/gateway/page.h"
#include "services/gateway/routes.h"

#include <errno.h>
#include <string.h>

#define WORK_WAIT_S 60 /* for lanes: longer than the database may take */
#define CHUNK       (16u << 10)
#define HEAD_BYTES  2048

/* Beside each connection. */
struct wv_http {
    struct wv_request *request;
};

size_t wv_http_session_bytes(void)
{
    return sizeof(struct wv_http);
}

/* For a whole body to come, or a whole answer to be taken. */
static int patience(const struct wv_gateway *g)
{
    return (int)wv_config_int(g->settings.config, "patience_s");
}

/* ---- the end of a request ---- */

static void free_request(struct wv_request *q)
{
    q->gateway->in_flight--;
    json_decref(q->body);
    json_decref(q->reply);
    if (q->in)
        explicit_bzero(q->in, q->in_len); /* may hold a password */
    free(q->in);
    free(q->out);
    free(q->state);
    explicit_bzero(q->token, sizeof q->token);
    free(q);
}

/* The connection is gone, or done with this request. */
static void detach(struct wv_request *q)
{
    if (q->http)
        q->http->request = NULL;
    q->http = NULL;
    q->wsi = NULL;
    if (!q->running)
        free_request(q);
}

static void cut(struct wv_http *http)
{
    struct wv_request *q = http->request;
    if (!q)
        return;
    wv_metric_add(q->gateway->metrics, WV_G_CUT, 1);
    detach(q);
}

/* ---- answers ---- */

static void count_answer(const struct wv_request *q)
{
    struct wv_metrics *m = q->gateway->metrics;
    wv_metric_add(m, q->status < 400 ? WV_G_ANSWERED : q->status < 500 ? WV_G_REFUSED : WV_G_FAILED, 1);
    if (q->status >= 400)
        wv_metric_add(m, wv_refusals[q->why].metric, 1);
    wv_metric_record(m, WV_G_REQUEST_US, (wv_now_ns() - q->received_ns) / WV_NS_PER_US);
}

static int make_out(struct wv_request *q)
{
    size_t len = q->status == 304 ? 0 : q->file_len;
    wv_cleanup(wv_free_p) char *text = NULL;
    if (q->reply) {
        text = json_dumps(q->reply, JSON_COMPACT);
        if (!text)
            return -ENOMEM;
        len = strlen(text);
    }
    q->out = malloc(LWS_PRE + len + 1);
    if (!q->out)
        return -ENOMEM;
    if (len)
        memcpy(q->out + LWS_PRE, text ? text : q->file, len);
    q->out_len = len;
    return 0;
}

void wv_http_settle(struct wv_request *q)
{
    if (q->running)
        return;
    if (q->status == 0)
        wv_request_refuse(q, WV_REFUSE_INTERNAL, NULL);
    count_answer(q);
    if (q->settled)
        q->settled(q);
    if (q->changed[0] && q->status < 300 && q->gateway->live.rights_changed)
        q->gateway->live.rights_changed(q->gateway, q->changed[0] == '*' ? "" : q->changed);
    if (!q->wsi)
        return free_request(q);
    if (make_out(q) < 0) {
        struct lws *wsi = q->wsi;
        cut(q->http);
        lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, LWS_TO_KILL_ASYNC);
        return;
    }
    lws_set_timeout(q->wsi, PENDING_TIMEOUT_HTTP_CONTENT, patience(q->gateway));
    lws_callback_on_writable(q->wsi);
}

static int send_head(struct wv_request *q)
{
    unsigned char buffer[LWS_PRE + HEAD_BYTES], *start = buffer + LWS_PRE, *p = start;
    unsigned char *end = buffer + sizeof buffer - 1;
    if (wv_http_write_head(q, &p, end) < 0 || lws_finalize_write_http_header(q->wsi, start, &p, end) != 0)
        return -1;
    q->head_sent = true;
    return 0;
}

static int finish(struct wv_request *q)
{
    struct lws *wsi = q->wsi;
    bool close = q->close || q->gateway->draining;
    detach(q);
    return close || lws_http_transaction_completed(wsi) ? -1 : 0;
}

static int on_writable(struct wv_http *http)
{
    struct wv_request *q = http->request;
    if (!q || q->running || q->status == 0 || !q->out)
        return 0;
    if (!q->head_sent) {
        if (send_head(q) < 0)
            return -1;
        if (!q->out_len)
            return finish(q);
        lws_callback_on_writable(q->wsi);
        return 0;
    }
    if (q->out_at == q->out_len) /* and the kernel has taken what libwebsockets kept of it */
        return finish(q);
    size_t n = WV_MIN(q->out_len - q->out_at, (size_t)CHUNK);
    bool last = q->out_at + n == q->out_len;
    unsigned char *at = (unsigned char *)q->out + LWS_PRE + q->out_at;
    if (lws_write(q->wsi, at, n, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
        return -1;
    q->out_at += n;
    /* At once, so that the next request can't come before the end of this one. */
    if (last && !lws_partial_buffered(q->wsi))
        return finish(q);
    lws_callback_on_writable(q->wsi);
    return 0;
}

/* ---- a request comes in ---- */

static void dispatch(struct wv_request *q)
{
    static const struct wv_json_field none[] = {{0}};
    char reason[WV_JSON_REASON_BYTES];
    q->dispatched = true;
    q->received_ns = wv_now_ns();
    if (q->status == 0 && q->in_len) {
        int r = wv_json_parse(&q->body, q->in, q->in_len, reason);
        if (r < 0)
            wv_request_refuse(q, WV_REFUSE_BAD_JSON, reason);
    }
    if (q->status == 0 && !q->body && !(q->body = json_object()))
        wv_request_refuse(q, WV_REFUSE_INTERNAL, NULL);
    if (q->status == 0 && wv_json_check(q->body, q->route->fields ? q->route->fields : none, reason) < 0)
        wv_request_refuse(q, WV_REFUSE_BAD_FIELD, reason);
    if (q->status == 0) {
        lws_set_timeout(q->wsi, PENDING_TIMEOUT_HTTP_CONTENT, WORK_WAIT_S);
        q->route->begin(q);
    }
    wv_http_settle(q);
}

static void check_route(struct wv_request *q, const char *method, const char *path)
{
    bool known;
    q->route = wv_route_find(method, path, q->args, &known);
    if (!q->route && !strcmp(method, "GET"))
        q->route = wv_page_find(path, q->args);
    if (!q->route)
        wv_request_refuse(q, known ? WV_REFUSE_BAD_METHOD : WV_REFUSE_NOT_FOUND, NULL);
}

static void check_limit(struct wv_request *q)
{
    uint8_t key[WV_LIMIT_KEY_BYTES];
    if (q->route && q->route->unlimited)
        return;
    wv_limit_key(q->address, NULL, key);
    uint64_t wait_ms = wv_limits_take(q->gateway->requests, key, 1, wv_now_ns());
    if (!wait_ms)
        return;
    q->retry_after_s = (unsigned)WV_MIN(wait_ms / 1000 + 1, (uint64_t)3600);
    wv_request_refuse(q, WV_REFUSE_LIMITED, NULL);
}

static void check_token(struct wv_request *q)
{
    if (q->route->auth == WV_AUTH_NONE)
        return;
    if (!q->has_token)
        wv_request_refuse(q, WV_REFUSE_NO_TOKEN, NULL);
    else if (q->by_cookie && strcmp(q->route->method, "GET") != 0 && !wv_http_has_csrf(q))
        wv_request_refuse(q, WV_REFUSE_CSRF, NULL);
}

/* Whether a body will come, and its room. What is refused here has no body worth waiting for. */
static bool expect_body(struct wv_request *q)
{
    int64_t length = wv_http_content_length(q);
    if (q->status == 0 && length > 0 && !q->route->fields)
        wv_request_refuse(q, WV_REFUSE_BAD_REQUEST, "This request takes no body.");
    if (q->status == 0 && length > 0 && !(q->in = malloc((size_t)length)))
        wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
    q->in_max = (size_t)WV_MAX(length, (int64_t)0);
    q->close = q->close || (q->status != 0 && length != 0);
    return q->status == 0 && length > 0;
}

/* libwebsockets 4.1 takes a request's head for its body, and calls us for ever, when the request has a body
 * and its head was read together with what was before it: pipelined. What it has read ahead it tells for all
 * connections in one; a first request's head can't be among it, and nothing that OpenSSL keeps (gateway.c).
 */
static bool is_pipelined(struct lws *wsi, const char *method)
{
    bool plain = !strcmp(method, "GET") && lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0;
    return wv_listeners_again(wsi) && !plain && lws_service_adjust_timeout(lws_get_context(wsi), 1, 0) == 0;
}

static int on_request(struct wv_gateway *g, struct lws *wsi, struct wv_http *http)
{
    static const char *const methods[] = {"GET",   "POST",   "OPTIONS", "PUT",
                                          "PATCH", "DELETE", "CONNECT", "HEAD"};
    char *uri = NULL;
    int uri_len = 0, method = lws_http_get_uri_and_method(wsi, &uri, &uri_len);
    wv_metric_add(g->metrics, WV_G_REQUESTS, 1);
    if (method < 0 || method >= (int)WV_ARRAY_SIZE(methods) || http->request ||
        is_pipelined(wsi, methods[method]))
        return -1;
    struct wv_request *q = calloc(1, sizeof *q);
    wv_cleanup(wv_free_p) char *path = strndup(uri, (size_t)uri_len);
    if (!q || !path) {
        free(q);
        return -1;
    }
    *q = (struct wv_request){.gateway = g, .wsi = wsi, .http = http, .now_s = wv_gateway_unix_s()};
    http->request = q;
    g->in_flight++;
    wv_http_address(g, wsi, q->address);
    wv_address_text(q->address, q->address_text, sizeof q->address_text);
    wv_http_read_head(q);
    check_route(q, methods[method], path);
    check_limit(q);
    if (q->status == 0)
        check_token(q);
    q->received_ns = wv_now_ns();
    if (expect_body(q))
        lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, patience(g));
    else
        dispatch(q);
    return 0;
}

static int on_body(struct wv_http *http, const void *in, size_t len)
{
    struct wv_request *q = http->request;
    if (!q || q->dispatched)
        return 0; /* refused: it is read and forgotten */
    if (len > q->in_max - q->in_len)
        return -1;
    memcpy(q->in + q->in_len, in, len);
    q->in_len += len;
    return 0;
}

/* Comes again when there is more than the declared body while its answer is made: who pipelines is closed,
 * since the library would come again at every turn. */
static int on_body_end(struct wv_http *http)
{
    struct wv_request *q = http->request;
    if (!q)
        return 0;
    if (q->body_ended)
        return -1;
    q->body_ended = true;
    if (!q->dispatched)
        dispatch(q);
    return 0;
}

int wv_http_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct wv_gateway *g = lws_context_user(lws_get_context(wsi));
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return on_request(g, wsi, user);
    case LWS_CALLBACK_HTTP_BODY:
        return on_body(user, in, len);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return on_body_end(user);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return on_writable(user);
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
        if (user)
            cut(user);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        wv_listeners_closed(g, wsi);
        return 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        if (g->jobs)
            wv_jobs_deliver(g->jobs);
        return 0;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return 1; /* a WebSocket that names no protocol of ours */
    default:
        return 0;
    }
}
