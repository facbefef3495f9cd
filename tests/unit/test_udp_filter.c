/* The filter of the host's UDP socket: every first byte with every length that matters, over loopback. */
#include "services/transport/udp_filter.h"

#include "lib/base/util.h"
#include "rift/core/handshake.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONGEST 9000

static int host, stranger;
static uint8_t datagram[LONGEST + 1];

static void setup(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0); /* the queues of two cores have no order */
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof name;
    host = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    stranger = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(host, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(getsockname(host, (struct sockaddr *)&name, &len), 0);
    ck_assert_int_eq(connect(stranger, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(wv_udp_filter_attach(host), 0);
    memset(datagram, 0, sizeof datagram);
}

static void teardown(void)
{
    close(host);
    close(stranger);
}

static ssize_t next(uint8_t came[LONGEST + 1])
{
    struct pollfd p = {.fd = host, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 20000), 1);
    return recv(host, came, LONGEST + 1, 0);
}

/* Whether it comes before another one that passes in any case, and that was sent behind it from the same
 * core. */
static bool passes(size_t len)
{
    static const uint8_t after[777] = {RIFT_DATAGRAM_DATA, 0xaf, 0x7e, 0x12};
    static uint8_t came[LONGEST + 1];
    ck_assert_int_eq(send(stranger, datagram, len, 0), (ssize_t)len);
    ck_assert_int_eq(send(stranger, after, sizeof after, 0), sizeof after);
    ssize_t n = next(came);
    if (n == sizeof after && memcmp(came, after, sizeof after) == 0)
        return false;
    ck_assert((size_t)n == len && memcmp(came, datagram, len) == 0);
    ck_assert_int_eq(next(came), sizeof after);
    return true;
}

static const size_t lengths[] = {1,    7,    8,    19,   20,   23,   24,   25,     31,
                                 32,   33,   75,   76,   107,  108,  1035, 1036,   1037,
                                 1199, 1200, 1201, 1451, 1452, 1453, 1461, LONGEST};

START_TEST(what_rift_knows_passes_and_nothing_else)
{
    for (unsigned first = 0; first < 256; first++) {
        bool of_relay = (first >= 32 && first <= 38) || first == 48;
        datagram[0] = (uint8_t)first;
        for (size_t i = 0; !of_relay && i < WV_ARRAY_SIZE(lengths); i++)
            ck_assert_msg(passes(lengths[i]) ==
                              (rift_datagram_kind(datagram, lengths[i]) != RIFT_DATAGRAM_INVALID),
                          "first byte %u, %zu bytes", first, lengths[i]);
    }
    ck_assert(!passes(0));
}
END_TEST

/* WIRE.md, section 1.1. */
START_TEST(each_kind_passes_at_its_lengths)
{
    static const struct {
        uint8_t kind;
        size_t least, most;
    } kinds[] = {{1, 1200, 1200}, {2, 108, 1036}, {3, 76, 1036}, {4, 24, 24},
                 {16, 32, 1452},  {80, 64, 64},   {81, 64, 64}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(kinds); i++) {
        datagram[0] = kinds[i].kind;
        ck_assert(!passes(kinds[i].least - 1) && passes(kinds[i].least));
        ck_assert(passes(kinds[i].most) && !passes(kinds[i].most + 1));
    }
}
END_TEST

START_TEST(a_relays_datagrams_pass)
{
    for (uint8_t kind = 32; kind <= 38; kind++) {
        datagram[0] = kind;
        ck_assert(passes(16) && passes(48) && passes(340) && !passes(7) && !passes(1453));
    }
    datagram[0] = 48; /* 8 bytes, and a datagram of a session or a handshake */
    ck_assert(passes(8 + 24) && passes(8 + 1200) && passes(8 + 1452) && !passes(8 + 1453) && !passes(8));
}
END_TEST

START_TEST(stun_passes)
{
    static const uint8_t cookie[] = {0x21, 0x12, 0xa4, 0x42};
    static const uint8_t types[][2] = {{0x00, 0x01}, {0x01, 0x01}, {0x01, 0x11}, {0x00, 0x11}, {0x3e, 0xef}};
    memcpy(datagram + 4, cookie, sizeof cookie);
    for (size_t i = 0; i < WV_ARRAY_SIZE(types); i++) {
        memcpy(datagram, types[i], 2);
        ck_assert(passes(20) && passes(72) && passes(548) && !passes(19));
    }
    datagram[0] = 0x40; /* what TURN has there is none of ours */
    ck_assert(!passes(72));
    datagram[0] = 0;
    datagram[7] ^= 1;
    ck_assert(!passes(72));
}
END_TEST

START_TEST(a_filter_takes_the_place_of_the_one_before)
{
    ck_assert_int_eq(wv_udp_filter_attach(host), 0);
    datagram[0] = RIFT_DATAGRAM_DATA;
    ck_assert(passes(32) && !passes(31));
    ck_assert_int_lt(wv_udp_filter_attach(-1), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("udp_filter");
    TCase *c = tcase_create("filter");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, what_rift_knows_passes_and_nothing_else);
    tcase_add_test(c, each_kind_passes_at_its_lengths);
    tcase_add_test(c, a_relays_datagrams_pass);
    tcase_add_test(c, stun_passes);
    tcase_add_test(c, a_filter_takes_the_place_of_the_one_before);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
