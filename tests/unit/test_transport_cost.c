/* A whole transport at work, in a process of its own: what it must not do for every packet or frame. */
#include "client/link.h"
#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "services/transport/udp.h"
#include "tests/unit/suite.h"
#include "tests/unit/transport_bed.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SECONDS 3u
#define FPS     60u
/* What is allocated at all: a block of ZeroMQ for each message of the bus that is longer than the 33 bytes it
 * keeps inside (a sealed event alone has 36; zmq_msg_init_data() allocates as well, and cutting a batch into
 * parts that fit would cost three messages for one), which is one for a batch of input and one now and then
 * for the encoder; and two for each report of a client, once a second. However many packets and frames there
 * are. */
#define EVENTS      25u /* a second */
#define OF_MESSAGES (EVENTS + 10u)

struct cost {
    uint64_t frames, sent, allocations;
};

static struct cost cost(struct bed *b)
{
    return (struct cost){.frames = b->shared->frames,
                         .sent = wv_metrics_find(bed_metrics(b), "packets_sent_total")->value,
                         .allocations = b->shared->allocations};
}

/* Some seconds of it. On a busy machine there may be less to see, and events are sent again: not every time.
 */
static bool is_seen(struct bed *b)
{
    struct cost before = cost(b);
    bed_run(b, SECONDS * WV_NS_PER_S);
    struct cost now = cost(b);
    uint64_t frames = now.frames - before.frames, sent = now.sent - before.sent;
    uint64_t allocations = now.allocations - before.allocations;
    if (frames > SECONDS * FPS / 4 && sent > 4 * frames && allocations <= SECONDS * OF_MESSAGES)
        return true;
    printf("%lu allocations for %lu packets in %lu frames\n", (unsigned long)allocations, (unsigned long)sent,
           (unsigned long)frames);
    return false;
}

START_TEST(nothing_is_allocated_for_packets_or_frames)
{
    const struct bed_options options = {.address = "127.0.0.1",
                                        .bitrate_bps = 20000000,
                                        .start_bps = 20000000,
                                        .fps = FPS,
                                        .fec = true,
                                        .input_every_ns = WV_NS_PER_S / EVENTS};
    struct bed b;
    bed_init(&b, &options);
    bed_client(&b);
    bed_wait_viewer(&b);
    bed_run(&b, 2 * WV_NS_PER_S);
    ck_assert_uint_gt(b.shared->allocations, 0); /* they are counted */
    bool seen = false;
    for (int tries = 0; !seen && tries < 10; tries++)
        seen = is_seen(&b);
    bed_fini(&b);
    ck_assert_msg(seen, "in none of ten times");
}
END_TEST

/* ---- the way of datagrams alone: sessions, and the sockets of both ends ---- */

#define WARM_UP 90u
#define FRAMES  300u

static struct {
    struct rift_session *host, *client;
    struct wv_udp *udp;
    struct wv_link *link;
    uint64_t now, got;
    bool failed; /* asserted at the end: Check's assertions allocate */
} way;

static void on_datagram(void *userdata, const struct wv_address *from, enum rift_ecn ecn,
                        const uint8_t *datagram, size_t len, uint64_t now)
{
    (void)rift_session_receive_from(way.host, from->bytes, ecn, datagram, len, way.now);
}

static void host_turn(void)
{
    struct rift_outgoing out;
    struct wv_address to;
    struct rift_event e;
    uint8_t *slot;
    way.failed |= wv_udp_receive(way.udp, on_datagram, NULL, way.now) != 0;
    while (rift_session_next_event(way.host, &e) == 0)
        ;
    while ((slot = wv_udp_slot(way.udp)) &&
           rift_session_send_to(way.host, slot, RIFT_MTU_MAX_BYTES, way.now, &out) == 0) {
        memcpy(to.bytes, out.address, sizeof to.bytes);
        wv_udp_commit(way.udp, &to, out.len, wv_udp_tos(out.traffic_class, out.ecn));
    }
    way.failed |= wv_udp_flush(way.udp) != 0;
}

/* One datagram in fifty is lost. */
static void client_turn(void)
{
    static const uint8_t address[RIFT_ADDRESS_BYTES] = {1};
    static unsigned count;
    struct rift_event e;
    struct rift_outgoing out;
    size_t len, capacity;
    for (int n; (n = wv_link_receive(way.link)) > 0;)
        for (int i = 0; i < n; i++) {
            enum rift_ecn ecn;
            const uint8_t *d = wv_link_datagram(way.link, i, &len, &ecn);
            if (++count % 50)
                (void)rift_session_receive_from(way.client, address, ecn, d, len, way.now);
        }
    while (rift_session_next_event(way.client, &e) == 0)
        way.got += e.kind == RIFT_EVENT_FRAME;
    for (;;) {
        uint8_t *room = wv_link_reserve(way.link, &capacity);
        if (rift_session_send_to(way.client, room, capacity, way.now, &out) != 0)
            break;
        wv_link_commit(way.link, out.len, 0);
    }
    way.failed |= wv_link_flush(way.link) < 0;
}

static void one_frame(uint32_t id)
{
    static uint8_t frame[12000];
    uint32_t seq;
    struct rift_frame_meta meta = {.frame_id = id, .keyframe = id % 20 == 0};
    struct rift_input_event key = {.kind = RIFT_INPUT_KEY, .code = 30, .down = id % 2};
    (void)rift_session_target_bps(way.host, way.now);
    (void)rift_session_send_frame(way.host, &meta, frame, sizeof frame, way.now);
    (void)rift_session_send_input(way.client, &key, way.now, &seq);
    for (unsigned ms = 0; ms < 16; ms++, way.now += WV_NS_PER_MS) {
        host_turn();
        client_turn();
    }
}

START_TEST(the_way_of_datagrams_allocates_nothing)
{
    static _Atomic uint64_t allocations;
    struct rift_session_config h = {
        .role = RIFT_ROLE_HOST, .local_id = 1, .remote_id = 2, .fps = 60, .fec = true};
    struct rift_session_config c = {.role = RIFT_ROLE_CLIENT, .local_id = 2, .remote_id = 1, .fps = 60};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    struct wv_metrics *metrics;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    h.congestion = &rift_delta;
    h.min_bps = 500000, h.start_bps = 30000000, h.max_bps = 100000000;
    way.now = WV_NS_PER_S;
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS), 0);
    ck_assert_int_eq(wv_udp_new(&way.udp, fd, metrics), 0);
    ck_assert_int_eq(wv_link_new(&way.link, "127.0.0.1", ntohs(in.sin_port)), 0);
    ck_assert_int_eq(wv_link_resolve(way.link), 0);
    ck_assert_int_ge(wv_link_open_next(way.link), 0);
    bed_allocations = &allocations;
    ck_assert_int_eq(rift_session_new(&way.host, &h, way.now), 0);
    ck_assert_uint_gt(allocations, 0); /* they are counted */
    ck_assert_int_eq(rift_session_new(&way.client, &c, way.now), 0);
    client_turn(); /* says where it is */
    uint32_t id = 0;
    while (id < WARM_UP)
        one_frame(id++);
    uint64_t before = allocations, got = way.got;
    while (id < WARM_UP + FRAMES)
        one_frame(id++);
    uint64_t after = allocations;
    bed_allocations = NULL;
    struct rift_session_stats stats;
    rift_session_get_stats(way.client, &stats);
    ck_assert(!way.failed);
    ck_assert_uint_gt(way.got - got, FRAMES / 2);
    ck_assert_uint_gt(stats.fragments_recovered + stats.nacks_sent, 0);
    ck_assert_uint_eq(after - before, 0);
    rift_session_free(way.host);
    rift_session_free(way.client);
    wv_link_free(way.link);
    wv_udp_free(way.udp);
    wv_metrics_free(metrics);
    wv_close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("transport cost");
    TCase *t = tcase_create("whole");
    suite_add_tcase(s, t);
    tcase_add_test(t, the_way_of_datagrams_allocates_nothing);
    tcase_add_test(t, nothing_is_allocated_for_packets_or_frames);
    return wv_run_suite(s);
}
