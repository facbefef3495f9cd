/* Messages of the inner channel; see inner.h. */
#include "client/inner.h"

#include "client/control.h"
#include "lib/base/util.h"
#include "proto/rift.pb-c.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned grant;
} grant_names[] = {
    {"view", WV_CLIENT_GRANT_VIEW},
    {"input", WV_CLIENT_GRANT_INPUT},
    {"clipboard-in", WV_CLIENT_GRANT_CLIPBOARD_IN},
    {"clipboard-out", WV_CLIENT_GRANT_CLIPBOARD_OUT},
    {"files-in", WV_CLIENT_GRANT_FILES_IN},
    {"files-out", WV_CLIENT_GRANT_FILES_OUT},
    {"audio", WV_CLIENT_GRANT_AUDIO},
};

static int take_media_key(const Wavry__Rift__MediaKeyGrant *m, struct wv_inner_message *ret)
{
    if (m->kid == 0 || m->key.len != sizeof ret->media_key.key)
        return -EBADMSG;
    ret->kind = WV_INNER_MEDIA_KEY;
    ret->media_key.kid = m->kid;
    memcpy(ret->media_key.key, m->key.data, sizeof ret->media_key.key);
    return 0;
}

/* A grant that is not known here is one that a newer host has. */
static void take_standing(const Wavry__Rift__Standing *m, struct wv_inner_message *ret)
{
    ret->kind = WV_INNER_STANDING;
    for (size_t i = 0; i < m->n_grants; i++)
        for (size_t j = 0; j < WV_ARRAY_SIZE(grant_names); j++)
            if (strcmp(m->grants[i], grant_names[j].name) == 0)
                ret->standing.grants |= grant_names[j].grant;
    ret->standing.controls = m->controls;
    ret->standing.expires = m->expires;
    wv_text_clean(m->notice, ret->standing.notice, sizeof ret->standing.notice);
}

static int take_share(const Wavry__Rift__PairShare *m, struct wv_inner_message *ret)
{
    if (m->share.len != sizeof ret->share)
        return -EBADMSG;
    ret->kind = WV_INNER_PAIR_SHARE;
    memcpy(ret->share, m->share.data, sizeof ret->share);
    return 0;
}

static int take_result(const Wavry__Rift__PairResult *m, struct wv_inner_message *ret)
{
    if (m->tag.len != (m->paired ? sizeof ret->result.tag : 0))
        return -EBADMSG;
    ret->kind = WV_INNER_PAIR_RESULT;
    ret->result.paired = m->paired;
    ret->result.tries_left = m->tries_left;
    if (m->paired)
        memcpy(ret->result.tag, m->tag.data, sizeof ret->result.tag);
    wv_text_clean(m->reason, ret->result.reason, sizeof ret->result.reason);
    return 0;
}

int wv_inner_parse(const uint8_t *plain, size_t len, struct wv_inner_message *ret)
{
    if (len > WV_INNER_MAX_BYTES)
        return -EBADMSG;
    Wavry__Rift__InnerToClient *m = wavry__rift__inner_to_client__unpack(NULL, len, plain);
    if (!m)
        return -EBADMSG;
    struct wv_inner_message out = {.kind = WV_INNER_OTHER};
    int r = 0;
    switch (m->kind_case) {
    case WAVRY__RIFT__INNER_TO_CLIENT__KIND_MEDIA_KEY:
        r = take_media_key(m->media_key, &out);
        if (m->media_key->key.len)
            explicit_bzero(m->media_key->key.data, m->media_key->key.len);
        break;
    case WAVRY__RIFT__INNER_TO_CLIENT__KIND_STANDING:
        take_standing(m->standing, &out);
        break;
    case WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_SHARE:
        r = take_share(m->pair_share, &out);
        break;
    case WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_RESULT:
        r = take_result(m->pair_result, &out);
        break;
    default:
        break;
    }
    wavry__rift__inner_to_client__free_unpacked(m, NULL);
    if (r == 0)
        *ret = out;
    explicit_bzero(&out, sizeof out);
    return r;
}

static int pack(const Wavry__Rift__InnerToHost *m, uint8_t *buffer, size_t capacity)
{
    if (wavry__rift__inner_to_host__get_packed_size(m) > capacity)
        return -EMSGSIZE;
    return (int)wavry__rift__inner_to_host__pack(m, buffer);
}

int wv_inner_pack_pair_start(const uint8_t share[RIFT_CPACE_SHARE_BYTES], const char *name, bool token,
                             uint8_t *buffer, size_t capacity)
{
    uint8_t copy[RIFT_CPACE_SHARE_BYTES];
    memcpy(copy, share, sizeof copy);
    Wavry__Rift__PairStart start = WAVRY__RIFT__PAIR_START__INIT;
    start.share = (ProtobufCBinaryData){.len = sizeof copy, .data = copy};
    start.name = (char *)(uintptr_t)name;
    start.token = token;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_START;
    m.pair_start = &start;
    return pack(&m, buffer, capacity);
}

int wv_inner_pack_pair_confirm(const uint8_t tag[RIFT_CPACE_TAG_BYTES], uint8_t *buffer, size_t capacity)
{
    uint8_t copy[RIFT_CPACE_TAG_BYTES];
    memcpy(copy, tag, sizeof copy);
    Wavry__Rift__PairConfirm confirm = WAVRY__RIFT__PAIR_CONFIRM__INIT;
    confirm.tag = (ProtobufCBinaryData){.len = sizeof copy, .data = copy};
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_CONFIRM;
    m.pair_confirm = &confirm;
    return pack(&m, buffer, capacity);
}

int wv_inner_pack_take_control(bool release, uint8_t *buffer, size_t capacity)
{
    Wavry__Rift__TakeControl take = WAVRY__RIFT__TAKE_CONTROL__INIT;
    take.release = release;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL;
    m.take_control = &take;
    return pack(&m, buffer, capacity);
}

int wv_inner_pack_control(const uint8_t *sealed, size_t len, uint8_t *buffer, size_t capacity)
{
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    m.inner = (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)sealed};
    if (wavry__rift__control_message__get_packed_size(&m) > capacity)
        return -EMSGSIZE;
    return (int)wavry__rift__control_message__pack(&m, buffer);
}
