/* See client_ways_kit.h. */
#include "tests/unit/client_ways_kit.h"

struct wv_client client;
struct wv_ways *ways;
uint64_t now;

/* ---- the link, the loop ---- */

struct datagram sent[SENT_MAX];
size_t n_sent;
uint8_t aimed[RIFT_ADDRESS_BYTES];
static uint8_t front[WV_LINK_FRONT], from[RIFT_ADDRESS_BYTES], room[2048];
bool is_aimed, is_fronted;
uint16_t port;

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

unsigned passed;

void client_take_datagram(struct wv_client *c, const uint8_t *datagram, size_t len, enum rift_ecn ecn,
                          uint64_t at)
{
    passed++;
}

/* ---- the host, the servers ---- */

struct wv_client_offer offer;
unsigned n_offers, n_moved;
int offer_result;
uint64_t offered_at;

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

void address(uint8_t ret[RIFT_ADDRESS_BYTES], uint8_t last, uint16_t at)
{
    const uint8_t a[RIFT_ADDRESS_BYTES] = {[10] = 0xff,        0xff,       203, 0, 113, last,
                                           (uint8_t)(at >> 8), (uint8_t)at};
    memcpy(ret, a, sizeof a);
}

void set_up(void)
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

void tear_down(void)
{
    ways = wv_ways_free(ways);
}

void give(const uint8_t *source, const uint8_t *data, size_t len)
{
    memcpy(from, source, sizeof from);
    wv_ways_take(ways, 0, data, len, RIFT_ECN_NONE, now);
}

void host_new(struct host *h, uint8_t last)
{
    rift_punch_free(h->punch);
    *h = (struct host){0};
    address(h->address, last, 4820);
    address(h->client, 200, 40000);
    ck_assert_int_eq(rift_punch_new(&h->punch, RIFT_ROLE_HOST, offer.secret, now), 0);
}

void answer(const struct host *h)
{
    struct rift_candidate c = {.kind = RIFT_CANDIDATE_REFLEXIVE, .priority = 100};
    memcpy(c.address, h->address, sizeof c.address);
    ck_assert_int_eq(wv_ways_answer(ways, &c, 1, now), 0);
}

void run(struct host *h, unsigned ms)
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

unsigned until_offer(struct host *h, unsigned most)
{
    unsigned before = n_offers;
    uint64_t began = now;
    while (n_offers == before && now < began + most * MS)
        run(h, 1);
    return n_offers == before ? most : (unsigned)((offered_at - began) / MS);
}

struct wv_client_stats tell(void)
{
    struct wv_client_stats stats = {0};
    wv_ways_tell(ways, &stats);
    return stats;
}

/* ---- STUN ---- */

uint8_t servers[5][RIFT_ADDRESS_BYTES];

void set_servers(size_t n)
{
    for (size_t i = 0; i < 5; i++)
        address(servers[i], (uint8_t)(10 + i), 3478);
    ck_assert_int_eq(wv_ways_set_stun(ways, servers, n, now), 0);
}

const struct datagram *request_to(size_t i)
{
    for (size_t k = 0; k < n_sent; k++)
        if (!memcmp(sent[k].to, servers[i], RIFT_ADDRESS_BYTES) && rift_stun_is(sent[k].data, sent[k].len))
            return &sent[k];
    return NULL;
}

void stun_answer(size_t i, const uint8_t *id, uint8_t own_last, uint16_t own_port)
{
    uint8_t own[RIFT_ADDRESS_BYTES], bytes[RIFT_STUN_RESPONSE_BYTES];
    address(own, own_last, own_port);
    give(servers[i], bytes, rift_stun_respond(id, own, bytes));
}

bool has_candidate(uint8_t last, uint16_t at)
{
    uint8_t a[RIFT_ADDRESS_BYTES];
    address(a, last, at);
    for (size_t i = 0; i < offer.n_candidates; i++)
        if (!memcmp(offer.candidates[i].address, a, sizeof a))
            return offer.candidates[i].kind == RIFT_CANDIDATE_REFLEXIVE;
    return false;
}
