/* Handshakes: datagrams to the table of half-open associations, its questions to the identity stage, and
 * answers back. Must never look into a Noise message or start a session that the identity stage has not
 * vouched for. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_identity.pb-c.h"
#include "services/transport/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int handshake_init(struct wv_transport *t)
{
    uint8_t secret[32];
    if (getrandom(secret, sizeof secret, 0) != sizeof secret)
        return -EIO;
    int r = rift_responder_new(&t->responder, secret, HALF_OPEN_MAX, wv_now_ns());
    explicit_bzero(secret, sizeof secret);
    return r;
}

static void ask(struct wv_transport *t, const struct wv_address *from,
                struct rift_responder_question *question, uint64_t now)
{
    char address[WV_ADDRESS_TEXT_BYTES];
    Wavry__Bus__HandshakeQuestion message = WAVRY__BUS__HANDSHAKE_QUESTION__INIT;
    message.token = question->token;
    message.initiator_id = question->initiator_id;
    message.local_id = question->local_id;
    message.step = question->step;
    message.message = (ProtobufCBinaryData){.len = question->len, .data = question->message};
    wv_address_format(from, address);
    message.address = address;
    if (wv_bus_send(t->links.identity, &message.base) != WV_BUS_UNSENT)
        return;
    identity_away(t, now);
    wv_metric_add(t->metrics, WV_T_DROPPED_UNANSWERED, 1);
    /* Forgotten, so that the client's next repetition is asked at once. A message 3 is asked again anyway. */
    if (question->step == 1)
        rift_responder_refuse(t->responder, question->token);
}

static uint64_t count_junk(const struct wv_transport *t)
{
    struct rift_responder_stats s;
    rift_responder_get_stats(t->responder, &s);
    return s.unkeyed + s.malformed + s.dropped;
}

bool handshake_receive(struct wv_transport *t, const struct wv_address *from, const uint8_t *datagram,
                       size_t len, uint64_t now)
{
    struct rift_responder_question question;
    if (t->draining || t->handing_over)
        return false;
    uint64_t junk = count_junk(t);
    if (rift_responder_receive(t->responder, from->bytes, datagram, len, session_new_id(t), now, &question) ==
        0)
        ask(t, from, &question, now);
    return count_junk(t) == junk;
}

void handshake_send(struct wv_transport *t, uint64_t now)
{
    uint8_t *slot;
    struct wv_address to;
    size_t len;
    while ((slot = wv_udp_slot(t->udp)) &&
           rift_responder_send(t->responder, slot, RIFT_MTU_BYTES, now, to.bytes, &len) == 0)
        paths_commit(t, &to, len, wv_udp_tos(RIFT_CLASS_CONTROL, RIFT_ECN_NONE));
}

void handshake_count(struct wv_transport *t)
{
    struct rift_responder_stats s, *seen = &t->responder_seen;
    rift_responder_get_stats(t->responder, &s);
    wv_metric_add(t->metrics, WV_T_HANDSHAKES_STARTED, s.started - seen->started);
    wv_metric_add(t->metrics, WV_T_HANDSHAKES_FINISHED, s.finished - seen->finished);
    wv_metric_add(t->metrics, WV_T_HANDSHAKES_EXPIRED, s.expired - seen->expired);
    wv_metric_add(t->metrics, WV_T_COOKIES_SENT, s.cookies_sent - seen->cookies_sent);
    wv_metric_add(t->metrics, WV_T_DROPPED_MALFORMED, s.malformed - seen->malformed);
    wv_metric_add(t->metrics, WV_T_DROPPED_HANDSHAKE, s.dropped - seen->dropped);
    wv_metric_add(t->metrics, WV_T_DROPPED_UNKEYED, s.unkeyed - seen->unkeyed);
    *seen = s;
}

int on_handshake_answer(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__HandshakeAnswer *m = (const Wavry__Bus__HandshakeAnswer *)base;
    /* -ENOENT: the client gave up or asked anew meanwhile; its next datagram starts over. */
    (void)rift_responder_answer(t->responder, m->token, m->message.data, m->message.len, now);
    transport_pump(t, now);
    return 0;
}

int on_handshake_refused(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__HandshakeRefused *m = (const Wavry__Bus__HandshakeRefused *)base;
    if (m->keep) /* what came was forged, the true one may follow */
        rift_responder_keep(t->responder, m->token);
    else
        rift_responder_refuse(t->responder, m->token);
    wv_metric_add(t->metrics, WV_T_HANDSHAKES_REFUSED, 1);
    wv_info("a handshake was refused", "why=\"%.80s\"", m->reason);
    return 0;
}

static bool is_well_formed(const Wavry__Bus__HandshakeDone *m)
{
    return m->key_send.len == KEY_BYTES && m->key_receive.len == KEY_BYTES && m->peer_key.len == KEY_BYTES &&
           strlen(m->name) < WV_PEER_TEXT_BYTES && (m->session || !(m->authorized || m->pairing));
}

int on_handshake_done(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__HandshakeDone *m = (const Wavry__Bus__HandshakeDone *)base;
    struct rift_session_config config = {0};
    struct wv_client_hello hello;
    struct wv_address address;
    if (!is_well_formed(m) || wv_client_hello_parse(m->payload.data, m->payload.len, &hello) < 0) {
        rift_responder_refuse(t->responder, m->token);
        wv_metric_add(t->metrics, WV_T_HANDSHAKES_REFUSED, 1);
        return 0;
    }
    if (t->draining || t->handing_over ||
        rift_responder_complete(t->responder, m->token, m->key_send.data, m->key_receive.data, now, &config,
                                address.bytes) < 0)
        return 0;
    const struct session_start start = {.config = &config,
                                        .address = &address,
                                        .peer_key = m->peer_key.data,
                                        .name = m->name,
                                        .hello = &hello,
                                        .number = m->session,
                                        .authorized = m->authorized,
                                        .pairing = m->pairing && !m->authorized};
    session_begin(t, &start, now);
    explicit_bzero(&config, sizeof config);
    transport_pump(t, now);
    return 0;
}
