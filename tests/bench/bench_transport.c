/* bench-transport cpu [SECONDS] | input ADDRESS NAMESPACE PROPAGATION-MS OVER-MS [SECONDS]
 * cpu: what 50 Mbit/s of video at 60 frames a second costs the host's transport and a client's process, what
 * transport allocates meanwhile, and how punctual its pacer is.
 * input: how long a key event takes from a client behind a thin link, full of video, to the input stage.
 * Exit 1 when a figure is missed. */
#include "lib/base/util.h"
#include "tests/unit/transport_bed.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BITRATE_BPS 50000000u
#define FPS         60u
#define SETTLE_NS   (4 * WV_NS_PER_S)
#define CPU_MOST    12.0 /* per cent of a core */
#define PUNCTUAL_US 100

static const struct wv_metric_value *metric(const struct wv_metrics_snapshot *s, const char *name)
{
    const struct wv_metric_value *v = wv_metrics_find(s, name);
    if (!v)
        exit(70);
    return v;
}

static uint64_t grown(const struct wv_metrics_snapshot *now, const struct wv_metrics_snapshot *base,
                      const char *name)
{
    return metric(now, name)->value - metric(base, name)->value;
}

/* ---- cpu ---- */

static double punctual_percent(const struct wv_metric_value *now, const struct wv_metric_value *base)
{
    uint64_t good = 0, all = 0;
    for (unsigned i = 0; i < WV_METRIC_BUCKETS; i++) {
        uint64_t n = now->buckets[i] - base->buckets[i];
        all += n;
        good += wv_histogram_bucket_upper(i) <= PUNCTUAL_US ? n : 0;
    }
    return all ? 100.0 * (double)good / (double)all : 0;
}

static void print_histogram(const struct wv_metric_value *now, const struct wv_metric_value *base)
{
    static const uint64_t edges[] = {10, 20, 30, 50, 70, 100, 200, 500, 1000, UINT64_MAX};
    uint64_t all = now->value - base->value, from = 0;
    for (size_t i = 0; i < WV_ARRAY_SIZE(edges); i++) {
        uint64_t n = 0;
        for (unsigned k = 0; k < WV_METRIC_BUCKETS; k++)
            if (wv_histogram_bucket_upper(k) > from && wv_histogram_bucket_upper(k) <= edges[i])
                n += now->buckets[k] - base->buckets[k];
        if (i + 1 < WV_ARRAY_SIZE(edges))
            printf("  off by %4llu to %4llu us: %6.2f %%\n", (unsigned long long)from,
                   (unsigned long long)edges[i], all ? 100.0 * (double)n / (double)all : 0);
        else
            printf("  off by more than %llu us: %6.2f %%\n", (unsigned long long)from,
                   all ? 100.0 * (double)n / (double)all : 0);
        from = edges[i];
    }
}

/* CPU time that a hypervisor took from this machine, of all its CPUs; it makes every figure worse. */
static double stolen_s(void)
{
    unsigned long long steal = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (f && fscanf(f, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &steal) != 1)
        steal = 0;
    if (f)
        fclose(f);
    return (double)steal / (double)sysconf(_SC_CLK_TCK);
}

/* An event of input is a message on the bus, for which ZeroMQ allocates; so are a few a second besides. None
 * is for a datagram or a frame. */
#define EVENTS      50u
#define OF_MESSAGES (EVENTS + 10u)

static int cpu(unsigned seconds)
{
    static struct wv_metrics_snapshot base, now;
    const struct bed_options options = {.address = "127.0.0.1",
                                        .bitrate_bps = BITRATE_BPS,
                                        .start_bps = BITRATE_BPS,
                                        .fps = FPS,
                                        .fec = true,
                                        .input_every_ns = WV_NS_PER_S / EVENTS};
    struct bed b;
    bed_init(&b, &options);
    bed_client(&b);
    bed_wait_viewer(&b);
    bed_run(&b, SETTLE_NS);
    base = *bed_metrics(&b);
    uint64_t host = bed_cpu_ns(b.transport), client = bed_cpu_ns(b.client), began = wv_now_ns();
    uint64_t allocations = b.shared->allocations, bytes = b.shared->frame_bytes, frames = b.shared->frames;
    double stolen = stolen_s();
    bed_run(&b, seconds * WV_NS_PER_S);
    stolen = stolen_s() - stolen;
    double wall = (double)(wv_now_ns() - began);
    double host_percent = 100.0 * (double)(bed_cpu_ns(b.transport) - host) / wall;
    double client_percent = 100.0 * (double)(bed_cpu_ns(b.client) - client) / wall;
    allocations = b.shared->allocations - allocations;
    double mbps = (double)(b.shared->frame_bytes - bytes) * 8e3 / wall;
    frames = b.shared->frames - frames;
    now = *bed_metrics(&b);
    uint64_t sent = grown(&now, &base, "packets_sent_total"),
             got = grown(&now, &base, "packets_received_total");
    const struct wv_metric_value *off = metric(&now, "pacing_error_us"),
                                 *off_base = metric(&base, "pacing_error_us");
    double punctual = punctual_percent(off, off_base);
    printf("%.1f Mbit/s of video in %llu frames over %u s: %llu datagrams out, %llu in\n", mbps,
           (unsigned long long)frames, seconds, (unsigned long long)sent, (unsigned long long)got);
    printf("transport %.2f %% of a core, client without decoder %.2f %%; %llu allocations of transport, for "
           "%u events of "
           "input a second and its own messages\n",
           host_percent, client_percent, (unsigned long long)allocations, EVENTS);
    printf(
        "meanwhile a hypervisor kept %.2f s of CPU from this machine; the path's capacity is taken for %.0f "
        "Mbit/s\n",
        stolen, (double)metric(&now, "path_capacity_bps")->value / 1e6);
    printf("%llu batches that the pacer held, %.2f %% within %d us of their time:\n",
           (unsigned long long)(off->value - off_base->value), punctual, PUNCTUAL_US);
    print_histogram(off, off_base);
    printf(
        "{\"bench\":\"transport-cpu\",\"mbit_per_s\":%.1f,\"frames\":%llu,\"datagrams_sent\":%llu,"
        "\"datagrams_received\":%llu,\"transport_percent\":%.2f,\"client_percent\":%.2f,\"allocations\":%llu,"
        "\"pacing_within_100us_percent\":%.2f,\"pacing_p50_us\":%llu,\"pacing_p99_us\":%llu}\n",
        mbps, (unsigned long long)frames, (unsigned long long)sent, (unsigned long long)got, host_percent,
        client_percent, (unsigned long long)allocations, punctual,
        (unsigned long long)wv_histogram_quantile(off, off_base, 0.5),
        (unsigned long long)wv_histogram_quantile(off, off_base, 0.99));
    bed_fini(&b);
    bool good = host_percent <= CPU_MOST && client_percent <= CPU_MOST &&
                allocations <= seconds * OF_MESSAGES && mbps > 45;
    return good ? 0 : 1;
}

/* ---- input ---- */

struct way {
    const char *address, *namespace;
    double propagation_ms, over_ms;
};

struct times {
    uint64_t ns[BED_EVENTS];
    size_t n;
};

static void on_input(void *userdata, uint32_t seq, uint64_t took_ns, uint64_t now)
{
    struct times *t = userdata;
    if (t->n < BED_EVENTS)
        t->ns[t->n++] = took_ns;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_ms(struct times *t, double q)
{
    return t->n ? (double)t->ns[(size_t)(q * (double)(t->n - 1))] / 1e6 : 0;
}

static int input(const struct way *way, unsigned seconds)
{
    static struct times times;
    static struct wv_metrics_snapshot now;
    const struct bed_options options = {.address = way->address,
                                        .client_namespace = way->namespace,
                                        .bitrate_bps = BITRATE_BPS,
                                        .start_bps = 8000000,
                                        .fps = FPS,
                                        .fec = true,
                                        .input_every_ns = 15 * WV_NS_PER_MS};
    struct bed b;
    bed_init(&b, &options);
    b.on_input = on_input;
    b.userdata = &times;
    bed_client(&b);
    bed_wait_viewer(&b);
    bed_run(&b, SETTLE_NS);
    uint64_t bytes = b.shared->frame_bytes, began = wv_now_ns();
    times.n = 0;
    bed_run(&b, seconds * WV_NS_PER_S);
    now = *bed_metrics(&b);
    double mbps = (double)(b.shared->frame_bytes - bytes) * 8e3 / (double)(wv_now_ns() - began);
    qsort(times.ns, times.n, sizeof times.ns[0], compare);
    double p99 = quantile_ms(&times, 0.99);
    printf("%.2f Mbit/s of video; %zu key events, one way: p50 %.2f ms, p99 %.2f ms, longest %.2f ms "
           "(propagation %.1f ms); queue on the way now %llu us\n",
           mbps, times.n, quantile_ms(&times, 0.5), p99, quantile_ms(&times, 1), way->propagation_ms,
           (unsigned long long)metric(&now, "path_queue_us")->value);
    printf(
        "{\"bench\":\"transport-input\",\"mbit_per_s\":%.2f,\"events\":%zu,\"p50_ms\":%.2f,\"p99_ms\":%.2f,"
        "\"max_ms\":%.2f,\"propagation_ms\":%.1f,\"frames_lost\":%llu,\"packets_lost\":%llu}\n",
        mbps, times.n, quantile_ms(&times, 0.5), p99, quantile_ms(&times, 1), way->propagation_ms,
        (unsigned long long)b.shared->frames_lost, (unsigned long long)b.shared->packets_lost);
    bed_fini(&b);
    return times.n > 100 && p99 <= way->propagation_ms + way->over_ms ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && !strcmp(argv[1], "cpu"))
        return cpu(argc > 2 ? (unsigned)atoi(argv[2]) : 20);
    if (argc >= 6 && !strcmp(argv[1], "input")) {
        const struct way way = {argv[2], argv[3], atof(argv[4]), atof(argv[5])};
        return input(&way, argc > 6 ? (unsigned)atoi(argv[6]) : 20);
    }
    fputs("usage: bench-transport cpu [SECONDS] | input ADDRESS NAMESPACE PROPAGATION-MS OVER-MS [SECONDS]\n",
          stderr);
    return 64;
}
