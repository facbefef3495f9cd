/* What a client may send as its greeting or as a control message. */
#include "services/transport/peer_messages.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct wv_peer_control message;
    struct wv_client_hello hello;
    if (wv_peer_control_parse(data, len, &message) == 0) {
        if (message.kind == WV_PEER_REPORT && message.report.glass_p99_us > 60000000)
            abort();
        if (message.kind == WV_PEER_INNER && (!message.inner_len || message.inner_len > sizeof message.inner))
            abort();
    }
    if (wv_client_hello_parse(data, len, &hello) == 0 &&
        (strnlen(hello.device, sizeof hello.device) == sizeof hello.device || strchr(hello.device, '\n')))
        abort();
    return 0;
}
