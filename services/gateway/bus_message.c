/* Messages between gateways. See bus_message.h. */
#include "services/gateway/bus_message.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/bus_internal.h"
#include "services/gateway/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STAMP_DIGITS 17

static const char *const kinds[] = {
    [WV_BUS_PRESENCE] = "presence", [WV_BUS_SIGNAL] = "signal", [WV_BUS_ANSWER] = "answer",
    [WV_BUS_SESSIONS] = "sessions", [WV_BUS_RELAY] = "relay",   [WV_BUS_CHANGED] = "changed",
};
static const char *const words[] = {
    [WV_PRESENCE_BEAT] = "beat", [WV_PRESENCE_JOINED] = "joined", [WV_PRESENCE_LEFT] = "left",
    [WV_PRESENCE_ASK] = "ask",   [WV_PRESENCE_LIST] = "list",     [WV_PRESENCE_BYE] = "bye",
};

#define HEAD                                                                                                 \
    {"from", WV_JSON_TEXT, true, 1, WV_BUS_ID_BYTES - 1},                                                    \
    {                                                                                                        \
        "type", WV_JSON_TEXT, true, 1, 16                                                                    \
    }
static const struct wv_json_field
    presence_fields[] = {HEAD,
                         {"word", WV_JSON_TEXT, true, 1, 16},
                         {"count", WV_JSON_INT, true, 0, INT64_MAX},
                         {"digest", WV_JSON_TEXT, true, 16, 16},
                         {"first", WV_JSON_FLAG, true, 0, 0},
                         {"last", WV_JSON_FLAG, true, 0, 0},
                         {"entries", WV_JSON_LIST, true, 0, WV_PRESENCE_LIST_ENTRIES},
                         {0}},
    signal_fields[] = {HEAD,
                       {"number", WV_JSON_INT, true, 0, INT64_MAX},
                       {"sender", WV_JSON_TEXT, true, 49, 49},
                       {"recipient", WV_JSON_TEXT, true, 49, 49},
                       {"id", WV_JSON_TEXT, true, 1, 32},
                       {"sealed", WV_JSON_TEXT, true, 1, WV_SIGNAL_SEALED_TEXT - 1},
                       {0}},
    answer_fields[] = {HEAD,
                       {"number", WV_JSON_INT, true, 0, INT64_MAX},
                       {"result", WV_JSON_TEXT, true, 1, 16},
                       {0}},
    sessions_fields[] = {HEAD,
                         {"host", WV_JSON_TEXT, true, 49, 49},
                         {"account", WV_JSON_TEXT, true, 1, WV_STORE_ID_BYTES - 1},
                         {"name", WV_JSON_TEXT, true, 1, WV_STORE_NAME_BYTES - 1},
                         {"sessions", WV_JSON_LIST, true, 0, WV_SESSIONS_PER_HOST},
                         {0}},
    session_fields[] = {{"peer", WV_JSON_TEXT, true, 49, 49},
                        {"relayed", WV_JSON_FLAG, true, 0, 0},
                        {"rtt_ms", WV_JSON_REAL, true, 0, 60000},
                        {"loss", WV_JSON_REAL, true, 0, 1},
                        {0}},
    relay_fields[] = {HEAD,
                      {"relay", WV_JSON_TEXT, true, 1, RIFT_HEARTBEAT_NAME_MAX},
                      {"at", WV_JSON_INT, true, 0, INT64_MAX},
                      {"load", WV_JSON_INT, true, 0, UINT32_MAX},
                      {"leases", WV_JSON_INT, true, 0, UINT32_MAX},
                      {"draining", WV_JSON_FLAG, true, 0, 0},
                      {"signature", WV_JSON_TEXT, true, 86, 86},
                      {0}},
    changed_fields[] = {HEAD, {"account", WV_JSON_TEXT, true, 0, WV_STORE_ID_BYTES - 1}, {0}};
static const struct wv_json_field *const fields[] = {
    [WV_BUS_PRESENCE] = presence_fields, [WV_BUS_SIGNAL] = signal_fields, [WV_BUS_ANSWER] = answer_fields,
    [WV_BUS_SESSIONS] = sessions_fields, [WV_BUS_RELAY] = relay_fields,   [WV_BUS_CHANGED] = changed_fields,
};

static int index_of(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return (int)i;
    return -EBADMSG;
}

static int read_key(const json_t *o, const char *name, uint8_t ret[WV_STORE_KEY_BYTES])
{
    return rift_public_key_parse(wv_json_text(o, name, ""), ret) < 0 ? -EBADMSG : 0;
}

static json_t *key_text(const uint8_t key[WV_STORE_KEY_BYTES])
{
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(key, text);
    return json_string(text);
}

static void copy(const json_t *o, const char *name, char *ret, size_t capacity)
{
    snprintf(ret, capacity, "%s", wv_json_text(o, name, ""));
}

/* ---- reading ---- */

/* "wavry1...:STAMP", the stamp in hex: a list is long. */
static int parse_entry(struct wv_presence_entry *e, const char *text)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], *end;
    size_t len = strlen(text), digits;
    if (len < sizeof key + 1 || len > sizeof key + STAMP_DIGITS || text[sizeof key - 1] != ':')
        return -EBADMSG;
    memcpy(key, text, sizeof key - 1);
    key[sizeof key - 1] = 0;
    text += sizeof key;
    digits = strspn(text, "0123456789abcdef");
    e->stamp = strtoull(text, &end, 16);
    return text[digits] || e->stamp > WV_PRESENCE_STAMP_MAX || rift_public_key_parse(key, e->key) < 0
               ? -EBADMSG
               : 0;
}

static int parse_presence(struct wv_bus_message *m, const json_t *o)
{
    struct wv_presence_word *w = &m->word;
    const json_t *entries = json_object_get(o, "entries");
    const char *digest = wv_json_text(o, "digest", "");
    int kind = index_of(words, WV_ARRAY_SIZE(words), wv_json_text(o, "word", ""));
    if (kind < 0 || strspn(digest, "0123456789abcdef") != 16)
        return -EBADMSG;
    w->kind = (enum wv_presence_kind)kind;
    w->count = (uint64_t)wv_json_int(o, "count", 0);
    w->digest = strtoull(digest, NULL, 16);
    w->first = wv_json_flag(o, "first", false);
    w->last = wv_json_flag(o, "last", false);
    w->n = json_array_size(entries);
    for (size_t i = 0; i < w->n; i++) {
        const char *text = json_string_value(json_array_get(entries, i));
        if (!text || parse_entry(&w->entries[i], text) < 0)
            return -EBADMSG;
    }
    return 0;
}

static int parse_signal(struct wv_bus_message *m, const json_t *o)
{
    m->number = (uint64_t)wv_json_int(o, "number", 0);
    copy(o, "id", m->id, sizeof m->id);
    copy(o, "sealed", m->sealed, sizeof m->sealed);
    return !wv_signal_is_id(m->id) || !wv_signal_is_sealed(m->sealed, strlen(m->sealed)) ||
                   read_key(o, "sender", m->sender) < 0 || read_key(o, "recipient", m->recipient) < 0
               ? -EBADMSG
               : 0;
}

static int parse_answer(struct wv_bus_message *m, const json_t *o)
{
    m->number = (uint64_t)wv_json_int(o, "number", 0);
    m->result = wv_signal_result_of(wv_json_text(o, "result", ""));
    return m->result == WV_SIGNAL_RESULTS ? -EBADMSG : 0;
}

static int parse_sessions(struct wv_bus_message *m, const json_t *o)
{
    char reason[WV_JSON_REASON_BYTES];
    const json_t *list = json_object_get(o, "sessions");
    copy(o, "account", m->report.account, sizeof m->report.account);
    copy(o, "name", m->report.name, sizeof m->report.name);
    m->report.n = json_array_size(list);
    for (size_t i = 0; i < m->report.n; i++) {
        const json_t *one = json_array_get(list, i);
        struct wv_session *s = &m->report.sessions[i];
        if (!json_is_object(one) || wv_json_check(one, session_fields, reason) < 0 ||
            read_key(one, "peer", s->peer) < 0)
            return -EBADMSG;
        s->relayed = wv_json_flag(one, "relayed", false);
        s->rtt_ms = wv_json_real(one, "rtt_ms", 0);
        s->loss = wv_json_real(one, "loss", 0);
    }
    return read_key(o, "host", m->report.host);
}

static int parse_relay(struct wv_bus_message *m, const json_t *o)
{
    copy(o, "relay", m->relay, sizeof m->relay);
    m->beat = (struct rift_heartbeat){.relay = m->relay,
                                      .unix_s = (uint64_t)wv_json_int(o, "at", 0),
                                      .load = (uint32_t)wv_json_int(o, "load", 0),
                                      .leases = (uint32_t)wv_json_int(o, "leases", 0),
                                      .draining = wv_json_flag(o, "draining", false)};
    return wv_json_bytes(o, "signature", m->signature, sizeof m->signature) < 0 ? -EBADMSG : 0;
}

static int parse_object(struct wv_bus_message *m, const json_t *o)
{
    char reason[WV_JSON_REASON_BYTES];
    int kind = index_of(kinds, WV_ARRAY_SIZE(kinds), wv_json_text(o, "type", ""));
    if (kind < 0 || wv_json_check(o, fields[kind], reason) < 0)
        return -EBADMSG;
    m->kind = (enum wv_bus_message_kind)kind;
    copy(o, "from", m->from, sizeof m->from);
    if (!wv_bus_is_id(m->from))
        return -EBADMSG;
    switch (m->kind) {
    case WV_BUS_PRESENCE:
        return parse_presence(m, o);
    case WV_BUS_SIGNAL:
        return parse_signal(m, o);
    case WV_BUS_ANSWER:
        return parse_answer(m, o);
    case WV_BUS_SESSIONS:
        return parse_sessions(m, o);
    case WV_BUS_RELAY:
        return parse_relay(m, o);
    case WV_BUS_CHANGED:
        copy(o, "account", m->account, sizeof m->account);
        return 0;
    }
    return -EBADMSG;
}

int wv_bus_message_parse(struct wv_bus_message *ret, const void *data, size_t len)
{
    char reason[WV_JSON_REASON_BYTES];
    json_t *o = NULL;
    if (wv_json_parse(&o, data, len, reason) < 0)
        return -EBADMSG;
    int r = parse_object(ret, o);
    json_decref(o);
    return r;
}

/* ---- writing ---- */

static void write_presence(const struct wv_presence_word *w, json_t *o)
{
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES + 1 + STAMP_DIGITS], digest[17];
    json_t *entries = json_array();
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)w->digest);
    for (size_t i = 0; i < w->n; i++) {
        rift_public_key_format(w->entries[i].key, text);
        snprintf(text + RIFT_PUBLIC_KEY_TEXT_BYTES - 1, sizeof text - RIFT_PUBLIC_KEY_TEXT_BYTES + 1, ":%llx",
                 (unsigned long long)w->entries[i].stamp);
        json_array_append_new(entries, json_string(text));
    }
    json_object_set_new(o, "word", json_string(words[w->kind]));
    json_object_set_new(o, "count", json_integer((json_int_t)w->count));
    json_object_set_new(o, "digest", json_string(digest));
    json_object_set_new(o, "first", json_boolean(w->first));
    json_object_set_new(o, "last", json_boolean(w->last));
    json_object_set_new(o, "entries", entries);
}

static void write_sessions(const struct wv_session_report *report, json_t *o)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->n; i++) {
        const struct wv_session *s = &report->sessions[i];
        json_array_append_new(list, json_pack("{s:o, s:b, s:f, s:f}", "peer", key_text(s->peer), "relayed",
                                              s->relayed, "rtt_ms", s->rtt_ms, "loss", s->loss));
    }
    json_object_set_new(o, "host", key_text(report->host));
    json_object_set_new(o, "account", json_string(report->account));
    json_object_set_new(o, "name", json_string(report->name));
    json_object_set_new(o, "sessions", list);
}

static void write_relay(const struct wv_bus_message *m, json_t *o)
{
    json_object_set_new(o, "relay", json_string(m->beat.relay));
    json_object_set_new(o, "at", json_integer((json_int_t)m->beat.unix_s));
    json_object_set_new(o, "load", json_integer(m->beat.load));
    json_object_set_new(o, "leases", json_integer(m->beat.leases));
    json_object_set_new(o, "draining", json_boolean(m->beat.draining));
    wv_json_set_bytes(o, "signature", m->signature, sizeof m->signature);
}

char *wv_bus_message_write(const struct wv_bus_message *m, size_t *ret_len)
{
    json_t *o = json_pack("{s:s, s:s}", "from", m->from, "type", kinds[m->kind]);
    if (!o)
        return NULL;
    switch (m->kind) {
    case WV_BUS_PRESENCE:
        write_presence(&m->word, o);
        break;
    case WV_BUS_SIGNAL:
        json_object_set_new(o, "number", json_integer((json_int_t)m->number));
        json_object_set_new(o, "sender", key_text(m->sender));
        json_object_set_new(o, "recipient", key_text(m->recipient));
        json_object_set_new(o, "id", json_string(m->id));
        json_object_set_new(o, "sealed", json_string(m->sealed));
        break;
    case WV_BUS_ANSWER:
        json_object_set_new(o, "number", json_integer((json_int_t)m->number));
        json_object_set_new(o, "result", json_string(wv_signal_result_name(m->result)));
        break;
    case WV_BUS_SESSIONS:
        write_sessions(&m->report, o);
        break;
    case WV_BUS_RELAY:
        write_relay(m, o);
        break;
    case WV_BUS_CHANGED:
        json_object_set_new(o, "account", json_string(m->account));
        break;
    }
    return wv_signal_write_json(0, o, ret_len);
}
