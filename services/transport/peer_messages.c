/* Unpacks clients' protobuf messages; see peer_messages.h. */
#include "services/transport/peer_messages.h"

#include "lib/base/util.h"
#include "proto/rift.pb-c.h"

#include <errno.h>
#include <string.h>

#define HELLO_MAX_BYTES 512
#define MINUTE_US       60000000u

/* Copies TEXT; what a log line or a terminal could stumble over becomes '?'. */
static void copy_text(const char *text, char ret[WV_PEER_TEXT_BYTES])
{
    size_t i = 0;
    for (; text[i] && i + 1 < WV_PEER_TEXT_BYTES; i++)
        ret[i] = text[i] >= 0x20 && text[i] < 0x7f && text[i] != '"' && text[i] != '\\' ? text[i] : '?';
    ret[i] = 0;
}

int wv_client_hello_parse(const uint8_t *data, size_t len, struct wv_client_hello *ret)
{
    if (len > HELLO_MAX_BYTES)
        return -EBADMSG;
    Wavry__Rift__ClientHello *hello = wavry__rift__client_hello__unpack(NULL, len, data);
    if (!hello)
        return -EBADMSG;
    copy_text(hello->software, ret->software);
    copy_text(hello->device, ret->device);
    ret->view_only = hello->view_only;
    wavry__rift__client_hello__free_unpacked(hello, NULL);
    return 0;
}

static struct wv_client_report report_of(const Wavry__Rift__ClientReport *m)
{
    return (struct wv_client_report){
        .frames = m->frames,
        .lost_frames = m->lost_frames,
        .network_p50_us = WV_MIN(m->network_p50_us, MINUTE_US),
        .decode_p50_us = WV_MIN(m->decode_p50_us, MINUTE_US),
        .present_p50_us = WV_MIN(m->present_p50_us, MINUTE_US),
        .glass_p50_us = WV_MIN(m->glass_p50_us, MINUTE_US),
        .glass_p99_us = WV_MIN(m->glass_p99_us, MINUTE_US),
    };
}

int wv_peer_control_parse(const uint8_t *data, size_t len, struct wv_peer_control *ret)
{
    if (len > WV_PEER_CONTROL_MAX_BYTES)
        return -EBADMSG;
    Wavry__Rift__ControlMessage *message = wavry__rift__control_message__unpack(NULL, len, data);
    if (!message)
        return -EBADMSG;
    int r = 0;
    ret->kind = WV_PEER_OTHER;
    if (message->kind_case == WAVRY__RIFT__CONTROL_MESSAGE__KIND_CLIENT_REPORT) {
        ret->kind = WV_PEER_REPORT;
        ret->report = report_of(message->client_report);
    } else if (message->kind_case == WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER) {
        ret->kind = WV_PEER_INNER;
        ret->inner_len = message->inner.len;
        if (ret->inner_len > 0 && ret->inner_len <= sizeof ret->inner)
            memcpy(ret->inner, message->inner.data, ret->inner_len);
        else
            r = -EBADMSG;
    }
    wavry__rift__control_message__free_unpacked(message, NULL);
    return r;
}
