/* A message from a taken-over peer: number of parts, name and bytes are the input's. First byte: parts;
 * second: length of the name; the name; the packed message. */
#include "lib/base/util.h"
#include "lib/ipc/bus_internal.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"

static size_t weight;

static void touch(ProtobufCBinaryData bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        weight += bytes.data[i];
}

static int touch_batch(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__InputBatch *b = (const Wavry__Bus__InputBatch *)message;
    touch(b->events);
    for (size_t i = 0; i < b->n_came_us; i++)
        weight += b->came_us[i];
    return 0;
}

static int touch_shape(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__CursorShape *s = (const Wavry__Bus__CursorShape *)message;
    touch(s->nonce);
    touch(s->sealed);
    return 0;
}

static int touch_done(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__HandshakeDone *d = (const Wavry__Bus__HandshakeDone *)message;
    for (const char *c = d->name; *c; c++)
        weight += (size_t)*c;
    weight += d->peer_key.len;
    return 0;
}

static int touch_inner(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    touch(((const Wavry__Bus__InnerMessage *)message)->sealed);
    return 0;
}

static int touch_alive(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__SessionsAlive *a = (const Wavry__Bus__SessionsAlive *)message;
    for (size_t i = 0; i < a->n_peer_key; i++)
        touch(a->peer_key[i]);
    for (size_t i = 0; i < a->n_session; i++)
        weight += a->session[i];
    return 0;
}

static int touch_key(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    touch(((const Wavry__Bus__MediaKey *)message)->key);
    return 0;
}

static const struct wv_bus_rule rules[] = {
    {"peer", &wavry__bus__input_batch__descriptor, WV_PHASE_ANY, 1000000, 8192, touch_batch},
    {"peer", &wavry__bus__cursor_shape__descriptor, WV_PHASE_ANY, 1000000, 300000, touch_shape},
    {"peer", &wavry__bus__handshake_done__descriptor, WV_PHASE_RUN, 1000000, 4096, touch_done},
    {"peer", &wavry__bus__inner_message__descriptor, WV_PHASE_ANY, 1000000, 4096, touch_inner},
    {"peer", &wavry__bus__sessions_alive__descriptor, WV_PHASE_ANY, 1000000, 4096, touch_alive},
    {"peer", &wavry__bus__media_key__descriptor, WV_PHASE_ANY, 1000000, 128, touch_key},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct bus_dispatcher *d;
    static uint64_t now;
    if (!d && bus_dispatcher_new(&d, rules, WV_ARRAY_SIZE(rules), NULL) < 0)
        abort();
    if (len < 2)
        return 0;
    bus_dispatcher_set_phase(d, WV_PHASE_RUN);
    size_t parts = data[0] % 4, name_len = WV_MIN((size_t)data[1], len - 2);
    const uint8_t *name = data + 2, *message = name + name_len;
    now += WV_NS_PER_MS;
    if (bus_dispatch(d, "peer", parts, name, name_len, message, len - 2 - name_len, now) != 0)
        abort();
    return 0;
}
