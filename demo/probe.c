/* wavry-probe: a headless client that measures. It presses a key that no desktop uses (F24) at random
 * moments, looks for the patch of wavry-demo-target in the decoded pictures, and writes down how long each
 * press took to be seen. What the person at the host sees is a square that changes colour; nothing else is
 * touched. */
#include "client/snapshot.h"
#include "client/wavry_client.h"
#include "demo/patch.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"

#include <errno.h>
#include <getopt.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define PRESSES_MAX    100000
#define PRESS_LIMIT_NS (1 * WV_NS_PER_S) /* a press that isn't seen by then is lost */
#define STILL_NS       (60 * WV_NS_PER_MS)
#define LOOK_NS        (10 * WV_NS_PER_MS)
#define GAPS_MAX       20000
#define GAP_NS         (40 * WV_NS_PER_MS) /* more than two frames that are missing */
#define SETTLE_NS      (50 * WV_NS_PER_MS)
#define GRID           8 /* every 8th chroma sample of every 8th row is looked at */

enum patch { PATCH_NONE, PATCH_OFF, PATCH_ON };

struct press {
    uint64_t at_ns;
    uint64_t latency_ns; /* 0: lost */
};

/* The picture stood still. */
struct gap {
    uint64_t at_ns, length_ns;
};

struct probe {
    struct wv_loop *loop;
    struct wv_client *client;
    struct wv_loop_source *timer, *end;
    uint64_t started_ns, next_press_ns, key_down_ns;
    bool waiting, connected;
    enum patch seen, before;
    struct press *presses;
    size_t n_presses;
    unsigned pause_ms, again_ms; /* again_ms 0: a press is waited for as long as PRESS_LIMIT_NS */
    uint64_t first_picture_ns, last_picture_ns, longest_freeze_ns;
    uint64_t flows_since_ns; /* pictures have come one after the other since then */
    struct gap *gaps;
    size_t n_gaps;
    const char *json, *snapshot;
    struct wv_client_picture last; /* stays valid until the next one was looked at */
    bool verbose;
    int result;
};

/* Chroma of the two colours in BT.601 is far from anything else: magenta has both high, green both low. */
static enum patch find_patch(const struct wv_client_picture *p)
{
    size_t on = 0, off = 0;
    for (int y = 0; y < p->height / 2; y += GRID)
        for (int x = 0; x < p->width / 2; x += GRID) {
            uint8_t u = p->plane[1][y * p->stride[1] + x], v = p->plane[2][y * p->stride[2] + x];
            on += u > 180 && v > 190;
            off += u < 80 && v < 70;
        }
    if (on + off < 20)
        return PATCH_NONE;
    return on > off ? PATCH_ON : PATCH_OFF;
}

static void key(struct probe *p, bool down)
{
    struct rift_input_event event = {.kind = RIFT_INPUT_KEY, .down = down, .code = KEY_F24};
    if (wv_client_send_input(p->client, &event, NULL) == 0)
        wv_client_flush(p->client);
}

static void schedule(struct probe *p, uint64_t now)
{
    p->next_press_ns = now + (p->pause_ms + (uint64_t)(random() % (p->pause_ms + 1))) * WV_NS_PER_MS;
    wv_loop_timer_at(p->timer, p->next_press_ns);
}

static void finish_press(struct probe *p, uint64_t now, bool seen)
{
    struct press *press = &p->presses[p->n_presses++];
    *press = (struct press){p->key_down_ns, seen ? WV_MAX(now - p->key_down_ns, UINT64_C(1)) : 0};
    p->waiting = false;
    key(p, false);
    if (p->verbose)
        printf(seen ? "press at=%.3f photon_ms=%.2f\n" : "press at=%.3f lost\n",
               (double)(p->key_down_ns - p->started_ns) / 1e9, (double)press->latency_ns / 1e6);
    schedule(p, now);
}

/* While the picture stands still, and for a while after, nothing can be said about the press that is waited
 * for, and the next one could not be told from it. */
static bool is_over(const struct probe *p, uint64_t now)
{
    uint64_t flows_since = WV_MAX(p->key_down_ns, p->flows_since_ns);
    return now - p->key_down_ns >= PRESS_LIMIT_NS || (p->again_ms && now - p->last_picture_ns < STILL_NS &&
                                                      now - flows_since >= p->again_ms * WV_NS_PER_MS);
}

static int on_timer(void *userdata, uint64_t now)
{
    struct probe *p = userdata;
    if (p->waiting) {
        if (is_over(p, now))
            finish_press(p, now, false);
        else
            wv_loop_timer_at(p->timer, now + LOOK_NS);
        return 0;
    }
    if (!p->connected || p->seen == PATCH_NONE || p->n_presses == PRESSES_MAX) {
        schedule(p, now);
        return 0;
    }
    p->before = p->seen;
    p->waiting = true;
    p->key_down_ns = wv_now_ns();
    key(p, true);
    wv_loop_timer_at(p->timer, p->key_down_ns + (p->again_ms ? LOOK_NS : PRESS_LIMIT_NS));
    return 0;
}

static void note_gap(struct probe *p, uint64_t at_ns, uint64_t length_ns)
{
    p->longest_freeze_ns = WV_MAX(p->longest_freeze_ns, length_ns);
    if (length_ns > GAP_NS && p->n_gaps < GAPS_MAX)
        p->gaps[p->n_gaps++] = (struct gap){at_ns, length_ns};
}

static void on_picture(void *userdata, const struct wv_client_picture *picture)
{
    struct probe *p = userdata;
    enum patch patch = find_patch(picture);
    uint64_t now = wv_now_ns();
    wv_client_presented(p->client, now);
    if (!p->first_picture_ns)
        p->first_picture_ns = now;
    else
        note_gap(p, p->last_picture_ns, now - p->last_picture_ns);
    if (now - p->last_picture_ns >= STILL_NS)
        p->flows_since_ns = now;
    p->last_picture_ns = now;
    if (patch != PATCH_NONE)
        p->seen = patch;
    if (p->waiting && patch != PATCH_NONE && patch != p->before)
        finish_press(p, now, true);
    p->last = *picture;
}

static void on_state(void *userdata, enum wv_client_state state, enum wv_client_reason reason,
                     const char *text)
{
    struct probe *p = userdata;
    p->connected = state == WV_CLIENT_CONNECTED;
    if (text[0])
        fprintf(stderr, "wavry-probe: %s\n", text);
    if (state == WV_CLIENT_REFUSED) {
        p->result = EX_NOPERM;
        wv_loop_quit(p->loop, 0);
    }
}

static int on_end(void *userdata, uint64_t now)
{
    struct probe *p = userdata;
    wv_loop_quit(p->loop, 0);
    return 0;
}

static int on_signal(void *userdata, int signal, uint64_t now)
{
    return on_end(userdata, now);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Latencies of the presses that were seen, sorted; returns how many. The caller frees RET. */
static size_t sorted_latencies(const struct probe *p, uint64_t **ret)
{
    uint64_t *sorted = calloc(p->n_presses + 1, sizeof *sorted);
    if (!sorted)
        abort();
    size_t n = 0;
    for (size_t i = 0; i < p->n_presses; i++)
        if (p->presses[i].latency_ns)
            sorted[n++] = p->presses[i].latency_ns;
    qsort(sorted, n, sizeof *sorted, compare_u64);
    *ret = sorted;
    return n;
}

static double quantile_ms(const uint64_t *sorted, size_t n, double q)
{
    return n ? (double)sorted[WV_MIN((size_t)(q * (double)n), n - 1)] / 1e6 : 0;
}

static void write_stages(FILE *out, const struct wv_client_stats *stats)
{
    fprintf(out, "  \"stages\": {");
    for (unsigned i = 0; i < WV_CLIENT_N_STAGES; i++)
        fprintf(out, "%s\n    \"%s\": {\"count\": %llu, \"p50_us\": %llu, \"p99_us\": %llu}", i ? "," : "",
                wv_client_stage_name(i), (unsigned long long)stats->stage[i].count,
                (unsigned long long)stats->stage[i].p50_us, (unsigned long long)stats->stage[i].p99_us);
    fprintf(out, "\n  },\n");
}

static int write_json(const struct probe *p, const struct wv_client_stats *stats, size_t seen, double p50,
                      double p99)
{
    wv_cleanup(wv_free_p) char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return -ENOMEM;
    double seconds = (double)stats->connected_ns / 1e9;
    fprintf(out, "{\n  \"frames_shown\": %llu,\n  \"frames_lost\": %llu,\n  \"connects\": %llu,\n",
            (unsigned long long)stats->frames_shown, (unsigned long long)stats->frames_lost,
            (unsigned long long)stats->connects);
    fprintf(out, "  \"fps\": %.2f,\n  \"input_sent\": %zu,\n  \"input_seen\": %zu,\n  \"input_lost\": %zu,\n",
            seconds > 0 ? (double)stats->frames_shown / seconds : 0, p->n_presses, seen, p->n_presses - seen);
    fprintf(out,
            "  \"click_to_photon_ms\": {\"p50\": %.2f, \"p99\": %.2f},\n  \"longest_freeze_ms\": %.1f,\n",
            p50, p99, (double)p->longest_freeze_ns / 1e6);
    fprintf(out, "  \"width\": %u,\n  \"height\": %u,\n  \"rtt_us\": %llu,\n", stats->width, stats->height,
            (unsigned long long)stats->rtt_us);
    write_stages(out, stats);
    fprintf(out, "  \"bitrate_bps\": %.0f,\n  \"presses\": [",
            seconds > 0 ? (double)stats->media_bytes * 8 / seconds : 0);
    for (size_t i = 0; i < p->n_presses; i++)
        fprintf(out, "%s[%.3f, %.2f]", i ? ", " : "", (double)p->presses[i].at_ns / 1e9,
                (double)p->presses[i].latency_ns / 1e6);
    fprintf(out, "],\n  \"gaps\": [");
    for (size_t i = 0; i < p->n_gaps; i++)
        fprintf(out, "%s[%.3f, %.1f]", i ? ", " : "", (double)p->gaps[i].at_ns / 1e9,
                (double)p->gaps[i].length_ns / 1e6);
    fprintf(out, "]\n}\n");
    if (fclose(out) != 0)
        return -ENOMEM;
    return wv_write_file_atomic(p->json, text, len, 0644);
}

static int report(struct probe *p)
{
    struct wv_client_stats stats;
    wv_client_get_stats(p->client, &stats);
    wv_cleanup(wv_free_p) uint64_t *sorted = NULL;
    size_t seen = sorted_latencies(p, &sorted);
    double p50 = quantile_ms(sorted, seen, 0.5), p99 = quantile_ms(sorted, seen, 0.99);
    printf("frames=%llu presses=%zu seen=%zu photon_p50_ms=%.2f photon_p99_ms=%.2f longest_freeze_ms=%.1f\n",
           (unsigned long long)stats.frames_shown, p->n_presses, seen, p50, p99,
           (double)p->longest_freeze_ns / 1e6);
    int r = 0;
    if (p->json && (r = write_json(p, &stats, seen, p50, p99)) < 0)
        fprintf(stderr, "wavry-probe: %s can't be written: %s\n", p->json, strerror(-r));
    if (p->snapshot && stats.frames_shown && (r = wv_snapshot_write(p->snapshot, &p->last)) < 0)
        fprintf(stderr, "wavry-probe: %s can't be written: %s\n", p->snapshot, strerror(-r));
    if (r < 0)
        return EX_CANTCREAT;
    return p->result ? p->result : stats.frames_shown && seen ? EX_OK : EX_UNAVAILABLE;
}

static void usage(FILE *out)
{
    fprintf(out,
            "usage: wavry-probe HOST [--port N] --identity FILE --host-key KEY [--seconds N]\n"
            "                   [--pause MS] [--again MS] [--json FILE] [--snapshot FILE.png] [--verbose]\n"
            "Presses F24 on the host at random moments and measures when the patch of wavry-demo-target\n"
            "changes in the picture. Exit 0 when pictures came and at least one press was seen.\n");
}

static int read_identity(const char *path, struct rift_identity *ret)
{
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    size_t len;
    int r = wv_read_file(path, 4096, &text, &len);
    if (r == -ENOENT) {
        char fresh[RIFT_IDENTITY_TEXT_BYTES];
        rift_identity_generate(ret);
        rift_identity_format(ret, fresh);
        return wv_write_file_atomic(path, fresh, strlen(fresh), 0600);
    }
    return r < 0 ? r : rift_identity_parse((const char *)text, len, ret);
}

static int run(struct probe *p, const struct wv_client_options *options, unsigned seconds)
{
    struct wv_client_callbacks callbacks = {.state = on_state, .picture = on_picture};
    int r = wv_loop_new(&p->loop);
    if (r == 0)
        r = wv_loop_add_timer(p->loop, on_timer, p, &p->timer);
    if (r == 0)
        r = wv_loop_add_timer(p->loop, on_end, p, &p->end);
    if (r == 0)
        r = wv_loop_add_signal(p->loop, SIGTERM, on_signal, p);
    if (r == 0)
        r = wv_loop_add_signal(p->loop, SIGINT, on_signal, p);
    if (r == 0)
        r = wv_client_new(&p->client, p->loop, options, &callbacks, p);
    if (r < 0) {
        fprintf(stderr, "wavry-probe: can't start: %s\n", strerror(-r));
        return EX_OSERR;
    }
    p->started_ns = wv_now_ns();
    wv_loop_timer_at(p->end, p->started_ns + seconds * WV_NS_PER_S);
    schedule(p, p->started_ns + 500 * WV_NS_PER_MS);
    r = wv_loop_run(p->loop);
    int code = r < 0 ? EX_SOFTWARE : report(p);
    p->client = wv_client_free(p->client);
    p->loop = wv_loop_free(p->loop);
    return code;
}

struct arguments {
    struct wv_client_options options;
    const char *identity;
    uint8_t host_key[32];
    unsigned seconds;
};

static int number(const char *option, const char *text, unsigned long most, unsigned long *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || v > most) {
        fprintf(stderr, "wavry-probe: --%s %s: not a number from 0 to %lu\n", option, text, most);
        return EX_USAGE;
    }
    *ret = v;
    return 0;
}

static int take_option(int c, struct arguments *a, struct probe *p)
{
    unsigned long v = 0;
    int r = 0;
    switch (c) {
    case 'p':
        r = number("port", optarg, UINT16_MAX, &v);
        a->options.port = (uint16_t)v;
        return r;
    case 's':
        r = number("seconds", optarg, 1000000, &v);
        a->seconds = (unsigned)v;
        return r;
    case 'w':
        r = number("pause", optarg, 1000000, &v);
        p->pause_ms = (unsigned)v;
        return r;
    case 'a':
        r = number("again", optarg, 1000, &v);
        p->again_ms = (unsigned)v;
        return r;
    case 'i':
        a->identity = optarg;
        return 0;
    case 'j':
        p->json = optarg;
        return 0;
    case 'o':
        p->snapshot = optarg;
        return 0;
    case 'v':
        p->verbose = true;
        return 0;
    case 'k':
        a->options.host_key = a->host_key;
        if (rift_public_key_parse(optarg, a->host_key) == 0)
            return 0;
        fprintf(stderr, "wavry-probe: --host-key %s: not a public key (wavry1...)\n", optarg);
        return EX_USAGE;
    default:
        usage(stderr);
        return EX_USAGE;
    }
}

/* Returns 0, or a sysexits code that was explained. After --help there is no host. */
static int read_arguments(int argc, char **argv, struct arguments *a, struct probe *p)
{
    static const struct option long_options[] = {
        {"port", required_argument, NULL, 'p'},
        {"identity", required_argument, NULL, 'i'},
        {"host-key", required_argument, NULL, 'k'},
        {"seconds", required_argument, NULL, 's'},
        {"pause", required_argument, NULL, 'w'},
        {"json", required_argument, NULL, 'j'},
        {"again", required_argument, NULL, 'a'},
        {"snapshot", required_argument, NULL, 'o'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (c == 'h') {
            usage(stdout);
            return EX_OK;
        }
        int r = take_option(c, a, p);
        if (r != 0)
            return r;
    }
    if (optind != argc - 1 || !a->identity || !a->options.host_key) {
        usage(stderr);
        return EX_USAGE;
    }
    a->options.host = argv[optind];
    return 0;
}

int main(int argc, char **argv)
{
    struct probe p = {.pause_ms = 150};
    struct arguments a = {.options.software = "wavry-probe " WAVRY_VERSION, .seconds = 10};
    struct rift_identity identity;
    if (rift_crypto_init() < 0)
        return EX_OSERR;
    int r = read_arguments(argc, argv, &a, &p);
    if (r != 0 || !a.options.host)
        return r;
    r = read_identity(a.identity, &identity);
    if (r < 0) {
        fprintf(stderr, "wavry-probe: identity %s can't be used: %s\n", a.identity, strerror(-r));
        return EX_NOINPUT;
    }
    a.options.identity = &identity;
    p.presses = calloc(PRESSES_MAX, sizeof *p.presses);
    p.gaps = calloc(GAPS_MAX, sizeof *p.gaps);
    if (!p.presses || !p.gaps)
        return EX_OSERR;
    setvbuf(stdout, NULL, _IOLBF, 0);
    srandom((unsigned)wv_now_ns());
    int code = run(&p, &a.options, a.seconds);
    free(p.presses);
    free(p.gaps);
    rift_identity_wipe(&identity);
    return code;
}
