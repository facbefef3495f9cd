/* The host's side of every handshake: the Noise states of half-open associations, by the token that transport
 * gave them. Pure: no bus, no clock, no file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_HANDSHAKES_MAX       64
#define WV_HANDSHAKE_EXPIRES_NS UINT64_C(10000000000)

struct wv_handshakes;

enum wv_handshake_result {
    WV_HANDSHAKE_ANSWER = 0,  /* message: Noise message 2 */
    WV_HANDSHAKE_DONE = 1,    /* keys, peer_key, payload: the client has proven its key */
    WV_HANDSHAKE_REFUSED = 2, /* reason; the handshake is over, unless keep says that it isn't */
};

struct wv_handshake_question {
    uint64_t token;
    uint32_t initiator_id;
    uint32_t local_id; /* the host's session id: goes into message 2, so that the client can check it */
    uint32_t step;     /* 1 or 3 */
    const uint8_t *message;
    size_t len;
};

struct wv_handshake_reply {
    const char *reason;
    bool keep; /* message 3 was a forgery, which anybody could have sent: the true one may follow */
    uint8_t message[256];
    size_t message_len;
    uint8_t key_send[32], key_receive[32], peer_key[32];
    uint8_t inner_base[32]; /* rift_inner_derive(): never for transport */
    uint8_t hash[64];       /* of the handshake; public */
    uint8_t payload[512];   /* a packed wavry.rift.ClientHello, checked */
    size_t payload_len;
    bool view_only;  /* the client's wish, from the greeting */
    char device[64]; /* the client's own name for itself, printable */
};

/* SECRET is the host's X25519 secret key (copied). Returns 0, -ENOMEM. */
int wv_handshakes_new(struct wv_handshakes **ret, const uint8_t secret[32]);
/* Wipes. Returns NULL. */
struct wv_handshakes *wv_handshakes_free(struct wv_handshakes *h);
/* Returns an enum wv_handshake_result, or -ENOMEM. Whoever calls wipes RET_REPLY after use. A repeated step 1
 * with the same message gets the same answer. */
int wv_handshakes_ask(struct wv_handshakes *h, const struct wv_handshake_question *question, uint64_t now,
                      struct wv_handshake_reply *ret_reply);
size_t wv_handshakes_pending(const struct wv_handshakes *h);

/* The host key's public half. */
void wv_handshakes_public_key(const struct wv_handshakes *h, uint8_t ret_key[32]);

/* Whether PAYLOAD is a packed wavry.rift.ClientHello with short printable texts. Returns 0 or -EBADMSG. */
int wv_client_hello_check(const uint8_t *payload, size_t len);
