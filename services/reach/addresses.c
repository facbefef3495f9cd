/* Own addresses; see addresses.h. */
#include "services/reach/addresses.h"

#include "lib/base/util.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

bool wv_reach_is_v4(const uint8_t address[16])
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return !memcmp(address, prefix, sizeof prefix);
}

static enum wv_reach_scope scope_v4(const uint8_t a[4])
{
    if (a[0] == 0 || a[0] == 127 || a[0] >= 224 || (a[0] == 169 && a[1] == 254))
        return WV_REACH_SCOPE_NONE;
    bool private = a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) || (a[0] == 192 && a[1] == 168) ||
                   (a[0] == 100 && (a[1] & 0xc0) == 64) || (a[0] == 192 && a[1] == 0 && a[2] == 0);
    return private ? WV_REACH_SCOPE_PRIVATE : WV_REACH_SCOPE_GLOBAL;
}

enum wv_reach_scope wv_reach_scope(const uint8_t address[16])
{
    static const uint8_t nothing[15];
    if (wv_reach_is_v4(address))
        return scope_v4(address + 12);
    if ((!memcmp(address, nothing, sizeof nothing) && address[15] <= 1) || address[0] == 0xff ||
        (address[0] == 0xfe && (address[1] & 0xc0) == 0x80))
        return WV_REACH_SCOPE_NONE;
    return (address[0] & 0xfe) == 0xfc ? WV_REACH_SCOPE_PRIVATE : WV_REACH_SCOPE_GLOBAL;
}

bool wv_reach_is_offered(const uint8_t address[16], const uint8_t (*seen)[WV_REACH_ADDRESS_BYTES], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (wv_reach_scope(address) == WV_REACH_SCOPE_PRIVATE && !memcmp(seen[i], address, 16))
            return true;
    return wv_reach_scope(address) == WV_REACH_SCOPE_GLOBAL;
}

/* IPv6 that the whole world reaches, then IPv4, then IPv6 of this place only. 0: of no use. */
static uint32_t fill(const struct sockaddr *name, uint8_t ret[WV_REACH_ADDRESS_BYTES])
{
    if (name->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, name, sizeof in);
        memset(ret, 0, 10);
        memset(ret + 10, 0xff, 2);
        memcpy(ret + 12, &in.sin_addr, 4);
        return ret[12] == 127 || (ret[12] == 169 && ret[13] == 254) ? 0 : 200;
    }
    if (name->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, name, sizeof in6);
        memcpy(ret, &in6.sin6_addr, 16);
        if (IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr) || IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
            IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
            return 0;
        return (ret[0] & 0xfe) == 0xfc ? 150 : 250;
    }
    return 0;
}

static void insert(struct wv_reach_address list[WV_REACH_ADDRESSES_MAX], size_t *n,
                   const struct wv_reach_address *a)
{
    size_t at = *n;
    for (size_t i = 0; i < *n; i++)
        if (!memcmp(list[i].address, a->address, sizeof a->address))
            return;
    while (at > 0 && list[at - 1].priority < a->priority)
        at--;
    if (at == WV_REACH_ADDRESSES_MAX)
        return;
    *n = WV_MIN(*n + 1, (size_t)WV_REACH_ADDRESSES_MAX);
    memmove(list + at + 1, list + at, (*n - at - 1) * sizeof *list);
    list[at] = *a;
}

size_t wv_reach_addresses(uint16_t port, struct wv_reach_address ret[WV_REACH_ADDRESSES_MAX])
{
    struct ifaddrs *all = NULL;
    size_t n = 0;
    if (getifaddrs(&all) < 0)
        return 0;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        struct wv_reach_address a;
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        a.priority = fill(i->ifa_addr, a.address);
        a.address[16] = (uint8_t)(port >> 8);
        a.address[17] = (uint8_t)port;
        if (a.priority)
            insert(ret, &n, &a);
    }
    freeifaddrs(all);
    return n;
}

int wv_reach_watch(void)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK,
                               .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                                            RTMGRP_IPV6_ROUTE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        int r = -errno;
        wv_close(fd);
        return r;
    }
    return fd;
}

void wv_reach_watched(int fd)
{
    uint8_t notice[4096]; /* only that something changed is of interest; ENOBUFS says so too */
    for (int i = 0; i < 64; i++)
        if (recv(fd, notice, sizeof notice, MSG_DONTWAIT) < 0 && errno != ENOBUFS)
            return;
}
