/* The cursor: where it shows last must be where it is, whatever was lost on the way. */
#include "rift/core/session_internal.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

/* Lets S speak into the void for LATER ns. */
static void unheard(struct pair *p, struct rift_session *s, uint64_t later)
{
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    for (uint64_t end = p->now + later; p->now < end; p->now += MS)
        while (rift_session_send(s, d, sizeof d, p->now, &len) == 0)
            ;
}

START_TEST(a_cursor_whose_repetitions_were_all_lost_comes_with_the_next_ping)
{
    struct pair p = pair_new();
    struct rift_event e;
    rift_session_send_cursor(p.host, &(struct rift_cursor){.x = 5, .y = 6, .visible = true, .shape_id = 9},
                             p.now);
    unheard(&p, p.host, 350 * MS); /* the change and its four repetitions */
    pair_run(&p, 1100 * MS);       /* at least one keepalive */
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CURSOR);
    ck_assert(e.cursor.x == 5 && e.cursor.y == 6 && e.cursor.visible && e.cursor.shape_id == 9);
    pair_run(&p, 3 * WV_NS_PER_S);
    pair_expect_no_event(p.client); /* later ones say nothing new */
    pair_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session cursor");
    TCase *t = tcase_create("session cursor");
    suite_add_tcase(s, t);
    tcase_add_test(t, a_cursor_whose_repetitions_were_all_lost_comes_with_the_next_ping);
    return wv_run_suite(s);
}
