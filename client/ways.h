/* The client's ways to a host whose address nobody gave: its own addresses (STUN from the socket of the
 * session), knocks, a relay, and which of these the session takes now. Used by the client library alone;
 * wavry_client.h has what callers see. Must never decide when a session begins or ends. */
#pragma once

#include "client/wavry_client.h"
#include "rift/core/session.h"

struct wv_ways;

int wv_ways_new(struct wv_ways **ret, struct wv_client *c, const struct wv_client_ways *setup);
struct wv_ways *wv_ways_free(struct wv_ways *w);

int wv_ways_set_stun(struct wv_ways *w, const uint8_t (*addresses)[RIFT_ADDRESS_BYTES], size_t n,
                     uint64_t now);
int wv_ways_answer(struct wv_ways *w, const struct rift_candidate *candidates, size_t n, uint64_t now);
int wv_ways_lease(struct wv_ways *w, const uint8_t *lease, const uint8_t relay[RIFT_ADDRESS_BYTES],
                  uint64_t now);

/* There is a way that answered. */
bool wv_ways_found(const struct wv_ways *w);
/* Datagram I of the link's batch. */
void wv_ways_take(struct wv_ways *w, int i, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                  uint64_t now);
/* The datagram at hand was authentic. */
void wv_ways_heard(struct wv_ways *w, uint64_t now);
/* A handshake came to nothing. */
void wv_ways_failed(struct wv_ways *w, uint64_t now);
void wv_ways_network_changed(struct wv_ways *w, uint64_t now);
/* Chooses, sends what is due, and aims the link at the way that was chosen. */
void wv_ways_pump(struct wv_ways *w, uint64_t now);
uint64_t wv_ways_timeout(const struct wv_ways *w);
/* The part of the numbers that is ours. */
void wv_ways_tell(const struct wv_ways *w, struct wv_client_stats *stats);
