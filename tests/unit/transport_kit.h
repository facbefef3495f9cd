/* A whole transport in one process and one loop: real UDP on loopback, real bus links, the identity stage's
 * own code behind one of them, and stand-ins for encoder, capture and input that note what they are told (by
 * identity too). */
#pragma once

#include "lib/ipc/au_ring.h"
#include "lib/ipc/bus.h"
#include "lib/ipc/session_page.h"
#include "proto/bus_input.pb-c.h"
#include "proto/rift.pb-c.h"
#include "rift/core/handshake.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/inner.h"
#include "services/identity/identity.h"
#include "services/transport/metrics.h"
#include "services/transport/session_vault.h"
#include "services/transport/transport.h"

#include <netinet/in.h>

#define KIT_EVENTS   256
#define KIT_COUNTERS 8192
#define KIT_KEYS     16

/* One end of a link that is not the transport's. */
struct kit_stage {
    struct wv_bus *bus;
    struct wv_bus_link *link;
};

struct kit {
    char folder[64];
    struct wv_loop *loop;
    struct wv_metrics *metrics, *identity_metrics;
    struct wv_session_page *page;
    uint32_t max_sessions;
    int udp, au_entries, au_reader, au_event, page_fd, vault_fd, identity_page_fd;
    uint8_t host_key[32];
    struct sockaddr_in6 address;
    struct wv_bus *bus; /* the transport's */
    struct wv_transport *transport;
    struct wv_identity *identity;
    struct wv_au_producer *encoder_ring;
    struct kit_stage identity_stage, encoder, capture, input;
    struct wv_loop_source *step;

    /* What the stand-ins were told. */
    unsigned encoder_targets, keyframe_requests, capture_targets, shape_requests;
    uint32_t encoder_viewers, encoder_bitrate, capture_viewers;
    unsigned n_events, n_releases, n_unopened;
    struct {
        uint32_t session;
        uint8_t key[32];
    } controllers[KIT_KEYS]; /* that identity named to the input stage; the last one is the newest */
    unsigned n_controllers, n_media_keys;
    uint32_t kid;
    uint8_t media_key[32];
    struct {
        uint32_t session, seq, kind, code;
        bool down;
        int32_t x, y;
    } events[KIT_EVENTS];
    uint32_t released;
    bool acknowledges; /* the input stand-in answers InputDone; true at first */
    bool drained;

    struct kit_client *clients; /* stepped with the loop */
    bool (*condition)(struct kit *k, void *argument);
    void *argument;
    uint64_t deadline;
};

struct kit_client {
    struct kit_client *next;
    struct kit *kit;
    struct rift_identity identity;
    int fd;
    struct wv_loop_source *source;
    struct rift_initiator *initiator;
    struct rift_session *session;
    struct rift_inner inner;
    uint8_t host_key[32];
    bool mute; /* sends nothing */
    uint8_t last_sent[RIFT_MTU_MAX_BYTES];
    size_t last_sent_len;
    uint64_t counters[KIT_COUNTERS]; /* of all datagrams that the host sent: none may come twice */
    size_t n_counters;

    unsigned n_frames, n_hellos, n_images, n_cursors;
    struct rift_frame_meta frame;
    uint8_t frame_first_byte;
    size_t frame_len;
    bool controls;
    uint32_t width, height;
    char notice[128];
    struct rift_cursor cursor;
    uint32_t image_kid;
    uint8_t image_nonce[24], image_sealed[256]; /* of the sealed shape, its first bytes */
    size_t image_len;
    unsigned n_inner, n_inner_bad; /* messages of identity that opened, and that did not */
    uint32_t granted_kid;
    uint8_t granted_key[32];
    bool standing_controls, paired;
    bool closed;
    enum rift_close_reason reason;
};

/* Starts everything, with room for MAX_SESSIONS and no known keys. V4: the socket is one of IPv4 alone. */
void kit_init(struct kit *k, uint32_t max_sessions, bool v4);
void kit_fini(struct kit *k);
/* The transport's process is gone without a word; and another one starts with what it was granted. */
void kit_transport_kill(struct kit *k);
void kit_transport_start(struct kit *k);
/* Runs the loop until CONDITION holds. Fails the test after 5 s (ten times that under a sanitizer's
 * slowness). */
void kit_until(struct kit *k, bool (*condition)(struct kit *k, void *argument), void *argument);
/* Runs the loop for MS milliseconds. */
void kit_run(struct kit *k, unsigned ms);
uint64_t kit_metric(const struct kit *k, enum wv_transport_metric id);

/* The identity stage's process is gone; and another one starts with what it was granted. */
void kit_identity_kill(struct kit *k);
void kit_identity_start(struct kit *k);
/* An administrator's request. REPLY may be NULL. */
void kit_request(struct kit *k, const char *verb, const char *text, char *reply, size_t capacity);

void kit_stage_connect(struct kit *k, struct kit_stage *stage, const char *name);
void kit_stage_disconnect(struct kit_stage *stage);
/* Makes the key of SEED known, as NAME. */
void kit_authorize(struct kit *k, uint8_t seed, const char *name);
/* Pushes an access unit of LEN bytes that begins with FIRST and wakes the transport. */
void kit_push(struct kit *k, bool keyframe, uint8_t first, size_t len, uint32_t input_seq);

/* A client with the identity of SEED begins its handshake; a stranger does so without the host's key. */
void kit_stranger_init(struct kit *k, struct kit_client *c, uint8_t seed);
void kit_client_init(struct kit *k, struct kit_client *c, uint8_t seed, bool view_only);
void kit_client_fini(struct kit_client *c);
/* Throws its socket away and takes a new one, with another port. */
void kit_client_move(struct kit_client *c);
void kit_client_connected(struct kit *k, struct kit_client *c); /* waits until it has a HostHello */
void kit_client_key(struct kit_client *c, uint16_t code, bool down);
/* Says something to identity. */
void kit_client_inner(struct kit_client *c, const Wavry__Rift__InnerToHost *message);
