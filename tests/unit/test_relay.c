/* The relay and its peers on virtual time: who may bind, what is forwarded and what never, leases that end,
 * move, are renewed and refused, and what a restart keeps. */
#include "rift/punch/stun.h"
#include "tests/unit/relay_kit.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

#define S  WV_NS_PER_S
#define MS WV_NS_PER_MS

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

/* Peers 0 and 1, bound. */
static struct rift_lease bound_pair(void)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    kit_lease(&k, 0, 1, &terms);
    kit_run(&k, 10 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
    ck_assert_int_eq(kit_status(&k, 1).state, RIFT_RELAY_CLIENT_BOUND);
    return terms;
}

/* Peer 0 shows LEASE and is refused for REASON; nothing is kept of it. */
static void expect_refusal(const uint8_t lease[RIFT_LEASE_BYTES], enum rift_relay_reason reason)
{
    uint64_t before = kit_stats(&k)->refused[reason], leases = kit_stats(&k)->leases;
    kit_client(&k, 0, lease);
    kit_run(&k, 50 * MS);
    ck_assert_int_ne(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
    ck_assert_uint_eq(kit_status(&k, 0).reason, reason);
    ck_assert_uint_eq(kit_stats(&k)->refused[reason], before + 1);
    ck_assert_uint_eq(kit_stats(&k)->leases, leases);
}

START_TEST(both_directions)
{
    bound_pair();
    ck_assert(kit_status(&k, 0).peer_present && kit_status(&k, 1).peer_present);
    ck_assert_uint_eq(kit_status(&k, 0).rate_kbps, 8000);
    ck_assert_uint_ge(kit_status(&k, 0).left_s, 599);
    ck_assert_uint_eq(kit_status(&k, 0).observed[15], 10);
    ck_assert_uint_eq(kit_status(&k, 0).observed[16] | kit_status(&k, 0).observed[17] << 8, 5000);
    ck_assert(kit_send(&k, 0, 7, 1200));
    ck_assert_uint_eq(k.peers[1].payload_len, 1200);
    ck_assert_uint_eq(k.peers[1].payload[1199], 7);
    ck_assert(kit_send(&k, 1, 9, 1452));
    ck_assert_uint_eq(k.peers[0].payload_len, 1452);
    ck_assert_uint_eq(k.peers[0].payloads, 1);
    ck_assert_uint_eq(kit_stats(&k)->forwarded, 2);
    ck_assert_uint_eq(kit_stats(&k)->bound, 2);

    uint8_t large[RIFT_RELAY_DATAGRAM_MAX + 1];
    rift_relay_client_header(k.peers[0].client, large);
    ck_assert(!kit_give(&k, &k.peers[0].address, large, sizeof large));
    ck_assert(!kit_give(&k, &k.peers[0].address, large, RIFT_RELAY_HEADER_BYTES - 1));
    ck_assert_uint_eq(kit_stats(&k)->dropped_malformed, 2);
}
END_TEST

START_TEST(only_one_side_there)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES];
    kit_sign(&k, &terms, lease);
    kit_client(&k, 0, lease);
    kit_run(&k, 10 * MS);
    ck_assert(!kit_status(&k, 0).peer_present);
    ck_assert(!kit_send(&k, 0, 1, 100));
    ck_assert_uint_eq(kit_stats(&k)->dropped_absent, 1);
    kit_client(&k, 1, lease);
    kit_run(&k, 10 * MS);
    ck_assert_msg(kit_status(&k, 0).peer_present, "told without asking");
    /* Peer 1 goes: a minute later nothing is sent to where it was. */
    k.peers[1].client = rift_relay_client_free(k.peers[1].client);
    kit_run(&k, 59 * S);
    ck_assert(kit_send(&k, 0, 1, 100));
    kit_run(&k, 6 * S);
    ck_assert(!kit_send(&k, 0, 1, 100));
    ck_assert(!kit_status(&k, 0).peer_present);
}
END_TEST

START_TEST(leases_that_do_not_count)
{
    struct rift_lease good = kit_terms(&k, 0, 1, 1), bad;
    uint8_t lease[RIFT_LEASE_BYTES], stranger[64], public[32];
    bad = good;
    rift_relay_id("another", bad.relay);
    kit_sign(&k, &bad, lease);
    expect_refusal(lease, RIFT_RELAY_OTHER_RELAY);
    bad = good;
    bad.expires_s = bad.not_before_s + 3601;
    kit_sign(&k, &bad, lease);
    expect_refusal(lease, RIFT_RELAY_TOO_LONG);
    bad = good; /* a clock that is wrong by an hour, either way */
    bad.not_before_s += 3600;
    bad.expires_s += 3600;
    kit_sign(&k, &bad, lease);
    expect_refusal(lease, RIFT_RELAY_NOT_YET);
    bad = good;
    bad.not_before_s -= 3600;
    bad.expires_s -= 3600;
    kit_sign(&k, &bad, lease);
    expect_refusal(lease, RIFT_RELAY_EXPIRED);

    memcpy(stranger, k.peers[5].secret, sizeof stranger); /* anybody can sign */
    memcpy(public, k.peers[5].public, sizeof public);
    ck_assert_int_eq(rift_lease_sign(&good, stranger, lease), 0);
    expect_refusal(lease, RIFT_RELAY_NOT_TRUSTED);
    rift_lease_issuer_id(k.issuer, lease + 4); /* and write another's name on it */
    expect_refusal(lease, RIFT_RELAY_FORGED);
    kit_sign(&k, &good, lease);
    lease[108] ^= 1; /* a better rate */
    expect_refusal(lease, RIFT_RELAY_FORGED);
}
END_TEST

START_TEST(an_overheard_lease_is_worth_nothing)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address thief = kit_address(66, 6000);
    kit_sign(&k, &terms, lease);
    /* A stranger's key, and the other peer's: sides swapped. */
    kit_give(&k, &thief, d, kit_bind(&k, &thief, lease, 0, k.peers[5].secret, d));
    kit_give(&k, &thief, d, kit_bind(&k, &thief, lease, 0, k.peers[1].secret, d));
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_UNPROVEN], 2);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
    /* An overheard BIND, from the thief's address, with his challenge or the peer's. */
    size_t len = kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d);
    kit_give(&k, &thief, d, len);
    ck_assert_uint_eq(kit_stats(&k)->unproven, 1);
    kit_bind(&k, &thief, lease, 0, k.peers[5].secret, d);
    uint8_t genuine[RIFT_RELAY_BIND_BYTES];
    kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, genuine);
    memcpy(d + 228, genuine + 228, 64);
    kit_give(&k, &thief, d, len);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_UNPROVEN], 3);
    kit_give(&k, &k.peers[0].address, genuine, len);
    ck_assert_uint_eq(kit_stats(&k)->binds, 1);
}
END_TEST

START_TEST(only_challenges_go_to_the_unproven)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    kit_sign(&k, &terms, lease);
    size_t len = kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, d), got = k.peers[0].got;
    d[12] ^= 1; /* stamp */
    kit_give(&k, &k.peers[0].address, d, len);
    d[12] ^= 1;
    d[35] ^= 1; /* MAC */
    kit_give(&k, &k.peers[0].address, d, len);
    d[35] ^= 1;
    d[36 + 12] ^= 1; /* for another lease */
    kit_give(&k, &k.peers[0].address, d, len);
    d[36 + 12] ^= 1;
    k.clock.now += 11 * S;
    kit_give(&k, &k.peers[0].address, d, len); /* too old */
    ck_assert_uint_eq(kit_stats(&k)->unproven, 4);
    ck_assert_uint_eq(k.peers[0].got, got);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
    k.clock.now -= 2 * S;
    kit_give(&k, &k.peers[0].address, d, len);
    ck_assert_uint_eq(kit_stats(&k)->binds, 1);
}
END_TEST

START_TEST(a_kept_proof_moves_nobody_back)
{
    struct rift_lease terms = bound_pair();
    uint8_t lease[RIFT_LEASE_BYTES], old[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address before = k.peers[0].address;
    kit_sign(&k, &terms, lease);
    size_t len = kit_bind(&k, &before, lease, 0, k.peers[0].secret, old);
    kit_give(&k, &before, old, len);
    uint64_t binds = kit_stats(&k)->binds;
    kit_give(&k, &before, old, len); /* the same again: the same answer */
    ck_assert_uint_eq(kit_stats(&k)->binds, binds + 1);

    kit_run(&k, 20 * MS);
    k.peers[0].address = kit_address(99, 7000);
    rift_relay_client_moved(k.peers[0].client, k.clock.now);
    kit_run(&k, 20 * MS);
    ck_assert_uint_eq(kit_stats(&k)->moves, 1);
    ck_assert(kit_send(&k, 1, 3, 100));
    ck_assert_uint_eq(k.peers[0].payload[0], 3);
    kit_give(&k, &before, old, len);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_STALE], 1);
    ck_assert(kit_send(&k, 1, 4, 100));
    ck_assert_uint_eq(k.peers[0].payload[0], 4);
    ck_assert_uint_eq(kit_stats(&k)->moves, 1);
}
END_TEST

START_TEST(nobody_else_sends_in_their_name)
{
    bound_pair();
    uint8_t d[RIFT_RELAY_HEADER_BYTES + 100] = {0};
    struct rift_relay_address port = k.peers[0].address, socket = k.peers[0].address;
    rift_relay_client_header(k.peers[0].client, d);
    port.bytes[17] ^= 1;
    socket.bytes[18] ^= 1;
    ck_assert(!kit_give(&k, &port, d, sizeof d));
    ck_assert(!kit_give(&k, &socket, d, sizeof d));
    ck_assert(!kit_give(&k, &k.peers[1].address, d, sizeof d));
    for (size_t i = 1; i < RIFT_RELAY_HEADER_BYTES; i++) {
        d[i] ^= 1;
        ck_assert(!kit_give(&k, &k.peers[0].address, d, sizeof d));
        d[i] ^= 1;
    }
    ck_assert_uint_eq(kit_stats(&k)->dropped_unknown, 10);
    ck_assert_uint_eq(k.peers[1].payloads, 0);
    ck_assert(kit_give(&k, &k.peers[0].address, d, sizeof d));
    /* Nor does a peer take what doesn't begin with its own 8 bytes. */
    const uint8_t *payload;
    size_t n;
    ck_assert_int_eq(
        rift_relay_client_receive(k.peers[1].client, d, sizeof d, k.clock.now, KIT_UNIX, &payload, &n),
        RIFT_RELAY_CLIENT_IDLE);
}
END_TEST

START_TEST(renewal)
{
    struct rift_lease terms = bound_pair(), later = terms, other = terms;
    uint8_t lease[RIFT_LEASE_BYTES], first[RIFT_LEASE_BYTES], header[8], again[8];
    kit_sign(&k, &terms, first);
    rift_relay_client_header(k.peers[0].client, header);
    kit_run(&k, 500 * S);
    later.not_before_s = k.clock.unix_s;
    later.expires_s = k.clock.unix_s + 600;
    later.rate_kbps = 16000;
    kit_sign(&k, &later, lease);
    ck_assert_int_eq(rift_relay_client_renew(k.peers[0].client, first, k.clock.now), -EINVAL);
    ck_assert_int_eq(rift_relay_client_renew(k.peers[0].client, lease, k.clock.now), 0);
    ck_assert_msg(kit_send(&k, 0, 1, 100), "goes on meanwhile");
    kit_run(&k, 100 * MS);
    ck_assert_uint_eq(kit_stats(&k)->renewals, 1);
    ck_assert_uint_eq(kit_status(&k, 0).rate_kbps, 16000);
    rift_relay_client_header(k.peers[0].client, again);
    ck_assert_mem_eq(header, again, 8);
    /* The lease of before binds still, and takes nothing away. */
    rift_relay_client_moved(k.peers[1].client, k.clock.now);
    kit_run(&k, 200 * S);
    ck_assert_uint_eq(kit_stats(&k)->leases, 1);
    ck_assert(kit_send(&k, 0, 1, 100));
    /* Another pair under the same id. */
    memcpy(other.peers[1], k.peers[3].public, 32);
    other.not_before_s = k.clock.unix_s;
    other.expires_s = k.clock.unix_s + 1000;
    kit_sign(&k, &other, lease);
    kit_client(&k, 3, lease);
    kit_run(&k, 100 * MS);
    ck_assert_uint_eq(kit_status(&k, 3).reason, RIFT_RELAY_CONFLICT);
    ck_assert_int_eq(kit_status(&k, 3).state, RIFT_RELAY_CLIENT_REFUSED);
    kit_run(&k, 500 * S);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
    ck_assert_uint_eq(kit_stats(&k)->expired, 1);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_REFUSED);
    ck_assert_uint_eq(kit_status(&k, 0).reason, RIFT_RELAY_EXPIRED);
}
END_TEST

START_TEST(a_clock_that_is_set_changes_no_lease)
{
    bound_pair();
    k.clock.unix_s += 7200;
    kit_run(&k, 100 * S);
    ck_assert(kit_send(&k, 0, 1, 100));
    k.clock.unix_s -= 14400;
    kit_run(&k, 540 * S);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
}
END_TEST

START_TEST(a_wrong_clock_is_told)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES];
    kit_sign(&k, &terms, lease);
    k.clock.unix_s += 3600; /* the relay's; peers compare with KIT_UNIX */
    kit_client(&k, 0, lease);
    kit_run(&k, 20 * MS);
    ck_assert_uint_eq(kit_status(&k, 0).reason, RIFT_RELAY_EXPIRED);
    ck_assert_int_eq(kit_status(&k, 0).clock_ahead_s, 3600);
}
END_TEST

START_TEST(full_and_free_again)
{
    uint8_t lease[RIFT_LEASE_BYTES];
    for (uint8_t i = 0; i < 5; i++) {
        struct rift_lease terms = kit_terms(&k, i, 6, i);
        kit_sign(&k, &terms, lease);
        kit_client(&k, i, lease);
        kit_run(&k, 20 * MS);
    }
    ck_assert_uint_eq(kit_stats(&k)->leases, 4);
    ck_assert_uint_eq(kit_status(&k, 4).reason, RIFT_RELAY_FULL);
    struct rift_lease long_one = kit_terms(&k, 4, 6, 4);
    long_one.expires_s += 2000;
    kit_sign(&k, &long_one, lease);
    kit_client(&k, 4, lease);
    kit_run(&k, 700 * S);
    ck_assert_int_eq(kit_status(&k, 4).state, RIFT_RELAY_CLIENT_BOUND);
    ck_assert_uint_eq(kit_stats(&k)->expired, 4);
    ck_assert_uint_eq(kit_stats(&k)->leases, 1);
}
END_TEST

START_TEST(draining)
{
    struct rift_lease terms = bound_pair(), later = terms, other = kit_terms(&k, 2, 3, 2);
    uint8_t lease[RIFT_LEASE_BYTES];
    rift_relay_set_draining(k.relay, true);
    kit_sign(&k, &other, lease);
    kit_client(&k, 2, lease);
    kit_run(&k, 6 * S);
    ck_assert_uint_eq(kit_status(&k, 2).reason, RIFT_RELAY_DRAINING);
    ck_assert(kit_status(&k, 0).draining);
    ck_assert(kit_send(&k, 0, 1, 100));
    k.peers[0].address = kit_address(98, 1234); /* who is here may move */
    rift_relay_client_moved(k.peers[0].client, k.clock.now);
    kit_run(&k, 20 * MS);
    ck_assert(kit_send(&k, 0, 1, 100));
    later.expires_s += 600;
    kit_sign(&k, &later, lease);
    rift_relay_client_renew(k.peers[0].client, lease, k.clock.now);
    kit_run(&k, 20 * MS);
    ck_assert_uint_eq(kit_stats(&k)->renewals, 0);
    ck_assert_msg(kit_send(&k, 0, 1, 100), "a refused renewal ends nothing");
    kit_run(&k, 700 * S);
    ck_assert_uint_eq(kit_stats(&k)->leases, 0);
    rift_relay_set_draining(k.relay, false);
    other = kit_terms(&k, 2, 3, 3);
    kit_lease(&k, 2, 3, &other);
    kit_run(&k, 20 * MS);
    ck_assert_int_eq(kit_status(&k, 2).state, RIFT_RELAY_CLIENT_BOUND);
}
END_TEST

START_TEST(too_many_proofs)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES], d[RIFT_RELAY_BIND_BYTES];
    struct rift_relay_address thief = kit_address(66, 6000);
    kit_sign(&k, &terms, lease);
    for (unsigned i = 0; i < 400; i++) {
        thief.bytes[17] = (uint8_t)i; /* ports are free */
        kit_give(&k, &thief, d, kit_bind(&k, &thief, lease, 0, k.peers[5].secret, d));
    }
    uint64_t checked = kit_stats(&k)->refused[RIFT_RELAY_UNPROVEN],
             busy = kit_stats(&k)->refused[RIFT_RELAY_BUSY];
    ck_assert_uint_eq(checked + busy, 400);
    ck_assert_uint_le(checked, 102);
    kit_lease(&k, 0, 1, &terms); /* others come in */
    kit_run(&k, 20 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
}
END_TEST

START_TEST(a_relay_that_forgot)
{
    bound_pair();
    kit_restart(&k, false);
    ck_assert(!kit_send(&k, 0, 1, 100));
    kit_run(&k, 10 * S);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
    ck_assert(kit_send(&k, 0, 5, 100));
    ck_assert_uint_eq(k.peers[1].payload[0], 5);
}
END_TEST

START_TEST(a_restart_that_kept_its_records)
{
    struct rift_lease terms = bound_pair();
    uint8_t lease[RIFT_LEASE_BYTES], old[RIFT_RELAY_BIND_BYTES], record[RIFT_RELAY_RECORD_BYTES];
    kit_sign(&k, &terms, lease);
    size_t len = kit_bind(&k, &k.peers[0].address, lease, 0, k.peers[0].secret, old), place;
    kit_run(&k, 50 * MS);
    rift_relay_client_moved(k.peers[0].client, k.clock.now); /* a newer proof */
    kit_run(&k, 50 * MS);
    ck_assert(rift_relay_next_changed(k.relay, &place));
    ck_assert(!rift_relay_next_changed(k.relay, &place));
    kit_restart(&k, true);
    ck_assert(kit_send(&k, 0, 5, 100));
    ck_assert(kit_send(&k, 1, 6, 100));
    ck_assert_uint_eq(kit_stats(&k)->bound, 2);
    kit_give(&k, &k.peers[0].address, old, len);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_STALE], 1);

    /* Damaged anywhere, it is no record. */
    rift_relay_export(k.relay, place, record);
    kit_restart(&k, false);
    for (size_t i = 0; i < sizeof record; i++) {
        record[i] ^= 4;
        ck_assert_int_eq(rift_relay_import(k.relay, 0, record, &k.clock), -EBADMSG);
        record[i] ^= 4;
    }
    ck_assert_int_eq(rift_relay_import(k.relay, 4, record, &k.clock), -EBADMSG);
    ck_assert_int_eq(rift_relay_import(k.relay, 2, record, &k.clock), 0);
    ck_assert_int_eq(rift_relay_import(k.relay, 3, record, &k.clock), -EBADMSG); /* the same id twice */
    ck_assert_int_eq(rift_relay_import(k.relay, 2, record, &k.clock), -EBADMSG);
    /* Over by now; by an issuer who is trusted no more. */
    kit_restart(&k, false);
    struct rift_relay_clock late = {k.clock.now + 700 * S, k.clock.unix_s + 700};
    ck_assert_int_eq(rift_relay_import(k.relay, 0, record, &late), -EBADMSG);
    k.issuer[0] ^= 1;
    kit_restart(&k, false);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, record, &k.clock), -EBADMSG);
    ck_assert_uint_eq(kit_stats(&k)->withdrawn, 1);
    memset(record, 0, sizeof record);
    ck_assert_int_eq(rift_relay_import(k.relay, 0, record, &k.clock), RIFT_RELAY_EMPTY);
}
END_TEST

/* ---- addresses ---- */

static const struct {
    uint8_t ip[16];
    unsigned ranges;
} addresses[] = {
#define V4(a, b, c, d)                                                                                       \
    {                                                                                                        \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d                                                 \
    }
    {V4(8, 8, 8, 8), 0},
    {V4(126, 255, 255, 255), 0},
    {V4(127, 1, 2, 3), RIFT_RELAY_LOOPBACK},
    {V4(128, 0, 0, 1), 0},
    {V4(10, 0, 0, 1), RIFT_RELAY_PRIVATE},
    {V4(172, 16, 0, 1), RIFT_RELAY_PRIVATE},
    {V4(172, 31, 255, 254), RIFT_RELAY_PRIVATE},
    {V4(172, 15, 255, 254), 0},
    {V4(172, 32, 0, 1), 0},
    {V4(192, 168, 9, 9), RIFT_RELAY_PRIVATE},
    {V4(192, 167, 9, 9), 0},
    {V4(100, 64, 0, 1), RIFT_RELAY_PRIVATE},
    {V4(100, 127, 255, 254), RIFT_RELAY_PRIVATE},
    {V4(100, 63, 255, 254), 0},
    {V4(100, 128, 0, 1), 0},
    {V4(169, 254, 1, 1), RIFT_RELAY_LINK_LOCAL},
    {V4(169, 253, 1, 1), 0},
    {V4(223, 255, 255, 254), 0},
    {V4(224, 0, 0, 1), RIFT_RELAY_MULTICAST},
    {V4(239, 255, 0, 1), RIFT_RELAY_MULTICAST},
    {V4(255, 255, 255, 255), RIFT_RELAY_MULTICAST},
    {V4(0, 0, 0, 0), RIFT_RELAY_UNUSABLE},
    {V4(0, 1, 2, 3), RIFT_RELAY_UNUSABLE},
    {V4(240, 0, 0, 1), RIFT_RELAY_UNUSABLE},
    {V4(255, 255, 255, 254), RIFT_RELAY_UNUSABLE},
    {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}, 0},
    {{[15] = 1}, RIFT_RELAY_LOOPBACK},
    {{0}, RIFT_RELAY_UNUSABLE},
    {{[12] = 8, 8, 8, 8}, RIFT_RELAY_UNUSABLE},
    {{0xfc, 0, [15] = 1}, RIFT_RELAY_PRIVATE},
    {{0xfd, 0, [15] = 1}, RIFT_RELAY_PRIVATE},
    {{0xfb, 0, [15] = 1}, 0},
    {{0xfe, 0xc0, [15] = 1}, RIFT_RELAY_PRIVATE},
    {{0xfe, 0xff, [15] = 1}, RIFT_RELAY_PRIVATE},
    {{0xfe, 0x80, [15] = 1}, RIFT_RELAY_LINK_LOCAL},
    {{0xfe, 0xbf, [15] = 1}, RIFT_RELAY_LINK_LOCAL},
    {{0xfe, 0x7f, [15] = 1}, 0},
    {{0xff, 0x02, [15] = 1}, RIFT_RELAY_MULTICAST},
    {{0, 0x64, 0xff, 0x9b, [12] = 10, 0, 0, 1}, RIFT_RELAY_PRIVATE},
    {{0, 0x64, 0xff, 0x9b, [12] = 8, 8, 8, 8}, 0},
    {{0x20, 0x02, 127, 0, 0, 1}, RIFT_RELAY_LOOPBACK},
    {{0x20, 0x02, 8, 8, 8, 8}, 0},
};

START_TEST(ranges)
{
    struct rift_relay_address a = {.bytes = {[17] = 1}};
    memcpy(a.bytes, addresses[_i].ip, 16);
    ck_assert_uint_eq(rift_relay_address_ranges(&a), addresses[_i].ranges);
    a.bytes[17] = 0; /* no port */
    ck_assert_uint_eq(rift_relay_address_ranges(&a), RIFT_RELAY_UNUSABLE);

    /* A peer there is bound only where that is allowed, and hears nothing at all in ranges of many. */
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES];
    bool silent = addresses[_i].ranges & (RIFT_RELAY_MULTICAST | RIFT_RELAY_UNUSABLE);
    a.bytes[17] = 1;
    k.peers[0].address = a;
    kit_sign(&k, &terms, lease);
    kit_client(&k, 0, lease);
    kit_run(&k, 20 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state == RIFT_RELAY_CLIENT_BOUND, addresses[_i].ranges == 0);
    ck_assert_uint_eq(kit_stats(&k)->refused[RIFT_RELAY_BAD_ADDRESS] != 0, addresses[_i].ranges != 0);
    ck_assert_uint_eq(k.peers[0].got == 0, silent);
    k.config.allow = RIFT_RELAY_LOOPBACK | RIFT_RELAY_PRIVATE | RIFT_RELAY_LINK_LOCAL;
    kit_restart(&k, false);
    kit_client(&k, 0, lease);
    kit_run(&k, 20 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state == RIFT_RELAY_CLIENT_BOUND, !silent);
}
END_TEST

START_TEST(never_to_itself)
{
    struct rift_lease terms = kit_terms(&k, 0, 1, 1);
    uint8_t lease[RIFT_LEASE_BYTES];
    k.config.own = &k.peers[0].address;
    k.config.n_own = 1;
    k.config.allow = 255;
    kit_restart(&k, false);
    kit_sign(&k, &terms, lease);
    kit_client(&k, 0, lease);
    kit_run(&k, 5 * S);
    ck_assert_uint_eq(k.peers[0].got, 0);
    ck_assert_uint_gt(kit_stats(&k)->refused[RIFT_RELAY_BAD_ADDRESS], 0);
}
END_TEST

/* ---- rates ---- */

/* Peer 0 sends COUNT datagrams of 1,000 bytes in NS; returns how many arrived in that time. */
static size_t stream(size_t peer, size_t to, unsigned count, uint64_t ns)
{
    size_t before = k.peers[to].payloads;
    for (unsigned i = 0; i < count; i++) {
        kit_send(&k, peer, (uint8_t)i, 992);
        kit_run(&k, ns / count);
    }
    return k.peers[to].payloads - before;
}

START_TEST(a_rate_is_kept_by_delay)
{
    bound_pair(); /* 8,000 kbit/s: 1,000 datagrams of 1,000 bytes a second */
    size_t passed = stream(0, 1, 900, S);
    ck_assert_uint_eq(passed, 900);
    ck_assert_uint_eq(kit_stats(&k)->shaped, 0);
    passed = stream(0, 1, 2000, S);
    ck_assert_uint_ge(passed, 980);
    ck_assert_uint_le(passed, 1025);
    ck_assert_uint_gt(kit_stats(&k)->shaped, 500);
    ck_assert_uint_gt(kit_stats(&k)->dropped_queue, 900);
    ck_assert_uint_le(kit_stats(&k)->queued, 51);
    kit_run(&k, 100 * MS);
    ck_assert_uint_eq(kit_stats(&k)->queued, 0);
    ck_assert_uint_eq(rift_relay_timeout(k.relay), UINT64_MAX);
    uint64_t dropped = kit_stats(&k)->dropped_queue;
    ck_assert_uint_eq(stream(0, 1, 900, S), 900);
    ck_assert_uint_eq(kit_stats(&k)->dropped_queue, dropped);
    ck_assert_uint_eq(stream(1, 0, 900, S), 900); /* the other direction has its own */
}
END_TEST

START_TEST(order_is_kept)
{
    bound_pair();
    uint8_t next = 0;
    for (unsigned i = 0; i < 60; i++)
        kit_send(&k, 0, (uint8_t)i, 992); /* 20 or so at once, the rest waits */
    ck_assert_uint_gt(kit_stats(&k)->queued, 20);
    while (kit_stats(&k)->queued) {
        size_t before = k.peers[1].payloads;
        kit_run(&k, 200 * WV_NS_PER_US);
        if (k.peers[1].payloads == before)
            continue;
        ck_assert_uint_gt(k.peers[1].payload[0], next);
        next = k.peers[1].payload[0];
    }
    ck_assert_uint_eq(next, 59);
}
END_TEST

START_TEST(a_long_queue_is_marked)
{
    bound_pair();
    for (unsigned i = 0; i < 60; i++) {
        k.ecn = 1;
        kit_send(&k, 0, (uint8_t)i, 992);
    }
    ck_assert_uint_gt(kit_stats(&k)->marked, 10);
    kit_run(&k, 100 * MS);
    ck_assert_uint_eq(k.ecn, 3);
    uint64_t marked = kit_stats(&k)->marked;
    for (unsigned i = 0; i < 60; i++) {
        k.ecn = 0; /* who does not know ECN gets no mark */
        kit_send(&k, 0, (uint8_t)i, 992);
    }
    kit_run(&k, 100 * MS);
    ck_assert_uint_eq(kit_stats(&k)->marked, marked);
}
END_TEST

START_TEST(all_share_the_relays_own_rate)
{
    k.config.total_kbps = 8000;
    kit_restart(&k, false);
    struct rift_lease first = kit_terms(&k, 0, 1, 1), second = kit_terms(&k, 2, 3, 2);
    kit_lease(&k, 0, 1, &first);
    kit_lease(&k, 2, 3, &second);
    kit_run(&k, 10 * MS);
    for (unsigned i = 0; i < 900;
         i++) { /* one wants nine tenths of it, the other twice as much as there is */
        kit_send(&k, 0, 1, 992);
        kit_send(&k, 2, 1, 992);
        kit_send(&k, 2, 1, 992);
        kit_run(&k, S / 900);
    }
    size_t a = k.peers[1].payloads, b = k.peers[3].payloads;
    ck_assert_uint_ge(a + b, 950);
    ck_assert_uint_le(a + b, 1100);
    ck_assert_uint_ge(a, 430);
    ck_assert_uint_ge(b, 430);
}
END_TEST

START_TEST(queues_are_bounded_together)
{
    k.config.queue_slots = 20;
    kit_restart(&k, false);
    bound_pair();
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 100; i++)
            kit_send(&k, 0, (uint8_t)i, 992);
        ck_assert_uint_eq(kit_stats(&k)->queued, 20);
        kit_run(&k, S);
        ck_assert_uint_eq(kit_stats(&k)->queued, 0);
    }
    /* A lease that ends takes its queue along. */
    for (unsigned i = 0; i < 100; i++)
        kit_send(&k, 0, (uint8_t)i, 992);
    k.clock.now += 700 * S;
    rift_relay_sweep(k.relay, k.clock.now);
    ck_assert_uint_eq(kit_stats(&k)->queued, 0);
    kit_run(&k, 10 * MS);
    ck_assert_uint_eq(rift_relay_timeout(k.relay), UINT64_MAX);
}
END_TEST

/* A Binding request from ADDRESS to the relay, as STUN's peers write it. Returns what was answered. */
static size_t ask_stun(const struct rift_relay_address *address, uint8_t ret[RIFT_STUN_MAX_BYTES])
{
    static const uint8_t id[RIFT_STUN_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    uint8_t request[RIFT_STUN_REQUEST_BYTES];
    struct rift_relay_out out;
    struct rift_relay_clock clock = k.clock;
    const struct rift_relay_address *to;
    uint8_t ecn = 0;
    rift_stun_request(id, request);
    ck_assert_int_eq(rift_relay_receive(k.relay, address, request, sizeof request, &ecn, &clock, &to), 0);
    if (rift_relay_send(k.relay, k.clock.now, &out) != 0)
        return 0;
    ck_assert_mem_eq(&out.to, address, sizeof *address);
    ck_assert_uint_le(out.len, sizeof request + 32);
    memcpy(ret, out.data, out.len);
    return out.len;
}

START_TEST(stun_is_answered_where_it_is_wanted)
{
    struct rift_relay_address a = kit_address(200, 4000), six = {{0x2a, 1, [15] = 9, [16] = 1, [17] = 2}};
    uint8_t answer[RIFT_STUN_MAX_BYTES];
    struct rift_stun_message m;
    ck_assert_uint_eq(ask_stun(&a, answer), 0);
    ck_assert_uint_eq(kit_stats(&k)->dropped_malformed, 1);
    k.config.stun_per_s = 10;
    kit_restart(&k, false);
    size_t n = ask_stun(&a, answer);
    ck_assert_int_eq(rift_stun_read(answer, n, &m), 0);
    ck_assert(m.kind == RIFT_STUN_SUCCESS && m.has_address && m.has_fingerprint && m.id[11] == 12);
    ck_assert_mem_eq(m.address, a.bytes, RIFT_ADDRESS_BYTES);
    n = ask_stun(&six, answer);
    ck_assert_int_eq(rift_stun_read(answer, n, &m), 0);
    ck_assert_mem_eq(m.address, six.bytes, RIFT_ADDRESS_BYTES);
    ck_assert_uint_eq(kit_stats(&k)->stun_answers, 2);

    /* An answer is no question, so two servers never talk to each other. */
    k.longer = 32;
    kit_give(&k, &a, answer, n);
    ck_assert_uint_eq(kit_stats(&k)->stun_answers, 2);
    ck_assert_uint_eq(kit_stats(&k)->stun_dropped, 1);
    bound_pair(); /* and the relay is one all the while */
    ck_assert(kit_send(&k, 0, 7, 1200));
}
END_TEST

START_TEST(stun_is_bounded)
{
    struct rift_relay_address a = kit_address(200, 4000), b = kit_address(201, 4000);
    struct rift_relay_address shut[] = {a, a, a};
    uint8_t answer[RIFT_STUN_MAX_BYTES];
    unsigned answered = 0;
    k.config.stun_per_s = 10;
    kit_restart(&k, false);
    for (unsigned i = 0; i < 100; i++)
        answered += ask_stun(&a, answer) != 0;
    ck_assert_uint_ge(answered, 20); /* two seconds' worth */
    ck_assert_uint_le(answered, 21);
    ck_assert_uint_eq(kit_stats(&k)->stun_dropped, 100 - answered);
    ck_assert_uint_ne(ask_stun(&b, answer), 0); /* others are not in it */
    k.clock.now += S;
    ck_assert_uint_ne(ask_stun(&a, answer), 0);
    memcpy(shut[0].bytes + 12, (uint8_t[]){10, 0, 0, 1}, 4);  /* the operator's network */
    memcpy(shut[1].bytes + 12, (uint8_t[]){224, 0, 0, 1}, 4); /* many */
    shut[2].bytes[16] = shut[2].bytes[17] = 0;                /* port 0 */
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(ask_stun(&shut[i], answer), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("relay");
    TCase *t = tcase_create("relay");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, both_directions);
    tcase_add_test(t, only_one_side_there);
    tcase_add_test(t, leases_that_do_not_count);
    tcase_add_test(t, an_overheard_lease_is_worth_nothing);
    tcase_add_test(t, only_challenges_go_to_the_unproven);
    tcase_add_test(t, a_kept_proof_moves_nobody_back);
    tcase_add_test(t, nobody_else_sends_in_their_name);
    tcase_add_test(t, renewal);
    tcase_add_test(t, a_clock_that_is_set_changes_no_lease);
    tcase_add_test(t, a_wrong_clock_is_told);
    tcase_add_test(t, full_and_free_again);
    tcase_add_test(t, draining);
    tcase_add_test(t, too_many_proofs);
    tcase_add_test(t, a_relay_that_forgot);
    tcase_add_test(t, a_restart_that_kept_its_records);
    tcase_add_loop_test(t, ranges, 0, (int)WV_ARRAY_SIZE(addresses));
    tcase_add_test(t, never_to_itself);
    tcase_add_test(t, a_rate_is_kept_by_delay);
    tcase_add_test(t, order_is_kept);
    tcase_add_test(t, a_long_queue_is_marked);
    tcase_add_test(t, all_share_the_relays_own_rate);
    tcase_add_test(t, queues_are_bounded_together);
    tcase_add_test(t, stun_is_answered_where_it_is_wanted);
    tcase_add_test(t, stun_is_bounded);
    return wv_run_suite(s);
}
