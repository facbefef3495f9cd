/* The bus: what the table allows arrives, all else is counted; peers may be absent, killed and come back. */
#include "lib/base/util.h"
#include "lib/ipc/bus.h"
#include "lib/ipc/bus_internal.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zmq.h>

#define PATIENCE_MS 30000 /* 200 ms on a machine that does nothing else */

/* One end of a link, in a loop of its own that runs for as long as the test says. */
struct end {
    struct wv_loop *loop;
    struct wv_loop_source *timer;
    struct wv_bus *bus;
    struct wv_bus_link *link;
    unsigned targets, keyframes, batches;
    uint32_t last_bitrate;
    unsigned quit_after; /* targets, 0: never */
    bool echo;
};

static char dir[64], path[96];

static int on_target(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct end *e = userdata;
    e->last_bitrate = ((const Wavry__Bus__EncoderTarget *)message)->bitrate_bps;
    e->targets++;
    if (e->echo)
        wv_bus_send(e->link, message);
    if (e->quit_after && e->targets >= e->quit_after)
        wv_loop_quit(e->loop, 1);
    return 0;
}

static int on_keyframe(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct end *e = userdata;
    e->keyframes++;
    return ((const Wavry__Bus__KeyframeRequest *)message)->after_frame_id == 666 ? -EIO : 0;
}

static int on_batch(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct end *e = userdata;
    e->batches++;
    return 0;
}

static const struct wv_bus_rule rules[] = {
    {"peer", &wavry__bus__encoder_target__descriptor, WV_PHASE_RUN, 100000, 64, on_target},
    {"peer", &wavry__bus__keyframe_request__descriptor, WV_PHASE_ANY, 4, 64, on_keyframe},
    {"peer", &wavry__bus__input_batch__descriptor, WV_PHASE_RUN, 100000, 2048, on_batch},
};

static int on_timer(void *userdata, uint64_t now)
{
    struct end *e = userdata;
    wv_loop_quit(e->loop, 0);
    return 0;
}

static void end_init(struct end *e, bool bind)
{
    memset(e, 0, sizeof(*e));
    ck_assert_int_eq(wv_loop_new(&e->loop), 0);
    ck_assert_int_eq(wv_loop_add_timer(e->loop, on_timer, e, &e->timer), 0);
    ck_assert_int_eq(wv_bus_new(&e->bus, e->loop, rules, WV_ARRAY_SIZE(rules), e), 0);
    ck_assert_int_eq(wv_bus_add_link(e->bus, "peer", path, bind, &e->link), 0);
    wv_bus_set_phase(e->bus, WV_PHASE_RUN);
}

static void end_fini(struct end *e)
{
    wv_bus_free(e->bus);
    wv_loop_free(e->loop);
}

/* Runs the end's loop for MS or until it quits by itself. */
static int run(struct end *e, unsigned ms)
{
    wv_loop_timer_at(e->timer, wv_now_ns() + ms * WV_NS_PER_MS);
    return wv_loop_run(e->loop);
}

static int send_target(struct end *e, uint32_t bitrate)
{
    Wavry__Bus__EncoderTarget m = WAVRY__BUS__ENCODER_TARGET__INIT;
    m.bitrate_bps = bitrate;
    return wv_bus_send(e->link, &m.base);
}

/* Sends until it is taken. The machine may be busy, so the patience is long; returns how long it took. */
static uint64_t send_until_taken(struct end *e, uint32_t bitrate)
{
    uint64_t start = wv_now_ns();
    while (send_target(e, bitrate) != 0) {
        ck_assert_uint_lt(wv_now_ns() - start, PATIENCE_MS * WV_NS_PER_MS);
        ck_assert_int_eq(run(e, 1), 0);
    }
    return wv_now_ns() - start;
}

static void set_up(void)
{
    strcpy(dir, "/tmp/wavry-test-bus-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/link", dir);
}

static void tear_down(void)
{
    unlink(path);
    rmdir(dir);
}

START_TEST(messages_go_both_ways)
{
    struct end a, b;
    end_init(&a, true);
    end_init(&b, false);
    send_until_taken(&b, 1000);
    a.quit_after = 1;
    ck_assert_int_eq(run(&a, PATIENCE_MS), 1);
    ck_assert_uint_eq(a.last_bitrate, 1000);
    ck_assert_int_eq(send_target(&a, 2000), 0);
    b.quit_after = 1;
    ck_assert_int_eq(run(&b, PATIENCE_MS), 1);
    ck_assert_uint_eq(b.last_bitrate, 2000);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0660);
    struct wv_bus_stats stats;
    wv_bus_get_stats(a.bus, &stats);
    ck_assert_uint_eq(stats.received, 1);
    ck_assert_uint_eq(stats.sent, 1);
    end_fini(&b);
    end_fini(&a);
}
END_TEST

START_TEST(absent_peers_get_nothing)
{
    struct end a;
    end_init(&a, _i == 0);
    ck_assert_int_eq(send_target(&a, 1), WV_BUS_UNSENT);
    ck_assert_int_eq(run(&a, 5), 0);
    ck_assert_int_eq(send_target(&a, 2), WV_BUS_UNSENT);
    ck_assert_int_eq(wv_bus_send(NULL, NULL), WV_BUS_UNSENT);
    struct wv_bus_stats stats;
    wv_bus_get_stats(a.bus, &stats);
    ck_assert_uint_eq(stats.dropped_unsent, 2);
    ck_assert_uint_eq(stats.sent, 0);
    /* What was refused doesn't turn up when the peer comes. */
    struct end b;
    end_init(&b, _i != 0);
    send_until_taken(&a, 3);
    b.quit_after = 1;
    ck_assert_int_eq(run(&b, PATIENCE_MS), 1);
    ck_assert_uint_eq(b.last_bitrate, 3);
    ck_assert_int_eq(run(&b, 20), 0);
    ck_assert_uint_eq(b.targets, 1);
    end_fini(&a);
    end_fini(&b);
}
END_TEST

/* Many messages in one go: the edge-triggered descriptor must not leave any lying, also when handlers send.
 */
START_TEST(none_is_left_lying)
{
    struct end a, b;
    end_init(&a, true);
    end_init(&b, false);
    a.echo = true;
    send_until_taken(&b, 0);
    for (uint32_t i = 1; i < 500; i++)
        ck_assert_int_eq(send_target(&b, i), 0);
    a.quit_after = 500;
    ck_assert_int_eq(run(&a, PATIENCE_MS), 1);
    b.quit_after = 500;
    ck_assert_int_eq(run(&b, PATIENCE_MS), 1);
    ck_assert_uint_eq(b.last_bitrate, 499);
    end_fini(&b);
    end_fini(&a);
}
END_TEST

static int ping(void *userdata, uint64_t now)
{
    struct end *e = userdata;
    send_target(e, 1); /* a send outside of bus callbacks, while answers come in */
    return 0;
}

static pid_t start_echo(void)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct end a;
        end_init(&a, true);
        a.echo = true;
        run(&a, 100000);
        _exit(0);
    }
    return pid;
}

START_TEST(ping_pong_never_stalls)
{
    pid_t pid = start_echo();
    struct end b;
    end_init(&b, false);
    send_until_taken(&b, 0);
    struct wv_loop_source *timer;
    ck_assert_int_eq(wv_loop_add_timer(b.loop, ping, &b, &timer), 0);
    wv_loop_timer_every(timer, WV_NS_PER_MS / 5);
    b.quit_after = 1000;
    ck_assert_int_eq(run(&b, PATIENCE_MS), 1);
    end_fini(&b);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

static int send_wait_send(void *userdata, uint64_t now)
{
    struct end *e = userdata;
    ck_assert_int_eq(send_target(e, 1), 0);
    usleep(50000); /* the answer comes in, and with it the only signal of the descriptor */
    ck_assert_int_eq(send_target(e, 2), 0);
    return 0;
}

/* A send takes in what the I/O thread had to say: the answer that came meanwhile must not be left lying. */
START_TEST(send_does_not_hide_an_arrival)
{
    pid_t pid = start_echo();
    struct end b;
    end_init(&b, false);
    send_until_taken(&b, 0);
    b.quit_after = 1;
    ck_assert_int_eq(run(&b, PATIENCE_MS), 1);
    struct wv_loop_source *once;
    ck_assert_int_eq(wv_loop_add_timer(b.loop, send_wait_send, &b, &once), 0);
    for (int i = 0; i < 5; i++) {
        b.targets = 0;
        b.quit_after = 2;
        wv_loop_timer_at(once, wv_now_ns());
        ck_assert_int_eq(run(&b, PATIENCE_MS), 1);
    }
    end_fini(&b);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

static pid_t start_peer(bool bind)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct end e;
        end_init(&e, bind);
        e.echo = true;
        run(&e, 100000);
        _exit(0);
    }
    return pid;
}

/* _i 0: the connecting side is killed, 1: the binding side. The survivor's messages arrive again. */
START_TEST(killed_peers_come_back)
{
    pid_t pid = start_peer(_i == 1);
    struct end e;
    end_init(&e, _i == 0);
    uint64_t slowest = 0;
    for (unsigned round = 0; round < 5; round++) {
        uint64_t start = wv_now_ns();
        e.targets = 0;
        e.quit_after = 1;
        uint32_t wanted = 1000 + round;
        do { /* what was on its way to the dead is lost; the next try isn't */
            ck_assert_uint_lt(wv_now_ns() - start, PATIENCE_MS * WV_NS_PER_MS);
            send_target(&e, wanted);
            run(&e, 5);
        } while (e.targets == 0 || e.last_bitrate != wanted);
        if (round > 0)
            slowest = WV_MAX(slowest, wv_now_ns() - start);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        pid = start_peer(_i == 1);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    end_fini(&e);
    printf("  bus back after a kill of the %s side: slowest of 4 %llu ms\n", _i ? "binding" : "connecting",
           (unsigned long long)(slowest / WV_NS_PER_MS));
}
END_TEST

/* Sends whatever it likes past wv_bus_send(), as a taken-over stage would. */
struct rogue {
    void *context, *socket;
};

static void rogue_init(struct rogue *r)
{
    char endpoint[128];
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
    r->context = zmq_ctx_new();
    r->socket = zmq_socket(r->context, ZMQ_DEALER);
    int linger = 0;
    zmq_setsockopt(r->socket, ZMQ_LINGER, &linger, sizeof(linger));
    ck_assert_int_eq(zmq_connect(r->socket, endpoint), 0);
}

static void rogue_fini(struct rogue *r)
{
    zmq_close(r->socket);
    zmq_ctx_term(r->context);
}

static void rogue_send(struct rogue *r, const void *data, size_t len, bool more)
{
    ck_assert_int_ge(zmq_send(r->socket, data, len, more ? ZMQ_SNDMORE : 0), 0);
}

START_TEST(rogue_messages_are_counted)
{
    static const char target[] = "wavry.bus.EncoderTarget";
    struct end a;
    end_init(&a, true);
    struct rogue r;
    rogue_init(&r);
    rogue_send(&r, target, strlen(target), false); /* one part */
    rogue_send(&r, target, strlen(target), true);  /* three */
    rogue_send(&r, "", 0, true);
    rogue_send(&r, "", 0, false);
    rogue_send(&r, "wavry.bus.HandshakeQuestion", 27, true); /* not on this link */
    rogue_send(&r, "", 0, false);
    rogue_send(&r, target, strlen(target), true); /* bytes that are no message */
    rogue_send(&r, "\xff\xff\xff", 3, false);
    uint8_t large[65] = {0};
    rogue_send(&r, target, strlen(target), true);
    rogue_send(&r, large, sizeof(large), false);
    rogue_send(&r, target, strlen(target), true); /* and a good one */
    rogue_send(&r, "\x08\x07", 2, false);
    a.quit_after = 1;
    ck_assert_int_eq(run(&a, PATIENCE_MS), 1);
    ck_assert_uint_eq(a.last_bitrate, 7);
    struct wv_bus_stats s;
    wv_bus_get_stats(a.bus, &s);
    ck_assert_uint_eq(s.received, 6);
    ck_assert_uint_eq(s.dropped_malformed, 3);
    ck_assert_uint_eq(s.dropped_unknown, 1);
    ck_assert_uint_eq(s.dropped_size, 1);
    /* Larger than any rule allows: the connection is cut; the link lives on. */
    uint8_t *huge = calloc(1, 1 << 20);
    rogue_send(&r, target, strlen(target), true);
    rogue_send(&r, huge, 1 << 20, false);
    ck_assert_int_eq(run(&a, 50), 0);
    free(huge);
    rogue_fini(&r);
    struct end b;
    end_init(&b, false);
    send_until_taken(&b, 8);
    a.quit_after = 2;
    ck_assert_int_eq(run(&a, PATIENCE_MS), 1);
    ck_assert_uint_eq(a.last_bitrate, 8);
    end_fini(&b);
    end_fini(&a);
}
END_TEST

static int on_flood_timer(void *userdata, uint64_t now)
{
    struct end *e = userdata;
    wv_loop_quit(e->loop, 5);
    return 0;
}

START_TEST(flood_does_not_starve_the_loop)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct rogue r;
        rogue_init(&r);
        for (;;) {
            rogue_send(&r, "wavry.bus.KeyframeRequest", 25, true);
            rogue_send(&r, "", 0, false);
        }
    }
    struct end a;
    end_init(&a, true);
    struct wv_bus_stats s = {0};
    while (s.received < 1000) {
        struct wv_loop_source *timer;
        ck_assert_int_eq(wv_loop_add_timer(a.loop, on_flood_timer, &a, &timer), 0);
        wv_loop_timer_at(timer, wv_now_ns() + 10 * WV_NS_PER_MS);
        ck_assert_int_eq(run(&a, PATIENCE_MS), 5);
        wv_loop_remove(timer);
        wv_bus_get_stats(a.bus, &s);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert_uint_gt(s.dropped_rate, 0); /* four a second are allowed */
    end_fini(&a);
}
END_TEST

START_TEST(handler_error_ends_the_loop)
{
    struct end a, b;
    end_init(&a, true);
    end_init(&b, false);
    send_until_taken(&b, 1);
    Wavry__Bus__KeyframeRequest m = WAVRY__BUS__KEYFRAME_REQUEST__INIT;
    m.after_frame_id = 666;
    ck_assert_int_eq(wv_bus_send(b.link, &m.base), 0);
    ck_assert_int_eq(run(&a, PATIENCE_MS), -EIO);
    end_fini(&b);
    end_fini(&a);
}
END_TEST

static int dispatch(struct bus_dispatcher *d, const char *sender, const char *name, const void *data,
                    size_t len, uint64_t now)
{
    return bus_dispatch(d, sender, 2, name, strlen(name), data, len, now);
}

START_TEST(table_decides)
{
    struct end e = {0};
    struct bus_dispatcher *d;
    ck_assert_int_eq(bus_dispatcher_new(&d, rules, WV_ARRAY_SIZE(rules), &e), 0);
    struct wv_bus_stats *s = bus_dispatcher_stats(d);
    uint64_t now = WV_NS_PER_S;
    dispatch(d, "peer", "wavry.bus.EncoderTarget", "", 0, now); /* phase START */
    ck_assert_uint_eq(s->dropped_phase, 1);
    bus_dispatcher_set_phase(d, WV_PHASE_RUN);
    dispatch(d, "peer", "wavry.bus.EncoderTarget", "", 0, now);
    ck_assert_uint_eq(e.targets, 1);
    dispatch(d, "other", "wavry.bus.EncoderTarget", "", 0, now);
    dispatch(d, "peer", "wavry.bus.EncoderTarge", "", 0, now);
    dispatch(d, "peer", "", "", 0, now);
    ck_assert_uint_eq(s->dropped_unknown, 3);
    /* Four a second, a burst of four. */
    for (int i = 0; i < 10; i++)
        dispatch(d, "peer", "wavry.bus.KeyframeRequest", "", 0, now);
    ck_assert_uint_eq(e.keyframes, 4);
    ck_assert_uint_eq(s->dropped_rate, 6);
    dispatch(d, "peer", "wavry.bus.KeyframeRequest", "", 0, now + WV_NS_PER_S / 4);
    dispatch(d, "peer", "wavry.bus.KeyframeRequest", "", 0, now); /* a clock that steps back gives nothing */
    ck_assert_uint_eq(e.keyframes, 5);
    ck_assert_uint_eq(bus_dispatcher_max_bytes(d, "peer"), 2048);
    ck_assert_uint_eq(bus_dispatcher_max_bytes(d, "other"), 0);
    bus_dispatcher_free(d);
}
END_TEST

/* A message that unfolds to far more memory than it has bytes meets the end of the arena, not of the machine.
 */
START_TEST(unfolding_is_bounded)
{
    struct end e = {0};
    struct bus_dispatcher *d;
    static struct wv_bus_rule large;
    large = (struct wv_bus_rule){"peer",  &wavry__bus__input_batch__descriptor, WV_PHASE_ANY, 100, 1 << 20,
                                 on_batch};
    ck_assert_int_eq(bus_dispatcher_new(&d, &large, 1, &e), 0);
    uint8_t *bytes = malloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i += 2) {
        bytes[i] = 0x1a; /* events, of no bytes */
        bytes[i + 1] = 0;
    }
    dispatch(d, "peer", "wavry.bus.InputBatch", bytes, 1 << 20, 1);
    ck_assert_uint_eq(e.batches, 0);
    ck_assert_uint_eq(bus_dispatcher_stats(d)->dropped_malformed, 1);
    dispatch(d, "peer", "wavry.bus.InputBatch", bytes, 200, 1);
    ck_assert_uint_eq(e.batches, 1);
    free(bytes);
    bus_dispatcher_free(d);
    large.max_per_second = 0;
    ck_assert_int_eq(bus_dispatcher_new(&d, &large, 1, &e), -EINVAL);
}
END_TEST

START_TEST(links_have_rules)
{
    struct end a;
    end_init(&a, true);
    char lengthy[200];
    memset(lengthy, '/', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    struct wv_bus_link *link = NULL;
    ck_assert_int_eq(wv_bus_add_link(a.bus, "other", lengthy, false, &link), -ENAMETOOLONG);
    ck_assert_int_eq(wv_bus_add_link(a.bus, "peer", path, false, &link), -EINVAL); /* there is one already */
    ck_assert_int_eq(wv_bus_add_link(a.bus, "other", "relative", false, &link), -EINVAL);
    ck_assert_int_eq(wv_bus_add_link(a.bus, "other", dir, true, &link), -EEXIST); /* no socket: left alone */
    ck_assert_ptr_null(link);
    ck_assert_ptr_eq(wv_bus_link(a.bus, "peer"), a.link);
    ck_assert_ptr_null(wv_bus_link(a.bus, "other"));
    end_fini(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bus");
    TCase *t = tcase_create("bus");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, messages_go_both_ways);
    tcase_add_loop_test(t, absent_peers_get_nothing, 0, 2);
    tcase_add_test(t, none_is_left_lying);
    tcase_add_test(t, ping_pong_never_stalls);
    tcase_add_test(t, send_does_not_hide_an_arrival);
    tcase_add_loop_test(t, killed_peers_come_back, 0, 2);
    tcase_add_test(t, rogue_messages_are_counted);
    tcase_add_test(t, flood_does_not_starve_the_loop);
    tcase_add_test(t, handler_error_ends_the_loop);
    tcase_add_test(t, table_decides);
    tcase_add_test(t, unfolding_is_bounded);
    tcase_add_test(t, links_have_rules);
    return wv_run_suite(s);
}
