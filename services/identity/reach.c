/* Ways to this host that a gateway arranges: identity opens what clients sealed, says who may be answered,
 * and signs for the one gateway that the administrator registered this host with. Reach, which carries all of
 * it, gets no key and nothing in the clear. Must never answer a key that may not connect, take an offer
 * twice, or sign for another gateway. */
#include "services/identity/internal.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/signal.pb-c.h"
#include "rift/crypto/offer.h"
#include "rift/crypto/prove.h"
#include "rift/relay/lease.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define CANDIDATES_LOCAL 12 /* reach's */
#define CANDIDATES_MAX   16 /* in an offer or an answer */
#define ADDRESS_BYTES    18
#define PENDING_MAX      16
#define ANSWERED_MAX     32 /* as many as transport keeps ways */
#define PENDING_NS       (10 * WV_NS_PER_S)
#define SIGNAL_ID_BYTES  40
#define URL_BYTES        272
#define NAME_BYTES       264
#define CHALLENGE_BYTES  RIFT_PROVE_CHALLENGE_BYTES
#define BASE64           sodium_base64_VARIANT_URLSAFE_NO_PADDING

/* An offer that transport has not answered yet. */
struct pending {
    uint64_t until_ns; /* 0: free */
    uint8_t id[RIFT_OFFER_ID_BYTES], client[32];
    char signal_id[SIGNAL_ID_BYTES];
};

/* An offer that was answered, whose client may have to hear of another address. */
struct answered {
    bool used;
    uint8_t id[RIFT_OFFER_ID_BYTES], client[32];
    char signal_id[SIGNAL_ID_BYTES];
};

struct candidate {
    uint8_t address[ADDRESS_BYTES];
    uint32_t kind, priority;
};

struct reach_desk {
    uint8_t secret[32], public[32], sign_secret[64], sign_public[32];
    struct rift_offer_memory memory;
    struct pending pending[PENDING_MAX];
    struct answered answered[ANSWERED_MAX];
    size_t next_answered; /* the oldest one makes room */
    struct candidate local[CANDIDATES_LOCAL];
    size_t n_local;
    char *path;          /* of the file that names the gateway */
    char url[URL_BYTES]; /* empty: none */
};

/* ---- the gateway ---- */

/* "https://HOST:PORT" or "http://HOST:PORT", as wavryctl writes it; HOST may be [an IPv6 address]. */
static bool is_url(const char *text)
{
    const char *rest = !strncmp(text, "https://", 8)  ? text + 8
                       : !strncmp(text, "http://", 7) ? text + 7
                                                      : NULL;
    const char *colon = rest ? strrchr(rest, ':') : NULL;
    if (!colon || colon == rest || strlen(text) >= URL_BYTES || !colon[1])
        return false;
    bool v6 = *rest == '[';
    if (v6 && colon[-1] != ']')
        return false;
    for (const char *p = rest + v6; p < colon - v6; p++)
        if (!isalnum((unsigned char)*p) && !strchr(v6 ? ":." : ".-_", *p))
            return false;
    return strspn(colon + 1, "0123456789") == strlen(colon + 1) && strlen(colon + 1) <= 5;
}

/* What is signed for it: HOST:PORT. */
static const char *gateway_name(const struct reach_desk *d)
{
    const char *slashes = strstr(d->url, "://");
    return slashes ? slashes + 3 : "";
}

static int read_gateway(struct reach_desk *d, char *reason)
{
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    size_t len;
    int r = wv_read_file(d->path, URL_BYTES, &text, &len);
    if (r == -ENOENT)
        return 0;
    if (r < 0) {
        snprintf(reason, WV_IDENTITY_REASON_BYTES, "%s can't be read: %s", d->path, strerror(-r));
        return r;
    }
    len = strcspn((char *)text, "\n");
    text[len] = '\0';
    if (is_url((char *)text))
        snprintf(d->url, sizeof d->url, "%s", (char *)text);
    else
        wv_error("no gateway can be reached: its file is damaged; register this host again", "path=\"%s\"",
                 d->path);
    return 0;
}

int wv_reach_open(struct wv_identity *id, const struct rift_identity *identity, const char *state_dir,
                  char reason[WV_IDENTITY_REASON_BYTES])
{
    struct reach_desk *d = calloc(1, sizeof *d);
    if (!d || asprintf(&d->path, "%s/gateway", state_dir) < 0) {
        free(d);
        return -ENOMEM;
    }
    memcpy(d->secret, identity->secret, sizeof d->secret);
    memcpy(d->public, identity->public, sizeof d->public);
    memcpy(d->sign_secret, identity->sign_secret, sizeof d->sign_secret);
    memcpy(d->sign_public, identity->sign_public, sizeof d->sign_public);
    id->reach = d;
    return read_gateway(d, reason);
}

void wv_reach_close(struct wv_identity *id)
{
    if (!id->reach)
        return;
    free(id->reach->path);
    sodium_memzero(id->reach, sizeof *id->reach);
    free(id->reach);
    id->reach = NULL;
}

static void tell_gateway(struct wv_identity *id)
{
    Wavry__Bus__GatewayIs m = WAVRY__BUS__GATEWAY_IS__INIT;
    m.url = id->reach->url;
    m.key = (ProtobufCBinaryData){.len = 32, .data = id->reach->public};
    (void)wv_identity_send(id, WV_TO_REACH, &m.base); /* unsent: it asks when it is there */
}

int wv_reach_on_question(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    tell_gateway(userdata);
    return 0;
}

int wv_reach_on_challenge(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    struct reach_desk *d = id->reach;
    const Wavry__Bus__GatewayChallenge *m = (const Wavry__Bus__GatewayChallenge *)base;
    uint8_t signature[64];
    Wavry__Bus__GatewaySignature answer = WAVRY__BUS__GATEWAY_SIGNATURE__INIT;
    answer.token = m->token;
    answer.key = (ProtobufCBinaryData){.len = 32, .data = d->public};
    answer.sign_key = (ProtobufCBinaryData){.len = 32, .data = d->sign_public};
    if (m->challenge.len == CHALLENGE_BYTES && d->url[0] && !strcmp(m->name, gateway_name(d)) &&
        rift_prove_gateway(d->sign_secret, m->name, m->challenge.data, signature) == 0) {
        answer.signature = (ProtobufCBinaryData){.len = sizeof signature, .data = signature};
    } else {
        answer.refused = (char *)"this host is not registered with that gateway";
        wv_warning("refused to sign for a gateway that this host is not registered with", "registered=\"%s\"",
                   d->url);
    }
    (void)wv_identity_send(id, WV_TO_REACH, &answer.base);
    return 0;
}

/* ---- signals ---- */

int wv_reach_on_candidates(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    const Wavry__Bus__LocalCandidates *m = (const Wavry__Bus__LocalCandidates *)base;
    id->reach->n_local = 0;
    for (size_t i = 0; i < m->n_candidates && id->reach->n_local < CANDIDATES_LOCAL; i++) {
        const Wavry__Bus__PathCandidate *c = m->candidates[i];
        if (c->address.len != ADDRESS_BYTES)
            continue;
        struct candidate *to = &id->reach->local[id->reach->n_local++];
        memcpy(to->address, c->address.data, ADDRESS_BYTES);
        to->kind = c->kind;
        to->priority = c->priority;
    }
    return 0;
}

/* Seals SIGNAL for CLIENT and hands it to reach. */
static void send_signal(struct wv_identity *id, const uint8_t client[32], const char *signal_id,
                        const Wavry__Signal__Signal *signal)
{
    struct reach_desk *d = id->reach;
    uint8_t plain[RIFT_OFFER_MAX_BYTES], sealed[RIFT_OFFER_MAX_BYTES], to[32];
    const struct rift_offer_end end = {true, d->secret, d->public, client};
    size_t len = wavry__signal__signal__get_packed_size(signal), sealed_len;
    if (len > sizeof plain - RIFT_OFFER_OVERHEAD)
        return;
    wavry__signal__signal__pack(signal, plain);
    if (rift_offer_seal(&end, NULL, plain, len, sealed, sizeof sealed, &sealed_len) < 0)
        return;
    memcpy(to, client, sizeof to);
    Wavry__Bus__SealedSignal m = WAVRY__BUS__SEALED_SIGNAL__INIT;
    m.peer_key = (ProtobufCBinaryData){.len = sizeof to, .data = to};
    m.id = (char *)(uintptr_t)signal_id;
    m.sealed = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    (void)wv_identity_send(id, WV_TO_REACH, &m.base); /* unsent: the client offers again */
}

static void refuse(struct wv_identity *id, const uint8_t client[32], const char *signal_id,
                   ProtobufCBinaryData offer_id, const char *why)
{
    Wavry__Signal__Answer answer = WAVRY__SIGNAL__ANSWER__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    answer.id = offer_id;
    answer.refused = (char *)(uintptr_t)why;
    answer.unix_s = wv_identity_unix(id);
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_ANSWER;
    signal.answer = &answer;
    send_signal(id, client, signal_id, &signal);
}

static struct pending *pending_room(struct reach_desk *d, uint64_t now)
{
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (d->pending[i].until_ns <= now)
            return &d->pending[i];
    return NULL;
}

static bool tell_transport(struct wv_identity *id, const uint8_t client[32],
                           const Wavry__Signal__Offer *offer)
{
    Wavry__Bus__PathOffer m = WAVRY__BUS__PATH_OFFER__INIT;
    Wavry__Bus__PathCandidate candidates[CANDIDATES_MAX], *list[CANDIDATES_MAX];
    uint8_t key[32];
    memcpy(key, client, sizeof key);
    m.id = offer->id;
    m.client_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    m.punch_secret = offer->punch_secret;
    m.candidates = list;
    for (size_t i = 0; i < offer->n_candidates; i++) {
        wavry__bus__path_candidate__init(&candidates[i]);
        candidates[i].address = offer->candidates[i]->address;
        candidates[i].kind = (uint32_t)offer->candidates[i]->kind;
        candidates[i].priority = offer->candidates[i]->priority;
        list[m.n_candidates++] = &candidates[i];
    }
    return wv_identity_send(id, WV_TO_TRANSPORT, &m.base);
}

static bool offer_is_whole(const Wavry__Signal__Offer *o)
{
    if (o->id.len != RIFT_OFFER_ID_BYTES || o->punch_secret.len != 32 || o->n_candidates > CANDIDATES_MAX ||
        (o->relay_key.len != 0 && o->relay_key.len != 32))
        return false;
    for (size_t i = 0; i < o->n_candidates; i++)
        if (o->candidates[i]->address.len != ADDRESS_BYTES)
            return false;
    return true;
}

/* Returns whether it was of use. */
static bool take_offer(struct wv_identity *id, const uint8_t client[32], const char *signal_id,
                       const Wavry__Signal__Offer *offer, uint64_t now)
{
    struct reach_desk *d = id->reach;
    if (!offer_is_whole(offer))
        return false;
    int verdict = rift_offer_take(&d->memory, offer->id.data, client, offer->unix_s, wv_identity_unix(id));
    struct pending *p = pending_room(d, now);
    if (verdict == RIFT_OFFER_REPLAYED)
        return false;
    if (verdict == RIFT_OFFER_CLOCK) {
        refuse(id, client, signal_id, offer->id, "clock");
    } else if (verdict == RIFT_OFFER_BUSY || !p || !tell_transport(id, client, offer)) {
        refuse(id, client, signal_id, offer->id, "busy");
    } else {
        p->until_ns = now + PENDING_NS;
        memcpy(p->id, offer->id.data, sizeof p->id);
        memcpy(p->client, client, sizeof p->client);
        snprintf(p->signal_id, sizeof p->signal_id, "%s", signal_id);
    }
    return true;
}

static bool take_lease(struct wv_identity *id, const Wavry__Signal__Lease *lease)
{
    Wavry__Bus__PathLease m = WAVRY__BUS__PATH_LEASE__INIT;
    if (lease->id.len != RIFT_OFFER_ID_BYTES || lease->lease.len != RIFT_LEASE_BYTES ||
        lease->relay_address.len != ADDRESS_BYTES)
        return false;
    m.id = lease->id;
    m.lease = lease->lease;
    m.address = lease->relay_address;
    (void)wv_identity_send(id, WV_TO_TRANSPORT, &m.base); /* unsent: the client renews it */
    return true;
}

/* Who may be answered at all; NAME for the log. */
static bool may_ask(struct wv_identity *id, const uint8_t key[32], uint64_t now, const char **ret_name)
{
    wv_identity_refresh(id);
    const struct wv_peer *peer = wv_peers_find(wv_peers_file_list(id->peers), key);
    if (peer && peer->expires && wv_identity_unix(id) >= peer->expires)
        peer = NULL;
    *ret_name = peer ? peer->name : "";
    return peer || wv_pairing_is_open(id->pairing, now);
}

static bool open_signal(struct wv_identity *id, const Wavry__Bus__SealedSignal *m, const char *name,
                        uint64_t now)
{
    struct reach_desk *d = id->reach;
    uint8_t plain[RIFT_OFFER_MAX_BYTES];
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    size_t len;
    const struct rift_offer_end end = {true, d->secret, d->public, m->peer_key.data};
    if (rift_offer_open(&end, m->sealed.data, m->sealed.len, plain, sizeof plain, &len) < 0)
        return false;
    Wavry__Signal__Signal *signal = wavry__signal__signal__unpack(NULL, len, plain);
    sodium_memzero(plain, sizeof plain);
    if (!signal)
        return false;
    bool good = false;
    rift_public_key_format(m->peer_key.data, key);
    if (signal->kind_case == WAVRY__SIGNAL__SIGNAL__KIND_OFFER) {
        good = take_offer(id, m->peer_key.data, m->id, signal->offer, now);
        if (good)
            wv_notice("a client asks through the gateway for a way to this host", "key=%s name=\"%s\"", key,
                      name);
    } else if (signal->kind_case == WAVRY__SIGNAL__SIGNAL__KIND_LEASE) {
        good = take_lease(id, signal->lease);
        if (good)
            wv_info("a client brought a relay's lease", "key=%s name=\"%s\"", key, name);
    }
    wavry__signal__signal__free_unpacked(signal, NULL);
    return good;
}

int wv_reach_on_signal(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    const Wavry__Bus__SealedSignal *m = (const Wavry__Bus__SealedSignal *)base;
    const char *name;
    wv_metric_add(id->metrics, WV_IDENTITY_SIGNALS, 1);
    bool good = m->peer_key.len == 32 && strlen(m->id) < SIGNAL_ID_BYTES;
    if (good && !may_ask(id, m->peer_key.data, now, &name)) {
        char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
        rift_public_key_format(m->peer_key.data, key);
        wv_notice("a signal of a key that may not connect was dropped", "key=%s", key);
        good = false;
    }
    good = good && open_signal(id, m, name, now);
    if (!good)
        wv_metric_add(id->metrics, WV_IDENTITY_SIGNALS_BAD, 1);
    return 0;
}

static void remember_answer(struct reach_desk *d, struct pending *p)
{
    struct answered *a = &d->answered[d->next_answered++ % ANSWERED_MAX];
    a->used = true;
    memcpy(a->id, p->id, sizeof a->id);
    memcpy(a->client, p->client, sizeof a->client);
    memcpy(a->signal_id, p->signal_id, sizeof a->signal_id);
    p->until_ns = 0;
}

/* The offer that is answered, also one that was answered before: then its client, which may not be allowed
 * any more, hears where this host is now. NULL: none of that id. */
static const struct answered *find_offer(struct wv_identity *id, const ProtobufCBinaryData *offer,
                                         uint64_t now)
{
    struct reach_desk *d = id->reach;
    const char *name;
    if (offer->len != RIFT_OFFER_ID_BYTES)
        return NULL;
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (d->pending[i].until_ns > now && !memcmp(d->pending[i].id, offer->data, offer->len)) {
            remember_answer(d, &d->pending[i]);
            return &d->answered[(d->next_answered - 1) % ANSWERED_MAX];
        }
    for (size_t i = 0; i < ANSWERED_MAX; i++)
        if (d->answered[i].used && !memcmp(d->answered[i].id, offer->data, offer->len) &&
            may_ask(id, d->answered[i].client, now, &name))
            return &d->answered[i];
    return NULL;
}

int wv_reach_on_path_answer(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    struct reach_desk *d = id->reach;
    const Wavry__Bus__PathAnswer *m = (const Wavry__Bus__PathAnswer *)base;
    Wavry__Signal__Answer answer = WAVRY__SIGNAL__ANSWER__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    Wavry__Signal__Candidate candidates[CANDIDATES_MAX], *list[CANDIDATES_MAX];
    const struct answered *p =
        m->relay_key.len == 0 || m->relay_key.len == 32 ? find_offer(id, &m->id, now) : NULL;
    if (!p)
        return 0;
    answer.id = m->id;
    answer.candidates = list;
    answer.relay_key = m->relay_key;
    answer.refused = m->refused[0] ? (char *)"busy" : m->refused;
    answer.unix_s = wv_identity_unix(id);
    for (size_t i = 0; i < d->n_local + m->n_candidates && answer.n_candidates < CANDIDATES_MAX; i++) {
        struct candidate *own = i < d->n_local ? &d->local[i] : NULL;
        const Wavry__Bus__PathCandidate *c = own ? NULL : m->candidates[i - d->n_local];
        Wavry__Signal__Candidate *to = &candidates[answer.n_candidates];
        if (c && c->address.len != ADDRESS_BYTES)
            continue;
        wavry__signal__candidate__init(to);
        to->address = own ? (ProtobufCBinaryData){.len = ADDRESS_BYTES, .data = own->address} : c->address;
        to->kind = (Wavry__Signal__Candidate__Kind)(own ? own->kind : c->kind);
        to->priority = own ? own->priority : c->priority;
        list[answer.n_candidates++] = to;
    }
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_ANSWER;
    signal.answer = &answer;
    send_signal(id, p->client, p->signal_id, &signal);
    wv_metric_add(id->metrics, WV_IDENTITY_OFFERS, 1);
    return 0;
}

/* ---- the administrator ---- */

static int set_gateway(struct wv_identity *id, const char *url, char *reply, size_t capacity)
{
    struct reach_desk *d = id->reach;
    char line[URL_BYTES + 1];
    if (*url && !is_url(url)) {
        snprintf(reply, capacity, "a gateway is given as https://HOST:PORT");
        return -EINVAL;
    }
    int n = snprintf(line, sizeof line, "%s\n", url);
    int r = *url ? wv_write_file_atomic(d->path, line, (size_t)n, 0600) : 0;
    if (!*url && unlink(d->path) < 0 && errno != ENOENT)
        r = -errno;
    if (r < 0) {
        snprintf(reply, capacity, "%s can't be written: %s", d->path, strerror(-r));
        return r;
    }
    snprintf(d->url, sizeof d->url, "%s", url);
    wv_notice(*url ? "this host is registered with a gateway" : "this host is registered with no gateway",
              "gateway=\"%s\"", url);
    tell_gateway(id);
    snprintf(reply, capacity, "%s", *url ? url : "none");
    return 0;
}

/* Reads 32 bytes of base64 at *TEXT and goes behind them and a space. */
static bool take_bytes(const char **text, uint8_t ret[32])
{
    const char *end;
    size_t n, len = strcspn(*text, " ");
    if (sodium_base642bin(ret, 32, *text, len, NULL, &n, &end, BASE64) != 0 || n != 32 || end != *text + len)
        return false;
    *text += len + ((*text)[len] == ' ');
    return true;
}

/* "NAME CHALLENGE EXCHANGE": "KEY SIGN-KEY SIGNATURE KEY-PROOF", with which the administrator registers this
 * host. Only he may ask for it: reach never brings an exchange. */
static int sign_for(const struct reach_desk *d, const char *text, char *reply, size_t capacity)
{
    char name[NAME_BYTES], sign_key[RIFT_SIGN_KEY_TEXT_BYTES], key[RIFT_PUBLIC_KEY_TEXT_BYTES],
        signature_text[100], proof_text[64];
    uint8_t challenge[CHALLENGE_BYTES], exchange[32], signature[64], proof[RIFT_PROVE_KEY_BYTES];
    size_t len = strcspn(text, " ");
    const char *rest = text + len + 1;
    if (len == 0 || len >= sizeof name || !text[len] || !take_bytes(&rest, challenge) ||
        !take_bytes(&rest, exchange) || *rest) {
        snprintf(reply, capacity,
                 "what is to be signed is HOST:PORT, a challenge and a key of 32 bytes each");
        return -EINVAL;
    }
    memcpy(name, text, len);
    name[len] = '\0';
    const struct rift_prove_key what = {name, challenge, exchange, d->public, d->sign_public};
    if (rift_prove_gateway(d->sign_secret, name, challenge, signature) < 0 ||
        rift_prove_key(&what, d->secret, proof) < 0) {
        snprintf(reply, capacity, "that gateway's name or key can't be signed for");
        return -EINVAL;
    }
    rift_public_key_format(d->public, key);
    rift_sign_key_format(d->sign_public, sign_key);
    sodium_bin2base64(signature_text, sizeof signature_text, signature, sizeof signature, BASE64);
    sodium_bin2base64(proof_text, sizeof proof_text, proof, sizeof proof, BASE64);
    snprintf(reply, capacity, "%s %s %s %s", key, sign_key, signature_text, proof_text);
    wv_notice("the administrator signed for a gateway", "gateway=\"%s\"",
              wv_text_is_printable(name, len) ? name : "?");
    return 0;
}

int wv_reach_request(struct wv_identity *id, const char *verb, const char *text, char *reply, size_t capacity)
{
    if (!strcmp(verb, "gateway-set"))
        return set_gateway(id, text, reply, capacity);
    if (!strcmp(verb, "gateway-sign"))
        return sign_for(id->reach, text, reply, capacity);
    snprintf(reply, capacity, "%s", id->reach->url[0] ? id->reach->url : "none");
    return 0;
}
