/* STUN: the sample messages of RFC 5769, and everything that can be wrong with a message. */
#include "rift/punch/stun.h"
#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* RFC 5769, sections 2.1 to 2.4 (IETF Trust, Simplified BSD licence). */
static const char request[] =
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008"
    "932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004"
    "e57a3bcf";
static const char response_v4[] =
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a64300080014"
    "2b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
static const char response_v6[] =
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179"
    "bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
static const char long_term[] =
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f34"
    "39396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72670000080014f67024656dd64a3e"
    "02b8e0712e85c9a28ca89666";

static uint8_t bytes[RIFT_STUN_MAX_BYTES + 8];
static struct rift_stun_message m;

static size_t unhex(const char *text)
{
    size_t n = strlen(text) / 2;
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], 0};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}

static void expect_address(const char *text, unsigned port)
{
    uint8_t want[16] = {[10] = 0xff, [11] = 0xff};
    ck_assert(inet_pton(AF_INET6, text, want) == 1 || inet_pton(AF_INET, text, want + 12) == 1);
    ck_assert(m.has_address);
    ck_assert_mem_eq(m.address, want, sizeof want);
    ck_assert_uint_eq((unsigned)m.address[16] << 8 | m.address[17], port);
}

START_TEST(published_samples)
{
    ck_assert_int_eq(rift_stun_read(bytes, unhex(request), &m), 0);
    ck_assert_int_eq(m.kind, RIFT_STUN_REQUEST);
    ck_assert_uint_eq(m.method, 1);
    ck_assert(m.has_fingerprint && !m.has_address);
    ck_assert_uint_eq(m.unknown, 3); /* PRIORITY, USERNAME, MESSAGE-INTEGRITY */
    ck_assert_mem_eq(m.id, bytes + 8, sizeof m.id);

    ck_assert_int_eq(rift_stun_read(bytes, unhex(response_v4), &m), 0);
    ck_assert_int_eq(m.kind, RIFT_STUN_SUCCESS);
    ck_assert(m.has_fingerprint);
    expect_address("192.0.2.1", 32853);

    ck_assert_int_eq(rift_stun_read(bytes, unhex(response_v6), &m), 0);
    expect_address("2001:db8:1234:5678:11:2233:4455:6677", 32853);

    ck_assert_int_eq(rift_stun_read(bytes, unhex(long_term), &m), 0);
    ck_assert(!m.has_fingerprint);
}
END_TEST

START_TEST(request_and_answer)
{
    uint8_t id[RIFT_STUN_ID_BYTES], sent[RIFT_STUN_REQUEST_BYTES], answer[RIFT_STUN_RESPONSE_BYTES];
    uint8_t v4[RIFT_ADDRESS_BYTES] = {[10] = 0xff, [11] = 0xff, 203, 0, 113, 9, 0x12, 0xd4};
    uint8_t v6[RIFT_ADDRESS_BYTES] = {0x20, 1, 0xd, 0xb8, [15] = 1, [16] = 0xff, [17] = 0xfe};
    memset(id, 0x5a, sizeof id);
    rift_stun_request(id, sent);
    ck_assert_int_eq(rift_stun_read(sent, sizeof sent, &m), 0);
    ck_assert_int_eq(m.kind, RIFT_STUN_REQUEST);
    ck_assert(m.has_fingerprint && m.unknown == 0);
    ck_assert_mem_eq(m.id, id, sizeof id);

    size_t n = rift_stun_respond(id, v4, answer);
    ck_assert_uint_eq(n, 40);
    ck_assert_int_eq(rift_stun_read(answer, n, &m), 0);
    ck_assert_int_eq(m.kind, RIFT_STUN_SUCCESS);
    ck_assert_mem_eq(m.address, v4, sizeof v4);
    n = rift_stun_respond(id, v6, answer);
    ck_assert_uint_eq(n, 52);
    ck_assert_int_eq(rift_stun_read(answer, n, &m), 0);
    ck_assert_mem_eq(m.address, v6, sizeof v6);
}
END_TEST

/* One that was made by hand: LEN bytes of attributes follow the header. */
static size_t make(const char *attributes)
{
    size_t n = unhex(attributes);
    memmove(bytes + 20, bytes, n);
    memcpy(bytes, "\x01\x01\x00\x00\x21\x12\xa4\x42id-of-twelve", 20);
    bytes[2] = (uint8_t)(n >> 8);
    bytes[3] = (uint8_t)n;
    return 20 + n;
}

START_TEST(what_is_malformed)
{
    static const char *const bad[] = {
        "00200008000101", /* not a multiple of 4 */
        "0020000900010203040506",
        "002000080001a147",                 /* longer than the message */
        "0020000c0001a147e112a64300000000", /* IPv4 with the length of IPv6 */
        "002000080003a147e112a643",         /* no such family */
        "0020000200010000",                 /* too short for a family */
        "00090004000007ff",                 /* error class 7 */
        "0009000400000464",
        "8028000400000000", /* a wrong fingerprint */
        "802800080000000000000000",
        "80280004000000000020000400010000", /* a fingerprint that is not the last */
        "8022ffff",                         /* a length that would wrap when padded */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = make(bad[i]);
        ck_assert_msg(rift_stun_read(bytes, n, &m) == -EBADMSG, "attribute %zu: %s", i, bad[i]);
    }
    ck_assert_int_eq(rift_stun_read(bytes, make("0009000400000401"), &m), 0);
    ck_assert_uint_eq(m.error, 401);
    /* The first of two counts; the masked one wins over the plain one, whichever comes first. */
    ck_assert_int_eq(rift_stun_read(bytes, make("000100080001000102030405002000080001a147e112a643"), &m), 0);
    expect_address("192.0.2.1", 32853);
    ck_assert_int_eq(rift_stun_read(bytes, make("002000080001a147e112a643000100080001000102030405"), &m), 0);
    expect_address("192.0.2.1", 32853);
    ck_assert_int_eq(rift_stun_read(bytes, make("002000080001a147e112a643002000080001a1470112a643"), &m), 0);
    expect_address("192.0.2.1", 32853);
}
END_TEST

/* Every cut and every flipped bit: the sample with a fingerprint is never taken for another message. */
START_TEST(cut_and_flipped)
{
    size_t n = unhex(response_v4);
    for (size_t len = 0; len < n; len++)
        ck_assert_int_eq(rift_stun_read(bytes, len, &m), -EBADMSG);
    for (size_t bit = 0; bit < n * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* A flip in a type or length can hide the fingerprint, which the reader can't hold against the
         * message. */
        int r = rift_stun_read(bytes, n, &m);
        ck_assert_msg(r == -EBADMSG || !m.has_fingerprint, "bit %zu", bit);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

/* What else comes to the socket is not STUN: an INIT has its first two bytes, of the version. */
START_TEST(no_datagram_of_rift)
{
    static uint8_t init[RIFT_MTU_BYTES] = {1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
    ck_assert(!rift_stun_is(init, sizeof init));
    for (unsigned kind = 2; kind < 256; kind++) {
        memset(bytes, 0, sizeof bytes);
        bytes[0] = (uint8_t)kind;
        ck_assert(!rift_stun_is(bytes, 40));
    }
    ck_assert(rift_stun_is(bytes, unhex(response_v4)));
    ck_assert(!rift_stun_is(bytes, 0));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stun");
    TCase *t = tcase_create("stun");
    tcase_add_test(t, published_samples);
    tcase_add_test(t, request_and_answer);
    tcase_add_test(t, what_is_malformed);
    tcase_add_test(t, cut_and_flipped);
    tcase_add_test(t, no_datagram_of_rift);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
