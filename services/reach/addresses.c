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
