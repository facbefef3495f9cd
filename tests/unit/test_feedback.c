/* The feedback report: what the writer says, the reader understands; foreign bytes are refused. */
#include "rift/core/feedback.h"

#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define S  WV_NS_PER_S
#define MS WV_NS_PER_MS
#define US WV_NS_PER_US

static struct rift_cc_arrival arrivals[RIFT_FEEDBACK_MAX_PACKETS];
static uint8_t buffer[RIFT_FEEDBACK_MAX_BYTES];

static struct rift_feedback_writer *writer(void)
{
    struct rift_feedback_writer *w = NULL;
    ck_assert_int_eq(rift_feedback_writer_new(&w, 60), 0);
    return w;
}

/* Takes the report that is due at NOW through the wire. */
static struct rift_cc_report report_at(struct rift_feedback_writer *w, uint64_t now, size_t *ret_len)
{
    struct rift_cc_report report = {0};
    size_t len = rift_feedback_write(w, buffer, sizeof(buffer), now);
    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(rift_feedback_read(buffer, len, arrivals, &report), 0);
    if (ret_len)
        *ret_len = len;
    return report;
}

static bool near(uint64_t a, uint64_t b, uint64_t tolerance)
{
    return (a > b ? a - b : b - a) <= tolerance;
}

START_TEST(train_comes_through_exactly_and_short)
{
    struct rift_feedback_writer *w = writer();
    for (uint64_t i = 0; i < 100; i++)
        rift_feedback_on_packet(w, 5000 + i, i == 99, false, 7 * S + i * 192 * US);
    uint64_t end = 7 * S + 99 * 192 * US;
    size_t len;
    struct rift_cc_report r = report_at(w, end + 300 * US, &len);
    ck_assert_uint_eq(r.n, 100);
    ck_assert_uint_le(len, 32);
    ck_assert_uint_eq(r.held_ns, 300 * US);
    for (uint64_t i = 0; i < 100; i++) {
        ck_assert_uint_eq(r.arrivals[i].seq, 5000 + i);
        ck_assert(near(r.arrivals[i].arrival_ns, 7 * S + i * 192 * US, 3 * US));
        ck_assert(r.arrivals[i].exact);
    }
    rift_feedback_writer_free(w);
}
END_TEST

START_TEST(losses_and_marks_are_told)
{
    struct rift_feedback_writer *w = writer();
    for (uint64_t i = 0; i < 40; i++)
        if (i != 7 && i != 8 && i != 30)
            rift_feedback_on_packet(w, i, i == 39, i >= 20 && i < 25, S + i * 333 * US);
    struct rift_cc_report r = report_at(w, S + 14 * MS, NULL);
    ck_assert_uint_eq(r.n, 37);
    unsigned marks = 0;
    for (size_t i = 0; i < r.n; i++) {
        ck_assert(r.arrivals[i].seq != 7 && r.arrivals[i].seq != 8 && r.arrivals[i].seq != 30);
        ck_assert(near(r.arrivals[i].arrival_ns, S + r.arrivals[i].seq * 333 * US, 3 * US));
        marks += r.arrivals[i].ce;
    }
    ck_assert_uint_eq(marks, 5);
    rift_feedback_writer_free(w);
}
END_TEST

START_TEST(late_packet_and_lost_report_are_made_up_for)
{
    struct rift_feedback_writer *w = writer();
    bool seen[60] = {false};
    for (uint64_t i = 0; i < 20; i++)
        if (i != 15)
            rift_feedback_on_packet(w, i, i == 19, false, S + i * 500 * US);
    ck_assert_uint_gt(rift_feedback_write(w, buffer, sizeof(buffer), S + 10 * MS), 0); /* lost on its way */
    rift_feedback_on_packet(w, 15, false, false, S + 12 * MS);                         /* late */
    for (uint64_t i = 20; i < 40; i++)
        rift_feedback_on_packet(w, i, i == 39, false, S + i * 500 * US + 8 * MS);
    struct rift_cc_report r = report_at(w, S + 40 * MS, NULL);
    for (size_t i = 0; i < r.n; i++)
        seen[r.arrivals[i].seq] = true;
    for (unsigned i = 0; i < 40; i++)
        ck_assert_msg(seen[i], "packet %u", i);
    rift_feedback_writer_free(w);
}
END_TEST

START_TEST(reports_keep_their_times)
{
    struct rift_feedback_writer *w = writer();
    ck_assert_uint_eq(rift_feedback_timeout(w), RIFT_CC_NEVER);
    ck_assert_uint_eq(rift_feedback_write(w, buffer, sizeof(buffer), S), 0);
    rift_feedback_on_packet(w, 0, false, false, S);
    ck_assert_uint_le(rift_feedback_timeout(w), S + 20 * MS);
    ck_assert_uint_eq(rift_feedback_write(w, buffer, sizeof(buffer), S + 1), 0);
    ck_assert_uint_gt(rift_feedback_write(w, buffer, sizeof(buffer), S + 20 * MS), 0);
    ck_assert_uint_eq(rift_feedback_timeout(w), RIFT_CC_NEVER);
    /* a clock that was set back holds nothing up */
    rift_feedback_on_packet(w, 1, false, false, S / 2);
    ck_assert_uint_le(rift_feedback_timeout(w), S / 2 + 20 * MS);
    ck_assert_uint_gt(rift_feedback_write(w, buffer, sizeof(buffer), S / 2 + 20 * MS), 0);
    rift_feedback_writer_free(w);
}
END_TEST

/* Wild arrivals, 60 frames a second, up to 139 packets each (80 Mbit/s), one in 50 lost. */
START_TEST(budget_holds_and_pairs_stay_exact)
{
    static const unsigned per_frame[] = {1, 17, 87, 139};
    struct rift_feedback_writer *w = writer();
    uint64_t now = S, seq = 0, bytes = 0, random = 12345, told = 0;
    unsigned exact = 0;
    for (unsigned frame = 0; frame < 600; frame++, now = S + frame * 16666667ull) {
        uint64_t t = now;
        for (unsigned i = 0; i < per_frame[_i]; i++, seq++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            t += i % 2 ? 100 * US : (random >> 33) % (25 * MS / per_frame[_i] / 2);
            if (random >> 40 & 63 || i == 0)
                rift_feedback_on_packet(w, seq, i + 1 == per_frame[_i], false, t);
        }
        if (rift_feedback_timeout(w) > now + 16 * MS)
            continue;
        size_t len = rift_feedback_write(w, buffer, sizeof(buffer), now + 16 * MS);
        bytes += len ? len + RIFT_FEEDBACK_HEADER_BYTES : 0;
        struct rift_cc_report r;
        if (len == 0)
            continue;
        ck_assert_int_eq(rift_feedback_read(buffer, len, arrivals, &r), 0);
        told = r.arrivals[r.n - 1].seq;
        for (size_t i = 1; i < r.n; i++)
            exact += r.arrivals[i].exact && r.arrivals[i].seq % per_frame[_i] % 2 == 1 &&
                     r.arrivals[i].seq == r.arrivals[i - 1].seq + 1 &&
                     near(r.arrivals[i].arrival_ns - r.arrivals[i - 1].arrival_ns, 100 * US, 3 * US);
    }
    ck_assert_uint_ge(told + 3 * per_frame[_i], seq);
    ck_assert_double_le((double)bytes * 8 / 10, 60000);
    if (per_frame[_i] > 1)
        ck_assert_uint_ge(exact, 600);
    rift_feedback_writer_free(w);
}
END_TEST

START_TEST(counters_near_their_end)
{
    struct rift_feedback_writer *w = writer();
    uint64_t first = UINT64_MAX - 50, end = UINT64_MAX - 60 * MS;
    for (uint64_t i = 0; i <= 50; i++)
        rift_feedback_on_packet(w, first + i, false, false, end + i * 100 * US);
    struct rift_cc_report r = report_at(w, end + 40 * MS, NULL);
    ck_assert_uint_eq(r.n, 50);
    ck_assert_uint_eq(r.arrivals[49].seq, UINT64_MAX - 1);
    for (uint64_t i = 0; i < 50; i++)
        rift_feedback_on_packet(w, i, true, false, end + 45 * MS);
    rift_feedback_write(w, buffer, sizeof(buffer), end + 59 * MS);
    rift_feedback_writer_free(w);
}
END_TEST

START_TEST(jumps_in_the_numbers_are_taken)
{
    struct rift_feedback_writer *w = writer();
    rift_feedback_on_packet(w, 10, false, false, S);
    rift_feedback_on_packet(w, 10 + (1ull << 40), true, false, S + MS);
    struct rift_cc_report r = report_at(w, S + 20 * MS, NULL);
    ck_assert_uint_eq(r.arrivals[r.n - 1].seq, 10 + (1ull << 40));
    rift_feedback_on_packet(w, 5, true, false, S + 21 * MS); /* far too old */
    ck_assert_uint_eq(rift_feedback_timeout(w), RIFT_CC_NEVER);
    rift_feedback_writer_free(w);
}
END_TEST

START_TEST(small_buffer_writes_nothing)
{
    struct rift_feedback_writer *w = writer();
    rift_feedback_on_packet(w, 10, true, false, S);
    ck_assert_uint_eq(rift_feedback_write(w, buffer, 8, S + 20 * MS), 0);
    rift_feedback_writer_free(w);
}
END_TEST

/* The example of the format's description, byte by byte. */
static const uint8_t example[] = {
    1,    2,                               /* version, number */
    0xe8, 3,    0,    0, 0,    0,    0, 0, /* base_seq 1000 */
    0x40, 0x42, 0x0f, 0, 0,    0,    0, 0, /* base_time 1000000 us */
    0x64,                                  /* held 100 us */
    0x18, 0xac, 0x02,                      /* 4 packets, length 150 us */
    0x17, 2,    0xc8, 1, 0x14, 0x78, 1, /* 3 more, bent, 2 lost, marked: gap 100, head 10, length 60, 1 CE */
};

START_TEST(example_is_read_as_described)
{
    static const uint64_t seq[] = {1000, 1001, 1002, 1003, 1006, 1007, 1008};
    static const uint64_t us[] = {0, 50, 100, 150, 250, 260, 320};
    struct rift_cc_report r;
    ck_assert_int_eq(rift_feedback_read(example, sizeof(example), arrivals, &r), 0);
    ck_assert_uint_eq(r.n, 7);
    ck_assert_uint_eq(r.held_ns, 100 * US);
    for (unsigned i = 0; i < 7; i++) {
        ck_assert_uint_eq(r.arrivals[i].seq, seq[i]);
        ck_assert_uint_eq(r.arrivals[i].arrival_ns, S + us[i] * US);
        ck_assert_int_eq(r.arrivals[i].ce, i == 4);
        ck_assert_int_eq(r.arrivals[i].exact, i != 6);
    }
}
END_TEST

START_TEST(malformed_reports_are_refused)
{
    struct rift_cc_report r;
    uint8_t bad[sizeof(example) + 12];
    for (size_t len = 0; len < sizeof(example); len++) /* 19 and 22: the header alone, the first run alone */
        ck_assert_int_eq(rift_feedback_read(example, len, arrivals, &r), len == 22 ? 0 : -EBADMSG);
    static const struct {
        size_t at;
        uint8_t value;
    } change[] = {
        {0, 2},     /* version */
        {19, 0x1a}, /* a loss before the first run */
        {23, 0},    /* no loss where one is announced */
        {28, 0},    /* no mark where one is announced */
        {28, 4},    /* more marks than packets */
        {22, 0x0f}, /* bent with two packets */
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(change); i++) {
        memcpy(bad, example, sizeof(example));
        bad[change[i].at] = change[i].value;
        ck_assert_msg(rift_feedback_read(bad, sizeof(example), arrivals, &r) == -EBADMSG, "change %zu", i);
    }
    memset(bad, 0xff, sizeof(bad)); /* a varint without end, a count without bound */
    memcpy(bad, example, 19);
    ck_assert_int_eq(rift_feedback_read(bad, sizeof(bad), arrivals, &r), -EBADMSG);
    memset(bad + 2, 0xff, 8); /* the last number there is, and then one more packet */
    bad[19] = 0x08;
    bad[20] = 0;
    ck_assert_int_eq(rift_feedback_read(bad, 21, arrivals, &r), -EBADMSG);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feedback");
    TCase *tc = tcase_create("feedback");
    tcase_add_test(tc, train_comes_through_exactly_and_short);
    tcase_add_test(tc, losses_and_marks_are_told);
    tcase_add_test(tc, late_packet_and_lost_report_are_made_up_for);
    tcase_add_test(tc, reports_keep_their_times);
    tcase_add_loop_test(tc, budget_holds_and_pairs_stay_exact, 0, 4);
    tcase_add_test(tc, counters_near_their_end);
    tcase_add_test(tc, jumps_in_the_numbers_are_taken);
    tcase_add_test(tc, small_buffer_writes_nothing);
    tcase_add_test(tc, example_is_read_as_described);
    tcase_add_test(tc, malformed_reports_are_refused);
    suite_add_tcase(suite, tc);
    return wv_run_suite(suite);
}
