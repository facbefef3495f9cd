/* Sections 10.5 and 10.6 of proto/WIRE.md, read out of the document itself: leases and datagrams must be
 * written and understood exactly so. Another implementation made them. Then what is no such datagram, and the
 * texts of leases and keys. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/relay/heartbeat.h"
#include "rift/relay/wire.h"
#include "tests/unit/suite.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static char *wire;

/* Reads the bytes of "NAME = hex", where the hex may go on in indented lines. */
static size_t example(const char *name, uint8_t *ret, size_t capacity)
{
    char line[64], digits[2 * 512 + 1];
    snprintf(line, sizeof line, "\n%s =", name);
    const char *p = strstr(wire, "### 10.5 Example");
    p = p ? strstr(p, line) : NULL;
    ck_assert_msg(p, "WIRE.md has no example \"%s\"", name);
    p += strlen(line);
    size_t n = 0;
    for (; *p && !(*p == '\n' && p[1] != ' '); p++)
        if (!isspace((unsigned char)*p) && n < sizeof digits - 1)
            digits[n++] = *p;
    digits[n] = 0;
    ck_assert_uint_le(n / 2, capacity);
    ck_assert_int_eq(wv_hex_decode(digits, ret, n / 2), 0);
    return n / 2;
}

static void keys(const char *name, uint8_t ret_public[32], uint8_t ret_secret[64])
{
    uint8_t seed[32];
    ck_assert_uint_eq(example(name, seed, sizeof seed), 32);
    crypto_sign_seed_keypair(ret_public, ret_secret, seed);
}

static void expect(const char *name, const uint8_t *got, size_t len)
{
    uint8_t expected[512];
    ck_assert_uint_eq(example(name, expected, sizeof expected), len);
    ck_assert_mem_eq(got, expected, len);
}

static struct rift_lease example_lease(uint8_t ret_issuer[32], uint8_t ret_issuer_secret[64])
{
    struct rift_lease lease = {.rate_kbps = 20000, .not_before_s = 1800000000, .expires_s = 1800000600};
    uint8_t secret[64];
    keys("issuer seed", ret_issuer, ret_issuer_secret);
    keys("peer 0 seed", lease.peers[0], secret);
    keys("peer 1 seed", lease.peers[1], secret);
    rift_relay_id("relay.example.org", lease.relay);
    for (uint8_t i = 0; i < sizeof lease.id; i++)
        lease.id[i] = i;
    return lease;
}

START_TEST(the_example_lease)
{
    uint8_t issuer[32], secret[64], bytes[RIFT_LEASE_BYTES];
    struct rift_lease lease = example_lease(issuer, secret), back;
    expect("relay id", lease.relay, sizeof lease.relay);
    ck_assert_int_eq(rift_lease_sign(&lease, secret, bytes), 0);
    expect("lease", bytes, sizeof bytes);
    ck_assert(rift_lease_is_signed(bytes, issuer));
    ck_assert_int_eq(rift_lease_parse(bytes, sizeof bytes, &back), 0);
    rift_lease_issuer_id(issuer, lease.issuer);
    ck_assert_mem_eq(back.issuer, lease.issuer, sizeof back.issuer);
    ck_assert_mem_eq(back.peers, lease.peers, sizeof back.peers);
    ck_assert_uint_eq(back.expires_s, 1800000600);

    /* Every byte is signed, or is the signature. */
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 0x10;
        ck_assert(!rift_lease_is_signed(bytes, issuer));
        bytes[i] ^= 0x10;
    }
    ck_assert_int_eq(rift_lease_parse(bytes, sizeof bytes - 1, &back), -EBADMSG);
    for (size_t i = 0; i < 4; i++) {
        bytes[i] ^= 1;
        ck_assert_int_eq(rift_lease_parse(bytes, sizeof bytes, &back), -EBADMSG);
        bytes[i] ^= 1;
    }
}
END_TEST

START_TEST(leases_that_are_none)
{
    uint8_t issuer[32], secret[64], bytes[RIFT_LEASE_BYTES];
    struct rift_lease good = example_lease(issuer, secret), bad;
    bad = good;
    bad.rate_kbps = 0;
    ck_assert_int_eq(rift_lease_sign(&bad, secret, bytes), -EINVAL);
    bad = good;
    bad.expires_s = bad.not_before_s;
    ck_assert_int_eq(rift_lease_sign(&bad, secret, bytes), -EINVAL);
    bad = good;
    bad.expires_s = UINT64_MAX;
    ck_assert_int_eq(rift_lease_sign(&bad, secret, bytes), -EINVAL);
    bad = good;
    memcpy(bad.peers[1], bad.peers[0], 32);
    ck_assert_int_eq(rift_lease_sign(&bad, secret, bytes), -EINVAL);
}
END_TEST

START_TEST(when_a_lease_is_valid)
{
    uint8_t issuer[32], secret[64], other[RIFT_RELAY_ID_BYTES];
    struct rift_lease l = example_lease(issuer, secret);
    rift_relay_id("another.example.org", other);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1800000000, 0, 600), RIFT_LEASE_VALID);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1800000599, 0, 600), RIFT_LEASE_VALID);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1800000600, 0, 600), RIFT_LEASE_EXPIRED);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1800000600, 60, 600), RIFT_LEASE_VALID);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1799999999, 0, 600), RIFT_LEASE_NOT_YET);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1799999941, 60, 600), RIFT_LEASE_VALID);
    ck_assert_int_eq(rift_lease_check(&l, l.relay, 1800000000, 0, 599), RIFT_LEASE_TOO_LONG);
    ck_assert_int_eq(rift_lease_check(&l, other, 1800000000, 0, 600), RIFT_LEASE_OTHER_RELAY);
}
END_TEST

START_TEST(the_example_datagrams)
{
    uint8_t d[512], lease[RIFT_LEASE_BYTES], public[32], secret[64];
    struct rift_relay_request request;
    struct rift_relay_challenged challenged;
    struct rift_relay_bind bind;
    struct rift_relay_bound bound;
    struct rift_relay_refused refused;
    struct rift_relay_ping ping;
    example("lease", lease, sizeof lease);
    keys("peer 1 seed", public, secret);

    size_t len = example("REQUEST", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_request(d, len, &request), 0);
    ck_assert_uint_eq(request.lease_id[15], 15);
    rift_relay_write_request(&request, d);
    expect("REQUEST", d, len);

    len = example("CHALLENGE", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_challenged(d, len, &challenged), 0);
    ck_assert_uint_eq(challenged.unix_s, 1800000001);
    rift_relay_write_challenged(&challenged, d);
    expect("CHALLENGE", d, len);

    len = example("BIND", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_bind(d, len, &bind), 0);
    ck_assert_uint_eq(bind.side, 1);
    ck_assert_mem_eq(bind.lease, lease, sizeof lease);
    ck_assert(rift_relay_bind_is_signed(d, public));
    d[2] ^= 1; /* as the other side */
    ck_assert(!rift_relay_bind_is_signed(d, public));
    rift_relay_write_bind(&bind, secret, d);
    expect("BIND", d, len);

    len = example("BOUND", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_bound(d, len, &bound), 0);
    ck_assert_uint_eq(bound.flags, RIFT_RELAY_FLAG_PEER);
    ck_assert_uint_eq(bound.left_s, 659);
    rift_relay_write_bound(&bound, d);
    expect("BOUND", d, len);

    len = example("REFUSED", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_refused(d, len, &refused), 0);
    ck_assert_uint_eq(refused.reason, RIFT_RELAY_EXPIRED);
    rift_relay_write_refused(&refused, d);
    expect("REFUSED", d, len);

    len = example("PING", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_ping(d, len, &ping), 0);
    rift_relay_write_ping(&ping, d);
    expect("PING", d, len);
    len = example("PONG", d, sizeof d);
    ck_assert_int_eq(rift_relay_read_ping(d, len, &ping), 0);
    ck_assert_uint_eq(ping.left_s, 654);
    rift_relay_write_ping(&ping, d);
    expect("PONG", d, len);

    rift_relay_write_header(7, 0x0d0c0b0a, d);
    uint8_t data[64];
    example("DATA", data, sizeof data);
    ck_assert_mem_eq(d, data, RIFT_RELAY_HEADER_BYTES);
}
END_TEST

/* Another length, version, kind or reserved byte makes each of them nothing. */
START_TEST(datagrams_that_are_none)
{
    static const char *const names[] = {"REQUEST", "CHALLENGE", "BIND", "BOUND", "REFUSED", "PING"};
    union {
        struct rift_relay_request request;
        struct rift_relay_challenged challenged;
        struct rift_relay_bind bind;
        struct rift_relay_bound bound;
        struct rift_relay_refused refused;
        struct rift_relay_ping ping;
    } u;
    for (size_t i = 0; i < WV_ARRAY_SIZE(names); i++) {
        uint8_t d[513];
        size_t len = example(names[i], d, sizeof d - 1);
        for (int change = 0; change < 4; change++) {
            uint8_t bent[513];
            memcpy(bent, d, sizeof bent);
            size_t n = change == 0 ? len - 1 : change == 1 ? len + 1 : len;
            if (change == 2)
                bent[0] ^= 0x40;
            if (change == 3)
                bent[i == 5 ? 13 : i == 3 ? 12 : i == 0 || i == 1 ? 2 : 3] ^= 0x80;
            ck_assert_int_eq(rift_relay_read_request(bent, n, &u.request), -EBADMSG);
            ck_assert_int_eq(rift_relay_read_challenged(bent, n, &u.challenged), -EBADMSG);
            ck_assert_int_eq(rift_relay_read_bind(bent, n, &u.bind), -EBADMSG);
            ck_assert_int_eq(rift_relay_read_bound(bent, n, &u.bound), -EBADMSG);
            ck_assert_int_eq(rift_relay_read_refused(bent, n, &u.refused), -EBADMSG);
            ck_assert_int_eq(rift_relay_read_ping(bent, n, &u.ping), -EBADMSG);
        }
    }
    uint8_t d[512];
    size_t len = example("REQUEST", d, sizeof d);
    d[len - 1] = 1; /* padding */
    ck_assert_int_eq(rift_relay_read_request(d, len, &u.request), -EBADMSG);
    len = example("BIND", d, sizeof d);
    d[2] = 2; /* side */
    ck_assert_int_eq(rift_relay_read_bind(d, len, &u.bind), -EBADMSG);
}
END_TEST

START_TEST(the_example_heartbeat)
{
    struct rift_heartbeat beat = {
        .relay = "relay.example.org", .unix_s = 1800000000, .load = 250, .leases = 12};
    uint8_t seed[32], public[32], secret[64], expected[64], signature[64];
    for (unsigned i = 0; i < sizeof seed; i++)
        seed[i] = (uint8_t)i;
    crypto_sign_seed_keypair(public, secret, seed);
    ck_assert_uint_eq(example("heartbeat", expected, sizeof expected), sizeof expected);
    ck_assert_int_eq(rift_heartbeat_sign(&beat, secret, signature), 0);
    ck_assert_mem_eq(signature, expected, sizeof expected);
    ck_assert(rift_heartbeat_is_signed(&beat, expected, public));

    struct rift_heartbeat other[5] = {beat, beat, beat, beat, beat};
    other[0].relay = "relay.example.orh";
    other[1].unix_s++;
    other[2].load++;
    other[3].leases++;
    other[4].draining = true;
    for (size_t i = 0; i < WV_ARRAY_SIZE(other); i++)
        ck_assert(!rift_heartbeat_is_signed(&other[i], expected, public));
    beat.relay = "";
    ck_assert_int_eq(rift_heartbeat_sign(&beat, secret, signature), -EINVAL);
    beat.relay = "12345678901234567890123456789012345678901234567890123456789012345";
    ck_assert_int_eq(rift_heartbeat_sign(&beat, secret, signature), -EINVAL);
    ck_assert(!rift_heartbeat_is_signed(&beat, expected, public));
}
END_TEST

START_TEST(texts)
{
    uint8_t lease[RIFT_LEASE_BYTES], back[RIFT_LEASE_BYTES], key[32], secret[64], key_back[32];
    char text[RIFT_LEASE_TEXT_BYTES], key_text[RIFT_SIGN_KEY_TEXT_BYTES];
    example("lease", lease, sizeof lease);
    rift_lease_format(lease, text);
    ck_assert_uint_eq(strlen(text) + 1, sizeof text);
    ck_assert_int_eq(rift_lease_parse_text(text, back), 0);
    ck_assert_mem_eq(lease, back, sizeof lease);
    char longer[RIFT_LEASE_TEXT_BYTES + 1];
    static const char ends[] = "A!. ";
    for (const char *end = ends; *end; end++) {
        snprintf(longer, sizeof longer, "%s%c", text, *end);
        ck_assert_int_eq(rift_lease_parse_text(longer, back), -EINVAL);
    }
    for (size_t i = 0; i < strlen("wavry-lease1."); i++) { /* another version, another thing */
        text[i] ^= 1;
        ck_assert_int_eq(rift_lease_parse_text(text, back), -EINVAL);
        text[i] ^= 1;
    }
    text[20] = '\xdf'; /* libsodium alone takes it */
    ck_assert_int_eq(rift_lease_parse_text(text, back), -EINVAL);
    text[20] = 0;
    ck_assert_int_eq(rift_lease_parse_text(text, back), -EINVAL);
    keys("issuer seed", key, secret);
    rift_sign_key_format(key, key_text);
    ck_assert_uint_eq(strlen(key_text) + 1, sizeof key_text);
    ck_assert_int_eq(rift_sign_key_parse(key_text, key_back), 0);
    ck_assert_mem_eq(key, key_back, 32);
    ck_assert_int_eq(rift_sign_key_parse("ed25519.", key_back), -EINVAL);
    ck_assert_int_eq(rift_sign_key_parse("", key_back), -EINVAL);
    for (unsigned i = 0; i < 256; i++) {
        ck_assert_uint_gt(strlen(rift_relay_reason_word(i)), 0);
        ck_assert_uint_gt(strlen(rift_relay_reason_text(i)), 0);
    }
}
END_TEST

int main(void)
{
    size_t len;
    uint8_t *data;
    if (rift_crypto_init() < 0 || wv_read_file(TEST_WIRE_MD, 1 << 20, &data, &len) < 0)
        return 1;
    wire = (char *)data;
    Suite *s = suite_create("relay_wire");
    TCase *t = tcase_create("relay_wire");
    suite_add_tcase(s, t);
    tcase_add_test(t, the_example_lease);
    tcase_add_test(t, leases_that_are_none);
    tcase_add_test(t, when_a_lease_is_valid);
    tcase_add_test(t, the_example_datagrams);
    tcase_add_test(t, datagrams_that_are_none);
    tcase_add_test(t, the_example_heartbeat);
    tcase_add_test(t, texts);
    int code = wv_run_suite(s);
    free(data);
    return code;
}
