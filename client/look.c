/* Where the host of a bare name may be: the local network, the gateway, the resolver, in that order; see
 * find.h. Must never take a key from any of them that is not known here, except to be proven by pairing. */
#include "client/find_private.h"
#include "client/name.h"
#include "client/trust.h"
#include "lib/base/util.h"
#include "lib/gateway/sign_in.h"
#include "lib/mdns/find.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#define LAN_MS            1500
#define LAN_BESIDE_MS     300 /* while the gateway is being asked */
#define ANSWER_MS         10000
#define ANSWER_SHORTLY_MS 3000 /* when the local network has somebody */

#define NO_CERTIFICATES "The gateway's certificates can't be read; log in again: wavryctl login URL"

/* ---- the resolver ---- */

struct resolver {
    char name[256];
    atomic_int state, owners;
};

struct resolver *resolver_free(struct resolver *r)
{
    if (r && atomic_fetch_sub(&r->owners, 1) == 1)
        free(r);
    return NULL;
}

static bool resolves(const char *name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list = NULL;
    if (getaddrinfo(name, NULL, &hints, &list) != 0)
        return false;
    freeaddrinfo(list);
    return true;
}

static void *resolve(void *userdata)
{
    struct resolver *r = userdata;
    atomic_store(&r->state, resolves(r->name) ? RESOLVER_KNOWS : RESOLVER_DOES_NOT);
    resolver_free(r);
    return NULL;
}

struct resolver *resolver_new(const char *name)
{
    struct resolver *r = calloc(1, sizeof *r);
    pthread_t thread;
    sigset_t all, before;
    if (!r)
        return NULL;
    snprintf(r->name, sizeof r->name, "%s", name);
    atomic_store(&r->owners, 2);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, resolve, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        free(r);
        return NULL;
    }
    pthread_detach(thread);
    return r;
}

enum resolver_state resolver_state(const struct resolver *r)
{
    return r ? (enum resolver_state)atomic_load(&r->state) : RESOLVER_DOES_NOT;
}

/* ---- claims ---- */

static void add_claim(const struct app *a, struct wv_name_case *c, enum wv_name_place place, const char *key,
                      const char *address, uint16_t port)
{
    char message[WV_TRUST_TEXT_BYTES] = "";
    if (c->n_claims == WV_NAME_CLAIMS)
        return;
    struct wv_name_claim *claim = &c->claims[c->n_claims];
    *claim = (struct wv_name_claim){.place = place, .port = port};
    claim->keyless = rift_public_key_parse(key, claim->key) < 0;
    claim->known = !claim->keyless && wv_known_hosts_has(a->known_hosts, claim->key, message) == 0;
    snprintf(claim->address, sizeof claim->address, "%s", address);
    c->n_claims++;
}

static void look_around(const struct app *a, unsigned wait_ms, struct wv_name_case *c)
{
    static struct wv_found found[WV_FOUND_MAX];
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES] = "";
    size_t n = 0;
    if (a->have_host_key)
        rift_public_key_format(a->host_key, key);
    if (wv_find(a->options.host, key[0] ? key : NULL, wait_ms, found, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++)
        add_claim(a, c, WV_NAME_ON_LAN, found[i].key, found[i].address, found[i].port);
}

/* What the gateway calls by the name. Returns 0 or a sysexits code with the gateway's sentence. */
static int ask_gateway(struct app *a, struct finder *f, unsigned wait_ms, struct wv_name_case *c,
                       char ret_sentence[WV_GATEWAY_SENTENCE_BYTES])
{
    char token[512];
    uint64_t until = wv_now_ns() + wait_ms * WV_NS_PER_MS, now;
    struct wv_gateway *g;
    struct wv_gateway_answer answer = {0};
    size_t i;
    json_t *one;
    if (wv_gateway_new(&g, f->account.ca_file) < 0) {
        snprintf(ret_sentence, WV_GATEWAY_SENTENCE_BYTES, NO_CERTIFICATES);
        return EX_CONFIG;
    }
    wv_gateway_aim(g, &f->account.url);
    int r = wv_gateway_sign_in(g, &f->account.url, f->own_key, finder_sign, a, wait_ms, token, sizeof token,
                               &answer);
    if (r == 0) {
        now = WV_MIN(wv_now_ns(), until);
        r = wv_gateway_request(g, "GET", "/v1/hosts", token, NULL, (unsigned)((until - now) / WV_NS_PER_MS),
                               &answer);
    }
    snprintf(ret_sentence, WV_GATEWAY_SENTENCE_BYTES, "%s", answer.sentence);
    json_array_foreach(json_object_get(answer.body, "hosts"), i, one)
    {
        const char *name = wv_gateway_text(one, "name", 64), *key = wv_gateway_text(one, "key", 63);
        if (name && key && strcasecmp(name, a->options.host) == 0)
            add_claim(a, c, WV_NAME_AT_GATEWAY, key, "", 0);
    }
    wv_gateway_answer_fini(&answer);
    wv_gateway_free(g);
    explicit_bzero(token, sizeof token);
    return r == 0                               ? 0
           : r == WV_GATEWAY_REFUSED            ? EX_NOPERM
           : r == -EPROTO || r == -EKEYREJECTED ? EX_PROTOCOL
                                                : EX_UNAVAILABLE;
}

/* ---- what is said ---- */

static const char *place_of(const struct wv_name_claim *claim)
{
    return claim->place == WV_NAME_ON_LAN ? "on the local network" : "at the gateway";
}

static int say_several(const struct app *a, const struct wv_name_claim *one, const struct wv_name_claim *two)
{
    char first[RIFT_PUBLIC_KEY_TEXT_BYTES], second[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(one->key, first);
    rift_public_key_format(two->key, second);
    fprintf(stderr,
            "wavry-client: Two hosts are called %s: one %s with the key %s, and one %s with the key %s. Say "
            "which is meant: wavry-client %s--host-key KEY %s\n",
            a->options.host, place_of(one), first, place_of(two), second,
            a->options.action == WV_OPTIONS_PAIR ? "pair " : "", a->options.host);
    return EX_NOPERM;
}

static int say_strange(const struct app *a, const struct wv_name_claim *claim)
{
    fprintf(stderr,
            "wavry-client: A host called %s is %s, but its key is not %s. Pair with it: on the host wavryctl "
            "pair, then here: wavry-client pair %s%s\n",
            a->options.host, place_of(claim), a->have_host_key ? "the known one" : "known here",
            a->have_host_key ? "--new-key " : "", a->options.host);
    return EX_NOPERM;
}

static int say_nobody(const struct app *a)
{
    const char *name = a->options.host;
    if (a->finder)
        fprintf(stderr,
                "wavry-client: No host %s: none of that name is announced on the local network, your account "
                "at %s has none, and the resolver does not know it. wavryctl hosts lists them.\n",
                name, a->finder->account.url.name);
    else
        fprintf(
            stderr,
            "wavry-client: No host %s: none of that name is announced on the local network, no gateway is "
            "known here (wavryctl login https://GATEWAY), and the resolver does not know it.\n",
            name);
    return EX_NOHOST;
}

/* ---- the order ---- */

static int take_claim(struct app *a, const struct wv_name_claim *claim)
{
    memcpy(a->host_key, claim->key, sizeof a->host_key);
    a->have_host_key = a->have_host_key || a->options.action == WV_OPTIONS_RUN;
    if (claim->place == WV_NAME_ON_LAN) {
        snprintf(a->address, sizeof a->address, "%s", claim->address);
        a->address_port = claim->port;
        a->finder = app_finder_free(a->finder);
        return 0;
    }
    rift_public_key_format(claim->key, a->finder->host_key);
    if (finder_begin(a->finder) == 0)
        return 0;
    app_say(NO_CERTIFICATES);
    a->finder = app_finder_free(a->finder);
    return EX_CONFIG;
}

/* Nobody is it. Returns 0 when it is to be dialled, as the resolver knows it. */
static int last_resort(struct app *a, const struct wv_name_claim *strange, int gateway_code,
                       const char *sentence)
{
    bool known = resolves(a->options.host);
    int r = 0;
    if (strange && !(known && a->have_host_key))
        r = say_strange(a, strange);
    else if (!known && gateway_code)
        app_say(sentence);
    else if (!known)
        r = say_nobody(a);
    r = r == 0 && !known ? gateway_code : r;
    a->finder = app_finder_free(a->finder);
    return r;
}

/* Everybody is asked who claims the name. */
static int ask_all(struct app *a, struct wv_name_case *c)
{
    char sentence[WV_GATEWAY_SENTENCE_BYTES] = "";
    const struct wv_name_claim *claim = NULL, *other = NULL;
    unsigned wait_ms = c->n_claims ? ANSWER_SHORTLY_MS : ANSWER_MS;
    int r = a->finder ? ask_gateway(a, a->finder, wait_ms, c, sentence) : 0;
    switch (wv_name_judge(c, &claim, &other)) {
    case WV_NAME_FOUND:
        return take_claim(a, claim);
    case WV_NAME_SEVERAL:
        a->finder = app_finder_free(a->finder);
        return say_several(a, claim, other);
    case WV_NAME_STRANGE:
    case WV_NAME_NOBODY:
        break;
    }
    return last_resort(a, claim, r, sentence);
}

int app_find(struct app *a)
{
    const struct wv_name_claim *claim = NULL, *other = NULL;
    struct wv_name_case c = {.pairs = a->options.action == WV_OPTIONS_PAIR};
    if (a->options.have_url || !wv_name_is_bare(wv_config_string(a->options.config, "host")) ||
        (a->options.action != WV_OPTIONS_RUN && a->options.action != WV_OPTIONS_PAIR))
        return 0;
    c.key = a->have_host_key ? a->host_key : NULL;
    bool gateway = finder_open(a) == 0, is_known = a->have_host_key && !c.pairs;
    /* The known key is asked for at once, while the local network is still asked. */
    if (gateway && is_known && finder_begin(a->finder) < 0) {
        app_say(NO_CERTIFICATES);
        a->finder = app_finder_free(a->finder);
        gateway = false;
    }
    look_around(a, gateway ? LAN_BESIDE_MS : LAN_MS, &c);
    wv_timeline_note(a->timeline, "looked");
    if (!gateway || !is_known)
        return ask_all(a, &c);
    if (wv_name_judge(&c, &claim, &other) == WV_NAME_FOUND)
        return take_claim(a, claim);
    /* The resolver is asked beside: app_find_elsewhere(). */
    rift_public_key_format(a->host_key, a->finder->host_key);
    a->finder->resolver = resolver_new(a->options.host);
    return 0;
}

bool app_find_elsewhere(struct app *a)
{
    char line[400];
    struct finder *f = a->finder;
    if (!f || !f->no_use || a->connected_once || resolver_state(f->resolver) != RESOLVER_KNOWS)
        return false;
    snprintf(line, sizeof line, "Trying the address that the resolver has for %s.", a->options.host);
    app_say(line);
    return true;
}
