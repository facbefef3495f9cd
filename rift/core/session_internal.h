/* What the parts of a session share. Tests and the simulator include it too; nobody else. */
#pragma once

#include "rift/core/control.h"
#include "rift/core/ecn.h"
#include "rift/core/input.h"
#include "rift/core/join.h"
#include "rift/core/mtu.h"
#include "rift/core/pacer.h"
#include "rift/core/packet.h"
#include "rift/core/path.h"
#include "rift/core/session_fec.h"
#include "rift/core/session_rate.h"
#include "rift/core/split.h"

struct rift_session {
    enum rift_role role;
    struct rift_packet packet;
    struct rift_path path;
    struct rift_mtu mtu;
    struct rift_marks marks;
    struct rift_timing timing;
    struct rift_pacer pacer;
    struct rift_rate rate;
    struct rift_repair repair;
    struct rift_pool pool;
    uint64_t idle_timeout_ns;

    /* What a stored state covers, for a session that outlives its process (state.c). */
    bool held;
    uint32_t reserve_block;
    uint64_t reserved_until; /* counters below may be used */
    bool key_pending;        /* the next sending key waits until a state holds it */
    bool path_unstored;

    uint64_t heard_ns; /* last authenticated datagram */

    struct rift_input_tx *input_tx; /* client */
    struct rift_input_rx *input_rx; /* host */
    struct rift_control_tx control_tx;
    struct rift_control_rx control_rx;
    struct rift_split *split; /* host */
    struct rift_join *join;   /* client */

    /* Cursor: the host's is repeated, the client's waits for the application. */
    struct rift_cursor cursor;
    uint32_t cursor_seq; /* 0: none yet */
    bool cursor_pending; /* client: for the application */
    uint64_t cursor_due; /* host: next repetition */
    unsigned cursor_repeats;

    uint64_t video_held; /* host: video waits for this time of the pacer; 0: none does */

    /* Host: a request for a keyframe waits for the application. */
    bool key_wanted;
    uint64_t key_told_ns;
    bool key_told;

    /* Client: feedback to the host. */
    uint64_t feedback_due, feedback_last;
    uint64_t arrival_ns; /* of the next datagram; 0: when it is given to us */
    bool frame_ended;    /* the datagram being read holds the last fragment of a frame */

    /* The end. Memory is released when the application has taken the last event. */
    bool closed, closed_told, released;
    enum rift_close_reason close_reason;
    char close_text[RIFT_CLOSE_TEXT_BYTES + 1];
    unsigned closes_left;
    uint64_t close_due;

    struct rift_session_stats stats;
};

/* Bytes of a fragment, so that it and its repairs fit what the path carries. */
uint16_t rift_session_fragment_bytes(const struct rift_session *s);

/* The flow goes to another address, or ours is another: what was measured of the path is forgotten. */
void rift_session_new_path(struct rift_session *s, uint64_t now);

/* Does what the return value of rift_path_*() and rift_mtu_*() asks for. */
void rift_session_path_result(struct rift_session *s, int result, uint64_t now);
void rift_session_mtu_result(struct rift_session *s, int result, uint64_t now);

/* A datagram from ADDRESS that was refused as a replay: perhaps the genuine one, overtaken by a copy. */
void rift_session_path_copy(struct rift_session *s, const uint8_t *address, const uint8_t *datagram,
                            size_t len, uint64_t now);
/* An authentic datagram COUNTER came from ADDRESS; NULL: the caller does not tell. */
void rift_session_path_datagram(struct rift_session *s, const uint8_t *address, uint64_t counter, size_t len,
                                uint64_t now);

/* Takes the frames of an authenticated payload, as rift_session_receive() does after opening a datagram with
 * COUNTER. Returns 0, or RIFT_SESSION_DROPPED when a frame was malformed (it and the rest were dropped). */
int rift_session_frames(struct rift_session *s, const uint8_t *payload, size_t len, uint64_t counter,
                        uint64_t now);

/* Host: tells the controller of frames that the splitter dropped before they were sent. */
void rift_session_settle_rate(struct rift_session *s, uint64_t now);

/* Ends the session from our side of things. SEND: tell the peer. DRAIN: what was received may still be taken.
 */
void rift_session_end(struct rift_session *s, enum rift_close_reason reason, const char *text, bool send,
                      bool drain, uint64_t now);
