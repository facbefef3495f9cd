/* Which relay a lease names, leases themselves, and the table of sessions: all on a clock of the test's own.
 */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/leases.h"
#include "services/gateway/relays.h"
#include "services/gateway/sessions.h"

#include <check.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define UNIX_S 1800000000u
#define NOW    (1000 * WV_NS_PER_S)

static struct wv_relays *relays;

static void setup(void)
{
    ck_assert_int_eq(rift_crypto_init(), 0);
    ck_assert_int_eq(wv_relays_new(&relays), 0);
}

static void teardown(void)
{
    relays = wv_relays_free(relays);
}

static void put(const char *id, const char *region, bool drain)
{
    struct wv_relay_record record = {.drain = drain};
    snprintf(record.id, sizeof record.id, "%s", id);
    snprintf(record.region, sizeof record.region, "%s", region);
    snprintf(record.address, sizeof record.address, "%s:4821", id);
    ck_assert_int_eq(wv_relays_put(relays, &record), 0);
}

static int beat(const char *id, uint64_t at, uint32_t load, bool draining, uint64_t now)
{
    struct rift_heartbeat b = {.relay = id, .unix_s = at, .load = load, .leases = 5, .draining = draining};
    return wv_relays_beat(relays, &b, UNIX_S, now);
}

static const char *chosen(const char *region, uint32_t chance, uint64_t now)
{
    const struct wv_relay *r = wv_relays_choose(relays, region, chance, now);
    return r ? r->record.id : NULL;
}

START_TEST(only_those_that_can_serve)
{
    put("a", "eu", false);
    put("b", "eu", true);
    put("c", "us", false);
    put("d", "us", false);
    ck_assert_ptr_null(chosen(NULL, 0, NOW)); /* nobody was heard */
    ck_assert_int_eq(beat("a", UNIX_S, 100, false, NOW), 0);
    ck_assert_int_eq(beat("b", UNIX_S, 0, false, NOW), 0); /* the operator drains it */
    ck_assert_int_eq(beat("c", UNIX_S, 0, true, NOW), 0);  /* it drains itself */
    ck_assert_int_eq(beat("d", UNIX_S, WV_RELAYS_FULL, false, NOW), 0);
    for (uint32_t chance = 0; chance < 5000; chance += 7)
        ck_assert_str_eq(chosen(NULL, chance, NOW), "a");
    ck_assert_uint_eq(wv_relays_usable(relays, NOW), 1);
    ck_assert_str_eq(chosen("us", 3, NOW), "a"); /* none of that region: another one */
    ck_assert_str_eq(chosen("", 3, NOW), "a");
    ck_assert_int_eq(beat("d", UNIX_S + 5, WV_RELAYS_FULL - 1, false, NOW + 5 * WV_NS_PER_S), 0);
    ck_assert_str_eq(chosen("us", 3, NOW + 5 * WV_NS_PER_S), "d");
    uint64_t silent = NOW + WV_RELAYS_SILENCE_S * WV_NS_PER_S;
    ck_assert_str_eq(chosen("eu", 3, silent - 1), "a");
    ck_assert_str_eq(chosen("eu", 3, silent), "d");
    ck_assert_ptr_null(chosen("eu", 3, silent + 5 * WV_NS_PER_S));
}
END_TEST

START_TEST(who_carries_less_is_chosen_more)
{
    unsigned n[3] = {0};
    put("a", "eu", false);
    put("b", "eu", false);
    put("c", "eu", false);
    beat("a", UNIX_S, 0, false, NOW);
    beat("b", UNIX_S, 500, false, NOW);
    beat("c", UNIX_S, 900, false, NOW);
    for (uint32_t chance = 0; chance < 1600; chance++)
        n[chosen("eu", chance, NOW)[0] - 'a']++;
    ck_assert_uint_eq(n[0], 1000);
    ck_assert_uint_eq(n[1], 500);
    ck_assert_uint_eq(n[2], 100);
}
END_TEST

START_TEST(heartbeats_that_do_not_count)
{
    put("a", "eu", false);
    ck_assert_int_eq(beat("z", UNIX_S, 0, false, NOW), -ENOENT);
    ck_assert_int_eq(beat("a", UNIX_S + WV_RELAYS_CLOCK_S + 1, 0, false, NOW), -ETIME);
    ck_assert_int_eq(beat("a", UNIX_S - WV_RELAYS_CLOCK_S - 1, 0, false, NOW), -ETIME);
    ck_assert_int_eq(beat("a", UINT64_MAX, 0, false, NOW), -ETIME);
    ck_assert_int_eq(beat("a", 0, 0, false, NOW), -ETIME);
    ck_assert_ptr_null(chosen(NULL, 0, NOW));
    ck_assert_int_eq(beat("a", UNIX_S, 7, false, NOW), 0);
    ck_assert_int_eq(beat("a", UNIX_S, 0, true, NOW + 1), -EALREADY);
    ck_assert_int_eq(beat("a", UNIX_S - 5, 0, true, NOW + 1), -EALREADY);
    ck_assert_uint_eq(wv_relays_find(relays, "a")->load, 7);
    ck_assert(!wv_relays_find(relays, "a")->draining);
}
END_TEST

START_TEST(the_list_follows_the_database)
{
    put("a", "eu", false);
    put("b", "eu", false);
    beat("a", UNIX_S, 0, false, NOW);
    beat("b", UNIX_S, 0, false, NOW);
    wv_relays_begin(relays);
    put("a", "us", false); /* moved; what it said still counts */
    put("c", "eu", false);
    wv_relays_end(relays);
    ck_assert_ptr_null(wv_relays_find(relays, "b"));
    ck_assert_str_eq(chosen("us", 0, NOW), "a");
    ck_assert_ptr_nonnull(wv_relays_find(relays, "c"));
    struct wv_relay_record other = {.id = "a", .region = "us", .key = {1}}; /* another relay of that name */
    wv_relays_begin(relays);
    ck_assert_int_eq(wv_relays_put(relays, &other), 0);
    wv_relays_end(relays);
    ck_assert_ptr_null(chosen("us", 0, NOW));
    ck_assert_ptr_null(wv_relays_find(relays, "c"));
    for (unsigned i = 0; i < WV_RELAYS_MAX; i++) {
        snprintf(other.id, sizeof other.id, "r%u", i);
        ck_assert_int_eq(wv_relays_put(relays, &other), i + 1 < WV_RELAYS_MAX ? 0 : -ENOBUFS);
    }
}
END_TEST

START_TEST(leases_are_issued_and_renewed)
{
    static const uint8_t seed[32] = {4}, other_seed[32] = {5};
    struct wv_leases l, stranger;
    struct wv_lease_order order = {.relay = "relay.test", .host_key = {1}, .client_key = {2}}, other = order;
    char text[RIFT_LEASE_TEXT_BYTES], again[RIFT_LEASE_TEXT_BYTES];
    uint8_t bytes[RIFT_LEASE_BYTES], relay[RIFT_RELAY_ID_BYTES], id[RIFT_LEASE_ID_BYTES];
    struct rift_lease lease;
    uint64_t expires;
    wv_leases_init(&l, seed, 9000, 600);
    wv_leases_init(&stranger, other_seed, 9000, 600);
    ck_assert_int_eq(wv_leases_issue(&l, &order, UNIX_S, text, &expires), 0);
    ck_assert_uint_eq(expires, UNIX_S + 600);
    ck_assert_int_eq(rift_lease_parse_text(text, bytes), 0);
    ck_assert_int_eq(rift_lease_parse(bytes, sizeof bytes, &lease), 0);
    rift_relay_id("relay.test", relay);
    ck_assert(rift_lease_is_signed(bytes, l.key));
    ck_assert(!rift_lease_is_signed(bytes, stranger.key));
    ck_assert_int_eq(rift_lease_check(&lease, relay, UNIX_S, 0, 600), RIFT_LEASE_VALID);
    ck_assert_uint_eq(lease.rate_kbps, 9000);
    memcpy(id, lease.id, sizeof id);

    ck_assert_int_eq(wv_leases_renew(&l, text, &order, UNIX_S + 300, again, &expires), 0);
    ck_assert_uint_eq(expires, UNIX_S + 900);
    ck_assert_int_eq(rift_lease_parse_text(again, bytes), 0);
    ck_assert_int_eq(rift_lease_parse(bytes, sizeof bytes, &lease), 0);
    ck_assert_mem_eq(lease.id, id, sizeof id);
    ck_assert_int_eq(wv_leases_renew(&l, text, &order, UNIX_S + 600, again, &expires), -ETIME);
    ck_assert_int_eq(wv_leases_renew(&stranger, text, &order, UNIX_S, again, &expires), -EPERM);
    other.relay = "another.test";
    ck_assert_int_eq(wv_leases_renew(&l, text, &other, UNIX_S, again, &expires), -EPERM);
    other = order;
    other.client_key[31] = 1;
    ck_assert_int_eq(wv_leases_renew(&l, text, &other, UNIX_S, again, &expires), -EPERM);
    ck_assert_int_eq(wv_leases_renew(&l, "wavry-lease1.x", &order, UNIX_S, again, &expires), -EINVAL);
    other = order;
    memcpy(other.client_key, other.host_key, sizeof other.client_key);
    ck_assert_int_eq(wv_leases_issue(&l, &other, UNIX_S, text, &expires), -EINVAL);
}
END_TEST

static void count(void *userdata, const struct wv_session_report *report)
{
    *(size_t *)userdata += report->n;
}

static size_t counted(const struct wv_sessions *s, const char *account)
{
    size_t n = 0;
    wv_sessions_each(s, account, count, &n);
    return n;
}

START_TEST(sessions_are_what_hosts_said_last)
{
    struct wv_sessions *s;
    struct wv_session_report r = {.account = "ann", .name = "tower", .n = 2};
    ck_assert_int_eq(wv_sessions_new(&s, 3), 0);
    for (uint8_t i = 5; i > 2; i--) {
        r.host[0] = i;
        ck_assert_int_eq(wv_sessions_report(s, &r, NOW), 0);
    }
    r.host[0] = 9;
    ck_assert_int_eq(wv_sessions_report(s, &r, NOW), -ENOBUFS);
    ck_assert_uint_eq(wv_sessions_count(s), 6);
    ck_assert_uint_eq(counted(s, "ann"), 6);
    ck_assert_uint_eq(counted(s, "bob"), 0);
    r.host[0] = 4;
    r.n = WV_SESSIONS_PER_HOST;
    ck_assert_int_eq(wv_sessions_report(s, &r, NOW + 10 * WV_NS_PER_S), 0);
    ck_assert_uint_eq(wv_sessions_count(s), 4 + WV_SESSIONS_PER_HOST);
    wv_sessions_tick(s, NOW + WV_SESSIONS_SILENCE_S * WV_NS_PER_S - 1);
    ck_assert_uint_eq(wv_sessions_count(s), 4 + WV_SESSIONS_PER_HOST);
    wv_sessions_tick(s, NOW + WV_SESSIONS_SILENCE_S * WV_NS_PER_S);
    ck_assert_uint_eq(counted(s, NULL), WV_SESSIONS_PER_HOST);
    r.n = 0;
    ck_assert_int_eq(wv_sessions_report(s, &r, NOW), 0);
    ck_assert_uint_eq(wv_sessions_count(s), 0);
    r.n = 1;
    ck_assert_int_eq(wv_sessions_report(s, &r, NOW), 0);
    wv_sessions_forget(s, r.host);
    ck_assert_uint_eq(wv_sessions_count(s), 0);
    wv_sessions_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gateway_relays");
    TCase *t = tcase_create("relays");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, only_those_that_can_serve);
    tcase_add_test(t, who_carries_less_is_chosen_more);
    tcase_add_test(t, heartbeats_that_do_not_count);
    tcase_add_test(t, the_list_follows_the_database);
    tcase_add_test(t, leases_are_issued_and_renewed);
    tcase_add_test(t, sessions_are_what_hosts_said_last);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
