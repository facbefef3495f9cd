/* What a session tells its congestion controller, and that it obeys. The controller here is a recorder that
 * the tests steer; DELTA itself is tested elsewhere, and here over a path that loses. */
#include "rift/core/delta.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

struct rift_cc {
    struct rift_cc_config config;
    uint64_t packets, frame_packets, other_packets, last_seq, frame_bytes, frame_ends;
    uint64_t queued_frames, queued_bytes, queued_packets, discarded_bytes;
    uint64_t reports, arrivals, ce, newest_arrival_ns;
    unsigned pauses, resumes, ticks;
    bool any;
};

/* What every recorder does; one controller at a time is looked at. */
static struct {
    struct rift_cc *newest;
    unsigned made, freed;
    uint64_t hold_until; /* nothing may leave before */
    uint64_t tick_at;
    bool pad;
} told;

static int make(struct rift_cc **ret_cc, const struct rift_cc_config *config, uint64_t now)
{
    if (config->fps > 1000)
        return -22;
    struct rift_cc *cc = calloc(1, sizeof *cc);
    cc->config = *config;
    told.newest = cc;
    told.made++;
    *ret_cc = cc;
    return 0;
}

static struct rift_cc *drop(struct rift_cc *cc)
{
    told.freed += cc != NULL;
    free(cc);
    return NULL;
}

static void on_frame_queued(struct rift_cc *cc, const struct rift_cc_frame *frame, uint64_t now)
{
    cc->queued_frames++;
    cc->queued_packets += frame->packets;
    cc->queued_bytes += frame->bytes;
}

static void on_sent(struct rift_cc *cc, const struct rift_cc_packet *packet, uint64_t now)
{
    ck_assert(!cc->any || packet->seq > cc->last_seq);
    cc->any = true;
    cc->last_seq = packet->seq;
    cc->packets++;
    if (packet->frame == RIFT_CC_NO_FRAME) {
        cc->other_packets++;
        ck_assert(!packet->last_in_frame);
        return;
    }
    cc->frame_packets++;
    cc->frame_bytes += packet->bytes;
    cc->frame_ends += packet->last_in_frame;
}

static void on_discarded(struct rift_cc *cc, uint64_t bytes, uint64_t now)
{
    cc->discarded_bytes += bytes;
}

static void on_report(struct rift_cc *cc, const struct rift_cc_report *report, uint64_t now)
{
    cc->reports++;
    cc->arrivals = report->arrivals[report->n - 1].seq + 1;
    cc->newest_arrival_ns = report->arrivals[report->n - 1].arrival_ns;
    for (size_t i = 0; i < report->n; i++)
        cc->ce += report->arrivals[i].ce;
}

static uint64_t target_bps(struct rift_cc *cc, uint64_t now)
{
    return 4000000;
}

static bool frame_wanted(const struct rift_cc *cc, uint64_t now)
{
    return now >= told.hold_until;
}

static uint64_t next_send(const struct rift_cc *cc, uint32_t bytes, uint64_t now)
{
    return told.hold_until;
}

static uint32_t padding(const struct rift_cc *cc, uint64_t now)
{
    return told.pad && cc->packets % 4 ? 1000 : 0;
}

static uint64_t timeout(const struct rift_cc *cc, uint64_t now)
{
    return told.tick_at ? told.tick_at : RIFT_CC_NEVER;
}

static void tick(struct rift_cc *cc, uint64_t now)
{
    cc->ticks++;
    told.tick_at = 0;
}

static void pause_source(struct rift_cc *cc, bool paused, uint64_t now)
{
    cc->pauses += paused;
    cc->resumes += !paused;
}

static void get_stats(const struct rift_cc *cc, struct rift_cc_stats *ret_stats)
{
    *ret_stats = (struct rift_cc_stats){.rate_bps = 7000000};
}

static const struct rift_cc_ops recorder = {
    .name = "recorder",
    .make = make,
    .free = drop,
    .on_frame_queued = on_frame_queued,
    .on_sent = on_sent,
    .on_discarded = on_discarded,
    .on_report = on_report,
    .target_bps = target_bps,
    .frame_wanted = frame_wanted,
    .next_send = next_send,
    .padding = padding,
    .timeout = timeout,
    .tick = tick,
    .pause = pause_source,
    .get_stats = get_stats,
};

static struct rift_session_config host_config(const struct rift_cc_ops *ops)
{
    struct rift_session_config c = pair_config(RIFT_ROLE_HOST);
    c.congestion = ops;
    c.min_bps = 500000;
    c.max_bps = 20000000;
    c.start_bps = 4000000;
    c.fps = 60;
    c.mtu_max_bytes = RIFT_MTU_BYTES;
    return c;
}

static struct pair new_pair(void)
{
    memset(&told, 0, sizeof told);
    struct pair p = {.now = START};
    struct rift_session_config h = host_config(&recorder), c = pair_config(RIFT_ROLE_CLIENT);
    c.fps = 60;
    c.mtu_max_bytes = RIFT_MTU_BYTES;
    ck_assert_int_eq(rift_session_new(&p.host, &h, p.now), 0);
    ck_assert_int_eq(rift_session_new(&p.client, &c, p.now), 0);
    pair_run(&p, 200 * MS);
    return p;
}

static struct rift_session_rate_stats rate_stats(const struct rift_session *s)
{
    struct rift_session_rate_stats stats;
    rift_session_get_rate_stats(s, &stats);
    return stats;
}

START_TEST(every_datagram_is_told_once_and_frames_add_up)
{
    struct pair p = new_pair();
    struct rift_cc *cc = told.newest;
    for (uint32_t id = 0; id < 20; id++) {
        /* Without the headers around each fragment. */
        ck_assert_uint_eq(rift_session_target_bps(p.host, p.now), 4000000ull * 1152 / 1248);
        pair_send_frame(&p, id, 1, id == 0, 100 + 1000 * id);
        pair_run(&p, 17 * MS);
        pair_expect_frame(&p, id, 100 + 1000 * id);
    }
    ck_assert_uint_eq(cc->packets, pair_stats(p.host).packets_sent);
    ck_assert_uint_eq(cc->last_seq + 1, cc->packets);
    ck_assert_uint_eq(cc->queued_frames, 20);
    ck_assert_uint_eq(cc->frame_ends, 20);
    ck_assert_uint_eq(cc->frame_packets, cc->queued_packets);
    ck_assert_uint_eq(cc->frame_bytes, cc->queued_bytes);
    ck_assert_uint_gt(cc->other_packets, 0);
    /* Reports came at every frame's end and told of everything but what came since the last. */
    ck_assert_uint_ge(cc->reports, 19);
    ck_assert_uint_ge(cc->arrivals, cc->packets - 4);
    ck_assert_uint_le(cc->arrivals, cc->packets);
    ck_assert_uint_eq(cc->reports, rate_stats(p.client).reports_sent);
    ck_assert_uint_eq(cc->reports, rate_stats(p.host).reports_received);
    ck_assert_uint_eq(cc->ce, 0);
    pair_free(&p);
    ck_assert_uint_eq(told.made, told.freed);
}
END_TEST

START_TEST(reports_tell_the_kernels_time_and_marks)
{
    static const uint8_t address[RIFT_ADDRESS_BYTES] = {1};
    struct pair p = new_pair();
    uint8_t datagram[RIFT_MTU_BYTES];
    size_t len;
    pair_send_frame(&p, 0, 1, true, 100);
    pair_run(&p, 20 * MS); /* and what else was due */
    pair_send_frame(&p, 1, 1, false, 100);
    ck_assert_int_eq(rift_session_send(p.host, datagram, sizeof datagram, p.now, &len), 0);
    p.now += 50 * MS;
    rift_session_set_arrival(p.client, p.now - 7 * MS);
    ck_assert_int_eq(rift_session_receive_from(p.client, address, RIFT_ECN_CE, datagram, len, p.now), 0);
    pair_pass(&p, p.client, DROP_NONE);
    ck_assert_uint_eq(told.newest->newest_arrival_ns, p.now - 7 * MS);
    ck_assert_uint_eq(told.newest->ce, 1);
    pair_free(&p);
}
END_TEST

START_TEST(video_waits_for_the_controller_and_input_does_not)
{
    struct pair p = new_pair();
    told.hold_until = p.now + 50 * MS;
    pair_send_frame(&p, 0, 1, true, 5000);
    ck_assert(!rift_session_frame_wanted(p.host, p.now));
    rift_session_send_control(p.host, (const uint8_t *)"x", 1, p.now);
    pair_run(&p, 49 * MS);
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CONTROL);
    pair_expect_no_event(p.client);
    ck_assert_uint_eq(told.newest->frame_packets, 0);
    pair_run(&p, 2 * MS);
    pair_expect_frame(&p, 0, 5000);
    ck_assert(rift_session_frame_wanted(p.host, p.now));
    told.hold_until = RIFT_CC_NEVER; /* until a report or a tick changes something */
    told.tick_at = p.now + 30 * MS;
    pair_send_frame(&p, 1, 1, false, 500);
    pair_run(&p, 20 * MS);
    pair_expect_no_event(p.client);
    ck_assert_uint_eq(told.newest->ticks, 0);
    pair_run(&p, 20 * MS);
    ck_assert_uint_eq(told.newest->ticks, 1);
    told.hold_until = 0;
    pair_run(&p, 1 * MS);
    pair_expect_frame(&p, 1, 500);
    pair_free(&p);
}
END_TEST

START_TEST(what_is_sent_again_counts_as_no_frame)
{
    struct pair p = new_pair();
    pair_send_frame(&p, 0, 1, true, 5000);
    pair_pass(&p, p.host, 2);
    struct rift_cc *cc = told.newest;
    ck_assert_uint_eq(cc->frame_packets, 5);
    uint64_t others = cc->other_packets;
    pair_run(&p, 20 * MS);
    pair_expect_frame(&p, 0, 5000);
    ck_assert_uint_eq(cc->frame_packets, 5);
    ck_assert_uint_gt(cc->other_packets, others);
    ck_assert_uint_eq(pair_stats(p.host).fragments_retransmitted, 1);
    pair_free(&p);
}
END_TEST

START_TEST(a_silent_source_is_told)
{
    struct pair p = new_pair();
    struct rift_cc *cc = told.newest;
    pair_send_frame(&p, 0, 1, true, 100);
    pair_run(&p, 249 * MS);
    ck_assert_uint_eq(cc->pauses, 0);
    pair_run(&p, 2 * MS);
    ck_assert_uint_eq(cc->pauses, 1);
    pair_run(&p, 3000 * MS);
    ck_assert_uint_eq(cc->pauses, 1);
    ck_assert_uint_eq(cc->resumes, 0);
    pair_send_frame(&p, 1, 1, false, 100);
    ck_assert_uint_eq(cc->resumes, 1);
    pair_free(&p);
}
END_TEST

START_TEST(frames_that_will_never_leave_are_told)
{
    struct pair p = new_pair();
    struct rift_cc *cc = told.newest;
    told.hold_until = p.now + 1000 * MS;
    pair_send_frame(&p, 0, 1, true, 5000);
    pair_send_frame(&p, 1, 1, false, 3000);
    uint64_t queued = cc->queued_bytes;
    ck_assert_uint_eq(cc->discarded_bytes, 0);
    pair_send_frame(&p, 2, 2, true, 500); /* another epoch */
    ck_assert_uint_eq(cc->discarded_bytes, queued);
    pair_free(&p);
}
END_TEST

START_TEST(padding_fills_a_datagram_and_obeys_the_pacer)
{
    struct pair p = new_pair();
    struct rift_cc *cc = told.newest;
    told.pad = true;
    told.hold_until = p.now + 10 * MS;
    pair_run(&p, 9 * MS);
    ck_assert_uint_eq(rate_stats(p.host).padding_sent, 0);
    uint64_t before = pair_stats(p.host).bytes_sent;
    told.hold_until = 0;
    rift_session_send_control(p.host, (const uint8_t *)"x", 1, p.now);
    pair_run(&p, 2 * MS);
    unsigned n = (unsigned)rate_stats(p.host).padding_sent;
    ck_assert_uint_gt(n, 0);
    ck_assert_uint_ge(pair_stats(p.host).bytes_sent - before, n * (1000 - 48));
    ck_assert_uint_eq(cc->packets, pair_stats(p.host).packets_sent);
    ck_assert_uint_eq(pair_stats(p.client).dropped_malformed, 0);
    pair_free(&p);
}
END_TEST

START_TEST(another_path_begins_anew)
{
    struct pair p = new_pair();
    pair_send_frame(&p, 0, 1, true, 100);
    ck_assert_uint_eq(told.made, 1);
    rift_session_path_changed(p.host, p.now);
    ck_assert_uint_eq(told.made, 2);
    ck_assert_uint_eq(told.freed, 1);
    /* It was at 7 Mbit/s; what carries that there may not carry it here. */
    ck_assert_uint_eq(told.newest->config.start_bps, 4000000);
    ck_assert_uint_eq(rate_stats(p.host).restarts, 1);
    pair_free(&p);
}
END_TEST

START_TEST(a_restored_session_goes_on_at_its_rate)
{
    static uint8_t state[RIFT_STATE_MAX_BYTES];
    struct pair p = new_pair();
    size_t len;
    rift_session_free(p.host);
    struct rift_session_config h = host_config(&recorder);
    ck_assert_int_eq(rift_session_new(&p.host, &h, p.now), 0);
    ck_assert_int_eq(rift_session_reserve(p.host, 4096), 0);
    ck_assert_int_eq(rift_session_export(p.host, state, sizeof state, p.now, &len), 0);
    rift_session_free(p.host);
    h.congestion = &rift_delta;
    ck_assert_int_eq(rift_session_import(&p.host, &h, state, len, p.now), 0);
    /* DELTA's own fill apart. */
    ck_assert_uint_gt(rate_stats(p.host).controller.rate_bps, 6000000);
    ck_assert_uint_le(rate_stats(p.host).controller.rate_bps, 7000000);
    ck_assert_uint_eq(rate_stats(p.host).reports_received, 0);
    pair_free(&p);
}
END_TEST

START_TEST(without_a_controller_nothing_changes)
{
    struct pair p = pair_new();
    ck_assert_uint_eq(rift_session_target_bps(p.host, p.now), 0);
    ck_assert(rift_session_frame_wanted(p.host, p.now));
    pair_send_frame(&p, 0, 1, true, 5000);
    pair_run(&p, 50 * MS);
    pair_expect_frame(&p, 0, 5000);
    ck_assert_uint_eq(rate_stats(p.client).reports_sent, 0);
    pair_free(&p);
}
END_TEST

START_TEST(a_host_without_a_controller_takes_reports_in_silence)
{
    struct pair p = {.now = START};
    struct rift_session_config h = pair_config(RIFT_ROLE_HOST), c = pair_config(RIFT_ROLE_CLIENT);
    c.fps = 60;
    ck_assert_int_eq(rift_session_new(&p.host, &h, p.now), 0);
    ck_assert_int_eq(rift_session_new(&p.client, &c, p.now), 0);
    pair_send_frame(&p, 0, 1, true, 5000);
    pair_run(&p, 100 * MS);
    pair_expect_frame(&p, 0, 5000);
    ck_assert_uint_gt(rate_stats(p.client).reports_sent, 0);
    ck_assert_uint_eq(pair_stats(p.host).dropped_malformed, 0);
    pair_free(&p);
}
END_TEST

START_TEST(a_config_that_makes_no_sense_is_refused)
{
    struct rift_session_config h = host_config(&recorder);
    struct rift_session *s = NULL;
    memset(&told, 0, sizeof told);
    h.fps = 2000;
    ck_assert_int_lt(rift_session_new(&s, &h, START), 0);
    ck_assert_ptr_null(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session rate");
    TCase *t = tcase_create("session rate");
    suite_add_tcase(s, t);
    tcase_add_test(t, every_datagram_is_told_once_and_frames_add_up);
    tcase_add_test(t, reports_tell_the_kernels_time_and_marks);
    tcase_add_test(t, video_waits_for_the_controller_and_input_does_not);
    tcase_add_test(t, what_is_sent_again_counts_as_no_frame);
    tcase_add_test(t, a_silent_source_is_told);
    tcase_add_test(t, frames_that_will_never_leave_are_told);
    tcase_add_test(t, padding_fills_a_datagram_and_obeys_the_pacer);
    tcase_add_test(t, another_path_begins_anew);
    tcase_add_test(t, a_restored_session_goes_on_at_its_rate);
    tcase_add_test(t, without_a_controller_nothing_changes);
    tcase_add_test(t, a_host_without_a_controller_takes_reports_in_silence);
    tcase_add_test(t, a_config_that_makes_no_sense_is_refused);
    return wv_run_suite(s);
}
