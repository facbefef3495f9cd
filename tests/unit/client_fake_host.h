/* A host in the test's own event loop: real handshake, real session, real H.264, one client at a time, on a
 * loopback UDP port. Does on request what hosts do when things go wrong. */
#pragma once

#include "lib/ipc/loop.h"
#include "rift/crypto/cpace.h"
#include "rift/crypto/inner.h"
#include "rift/crypto/media_seal.h"
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

    /* The inner stages. */
    struct rift_inner inner;
    uint8_t input_key[32];
    struct rift_media_sealer sealer;
    uint8_t media_key[32];
    uint32_t kid;
    bool keep_key;         /* the client gets no media key until fake_host_grant_key() */
    bool standing_follows; /* Standing is sent only by fake_host_send_standing() */
    unsigned takes, releases;
    unsigned forge_frames;    /* so many of the next frames do not open */
    unsigned forge_keyframes; /* so many of the next keyframes do not */

    /* Pairing: the code, NULL: it does not answer. */
    const char *code;
    size_t code_len;
    bool lie;       /* says that it has paired, whatever the client proved */
    unsigned stall; /* says nothing any more from this step on: 1 the share, 2 the result; 0: never */
    struct rift_cpace cpace;
    uint8_t own_tag[RIFT_CPACE_TAG_BYTES], peer_tag[RIFT_CPACE_TAG_BYTES];
    unsigned pair_starts, pair_confirms, paired;
    bool pair_token;
    char pair_name[64];

    /* What it saw. */
    unsigned bad_inputs, bad_inner, n_datagrams;
    unsigned sessions, keyframe_requests, n_inputs, n_reports;
    uint32_t last_input_seq;
    struct rift_input_event inputs[256];
    enum rift_close_reason client_close; /* how the client said goodbye */
    bool client_closed;
    bool client_must_have_left; /* its session took no message: that it is closed must be its next event */
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
/* A message of the inner channel. */
void fake_host_send_inner(struct fake_host *h, const uint8_t *plain, size_t len);
/* Hands the current media key to the client; NEW_KEY: makes one first. */
void fake_host_grant_key(struct fake_host *h, bool new_key);
void fake_host_send_standing(struct fake_host *h, const char *const *grants, size_t n_grants, bool controls,
                             const char *notice);
/* A cursor's shape of one colour, sealed; DAMAGE: so that it does not open. */
void fake_host_send_cursor_image(struct fake_host *h, uint32_t shape_id, uint32_t size, bool damage);
void fake_host_resize(struct fake_host *h, int width, int height);
