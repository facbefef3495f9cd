/* Every message that other stages and clients can send to identity, in every order and with any content:
 * sealed messages are built from the bytes, so that what a client says is reached too. Nobody is ever given
 * control or a media key without the grant. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "rift/core/handshake.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/noise.h"
#include "services/identity/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct wv_identity *id;
static struct wv_metrics *metrics;
static uint64_t now = 1000 * WV_NS_PER_S, unix_s = 1800000000;
static char folder[64];
static struct rift_inner inner[WV_LIVE_MAX]; /* the clients' ends, by place */
static uint32_t numbers[WV_LIVE_MAX];

static int take(void *userdata, enum wv_identity_to to, const ProtobufCMessage *m)
{
    if (m->descriptor == &wavry__bus__controller__descriptor) {
        const Wavry__Bus__Controller *c = (const Wavry__Bus__Controller *)m;
        const struct wv_live_session *s = wv_live_find(id->live, c->session);
        if (c->session && (!s || !wv_live_may_control(s) || to != WV_TO_INPUT))
            abort();
    }
    return now % 7 == 0 ? WV_BUS_UNSENT : 0;
}

static uint64_t wall(void *userdata)
{
    return unix_s;
}

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        abort();
}

static void begin(void)
{
    char reason[WV_IDENTITY_REASON_BYTES];
    const struct wv_identity_world world = {.send = take, .unix_s = wall};
    const char *shared = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/wavry-fuzz-XXXXXX", shared);
    wv_log_set_level(WV_LOG_ERROR);
    if (rift_crypto_init() < 0 || !mkdtemp(folder) ||
        wv_metrics_new(&metrics, -1, "identity", wv_identity_metrics, WV_IDENTITY_METRICS) < 0 ||
        wv_identity_new(&id, folder, -1, metrics, now, reason) < 0 ||
        wv_identity_start(id, NULL, &world, now) < 0)
        abort();
    atexit(remove_folder);
}

/* Sessions of three kinds, so that there is somebody to talk. */
static void admit(uint8_t seed)
{
    uint8_t key[32], base[32], hash[64] = {0}, ignored[32];
    struct wv_live_session *s;
    memset(key, seed % 8, sizeof key);
    memset(base, seed, sizeof base);
    const struct wv_live_new n = {.peer_key = key,
                                  .inner_base = base,
                                  .hash = hash,
                                  .name = "n",
                                  .device = "d",
                                  .grants = seed & WV_GRANTS_ALL,
                                  .view_only = seed & 1,
                                  .pairing = seed % 3 == 0};
    if (wv_live_add(id->live, &n, now, &s) != 0)
        return;
    size_t place = (size_t)(s - id->live->sessions);
    numbers[place] = s->number;
    rift_inner_derive(base, false, &inner[place], ignored);
}

static void deliver(const char *sender, const ProtobufCMessageDescriptor *type, const uint8_t *data,
                    size_t len)
{
    for (size_t i = 0; i < WV_IDENTITY_RULES; i++) {
        const struct wv_bus_rule *rule = &wv_identity_rules[i];
        if (rule->type != type || strcmp(rule->sender, sender) || len > rule->max_bytes)
            continue;
        ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, len, data);
        if (m && rule->handle(id, m, now) < 0)
            abort();
        if (m)
            protobuf_c_message_free_unpacked(m, NULL);
    }
}

/* What a client says: sealed as it would, so that it is opened and parsed. */
static void say(uint8_t place, const uint8_t *plain, size_t len)
{
    uint8_t sealed[512];
    size_t sealed_len;
    place %= 8;
    if (rift_inner_seal(&inner[place], plain, len, sealed, sizeof sealed, &sealed_len) < 0)
        return;
    Wavry__Bus__InnerMessage m = WAVRY__BUS__INNER_MESSAGE__INIT;
    m.session = numbers[place];
    m.sealed = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    if (wv_talk_on_inner(id, &m.base, now) < 0)
        abort();
}

static void administer(const uint8_t *data, size_t len)
{
    static const char *const verbs[] = {"authorize", "grant", "revoke",      "peers",
                                        "control",   "pair",  "pair-status", "pair-cancel"};
    char text[256], answer[512];
    if (len < 1)
        return;
    size_t n = WV_MIN(len - 1, sizeof text - 1);
    memcpy(text, data + 1, n);
    text[n] = 0;
    (void)wv_identity_request(id, verbs[data[0] % WV_ARRAY_SIZE(verbs)], text, now, answer, sizeof answer);
}

static void step(uint8_t op, const uint8_t *data, size_t len)
{
    static const struct {
        const char *sender;
        const ProtobufCMessageDescriptor *type;
    } doors[] = {{"transport", &wavry__bus__handshake_question__descriptor},
                 {"transport", &wavry__bus__first_key_question__descriptor},
                 {"transport", &wavry__bus__sessions_alive__descriptor},
                 {"transport", &wavry__bus__inner_message__descriptor},
                 {"encoder", &wavry__bus__media_key_question__descriptor},
                 {"capture", &wavry__bus__cursor_key_question__descriptor},
                 {"input", &wavry__bus__controller_question__descriptor}};
    if (op < 8)
        admit(len ? data[0] : op);
    else if (op < 64 && len)
        say(data[0], data + 1, len - 1);
    else if (op < 80)
        administer(data, len);
    else if (op < 90) {
        now += (uint64_t)(op - 79) * WV_NS_PER_S * 7 / 3;
        unix_s += op;
        (void)wv_identity_tick(id, now);
    } else
        deliver(doors[op % WV_ARRAY_SIZE(doors)].sender, doors[op % WV_ARRAY_SIZE(doors)].type, data, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!id)
        begin();
    while (len >= 2) {
        size_t n = WV_MIN((size_t)data[1], len - 2);
        step(data[0], data + 2, n);
        data += 2 + n;
        len -= 2 + n;
    }
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        if (id->live->sessions[i].number)
            wv_live_remove(id->live, &id->live->sessions[i]);
    return 0;
}
