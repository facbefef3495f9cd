/* The relays of one way: a new one stands beside the one in use, which nothing takes away while it carries
 * the session. */
#include "rift/relay/pair.h"

#include "tests/unit/relay_kit.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

#define S  WV_NS_PER_S
#define MS WV_NS_PER_MS

static struct kit k;
static struct rift_relay_pair pair;

static void begin(void)
{
    kit_init(&k, 8);
    memset(&pair, 0, sizeof pair);
}

static void end(void)
{
    rift_relay_pair_fini(&pair);
    kit_fini(&k);
}

/* Takes lease ID while the session goes to USED; RET_NAME is that of the way. */
static void take(uint8_t id, const uint8_t *used, uint8_t ret_name[RIFT_ADDRESS_BYTES])
{
    uint8_t lease[RIFT_LEASE_BYTES],
        relay[RIFT_ADDRESS_BYTES] = {[10] = 0xff, [11] = 0xff, [15] = id, [17] = 1};
    struct rift_lease terms = kit_terms(&k, 0, 1, id);
    kit_sign(&k, &terms, lease);
    ck_assert_int_eq(rift_relay_pair_take(&pair, NULL, lease, relay, k.peers[0].secret, used, k.clock.now),
                     0);
    rift_punch_relayed_address(terms.id, ret_name);
}

/* The relay and PLACE's client do what is due. */
static void bind_place(struct rift_relay_place *place)
{
    k.peers[0].client = place->client;
    kit_run(&k, 50 * MS);
    ck_assert_int_eq(kit_status(&k, 0).state, RIFT_RELAY_CLIENT_BOUND);
    k.peers[0].client = NULL;
}

static bool has(const uint8_t name[RIFT_ADDRESS_BYTES])
{
    return rift_relay_pair_find(&pair, name) != NULL;
}

START_TEST(what_carries_the_session_makes_no_room)
{
    uint8_t one[RIFT_ADDRESS_BYTES], two[RIFT_ADDRESS_BYTES], three[RIFT_ADDRESS_BYTES];
    take(1, NULL, one);
    take(2, one, two);
    ck_assert(has(one) && has(two));
    take(3, one, three);
    ck_assert(has(one) && !has(two) && has(three));
    ck_assert_mem_eq(pair.newest.name, three, sizeof three);
}
END_TEST

START_TEST(the_older_one_makes_room_when_it_carries_nothing)
{
    uint8_t one[RIFT_ADDRESS_BYTES], two[RIFT_ADDRESS_BYTES], three[RIFT_ADDRESS_BYTES];
    take(1, NULL, one);
    take(2, NULL, two);
    take(3, two, three);
    ck_assert(!has(one) && has(two) && has(three));
}
END_TEST

START_TEST(the_same_lease_again_changes_nothing)
{
    uint8_t name[RIFT_ADDRESS_BYTES];
    take(1, NULL, name);
    struct rift_relay_client *client = pair.newest.client;
    take(1, name, name);
    ck_assert_ptr_eq(pair.newest.client, client);
    ck_assert_ptr_null(rift_relay_pair_at(&pair, 1));
}
END_TEST

START_TEST(a_lease_of_others_changes_nothing)
{
    uint8_t name[RIFT_ADDRESS_BYTES], lease[RIFT_LEASE_BYTES], relay[RIFT_ADDRESS_BYTES] = {[15] = 9};
    struct rift_lease terms = kit_terms(&k, 2, 3, 2);
    take(1, NULL, name);
    kit_sign(&k, &terms, lease);
    ck_assert_int_lt(rift_relay_pair_take(&pair, NULL, lease, relay, k.peers[0].secret, name, k.clock.now),
                     0);
    ck_assert(has(name));
    ck_assert_ptr_null(rift_relay_pair_at(&pair, 1));
}
END_TEST

START_TEST(the_old_one_goes_some_seconds_after_the_session_has_left_it)
{
    uint8_t one[RIFT_ADDRESS_BYTES], two[RIFT_ADDRESS_BYTES];
    take(1, NULL, one);
    bind_place(&pair.newest);
    take(2, one, two);
    for (int i = 0; i < 10; i++) /* the new one does not work yet */
        ck_assert(!rift_relay_pair_tidy(&pair, NULL, two, k.clock.now + (uint64_t)i * S));
    bind_place(&pair.newest);
    uint64_t now = k.clock.now + 20 * S;
    ck_assert(!rift_relay_pair_tidy(&pair, NULL, one, now)); /* in use */
    ck_assert(!rift_relay_pair_tidy(&pair, NULL, two, now + 2 * S));
    ck_assert(has(one));
    ck_assert_uint_le(rift_relay_pair_timeout(&pair), now + 3 * S);
    ck_assert(rift_relay_pair_tidy(&pair, NULL, two, now + 3 * S));
    ck_assert(!has(one) && has(two));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relays of a way");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, what_carries_the_session_makes_no_room);
    tcase_add_test(c, the_older_one_makes_room_when_it_carries_nothing);
    tcase_add_test(c, the_same_lease_again_changes_nothing);
    tcase_add_test(c, a_lease_of_others_changes_nothing);
    tcase_add_test(c, the_old_one_goes_some_seconds_after_the_session_has_left_it);
    suite_add_tcase(suite, c);
    return wv_run_suite(suite);
}
