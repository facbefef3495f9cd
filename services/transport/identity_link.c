/* What identity is told and asked, and its orders: it alone knows who may do what. Must never go on with a
 * session that identity ended, nor take a controller from anybody else. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_identity.pb-c.h"
#include "services/transport/internal.h"

#include <stdio.h>
#include <string.h>

#define ASK_AGAIN_NS  (20 * WV_NS_PER_MS)
#define ASK_UNSENT_NS (5 * WV_NS_PER_MS)
#define ALIVE_NS      WV_NS_PER_S
#define CONFIRM_NS    (520 * WV_NS_PER_MS) /* who is not named for half a second has ended */

void identity_sessions_changed(struct wv_transport *t)
{
    t->identity.alive_changed = true;
    t->identity.alive_at = 0;
}

void identity_away(struct wv_transport *t, uint64_t now)
{
    t->identity.keyed = false;
    t->identity.ask_at = now + ASK_UNSENT_NS;
}

static void ask_first_key(struct wv_transport *t, uint64_t now)
{
    Wavry__Bus__FirstKeyQuestion question = WAVRY__BUS__FIRST_KEY_QUESTION__INIT;
    int sent = wv_bus_send(t->links.identity, &question.base);
    t->identity.ask_at = now + (sent == WV_BUS_UNSENT ? ASK_UNSENT_NS : ASK_AGAIN_NS);
}

static void tell_alive(struct wv_transport *t, uint64_t now)
{
    uint32_t numbers[SLOTS];
    ProtobufCBinaryData keys[SLOTS];
    Wavry__Bus__SessionsAlive message = WAVRY__BUS__SESSIONS_ALIVE__INIT;
    size_t n = 0;
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        if (!session_is_open(s))
            continue;
        numbers[n] = s->number;
        keys[n++] = (ProtobufCBinaryData){.len = sizeof s->peer_key, .data = s->peer_key};
    }
    message.session = numbers;
    message.peer_key = keys;
    message.n_session = message.n_peer_key = n;
    if (wv_bus_send(t->links.identity, &message.base) == WV_BUS_UNSENT) {
        identity_away(t, now);
        t->identity.alive_changed = true; /* also when nothing is alive any more */
        t->identity.alive_at = now + ASK_AGAIN_NS;
        return;
    }
    t->identity.alive_at = t->identity.alive_changed ? now + CONFIRM_NS : n ? now + ALIVE_NS : NEVER;
    t->identity.alive_changed = false;
}

void identity_pump(struct wv_transport *t, uint64_t now)
{
    if (t->draining)
        return;
    if (!t->identity.keyed && now >= t->identity.ask_at)
        ask_first_key(t, now);
    if (now >= t->identity.alive_at)
        tell_alive(t, now);
}

uint64_t identity_timeout(const struct wv_transport *t)
{
    if (t->draining)
        return NEVER;
    return t->identity.keyed ? t->identity.alive_at : WV_MIN(t->identity.ask_at, t->identity.alive_at);
}

int on_first_key(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__FirstKey *m = (const Wavry__Bus__FirstKey *)base;
    if (m->host_key.len != KEY_BYTES) {
        wv_warning("identity sent a host key that can't be", "bytes=%zu", m->host_key.len);
        return 0;
    }
    rift_responder_set_keys(t->responder, m->host_key.data, m->pairing);
    t->identity.keyed = true;
    transport_pump(t, now);
    return 0;
}

int on_controller_is(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__ControllerIs *m = (const Wavry__Bus__ControllerIs *)base;
    t->controller_number = m->session;
    input_find_controller(t, now);
    transport_pump(t, now);
    return 0;
}

int on_key_revoked(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__KeyRevoked *m = (const Wavry__Bus__KeyRevoked *)base;
    if (m->peer_key.len != KEY_BYTES)
        return 0;
    paths_forget_key(t, m->peer_key.data);
    session_close_key(t, m->peer_key.data, RIFT_CLOSE_REVOKED, "this key may no longer connect", now);
    transport_pump(t, now);
    return 0;
}

int on_session_end(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__SessionEnd *m = (const Wavry__Bus__SessionEnd *)base;
    struct session *s = session_by_number(t, m->session);
    char text[128];
    if (!s)
        return 0;
    snprintf(text, sizeof text, "%s", m->text);
    session_close(t, s, m->reason <= RIFT_CLOSE_UNAUTHORIZED ? m->reason : RIFT_CLOSE_NORMAL, text, now);
    transport_pump(t, now);
    return 0;
}
