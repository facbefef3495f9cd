/* One RIFT session after the handshake, either role, sans-IO: datagrams and `now` in, datagrams, events and
 * the next timeout out. It owns no socket, clock, thread or file. proto/WIRE.md says every byte. */
#pragma once

#include "rift/core/cc.h"
#include "rift/crypto/inner.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Largest UDP payload in bytes: what every path must carry, and what a path may be found to carry. */
#define RIFT_MTU_BYTES     1200
#define RIFT_MTU_MAX_BYTES 1452
/* Where datagrams come from and go to: opaque here (16 bytes IPv6 or v4-mapped address, 2 bytes port). */
#define RIFT_ADDRESS_BYTES 18
/* Bounds that every peer may rely on. */
#define RIFT_FRAME_MAX_BYTES   (4u << 20)
#define RIFT_CONTROL_MAX_BYTES 65536u
#define RIFT_KEY_BYTES         32

enum rift_role { RIFT_ROLE_HOST, RIFT_ROLE_CLIENT };

/* The two ECN bits of the IP header (RFC 3168). */
enum rift_ecn { RIFT_ECN_NONE = 0, RIFT_ECN_ECT1 = 1, RIFT_ECN_ECT0 = 2, RIFT_ECN_CE = 3 };

/* What a datagram mainly carries: for DSCP (EF, CS0 or AF41) and for the socket's queue. */
enum rift_class { RIFT_CLASS_INPUT, RIFT_CLASS_CONTROL, RIFT_CLASS_MEDIA };

struct rift_session_config {
    enum rift_role role;
    uint32_t local_id;                /* what the peer writes into the header of datagrams to us */
    uint32_t remote_id;               /* what we write into the header of datagrams to the peer */
    uint8_t key_send[RIFT_KEY_BYTES]; /* from Noise Split(), never from the handshake hash */
    uint8_t key_receive[RIFT_KEY_BYTES];
    uint64_t first_counter; /* first packet counter to use; past a reserved block after a restore, else 0 */
    uint64_t pacing_bps;    /* rate of the pacer, bits per second of UDP payload */
    uint32_t pacing_burst_bytes; /* what may leave at once after idleness */
    uint64_t idle_timeout_ns;    /* no authenticated packet for this long ends the session; 0: 10 s */
    uint64_t keepalive_ns;       /* send at least this often; 0: 1 s */

    /* The address that the handshake ran with; all zero: the first one that rift_session_receive_from() finds
     * an authentic datagram to come from. */
    uint8_t address[RIFT_ADDRESS_BYTES];
    /* Makes path tokens unpredictable also to the peer. All zero: taken from the system. */
    uint8_t entropy[RIFT_KEY_BYTES];
    uint32_t mtu_max_bytes; /* probe the path up to here, RIFT_MTU_BYTES: not at all; 0: RIFT_MTU_MAX_BYTES */
    enum rift_ecn ecn;      /* mark media with RIFT_ECN_ECT0 or RIFT_ECN_ECT1 while the path takes it */
    /* Host: the congestion controller, which then decides when video leaves (rift/core/cc.h; `pacing_bps` is
     * not used); NULL: none. With it, the rates to stay between and to begin with, of UDP payload and 48
     * bytes of headers per datagram. */
    const struct rift_cc_ops *congestion;
    uint64_t min_bps, max_bps, start_bps;
    enum rift_cc_mode mode;
    bool fec; /* host: send repairs when the path loses datagrams; takes reports */
    /* Frames a second at most. A client that expects some reports what arrives when; 0: it does not. */
    double fps;
    /* Client: seals input events for the host's input stage (rift_inner_derive()). Unused by a host. */
    uint8_t input_key[RIFT_KEY_BYTES];
    /* The sending key is renewed when one of these is reached; 0: 2^30 datagrams, 64 GiB, 10 minutes. */
    uint64_t rekey_packets, rekey_bytes, rekey_ns;
};

/* One input event. `code` is an evdev code (KEY_*, BTN_*). */
enum rift_input_kind {
    RIFT_INPUT_KEY = 1,         /* code, down */
    RIFT_INPUT_BUTTON = 2,      /* code (BTN_LEFT...), down */
    RIFT_INPUT_POINTER_ABS = 3, /* x, y in 0..65535 of the captured picture's width and height */
    RIFT_INPUT_POINTER_REL = 4, /* x, y in pixels, -32768..32767 */
    RIFT_INPUT_SCROLL = 5,      /* x, y in 1/120 of a detent, -32768..32767; y > 0 is up, x > 0 is right */
    RIFT_INPUT_RELEASE_ALL = 6, /* focus was lost: everything held down comes up */
};

struct rift_input_event {
    uint8_t kind;
    uint8_t down; /* 0 or 1 */
    uint16_t code;
    int32_t x, y;
    uint64_t time_us; /* the sender's monotonic clock when the event happened */
};

/* What travels with each video access unit. */
struct rift_frame_meta {
    uint32_t frame_id; /* +1 for each frame of an epoch's stream, over epochs too; wraps */
    uint16_t epoch;    /* changes when the encoder started anew; such a stream starts with a keyframe */
    bool keyframe;
    uint16_t width, height; /* of the coded picture, pixels */
    uint64_t capture_us;    /* host monotonic clock: the picture was taken */
    uint64_t encoded_us;    /* host monotonic clock: the access unit was complete */
    uint32_t input_seq;     /* highest input event sequence injected before the picture was taken, 0: none */
};

/* Cursor position, newest wins. */
struct rift_cursor {
    uint16_t x, y; /* pixels of the captured picture */
    bool visible;
    uint32_t shape_id;
};

enum rift_close_reason {
    RIFT_CLOSE_NORMAL = 0,
    RIFT_CLOSE_SHUTDOWN = 1,     /* the host goes away */
    RIFT_CLOSE_REVOKED = 2,      /* the key may no longer be used */
    RIFT_CLOSE_BUSY = 3,         /* no free place */
    RIFT_CLOSE_PROTOCOL = 4,     /* the peer broke a rule of WIRE.md */
    RIFT_CLOSE_REPLACED = 5,     /* the same key connected anew */
    RIFT_CLOSE_UNAUTHORIZED = 6, /* the host does not know this key */
    RIFT_CLOSE_TIMEOUT = 100,    /* local only: the peer fell silent */
};

enum rift_event_kind {
    RIFT_EVENT_FRAME = 1,        /* client: a whole access unit, in frame_id order, decodable */
    RIFT_EVENT_INPUT,            /* host: one sealed input event, in order, exactly once; input.seq from 1 */
    RIFT_EVENT_CONTROL,          /* both: one control message, reliable, in order */
    RIFT_EVENT_CURSOR,           /* client */
    RIFT_EVENT_KEYFRAME_REQUEST, /* host: the client can't decode on */
    RIFT_EVENT_CLOSED,           /* both: no more events follow */
};

struct rift_event {
    enum rift_event_kind kind;
    union {
        struct {
            struct rift_frame_meta meta;
            const uint8_t *data; /* valid until the next call on the session */
            size_t len;
            uint64_t first_packet_ns, last_packet_ns; /* local arrival times */
        } frame;
        struct {
            uint32_t seq;
            uint8_t sealed[RIFT_INPUT_SEALED_BYTES]; /* rift_input_open(), then rift_input_event_read() */
        } input;
        struct {
            const uint8_t *data; /* valid until the next call on the session */
            size_t len;
            uint32_t number; /* counts from 1 */
        } control;
        struct rift_cursor cursor;
        struct {
            enum rift_close_reason reason;
            char text[128]; /* the peer's words, printable ASCII, "" when none */
        } closed;
    };
};

/* Counters since the session began; rates are for the caller to derive. */
struct rift_session_stats {
    uint64_t packets_sent, bytes_sent, packets_received, bytes_received;
    uint64_t dropped_replay, dropped_auth, dropped_malformed;
    uint64_t frames_sent, frames_received, frames_lost; /* lost: given up by the joiner */
    uint64_t fragments_retransmitted, nacks_sent, nacks_received;
    uint64_t keyframe_requests;
    uint64_t input_sent, input_received, input_repeated; /* events */
    uint64_t rtt_ns, rtt_min_ns;                         /* 0: not measured yet */
    int64_t clock_offset_ns; /* peer clock minus ours, at the lowest round trip of the last minute */
    uint64_t packets_lost;   /* receiver: counters that never came */
    size_t memory_bytes;     /* held for frames, control and input; bounded */

    uint64_t path_changes, path_attempts; /* moves to a new address; addresses that wanted one */
    uint32_t mtu_bytes;                   /* largest datagram that is sent now */
    uint64_t mtu_probes, mtu_black_holes;
    uint32_t key_generation; /* of the sending key */
    bool ecn_capable;        /* the path is known to keep our marks */
    uint64_t ecn_failures;   /* times that marking was given up */
    uint64_t ecn_ce_sent;    /* datagrams of ours that the peer saw congestion marked on */
    uint64_t ecn_ce;         /* the same, of the peer's datagrams */

    uint64_t repairs_sent, repairs_received; /* datagrams of forward error correction */
    uint64_t fragments_recovered;            /* that repairs gave back */
    uint64_t frames_repaired;                /* that got a fragment so */
    uint32_t repair_permille;                /* repairs per 1000 fragments now */
};

enum {
    RIFT_SESSION_DROPPED =
        1,                  /* receive: not for us, replayed, forged or malformed; counted, nothing changed */
    RIFT_SESSION_IDLE = 1,  /* send: nothing to send before rift_session_timeout() */
    RIFT_SESSION_NONE = 1,  /* next_event: no event */
    RIFT_SESSION_ENDED = 3, /* export: the session is closed, there is nothing to go on with */
    RIFT_SESSION_FULL = 2,  /* send_control, send_input: the peer does not acknowledge; the queue is full */
};

/* Of congestion control, both roles. */
struct rift_session_rate_stats {
    struct rift_cc_stats controller; /* zero without one */
    uint64_t reports_sent, reports_received;
    uint64_t padding_sent; /* datagrams that only measure the path */
    uint64_t restarts;     /* times that the controller began anew */
};

struct rift_session;

/* Returns 0 or -ENOMEM, -EINVAL. The session keeps no pointer into CONFIG. */
int rift_session_new(struct rift_session **ret_session, const struct rift_session_config *config,
                     uint64_t now);

/* Wipes keys. Returns NULL. */
struct rift_session *rift_session_free(struct rift_session *s);

/* Reads the receiver id of a data datagram. Returns 0, or -EBADMSG when it isn't one. */
int rift_datagram_receiver(const uint8_t *datagram, size_t len, uint32_t *ret_id);

/* Takes one datagram. Returns 0 or RIFT_SESSION_DROPPED; never fails on foreign bytes. */
int rift_session_receive(struct rift_session *s, const uint8_t *datagram, size_t len, uint64_t now);

/* The same for a socket that tells where a datagram came from and how its ECN bits were. An address that is
 * not the session's starts a path challenge there; the flow moves only when that was answered and the old
 * address did not show itself alive. Use either this and rift_session_send_to(), or the pair of
 * rift_session_receive() and rift_session_send(), not a mixture. */
int rift_session_receive_from(struct rift_session *s, const uint8_t address[RIFT_ADDRESS_BYTES],
                              enum rift_ecn ecn, const uint8_t *datagram, size_t len, uint64_t now);

/* The next datagram that is given to the session came at AT, as the kernel says: at most `now`, and some
 * milliseconds before it when the process was busy. For the reports to the sender only. */
void rift_session_set_arrival(struct rift_session *s, uint64_t at);

/* Writes the next datagram that is due at NOW into BUFFER (capacity at least RIFT_MTU_BYTES). Classes go
 * strictly in the order input and cursor, control, video; the pacer only ever delays video. Call until it
 * returns RIFT_SESSION_IDLE. Returns 0 with RET_LEN. */
int rift_session_send(struct rift_session *s, uint8_t *buffer, size_t capacity, uint64_t now,
                      size_t *ret_len);

/* A datagram to send. It must never be fragmented on its way (IP_MTU_DISCOVER: IP_PMTUDISC_PROBE). */
struct rift_outgoing {
    size_t len;
    uint8_t address[RIFT_ADDRESS_BYTES]; /* where to; all zero when the session was never told an address */
    enum rift_class traffic_class;
    enum rift_ecn ecn;
    uint64_t planned_ns; /* of the first video that the pacer held back: when it was to leave; else 0 */
};

/* The same with the address, class and marking of each datagram. CAPACITY bounds what the path is probed for
 * and must not become smaller in later calls (RIFT_MTU_MAX_BYTES is best); less than RIFT_MTU_BYTES or than
 * before: -EINVAL. */
int rift_session_send_to(struct rift_session *s, uint8_t *buffer, size_t capacity, uint64_t now,
                         struct rift_outgoing *ret_datagram);

/* The peer's address that the flow goes to now; all zero: none is known. */
void rift_session_get_address(const struct rift_session *s, uint8_t ret_address[RIFT_ADDRESS_BYTES]);

/* The peer's own word, fresh, authenticated elsewhere (rift/punch), that its datagrams come from ADDRESS from
 * now on, which answered there: the flow goes there at once. */
void rift_session_move_to(struct rift_session *s, const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t now);

/* Our own end of the path is another one (a new network, a new socket): measures it anew, and says something
 * at once, so that the peer notices. */
void rift_session_path_changed(struct rift_session *s, uint64_t now);

/* Absolute time at which rift_session_send() must be called next even if nothing arrives. In the past (also
 * 0): now. UINT64_MAX: never again, the session is closed and has told the peer; it can be freed. */
uint64_t rift_session_timeout(const struct rift_session *s);

/* Takes the next event. Returns 0 or RIFT_SESSION_NONE. */
int rift_session_next_event(struct rift_session *s, struct rift_event *ret_event);

/* Host: queues one access unit (copied). Frames still unsent when a newer keyframe of a new epoch comes are
 * dropped. Returns 0, -EMSGSIZE (empty or too long), -EINVAL (frame_id not after the last one's), -ENOMEM;
 * RIFT_SESSION_FULL when too much is unsent (the id then counts as used): ask the encoder for a keyframe. */
int rift_session_send_frame(struct rift_session *s, const struct rift_frame_meta *meta, const uint8_t *data,
                            size_t len, uint64_t now);

/* Client: queues one input event; it is sealed when it is first sent and repeated in every datagram of the
 * input class until acknowledged. A pointer move or RELEASE_ALL may be joined to one just before it that was
 * never sent; it then has its sequence. Returns 0 with RET_SEQ (from 1), -EINVAL for an event out of range,
 * RIFT_SESSION_FULL. The event with the last sequence of 32 bits closes the session. */
int rift_session_send_input(struct rift_session *s, const struct rift_input_event *event, uint64_t now,
                            uint32_t *ret_seq);

/* Queues one control message (copied, at most RIFT_CONTROL_MAX_BYTES). Returns 0, -EMSGSIZE,
 * RIFT_SESSION_FULL. */
int rift_session_send_control(struct rift_session *s, const uint8_t *data, size_t len, uint64_t now);

/* Host: newest position wins; repeated a few times at keepalive pace so that the last one arrives. */
void rift_session_send_cursor(struct rift_session *s, const struct rift_cursor *cursor, uint64_t now);

/* Client: asks for a keyframe (the decoder can't go on). Repeated until one arrives. */
void rift_session_request_keyframe(struct rift_session *s, uint64_t now);

/* Sends a close to the peer (a few times); the local RIFT_EVENT_CLOSED follows at once. */
void rift_session_close(struct rift_session *s, enum rift_close_reason reason, const char *text,
                        uint64_t now);

/* ---- a session that outlives its process (host only) ----
 *
 * Its state is exported into memory that survives, and imported by the next process. What the peer was told
 * must not be forgotten, so after rift_session_reserve() the session holds back, until an export covered it:
 * acknowledgements, the first sending of a control message, a new key, and counters past a reserved block.
 * The loop is then receive, receive ... next_event, next_event ... if (rift_session_wants_export(s)) export,
 * and store it send, send ... until idle Store an export whole before the next send (two places in turns, for
 * a process may die in between). What was handed to the application after the last export is handed out again
 * after an import, with the same input.seq and control.number: drop numbers that were seen. What the
 * application queued after it is lost with the application. The state holds keys and input: it must not reach
 * a file or a core dump. */
#define RIFT_STATE_MAX_BYTES (160u << 10)

/* From now on counters are reserved in blocks of BLOCK (1024 to 2^24; 65536 is a good one). Returns 0 or
 * -EINVAL (a client, or a session that has sent or received). Nothing is sent before the first export. */
int rift_session_reserve(struct rift_session *s, uint32_t block);

/* Whether something waits for an export; also the reason when rift_session_timeout() says now and
 * rift_session_send() is idle. False for a closed session. */
bool rift_session_wants_export(const struct rift_session *s);

/* Writes the state into BUFFER (CAPACITY at least RIFT_STATE_MAX_BYTES; a few kilobytes as a rule). No
 * allocation. Returns 0 with RET_LEN, -EINVAL (no reservation, a small buffer), RIFT_SESSION_ENDED. */
int rift_session_export(struct rift_session *s, uint8_t *buffer, size_t capacity, uint64_t now,
                        size_t *ret_len);

/* Makes a session of a state that rift_session_export() wrote. From CONFIG are taken: role, pacing,
 * congestion control, timeouts, entropy, MTU, ECN and key limits; all else is the state's. Wants an export
 * before it sends, and a keyframe when there was video. Returns 0, -EBADMSG (it does not check out: begin
 * without it), -EINVAL, -ENOMEM. */
int rift_session_import(struct rift_session **ret_session, const struct rift_session_config *config,
                        const uint8_t *state, size_t len, uint64_t now);

/* Host: the rate in bit/s, of access units without headers, that the encoder's next frame should fit, to be
 * asked once for each frame, before it is encoded; 0 without a controller. */
uint64_t rift_session_target_bps(struct rift_session *s, uint64_t now);

/* Host: false when so much waits unsent that the next picture had better not be encoded at all. */
bool rift_session_frame_wanted(const struct rift_session *s, uint64_t now);

void rift_session_get_rate_stats(const struct rift_session *s, struct rift_session_rate_stats *ret_stats);

/* Without effect on video while there is a congestion controller. */
void rift_session_set_pacing(struct rift_session *s, uint64_t pacing_bps, uint32_t burst_bytes);

void rift_session_get_stats(const struct rift_session *s, struct rift_session_stats *ret_stats);

/* Checks an event against the ranges above. Returns 0 or -EINVAL. */
int rift_input_event_check(const struct rift_input_event *event);
