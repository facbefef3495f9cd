/* The UDP socket: datagrams in and out in batches, addresses as plain bytes. The only part of the transport
 * that makes network system calls. */
#pragma once

#include "lib/ipc/metrics.h"
#include "rift/core/handshake.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 16 bytes IPv6 or v4-mapped address, 2 bytes port in network order. A link-local address carries its
 * interface in bytes 4..7, which are always zero on the wire. */
struct wv_address {
    uint8_t bytes[RIFT_ADDRESS_BYTES];
};

#define WV_ADDRESS_TEXT_BYTES 56

struct wv_udp;

enum { WV_UDP_BLOCKED = 1, WV_UDP_MORE = 1 };

typedef void (*wv_udp_receive_fn)(void *userdata, const struct wv_address *from, enum rift_ecn ecn,
                                  const uint8_t *datagram, size_t len, uint64_t now);

/* FD is a bound UDP socket, IPv6 (dual stack) or IPv4; it stays the caller's and becomes non-blocking. All
 * buffers are made here. Datagrams are never fragmented from here on, and carry marks as far as the kernel
 * lets them. METRICS must be laid out by wv_transport_metrics. Returns 0 or a negative errno. */
int wv_udp_new(struct wv_udp **ret, int fd, struct wv_metrics *metrics);
struct wv_udp *wv_udp_free(struct wv_udp *u);

/* Hands over what has arrived, at most some hundred datagrams. Returns 0, WV_UDP_MORE (there may be more), or
 * a negative errno: the socket is of no use. */
int wv_udp_receive(struct wv_udp *u, wv_udp_receive_fn fn, void *userdata, uint64_t now);

/* Adds to the metrics what the kernel dropped before this process could see it. */
void wv_udp_count(struct wv_udp *u);

/* The byte of the IP header that says how a datagram wants to be treated: DSCP EF for input, AF41 for media,
 * CS0 for the rest (RFC 4594), and the ECN bits (RFC 3168). */
uint8_t wv_udp_tos(enum rift_class traffic_class, enum rift_ecn ecn);

/* RIFT_MTU_MAX_BYTES to write the next datagram into, then wv_udp_commit() or nothing. NULL: the socket takes
 * no more for now; wait for EPOLLOUT and flush. */
uint8_t *wv_udp_slot(struct wv_udp *u);
void wv_udp_commit(struct wv_udp *u, const struct wv_address *to, size_t len, uint8_t tos);
/* The same with the WV_UDP_FRONT bytes of FRONT before it, for a relay at TO. */
#define WV_UDP_FRONT 8
void wv_udp_commit_behind(struct wv_udp *u, const struct wv_address *to, const uint8_t front[WV_UDP_FRONT],
                          size_t len, uint8_t tos);
/* The port that the socket is bound to. */
uint16_t wv_udp_port(const struct wv_udp *u);
/* Whether the socket's family reaches TO at all. */
bool wv_udp_reaches(const struct wv_udp *u, const struct wv_address *to);
/* Gives everything committed to the kernel. Returns 0, WV_UDP_BLOCKED (wait for EPOLLOUT), or a negative
 * errno. What the kernel refuses for one address is dropped and counted. */
int wv_udp_flush(struct wv_udp *u);
bool wv_udp_is_blocked(const struct wv_udp *u);

/* "192.0.2.1:4820", "[2001:db8::1]:4820". */
void wv_address_format(const struct wv_address *address, char ret_text[WV_ADDRESS_TEXT_BYTES]);
