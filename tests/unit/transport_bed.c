#include "tests/unit/transport_bed.h"

#include "client/wavry_client.h"
#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "lib/ipc/session_page.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "rift/core/delta.h"
#include "services/transport/session_vault.h"
#include "services/transport/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define VIEWER_NS   (60 * WV_NS_PER_S)
#define CLIENT_SEED 77
#define KEY_A       30

_Atomic uint64_t *bed_allocations;

static const char *const stage_names[] = {"encoder", "capture", "input", "identity", "reach"};
#define STAGES 5

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "transport bed: %s: %s\n", what, strerror(errno));
    exit(70);
}

static void link_path(const struct bed *b, const char *name, char *ret, size_t n)
{
    snprintf(ret, n, "%s/%s.sock", b->folder, name);
}

/* ---- the transport's process ---- */

static void on_drained(void *userdata)
{
}

static _Noreturn void run_transport(struct bed *b)
{
    struct wv_bus_link *links[STAGES];
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_transport *t;
    struct wv_bus *bus;
    const char *why;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bed_allocations = &b->shared->allocations;
    need(wv_loop_new(&loop) == 0, "a loop");
    need(wv_metrics_new(&metrics, b->metrics_fd, "transport", wv_transport_metrics, WV_T_METRICS) == 0,
         "metrics");
    const struct wv_transport_setup setup = {.loop = loop,
                                             .metrics = metrics,
                                             .udp_fd = b->udp,
                                             .au_entries_fd = b->au_entries,
                                             .au_reader_fd = b->au_reader,
                                             .au_event_fd = b->au_event,
                                             .session_page_fd = b->page,
                                             .session_vault_fd = b->vault,
                                             .host_name = "bed",
                                             .bitrate_bps = b->options.bitrate_bps,
                                             .max_fps = b->options.fps,
                                             .max_sessions = 8,
                                             .pacing_bps = 100000000,
                                             .burst_bytes = 65536,
                                             .congestion = &rift_delta,
                                             .min_bps = 500000,
                                             .start_bps = b->options.start_bps,
                                             .fec = b->options.fec,
                                             .drained = on_drained};
    need(wv_transport_new(&t, &setup, &why) == 0, "the transport");
    need(wv_bus_new(&bus, loop, wv_transport_rules, WV_TRANSPORT_RULES, t) == 0, "a bus");
    for (size_t i = 0; i < STAGES; i++) {
        char path[108];
        link_path(b, stage_names[i], path, sizeof path);
        need(wv_bus_add_link(bus, stage_names[i], path, true, &links[i]) == 0, "a link");
    }
    wv_bus_set_phase(bus, WV_PHASE_RUN);
    const struct wv_transport_links all = {
        .encoder = links[0], .capture = links[1], .input = links[2], .identity = links[3], .reach = links[4]};
    need(wv_transport_start(t, &all) == 0, "the start");
    need(wv_loop_run(loop) >= 0, "the loop");
    _exit(0);
}

/* ---- the client's process ---- */

struct eyes {
    struct bed *bed;
    struct wv_client *client;
    struct wv_loop_source *keys;
    uint64_t random;
    bool down;
};

static void on_access_unit(void *userdata, const struct rift_frame_meta *meta, const uint8_t *data,
                           size_t len)
{
    struct eyes *e = userdata;
    uint64_t now_us = wv_now_ns() / WV_NS_PER_US, turn = atomic_fetch_add(&e->bed->shared->frames, 1);
    atomic_store(&e->bed->shared->frame_us[turn % BED_EVENTS], (uint32_t)(now_us - meta->capture_us));
    atomic_fetch_add(&e->bed->shared->frame_bytes, len);
}

/* Somewhere between half and one and a half of the mean, so that no rhythm of the video is met. */
static uint64_t next_key(struct eyes *e)
{
    e->random = e->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    uint64_t every = e->bed->options.input_every_ns;
    return every / 2 + (e->random >> 33) % (every + 1);
}

static int on_keys(void *userdata, uint64_t now)
{
    struct eyes *e = userdata;
    struct wv_client_stats stats;
    uint32_t seq;
    wv_client_get_stats(e->client, &stats);
    atomic_store(&e->bed->shared->frames_lost, stats.frames_lost);
    atomic_store(&e->bed->shared->packets_lost, stats.packets_lost);
    now = wv_now_ns();
    struct rift_input_event event = {.kind = RIFT_INPUT_KEY, .code = KEY_A, .down = !e->down};
    if (e->bed->options.input_every_ns && wv_client_send_input(e->client, &event, &seq) == 0) {
        atomic_store(&e->bed->shared->sent_ns[seq % BED_EVENTS], now);
        wv_client_flush(e->client);
        e->down = !e->down;
    }
    wv_loop_timer_at(e->keys, now + (e->bed->options.input_every_ns ? next_key(e) : WV_NS_PER_S / 10));
    return 0;
}

static void enter(const char *namespace)
{
    wv_cleanup(wv_close_p) int fd = open(namespace, O_RDONLY | O_CLOEXEC);
    need(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, "the client's network namespace");
}

static void client_identity(struct rift_identity *ret)
{
    uint8_t seed[RIFT_IDENTITY_SEED_BYTES];
    memset(seed, CLIENT_SEED, sizeof seed);
    rift_identity_from_seed(ret, seed);
}

static _Noreturn void run_client(struct bed *b)
{
    struct eyes e = {.bed = b, .random = 1};
    struct rift_identity identity;
    struct wv_loop *loop;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (b->options.client_namespace)
        enter(b->options.client_namespace);
    client_identity(&identity);
    const struct wv_client_options options = {.host = b->options.address,
                                              .port = b->port,
                                              .identity = &identity,
                                              .host_key = b->host_key,
                                              .no_decode = true};
    const struct wv_client_callbacks callbacks = {.access_unit = on_access_unit};
    need(wv_loop_new(&loop) == 0 && wv_client_new(&e.client, loop, &options, &callbacks, &e) == 0,
         "a client");
    need(wv_loop_add_timer(loop, on_keys, &e, &e.keys) == 0, "a timer");
    wv_loop_timer_at(e.keys, wv_now_ns() + WV_NS_PER_S / 2);
    need(wv_loop_run(loop) >= 0, "the client's loop");
    _exit(0);
}

/* ---- the stand-ins ---- */

static int on_encoder_target(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct bed *b = userdata;
    const Wavry__Bus__EncoderTarget *m = (const Wavry__Bus__EncoderTarget *)base;
    b->target_bps = m->bitrate_bps;
    b->viewers = m->viewers;
    b->hold = m->hold;
    return 0;
}

static int on_keyframe_request(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct bed *b = userdata;
    b->keyframe_wanted = true;
    return 0;
}

static int ignore(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    return 0;
}

static int on_addresses(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct bed *b = userdata;
    if (b->on_addresses)
        b->on_addresses(b->userdata, (const Wavry__Bus__TransportAddresses *)base);
    return 0;
}

static int on_input_batch(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct bed *b = userdata;
    const Wavry__Bus__InputBatch *m = (const Wavry__Bus__InputBatch *)base;
    uint32_t n_events = (uint32_t)(m->events.len / RIFT_INPUT_SEALED_BYTES);
    now = wv_now_ns();
    for (uint32_t i = 0; i < n_events; i++) {
        uint32_t seq = m->first_seq + i;
        uint64_t sent = atomic_load(&b->shared->sent_ns[seq % BED_EVENTS]);
        if (seq <= b->input_seen)
            continue;
        b->input_seen = seq;
        if (b->on_input && sent)
            b->on_input(b->userdata, seq, now - sent, now);
    }
    Wavry__Bus__InputDone done = WAVRY__BUS__INPUT_DONE__INIT;
    done.session = m->session;
    done.seq = m->first_seq + n_events - 1;
    wv_bus_send(b->stages[2].link, &done.base);
    return 0;
}

static const struct wv_bus_rule stand_in_rules[] = {
    {"transport", &wavry__bus__encoder_target__descriptor, WV_PHASE_ANY, 1000, 64, on_encoder_target},
    {"transport", &wavry__bus__keyframe_request__descriptor, WV_PHASE_ANY, 1000, 64, on_keyframe_request},
    {"transport", &wavry__bus__capture_target__descriptor, WV_PHASE_ANY, 1000, 64, ignore},
    {"transport", &wavry__bus__cursor_shape_request__descriptor, WV_PHASE_ANY, 1000, 64, ignore},
    {"transport", &wavry__bus__input_batch__descriptor, WV_PHASE_ANY, 4000, 8192, on_input_batch},
    {"transport", &wavry__bus__input_release__descriptor, WV_PHASE_ANY, 1000, 64, ignore},
    {"transport", &wavry__bus__transport_addresses__descriptor, WV_PHASE_ANY, 1000, 256, on_addresses},
    {"transport", &wavry__bus__path_states__descriptor, WV_PHASE_ANY, 1000, 8192, ignore},
};

/* Identity's own rules, and what is for us. The rules of a bus share one userdata, which is identity's. */
static struct bed *bed_of_answers;

static int on_path_answer(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    if (bed_of_answers->on_path_answer)
        bed_of_answers->on_path_answer(bed_of_answers->userdata, (const Wavry__Bus__PathAnswer *)base);
    return 0;
}

static size_t identity_rules(struct bed *b, struct wv_bus_rule ret_rules[WV_IDENTITY_RULES + 1])
{
    size_t n = 0;
    bed_of_answers = b;
    for (size_t i = 0; i < WV_IDENTITY_RULES; i++)
        if (wv_identity_rules[i].type != &wavry__bus__path_answer__descriptor)
            ret_rules[n++] = wv_identity_rules[i];
    ret_rules[n++] = (struct wv_bus_rule){
        "transport", &wavry__bus__path_answer__descriptor, WV_PHASE_ANY, 1000, 2048, on_path_answer};
    return n;
}

/* Identity's links: that to transport is one, the encoder is here. */
static int identity_says(void *userdata, enum wv_identity_to to, const ProtobufCMessage *message)
{
    struct bed *b = userdata;
    if (to == WV_TO_TRANSPORT)
        return wv_bus_send(b->stages[3].link, message);
    if (to == WV_TO_ENCODER) {
        const Wavry__Bus__MediaKey *m = (const Wavry__Bus__MediaKey *)message;
        need(m->key.len == RIFT_MEDIA_KEY_BYTES, "a media key");
        rift_media_sealer_init(&b->sealer, m->kid, m->key.data);
    }
    return 0;
}

static void connect_stage(struct bed *b, size_t i)
{
    static struct wv_bus_rule rules[WV_IDENTITY_RULES + 1];
    char path[108];
    bool identity = i == 3;
    size_t n = identity ? identity_rules(b, rules) : WV_ARRAY_SIZE(stand_in_rules);
    struct bed_stage *s = &b->stages[i];
    link_path(b, stage_names[i], path, sizeof path);
    need(wv_bus_new(&s->bus, b->loop, identity ? rules : stand_in_rules, n,
                    identity ? (void *)b->identity : (void *)b) == 0 &&
             wv_bus_add_link(s->bus, "transport", path, false, &s->link) == 0,
         "a stage's bus");
    wv_bus_set_phase(s->bus, WV_PHASE_RUN);
    const struct wv_identity_world world = {.send = identity_says, .userdata = b};
    if (identity)
        need(wv_identity_start(b->identity, b->loop, &world, wv_now_ns()) == 0, "identity");
}

/* The encoder: a frame of the size that it was asked for. */
static int on_frame(void *userdata, uint64_t now)
{
    static uint8_t data[WV_AU_MAX_BYTES];
    struct bed *b = userdata;
    uint64_t one = 1;
    if (!b->viewers)
        return 0;
    if (b->hold) {
        b->frames_held++;
        return 0;
    }
    size_t len = WV_MIN((size_t)b->target_bps / 8 / b->options.fps, sizeof data - RIFT_MEDIA_OVERHEAD_MAX);
    struct wv_au_header h = {.keyframe = b->keyframe_wanted || b->frames_pushed == 0,
                             .width = 1280,
                             .height = 720,
                             .capture_ns = now,
                             .damage_ns = now,
                             .raw_publish_ns = now,
                             .encode_start_ns = now,
                             .encode_end_ns = now};
    len = WV_MAX(len, (size_t)64);
    const struct rift_media_about about = {.epoch = wv_au_producer_epoch(b->encoder_ring),
                                           .keyframe = (uint8_t)h.keyframe,
                                           .width = (uint16_t)h.width,
                                           .height = (uint16_t)h.height};
    uint8_t *room;
    size_t sealed_len, capacity = len + RIFT_MEDIA_OVERHEAD_MAX;
    need(wv_au_reserve(b->encoder_ring, capacity, &room) == 0, "the access-unit ring has room");
    need(rift_media_seal(&b->sealer, &about, data, len, room, capacity, &sealed_len) == 0, "a sealed frame");
    need(wv_au_commit(b->encoder_ring, &h, sealed_len, now) == 0, "the access-unit ring takes it");
    need(write(b->au_event, &one, sizeof one) == sizeof one, "the eventfd");
    b->keyframe_wanted = false;
    b->frames_pushed++;
    return 0;
}

/* ---- the whole ---- */

static void open_udp(struct bed *b)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(b->options.port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(b->options.port)};
    bool any = !b->options.address;
    int off = 0;
    socklen_t len = any ? sizeof in6 : sizeof in;
    void *name = any ? (void *)&in6 : (void *)&in;
    b->udp = socket(any ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    need(any ? setsockopt(b->udp, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0
             : inet_pton(AF_INET, b->options.address, &in.sin_addr) == 1,
         "the host's address");
    need(b->udp >= 0 && bind(b->udp, name, len) == 0 && getsockname(b->udp, name, &len) == 0,
         "the host's socket");
    b->port = ntohs(any ? in6.sin6_port : in.sin_port);
}

static void make_things(struct bed *b)
{
    strcpy(b->folder, "/tmp/wavry-bed-XXXXXX");
    need(mkdtemp(b->folder) != NULL, b->folder);
    b->shared = mmap(NULL, sizeof *b->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(b->shared != MAP_FAILED, "shared memory");
    open_udp(b);
    b->au_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    need(b->au_event >= 0 && wv_au_ring_create(&b->au_entries, &b->au_reader) == 0 &&
             wv_session_page_create(&b->page) == 0 &&
             wv_memfd_create("vault", WV_SESSION_VAULT_BYTES, &b->vault) == 0 &&
             wv_metrics_create_page(&b->metrics_fd) == 0,
         "memory");
}

static void authorize(struct bed *b)
{
    struct rift_identity id;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], text[160], reply[512];
    client_identity(&id);
    rift_public_key_format(id.public, key);
    snprintf(text, sizeof text, "%s bed", key);
    need(wv_identity_request(b->identity, "authorize", text, wv_now_ns(), reply, sizeof reply) == 0,
         "authorizing");
    need(wv_identity_request(b->identity, "key", "", wv_now_ns(), reply, sizeof reply) == 0 &&
             rift_public_key_parse(reply, b->host_key) == 0,
         "the host's key");
}

void bed_init(struct bed *b, const struct bed_options *options)
{
    char state[96], reason[WV_IDENTITY_REASON_BYTES];
    *b = (struct bed){.options = *options};
    need(rift_crypto_init() == 0, "libsodium");
    make_things(b);
    fflush(NULL);
    b->transport = fork();
    need(b->transport >= 0, "fork");
    if (b->transport == 0)
        run_transport(b);
    need(wv_loop_new(&b->loop) == 0 &&
             wv_metrics_new(&b->identity_metrics, -1, "identity", wv_identity_metrics, WV_IDENTITY_METRICS) ==
                 0 &&
             wv_au_producer_new(&b->encoder_ring, b->au_entries, b->au_reader) == 0,
         "the stand-ins");
    snprintf(state, sizeof state, "%s/identity", b->folder);
    need(wv_identity_new(&b->identity, state, -1, b->identity_metrics, wv_now_ns(), reason) == 0, "identity");
    for (size_t i = 0; i < STAGES; i++)
        connect_stage(b, i);
    authorize(b);
    need(wv_loop_add_timer(b->loop, on_frame, b, &b->frame_timer) == 0, "a timer");
    wv_loop_timer_every(b->frame_timer, WV_NS_PER_S / options->fps);
}

void bed_restart_transport(struct bed *b)
{
    int status;
    need(kill(b->transport, SIGKILL) == 0 && waitpid(b->transport, &status, 0) == b->transport, "killing");
    fflush(NULL);
    b->transport = fork();
    need(b->transport >= 0, "fork");
    if (b->transport == 0)
        run_transport(b);
}

void bed_say_as_identity(struct bed *b, const ProtobufCMessage *message)
{
    need(wv_bus_send(b->stages[3].link, message) == 0, "the link to transport");
}

void bed_say_as_reach(struct bed *b, const ProtobufCMessage *message)
{
    need(wv_bus_send(b->stages[4].link, message) == 0, "the link to transport");
}

void bed_client(struct bed *b)
{
    fflush(NULL);
    b->client = fork();
    need(b->client >= 0, "fork");
    if (b->client == 0)
        run_client(b);
}

static int on_end(void *userdata, uint64_t now)
{
    struct bed *b = userdata;
    wv_loop_quit(b->loop, 0);
    return 0;
}

void bed_run(struct bed *b, uint64_t ns)
{
    need(wv_loop_add_timer(b->loop, on_end, b, &b->end_timer) == 0, "a timer");
    wv_loop_timer_at(b->end_timer, wv_now_ns() + ns);
    need(wv_loop_run(b->loop) >= 0, "the loop");
    b->end_timer = wv_loop_remove(b->end_timer);
}

void bed_wait_viewer(struct bed *b)
{
    for (uint64_t end = wv_now_ns() + VIEWER_NS; !b->viewers && wv_now_ns() < end;)
        bed_run(b, 20 * WV_NS_PER_MS);
    errno = ETIMEDOUT;
    need(b->viewers > 0, "a client connects");
}

static void end_process(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void bed_fini(struct bed *b)
{
    end_process(b->client);
    end_process(b->transport);
    for (size_t i = 0; i < 3; i++)
        wv_bus_free(b->stages[i].bus);
    wv_identity_free(b->identity);
    wv_bus_free(b->stages[3].bus);
    wv_bus_free(b->stages[4].bus);
    wv_au_producer_free(b->encoder_ring);
    wv_loop_free(b->loop);
    wv_metrics_free(b->identity_metrics);
    int fds[] = {b->udp, b->au_entries, b->au_reader, b->au_event, b->page, b->metrics_fd, b->vault};
    for (size_t i = 0; i < WV_ARRAY_SIZE(fds); i++)
        wv_close(fds[i]);
    munmap(b->shared, sizeof *b->shared);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", b->folder);
    need(system(command) == 0, command);
}

uint64_t bed_cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    need(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &t) == 0,
         "the CPU clock of a process");
    return (uint64_t)t.tv_sec * WV_NS_PER_S + (uint64_t)t.tv_nsec;
}

const struct wv_metrics_snapshot *bed_metrics(struct bed *b)
{
    static struct wv_metrics_snapshot snapshot;
    need(wv_metrics_read(b->metrics_fd, &snapshot) == 0, "the metrics page");
    return &snapshot;
}
