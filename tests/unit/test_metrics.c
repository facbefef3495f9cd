/* Metrics pages: what is written is read, over restarts, and a page of rubbish is refused or harmless. */
#include "lib/base/util.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/metrics_layout.h"
#include "lib/ipc/ring.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { FRAMES, LEVEL, ENCODE, N_TABLE };

static const struct wv_metric table[N_TABLE] = {
    [FRAMES] = {"frames_total", "frames", WV_METRIC_COUNTER, "Frames seen."},
    [LEVEL] = {"level", "", WV_METRIC_GAUGE, "How high it is."},
    [ENCODE] = {"encode_us", "us", WV_METRIC_HISTOGRAM, "Time to encode a frame."},
};

static int page;
static struct wv_metrics *metrics;
static struct wv_metrics_snapshot *snapshot;

static void set_up(void)
{
    ck_assert_int_eq(wv_metrics_create_page(&page), 0);
    ck_assert_int_eq(wv_metrics_new(&metrics, page, "encoder", table, N_TABLE), 0);
    snapshot = calloc(2, sizeof(*snapshot));
    ck_assert_ptr_nonnull(snapshot);
}

static void tear_down(void)
{
    metrics = wv_metrics_free(metrics);
    close(page);
    free(snapshot);
}

START_TEST(what_is_written_is_read)
{
    wv_metric_add(metrics, FRAMES, 3);
    wv_metric_add(metrics, FRAMES, 1);
    wv_metric_set(metrics, LEVEL, 17);
    wv_metric_record(metrics, ENCODE, 1000);
    wv_metric_record(metrics, ENCODE, 2000);
    wv_metric_add(metrics, N_TABLE, 1); /* out of the table: ignored */
    wv_metrics_heartbeat(metrics, 123);
    wv_metrics_status(metrics, "streaming");
    int ro = wv_memfd_reopen_read_only(page);
    ck_assert_int_eq(wv_metrics_read(ro, snapshot), 0);
    close(ro);
    ck_assert_str_eq(snapshot->stage, "encoder");
    ck_assert_str_eq(snapshot->status, "streaming");
    ck_assert_int_eq(snapshot->pid, getpid());
    ck_assert_uint_eq(snapshot->heartbeat_ns, 123);
    ck_assert_uint_eq(snapshot->n, N_TABLE);
    ck_assert_uint_eq(snapshot->restarts, 0);
    const struct wv_metric_value *v = wv_metrics_find(snapshot, "frames_total");
    ck_assert_ptr_nonnull(v);
    ck_assert_uint_eq(v->value, 4);
    ck_assert_str_eq(v->unit, "frames");
    ck_assert_str_eq(v->help, "Frames seen.");
    ck_assert_uint_eq(wv_metrics_find(snapshot, "level")->value, 17);
    v = wv_metrics_find(snapshot, "encode_us");
    ck_assert_int_eq(v->kind, WV_METRIC_HISTOGRAM);
    ck_assert_uint_eq(v->value, 2);
    ck_assert_uint_eq(v->sum, 3000);
    ck_assert_ptr_null(wv_metrics_find(snapshot, "nothing"));
    ck_assert_uint_eq(wv_metric_value(metrics, ENCODE), 2);
}
END_TEST

START_TEST(heartbeat_alone_is_read)
{
    int fd = -1;
    int32_t pid = -1;
    uint64_t heartbeat_ns = 1;
    struct wv_metrics *m;
    ck_assert_int_eq(wv_metrics_create_page(&fd), 0);
    ck_assert_int_eq(wv_metrics_read_heartbeat(fd, &pid, &heartbeat_ns), 0);
    ck_assert_int_eq(pid, 0); /* nobody has laid it out */
    ck_assert_uint_eq(heartbeat_ns, 0);
    ck_assert_int_eq(wv_metrics_new(&m, fd, "encoder", NULL, 0), 0);
    wv_metrics_heartbeat(m, 1234567890123);
    ck_assert_int_eq(wv_metrics_read_heartbeat(fd, &pid, &heartbeat_ns), 0);
    ck_assert_int_eq(pid, getpid());
    ck_assert_uint_eq(heartbeat_ns, 1234567890123);
    ck_assert_int_eq(pwrite(fd, "rubbish!", 8, 0), 8);
    ck_assert_int_eq(wv_metrics_read_heartbeat(fd, &pid, &heartbeat_ns), -EBADMSG);
    ck_assert_int_lt(wv_metrics_read_heartbeat(-1, &pid, &heartbeat_ns), 0);
    wv_metrics_free(m);
    close(fd);
}
END_TEST

START_TEST(own_private_page_is_read)
{
    struct wv_metrics *own;
    ck_assert_int_eq(wv_metrics_new(&own, -1, "client", table, N_TABLE), 0);
    wv_metric_add(own, FRAMES, 8);
    ck_assert_int_eq(wv_metrics_read_own(own, snapshot), 0);
    ck_assert_uint_eq(wv_metrics_find(snapshot, "frames_total")->value, 8);
    wv_metrics_free(own);
}
END_TEST

START_TEST(values_go_on_after_a_restart)
{
    wv_metric_add(metrics, FRAMES, 5);
    wv_metric_set(metrics, LEVEL, 5);
    wv_metric_record(metrics, ENCODE, 5);
    wv_metrics_free(metrics);
    ck_assert_int_eq(wv_metrics_new(&metrics, page, "encoder", table, N_TABLE), 0);
    wv_metric_add(metrics, FRAMES, 1);
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    ck_assert_uint_eq(snapshot->restarts, 1);
    ck_assert_uint_eq(wv_metrics_find(snapshot, "frames_total")->value, 6);
    ck_assert_uint_eq(wv_metrics_find(snapshot, "encode_us")->value, 1);
    ck_assert_uint_eq(wv_metrics_find(snapshot, "level")->value, 0); /* a gauge is of the living */
    /* Another table: another layout, fresh values. */
    wv_metrics_free(metrics);
    ck_assert_int_eq(wv_metrics_new(&metrics, page, "encoder", table, 1), 0);
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    ck_assert_uint_eq(snapshot->n, 1);
    ck_assert_uint_eq(snapshot->restarts, 2);
    ck_assert_uint_eq(snapshot->values[0].value, 0);
}
END_TEST

START_TEST(buckets_are_within_their_error)
{
    for (uint64_t v = 0; v < 16; v++)
        ck_assert_uint_eq(wv_histogram_bucket_upper(wv_histogram_bucket(v)), v);
    unsigned last = 0;
    for (uint64_t v = 1; v < UINT64_C(1) << 33; v += 1 + v / 9) {
        unsigned b = wv_histogram_bucket(v);
        uint64_t upper = wv_histogram_bucket_upper(b);
        ck_assert_uint_ge(b, last);
        ck_assert_uint_ge(upper, v);
        ck_assert_uint_le((upper - v) * 16, v);
        if (b > 0)
            ck_assert_uint_lt(wv_histogram_bucket_upper(b - 1), v);
        last = b;
    }
    ck_assert_uint_eq(wv_histogram_bucket(UINT64_MAX), WV_METRIC_BUCKETS - 1);
    ck_assert_uint_eq(wv_histogram_bucket_upper(UINT32_MAX),
                      wv_histogram_bucket_upper(WV_METRIC_BUCKETS - 1));
}
END_TEST

START_TEST(quantiles)
{
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    const struct wv_metric_value *h = wv_metrics_find(snapshot, "encode_us");
    ck_assert_uint_eq(wv_histogram_quantile(h, NULL, 0.5), 0);
    for (uint64_t i = 1; i <= 1000; i++)
        wv_metric_record(metrics, ENCODE, i);
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    uint64_t p50 = wv_histogram_quantile(h, NULL, 0.5), p99 = wv_histogram_quantile(h, NULL, 0.99);
    ck_assert(p50 >= 500 && p50 <= 532);
    ck_assert(p99 >= 990 && p99 <= 1053);
    ck_assert_uint_eq(wv_histogram_quantile(h, NULL, 0), 1);
    ck_assert_uint_eq(wv_histogram_quantile(h, NULL, -3), 1);
    ck_assert_uint_eq(wv_histogram_quantile(h, NULL, 7), wv_histogram_quantile(h, NULL, 1));
    /* Only what came since the base counts. */
    memcpy(&snapshot[1], snapshot, sizeof(*snapshot));
    const struct wv_metric_value *base = wv_metrics_find(&snapshot[1], "encode_us");
    ck_assert_uint_eq(wv_histogram_quantile(h, base, 0.5), 0);
    wv_metric_record(metrics, ENCODE, 7);
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    ck_assert_uint_eq(wv_histogram_quantile(h, base, 0.99), 7);
}
END_TEST

START_TEST(tables_have_bounds)
{
    static struct wv_metric many[WV_METRICS_MAX + 1];
    struct wv_metrics *m = NULL;
    for (size_t i = 0; i < WV_ARRAY_SIZE(many); i++)
        many[i] = (struct wv_metric){"x", "", WV_METRIC_HISTOGRAM, ""};
    ck_assert_int_eq(wv_metrics_new(&m, -1, "s", many, WV_METRICS_MAX + 1), -E2BIG);
    ck_assert_int_eq(wv_metrics_new(&m, -1, "s", many, WV_METRICS_MAX), 0);
    wv_metric_record(m, WV_METRICS_MAX - 1, UINT64_MAX);
    ck_assert_int_eq(wv_metrics_read_own(m, snapshot), 0);
    ck_assert_uint_eq(snapshot->values[WV_METRICS_MAX - 1].value, 1);
    wv_metrics_free(m);
}
END_TEST

START_TEST(rubbish_is_refused)
{
    ck_assert_int_eq(wv_metrics_read(-1, snapshot), -EBADF);
    int other;
    ck_assert_int_eq(wv_metrics_create_page(&other), 0);
    ck_assert_int_eq(wv_metrics_read(other, snapshot), -EBADMSG); /* not laid out yet */
    close(other);
    struct metrics_page *raw = mmap(NULL, WV_METRICS_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    raw->n = WV_METRICS_MAX + 1;
    ck_assert_int_eq(wv_metrics_read(page, snapshot), -EBADMSG);
    raw->n = N_TABLE;
    raw->descriptors[1].kind = 77;
    ck_assert_int_eq(wv_metrics_read(page, snapshot), -EBADMSG);
    raw->descriptors[1].kind = WV_METRIC_GAUGE;
    strcpy(raw->descriptors[1].name, "a\nb 1");
    ck_assert_int_eq(wv_metrics_read(page, snapshot), -EBADMSG);
    memset(raw->descriptors[1].name, 'a', sizeof(raw->descriptors[1].name)); /* no end */
    memset(raw->status, '\033', sizeof(raw->status));
    memset(raw->descriptors[0].help, 0xff, sizeof(raw->descriptors[0].help));
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    ck_assert_uint_eq(strlen(snapshot->values[1].name), 63);
    ck_assert_uint_eq(snapshot->status[0], '?'); /* fit for a terminal */
    ck_assert_uint_eq(snapshot->values[0].help[0], '?');
    raw->layout |= 1; /* its writer died in the middle of it */
    ck_assert_int_eq(wv_metrics_read(page, snapshot), -EBADMSG);
    wv_metrics_free(metrics);
    ck_assert_int_eq(wv_metrics_new(&metrics, page, "encoder", table, N_TABLE), 0);
    ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
    munmap(raw, WV_METRICS_PAGE_BYTES);
}
END_TEST

START_TEST(status_is_never_half)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    char text[160];
    if (pid == 0) {
        for (unsigned i = 0;; i++) {
            memset(text, 'a' + i % 26, sizeof(text));
            text[1 + i % 158] = '\0';
            wv_metrics_status(metrics, text);
        }
    }
    uint64_t end = wv_now_ns() + 200 * WV_NS_PER_MS;
    while (wv_now_ns() < end) {
        ck_assert_int_eq(wv_metrics_read(page, snapshot), 0);
        for (const char *c = snapshot->status; *c; c++)
            ck_assert_int_eq(*c, snapshot->status[0]);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *t = tcase_create("metrics");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, what_is_written_is_read);
    tcase_add_test(t, heartbeat_alone_is_read);
    tcase_add_test(t, own_private_page_is_read);
    tcase_add_test(t, values_go_on_after_a_restart);
    tcase_add_test(t, buckets_are_within_their_error);
    tcase_add_test(t, quantiles);
    tcase_add_test(t, tables_have_bounds);
    tcase_add_test(t, rubbish_is_refused);
    tcase_add_test(t, status_is_never_half);
    return wv_run_suite(s);
}
