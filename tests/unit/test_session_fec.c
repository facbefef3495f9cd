/* Repairs and congestion control in a session, over a path on virtual time that loses: what a person sees of
 * it with and without. */
#include "rift/core/delta.h"
#include "tests/sim/link.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

#include <stdio.h>

#define FRAMES 900
#define FPS    60

struct outcome {
    unsigned shown, late; /* late: more than 60 ms over the path's delay */
    uint64_t p50, p99;
    struct rift_session_stats host, client;
    uint64_t rate_bps;
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void pump(struct rift_session *from, struct sim_link *link, uint64_t now)
{
    static struct sim_packet p;
    while (rift_session_send(from, p.data, RIFT_MTU_BYTES, now, &p.len) == 0)
        sim_link_send(link, &p, now);
}

static void deliver(struct sim_link *link, struct rift_session *to, uint64_t now)
{
    struct sim_packet *p;
    while ((p = sim_link_receive(link, now))) {
        rift_session_receive(to, p->data, p->len, now);
        free(p);
    }
}

/* An encoder that keeps to its target; every frame's capture time is when it was queued. */
static void encode(struct rift_session *host, uint32_t id, bool keyframe, uint64_t now)
{
    static uint8_t data[400000];
    uint64_t target = rift_session_target_bps(host, now);
    size_t len = target ? target / 8 / FPS : 8000000 / 8 / FPS;
    struct rift_frame_meta meta = {.frame_id = id,
                                   .epoch = 1,
                                   .keyframe = keyframe,
                                   .width = 1280,
                                   .height = 720,
                                   .capture_us = now / 1000};
    len = WV_MAX(len, (size_t)200);
    len = WV_MIN(len, sizeof data);
    rift_session_send_frame(host, &meta, data, len, now);
}

static void take(struct rift_session *client, struct outcome *o, uint64_t *delays, uint64_t delay,
                 uint64_t now)
{
    struct rift_event e;
    while (rift_session_next_event(client, &e) == 0) {
        if (e.kind != RIFT_EVENT_FRAME)
            continue;
        uint64_t age = now - e.frame.meta.capture_us * 1000;
        o->late += age > delay + 60 * MS;
        delays[o->shown++] = age;
    }
}

static struct outcome run(const struct rift_session_config *host_config, const struct sim_link_config *path)
{
    static struct sim_link down, up;
    static uint64_t delays[FRAMES];
    struct outcome o = {0};
    struct rift_session_config client_config = pair_config(RIFT_ROLE_CLIENT);
    struct sim_link_config back = {.delay_ns = path->delay_ns, .loss_ppm = path->loss_ppm};
    struct rift_session *host, *client;
    uint64_t now = START, next_frame = START + 300 * MS;
    uint32_t id = 0;
    bool keyframe = true;
    client_config.fps = FPS;
    ck_assert_int_eq(rift_session_new(&host, host_config, now), 0);
    ck_assert_int_eq(rift_session_new(&client, &client_config, now), 0);
    sim_link_init(&down, path, 11);
    sim_link_init(&up, &back, 12);
    while (id < FRAMES || now < next_frame + 1000 * MS) {
        if (now >= next_frame && id < FRAMES) {
            if (rift_session_frame_wanted(host, now)) {
                encode(host, id, keyframe, now);
                keyframe = false;
            }
            id++;
            next_frame += WV_NS_PER_S / FPS;
        }
        pump(host, &down, now);
        pump(client, &up, now);
        uint64_t next = WV_MIN(rift_session_timeout(host), rift_session_timeout(client));
        next = WV_MIN(next, sim_link_next(&down));
        next = WV_MIN(next, sim_link_next(&up));
        next = WV_MIN(next, id < FRAMES ? next_frame : next_frame + 1000 * MS);
        now = WV_MAX(next, now);
        deliver(&down, client, now);
        deliver(&up, host, now);
        take(client, &o, delays, path->delay_ns, now);
        struct rift_event e;
        while (rift_session_next_event(host, &e) == 0)
            keyframe |= e.kind == RIFT_EVENT_KEYFRAME_REQUEST;
    }
    qsort(delays, o.shown, sizeof *delays, compare);
    o.p50 = o.shown ? delays[o.shown / 2] : 0;
    o.p99 = o.shown ? delays[o.shown * 99 / 100] : 0;
    o.host = pair_stats(host);
    o.client = pair_stats(client);
    struct rift_session_rate_stats rate;
    rift_session_get_rate_stats(host, &rate);
    o.rate_bps = rate.controller.rate_bps;
    printf("shown %u of %d, late %u, p50 %.1f p99 %.1f ms; rate %.2f Mbit/s, repairs %llu (%u permille) gave "
           "back "
           "%llu, nacks %llu, repeated %llu\n",
           o.shown, FRAMES, o.late, (double)o.p50 / 1e6, (double)o.p99 / 1e6, (double)o.rate_bps / 1e6,
           (unsigned long long)o.host.repairs_sent, o.host.repair_permille,
           (unsigned long long)o.client.fragments_recovered, (unsigned long long)o.client.nacks_sent,
           (unsigned long long)o.host.fragments_retransmitted);
    rift_session_free(host);
    rift_session_free(client);
    sim_link_fini(&down);
    sim_link_fini(&up);
    return o;
}

static struct rift_session_config controlled(bool fec)
{
    struct rift_session_config c = pair_config(RIFT_ROLE_HOST);
    c.congestion = &rift_delta;
    c.min_bps = 500000;
    c.max_bps = 20000000;
    c.start_bps = 4000000;
    c.fps = FPS;
    c.fec = fec;
    return c;
}

static struct sim_link_config path_of(uint64_t one_way_ms, uint64_t rate_bps, uint32_t loss_ppm)
{
    return (struct sim_link_config){.delay_ns = one_way_ms * MS,
                                    .rate_bps = rate_bps,
                                    .queue_bytes = rate_bps ? (uint32_t)(rate_bps / 8 / 5) : 0,
                                    .loss_ppm = loss_ppm};
}

START_TEST(repairs_spare_round_trips_on_a_long_path)
{
    struct sim_link_config path = path_of(40, 10000000, 30000);
    struct rift_session_config with = controlled(true), without = controlled(false);
    struct outcome a = run(&with, &path), b = run(&without, &path);
    ck_assert_uint_gt(a.client.fragments_recovered, 100);
    ck_assert_uint_gt(a.client.frames_repaired, 50);
    ck_assert_uint_le(a.client.frames_repaired, a.client.fragments_recovered);
    ck_assert_uint_gt(a.shown, FRAMES * 95 / 100);
    ck_assert_uint_lt(a.late * 3, b.late);
    ck_assert_uint_lt(a.host.fragments_retransmitted * 3, b.host.fragments_retransmitted);
    ck_assert_uint_lt(a.p50, b.p50 + 10 * MS);
}
END_TEST

START_TEST(a_clean_path_carries_no_repairs)
{
    struct sim_link_config path = path_of(20, 10000000, 0);
    struct rift_session_config with = controlled(true);
    struct outcome a = run(&with, &path);
    ck_assert_uint_eq(a.host.repairs_sent, 0);
    ck_assert_uint_ge(a.shown, FRAMES * 99 / 100);
    ck_assert_uint_eq(a.client.nacks_sent, 0);
}
END_TEST

START_TEST(control_keeps_the_queue_of_a_slow_path_short)
{
    /* 5 Mbit/s and an encoder that would make 8: a fixed rate fills the queue and loses, DELTA finds the
     * rate. */
    struct sim_link_config path = path_of(20, 5000000, 0);
    struct rift_session_config with = controlled(false), fixed = pair_config(RIFT_ROLE_HOST);
    fixed.pacing_bps = 100000000;
    fixed.pacing_burst_bytes = 65536;
    struct outcome a = run(&with, &path), b = run(&fixed, &path);
    ck_assert_uint_ge(a.shown, FRAMES * 97 / 100);
    ck_assert_uint_lt(a.p50, 50 * MS);
    ck_assert_uint_lt(a.p99, 120 * MS);
    ck_assert_uint_gt(a.rate_bps, 3000000);
    ck_assert_uint_lt(a.rate_bps, 5500000);
    ck_assert_uint_gt(b.p50, a.p50 + 50 * MS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session fec");
    TCase *t = tcase_create("session fec");
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    tcase_add_test(t, repairs_spare_round_trips_on_a_long_path);
    tcase_add_test(t, a_clean_path_carries_no_repairs);
    tcase_add_test(t, control_keeps_the_queue_of_a_slow_path_short);
    return wv_run_suite(s);
}
