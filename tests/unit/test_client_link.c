/* The client's socket: what the kernel joined on the way in comes apart as it was sent, with its marking and
 * the time when it came. */
#include "client/link.h"
#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MOST 64

static int host, client_fd;
static struct wv_link *client;
static struct sockaddr_in client_name;

static void set_up(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    size_t capacity;
    uint8_t hello[8];
    host = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(host, (struct sockaddr *)&in, sizeof in), 0);
    ck_assert_int_eq(getsockname(host, (struct sockaddr *)&in, &len), 0);
    ck_assert_int_eq(wv_link_new(&client, "127.0.0.1", ntohs(in.sin_port)), 0);
    ck_assert_int_eq(wv_link_resolve(client), 0);
    client_fd = wv_link_open_next(client);
    ck_assert_int_ge(client_fd, 0);
    memset(wv_link_reserve(client, &capacity), 1, sizeof hello);
    wv_link_commit(client, sizeof hello, 0);
    ck_assert_int_eq(wv_link_flush(client), 0);
    ck_assert_int_eq(recvfrom(host, hello, sizeof hello, 0, (struct sockaddr *)&client_name, &len),
                     sizeof hello);
}

static void tear_down(void)
{
    wv_link_free(client);
    wv_close(host);
}

/* N datagrams of SIZE, the last of LAST bytes, filled with consecutive numbers from FIRST on, marked ECN: as
 * one message, or ALONE. */
static void send_train(uint8_t first, size_t n, size_t size, size_t last, int ecn, bool alone)
{
    static uint8_t data[MOST * 1500];
    size_t len = 0;
    ck_assert_int_eq(setsockopt(host, IPPROTO_IP, IP_TOS, &ecn, sizeof ecn), 0);
    for (size_t i = 0; i < n; i++) {
        size_t part = i + 1 == n ? last : size;
        memset(data + len, (uint8_t)(first + i), part);
        if (alone)
            ck_assert_int_eq(
                sendto(host, data + len, part, 0, (struct sockaddr *)&client_name, sizeof client_name),
                (ssize_t)part);
        len += part;
    }
    if (alone)
        return;
    int segment = (int)size, none = 0;
    ck_assert_int_eq(setsockopt(host, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
    ck_assert_int_eq(sendto(host, data, len, 0, (struct sockaddr *)&client_name, sizeof client_name),
                     (ssize_t)len);
    ck_assert_int_eq(setsockopt(host, SOL_UDP, UDP_SEGMENT, &none, sizeof none), 0);
}

static const struct {
    size_t n, size, last;
    int ecn;
} trains[] = {{5, 1200, 700, 1}, {1, 40, 40, 0},  {2, 1452, 1452, 1},  {44, 1200, 1200, 1},
              {3, 33, 1, 3},     {2, 1200, 1, 0}, {43, 1452, 1451, 1}, {7, 64, 64, 2}};

static int receive(void)
{
    struct pollfd p = {.fd = client_fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 20000), 1);
    return wv_link_receive(client);
}

/* Takes all and compares it. */
static void expect_trains(uint64_t began)
{
    size_t train = 0, k = 0, left = 0;
    uint8_t number = 0;
    for (size_t i = 0; i < WV_ARRAY_SIZE(trains); i++)
        left += trains[i].n;
    for (int n; left > 0; left -= (size_t)n) {
        n = receive();
        uint64_t newest = began;
        for (int i = 0; i < n; i++, number++, k++) {
            size_t len;
            enum rift_ecn ecn;
            const uint8_t *d = wv_link_datagram(client, i, &len, &ecn);
            if (k == trains[train].n) {
                train++;
                k = 0;
            }
            ck_assert_uint_lt(train, WV_ARRAY_SIZE(trains));
            ck_assert_uint_eq(len, k + 1 == trains[train].n ? trains[train].last : trains[train].size);
            ck_assert_int_eq((int)ecn, trains[train].ecn);
            ck_assert_uint_eq(d[0], number);
            ck_assert_uint_eq(d[len - 1], number);
            /* Arrivals are the kernel's times brought to our clock, good to a fraction of a millisecond. */
            ck_assert_uint_ge(wv_link_arrival(client, i) + WV_NS_PER_MS, newest);
            ck_assert_uint_le(wv_link_arrival(client, i), wv_now_ns());
            newest = WV_MAX(newest, wv_link_arrival(client, i));
        }
    }
    ck_assert_uint_eq(train, WV_ARRAY_SIZE(trains) - 1);
    ck_assert_uint_eq(k, trains[train].n);
}

/* As trains, which the kernel hands over joined; and one by one, as where it does not join. */
START_TEST(datagrams_come_as_they_were_sent)
{
    uint64_t began = wv_now_ns();
    uint8_t number = 0;
    for (size_t i = 0; i < WV_ARRAY_SIZE(trains); i++) {
        send_train(number, trains[i].n, trains[i].size, trains[i].last, trains[i].ecn, _i);
        number = (uint8_t)(number + trains[i].n);
    }
    expect_trains(began);
    ck_assert_int_eq(wv_link_receive(client), 0);
}
END_TEST

/* What is read late came when it came: reports to the sender rest on that. The kernel notes times only from a
 * moment after it was asked to, and who reads two clocks may be interrupted between them: not every time. */
START_TEST(waiting_in_the_socket_does_not_count)
{
    struct timespec pause = {.tv_nsec = 30000000};
    bool good = false;
    for (int tries = 0; !good; tries++) {
        ck_assert_int_lt(tries, 100);
        send_train(0, 3, 500, 500, 1, false);
        uint64_t sent = wv_now_ns();
        nanosleep(&pause, NULL);
        good = true;
        for (int n, left = 3; left > 0; left -= n) {
            n = receive();
            for (int i = 0; i < n; i++)
                good = good && wv_link_arrival(client, i) <= sent + WV_NS_PER_MS;
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client link");
    TCase *t = tcase_create("in");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, datagrams_come_as_they_were_sent, 0, 2);
    tcase_add_test(t, waiting_in_the_socket_does_not_count);
    return wv_run_suite(s);
}
