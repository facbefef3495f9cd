/* Accepts connections. See listen.h. */
#include "services/gateway/listen.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#define BACKLOG      1024
#define ACCEPT_ROUND 64 /* then others have their turn */
#define SOCKETS_MAX  16
#define BUCKETS      4096
#define SEND_BUFFER  65536 /* what somebody who does not read makes the kernel hold */

/* All connections of one IPv4 address or IPv6 /64. */
struct peer {
    struct peer *next;
    uint8_t key[WV_LIMIT_KEY_BYTES];
    size_t n;
};

/* Beside each connection, as its opaque pointer. */
struct connection {
    struct peer *peer; /* NULL: a trusted proxy, not counted */
    uint8_t address[16];
    bool used; /* for a request */
};

struct wv_listeners {
    struct wv_gateway *gateway;
    int fds[SOCKETS_MAX];
    struct lws *wsis[SOCKETS_MAX];
    size_t n, connections;
    struct connection *adopting; /* within lws_adopt_...: the library may free it before it fails */
    struct peer *peers[BUCKETS];
};

/* ---- opening ---- */

static void to_sockaddr(const struct wv_listen_at *at, struct sockaddr_in6 *six)
{
    *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(at->port)};
    memcpy(&six->sin6_addr, at->ip, 16); /* :: when any; IPv4 mapped works on a dual socket */
}

static int open_one(const struct wv_listen_at *at, int *ret_fd)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const int one = 1, zero = 0, buffer = SEND_BUFFER;
    bool four = !at->any && !memcmp(at->ip, mapped, sizeof mapped);
    struct sockaddr_in6 six;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(at->port)};
    to_sockaddr(at, &six);
    memcpy(&in.sin_addr, at->ip + 12, 4);
    wv_cleanup(wv_close_p) int fd =
        socket(four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool only_four = fd < 0 && at->any && errno == EAFNOSUPPORT;
    if (only_four) /* a machine without IPv6 */
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    four = four || only_four;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        (!four && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, at->any ? &zero : &one, sizeof one) < 0))
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    const struct sockaddr *address = four ? (const void *)&in : (const void *)&six;
    if (only_four)
        in.sin_addr.s_addr = htonl(INADDR_ANY);
    if (bind(fd, address, four ? sizeof in : sizeof six) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static void take_handed_over(struct wv_listeners *l)
{
    int n = sd_listen_fds(1);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0 && l->n < SOCKETS_MAX)
            l->fds[l->n++] = fd;
        else
            wv_close(fd);
    }
}

static void say_port(int fd, const char *at)
{
    struct sockaddr_storage bound;
    struct sockaddr_in in;
    socklen_t len = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
        return;
    memcpy(&in, &bound, sizeof in); /* the port is at the same place in both families */
    wv_info("listening", "at=%s port=%u", at, ntohs(in.sin_port));
}

int wv_listeners_new(struct wv_listeners **ret, struct wv_gateway *g)
{
    struct wv_listeners *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->gateway = g;
    take_handed_over(l);
    bool handed_over = l->n;
    for (size_t i = 0; !handed_over && i < g->settings.n_listen; i++) {
        const struct wv_listen_at *at = &g->settings.listen[i];
        int r = open_one(at, &l->fds[l->n]);
        if (r < 0) {
            wv_error("can't listen", "at=%s error=\"%s\"", at->text, strerror(-r));
            wv_listeners_free(l);
            return r;
        }
        say_port(l->fds[l->n++], at->text);
    }
    wv_metric_set(g->metrics, WV_G_CONNECTIONS_MAX, g->connections_max);
    *ret = l;
    return 0;
}

int wv_listeners_start(struct wv_listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        lws_sock_file_fd_type fd = {.filefd = l->fds[i]};
        l->wsis[i] = lws_adopt_descriptor_vhost(l->gateway->vhost, LWS_ADOPT_RAW_FILE_DESC, fd,
                                                WV_LISTENERS_PROTOCOL, NULL);
        if (!l->wsis[i]) {
            l->fds[i] = -1; /* the library closed it */
            return -ENOMEM;
        }
    }
    return 0;
}

void wv_listeners_stop(struct wv_listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->wsis[i])
            lws_set_timeout(l->wsis[i], PENDING_TIMEOUT_CLOSE_SEND, LWS_TO_KILL_ASYNC);
        else
            wv_close(l->fds[i]);
        l->wsis[i] = NULL;
        l->fds[i] = -1;
    }
    l->n = 0;
}

struct wv_listeners *wv_listeners_free(struct wv_listeners *l)
{
    if (!l)
        return NULL;
    for (size_t i = 0; i < l->n; i++)
        if (!l->wsis[i])
            wv_close(l->fds[i]);
    for (size_t i = 0; i < BUCKETS; i++)
        while (l->peers[i]) {
            struct peer *p = l->peers[i];
            l->peers[i] = p->next;
            free(p);
        }
    free(l);
    return NULL;
}

/* ---- counting ---- */

static struct peer **find_peer(struct wv_listeners *l, const uint8_t key[WV_LIMIT_KEY_BYTES])
{
    /* Keys are addresses: whoever has many of them could fill a chain, and has max_connections of them. */
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < WV_LIMIT_KEY_BYTES; i++)
        hash = (hash ^ key[i]) * 16777619u;
    struct peer **p = &l->peers[hash % BUCKETS];
    while (*p && memcmp((*p)->key, key, WV_LIMIT_KEY_BYTES) != 0)
        p = &(*p)->next;
    return p;
}

static void forget(struct wv_listeners *l, struct connection *c)
{
    if (c->peer && --c->peer->n == 0) {
        struct peer **p = find_peer(l, c->peer->key);
        struct peer *gone = *p;
        *p = gone->next;
        free(gone);
    }
    free(c);
    l->connections--;
    wv_metric_set(l->gateway->metrics, WV_G_CONNECTIONS, l->connections);
}

/* NULL: too many. */
static struct connection *count(struct wv_listeners *l, const uint8_t address[16])
{
    const struct wv_gateway_settings *s = &l->gateway->settings;
    uint8_t key[WV_LIMIT_KEY_BYTES];
    struct connection *c;
    if (l->connections >= l->gateway->connections_max)
        return NULL;
    c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    memcpy(c->address, address, sizeof c->address);
    if (!wv_range_has(s->trusted, s->n_trusted, address)) {
        wv_limit_key(address, NULL, key);
        struct peer **p = find_peer(l, key);
        if (!*p && (*p = calloc(1, sizeof **p)))
            memcpy((*p)->key, key, sizeof key);
        if (!*p || (*p)->n >= (size_t)wv_config_int(s->config, "connections_per_address")) {
            free(c);
            return NULL;
        }
        c->peer = *p;
        c->peer->n++;
    }
    l->connections++;
    wv_metric_set(l->gateway->metrics, WV_G_CONNECTIONS, l->connections);
    return c;
}

void wv_listeners_peer(struct lws *wsi, uint8_t ret_address[16])
{
    const struct connection *c = lws_get_opaque_user_data(lws_get_network_wsi(wsi));
    if (c)
        memcpy(ret_address, c->address, 16);
    else
        memset(ret_address, 0, 16);
}

bool wv_listeners_again(struct lws *wsi)
{
    struct connection *c = lws_get_opaque_user_data(lws_get_network_wsi(wsi));
    bool again = c && c->used;
    if (c)
        c->used = true;
    return again;
}

void wv_listeners_closed(struct wv_gateway *g, struct lws *wsi)
{
    struct connection *c = lws_get_opaque_user_data(wsi);
    if (!c || lws_get_network_wsi(wsi) != wsi || !g->listeners)
        return;
    lws_set_opaque_user_data(wsi, NULL);
    if (g->listeners->adopting == c)
        g->listeners->adopting = NULL;
    forget(g->listeners, c);
}

/* ---- accepting ---- */

static void address_of(const struct sockaddr_storage *from, uint8_t ret[16])
{
    struct sockaddr_in6 six;
    struct sockaddr_in in;
    memset(ret, 0, 16);
    if (from->ss_family == AF_INET6) {
        memcpy(&six, from, sizeof six);
        memcpy(ret, &six.sin6_addr, 16);
    } else if (from->ss_family == AF_INET) {
        memcpy(&in, from, sizeof in);
        ret[10] = ret[11] = 0xff;
        memcpy(ret + 12, &in.sin_addr, 4);
    } else {
        ret[15] = 1; /* a unix socket: this machine */
    }
}

static void adopt(struct wv_listeners *l, int take_fd, const struct sockaddr_storage *from)
{
    const int one = 1;
    uint8_t address[16];
    address_of(from, address);
    struct connection *c = count(l, address);
    if (!c) {
        wv_metric_add(l->gateway->metrics, WV_G_ACCEPT_REFUSED, 1);
        wv_close(take_fd);
        return;
    }
    (void)setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    wv_metric_add(l->gateway->metrics, WV_G_ACCEPTED, 1);
    lws_adopt_desc_t how = {.vh = l->gateway->vhost,
                            .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | LWS_ADOPT_ALLOW_SSL,
                            .fd = {.sockfd = take_fd},
                            .opaque = c};
    l->adopting = c;
    if (!lws_adopt_descriptor_vhost_via_info(&how) && l->adopting)
        forget(l, c);
    l->adopting = NULL;
}

static void accept_some(struct wv_listeners *l, int fd)
{
    for (int i = 0; i < ACCEPT_ROUND; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof from;
        int got = accept4(fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (got < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
                wv_warning("can't accept a connection", "error=\"%s\"", strerror(errno));
            return;
        }
        adopt(l, got, &from);
    }
}

int wv_listeners_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct wv_gateway *g = lws_context_user(lws_get_context(wsi));
    if (reason == LWS_CALLBACK_RAW_RX_FILE && g->listeners)
        accept_some(g->listeners, (int)lws_get_socket_fd(wsi));
    return 0;
}
