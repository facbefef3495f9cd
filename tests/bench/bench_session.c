/* What a session costs without a network: a host sends frames of 20 kB (18 datagrams), a client takes them;
 * input goes the other way. Prints a line for people and one of JSON. */
#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "rift/core/session.h"
#include "rift/crypto/identity.h"

#include <stdio.h>
#include <string.h>

#define FRAME_BYTES 20000
#define FRAMES      20000
#define BACK        1024 /* datagrams on their way back */

struct totals {
    uint64_t send_ns, receive_ns, input_ns, datagrams, frames, events;
};

static void pass(struct rift_session *from, struct rift_session *to, uint64_t now, struct totals *t)
{
    static uint8_t datagrams[64][RIFT_MTU_BYTES];
    static size_t lengths[64];
    size_t n = 0;
    uint64_t began = wv_now_ns();
    while (n < 64 && rift_session_send(from, datagrams[n], RIFT_MTU_BYTES, now, &lengths[n]) == 0)
        n++;
    uint64_t sent = wv_now_ns();
    struct rift_event e;
    for (size_t i = 0; i < n; i++) {
        rift_session_receive(to, datagrams[i], lengths[i], now);
        while (rift_session_next_event(to, &e) == 0) {
            t->frames += e.kind == RIFT_EVENT_FRAME;
            t->events += e.kind == RIFT_EVENT_INPUT;
        }
    }
    t->datagrams += n;
    t->send_ns += sent - began;
    t->receive_ns += wv_now_ns() - sent;
}

static void run(struct rift_session *host, struct rift_session *client, struct totals *video,
                struct totals *input)
{
    static uint8_t frame[FRAME_BYTES];
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint64_t now = WV_NS_PER_S + i * WV_NS_PER_MS;
        struct rift_frame_meta meta = {.frame_id = i, .keyframe = i == 0};
        uint64_t began = wv_now_ns();
        if (rift_session_send_frame(host, &meta, frame, sizeof frame, now) != 0)
            abort();
        video->send_ns += wv_now_ns() - began;
        pass(host, client, now, video);
        struct rift_input_event key = {.kind = RIFT_INPUT_KEY, .code = 30, .down = i % 2};
        uint32_t seq;
        rift_session_send_input(client, &key, now, &seq);
        pass(client, host, now, input);
        pass(host, client, now, input);
    }
}

/* Every allocation of the program is counted. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t size);
static unsigned long long allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    allocations++;
    return __libc_realloc(p, size);
}

/* DELTA, reports and repairs: a datagram in 50 is lost, 60 ms round trip, 20 kB 60 times a second. */
static void controlled(void)
{
    static uint8_t frame[FRAME_BYTES];
    struct rift_session_config h = {.role = RIFT_ROLE_HOST, .local_id = 1, .remote_id = 2, .fec = true};
    struct rift_session_config c = {.role = RIFT_ROLE_CLIENT, .local_id = 2, .remote_id = 1, .fps = 60};
    struct rift_session *host, *client;
    static struct {
        uint8_t data[RIFT_MTU_BYTES];
        size_t len;
        uint64_t due;
    } back[BACK];
    unsigned in = 0, out = 0;
    uint64_t cpu_ns = 0, datagrams = 0;
    h.congestion = &rift_delta;
    h.min_bps = 500000, h.max_bps = 100000000, h.start_bps = 20000000, h.fps = 60;
    if (rift_session_new(&host, &h, WV_NS_PER_S) < 0 || rift_session_new(&client, &c, WV_NS_PER_S) < 0)
        abort();
    unsigned long long before = 0;
    for (uint32_t i = 0; i < 1500 * 17; i++) {
        uint64_t now = WV_NS_PER_S + i * WV_NS_PER_MS;
        uint8_t datagram[RIFT_MTU_BYTES];
        size_t len;
        struct rift_event e;
        struct rift_frame_meta meta = {.frame_id = i / 17, .keyframe = i == 0};
        if (i == 300 * 17)
            before = allocations;
        uint64_t began = wv_now_ns();
        if (i % 17 == 0)
            (void)rift_session_target_bps(host, now);
        if (i % 17 == 0)
            rift_session_send_frame(host, &meta, frame, sizeof frame, now);
        while (rift_session_send(host, datagram, sizeof datagram, now, &len) == 0)
            if (++datagrams % 50)
                rift_session_receive(client, datagram, len, now);
        while (rift_session_send(client, back[in % BACK].data, RIFT_MTU_BYTES, now, &back[in % BACK].len) ==
               0)
            back[in++ % BACK].due = now + 60 * WV_NS_PER_MS;
        for (; out != in && back[out % BACK].due <= now; out++)
            rift_session_receive(host, back[out % BACK].data, back[out % BACK].len, now);
        while (rift_session_next_event(client, &e) == 0 || rift_session_next_event(host, &e) == 0)
            ;
        cpu_ns += wv_now_ns() - began;
    }
    struct rift_session_stats hs, cs;
    rift_session_get_stats(host, &hs);
    rift_session_get_stats(client, &cs);
    printf("with DELTA and repairs: %.0f ns a datagram through both ends, %llu repairs gave back %llu; "
           "%llu allocations in 1200 frames\n",
           (double)cpu_ns / (double)datagrams, (unsigned long long)hs.repairs_sent,
           (unsigned long long)cs.fragments_recovered, allocations - before);
    printf("{\"bench\":\"session-controlled\",\"ns_per_datagram\":%.0f,\"allocations\":%llu}\n",
           (double)cpu_ns / (double)datagrams, allocations - before);
    rift_session_free(host);
    rift_session_free(client);
}

/* The export of a host's state with an event to be acknowledged and a short message under way. */
static double export_ns(void)
{
    static uint8_t state[RIFT_STATE_MAX_BYTES];
    struct rift_session_config c = {.role = RIFT_ROLE_HOST, .local_id = 1, .remote_id = 2};
    struct rift_session *host;
    size_t len;
    if (rift_session_new(&host, &c, WV_NS_PER_S) < 0 || rift_session_reserve(host, 65536) < 0)
        abort();
    rift_session_send_control(host, state, 200, WV_NS_PER_S);
    uint64_t began = wv_now_ns();
    for (int i = 0; i < 20000; i++)
        if (rift_session_export(host, state, sizeof state, WV_NS_PER_S, &len) != 0)
            abort();
    double ns = (double)(wv_now_ns() - began) / 20000;
    for (int i = 0; i < 64; i++) /* all that a state may hold of control */
        rift_session_send_control(host, state, 1000, WV_NS_PER_S);
    began = wv_now_ns();
    for (int i = 0; i < 2000; i++)
        if (rift_session_export(host, state, sizeof state, WV_NS_PER_S, &len) != 0)
            abort();
    printf("export of a session's state: %.0f ns; with 64 kB of messages under way %.0f ns\n", ns,
           (double)(wv_now_ns() - began) / 2000);
    rift_session_free(host);
    return ns;
}

int main(void)
{
    struct rift_session_config h = {.role = RIFT_ROLE_HOST, .local_id = 1, .remote_id = 2};
    struct rift_session_config c = {.role = RIFT_ROLE_CLIENT, .local_id = 2, .remote_id = 1};
    struct rift_session *host, *client;
    struct totals video = {0}, input = {0};
    if (rift_crypto_init() < 0 || rift_session_new(&host, &h, WV_NS_PER_S) < 0 ||
        rift_session_new(&client, &c, WV_NS_PER_S) < 0)
        return 71;
    run(host, client, &video, &input);
    struct rift_session_stats stats;
    rift_session_get_stats(host, &stats);
    double send = (double)video.send_ns / (double)video.datagrams;
    double receive = (double)video.receive_ns / (double)video.datagrams;
    double event = (double)(input.send_ns + input.receive_ns) / (double)FRAMES;
    printf("video: %.0f ns to send and %.0f ns to receive a datagram, %.0f datagrams/s through both; "
           "a frame of %d bytes takes %.1f us to send; an input event there and back %.0f ns\n",
           send, receive, 1e9 / (send + receive), FRAME_BYTES, (double)video.send_ns / FRAMES / 1e3, event);
    printf("{\"bench\":\"session\",\"send_ns_per_datagram\":%.0f,\"receive_ns_per_datagram\":%.0f,"
           "\"datagrams_per_s\":%.0f,\"send_us_per_frame\":%.2f,\"input_round_trip_ns\":%.0f,"
           "\"frames\":%llu,\"events\":%llu,\"host_memory_bytes\":%zu}\n",
           send, receive, 1e9 / (send + receive), (double)video.send_ns / FRAMES / 1e3, event,
           (unsigned long long)(video.frames + input.frames),
           (unsigned long long)(video.events + input.events), stats.memory_bytes);
    controlled();
    printf("{\"bench\":\"session-export\",\"export_ns\":%.0f}\n", export_ns());
    bool complete = video.frames + input.frames == FRAMES && video.events + input.events == FRAMES;
    rift_session_free(host);
    rift_session_free(client);
    return complete ? 0 : 1;
}
