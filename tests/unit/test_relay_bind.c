/* How a peer proves itself to the relay, part by part: each part of a challenge, of a known lease and of a
 * STUN request that could be left out, changed or shown by somebody else. */
#include "rift/punch/stun.h"
#include "tests/unit/relay_kit.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

#define S  WV_NS_PER_S
#define MS WV_NS_PER_MS

/* Of a BIND, and of the lease in it. */
enum { TRANSACTION_AT = 4, STAMP_AT = 12, RATE_AT = 108, BEGIN_AT = 112, END_AT = 120 };

static struct kit k;

static void begin(void)
{
    kit_init(&k, 4);
}

static void end(void)
{
    ck_assert_uint_eq(k.longest_answer, 0);
    kit_fini(&k);
}

static struct rift_lease bound_pair(void)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    kit_lease(&k, 0, 1, &terms);
    kit_run(&k, 10 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
    ck_assert_int_eq(kit_status(&k, 1).state, RIFT_RELAY_CLIENT_BOUND);
    return terms;
}

static void expect_unproven(const struct rift_relay_address *from, const uint8_t d[RIFT_RELAY_BIND_BYTES])
{
    uint64_t before = kit_stats(&k)->unproven;
    kit_give(&k, from, d, RIFT_RELAY_BIND_BYTES);
    ck_assert_uint_eq(kit_stats(&k)->unproven, before + 1);
    ck_assert_uint_eq(kit_stats(&k)->binds, 0);
}

START_TEST(every_part_of_a_challenge_counts)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address from = k.peers[0].address, other = from;
    kit_sign(&k, &terms, lease);
    kit_bind(&k, &from, lease, 0, k.peers[0].secret, d);
    for (size_t i = 0; i < sizeof other.bytes; i++) { /* also its port, and the relay's socket */
        other.bytes[i] ^= 1;
        expect_unproven(&other, d);
        other.bytes[i] ^= 1;
    }
    for (size_t i = TRANSACTION_AT; i < STAMP_AT; i++) {
        d[i] ^= 1;
        expect_unproven(&from, d);
        d[i] ^= 1;
    }
    k.clock.now += 5 * S;
    d[STAMP_AT + 1] ^= 1; /* a quarter of a second later, or sooner, and past either way */
    expect_unproven(&from, d);
    d[STAMP_AT + 1] ^= 1;
    k.clock.now += 6 * S;
    d[STAMP_AT + 1] += 8; /* as if it were two seconds younger than too old */
    expect_unproven(&from, d);
    d[STAMP_AT + 1] -= 8;
    k.clock.now -= 6 * S;
    k.config.secret[5] ^= 1; /* of another relay */
    kit_restart(&k, false);
    expect_unproven(&from, d);
    k.config.secret[5] ^= 1;
    kit_restart(&k, false);
    kit_give(&k, &from, d, sizeof d);
    ck_assert_uint_eq(kit_stats(&k)->binds, 1);
}
END_TEST

START_TEST(what_is_no_lease)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    kit_sign(&k, &terms, lease);
    for (size_t i = 0; i < 4; i++) { /* version and what is reserved */
        lease[i] ^= 2;
        kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d);
        kit_give(&k, &k.peers[0].address, d, sizeof d);
        lease[i] ^= 2;
        ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_MALFORMED], i + 1);
    }
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
}
END_TEST

/* Who holds a lease could write a longer one by himself, of the same id and for the same two. */
START_TEST(a_known_lease_vouches_for_no_other)
{
    static const size_t parts[] = {RATE_AT, RATE_AT + 2, BEGIN_AT, END_AT, END_AT + 1, RIFT_LEASE_BYTES - 1};
    struct rift_lease terms = bound_pair(), later = terms;
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    later.expires_s += 512;
    for (size_t i = 0; i < 2 * WV_ARRAY_SIZE(parts); i++) {
        kit_sign(&k, i % 2 ? &later : &terms, lease);
        lease[parts[i / 2]] ^= 1;
        kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d);
        kit_give(&k, &k.peers[0].address, d, sizeof d);
        ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_FORGED], i + 1);
    }
    ck_assert_uint_eq(kit_stats(&k)->renewals, 0);
    ck_assert_uint_eq(kit_stats(&k)->binds, 2);
    kit_sign(&k, &later, lease);
    kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d);
    kit_give(&k, &k.peers[0].address, d, sizeof d);
    ck_assert_uint_eq(kit_stats(&k)->renewals, 1);
}
END_TEST

START_TEST(the_same_id_by_another_issuer)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES], issuers[2][32];
    memcpy(issuers[0], k.issuer, 32);
    memcpy(issuers[1], k.peers[5].public, 32);
    rift_relay_free(k.relay);
    k.config.issuers = (const uint8_t(*)[32])issuers;
    k.config.n_issuers = 2;
    ck_assert_int_eq(rift_relay_new(&k.relay, &k.config), 0);
    bound_pair();
    terms.expires_s += 100;
    ck_assert_int_eq(rift_lease_sign(&terms, k.peers[5].secret, lease), 0);
    kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d);
    kit_give(&k, &k.peers[0].address, d, sizeof d);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_CONFLICT], 1);
    terms.id[0] = 2; /* with an id of its own it is as good as any */
    ck_assert_int_eq(rift_lease_sign(&terms, k.peers[5].secret, lease), 0);
    kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d);
    kit_give(&k, &k.peers[0].address, d, sizeof d);
    ck_assert_uint_eq(kit_stats(&k)->leases, 2);
}
END_TEST

/* The other side's proof, newer or older, is not compared with it. */
START_TEST(each_side_has_proofs_of_its_own)
{
    struct rift_lease terms = bound_pair();
    size_t side = (size_t)_i;
    uint8_t lease[RIFT_LEASE_BYTES], old[RIFT_RELAY_BIND_BYTES], early[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address before = k.peers[side].address;
    const struct kit_peer *other = &k.peers[!side];
    kit_sign(&k, &terms, lease);
    kit_bind(&k, &before, lease, (uint8_t)side, k.peers[side].secret, old);
    kit_bind(&k, &other->address, lease, !side, other->secret, early);
    kit_run(&k, 20 * MS);
    k.peers[side].address = kit_address(99, 7000);
    rift_relay_client_moved(k.peers[side].client, k.clock.now);
    kit_run(&k, 20 * MS);
    ck_assert_uint_eq(kit_stats(&k)->moves, 1);
    kit_give(&k, &before, old, sizeof old);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_STALE], 1);
    kit_give(&k, &other->address, early, sizeof early);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_STALE], 1);
    ck_assert_uint_eq(kit_stats(&k)->moves, 1);
}
END_TEST

/* Whoever heard the token on the way of before has nothing to send with. */
START_TEST(who_moves_gets_another_token)
{
    bound_pair();
    uint8_t old[RIFT_RELAY_HEADER_BYTES + 1] = {0}, now[RIFT_RELAY_HEADER_BYTES];
    rift_relay_client_header(k.peers[0].client, old);
    k.peers[0].address = kit_address(99, 7000);
    rift_relay_client_moved(k.peers[0].client, k.clock.now);
    kit_run(&k, 20 * MS);
    rift_relay_client_header(k.peers[0].client, now);
    ck_assert_mem_eq(old, now, 4);
    ck_assert_mem_ne(old + 4, now + 4, 4);
    ck_assert(!kit_give(&k, &k.peers[0].address, old, sizeof old));
    ck_assert(kit_send(&k, 0, 1, 100));
}
END_TEST

static size_t stream(unsigned count, uint64_t ns)
{
    size_t before = k.peers[1].payloads;
    for (unsigned i = 0; i < count; i++) {
        kit_send(&k, 0, (uint8_t)i, 992);
        kit_run(&k, ns / count);
    }
    return k.peers[1].payloads - before;
}

START_TEST(a_renewal_brings_its_rate_and_stays)
{
    struct rift_lease later = bound_pair();
    uint8_t lease[RIFT_LEASE_BYTES];
    ck_assert_uint_ge(stream(500, S), 490);
    later.expires_s += 600;
    later.rate_kbps = 800; /* 100 datagrams of 1,000 bytes a second */
    kit_sign(&k, &later, lease);
    ck_assert_int_eq(rift_relay_client_renew(k.peers[0].client, lease, k.clock.now), 0);
    kit_run(&k, 50 * MS);
    ck_assert_uint_le(stream(500, S), 110);
    kit_run(&k, S);
    kit_restart(&k, true);
    rift_relay_client_moved(k.peers[0].client, k.clock.now);
    kit_run(&k, 50 * MS);
    ck_assert_uint_gt(kit_stats(&k)->binds, 0);
    ck_assert_uint_eq(kit_stats(&k)->renewals, 0); /* it was kept, not the lease of before */
    ck_assert_uint_eq(kit_status(&k, 0).rate_kbps, 800);
    ck_assert_uint_le(stream(500, S), 110);
}
END_TEST

START_TEST(no_lease_is_faster_than_the_relay_allows)
{
    k.config.max_rate_kbps = 800;
    kit_restart(&k, false);
    bound_pair();
    ck_assert_uint_eq(kit_status(&k, 0).rate_kbps, 800);
    ck_assert_uint_le(stream(500, S), 110);
}
END_TEST

/* However many addresses somebody has, the relay has a core for others too. */
START_TEST(proofs_of_all_together_are_bounded)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address from = kit_address(0, 6000);
    kit_sign(&k, &terms, lease);
    for (unsigned i = 0; i < 2000; i++) {
        from.bytes[14] = (uint8_t)(i >> 8);
        from.bytes[15] = (uint8_t)i;
        kit_give(&k, &from, d, kit_bind(&k, &from, lease, 0, k.peers[5].secret, d));
    }
    uint64_t checked = kit_stats(&k)->refused[RIFT_RELAY_UNPROVEN];
    ck_assert_uint_eq(checked + kit_stats(&k)->refused[RIFT_RELAY_BUSY], 2000);
    ck_assert_uint_ge(checked, 1240); /* a quarter of a second's worth */
    ck_assert_uint_le(checked, 1260);
}
END_TEST

/* Of an IPv6 network all addresses are one neighbour, and so are all ports. */
START_TEST(a_network_is_one_neighbour)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address from = {{0x2a, 1, 2, 3, [16] = 9}};
    kit_sign(&k, &terms, lease);
    for (unsigned i = 0; i < 300; i++) {
        from.bytes[8] = (uint8_t)(i >> 8);
        from.bytes[15] = from.bytes[17] = (uint8_t)i;
        kit_give(&k, &from, d, kit_bind(&k, &from, lease, 0, k.peers[5].secret, d));
    }
    ck_assert_uint_le(kit_stats(&k)->refused[RIFT_RELAY_UNPROVEN], 102);
}
END_TEST

/* ---- after the proof ---- */

START_TEST(a_lease_that_is_over_forwards_nothing)
{
    bound_pair();
    kit_run(&k, 629 * S + 500 * MS); /* with the leeway of 30 s */
    ck_assert(kit_send(&k, 0, 1, 100));
    k.clock.now += S; /* nobody has swept yet */
    ck_assert(!kit_send(&k, 0, 1, 100));
    ck_assert_uint_eq(kit_stats(&k)->dropped_unknown, 1);
    ck_assert_uint_eq(kit_stats(&k)->leases, 1);
}
END_TEST

/* The next lease in its place begins without anybody of the one before. */
START_TEST(nothing_of_a_lease_is_left_to_the_next_one)
{
    uint8_t lease[RIFT_LEASE_BYTES];
    k.config.max_leases = 1;
    kit_restart(&k, false);
    bound_pair();
    kit_run(&k, 629 * S + 500 * MS);
    for (size_t i = 0; i < 2; i++)
        k.peers[i].client = rift_relay_client_free(k.peers[i].client);
    kit_run(&k, S);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
    ck_assert_uint_eq(kit_stats(&k)->bound, 0);
    struct rift_lease next = kit_terms(&k, 2, 3, 2);
    kit_sign(&k, &next, lease);
    kit_client(&k, 2, lease);
    kit_run(&k, 50 * MS);
    ck_assert_int_eq(kit_status(&k, 2).state, RIFT_RELAY_CLIENT_BOUND);
    ck_assert(!kit_status(&k, 2).peer_present);
    ck_assert(!kit_send(&k, 2, 1, 100));
    ck_assert_uint_eq(kit_stats(&k)->bound, 1);
}
END_TEST

START_TEST(channels_that_there_are_not)
{
    bound_pair();
    uint8_t d[RIFT_RELAY_HEADER_BYTES + 10] = {0};
    for (uint32_t number = 2; number < 100; number++) { /* also the first behind the table */
        rift_relay_write_header(number, 0, d);
        ck_assert(!kit_give(&k, &k.peers[0].address, d, sizeof d));
    }
    ck_assert_uint_eq(kit_stats(&k)->dropped_unknown, 98);
    /* A PONG is no question. */
    struct rift_relay_ping pong = {.kind = RIFT_RELAY_PONG};
    uint8_t header[RIFT_RELAY_HEADER_BYTES];
    size_t got = k.peers[0].got;
    rift_relay_client_header(k.peers[0].client, header);
    memcpy(pong.channel, header + 1, sizeof pong.channel);
    rift_relay_write_ping(&pong, d);
    kit_give(&k, &k.peers[0].address, d, RIFT_RELAY_PING_BYTES);
    ck_assert_uint_eq(k.peers[0].got, got);
    pong.kind = RIFT_RELAY_PING;
    rift_relay_write_ping(&pong, d);
    kit_give(&k, &k.peers[0].address, d, RIFT_RELAY_PING_BYTES);
    ck_assert_uint_eq(k.peers[0].got, got + 1);
}
END_TEST

START_TEST(answers_that_wait_are_bounded)
{
    struct rift_relay_request request = {.transaction = {1}};
    struct rift_relay_address from = kit_address(1, 1000);
    struct rift_relay_out out;
    const struct rift_relay_address *to;
    uint8_t d[RIFT_RELAY_REQUEST_BYTES], ecn = 0;
    unsigned waiting = 0;
    for (unsigned i = 0; i < 1000; i++) {
        request.transaction[1] = (uint8_t)i;
        rift_relay_write_request(&request, d);
        ck_assert_int_eq(rift_relay_receive(k.relay, &from, d, sizeof d, &ecn, &k.clock, &to), 0);
    }
    for (; rift_relay_send(k.relay, k.clock.now, &out) == 0; waiting++)
        ck_assert_uint_eq(out.data[TRANSACTION_AT + 1],
                          (uint8_t)waiting); /* the first ones, in their order */
    ck_assert_uint_eq(waiting + kit_stats(&k)->dropped_replies, 1000);
    ck_assert_uint_eq(waiting, 256);
}
END_TEST

START_TEST(records_of_another_relay_and_place)
{
    uint8_t first[RIFT_RELAY_RECORD_BYTES], second[RIFT_RELAY_RECORD_BYTES];
    struct rift_lease other = kit_terms(&k, 2, 3, 2);
    bound_pair();
    kit_lease(&k, 2, 3, &other);
    kit_run(&k, 50 * MS);
    ck_assert_uint_eq(kit_stats(&k)->leases, 2);
    rift_relay_export(k.relay, 0, first);
    rift_relay_export(k.relay, 1, second);
    kit_restart(&k, false);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, first, &k.clock), 0);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, second, &k.clock), -EBADMSG); /* somebody is there */
    ck_assert_int_eq(rift_relay_import(k.relay, 1, second, &k.clock), 0);
    ck_assert_uint_eq(kit_stats(&k)->leases, 2);
    rift_relay_id("renamed", k.config.id);
    kit_restart(&k, false);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, first, &k.clock), -EBADMSG);
    rift_relay_id("r", k.config.id);
    k.config.own = &k.peers[1].address; /* it listens where a peer was; and a range is shut now */
    k.config.n_own = 1;
    kit_restart(&k, false);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, first, &k.clock), -EBADMSG);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
    k.config.n_own = 0;
    k.config.allow = RIFT_RELAY_PRIVATE;
    k.peers[0].address = (struct rift_relay_address){{[10] = 0xff, 0xff, 10, 0, 0, 1, 1, 1}};
    kit_restart(&k, false);
    bound_pair();
    rift_relay_export(k.relay, 0, first);
    k.config.allow = 0;
    kit_restart(&k, false);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, first, &k.clock), -EBADMSG);
}
END_TEST

START_TEST(configurations_that_make_no_sense)
{
    struct rift_relay *none = NULL;
    struct rift_relay_config c = k.config;
    c.max_leases = 0;
    ck_assert_int_eq(rift_relay_new(&none, &c), -EINVAL);
    c = k.config;
    c.proofs_per_s = 0;
    ck_assert_int_eq(rift_relay_new(&none, &c), -EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(only_its_own_port_is_the_relays)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    struct rift_relay_address own = k.peers[0].address;
    own.bytes[17] ^= 1;
    k.config.own = &own;
    k.config.n_own = 1;
    kit_restart(&k, false);
    kit_lease(&k, 0, 1, &terms);
    kit_run(&k, 50 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
}
END_TEST

/* ---- the peer's side: whoever can send to it from the relay's address is not yet the relay ---- */

static int hear(struct rift_relay_client *c, const uint8_t *d, size_t len)
{
    const uint8_t *payload;
    size_t n;
    return rift_relay_client_receive(c, d, len, k.clock.now, KIT_UNIX, &payload, &n);
}

static enum rift_relay_client_state state_of(const struct rift_relay_client *c)
{
    struct rift_relay_client_status s;
    rift_relay_client_get_status(c, &s);
    return s.state;
}

/* What C sends now; the transaction in it. */
static const uint8_t *next_of(struct rift_relay_client *c, uint8_t d[RIFT_RELAY_BIND_BYTES])
{
    size_t len;
    k.clock.now += S;
    ck_assert_int_eq(rift_relay_client_send(c, d, RIFT_RELAY_BIND_BYTES, k.clock.now, &len), 0);
    return d + TRANSACTION_AT;
}

static struct rift_relay_client *asking(void)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    struct rift_relay_client *c;
    uint8_t lease[RIFT_LEASE_BYTES];
    kit_sign(&k, &terms, lease);
    ck_assert_int_eq(rift_relay_client_new(&c, lease, k.peers[5].secret, k.clock.now), -EINVAL); /* not his */
    ck_assert_int_eq(rift_relay_client_new(&c, lease, k.peers[1].secret, k.clock.now), 0);
    return c;
}

START_TEST(answers_to_somebody_else_are_none)
{
    struct rift_relay_client *c = asking();
    struct rift_relay_challenged challenged = {.unix_s = KIT_UNIX};
    struct rift_relay_bound bound = {.side = 1, .left_s = 60, .header = {RIFT_RELAY_DATA, 1}};
    struct rift_relay_refused refused = {.reason = RIFT_RELAY_UNPROVEN};
    uint8_t d[RIFT_RELAY_BIND_BYTES], answer[256];
    memcpy(challenged.transaction, next_of(c, d), sizeof challenged.transaction);
    challenged.transaction[7] ^= 1;
    rift_relay_write_challenged(&challenged, answer);
    ck_assert_int_eq(hear(c, answer, RIFT_RELAY_CHALLENGE_BYTES), RIFT_RELAY_CLIENT_IDLE);
    challenged.transaction[7] ^= 1;
    rift_relay_write_challenged(&challenged, answer);
    ck_assert_int_eq(hear(c, answer, RIFT_RELAY_CHALLENGE_BYTES), 0);
    memcpy(bound.transaction, next_of(c, d), sizeof bound.transaction);
    memcpy(refused.transaction, bound.transaction, sizeof refused.transaction);
    refused.transaction[0] ^= 1;
    rift_relay_write_refused(&refused, answer);
    ck_assert_int_eq(hear(c, answer, RIFT_RELAY_REFUSED_BYTES), RIFT_RELAY_CLIENT_IDLE);
    bound.transaction[0] ^= 1;
    rift_relay_write_bound(&bound, answer);
    ck_assert_int_eq(hear(c, answer, RIFT_RELAY_BOUND_BYTES), RIFT_RELAY_CLIENT_IDLE);
    bound.transaction[0] ^= 1;
    for (unsigned side = 0; side < 3; side += 2) { /* of the other side, of none */
        bound.side = (uint8_t)side;
        rift_relay_write_bound(&bound, answer);
        ck_assert_int_eq(hear(c, answer, RIFT_RELAY_BOUND_BYTES), RIFT_RELAY_CLIENT_IDLE);
    }
    ck_assert_int_eq(state_of(c), RIFT_RELAY_CLIENT_ASKING);
    bound.side = 1;
    rift_relay_write_bound(&bound, answer);
    answer[1] ^= 1; /* another version */
    ck_assert_int_eq(hear(c, answer, RIFT_RELAY_BOUND_BYTES), RIFT_RELAY_CLIENT_IDLE);
    answer[1] ^= 1;
    ck_assert_int_eq(hear(c, answer, RIFT_RELAY_BOUND_BYTES), 0);
    ck_assert_int_eq(state_of(c), RIFT_RELAY_CLIENT_BOUND);
    rift_relay_client_free(c);
}
END_TEST

START_TEST(pongs_and_data_of_another_channel_are_none)
{
    struct rift_relay_client *c = asking();
    struct rift_relay_ping pong = {.kind = RIFT_RELAY_PONG, .flags = RIFT_RELAY_FLAG_DRAINING};
    uint8_t d[RIFT_RELAY_PING_BYTES],
        header[RIFT_RELAY_HEADER_BYTES] = {RIFT_RELAY_DATA, 1, 2, 3, 4, 5, 6, 7};
    uint8_t data[RIFT_RELAY_HEADER_BYTES + 1] = {RIFT_RELAY_DATA};
    struct rift_relay_client_status s;
    ck_assert_int_eq(hear(c, data, sizeof data), RIFT_RELAY_CLIENT_IDLE); /* not bound: its header is zeros */
    rift_relay_write_ping(&pong, d);
    ck_assert_int_eq(hear(c, d, sizeof d), RIFT_RELAY_CLIENT_IDLE);
    rift_relay_client_resume(c, header, k.clock.now);
    memcpy(data, header, sizeof header);
    ck_assert_int_eq(hear(c, data, RIFT_RELAY_HEADER_BYTES), RIFT_RELAY_CLIENT_IDLE); /* nothing in it */
    ck_assert_int_eq(hear(c, data, sizeof data), RIFT_RELAY_CLIENT_PAYLOAD);
    rift_relay_write_ping(&pong, d); /* channel 0 */
    ck_assert_int_eq(hear(c, d, sizeof d), RIFT_RELAY_CLIENT_IDLE);
    memcpy(pong.channel, header + 1, sizeof pong.channel);
    pong.id = 2; /* even: no client asks by that */
    rift_relay_write_ping(&pong, d);
    ck_assert_int_eq(hear(c, d, sizeof d), RIFT_RELAY_CLIENT_IDLE);
    pong = (struct rift_relay_ping){.kind = RIFT_RELAY_PING};
    memcpy(pong.channel, header + 1, sizeof pong.channel);
    rift_relay_write_ping(&pong, d);
    ck_assert_int_eq(hear(c, d, sizeof d), RIFT_RELAY_CLIENT_IDLE);
    rift_relay_client_get_status(c, &s);
    ck_assert(!s.draining);
    pong.kind = RIFT_RELAY_PONG;
    pong.flags = RIFT_RELAY_FLAG_DRAINING;
    rift_relay_write_ping(&pong, d);
    ck_assert_int_eq(hear(c, d, sizeof d), 0);
    rift_relay_client_get_status(c, &s);
    ck_assert(s.draining);
    rift_relay_client_free(c);
}
END_TEST

/* ---- STUN ---- */

static bool is_answered(const struct rift_relay_address *from, const void *request, size_t len)
{
    uint64_t before = kit_stats(&k)->stun_answers;
    kit_give(&k, from, request, len);
    return kit_stats(&k)->stun_answers != before;
}

START_TEST(stun_that_is_not_answered)
{
    static const uint8_t plain[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 9};
    struct rift_relay_address a = kit_address(200, 4000), local = {{0xfe, 0x80, [15] = 9, [16] = 1}};
    uint8_t request[28] = {0};
    k.longer = 64;
    k.config.stun_per_s = 1000;
    k.config.allow = RIFT_RELAY_LOOPBACK | RIFT_RELAY_PRIVATE | RIFT_RELAY_LINK_LOCAL;
    k.config.own = &k.peers[6].address;
    k.config.n_own = 1;
    kit_restart(&k, false);
    memcpy(request, plain, sizeof plain);
    ck_assert(is_answered(&a, request, sizeof plain));
    ck_assert(!is_answered(&local, request, sizeof plain));
    ck_assert(!is_answered(&k.peers[6].address, request, sizeof plain)); /* the relay's own */
    request[1] = 2;                                                      /* another method */
    ck_assert(!is_answered(&a, request, sizeof plain));
    request[1] = 0x11; /* an indication */
    ck_assert(!is_answered(&a, request, sizeof plain));
    request[1] = 1;
    request[3] = 8;
    request[21] = 3; /* an attribute that must be understood, and is not */
    request[23] = 4;
    ck_assert(!is_answered(&a, request, sizeof request));
    request[20] = 0x80; /* one that may be ignored */
    ck_assert(is_answered(&a, request, sizeof request));
    ck_assert_uint_eq(kit_stats(&k)->stun_dropped, 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("relay: proofs");
    TCase *t = tcase_create("relay: proofs");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, every_part_of_a_challenge_counts);
    tcase_add_test(t, what_is_no_lease);
    tcase_add_test(t, a_known_lease_vouches_for_no_other);
    tcase_add_test(t, the_same_id_by_another_issuer);
    tcase_add_loop_test(t, each_side_has_proofs_of_its_own, 0, 2);
    tcase_add_test(t, who_moves_gets_another_token);
    tcase_add_test(t, a_renewal_brings_its_rate_and_stays);
    tcase_add_test(t, no_lease_is_faster_than_the_relay_allows);
    tcase_add_test(t, proofs_of_all_together_are_bounded);
    tcase_add_test(t, a_network_is_one_neighbour);
    tcase_add_test(t, a_lease_that_is_over_forwards_nothing);
    tcase_add_test(t, nothing_of_a_lease_is_left_to_the_next_one);
    tcase_add_test(t, channels_that_there_are_not);
    tcase_add_test(t, answers_that_wait_are_bounded);
    tcase_add_test(t, records_of_another_relay_and_place);
    tcase_add_test(t, configurations_that_make_no_sense);
    tcase_add_test(t, only_its_own_port_is_the_relays);
    tcase_add_test(t, answers_to_somebody_else_are_none);
    tcase_add_test(t, pongs_and_data_of_another_channel_are_none);
    tcase_add_test(t, stun_that_is_not_answered);
    return wv_run_suite(s);
}
