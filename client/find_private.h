/* The inside of a finder, shared by look.c (where the host of a name may be) and find.c (the way to it
 * through a gateway) and by nobody else. */
#pragma once

#include "client/find.h"
#include "lib/gateway/account.h"
#include "lib/gateway/live.h"
#include "rift/crypto/offer.h"
#include "rift/relay/lease.h"

struct finder {
    struct app *a;
    struct wv_gateway_account account;
    struct wv_gateway_live *live; /* from finder_begin() on */
    struct wv_client_ways ways;
    struct wv_client *client;
    struct wv_loop_source *source, *renew, *rest;
    uint64_t rest_until; /* what the gateway says waits until then */
    char host_key[RIFT_PUBLIC_KEY_TEXT_BYTES], own_key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint8_t id[RIFT_OFFER_ID_BYTES]; /* of the newest offer */
    char id_text[2 * RIFT_OFFER_ID_BYTES + 1];
    char relay_key[RIFT_SIGN_KEY_TEXT_BYTES], host_relay_key[RIFT_SIGN_KEY_TEXT_BYTES];
    char lease[WV_LIVE_LEASE_MAX];
    char last_error[48];
    struct resolver *resolver;     /* the last resort, look.c; NULL: none */
    bool no_use;                   /* the gateway can't help to a first connection */
    struct wv_gateway_event event; /* large */
};

/* find.c: the gateway of this person. Returns 0 with A's finder, a positive or a negative number (said where
 * it should be): there is none. */
int finder_open(struct app *a);
/* Begins to sign in there, to stay, on a thread of its own. No other connection to a gateway may be made in
 * this process meanwhile: libwebsockets 4.1 takes what it knows of one context's connections for another's.
 * Returns 0 or a negative errno. */
int finder_begin(struct finder *f);
int finder_sign(void *userdata, const char *name, const uint8_t challenge[32], uint8_t ret_signature[64]);

/* look.c: asks the resolver for NAME on a thread of its own, which may take its time. */
struct resolver *resolver_new(const char *name);
/* Returns NULL; does not wait. */
struct resolver *resolver_free(struct resolver *r);
enum resolver_state { RESOLVER_ASKING, RESOLVER_KNOWS, RESOLVER_DOES_NOT };
enum resolver_state resolver_state(const struct resolver *r);
