/* The way of input events from the controlling session to the input stage: what is kept until it is known to
 * be dealt with, and when it is sent again. The events are sealed by the client for that stage; nothing here
 * knows what is in them. Pure, on virtual time: no bus, no clock. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_RELAY_EVENTS     1024 /* kept at most */
#define WV_RELAY_BATCH      64   /* events of one message */
#define WV_RELAY_UNACKED_NS UINT64_C(50000000)
#define WV_RELAY_FRESH_NS   UINT64_C(200000000) /* older events wait in peace for an input stage */
#define WV_RELAY_UNSENT_NS  UINT64_C(10000000)  /* nobody at the other end: next try */
#define WV_RELAY_SLOW_NS    UINT64_C(250000000) /* the same, when only old events wait */
#define WV_RELAY_RELEASE_NS                                                                                  \
    UINT64_C(2000000000) /* a release is tried this long; a new input stage lets go anyway */

struct wv_relay;

struct wv_relay_stats {
    uint64_t pushed, dropped_full, resent, bad_acks;
};

/* Events with consecutive numbers, on their way to the input stage. */
struct wv_relay_batch {
    uint32_t first_seq;
    size_t n;
    uint8_t events[WV_RELAY_BATCH * RIFT_INPUT_SEALED_BYTES];
    uint64_t came_us[WV_RELAY_BATCH]; /* when each came from the client */
};

int wv_relay_new(struct wv_relay **ret);
struct wv_relay *wv_relay_free(struct wv_relay *r);

/* SESSION controls from now on (0: nobody). What the earlier one left is dropped, and its release becomes
 * due. */
void wv_relay_set_controller(struct wv_relay *r, uint32_t session, uint64_t now);
uint32_t wv_relay_controller(const struct wv_relay *r);

/* Takes the next event of the controller; SEQ rises. The oldest makes room when all is full: the input stage
 * sees that a number is missing, and lets go of everything. */
void wv_relay_push(struct wv_relay *r, uint32_t seq, const uint8_t sealed[RIFT_INPUT_SEALED_BYTES],
                   uint64_t now);

/* The session whose release must be sent now, before any batch; 0: none. */
uint32_t wv_relay_release(struct wv_relay *r, uint64_t now);
void wv_relay_release_sent(struct wv_relay *r, bool sent, uint64_t now);

/* The next events to send now. Returns how many; call again after wv_relay_sent() until 0. */
size_t wv_relay_take(struct wv_relay *r, uint64_t now, struct wv_relay_batch *ret_batch);
/* The N events of the last wv_relay_take() were sent, or nobody was there to take them. */
void wv_relay_sent(struct wv_relay *r, size_t n, bool sent, uint64_t now);

/* The input stage says that everything of SESSION up to SEQ is done. Numbers never sent are ignored and
 * counted. */
void wv_relay_done(struct wv_relay *r, uint32_t session, uint32_t seq, uint64_t now);

/* The input stage says that of SESSION nothing is with it that it did not confirm: all that is left is due
 * now. */
void wv_relay_again(struct wv_relay *r, uint32_t session, uint64_t now);

/* Time of the next wv_relay_release() or wv_relay_take() that can have something; UINT64_MAX: none. */
uint64_t wv_relay_timeout(const struct wv_relay *r);

/* SEQ that a picture claims to show, when it can be one of the controller's; else 0. */
uint32_t wv_relay_shown(const struct wv_relay *r, uint32_t seq);

/* Everything held down comes up, whoever held it: for a transport whose predecessor left a controller that
 * it doesn't know. */
void wv_relay_release_unknown(struct wv_relay *r, uint64_t now);

/* What a relay must remember over a restart: the controller and its events that are not known to be injected.
 */
#define WV_RELAY_STATE_MAX_BYTES (16 + WV_RELAY_EVENTS * (12 + RIFT_INPUT_SEALED_BYTES))
void wv_relay_write(const struct wv_relay *r, struct wv_writer *w);
/* The same from foreign bytes, into a relay without a controller. All events are due again; the input stage
 * knows which of them it had, and opens none that was changed. Returns 0, or -EBADMSG with the relay
 * unchanged. */
int wv_relay_read(struct wv_relay *r, struct wv_reader *in, uint64_t now);

/* Undoes wv_relay_read(). */
void wv_relay_forget(struct wv_relay *r);

void wv_relay_get_stats(const struct wv_relay *r, struct wv_relay_stats *ret);
