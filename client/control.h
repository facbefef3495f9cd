/* Control messages of the client (proto/rift.proto): what comes is foreign bytes and leaves this module only
 * checked and bounded; what we say is packed here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_CONTROL_NAME_BYTES   64  /* longer names are cut */
#define WV_CONTROL_NOTICE_BYTES 256 /* longer notices are cut */
#define WV_CURSOR_MAX_PIXELS    256 /* width and height of a cursor shape */

enum wv_control_kind {
    WV_CONTROL_HOST_HELLO = 1,
    WV_CONTROL_CURSOR_IMAGE, /* only inside a sealed one */
    WV_CONTROL_SEALED_CURSOR,
    WV_CONTROL_INNER,
    WV_CONTROL_OTHER, /* well-formed, but not for us (a newer version): ignore */
};

struct wv_control {
    enum wv_control_kind kind;
    union {
        struct {
            char name[WV_CONTROL_NAME_BYTES]; /* printable, NUL-terminated */
            char notice[WV_CONTROL_NOTICE_BYTES];
            uint32_t width, height;
            bool controls;
            bool codec_known; /* a codec that we decode */
        } hello;
        struct {
            uint32_t shape_id, width, height, hot_x, hot_y;
            const uint8_t *bgra; /* width * height * 4 bytes, inside the storage of the message */
        } cursor;
        struct {
            uint32_t kid;
            const uint8_t *nonce; /* 24 bytes */
            const uint8_t *data;
            size_t len; /* from 16 */
        } sealed;
        struct {
            const uint8_t *data;
            size_t len;
        } inner;
    };
    void *storage, *image; /* that the pointers point into */
};

/* Reads one control message. Returns 0 with RET (to be given to wv_control_fini), -EBADMSG for malformed or
 * out-of-range content, -ENOMEM. */
int wv_control_parse(const uint8_t *data, size_t len, struct wv_control *ret);
/* The same for the opened content of a sealed cursor. */
int wv_control_parse_cursor(const uint8_t *data, size_t len, struct wv_control *ret);
void wv_control_fini(struct wv_control *c);

struct wv_control_report {
    uint32_t frames, lost_frames;
    uint32_t decode_p50_us, decode_p99_us, reassemble_p50_us, reassemble_p99_us, present_p50_us,
        present_p99_us, glass_p50_us, glass_p99_us, network_p50_us, network_p99_us;
};

/* Pack into BUFFER. Return the length, or -EMSGSIZE. */
int wv_control_pack_report(const struct wv_control_report *report, uint8_t *buffer, size_t capacity);
int wv_control_pack_hello(const char *software, const char *device, bool view_only, uint32_t width,
                          uint32_t height, uint8_t *buffer, size_t capacity);

/* Copies TEXT to RET, cut to CAPACITY; what could steer a terminal or isn't UTF-8 becomes '?'. NULL is "". */
void wv_text_clean(const char *text, char *ret, size_t capacity);
