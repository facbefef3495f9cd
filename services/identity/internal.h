/* What the files of the identity stage share. Only they include it. */
#pragma once

#include "proto/bus_identity.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_paths.pb-c.h"
#include "proto/rift.pb-c.h"
#include "rift/core/session.h"
#include "services/identity/handshakes.h"
#include "services/identity/identity.h"
#include "services/identity/live.h"
#include "services/identity/pairing.h"
#include "services/identity/peers_file.h"

/* What a session's client was told last; of this process's doing only: a new one tells everybody again. */
struct told {
    uint32_t number; /* of the session that this is about */
    uint32_t kid;
    bool standing;
    uint32_t grants;
    uint64_t expires;
    bool controls;
    char notice[WV_LIVE_NAME_BYTES + 32];
};

struct wv_identity {
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint8_t key[32];
    struct wv_handshakes *handshakes;
    struct wv_peers_file *peers;
    struct wv_metrics *metrics;
    struct wv_identity_world world;
    struct wv_loop_source *watch, *timer;
    int inotify_fd;

    struct wv_live *live;
    struct told told[WV_LIVE_MAX];
    bool input_told, transport_told, first_key_told, first_key_pairing;
    uint32_t input_has, transport_has; /* the session that they were told controls */
    uint32_t encoder_kid, capture_kid;
    uint64_t retry_at, retry_ns;

    struct wv_pairing *pairing;
    char *pairing_path;

    struct reach_desk *reach; /* reach.c's own */
};

/* ---- identity.c ---- */
/* Returns whether it went out. */
bool wv_identity_send(struct wv_identity *id, enum wv_identity_to to, const ProtobufCMessage *message);
uint64_t wv_identity_unix(struct wv_identity *id);
/* Reads the list of known keys again if it changed, and holds every session against it. */
void wv_identity_refresh(struct wv_identity *id);
/* A key was taken off the list: its session ends. */
void wv_identity_key_gone(struct wv_identity *id, const uint8_t key[32]);

/* ---- arbiter.c ---- */
/* Everybody is told what changed: to be called last, after anything did. */
void wv_arbiter_sync(struct wv_identity *id, uint64_t now);
/* Ends the session and tells transport. The session is gone afterwards. */
void wv_arbiter_end(struct wv_identity *id, struct wv_live_session *s, enum rift_close_reason reason,
                    const char *text);
/* Holds every session against the list of known keys. */
void wv_arbiter_check(struct wv_identity *id);
/* Audit line: KEY as text. */
void wv_arbiter_key_text(const struct wv_live_session *s, char ret[RIFT_PUBLIC_KEY_TEXT_BYTES]);

int wv_arbiter_on_first_key_question(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_arbiter_on_sessions_alive(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_arbiter_on_media_key_question(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_arbiter_on_cursor_key_question(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_arbiter_on_controller_question(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- talk.c: with clients, sealed ---- */
bool wv_talk_send(struct wv_identity *id, struct wv_live_session *s,
                  const Wavry__Rift__InnerToClient *message);
int wv_talk_on_inner(void *userdata, const ProtobufCMessage *message, uint64_t now);

/* ---- reach.c: ways to this host that a gateway arranges ---- */
/* Copies what it needs of IDENTITY and reads which gateway this host is registered with. Returns 0 or a
 * negative errno with REASON. */
int wv_reach_open(struct wv_identity *id, const struct rift_identity *identity, const char *state_dir,
                  char reason[WV_IDENTITY_REASON_BYTES]);
void wv_reach_close(struct wv_identity *id);
int wv_reach_on_question(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_reach_on_challenge(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_reach_on_candidates(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_reach_on_signal(void *userdata, const ProtobufCMessage *message, uint64_t now);
int wv_reach_on_path_answer(void *userdata, const ProtobufCMessage *message, uint64_t now);
/* The administrator's "gateway...". */
int wv_reach_request(struct wv_identity *id, const char *verb, const char *text, char *reply,
                     size_t capacity);

/* ---- pairs.c: pairing, between pairing.h, the disk and the client ---- */
int wv_pairs_open(struct wv_identity *id, const char *state_dir, char reason[WV_IDENTITY_REASON_BYTES]);
void wv_pairs_start(struct wv_identity *id, struct wv_live_session *s, const Wavry__Rift__PairStart *message,
                    uint64_t now);
void wv_pairs_confirm(struct wv_identity *id, struct wv_live_session *s,
                      const Wavry__Rift__PairConfirm *message, uint64_t now);
int wv_pairs_request(struct wv_identity *id, const char *verb, const char *text, uint64_t now, char *reply,
                     size_t capacity);
/* Puts the pairing state on disk. Returns 0 or a negative errno. */
int wv_pairs_save(struct wv_identity *id);
