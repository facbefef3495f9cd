/* The client's ways to a host, on virtual time and without a socket: what is asked of STUN servers, when an
 * offer is made and repeated, what an answer and a lease do, which way is taken, and what happens when the
 * machine is in another network. The link and the loop's timer are this file's; the rest is real. */
#include "client/client_private.h"
#include "client/ways.h"
#include "lib/base/util.h"
#include "rift/punch/stun.h"
#include "tests/unit/relay_kit.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#define MS       WV_NS_PER_MS
#define SENT_MAX 256

static struct wv_client client;
static struct wv_ways *ways;
static uint64_t now;

/* ---- the link, the loop ---- */

struct datagram {
    uint8_t to[RIFT_ADDRESS_BYTES], data[2048];
    size_t len;
    bool fronted;
    uint8_t front[WV_LINK_FRONT];
};

static struct datagram sent[SENT_MAX];
static size_t n_sent;
static uint8_t aimed[RIFT_ADDRESS_BYTES], front[WV_LINK_FRONT], from[RIFT_ADDRESS_BYTES], room[2048];
static bool is_aimed, is_fronted;
static uint16_t port;

void wv_link_aim(struct wv_link *l, const uint8_t *address, const uint8_t *header)
{
    is_aimed = address != NULL;
    is_fronted = header != NULL;
    if (address)
        memcpy(aimed, address, sizeof aimed);
    if (header)
        memcpy(front, header, sizeof front);
}

void wv_link_from(const struct wv_link *l, int i, uint8_t ret_address[RIFT_ADDRESS_BYTES])
{
    memcpy(ret_address, from, sizeof from);
}

uint16_t wv_link_port(const struct wv_link *l)
{
    return port;
}

uint8_t *wv_link_reserve(struct wv_link *l, size_t *ret_capacity)
{
    *ret_capacity = RIFT_MTU_MAX_BYTES;
    return room;
}

void wv_link_commit(struct wv_link *l, size_t len, uint8_t tos)
{
    if (!is_aimed)
        return;
    ck_assert_uint_lt(n_sent, SENT_MAX);
    struct datagram *d = &sent[n_sent++];
    memcpy(d->to, aimed, sizeof d->to);
    memcpy(d->data, room, len);
    d->len = len;
    d->fronted = is_fronted;
    memcpy(d->front, front, sizeof d->front);
}

void wv_loop_timer_at(struct wv_loop_source *timer, uint64_t at_ns)
{
}

static unsigned passed; /* datagrams that were the client's */

void client_take_datagram(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                          uint64_t at)
{
    passed++;
}

/* ---- the host, the servers ---- */

static struct wv_client_offer offer;
static unsigned n_offers, n_moved;
static int offer_result;
static uint64_t offered_at;

static int on_offer(void *userdata, const struct wv_client_offer *o)
{
    offer = *o;
    n_offers++;
    offered_at = now;
    return offer_result;
}

static void on_moved(void *userdata)
{
    n_moved++;
}

static void address(uint8_t ret[RIFT_ADDRESS_BYTES], uint8_t last, uint16_t at)
{
    const uint8_t a[RIFT_ADDRESS_BYTES] = {[10] = 0xff,        0xff,       203, 0, 113, last,
                                           (uint8_t)(at >> 8), (uint8_t)at};
    memcpy(ret, a, sizeof a);
}

static void set_up(void)
{
    const struct wv_client_ways setup = {.offer = on_offer, .moved = on_moved};
    ck_assert_int_ge(sodium_init(), 0);
    now = 1000 * WV_NS_PER_S;
    client = (struct wv_client){.attempt_at = UINT64_MAX};
    ck_assert_int_eq(wv_ways_new(&ways, &client, &setup), 0);
    client.ways = ways;
    n_sent = n_offers = n_moved = passed = 0;
    offer_result = 0;
    port = 0;
}

static void tear_down(void)
{
    ways = wv_ways_free(ways);
}

static void give(const uint8_t *source, const uint8_t *data, size_t len)
{
    memcpy(from, source, sizeof from);
    wv_ways_take(ways, 0, data, len, RIFT_ECN_NONE, now);
}

/* A host at ADDRESS: the other half of the offer's secret. What the client sends it is answered. */
struct host {
    struct rift_punch *punch;
    uint8_t address[RIFT_ADDRESS_BYTES], client[RIFT_ADDRESS_BYTES];
    unsigned knocks;
    bool silent;
};

static void host_new(struct host *h, uint8_t last)
{
    rift_punch_free(h->punch);
    *h = (struct host){0};
    address(h->address, last, 4820);
    address(h->client, 200, 40000);
    ck_assert_int_eq(rift_punch_new(&h->punch, RIFT_ROLE_HOST, offer.secret, now), 0);
}

static void answer(const struct host *h)
{
    struct rift_candidate c = {.kind = RIFT_CANDIDATE_REFLEXIVE, .priority = 100};
    memcpy(c.address, h->address, sizeof c.address);
    ck_assert_int_eq(wv_ways_answer(ways, &c, 1, now), 0);
}

/* Lets MS pass; the host gets what is for it, and answers at once. */
static void run(struct host *h, unsigned ms)
{
    for (uint64_t until = now + ms * MS; now < until; now += MS) {
        size_t first = n_sent = 0;
        wv_ways_pump(ways, now);
        for (; h && !h->silent && first < n_sent; first++) {
            const struct datagram *d = &sent[first];
            uint8_t reply[RIFT_KNOCK_BYTES], to[RIFT_ADDRESS_BYTES];
            if (memcmp(d->to, h->address, sizeof d->to) != 0 || !rift_knock_is(d->data, d->len, NULL))
                continue;
            h->knocks++;
            (void)rift_punch_receive(h->punch, h->client, d->data, d->len, now);
            while (rift_punch_send(h->punch, reply, now, to) == 0)
                give(h->address, reply, sizeof reply);
        }
    }
    n_sent = 0;
    wv_ways_pump(ways, now);
}

/* Runs until an offer was made. Returns after how many ms, at most MOST. */
static unsigned until_offer(struct host *h, unsigned most)
{
    unsigned before = n_offers;
    uint64_t began = now;
    while (n_offers == before && now < began + most * MS)
        run(h, 1);
    return n_offers == before ? most : (unsigned)((offered_at - began) / MS);
}

static struct wv_client_stats tell(void)
{
    struct wv_client_stats stats = {0};
    wv_ways_tell(ways, &stats);
    return stats;
}

/* ---- STUN ---- */

static uint8_t servers[5][RIFT_ADDRESS_BYTES];

static void set_servers(size_t n)
{
    for (size_t i = 0; i < 5; i++)
        address(servers[i], (uint8_t)(10 + i), 3478);
    ck_assert_int_eq(wv_ways_set_stun(ways, servers, n, now), 0);
}

/* The STUN requests among what was sent, to server I. */
static const struct datagram *request_to(size_t i)
{
    for (size_t k = 0; k < n_sent; k++)
        if (!memcmp(sent[k].to, servers[i], RIFT_ADDRESS_BYTES) && rift_stun_is(sent[k].data, sent[k].len))
            return &sent[k];
    return NULL;
}

static void stun_answer(size_t i, const uint8_t *id, uint8_t own_last, uint16_t own_port)
{
    uint8_t own[RIFT_ADDRESS_BYTES], bytes[RIFT_STUN_RESPONSE_BYTES];
    address(own, own_last, own_port);
    give(servers[i], bytes, rift_stun_respond(id, own, bytes));
}

static bool has_candidate(uint8_t last, uint16_t at)
{
    uint8_t a[RIFT_ADDRESS_BYTES];
    address(a, last, at);
    for (size_t i = 0; i < offer.n_candidates; i++)
        if (!memcmp(offer.candidates[i].address, a, sizeof a))
            return offer.candidates[i].kind == RIFT_CANDIDATE_REFLEXIVE;
    return false;
}

START_TEST(a_request_is_repeated_with_growing_pauses)
{
    static const unsigned pauses[] = {0, 100, 200, 400, 800};
    uint8_t id[RIFT_STUN_ID_BYTES];
    uint64_t began = now;
    struct rift_stun_message m;
    unsigned n = 0;
    set_servers(1);
    for (uint64_t at = 0; now < began + 3000 * MS; now += MS) {
        n_sent = 0;
        wv_ways_pump(ways, now);
        const struct datagram *d = request_to(0);
        if (!d)
            continue;
        ck_assert_int_eq(rift_stun_read(d->data, d->len, &m), 0);
        if (n == 0)
            memcpy(id, m.id, sizeof id);
        ck_assert_mem_eq(m.id, id, sizeof id); /* the same question */
        ck_assert_uint_lt(n, 5);
        ck_assert_uint_eq((now - began - at) / MS, n ? pauses[n] : 0);
        at = now - began;
        n++;
    }
    ck_assert_uint_eq(n, 5); /* then it is left alone for a while */
    run(NULL, 24000);
    const struct datagram *d = NULL;
    for (int i = 0; i < 3000 && !d; i++) {
        run(NULL, 1);
        d = request_to(0);
    }
    ck_assert_ptr_nonnull(d);
    ck_assert_int_eq(rift_stun_read(d->data, d->len, &m), 0);
    ck_assert_mem_ne(m.id, id, sizeof id); /* another question */
}
END_TEST

START_TEST(the_offer_goes_when_all_servers_answered)
{
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    const struct datagram first = *request_to(0), second = *request_to(1);
    now += 30 * MS;
    stun_answer(0, first.data + 8, 77, 1111);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 0);
    now += 30 * MS;
    stun_answer(1, second.data + 8, 77, 2222);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 1);
    ck_assert(has_candidate(77, 1111) && has_candidate(77, 2222));
    ck_assert_uint_eq(offer.n_candidates, 2); /* no local ones: there is no port */
}
END_TEST

START_TEST(or_without_those_that_take_too_long)
{
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    stun_answer(1, request_to(1)->data + 8, 78, 3333);
    ck_assert_uint_eq(until_offer(NULL, 2000), 400);
    ck_assert(has_candidate(78, 3333));
    ck_assert_uint_eq(offer.n_candidates, 1);
}
END_TEST

START_TEST(without_servers_it_goes_at_once)
{
    run(NULL, 5000);
    ck_assert_uint_eq(n_offers, 0); /* nobody has asked for ways */
    set_servers(0);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 1);
    ck_assert_int_eq(wv_ways_set_stun(ways, servers, 5, now), -EINVAL);
}
END_TEST

/* Nobody is believed but the server that was asked, and only what it was asked. */
START_TEST(hostile_stun_answers)
{
    uint8_t bytes[RIFT_STUN_RESPONSE_BYTES], own[RIFT_ADDRESS_BYTES], elsewhere[RIFT_ADDRESS_BYTES];
    struct rift_stun_message m;
    set_servers(1);
    n_sent = 0;
    wv_ways_pump(ways, now);
    ck_assert_int_eq(rift_stun_read(request_to(0)->data, request_to(0)->len, &m), 0);
    address(own, 99, 9999);
    address(elsewhere, 66, 3478);
    size_t len = rift_stun_respond(m.id, own, bytes);
    give(elsewhere, bytes, len); /* the right words of somebody else */
    for (size_t bit = 0; bit < 8 * len; bit++) {
        if (bit / 8 >= len - 8 && bit / 8 < len - 4)
            continue; /* of FINGERPRINT, the same message without one */
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        give(servers[0], bytes, len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++)
        give(servers[0], bytes, cut);
    give(servers[0], sent[0].data, sent[0].len); /* its own question back */
    ck_assert_uint_eq(until_offer(NULL, 2000), 400);
    ck_assert_uint_eq(offer.n_candidates, 0);
    /* An address where nobody may be sent anything is no candidate, even of the right server. */
    const uint8_t loopback[RIFT_ADDRESS_BYTES] = {[10] = 0xff, 0xff, 127, 0, 0, 1, 1, 1};
    give(servers[0], bytes, rift_stun_respond(m.id, loopback, bytes));
    ck_assert_uint_eq(until_offer(NULL, 8000), 5000 - 400 + 400);
    ck_assert_uint_eq(offer.n_candidates, 0);
}
END_TEST

/* An answer that was used up does not count again; the next question has another id. */
START_TEST(an_old_stun_answer)
{
    uint8_t id[RIFT_STUN_ID_BYTES];
    set_servers(1);
    n_sent = 0;
    wv_ways_pump(ways, now);
    memcpy(id, request_to(0)->data + 8, sizeof id);
    stun_answer(0, id, 77, 1111);
    wv_ways_pump(ways, now);
    ck_assert(has_candidate(77, 1111));
    stun_answer(0, id, 88, 2222);
    until_offer(NULL, 8000);
    ck_assert(has_candidate(77, 1111) && !has_candidate(88, 2222));
}
END_TEST

/* ---- offers ---- */

START_TEST(an_offer_that_brings_nothing_is_repeated_with_growing_pauses)
{
    static const unsigned pauses[] = {0, 5000, 10000, 20000, 30000, 30000};
    uint8_t secrets[6][32];
    set_servers(0);
    for (size_t i = 0; i < 6; i++) {
        uint64_t last = i ? offered_at : now;
        until_offer(NULL, 60000);
        ck_assert_uint_eq((offered_at - last) / MS, pauses[i]);
        memcpy(secrets[i], offer.secret, 32);
        for (size_t k = 0; k < i; k++)
            ck_assert_mem_ne(secrets[i], secrets[k], 32);
    }
}
END_TEST

/* No gateway at the moment: the way that is there stays, and the next one is tried for later. */
START_TEST(an_offer_that_cant_be_carried)
{
    struct host h = {0};
    offer_result = -ENOTCONN;
    set_servers(0);
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 1);
    struct rift_candidate c = {.kind = RIFT_CANDIDATE_LOCAL};
    address(c.address, 1, 4820);
    ck_assert_int_eq(wv_ways_answer(ways, &c, 1, now), -EINVAL); /* to what? */
    offer_result = 0;
    set_servers(0); /* the gateway is back */
    wv_ways_pump(ways, now);
    ck_assert_uint_eq(n_offers, 2);
    host_new(&h, 1);
    answer(&h);
    run(&h, 1000);
    ck_assert(wv_ways_found(ways));
    offer_result = -ENOTCONN;
    h.silent = true;
    run(&h, 12000);
    ck_assert_uint_gt(n_offers, 2);
    h.silent = false;
    run(&h, 20000);
    ck_assert(wv_ways_found(ways)); /* the old secret still counts */
    rift_punch_free(h.punch);
}
END_TEST

START_TEST(an_answer_leads_to_a_direct_way)
{
    struct host h = {0};
    set_servers(0);
    wv_ways_pump(ways, now);
    host_new(&h, 1);
    ck_assert_str_eq(tell().path, "");
    ck_assert_str_eq(tell().path_why, "No way to the host is known yet.");
    answer(&h);
    run(&h, 1000);
    ck_assert(wv_ways_found(ways));
    ck_assert_uint_le(client.attempt_at, now); /* a handshake may begin */
    ck_assert_str_eq(tell().path, "direct");
    ck_assert_str_eq(tell().path_why, "Direct: the host answers without a relay.");
    ck_assert_str_eq(tell().path_address, "203.0.113.1:4820");
    ck_assert(is_aimed && !is_fronted && !memcmp(aimed, h.address, sizeof aimed));
    unsigned n = n_offers;
    run(&h, 60000);
    ck_assert_uint_eq(n_offers, n); /* what works is left alone */
    give(h.address, (const uint8_t *)"hello", 5);
    ck_assert_uint_eq(passed, 1);
    rift_punch_free(h.punch);
}
END_TEST

/* The host answers an offer that another one has replaced: its knocks prove nothing any more. */
START_TEST(the_answer_of_an_old_offer)
{
    struct host old = {0};
    set_servers(0);
    wv_ways_pump(ways, now);
    host_new(&old, 1);
    until_offer(NULL, 8000);
    answer(&old);
    run(&old, 3000);
    ck_assert_uint_gt(old.knocks, 0);
    ck_assert(!wv_ways_found(ways));
    rift_punch_free(old.punch);
}
END_TEST

START_TEST(a_hostile_answer)
{
    static const uint8_t bad[][RIFT_ADDRESS_BYTES] = {
        {[10] = 0xff, 0xff, 127, 0, 0, 1, 1, 1}, {[10] = 0xff, 0xff, 224, 0, 0, 1, 1, 1},
        {[10] = 0xff, 0xff, 0, 0, 0, 0, 1, 1},   {[10] = 0xff, 0xff, 203, 0, 113, 1, 0, 0},
        {[0] = 0xff, 2, [15] = 1, 1, 1},         {[15] = 1, 1, 1},
        {[0] = 0xfe, 0x80, [15] = 1, 1, 1},      {[0] = 1, [15] = 1, 1, 1}};
    struct rift_candidate many[40];
    set_servers(0);
    wv_ways_pump(ways, now);
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        struct rift_candidate c = {.kind = RIFT_CANDIDATE_LOCAL};
        memcpy(c.address, bad[i], sizeof c.address);
        ck_assert_int_eq(wv_ways_answer(ways, &c, 1, now), -EINVAL);
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(many); i++) {
        many[i] = (struct rift_candidate){.kind = RIFT_CANDIDATE_LOCAL};
        address(many[i].address, (uint8_t)(100 + i), 4820);
    }
    (void)wv_ways_answer(ways, many, WV_ARRAY_SIZE(many), now);
    unsigned to[256] = {0};
    for (int i = 0; i < 4000; i++) {
        n_sent = 0;
        wv_ways_pump(ways, now);
        for (size_t k = 0; k < n_sent; k++)
            to[sent[k].to[15]]++;
        now += MS;
    }
    for (size_t i = 0; i < 256; i++) {
        ck_assert_uint_eq(to[i] > 0, i >= 100 && i < 100 + RIFT_PUNCH_CANDIDATES);
        ck_assert_uint_le(to[i], 8); /* it floods nobody */
    }
}
END_TEST

/* ---- silence, another network ---- */

static void meet(struct host *h)
{
    set_servers(0);
    wv_ways_pump(ways, now);
    host_new(h, 1);
    answer(h);
    run(h, 1000);
    ck_assert(wv_ways_found(ways));
}

START_TEST(when_all_ways_are_silent_another_offer_goes)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    h.silent = true;
    unsigned after = until_offer(&h, 30000);
    ck_assert_uint_ge(after, 1000);
    ck_assert_uint_lt(after, 10000); /* an idle way is knocked at every five seconds */
    host_new(&h, 2);
    answer(&h);
    run(&h, 1000);
    ck_assert_str_eq(tell().path_address, "203.0.113.2:4820");
    rift_punch_free(h.punch);
}
END_TEST

START_TEST(in_another_network_the_old_way_is_tried_first)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    unsigned knocks = h.knocks, offers = n_offers;
    address(h.client, 201, 40001); /* the host sees another address */
    now += MS;
    wv_ways_network_changed(ways, now);
    ck_assert_uint_eq(n_moved, 1);
    run(&h, 20);
    ck_assert_uint_gt(h.knocks, knocks); /* at once */
    run(&h, 10000);
    ck_assert_uint_eq(n_offers, offers); /* it is there: nobody has to be told */
    ck_assert(wv_ways_found(ways));
    rift_punch_free(h.punch);
}
END_TEST

START_TEST(in_another_network_an_offer_goes_at_once_when_that_fails)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    h.silent = true;
    wv_ways_network_changed(ways, now);
    ck_assert_uint_eq(until_offer(&h, 10000), 150);
    ck_assert(!wv_ways_found(ways));
    host_new(&h, 2);
    answer(&h);
    run(&h, 300);
    ck_assert_str_eq(tell().path_address, "203.0.113.2:4820");
    rift_punch_free(h.punch);
}
END_TEST

/* The kernel tells of every address and route by itself, and a network may come and go all the time. */
START_TEST(changes_of_the_network_do_not_make_a_flood)
{
    struct host h = {0};
    meet(&h);
    run(&h, 10000);
    h.silent = true;
    unsigned offers = n_offers;
    for (int i = 0; i < 500; i++) {
        wv_ways_network_changed(ways, now);
        run(&h, 20);
    }
    ck_assert_uint_ge(n_offers - offers, 2);
    ck_assert_uint_le(n_offers - offers, 21); /* two a second */
    rift_punch_free(h.punch);
}
END_TEST

/* With servers to ask it waits until the new network has brought one answer, but not for long. */
START_TEST(an_offer_waits_for_the_new_network)
{
    struct host h = {0};
    uint8_t id[RIFT_STUN_ID_BYTES];
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    stun_answer(0, request_to(0)->data + 8, 77, 1111);
    until_offer(NULL, 1000);
    host_new(&h, 1);
    answer(&h);
    run(&h, 10000);
    ck_assert(wv_ways_found(ways));
    h.silent = true;
    for (int answers = 0; answers < 2; answers++) {
        wv_ways_network_changed(ways, now);
        n_sent = 0;
        wv_ways_pump(ways, now);
        memcpy(id, request_to(0)->data + 8, sizeof id);
        uint64_t began = now;
        run(&h, 200);
        if (answers)
            stun_answer(0, id, 79, 4444);
        unsigned offers = n_offers;
        while (n_offers == offers && now < began + 3000 * MS)
            run(&h, 1);
        ck_assert_uint_eq((offered_at - began) / MS, answers ? 200 : 400);
        ck_assert(has_candidate(79, 4444) == (answers == 1));
        ck_assert(!has_candidate(77, 1111)); /* of the old network */
        host_new(&h, 1);
        answer(&h);
        run(&h, 1000);
        h.silent = true;
    }
    rift_punch_free(h.punch);
}
END_TEST

/* ---- a relay ---- */

static uint8_t relay_at[RIFT_ADDRESS_BYTES];

static void make_lease(const struct kit *k, const uint8_t *client_key, uint8_t id,
                       uint8_t ret[RIFT_LEASE_BYTES])
{
    struct rift_lease terms = kit_terms(k, 0, 1, id);
    memcpy(terms.peers[1], client_key, 32);
    kit_sign(k, &terms, ret);
}

static struct rift_punch *far; /* the host's, behind the relay; NULL: it is not there */
static uint8_t far_name[RIFT_ADDRESS_BYTES];

static void to_relay(struct kit *k, const struct rift_relay_address *source, const uint8_t *data, size_t len);

/* What the relay sent to TO: the client, or the host. */
static void from_relay(struct kit *k, const struct rift_relay_address *to, uint8_t *data, size_t len)
{
    const uint8_t *payload;
    uint8_t reply[RIFT_RELAY_HEADER_BYTES + RIFT_KNOCK_BYTES], name[RIFT_ADDRESS_BYTES];
    size_t payload_len;
    struct rift_relay_client *c = k->peers[0].client;
    if (memcmp(to, &k->peers[0].address, sizeof *to) != 0) {
        give(relay_at, data, len);
        return;
    }
    if (rift_relay_client_receive(c, data, len, now, KIT_UNIX, &payload, &payload_len) !=
            RIFT_RELAY_CLIENT_PAYLOAD ||
        !far)
        return;
    (void)rift_punch_receive(far, far_name, payload, payload_len, now);
    while (rift_punch_send(far, reply + RIFT_RELAY_HEADER_BYTES, now, name) == 0)
        if (rift_relay_client_header(c, reply) == 0)
            to_relay(k, &k->peers[0].address, reply, sizeof reply);
}

static void to_relay(struct kit *k, const struct rift_relay_address *source, const uint8_t *data, size_t len)
{
    const struct rift_relay_address *to;
    struct rift_relay_out out;
    uint8_t ecn = 0, copy[2100];
    memcpy(copy, data, len);
    k->clock.now = now;
    if (rift_relay_receive(k->relay, source, copy, len, &ecn, &k->clock, &to) == RIFT_RELAY_FORWARD) {
        const struct rift_relay_address there = *to;
        from_relay(k, &there, copy, len);
    }
    while (rift_relay_send(k->relay, now, &out) == 0) {
        uint8_t answered[2100];
        memcpy(answered, out.data, out.len);
        from_relay(k, &out.to, answered, out.len);
    }
}

/* Lets MS pass with a relay. */
static void run_relay(struct kit *k, unsigned ms)
{
    struct rift_relay_address own = {0};
    uint8_t data[2100];
    size_t len;
    address(own.bytes, 200, 40000);
    for (uint64_t until = now + ms * MS; now < until; now += MS) {
        n_sent = 0;
        wv_ways_pump(ways, now);
        for (size_t i = 0; i < n_sent; i++) {
            const struct datagram *d = &sent[i];
            if (memcmp(d->to, relay_at, sizeof relay_at) != 0)
                continue;
            size_t front_len = d->fronted ? sizeof d->front : 0;
            memcpy(data, d->front, front_len);
            memcpy(data + front_len, d->data, d->len);
            to_relay(k, &own, data, front_len + d->len);
        }
        while (k->peers[0].client &&
               rift_relay_client_send(k->peers[0].client, data, sizeof data, now, &len) == 0)
            to_relay(k, &k->peers[0].address, data, len);
    }
}

static void begin_relay(struct kit *k)
{
    kit_init(k, 4);
    address(relay_at, 50, 3479);
    set_servers(0);
    wv_ways_pump(ways, now);
}

START_TEST(a_lease_for_others_is_of_no_use)
{
    struct kit k;
    uint8_t lease[RIFT_LEASE_BYTES], bad[RIFT_ADDRESS_BYTES] = {[10] = 0xff, 0xff, 127, 0, 0, 1, 1, 1},
                                     key[32];
    begin_relay(&k);
    randombytes_buf(key, sizeof key);
    make_lease(&k, key, 1, lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), -EINVAL); /* of another offer, or person */
    make_lease(&k, offer.relay_key, 2, lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, bad, now), -EINVAL); /* nobody is sent anything there */
    memcpy(key, offer.relay_key, 32);
    until_offer(NULL, 10000);
    ck_assert_mem_ne(key, offer.relay_key, 32);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), -EINVAL); /* of the offer before */
    memset(lease, 0, sizeof lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), -EINVAL);
    kit_fini(&k);
}
END_TEST

START_TEST(a_lease_before_any_offer)
{
    struct kit k;
    uint8_t lease[RIFT_LEASE_BYTES], key[32] = {1};
    kit_init(&k, 4);
    address(relay_at, 50, 3479);
    make_lease(&k, key, 1, lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), -EINVAL);
    kit_fini(&k);
}
END_TEST

START_TEST(the_relay_is_asked_and_bound)
{
    struct kit k;
    uint8_t lease[RIFT_LEASE_BYTES];
    begin_relay(&k);
    make_lease(&k, offer.relay_key, 1, lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), 0);
    run_relay(&k, 200);
    ck_assert_uint_eq(kit_stats(&k)->bound, 1);
    ck_assert_uint_eq(kit_stats(&k)->binds, 1);
    /* A renewal is proven without losing the place. */
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    memcpy(terms.peers[1], offer.relay_key, 32);
    terms.expires_s += 60;
    kit_sign(&k, &terms, lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), 0);
    run_relay(&k, 1000);
    ck_assert_uint_eq(kit_stats(&k)->renewals, 1);
    ck_assert_uint_eq(kit_stats(&k)->bound, 1);
    /* In another network the place is proven anew at once, and no offer goes before that had its chance. */
    unsigned offers = n_offers;
    uint64_t binds = kit_stats(&k)->binds;
    wv_ways_network_changed(ways, now);
    run_relay(&k, 100);
    ck_assert_uint_gt(kit_stats(&k)->binds + kit_stats(&k)->moves + kit_stats(&k)->renewals, binds + 1);
    ck_assert_uint_eq(n_offers, offers);
    kit_fini(&k);
}
END_TEST

/* ---- words ---- */

START_TEST(a_relayed_way_and_why)
{
    struct kit k;
    uint8_t lease[RIFT_LEASE_BYTES];
    struct host h = {0};
    kit_init(&k, 4);
    address(relay_at, 50, 3479);
    set_servers(2);
    n_sent = 0;
    wv_ways_pump(ways, now);
    const struct datagram first = *request_to(0), second = *request_to(1);
    stun_answer(0, first.data + 8, 77, 1111);
    stun_answer(1, second.data + 8, 77, _i ? 2222 : 1111);
    wv_ways_pump(ways, now);
    host_new(&h, 1);
    h.silent = true;
    answer(&h);
    make_lease(&k, offer.relay_key, 1, lease);
    ck_assert_int_eq(wv_ways_lease(ways, lease, relay_at, now), 0);
    kit_client(&k, 0, lease);
    run_relay(&k, 500);
    ck_assert_str_eq(tell().path, ""); /* not relayed before somebody answers there */
    ck_assert_int_eq(rift_punch_new(&far, RIFT_ROLE_HOST, offer.secret, now), 0);
    address(far_name, 50, 1);
    run_relay(&k, 3000);
    ck_assert_str_eq(tell().path, "relayed");
    ck_assert_str_eq(tell().path_address, "203.0.113.50:3479");
    ck_assert_ptr_nonnull(
        strstr(tell().path_why, _i ? "Relayed because the router here gives every connection another port"
                                   : "Relayed because none of the host's addresses answered"));
    ck_assert(is_aimed && is_fronted && !memcmp(aimed, relay_at, sizeof aimed));
    /* In another network the relay is there at once, and nobody has to be told. */
    unsigned offers = n_offers;
    wv_ways_network_changed(ways, now);
    run(NULL, 20); /* nothing gets through yet */
    wv_ways_network_changed(ways, now);
    run(NULL, 700);
    run_relay(&k, 2500);
    ck_assert_uint_eq(n_offers, offers);
    ck_assert_str_eq(tell().path, "relayed");
    far = rift_punch_free(far);
    rift_punch_free(h.punch);
    kit_fini(&k);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client ways");
    TCase *tcase = tcase_create("ways");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_request_is_repeated_with_growing_pauses);
    tcase_add_test(tcase, the_offer_goes_when_all_servers_answered);
    tcase_add_test(tcase, or_without_those_that_take_too_long);
    tcase_add_test(tcase, without_servers_it_goes_at_once);
    tcase_add_test(tcase, hostile_stun_answers);
    tcase_add_test(tcase, an_old_stun_answer);
    tcase_add_test(tcase, an_offer_that_brings_nothing_is_repeated_with_growing_pauses);
    tcase_add_test(tcase, an_offer_that_cant_be_carried);
    tcase_add_test(tcase, an_answer_leads_to_a_direct_way);
    tcase_add_test(tcase, the_answer_of_an_old_offer);
    tcase_add_test(tcase, a_hostile_answer);
    tcase_add_test(tcase, when_all_ways_are_silent_another_offer_goes);
    tcase_add_test(tcase, in_another_network_the_old_way_is_tried_first);
    tcase_add_test(tcase, in_another_network_an_offer_goes_at_once_when_that_fails);
    tcase_add_test(tcase, changes_of_the_network_do_not_make_a_flood);
    tcase_add_test(tcase, an_offer_waits_for_the_new_network);
    tcase_add_test(tcase, a_lease_for_others_is_of_no_use);
    tcase_add_test(tcase, a_lease_before_any_offer);
    tcase_add_test(tcase, the_relay_is_asked_and_bound);
    tcase_add_loop_test(tcase, a_relayed_way_and_why, 0, 2);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
