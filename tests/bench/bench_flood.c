/* bench-flood [SECONDS] [PACKETS-PER-SECOND]: a live session while strangers send junk to the same socket:
 * random bytes, first datagrams without a MAC, whole and too short, data for a session that is not there, cut
 * datagrams. Prints what the session noticed and what each junk datagram cost transport. Exit 1 when a figure
 * is missed. */
#include "lib/base/util.h"
#include "rift/core/handshake.h"
#include "tests/unit/transport_bed.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BITRATE_BPS 20000000u
#define FPS         60u
#define SETTLE_NS   (4 * WV_NS_PER_S)
#define BURST       20
#define KINDS       6

struct phase {
    uint64_t frames, missing, allocations, cpu_ns, wall_ns, received;
    uint32_t p50_us, p99_us;
};

/* ---- junk ---- */

struct junk {
    uint8_t data[KINDS][1400];
    size_t len[KINDS];
};

static void make_junk(struct junk *j)
{
    static const size_t lengths[KINDS] = {700, 90, RIFT_MTU_BYTES, 1100, 40, RIFT_MTU_BYTES};
    static const uint8_t kinds[KINDS] = {0xee,
                                         RIFT_DATAGRAM_INIT,
                                         RIFT_DATAGRAM_INIT,
                                         RIFT_DATAGRAM_DATA,
                                         RIFT_DATAGRAM_DATA,
                                         RIFT_DATAGRAM_FINISH};
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < KINDS; i++) {
        j->len[i] = lengths[i];
        for (size_t k = 0; k < sizeof j->data[i]; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            j->data[i][k] = (uint8_t)(x >> 24);
        }
        j->data[i][0] = kinds[i];
        memset(j->data[i] + 1, 0, 3);
    }
}

static _Noreturn void run_flood(const struct bed *b, unsigned per_second)
{
    static struct junk j;
    struct mmsghdr messages[BURST];
    struct iovec iov[BURST];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(b->port)};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, b->options.address, &to.sin_addr) != 1)
        _exit(1);
    make_junk(&j);
    for (uint64_t began = wv_now_ns(), n = 0;;) {
        for (unsigned i = 0; i < BURST; i++, n++) {
            size_t kind = n % KINDS;
            iov[i] = (struct iovec){.iov_base = j.data[kind], .iov_len = j.len[kind]};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov[i], .msg_iovlen = 1};
        }
        (void)sendmmsg(fd, messages, BURST, MSG_DONTWAIT);
        uint64_t due = began + n * WV_NS_PER_S / per_second, now = wv_now_ns();
        if (due > now) {
            struct timespec pause = {.tv_nsec = (long)WV_MIN(due - now, WV_NS_PER_S - 1)};
            nanosleep(&pause, NULL);
        }
    }
}

/* ---- what the session notices ---- */

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t counter(struct bed *b, const char *name)
{
    const struct wv_metric_value *v = wv_metrics_find(bed_metrics(b), name);
    return v ? v->value : 0;
}

static struct phase measure(struct bed *b, unsigned seconds)
{
    static uint32_t times[BED_EVENTS];
    struct phase p = {0};
    uint64_t pushed = b->frames_pushed, received = counter(b, "packets_received_total");
    uint64_t allocations = b->shared->allocations, cpu = bed_cpu_ns(b->transport), wall = wv_now_ns();
    uint64_t first = b->shared->frames, n = 0;
    bed_run(b, seconds * WV_NS_PER_S);
    p.cpu_ns = bed_cpu_ns(b->transport) - cpu;
    p.wall_ns = wv_now_ns() - wall;
    p.allocations = b->shared->allocations - allocations;
    p.received = counter(b, "packets_received_total") - received;
    p.frames = b->frames_pushed - pushed;
    for (uint64_t i = first, end = b->shared->frames; i < end && n < BED_EVENTS; i++)
        times[n++] = b->shared->frame_us[i % BED_EVENTS];
    qsort(times, n, sizeof *times, compare);
    p.p50_us = n ? times[n / 2] : 0;
    p.p99_us = n ? times[n * 99 / 100] : UINT32_MAX;
    /* One may be under way at the end. */
    p.missing = p.frames > n + 1 ? p.frames - n - 1 : 0;
    return p;
}

static void print(const char *name, const struct phase *p)
{
    printf("%-6s %llu frames, %llu did not come; p50 %.2f ms, p99 %.2f ms; transport %.1f %% of a core, %llu "
           "datagrams in, %llu allocations\n",
           name, (unsigned long long)p->frames, (unsigned long long)p->missing, p->p50_us / 1e3,
           p->p99_us / 1e3, 100.0 * (double)p->cpu_ns / (double)p->wall_ns, (unsigned long long)p->received,
           (unsigned long long)p->allocations);
}

static int judge(const struct phase *calm, const struct phase *junk)
{
    uint64_t n = junk->received - WV_MIN(calm->received, junk->received);
    double extra_ns = (double)junk->cpu_ns - (double)calm->cpu_ns;
    double each_us = n ? extra_ns / (double)n / 1e3 : 0;
    double missing = junk->frames ? 100.0 * (double)junk->missing / (double)junk->frames : 100;
    double more_ms = ((double)junk->p99_us - (double)calm->p99_us) / 1e3;
    double rate = (double)n / ((double)junk->wall_ns / 1e9);
    printf("%.0f junk datagrams a second reached transport: %.2f us each, %.3f %% of frames lost, p99 %+.2f "
           "ms\n",
           rate, each_us, missing, more_ms);
    printf("{\"bench\":\"flood\",\"junk_per_s\":%.0f,\"us_each\":%.2f,\"frames_lost_percent\":%.3f,"
           "\"p99_more_ms\":%.2f,\"allocations\":%llu}\n",
           rate, each_us, missing, more_ms, (unsigned long long)junk->allocations);
    return n && each_us <= 2 && missing <= 0.1 && more_ms <= 2 && junk->allocations == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 20;
    unsigned per_second = argc > 2 ? (unsigned)atoi(argv[2]) : 100000;
    const struct bed_options options = {.address = "127.0.0.1",
                                        .bitrate_bps = BITRATE_BPS,
                                        .start_bps = BITRATE_BPS,
                                        .fps = FPS,
                                        .fec = true,
                                        .input_every_ns = 20 * WV_NS_PER_MS};
    struct bed b;
    bed_init(&b, &options);
    bed_client(&b);
    bed_wait_viewer(&b);
    bed_run(&b, SETTLE_NS);
    struct phase calm = measure(&b, seconds);
    print("calm:", &calm);
    fflush(NULL);
    pid_t flood = fork();
    if (flood == 0)
        run_flood(&b, per_second);
    bed_run(&b, WV_NS_PER_S);
    struct phase junk = measure(&b, seconds);
    print("flood:", &junk);
    kill(flood, SIGKILL);
    waitpid(flood, NULL, 0);
    int r = judge(&calm, &junk);
    bed_fini(&b);
    return r;
}
