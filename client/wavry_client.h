/* libwavry-client: one connection to a Wavry host, for whoever embeds it. It owns the UDP socket, the
 * handshake, the session, the H.264 decoder and the clocks; the caller owns the event loop, the screen and
 * the keyboard. One thread: everything happens inside the caller's wv_loop. It writes no file and prints
 * nothing. */
#pragma once

#include "lib/ipc/loop.h"
#include "rift/core/session.h"
#include "rift/crypto/identity.h"
#include "rift/punch/agent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_CLIENT_DEFAULT_PORT 4820
#define WV_CLIENT_TEXT_BYTES   640 /* room for any sentence that the library says, with its NUL */

struct wv_client;

enum wv_client_state {
    WV_CLIENT_CONNECTING,   /* no session yet; every failed try is said once */
    WV_CLIENT_CONNECTED,    /* packets come */
    WV_CLIENT_LOST,         /* nothing for a second; the session is kept, a new handshake is on its way */
    WV_CLIENT_RECONNECTING, /* the session is gone; new handshakes until one works */
    WV_CLIENT_REFUSED,      /* final: trying again would change nothing (see the close reason) */
    WV_CLIENT_CLOSED,       /* final: wv_client_close() was called */
};

/* Why the client is in its state; the enum is for programs, the sentence for people. */
enum wv_client_reason {
    WV_CLIENT_REASON_NONE = 0,
    WV_CLIENT_REASON_ABSENT,       /* no answer, or the port is closed */
    WV_CLIENT_REASON_NAME,         /* the name can't be resolved */
    WV_CLIENT_REASON_NETWORK,      /* this machine can't send there */
    WV_CLIENT_REASON_HOST_KEY,     /* the host showed another key than expected */
    WV_CLIENT_REASON_UNAUTHORIZED, /* the host doesn't know our key */
    WV_CLIENT_REASON_REVOKED,
    WV_CLIENT_REASON_BUSY,
    WV_CLIENT_REASON_REPLACED, /* the same key connected from elsewhere */
    WV_CLIENT_REASON_PROTOCOL, /* the two versions don't understand each other */
    WV_CLIENT_REASON_SHUTDOWN, /* the host goes away */
    WV_CLIENT_REASON_SILENT,   /* packets stopped */
    WV_CLIENT_REASON_NO_CODE,  /* pairing: nobody there who shows a code, as far as one can see */
    WV_CLIENT_REASON_UNPAIRED, /* pairing: the host does not pair now */
};

/* What a client's key may be used for. */
enum wv_client_grant {
    WV_CLIENT_GRANT_VIEW = 1,
    WV_CLIENT_GRANT_INPUT = 2,
    WV_CLIENT_GRANT_CLIPBOARD_IN = 4,
    WV_CLIENT_GRANT_CLIPBOARD_OUT = 8,
    WV_CLIENT_GRANT_FILES_IN = 16,
    WV_CLIENT_GRANT_FILES_OUT = 32,
    WV_CLIENT_GRANT_AUDIO = 64,
};

/* The host's word on what this client may do now, and does. */
struct wv_client_standing {
    unsigned grants; /* enum wv_client_grant, or'ed */
    bool controls;
    uint64_t expires; /* Unix seconds, 0: never */
    char notice[256]; /* printable: who controls */
};

/* Pairing instead of watching: no picture comes, and the client ends with the `paired` callback. */
struct wv_client_pair {
    const uint8_t *secret; /* the code's 8 digits in ASCII, or the 16 bytes of a URL's token */
    size_t secret_len;
    bool token;
    const char *name; /* what the host should call this client; printable, at most 63 bytes */
};

enum wv_client_pair_outcome {
    WV_CLIENT_PAIRED,
    WV_CLIENT_PAIR_WRONG,    /* the host says no; its reason and the tries that are left say more */
    WV_CLIENT_PAIR_UNPROVEN, /* the other end does not know the secret: perhaps it is not the host */
    WV_CLIENT_PAIR_LOST,     /* no answer came */
};

/* What the host must be told before it can be reached without a known address: sealed to its key, through a
 * gateway. */
struct wv_client_offer {
    uint8_t secret[RIFT_KNOCK_SECRET_BYTES]; /* fresh for each offer */
    uint8_t relay_key[32];                   /* Ed25519: ours in a lease for this offer */
    struct rift_candidate candidates[RIFT_PUNCH_CANDIDATES];
    size_t n_candidates;
};

/* A host that is found by others than the client: they carry offers to it, and its answers and leases back by
 * wv_client_answer() and wv_client_lease(). */
struct wv_client_ways {
    /* An offer is to go to the host: once wv_client_set_stun() was called and servers answered or took too
     * long, and again when the host could not be reached by the one before. It replaces those before. Returns
     * 0, or a negative errno: it can't be carried now, and the one before still counts; another one is made
     * after a pause, or soon after wv_client_set_stun(). */
    int (*offer)(void *userdata, const struct wv_client_offer *offer);
    /* This machine's addresses or routes have changed, or may have: connections of one's own may be dead
     * without knowing it. NULL: not of interest. */
    void (*moved)(void *userdata);
    /* From now on datagrams go through a relay, or directly. NULL: not of interest. */
    void (*changed)(void *userdata, bool relayed);
    void *userdata;
};

struct wv_client_options {
    const char *host; /* name, IPv4 or IPv6 address (no brackets); with `ways` only what a person calls it */
    uint16_t port;    /* 0: WV_CLIENT_DEFAULT_PORT */
    const struct rift_identity *identity;
    const uint8_t *host_key;           /* X25519 public key that the host must prove; NULL only with `pair` */
    const struct wv_client_ways *ways; /* NULL: `host` and `port` are dialled */
    const struct wv_client_pair *pair; /* NULL: connect to watch */
    const char *software;              /* NULL: "wavry-client VERSION" */
    bool view_only;
    uint32_t width, height;  /* of the window or screen; 0 unknown */
    unsigned decode_threads; /* slices of one picture decoded at once; 0: 1 */
    bool no_decode;          /* access units only: no decoder is made, `picture` never comes */
};

/* One decoded picture, I420 in memory of the decoder: valid until the next picture callback returns, that is,
 * one picture longer than its own callback, so that two pictures can be compared. */
struct wv_client_picture {
    const uint8_t *plane[3]; /* Y, U, V */
    int stride[3];           /* bytes */
    int width, height;
    bool full_range; /* else 16..235 */
    bool bt709;      /* else BT.601 */
    struct rift_frame_meta meta;
    uint64_t decoded_ns; /* local clock */
};

struct wv_client_callbacks {
    /* TEXT is a whole sentence (or two) for a person: what, where, what to do. */
    void (*state)(void *userdata, enum wv_client_state state, enum wv_client_reason reason, const char *text);
    /* Every access unit, opened, in order. DATA is valid until the callback returns. */
    void (*access_unit)(void *userdata, const struct rift_frame_meta *meta, const uint8_t *data, size_t len);
    /* The newest decoded picture; older ones of the same wake-up are skipped. Show it, then call
     * wv_client_presented(). */
    void (*picture)(void *userdata, const struct wv_client_picture *picture);
    void (*cursor)(void *userdata, const struct rift_cursor *cursor);
    /* WIDTH x HEIGHT pixels of B, G, R, A, premultiplied; at most 256x256. */
    void (*cursor_image)(void *userdata, uint32_t shape_id, uint32_t width, uint32_t height, uint32_t hot_x,
                         uint32_t hot_y, const uint8_t *bgra);
    /* Who the host is and what it says: strings are NUL-terminated, printable, possibly "". CONTROLS: this
     * client's input is used. */
    void (*host_hello)(void *userdata, const char *name, uint32_t width, uint32_t height, bool controls,
                       const char *notice);
    /* What this client may do, and does; `host_hello` follows. */
    void (*standing)(void *userdata, const struct wv_client_standing *standing);
    /* The end of pairing. HOST_KEY is proven by the host, and with PAIRED also that it is the one that showed
     * the secret. REASON: the host's words, printable, possibly "". */
    void (*paired)(void *userdata, enum wv_client_pair_outcome outcome, const uint8_t host_key[32],
                   uint32_t tries_left, const char *reason);
};

enum wv_client_stage {
    WV_CLIENT_STAGE_NETWORK,    /* encoded at the host -> last packet here (clock offset applied) */
    WV_CLIENT_STAGE_REASSEMBLE, /* first -> last packet of a frame */
    WV_CLIENT_STAGE_DECODE,
    WV_CLIENT_STAGE_PRESENT, /* decoded -> handed to the display */
    WV_CLIENT_STAGE_GLASS,   /* captured at the host -> handed to the display (clock offset applied) */
    WV_CLIENT_STAGE_INPUT,   /* input event sent -> first picture taken after its injection presented */
    WV_CLIENT_N_STAGES,
};

const char *wv_client_stage_name(enum wv_client_stage stage);

struct wv_client_stats {
    enum wv_client_state state;
    uint64_t connects; /* sessions that came to life */
    uint64_t frames_received, frames_decoded, frames_shown, frames_skipped, decode_errors;
    uint64_t control_errors; /* control messages that made no sense, or were not the host's */
    uint64_t frames_forged;  /* access units that did not authenticate */
    uint64_t frames_unkeyed; /* times that the key of access units did not come */
    uint64_t frames_lost;    /* given up by the protocol */
    uint64_t repairs_received,
        fragments_repaired;   /* forward error correction: datagrams, and what they gave back */
    uint64_t frames_repaired; /* frames that got a fragment so */
    uint64_t connected_ns;    /* time with a living session */
    uint64_t bytes_received;  /* UDP payload */
    uint64_t media_bytes;     /* access units */
    uint64_t bitrate_bps;     /* of the last second */
    double fps;               /* pictures shown in the last second */
    uint64_t packets_received, packets_lost, packets_dropped, packets_sent;
    uint64_t input_sent; /* events accepted by a session */
    uint64_t rtt_us;
    const char *path;     /* "direct", "relayed"; "" while there is none */
    const char *path_why; /* a sentence for a person */
    uint64_t path_switches;
    char path_address[64];   /* of the host or the relay, "" while there is none */
    int64_t clock_offset_us; /* host clock minus ours */
    uint64_t keyframe_requests;
    uint32_t width, height; /* of the last picture */
    struct {
        uint64_t count, p50_us, p99_us;
    } stage[WV_CLIENT_N_STAGES]; /* since the client was made */
    struct {
        uint64_t count, p50_us, p99_us;
    } recent[WV_CLIENT_N_STAGES]; /* since the report before the last one: the last one to two seconds */
};

/* Starts connecting; the first packet leaves when LOOP runs. OPTIONS and what it points at are copied;
 * CALLBACKS is copied, each may be NULL. Returns 0, -ENOMEM, -EINVAL, -ENOSYS (no H.264 decoder: GStreamer's
 * libav plug-in is missing) or another negative errno. */
int wv_client_new(struct wv_client **ret_client, struct wv_loop *loop,
                  const struct wv_client_options *options, const struct wv_client_callbacks *callbacks,
                  void *userdata);

/* Says goodbye to the host if wv_client_close() did not, and frees everything. Not from a callback of the
 * client. Returns NULL. */
struct wv_client *wv_client_free(struct wv_client *c);

/* Releases all input, says goodbye; state CLOSED. */
void wv_client_close(struct wv_client *c);

/* Queues one input event; it leaves at the latest when the loop goes to sleep, or with wv_client_flush().
 * event.time_us 0: now. Returns 0 with RET_SEQ (may be NULL), -EINVAL, -ENOTCONN (no session, or view only),
 * or 1 when the host doesn't acknowledge and the queue is full: the event is dropped. */
int wv_client_send_input(struct wv_client *c, const struct rift_input_event *event, uint32_t *ret_seq);

/* Asks the host for the place of the one whose input is used, or gives it back (RELEASE). The host's answer
 * is a new standing. Returns 0, -ENOTCONN (no session, or view only), -EPERM (no grant for input), or 1 when
 * the host doesn't acknowledge. */
int wv_client_take_control(struct wv_client *c, bool release);

/* Sends what is due now. */
void wv_client_flush(struct wv_client *c);

/* The picture that was passed last has been handed to the display (call once per picture). */
void wv_client_presented(struct wv_client *c, uint64_t now);

/* ---- with options.ways ---- */

/* The STUN servers to ask, N of at most 4 addresses; none: the offer has only this machine's own addresses.
 * Call it once at the beginning, and again when they are others. Returns 0 or -EINVAL. */
int wv_client_set_stun(struct wv_client *c, const uint8_t (*addresses)[RIFT_ADDRESS_BYTES], size_t n);
/* Where the host says that it may be reached, for the newest offer; again: more of them. Returns 0, or
 * -EINVAL: none of them can be tried. */
int wv_client_answer(struct wv_client *c, const struct rift_candidate *candidates, size_t n);
/* A lease for the newest offer (RIFT_LEASE_BYTES) and its relay, or a later end of the same. The host must
 * get it too. Returns 0 or -EINVAL, -ENOMEM. */
int wv_client_lease(struct wv_client *c, const uint8_t *lease, const uint8_t relay[RIFT_ADDRESS_BYTES]);

/* Asks for a keyframe: for a caller that decodes by itself or starts to record. */
void wv_client_request_keyframe(struct wv_client *c);

enum wv_client_state wv_client_get_state(const struct wv_client *c);
/* Fills in all of RET. */
void wv_client_get_stats(struct wv_client *c, struct wv_client_stats *ret_stats);
/* "192.0.2.1:4820": where packets go, or the name while it isn't resolved. */
const char *wv_client_address(const struct wv_client *c);
