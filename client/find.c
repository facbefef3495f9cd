/* The way to a host through a gateway; see find.h. Must never speak to another key than the one that look.c
 * settled on. */
#include "client/find_private.h"
#include "client/trust.h"
#include "lib/base/util.h"
#include "proto/signal.pb-c.h"
#include "rift/crypto/prove.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define ID_BYTES       RIFT_OFFER_ID_BYTES
#define RENEW_AT_LEAST 5    /* seconds */
#define RENEW_AT_MOST  3600 /* whatever a gateway says of a lease's end */
/* Of what the gateway says: to open a signal takes the time of many datagrams. */
#define EVENTS_AT_ONCE  8
#define EVENTS_APART_NS (20 * WV_NS_PER_MS)

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
static int on_offer(void *userdata, const struct wv_client_offer *offer)
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
    int r = send_signal(f, &signal);
    sodium_memzero(&copy, sizeof copy);
    return r;
}

static void on_moved(void *userdata)
{
    struct finder *f = userdata;
    wv_gateway_live_moved(f->live);
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

static void say_no_relay(struct finder *f)
{
    char text[WV_GATEWAY_NAME_BYTES + 160];
    snprintf(text, sizeof text,
             "The gateway %s named a relay that can't be used; only a direct way is left. Tell its operator.",
             f->account.url.name);
    say_once(f, "relay", text);
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

/* A lease for anybody else would be worth nothing here, and tell the host nonsense. */
static bool is_for_us(const struct finder *f, const uint8_t bytes[RIFT_LEASE_BYTES])
{
    char keys[2][RIFT_SIGN_KEY_TEXT_BYTES];
    struct rift_lease terms;
    if (rift_lease_parse(bytes, RIFT_LEASE_BYTES, &terms) < 0)
        return false;
    for (int i = 0; i < 2; i++)
        rift_sign_key_format(terms.peers[i], keys[i]);
    int ours = strcmp(keys[1], f->relay_key) == 0;
    return !strcmp(keys[ours], f->relay_key) && !strcmp(keys[!ours], f->host_relay_key);
}

static void on_lease(struct finder *f, struct wv_gateway_event *e)
{
    Wavry__Signal__Lease m = WAVRY__SIGNAL__LEASE__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    uint8_t bytes[RIFT_LEASE_BYTES];
    uint64_t unix_s = (uint64_t)time(NULL);
    if (strcmp(e->id, f->id_text) != 0)
        return; /* of an earlier offer */
    if (rift_lease_parse_text(e->lease, bytes) < 0 || !is_for_us(f, bytes) ||
        wv_client_lease(f->client, bytes, e->relay) < 0) {
        say_no_relay(f);
        return;
    }
    wv_timeline_note(f->a->timeline, "lease");
    snprintf(f->lease, sizeof f->lease, "%s", e->lease);
    m.id = (ProtobufCBinaryData){.len = sizeof f->id, .data = f->id};
    m.lease = (ProtobufCBinaryData){.len = sizeof bytes, .data = bytes};
    m.relay_address = (ProtobufCBinaryData){.len = sizeof e->relay, .data = e->relay};
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_LEASE;
    signal.lease = &m;
    (void)send_signal(f, &signal);
    uint64_t left = e->expires > unix_s ? (e->expires - unix_s) / 2 : 0;
    left = WV_MAX(left, (uint64_t)RENEW_AT_LEAST);
    left = WV_MIN(left, (uint64_t)RENEW_AT_MOST);
    wv_loop_timer_at(f->renew, wv_now_ns() + left * WV_NS_PER_S);
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
    f->no_use = true;
    say_once(f, e->error, text);
}

/* On the connection's thread too: the identity was loaded before that began, and stays. */
int finder_sign(void *userdata, const char *name, const uint8_t challenge[32], uint8_t ret_signature[64])
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
        f->no_use = false;
        (void)wv_client_set_stun(f->client, e->stun, e->n_stun);
        break;
    case WV_GATEWAY_LOST: /* a session that lives does not need it */
        f->no_use = true;
        if (!f->a->connected_once)
            say_once(f, "lost", e->text);
        break;
    case WV_GATEWAY_DENIED:
        f->no_use = true;
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
    case WV_GATEWAY_CHALLENGE: /* finder_sign() has it */
    case WV_GATEWAY_SENT:
        break;
    }
}

/* A gateway may say more than is good for the picture: what it says waits, and is dropped in the end. */
static int on_rest(void *userdata, uint64_t now)
{
    struct finder *f = userdata;
    for (int i = 0; i < EVENTS_AT_ONCE; i++) {
        if (!f->client || !wv_gateway_live_next(f->live, &f->event))
            return 0;
        take_event(f);
    }
    f->rest_until = now + EVENTS_APART_NS;
    wv_loop_timer_at(f->rest, f->rest_until);
    return 0;
}

static int on_gateway(void *userdata, uint64_t now)
{
    struct finder *f = userdata;
    return now < f->rest_until ? 0 : on_rest(f, now);
}

int finder_open(struct app *a)
{
    char path[4096], message[WV_TRUST_TEXT_BYTES] = "";
    struct finder *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->a = a;
    f->ways =
        (struct wv_client_ways){.offer = on_offer, .moved = on_moved, .changed = on_changed, .userdata = f};
    rift_public_key_format(a->identity.public, f->own_key);
    int r = wv_trust_path("gateway.conf", path, sizeof path);
    if (r == 0)
        r = wv_gateway_account_load(path, &f->account, message, sizeof message);
    if (r == 0) {
        a->finder = f;
    } else {
        if (message[0])
            app_say(message);
        app_finder_free(f);
    }
    return r;
}

int finder_begin(struct finder *f)
{
    int r = wv_gateway_live_new(&f->live, f->account.ca_file);
    if (r < 0)
        return r;
    wv_gateway_live_set_sign(f->live, finder_sign, f->a);
    wv_gateway_live_aim(f->live, &f->account.url, f->own_key);
    return 0;
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
        r = wv_loop_add_timer(a->loop, on_rest, f, &f->rest);
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
    f->rest = f->rest ? wv_loop_remove(f->rest) : NULL;
}

struct finder *app_finder_free(struct finder *f)
{
    if (f) {
        wv_gateway_live_free(f->live);
        resolver_free(f->resolver);
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

bool app_find_is_denied(const struct app *a)
{
    const char *error = a->finder ? a->finder->last_error : "";
    return !strcmp(error, "denied") || !strcmp(error, "not_allowed");
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
