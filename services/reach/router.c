/* Asks the kernel which router leads to the world; see addresses.h. By netlink: the unit's /proc has no
 * tables of routes. */
#include "services/reach/addresses.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Where any PCP server is said to be (RFC 7723): nobody's, so that the way there is that to the world. */
#define ANYWHERE_V4 "192.0.0.9"
#define ANYWHERE_V6 "2001:1::1"

struct question {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr destination;
    uint8_t address[16];
};

static int ask(int fd, int family)
{
    size_t size = family == AF_INET ? 4 : 16;
    struct question q = {
        .head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = 1},
        .route = {.rtm_family = (unsigned char)family, .rtm_dst_len = (unsigned char)(8 * size)},
        .destination = {.rta_type = RTA_DST, .rta_len = (unsigned short)RTA_LENGTH(size)}};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    inet_pton(family, family == AF_INET ? ANYWHERE_V4 : ANYWHERE_V6, q.address);
    q.head.nlmsg_len = (uint32_t)(offsetof(struct question, address) + size);
    return sendto(fd, &q, q.head.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0 ? -errno : 0;
}

/* Returns whether it was one of FAMILY. */
static bool take_address(int family, const uint8_t *data, size_t len, uint8_t ret[16])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    if (len != (family == AF_INET ? 4u : 16u))
        return false;
    memcpy(ret, v4, family == AF_INET ? sizeof v4 : 0);
    memcpy(ret + 16 - len, data, len);
    return true;
}

static int take(int family, const uint8_t *data, size_t len, struct wv_reach_router *ret)
{
    struct nlmsghdr head;
    bool router = false, own = false;
    if (len < NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct rtmsg)))
        return 1; /* too short for a route: an error, as a rule that there is none */
    memcpy(&head, data, sizeof head);
    if (head.nlmsg_type != RTM_NEWROUTE || head.nlmsg_len > len)
        return 1;
    size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct rtmsg));
    while (at + sizeof(struct rtattr) <= head.nlmsg_len) {
        struct rtattr a;
        memcpy(&a, data + at, sizeof a);
        if (a.rta_len < sizeof a || a.rta_len > head.nlmsg_len - at)
            break;
        const uint8_t *value = data + at + sizeof a;
        size_t size = a.rta_len - sizeof a;
        if (a.rta_type == RTA_GATEWAY)
            router = take_address(family, value, size, ret->router);
        else if (a.rta_type == RTA_PREFSRC)
            own = take_address(family, value, size, ret->own);
        else if (a.rta_type == RTA_OIF && size == sizeof ret->interface)
            memcpy(&ret->interface, value, size);
        at += RTA_ALIGN(a.rta_len);
    }
    return router && own ? 0 : 1;
}

int wv_reach_router(int family, struct wv_reach_router *ret)
{
    uint8_t answer[2048];
    struct wv_reach_router found = {0};
    const struct timeval limit = {.tv_sec = 1};
    wv_cleanup(wv_close_p) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int r = ask(fd, family);
    if (r < 0)
        return r;
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    if (n < 0)
        return -errno;
    r = take(family, answer, (size_t)n, &found);
    if (r == 0)
        *ret = found;
    return r;
}
