/* The arbiter: who is connected, who controls, and which key the pictures have; and that everybody whom it
 * concerns is told. Must never leave a key with somebody who may not have it any longer, or rely on
 * transport's word for what a session may do. */
#include "services/identity/internal.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define RETRY_FIRST_NS (20 * WV_NS_PER_MS)
#define RETRY_MAX_NS   WV_NS_PER_S
#define CURSOR_LABEL   "RIFT 1 cursor"

void wv_arbiter_key_text(const struct wv_live_session *s, char ret[RIFT_PUBLIC_KEY_TEXT_BYTES])
{
    rift_public_key_format(s->peer_key, ret);
}

static bool send_end(struct wv_identity *id, uint32_t number, enum rift_close_reason reason, const char *text)
{
    char copy[128];
    Wavry__Bus__SessionEnd m = WAVRY__BUS__SESSION_END__INIT;
    snprintf(copy, sizeof copy, "%s", text);
    m.session = number;
    m.reason = reason;
    m.text = copy;
    return wv_identity_send(id, WV_TO_TRANSPORT, &m.base);
}

/* The session's keys go with it; what wakes transport up is only so that its client hears of it. */
static void forget(struct wv_identity *id, struct wv_live_session *s)
{
    wv_pairing_end(id->pairing, s->number);
    wv_live_remove(id->live, s);
}

void wv_arbiter_end(struct wv_identity *id, struct wv_live_session *s, enum rift_close_reason reason,
                    const char *text)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint32_t number = s->number;
    wv_arbiter_key_text(s, key);
    wv_notice("a session was ended", "session=%u key=%s name=\"%s\" why=\"%s\"", number, key, s->name, text);
    forget(id, s);
    (void)send_end(id, number, reason, text); /* unsent: transport names it again, and is told then */
}

void wv_arbiter_check(struct wv_identity *id)
{
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        struct wv_live_session *s = &id->live->sessions[i];
        if (!s->number || s->pairing)
            continue;
        const struct wv_peer *peer = wv_peers_find(wv_peers_file_list(id->peers), s->peer_key);
        if (!peer)
            wv_arbiter_end(id, s, RIFT_CLOSE_REVOKED, "the host took back the permission to connect");
        else
            wv_live_grant(id->live, s, peer->grants, peer->expires, peer->name);
    }
}

/* ---- telling ---- */

/* Returns whether input knows: what it may not use any more comes first. */
static bool tell_input(struct wv_identity *id)
{
    uint32_t number = id->live->controller;
    if (id->input_told && id->input_has == number)
        return true;
    struct wv_live_session *s = wv_live_find(id->live, number);
    Wavry__Bus__Controller m = WAVRY__BUS__CONTROLLER__INIT;
    m.session = number;
    if (s)
        m.key = (ProtobufCBinaryData){.len = sizeof s->input_key, .data = s->input_key};
    id->input_told = wv_identity_send(id, WV_TO_INPUT, &m.base);
    id->input_has = number;
    return id->input_told;
}

static void note_controller(struct wv_identity *id)
{
    const struct wv_live_session *s = wv_live_find(id->live, id->live->controller);
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES] = "";
    if (!s) {
        wv_notice("nobody controls", "session=0");
        return;
    }
    wv_arbiter_key_text(s, key);
    wv_notice("a session controls", "session=%u key=%s name=\"%s\"", s->number, key, s->name);
}

static bool tell_transport(struct wv_identity *id, uint64_t now)
{
    uint32_t number = id->live->controller;
    bool pairing = wv_pairing_is_open(id->pairing, now);
    if (!id->transport_told || id->transport_has != number) {
        Wavry__Bus__ControllerIs m = WAVRY__BUS__CONTROLLER_IS__INIT;
        m.session = number;
        if (id->transport_has != number)
            note_controller(id);
        id->transport_told = wv_identity_send(id, WV_TO_TRANSPORT, &m.base);
        id->transport_has = number;
    }
    if (!id->first_key_told || id->first_key_pairing != pairing) {
        Wavry__Bus__FirstKey m = WAVRY__BUS__FIRST_KEY__INIT;
        m.host_key = (ProtobufCBinaryData){.len = sizeof id->key, .data = id->key};
        m.pairing = pairing;
        id->first_key_told = wv_identity_send(id, WV_TO_TRANSPORT, &m.base);
        id->first_key_pairing = pairing;
    }
    return id->transport_told && id->first_key_told;
}

static bool tell_media_key(struct wv_identity *id, struct wv_live_session *s, struct told *t)
{
    if (!wv_live_sees(s) || !id->live->kid || t->kid == id->live->kid)
        return true;
    uint8_t key[sizeof id->live->media_key];
    Wavry__Rift__MediaKeyGrant grant = WAVRY__RIFT__MEDIA_KEY_GRANT__INIT;
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    memcpy(key, id->live->media_key, sizeof key);
    grant.kid = id->live->kid;
    grant.key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_MEDIA_KEY;
    m.media_key = &grant;
    bool sent = wv_talk_send(id, s, &m);
    sodium_memzero(key, sizeof key);
    if (sent)
        t->kid = id->live->kid;
    return sent;
}

static bool send_standing(struct wv_identity *id, struct wv_live_session *s, const struct told *t)
{
    char *words[WV_GRANTS];
    Wavry__Rift__Standing standing = WAVRY__RIFT__STANDING__INIT;
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    for (unsigned i = 0; i < WV_GRANTS; i++)
        if (t->grants & (1u << i))
            words[standing.n_grants++] = (char *)(uintptr_t)wv_grant_name(i);
    standing.grants = words;
    standing.controls = t->controls;
    standing.expires = t->expires;
    standing.notice = (char *)(uintptr_t)t->notice;
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_STANDING;
    m.standing = &standing;
    return wv_talk_send(id, s, &m);
}

static bool tell_standing(struct wv_identity *id, struct wv_live_session *s, struct told *t)
{
    const struct wv_live_session *other = wv_live_find(id->live, id->live->controller);
    struct told now = {.standing = true, .grants = s->grants, .expires = s->expires, .controls = other == s};
    if (s->pairing)
        return true;
    if (other && other != s)
        snprintf(now.notice, sizeof now.notice, "%s controls", other->name);
    else if (!other)
        snprintf(now.notice, sizeof now.notice, "nobody controls");
    if (t->standing && t->grants == now.grants && t->expires == now.expires && t->controls == now.controls &&
        !strcmp(t->notice, now.notice))
        return true;
    now.standing = send_standing(id, s, &now);
    now.number = t->number;
    now.kid = t->kid;
    *t = now;
    return now.standing;
}

static bool tell_clients(struct wv_identity *id)
{
    bool all = true;
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        struct wv_live_session *s = &id->live->sessions[i];
        struct told *t = &id->told[i];
        if (t->number != s->number)
            *t = (struct told){.number = s->number};
        if (!s->number)
            continue;
        bool key = tell_media_key(id, s, t);
        bool standing = tell_standing(id, s, t);
        all = all && key && standing;
    }
    return all;
}

/* After the clients: they need the key before the first picture under it. */
static bool tell_encoder(struct wv_identity *id)
{
    if (!id->live->kid || id->encoder_kid == id->live->kid)
        return true;
    Wavry__Bus__MediaKey m = WAVRY__BUS__MEDIA_KEY__INIT;
    m.kid = id->live->kid;
    m.key = (ProtobufCBinaryData){.len = sizeof id->live->media_key, .data = id->live->media_key};
    bool sent = wv_identity_send(id, WV_TO_ENCODER, &m.base);
    /* An encoder that wasn't there asks when it is, and gets another. */
    id->encoder_kid = sent ? m.kid : 0;
    return sent;
}

static bool tell_capture(struct wv_identity *id)
{
    if (!id->live->kid || id->capture_kid == id->live->kid)
        return true;
    uint8_t key[32];
    Wavry__Bus__CursorKey m = WAVRY__BUS__CURSOR_KEY__INIT;
    (void)crypto_generichash(key, sizeof key, (const uint8_t *)CURSOR_LABEL, strlen(CURSOR_LABEL),
                             id->live->media_key, sizeof id->live->media_key);
    m.kid = id->live->kid;
    m.key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    bool sent = wv_identity_send(id, WV_TO_CAPTURE, &m.base);
    sodium_memzero(key, sizeof key);
    id->capture_kid = sent ? m.kid : 0;
    return sent;
}

static void rekey(struct wv_identity *id, uint64_t now)
{
    wv_live_rekey(id->live, now);
    wv_metric_add(id->metrics, WV_IDENTITY_MEDIA_KEYS, 1);
    wv_debug("a new media key", "kid=%u", id->live->kid);
}

/* Grants end at their second, so that one is waited for in small steps: the wall clock may be set. */
static uint64_t next_end(const struct wv_live_session *s, uint64_t now, uint64_t unix_s)
{
    if (s->pairing)
        return s->since_ns + WV_LIVE_PAIRING_NS;
    if (!s->expires)
        return UINT64_MAX;
    return now + (s->expires > unix_s + 1 ? WV_NS_PER_S : WV_NS_PER_S / 20);
}

static uint64_t next_tick(struct wv_identity *id, uint64_t now)
{
    uint64_t next = id->retry_at ? id->retry_at : UINT64_MAX;
    uint64_t until = wv_pairing_until(id->pairing, now), unix_s = wv_identity_unix(id);
    if (until)
        next = WV_MIN(next, until);
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        if (id->live->sessions[i].number)
            next = WV_MIN(next, next_end(&id->live->sessions[i], now, unix_s));
    return next == UINT64_MAX ? 0 : next;
}

void wv_arbiter_sync(struct wv_identity *id, uint64_t now)
{
    wv_live_settle(id->live);
    if (id->live->key_due && id->live->kid)
        rekey(id, now);
    bool all = tell_input(id);
    all = tell_transport(id, now) && all;
    all = tell_clients(id) && all;
    all = tell_encoder(id) && all;
    all = tell_capture(id) && all;
    wv_metric_set(id->metrics, WV_IDENTITY_SESSIONS, wv_live_count(id->live));
    if (all) {
        id->retry_at = id->retry_ns = 0;
    } else if (!id->retry_at || now >= id->retry_at) {
        id->retry_ns = id->retry_ns ? WV_MIN(2 * id->retry_ns, RETRY_MAX_NS) : RETRY_FIRST_NS;
        id->retry_at = now + id->retry_ns;
    }
    if (id->timer)
        wv_loop_timer_at(id->timer, next_tick(id, now));
}

uint64_t wv_identity_tick(struct wv_identity *id, uint64_t now)
{
    uint64_t unix_s = wv_identity_unix(id);
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        struct wv_live_session *s = &id->live->sessions[i];
        if (s->number && wv_live_is_over(s, now, unix_s))
            wv_arbiter_end(id, s, s->pairing ? RIFT_CLOSE_NORMAL : RIFT_CLOSE_REVOKED,
                           s->pairing ? "the time for pairing is over"
                                      : "the time of the permission is over");
    }
    wv_arbiter_sync(id, now);
    return next_tick(id, now);
}

/* ---- what the stages ask and say ---- */

/* A new process of transport: what it was told before, and what it had not yet passed on, is gone. */
int wv_arbiter_on_first_key_question(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct wv_identity *id = userdata;
    id->first_key_told = id->transport_told = false;
    memset(id->told, 0, sizeof id->told);
    wv_arbiter_sync(id, now);
    return 0;
}

/* A session of transport's that we don't know: of a page that is lost, or of a client that was turned away.
 */
static void turn_away(struct wv_identity *id, uint32_t number, const uint8_t key[32])
{
    if (wv_peers_find(wv_peers_file_list(id->peers), key))
        (void)send_end(id, number, RIFT_CLOSE_SHUTDOWN, "the host has forgotten this session: connect again");
    else
        (void)send_end(id, number, RIFT_CLOSE_UNAUTHORIZED, "the host does not know this key");
}

static void bury(struct wv_identity *id, const bool named[WV_LIVE_MAX], uint64_t now)
{
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        struct wv_live_session *s = &id->live->sessions[i];
        char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
        if (!s->number || named[i] || !wv_live_missing(s, now))
            continue;
        wv_arbiter_key_text(s, key);
        wv_notice("a session has ended", "session=%u key=%s name=\"%s\"", s->number, key, s->name);
        forget(id, s);
    }
}

int wv_arbiter_on_sessions_alive(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    const Wavry__Bus__SessionsAlive *m = (const Wavry__Bus__SessionsAlive *)base;
    bool named[WV_LIVE_MAX] = {false};
    if (m->n_session != m->n_peer_key)
        return 0;
    for (size_t i = 0; i < m->n_session; i++) {
        if (m->peer_key[i].len != 32)
            continue;
        if (wv_live_seen(id->live, m->session[i], m->peer_key[i].data) != 0)
            turn_away(id, m->session[i], m->peer_key[i].data);
        else
            named[wv_live_find(id->live, m->session[i]) - id->live->sessions] = true;
    }
    bury(id, named, now);
    wv_arbiter_sync(id, now);
    return 0;
}

/* A process of the encoder never goes on with a key that another had: its numbers begin anew. */
int wv_arbiter_on_media_key_question(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct wv_identity *id = userdata;
    rekey(id, now);
    wv_arbiter_sync(id, now);
    return 0;
}

int wv_arbiter_on_cursor_key_question(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct wv_identity *id = userdata;
    id->capture_kid = 0;
    wv_arbiter_sync(id, now);
    return 0;
}

int wv_arbiter_on_controller_question(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct wv_identity *id = userdata;
    id->input_told = false;
    wv_arbiter_sync(id, now);
    return 0;
}
