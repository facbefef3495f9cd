/* Requests and the WebSocket on libwebsockets; see wire.h. Must never follow a redirection with a token, take
 * a certificate that nobody vouches for, or keep more than a bounded answer. */
#include "lib/gateway/wire.h"

#include "lib/base/util.h"
#include "lib/gateway/trouble.h"

#include <errno.h>
#include <libwebsockets.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MAX  (256u << 10)
#define QUEUE_MAX   64
#define SYSTEM_CA   "/etc/ssl/certs/ca-certificates.crt"
#define SUBPROTOCOL "wavry-signal.1"
#define DISTANCE_S  20 /* of pings */
#define WARM_S      3  /* a connection waits so long for the next question */
#define PATIENCE_S  45 /* without a sign of life the WebSocket is over */

struct call {
    struct lws *wsi;
    const char *token;
    char *body;
    size_t body_len;
    bool body_sent, done;
    unsigned status;
    uint8_t *data;
    size_t len;
    bool declared, chunked, too_long; /* declared: how long the body is */
    uint64_t length;
    int error;
    char why[WV_GATEWAY_SENTENCE_BYTES]; /* a sentence */
};

struct frame {
    struct frame *next;
    size_t len;
    uint8_t data[]; /* LWS_PRE bytes, then the text */
};

struct wv_gateway {
    struct lws_context *context;
    SSL_CTX *tls; /* libwebsockets' own, of all connections from here */
    bool checks_address;
    struct wv_gateway_trouble trouble; /* of the connection that is coming to nothing */
    struct wv_gateway_url url;
    struct wv_gateway_calls calls;
    void *userdata;
    struct call *call;
    lws_sorted_usec_list_t deadline, wake;
    bool deadline_over;
    atomic_bool stopping;

    struct lws *socket;
    enum wv_gateway_socket state;
    bool leaving, nonsense;
    struct frame *first, **last;
    size_t n_queued;
    char in[WV_GATEWAY_FRAME_BYTES + 1];
    size_t in_len;
};

static void say(char *ret, size_t capacity, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What a gateway says may be shown on a terminal. */
static void say(char *ret, size_t capacity, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(ret, capacity, format, args);
    va_end(args);
    for (unsigned char *p = (unsigned char *)ret; *p; p++)
        if (*p < ' ' || *p == 0x7f || *p >= 0x80)
            *p = '?';
}

/* ---- trouble ---- */

static void free_time(ASN1_TIME **t)
{
    ASN1_TIME_free(*t);
}

static int64_t unix_of(const ASN1_TIME *t)
{
    int days, seconds;
    wv_cleanup(free_time) ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    return epoch && ASN1_TIME_diff(&days, &seconds, epoch, t) == 1 ? days * INT64_C(86400) + seconds : 0;
}

/* OpenSSL does not like a certificate. */
static void note_certificate(struct wv_gateway *g, X509_STORE_CTX *store)
{
    const X509 *x = X509_STORE_CTX_get_current_cert(store);
    g->trouble.certificate = X509_STORE_CTX_get_error(store);
    g->trouble.from_s = x ? unix_of(X509_get0_notBefore(x)) : 0;
    g->trouble.until_s = x ? unix_of(X509_get0_notAfter(x)) : 0;
}

/* libwebsockets tells of TLS only that it failed. */
static void on_tls(const SSL *ssl, int where, int ret)
{
    struct wv_gateway *g = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && ret >> 8 == SSL3_AL_FATAL) {
        g->trouble.alert = ret & 0xff;
    } else if (where == SSL_CB_CONNECT_EXIT && ret <= 0) {
        unsigned long error = ERR_peek_last_error();
        if (ERR_GET_LIB(error) == ERR_LIB_SSL)
            g->trouble.tls = ERR_GET_REASON(error);
    }
}

static void watch_tls(struct wv_gateway *g, SSL_CTX *tls)
{
    g->tls = tls;
    SSL_CTX_set_app_data(tls, g);
    SSL_CTX_set_info_callback(tls, on_tls);
}

/* What is known of it counts once: another connection may be coming about beside. Returns what it is. */
static int say_trouble(struct wv_gateway *g, const char *detail, char *ret, size_t capacity)
{
    g->trouble.detail = detail;
    int r = wv_gateway_trouble_say(&g->trouble, &g->url, ret, capacity);
    g->trouble = (struct wv_gateway_trouble){0};
    return r;
}

/* ---- requests ---- */

static void finish(struct call *c, int error)
{
    if (c->done)
        return;
    c->done = true;
    c->wsi = NULL;
    c->error = error;
}

/* No connection came about. */
static void fail(struct wv_gateway *g, struct call *c, const char *detail)
{
    if (!c->done)
        finish(c, c->too_long ? -EMSGSIZE : say_trouble(g, detail, c->why, sizeof c->why));
}

static int begin_answer(struct call *c, struct lws *wsi)
{
    char text[24], *end;
    c->status = lws_http_client_http_response(wsi);
    c->chunked = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
    c->declared = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0;
    if (c->declared && lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0) {
        c->length = strtoull(text, &end, 10);
        if (*end || text[0] < '0' || text[0] > '9')
            c->length = UINT64_MAX;
    }
    c->too_long = c->length > ANSWER_MAX;
    /* It is whole, but libwebsockets would wait for the end of the connection. */
    if (c->status == 204 && !c->declared) {
        finish(c, 0);
        return -1;
    }
    return c->too_long ? -1 : 0;
}

/* The connection has ended. Half an answer is none: who asked must not take it for a yes. */
static void end_answer(struct wv_gateway *g, struct call *c)
{
    if (!c->status)
        fail(g, c, "closed");
    else if (c->too_long)
        finish(c, -EMSGSIZE);
    else
        finish(c, (c->declared ? c->len == c->length : c->len && !c->chunked) ? 0 : -ECONNRESET);
}

static int add_header(struct lws *wsi, const char *name, const char *value, unsigned char **p,
                      unsigned char *end)
{
    return lws_add_http_header_by_name(wsi, (const unsigned char *)name, (const unsigned char *)value,
                                       (int)strlen(value), p, end);
}

/* IN is where the pointer to the headers' end is. Returns 0 or -1. */
static int add_headers(struct call *c, struct lws *wsi, void *in, size_t room)
{
    unsigned char **p = in, *end = *p + room - 1;
    char text[640];
    if (c->token) {
        if (snprintf(text, sizeof text, "Bearer %s", c->token) >= (int)sizeof text ||
            add_header(wsi, "authorization:", text, p, end))
            return -1;
    }
    if (!c->body)
        return 0;
    snprintf(text, sizeof text, "%zu", c->body_len);
    if (add_header(wsi, "content-type:", "application/json", p, end) ||
        add_header(wsi, "content-length:", text, p, end))
        return -1;
    lws_client_http_body_pending(wsi, 1);
    lws_callback_on_writable(wsi);
    return 0;
}

static int write_body(struct call *c, struct lws *wsi)
{
    if (!c->body || c->body_sent)
        return 0;
    c->body_sent = true;
    lws_client_http_body_pending(wsi, 0);
    int n = lws_write(wsi, (uint8_t *)c->body + LWS_PRE, c->body_len, LWS_WRITE_HTTP_FINAL);
    return n < (int)c->body_len ? -1 : 0;
}

static int take_data(struct call *c, const void *in, size_t len)
{
    if (len > ANSWER_MAX - c->len) {
        c->too_long = true;
        return -1;
    }
    memcpy(c->data + c->len, in, len);
    c->len += len;
    return 0;
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct wv_gateway *g = lws_context_user(lws_get_context(wsi));
    struct call *c = g->call;
    char room[2048 + LWS_PRE], *at = room + LWS_PRE;
    int n = 2048;
    if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_CLIENT_VERIFY_CERTS)
        watch_tls(g, user);
    if (reason == LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION && !len)
        note_certificate(g, user);
    if (!c || c->done || (c->wsi && c->wsi != wsi))
        return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        fail(g, c, in);
        break;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_headers(c, wsi, in, len);
    case LWS_CALLBACK_CLIENT_HTTP_WRITEABLE:
        return write_body(c, wsi);
    case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
        return begin_answer(c, wsi);
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP:
        return lws_http_client_read(wsi, &at, &n) < 0 ? -1 : 0;
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
        return take_data(c, in, len);
    case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
        finish(c, c->chunked && !c->len ? -ECONNRESET : 0); /* it may have ended in the middle of chunks */
        break;
    case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
        end_answer(g, c);
        break;
    default:
        break;
    }
    return 0;
}

static void on_deadline(lws_sorted_usec_list_t *sul)
{
    struct wv_gateway *g = lws_container_of(sul, struct wv_gateway, deadline);
    g->deadline_over = true;
    lws_cancel_service(g->context);
}

static void fill_connect(struct wv_gateway *g, struct lws_client_connect_info *i, const char *path)
{
    memset(i, 0, sizeof *i);
    i->context = g->context;
    i->address = g->url.host;
    i->port = g->url.port;
    i->ssl_connection = g->url.tls ? LCCSCF_USE_SSL : 0;
    i->ssl_connection |= LCCSCF_HTTP_NO_FOLLOW_REDIRECT;
    if (g->checks_address)
        i->ssl_connection |= LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK; /* for check_address() is in force */
    i->path = path;
    i->host = g->url.port == 443 && g->url.tls && !strchr(g->url.host, ':') ? g->url.host : g->url.name;
    i->alpn = "http/1.1";
}

/* Runs CALL to its end. */
static void run_call(struct wv_gateway *g, struct call *c, const char *method, const char *path,
                     unsigned timeout_ms)
{
    struct lws_client_connect_info i;
    fill_connect(g, &i, path);
    i.method = method;
    i.local_protocol_name = "http";
    i.ssl_connection |= LCCSCF_PIPELINE;
    i.keep_warm_secs = WARM_S;
    i.pwsi = &c->wsi;
    g->call = c;
    g->deadline_over = false;
    lws_sul_schedule(g->context, 0, &g->deadline, on_deadline, (lws_usec_t)timeout_ms * 1000);
    if (!lws_client_connect_via_info(&i))
        fail(g, c, NULL);
    while (!c->done && !g->deadline_over && !atomic_load(&g->stopping))
        if (lws_service(g->context, 0) < 0)
            finish(c, -EIO);
    lws_sul_cancel(&g->deadline);
    if (!c->done) {
        struct lws *wsi = c->wsi;
        finish(c, -ETIMEDOUT);
        if (wsi)
            lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    }
    g->call = NULL;
}

const char *wv_gateway_text(const json_t *object, const char *name, size_t max)
{
    json_t *value = json_object_get(object, name);
    return json_is_string(value) && json_string_length(value) <= max ? json_string_value(value) : NULL;
}

static int judge_failure(const struct wv_gateway *g, const struct call *c, char *ret, size_t capacity)
{
    const char *name = g->url.name;
    if (c->why[0])
        say(ret, capacity, "%s", c->why);
    else if (c->error == -EMSGSIZE)
        say(ret, capacity, "What answers at %s is no gateway of Wavry: it says more than %u KiB.", name,
            ANSWER_MAX >> 10);
    else
        say(ret, capacity,
            "The gateway %s does not answer: %s. Try again; if it stays so, tell its operator.", name,
            c->error == -ECONNRESET  ? "it ended the connection in the middle of what it said"
            : c->error == -ETIMEDOUT ? c->status ? "what it says does not end in time" : "no answer in time"
                                     : "the connection failed here");
    return c->error == -EMSGSIZE ? -EPROTO : c->error;
}

static int judge(const struct wv_gateway *g, struct call *c, struct wv_gateway_answer *ret)
{
    ret->status = c->status;
    if (c->error < 0)
        return judge_failure(g, c, ret->sentence, sizeof ret->sentence);
    ret->body = c->len ? json_loadb((const char *)c->data, c->len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (ret->body && !json_is_object(ret->body)) {
        json_decref(ret->body);
        ret->body = NULL;
    }
    if (ret->status >= 200 && ret->status < 300 && (ret->body || c->len == 0))
        return 0;
    const char *code = wv_gateway_text(ret->body, "error", sizeof ret->error - 1);
    const char *text = wv_gateway_text(ret->body, "message", sizeof ret->sentence - 1);
    if (!code || !text) {
        say(ret->sentence, sizeof ret->sentence,
            ret->status >= 300 && ret->status < 400
                ? "What answers at %s (status %u) is no gateway of Wavry: it leads elsewhere. Give the "
                  "address where the gateway itself is."
                : "What answers at %s (status %u) is no gateway of Wavry. Are address and port right?",
            g->url.name, ret->status);
        return -EPROTO;
    }
    say(ret->error, sizeof ret->error, "%s", code);
    say(ret->sentence, sizeof ret->sentence, "%s", text);
    return WV_GATEWAY_REFUSED;
}

int wv_gateway_request(struct wv_gateway *g, const char *method, const char *path, const char *token,
                       json_t *body, unsigned timeout_ms, struct wv_gateway_answer *ret)
{
    struct call c = {.token = token};
    int r = -ENOMEM;
    *ret = (struct wv_gateway_answer){0};
    wv_cleanup(wv_free_p) char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    c.data = malloc(ANSWER_MAX);
    if (body && text) {
        c.body_len = strlen(text);
        c.body = malloc(LWS_PRE + c.body_len);
        if (c.body)
            memcpy(c.body + LWS_PRE, text, c.body_len);
    }
    if (c.data && (!body || c.body)) {
        run_call(g, &c, method, path, timeout_ms);
        r = judge(g, &c, ret);
    }
    if (c.body)
        explicit_bzero(c.body, LWS_PRE + c.body_len); /* passwords and tokens */
    if (text)
        explicit_bzero(text, strlen(text));
    if (c.data)
        explicit_bzero(c.data, c.len);
    free(c.body);
    free(c.data);
    return r;
}

void wv_gateway_answer_fini(struct wv_gateway_answer *a)
{
    json_decref(a->body);
    a->body = NULL;
}

/* ---- the WebSocket ---- */

static void drop_queue(struct wv_gateway *g)
{
    while (g->first) {
        struct frame *f = g->first;
        g->first = f->next;
        free(f);
    }
    g->last = &g->first;
    g->n_queued = 0;
}

/* DETAIL is libwebsockets'. */
static void socket_gone(struct wv_gateway *g, const char *detail)
{
    char text[WV_GATEWAY_SENTENCE_BYTES];
    if (g->state == WV_SOCKET_NONE)
        return;
    if (g->state == WV_SOCKET_OPENING)
        (void)say_trouble(g, detail, text, sizeof text);
    else
        say(text, sizeof text,
            g->nonsense ? "What the gateway %s says makes no sense; the connection was ended."
                        : "The gateway %s has ended the connection.",
            g->url.name);
    g->socket = NULL;
    g->state = WV_SOCKET_NONE;
    g->in_len = 0;
    drop_queue(g);
    if (!g->leaving && g->calls.closed)
        g->calls.closed(g->userdata, text);
}

static int is_nonsense(struct wv_gateway *g)
{
    g->nonsense = true;
    return -1;
}

/* Returns 0, or -1: the connection is of no use. */
static int take_frame(struct wv_gateway *g, struct lws *wsi, const void *in, size_t len)
{
    if (lws_frame_is_binary(wsi) || len > WV_GATEWAY_FRAME_BYTES - g->in_len)
        return is_nonsense(g);
    memcpy(g->in + g->in_len, in, len);
    g->in_len += len;
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi))
        return 0;
    json_t *object = json_loadb(g->in, g->in_len, JSON_REJECT_DUPLICATES, NULL);
    g->in_len = 0;
    if (!json_is_object(object)) {
        json_decref(object);
        return is_nonsense(g);
    }
    if (g->calls.message)
        g->calls.message(g->userdata, object);
    json_decref(object);
    return g->leaving ? -1 : 0;
}

static int write_frame(struct wv_gateway *g, struct lws *wsi)
{
    struct frame *f = g->first;
    if (g->leaving)
        return -1;
    if (!f)
        return 0;
    g->first = f->next;
    if (!g->first)
        g->last = &g->first;
    g->n_queued--;
    int n = lws_write(wsi, f->data + LWS_PRE, f->len, LWS_WRITE_TEXT);
    bool failed = n < (int)f->len;
    explicit_bzero(f->data, LWS_PRE + f->len);
    free(f);
    if (g->first)
        lws_callback_on_writable(wsi);
    return failed ? -1 : 0;
}

static int on_socket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct wv_gateway *g = lws_context_user(lws_get_context(wsi));
    if (g->socket && g->socket != wsi)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        g->state = WV_SOCKET_OPEN;
        if (g->calls.opened)
            g->calls.opened(g->userdata);
        return g->leaving ? -1 : 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return take_frame(g, wsi, in, len);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return write_frame(g, wsi);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        socket_gone(g, in);
        break;
    case LWS_CALLBACK_CLIENT_CLOSED:
        socket_gone(g, NULL);
        break;
    case LWS_CALLBACK_CLOSED_CLIENT_HTTP: /* all that is said of one that was given up before it opened */
        socket_gone(g, "closed");
        break;
    default:
        break;
    }
    return 0;
}

static const lws_retry_bo_t idle = {.secs_since_valid_ping = DISTANCE_S,
                                    .secs_since_valid_hangup = PATIENCE_S};

int wv_gateway_open_socket(struct wv_gateway *g)
{
    struct lws_client_connect_info i;
    if (g->state != WV_SOCKET_NONE)
        return -EALREADY;
    fill_connect(g, &i, "/v1/signal");
    i.protocol = SUBPROTOCOL;
    i.local_protocol_name = SUBPROTOCOL;
    i.pwsi = &g->socket;
    i.retry_and_idle_policy = &idle;
    g->state = WV_SOCKET_OPENING;
    g->leaving = g->nonsense = false;
    if (!lws_client_connect_via_info(&i))
        socket_gone(g, NULL); /* unless its callback said so already */
    return 0;
}

void wv_gateway_close_socket(struct wv_gateway *g)
{
    if (g->state == WV_SOCKET_NONE)
        return;
    g->leaving = true;
    if (g->socket)
        lws_set_timeout(g->socket, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

enum wv_gateway_socket wv_gateway_socket(const struct wv_gateway *g)
{
    return g->state;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return !memcmp(&((const struct sockaddr_in *)a)->sin_addr, &((const struct sockaddr_in *)b)->sin_addr,
                       sizeof(struct in_addr));
    return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
                   sizeof(struct in6_addr));
}

bool wv_gateway_has_moved(const struct wv_gateway *g)
{
    struct sockaddr_storage own = {0}, peer = {0}, now = {0};
    socklen_t own_len = sizeof own, peer_len = sizeof peer, now_len = sizeof now;
    int fd = g->socket ? lws_get_socket_fd(g->socket) : -1;
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &own_len) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
        return false;
    wv_cleanup(wv_close_p) int probe = socket(peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return false;
    /* Nothing is sent: the kernel only says by which address it would. No way there is no reason to stay. */
    return connect(probe, (struct sockaddr *)&peer, peer_len) < 0 ||
           getsockname(probe, (struct sockaddr *)&now, &now_len) < 0 || !same_address(&own, &now);
}

int wv_gateway_send(struct wv_gateway *g, json_t *object)
{
    if (g->state != WV_SOCKET_OPEN || g->leaving)
        return -ENOTCONN;
    if (g->n_queued >= QUEUE_MAX)
        return -EAGAIN;
    size_t len = json_dumpb(object, NULL, 0, JSON_COMPACT);
    if (len == 0 || len > WV_GATEWAY_FRAME_BYTES)
        return -EMSGSIZE;
    struct frame *f = calloc(1, sizeof *f + LWS_PRE + len);
    if (!f)
        return -ENOMEM;
    f->len = json_dumpb(object, (char *)f->data + LWS_PRE, len, JSON_COMPACT);
    *g->last = f;
    g->last = &f->next;
    g->n_queued++;
    lws_callback_on_writable(g->socket);
    return 0;
}

/* ---- the context ---- */

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = on_http, .rx_buffer_size = 4096},
    {.name = SUBPROTOCOL, .callback = on_socket, .rx_buffer_size = 4096},
    {0},
};

int wv_gateway_new(struct wv_gateway **ret, const char *ca_file)
{
    bool own = ca_file && *ca_file;
    const char *ca = own ? ca_file : SYSTEM_CA;
    if (access(ca, R_OK) < 0) {
        if (own)
            return -ENOENT;
        ca = NULL; /* then nobody is believed */
    }
    struct wv_gateway *g = calloc(1, sizeof *g);
    if (!g)
        return -ENOMEM;
    g->last = &g->first;
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .client_ssl_ca_filepath = ca,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .user = g,
        .fd_limit_per_thread = 16,
        .timeout_secs = 10,
    };
    lws_set_log_level(0, NULL);
    g->context = lws_create_context(&info);
    if (!g->context) {
        free(g);
        return -EIO;
    }
    *ret = g;
    return 0;
}

struct wv_gateway *wv_gateway_free(struct wv_gateway *g)
{
    if (g) {
        g->calls = (struct wv_gateway_calls){0};
        g->leaving = true;
        lws_context_destroy(g->context);
        drop_queue(g);
        free(g);
    }
    return NULL;
}

/* libwebsockets holds certificates against names only. Where the gateway is called by its address, OpenSSL is
 * told to hold them against that; every connection inherits it. Returns whether it does now: else the address
 * is looked for among the certificate's names, and no certificate passes. */
static bool check_address(struct wv_gateway *g)
{
    X509_VERIFY_PARAM *param = g->tls ? SSL_CTX_get0_param(g->tls) : NULL;
    if (!param || X509_VERIFY_PARAM_set1_ip(param, NULL, 0) != 1)
        return false;
    return wv_gateway_url_is_address(&g->url) && X509_VERIFY_PARAM_set1_ip_asc(param, g->url.host) == 1;
}

void wv_gateway_aim(struct wv_gateway *g, const struct wv_gateway_url *url)
{
    g->url = *url;
    g->checks_address = check_address(g);
}

void wv_gateway_set_calls(struct wv_gateway *g, const struct wv_gateway_calls *calls, void *userdata)
{
    g->calls = *calls;
    g->userdata = userdata;
}

int wv_gateway_service(struct wv_gateway *g)
{
    return lws_service(g->context, 0) < 0 ? -EIO : 0;
}

void wv_gateway_wake(struct wv_gateway *g)
{
    lws_cancel_service(g->context);
}

void wv_gateway_stop(struct wv_gateway *g)
{
    atomic_store(&g->stopping, true);
    lws_cancel_service(g->context);
}

static void on_wake(lws_sorted_usec_list_t *sul)
{
    struct wv_gateway *g = lws_container_of(sul, struct wv_gateway, wake);
    lws_cancel_service(g->context);
}

void wv_gateway_wake_in(struct wv_gateway *g, unsigned ms)
{
    lws_sul_schedule(g->context, 0, &g->wake, on_wake, (lws_usec_t)ms * 1000);
}
