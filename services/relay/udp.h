/* The relay's sockets, in batches: trains of equal datagrams stay together from the kernel (UDP_GRO) through
 * the relay to the kernel (UDP_SEGMENT), and nothing is copied on the way. Knows nothing of leases. */
#pragma once

#include "lib/ipc/metrics.h"
#include "rift/relay/relay.h"
#include "services/relay/settings.h"

struct wv_relay_udp;

/* What is to happen to one datagram: RIFT_RELAY_FORWARD with RET_TO, or 0; as rift_relay_receive(). */
typedef int (*wv_relay_datagram_fn)(void *userdata, const struct rift_relay_address *from, uint8_t *datagram,
                                    size_t len, uint8_t *ecn, const struct rift_relay_address **ret_to);

int wv_relay_udp_new(struct wv_relay_udp **ret, struct wv_metrics *metrics);
struct wv_relay_udp *wv_relay_udp_free(struct wv_relay_udp *u);

/* Opens a socket for L. Returns 0 or a negative errno. */
int wv_relay_udp_open(struct wv_relay_udp *u, const struct wv_listen_at *l);
/* Takes over a bound UDP socket that somebody else opened. Returns 0 or a negative errno (then it is closed).
 */
int wv_relay_udp_take(struct wv_relay_udp *u, int take_fd);
size_t wv_relay_udp_count(const struct wv_relay_udp *u);
int wv_relay_udp_fd(const struct wv_relay_udp *u, size_t socket);
/* The relay's own addresses: those of its sockets, and of this machine's interfaces where a socket serves
 * all. Returns how many of CAPACITY it wrote. */
size_t wv_relay_udp_own(const struct wv_relay_udp *u, struct rift_relay_address *ret, size_t capacity);

/* One batch of SOCKET: what FN says goes on has left when this returns; N_MESSAGES grows by what came.
 * Returns whether more may be waiting, or a negative errno that no network could cause. */
int wv_relay_udp_turn(struct wv_relay_udp *u, size_t socket, wv_relay_datagram_fn fn, void *userdata,
                      size_t *n_messages);
/* One datagram of ours. Collected until the flush. */
void wv_relay_udp_put(struct wv_relay_udp *u, const struct rift_relay_out *out);
void wv_relay_udp_flush(struct wv_relay_udp *u);
