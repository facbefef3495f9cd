/* The bus between gateways: the same cases within one process and over a real nats-server; then what only a
 * server can do: be absent, be killed, stop answering. */
#include "lib/base/util.h"
#include "services/gateway/bus.h"
#include "tests/unit/nats_server.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define KEPT     20000
#define GATEWAYS 3

struct end {
    struct wv_bus *bus;
    int wake_fd;
    int n_messages;
    size_t bytes;
    char last[64];
    int numbers[KEPT], n_numbers;
    int ups, downs;
};

static struct nats_server server;
static struct end ends[GATEWAYS];
static const char *const names[GATEWAYS] = {"gateway-a", "gateway-b", "gateway_C3"};

static void on_message(void *userdata, const void *data, size_t len)
{
    struct end *e = userdata;
    int number;
    e->n_messages++;
    e->bytes += len;
    snprintf(e->last, sizeof e->last, "%.*s", (int)len, (const char *)data);
    if (sscanf(e->last, "number %d", &number) == 1 && e->n_numbers < KEPT)
        e->numbers[e->n_numbers++] = number;
}

static void on_state(void *userdata, bool up)
{
    struct end *e = userdata;
    if (up)
        e->ups++;
    else
        e->downs++;
}

static void on_wake(void *userdata)
{
    struct end *e = userdata;
    uint64_t one = 1;
    ck_assert_int_eq(write(e->wake_fd, &one, sizeof one), sizeof one);
}

/* One turn of all loops: sleeps until somebody is woken. */
static void turn(void)
{
    struct pollfd fds[GATEWAYS];
    for (int i = 0; i < GATEWAYS; i++)
        fds[i] = (struct pollfd){.fd = ends[i].bus ? ends[i].wake_fd : -1, .events = POLLIN};
    poll(fds, GATEWAYS, 50);
    for (int i = 0; i < GATEWAYS; i++) {
        uint64_t n;
        if ((fds[i].revents & POLLIN) && read(fds[i].fd, &n, sizeof n) == sizeof n)
            wv_bus_dispatch(ends[i].bus);
    }
}

#define UNTIL(what)                                                                                          \
    do {                                                                                                     \
        uint64_t end_ = wv_now_ns() + 30 * WV_NS_PER_S;                                                      \
        while (!(what)) {                                                                                    \
            ck_assert_msg(wv_now_ns() < end_, "never: %s", #what);                                           \
            turn();                                                                                          \
        }                                                                                                    \
    } while (0)

static struct wv_bus_calls calls_of(struct end *e)
{
    return (struct wv_bus_calls){.message = on_message, .state = on_state, .wake = on_wake, .userdata = e};
}

static void open_end(int kind, int i)
{
    struct end *e = &ends[i];
    char reason[WV_BUS_REASON_BYTES] = "";
    struct wv_bus *beside = NULL;
    for (int k = 0; k < GATEWAYS; k++)
        beside = ends[k].bus ? ends[k].bus : beside;
    *e = (struct end){.wake_fd = eventfd(0, EFD_CLOEXEC)};
    struct wv_bus_calls calls = calls_of(e);
    int r = kind == 0 ? wv_bus_open_local(&e->bus, beside, names[i], &calls)
                      : wv_bus_open(&e->bus, server.url, names[i], &calls, reason);
    ck_assert_msg(r == 0, "%s", reason);
}

/* A subscription is known to the server when what another sends arrives. */
static void open_all(int kind)
{
    if (kind == 1)
        nats_server_start(&server, 0);
    for (int i = 0; i < GATEWAYS; i++)
        open_end(kind, i);
    for (int i = 0; i < GATEWAYS; i++)
        UNTIL(ends[i].ups == 1);
    for (int i = 0; i < GATEWAYS; i++) {
        struct end *other = &ends[(i + 1) % GATEWAYS];
        uint64_t end = wv_now_ns() + 30 * WV_NS_PER_S;
        while (ends[i].n_messages == 0 && wv_now_ns() < end) {
            ck_assert_int_eq(wv_bus_publish(other->bus, names[i], "x", 1), 0);
            turn();
        }
        ck_assert_int_gt(ends[i].n_messages, 0);
    }
    /* Whatever of that is still on its way comes before this. */
    for (int i = 0; i < GATEWAYS; i++) {
        for (int k = 0; k < GATEWAYS; k++) {
            if (k == i)
                continue;
            char text[16];
            snprintf(text, sizeof text, "from %d", k);
            ck_assert_int_eq(wv_bus_publish(ends[k].bus, names[i], text, strlen(text)), 0);
            UNTIL(!strcmp(ends[i].last, text));
        }
    }
    for (int i = 0; i < GATEWAYS; i++)
        ends[i].n_messages = ends[i].n_numbers = 0, ends[i].bytes = 0;
}

static void close_all(int kind)
{
    for (int i = 0; i < GATEWAYS; i++) {
        ends[i].bus = wv_bus_close(ends[i].bus);
        wv_close(ends[i].wake_fd);
    }
    if (kind == 1 && server.pid)
        nats_server_signal(&server, SIGTERM);
}

static void say(int from, const char *to, const char *text)
{
    ck_assert_int_eq(wv_bus_publish(ends[from].bus, to, text, strlen(text)), 0);
}

START_TEST(one_or_all_others_get_a_message)
{
    open_all(_i);
    ck_assert_str_eq(wv_bus_kind(ends[0].bus), _i ? "nats" : "local");
    ck_assert(wv_bus_is_up(ends[0].bus));
    say(0, NULL, "to all");
    UNTIL(ends[1].n_messages == 1 && ends[2].n_messages == 1);
    ck_assert_str_eq(ends[1].last, "to all");
    say(2, "gateway-b", "to b");
    UNTIL(ends[1].n_messages == 2);
    ck_assert_str_eq(ends[1].last, "to b");
    say(1, "gateway-a", "to a");
    UNTIL(ends[0].n_messages == 1); /* and its own word to all did not come back */
    say(0, "nobody-here", "lost");
    say(0, "gateway_C3", "after");
    UNTIL(ends[2].n_messages == 2);
    ck_assert_str_eq(ends[2].last, "after");
    ck_assert_int_eq(ends[0].n_messages, 1);
    ck_assert_int_eq(ends[1].n_messages, 2);
    close_all(_i);
}
END_TEST

START_TEST(order_of_one_sender_holds_across_kinds)
{
    char text[32];
    open_all(_i);
    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "number %d", i);
        say(0, i % 3 ? "gateway-b" : NULL, text);
    }
    UNTIL(ends[1].n_numbers == 10000);
    for (int i = 0; i < 10000; i++)
        ck_assert_int_eq(ends[1].numbers[i], i);
    UNTIL(ends[2].n_numbers == 3334);
    struct wv_bus_numbers n;
    wv_bus_numbers(ends[1].bus, &n);
    ck_assert_uint_eq(n.dropped, 0);
    ck_assert_uint_ge(n.received, 10000);
    wv_bus_numbers(ends[0].bus, &n);
    ck_assert_uint_eq(n.dropped, 0);
    ck_assert_uint_ge(n.sent, 10000);
    close_all(_i);
}
END_TEST

START_TEST(sizes_and_names_are_bounded)
{
    static char big[WV_BUS_MESSAGE_BYTES + 1];
    struct wv_bus *none = NULL;
    struct wv_bus_calls calls = calls_of(&ends[0]);
    char reason[WV_BUS_REASON_BYTES] = "";
    open_all(_i);
    memset(big, 'x', sizeof big);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, NULL, big, sizeof big), -EMSGSIZE);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, NULL, big, 0), -EMSGSIZE);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, "a.b", big, 1), -EINVAL);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, ">", big, 1), -EINVAL);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, "", big, 1), -EINVAL);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, "gateway-a", big, 1), -EINVAL); /* itself */
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, "gateway-b", big, WV_BUS_MESSAGE_BYTES), 0);
    UNTIL(ends[1].bytes == WV_BUS_MESSAGE_BYTES);
    ck_assert_int_eq(wv_bus_open(&none, "http://x", "g", &calls, reason), -EINVAL);
    ck_assert(strstr(reason, "nats://"));
    ck_assert_int_eq(wv_bus_open(&none, "nats://x,http://y", "g", &calls, reason), -EINVAL);
    ck_assert_int_eq(wv_bus_open(&none, "local:", "g g", &calls, reason), -EINVAL);
    ck_assert_int_eq(wv_bus_open(&none, "local:", "", &calls, NULL), -EINVAL);
    ck_assert_ptr_null(none);
    close_all(_i);
}
END_TEST

/* A loop that does not come round must cost a bounded amount of memory, and nothing else. */
START_TEST(who_does_not_listen_loses_and_holds_up_nobody)
{
    static char big[32768];
    struct wv_bus_numbers n;
    open_all(_i);
    /* Only the other loops turn. */
    struct wv_bus *b = ends[1].bus;
    uint64_t end = wv_now_ns() + 60 * WV_NS_PER_S;
    ends[1].bus = NULL;
    do {
        ck_assert_msg(wv_now_ns() < end, "nothing was ever dropped");
        if (wv_bus_publish(ends[0].bus, "gateway-b", big, sizeof big) != 0)
            turn(); /* its own queue is full */
        wv_bus_numbers(b, &n);
    } while (n.dropped == 0);
    UNTIL(wv_bus_publish(ends[0].bus, "gateway_C3", "meanwhile", 9) == 0);
    UNTIL(ends[2].n_messages == 1);
    ends[1].bus = b;
    UNTIL(ends[1].n_messages >= 100);
    UNTIL(wv_bus_publish(ends[0].bus, "gateway-b", "again", 5) == 0 && !strcmp(ends[1].last, "again"));
    close_all(_i);
}
END_TEST

START_TEST(one_that_leaves_is_not_missed)
{
    open_all(_i);
    say(1, NULL, "farewell");
    ends[1].bus = wv_bus_close(ends[1].bus);
    UNTIL(ends[0].n_messages == 1 && ends[2].n_messages == 1); /* what was said before is heard */
    say(0, "gateway-b", "hello?");
    say(0, NULL, "all");
    UNTIL(ends[2].n_messages == 2);
    wv_close(ends[1].wake_fd);
    open_end(_i, 1);
    UNTIL(ends[1].ups == 1);
    uint64_t end = wv_now_ns() + 30 * WV_NS_PER_S;
    while (ends[1].n_messages == 0 && wv_now_ns() < end) {
        say(0, "gateway-b", "back");
        turn();
    }
    ck_assert_str_eq(ends[1].last, "back");
    close_all(_i);
}
END_TEST

/* ---- NATS only ---- */

START_TEST(a_server_that_comes_later)
{
    nats_server_start(&server, 0);
    nats_server_signal(&server, SIGKILL);
    for (int i = 0; i < GATEWAYS; i++)
        open_end(1, i);
    turn();
    ck_assert(!wv_bus_is_up(ends[0].bus));
    ck_assert_int_eq(ends[0].ups + ends[0].downs, 0);
    ck_assert_int_eq(wv_bus_publish(ends[0].bus, NULL, "x", 1), -ENOTCONN);
    nats_server_start(&server, server.port);
    for (int i = 0; i < GATEWAYS; i++)
        UNTIL(ends[i].ups == 1 && wv_bus_is_up(ends[i].bus));
    close_all(1);
}
END_TEST

static int say_until_heard(int from, int to)
{
    uint64_t begun = wv_now_ns(), end = begun + 30 * WV_NS_PER_S;
    int before = ends[to].n_messages;
    while (ends[to].n_messages == before) {
        ck_assert_msg(wv_now_ns() < end, "%s never reaches %s again", names[from], names[to]);
        (void)wv_bus_publish(ends[from].bus, names[to], "again", 5);
        turn();
    }
    return (int)((wv_now_ns() - begun) / WV_NS_PER_MS);
}

START_TEST(a_server_that_is_killed_and_comes_back)
{
    open_all(1);
    for (int round = 1; round <= 3; round++) {
        nats_server_signal(&server, SIGKILL);
        for (int i = 0; i < GATEWAYS; i++)
            UNTIL(ends[i].downs == round);
        ck_assert_int_eq(wv_bus_publish(ends[0].bus, NULL, "x", 1), -ENOTCONN);
        nats_server_start(&server, server.port);
        for (int i = 0; i < GATEWAYS; i++)
            UNTIL(ends[i].ups == round + 1);
        for (int i = 0; i < GATEWAYS; i++)
            say_until_heard(i, (i + 1) % GATEWAYS);
    }
    struct wv_bus_numbers n;
    wv_bus_numbers(ends[0].bus, &n);
    ck_assert_uint_eq(n.reconnects, 3);
    ck_assert_uint_ge(n.refused, 3);
    close_all(1);
}
END_TEST

/* A server that is alive and does nothing is found by its silence, and publishing never blocks. */
START_TEST(a_server_that_hangs)
{
    static char big[32768];
    open_all(1);
    uint64_t slowest = WV_NS_PER_S;
    for (int round = 1; round <= 3 && slowest >= WV_NS_PER_S;
         round++) { /* the machine may stand still, too: once */
        int refused = 0, downs[GATEWAYS];
        for (int i = 0; i < GATEWAYS; i++)
            downs[i] = ends[i].downs;
        nats_server_signal(&server, SIGSTOP);
        slowest = 0;
        for (int i = 0; i < 2000; i++) {
            uint64_t begun = wv_now_ns();
            refused += wv_bus_publish(ends[0].bus, NULL, big, sizeof big) < 0;
            slowest = WV_MAX(slowest, wv_now_ns() - begun);
        }
        ck_assert_int_gt(refused, 0);
        for (int i = 0; i < GATEWAYS; i++)
            UNTIL(ends[i].downs > downs[i]);
        nats_server_signal(&server, SIGCONT);
        for (int i = 0; i < GATEWAYS; i++)
            UNTIL(wv_bus_is_up(ends[i].bus));
        for (int i = 0; i < GATEWAYS; i++)
            say_until_heard(i, (i + 1) % GATEWAYS);
    }
    ck_assert_uint_lt(slowest, WV_NS_PER_S);
    close_all(1);
}
END_TEST

START_TEST(closing_while_the_server_is_gone_and_while_messages_come)
{
    for (int round = 0; round < 10; round++) {
        open_all(1);
        if (round % 2)
            nats_server_signal(&server, SIGKILL);
        else
            for (int i = 0; i < 300; i++)
                say(0, NULL, "still coming");
        close_all(1);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gateway_bus");
    int kinds = nats_server_exists() ? 2 : 1;
    TCase *t = tcase_create("both kinds");
    tcase_add_loop_test(t, one_or_all_others_get_a_message, 0, kinds);
    tcase_add_loop_test(t, order_of_one_sender_holds_across_kinds, 0, kinds);
    tcase_add_loop_test(t, sizes_and_names_are_bounded, 0, kinds);
    tcase_add_loop_test(t, who_does_not_listen_loses_and_holds_up_nobody, 0, kinds);
    tcase_add_loop_test(t, one_that_leaves_is_not_missed, 0, kinds);
    suite_add_tcase(s, t);
    if (kinds == 2) {
        TCase *n = tcase_create("nats");
        tcase_add_test(n, a_server_that_comes_later);
        tcase_add_test(n, a_server_that_is_killed_and_comes_back);
        tcase_add_test(n, a_server_that_hangs);
        tcase_add_test(n, closing_while_the_server_is_gone_and_while_messages_come);
        suite_add_tcase(s, n);
    } else {
        puts("skipped over NATS: no nats-server here (apt-get install nats-server)");
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
