/* The client's way by a relay, on virtual time and without a socket: which leases are of use, how the relay
 * is bound and kept, when that way is taken, and the words for it. The relay is a real one. */
#include "tests/unit/client_ways_kit.h"
#include "tests/unit/relay_kit.h"

/* ---- a relay ---- */

static uint8_t relay_at[RIFT_ADDRESS_BYTES];

/* HOST: as which of the kit's peers the host is there. */
static void lease_with(const struct kit *k, size_t host, const uint8_t *client_key, uint8_t id,
                       uint8_t ret[RIFT_LEASE_BYTES])
{
    struct rift_lease terms = kit_terms(k, host, 1, id);
    memcpy(terms.peers[1], client_key, 32);
    kit_sign(k, &terms, ret);
}

static void make_lease(const struct kit *k, const uint8_t *client_key, uint8_t id,
                       uint8_t ret[RIFT_LEASE_BYTES])
{
    lease_with(k, 0, client_key, id, ret);
}

static struct rift_punch *far; /* the host's, behind the relay; NULL: it is not there */
static uint8_t far_name[RIFT_ADDRESS_BYTES];
#define FAR 3 /* peers 0 to 2 of the kit may be the host, by a lease each */

static void to_relay(struct kit *k, const struct rift_relay_address *source, const uint8_t *data, size_t len);

/* What the relay sent to TO: the client, or the host. */
static void from_relay(struct kit *k, const struct rift_relay_address *to, uint8_t *data, size_t len)
{
    const uint8_t *payload;
    uint8_t reply[RIFT_RELAY_HEADER_BYTES + RIFT_KNOCK_BYTES], name[RIFT_ADDRESS_BYTES];
    size_t payload_len;
    size_t i = 0;
    while (i < FAR && (i == 1 || memcmp(to, &k->peers[i].address, sizeof *to) != 0))
        i++;
    struct rift_relay_client *c = k->peers[i].client;
    if (i == FAR) {
        give(relay_at, data, len);
        return;
    }
    if (rift_relay_client_receive(c, data, len, now, KIT_UNIX, &payload, &payload_len) !=
            RIFT_RELAY_CLIENT_PAYLOAD ||
        !far)
        return;
    far_name[17] = (uint8_t)(i + 1);
    (void)rift_punch_receive(far, far_name, payload, payload_len, now);
    while (rift_punch_send(far, reply + RIFT_RELAY_HEADER_BYTES, now, name) == 0)
        if (name[17] <= FAR && k->peers[name[17] - 1].client &&
            rift_relay_client_header(k->peers[name[17] - 1].client, reply) == 0)
            to_relay(k, &k->peers[name[17] - 1].address, reply, sizeof reply);
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
        for (size_t i = 0; i < FAR; i += 2)
            while (k->peers[i].client &&
                   rift_relay_client_send(k->peers[i].client, data, sizeof data, now, &len) == 0)
                to_relay(k, &k->peers[i].address, data, len);
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

/* ---- another relay ---- */

/* The gateway could not renew the lease, for its relay drains. The session goes on by the old one until the
 * new one has shown that it works, and never stands without any. */
START_TEST(a_relay_is_left_only_for_one_that_works)
{
    struct kit k;
    uint8_t first[RIFT_LEASE_BYTES], second[RIFT_LEASE_BYTES];
    struct rift_relay_client_status s;
    begin_relay(&k);
    make_lease(&k, offer.relay_key, 1, first);
    ck_assert_int_eq(wv_ways_lease(ways, first, relay_at, now), 0);
    kit_client(&k, 0, first);
    ck_assert_int_eq(rift_punch_new(&far, RIFT_ROLE_HOST, offer.secret, now), 0);
    address(far_name, 50, 0);
    run_relay(&k, 2000);
    ck_assert_str_eq(tell().path, "relayed");
    uint64_t switches = tell().path_switches;
    /* The host has not heard of it yet. */
    lease_with(&k, 2, offer.relay_key, 2, second);
    ck_assert_int_eq(wv_ways_lease(ways, second, relay_at, now), 0);
    for (unsigned i = 0; i < 20; i++) {
        run_relay(&k, 50);
        ck_assert_str_eq(tell().path, "relayed");
        ck_assert(is_aimed && is_fronted);
        ck_assert_uint_eq(tell().path_switches, switches);
    }
    rift_relay_client_get_status(k.peers[0].client, &s);
    ck_assert(s.state == RIFT_RELAY_CLIENT_BOUND);
    ck_assert_uint_eq(kit_stats(&k)->bound, 3); /* the client twice */
    kit_client(&k, 2, second);
    for (unsigned i = 0; i < 200; i++) {
        run_relay(&k, 50);
        ck_assert_str_eq(tell().path, "relayed");
        ck_assert(is_aimed && is_fronted);
    }
    ck_assert_uint_eq(tell().path_switches, switches + 1);
    ck_assert_uint_eq(n_offers, 1); /* and nobody was asked anew */
    /* And it is left for good: nothing of the client's keeps its place there warm. */
    rift_relay_client_get_status(k.peers[0].client, &s);
    ck_assert(s.peer_present);
    run_relay(&k, 60000);
    rift_relay_client_get_status(k.peers[0].client, &s);
    ck_assert(!s.peer_present);
    rift_relay_client_get_status(k.peers[2].client, &s);
    ck_assert(s.peer_present);
    ck_assert_str_eq(tell().path, "relayed");
    far = rift_punch_free(far);
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
    Suite *suite = suite_create("client ways by a relay");
    TCase *tcase = tcase_create("relay");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_lease_for_others_is_of_no_use);
    tcase_add_test(tcase, a_lease_before_any_offer);
    tcase_add_test(tcase, the_relay_is_asked_and_bound);
    tcase_add_test(tcase, a_relay_is_left_only_for_one_that_works);
    tcase_add_loop_test(tcase, a_relayed_way_and_why, 0, 2);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
