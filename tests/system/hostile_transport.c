/* What a transport process does that somebody else has taken over, linked around the true one: it writes down
 * everything that reaches it (bus messages in and out, access units, outer keys) and forges what it can:
 * repeated, renumbered, damaged and exchanged input events, damaged and repeated access units, messages to
 * identity in others' names, and picture and input for clients that identity turned away. Never installed;
 * test_hostile_transport.py says what must come of it. The linker's --wrap puts these functions in the way.
 */
#include "lib/base/util.h"
#include "lib/ipc/bus_internal.h"
#include "lib/stage/stage.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "rift/core/session.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EVENT   RIFT_INPUT_SEALED_BYTES
#define OLD     64          /* events that are kept to be replayed */
#define MADE_UP 0x00c0ffeeu /* number of a session that identity never gave */

int __real_wv_stage_main(const struct wv_stage_definition *definition, int argc, char **argv);
int __wrap_wv_stage_main(const struct wv_stage_definition *definition, int argc, char **argv);
int __real_wv_bus_send(struct wv_bus_link *link, const ProtobufCMessage *message);
int __wrap_wv_bus_send(struct wv_bus_link *link, const ProtobufCMessage *message);
int __real_bus_dispatch(struct bus_dispatcher *d, const char *sender, size_t n_parts, const void *name,
                        size_t name_len, const void *data, size_t len, uint64_t now);
int __wrap_bus_dispatch(struct bus_dispatcher *d, const char *sender, size_t n_parts, const void *name,
                        size_t name_len, const void *data, size_t len, uint64_t now);
int __real_rift_session_new(struct rift_session **ret, const struct rift_session_config *config,
                            uint64_t now);
int __wrap_rift_session_new(struct rift_session **ret, const struct rift_session_config *config,
                            uint64_t now);
int __real_rift_session_send_frame(struct rift_session *s, const struct rift_frame_meta *meta,
                                   const uint8_t *data, size_t len, uint64_t now);
int __wrap_rift_session_send_frame(struct rift_session *s, const struct rift_frame_meta *meta,
                                   const uint8_t *data, size_t len, uint64_t now);

static int record = -1;

static void note(const char *what, const void *data, size_t len)
{
    if (record < 0)
        return;
    dprintf(record, "\n@%s %zu\n", what, len);
    (void)!write(record, data, len);
}

/* The same stage, but for its prison: it may write its record, which lies beside the program. */
int __wrap_wv_stage_main(const struct wv_stage_definition *definition, int argc, char **argv)
{
    static struct wv_stage_definition own;
    static struct wv_sandbox sandbox;
    char name[512];
    ssize_t n = readlink("/proc/self/exe", name, sizeof name - 32);
    own = *definition;
    sandbox = *definition->sandbox;
    sandbox.file_writes = sandbox.file_reads = true;
    own.sandbox = &sandbox;
    if (n > 0) {
        name[n] = 0;
        snprintf(strrchr(name, '/'), 32, "/hostile.record");
        record = open(name, O_WRONLY | O_APPEND | O_CLOEXEC);
    }
    return __real_wv_stage_main(&own, argc, argv);
}

/* ---- what reaches it ---- */

/* Whom identity turns away is let in all the same, under a number that identity never gave. */
static bool welcome(const void *data, size_t len, uint8_t *ret, size_t capacity, size_t *ret_len)
{
    Wavry__Bus__HandshakeDone *m = wavry__bus__handshake_done__unpack(NULL, len, data);
    bool lied = m && !m->authorized;
    if (lied) {
        m->authorized = true;
        m->pairing = false;
        m->session = MADE_UP;
        lied = wavry__bus__handshake_done__get_packed_size(m) <= capacity;
        if (lied)
            *ret_len = wavry__bus__handshake_done__pack(m, ret);
    }
    if (m)
        wavry__bus__handshake_done__free_unpacked(m, NULL);
    return lied;
}

int __wrap_bus_dispatch(struct bus_dispatcher *d, const char *sender, size_t n_parts, const void *name,
                        size_t name_len, const void *data, size_t len, uint64_t now)
{
    static const char done[] = "wavry.bus.HandshakeDone", end[] = "wavry.bus.SessionEnd";
    uint8_t lie[4096];
    char what[160];
    snprintf(what, sizeof what, "in %s %.*s", sender, (int)WV_MIN(name_len, (size_t)100), (const char *)name);
    note(what, data, len);
    if (name_len == sizeof end - 1 && memcmp(name, end, name_len) == 0)
        return 0; /* it ends whom it likes */
    if (name_len == sizeof done - 1 && memcmp(name, done, name_len) == 0 &&
        welcome(data, len, lie, sizeof lie, &len))
        data = lie;
    return __real_bus_dispatch(d, sender, n_parts, name, name_len, data, len, now);
}

int __wrap_rift_session_new(struct rift_session **ret, const struct rift_session_config *config, uint64_t now)
{
    note("outer-key", config->key_send, sizeof config->key_send);
    note("outer-key", config->key_receive, sizeof config->key_receive);
    return __real_rift_session_new(ret, config, now);
}

/* ---- access units ---- */

/* In turns: the true one, one with a bit changed, one that is an older one again, one cut short. */
int __wrap_rift_session_send_frame(struct rift_session *s, const struct rift_frame_meta *meta,
                                   const uint8_t *data, size_t len, uint64_t now)
{
    static uint8_t forged[4u << 20], old[4u << 20];
    static size_t old_len;
    static unsigned turn;
    struct rift_frame_meta about = *meta;
    note("au", data, WV_MIN(len, (size_t)4096));
    if (!old_len && len < sizeof old) {
        memcpy(old, data, len);
        old_len = len;
    }
    if (++turn % 8 || len > sizeof forged)
        return __real_rift_session_send_frame(s, meta, data, len, now);
    note("forged-au", NULL, 0);
    memcpy(forged, data, len);
    switch (turn / 8 % 4) {
    case 0:
        forged[len / 2] ^= 1;
        return __real_rift_session_send_frame(s, meta, forged, len, now);
    case 1:
        return __real_rift_session_send_frame(s, meta, old, old_len, now);
    case 2:
        about.width ^= 2;
        return __real_rift_session_send_frame(s, &about, data, len, now);
    default:
        return __real_rift_session_send_frame(s, meta, forged, len > 40 ? len - 20 : len, now);
    }
}

/* ---- input ---- */

static struct {
    uint32_t seq;
    uint8_t sealed[EVENT];
} old_events[OLD];
static size_t n_old;

static void send_forged(struct wv_bus_link *link, uint32_t session, uint32_t seq, const uint8_t *sealed)
{
    uint8_t copy[EVENT];
    uint64_t came = wv_now_ns() / WV_NS_PER_US;
    Wavry__Bus__InputBatch m = WAVRY__BUS__INPUT_BATCH__INIT;
    memcpy(copy, sealed, sizeof copy);
    m.session = session;
    m.first_seq = seq;
    m.events = (ProtobufCBinaryData){.data = copy, .len = sizeof copy};
    m.came_us = &came;
    m.n_came_us = 1;
    note("forged-input", copy, sizeof copy);
    (void)__real_wv_bus_send(link, &m.base);
}

/* After each true batch: its events again; an old one as it was and as if it were the next; the next one made
 * of nothing, and of a damaged one; and all that in another session's name. */
static void forge_input(struct wv_bus_link *link, const Wavry__Bus__InputBatch *m)
{
    static const uint8_t nothing[EVENT];
    size_t n = m->events.len / EVENT;
    uint32_t next = m->first_seq + (uint32_t)n;
    uint8_t damaged[EVENT];
    if (!n)
        return;
    for (size_t i = 0; i < n; i++)
        send_forged(link, m->session, m->first_seq + (uint32_t)i, m->events.data + i * EVENT);
    for (size_t i = 0; i < n_old; i += 7) {
        send_forged(link, m->session, old_events[i].seq, old_events[i].sealed);
        send_forged(link, m->session, next, old_events[i].sealed);
        send_forged(link, MADE_UP, next, old_events[i].sealed);
    }
    memcpy(damaged, m->events.data, sizeof damaged);
    damaged[2] ^= 1;
    send_forged(link, m->session, next, damaged);
    send_forged(link, m->session, UINT32_MAX, nothing);
    send_forged(link, m->session + 1, m->first_seq, m->events.data);
    for (size_t i = 0; i < n && n_old < OLD; i++) {
        old_events[n_old].seq = m->first_seq + (uint32_t)i;
        memcpy(old_events[n_old++].sealed, m->events.data + i * EVENT, EVENT);
    }
}

/* ---- identity ---- */

/* Sessions that never were, and words in others' names. */
static void lie_to_identity(struct wv_bus_link *link, const Wavry__Bus__SessionsAlive *true_one)
{
    uint8_t rubbish[80], key[32];
    uint32_t numbers[8];
    ProtobufCBinaryData keys[8];
    size_t n = WV_MIN(true_one->n_session, (size_t)6);
    Wavry__Bus__SessionsAlive alive = WAVRY__BUS__SESSIONS_ALIVE__INIT;
    memset(rubbish, 0x41, sizeof rubbish);
    memset(key, 0x42, sizeof key);
    for (size_t i = 0; i < n; i++) { /* they stay, or identity would end them */
        numbers[i] = true_one->session[i];
        keys[i] = true_one->peer_key[i];
    }
    numbers[n] = MADE_UP;
    numbers[n + 1] = n ? numbers[0] + 1 : 1;
    keys[n] = keys[n + 1] = n ? keys[0] : (ProtobufCBinaryData){.data = key, .len = sizeof key};
    alive.session = numbers;
    alive.peer_key = keys;
    alive.n_session = alive.n_peer_key = n + 2;
    (void)__real_wv_bus_send(link, &alive.base);
    Wavry__Bus__InnerMessage inner = WAVRY__BUS__INNER_MESSAGE__INIT;
    inner.session = n ? numbers[0] : MADE_UP;
    inner.sealed = (ProtobufCBinaryData){.data = rubbish, .len = sizeof rubbish};
    (void)__real_wv_bus_send(link, &inner.base);
    /* What only the other stages may ask. */
    Wavry__Bus__MediaKeyQuestion media = WAVRY__BUS__MEDIA_KEY_QUESTION__INIT;
    Wavry__Bus__CursorKeyQuestion cursor = WAVRY__BUS__CURSOR_KEY_QUESTION__INIT;
    Wavry__Bus__ControllerQuestion controller = WAVRY__BUS__CONTROLLER_QUESTION__INIT;
    (void)__real_wv_bus_send(link, &media.base);
    (void)__real_wv_bus_send(link, &cursor.base);
    (void)__real_wv_bus_send(link, &controller.base);
}

int __wrap_wv_bus_send(struct wv_bus_link *link, const ProtobufCMessage *message)
{
    uint8_t packed[8192];
    int r = __real_wv_bus_send(link, message);
    if (r != WV_BUS_UNSENT && protobuf_c_message_get_packed_size(message) <= sizeof packed)
        note("out", packed, protobuf_c_message_pack(message, packed));
    if (r != WV_BUS_UNSENT && message->descriptor == &wavry__bus__input_batch__descriptor)
        forge_input(link, (const Wavry__Bus__InputBatch *)message);
    if (r != WV_BUS_UNSENT && message->descriptor == &wavry__bus__sessions_alive__descriptor)
        lie_to_identity(link, (const Wavry__Bus__SessionsAlive *)message);
    return r;
}
