/* What the transport itself must remember of a session, beside the protocol's state: the record around
 * rift_session_export(), and back from foreign bytes. Pure. */
#pragma once

#include "lib/base/bytes.h"
#include "services/transport/input_relay.h"
#include "services/transport/paths.h"
#include "services/transport/peer_messages.h"

#define WV_KEEP_KEY_BYTES 32

struct wv_session_keep {
    uint32_t id;
    uint32_t number; /* by which identity knows it */
    uint8_t peer_key[WV_KEEP_KEY_BYTES];
    char name[WV_PEER_TEXT_BYTES];
    struct wv_client_hello hello;
    uint64_t since_ns, input_events, frames_lost;
    const struct way *way; /* of an announced client, else NULL. Read: of the caller, see below */
    bool controls;         /* what the relay holds is this session's, and follows */
};

/* Writes KEEP with its way, and RELAY when it controls. The protocol's state follows to the end. */
void wv_session_keep_write(struct wv_writer *w, const struct wv_session_keep *keep,
                           const struct wv_relay *relay);

/* The same back, and RET_WAY when there was one (else its `used` is false; the caller frees it); R then is at
 * the protocol's state. RELAY takes over what the record holds only when all of it checks out and the session
 * controls. Returns 0 or -EBADMSG. */
int wv_session_keep_read(struct wv_reader *r, struct wv_session_keep *ret_keep, struct wv_relay *relay,
                         struct way *ret_way, uint64_t now);
