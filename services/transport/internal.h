/* What the modules of the transport share. Nothing outside services/transport includes this. */
#pragma once

#include "lib/ipc/au_ring.h"
#include "lib/ipc/session_page.h"
#include "rift/core/handshake.h"
#include "rift/punch/quiet.h"
#include "services/transport/input_relay.h"
#include "services/transport/ladder.h"
#include "services/transport/metrics.h"
#include "services/transport/paths.h"
#include "services/transport/peer_messages.h"
#include "services/transport/session_vault.h"
#include "services/transport/transport.h"
#include "services/transport/udp.h"

#define SLOTS             64 /* sessions that live, and as many again that are saying goodbye */
#define HALF_OPEN_MAX     64
#define TICK_NS           UINT64_C(250000000)
#define NEVER             UINT64_MAX
#define KEY_BYTES         32
#define SHAPE_NONCE_BYTES 24
#define SHAPE_BYTES_LIMIT                                                                                    \
    (RIFT_CONTROL_MAX_BYTES - 64) /* of a sealed shape that fits one control message                         \
                                   */
#define RESTRICTED_MAX 2          /* clients that pair at once */
#define INNER_WAITING  32

struct session {
    struct rift_session *rift; /* NULL: the slot is free */
    bool closing;              /* not served any more, only says goodbye until GOODBYE_UNTIL */
    bool restricted;           /* may only exchange sealed messages with identity, until RESTRICTED_UNTIL */
    uint64_t goodbye_until, restricted_until;
    uint32_t id;     /* the local id of its datagrams */
    uint32_t number; /* by which identity knows it: never given twice */
    uint8_t peer_key[KEY_BYTES];
    char name[WV_PEER_TEXT_BYTES];
    struct wv_client_hello hello;
    struct wv_address address; /* where the session sends to; only for people to see */
    uint64_t since_ns;
    unsigned keep;   /* its slot in the vault + 1; 0: it ends with this process */
    bool keep_dirty; /* our own part of what the vault holds is outdated */

    uint64_t inner_ns; /* of its messages to identity: the time up to which its rate is used up */

    bool needs_keyframe; /* nothing else is of use to it */
    uint64_t keyframe_sent_ns;
    uint64_t frames_lost; /* as reported */

    bool hello_due;
    uint32_t shape_version; /* of the cursor image that it has */
    uint64_t control_retry_at;

    uint64_t input_events;
    struct wv_client_report report;
    struct rift_session_stats seen; /* already counted in the metrics */
    struct rift_session_rate_stats rate_seen;

    uint64_t frame_popped_ns, frame_first_ns; /* of the frame that is on its way out; 0: none */
    uint64_t frames_done;
    uint64_t states_sent, states_lost; /* as reach was told */
    struct rift_quiet quiet;           /* how long nothing came of its client */
};

/* What the encoder is to do, and what it was told. */
struct media_rate {
    struct wv_ladder ladder;
    uint64_t target_bps, told_bps, told_ns;
    bool hold, told_hold;
    bool news; /* a change that is worth a message */
};

struct media {
    struct media_rate rate;
    struct wv_au_consumer *ring;
    bool more; /* the ring was left before it was empty */
    uint64_t last_au_ns;
    uint64_t targets_at, targets_sent_ns;      /* next and last time that the stages were told */
    unsigned farewells;                        /* repetitions of "nobody watches" to go */
    uint64_t encoder_away_ns, capture_away_ns; /* since when nobody is at the other end; 0: somebody is */
    uint64_t keyframe_asked_ns;                /* 0: not asked since the last keyframe */
    uint64_t keyframe_wanted_ns;               /* since when somebody needs one; 0: nobody */
    uint16_t width, height;                    /* of the last picture, 0: none yet */
    uint16_t source_width, source_height;      /* as it was captured */
    const char *notice;                        /* why there is no picture; "" */
};

struct cursor {
    bool known;
    struct rift_cursor position;
    uint32_t version; /* of the shape: +1 when it changes; 0: none */
    uint32_t shape_id, kid;
    uint64_t asked_ns;
    size_t len;
    uint8_t nonce[SHAPE_NONCE_BYTES];
    uint8_t sealed[SHAPE_BYTES_LIMIT]; /* the shape itself is not for us */
};

/* Sealed messages that could not be passed on at once. */
struct inner_message {
    uint32_t session;
    bool to_host;
    uint16_t len;
    uint8_t sealed[WV_PEER_INNER_MAX_BYTES];
};
struct inner {
    size_t count; /* the oldest is first */
    uint64_t retry_at;
    struct inner_message waiting[INNER_WAITING];
};

/* What identity is told and asked. */
struct identity_link {
    bool keyed;         /* it has told what keys the first datagram of a client */
    bool alive_changed; /* the list of sessions is another than the one it was told */
    uint64_t ask_at, alive_at;
};

struct wv_transport {
    struct wv_transport_setup setup;
    struct wv_transport_links links;
    struct wv_metrics *metrics;
    struct wv_udp *udp;
    struct wv_loop_source *udp_source, *au_source, *timer, *junk_timer;
    struct wv_session_page *page;
    struct rift_responder *responder;
    struct rift_responder_stats responder_seen;
    struct wv_relay *relay;
    struct wv_relay_stats relay_seen;
    struct media media;
    struct cursor cursor;
    struct inner inner;
    struct identity_link identity;
    struct ways ways;
    struct session slots[SLOTS];
    size_t top; /* no slot from here on is in use */
    size_t n_live;
    struct session *controller; /* NULL: nobody */
    uint32_t controller_number; /* of identity's word; that session may not be here (any more) */
    uint64_t next_tick, last_tick;
    uint64_t count_at;  /* when to count junk that came and changed nothing else; NEVER: none came */
    bool came, stirred; /* a datagram of this wake-up; one that changed something */
    bool resting;       /* the socket is not listened to until junk_timer */
    uint64_t bytes_at_tick;
    size_t page_used;
    struct wv_session_vault *vault;    /* NULL: sessions end with this process */
    bool kept[WV_SESSION_VAULT_SLOTS]; /* slots in use */
    uint64_t keep_at;                  /* when to note again how long we have lived */
    bool keep_unsure;                  /* the process before had sessions that we don't know */
    uint64_t planned_ns; /* when the video of this flush was to leave; 0: the pacer did not hold it */
    bool draining, handing_over, waits_writable;
    char host_name[WV_PEER_TEXT_BYTES], status[128];
    uint8_t *scratch; /* RIFT_CONTROL_MAX_BYTES, for packing */
    uint32_t ids[64]; /* random, for sessions to come */
    size_t ids_left;
};

/* ---- transport.c ---- */
/* Does everything that is due: events, input, targets, datagrams, and the timer. */
void transport_pump(struct wv_transport *t, uint64_t now);
/* A datagram of the protocol itself, from FROM, which may be the name of a relayed way. Returns whether it
 * changed anything. */
bool transport_take(struct wv_transport *t, const struct wv_address *from, enum rift_ecn ecn,
                    const uint8_t *datagram, size_t len, uint64_t now);

/* ---- sessions.c ---- */
struct session_start {
    const struct rift_session_config *config;
    const struct wv_address *address;
    const uint8_t *peer_key;
    const char *name;
    const struct wv_client_hello *hello;
    uint32_t number;
    bool authorized, pairing;
};
/* What all sessions have in common, into CONFIG. */
void session_configure(const struct wv_transport *t, struct rift_session_config *config);
/* One more session is served. */
void session_enter(struct wv_transport *t);
void session_begin(struct wv_transport *t, const struct session_start *start, uint64_t now);
struct session *session_find(struct wv_transport *t, uint32_t id);
uint32_t session_new_id(struct wv_transport *t);
static inline bool session_is_open(const struct session *s)
{
    return s->rift && !s->closing;
}
/* It is served: gets the picture, may control. */
static inline bool session_is_live(const struct session *s)
{
    return session_is_open(s) && !s->restricted;
}
/* That identity knows as NUMBER; NULL: it is not here. */
struct session *session_by_number(struct wv_transport *t, uint32_t number);
/* Stops serving S and says why to its client. */
void session_close(struct wv_transport *t, struct session *s, enum rift_close_reason reason, const char *text,
                   uint64_t now);
void session_close_key(struct wv_transport *t, const uint8_t key[KEY_BYTES], enum rift_close_reason reason,
                       const char *text, uint64_t now);
/* Its client is gone or said goodbye: frees the slot. */
void session_end(struct wv_transport *t, struct session *s, uint64_t now);
/* Frees the slots of those that have said goodbye; ends what may only last so long. */
void sessions_reap(struct wv_transport *t, uint64_t now);
/* Takes over what changed in rift's own counters. */
void session_count(struct wv_transport *t, struct session *s);
void sessions_publish(struct wv_transport *t);

/* ---- media_rate.c ---- */
void rate_init(struct wv_transport *t);
/* A frame is about to be given to the sessions: do any want it? It was: what of the next one? */
void rate_before_frame(struct wv_transport *t, uint64_t now);
void rate_after_frame(struct wv_transport *t, uint64_t now);
/* Tells the encoder what changed. */
void rate_pump(struct wv_transport *t, uint64_t now);
/* For the metrics. */
void rate_publish(struct wv_transport *t);
struct wv_ladder_choice rate_choice(const struct wv_transport *t);
bool rate_wants_frame(const struct session *s, uint64_t now);

/* ---- paths.c ---- */
/* A datagram that is none of a handshake or session. Returns whether it changed anything. */
bool paths_receive(struct wv_transport *t, const struct wv_address *from, enum rift_ecn ecn,
                   const uint8_t *datagram, size_t len, uint64_t now);
/* What was written into the slot of wv_udp_slot() goes to TO, which may be the name of a relayed way. */
void paths_commit(struct wv_transport *t, const struct wv_address *to, size_t len, uint8_t tos);
void paths_pump(struct wv_transport *t, uint64_t now);
uint64_t paths_timeout(const struct wv_transport *t);
void paths_session_moved(struct wv_transport *t, struct session *s);
/* A key may no longer be used. */
void paths_forget_key(struct wv_transport *t, const uint8_t key[KEY_BYTES]);
void paths_network_changed(struct wv_transport *t, uint64_t now);
void paths_free(struct wv_transport *t);
/* The way that S takes or would take; NULL: its client was not announced. */
struct way *paths_of(struct wv_transport *t, const struct session *s);
/* Takes over what way_read() made, for the session of PEER_KEY. NULL: no place; it is the caller's still. */
struct way *paths_adopt(struct wv_transport *t, const struct way *from, const uint8_t peer_key[KEY_BYTES]);
int on_path_offer(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_path_lease(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* Tells clients again where this host is, as far as they have a way. */
void paths_answer_again(struct wv_transport *t);

/* ---- silence.c ---- */
/* Looks for clients that are not heard. */
void silence_pump(struct wv_transport *t, uint64_t now);
uint64_t silence_timeout(const struct wv_transport *t);

/* ---- stun.c ---- */
/* Nobody is heard: asks whether we are still where we were. */
void stun_doubt(struct wv_transport *t, uint64_t now);
bool stun_receive(struct wv_transport *t, const struct wv_address *from, const uint8_t *datagram, size_t len,
                  uint64_t now);
void stun_pump(struct wv_transport *t, uint64_t now);
uint64_t stun_timeout(const struct wv_transport *t);
int on_stun_servers(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- keep.c ---- */
/* Maps the vault, when there is one. */
int keep_open(struct wv_transport *t, uint64_t now);
/* The sessions of the process before go on. */
void keep_restore(struct wv_transport *t, uint64_t now);
/* S, which has sent and received nothing yet, is to outlive this process if there is a place for it. */
void keep_begin(struct wv_transport *t, struct session *s);
void keep_end(struct wv_transport *t, struct session *s);
/* Writes the state of S when something waits for that. Returns whether it did. */
bool keep_write(struct wv_transport *t, struct session *s, uint64_t now);
void keep_write_all(struct wv_transport *t, uint64_t now);

/* ---- handshake.c ---- */
int handshake_init(struct wv_transport *t);
/* Returns whether it changed anything or may be answered. */
bool handshake_receive(struct wv_transport *t, const struct wv_address *from, const uint8_t *datagram,
                       size_t len, uint64_t now);
void handshake_send(struct wv_transport *t, uint64_t now);
void handshake_count(struct wv_transport *t);
int on_handshake_answer(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_handshake_done(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_handshake_refused(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- identity_link.c ---- */
/* A session began or ended: identity is told at once. */
void identity_sessions_changed(struct wv_transport *t);
/* Identity could not be reached, and may have something new to tell when it can. */
void identity_away(struct wv_transport *t, uint64_t now);
void identity_pump(struct wv_transport *t, uint64_t now);
uint64_t identity_timeout(const struct wv_transport *t);
int on_first_key(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_controller_is(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_key_revoked(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_session_end(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- inner.c ---- */
/* A sealed message of S for identity. */
void inner_take(struct wv_transport *t, struct session *s, const uint8_t *sealed, size_t len, uint64_t now);
void inner_pump(struct wv_transport *t, uint64_t now);
/* S is over: what waits for it or from it is forgotten. */
void inner_forget(struct wv_transport *t, const struct session *s);
uint64_t inner_timeout(const struct wv_transport *t);
int on_inner_message(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- media.c ---- */
int media_on_au(void *userdata, uint64_t now);
void media_keyframe(struct wv_transport *t, struct session *s, uint64_t now);
/* The number of viewers changed. */
void media_viewers_changed(struct wv_transport *t, uint64_t now);
/* Somebody acts: stages that came back unnoticed are told their targets now. */
void media_stir(struct wv_transport *t, uint64_t now);
void media_pump(struct wv_transport *t, uint64_t now);
void media_tell_encoder(struct wv_transport *t, uint64_t now);
uint64_t media_timeout(const struct wv_transport *t);
/* Why there is no picture; "" when there is one. */
void media_judge(struct wv_transport *t, uint64_t now);
void media_time_frames(struct wv_transport *t, uint64_t before, uint64_t after);

/* ---- input.c ---- */
void input_take(struct wv_transport *t, struct session *s, const struct rift_event *event, uint64_t now);
void input_pump(struct wv_transport *t, uint64_t now);
void input_count(struct wv_transport *t);
/* The session that identity named, if it is here, is the one whose input is passed on. */
void input_find_controller(struct wv_transport *t, uint64_t now);
int on_input_done(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- control.c ---- */
void control_take(struct wv_transport *t, struct session *s, const uint8_t *data, size_t len, uint64_t now);
int control_send_inner(struct wv_transport *t, struct session *s, const uint8_t *sealed, size_t len,
                       uint64_t now);
/* Sends S what it doesn't know yet. */
void control_pump(struct wv_transport *t, struct session *s, uint64_t now);
void control_tell_all(struct wv_transport *t);
/* The picture has another size: so has the way of the cursor over it. */
void control_cursor_all(struct wv_transport *t, uint64_t now);
void control_want_shape(struct wv_transport *t, uint64_t now);
int on_cursor_moved(void *userdata, const ProtobufCMessage *message, uint64_t now);
int on_cursor_shape(void *userdata, const ProtobufCMessage *message, uint64_t now);
