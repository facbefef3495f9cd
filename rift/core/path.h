/* Which address the peer is at. WIRE.md section 9. A datagram may come from anywhere; the flow moves to a new
 * address only when that address answered a challenge, and when the old one did not show within a round trip
 * that the peer is still there: who merely forwards copies of datagrams never becomes the path. Addresses are
 * opaque. Nothing but challenges and answers ever goes to an address that is not proven, at most three bytes
 * for each that came from it. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/wire.h"

#define RIFT_PATH_RESPONSES 4
/* The datagram around a challenge or response. */
#define RIFT_PATH_DATAGRAM_BYTES (RIFT_SEAL_BYTES + RIFT_FRAME_HEADER_BYTES + RIFT_PATH_TOKEN_BYTES)

enum rift_path_state {
    RIFT_PATH_STEADY,
    RIFT_PATH_TRYING, /* `other` wants to be the path */
    RIFT_PATH_MOVED,  /* `other` was the path until a moment ago, and is asked whether it should be again */
};

struct rift_path_challenge {
    uint8_t token[RIFT_PATH_TOKEN_BYTES];
    uint64_t due;
    unsigned tries;
};

struct rift_path {
    bool known;
    uint8_t current[RIFT_ADDRESS_BYTES], other[RIFT_ADDRESS_BYTES];
    enum rift_path_state state;
    struct rift_path_challenge to_new, to_old;
    uint64_t first_counter; /* of the first datagram from the new address */
    uint64_t decide_at;     /* until then the old address may show itself alive */
    uint64_t until;         /* end of the state */
    bool proven;            /* the new address answered */
    bool old_answered;      /* the old address' challenge was answered, by datagram old_counter */
    uint64_t old_counter;
    uint64_t received_bytes, sent_bytes; /* from and to an unproven address */

    /* An address that lost against a living path; not tried again for a while. */
    bool refused_known;
    uint8_t refused[RIFT_ADDRESS_BYTES];
    uint64_t refused_until;
    uint64_t heard_ns; /* the current address was last heard */

    struct {
        uint8_t address[RIFT_ADDRESS_BYTES], token[RIFT_PATH_TOKEN_BYTES];
    } responses[RIFT_PATH_RESPONSES];
    unsigned n_responses;

    uint8_t secret[RIFT_KEY_BYTES];
    uint64_t n_tokens;
    uint64_t attempts;
};

/* An authentic datagram. */
struct rift_path_arrival {
    const uint8_t *address;
    uint64_t counter;
    bool newest; /* no higher counter came before */
    size_t len;
    uint64_t rtt_ns, rtt_var_ns; /* of the current path, 0: not known */
};

enum { RIFT_PATH_CHANGED = 1 };

/* ADDRESS: all zero when it is not known yet. SECRET makes the tokens; all zero: taken from the system. */
void rift_path_init(struct rift_path *p, const uint8_t address[RIFT_ADDRESS_BYTES],
                    const uint8_t secret[RIFT_KEY_BYTES], uint64_t now);
void rift_path_wipe(struct rift_path *p);
/* After rift_path_init(): goes on at ADDRESS (NULL: not known). OLD (NULL: none) was the path until a moment
 * before; it is asked anew whether it should be again. */
void rift_path_restore(struct rift_path *p, const uint8_t *address, const uint8_t *old, uint64_t now);

/* The following return 0, or RIFT_PATH_CHANGED when the flow moved. */
int rift_path_on_datagram(struct rift_path *p, const struct rift_path_arrival *a, uint64_t now);
int rift_path_on_response(struct rift_path *p, const uint8_t token[RIFT_PATH_TOKEN_BYTES],
                          const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t counter, uint64_t now);
int rift_path_tick(struct rift_path *p, uint64_t now);

/* The peer's own, fresh and authenticated word that its datagrams come from ADDRESS, which is proven: nobody
 * has to be asked. What of the way before is still under way does not bring the flow back. */
int rift_path_move_to(struct rift_path *p, const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t now);

/* Whether a second copy of a datagram, from ADDRESS, would tell something; and what to do with one that is
 * genuine: somebody's copy from elsewhere had overtaken it. */
bool rift_path_wants_copy(const struct rift_path *p, const uint8_t address[RIFT_ADDRESS_BYTES]);
int rift_path_on_copy(struct rift_path *p, uint64_t counter, uint64_t now);

/* A challenge came from ADDRESS; NULL: from the current one. */
void rift_path_on_challenge(struct rift_path *p, const uint8_t token[RIFT_PATH_TOKEN_BYTES],
                            const uint8_t *address);

/* Writes one challenge or response that is due, and where it goes. Returns whether there was one. */
bool rift_path_write(struct rift_path *p, struct wv_writer *w, uint64_t now,
                     uint8_t ret_address[RIFT_ADDRESS_BYTES]);
uint64_t rift_path_timeout(const struct rift_path *p);
