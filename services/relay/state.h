/* What the relay keeps over its own restart: its leases with the addresses bound to them, the secret of its
 * challenges, and whether it drains. A sealed memfd that systemd keeps, or a file; written whenever a lease
 * changes, before its peer is told. Never the contents of a datagram. */
#pragma once

#include "rift/relay/relay.h"

struct wv_relay_state;

/* STORED_FD (may be -1, taken over): what the process before this one left. PATH (may be empty): a file
 * instead. Reads what is there and makes room for MAX_LEASES. Anything damaged, of another boot of the
 * machine or of another form counts as nothing. Returns 0 or a negative errno. */
int wv_relay_state_open(struct wv_relay_state **ret, int take_stored_fd, const char *path, size_t max_leases);
struct wv_relay_state *wv_relay_state_free(struct wv_relay_state *s);

/* The memory to be given to systemd when it is another one than STORED_FD was; -1: none. Not the caller's. */
int wv_relay_state_new_fd(const struct wv_relay_state *s);
/* Of the process before, else fresh. */
const uint8_t *wv_relay_state_secret(const struct wv_relay_state *s);
bool wv_relay_state_was_draining(const struct wv_relay_state *s);

/* Gives the leases that were kept to RELAY, then frees what was read. Returns how many it took; RET_LOST:
 * those that it did not. */
size_t wv_relay_state_restore(struct wv_relay_state *s, struct rift_relay *relay,
                              const struct rift_relay_clock *clock, size_t *ret_lost);
/* Writes what changed in RELAY since the last time. */
void wv_relay_state_keep(struct wv_relay_state *s, struct rift_relay *relay);
