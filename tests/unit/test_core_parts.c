/* The modules below a session, where a case can't be reached, or not be seen, through the session itself. */
#include "lib/base/util.h"
#include "rift/core/control.h"
#include "rift/core/input.h"
#include "rift/core/join.h"
#include "rift/core/pacer.h"
#include "rift/core/packet.h"
#include "rift/core/pool.h"
#include "rift/core/timing.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MS WV_NS_PER_MS

START_TEST(the_pacer_keeps_its_rate_over_long_times)
{
    struct rift_pacer p = {0};
    rift_pacer_set(&p, 12345678, 6000);
    uint64_t now = WV_NS_PER_S, bytes = 0;
    while (now < 101 * WV_NS_PER_S) {
        now = WV_MAX(now, rift_pacer_release(&p));
        rift_pacer_charge(&p, 1200, now);
        bytes += 1200;
    }
    uint64_t ideal = 100 * UINT64_C(12345678) / 8;
    ck_assert_uint_le(bytes, ideal + 6000 + 1200);
    ck_assert_uint_ge(bytes, ideal - 1200);
}
END_TEST

START_TEST(idleness_buys_one_burst_and_no_more)
{
    struct rift_pacer p = {0};
    rift_pacer_set(&p, 8000000, 6000);
    uint64_t now = 3600 * WV_NS_PER_S;
    unsigned n = 0;
    for (; rift_pacer_release(&p) <= now; n++)
        rift_pacer_charge(&p, 1200, now);
    ck_assert_uint_eq(n, 5);
}
END_TEST

START_TEST(a_new_rate_holds_from_the_next_datagram_on)
{
    struct rift_pacer p = {0};
    rift_pacer_set(&p, 1000, 0);
    rift_pacer_charge(&p, 1200, WV_NS_PER_S); /* 9.6 s at that rate */
    uint64_t release = rift_pacer_release(&p);
    rift_pacer_set(&p, 0, 0);
    ck_assert_uint_eq(rift_pacer_release(&p), 0);
    rift_pacer_set(&p, UINT64_MAX, UINT32_MAX);
    rift_pacer_charge(&p, 1200, release);
    ck_assert_uint_le(rift_pacer_release(&p), release + 1);
}
END_TEST

START_TEST(the_pool_reuses_and_is_bounded)
{
    struct rift_pool p = {0};
    struct rift_buffer b[20] = {{0}}, one;
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(rift_pool_take(&p, 100000 + i * 20000, &b[i]), 0);
    uint8_t *small = b[0].data;
    for (unsigned i = 0; i < 20; i++)
        rift_pool_give(&p, &b[i]);
    ck_assert_uint_le(p.held_bytes, RIFT_POOL_BYTES);
    ck_assert_uint_eq(p.held_bytes, p.spare_bytes);
    ck_assert_ptr_null(b[0].data);
    ck_assert_int_eq(rift_pool_take(&p, 1, &one), 0);
    ck_assert_ptr_nonnull(small);
    rift_pool_give(&p, &one);
    rift_pool_give(&p, &one); /* empty by now */
    rift_pool_fini(&p);
    ck_assert_uint_eq(p.held_bytes, 0);
}
END_TEST

/* One ping and its pong, RTT later, from a peer whose clock is OFFSET ahead. */
static void exchange(struct rift_timing *t, uint64_t at, uint64_t there, uint64_t back, int64_t offset)
{
    uint8_t buffer[64];
    struct wv_writer w;
    wv_writer_init(&w, buffer, sizeof buffer);
    t->next_ping = at;
    ck_assert(rift_timing_write_ping(t, &w, at));
    rift_timing_on_pong(t, t->next_id - 1, at + there + (uint64_t)offset, 0, at + there + back);
}

START_TEST(the_clock_follows_the_lowest_round_trip_and_ages)
{
    struct rift_timing t;
    rift_timing_init(&t, WV_NS_PER_S, WV_NS_PER_S);
    exchange(&t, WV_NS_PER_S, 5 * MS, 5 * MS, 1000000);
    ck_assert_int_eq(rift_timing_offset(&t), 1000000);
    exchange(&t, 2 * WV_NS_PER_S, 80 * MS, 5 * MS, 1000000); /* a queue on the way there misleads nobody */
    ck_assert_int_eq(rift_timing_offset(&t), 1000000);
    ck_assert_uint_eq(rift_timing_rtt_min(&t), 10 * MS);
    for (uint64_t s = 3; s < 90; s++)
        exchange(&t, s * WV_NS_PER_S, 20 * MS, 20 * MS, -5000000); /* another path, another clock */
    ck_assert_uint_eq(rift_timing_rtt_min(&t), 40 * MS);
    ck_assert_int_eq(rift_timing_offset(&t), -5000000);
}
END_TEST

START_TEST(pongs_that_nobody_asked_for_say_nothing)
{
    struct rift_timing t;
    rift_timing_init(&t, WV_NS_PER_S, 0);
    rift_timing_on_pong(&t, 1, 5, 0, MS);
    exchange(&t, WV_NS_PER_S, MS, MS, 0);
    uint64_t srtt = t.srtt_ns;
    rift_timing_on_pong(&t, t.next_id - 1, 5, 0, 9 * WV_NS_PER_S); /* again */
    rift_timing_echo(&t, 77, 0, 9 * WV_NS_PER_S);                  /* never sent */
    rift_timing_sent(&t, 5, WV_NS_PER_S);
    rift_timing_echo(&t, 5, UINT32_MAX, 2 * WV_NS_PER_S); /* a delay longer than the round trip */
    ck_assert_uint_eq(t.srtt_ns, srtt);
}
END_TEST

START_TEST(acknowledgements_of_the_unsent_are_refused)
{
    static struct rift_input_tx input;
    struct rift_input_event e = {.kind = RIFT_INPUT_KEY, .code = 30};
    uint32_t seq;
    uint8_t buffer[RIFT_PAYLOAD_BYTES];
    struct wv_writer w;
    static const uint8_t key[32] = {1};
    rift_input_tx_init(&input, key);
    rift_input_tx_push(&input, &e, 0, &seq);
    ck_assert(!rift_input_tx_ack(&input, 2)); /* queued, but not sent */
    wv_writer_init(&w, buffer, sizeof buffer);
    ck_assert(rift_input_tx_write(&input, &w, 0, 0));
    ck_assert(!rift_input_tx_ack(&input, 3));
    ck_assert(rift_input_tx_ack(&input, 2));
    ck_assert(rift_input_tx_ack(&input, 1)); /* late, harmless */
    ck_assert_uint_eq(rift_input_tx_timeout(&input), RIFT_NEVER);

    static struct rift_control_tx control;
    rift_control_tx_init(&control);
    ck_assert_int_eq(rift_control_tx_push(&control, buffer, 1), 0);
    ck_assert(!rift_control_tx_ack(&control, 1, 0));
    wv_writer_init(&w, buffer, sizeof buffer);
    ck_assert(rift_control_tx_write(&control, &w, MS, 0));
    ck_assert(!rift_control_tx_ack(&control, 0, 1)); /* names chunk 1 */
    ck_assert(!rift_control_tx_ack(&control, 2, 0));
    ck_assert(rift_control_tx_ack(&control, 1, 0));
    ck_assert_uint_eq(control.memory_bytes, 0);
    rift_control_tx_fini(&control);
}
END_TEST

/* No number is sealed twice: the last one is the end. */
START_TEST(input_sequences_end)
{
    static const uint8_t key[32] = {1};
    static struct rift_input_tx tx;
    static struct rift_input_rx rx;
    uint32_t seq;
    struct rift_input_event e = {.kind = RIFT_INPUT_KEY};
    rift_input_tx_init(&tx, key);
    rift_input_rx_init(&rx);
    tx.first = tx.next = tx.fresh = rx.next = rx.taken = UINT32_MAX - 3;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t sealed[RIFT_INPUT_SEALED_BYTES], plain[RIFT_INPUT_PLAIN_BYTES];
        e.code = (uint16_t)(i + 1);
        ck_assert(!rift_input_tx_used_up(&tx));
        uint8_t buffer[RIFT_PAYLOAD_BYTES];
        struct wv_writer w;
        struct wv_reader r;
        ck_assert_int_eq(rift_input_tx_push(&tx, &e, i, &seq), 0);
        wv_writer_init(&w, buffer, sizeof buffer);
        ck_assert(rift_input_tx_write(&tx, &w, 0, i));
        wv_reader_init(&r, buffer + RIFT_FRAME_HEADER_BYTES, w.length - RIFT_FRAME_HEADER_BYTES);
        ck_assert_int_eq(rift_input_rx_frame(&rx, &r, i, i), 0);
        ck_assert(rift_input_rx_pop(&rx, &seq, sealed));
        ck_assert_uint_eq(seq, UINT32_MAX - 3 + i);
        ck_assert_int_eq(rift_input_open(key, seq, sealed, plain), 0);
        ck_assert_uint_eq(plain[2], i + 1);
        if (i % 3 == 0)
            ck_assert(rift_input_tx_ack(&tx, rx.next));
    }
    ck_assert(rift_input_tx_used_up(&tx));
    ck_assert_int_eq(rift_input_tx_push(&tx, &e, 10, &seq), RIFT_SESSION_FULL);
}
END_TEST

START_TEST(lost_counters_are_counted_and_reserved_blocks_are_not)
{
    struct rift_session_config a = {.role = RIFT_ROLE_HOST, .local_id = 1, .remote_id = 1};
    struct rift_packet tx, rx;
    uint8_t d[RIFT_MTU_BYTES], payload[RIFT_MTU_MAX_BYTES];
    size_t len;
    uint64_t counter;
    rift_packet_init(&tx, &a, 0);
    rift_packet_init(&rx, &a, 0);
    const uint64_t counters[] = {2, 0, 5, 1000000, 999999, 1000003};
    const uint64_t lost[] = {2, 1, 3, 3, 2, 4};
    for (size_t i = 0; i < WV_ARRAY_SIZE(counters); i++) {
        tx.next_counter = counters[i];
        size_t n = rift_packet_protect(&tx, d, 3, &counter);
        ck_assert_int_eq(rift_packet_unprotect(&rx, d, n, 0, payload, &len, &counter), 0);
        ck_assert_uint_eq(counter, counters[i]);
        ck_assert_uint_eq(len, 3);
        ck_assert_uint_eq(rift_packet_lost(&rx), lost[i]);
    }
    tx.next_counter = UINT64_MAX;
    ck_assert_uint_eq(rift_packet_protect(&tx, d, 3, &counter), 0);
}
END_TEST

/* Fragment INDEX of COUNT, of LEN bytes where each has SIZE, given to a client's join. */
static int join_fragment(struct rift_join *j, uint16_t index, uint16_t count, uint16_t size, size_t len)
{
    uint8_t body[RIFT_PAYLOAD_MAX_BYTES] = {0};
    struct wv_writer w;
    wv_writer_init(&w, body, sizeof body);
    wv_write_u32(&w, 1);
    wv_write_u16(&w, 1);
    wv_write_u8(&w, RIFT_VIDEO_KEY);
    wv_write_u16(&w, count);
    wv_write_u16(&w, size);
    wv_write_u16(&w, index);
    ck_assert_uint_le(w.length + len, sizeof body);
    struct wv_reader r;
    wv_reader_init(&r, body, w.length + len);
    return rift_join_fragment(j, &r, WV_NS_PER_S);
}

START_TEST(a_fragment_outside_its_frame_is_refused)
{
    struct rift_pool pool = {0};
    struct rift_timing timing;
    struct rift_join *j = calloc(1, sizeof *j);
    ck_assert_ptr_nonnull(j);
    rift_timing_init(&timing, WV_NS_PER_S, 0);
    rift_join_init(j, &pool, &timing);
    ck_assert_int_eq(join_fragment(j, 0, 3, 600, 600), 0);
    static const struct {
        uint16_t index, count, size;
        size_t len;
    } bad[] = {
        {3, 3, 600, 600},          /* one past the last */
        {UINT16_MAX, 3, 600, 600}, /* far past */
        {1, 3, 600, 599},
        {1, 3, 600, 601}, /* one in the middle is as long as all are */
        {2, 3, 600, 601},
        {2, 3, 600, 0}, /* the last is no longer, and no nothing */
        {1, 4, 600, 600},
        {1, 3, 700, 700}, /* another shape than the frame's first fragment told */
        {0, 0, 600, 600},
        {0, 1, 600, RIFT_META_BYTES}, /* nothing in it */
        {0, 3, 511, 511},             /* smaller than a fragment may be */
        {0, UINT16_MAX, 1024, 1024},  /* larger than a frame may be */
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_msg(join_fragment(j, bad[i].index, bad[i].count, bad[i].size, bad[i].len) == -EBADMSG,
                      "case %zu was taken", i);
    ck_assert_int_eq(join_fragment(j, 2, 3, 600, 1), 0);
    ck_assert_int_eq(join_fragment(j, 1, 3, 600, 600), 0);
    struct rift_event event;
    ck_assert_int_eq(rift_join_pop(j, &event, WV_NS_PER_S), 0);
    ck_assert_uint_eq(event.frame.len, 2 * 600 + 1 - RIFT_META_BYTES);
    rift_join_fini(j);
    rift_pool_fini(&pool);
    free(j);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core parts");
    TCase *t = tcase_create("core parts");
    suite_add_tcase(s, t);
    tcase_add_test(t, the_pacer_keeps_its_rate_over_long_times);
    tcase_add_test(t, idleness_buys_one_burst_and_no_more);
    tcase_add_test(t, a_new_rate_holds_from_the_next_datagram_on);
    tcase_add_test(t, the_pool_reuses_and_is_bounded);
    tcase_add_test(t, the_clock_follows_the_lowest_round_trip_and_ages);
    tcase_add_test(t, pongs_that_nobody_asked_for_say_nothing);
    tcase_add_test(t, acknowledgements_of_the_unsent_are_refused);
    tcase_add_test(t, input_sequences_end);
    tcase_add_test(t, a_fragment_outside_its_frame_is_refused);
    tcase_add_test(t, lost_counters_are_counted_and_reserved_blocks_are_not);
    return wv_run_suite(s);
}
