/* Metrics pages: one declared table per stage, one shared page per process, one writer, any number of
 * lock-free readers. The page describes itself (names, units, kinds), so a reader needs no table. Values are
 * 64-bit atomics; a reader takes a page of another process as foreign bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define WV_METRICS_PAGE_BYTES (320u << 10)
#define WV_METRICS_MAX        76
#define WV_METRIC_BUCKETS     480 /* log-linear: 16 a power of two, exact below 16, relative error <= 6.25 % */

enum wv_metric_kind { WV_METRIC_COUNTER = 1, WV_METRIC_GAUGE = 2, WV_METRIC_HISTOGRAM = 3 };

struct wv_metric {
    const char *name; /* OpenMetrics style without prefix: "frames_published_total", "encode_us" */
    const char *unit; /* "frames", "us", "bytes", "" ... */
    enum wv_metric_kind kind;
    const char *help; /* one sentence */
};

struct wv_metrics; /* writer */

int wv_metrics_create_page(int *ret_fd); /* sealed memfd of WV_METRICS_PAGE_BYTES */

/* Lays TABLE out on the page of PAGE_FD for STAGE; values that an earlier process of the same table left go
 * on (counters never step back). PAGE_FD -1: private memory (tests, client). Returns 0, -E2BIG, negative
 * errno. */
int wv_metrics_new(struct wv_metrics **ret, int page_fd, const char *stage, const struct wv_metric *table,
                   size_t n);
struct wv_metrics *wv_metrics_free(struct wv_metrics *m);
/* ID is the index in the table. */
void wv_metric_add(struct wv_metrics *m, unsigned id, uint64_t n);        /* counter */
void wv_metric_set(struct wv_metrics *m, unsigned id, uint64_t value);    /* gauge */
void wv_metric_record(struct wv_metrics *m, unsigned id, uint64_t value); /* histogram */
uint64_t wv_metric_value(const struct wv_metrics *m, unsigned id); /* counter, gauge; histogram: count */

/* For --help: a line for each. */
void wv_metrics_print_help(const struct wv_metric *table, size_t n, FILE *out);

/* Set by the stage skeleton; the supervisor reads them to find a stage that is alive and does nothing. */
void wv_metrics_heartbeat(struct wv_metrics *m, uint64_t now);
/* Stages set a short sentence ("streaming 1280x720", "no display :0: connection refused"), at most 159 bytes.
 */
void wv_metrics_status(struct wv_metrics *m, const char *text);

/* ---- readers ---- */

struct wv_metric_value {
    char name[64], unit[16], help[160];
    enum wv_metric_kind kind;
    uint64_t value;                      /* counter, gauge; histogram: count */
    uint64_t sum;                        /* histogram */
    uint64_t buckets[WV_METRIC_BUCKETS]; /* histogram */
};

struct wv_metrics_snapshot {
    char stage[32], status[160];
    int32_t pid;
    uint64_t started_ns, heartbeat_ns;
    uint32_t restarts; /* how many processes have used the page before this one */
    size_t n;
    struct wv_metric_value values[WV_METRICS_MAX];
};

/* Copies a page. Returns 0, -EBADMSG (not a page, or not yet laid out), negative errno. The snapshot is
 * large: allocate it. */
int wv_metrics_read(int page_fd, struct wv_metrics_snapshot *ret);
/* Only who writes the page and when it last said that it lives: one system call, nothing mapped. Both are 0
 * until the page is laid out. Returns 0, -EBADMSG (not a page), negative errno. */
int wv_metrics_read_heartbeat(int page_fd, int32_t *ret_pid, uint64_t *ret_heartbeat_ns);
/* The same of a page that this process writes itself (also private memory). Returns 0, -EBADMSG. */
int wv_metrics_read_own(const struct wv_metrics *m, struct wv_metrics_snapshot *ret);
const struct wv_metric_value *wv_metrics_find(const struct wv_metrics_snapshot *s, const char *name);

/* The value below which the share Q (0..1) of the records lies; 0 when there are none. BASE (may be NULL) is
 * an earlier snapshot of the same metric: only what came since counts. */
uint64_t wv_histogram_quantile(const struct wv_metric_value *h, const struct wv_metric_value *base, double q);
unsigned wv_histogram_bucket(uint64_t value);
uint64_t wv_histogram_bucket_upper(unsigned bucket); /* highest value of the bucket */
