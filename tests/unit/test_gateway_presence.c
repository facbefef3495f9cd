/* Who is connected where: several gateways on virtual time, over a net that the test may break. The last case
 * joins, leaves, loses words, and lets gateways die at random, then checks that all tables come to agree. */
#include "lib/base/util.h"
#include "services/gateway/presence.h"

#include <check.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATEWAYS 4
#define WORDS    512
#define START_MS 1800000000000

struct gateway {
    struct wv_presence *p;
    char id[16];
    int64_t clock_ms;     /* how wrong its clock is */
    bool cut;             /* no word reaches it or comes from it */
    uint64_t last_closed; /* the connection that was displaced last */
    int closed;
};

struct mail {
    int to;
    char from[16];
    struct wv_presence_word word;
};

static struct gateway gateways[GATEWAYS];
static struct mail *mail;
static size_t mail_first, mail_n;
static uint64_t now;
static unsigned loss; /* of 100 words */
static unsigned seed;
static const uint8_t secret[16] = {7};

static unsigned chance(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static void on_say(void *userdata, const char *to, const struct wv_presence_word *word)
{
    struct gateway *from = userdata;
    for (int i = 0; i < GATEWAYS; i++) {
        struct gateway *g = &gateways[i];
        if (g == from || !g->p || from->cut || (to && strcmp(to, g->id) != 0) ||
            (loss && chance(100) < loss) || mail_n == WORDS)
            continue;
        struct mail *m = &mail[(mail_first + mail_n++) % WORDS];
        m->to = i;
        snprintf(m->from, sizeof m->from, "%s", from->id);
        m->word = *word;
    }
}

static void on_displaced(void *userdata, const uint8_t key[32], uint64_t connection)
{
    struct gateway *g = userdata;
    g->closed++;
    g->last_closed = connection;
    wv_presence_leave(g->p, key, connection); /* as who closes it will say */
}

static void deliver(void)
{
    while (mail_n > 0) {
        struct mail *m = &mail[mail_first];
        mail_first = (mail_first + 1) % WORDS;
        mail_n--;
        if (gateways[m->to].p && !gateways[m->to].cut)
            wv_presence_hear(gateways[m->to].p, m->from, &m->word, now);
    }
}

static void start(int i)
{
    static const struct wv_presence_limits limits = {1000, 8};
    static int serial;
    struct gateway *g = &gateways[i];
    struct wv_presence_calls calls = {on_say, on_displaced, g};
    *g = (struct gateway){.clock_ms = g->clock_ms};
    snprintf(g->id, sizeof g->id, "g%d", serial++);
    ck_assert_int_eq(wv_presence_new(&g->p, g->id, &limits, &calls, secret), 0);
    wv_presence_bus_is_up(g->p, now);
    deliver();
}

static void pass(unsigned seconds)
{
    for (unsigned i = 0; i < 2 * seconds; i++) {
        now += WV_NS_PER_S / 2;
        for (int k = 0; k < GATEWAYS; k++)
            if (gateways[k].p)
                wv_presence_tick(gateways[k].p, now);
        deliver();
    }
}

static void setup(void)
{
    ck_assert_int_ge(sodium_init(), 0);
    mail = calloc(WORDS, sizeof *mail);
    now = 1000 * WV_NS_PER_S;
    loss = 0;
    mail_first = mail_n = 0;
    for (int i = 0; i < GATEWAYS; i++) {
        gateways[i].clock_ms = 0;
        start(i);
    }
}

static void teardown(void)
{
    for (int i = 0; i < GATEWAYS; i++)
        gateways[i].p = wv_presence_free(gateways[i].p);
    free(mail);
}

static const uint8_t *key(unsigned n)
{
    static uint8_t bytes[32];
    bytes[0] = (uint8_t)n;
    bytes[1] = (uint8_t)(n >> 8);
    return bytes;
}

static void join(int i, unsigned n, uint64_t connection)
{
    struct gateway *g = &gateways[i];
    uint64_t ms = START_MS + (uint64_t)((int64_t)(now / WV_NS_PER_MS) + g->clock_ms);
    ck_assert_int_eq(wv_presence_join(g->p, key(n), connection, ms), 0);
}

/* Where gateway I thinks that machine N is: the index of a gateway, -1: nowhere. */
static int where(int i, unsigned n)
{
    char id[WV_BUS_ID_BYTES];
    uint64_t connection = 0;
    switch (wv_presence_find(gateways[i].p, key(n), &connection, id)) {
    case WV_PRESENCE_NOWHERE:
        return -1;
    case WV_PRESENCE_HERE:
        ck_assert_uint_ne(connection, 0);
        return i;
    case WV_PRESENCE_THERE:
        break;
    }
    for (int k = 0; k < GATEWAYS; k++)
        if (!strcmp(gateways[k].id, id))
            return k;
    return -2;
}

static void all_say(unsigned n, int expected)
{
    for (int i = 0; i < GATEWAYS; i++)
        if (gateways[i].p && !gateways[i].cut)
            ck_assert_msg(where(i, n) == expected, "gateway %d says %d, not %d (seed %u)", i, where(i, n),
                          expected, seed);
}

static struct wv_presence_numbers numbers(int i)
{
    struct wv_presence_numbers n;
    wv_presence_numbers(gateways[i].p, &n);
    return n;
}

START_TEST(who_joins_and_leaves_is_known_everywhere)
{
    join(0, 1, 11);
    join(1, 2, 12);
    deliver();
    all_say(1, 0);
    all_say(2, 1);
    all_say(3, -1);
    wv_presence_leave(gateways[0].p, key(1), 99); /* some other connection */
    deliver();
    all_say(1, 0);
    wv_presence_leave(gateways[0].p, key(1), 11);
    deliver();
    all_say(1, -1);
    all_say(2, 1);
    ck_assert_uint_eq(numbers(1).here, 1);
    ck_assert_uint_eq(numbers(3).there, 1);
    ck_assert_uint_eq(numbers(3).gateways, 3);
}
END_TEST

START_TEST(the_newest_connection_counts)
{
    join(0, 1, 11);
    join(0, 1, 12); /* at the same gateway */
    deliver();
    ck_assert_uint_eq(gateways[0].last_closed, 11);
    all_say(1, 0);
    gateways[1].clock_ms = -3600000; /* an hour behind: newer all the same */
    join(1, 1, 21);
    deliver();
    ck_assert_uint_eq(gateways[0].last_closed, 12);
    ck_assert_int_eq(gateways[0].closed, 2);
    ck_assert_int_eq(gateways[1].closed, 0);
    all_say(1, 1);
    wv_presence_leave(gateways[0].p, key(1), 12); /* the old one's end changes nothing */
    deliver();
    all_say(1, 1);
    join(2, 1, 31);
    deliver();
    ck_assert_uint_eq(gateways[1].last_closed, 21);
    all_say(1, 2);
}
END_TEST

/* Neither knows of the other's claim: in the end both know the same one, and only one connection is left. */
START_TEST(two_gateways_that_claim_the_same_machine)
{
    for (unsigned n = 0; n < 20; n++) {
        int closed = gateways[0].closed + gateways[1].closed;
        gateways[0].cut = gateways[1].cut = true;
        join(0, n, 100 + n);
        join(1, n, 200 + n); /* in the same millisecond */
        deliver();
        gateways[0].cut = gateways[1].cut = false;
        pass(12);
        ck_assert_int_eq(gateways[0].closed + gateways[1].closed, closed + 1);
        int at = where(0, n);
        ck_assert(at == 0 || at == 1);
        all_say(n, at);
    }
}
END_TEST

START_TEST(a_gateway_that_dies_takes_its_machines_with_it)
{
    for (unsigned n = 0; n < 300; n++) {
        join(2, n, 1 + n);
        deliver();
    }
    join(0, 500, 1);
    pass(20);
    all_say(299, 2);
    gateways[2].cut = true; /* kill -9 */
    pass(14);               /* two heartbeats missed, perhaps the third */
    ck_assert_int_eq(where(0, 299), 2);
    pass(5);
    ck_assert_int_eq(where(0, 299), -1);
    ck_assert_uint_eq(numbers(0).there, 0);
    ck_assert_uint_eq(numbers(0).gateways, 2);
    ck_assert_uint_eq(numbers(0).expired, 1);
    all_say(500, 0);
    /* It was only away (SIGSTOP, a cable): the first heartbeat brings everything back. */
    gateways[2].cut = false;
    pass(7);
    all_say(0, 2);
    all_say(299, 2);
    all_say(500, 0);
    ck_assert_int_eq(where(2, 500), 0);
}
END_TEST

START_TEST(a_gateway_that_leaves_is_forgotten_at_once)
{
    for (unsigned n = 0; n < 300; n++) {
        join(2, n, 1 + n);
        deliver();
    }
    all_say(299, 2);
    wv_presence_bye(gateways[2].p);
    deliver();
    ck_assert_int_eq(where(0, 299), -1);
    /* Its machines end their connections or go on for a moment, the bus comes again: nobody hears of it. */
    for (unsigned n = 0; n < 290; n++) {
        wv_presence_leave(gateways[2].p, key(n), 1 + n);
        deliver();
    }
    wv_presence_bus_is_up(gateways[2].p, now);
    pass(8);
    ck_assert_uint_eq(numbers(0).gateways, 2);
    join(1, 299, 7); /* to another one, while the old connection is still there */
    deliver();
    ck_assert_uint_eq(gateways[2].last_closed, 300);
    ck_assert_uint_eq(numbers(0).gateways, 2);
    gateways[2].p = wv_presence_free(gateways[2].p);
    all_say(299, 1);
    all_say(298, -1);
    ck_assert_uint_eq(numbers(0).expired, 0);
}
END_TEST

START_TEST(a_gateway_that_comes_later_learns_all)
{
    gateways[3].p = wv_presence_free(gateways[3].p);
    for (unsigned n = 0; n < 900; n++) {
        join((int)(n % 3), n, 1 + n);
        deliver();
    }
    start(3);
    for (unsigned n = 0; n < 900; n++)
        all_say(n, (int)(n % 3));
    ck_assert_uint_eq(numbers(3).there, 900);
    ck_assert_uint_eq(numbers(3).lists, 0); /* by the first question to all, not by differing digests */
}
END_TEST

START_TEST(lost_words_are_found_out)
{
    loss = 100;
    join(0, 1, 11);
    join(0, 2, 12);
    deliver();
    loss = 0;
    all_say(3, -1);
    ck_assert_int_eq(where(1, 1), -1);
    pass(7);
    all_say(1, 0);
    all_say(2, 0);
    loss = 100;
    wv_presence_leave(gateways[0].p, key(1), 11);
    deliver();
    loss = 0;
    ck_assert_int_eq(where(1, 1), 0);
    pass(7);
    all_say(1, -1);
    all_say(2, 0);
    ck_assert_uint_gt(numbers(1).lists, 0);
    uint64_t lists = numbers(1).lists;
    pass(60);
    ck_assert_uint_eq(numbers(1).lists, lists); /* tables that agree cost nothing */
}
END_TEST

START_TEST(tables_are_bounded_and_words_of_nobody_change_nothing)
{
    static struct wv_presence_word word;
    for (unsigned n = 0; n < 1000; n++)
        join(0, n, 1 + n);
    ck_assert_int_eq(wv_presence_join(gateways[0].p, key(2000), 5, START_MS), -ENOBUFS);
    join(0, 7, 4000); /* who is in it may still come anew */
    deliver();
    word = (struct wv_presence_word){.kind = WV_PRESENCE_JOINED, .n = 1};
    word.entries[0].stamp = UINT64_MAX; /* would be the newest for ever */
    memcpy(word.entries[0].key, key(7), 32);
    wv_presence_hear(gateways[0].p, gateways[1].id, &word, now);
    ck_assert_int_eq(where(0, 7), 0);
    word.entries[0].stamp = WV_PRESENCE_STAMP_MAX;
    wv_presence_hear(gateways[0].p, gateways[0].id, &word, now); /* in its own name */
    ck_assert_int_eq(where(0, 7), 0);
    for (int i = 0; i < 20; i++) { /* more gateways than there may be */
        char id[8];
        snprintf(id, sizeof id, "x%d", i);
        word = (struct wv_presence_word){.kind = WV_PRESENCE_BEAT};
        wv_presence_hear(gateways[0].p, id, &word, now);
    }
    ck_assert_uint_eq(numbers(0).gateways, 8);
}
END_TEST

START_TEST(whatever_happens_all_agree_in_the_end)
{
    int truth[64];
    uint64_t connection = 1;
    seed = (unsigned)_i * 7919 + 1;
    for (int i = 0; i < GATEWAYS; i++)
        gateways[i].clock_ms = (int64_t)chance(7200000) - 3600000;
    loss = 20;
    for (int step = 0; step < 1500; step++) {
        int i = (int)chance(GATEWAYS);
        unsigned n = chance(64), what = chance(100);
        if (what < 60) {
            join(i, n, connection++);
        } else if (what < 90) {
            uint64_t c;
            if (wv_presence_find(gateways[i].p, key(n), &c, NULL) == WV_PRESENCE_HERE)
                wv_presence_leave(gateways[i].p, key(n), c);
        } else if (what < 93) {
            gateways[i].cut = !gateways[i].cut;
        } else if (what < 95) {
            wv_presence_free(gateways[i].p); /* kill -9, and a new process */
            start(i);
        } else {
            pass(1 + chance(4));
        }
        if (chance(4))
            deliver();
    }
    loss = 0;
    for (int i = 0; i < GATEWAYS; i++) {
        gateways[i].cut = false;
        wv_presence_bus_is_up(gateways[i].p, now);
    }
    pass(40);
    for (unsigned n = 0; n < 64; n++) {
        truth[n] = -1;
        for (int i = 0; i < GATEWAYS; i++) {
            if (where(i, n) == i) {
                ck_assert_msg(truth[n] == -1, "machine %u is at two gateways (seed %u)", n, _i);
                truth[n] = i;
            }
        }
        all_say(n, truth[n]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gateway_presence");
    TCase *t = tcase_create("presence");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, who_joins_and_leaves_is_known_everywhere);
    tcase_add_test(t, the_newest_connection_counts);
    tcase_add_test(t, two_gateways_that_claim_the_same_machine);
    tcase_add_test(t, a_gateway_that_dies_takes_its_machines_with_it);
    tcase_add_test(t, a_gateway_that_leaves_is_forgotten_at_once);
    tcase_add_test(t, a_gateway_that_comes_later_learns_all);
    tcase_add_test(t, lost_words_are_found_out);
    tcase_add_test(t, tables_are_bounded_and_words_of_nobody_change_nothing);
    tcase_add_loop_test(t, whatever_happens_all_agree_in_the_end, 0, 20);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
