/* When video leaves: what the pacer delays, what it does not, and what a late timer costs. On virtual time.
 */
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

START_TEST(the_pacer_delays_video_and_nothing_else)
{
    /* 1200 bytes take 1 ms; a datagram may leave 130 us early, and the timer is set for 40 us early. */
    const uint64_t early = 130000, lead = 40000;
    struct pair p = pair_new_with(9600000, 2400);
    pair_run(&p, 20 * MS);
    uint64_t began = p.now;
    pair_send_frame(&p, 0, 0, true, 1152 * 4 - 24); /* four full datagrams */
    uint8_t d[RIFT_MTU_BYTES];
    size_t len;
    for (unsigned i = 0; i < 3; i++) {
        if (i > 1) {
            /* Two made the burst; from then on each waits until the one before it would have left. */
            ck_assert_uint_eq(rift_session_timeout(p.host), began + (i - 1) * MS - lead);
            p.now = began + (i - 1) * MS - early - 1;
            ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), RIFT_SESSION_IDLE);
            p.now++;
        }
        ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
        ck_assert_uint_eq(len, RIFT_MTU_BYTES);
    }
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), RIFT_SESSION_IDLE);
    rift_session_send_control(p.host, (const uint8_t *)"now", 3, p.now);
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), RIFT_SESSION_IDLE);
    rift_session_set_pacing(p.host, 0, 0);
    ck_assert_int_eq(rift_session_send(p.host, d, sizeof d, p.now, &len), 0);
    ck_assert_uint_eq(len, RIFT_MTU_BYTES);
    pair_free(&p);
}
END_TEST

/* A stream of datagrams every 20 us, asked 30 us late each time: it keeps its rate, no datagram leaves more
 * than 130 us before its time, and the first of each batch says when it was to leave. */
START_TEST(late_timers_cost_the_pacer_nothing)
{
    struct pair p = pair_new_with(480000000, RIFT_MTU_BYTES);
    pair_run(&p, 20 * MS);
    uint64_t began = p.now, batches = 0, late = 0;
    const unsigned n = 1000;
    pair_send_frame(&p, 0, 0, true, (size_t)n * 1152 - 24);
    uint8_t d[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing out;
    for (unsigned sent = 0; sent < n;) {
        unsigned batch = 0;
        for (; rift_session_send_to(p.host, d, sizeof d, p.now, &out) == 0; batch++) {
            ck_assert_uint_le(began + (sent + batch) * 20000, p.now + 130000);
            ck_assert(batch == 0 || out.planned_ns == 0);
            if (sent && batch == 0) {
                ck_assert_uint_ne(out.planned_ns, 0);
                late += p.now > out.planned_ns ? p.now - out.planned_ns : 0;
            }
        }
        ck_assert_uint_gt(batch, 0);
        sent += batch;
        batches++;
        if (sent < n)
            p.now = rift_session_timeout(p.host) + 30000;
    }
    ck_assert_uint_le(p.now, began + n * 20000);
    ck_assert_uint_ge(n / batches, 3);
    ck_assert_uint_eq(late, 0);
    pair_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session pacing");
    TCase *t = tcase_create("pacing");
    suite_add_tcase(s, t);
    tcase_add_test(t, the_pacer_delays_video_and_nothing_else);
    tcase_add_test(t, late_timers_cost_the_pacer_nothing);
    return wv_run_suite(s);
}
