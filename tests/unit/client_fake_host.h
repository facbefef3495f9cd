/* A host in the test's own event loop: real handshake, real session, real H.264, one client at a time, on a
 * loopback UDP port. Does on request what hosts do when things go wrong. */
#pragma once

#include "lib/ipc/loop.h"
#include "tests/unit/h264_maker.h"
#include "tests/unit/handshake_host.h"

struct fake_host {
    struct wv_loop *loop;
    struct host handshake;
    struct rift_session *session;
    uint8_t peer[RIFT_ADDRESS_BYTES];
    int fd;
    uint16_t port;
    struct wv_loop_source *source, *timer, *prepare, *frames;
    struct h264_maker *maker;
    int width, height;
    uint32_t frame_id;
    uint16_t epoch;

    bool mute;          /* neither hears nor speaks: a cable that was pulled */
    bool session_hangs; /* serves handshakes only, until there is a new session */
    bool replaces;      /* says goodbye to a session that another one of the same client follows */
    bool refuse;        /* closes every session: as REFUSE_REASON says */
    enum rift_close_reason refuse_reason;
    const char *refuse_text;

    /* What it saw. */
    unsigned sessions, keyframe_requests, n_inputs, n_reports;
    uint32_t last_input_seq;
    struct rift_input_event inputs[256];
    enum rift_close_reason client_close; /* how the client said goodbye */
    bool client_closed;
    char device[65], software[65];
    bool view_only;
};

/* PORT 0: any. Aborts on errors of the test's own making. */
void fake_host_init(struct fake_host *h, struct wv_loop *loop, uint16_t port, int width, int height);
void fake_host_fini(struct fake_host *h);

/* Sends a picture every 16 ms from now on; the left half's luma is 40 + (last key code * 4) % 160. */
void fake_host_stream(struct fake_host *h, bool on);
void fake_host_send_picture(struct fake_host *h, uint8_t left, uint8_t right, bool keyframe);
void fake_host_send_garbage_frame(struct fake_host *h);
void fake_host_send_hello(struct fake_host *h, const char *name, const char *notice);
void fake_host_send_control(struct fake_host *h, const uint8_t *data, size_t len);
void fake_host_resize(struct fake_host *h, int width, int height);
