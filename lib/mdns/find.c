/* Looking for hosts; see find.h. */
#include "lib/mdns/find.h"

#include "lib/base/util.h"

#include <avahi-client/client.h>
#include <avahi-client/lookup.h>
#include <avahi-common/error.h>
#include <avahi-common/malloc.h>
#include <avahi-common/simple-watch.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SERVICE "_wavry._udp"

struct search {
    const char *name, *key;
    struct wv_found *found;
    size_t n, resolving;
    bool all_told, done, no_daemon;
    AvahiClient *client;
};

/* Whoever uses the name is of interest, be it another than the one that is looked for; and who does not is
 * given no room. */
static bool matches(const struct search *s, const struct wv_found *f)
{
    if (!s->key && !s->name)
        return true;
    return (s->key && !strcmp(f->key, s->key)) || (s->name && !strcasecmp(f->name, s->name));
}

/* One line per host: the better address wins. */
static void add(struct search *s, const struct wv_found *f)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->found[i].name, f->name) != 0 || strcmp(s->found[i].key, f->key) != 0)
            continue;
        if (strchr(s->found[i].address, ':') && !strchr(f->address, ':'))
            s->found[i] = *f;
        return;
    }
    if (s->n < WV_FOUND_MAX)
        s->found[s->n++] = *f;
}

static void copy_printable(char *to, size_t capacity, const char *from)
{
    snprintf(to, capacity, "%s", from);
    for (unsigned char *p = (unsigned char *)to; *p; p++)
        if (!isprint(*p))
            *p = '?';
}

static void on_resolved(AvahiServiceResolver *r, AvahiIfIndex interface, AvahiProtocol protocol,
                        AvahiResolverEvent event, const char *name, const char *type, const char *domain,
                        const char *host, const AvahiAddress *address, uint16_t port, AvahiStringList *txt,
                        AvahiLookupResultFlags flags, void *userdata)
{
    struct search *s = userdata;
    struct wv_found f = {.port = port};
    char text[AVAHI_ADDRESS_STR_MAX], card[IF_NAMESIZE];
    s->resolving--;
    if (event == AVAHI_RESOLVER_FOUND && port) {
        AvahiStringList *key = avahi_string_list_find(txt, "key");
        char *value = NULL;
        if (key && avahi_string_list_get_pair(key, NULL, &value, NULL) == 0 && value)
            copy_printable(f.key, sizeof f.key, value);
        avahi_free(value);
        copy_printable(f.name, sizeof f.name, name);
        avahi_address_snprint(text, sizeof text, address);
        if (!strncasecmp(text, "fe80:", 5) && if_indextoname((unsigned)interface, card))
            snprintf(f.address, sizeof f.address, "%s%%%s", text, card);
        else
            snprintf(f.address, sizeof f.address, "%s", text);
        if (matches(s, &f))
            add(s, &f);
        s->done = s->done || (s->key && !strcmp(f.key, s->key) && !strchr(f.address, ':'));
    }
    avahi_service_resolver_free(r);
}

static void on_browse(AvahiServiceBrowser *b, AvahiIfIndex interface, AvahiProtocol protocol,
                      AvahiBrowserEvent event, const char *name, const char *type, const char *domain,
                      AvahiLookupResultFlags flags, void *userdata)
{
    struct search *s = userdata;
    if (event == AVAHI_BROWSER_NEW) {
        if (s->resolving < 2 * WV_FOUND_MAX &&
            avahi_service_resolver_new(s->client, interface, protocol, name, type, domain, protocol, 0,
                                       on_resolved, s))
            s->resolving++;
    } else if (event == AVAHI_BROWSER_ALL_FOR_NOW) {
        s->all_told = true;
    } else if (event == AVAHI_BROWSER_FAILURE) {
        s->no_daemon = true;
    }
}

static void on_client(AvahiClient *client, AvahiClientState state, void *userdata)
{
    struct search *s = userdata;
    s->no_daemon = s->no_daemon || state == AVAHI_CLIENT_FAILURE;
}

static bool goes_on(const struct search *s, uint64_t until)
{
    return !s->done && !s->no_daemon && wv_now_ns() < until && !(s->all_told && s->resolving == 0);
}

int wv_find(const char *name, const char *key, unsigned wait_ms, struct wv_found ret[WV_FOUND_MAX],
            size_t *ret_n)
{
    struct search s = {.name = name, .key = key, .found = ret};
    uint64_t until = wv_now_ns() + wait_ms * WV_NS_PER_MS;
    AvahiSimplePoll *poll = avahi_simple_poll_new();
    AvahiServiceBrowser *browser = NULL;
    if (!poll)
        return -ENOMEM;
    s.client = avahi_client_new(avahi_simple_poll_get(poll), 0, on_client, &s, NULL);
    if (s.client)
        browser = avahi_service_browser_new(s.client, AVAHI_IF_UNSPEC, AVAHI_PROTO_UNSPEC, SERVICE, NULL, 0,
                                            on_browse, &s);
    while (browser && goes_on(&s, until))
        if (avahi_simple_poll_iterate(poll, 50) != 0)
            break;
    *ret_n = s.n;
    int r = !browser || (s.no_daemon && s.n == 0) ? WV_FIND_NO_DAEMON : 0;
    if (s.client)
        avahi_client_free(s.client);
    avahi_simple_poll_free(poll);
    return r;
}
