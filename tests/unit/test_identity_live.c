/* The table of live sessions on virtual time: who sees, who controls, when the media key changes, and what a
 * process finds that its predecessor left. */
#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "services/identity/live.h"
#include "services/identity/live_page.h"
#include "tests/unit/suite.h"

#include <sodium.h>
#include <string.h>
#include <sys/mman.h>

static struct wv_live live;
static uint64_t now;

static void setup(void)
{
    ck_assert_int_ge(sodium_init(), 0);
    wv_live_init(&live);
    now = 1000 * WV_NS_PER_S;
    wv_live_rekey(&live, now);
}

/* A client with key SEED. */
static int try_add(uint8_t seed, uint32_t grants, bool view_only, bool pairing, struct wv_live_session **ret)
{
    uint8_t key[32], base[32], hash[64];
    memset(key, seed, sizeof key);
    randombytes_buf(base, sizeof base);
    memset(hash, seed, sizeof hash);
    const struct wv_live_new n = {.peer_key = key,
                                  .inner_base = base,
                                  .hash = hash,
                                  .name = "n",
                                  .device = "d",
                                  .grants = grants,
                                  .view_only = view_only,
                                  .pairing = pairing};
    return wv_live_add(&live, &n, now, ret);
}

static struct wv_live_session *add(uint8_t seed, uint32_t grants, bool view_only)
{
    struct wv_live_session *s;
    ck_assert_int_eq(try_add(seed, grants, view_only, false, &s), 0);
    return s;
}

static void assert_controls(const struct wv_live_session *s)
{
    ck_assert_uint_eq(wv_live_settle(&live), s ? s->number : 0);
}

START_TEST(the_oldest_with_the_grant_controls)
{
    struct wv_live_session *watcher = add(1, WV_GRANT_VIEW, false);
    assert_controls(NULL);
    struct wv_live_session *modest = add(2, WV_GRANTS_USUAL, true);
    assert_controls(NULL);
    struct wv_live_session *first = add(3, WV_GRANTS_USUAL, false);
    struct wv_live_session *second = add(4, WV_GRANTS_USUAL, false);
    assert_controls(first);
    ck_assert(wv_live_sees(watcher) && wv_live_sees(modest) && wv_live_sees(second));
    wv_live_remove(&live, first);
    assert_controls(second);
    wv_live_grant(&live, second, WV_GRANT_VIEW, 0, "n");
    assert_controls(NULL);
    wv_live_grant(&live, watcher, WV_GRANTS_USUAL, 0, "n");
    assert_controls(watcher);
    ck_assert_int_eq(wv_live_take(&live, modest, false), WV_LIVE_REFUSED);
    assert_controls(watcher);
}
END_TEST

START_TEST(control_is_taken_given_up_and_given)
{
    struct wv_live_session *a = add(1, WV_GRANTS_USUAL, false), *b = add(2, WV_GRANTS_USUAL, false);
    struct wv_live_session *watcher = add(3, WV_GRANT_VIEW, false);
    ck_assert_int_eq(wv_live_take(&live, watcher, false), WV_LIVE_REFUSED);
    assert_controls(a);
    ck_assert_int_eq(wv_live_take(&live, b, false), 0);
    assert_controls(b);
    /* Who gives it up does not get it back because nobody else wants it. */
    ck_assert_int_eq(wv_live_take(&live, b, true), 0);
    assert_controls(a);
    ck_assert_int_eq(wv_live_take(&live, a, true), 0);
    assert_controls(NULL);
    struct wv_live_session *c = add(4, WV_GRANTS_USUAL, false);
    assert_controls(c);
    ck_assert_int_eq(wv_live_control(&live, 0), 0);
    assert_controls(NULL);
    ck_assert_int_eq(wv_live_control(&live, a->number), 0);
    assert_controls(a);
    ck_assert_int_eq(wv_live_control(&live, watcher->number), WV_LIVE_REFUSED);
    ck_assert_int_eq(wv_live_control(&live, live.last_number + 1), WV_LIVE_NONE);
    assert_controls(a);
}
END_TEST

START_TEST(who_connects_anew_goes_on)
{
    struct wv_live_session *a = add(1, WV_GRANTS_USUAL, false), *b = add(2, WV_GRANTS_USUAL, false);
    assert_controls(a);
    uint32_t before = a->number;
    live.key_due = 0;
    struct wv_live_session *again = add(1, WV_GRANTS_USUAL, false);
    ck_assert_ptr_null(wv_live_find(&live, before));
    ck_assert_uint_eq(wv_live_count(&live), 2);
    ck_assert_uint_gt(again->number, b->number);
    assert_controls(again);
    ck_assert_uint_eq(live.key_due, 0); /* the same person */
    /* As one that only watches: the other one's turn. */
    add(1, WV_GRANTS_USUAL, true);
    assert_controls(b);
}
END_TEST

START_TEST(the_media_key_changes_when_somebody_who_saw_goes)
{
    struct wv_live_session *a = add(1, WV_GRANTS_USUAL, false), *b = add(2, WV_GRANT_VIEW, false);
    struct wv_live_session *blind = add(3, WV_GRANT_INPUT, false), *pairing;
    ck_assert_int_eq(try_add(4, WV_GRANTS_ALL, false, true, &pairing), 0);
    ck_assert(!wv_live_sees(blind) && !wv_live_sees(pairing) && !wv_live_may_control(pairing));
    ck_assert_uint_eq(pairing->grants, 0);
    wv_live_grant(&live, pairing, WV_GRANTS_ALL, 0, "n");
    ck_assert_uint_eq(pairing->grants, 0);
    ck_assert_uint_eq(live.key_due, 0);
    wv_live_remove(&live, blind);
    wv_live_remove(&live, pairing);
    ck_assert_uint_eq(live.key_due, 0);
    wv_live_grant(&live, b, WV_GRANT_VIEW | WV_GRANT_AUDIO, 5, "n");
    ck_assert_uint_eq(live.key_due, 0);
    wv_live_grant(&live, b, WV_GRANT_AUDIO, 5, "n");
    ck_assert_uint_eq(live.key_due, 1);
    uint8_t old[32];
    uint32_t kid = live.kid;
    memcpy(old, live.media_key, 32);
    wv_live_rekey(&live, now);
    ck_assert_uint_eq(live.kid, kid + 1);
    ck_assert_uint_eq(live.key_due, 0);
    ck_assert_mem_ne(old, live.media_key, 32);
    wv_live_remove(&live, a);
    ck_assert_uint_eq(live.key_due, 1);
    static const struct wv_live_session none;
    ck_assert_mem_eq(a, &none, sizeof none); /* no key of it is left */
}
END_TEST

START_TEST(numbers_rise_and_differ)
{
    uint32_t last = live.last_number;
    ck_assert_uint_ne(last, 0);
    for (unsigned i = 0; i < 1000; i++) {
        struct wv_live_session *s = add((uint8_t)(i % 7), WV_GRANTS_USUAL, false);
        ck_assert_uint_gt(s->number, last);
        last = s->number;
        if (i % 5 == 0)
            wv_live_remove(&live, s);
    }
    struct wv_live other;
    wv_live_init(&other);
    ck_assert_uint_ne(other.last_number, live.last_number); /* one in 2^30 */
}
END_TEST

START_TEST(the_table_is_bounded)
{
    struct wv_live_session *s;
    for (unsigned i = 0; i < WV_LIVE_MAX; i++)
        add((uint8_t)i, WV_GRANTS_USUAL, false);
    ck_assert_int_eq(try_add(200, WV_GRANTS_USUAL, false, false, &s), WV_LIVE_FULL);
    ck_assert_int_eq(try_add(3, WV_GRANTS_USUAL, false, false, &s), 0); /* takes its own place */
    ck_assert_uint_eq(wv_live_count(&live), WV_LIVE_MAX);
    wv_live_init(&live);
    for (uint8_t i = 1; i <= WV_LIVE_PAIRING_MAX; i++)
        ck_assert_int_eq(try_add(i, 0, false, true, &s), 0);
    ck_assert_int_eq(try_add(WV_LIVE_PAIRING_MAX + 1, 0, false, true, &s), WV_LIVE_FULL);
    ck_assert_int_eq(try_add(2, 0, false, true, &s), 0);
    ck_assert_uint_eq(wv_live_pairing(&live), WV_LIVE_PAIRING_MAX);
    for (unsigned i = WV_LIVE_PAIRING_MAX + 1; i <= WV_LIVE_MAX; i++)
        add((uint8_t)i, WV_GRANTS_USUAL, false); /* all other places are for those who are known */
    ck_assert_uint_eq(wv_live_pairing(&live), WV_LIVE_PAIRING_MAX);
}
END_TEST

/* One list of transport that names only those given. */
static bool list_has_ended(struct wv_live_session *s, bool named)
{
    if (!named)
        return wv_live_missing(s, now);
    ck_assert_int_eq(wv_live_seen(&live, s->number, s->peer_key), 0);
    return false;
}

START_TEST(a_session_that_transport_does_not_name_has_ended)
{
    struct wv_live_session *s = add(1, WV_GRANTS_USUAL, false);
    /* Not yet there: transport is still answering the client. */
    for (unsigned i = 0; i < 29; i++, now += WV_NS_PER_S / 10)
        ck_assert(!list_has_ended(s, false));
    ck_assert(!list_has_ended(s, true));
    /* Transport says nothing for an hour: its end, not the sessions'. */
    now += 3600 * WV_NS_PER_S;
    ck_assert(!list_has_ended(s, false)); /* a first list without it may be a slip */
    ck_assert(!list_has_ended(s, true));
    ck_assert(!list_has_ended(s, false));
    now += WV_LIVE_MISSING_NS;
    ck_assert(list_has_ended(s, false));
    s = add(2, WV_GRANTS_USUAL, false);
    ck_assert(!list_has_ended(s, false));
    now += WV_LIVE_ARRIVES_NS;
    ck_assert(list_has_ended(s, false)); /* it never came */
}
END_TEST

START_TEST(transport_names_only_what_is_true)
{
    struct wv_live_session *s = add(1, WV_GRANTS_USUAL, false);
    uint8_t other[32] = {9};
    ck_assert_int_eq(wv_live_seen(&live, s->number, other), WV_LIVE_NONE);
    ck_assert_int_eq(wv_live_seen(&live, s->number + 1, s->peer_key), WV_LIVE_NONE);
    ck_assert_int_eq(wv_live_seen(&live, 0, s->peer_key), WV_LIVE_NONE);
    ck_assert_uint_eq(s->listed, 0);
}
END_TEST

START_TEST(grants_end_at_their_second)
{
    struct wv_live_session *s = add(1, WV_GRANTS_USUAL, false), *pairing;
    ck_assert(!wv_live_is_over(s, now, UINT64_MAX));
    wv_live_grant(&live, s, WV_GRANTS_USUAL, 1000, "n");
    ck_assert(!wv_live_is_over(s, now, 999));
    ck_assert(wv_live_is_over(s, now, 1000));
    ck_assert_int_eq(try_add(4, 0, false, true, &pairing), 0);
    ck_assert(!wv_live_is_over(pairing, now + WV_LIVE_PAIRING_NS - 1, 1000));
    ck_assert(wv_live_is_over(pairing, now + WV_LIVE_PAIRING_NS, 1000));
}
END_TEST

/* ---- what a predecessor left ---- */

START_TEST(a_successor_goes_on)
{
    int fd;
    bool taken = true;
    struct wv_live *first, *second;
    ck_assert_int_eq(wv_memfd_create("test", WV_LIVE_PAGE_BYTES, &fd), 0);
    ck_assert_int_eq(wv_live_page_map(&first, fd, now, &taken), 0);
    ck_assert(!taken);
    wv_live_rekey(first, now);
    live = *first;
    struct wv_live_session *a = add(1, WV_GRANTS_USUAL, false), *b = add(2, WV_GRANTS_USUAL, false);
    ck_assert_int_eq(wv_live_take(&live, b, false), 0);
    uint8_t sealed[64];
    size_t len;
    ck_assert_int_eq(rift_inner_seal(&a->inner, (const uint8_t *)"x", 1, sealed, sizeof sealed, &len), 0);
    *first = live;
    /* The process is killed: nothing is unmapped or said. */
    now += 10 * WV_NS_PER_S;
    ck_assert_int_eq(wv_live_page_map(&second, fd, now, &taken), 0);
    ck_assert(taken);
    ck_assert_mem_eq(second, &live, sizeof live);
    ck_assert_uint_eq(second->controller, b->number);
    ck_assert_uint_eq(second->sessions[0].inner.next_send, a->inner.next_send); /* no number twice */
    ck_assert_uint_eq(second->key_due, 0);
    wv_live_page_unmap(first);
    wv_live_page_unmap(second);
    /* A key that the encoder may not have got is replaced. */
    live.keyed_ns = now - WV_NS_PER_S;
    ck_assert(wv_live_adopt(&live, now));
    ck_assert_uint_eq(live.key_due, 1);
    close(fd);
}
END_TEST

static void spoil(void *userdata, unsigned how)
{
    struct wv_live_session *s = userdata;
    switch (how) {
    case 0:
        s->number = live.last_number + 1;
        break;
    case 1:
        s->grants = WV_GRANTS_ALL + 1;
        break;
    case 2:
        s->view_only = 2;
        break;
    case 3:
        s->pairing = 1; /* with grants */
        break;
    case 4:
        s->since_ns = now + 1;
        break;
    case 5:
        s->missing_ns = now + 1;
        break;
    case 6:
        s->expires = WV_EXPIRY_MAX + 1;
        break;
    case 7:
        memset(s->name, 'x', sizeof s->name);
        break;
    case 8:
        strcpy(s->device, "\033[2J");
        break;
    case 9:
        s->number = live.sessions[0].number; /* two of one number */
        break;
    default:
        s->released = 7;
        break;
    }
}

START_TEST(what_can_not_be_a_session_is_wiped)
{
    for (unsigned how = 0; how <= 10; how++) {
        wv_live_init(&live);
        struct wv_live_session *good = add(1, WV_GRANTS_USUAL, false), *bad = add(2, WV_GRANTS_USUAL, false);
        uint32_t number = good->number;
        spoil(bad, how);
        live.controller = bad->number;
        ck_assert(wv_live_adopt(&live, now));
        ck_assert_msg(wv_live_count(&live) == 1, "fault %u", how);
        ck_assert_ptr_eq(wv_live_find(&live, number), good);
        assert_controls(good);
    }
}
END_TEST

START_TEST(a_page_of_something_else_is_not_taken)
{
    struct wv_live copy;
    live.magic ^= 1;
    copy = live;
    ck_assert(!wv_live_adopt(&live, now));
    ck_assert_mem_eq(&copy, &live, sizeof live);
    live.magic ^= 1;
    live.last_number = 0;
    ck_assert(!wv_live_adopt(&live, now));
    live.last_number = 1;
    live.keyed_ns = now + 1;
    ck_assert(!wv_live_adopt(&live, now));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("identity: live sessions");
    TCase *c = tcase_create("live");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, the_oldest_with_the_grant_controls);
    tcase_add_test(c, control_is_taken_given_up_and_given);
    tcase_add_test(c, who_connects_anew_goes_on);
    tcase_add_test(c, the_media_key_changes_when_somebody_who_saw_goes);
    tcase_add_test(c, numbers_rise_and_differ);
    tcase_add_test(c, the_table_is_bounded);
    tcase_add_test(c, a_session_that_transport_does_not_name_has_ended);
    tcase_add_test(c, transport_names_only_what_is_true);
    tcase_add_test(c, grants_end_at_their_second);
    tcase_add_test(c, a_successor_goes_on);
    tcase_add_test(c, what_can_not_be_a_session_is_wiped);
    tcase_add_test(c, a_page_of_something_else_is_not_taken);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
