/* The router's port; see mapping.h. What a router answers is foreign: an address and a port are taken from it
 * and offered to clients to try, nothing else. The thread never holds its mutex while it waits. */
#include "services/reach/mapping.h"

#include "lib/base/util.h"
#include "services/reach/addresses.h"
#include "services/reach/mapping_waits.h"
#include "services/reach/pcp_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-id128.h>

#define LIFETIME_S   1200u
#define RENEW_MIN_S  30u                 /* whatever a router grants by NAT-PMP */
#define PAUSE_NS     (300 * WV_NS_PER_S) /* without a router that answers, then twice as long, */
#define PAUSE_MAX_NS (3600 * WV_NS_PER_S)
#define LOST_NS      (30 * WV_NS_PER_S) /* after a mapping that worked */
#define HEARD_NS     (10 * WV_NS_PER_S) /* announcements are heeded no more often */
#define BATCH        16                 /* datagrams of one turn */
#define NEVER        UINT64_MAX
#define DOORS        2

/* An app-specific identifier, so that the machine's own is not told: 6fc35f0e-52b4-4d18-93f7-4ff3b1a7dc0b. */
#define NONCE_ID SD_ID128_MAKE(6f, c3, 5f, 0e, 52, b4, 4d, 18, 93, f7, 4f, f3, b1, a7, dc, 0b)

/* What is wanted of the router of one family. */
struct door {
    int family;
    bool has_way;
    struct wv_reach_router way;
    struct wv_pcp_client *pcp; /* NULL: PCP is not asked now */
    int fd;                    /* of PCP, connected to the router */
    int ear;                   /* where the router announces itself to all */
    enum wv_mapping_method method;
    uint8_t address[18];
    uint64_t due_ns;   /* without PCP: the next try, or renewal */
    uint64_t pause_ns; /* after the next failure */
    uint64_t heard_ns;
    uint32_t restarts; /* of clients that are gone */
    bool failed;       /* since the network changed */
};

struct wv_mapping {
    pthread_t thread;
    pthread_mutex_t mutex;
    int event_fd, wake_fd;
    bool stop, look, again; /* with the mutex, as the next two */
    uint16_t wanted;
    struct wv_mapping_state state;

    uint8_t secret[16]; /* nonces come from it; from here on the thread's own */
    uint16_t port;
    bool needless;
    struct wv_upnp_router upnp; /* of the mapping that there is */
    struct door doors[DOORS];
};

/* ---- PCP ---- */

/* The same one after a restart, for a router refuses whoever renews with another (RFC 6887, section 11.3). */
static void fill_nonce(const struct wv_mapping *m, const struct door *d, uint8_t ret[WV_PCP_NONCE_BYTES])
{
    uint8_t text[18], hash[crypto_generichash_BYTES_MIN];
    memcpy(text, d->way.own, 16);
    text[16] = (uint8_t)(m->port >> 8);
    text[17] = (uint8_t)m->port;
    crypto_generichash(hash, sizeof hash, text, sizeof text, m->secret, sizeof m->secret);
    memcpy(ret, hash, WV_PCP_NONCE_BYTES);
}

static socklen_t fill_name(const uint8_t address[16], uint16_t port, uint32_t interface,
                           struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    if (wv_reach_is_v4(address)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, address + 12, 4);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, address, 16);
    if (wv_reach_scope(address) == WV_REACH_SCOPE_NONE) /* link-local */
        in6.sin6_scope_id = interface;
    memcpy(ret, &in6, sizeof in6);
    return sizeof in6;
}

static bool read_name(const struct sockaddr_storage *name, uint8_t ret[18])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    uint16_t port;
    if (name->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, name, sizeof in);
        memcpy(ret, v4, sizeof v4);
        memcpy(ret + 12, &in.sin_addr, 4);
        port = in.sin_port;
    } else if (name->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, name, sizeof in6);
        memcpy(ret, &in6.sin6_addr, 16);
        port = in6.sin6_port;
    } else {
        return false;
    }
    memcpy(ret + 16, &port, 2);
    return true;
}

/* From the own address, which the request names, to the router. */
static int open_socket(const struct door *d)
{
    struct sockaddr_storage own, router;
    socklen_t own_len = fill_name(d->way.own, 0, d->way.interface, &own);
    socklen_t router_len = fill_name(d->way.router, WV_PCP_PORT, d->way.interface, &router);
    int fd = socket(d->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&own, own_len) < 0 ||
                    connect(fd, (struct sockaddr *)&router, router_len) < 0))
        fd = wv_close(fd);
    return fd;
}

/* Where routers tell all hosts that they were started; bound to that group, so that it hears nobody else. */
static int open_ear(const struct door *d)
{
    static const uint8_t all_v4[16] = {[10] = 0xff, 0xff, 224, 0, 0, 1}, all_v6[16] = {0xff, 2, [15] = 1};
    struct sockaddr_storage group;
    const int yes = 1;
    socklen_t len =
        fill_name(d->family == AF_INET ? all_v4 : all_v6, WV_PCP_CLIENT_PORT, d->way.interface, &group);
    int fd = socket(d->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
                    bind(fd, (struct sockaddr *)&group, len) < 0))
        fd = wv_close(fd);
    return fd;
}

static void close_pcp(struct door *d)
{
    if (d->pcp)
        d->restarts += wv_pcp_client_restarts(d->pcp);
    d->pcp = wv_pcp_client_free(d->pcp);
    d->fd = wv_close(d->fd);
}

static void begin_pcp(struct wv_mapping *m, struct door *d, uint64_t now)
{
    struct wv_pcp_setup setup = {.port = m->port, .lifetime_s = LIFETIME_S};
    memcpy(setup.router, d->way.router, sizeof setup.router);
    memcpy(setup.own, d->way.own, sizeof setup.own);
    fill_nonce(m, d, setup.nonce);
    randombytes_buf(&setup.random, sizeof setup.random);
    d->fd = open_socket(d);
    if (d->fd < 0 || wv_pcp_client_new(&d->pcp, &setup, now) < 0)
        close_pcp(d);
}

static void send_due(struct door *d, uint64_t now)
{
    uint8_t request[WV_PCP_MAP_BYTES];
    size_t n;
    while (d->pcp && (n = wv_pcp_client_send(d->pcp, now, request)) > 0)
        if (send(d->fd, request, n, 0) < 0 && errno == ECONNREFUSED)
            wv_pcp_client_refused(d->pcp);
}

static void receive(struct door *d, uint64_t now)
{
    uint8_t from[18], data[WV_PCP_MAX_BYTES + 1];
    for (int i = 0; d->pcp && i < BATCH; i++) {
        struct sockaddr_storage name;
        socklen_t len = sizeof name;
        ssize_t n = recvfrom(d->fd, data, sizeof data, 0, (struct sockaddr *)&name, &len);
        if (n < 0 && errno == ECONNREFUSED)
            wv_pcp_client_refused(d->pcp);
        else if (n < 0)
            return;
        else if (read_name(&name, from))
            wv_pcp_client_receive(d->pcp, from, data, (size_t)n, false, now);
    }
}

/* Whatever else the mapping came by, a router that was started again is asked again. */
static void hear(struct door *d, uint64_t now)
{
    uint8_t from[18], data[WV_PCP_MAX_BYTES + 1];
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage name;
        socklen_t len = sizeof name;
        ssize_t n = recvfrom(d->ear, data, sizeof data, 0, (struct sockaddr *)&name, &len);
        if (n < 0)
            return;
        if (!read_name(&name, from) || memcmp(from, d->way.router, 16) != 0 ||
            (from[16] << 8 | from[17]) != WV_PCP_PORT)
            continue;
        if (d->pcp) {
            wv_pcp_client_receive(d->pcp, from, data, (size_t)n, true, now);
        } else if (!d->heard_ns || now - d->heard_ns >= HEARD_NS) {
            d->heard_ns = now;
            d->due_ns = WV_MIN(d->due_ns, now + WV_NS_PER_S + randombytes_uniform(4000) * WV_NS_PER_MS);
        }
    }
}

/* ---- one door ---- */

static void pause_door(struct door *d, uint64_t now)
{
    d->method = WV_MAPPING_NONE;
    d->failed = true;
    d->due_ns = now + d->pause_ns;
    uint64_t longer_ns = WV_MAX(2 * d->pause_ns, PAUSE_NS);
    d->pause_ns = WV_MIN(longer_ns, PAUSE_MAX_NS);
}

/* NAT-PMP and UPnP are for IPv4. A way that worked is gone on with; one that works no more is no way. */
static void try_others(struct wv_mapping *m, struct door *d)
{
    uint32_t lifetime_s = LIFETIME_S;
    enum wv_mapping_method before = d->method;
    d->method = WV_MAPPING_NONE;
    if (d->family == AF_INET && before != WV_MAPPING_UPNP &&
        wv_natpmp_map(d->way.router, m->port, LIFETIME_S, d->address, &lifetime_s))
        d->method = WV_MAPPING_NATPMP;
    else if (d->family == AF_INET && before != WV_MAPPING_NATPMP &&
             wv_upnp_map(m->port, LIFETIME_S, &m->upnp, d->address))
        d->method = WV_MAPPING_UPNP;
    uint64_t now = wv_now_ns();
    if (d->method == WV_MAPPING_NONE && before != WV_MAPPING_NONE) {
        d->due_ns = now; /* all ways, from the first */
        return;
    }
    if (d->method == WV_MAPPING_NONE) {
        pause_door(d, now);
        return;
    }
    d->failed = false;
    d->pause_ns = LOST_NS;
    lifetime_s = WV_MIN(lifetime_s, LIFETIME_S);
    d->due_ns = now + WV_MAX(lifetime_s / 2, RENEW_MIN_S) * WV_NS_PER_S;
}

static void turn(struct wv_mapping *m, struct door *d, uint64_t now)
{
    if (!d->has_way || !m->port)
        return;
    if (!d->pcp && now >= d->due_ns) {
        if (d->method == WV_MAPPING_NONE)
            begin_pcp(m, d, now);
        if (!d->pcp) {
            try_others(m, d);
            return;
        }
    }
    send_due(d, now);
    if (!d->pcp)
        return;
    switch (wv_pcp_client_state(d->pcp)) {
    case WV_PCP_MAPPED:
        (void)wv_pcp_client_mapped(d->pcp, d->address);
        d->method = WV_MAPPING_PCP;
        d->failed = false;
        d->pause_ns = LOST_NS;
        break;
    case WV_PCP_ASKING:
    case WV_PCP_DELETING:
        break;
    case WV_PCP_LATER:
        d->method = WV_MAPPING_NONE;
        d->failed = true;
        break;
    case WV_PCP_NATPMP:
    case WV_PCP_REFUSED:
    case WV_PCP_SILENT:
    case WV_PCP_DELETED:
        close_pcp(d);
        d->method = WV_MAPPING_NONE;
        try_others(m, d);
        break;
    }
}

/* ---- all of it ---- */

/* Within 2 s: who ends is not waited for longer. */
static void take_back(struct wv_mapping *m)
{
    for (struct door *d = m->doors; d < m->doors + DOORS; d++)
        if (d->pcp)
            wv_pcp_client_delete(d->pcp, wv_now_ns());
    for (;;) {
        struct pollfd p[DOORS];
        uint64_t now = wv_now_ns(), until = NEVER;
        for (int i = 0; i < DOORS; i++) {
            struct door *d = &m->doors[i];
            send_due(d, now);
            bool open = d->pcp && wv_pcp_client_state(d->pcp) == WV_PCP_DELETING;
            p[i] = (struct pollfd){.fd = open ? d->fd : -1, .events = POLLIN};
            until = open ? WV_MIN(until, wv_pcp_client_timeout(d->pcp)) : until;
        }
        if (until == NEVER)
            break;
        (void)poll(p, DOORS, until > now ? (int)((until - now) / WV_NS_PER_MS) + 1 : 0);
        for (int i = 0; i < DOORS; i++)
            receive(&m->doors[i], wv_now_ns());
    }
    for (struct door *d = m->doors; d < m->doors + DOORS; d++) {
        uint8_t nothing[18];
        uint32_t lifetime_s;
        close_pcp(d);
        if (d->method == WV_MAPPING_NATPMP)
            (void)wv_natpmp_map(d->way.router, m->port, 0, nothing, &lifetime_s);
        else if (d->method == WV_MAPPING_UPNP)
            wv_upnp_unmap(&m->upnp, m->port);
        d->method = WV_MAPPING_NONE;
    }
}

static void forget(struct door *d)
{
    close_pcp(d); /* from an address that is gone nothing can be taken back; it ends by itself */
    d->ear = wv_close(d->ear);
    d->method = WV_MAPPING_NONE;
    d->failed = false;
    d->due_ns = 0;
    d->pause_ns = PAUSE_NS;
}

static void make_sure(struct door *d)
{
    if (d->pcp)
        wv_pcp_client_check(d->pcp, wv_now_ns());
    else
        d->due_ns = 0;
}

/* Looks which routers there are, and whether they are to be asked: not for a machine that is reached without.
 */
static void look_around(struct wv_mapping *m, bool again)
{
    struct wv_reach_router ways[DOORS];
    bool has[DOORS];
    for (int i = 0; i < DOORS; i++)
        has[i] = wv_reach_router(m->doors[i].family, &ways[i]) == 0;
    m->needless = has[0] && wv_reach_scope(ways[0].own) == WV_REACH_SCOPE_GLOBAL;
    has[0] = has[0] && !m->needless && wv_reach_scope(ways[0].own) == WV_REACH_SCOPE_PRIVATE;
    has[1] = has[1] && !m->needless && wv_reach_scope(ways[1].own) == WV_REACH_SCOPE_GLOBAL;
    for (int i = 0; i < DOORS; i++) {
        struct door *d = &m->doors[i];
        bool same = has[i] == d->has_way && (!has[i] || !memcmp(&ways[i], &d->way, sizeof ways[i]));
        if (same && again && d->method != WV_MAPPING_NONE) {
            make_sure(d); /* it may be another network with the same addresses */
            continue;
        }
        if (same && !again)
            continue;
        forget(d);
        d->has_way = has[i];
        if (!has[i])
            continue;
        d->way = ways[i];
        d->ear = open_ear(d);
    }
}

/* One that was started again has forgotten both. */
static uint32_t count_restarts(struct wv_mapping *m, uint32_t before, uint64_t now)
{
    uint32_t n = 0;
    for (struct door *d = m->doors; d < m->doors + DOORS; d++)
        n += d->restarts + (d->pcp ? wv_pcp_client_restarts(d->pcp) : 0);
    for (struct door *d = m->doors; d < m->doors + DOORS; d++)
        if (n != before && d->pcp)
            wv_pcp_client_check(d->pcp, now);
    return n;
}

static void publish(struct wv_mapping *m, uint64_t now)
{
    struct wv_mapping_state s;
    const struct door *d4 = &m->doors[0], *d6 = &m->doors[1];
    memset(&s, 0, sizeof s); /* it is compared */
    s.method = d4->method;
    s.pinhole = d6->method == WV_MAPPING_PCP;
    s.needless = m->needless && m->port;
    s.tried = (d4->has_way || d6->has_way) && (!d4->has_way || d4->failed) && (!d6->has_way || d6->failed);
    if (s.method != WV_MAPPING_NONE)
        memcpy(s.address, d4->address, sizeof s.address);
    if (s.pinhole)
        memcpy(s.pinhole_address, d6->address, sizeof s.pinhole_address);
    s.restarts = count_restarts(m, m->state.restarts, now);
    pthread_mutex_lock(&m->mutex);
    bool same = !memcmp(&s, &m->state, sizeof s);
    memcpy(&m->state, &s, sizeof s);
    pthread_mutex_unlock(&m->mutex);
    if (!same)
        (void)eventfd_write(m->event_fd, 1);
}

static uint64_t next_time(const struct wv_mapping *m)
{
    uint64_t until = NEVER;
    for (const struct door *d = m->doors; m->port && d < m->doors + DOORS; d++)
        if (d->has_way)
            until = WV_MIN(until, d->pcp ? wv_pcp_client_timeout(d->pcp) : d->due_ns);
    return until;
}

static void wait_for_something(struct wv_mapping *m)
{
    struct pollfd p[1 + 2 * DOORS] = {{.fd = m->wake_fd, .events = POLLIN}};
    uint64_t now = wv_now_ns(), until = next_time(m), most = 3600 * WV_NS_PER_S;
    for (int i = 0; i < DOORS; i++) {
        p[1 + 2 * i] = (struct pollfd){.fd = m->doors[i].fd, .events = POLLIN};
        p[2 + 2 * i] = (struct pollfd){.fd = m->doors[i].ear, .events = POLLIN};
    }
    until = WV_MIN(until, now + most);
    (void)poll(p, 1 + 2 * DOORS, until > now ? (int)((until - now) / WV_NS_PER_MS) + 1 : 0);
    now = wv_now_ns();
    for (int i = 0; i < DOORS; i++) {
        if (p[1 + 2 * i].revents)
            receive(&m->doors[i], now);
        if (p[2 + 2 * i].revents)
            hear(&m->doors[i], now);
    }
}

/* Returns whether to go on. */
static bool take_wishes(struct wv_mapping *m)
{
    eventfd_t ignored;
    (void)eventfd_read(m->wake_fd, &ignored);
    pthread_mutex_lock(&m->mutex);
    bool go_on = !m->stop, look = m->look || m->again, again = m->again;
    uint16_t wanted = m->wanted;
    m->look = m->again = false;
    pthread_mutex_unlock(&m->mutex);
    if (!go_on)
        return false;
    if (wanted != m->port) {
        take_back(m);
        m->port = wanted;
        look = again = true;
    }
    if (look && m->port)
        look_around(m, again);
    else if (look)
        for (struct door *d = m->doors; d < m->doors + DOORS; d++) {
            forget(d);
            d->has_way = false;
        }
    return true;
}

static void *run(void *userdata)
{
    struct wv_mapping *m = userdata;
    while (take_wishes(m)) {
        for (int i = 0; i < DOORS; i++)
            turn(m, &m->doors[i], wv_now_ns());
        publish(m, wv_now_ns());
        wait_for_something(m);
    }
    take_back(m);
    for (struct door *d = m->doors; d < m->doors + DOORS; d++)
        forget(d);
    return NULL;
}

/* ---- the owner's side ---- */

static void fill_secret(uint8_t ret[16])
{
    sd_id128_t id;
    if (sd_id128_get_machine_app_specific(NONCE_ID, &id) == 0)
        memcpy(ret, id.bytes, 16);
    else
        randombytes_buf(ret, 16);
}

int wv_mapping_new(struct wv_mapping **ret)
{
    struct wv_mapping *m = calloc(1, sizeof *m);
    sigset_t all, before;
    if (!m)
        return -ENOMEM;
    fill_secret(m->secret);
    for (int i = 0; i < DOORS; i++)
        m->doors[i] =
            (struct door){.family = i ? AF_INET6 : AF_INET, .fd = -1, .ear = -1, .pause_ns = PAUSE_NS};
    m->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&m->mutex, NULL);
    int r = m->event_fd < 0 || m->wake_fd < 0 ? -EMFILE : 0;
    sigfillset(&all); /* signals are the owner's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (r == 0)
        r = -pthread_create(&m->thread, NULL, run, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r < 0) {
        pthread_mutex_destroy(&m->mutex);
        wv_close(m->event_fd);
        wv_close(m->wake_fd);
        free(m);
        return r;
    }
    *ret = m;
    return 0;
}

struct wv_mapping *wv_mapping_free(struct wv_mapping *m)
{
    if (!m)
        return NULL;
    pthread_mutex_lock(&m->mutex);
    m->stop = true;
    pthread_mutex_unlock(&m->mutex);
    (void)eventfd_write(m->wake_fd, 1);
    pthread_join(m->thread, NULL);
    pthread_mutex_destroy(&m->mutex);
    wv_close(m->event_fd);
    wv_close(m->wake_fd);
    free(m);
    return NULL;
}

void wv_mapping_want(struct wv_mapping *m, uint16_t port)
{
    pthread_mutex_lock(&m->mutex);
    bool same = m->wanted == port;
    m->wanted = port;
    pthread_mutex_unlock(&m->mutex);
    if (!same)
        (void)eventfd_write(m->wake_fd, 1);
}

void wv_mapping_look(struct wv_mapping *m, bool addresses)
{
    pthread_mutex_lock(&m->mutex);
    m->look = true;
    m->again = m->again || addresses;
    pthread_mutex_unlock(&m->mutex);
    (void)eventfd_write(m->wake_fd, 1);
}

int wv_mapping_fd(const struct wv_mapping *m)
{
    return m->event_fd;
}

void wv_mapping_get(struct wv_mapping *m, struct wv_mapping_state *ret)
{
    pthread_mutex_lock(&m->mutex);
    *ret = m->state;
    pthread_mutex_unlock(&m->mutex);
}

const char *wv_mapping_method_name(enum wv_mapping_method method)
{
    static const char *const names[] = {NULL, "PCP", "NAT-PMP", "UPnP"};
    return names[method];
}
