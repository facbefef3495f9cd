/* The client's UDP socket: name to addresses, one connected socket, datagrams in and out in batches, and a
 * new socket when this machine's own address changes. Knows nothing of what the datagrams mean. */
#pragma once

#include "rift/core/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_LINK_BATCH 32

struct wv_link;

int wv_link_new(struct wv_link **ret, const char *host, uint16_t port);
struct wv_link *wv_link_free(struct wv_link *l);

/* Resolves the name (this may block for as long as the resolver takes: call it only while nothing runs).
 * Returns 0 or -ENOENT. */
int wv_link_resolve(struct wv_link *l);

/* Closes the socket and opens one to the next of the addresses, in turn. Returns the descriptor (owned by the
 * link) or a negative errno. */
int wv_link_open_next(struct wv_link *l);
/* The same with a socket to nobody in particular, IPv6 and IPv4 where the system has both: wv_link_aim() says
 * where to, wv_link_from() where from. */
int wv_link_open_any(struct wv_link *l);
/* Of the socket to nobody in particular; 0: it is not open. */
uint16_t wv_link_port(const struct wv_link *l);
/* Where what is committed from now on goes, with the WV_LINK_FRONT bytes of FRONT before it (NULL: none).
 * ADDRESS NULL: nowhere, it is dropped. */
#define WV_LINK_FRONT 8
void wv_link_aim(struct wv_link *l, const uint8_t *address, const uint8_t *front);
/* Where datagram I of the last batch came from. */
void wv_link_from(const struct wv_link *l, int i, uint8_t ret_address[RIFT_ADDRESS_BYTES]);
void wv_link_close(struct wv_link *l);
size_t wv_link_n_addresses(const struct wv_link *l);

/* "192.0.2.1:4820" of the open socket; the name before. */
const char *wv_link_text(const struct wv_link *l);

enum { WV_LINK_MOVED = 1 };

/* A descriptor that becomes readable when this machine's addresses or routes may have changed, -1: there is
 * none. Owned by the link. */
int wv_link_watch(struct wv_link *l);
/* Reads what made it readable. */
void wv_link_watched(struct wv_link *l);
/* Takes a new socket to the same host when the kernel would now send from another address than the socket
 * does, or in any case (FORCE). Returns 0, WV_LINK_MOVED with RET_FD (owned by the link; the old descriptor
 * is still open: take it out of the loop and call wv_link_drop_old()), or a negative errno: no way there now.
 */
int wv_link_follow(struct wv_link *l, bool force, int *ret_fd);
void wv_link_drop_old(struct wv_link *l);

/* Takes datagrams, WV_LINK_BATCH or more when so many wait. Returns their number (0: none wait) or a negative
 * errno of the path, as -ECONNREFUSED: nobody listens there. */
int wv_link_receive(struct wv_link *l);
/* Datagram I of the last batch; valid until the next wv_link_receive(). Writable: it is decrypted in place.
 */
uint8_t *wv_link_datagram(struct wv_link *l, int i, size_t *ret_len, enum rift_ecn *ret_ecn);
/* When it came, by the kernel's word (CLOCK_MONOTONIC): before the batch was taken. */
uint64_t wv_link_arrival(const struct wv_link *l, int i);

/* Room for the next datagram to send (RIFT_MTU_MAX_BYTES), and its end: it leaves with the batch, with TOS in
 * the header of IP where the kernel takes it. */
uint8_t *wv_link_reserve(struct wv_link *l, size_t *ret_capacity);
void wv_link_commit(struct wv_link *l, size_t len, uint8_t tos);
/* Hands all committed datagrams to the kernel. Returns 0 or a negative errno of the path; what the kernel
 * does not take is dropped, as on any network. */
int wv_link_flush(struct wv_link *l);
