/* PCP's messages: as RFC 6887 draws them, byte by byte, as a real router (miniupnpd 2.3.1) sent them, and
 * everything that can be wrong with one. */
#include "services/reach/addresses.h"
#include "services/reach/pcp.h"
#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* Captured from miniupnpd: ANNOUNCE, MAP for IPv4, MAP for IPv6, and what version 3 gets. */
static const char announced[] = "028000000000000000000002000000000000000000000000";
static const char mapped_v4[] =
    "02810000000004b0000000020000000000000000000000006e6e6e6e6e6e6e6e6e6e6e6e11000000"
    "12d412d400000000000000000000ffff09090909";
static const char mapped_v6[] =
    "02810000000004b0000000020000000000000000000000006e6e6e6e6e6e6e6e6e6e6e6e11000000"
    "12d412d420010db8007700000000000000000002";
static const char version_3[] =
    "0281000100000000000000020000000000000000000000006d6d6d6d6d6d6d6d6d6d6d6d11000000"
    "0000000000000000000000000000ffff00000000";

static uint8_t bytes[WV_PCP_MAX_BYTES + 8];
static struct wv_pcp_response m;

static size_t unhex(const char *text)
{
    size_t n = strlen(text) / 2;
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], 0};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}

static void address(const char *text, uint8_t ret[16])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(ret, v4, sizeof v4);
    ck_assert(inet_pton(AF_INET6, text, ret) == 1 || inet_pton(AF_INET, text, ret + 12) == 1);
}

/* Figure 2 (the head) and figure 9 (MAP) of RFC 6887. */
START_TEST(requests_are_as_the_rfc_draws_them)
{
    static const uint8_t want[WV_PCP_MAP_BYTES] = {
        2,    1,    0,    0,    0,   0,   0x04, 0xb0, /* version, opcode, lifetime 1200 */
        0,    0,    0,    0,    0,   0,   0,    0,
        0,    0,    0xff, 0xff, 10,  2,   0,    2, /* the client's address */
        'n',  'o',  'n',  'c',  'e', ' ', 'o',  'f',
        ' ',  '1',  '2',  '!',  17,  0,   0,    0, /* UDP, reserved */
        0x12, 0xd4, 0x12, 0xd5,                    /* ports 4820 and 4821 */
        0,    0,    0,    0,    0,   0,   0,    0,
        0,    0,    0xff, 0xff, 192, 0,   2,    7, /* suggested */
    };
    uint8_t own[16], sent[WV_PCP_MAP_BYTES];
    struct wv_pcp_map map = {.protocol = WV_PCP_UDP, .internal_port = 4820, .external_port = 4821};
    memcpy(map.nonce, "nonce of 12!", sizeof map.nonce);
    address("10.2.0.2", own);
    address("192.0.2.7", map.external);
    ck_assert_uint_eq(wv_pcp_write_map(own, 1200, &map, sent), WV_PCP_MAP_BYTES);
    ck_assert_mem_eq(sent, want, sizeof want);

    uint8_t head[WV_PCP_ANNOUNCE_BYTES] = {2, 0};
    memcpy(head + 8, own, sizeof own);
    ck_assert_uint_eq(wv_pcp_write_announce(own, sent), WV_PCP_ANNOUNCE_BYTES);
    ck_assert_mem_eq(sent, head, sizeof head);
    ck_assert_int_eq(wv_pcp_read(sent, sizeof head, &m), -EBADMSG); /* a request is no response */
}
END_TEST

START_TEST(what_a_real_router_says)
{
    uint8_t want[16];
    ck_assert_int_eq(wv_pcp_read(bytes, unhex(announced), &m), 0);
    ck_assert(m.opcode == WV_PCP_ANNOUNCE && m.result == WV_PCP_SUCCESS && m.epoch_s == 2 && !m.has_map);

    ck_assert_int_eq(wv_pcp_read(bytes, unhex(mapped_v4), &m), 0);
    ck_assert(m.version == 2 && m.opcode == WV_PCP_MAP && m.result == WV_PCP_SUCCESS && m.has_map);
    ck_assert(m.lifetime_s == 1200 && m.map.protocol == WV_PCP_UDP);
    ck_assert(m.map.internal_port == 4820 && m.map.external_port == 4820);
    ck_assert_mem_eq(m.map.nonce, "nnnnnnnnnnnn", WV_PCP_NONCE_BYTES);
    address("9.9.9.9", want);
    ck_assert_mem_eq(m.map.external, want, sizeof want);

    ck_assert_int_eq(wv_pcp_read(bytes, unhex(mapped_v6), &m), 0);
    address("2001:db8:77::2", want);
    ck_assert_mem_eq(m.map.external, want, sizeof want);

    ck_assert_int_eq(wv_pcp_read(bytes, unhex(version_3), &m), 0);
    ck_assert(m.result == WV_PCP_UNSUPP_VERSION && !m.has_map);
}
END_TEST

/* RFC 6886, section 3.5: what NAT-PMP alone says to a version that it does not know. */
START_TEST(a_router_of_before_pcp)
{
    ck_assert_int_eq(wv_pcp_read(bytes, unhex("0081000100000e10"), &m), 0);
    ck_assert(m.version == 0 && m.result == WV_PCP_UNSUPP_VERSION && m.epoch_s == 3600 && !m.has_map);
    ck_assert_int_eq(wv_pcp_read(bytes, unhex("00810001"), &m), -EBADMSG);
    ck_assert_int_eq(wv_pcp_read(bytes, unhex("0001000100000e10"), &m), -EBADMSG);
    ck_assert_int_eq(wv_pcp_read(bytes, unhex("0081010100000e10"), &m), 0);
    ck_assert_uint_eq(m.result, UINT8_MAX); /* a number of two bytes that is none of ours */
}
END_TEST

START_TEST(lengths_are_believed_to_nobody)
{
    size_t n = unhex(mapped_v4);
    for (size_t len = 0; len < n; len++) {
        uint8_t *cut = malloc(len ? len : 1); /* so that a sanitizer sees a byte too far */
        memcpy(cut, bytes, len);
        ck_assert_int_eq(wv_pcp_read(cut, len, &m), -EBADMSG);
        free(cut);
    }
    memset(bytes + n, 0, sizeof bytes - n);
    ck_assert_int_eq(wv_pcp_read(bytes, n + 2, &m), -EBADMSG);                /* no multiple of four */
    ck_assert_int_eq(wv_pcp_read(bytes, n + 4, &m), 0);                       /* an option without data */
    ck_assert_int_eq(wv_pcp_read(bytes, WV_PCP_MAX_BYTES, &m), 0);            /* and many */
    ck_assert_int_eq(wv_pcp_read(bytes, WV_PCP_MAX_BYTES + 4, &m), -EBADMSG); /* section 7 */
    bytes[n + 3] = 5;
    ck_assert_int_eq(wv_pcp_read(bytes, n + 8, &m), -EBADMSG); /* 5 bytes take 8 */
    ck_assert_int_eq(wv_pcp_read(bytes, n + 12, &m), 0);
    memset(bytes + n + 2, 0xff, 2);
    ck_assert_int_eq(wv_pcp_read(bytes, WV_PCP_MAX_BYTES, &m), -EBADMSG);
}
END_TEST

START_TEST(versions_and_results)
{
    size_t n = unhex(mapped_v4);
    bytes[0] = 3; /* a later version may say that it does not speak ours, and nothing else */
    ck_assert_int_eq(wv_pcp_read(bytes, n, &m), -EBADMSG);
    bytes[3] = WV_PCP_UNSUPP_VERSION;
    ck_assert_int_eq(wv_pcp_read(bytes, n, &m), 0);
    ck_assert(m.version == 3 && !m.has_map);
    for (unsigned result = 2; result < 256; result++) {
        n = unhex(mapped_v4);
        bytes[3] = (uint8_t)result;
        ck_assert_int_eq(wv_pcp_read(bytes, n, &m), 0);
        ck_assert(m.result == result && m.has_map);
        ck_assert_int_eq(strcmp(wv_pcp_result_name(m.result), "unknown result") == 0, result > 13);
        ck_assert_int_eq(wv_pcp_read(bytes, 24, &m), 0); /* cut to its head, which says of whom it is */
        ck_assert(!m.has_map);
    }
    ck_assert_str_eq(wv_pcp_result_name(WV_PCP_ADDRESS_MISMATCH), "ADDRESS_MISMATCH");
}
END_TEST

START_TEST(scopes_of_addresses)
{
    static const struct {
        const char *text;
        enum wv_reach_scope scope;
    } list[] = {
        {"0.0.0.0", WV_REACH_SCOPE_NONE},
        {"0.1.2.3", WV_REACH_SCOPE_NONE},
        {"127.0.0.1", WV_REACH_SCOPE_NONE},
        {"169.254.1.1", WV_REACH_SCOPE_NONE},
        {"224.0.0.1", WV_REACH_SCOPE_NONE},
        {"255.255.255.255", WV_REACH_SCOPE_NONE},
        {"10.1.2.3", WV_REACH_SCOPE_PRIVATE},
        {"172.16.0.1", WV_REACH_SCOPE_PRIVATE},
        {"172.31.255.255", WV_REACH_SCOPE_PRIVATE},
        {"172.32.0.1", WV_REACH_SCOPE_GLOBAL},
        {"192.168.1.1", WV_REACH_SCOPE_PRIVATE},
        {"192.169.1.1", WV_REACH_SCOPE_GLOBAL},
        {"100.64.0.1", WV_REACH_SCOPE_PRIVATE},
        {"100.127.1.1", WV_REACH_SCOPE_PRIVATE},
        {"100.128.0.1", WV_REACH_SCOPE_GLOBAL},
        {"192.0.0.2", WV_REACH_SCOPE_PRIVATE},
        {"9.9.9.9", WV_REACH_SCOPE_GLOBAL},
        {"223.255.255.1", WV_REACH_SCOPE_GLOBAL},
        {"::", WV_REACH_SCOPE_NONE},
        {"::1", WV_REACH_SCOPE_NONE},
        {"fe80::1", WV_REACH_SCOPE_NONE},
        {"febf::1", WV_REACH_SCOPE_NONE},
        {"ff02::1", WV_REACH_SCOPE_NONE},
        {"fd00::1", WV_REACH_SCOPE_PRIVATE},
        {"fc00::1", WV_REACH_SCOPE_PRIVATE},
        {"2001:db8::1", WV_REACH_SCOPE_GLOBAL},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        uint8_t a[16];
        address(list[i].text, a);
        ck_assert_msg(wv_reach_scope(a) == list[i].scope, "%s", list[i].text);
        ck_assert_int_eq(wv_reach_is_v4(a), strchr(list[i].text, '.') != NULL);
    }
}
END_TEST

START_TEST(a_router_behind_another_one)
{
    uint8_t public[16], private[16], shared[16], loopback[16];
    uint8_t seen[2][WV_REACH_ADDRESS_BYTES] = {0};
    address("203.0.113.9", public);
    address("10.1.2.3", private);
    address("100.64.1.1", shared);
    address("127.0.0.1", loopback);
    ck_assert(wv_reach_is_offered(public, seen, 0));
    ck_assert(!wv_reach_is_offered(private, seen, 0));
    ck_assert(!wv_reach_is_offered(shared, seen, 0));
    memcpy(seen[0], public, 16);
    memcpy(seen[1], private, 16);
    ck_assert(wv_reach_is_offered(private, seen, 2)); /* the gateway is within the same company */
    ck_assert(!wv_reach_is_offered(private, seen, 1));
    ck_assert(!wv_reach_is_offered(shared, seen, 2));
    memcpy(seen[0], loopback, 16);
    ck_assert(!wv_reach_is_offered(loopback, seen, 2)); /* whatever a server says */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pcp");
    TCase *t = tcase_create("messages");
    tcase_add_test(t, requests_are_as_the_rfc_draws_them);
    tcase_add_test(t, what_a_real_router_says);
    tcase_add_test(t, a_router_of_before_pcp);
    tcase_add_test(t, lengths_are_believed_to_nobody);
    tcase_add_test(t, versions_and_results);
    tcase_add_test(t, scopes_of_addresses);
    tcase_add_test(t, a_router_behind_another_one);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
