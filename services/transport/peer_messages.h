/* What a client says about itself and about what it saw, checked and bounded. The bytes come from the network
 * (the greeting by way of the identity stage). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_PEER_TEXT_BYTES        64
#define WV_PEER_CONTROL_MAX_BYTES 4096 /* a client has nothing longer to say in this version */
#define WV_PEER_INNER_MAX_BYTES   2048 /* of a sealed message for identity, or from it */

struct wv_client_hello {
    char software[WV_PEER_TEXT_BYTES], device[WV_PEER_TEXT_BYTES]; /* printable ASCII, cut */
    bool view_only;
};

struct wv_client_report {
    uint32_t frames, lost_frames; /* since the last report */
    uint32_t network_p50_us, decode_p50_us, present_p50_us, glass_p50_us, glass_p99_us;
};

/* A control message of a client. */
enum wv_peer_control_kind {
    WV_PEER_OTHER, /* well-formed, but not for a host or from a newer version: ignore */
    WV_PEER_REPORT,
    WV_PEER_INNER, /* for identity; sealed, transport can't read it */
};
struct wv_peer_control {
    enum wv_peer_control_kind kind;
    struct wv_client_report report;
    size_t inner_len;
    uint8_t inner[WV_PEER_INNER_MAX_BYTES];
};

/* A packed wavry.rift.ClientHello. Returns 0 or -EBADMSG. */
int wv_client_hello_parse(const uint8_t *data, size_t len, struct wv_client_hello *ret);
/* A packed wavry.rift.ControlMessage. Returns 0 or -EBADMSG. Times are cut at one minute. */
int wv_peer_control_parse(const uint8_t *data, size_t len, struct wv_peer_control *ret);
