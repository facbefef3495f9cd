/* Messages of /v1/signal. See signal_message.h. */
#include "services/gateway/signal_message.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/http_head.h"
#include "services/gateway/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RTT_MS_MAX 60000

static const struct wv_json_field hello_fields[] = {{"type", WV_JSON_TEXT, true, 1, 16},
                                                    {"token", WV_JSON_TEXT, true, 43, 43},
                                                    {0}},
                                  sealed_fields[] = {{"type", WV_JSON_TEXT, true, 1, 16},
                                                     {"to", WV_JSON_TEXT, true, 49, 49},
                                                     {"id", WV_JSON_TEXT, true, 1, 32},
                                                     {"sealed", WV_JSON_TEXT, true, 1, WV_SIGNAL_TEXT_MAX},
                                                     {0}},
                                  sessions_fields[] = {{"type", WV_JSON_TEXT, true, 1, 16},
                                                       {"sessions", WV_JSON_LIST, true, 0,
                                                        WV_SESSIONS_PER_HOST},
                                                       {0}},
                                  session_fields[] = {{"peer", WV_JSON_TEXT, true, 49, 49},
                                                      {"path", WV_JSON_TEXT, true, 6, 7},
                                                      {"rtt_ms", WV_JSON_REAL, true, 0, RTT_MS_MAX},
                                                      {"loss", WV_JSON_REAL, true, 0, 1},
                                                      {0}};

static const struct {
    const char *name, *sentence;
} results[WV_SIGNAL_RESULTS] = {
    [WV_SIGNAL_SENT] = {"sent", ""},
    [WV_SIGNAL_OFFLINE] = {"offline", "That machine is not connected now."},
    [WV_SIGNAL_NOT_ALLOWED] = {"not_allowed", "This machine may not reach that one."},
    [WV_SIGNAL_TOO_MANY] = {"too_many", "Too many messages: wait a moment."},
    [WV_SIGNAL_TOO_LARGE] = {"too_large", "The message is too large."},
    [WV_SIGNAL_BAD_MESSAGE] = {"bad_message", "The message can't be understood."},
    [WV_SIGNAL_UNAVAILABLE] = {"unavailable",
                               "The gateway can't reach its database or the other gateways: try again."},
};

const char *wv_signal_result_name(enum wv_signal_result result)
{
    return results[result].name;
}

const char *wv_signal_result_sentence(enum wv_signal_result result)
{
    return results[result].sentence;
}

enum wv_signal_result wv_signal_result_of(const char *name)
{
    unsigned i = 0;
    while (i < WV_SIGNAL_RESULTS && strcmp(results[i].name, name) != 0)
        i++;
    return (enum wv_signal_result)i;
}

bool wv_signal_is_id(const char *id)
{
    size_t len = strnlen(id, WV_SIGNAL_ID_BYTES);
    if (len == 0 || len >= WV_SIGNAL_ID_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        if (id[i] <= ' ' || id[i] > '~' || id[i] == '"' || id[i] == '\\')
            return false;
    return true;
}

bool wv_signal_is_sealed(const char *text, size_t len)
{
    return len > 0 && len < WV_SIGNAL_SEALED_TEXT && len % 4 != 1 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

static int parse_hello(struct wv_signal_message *m, const json_t *o)
{
    const char *token = wv_json_text(o, "token", "");
    m->kind = WV_SIGNAL_HELLO;
    return wv_token_hash(token, strlen(token), m->token) < 0 ? -EBADMSG : 0;
}

static int parse_sealed(struct wv_signal_message *m, const json_t *o)
{
    const char *sealed = wv_json_text(o, "sealed", "");
    size_t len = strlen(sealed);
    m->kind = WV_SIGNAL_SEALED;
    if (len >= WV_SIGNAL_SEALED_TEXT)
        return -EMSGSIZE;
    if (!m->id[0] || rift_public_key_parse(wv_json_text(o, "to", ""), m->to) < 0 ||
        !wv_signal_is_sealed(sealed, len))
        return -EBADMSG;
    memcpy(m->sealed, sealed, len + 1);
    return 0;
}

static int parse_sessions(struct wv_signal_message *m, const json_t *o, char reason[WV_JSON_REASON_BYTES])
{
    const json_t *list = json_object_get(o, "sessions");
    m->kind = WV_SIGNAL_SESSIONS;
    m->n_sessions = json_array_size(list);
    for (size_t i = 0; i < m->n_sessions; i++) {
        const json_t *one = json_array_get(list, i);
        struct wv_session *s = &m->sessions[i];
        if (!json_is_object(one) || wv_json_check(one, session_fields, reason) < 0)
            return -EBADMSG;
        const char *path = wv_json_text(one, "path", "");
        s->relayed = !strcmp(path, "relayed");
        s->rtt_ms = wv_json_real(one, "rtt_ms", 0);
        s->loss = wv_json_real(one, "loss", 0);
        if ((!s->relayed && strcmp(path, "direct") != 0) ||
            rift_public_key_parse(wv_json_text(one, "peer", ""), s->peer) < 0)
            return -EBADMSG;
    }
    return 0;
}

static int parse_object(struct wv_signal_message *m, const json_t *o, char reason[WV_JSON_REASON_BYTES])
{
    const char *type = wv_json_text(o, "type", "");
    const char *id = wv_json_text(o, "id", "");
    if (wv_signal_is_id(id))
        snprintf(m->id, sizeof m->id, "%s", id);
    if (!strcmp(type, "hello"))
        return wv_json_check(o, hello_fields, reason) < 0 ? -EBADMSG : parse_hello(m, o);
    if (!strcmp(type, "signal"))
        return wv_json_check(o, sealed_fields, reason) < 0 ? -EBADMSG : parse_sealed(m, o);
    if (!strcmp(type, "sessions"))
        return wv_json_check(o, sessions_fields, reason) < 0 ? -EBADMSG : parse_sessions(m, o, reason);
    return -EBADMSG;
}

int wv_signal_parse(struct wv_signal_message *ret, const void *data, size_t len, char reason[160])
{
    json_t *o = NULL;
    ret->id[0] = 0;
    if (len > WV_SIGNAL_TEXT_MAX) {
        snprintf(reason, 160, "A message is at most %u bytes.", WV_SIGNAL_TEXT_MAX);
        return -EMSGSIZE;
    }
    int r = wv_json_parse(&o, data, len, reason);
    if (r < 0)
        return -EBADMSG;
    reason[0] = 0;
    r = parse_object(ret, o, reason);
    if (r < 0 && !reason[0])
        snprintf(reason, 160, "%s",
                 results[r == -EMSGSIZE ? WV_SIGNAL_TOO_LARGE : WV_SIGNAL_BAD_MESSAGE].sentence);
    json_decref(o);
    return r;
}

/* ---- texts to machines ---- */

char *wv_signal_write_sealed(size_t headroom, const uint8_t from[WV_STORE_KEY_BYTES], const char *id,
                             const char *sealed, size_t *ret_len)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], *text;
    size_t size = headroom + 96 + sizeof key + strlen(id) + strlen(sealed);
    rift_public_key_format(from, key);
    text = malloc(size);
    if (text)
        *ret_len = (size_t)snprintf(text + headroom, size - headroom,
                                    "{\"type\":\"signal\",\"from\":\"%s\",\"id\":\"%s\",\"sealed\":\"%s\"}",
                                    key, id, sealed);
    return text;
}

char *wv_signal_write_json(size_t headroom, void *take_json, size_t *ret_len)
{
    json_t *o = take_json;
    size_t len = o ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;
    char *text = len ? malloc(headroom + len) : NULL;
    if (text)
        *ret_len = json_dumpb(o, text + headroom, len, JSON_COMPACT);
    json_decref(o);
    return text;
}

char *wv_signal_write_result(size_t headroom, const char *id, enum wv_signal_result result,
                             const char *sentence, size_t *ret_len)
{
    json_t *o = result == WV_SIGNAL_SENT
                    ? json_pack("{s:s}", "type", "sent")
                    : json_pack("{s:s, s:s, s:s}", "type", "error", "error", results[result].name, "message",
                                sentence ? sentence : results[result].sentence);
    if (o && id[0])
        json_object_set_new(o, "id", json_string(id));
    return wv_signal_write_json(headroom, o, ret_len);
}
