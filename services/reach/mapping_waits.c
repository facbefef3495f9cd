/* NAT-PMP by libnatpmp, UPnP by MiniUPnP; see mapping_waits.h. */
#include "services/reach/mapping_waits.h"

#include "lib/base/util.h"
#include "services/reach/addresses.h"

#include <arpa/inet.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <miniupnpc/upnperrors.h>
#include <natpmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define PMP_WAIT_MS  3000
#define PMP_LEAVE_MS 1000 /* who ends is not waited for longer */
#define UPNP_WAIT_MS 1000

/* Returns whether it is one that anybody could be at. */
static bool put_address(uint8_t ret[18], struct in_addr address, uint16_t port)
{
    uint8_t full[16] = {[10] = 0xff, [11] = 0xff};
    memcpy(full + 12, &address, 4);
    if (port == 0 || wv_reach_scope(full) == WV_REACH_SCOPE_NONE)
        return false;
    memcpy(ret, full, sizeof full);
    ret[16] = (uint8_t)(port >> 8);
    ret[17] = (uint8_t)port;
    return true;
}

/* ---- NAT-PMP ---- */

static bool pmp_answer(natpmp_t *n, uint64_t wait_ms, natpmpresp_t *ret)
{
    uint64_t until = wv_now_ns() + wait_ms * WV_NS_PER_MS;
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

bool wv_natpmp_map(const uint8_t router[16], uint16_t port, uint32_t lifetime_s, uint8_t ret[18],
                   uint32_t *ret_lifetime_s)
{
    natpmp_t n;
    natpmpresp_t whose, which;
    in_addr_t gateway;
    memcpy(&gateway, router + 12, sizeof gateway);
    /* Named, for the library would look into a file of /proc that the unit does not have. */
    if (initnatpmp(&n, 1, gateway) < 0)
        return false;
    bool good =
        sendnewportmappingrequest(&n, NATPMP_PROTOCOL_UDP, port, lifetime_s ? port : 0, lifetime_s) >= 0 &&
        pmp_answer(&n, lifetime_s ? PMP_WAIT_MS : PMP_LEAVE_MS, &which) &&
        which.type == NATPMP_RESPTYPE_UDPPORTMAPPING && which.pnu.newportmapping.privateport == port;
    if (good && lifetime_s) {
        good = which.pnu.newportmapping.lifetime > 0 && sendpublicaddressrequest(&n) >= 0 &&
               pmp_answer(&n, PMP_WAIT_MS, &whose) && whose.type == NATPMP_RESPTYPE_PUBLICADDRESS &&
               put_address(ret, whose.pnu.publicaddress.addr, which.pnu.newportmapping.mappedpublicport);
        if (good)
            *ret_lifetime_s = which.pnu.newportmapping.lifetime;
    }
    closenatpmp(&n);
    return good;
}

/* ---- UPnP ---- */

static bool upnp_do(struct UPNPUrls *urls, struct IGDdatas *data, const char *own, uint16_t port,
                    uint32_t lifetime_s, uint8_t ret[18])
{
    char text[8], seconds[16], public[40] = "";
    struct in_addr address;
    snprintf(text, sizeof text, "%u", port);
    snprintf(seconds, sizeof seconds, "%u", lifetime_s);
    int r = UPNP_AddPortMapping(urls->controlURL, data->first.servicetype, text, text, own, "Wavry", "UDP",
                                NULL, seconds);
    if (r == 725) /* only mappings without an end */
        r = UPNP_AddPortMapping(urls->controlURL, data->first.servicetype, text, text, own, "Wavry", "UDP",
                                NULL, "0");
    if (r != UPNPCOMMAND_SUCCESS ||
        UPNP_GetExternalIPAddress(urls->controlURL, data->first.servicetype, public) != UPNPCOMMAND_SUCCESS ||
        inet_pton(AF_INET, public, &address) != 1)
        return false;
    return put_address(ret, address, port);
}

bool wv_upnp_map(uint16_t port, uint32_t lifetime_s, struct wv_upnp_router *ret_router, uint8_t ret[18])
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
    if (found == 1 && strlen(urls.controlURL) < sizeof ret_router->control)
        good = upnp_do(&urls, &data, own, port, lifetime_s, ret);
    if (good) {
        snprintf(ret_router->control, sizeof ret_router->control, "%s", urls.controlURL);
        snprintf(ret_router->service, sizeof ret_router->service, "%s", data.first.servicetype);
    }
    if (found != 0)
        FreeUPNPUrls(&urls);
    freeUPNPDevlist(devices);
    return good;
}

void wv_upnp_unmap(const struct wv_upnp_router *router, uint16_t port)
{
    char text[8];
    snprintf(text, sizeof text, "%u", port);
    (void)UPNP_DeletePortMapping(router->control, router->service, text, "UDP", NULL);
}
