/* bench-flood [SECONDS] [PACKETS-PER-SECOND]: a live session while strangers send junk to the same socket, in
 * equal parts of every kind in the table below; the worst of them has listened and writes the session's own
 * id into what it sends. Prints what the session noticed, what each junk datagram cost transport, and how
 * much memory transport took for them. Exit 1 when a figure is missed. Root: listening takes a packet socket.
 * Needs two cores: the first is the host (transport and the stand-ins of the other stages), the last is the
 * rest of the world, where the client, which would have a machine of its own, goes before the maker of the
 * junk. */
#include "lib/base/util.h"
#include "rift/core/handshake.h"
#include "rift/core/handshake_wire.h"
#include "tests/unit/transport_bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/sock_diag.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BITRATE_BPS   20000000u
#define FPS           60u
#define SETTLE_NS     (4 * WV_NS_PER_S)
#define LISTEN_NS     (WV_NS_PER_S / 2)
#define BURST         20
#define JUNK_MAX      9000
#define MESSAGES_MORE 3 /* of transport to other stages a second, in the one run and not in the other */
#define CLICKS        16384

/* ---- junk ---- */

struct kind {
    const char *name;
    size_t len;
    uint8_t first[8]; /* of the datagram; the rest is random */
    bool is_init;     /* whole but for its MAC */
    bool is_live;     /* carries the id of the live session */
};

static const struct kind kinds[] = {
    {.name = "random bytes", .len = 700, .first = {0xee, 0x51, 0x0c, 0x93}},
    {.name = "INIT under a wrong MAC",
     .len = RIFT_MTU_BYTES,
     .first = {RIFT_DATAGRAM_INIT, 1},
     .is_init = true},
    {.name = "INIT of random bytes", .len = RIFT_MTU_BYTES, .first = {RIFT_DATAGRAM_INIT, 1}},
    {.name = "INIT cut short", .len = 90, .first = {RIFT_DATAGRAM_INIT, 1}},
    {.name = "FINISH that nobody awaits", .len = 140, .first = {RIFT_DATAGRAM_FINISH, 1}},
    {.name = "DATA of the live session, forged",
     .len = RIFT_MTU_BYTES,
     .first = {RIFT_DATAGRAM_DATA},
     .is_live = true},
    {.name = "DATA of the live session, cut", .len = 24, .first = {RIFT_DATAGRAM_DATA}, .is_live = true},
    {.name = "DATA of nobody", .len = 1100, .first = {RIFT_DATAGRAM_DATA, 0, 0, 0, 1, 2, 3, 4}},
    {.name = "like STUN", .len = 20, .first = {0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42}},
    {.name = "one byte", .len = 1, .first = {RIFT_DATAGRAM_DATA}},
    {.name = "huge", .len = JUNK_MAX, .first = {RIFT_DATAGRAM_DATA}, .is_live = true},
};
#define KINDS WV_ARRAY_SIZE(kinds)

static uint8_t junk[KINDS][JUNK_MAX];

static void make_junk(const uint8_t live_id[4])
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < KINDS; i++) {
        const struct kind *k = &kinds[i];
        uint8_t *d = junk[i];
        for (size_t n = 0; n < JUNK_MAX; n++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            d[n] = (uint8_t)(x >> 24);
        }
        memcpy(d, k->first, sizeof k->first);
        if (k->is_live)
            memcpy(d + 4, live_id, 4);
        if (k->is_init) { /* no cookie, a message of the true length, padding of 0 */
            memset(d + 8, 0, RIFT_INIT_KEYED_BYTES - 10);
            d[RIFT_INIT_KEYED_BYTES - 2] = RIFT_MESSAGE_1_BYTES;
            d[RIFT_INIT_KEYED_BYTES - 1] = 0;
            size_t used = RIFT_INIT_HEAD_BYTES + RIFT_MESSAGE_1_BYTES;
            memset(d + used, 0, RIFT_MTU_BYTES - used);
        }
    }
}

static void run_on(pid_t pid, bool is_host)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(is_host ? 0 : (size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
    if (sched_setaffinity(pid, sizeof set, &set) < 0) {
        perror("sched_setaffinity");
        exit(70);
    }
}

/* The counter of a forged datagram goes up, or all but the first would be dropped as replayed. */
static void count_up(uint8_t *datagram, uint64_t counter)
{
    for (size_t i = 0; i < 8; i++)
        datagram[8 + i] = (uint8_t)(counter >> 8 * i);
}

static _Noreturn void run_flood(const struct bed *b, unsigned per_second, _Atomic uint64_t *sent)
{
    struct mmsghdr messages[BURST];
    struct iovec iov[BURST];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(b->port)};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    run_on(0, false);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, b->options.address, &to.sin_addr) != 1)
        _exit(1);
    for (uint64_t began = wv_now_ns(), n = 0;;) {
        for (unsigned i = 0; i < BURST; i++, n++) {
            size_t kind = n % KINDS;
            if (kinds[kind].is_live)
                count_up(junk[kind], UINT64_C(1000000) + n);
            iov[i] = (struct iovec){.iov_base = junk[kind], .iov_len = kinds[kind].len};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov[i], .msg_iovlen = 1};
        }
        int r = sendmmsg(fd, messages, BURST, 0);
        atomic_fetch_add(sent, r > 0 ? (uint64_t)r : 0);
        uint64_t due = began + n * WV_NS_PER_S / per_second, now = wv_now_ns();
        if (due > now) {
            struct timespec pause = {.tv_nsec = (long)WV_MIN(due - now, WV_NS_PER_S - 1)};
            nanosleep(&pause, NULL);
        }
    }
}

/* What anybody on the way learns: the id in the datagrams to the host. */
static bool listen_for_id(struct bed *b, uint8_t ret_id[4])
{
    uint8_t p[2048];
    wv_cleanup(wv_close_p) int fd =
        socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IP));
    if (fd < 0)
        return false;
    bed_run(b, LISTEN_NS);
    for (ssize_t n; (n = recv(fd, p, sizeof p, 0)) >= 0;) {
        size_t head = (size_t)(p[0] & 15) * 4, data = head + 8;
        if ((size_t)n < data + 8 || p[9] != IPPROTO_UDP || (p[head + 2] << 8 | p[head + 3]) != b->port ||
            p[data] != RIFT_DATAGRAM_DATA)
            continue;
        memcpy(ret_id, p + data + 4, 4);
        return true;
    }
    errno = ENOMSG;
    return false;
}

/* ---- what the session notices ---- */

struct phase {
    uint64_t frames, missing, clicks, allocations, cpu_ns, wall_ns, received, forged, unkeyed;
    uint64_t kernel_drops, buffer_full; /* in all; for want of room */
    uint32_t p50_us, p99_us, click_p50_us, click_p99_us;
    uint64_t memory_kib;
};

static struct {
    uint32_t us[CLICKS];
    size_t n;
} clicks;

static void on_click(void *userdata, uint32_t seq, uint64_t took_ns, uint64_t now)
{
    if (clicks.n < CLICKS)
        clicks.us[clicks.n++] = (uint32_t)(took_ns / WV_NS_PER_US);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void quantiles(uint32_t *us, size_t n, uint32_t *ret_p50, uint32_t *ret_p99)
{
    qsort(us, n, sizeof *us, compare);
    *ret_p50 = n ? us[n / 2] : UINT32_MAX;
    *ret_p99 = n ? us[n * 99 / 100] : UINT32_MAX;
}

static uint64_t counter(struct bed *b, const char *name)
{
    const struct wv_metric_value *v = wv_metrics_find(bed_metrics(b), name);
    if (!v) {
        printf("there is no metric %s\n", name);
        exit(70);
    }
    return v->value;
}

/* Datagrams in this namespace that found a socket's buffer full: the first number of the second line of UDP.
 */
static uint64_t buffer_full(void)
{
    char line[256];
    unsigned long long n = 0;
    FILE *f = fopen("/proc/net/snmp", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Udp: %*u %*u %*u %*u %llu", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

/* Datagrams that the kernel dropped at the socket: by its filter, or for want of room. */
static uint64_t kernel_drops(const struct bed *b)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof info;
    return getsockopt(b->udp, SOL_SOCKET, SO_MEMINFO, info, &len) < 0 ? 0 : info[SK_MEMINFO_DROPS];
}

/* Memory of the transport's process that is its own. */
static uint64_t memory_kib(const struct bed *b)
{
    char path[64], line[128];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)b->transport);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

/* The counts as they stand; measure() takes the difference. */
static struct phase stand(struct bed *b)
{
    return (struct phase){.frames = b->frames_pushed,
                          .allocations = b->shared->allocations,
                          .cpu_ns = bed_cpu_ns(b->transport),
                          .wall_ns = wv_now_ns(),
                          .received = counter(b, "packets_received_total"),
                          .forged = counter(b, "dropped_auth_total"),
                          .unkeyed = counter(b, "dropped_unkeyed_total"),
                          .kernel_drops = kernel_drops(b),
                          .buffer_full = buffer_full()};
}

static struct phase measure(struct bed *b, unsigned seconds)
{
    static uint32_t times[BED_EVENTS];
    struct phase p0 = stand(b);
    uint64_t first = b->shared->frames, n = 0;
    clicks.n = 0;
    bed_run(b, seconds * WV_NS_PER_S);
    struct phase p = stand(b);
    p.frames -= p0.frames;
    p.allocations -= p0.allocations;
    p.cpu_ns -= p0.cpu_ns;
    p.wall_ns -= p0.wall_ns;
    p.received -= p0.received;
    p.forged -= p0.forged;
    p.unkeyed -= p0.unkeyed;
    p.kernel_drops -= p0.kernel_drops;
    p.buffer_full -= p0.buffer_full;
    p.clicks = clicks.n;
    p.memory_kib = memory_kib(b);
    for (uint64_t i = first, end = b->shared->frames; i < end && n < BED_EVENTS; i++)
        times[n++] = b->shared->frame_us[i % BED_EVENTS];
    quantiles(times, n, &p.p50_us, &p.p99_us);
    quantiles(clicks.us, clicks.n, &p.click_p50_us, &p.click_p99_us);
    /* One may be under way at the end. */
    p.missing = p.frames > n + 1 ? p.frames - n - 1 : 0;
    return p;
}

static void print(const char *name, const struct phase *p)
{
    typedef unsigned long long u;
    printf(
        "%-6s %llu frames, %llu did not come, p50 %.2f p99 %.2f ms; %llu key events, p50 %.2f p99 %.2f ms; "
        "transport %.1f %% of a core, %llu KiB, %llu allocations; %llu datagrams in, %llu forged, %llu INITs "
        "under no key of ours; the kernel dropped %llu, %llu of them for want of room\n",
        name, (u)p->frames, (u)p->missing, p->p50_us / 1e3, p->p99_us / 1e3, (u)p->clicks,
        p->click_p50_us / 1e3, p->click_p99_us / 1e3, 100.0 * (double)p->cpu_ns / (double)p->wall_ns,
        (u)p->memory_kib, (u)p->allocations, (u)p->received, (u)p->forged, (u)p->unkeyed, (u)p->kernel_drops,
        (u)p->buffer_full);
}

static int judge(const struct phase *calm, const struct phase *flood, uint64_t sent, unsigned per_second)
{
    uint64_t seen = flood->received - WV_MIN(calm->received, flood->received);
    uint64_t n = seen + flood->kernel_drops - flood->buffer_full; /* dealt with, here or by the filter */
    double seconds = (double)flood->wall_ns / 1e9,
           cpu_us = ((double)flood->cpu_ns - (double)calm->cpu_ns) / 1e3;
    double each_us = n ? cpu_us / (double)n : 0, seen_us = seen ? cpu_us / (double)seen : 0;
    double missing = flood->frames ? 100.0 * (double)flood->missing / (double)flood->frames : 100;
    double frame_ms = ((double)flood->p99_us - (double)calm->p99_us) / 1e3;
    double click_ms = ((double)flood->click_p99_us - (double)calm->click_p99_us) / 1e3;
    uint64_t kib = flood->memory_kib - WV_MIN(calm->memory_kib, flood->memory_kib);
    double rate = (double)sent / seconds;
    /* An event of input is a message on the bus, for which ZeroMQ allocates; so are a few a second besides.
     */
    double more =
        (double)flood->allocations - (double)flood->clicks - (double)calm->allocations + (double)calm->clicks;
    /* The session itself brings a few hundred a second, the one run not quite as many as the other. */
    bool reached =
        (double)n > 0.95 * (double)sent && rate > 0.98 * per_second && flood->forged && flood->unkeyed;
    printf("%.0f junk datagrams a second, %.1f %% dealt with: %.2f us each (%.1f %% came past the filter, "
           "%.2f us "
           "for each of those); %.3f %% of frames lost; p99 "
           "%+.2f ms of a frame, %+.2f ms of a key event; %llu KiB and %.0f allocations more\n",
           rate, 100.0 * (double)n / (double)sent, each_us, 100.0 * (double)seen / (double)sent, seen_us,
           missing, frame_ms, click_ms, (unsigned long long)kib, more);
    printf("{\"bench\":\"flood\",\"junk_per_s\":%.0f,\"us_each\":%.2f,\"us_each_past_filter\":%.2f,\"frames_"
           "lost_percent\":%.3f,"
           "\"frame_p99_more_ms\":%.2f,\"input_p99_more_ms\":%.2f,\"memory_more_kib\":%llu,"
           "\"allocations_each\":%.6f}\n",
           rate, each_us, seen_us, missing, frame_ms, click_ms, (unsigned long long)kib,
           n && more > 0 ? more / (double)n : 0);
    return reached && each_us <= 2 && seen_us <= 2 && missing <= 0.1 && frame_ms <= 2 && click_ms <= 2 &&
                   kib <= 1024 && more <= MESSAGES_MORE * seconds
               ? 0
               : 1;
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
    uint8_t id[4];
    _Atomic uint64_t *sent =
        mmap(NULL, sizeof *sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sent == MAP_FAILED || seconds == 0 || per_second == 0)
        return 64;
    run_on(0, true);
    bed_init(&b, &options);
    b.on_input = on_click;
    bed_client(&b);
    run_on(b.client, false);
    if (sched_setscheduler(b.client, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}) < 0)
        perror("sched_setscheduler");
    bed_wait_viewer(&b);
    bed_run(&b, SETTLE_NS);
    if (!listen_for_id(&b, id)) {
        printf("the live session's id was not overheard: %s\n", strerror(errno));
        bed_fini(&b);
        return 70;
    }
    make_junk(id);
    struct phase calm = measure(&b, seconds);
    print("calm:", &calm);
    fflush(NULL);
    pid_t flood = fork();
    if (flood == 0)
        run_flood(&b, per_second, sent);
    bed_run(&b, WV_NS_PER_S);
    uint64_t before = *sent;
    struct phase under = measure(&b, seconds);
    uint64_t of_phase = *sent - before;
    print("flood:", &under);
    kill(flood, SIGKILL);
    waitpid(flood, NULL, 0);
    int r = judge(&calm, &under, of_phase, per_second);
    bed_fini(&b);
    return r;
}
