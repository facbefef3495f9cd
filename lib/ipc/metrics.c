/* The writer's side of a metrics page. Never blocks and never allocates after wv_metrics_new(); any thread of
 * the stage may count. */
#include "lib/ipc/metrics.h"

#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "lib/ipc/metrics_layout.h"
#include "lib/ipc/metrics_read.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct wv_metrics {
    struct metrics_page *page;
    unsigned n;
};

int wv_metrics_create_page(int *ret_fd)
{
    return wv_memfd_create("wavry-metrics", WV_METRICS_PAGE_BYTES, ret_fd);
}

static void copy_text(char *to, size_t capacity, const char *text)
{
    memset(to, 0, capacity);
    if (text)
        strncpy(to, text, capacity - 1);
}

static void describe(const struct wv_metric *metric, struct metrics_descriptor *ret)
{
    memset(ret, 0, sizeof(*ret));
    copy_text(ret->name, sizeof(ret->name), metric->name);
    copy_text(ret->unit, sizeof(ret->unit), metric->unit);
    copy_text(ret->help, sizeof(ret->help), metric->help);
    ret->kind = (uint32_t)metric->kind;
}

/* Whether an earlier process left a page of the same table, whose values go on. */
static bool same_table(const struct metrics_page *page, const char *stage, const struct wv_metric *table,
                       size_t n)
{
    if (atomic_load(&page->magic) != METRICS_MAGIC || atomic_load(&page->n) != n)
        return false;
    if (strncmp(page->stage, stage, sizeof(page->stage)) != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct metrics_descriptor d;
        describe(&table[i], &d);
        if (memcmp(&d, &page->descriptors[i], sizeof(d)) != 0)
            return false;
    }
    return true;
}

static void lay_out(struct metrics_page *page, const char *stage, const struct wv_metric *table, size_t n)
{
    uint32_t restarts = 0;
    bool same = same_table(page, stage, table, n);
    if (atomic_load(&page->magic) == METRICS_MAGIC)
        restarts = atomic_load(&page->restarts) + 1;
    uint32_t layout = atomic_load(&page->layout) | 1;
    atomic_store(&page->layout, layout);
    if (!same) {
        for (size_t i = 0; i < WV_METRICS_MAX; i++) {
            memset(&page->descriptors[i], 0, sizeof(page->descriptors[i]));
            memset(&page->values[i], 0, sizeof(page->values[i]));
        }
        for (size_t i = 0; i < n; i++)
            describe(&table[i], &page->descriptors[i]);
        copy_text(page->stage, sizeof(page->stage), stage);
    }
    for (size_t i = 0; i < n; i++) /* a gauge is what a living process says */
        if (table[i].kind == WV_METRIC_GAUGE)
            atomic_store(&page->values[i].value, 0);
    atomic_store(&page->n, (uint32_t)n);
    atomic_store(&page->restarts, restarts);
    atomic_store(&page->pid, (int32_t)getpid());
    atomic_store(&page->started_ns, wv_now_ns());
    atomic_store(&page->heartbeat_ns, 0);
    atomic_store(&page->magic, METRICS_MAGIC);
    atomic_store(&page->layout, layout + 1);
}

int wv_metrics_new(struct wv_metrics **ret, int page_fd, const char *stage, const struct wv_metric *table,
                   size_t n)
{
    if (n > WV_METRICS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < n; i++)
        if (!table[i].name || strlen(table[i].name) >= sizeof(((struct metrics_descriptor *)NULL)->name) ||
            table[i].kind < WV_METRIC_COUNTER || table[i].kind > WV_METRIC_HISTOGRAM)
            return -EINVAL;
    struct wv_metrics *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    void *memory;
    int r = 0;
    if (page_fd >= 0) {
        r = wv_memfd_map(page_fd, WV_METRICS_PAGE_BYTES, true, &memory);
    } else {
        memory =
            mmap(NULL, WV_METRICS_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            r = -errno;
    }
    if (r < 0) {
        free(m);
        return r;
    }
    m->page = memory;
    m->n = (unsigned)n;
    lay_out(m->page, stage, table, n);
    wv_metrics_status(m, "");
    *ret = m;
    return 0;
}

struct wv_metrics *wv_metrics_free(struct wv_metrics *m)
{
    if (!m)
        return NULL;
    munmap(m->page, WV_METRICS_PAGE_BYTES);
    free(m);
    return NULL;
}

void wv_metric_add(struct wv_metrics *m, unsigned id, uint64_t n)
{
    if (id < m->n)
        atomic_fetch_add_explicit(&m->page->values[id].value, n, memory_order_relaxed);
}

void wv_metric_set(struct wv_metrics *m, unsigned id, uint64_t value)
{
    if (id < m->n)
        atomic_store_explicit(&m->page->values[id].value, value, memory_order_relaxed);
}

void wv_metric_record(struct wv_metrics *m, unsigned id, uint64_t value)
{
    if (id >= m->n)
        return;
    struct metrics_values *v = &m->page->values[id];
    atomic_fetch_add_explicit(&v->buckets[wv_histogram_bucket(value)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&v->sum, value, memory_order_relaxed);
    atomic_fetch_add_explicit(&v->value, 1, memory_order_relaxed);
}

uint64_t wv_metric_value(const struct wv_metrics *m, unsigned id)
{
    return id < m->n ? atomic_load_explicit(&m->page->values[id].value, memory_order_relaxed) : 0;
}

void wv_metrics_heartbeat(struct wv_metrics *m, uint64_t now)
{
    atomic_store_explicit(&m->page->heartbeat_ns, now, memory_order_relaxed);
}

void wv_metrics_status(struct wv_metrics *m, const char *text)
{
    struct metrics_page *page = m->page;
    uint32_t seq = atomic_load_explicit(&page->status_seq, memory_order_relaxed) | 1;
    atomic_store(&page->status_seq, seq);
    atomic_thread_fence(memory_order_seq_cst);
    copy_text(page->status, sizeof(page->status), text);
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store(&page->status_seq, seq + 1);
}

int wv_metrics_read_own(const struct wv_metrics *m, struct wv_metrics_snapshot *ret)
{
    return metrics_read_page(m->page, ret);
}

void wv_metrics_print_help(const struct wv_metric *table, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct wv_metric *m = &table[i];
        fprintf(out, "%s  %-28s %s%s%s%s\n", i ? "" : "\nMetrics:\n", m->name, m->help,
                m->unit[0] ? " (" : "", m->unit, m->unit[0] ? ")" : "");
    }
}
