/* What a client says about itself and about what it saw, checked and bounded. The bytes come from the network
 * (the greeting by way of the identity stage). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_PEER_TEXT_BYTES        64
#define WV_PEER_CONTROL_MAX_BYTES 4096 /* a client has nothing longer to say in this version */

struct wv_client_hello {
    char software[WV_PEER_TEXT_BYTES], device[WV_PEER_TEXT_BYTES]; /* printable ASCII, cut */
    bool view_only;
};

struct wv_client_report {
    uint32_t frames, lost_frames; /* since the last report */
    uint32_t network_p50_us, decode_p50_us, present_p50_us, glass_p50_us, glass_p99_us;
};

enum { WV_PEER_OTHER = 1 }; /* well-formed, but not for a host or from a newer version: ignore */

/* A packed wavry.rift.ClientHello. Returns 0 or -EBADMSG. */
int wv_client_hello_parse(const uint8_t *data, size_t len, struct wv_client_hello *ret);
/* A packed wavry.rift.ControlMessage. Returns 0 (a report), WV_PEER_OTHER, -EBADMSG. Times are cut at one
 * minute. */
int wv_peer_control_parse(const uint8_t *data, size_t len, struct wv_client_report *ret);
