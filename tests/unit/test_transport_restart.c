/* The end of a transport and its successor: sessions, input and keys over a restart, and stores that are
 * spoilt. */
#include "lib/base/util.h"
#include "tests/unit/transport_waits.h"

#include <linux/input-event-codes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* ---- the transport's own end ---- */

/* Events that are not acknowledged soon come again: their number says which were seen, not how many came. */
static bool has_seq(struct kit *k, void *argument)
{
    return k->n_events && k->events[k->n_events - 1].seq >= *(uint32_t *)argument;
}

static void wait_seq(uint32_t seq)
{
    kit_until(&kit, has_seq, &seq);
}

static bool has_events(struct kit *k, void *argument)
{
    return k->n_events >= *(unsigned *)argument;
}

static void wait_events(unsigned n)
{
    kit_until(&kit, has_events, &n);
}

/* One controlling client and one that looks on, both with a picture. */
static void two_clients(struct kit_client *first, struct kit_client *second)
{
    connect_controller(first, 1);
    connect_client(second, 2, true);
    kit_push(&kit, true, 1, 40000, 0);
    kit_until(&kit, has_frames, first);
    kit_until(&kit, has_frames, second);
}

/* As long as a process lives until it counts as one that the vault did not kill; and a picture after that,
 * for it notes its age when it does something, which on a busy machine may be much later than it was due. */
static void live_on(struct kit_client *first, struct kit_client *second)
{
    kit_run(&kit, WV_SESSION_VAULT_SETTLED_NS / WV_NS_PER_MS);
    first->n_frames = second->n_frames = 0;
    kit_push(&kit, true, 3, 1000, 0);
    kit_until(&kit, has_frames, first);
    kit_until(&kit, has_frames, second);
}

START_TEST(sessions_outlive_the_transport)
{
    static struct kit_client first, second;
    struct wv_session_record record;
    two_clients(&first, &second);
    kit_client_key(&first, KEY_A, true);
    wait_events(1);
    uint32_t number = kit.events[0].session;
    for (unsigned round = 0; round < 5; round++) {
        kit_transport_kill(&kit);
        kit.n_events = kit.n_releases = kit.keyframe_requests = 0;
        first.n_frames = second.n_frames = 0;
        kit_client_key(&first, KEY_B, round % 2 == 0); /* into the socket of nobody */
        kit_run(&kit, 20);
        kit_transport_start(&kit);
        ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 2 * (round + 1));
        wait_seq(round + 2);
        ck_assert_uint_eq(kit.events[0].session, number);
        ck_assert_uint_eq(kit.events[kit.n_events - 1].code, KEY_B);
        ck_assert_uint_eq(kit.events[kit.n_events - 1].seq, round + 2);
        ck_assert_uint_eq(kit.n_releases, 0);
        kit_push(&kit, true, 2, 40000, 0);
        kit_until(&kit, has_frames, &first);
        kit_until(&kit, has_frames, &second);
        ck_assert(first.controls);
        ck_assert(!first.closed);
        ck_assert(!second.closed);
        live_on(&first, &second);
    }
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_STARTED), 2);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_VAULT_BAD), 0);
    wait_page(2);
    ck_assert_int_eq(wv_session_page_get(kit.page, 0, &record), 0);
    ck_assert_str_eq(record.name, "somebody");
}
END_TEST

START_TEST(events_that_were_not_done_are_handed_over)
{
    static struct kit_client c;
    connect_controller(&c, 1);
    kit.acknowledges = false;
    for (unsigned i = 0; i < 3; i++) {
        kit_client_key(&c, (uint16_t)(KEY_A + i), true);
        wait_seq(i + 1);
    }
    kit_run(&kit, 10);
    kit_transport_kill(&kit);
    kit.n_events = 0;
    kit.acknowledges = true;
    kit_transport_start(&kit);
    wait_events(3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(kit.events[i].seq, i + 1);
        ck_assert_uint_eq(kit.events[i].code, KEY_A + i);
    }
}
END_TEST

START_TEST(a_key_revoked_meanwhile_is_out)
{
    static struct kit_client c;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    connect_client(&c, 1, false);
    kit_transport_kill(&kit);
    rift_public_key_format(c.identity.public, key);
    kit_request(&kit, "revoke", key, NULL, 0);
    kit_run(&kit, 20);
    kit_transport_start(&kit);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 1);
    kit_until(&kit, client_is_closed, &c);
    ck_assert_int_eq(c.reason, RIFT_CLOSE_UNAUTHORIZED); /* identity does not know it any more */
}
END_TEST

START_TEST(a_damaged_vault_is_a_clean_start)
{
    static struct kit_client first, second;
    two_clients(&first, &second);
    kit_transport_kill(&kit);
    uint8_t *memory = mmap(NULL, WV_SESSION_VAULT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, kit.vault_fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    /* Both copies of the first slot: the older one must not stand in. */
    memory[WV_SESSION_VAULT_HEAD_BYTES + 200] ^= 1;
    memory[WV_SESSION_VAULT_HEAD_BYTES + WV_SESSION_VAULT_COPY_BYTES + 200] ^= 1;
    munmap(memory, WV_SESSION_VAULT_BYTES);
    kit_transport_start(&kit);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 1);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_VAULT_BAD), 1);
    kit_until(&kit, has_release, NULL); /* whoever controlled is unknown now */
    second.n_frames = 0;
    kit_push(&kit, true, 2, 1000, 0);
    kit_until(&kit, has_frames, &second);
    first.n_frames = 0;
    kit_run(&kit, 50);
    ck_assert_uint_eq(first.n_frames, 0);
}
END_TEST

START_TEST(a_vault_that_kills_is_wiped)
{
    static struct kit_client first, second;
    two_clients(&first, &second);
    live_on(&first, &second);
    for (unsigned i = 0; i < 2; i++) {
        kit_transport_kill(&kit);
        kit_transport_start(&kit); /* and lives for no time at all */
        ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 2 * (i + 1));
    }
    kit_transport_kill(&kit);
    kit_transport_start(&kit);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_RESTORED), 4);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_VAULT_BAD), 1);
}
END_TEST

START_TEST(an_ended_session_leaves_nothing_behind)
{
    static struct kit_client c;
    static const uint8_t zero[4096];
    connect_controller(&c, 1);
    kit_client_key(&c, KEY_A, true);
    wait_events(1);
    rift_session_close(c.session, RIFT_CLOSE_NORMAL, "", wv_now_ns());
    wait_viewers(0);
    uint8_t *memory = mmap(NULL, WV_SESSION_VAULT_BYTES, PROT_READ, MAP_SHARED, kit.vault_fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    for (size_t at = WV_SESSION_VAULT_HEAD_BYTES; at < WV_SESSION_VAULT_BYTES; at += sizeof zero)
        ck_assert_mem_eq(memory + at, zero, sizeof zero);
    munmap(memory, WV_SESSION_VAULT_BYTES);
}
END_TEST

START_TEST(a_restart_hands_over_without_a_word)
{
    static struct kit_client c;
    connect_client(&c, 1, false);
    wv_transport_hand_over(kit.transport);
    kit_until(&kit, is_drained, NULL);
    kit_transport_kill(&kit);
    kit_transport_start(&kit);
    kit_push(&kit, true, 1, 1000, 0);
    kit_until(&kit, has_frames, &c);
    ck_assert(!c.closed);
    ck_assert_uint_eq(kit_metric(&kit, WV_T_SESSIONS_STARTED), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transport restarts");
    TCase *c = tcase_create("stage");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, sessions_outlive_the_transport);
    tcase_add_test(c, events_that_were_not_done_are_handed_over);
    tcase_add_test(c, a_key_revoked_meanwhile_is_out);
    tcase_add_test(c, a_damaged_vault_is_a_clean_start);
    tcase_add_test(c, a_vault_that_kills_is_wiped);
    tcase_add_test(c, an_ended_session_leaves_nothing_behind);
    tcase_add_test(c, a_restart_hands_over_without_a_word);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
