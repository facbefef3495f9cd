/* The inner channel: what clients and this stage say to each other, sealed, through a transport that can't
 * read it. Must never answer what does not open, and never act on a session's wish beyond its grants. */
#include "services/identity/internal.h"

#include "lib/base/log.h"

#include <sodium.h>

#define PLAIN_MAX_BYTES 2048

bool wv_talk_send(struct wv_identity *id, struct wv_live_session *s,
                  const Wavry__Rift__InnerToClient *message)
{
    uint8_t plain[PLAIN_MAX_BYTES], sealed[PLAIN_MAX_BYTES + RIFT_INNER_OVERHEAD];
    size_t len = wavry__rift__inner_to_client__get_packed_size(message), sealed_len;
    if (len > sizeof plain)
        return true; /* can't be, and would not fit the second time either */
    wavry__rift__inner_to_client__pack(message, plain);
    int r = rift_inner_seal(&s->inner, plain, len, sealed, sizeof sealed, &sealed_len);
    sodium_memzero(plain, sizeof plain);
    if (r < 0)
        return true;
    Wavry__Bus__InnerMessage m = WAVRY__BUS__INNER_MESSAGE__INIT;
    m.session = s->number;
    m.sealed = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    return wv_identity_send(id, WV_TO_TRANSPORT, &m.base);
}

static void take_control(struct wv_identity *id, struct wv_live_session *s, bool release)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint32_t before = id->live->controller;
    wv_arbiter_key_text(s, key);
    if (wv_live_take(id->live, s, release) != 0)
        wv_notice("a session that may not control asked to", "session=%u key=%s name=\"%s\"", s->number, key,
                  s->name);
    else
        wv_notice(release ? "a session gave up control" : "a session took control",
                  "session=%u key=%s name=\"%s\" before=%u", s->number, key, s->name, before);
}

static void handle(struct wv_identity *id, struct wv_live_session *s, const Wavry__Rift__InnerToHost *m,
                   uint64_t now)
{
    switch (m->kind_case) {
    case WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_START:
        wv_pairs_start(id, s, m->pair_start, now);
        break;
    case WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_CONFIRM:
        wv_pairs_confirm(id, s, m->pair_confirm, now);
        break;
    case WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL:
        if (!s->pairing)
            take_control(id, s, m->take_control->release);
        break;
    default: /* of a newer client */
        break;
    }
}

int wv_talk_on_inner(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    const Wavry__Bus__InnerMessage *m = (const Wavry__Bus__InnerMessage *)base;
    struct wv_live_session *s = wv_live_find(id->live, m->session);
    uint8_t plain[PLAIN_MAX_BYTES];
    size_t len;
    wv_metric_add(id->metrics, WV_IDENTITY_INNER, 1);
    Wavry__Rift__InnerToHost *message = NULL;
    if (s && rift_inner_open(&s->inner, m->sealed.data, m->sealed.len, plain, sizeof plain, &len) == 0)
        message = wavry__rift__inner_to_host__unpack(NULL, len, plain);
    if (!message) {
        wv_metric_add(id->metrics, WV_IDENTITY_INNER_BAD, 1);
        return 0;
    }
    handle(id, s, message, now);
    wavry__rift__inner_to_host__free_unpacked(message, NULL);
    sodium_memzero(plain, sizeof plain);
    wv_arbiter_sync(id, now);
    return 0;
}
