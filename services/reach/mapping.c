/* The router's port; see mapping.h. What a router answers is foreign: an address and a port are taken from it
 * and offered to clients to try, nothing else. */
#include "services/reach/mapping.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <miniupnpc/upnperrors.h>
#include <natpmp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define LIFETIME_S   1200
#define AGAIN_S      300 /* without a router that answers */
#define PMP_WAIT_MS  1000
#define UPNP_WAIT_MS 1000

enum method { METHOD_NONE, METHOD_PMP, METHOD_UPNP };

struct wv_mapping {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int event_fd;
    bool stop, again;
    uint16_t wanted;
    bool mapped;
    uint8_t address[18];
    enum method method;

    uint16_t port; /* of this machine, as it is mapped; the thread's own */
};

static void put_address(uint8_t ret[18], struct in_addr address, uint16_t port)
{
    memset(ret, 0, 10);
    memset(ret + 10, 0xff, 2);
    memcpy(ret + 12, &address, 4);
    ret[16] = (uint8_t)(port >> 8);
    ret[17] = (uint8_t)port;
}

/* ---- NAT-PMP ---- */

static bool pmp_answer(natpmp_t *n, natpmpresp_t *ret)
{
    uint64_t until = wv_now_ns() + PMP_WAIT_MS * WV_NS_PER_MS;
    for (;;) {
        struct pollfd p = {.fd = n->s, .events = POLLIN};
        struct timeval wait;
        uint64_t now = wv_now_ns();
        if (now >= until || getnatpmprequesttimeout(n, &wait) < 0)
            return false;
        int ms = (int)(wait.tv_sec * 1000 + wait.tv_usec / 1000) + 1;
        (void)poll(&p, 1, WV_MIN(ms, (int)((until - now) / WV_NS_PER_MS) + 1));
        int r = readnatpmpresponseorretry(n, ret);
        if (r != NATPMP_TRYAGAIN)
            return r == 0;
    }
}

/* LIFETIME 0 takes it back. */
static bool pmp_map(uint16_t port, uint32_t lifetime, uint8_t ret[18])
{
    natpmp_t n;
    natpmpresp_t whose, which;
    if (initnatpmp(&n, 0, 0) < 0)
        return false;
    bool good =
        sendnewportmappingrequest(&n, NATPMP_PROTOCOL_UDP, port, lifetime ? port : 0, lifetime) >= 0 &&
        pmp_answer(&n, &which) && which.type == NATPMP_RESPTYPE_UDPPORTMAPPING;
    if (good && lifetime) {
        good = sendpublicaddressrequest(&n) >= 0 && pmp_answer(&n, &whose) &&
               whose.type == NATPMP_RESPTYPE_PUBLICADDRESS && which.pnu.newportmapping.mappedpublicport;
        if (good)
            put_address(ret, whose.pnu.publicaddress.addr, which.pnu.newportmapping.mappedpublicport);
    }
    closenatpmp(&n);
    return good;
}

/* ---- UPnP ---- */

static bool upnp_do(struct UPNPUrls *urls, struct IGDdatas *data, const char *own, uint16_t port,
                    uint32_t lifetime, uint8_t ret[18])
{
    char text[8], seconds[16], public[40] = "";
    struct in_addr address;
    snprintf(text, sizeof text, "%u", port);
    snprintf(seconds, sizeof seconds, "%u", lifetime);
    if (!lifetime)
        return UPNP_DeletePortMapping(urls->controlURL, data->first.servicetype, text, "UDP", NULL) ==
               UPNPCOMMAND_SUCCESS;
    int r = UPNP_AddPortMapping(urls->controlURL, data->first.servicetype, text, text, own, "Wavry", "UDP",
                                NULL, seconds);
    if (r == 725) /* only mappings without an end */
        r = UPNP_AddPortMapping(urls->controlURL, data->first.servicetype, text, text, own, "Wavry", "UDP",
                                NULL, "0");
    if (r != UPNPCOMMAND_SUCCESS ||
        UPNP_GetExternalIPAddress(urls->controlURL, data->first.servicetype, public) != UPNPCOMMAND_SUCCESS ||
        inet_pton(AF_INET, public, &address) != 1)
        return false;
    put_address(ret, address, port);
    return true;
}

static bool upnp_map(uint16_t port, uint32_t lifetime, uint8_t ret[18])
{
    struct UPNPUrls urls;
    struct IGDdatas data;
    char own[64] = "";
    int error;
    bool good = false;
    struct UPNPDev *devices = upnpDiscover(UPNP_WAIT_MS, NULL, NULL, UPNP_LOCAL_PORT_ANY, 0, 2, &error);
    if (!devices)
        return false;
    int found = UPNP_GetValidIGD(devices, &urls, &data, own, sizeof own);
    if (found == 1)
        good = upnp_do(&urls, &data, own, port, lifetime, ret);
    if (found != 0)
        FreeUPNPUrls(&urls);
    freeUPNPDevlist(devices);
    return good;
}

/* ---- the thread ---- */

static void publish(struct wv_mapping *m, enum method method, const uint8_t address[18])
{
    pthread_mutex_lock(&m->mutex);
    bool same = m->mapped == (method != METHOD_NONE) && m->method == method &&
                (!m->mapped || !memcmp(m->address, address, 18));
    m->mapped = method != METHOD_NONE;
    m->method = method;
    if (m->mapped)
        memcpy(m->address, address, 18);
    pthread_mutex_unlock(&m->mutex);
    if (!same)
        (void)eventfd_write(m->event_fd, 1);
}

static void take_back(struct wv_mapping *m)
{
    uint8_t nothing[18] = {0};
    if (m->method == METHOD_PMP)
        (void)pmp_map(m->port, 0, nothing);
    else if (m->method == METHOD_UPNP)
        (void)upnp_map(m->port, 0, nothing);
    m->port = 0;
    publish(m, METHOD_NONE, nothing);
}

/* Returns seconds until it is due again. */
static unsigned map(struct wv_mapping *m, uint16_t port)
{
    uint8_t address[18] = {0};
    enum method method = METHOD_NONE;
    if (m->port && m->port != port)
        take_back(m);
    if (m->method != METHOD_UPNP && pmp_map(port, LIFETIME_S, address))
        method = METHOD_PMP;
    else if (upnp_map(port, LIFETIME_S, address))
        method = METHOD_UPNP;
    m->port = method == METHOD_NONE ? 0 : port;
    publish(m, method, address);
    return method == METHOD_NONE ? AGAIN_S : LIFETIME_S / 2;
}

static void *run(void *userdata)
{
    struct wv_mapping *m = userdata;
    pthread_mutex_lock(&m->mutex);
    while (!m->stop) {
        uint16_t wanted = m->wanted;
        m->again = false;
        pthread_mutex_unlock(&m->mutex);
        unsigned seconds = AGAIN_S;
        if (wanted)
            seconds = map(m, wanted);
        else if (m->port)
            take_back(m);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += seconds;
        pthread_mutex_lock(&m->mutex);
        while (!m->stop && !m->again && m->wanted == wanted &&
               pthread_cond_timedwait(&m->changed, &m->mutex, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&m->mutex);
    if (m->port)
        take_back(m);
    return NULL;
}

int wv_mapping_new(struct wv_mapping **ret)
{
    struct wv_mapping *m = calloc(1, sizeof *m);
    pthread_condattr_t attributes;
    sigset_t all, before;
    if (!m)
        return -ENOMEM;
    m->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->event_fd < 0) {
        free(m);
        return -errno;
    }
    pthread_mutex_init(&m->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all); /* signals are the owner's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = -pthread_create(&m->thread, NULL, run, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r < 0) {
        wv_close(m->event_fd);
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
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
    pthread_join(m->thread, NULL);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->mutex);
    wv_close(m->event_fd);
    free(m);
    return NULL;
}

void wv_mapping_want(struct wv_mapping *m, uint16_t port, bool again)
{
    pthread_mutex_lock(&m->mutex);
    m->wanted = port;
    m->again = m->again || again;
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
}

int wv_mapping_fd(const struct wv_mapping *m)
{
    return m->event_fd;
}

bool wv_mapping_get(struct wv_mapping *m, uint8_t ret_address[18], const char **ret_method)
{
    pthread_mutex_lock(&m->mutex);
    bool mapped = m->mapped;
    if (mapped)
        memcpy(ret_address, m->address, 18);
    *ret_method = m->method == METHOD_PMP ? "NAT-PMP" : "UPnP";
    pthread_mutex_unlock(&m->mutex);
    return mapped;
}
