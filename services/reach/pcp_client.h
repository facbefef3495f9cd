/* A client of PCP (RFC 6887) for one UDP port at one router, from one own address: an IPv4 port of a NAT, or
 * a pinhole in an IPv6 firewall. Sans-IO: it is told what came and what time it is, and says what is to be
 * sent and when. It believes a router no more than that an address and a port may be worth a try. */
#pragma once

#include "services/reach/pcp.h"

enum wv_pcp_state {
    WV_PCP_ASKING,  /* nothing has been said yet */
    WV_PCP_MAPPED,  /* and renewed by itself */
    WV_PCP_LATER,   /* a passing reason; it asks again by itself */
    WV_PCP_NATPMP,  /* speaks no PCP of this version, NAT-PMP perhaps: at its end */
    WV_PCP_REFUSED, /* a lasting reason: at its end */
    WV_PCP_SILENT,  /* no answer, or none any more: at its end */
    WV_PCP_DELETING,
    WV_PCP_DELETED, /* at its end */
};

struct wv_pcp_setup {
    uint8_t router[16], own[16]; /* IPv4 mapped into IPv6 */
    uint16_t port;               /* of this machine */
    uint8_t nonce[WV_PCP_NONCE_BYTES];
    uint32_t lifetime_s; /* that is asked for */
    uint64_t random;     /* for the spread of times; any number */
};

struct wv_pcp_client;

/* Begins to ask. Returns 0 or -ENOMEM. */
int wv_pcp_client_new(struct wv_pcp_client **ret, const struct wv_pcp_setup *setup, uint64_t now);
struct wv_pcp_client *wv_pcp_client_free(struct wv_pcp_client *c);

/* A datagram of FROM (16 bytes and the port). MULTICAST: many heard the same, so that what follows from it
 * is spread over some seconds. Whatever does not answer what was asked changes nothing. */
void wv_pcp_client_receive(struct wv_pcp_client *c, const uint8_t from[18], const void *data, size_t len,
                           bool multicast, uint64_t now);
/* The router's kernel says that nobody is at that port. */
void wv_pcp_client_refused(struct wv_pcp_client *c);
/* Something else says that the router may have been started again: asks it soon, at most once a second. */
void wv_pcp_client_check(struct wv_pcp_client *c, uint64_t now);
/* What is to be sent now to the router, port WV_PCP_PORT. Returns its length; 0: nothing is due. */
size_t wv_pcp_client_send(struct wv_pcp_client *c, uint64_t now, uint8_t ret[WV_PCP_MAP_BYTES]);
/* When to call wv_pcp_client_send() again; UINT64_MAX: never. */
uint64_t wv_pcp_client_timeout(const struct wv_pcp_client *c);
/* Takes the mapping back; it is done when the state is WV_PCP_DELETED. What never was mapped is so at once.
 */
void wv_pcp_client_delete(struct wv_pcp_client *c, uint64_t now);

enum wv_pcp_state wv_pcp_client_state(const struct wv_pcp_client *c);
/* Of the last refusal. */
uint8_t wv_pcp_client_result(const struct wv_pcp_client *c);
/* How often the router had forgotten what it was asked (RFC 6887, section 8.5). */
uint32_t wv_pcp_client_restarts(const struct wv_pcp_client *c);
/* Whether the port is mapped; ADDRESS: 16 bytes and the port, as the world sees it. */
bool wv_pcp_client_mapped(const struct wv_pcp_client *c, uint8_t ret_address[18]);
