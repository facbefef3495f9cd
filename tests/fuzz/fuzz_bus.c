/* Any message of any bus from a taken-over peer: number of parts, name and bytes are the input's. First byte:
 * parts and phase; second: length of the name; the name; the packed message. Whatever is let through can be
 * read to the end of every field, and is no larger than its rule allows. The stages' own tables and handlers
 * have targets of their own (fuzz_bus_STAGE, fuzz_identity_messages). */
#include "lib/base/util.h"
#include "lib/ipc/bus_internal.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile size_t weight;

static void touch(const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        weight += ((const uint8_t *)bytes)[i];
}

static void touch_one(const ProtobufCFieldDescriptor *field, const void *value)
{
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(const char *const *)value;
        touch(text, strlen(text));
    } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData *bytes = value;
        touch(bytes->data, bytes->len);
    } else {
        touch(value, 1);
    }
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
        return 8;
    default:
        return 4;
    }
}

static int read_all(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        const char *member = (const char *)message + field->offset;
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            touch_one(field, member);
            continue;
        }
        size_t n;
        memcpy(&n, (const char *)message + field->quantifier_offset, sizeof n);
        for (size_t k = 0; k < n; k++)
            touch_one(field, *(const char *const *)member + k * size_of(field));
    }
    return 0;
}

#define ANY(NAME, BYTES)                                                                                     \
    {                                                                                                        \
        "peer", &wavry__bus__##NAME##__descriptor, WV_PHASE_ANY, 1000000, BYTES, read_all                    \
    }
static const struct wv_bus_rule rules[] = {
    ANY(handshake_question, 4096),
    ANY(handshake_answer, 2048),
    {"peer", &wavry__bus__handshake_done__descriptor, WV_PHASE_RUN, 1000000, 2048, read_all},
    ANY(handshake_refused, 512),
    ANY(first_key_question, 16),
    ANY(first_key, 64),
    ANY(inner_message, 4096),
    ANY(sessions_alive, 4096),
    ANY(controller_is, 16),
    ANY(key_revoked, 64),
    ANY(session_end, 512),
    ANY(input_batch, 32768),
    ANY(input_done, 64),
    ANY(input_release, 64),
    ANY(media_key_question, 16),
    ANY(media_key, 64),
    ANY(cursor_key_question, 16),
    ANY(cursor_key, 64),
    ANY(controller_question, 16),
    ANY(controller, 64),
    ANY(encoder_target, 64),
    ANY(keyframe_request, 64),
    ANY(capture_target, 64),
    ANY(cursor_moved, 64),
    ANY(cursor_shape, 70000),
    ANY(cursor_shape_request, 16),
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct bus_dispatcher *d;
    static uint64_t now;
    if (!d && bus_dispatcher_new(&d, rules, WV_ARRAY_SIZE(rules), NULL) < 0)
        abort();
    if (len < 2)
        return 0;
    bus_dispatcher_set_phase(d, data[0] & 128 ? WV_PHASE_START : WV_PHASE_RUN);
    size_t parts = data[0] % 4, name_len = WV_MIN((size_t)data[1], len - 2);
    const uint8_t *name = data + 2, *message = name + name_len;
    now += WV_NS_PER_MS;
    if (bus_dispatch(d, "peer", parts, name, name_len, message, len - 2 - name_len, now) != 0)
        abort();
    return 0;
}
