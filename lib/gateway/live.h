/* A machine's standing connection to a gateway, on a thread of its own, which may wait for names and answers
 * for as long as they take. Signs in by the machine's key, keeps the WebSocket open, and tries again with
 * growing, uneven pauses. It holds no key: what is to be signed comes out as an event, or goes to its owner's
 * function. */
#pragma once

#include "lib/gateway/sign_in.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_LIVE_KEY_TEXT      64   /* wavry1... or ed25519..., with NUL */
#define WV_LIVE_ID_BYTES      40   /* of a signal, with NUL */
#define WV_LIVE_SEALED_MAX    6144 /* RIFT_OFFER_MAX_BYTES */
#define WV_LIVE_STUN_MAX      4
#define WV_LIVE_TEXT_BYTES    512 /* as WV_GATEWAY_SENTENCE_BYTES */
#define WV_LIVE_LEASE_MAX     512
#define WV_LIVE_ADDRESS_BYTES 18

struct wv_gateway_live;

enum wv_gateway_event_kind {
    WV_GATEWAY_CHALLENGE, /* sign it, and say so with wv_gateway_live_sign() */
    WV_GATEWAY_WELCOME,   /* signed in; stun */
    WV_GATEWAY_LOST,      /* text says why; it is tried again */
    WV_GATEWAY_SIGNAL,    /* key, id, sealed */
    WV_GATEWAY_SENT,      /* id: handed to the peer's connection */
    WV_GATEWAY_ERROR,     /* id, error, text: the signal or lease ID was refused */
    WV_GATEWAY_LEASE,     /* id, lease, relay, expires */
    WV_GATEWAY_DENIED,    /* error, text: the gateway does not know this key; it is tried again, seldom */
};

struct wv_gateway_event {
    enum wv_gateway_event_kind kind;
    uint8_t challenge[32];
    char key[WV_LIVE_KEY_TEXT], id[WV_LIVE_ID_BYTES], error[48], text[WV_LIVE_TEXT_BYTES];
    uint8_t sealed[WV_LIVE_SEALED_MAX];
    size_t sealed_len;
    char lease[WV_LIVE_LEASE_MAX];
    uint64_t expires;
    /* 18 bytes each: IPv6 or IPv4 mapped into it, and the port, big-endian. Names are resolved. */
    uint8_t relay[WV_LIVE_ADDRESS_BYTES], stun[WV_LIVE_STUN_MAX][WV_LIVE_ADDRESS_BYTES];
    size_t n_stun;
};

/* Makes the thread, which waits until wv_gateway_live_aim(). CA_FILE as in wv_gateway_new(). Call it before a
 * sandbox closes. Returns 0, -ENOENT (CA_FILE), or a negative errno. */
int wv_gateway_live_new(struct wv_gateway_live **ret, const char *ca_file);
/* Ends the thread, at the latest when what it waits for gives up. Returns NULL. */
struct wv_gateway_live *wv_gateway_live_free(struct wv_gateway_live *l);

/* Who signs challenges, on the connection's own thread; NULL: each comes out as WV_GATEWAY_CHALLENGE. Call it
 * before wv_gateway_live_aim(). */
void wv_gateway_live_set_sign(struct wv_gateway_live *l, wv_gateway_sign_fn sign, void *userdata);
/* How long each answer and the welcome are waited for, half of it for a signature; 10 s unless told. Call it
 * before wv_gateway_live_aim(). */
void wv_gateway_live_set_patience(struct wv_gateway_live *l, unsigned ms);
/* Which gateway, and under which key (text); URL NULL: none. */
void wv_gateway_live_aim(struct wv_gateway_live *l, const struct wv_gateway_url *url, const char *key);
/* This machine's addresses or routes may have changed: a connection that would leave by another address now
 * is made anew at once, and one that waits to be tried is tried. */
void wv_gateway_live_moved(struct wv_gateway_live *l);
/* An eventfd that counts events. Read it, then take all of them. */
int wv_gateway_live_fd(const struct wv_gateway_live *l);
/* Returns whether there was one. */
bool wv_gateway_live_next(struct wv_gateway_live *l, struct wv_gateway_event *ret);

/* The answer to WV_GATEWAY_CHALLENGE. */
void wv_gateway_live_sign(struct wv_gateway_live *l, const uint8_t challenge[32],
                          const uint8_t signature[64]);
/* Sends SEALED to machine KEY. Returns 0, -EAGAIN (too much is waiting), -ENOTCONN, -EMSGSIZE. */
int wv_gateway_live_signal(struct wv_gateway_live *l, const char *key, const char *id, const uint8_t *sealed,
                           size_t len);
/* Asks for a lease for both relay keys (text); RENEW (NULL: a new one) is a lease's text. Returns as above.
 */
int wv_gateway_live_lease(struct wv_gateway_live *l, const char *id, const char *host_key,
                          const char *host_relay_key, const char *client_relay_key, const char *renew);

struct wv_gateway_session {
    char peer[WV_LIVE_KEY_TEXT];
    bool relayed;
    uint32_t rtt_us, loss_permille;
};
/* For the gateway's table of sessions. */
int wv_gateway_live_sessions(struct wv_gateway_live *l, const struct wv_gateway_session *sessions, size_t n);
