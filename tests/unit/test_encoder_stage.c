/* The program wavry-encoder as the supervisor runs it: real descriptors, real bus, locked down. The test
 * plays supervisor, capture and transport. */
#include "lib/base/util.h"
#include "lib/ipc/au_ring.h"
#include "lib/ipc/bus.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/ring.h"
#include "lib/stage/message.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "proto/bus_stage.pb-c.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/media_seal.h"
#include "tests/unit/encoder_kit.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WIDTH    640u
#define HEIGHT   360u
#define PATIENCE 20000 /* ms: for machines that do something else */

struct bed {
    char dir[64], supervisor[96], bus[96], keys[96];
    int listener, connection;
    int metrics, frames, raw_reader, raw_event, entries, au_reader, au_event;
    struct wv_ring_producer *capture;
    struct wv_au_consumer *transport;
    struct wv_loop *loop;
    struct wv_bus *zmq;
    struct wv_bus_link *link, *identity;
    pid_t pid;
    uint32_t kid;
    unsigned questions;
    bool silent; /* identity does not answer */
    struct rift_media_opener opener;
    uint8_t opened[WV_AU_MAX_BYTES];
};

/* As identity: each question is answered by a new key. */
static int on_question(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct bed *b = userdata;
    uint8_t base[RIFT_MEDIA_KEY_BYTES];
    Wavry__Bus__MediaKey key = WAVRY__BUS__MEDIA_KEY__INIT;

    b->questions++;
    if (b->silent)
        return 0;
    memset(base, (int)++b->kid, sizeof(base));
    rift_media_opener_add(&b->opener, b->kid, base);
    key.kid = b->kid;
    key.key = (ProtobufCBinaryData){.data = base, .len = sizeof(base)};
    (void)wv_bus_send(b->identity, &key.base);
    return 0;
}

static int on_pause(void *userdata, uint64_t now)
{
    struct bed *b = userdata;

    wv_loop_quit(b->loop, 1);
    return 0;
}

/* Identity lives for MS. */
static void let_live(struct bed *b, uint64_t ms)
{
    struct wv_loop_source *timer;

    ck_assert_int_eq(wv_loop_add_timer(b->loop, on_pause, b, &timer), 0);
    wv_loop_timer_at(timer, wv_now_ns() + ms * WV_NS_PER_MS);
    ck_assert_int_eq(wv_loop_run(b->loop), 1);
    wv_loop_remove(timer);
}

static const struct wv_bus_rule identity_rules[] = {
    {"identity", &wavry__bus__media_key_question__descriptor, WV_PHASE_ANY, 1000, 16, on_question},
};

/* In the child. A process locked down can't look for leaks at its end: that takes files and ptrace. */
static void run_stage(const struct bed *b, const char *setting)
{
#ifdef __SANITIZE_ADDRESS__
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
#endif
    execl(ENCODER, ENCODER, "--supervisor", b->supervisor, "--set", setting, (char *)NULL);
    _exit(127);
}

static Wavry__Bus__StageMessage *receive(struct bed *b)
{
    struct pollfd p = {.fd = b->connection, .events = POLLIN};
    int fds[WV_FDPASS_MAX_FDS];
    ProtobufCMessage *m = NULL;
    size_t n = 0;

    ck_assert_int_eq(poll(&p, 1, PATIENCE), 1);
    ck_assert_int_eq(wv_message_receive(b->connection, &wavry__bus__stage_message__descriptor, &m, fds, &n),
                     0);
    return (Wavry__Bus__StageMessage *)m;
}

static void expect(struct bed *b, Wavry__Bus__StageMessage__KindCase kind)
{
    Wavry__Bus__StageMessage *m = receive(b);

    ck_assert_msg(m->kind_case == kind, "kind %d: %s", (int)m->kind_case,
                  m->kind_case == WAVRY__BUS__STAGE_MESSAGE__KIND_FAILED ? m->failed->reason : "");
    protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void grant(struct bed *b)
{
    char *names[] = {"metrics",    "raw-frames", "raw-reader", "raw-event",
                     "au-entries", "au-reader",  "au-event"};
    int fds[] = {b->metrics, b->frames, b->raw_reader, b->raw_event, b->entries, b->au_reader, b->au_event};
    Wavry__Bus__BusLink link = WAVRY__BUS__BUS_LINK__INIT, keys = WAVRY__BUS__BUS_LINK__INIT;
    Wavry__Bus__BusLink *links[] = {&link, &keys};
    Wavry__Bus__StageGrant g = WAVRY__BUS__STAGE_GRANT__INIT;
    Wavry__Bus__StageMessage m = WAVRY__BUS__STAGE_MESSAGE__INIT;

    link.peer = "transport";
    link.path = b->bus;
    keys.peer = "identity";
    keys.path = b->keys;
    g.fd_names = names;
    g.n_fd_names = WV_ARRAY_SIZE(names);
    g.links = links;
    g.n_links = 2;
    m.kind_case = WAVRY__BUS__STAGE_MESSAGE__KIND_GRANT;
    m.grant = &g;
    ck_assert_int_eq(wv_message_send(b->connection, &m.base, fds, WV_ARRAY_SIZE(fds)), 0);
}

static void start(struct bed *b)
{
    struct pollfd p = {.fd = b->listener, .events = POLLIN};
    struct wv_peer peer;

    b->pid = fork();
    ck_assert_int_ge(b->pid, 0);
    if (b->pid == 0)
        run_stage(b, "threads=2");
    ck_assert_int_eq(poll(&p, 1, PATIENCE), 1);
    b->connection = wv_seqpacket_accept(b->listener, &peer);
    ck_assert_int_ge(b->connection, 0);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
    grant(b);
}

static int stop(struct bed *b, int signal)
{
    int status = 0;

    ck_assert_int_eq(kill(b->pid, signal), 0);
    ck_assert_int_eq(waitpid(b->pid, &status, 0), b->pid);
    b->pid = 0;
    b->connection = wv_close(b->connection);
    return status;
}

static struct bed *bed_new(void)
{
    struct bed *b = calloc(1, sizeof(*b));

    ck_assert_ptr_nonnull(b);
    snprintf(b->dir, sizeof(b->dir), "/tmp/wavry-test-encoder-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(b->dir));
    snprintf(b->supervisor, sizeof(b->supervisor), "%s/supervisor", b->dir);
    snprintf(b->bus, sizeof(b->bus), "%s/bus", b->dir);
    snprintf(b->keys, sizeof(b->keys), "%s/keys", b->dir);
    ck_assert_int_eq(rift_crypto_init(), 0);
    rift_media_opener_init(&b->opener);
    b->listener = wv_seqpacket_listen(b->supervisor, 0600);
    ck_assert_int_ge(b->listener, 0);
    ck_assert_int_eq(wv_metrics_create_page(&b->metrics), 0);
    ck_assert_int_eq(wv_ring_create(1920, 1080, &b->frames, &b->raw_reader), 0);
    ck_assert_int_eq(wv_au_ring_create(&b->entries, &b->au_reader), 0);
    b->raw_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    b->au_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_eq(wv_ring_producer_new(&b->capture, b->frames, b->raw_reader), 0);
    ck_assert_int_eq(wv_au_consumer_new(&b->transport, b->entries, b->au_reader), 0);
    ck_assert_int_eq(wv_loop_new(&b->loop), 0);
    ck_assert_int_eq(wv_bus_new(&b->zmq, b->loop, identity_rules, 1, b), 0);
    ck_assert_int_eq(wv_bus_add_link(b->zmq, "encoder", b->bus, true, &b->link), 0);
    ck_assert_int_eq(wv_bus_add_link(b->zmq, "identity", b->keys, true, &b->identity), 0);
    wv_bus_set_phase(b->zmq, WV_PHASE_RUN);
    return b;
}

static void bed_free(struct bed *b)
{
    b->zmq = wv_bus_free(b->zmq);
    b->loop = wv_loop_free(b->loop);
    b->transport = wv_au_consumer_free(b->transport);
    b->capture = wv_ring_producer_free(b->capture);
    wv_close(b->listener);
    wv_close(b->connection);
    wv_close(b->metrics);
    wv_close(b->frames);
    wv_close(b->raw_reader);
    wv_close(b->raw_event);
    wv_close(b->entries);
    wv_close(b->au_reader);
    wv_close(b->au_event);
    unlink(b->supervisor);
    unlink(b->bus);
    unlink(b->keys);
    rmdir(b->dir);
    free(b);
}

static void publish(struct bed *b, uint32_t width, uint32_t height, uint32_t offset)
{
    struct wv_frame_header h = {.format = WV_PIXEL_NV12, .width = width, .height = height, .stride = width};
    struct kit_picture p = {.width = width, .height = height, .stride = width};

    (void)wv_ring_begin(b->capture, &p.pixels);
    kit_draw_text(&p, offset);
    h.capture_ns = wv_now_ns();
    wv_ring_publish(b->capture, &h, wv_now_ns());
    ck_assert_int_eq(eventfd_write(b->raw_event, 1), 0);
}

static bool has_start_code(const uint8_t *data, size_t len)
{
    static const uint8_t code[] = {0, 0, 0, 1};

    return memmem(data, WV_MIN(len, (size_t)256), code, sizeof(code));
}

/* What lies in the ring is sealed; opened, it is an access unit. */
static void look_inside(struct bed *b, const struct wv_au_header *h, const uint8_t *data)
{
    const struct rift_media_about about = {
        .epoch = h->epoch, .keyframe = h->keyframe, .width = h->width, .height = h->height};
    uint8_t *plain;
    size_t len;

    ck_assert(!has_start_code(data, h->size));
    memcpy(b->opened, data, h->size);
    ck_assert_int_eq(rift_media_open(&b->opener, &about, b->opened, h->size, &plain, &len), 0);
    ck_assert(has_start_code(plain, len));
    ck_assert_uint_eq(kit_nals(plain, len).idr > 0, h->keyframe);
}

/* The next access unit within TIMEOUT_MS. */
static bool pop(struct bed *b, struct wv_au_header *ret, int timeout_ms)
{
    uint64_t until = wv_now_ns() + (uint64_t)timeout_ms * WV_NS_PER_MS;
    const uint8_t *data;

    do {
        struct pollfd p = {.fd = b->au_event, .events = POLLIN};
        eventfd_t count;
        int r = wv_au_pop(b->transport, ret, &data);

        ck_assert_int_ne(r, WV_AU_BAD);
        if (!r) {
            look_inside(b, ret, data);
            wv_au_pop_done(b->transport);
            return true;
        }
        let_live(b, 5);
        if (poll(&p, 1, 10) == 1)
            (void)eventfd_read(b->au_event, &count);
    } while (wv_now_ns() < until);
    return false;
}

static void say_target(struct bed *b, uint32_t viewers)
{
    Wavry__Bus__EncoderTarget t = WAVRY__BUS__ENCODER_TARGET__INIT;
    int r = WV_BUS_UNSENT;

    t.viewers = viewers;
    for (unsigned i = 0; r == WV_BUS_UNSENT && i < PATIENCE / 10; i++) {
        r = wv_bus_send(b->link, &t.base);
        if (r)
            (void)poll(NULL, 0, 10); /* until the stage has connected */
    }
    ck_assert_int_eq(r, 0);
}

static void wait_for_viewers(struct bed *b, uint64_t viewers)
{
    struct wv_metrics_snapshot *s = calloc(1, sizeof(*s));
    const struct wv_metric_value *v = NULL;

    ck_assert_ptr_nonnull(s);
    for (unsigned i = 0; i < PATIENCE / 10; i++) {
        if (!wv_metrics_read(b->metrics, s) && (v = wv_metrics_find(s, "viewers")) && v->value == viewers)
            break;
        (void)poll(NULL, 0, 10);
    }
    ck_assert(v && v->value == viewers);
    free(s);
}

START_TEST(a_stage_killed_comes_back_with_a_keyframe_of_the_same_picture)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint64_t begun;
    uint16_t epoch;
    uint32_t id = 0;

    start(b);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    publish(b, WIDTH, HEIGHT, 0);
    ck_assert(pop(b, &h, PATIENCE));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(h.width, WIDTH);
    epoch = h.epoch;
    publish(b, WIDTH, HEIGHT, 4);
    ck_assert(pop(b, &h, PATIENCE));
    ck_assert_uint_eq(h.keyframe, 0);
    while (pop(b, &h, 1000)) /* the refinements: they end by themselves */
        id = h.frame_id;
    stop(b, SIGKILL);
    while (pop(b, &h, 0)) /* unless the machine gave them no time */
        id = h.frame_id;

    begun = wv_now_ns();
    start(b); /* no new picture, no word of transport */
    ck_assert(pop(b, &h, PATIENCE));
    printf("from start to the first access unit: %.1f ms\n", (double)(wv_now_ns() - begun) / 1e6);
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(h.epoch, (uint16_t)(epoch + 1));
    ck_assert_uint_eq(h.frame_id, id + 1);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    publish(b, 800, 600, 0); /* a new size when locked down: x264 makes new threads */
    do
        ck_assert(pop(b, &h, PATIENCE));
    while (h.width == WIDTH);
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(h.width, 800);
    ck_assert_uint_eq(h.height, 600);
    ck_assert_int_eq(stop(b, SIGTERM), 0);
    bed_free(b);
}
END_TEST

static uint64_t counter(struct bed *b, const char *name)
{
    struct wv_metrics_snapshot *s = calloc(1, sizeof(*s));
    const struct wv_metric_value *v = NULL;

    ck_assert_ptr_nonnull(s);
    if (!wv_metrics_read(b->metrics, s))
        v = wv_metrics_find(s, name);
    uint64_t value = v ? v->value : 0;
    free(s);
    return value;
}

static bool is_running(const struct bed *b)
{
    return waitpid(b->pid, NULL, WNOHANG) == 0;
}

/* Random bytes over the headers (all that lies before the first slot's pixels, and between them), as fast as
 * they can be written and while the stage reads; honest pictures in between, so that it has something to
 * believe. */
static void write_rubbish(struct bed *b, uint64_t until_ns)
{
    struct stat st;
    uint64_t random = 88172645463325252u;

    ck_assert_int_eq(fstat(b->frames, &st), 0);
    uint8_t *page = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->frames, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    for (unsigned i = 0; wv_now_ns() < until_ns; i++) {
        for (unsigned n = 0; n < 64; n++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            /* the front of the file holds the headers: mostly there, with small and with any values */
            size_t at = (size_t)(random >> 20) % (n % 8 ? 8192 : (size_t)st.st_size);
            page[at] = (uint8_t)(n % 2 ? random >> 8 : random & 3);
        }
        if (i % 64 == 0)
            publish(b, WIDTH, HEIGHT, i);
        ck_assert_int_eq(eventfd_write(b->raw_event, 1), 0);
    }
    munmap(page, (size_t)st.st_size);
}

START_TEST(a_producer_gone_mad_is_counted_and_survived)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    start(b);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    publish(b, WIDTH, HEIGHT, 0);
    ck_assert(pop(b, &h, PATIENCE));
    for (unsigned round = 0; round < 8 || (counter(b, "ring_bad_total") == 0 && round < 100); round++) {
        write_rubbish(b, wv_now_ns() + 150 * WV_NS_PER_MS);
        ck_assert_msg(is_running(b), "the stage died of what capture wrote");
        while (pop(b, &h, 0)) /* whatever came of it is sound: pop() looks inside */
            ;
    }
    ck_assert_uint_gt(counter(b, "ring_bad_total"), 0);

    /* An honest successor of the mad one mends the ring by itself. */
    b->capture = wv_ring_producer_free(b->capture);
    ck_assert_int_eq(wv_ring_producer_new(&b->capture, b->frames, b->raw_reader), 0);
    uint64_t encoded = counter(b, "frames_encoded_total");
    for (unsigned i = 0; i < 200 && counter(b, "frames_encoded_total") < encoded + 5; i++) {
        publish(b, WIDTH, HEIGHT, 2 * i);
        (void)pop(b, &h, 100);
    }
    ck_assert_uint_ge(counter(b, "frames_encoded_total"), encoded + 5);
    ck_assert_uint_eq(h.width, WIDTH);
    ck_assert_int_eq(stop(b, SIGTERM), 0);
    bed_free(b);
}
END_TEST

START_TEST(it_asks_for_a_key_until_it_has_one)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    b->silent = true;
    start(b);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    publish(b, WIDTH, HEIGHT, 0);
    for (unsigned i = 0; i < 50 && b->questions < 5; i++)
        ck_assert(!pop(b, &h, 500));
    ck_assert_uint_ge(b->questions, 5);
    ck_assert_uint_eq(counter(b, "frames_encoded_total"), 0);
    b->silent = false;
    ck_assert(pop(b, &h, PATIENCE));
    ck_assert_uint_eq(h.keyframe, 1);
    unsigned asked, tries = 0;
    do { /* those that it asked before may be under way */
        ck_assert_uint_lt(tries++, 100);
        asked = b->questions;
        let_live(b, 200);
    } while (b->questions != asked);
    ck_assert_int_eq(stop(b, SIGTERM), 0);
    bed_free(b);
}
END_TEST

START_TEST(transport_says_whether_anybody_watches)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    start(b);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_READY);
    let_live(b, 100);
    say_target(b, 0);
    wait_for_viewers(b, 0);
    publish(b, WIDTH, HEIGHT, 0);
    ck_assert(!pop(b, &h, 200));
    say_target(b, 1);
    ck_assert(pop(b, &h, PATIENCE));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_int_eq(stop(b, SIGTERM), 0);
    bed_free(b);
}
END_TEST

START_TEST(without_its_plugin_it_says_what_to_do)
{
    struct bed *b = bed_new();
    Wavry__Bus__StageMessage *m;
    struct pollfd p = {.fd = b->listener, .events = POLLIN};
    struct wv_peer peer;
    int status;

    b->pid = fork();
    ck_assert_int_ge(b->pid, 0);
    if (b->pid == 0)
        run_stage(b, "plugin_dir=/nonexistent");
    ck_assert_int_eq(poll(&p, 1, PATIENCE), 1);
    b->connection = wv_seqpacket_accept(b->listener, &peer);
    expect(b, WAVRY__BUS__STAGE_MESSAGE__KIND_HELLO);
    grant(b);
    m = receive(b);
    ck_assert_int_eq(m->kind_case, WAVRY__BUS__STAGE_MESSAGE__KIND_FAILED);
    ck_assert_ptr_nonnull(strstr(m->failed->reason, "/nonexistent/libgstx264.so"));
    ck_assert_ptr_nonnull(strstr(m->failed->reason, "gstreamer1.0-plugins-ugly"));
    protobuf_c_message_free_unpacked(&m->base, NULL);
    ck_assert_int_eq(waitpid(b->pid, &status, 0), b->pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) != 0);
    bed_free(b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encoder_stage");
    TCase *stage = tcase_create("stage");

    tcase_add_test(stage, a_stage_killed_comes_back_with_a_keyframe_of_the_same_picture);
    tcase_add_test(stage, a_producer_gone_mad_is_counted_and_survived);
    tcase_add_test(stage, it_asks_for_a_key_until_it_has_one);
    tcase_add_test(stage, transport_says_whether_anybody_watches);
    tcase_add_test(stage, without_its_plugin_it_says_what_to_do);
    tcase_set_timeout(stage, 120);
    suite_add_tcase(suite, stage);
    return wv_run_suite(suite);
}
