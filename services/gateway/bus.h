/* How gateways talk to each other: small messages to one of them or to all, with two ways behind it: within
 * one process (a single gateway) and NATS. A message comes at most once, those of one sender in their order;
 * it may be lost whenever a server or a gateway dies, so who needs to know asks for an answer. Must never
 * block the caller, nor keep a message for later: what can't go now is refused now. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_BUS_ID_BYTES      33 /* of a gateway: 1 to 32 of [A-Za-z0-9_-], and a NUL */
#define WV_BUS_MESSAGE_BYTES 65536
#define WV_BUS_REASON_BYTES  256

struct wv_bus;

struct wv_bus_calls {
    /* On the loop thread, within wv_bus_dispatch(). DATA is valid until it returns. */
    void (*message)(void *userdata, const void *data, size_t len);
    void (*state)(void *userdata, bool up);
    /* On any thread: wv_bus_dispatch() is to be called soon on the loop thread. Must not call back. */
    void (*wake)(void *userdata);
    void *userdata;
};

struct wv_bus_numbers {
    uint64_t sent, received;
    uint64_t refused; /* publishing failed: not connected, or too much is waiting */
    uint64_t dropped; /* received or accepted, and lost on the way: a queue was full, or the server went */
    uint64_t reconnects;
};

/* URL: "local:", or one or more "nats://[user:password@|token@]host[:port]" or "tls://..." with commas
 * between. SELF is this gateway's own id, unlike any other's. A server that is not there yet is no error: it
 * is tried again for ever. REASON (may be NULL) says what is wrong. Returns 0, -EINVAL (URL, SELF), -ENOMEM,
 * -EIO. */
int wv_bus_open(struct wv_bus **ret, const char *url, const char *self, const struct wv_bus_calls *calls,
                char reason[WV_BUS_REASON_BYTES]);
/* A bus within the process that reaches BESIDE and all that were opened so (NULL: only this one yet). */
int wv_bus_open_local(struct wv_bus **ret, struct wv_bus *beside, const char *self,
                      const struct wv_bus_calls *calls);
/* What is still waiting to go out is given a moment. No call comes afterwards. Returns NULL. */
struct wv_bus *wv_bus_close(struct wv_bus *b);

/* TO: a gateway's id, or NULL: all others. Returns 0 when it is on its way, -ENOTCONN, -ENOBUFS (too much is
 * waiting), -EMSGSIZE (0 or more than WV_BUS_MESSAGE_BYTES), -EINVAL (TO is none, or this one). */
int wv_bus_publish(struct wv_bus *b, const char *to, const void *data, size_t len);
/* Makes the calls that are due; at most some hundred messages a turn (wake comes again for the rest). */
void wv_bus_dispatch(struct wv_bus *b);
bool wv_bus_is_up(const struct wv_bus *b);
const char *wv_bus_kind(const struct wv_bus *b); /* "local", "nats" */
void wv_bus_numbers(const struct wv_bus *b, struct wv_bus_numbers *ret);
