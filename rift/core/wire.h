/* Numbers of proto/WIRE.md, sections 2 to 7, that more than one module needs. Internal to rift/core; nothing
 * here may depend on a session. */
#pragma once

#include "rift/core/session.h"

#define RIFT_HEADER_BYTES       16
#define RIFT_TAG_BYTES          16
#define RIFT_SEAL_BYTES         (RIFT_HEADER_BYTES + RIFT_TAG_BYTES)
#define RIFT_PAYLOAD_BYTES      (RIFT_MTU_BYTES - RIFT_SEAL_BYTES)
#define RIFT_PAYLOAD_MAX_BYTES  (RIFT_MTU_MAX_BYTES - RIFT_SEAL_BYTES)
#define RIFT_FRAME_HEADER_BYTES 3
#define RIFT_NEVER              UINT64_MAX

/* Frame types. From RIFT_WIRE_IGNORABLE on, a receiver that does not know the type skips the frame. */
enum rift_wire_type {
    RIFT_WIRE_PING = 0x01,
    RIFT_WIRE_PONG = 0x02,
    RIFT_WIRE_CLOSE = 0x03,
    RIFT_WIRE_PADDING = 0x04,
    RIFT_WIRE_PATH_CHALLENGE = 0x05,
    RIFT_WIRE_PATH_RESPONSE = 0x06,
    RIFT_WIRE_MTU_PROBE = 0x07,
    RIFT_WIRE_MTU_ACK = 0x08,
    RIFT_WIRE_INPUT = 0x10,
    RIFT_WIRE_INPUT_ACK = 0x11,
    RIFT_WIRE_CURSOR = 0x12,
    RIFT_WIRE_CONTROL = 0x20,
    RIFT_WIRE_CONTROL_ACK = 0x21,
    RIFT_WIRE_VIDEO = 0x30,
    RIFT_WIRE_VIDEO_END = 0x31,
    RIFT_WIRE_VIDEO_NACK = 0x32,
    RIFT_WIRE_VIDEO_GONE = 0x33,
    RIFT_WIRE_KEYFRAME_REQUEST = 0x34,
    RIFT_WIRE_FEEDBACK = 0x35,
    RIFT_WIRE_REPORT = 0x36,
    RIFT_WIRE_VIDEO_REPAIR = 0x37,
    RIFT_WIRE_IGNORABLE = 0x80,
};

/* Body sizes. */
#define RIFT_PING_BYTES             4
#define RIFT_PONG_BYTES             20
#define RIFT_PATH_TOKEN_BYTES       8
#define RIFT_MTU_ID_BYTES           4
#define RIFT_INPUT_HEAD_BYTES       5
#define RIFT_INPUT_EVENT_BYTES      RIFT_INPUT_SEALED_BYTES
#define RIFT_INPUT_ACK_BYTES        16
#define RIFT_CURSOR_BYTES           13
#define RIFT_CONTROL_HEAD_BYTES     5
#define RIFT_CONTROL_ACK_BYTES      12
#define RIFT_VIDEO_HEAD_BYTES       13
#define RIFT_VIDEO_END_BYTES        11
#define RIFT_NACK_HEAD_BYTES        7
#define RIFT_NACK_BITMAP_BYTES      64
#define RIFT_GONE_BYTES             4
#define RIFT_KEYFRAME_REQUEST_BYTES 5
#define RIFT_FEEDBACK_BYTES         37
#define RIFT_CLOSE_TEXT_BYTES       127

/* Control: payload of one chunk, chunks in flight (what one acknowledgement can name), receiver's window. */
#define RIFT_CONTROL_CHUNK_BYTES 1100
#define RIFT_CONTROL_IN_FLIGHT   64
#define RIFT_CONTROL_WINDOW      128

/* Video: a frame on the wire is its 24 bytes of meta data and then the access unit. */
#define RIFT_META_BYTES         24
#define RIFT_FRAGMENT_HEAD      (RIFT_FRAME_HEADER_BYTES + RIFT_VIDEO_HEAD_BYTES)
#define RIFT_FRAGMENT_BYTES     (RIFT_PAYLOAD_BYTES - RIFT_FRAGMENT_HEAD)     /* that every path carries */
#define RIFT_FRAGMENT_MAX_BYTES (RIFT_PAYLOAD_MAX_BYTES - RIFT_FRAGMENT_HEAD) /* of any path */
#define RIFT_FRAGMENT_MIN_BYTES 512
#define RIFT_FRAGMENTS_MAX                                                                                   \
    ((RIFT_FRAME_MAX_BYTES + RIFT_META_BYTES + RIFT_FRAGMENT_MIN_BYTES - 1) / RIFT_FRAGMENT_MIN_BYTES)
#define RIFT_VIDEO_FRAMES 64         /* kept at most, in the sender's store and in the joiner */
#define RIFT_VIDEO_BYTES  (8u << 20) /* the same, in bytes */
#define RIFT_VIDEO_KEY    0x01       /* flag: keyframe */

/* The common head of VIDEO and VIDEO_END. */
struct rift_fragment {
    uint32_t frame_id;
    uint16_t epoch;
    bool keyframe;
    uint16_t count, size; /* fragments of the frame, bytes of each but the last */
    uint16_t index;       /* VIDEO only */
};

/* Whether A comes after B in a numbering that wraps. */
static inline bool rift_serial_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static inline uint64_t rift_earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* a + b without wrapping: times near RIFT_NEVER stay never, counters near their end there. */
static inline uint64_t rift_add_ns(uint64_t a, uint64_t b)
{
    return a > RIFT_NEVER - b ? RIFT_NEVER : a + b;
}

/* BASE doubled TIMES times, but at most LIMIT. */
static inline uint64_t rift_backoff_ns(uint64_t base, unsigned times, uint64_t limit)
{
    while (times-- && base < limit)
        base *= 2;
    return rift_earlier(base, limit);
}
