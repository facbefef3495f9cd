/* Hosts by name; see find.h. Must never take a key from the network or a gateway that is not known here,
 * except to be proven by pairing. */
#include "client/find.h"

#include "client/trust.h"
#include "lib/base/util.h"
#include "lib/gateway/account.h"
#include "lib/gateway/live.h"
#include "lib/gateway/sign_in.h"
#include "lib/mdns/find.h"
#include "proto/signal.pb-c.h"
#include "rift/crypto/offer.h"
#include "rift/crypto/prove.h"
#include "rift/relay/lease.h"

#include <errno.h>
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <time.h>

#define LAN_MS         1500
#define LAN_BESIDE_MS  300 /* while the gateway is being asked */
#define ANSWER_MS      10000
#define ID_BYTES       RIFT_OFFER_ID_BYTES
#define RENEW_AT_LEAST 5 /* seconds */

struct finder {
    struct app *a;
    struct wv_gateway_account account;
    struct wv_gateway_live *live;
    struct wv_client_ways ways;
    struct wv_client *client;
    struct wv_loop_source *source, *renew;
    char host_key[RIFT_PUBLIC_KEY_TEXT_BYTES], own_key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint8_t id[ID_BYTES]; /* of the newest offer */
    char id_text[2 * ID_BYTES + 1];
    char relay_key[RIFT_SIGN_KEY_TEXT_BYTES], host_relay_key[RIFT_SIGN_KEY_TEXT_BYTES];
    char lease[WV_LIVE_LEASE_MAX];
    char last_error[48];
    struct wv_gateway_event event; /* large */
};

/* ---- signals ---- */

static struct rift_offer_end end_of(const struct finder *f)
{
    return (struct rift_offer_end){false, f->a->identity.secret, f->a->identity.public, f->a->host_key};
}

static int send_signal(struct finder *f, const Wavry__Signal__Signal *signal)
{
    uint8_t plain[RIFT_OFFER_MAX_BYTES], sealed[RIFT_OFFER_MAX_BYTES];
    struct rift_offer_end end = end_of(f);
    size_t len = wavry__signal__signal__get_packed_size(signal), sealed_len;
    if (len > sizeof plain - RIFT_OFFER_OVERHEAD)
        return -EMSGSIZE;
    wavry__signal__signal__pack(signal, plain);
    int r = rift_offer_seal(&end, NULL, plain, len, sealed, sizeof sealed, &sealed_len);
    sodium_memzero(plain, sizeof plain);
    return r < 0 ? r : wv_gateway_live_signal(f->live, f->host_key, f->id_text, sealed, sealed_len);
}

/* The client library wants the host to know where it is. */
static void on_offer(void *userdata, const struct wv_client_offer *offer)
{
    struct finder *f = userdata;
    Wavry__Signal__Offer m = WAVRY__SIGNAL__OFFER__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    Wavry__Signal__Candidate room[RIFT_PUNCH_CANDIDATES], *list[RIFT_PUNCH_CANDIDATES];
    struct wv_client_offer copy = *offer;
    wv_timeline_note(f->a->timeline, "offer");
    randombytes_buf(f->id, sizeof f->id);
    wv_hex_encode(f->id, sizeof f->id, f->id_text);
    rift_sign_key_format(copy.relay_key, f->relay_key);
    f->lease[0] = f->host_relay_key[0] = '\0';
    m.id = (ProtobufCBinaryData){.len = sizeof f->id, .data = f->id};
    m.punch_secret = (ProtobufCBinaryData){.len = sizeof copy.secret, .data = copy.secret};
    m.relay_key = (ProtobufCBinaryData){.len = sizeof copy.relay_key, .data = copy.relay_key};
    m.candidates = list;
    for (size_t i = 0; i < copy.n_candidates; i++) {
        wavry__signal__candidate__init(&room[i]);
        room[i].address =
            (ProtobufCBinaryData){.len = RIFT_ADDRESS_BYTES, .data = copy.candidates[i].address};
        room[i].kind = (Wavry__Signal__Candidate__Kind)copy.candidates[i].kind;
        room[i].priority = copy.candidates[i].priority;
        list[m.n_candidates++] = &room[i];
    }
    m.unix_s = (uint64_t)time(NULL);
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_OFFER;
    signal.offer = &m;
    (void)send_signal(f, &signal); /* unsent: the library offers again */
    sodium_memzero(&copy, sizeof copy);
}

static void on_changed(void *userdata, bool relayed)
{
    struct finder *f = userdata;
    wv_timeline_note(f->a->timeline, relayed ? "relayed" : "direct");
}

static void say_once(struct finder *f, const char *error, const char *text)
{
    if (!strcmp(f->last_error, error))
        return;
    snprintf(f->last_error, sizeof f->last_error, "%s", error);
    app_say(text);
    if (!f->a->connected_once)
        snprintf(f->a->reason_text, sizeof f->a->reason_text, "%.*s", (int)sizeof f->a->reason_text - 1,
                 text);
}

static void say_refused(struct finder *f, const Wavry__Signal__Answer *answer)
{
    char text[200];
    if (!strcmp(answer->refused, "clock")) {
        int64_t away = (int64_t)answer->unix_s - (int64_t)time(NULL);
        snprintf(
            text, sizeof text,
            "The host does not answer, for its clock and this machine's are %lld minutes apart. Set them.",
            (long long)(away < 0 ? -away : away) / 60);
    } else {
        snprintf(text, sizeof text, "The host is busy with other clients. Trying again.");
    }
    say_once(f, answer->refused, text);
}

static void on_answer(struct finder *f, const Wavry__Signal__Answer *answer)
{
    struct rift_candidate candidates[RIFT_PUNCH_CANDIDATES];
    size_t n = 0;
    if (answer->id.len != ID_BYTES || memcmp(answer->id.data, f->id, ID_BYTES) != 0)
        return; /* of an earlier offer */
    wv_timeline_note(f->a->timeline, "answer");
    if (answer->refused[0]) {
        say_refused(f, answer);
        return;
    }
    for (size_t i = 0; i < answer->n_candidates && n < RIFT_PUNCH_CANDIDATES; i++) {
        const Wavry__Signal__Candidate *c = answer->candidates[i];
        if (c->address.len != RIFT_ADDRESS_BYTES || c->kind < 1 || c->kind > 3)
            continue;
        memcpy(candidates[n].address, c->address.data, RIFT_ADDRESS_BYTES);
        candidates[n].kind = (uint8_t)c->kind;
        candidates[n++].priority = c->priority;
    }
    (void)wv_client_answer(f->client, candidates, n);
    /* At once, so that a relay is at hand when nothing direct answers; it is not used before. */
    if (answer->relay_key.len == 32 && !f->lease[0]) {
        rift_sign_key_format(answer->relay_key.data, f->host_relay_key);
        (void)wv_gateway_live_lease(f->live, f->id_text, f->host_key, f->host_relay_key, f->relay_key, NULL);
    }
}

static void on_signal(struct finder *f, const struct wv_gateway_event *e)
{
    uint8_t plain[RIFT_OFFER_MAX_BYTES];
    struct rift_offer_end end = end_of(f);
    size_t len;
    if (strcmp(e->key, f->host_key) != 0 ||
        rift_offer_open(&end, e->sealed, e->sealed_len, plain, sizeof plain, &len) < 0)
        return;
    Wavry__Signal__Signal *signal = wavry__signal__signal__unpack(NULL, len, plain);
    if (signal && signal->kind_case == WAVRY__SIGNAL__SIGNAL__KIND_ANSWER)
        on_answer(f, signal->answer);
    if (signal)
        wavry__signal__signal__free_unpacked(signal, NULL);
}

static void on_lease(struct finder *f, struct wv_gateway_event *e)
{
    Wavry__Signal__Lease m = WAVRY__SIGNAL__LEASE__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    uint8_t bytes[RIFT_LEASE_BYTES];
    uint64_t unix_s = (uint64_t)time(NULL);
    if (strcmp(e->id, f->id_text) != 0 || rift_lease_parse_text(e->lease, bytes) < 0)
        return;
    wv_timeline_note(f->a->timeline, "lease");
    snprintf(f->lease, sizeof f->lease, "%s", e->lease);
    m.id = (ProtobufCBinaryData){.len = sizeof f->id, .data = f->id};
    m.lease = (ProtobufCBinaryData){.len = sizeof bytes, .data = bytes};
    m.relay_address = (ProtobufCBinaryData){.len = sizeof e->relay, .data = e->relay};
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_LEASE;
    signal.lease = &m;
    (void)send_signal(f, &signal);
    (void)wv_client_lease(f->client, bytes, e->relay);
    uint64_t left = e->expires > unix_s ? (e->expires - unix_s) / 2 : 0;
    wv_loop_timer_at(f->renew, wv_now_ns() + WV_MAX(left, (uint64_t)RENEW_AT_LEAST) * WV_NS_PER_S);
}

static int on_renew(void *userdata, uint64_t now)
{
    struct finder *f = userdata;
    int r = f->lease[0] ? wv_gateway_live_lease(f->live, f->id_text, f->host_key, f->host_relay_key,
                                                f->relay_key, f->lease)
                        : 0;
    if (r < 0) /* no gateway at the moment */
        wv_loop_timer_at(f->renew, now + RENEW_AT_LEAST * WV_NS_PER_S);
    return 0;
}

/* ---- the gateway ---- */

static void on_error(struct finder *f, const struct wv_gateway_event *e)
{
    char text[700];
    const char *name = f->a->options.host;
    if (!strcmp(e->error, "offline"))
        snprintf(text, sizeof text, "The host %s is offline: it is not signed in to %s.", name,
                 f->account.url.name);
    else if (!strcmp(e->error, "not_allowed"))
        snprintf(
            text, sizeof text,
            "Not allowed: your account at %s may not reach %s. Its owner can share it: wavryctl host share.",
            f->account.url.name, name);
    else if (!strcmp(e->error, "no_relay"))
        return; /* a direct way may do */
    else
        snprintf(text, sizeof text, "%s", e->text);
    say_once(f, e->error, text);
}

/* On the connection's thread too: the identity was loaded before that began, and stays. */
static int sign(void *userdata, const char *name, const uint8_t challenge[32], uint8_t ret_signature[64])
{
    const struct app *a = userdata;
    return rift_prove_gateway(a->identity.sign_secret, name, challenge, ret_signature);
}

static void take_event(struct finder *f)
{
    struct wv_gateway_event *e = &f->event;
    switch (e->kind) {
    case WV_GATEWAY_WELCOME:
        wv_timeline_note(f->a->timeline, "welcome");
        f->last_error[0] = '\0';
        (void)wv_client_set_stun(f->client, e->stun, e->n_stun);
        break;
    case WV_GATEWAY_LOST: /* a session that lives does not need it */
        if (!f->a->connected_once)
            say_once(f, "lost", e->text);
        break;
    case WV_GATEWAY_DENIED:
        if (!f->a->connected_once)
            say_once(f, "denied", e->text);
        break;
    case WV_GATEWAY_SIGNAL:
        on_signal(f, e);
        break;
    case WV_GATEWAY_ERROR:
        on_error(f, e);
        break;
    case WV_GATEWAY_LEASE:
        on_lease(f, e);
        break;
    case WV_GATEWAY_CHALLENGE: /* sign() has it */
    case WV_GATEWAY_SENT:
        break;
    }
}

static int on_gateway(void *userdata, uint64_t now)
{
    struct finder *f = userdata;
    while (f->client && wv_gateway_live_next(f->live, &f->event))
        take_event(f);
    return 0;
}

/* ---- looking ---- */

/* Names only: an address, or a place with a port, is dialled. */
static bool is_name(const struct app *a)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list = NULL;
    if (a->options.have_url || strpbrk(wv_config_string(a->options.config, "host"), ":.") ||
        (a->options.action != WV_OPTIONS_RUN && a->options.action != WV_OPTIONS_PAIR))
        return false;
    if (getaddrinfo(a->options.host, NULL, &hints, &list) != 0)
        return true;
    freeaddrinfo(list);
    return false;
}

/* KEY is claimed for the host: by its own name it is not known here, or has this key. Returns whether it may
 * be taken. */
static bool may_take(struct app *a, const char *text)
{
    uint8_t key[32];
    char message[WV_TRUST_TEXT_BYTES] = "";
    if (rift_public_key_parse(text, key) < 0)
        return false;
    if (a->have_host_key)
        return memcmp(a->host_key, key, sizeof key) == 0;
    if (a->options.action == WV_OPTIONS_PAIR || wv_known_hosts_has(a->known_hosts, key, message) == 0) {
        memcpy(a->host_key, key, sizeof key);
        a->have_host_key = a->options.action == WV_OPTIONS_RUN;
        return true;
    }
    return false;
}

/* Returns whether it is there; STRANGE: somebody of that name is, whose key is not known. */
static bool look_around(struct app *a, unsigned wait_ms, bool *ret_strange)
{
    static struct wv_found found[WV_FOUND_MAX];
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES] = "";
    size_t n = 0;
    if (a->have_host_key)
        rift_public_key_format(a->host_key, key);
    if (wv_find(a->options.host, key[0] ? key : NULL, wait_ms, found, &n) != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool named = !strcasecmp(found[i].name, a->options.host);
        if (!named && strcmp(found[i].key, key) != 0)
            continue;
        if (!may_take(a, found[i].key)) {
            *ret_strange = true;
            continue;
        }
        snprintf(a->address, sizeof a->address, "%s", found[i].address);
        a->address_port = found[i].port;
        return true;
    }
    return false;
}

/* The key of the host that the gateway calls by the name. Returns 0 or a sysexits code, said. */
static int ask_key(struct app *a, struct finder *f)
{
    char path_text[WV_GATEWAY_SENTENCE_BYTES] = "", token[512];
    struct wv_gateway *g;
    struct wv_gateway_answer answer = {0};
    size_t i;
    json_t *one;
    bool strange = false;
    if (wv_gateway_new(&g, f->account.ca_file) < 0) {
        app_say("The gateway's certificates can't be read; log in again: wavryctl login URL");
        return EX_CONFIG;
    }
    wv_gateway_aim(g, &f->account.url);
    int r =
        wv_gateway_sign_in(g, &f->account.url, f->own_key, sign, a, ANSWER_MS, token, sizeof token, &answer);
    if (r == 0)
        r = wv_gateway_request(g, "GET", "/v1/hosts", token, NULL, ANSWER_MS, &answer);
    snprintf(path_text, sizeof path_text, "%s", answer.sentence);
    json_array_foreach(json_object_get(answer.body, "hosts"), i, one)
    {
        const char *name = wv_gateway_text(one, "name", 64), *key = wv_gateway_text(one, "key", 63);
        if (!name || !key || strcasecmp(name, a->options.host) != 0)
            continue;
        if (may_take(a, key))
            snprintf(f->host_key, sizeof f->host_key, "%s", key);
        else
            strange = true;
    }
    wv_gateway_answer_fini(&answer);
    wv_gateway_free(g);
    explicit_bzero(token, sizeof token);
    if (r != 0) {
        app_say(path_text);
        return r == WV_GATEWAY_REFUSED ? EX_NOPERM : EX_UNAVAILABLE;
    }
    if (f->host_key[0])
        return 0;
    if (strange)
        fprintf(stderr,
                "wavry-client: The key of %s is not known here: pair with it first. On the host run wavryctl "
                "pair, then here: wavry-client pair %s\n",
                a->options.host, a->options.host);
    else
        fprintf(stderr,
                "wavry-client: No host %s: no address is known for it, none of that name is announced on the "
                "local network, and your account at %s has none. wavryctl hosts lists them.\n",
                a->options.host, f->account.url.name);
    return strange ? EX_NOPERM : EX_NOHOST;
}

/* Begins to sign in, while the local network is still asked. */
static int open_gateway(struct app *a)
{
    char path[4096], message[WV_TRUST_TEXT_BYTES] = "";
    struct finder *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->a = a;
    f->ways = (struct wv_client_ways){.offer = on_offer, .changed = on_changed, .userdata = f};
    rift_public_key_format(a->identity.public, f->own_key);
    int r = wv_trust_path("gateway.conf", path, sizeof path);
    if (r == 0)
        r = wv_gateway_account_load(path, &f->account, message, sizeof message);
    if (r == 0)
        r = wv_gateway_live_new(&f->live, f->account.ca_file);
    if (r == 0) {
        wv_gateway_live_set_sign(f->live, sign, a);
        wv_gateway_live_aim(f->live, &f->account.url, f->own_key);
        a->finder = f;
    } else {
        if (message[0])
            app_say(message);
        app_finder_free(f);
    }
    return r;
}

static int say_not_found(const struct app *a, bool strange)
{
    if (strange)
        fprintf(
            stderr,
            "wavry-client: A host called %s is on the local network, but its key is not %s. Pair with it: on "
            "the host wavryctl pair, then here: wavry-client pair %s%s\n",
            a->options.host, a->have_host_key ? "the known one" : "known here",
            a->have_host_key ? "--new-key " : "", a->options.host);
    else
        fprintf(stderr,
                "wavry-client: No host %s: no address is known for it, none of that name is announced on the "
                "local network, and no gateway is known here (wavryctl login https://GATEWAY).\n",
                a->options.host);
    return strange ? EX_NOPERM : EX_NOHOST;
}

int app_find(struct app *a)
{
    bool strange = false;
    if (!is_name(a))
        return 0;
    bool gateway = open_gateway(a) == 0;
    bool here = look_around(a, gateway ? LAN_BESIDE_MS : LAN_MS, &strange);
    wv_timeline_note(a->timeline, "looked");
    if (here || !gateway) {
        a->finder = app_finder_free(a->finder);
        return here ? 0 : say_not_found(a, strange);
    }
    struct finder *f = a->finder;
    if (a->have_host_key)
        rift_public_key_format(a->host_key, f->host_key);
    int r = a->have_host_key ? 0 : ask_key(a, f);
    if (r != 0)
        a->finder = app_finder_free(f);
    return r;
}

const struct wv_client_ways *app_ways(struct app *a)
{
    return a->finder ? &a->finder->ways : NULL;
}

int app_find_start(struct app *a, struct wv_client *client)
{
    struct finder *f = a->finder;
    if (!f)
        return 0;
    f->client = client;
    int r = wv_loop_add_eventfd(a->loop, wv_gateway_live_fd(f->live), on_gateway, f, &f->source);
    if (r == 0)
        r = wv_loop_add_timer(a->loop, on_renew, f, &f->renew);
    if (r == 0)
        r = on_gateway(f, wv_now_ns()); /* what came before */
    return r < 0 ? EX_OSERR : 0;
}

void app_find_stop(struct app *a)
{
    struct finder *f = a->finder;
    if (!f)
        return;
    f->client = NULL;
    f->source = f->source ? wv_loop_remove(f->source) : NULL;
    f->renew = f->renew ? wv_loop_remove(f->renew) : NULL;
}

struct finder *app_finder_free(struct finder *f)
{
    if (f) {
        wv_gateway_live_free(f->live);
        wv_gateway_account_wipe(&f->account);
        free(f);
    }
    return NULL;
}

void app_find_remember(struct app *a)
{
    char address[320], message[WV_TRUST_TEXT_BYTES] = "";
    if ((!a->finder && !a->address[0]) || a->known_line || *wv_config_string(a->options.config, "host_key"))
        return;
    wv_host_format(a->options.host, a->options.port, address, sizeof address);
    if (wv_known_hosts_put(a->known_hosts, address, a->host_key, message) < 0)
        app_say(message);
}

bool app_find_has_said(const struct app *a)
{
    return a->finder && a->finder->last_error[0];
}

void app_say_path(struct app *a)
{
    struct wv_client_stats stats;
    char line[200];
    if (!a->finder || !a->client)
        return;
    wv_client_get_stats(a->client, &stats);
    if (!stats.path[0] || !strcmp(stats.path, a->path_said))
        return;
    bool first = !a->path_said[0];
    snprintf(a->path_said, sizeof a->path_said, "%s", stats.path);
    if (!strcmp(stats.path, "relayed"))
        snprintf(line, sizeof line, "%s", stats.path_why); /* a whole sentence: "Relayed because ..." */
    else
        snprintf(line, sizeof line, first ? "Connected directly." : "Direct from now on, no longer relayed.");
    app_say(line);
}
