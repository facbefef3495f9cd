/* The inside of struct wv_client, shared by client.c (pictures, input, numbers), session.c (a session while
 * there is one), connection.c (how one is come by) and by nobody else. */
#pragma once

#include "client/control.h"
#include "client/decoder.h"
#include "client/frames.h"
#include "client/link.h"
#include "client/pairing.h"
#include "client/timings.h"
#include "client/wavry_client.h"
#include "client/ways.h"
#include "lib/base/util.h"
#include "rift/core/handshake.h"
#include "rift/crypto/inner.h"

#define WV_PAIR_SECRET_MAX      32
#define PENDING_INPUTS          128                  /* presses whose effect is awaited */
#define CLIENT_BACKOFF_FIRST_NS (100 * WV_NS_PER_MS) /* the first pause between two tries */

/* What of a session is between us and the host's key holder alone. */
struct client_secrets {
    struct rift_inner inner;
    uint8_t hash[64]; /* of the handshake */
    uint8_t host_key[32];
};

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
    uint8_t host_key[32];
    bool have_host_key;
    bool view_only, no_decode;
    bool pairs; /* this client pairs, and does nothing else */
    bool pair_token;
    uint8_t pair_secret[WV_PAIR_SECRET_MAX];
    size_t pair_secret_len;
    char pair_name[64];
    uint32_t width, height;
    char *software;
    char where[320]; /* the host as the caller named it */
    char own_key[RIFT_PUBLIC_KEY_TEXT_BYTES];

    /* The connection. */
    struct wv_link *link;
    struct wv_ways *ways; /* NULL: one address, which was given */
    struct wv_loop_source *socket_source, *watch_source, *timer, *prepare;
    uint64_t roam_at;                 /* look then whether our own address is another one */
    uint64_t roamed_ns;               /* when that was done last, with ways */
    bool rebound;                     /* a new socket was tried since the host was last heard */
    struct rift_initiator *initiator; /* a handshake is under way */
    uint64_t arrival_ns;              /* of the datagram at hand, by the kernel's word */
    struct rift_session *candidate;   /* its session, until the host is heard on it */
    uint32_t initiator_id, candidate_id, session_id;
    struct rift_session *session; /* the host was heard on it */
    struct client_secrets candidate_secrets, secrets;
    bool announced; /* and the caller was told */
    uint64_t announce_at, attempt_at, backoff_ns;
    unsigned attempts; /* since the last resolve */
    bool reopen;       /* the next attempt takes a new socket */
    uint64_t last_heard_ns, lost_ns;
    enum wv_client_state state;
    enum wv_client_reason reason;

    /* The inner channel. */
    struct wv_frames *frames;
    struct wv_pairing pairing;
    uint64_t pair_until;                /* no answer by then: it is lost */
    struct wv_client_standing standing; /* its grants are 0 until the host has said it */
    bool has_standing, has_hello;
    struct wv_control hello; /* the last HostHello */
    uint8_t *cursor;         /* the newest shape while its key is not known */
    size_t cursor_len;
    uint32_t cursor_kid;
    uint8_t cursor_nonce[WV_CURSOR_NONCE_BYTES];

    /* Pictures. */
    struct wv_decoder *decoder;
    struct wv_client_picture picture;
    bool picture_new, picture_unshown, keyframe_wanted;
    bool broken; /* a frame is missing that later ones build on: only a keyframe helps */

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
    uint64_t frames_forged, frames_unkeyed;
    uint64_t media_bytes, input_sent;
    uint64_t second_at, second_started, second_bytes, second_shown, second_received, second_lost;
    uint64_t bitrate_bps;
    double fps;
};

/* connection.c */
int client_connection_start(struct wv_client *c);
void client_connection_stop(struct wv_client *c);
void client_pump(struct wv_client *c, uint64_t now);
bool client_is_final(const struct wv_client *c);
/* The session's last event: whether another one is tried for. */
void client_on_closed(struct wv_client *c, const struct rift_event *event, uint64_t now);
void client_set_state(struct wv_client *c, enum wv_client_state state, enum wv_client_reason reason,
                      const char *detail);

void client_take_datagram(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                          uint64_t now);

/* session.c */
/* Returns whether it was authentic. */
bool client_take_data(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                      uint64_t now);
void client_drain_events(struct wv_client *c, uint64_t now);
void client_send_session(struct wv_client *c, struct rift_session *s, uint64_t now);
/* The session counts as one from now on. */
void client_announce(struct wv_client *c, uint64_t now);
void client_drop_session(struct wv_client *c, uint64_t now);
void client_say_goodbye(struct wv_client *c, uint64_t now);

/* secrets.c */
/* The handshake has proven the host: derives what is inner, and the input key into CONFIG. */
int client_derive_secrets(struct wv_client *c, struct rift_session_config *config);
/* The candidate has become the session: what belonged to the old one is forgotten. */
void client_begin_secrets(struct wv_client *c);
void client_wipe_secrets(struct wv_client *c);
void client_on_inner(struct wv_client *c, const uint8_t *sealed, size_t len, uint64_t now);
void client_on_sealed_cursor(struct wv_client *c, const struct wv_control *m);
/* What waits for keys or answers has waited for too long. */
void client_check_secrets(struct wv_client *c, uint64_t now);
uint64_t client_secrets_timeout(const struct wv_client *c);
/* Ends pairing. */
void client_end_pairing(struct wv_client *c, enum wv_client_pair_outcome outcome, uint32_t tries_left,
                        const char *reason);

/* client.c */
void client_on_frame(struct wv_client *c, const struct rift_event *event);
/* Hands out the frames that can be opened now. */
void client_take_frames(struct wv_client *c, uint64_t now);
/* Tells the caller who the host is and how this client stands there. */
void client_tell_hello(struct wv_client *c);
void client_on_cursor_image(struct wv_client *c, const struct wv_control *m);
void client_on_control(struct wv_client *c, const uint8_t *data, size_t len);
void client_show_newest(struct wv_client *c);
void client_second(struct wv_client *c, uint64_t now);
void client_sum_session(const struct wv_client *c, struct rift_session_stats *ret);
