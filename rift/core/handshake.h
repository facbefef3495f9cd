/* The RIFT handshake over datagrams, sans-IO: framing, retransmission, stateless address cookie. The
 * initiator (client) runs Noise itself. The responder's side is split: this module keeps the half-open
 * associations of the transport, and every Noise message is handed out as a question for the process that
 * holds the host key. */
#pragma once

#include "rift/core/session.h"

#define RIFT_HANDSHAKE_PAYLOAD_MAX 512  /* bytes of application payload in the third message */
#define RIFT_HANDSHAKE_MESSAGE_MAX 1024 /* bytes of one Noise message in a datagram */

enum rift_datagram_kind {
    RIFT_DATAGRAM_INVALID = 0,
    RIFT_DATAGRAM_INIT = 1,     /* client -> host, Noise message 1, padded to RIFT_MTU_BYTES */
    RIFT_DATAGRAM_RESPONSE = 2, /* host -> client, Noise message 2 */
    RIFT_DATAGRAM_FINISH = 3,   /* client -> host, Noise message 3 */
    RIFT_DATAGRAM_COOKIE = 4,   /* host -> client: repeat INIT with this cookie */
    RIFT_DATAGRAM_DATA = 16,
};

/* Datagrams whose first byte is FIRST to LAST have LEAST to MOST bytes, WIRE.md section 1.1. KIND is INVALID
 * where it is of no session or handshake: a host's dealings with relays, knocks. */
struct rift_datagram_shape {
    enum rift_datagram_kind kind;
    uint8_t first, last;
    uint16_t least, most;
};

/* All there are, for who looks at datagrams before this library does. */
const struct rift_datagram_shape *rift_datagram_shapes(size_t *ret_n);

/* Looks at the first byte and the length only. */
enum rift_datagram_kind rift_datagram_kind(const uint8_t *datagram, size_t len);

/* The Noise prologue of both sides: "RIFT 1" and the initiator's id (u32, little-endian); writes 10 bytes. */
#define RIFT_PROLOGUE_BYTES 10
void rift_handshake_prologue(uint32_t initiator_id, uint8_t ret_prologue[RIFT_PROLOGUE_BYTES]);

/* ---- initiator ---- */

struct rift_initiator;

enum {
    RIFT_HANDSHAKE_PENDING = 1,   /* nothing to do before the timeout / not finished / datagram ignored */
    RIFT_HANDSHAKE_TIMEOUT = 2,   /* the host did not answer within the time limit */
    RIFT_HANDSHAKE_WRONG_KEY = 3, /* the host proved another key than the expected one */
};

/* EXPECTED_KEY: the host's X25519 public key, which also keys the first datagram: a host does not answer who
 * does not know it. NULL: any key is taken and the first datagram is keyed by a constant, which a host
 * answers only while it shows a pairing code; the caller then trusts nothing but pairing. PAYLOAD goes into
 * message 3, encrypted. Returns 0, -ENOMEM, -EMSGSIZE. */
int rift_initiator_new(struct rift_initiator **ret, const uint8_t static_secret[32],
                       const uint8_t *expected_key, uint32_t local_id, const uint8_t *payload,
                       size_t payload_len, uint64_t now, uint64_t time_limit_ns);
struct rift_initiator *rift_initiator_free(struct rift_initiator *h);

/* Next datagram due at NOW: 0, RIFT_HANDSHAKE_PENDING, _TIMEOUT or _WRONG_KEY; -EMSGSIZE when CAPACITY is
 * too small (RIFT_MTU_BYTES always suffices). Retransmits at 100 ms, doubling up to 1 s. After FINISH was
 * sent it goes on repeating it until rift_initiator_free(); the time limit covers this too, so free it once
 * the session has received a packet. */
int rift_initiator_send(struct rift_initiator *h, uint8_t *buffer, size_t capacity, uint64_t now,
                        size_t *ret_len);

/* Takes any datagram: 0 when it changed something, RIFT_HANDSHAKE_PENDING when it was ignored (forged, not
 * for us, too late), RIFT_HANDSHAKE_WRONG_KEY. A forged datagram never ends the handshake. */
int rift_initiator_receive(struct rift_initiator *h, const uint8_t *datagram, size_t len, uint64_t now);

/* Absolute time of the next call of rift_initiator_send(). */
uint64_t rift_initiator_timeout(const struct rift_initiator *h);

/* After message 2 was accepted: fills role, ids and keys of RET_CONFIG and the host's key. Returns 0 or
 * RIFT_HANDSHAKE_PENDING. The session may be created at once; the handshake is done when the session has
 * received its first authenticated packet. */
int rift_initiator_finish(const struct rift_initiator *h, struct rift_session_config *ret_config,
                          uint8_t ret_host_key[32]);

/* Once rift_initiator_finish() gave 0: the base of the inner channel's keys (rift_inner_derive()) and the
 * handshake hash (public: binds pairing to this handshake). Returns 0 or RIFT_HANDSHAKE_PENDING. */
int rift_initiator_inner(const struct rift_initiator *h, uint8_t ret_base[32], uint8_t ret_hash[64]);

/* The key of an INIT's MAC for a host's public key; NULL: the constant of pairing. BLAKE2b-256 over "RIFT 1
 * first" and the 32 bytes (0 for NULL). */
void rift_handshake_first_key(const uint8_t *host_key, uint8_t ret_key[32]);

/* ---- responder's associations ---- */

struct rift_responder;

/* What the transport must ask the holder of the host key. TOKEN names the association in the answer. */
struct rift_responder_question {
    uint64_t token;
    uint32_t initiator_id;
    uint32_t local_id;
    uint8_t step; /* 1: message 1 came, answer with message 2; 3: message 3 came, answer with keys */
    uint8_t message[RIFT_HANDSHAKE_MESSAGE_MAX];
    size_t len;
};

struct rift_responder_stats {
    uint64_t started, cookies_sent, finished, refused, expired, malformed;
    uint64_t dropped; /* well-formed, but no room or not for an association that waits for it */
    uint64_t unkeyed; /* INITs without a right MAC */
    uint64_t forged;  /* messages 3 that the key holder could not read */
    size_t half_open;
};

/* SECRET keys the cookies (random, 32 bytes). At most MAX_HALF_OPEN associations (1..65535; older ones than
 * 10 s expire); from half of that on, INIT without a valid cookie is answered by COOKIE and leaves no state.
 * With all of them taken, one whose client was answered but silent for 2 s makes room. Returns 0, -ENOMEM,
 * -EINVAL. */
int rift_responder_new(struct rift_responder **ret, const uint8_t secret[32], size_t max_half_open,
                       uint64_t now);
struct rift_responder *rift_responder_free(struct rift_responder *r);

/* INITs must carry a MAC under HOST_KEY (rift_handshake_first_key()), or, with PAIRING, under the constant.
 * Until this was called every INIT is dropped. Associations stay. */
void rift_responder_set_keys(struct rift_responder *r, const uint8_t host_key[32], bool pairing);

/* Takes a handshake datagram from ADDRESS. LOCAL_ID is a free session id to use should an association begin;
 * an INIT is dropped when it belongs to another association already, so draw it anew (at random) for each
 * call. Returns 0 with a question in RET_QUESTION, or RIFT_HANDSHAKE_PENDING (nothing to ask; a reply may
 * wait in rift_responder_send). Never answers with more bytes than it received. Message 1 is asked again,
 * with a new token, when the client repeats it and 250 ms have passed without an answer (the key holder was
 * restarted); message 3 likewise, with the same token. */
int rift_responder_receive(struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                           const uint8_t *datagram, size_t len, uint32_t local_id, uint64_t now,
                           struct rift_responder_question *ret_question);

/* The key holder's answer to step 1: Noise message 2. Its payload is empty or, better, the 4 bytes of the
 * question's local_id (u32, little-endian), which the initiator then checks. Returns 0, -ENOENT (expired, or
 * asked again since), -EMSGSIZE. */
int rift_responder_answer(struct rift_responder *r, uint64_t token, const uint8_t *message, size_t len,
                          uint64_t now);

/* The key holder's answer to step 3: the association is complete. Fills role, ids, keys; address is where
 * FINISH came from. It then stays for 10 s so that a repeated FINISH is recognised and asks nothing. Returns
 * 0, -ENOENT. */
int rift_responder_complete(struct rift_responder *r, uint64_t token, const uint8_t key_send[32],
                            const uint8_t key_receive[32], uint64_t now,
                            struct rift_session_config *ret_config, uint8_t ret_address[RIFT_ADDRESS_BYTES]);

/* Message 3 was forged: the association goes on waiting for the true one; nobody ends it by a forgery. */
void rift_responder_keep(struct rift_responder *r, uint64_t token);

/* The key holder refused (forged, malformed): forgets the association. Nothing happens when the question was
 * answered before. */
void rift_responder_refuse(struct rift_responder *r, uint64_t token);

/* Next reply datagram and where to: 0, RIFT_HANDSHAKE_PENDING, or -EMSGSIZE when CAPACITY is too small
 * (RIFT_MTU_BYTES always suffices). */
int rift_responder_send(struct rift_responder *r, uint8_t *buffer, size_t capacity, uint64_t now,
                        uint8_t ret_address[RIFT_ADDRESS_BYTES], size_t *ret_len);

void rift_responder_get_stats(const struct rift_responder *r, struct rift_responder_stats *ret_stats);
