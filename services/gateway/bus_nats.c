/* The bus over a NATS server. libnats calls on threads of its own; what it brings goes into a bounded queue
 * that the loop's thread empties. Publishing goes through a thread too: libnats may wait for its socket, and
 * the loop may not. See bus.h. */
#include "services/gateway/bus_internal.h"

#include "lib/base/util.h"

#include <errno.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECT_ALL  "wavry.gateway.all"
#define SUBJECT_TO   "wavry.gateway.to."
#define SERVERS_MAX  8
#define CONNECT_MS   2000
#define RECONNECT_MS 200
#define PING_MS      2000
#define PINGS_MISSED 2
#define WRITE_MS     2000
#define CLOSE_MS     500

struct nats {
    struct wv_bus base;
    natsOptions *options;
    natsConnection *connection;
    natsSubscription *to_all, *to_self;
    pthread_t publisher;
    bool has_publisher;
    _Atomic bool up;
    bool told_up; /* loop thread */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t work;
    struct wv_bus_queue in, out;
    bool closing;
    int callers; /* the connection and the subscriptions: until it is 0, libnats may call */
    pthread_cond_t last_call;
};

static struct nats *nats(struct wv_bus *b)
{
    return (struct nats *)b;
}

static void wake(struct nats *n)
{
    n->base.calls.wake(n->base.calls.userdata);
}

/* ---- libnats' threads ---- */

static void on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *message,
                       void *userdata)
{
    struct nats *n = userdata;
    int len = natsMsg_GetDataLength(message);
    if (len > 0 && len <= WV_BUS_MESSAGE_BYTES) {
        pthread_mutex_lock(&n->lock);
        if (wv_bus_queue_put(&n->in, NULL, natsMsg_GetData(message), (size_t)len) < 0)
            n->base.dropped++;
        pthread_mutex_unlock(&n->lock);
        wake(n);
    } else {
        n->base.dropped++;
    }
    natsMsg_Destroy(message);
}

static void on_connected(natsConnection *connection, void *userdata)
{
    struct nats *n = userdata;
    n->up = true;
    wake(n);
}

static void on_reconnected(natsConnection *connection, void *userdata)
{
    struct nats *n = userdata;
    n->base.reconnects++;
    on_connected(connection, n);
}

static void on_disconnected(natsConnection *connection, void *userdata)
{
    struct nats *n = userdata;
    n->up = false;
    wake(n);
}

/* A subscriber that is too slow: libnats has dropped something. */
static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus error,
                     void *userdata)
{
    struct nats *n = userdata;
    if (error == NATS_SLOW_CONSUMER)
        n->base.dropped++;
}

/* The last call of a subscription or of the connection. */
static void on_last_call(void *userdata)
{
    struct nats *n = userdata;
    pthread_mutex_lock(&n->lock);
    n->callers--;
    pthread_cond_signal(&n->last_call);
    pthread_mutex_unlock(&n->lock);
}

static void on_closed(natsConnection *connection, void *userdata)
{
    on_last_call(userdata);
}

/* ---- the publisher's thread ---- */

static bool publish_one(struct nats *n, const struct wv_bus_item *item)
{
    char subject[sizeof SUBJECT_TO + WV_BUS_ID_BYTES];
    snprintf(subject, sizeof subject, "%s%s", item->to[0] ? SUBJECT_TO : SUBJECT_ALL, item->to);
    /* libnats would keep it until the server is back, when nobody waits for it any more. */
    return n->up && natsConnection_Status(n->connection) == NATS_CONN_STATUS_CONNECTED &&
           natsConnection_Publish(n->connection, subject, item->data, (int)item->len) == NATS_OK;
}

/* The server takes nothing. libnats holds the connection for as long as it tries, and finds out by the same
 * connection that the server is gone: trying with each of hundreds would keep it from that for minutes. */
static void give_up_all(struct nats *n)
{
    struct wv_bus_item *item;
    n->base.dropped++;
    pthread_mutex_lock(&n->lock);
    while ((item = wv_bus_queue_take(&n->out))) {
        n->base.dropped++;
        free(item);
    }
    pthread_mutex_unlock(&n->lock);
}

static void *publisher(void *userdata)
{
    struct nats *n = userdata;
    pthread_mutex_lock(&n->lock);
    while (!n->closing || n->out.first) {
        struct wv_bus_item *item = wv_bus_queue_take(&n->out);
        if (!item) {
            pthread_cond_wait(&n->work, &n->lock);
            continue;
        }
        pthread_mutex_unlock(&n->lock);
        if (!publish_one(n, item))
            give_up_all(n);
        free(item);
        pthread_mutex_lock(&n->lock);
    }
    pthread_mutex_unlock(&n->lock);
    nats_ReleaseThreadMemory();
    return NULL;
}

/* ---- the loop's thread ---- */

static int nats_publish(struct wv_bus *b, const char *to, const void *data, size_t len)
{
    struct nats *n = nats(b);
    if (!n->up)
        return -ENOTCONN;
    pthread_mutex_lock(&n->lock);
    int r = wv_bus_queue_put(&n->out, to, data, len);
    pthread_cond_signal(&n->work);
    pthread_mutex_unlock(&n->lock);
    return r;
}

static void nats_dispatch(struct wv_bus *b)
{
    struct nats *n = nats(b);
    bool up = n->up, more = true;
    if (up != n->told_up) {
        n->told_up = up;
        b->calls.state(b->calls.userdata, up);
    }
    for (int i = 0; i < WV_BUS_TURN_MESSAGES && more; i++) {
        pthread_mutex_lock(&n->lock);
        struct wv_bus_item *item = wv_bus_queue_take(&n->in);
        more = n->in.first;
        pthread_mutex_unlock(&n->lock);
        if (!item)
            break;
        b->received++;
        b->calls.message(b->calls.userdata, item->data, item->len);
        free(item);
    }
    if (more)
        wake(n);
}

static bool nats_is_up(const struct wv_bus *b)
{
    return ((const struct nats *)b)->up;
}

static void nats_close(struct wv_bus *b)
{
    struct nats *n = nats(b);
    if (n->has_publisher) {
        pthread_mutex_lock(&n->lock);
        n->closing = true;
        pthread_cond_signal(&n->work);
        pthread_mutex_unlock(&n->lock);
        pthread_join(n->publisher, NULL);
    }
    if (n->connection && n->up)
        natsConnection_FlushTimeout(n->connection, CLOSE_MS);
    natsConnection_Close(n->connection);
    pthread_mutex_lock(&n->lock);
    while (n->callers > 0)
        pthread_cond_wait(&n->last_call, &n->lock);
    pthread_mutex_unlock(&n->lock);
    natsSubscription_Destroy(n->to_all);
    natsSubscription_Destroy(n->to_self);
    natsConnection_Destroy(n->connection);
    natsOptions_Destroy(n->options);
    wv_bus_queue_clear(&n->in);
    wv_bus_queue_clear(&n->out);
    pthread_cond_destroy(&n->last_call);
    pthread_cond_destroy(&n->work);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static const struct wv_bus_ops nats_ops = {
    .kind = "nats",
    .publish = nats_publish,
    .dispatch = nats_dispatch,
    .is_up = nats_is_up,
    .close = nats_close,
};

static natsStatus set_servers(natsOptions *options, const char *urls)
{
    wv_cleanup(wv_free_p) char *copy = strdup(urls);
    const char *servers[SERVERS_MAX];
    int n = 0;
    char *rest = NULL;
    if (!copy)
        return NATS_NO_MEMORY;
    for (char *url = strtok_r(copy, ", ", &rest); url; url = strtok_r(NULL, ", ", &rest)) {
        if (n == SERVERS_MAX || (strncmp(url, "nats://", 7) != 0 && strncmp(url, "tls://", 6) != 0))
            return NATS_INVALID_ARG;
        servers[n++] = url;
    }
    natsStatus s = natsOptions_SetServers(options, servers, n);
    if (s == NATS_OK && !strncmp(servers[0], "tls://", 6))
        s = natsOptions_SetSecure(options, true);
    return s;
}

static natsStatus set_options(struct nats *n, const char *url)
{
    natsStatus s = natsOptions_Create(&n->options);
    natsOptions *o = n->options;
#define SET(call) s = s == NATS_OK ? (call) : s
    SET(set_servers(o, url));
    SET(natsOptions_SetName(o, n->base.self));
    SET(natsOptions_SetNoEcho(o, true));
    SET(natsOptions_SetSendAsap(o, true));
    SET(natsOptions_SetTimeout(o, CONNECT_MS));
    SET(natsOptions_SetWriteDeadline(o, WRITE_MS));
    SET(natsOptions_SetPingInterval(o, PING_MS));
    SET(natsOptions_SetMaxPingsOut(o, PINGS_MISSED));
    SET(natsOptions_SetMaxReconnect(o, -1));
    SET(natsOptions_SetReconnectWait(o, RECONNECT_MS));
    SET(natsOptions_SetReconnectJitter(o, RECONNECT_MS, RECONNECT_MS));
    SET(natsOptions_SetRetryOnFailedConnect(o, true, on_connected, n));
    SET(natsOptions_SetReconnectedCB(o, on_reconnected, n));
    SET(natsOptions_SetDisconnectedCB(o, on_disconnected, n));
    SET(natsOptions_SetClosedCB(o, on_closed, n));
    SET(natsOptions_SetErrorHandler(o, on_error, n));
    /* One thread hands over what comes to both subjects, so that a sender's order holds across them. */
    SET(natsOptions_UseGlobalMessageDelivery(o, true));
#undef SET
    return s;
}

static void add_caller(struct nats *n)
{
    pthread_mutex_lock(&n->lock);
    n->callers++;
    pthread_mutex_unlock(&n->lock);
}

static natsStatus subscribe(struct nats *n, const char *subject, natsSubscription **ret)
{
    natsStatus s = natsConnection_Subscribe(ret, n->connection, subject, on_message, n);
    if (s != NATS_OK)
        return s;
    s = natsSubscription_SetOnCompleteCB(*ret, on_last_call, n);
    if (s == NATS_OK)
        add_caller(n);
    return s;
}

static natsStatus connect_and_subscribe(struct nats *n)
{
    char subject[sizeof SUBJECT_TO + WV_BUS_ID_BYTES];
    natsStatus s = natsConnection_Connect(&n->connection, n->options);
    if (s != NATS_OK && s != NATS_NOT_YET_CONNECTED)
        return s;
    add_caller(n);
    if (s == NATS_OK)
        n->up = true;
    snprintf(subject, sizeof subject, SUBJECT_TO "%s", n->base.self);
    s = subscribe(n, SUBJECT_ALL, &n->to_all);
    return s == NATS_OK ? subscribe(n, subject, &n->to_self) : s;
}

static int error_of(natsStatus s)
{
    switch (s) {
    case NATS_OK:
        return 0;
    case NATS_NO_MEMORY:
        return -ENOMEM;
    case NATS_INVALID_ARG:
    case NATS_ADDRESS_MISSING:
        return -EINVAL;
    default:
        return -EIO;
    }
}

int wv_bus_open_nats(struct wv_bus **ret, const char *url, const char *self, const struct wv_bus_calls *calls,
                     char reason[WV_BUS_REASON_BYTES])
{
    struct nats *n = calloc(1, sizeof *n);
    if (!n)
        return -ENOMEM;
    n->base.ops = &nats_ops;
    n->base.calls = *calls;
    snprintf(n->base.self, sizeof n->base.self, "%s", self);
    wv_bus_queue_init(&n->in);
    wv_bus_queue_init(&n->out);
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->work, NULL);
    pthread_cond_init(&n->last_call, NULL);
    natsStatus s = set_options(n, url);
    if (s == NATS_OK)
        s = connect_and_subscribe(n);
    int r = error_of(s);
    if (r == 0)
        r = -pthread_create(&n->publisher, NULL, publisher, n);
    if (r < 0) {
        snprintf(reason, WV_BUS_REASON_BYTES, "NATS: %s", natsStatus_GetText(s));
        nats_close(&n->base);
        return r;
    }
    n->has_publisher = true;
    *ret = &n->base;
    wake(n);
    return 0;
}
