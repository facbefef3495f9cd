/* Any bytes as what a stage, an administrator or the supervisor itself (to its keeper) may send: refused, or
 * taken as a message that can be walked and packed again. The first byte chooses. */
#include "lib/base/util.h"
#include "lib/stage/message.h"
#include "supervisor/keeper.h"

#include "proto/bus_control.pb-c.h"
#include "proto/bus_stage.pb-c.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_message(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len)
{
    ProtobufCMessage *m = NULL;
    if (wv_message_unpack(type, data, len, &m) < 0)
        return;
    size_t packed = protobuf_c_message_get_packed_size(m);
    wv_cleanup(wv_free_p) uint8_t *again = malloc(packed + 1);
    if (!again || protobuf_c_message_pack(m, again) != packed)
        abort();
    protobuf_c_message_free_unpacked(m, NULL);
}

static void try_note(const uint8_t *data, size_t len)
{
    char name[WV_KEEPER_NAME_MAX] = "";
    unsigned kind = wv_notify_parse((const char *)data, len, name);
    if (kind && (!name[0] || strlen(name) >= sizeof name || strchr(name, ':')))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        try_message(&wavry__bus__stage_message__descriptor, data + 1, len - 1);
        break;
    case 1:
        try_message(&wavry__bus__control_request__descriptor, data + 1, len - 1);
        break;
    case 2:
        try_message(&wavry__bus__control_reply__descriptor, data + 1, len - 1);
        break;
    default:
        try_note(data + 1, len - 1);
    }
    return 0;
}
