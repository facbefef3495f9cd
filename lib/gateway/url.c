/* Where a gateway is; see url.h. */
#include "lib/gateway/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define RESOLVE_S 2

static int parse_port(const char *text, size_t len, uint16_t *ret)
{
    uint32_t port = 0;
    if (len == 0 || len > 5)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        port = 10 * port + (uint32_t)(text[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

static bool is_own(const char *host)
{
    return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1");
}

/* "[V6]", in the one way to write it that everybody signs. Returns its length with brackets or -EINVAL. */
static int parse_v6(const char *text, char ret_host[INET6_ADDRSTRLEN])
{
    char inside[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t len = strcspn(text + 1, "]");
    if (len >= sizeof inside || text[1 + len] != ']')
        return -EINVAL;
    snprintf(inside, sizeof inside, "%.*s", (int)len, text + 1);
    if (inet_pton(AF_INET6, inside, &address) != 1 ||
        !inet_ntop(AF_INET6, &address, ret_host, INET6_ADDRSTRLEN))
        return -EINVAL;
    return (int)len + 2;
}

/* What stands before the port. Returns its length or -EINVAL. */
static int parse_host(const char *text, struct wv_gateway_url *url)
{
    size_t len = strcspn(text, ":/");
    if (text[0] == '[')
        return parse_v6(text, url->host);
    if (len == 0 || len >= sizeof url->host || text[0] == '-' || text[0] == '.')
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr(".-_", text[i]))
            return -EINVAL;
        url->host[i] = (char)tolower((unsigned char)text[i]);
    }
    return (int)len;
}

bool wv_gateway_url_is_address(const struct wv_gateway_url *url)
{
    uint8_t address[16];
    return inet_pton(AF_INET, url->host, address) == 1 || inet_pton(AF_INET6, url->host, address) == 1;
}

int wv_gateway_url_parse(const char *text, struct wv_gateway_url *ret)
{
    struct wv_gateway_url url = {.tls = true, .port = 443};
    bool plain = !strncmp(text, "http://", 7);
    const char *host = text + (plain ? 7 : !strncmp(text, "https://", 8) ? 8 : 0);
    size_t len = strcspn(host, "/");
    if (host[len] && host[len + 1])
        return -EINVAL; /* a path */
    int name = parse_host(host, &url);
    if (name < 0 || (host[name] && host[name] != ':' && host[name] != '/'))
        return -EINVAL;
    if (plain) {
        url.tls = false;
        url.port = 80;
    }
    if ((size_t)name < len && parse_port(host + name + 1, len - (size_t)name - 1, &url.port) < 0)
        return -EINVAL;
    if (plain && !is_own(url.host))
        return -EPERM;
    snprintf(url.name, sizeof url.name, strchr(url.host, ':') ? "[%s]:%u" : "%s:%u", url.host, url.port);
    *ret = url;
    return 0;
}

/* Whose name it is can let a question wait for an answer that never comes: this one question is asked once of
 * each server. Not any longer than that, for only a resolver left as it was made follows resolv.conf. */
static int ask_once(const char *host, const struct addrinfo *hints, struct addrinfo **ret)
{
    if (res_init() == 0) {
        _res.retrans = RESOLVE_S;
        _res.retry = 1;
    }
    int r = getaddrinfo(host, NULL, hints, ret);
    (void)res_init();
    return r;
}

size_t wv_gateway_resolve(const char *place, uint8_t (*ret)[18], size_t max)
{
    char host[256];
    const char *colon = strrchr(place, ':');
    size_t len = colon ? (size_t)(colon - place) : 0, n = 0;
    uint16_t port;
    if (len == 0 || len >= sizeof host || parse_port(colon + 1, strlen(colon + 1), &port) < 0)
        return 0;
    bool v6 = place[0] == '[' && place[len - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(v6 ? len - 2 : len), place + v6);
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    if (ask_once(host, &hints, &list) != 0)
        return 0;
    for (const struct addrinfo *a = list; a && n < max; a = a->ai_next) {
        struct sockaddr_in6 in6;
        struct sockaddr_in in;
        memset(ret[n], 0, 18);
        if (a->ai_family == AF_INET6 && a->ai_addrlen >= sizeof in6) {
            memcpy(&in6, a->ai_addr, sizeof in6);
            memcpy(ret[n], &in6.sin6_addr, 16);
        } else if (a->ai_family == AF_INET && a->ai_addrlen >= sizeof in) {
            memcpy(&in, a->ai_addr, sizeof in);
            memset(ret[n] + 10, 0xff, 2);
            memcpy(ret[n] + 12, &in.sin_addr, 4);
        } else {
            continue;
        }
        ret[n][16] = (uint8_t)(port >> 8);
        ret[n++][17] = (uint8_t)port;
    }
    freeaddrinfo(list);
    return n;
}

void wv_gateway_url_format(const struct wv_gateway_url *url, char ret[WV_GATEWAY_URL_BYTES])
{
    snprintf(ret, WV_GATEWAY_URL_BYTES, "%s://%s", url->tls ? "https" : "http", url->name);
}
