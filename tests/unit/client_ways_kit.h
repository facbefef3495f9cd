/* A client's ways without a socket, a loop or a clock, for the tests of client/ways.c: the link and the
 * loop's timer are this kit's, hosts answer knocks, and STUN servers are answered for by hand. The rest is
 * real. */
#pragma once

#include "client/client_private.h"
#include "client/ways.h"
#include "lib/base/util.h"
#include "rift/punch/stun.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define MS       WV_NS_PER_MS
#define SENT_MAX 256

struct datagram {
    uint8_t to[RIFT_ADDRESS_BYTES], data[2048];
    size_t len;
    bool fronted;
    uint8_t front[WV_LINK_FRONT];
};

/* A host at ADDRESS: the other half of the offer's secret. What the client sends it is answered. */
struct host {
    struct rift_punch *punch;
    uint8_t address[RIFT_ADDRESS_BYTES], client[RIFT_ADDRESS_BYTES];
    unsigned knocks;
    bool silent;
};

extern struct wv_client client;
extern struct wv_ways *ways;
extern uint64_t now;
extern struct datagram sent[SENT_MAX]; /* since n_sent was last 0 */
extern size_t n_sent;
extern uint8_t aimed[RIFT_ADDRESS_BYTES]; /* where the link sends to */
extern bool is_aimed, is_fronted;
extern uint16_t port;                /* of the link */
extern unsigned passed;              /* datagrams that were the client's */
extern struct wv_client_offer offer; /* the newest */
extern unsigned n_offers, n_moved;
extern int offer_result; /* of carrying the next one */
extern uint64_t offered_at;

/* Of every test. */
void set_up(void);
void tear_down(void);

/* 203.0.113.LAST, port AT. */
void address(uint8_t ret[RIFT_ADDRESS_BYTES], uint8_t last, uint16_t at);
/* DATA comes from SOURCE. */
void give(const uint8_t *source, const uint8_t *data, size_t len);

void host_new(struct host *h, uint8_t last);
void answer(const struct host *h);
/* Lets MS pass; the host gets what is for it, and answers at once. */
void run(struct host *h, unsigned ms);
/* Runs until an offer was made. Returns after how many ms, at most MOST. */
unsigned until_offer(struct host *h, unsigned most);
struct wv_client_stats tell(void);

extern uint8_t servers[5][RIFT_ADDRESS_BYTES];
void set_servers(size_t n); /* the first N are asked */
/* The STUN request among what was sent, to server I; NULL: none. */
const struct datagram *request_to(size_t i);
void stun_answer(size_t i, const uint8_t *id, uint8_t own_last, uint16_t own_port);
bool has_candidate(uint8_t last, uint16_t at);
