/* The PCP client on virtual time: asking, renewing, forgetting routers, every refusal, and routers and others
 * that lie. */
#include "services/reach/pcp_client.h"
#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define NEVER  UINT64_MAX

static struct wv_pcp_client *c;
static struct wv_pcp_setup setup;
static uint64_t now;
static uint32_t epoch_s; /* of the router; follows now */
static uint8_t router[18], request[WV_PCP_MAP_BYTES], answer[WV_PCP_MAP_BYTES];

static void address(const char *text, uint8_t ret[16])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(ret, v4, sizeof v4);
    ck_assert(inet_pton(AF_INET6, text, ret) == 1 || inet_pton(AF_INET, text, ret + 12) == 1);
}

static void begin_with(const char *own, const char *of_router, uint64_t random)
{
    setup =
        (struct wv_pcp_setup){.port = 4820, .nonce = "abcdefghijkl", .lifetime_s = 1200, .random = random};
    address(own, setup.own);
    address(of_router, setup.router);
    memcpy(router, setup.router, 16);
    router[16] = WV_PCP_PORT >> 8;
    router[17] = WV_PCP_PORT & 0xff;
    now = 5000 * SECOND;
    epoch_s = 77;
    ck_assert_int_eq(wv_pcp_client_new(&c, &setup, now), 0);
}

static void begin(void)
{
    begin_with("192.168.1.5", "192.168.1.1", 42);
}

static void end(void)
{
    c = wv_pcp_client_free(c);
}

static void pass(uint64_t ns)
{
    uint64_t before = now / SECOND;
    now += ns;
    epoch_s += (uint32_t)(now / SECOND - before);
}

/* Goes to when something is due, and has it. */
static size_t next(void)
{
    uint64_t due = wv_pcp_client_timeout(c);
    ck_assert_uint_ne(due, NEVER);
    if (due > now)
        pass(due - now);
    return wv_pcp_client_send(c, now, request);
}

static void put32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* The router's answer to the request at hand. */
static void make_answer(uint8_t result, uint32_t lifetime_s, const char *external, unsigned port)
{
    memcpy(answer, request, sizeof answer);
    answer[1] |= 0x80;
    answer[3] = result;
    put32(answer + 4, lifetime_s);
    put32(answer + 8, epoch_s);
    memset(answer + 12, 0, 12);
    answer[42] = (uint8_t)(port >> 8);
    answer[43] = (uint8_t)port;
    address(external, answer + 44);
}

static void hand(void)
{
    wv_pcp_client_receive(c, router, answer, sizeof answer, false, now);
}

static void announce(bool multicast)
{
    uint8_t said[WV_PCP_ANNOUNCE_BYTES] = {2, 0x80};
    put32(said + 8, epoch_s);
    wv_pcp_client_receive(c, router, said, sizeof said, multicast, now);
}

static void map(void)
{
    ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
    make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_MAPPED);
}

static bool is_mapped(void)
{
    uint8_t at[18];
    return wv_pcp_client_mapped(c, at);
}

/* Goes on to the next request for the mapping, past those that only ask whether the router remembers. */
static uint64_t to_next_map(bool answered)
{
    uint64_t from = now;
    for (;;) {
        size_t n = next();
        if (n == WV_PCP_MAP_BYTES || n == 0)
            return n ? now - from : NEVER;
        if (answered)
            announce(false);
    }
}

START_TEST(a_port_is_mapped)
{
    uint8_t at[18], want[16];
    begin();
    ck_assert_uint_eq(wv_pcp_client_timeout(c), now);
    map();
    ck_assert_uint_eq(wv_pcp_client_send(c, now, request), 0);
    ck_assert(wv_pcp_client_mapped(c, at));
    address("203.0.113.9", want);
    ck_assert_mem_eq(at, want, 16);
    ck_assert_uint_eq((unsigned)at[16] << 8 | at[17], 50000);
    end();
}
END_TEST

/* The first request asks for the same port outside; a renewal for what was given (section 11.2.1). */
START_TEST(what_is_asked_for)
{
    uint8_t any[16], given[16];
    begin();
    address("0.0.0.0", any);
    address("203.0.113.9", given);
    ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
    ck_assert_mem_eq(request + 8, setup.own, 16);
    ck_assert_mem_eq(request + 24, "abcdefghijkl", 12);
    ck_assert_uint_eq((unsigned)request[42] << 8 | request[43], 4820);
    ck_assert_mem_eq(request + 44, any, 16);
    make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
    hand();
    to_next_map(true);
    ck_assert_uint_eq((unsigned)request[42] << 8 | request[43], 50000);
    ck_assert_mem_eq(request + 44, given, 16);
    end();
}
END_TEST

/* Section 8.1.1: 3 s, then twice as long, each a tenth more or less; the caller gets to know after 6 s. */
START_TEST(silence)
{
    for (uint64_t random = 1; random < 200; random++) {
        begin_with("192.168.1.5", "192.168.1.1", random);
        ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
        uint64_t first = now;
        ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
        ck_assert(now - first >= 27 * SECOND / 10 && now - first <= 33 * SECOND / 10);
        ck_assert_uint_eq(next(), 0);
        ck_assert_uint_eq(now - first, 6 * SECOND);
        ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_SILENT);
        ck_assert_uint_eq(wv_pcp_client_timeout(c), NEVER);
        end();
    }
}
END_TEST

START_TEST(nobody_there)
{
    begin();
    next();
    wv_pcp_client_refused(c);
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_SILENT);
    end();
    begin();
    map();
    wv_pcp_client_refused(c); /* a router that is being started again: the mapping has an end of its own */
    ck_assert(is_mapped());
    end();
}
END_TEST

/* Section 11.2.1: after 1/2 to 5/8 of the time, then of what is left, never sooner than 4 s. */
START_TEST(renewal)
{
    for (uint64_t random = 1; random < 100; random++) {
        begin_with("192.168.1.5", "192.168.1.1", random);
        map();
        uint64_t after = to_next_map(true);
        ck_assert(after >= 600 * SECOND && after <= 750 * SECOND);
        make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
        hand();
        after = to_next_map(true);
        ck_assert(after >= 600 * SECOND && after <= 750 * SECOND);
        end();
    }
}
END_TEST

START_TEST(a_mapping_that_is_not_renewed_ends)
{
    uint64_t from, last = 0;
    unsigned requests = 0;
    begin();
    map();
    from = now;
    for (uint64_t after; (after = to_next_map(true)) != NEVER; requests++) {
        ck_assert(is_mapped());
        ck_assert(now == from || now - last >= 4 * SECOND);
        last = now;
    }
    ck_assert_uint_eq(now - from, 1200 * SECOND);
    ck_assert(requests > 3 && requests < 12);
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_SILENT);
    ck_assert(!is_mapped());
    end();
}
END_TEST

START_TEST(lifetimes_of_a_router_that_exaggerates)
{
    begin();
    next();
    make_answer(WV_PCP_SUCCESS, UINT32_MAX, "203.0.113.9", 50000);
    hand();
    uint64_t after = to_next_map(true);
    ck_assert(after >= 12 * 3600 * SECOND && after <= 15 * 3600 * SECOND);
    end();
    begin();
    next();
    make_answer(WV_PCP_SUCCESS, 1, "203.0.113.9", 50000);
    hand();
    ck_assert(is_mapped());
    ck_assert_uint_eq(to_next_map(true), NEVER); /* over before it may be renewed */
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_SILENT);
    end();
    begin();
    next();
    make_answer(WV_PCP_SUCCESS, 0, "203.0.113.9", 50000);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_REFUSED);
    end();
}
END_TEST

/* Section 14.2: a router may say by itself that the address is another one now. */
START_TEST(another_address)
{
    uint8_t at[18], want[16];
    begin();
    map();
    pass(30 * SECOND);
    make_answer(WV_PCP_SUCCESS, 900, "203.0.113.10", 50001);
    hand();
    ck_assert(wv_pcp_client_mapped(c, at));
    address("203.0.113.10", want);
    ck_assert_mem_eq(at, want, 16);
    ck_assert_uint_eq((unsigned)at[16] << 8 | at[17], 50001);
    end();
}
END_TEST

START_TEST(each_refusal)
{
    static const struct {
        uint8_t result;
        enum wv_pcp_state state;
    } list[] = {
        {WV_PCP_UNSUPP_VERSION, WV_PCP_NATPMP},
        {WV_PCP_NOT_AUTHORIZED, WV_PCP_REFUSED},
        {WV_PCP_MALFORMED_REQUEST, WV_PCP_REFUSED},
        {WV_PCP_UNSUPP_OPCODE, WV_PCP_REFUSED},
        {WV_PCP_UNSUPP_OPTION, WV_PCP_REFUSED},
        {WV_PCP_MALFORMED_OPTION, WV_PCP_REFUSED},
        {WV_PCP_NETWORK_FAILURE, WV_PCP_LATER},
        {WV_PCP_NO_RESOURCES, WV_PCP_LATER},
        {WV_PCP_UNSUPP_PROTOCOL, WV_PCP_REFUSED},
        {WV_PCP_USER_EX_QUOTA, WV_PCP_LATER},
        {WV_PCP_ADDRESS_MISMATCH, WV_PCP_REFUSED},
        {WV_PCP_EXCESSIVE_REMOTE_PEERS, WV_PCP_REFUSED},
        {200, WV_PCP_REFUSED},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        begin();
        next();
        make_answer(list[i].result, 60, "0.0.0.0", 0);
        hand();
        ck_assert_msg(wv_pcp_client_state(c) == list[i].state, "result %u", list[i].result);
        ck_assert_uint_eq(wv_pcp_client_result(c), list[i].result);
        ck_assert(!is_mapped());
        if (list[i].state != WV_PCP_LATER)
            ck_assert_uint_eq(wv_pcp_client_timeout(c), NEVER);
        end();
    }
}
END_TEST

/* A router that has no network itself says for how long; believed within half a minute and half an hour. */
START_TEST(reasons_that_pass)
{
    static const uint32_t said[] = {0, 60, UINT32_MAX}, want[] = {30, 60, 1800};
    for (int i = 0; i < 3; i++) {
        begin();
        next();
        make_answer(WV_PCP_NETWORK_FAILURE, said[i], "0.0.0.0", 0);
        hand();
        uint64_t from = now;
        ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
        ck_assert_uint_eq(now - from, want[i] * SECOND);
        make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
        hand();
        ck_assert(is_mapped());
        make_answer(WV_PCP_NETWORK_FAILURE, 60, "0.0.0.0", 0); /* and what is mapped stays until its end */
        hand();
        ck_assert(is_mapped());
        end();
    }
}
END_TEST

/* What was suggested is not to be had: anything will do, and if that is not either, nothing. */
START_TEST(cannot_provide_external)
{
    begin();
    next();
    make_answer(WV_PCP_CANNOT_PROVIDE_EXTERNAL, 60, "0.0.0.0", 0);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_ASKING);
    uint64_t from = now;
    ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
    ck_assert_uint_eq(now - from, SECOND); /* no router makes it ask faster */
    ck_assert_uint_eq((unsigned)request[42] << 8 | request[43], 0);
    make_answer(WV_PCP_CANNOT_PROVIDE_EXTERNAL, 60, "0.0.0.0", 0);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_REFUSED);
    end();
}
END_TEST

START_TEST(a_router_of_before_pcp)
{
    static const uint8_t said[8] = {0, 0x81, 0, 1, 0, 0, 14, 16};
    begin();
    next();
    wv_pcp_client_receive(c, router, said, sizeof said, false, now);
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_NATPMP);
    end();
    begin(); /* one that has just mapped speaks it: somebody else says that, or to somebody else */
    map();
    wv_pcp_client_receive(c, router, said, sizeof said, false, now);
    ck_assert(is_mapped());
    end();
}
END_TEST

START_TEST(only_the_routers_answer_to_this_question)
{
    uint8_t other[18];
    begin();
    next();
    make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
    memcpy(other, router, sizeof other);
    other[15] ^= 1; /* another machine */
    wv_pcp_client_receive(c, other, answer, sizeof answer, false, now);
    ck_assert(!is_mapped());
    memcpy(other, router, sizeof other);
    other[17] ^= 1; /* another port of it */
    wv_pcp_client_receive(c, other, answer, sizeof answer, false, now);
    ck_assert(!is_mapped());
    wv_pcp_client_receive(c, router, answer, sizeof answer, true, now); /* to all */
    ck_assert(!is_mapped());
    for (size_t i = 24; i < 42; i++) { /* every byte of nonce, protocol, port */
        if (i >= 37 && i < 40)
            continue; /* reserved */
        answer[i] ^= 0x20;
        hand();
        ck_assert_msg(!is_mapped(), "byte %zu", i);
        answer[i] ^= 0x20;
    }
    hand();
    ck_assert(is_mapped());
    end();
}
END_TEST

START_TEST(addresses_that_nobody_could_reach)
{
    static const char *const list[] = {"0.0.0.0",     "127.0.0.1",   "224.0.0.1", "255.255.255.255",
                                       "169.254.9.9", "2001:db8::9", "::"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        begin();
        next();
        make_answer(WV_PCP_SUCCESS, 1200, list[i], 50000);
        hand();
        ck_assert_msg(wv_pcp_client_state(c) == WV_PCP_REFUSED, "%s", list[i]);
        end();
    }
    begin();
    next();
    make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 0);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_REFUSED);
    end();
    begin(); /* a NAT before the NAT: true, and for its owner to judge */
    next();
    make_answer(WV_PCP_SUCCESS, 1200, "100.64.3.4", 50000);
    hand();
    ck_assert(is_mapped());
    end();
}
END_TEST

START_TEST(a_pinhole_of_ipv6)
{
    uint8_t at[18], any[16] = {0};
    begin_with("2001:db8:7::5", "fe80::1", 42);
    ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
    ck_assert_mem_eq(request + 44, any, sizeof any);
    make_answer(WV_PCP_SUCCESS, 1200, "2001:db8:7::5", 4820);
    hand();
    ck_assert(wv_pcp_client_mapped(c, at));
    ck_assert_mem_eq(at, setup.own, 16);
    end();
    begin_with("2001:db8:7::5", "fe80::1", 42);
    next();
    make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 4820);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_REFUSED);
    end();
}
END_TEST

/* Section 8.5, at its edges. */
START_TEST(the_epoch_of_a_router_that_goes_on)
{
    static const struct {
        uint32_t mine, its;
    } list[] = {{0, 0}, {0, 2}, {2, 0}, {60, 60}, {60, 66}, {60, 55}, {1000, 940}, {1000, 1060}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        begin();
        map();
        now += list[i].mine * SECOND;
        epoch_s += list[i].its;
        announce(false);
        ck_assert_msg(wv_pcp_client_restarts(c) == 0, "%u s of mine, %u of its", list[i].mine, list[i].its);
        end();
    }
    begin();
    map();
    epoch_s -= 1; /* a second back is no sign */
    announce(false);
    ck_assert_uint_eq(wv_pcp_client_restarts(c), 0);
    end();
}
END_TEST

START_TEST(the_epoch_of_a_router_that_was_started_again)
{
    static const struct {
        uint32_t mine, its;
    } list[] = {{60, (uint32_t)-2}, {60, (uint32_t)-77}, {60, 54}, {60, 67}, {1000, 900}, {10, 1000}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        begin();
        map();
        now += list[i].mine * SECOND;
        epoch_s += list[i].its;
        announce(false);
        ck_assert_msg(wv_pcp_client_restarts(c) == 1, "%u s of mine, %u of its", list[i].mine, list[i].its);
        ck_assert_uint_eq(to_next_map(false), list[i].mine ? 0 : SECOND);
        make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
        hand();
        ck_assert(is_mapped());
        ck_assert(to_next_map(true) >= 600 * SECOND);
        end();
    }
}
END_TEST

/* After a multicast, which all hosts heard, within five seconds; unanswered it is repeated, and ends soon. */
START_TEST(a_router_that_announces_itself)
{
    for (uint64_t random = 1; random < 50; random++) {
        begin_with("192.168.1.5", "192.168.1.1", random);
        map();
        pass(100 * SECOND);
        epoch_s = 0;
        announce(true);
        uint64_t from = now, first = to_next_map(false);
        ck_assert(first < 5 * SECOND);
        uint64_t second = to_next_map(false);
        ck_assert(second >= 27 * SECOND / 10 && second <= 33 * SECOND / 10);
        ck_assert(is_mapped());
        while (to_next_map(false) != NEVER)
            ;
        ck_assert_uint_eq(now - from, 60 * SECOND);
        ck_assert(!is_mapped());
        end();
    }
}
END_TEST

/* Once a minute, and sooner when another has found that the router was started again. */
START_TEST(it_asks_whether_the_router_remembers)
{
    begin();
    map();
    uint64_t from = now;
    ck_assert_uint_eq(next(), WV_PCP_ANNOUNCE_BYTES);
    ck_assert(now - from >= 54 * SECOND && now - from <= 66 * SECOND);
    announce(false);
    for (int i = 0; i < 3; i++) {
        wv_pcp_client_check(c, now);
        from = now;
        ck_assert_uint_eq(next(), WV_PCP_ANNOUNCE_BYTES);
        ck_assert_uint_eq(now - from, SECOND);
    }
    end();
}
END_TEST

/* Somebody on the network who speaks in the router's name makes it send once a second, no more. */
START_TEST(lies_make_no_flood)
{
    unsigned requests = 0;
    begin();
    map();
    for (int i = 0; i < 10000; i++) {
        now += SECOND / 1000;
        epoch_s = i % 2 ? 0 : 1000000;
        announce(i % 3 == 0);
        size_t n = wv_pcp_client_send(c, now, request);
        requests += n > 0;
        if (n == WV_PCP_MAP_BYTES) {
            make_answer(WV_PCP_SUCCESS, 1200, "203.0.113.9", 50000);
            hand();
        }
    }
    ck_assert(requests > 0 && requests <= 11);
    end();
}
END_TEST

START_TEST(it_is_taken_back)
{
    uint8_t any[16];
    address("0.0.0.0", any);
    begin();
    map();
    wv_pcp_client_delete(c, now);
    ck_assert(!is_mapped());
    ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
    ck_assert(!memcmp(request + 4, any, 4)); /* lifetime 0; section 15.1: and nothing suggested */
    ck_assert_mem_eq(request + 24, "abcdefghijkl", 12);
    ck_assert_mem_eq(request + 44, any, 16);
    make_answer(WV_PCP_SUCCESS, 0, "0.0.0.0", 0);
    hand();
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_DELETED);
    end();
}
END_TEST

START_TEST(it_is_taken_back_without_an_answer)
{
    unsigned requests = 0;
    begin();
    map();
    wv_pcp_client_delete(c, now);
    uint64_t from = now;
    while (wv_pcp_client_state(c) != WV_PCP_DELETED)
        requests += next() > 0;
    ck_assert_uint_eq(requests, 2);
    ck_assert(now - from < SECOND);
    end();
    begin(); /* what was asked for may have been granted by now */
    next();
    wv_pcp_client_delete(c, now);
    ck_assert_uint_eq(next(), WV_PCP_MAP_BYTES);
    end();
    begin(); /* what was refused was not */
    next();
    make_answer(WV_PCP_NETWORK_FAILURE, 60, "0.0.0.0", 0);
    hand();
    wv_pcp_client_delete(c, now);
    ck_assert_int_eq(wv_pcp_client_state(c), WV_PCP_DELETED);
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pcp client");
    TCase *t = tcase_create("client");
    tcase_add_test(t, a_port_is_mapped);
    tcase_add_test(t, what_is_asked_for);
    tcase_add_test(t, silence);
    tcase_add_test(t, nobody_there);
    tcase_add_test(t, renewal);
    tcase_add_test(t, a_mapping_that_is_not_renewed_ends);
    tcase_add_test(t, lifetimes_of_a_router_that_exaggerates);
    tcase_add_test(t, another_address);
    tcase_add_test(t, each_refusal);
    tcase_add_test(t, reasons_that_pass);
    tcase_add_test(t, cannot_provide_external);
    tcase_add_test(t, a_router_of_before_pcp);
    tcase_add_test(t, only_the_routers_answer_to_this_question);
    tcase_add_test(t, addresses_that_nobody_could_reach);
    tcase_add_test(t, a_pinhole_of_ipv6);
    tcase_add_test(t, the_epoch_of_a_router_that_goes_on);
    tcase_add_test(t, the_epoch_of_a_router_that_was_started_again);
    tcase_add_test(t, a_router_that_announces_itself);
    tcase_add_test(t, it_asks_whether_the_router_remembers);
    tcase_add_test(t, lies_make_no_flood);
    tcase_add_test(t, it_is_taken_back);
    tcase_add_test(t, it_is_taken_back_without_an_answer);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
