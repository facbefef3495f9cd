/* The inside of struct wv_client, shared by client.c (pictures, input, numbers), connection.c (how a session
 * comes, stays and goes) and by nobody else. */
#pragma once

#include "client/decoder.h"
#include "client/link.h"
#include "client/timings.h"
#include "client/wavry_client.h"
#include "rift/core/handshake.h"

#define PENDING_INPUTS 128 /* presses whose effect is awaited */

struct pending_input {
    uint32_t seq;
    uint64_t sent_ns;
};

struct wv_client {
    /* What the caller gave. */
    struct wv_loop *loop;
    struct wv_client_callbacks call;
    void *userdata;
    struct rift_identity identity;
    uint8_t expected_key[32];
    bool have_expected_key;
    bool view_only, no_decode;
    uint32_t width, height;
    char *software;
    char where[320]; /* the host as the caller named it */
    char own_key[RIFT_PUBLIC_KEY_TEXT_BYTES];

    /* The connection. */
    struct wv_link *link;
    struct wv_loop_source *socket_source, *watch_source, *timer, *prepare;
    uint64_t roam_at;                 /* look then whether our own address is another one */
    bool rebound;                     /* a new socket was tried since the host was last heard */
    struct rift_initiator *initiator; /* a handshake is under way */
    uint64_t arrival_ns;              /* of the datagram at hand, by the kernel's word */
    struct rift_session *candidate;   /* its session, until the host is heard on it */
    uint32_t initiator_id, candidate_id, session_id;
    struct rift_session *session; /* the host was heard on it */
    bool announced;               /* and the caller was told */
    uint64_t announce_at, attempt_at, backoff_ns;
    unsigned attempts; /* since the last resolve */
    bool reopen;       /* the next attempt takes a new socket */
    uint64_t last_heard_ns, lost_ns;
    enum wv_client_state state;
    enum wv_client_reason reason;

    /* Pictures. */
    struct wv_decoder *decoder;
    struct wv_client_picture picture;
    bool picture_new, picture_unshown, keyframe_wanted;

    /* Numbers. */
    struct wv_timing timing[WV_CLIENT_N_STAGES];
    struct pending_input pending[PENDING_INPUTS];
    unsigned pending_first, n_pending;
    struct rift_session_stats past; /* sums of the sessions that are gone */
    struct client_repairs {
        uint64_t received, fragments, frames;
    } repairs, repairs_seen; /* of sessions that are gone; of this one when it was looked at last */
    uint32_t repairs_session;
    uint64_t connects, connected_ns, connected_since;
    uint64_t frames_received, frames_decoded, frames_shown, frames_skipped, decode_errors, control_errors;
    uint64_t media_bytes, input_sent;
    uint64_t second_at, second_started, second_bytes, second_shown, second_received, second_lost;
    uint64_t bitrate_bps;
    double fps;
};

/* connection.c */
int client_connection_start(struct wv_client *c);
void client_connection_stop(struct wv_client *c);
void client_pump(struct wv_client *c, uint64_t now);
void client_say_goodbye(struct wv_client *c, uint64_t now);
void client_set_state(struct wv_client *c, enum wv_client_state state, enum wv_client_reason reason,
                      const char *detail);

/* client.c */
void client_on_frame(struct wv_client *c, const struct rift_event *event);
void client_on_control(struct wv_client *c, const uint8_t *data, size_t len);
void client_show_newest(struct wv_client *c);
void client_second(struct wv_client *c, uint64_t now);
void client_sum_session(const struct wv_client *c, struct rift_session_stats *ret);
