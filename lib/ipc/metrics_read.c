/* The readers' side of metrics pages: a page is foreign bytes. Never writes to it, never waits for its
 * writer, and hands out only text that a terminal can be given. */
#include "lib/ipc/metrics_read.h"

#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "lib/ipc/text.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define READ_TRIES 8

unsigned wv_histogram_bucket(uint64_t value)
{
    if (value < 16)
        return (unsigned)value;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket = 16 + (exponent - 4) * 16 + (unsigned)((value >> (exponent - 4)) & 15);
    return WV_MIN(bucket, WV_METRIC_BUCKETS - 1u);
}

uint64_t wv_histogram_bucket_upper(unsigned bucket)
{
    bucket = WV_MIN(bucket, WV_METRIC_BUCKETS - 1u);
    if (bucket < 16)
        return bucket;
    unsigned shift = (bucket - 16) / 16;
    return ((uint64_t)(16 + (bucket - 16) % 16 + 1) << shift) - 1;
}

static uint64_t since(const struct wv_metric_value *h, const struct wv_metric_value *base, unsigned bucket)
{
    uint64_t before = base ? base->buckets[bucket] : 0;
    return h->buckets[bucket] > before ? h->buckets[bucket] - before : 0;
}

uint64_t wv_histogram_quantile(const struct wv_metric_value *h, const struct wv_metric_value *base, double q)
{
    double total = 0;
    for (unsigned i = 0; i < WV_METRIC_BUCKETS; i++)
        total += (double)since(h, base, i);
    if (total <= 0)
        return 0;
    double share = q > 0 ? WV_MIN(q, 1.0) : 0; /* NaN is 0 */
    double wanted = WV_MAX(share * total, 1.0);
    double below = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < WV_METRIC_BUCKETS; i++) {
        uint64_t n = since(h, base, i);
        if (n == 0)
            continue;
        last = i;
        below += (double)n;
        if (below >= wanted)
            break;
    }
    return wv_histogram_bucket_upper(last);
}

const struct wv_metric_value *wv_metrics_find(const struct wv_metrics_snapshot *s, const char *name)
{
    for (size_t i = 0; i < s->n && i < WV_METRICS_MAX; i++)
        if (strcmp(s->values[i].name, name) == 0)
            return &s->values[i];
    return NULL;
}

/* Names end up in OpenMetrics and JSON: letters, digits and underscores, not empty. */
static bool name_checks_out(const char *name)
{
    if (!name[0])
        return false;
    for (; *name; name++)
        if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
              (*name >= '0' && *name <= '9') || *name == '_'))
            return false;
    return true;
}

static int read_value(const struct metrics_page *page, size_t i, struct wv_metric_value *ret)
{
    struct metrics_descriptor d;
    memcpy(&d, &page->descriptors[i], sizeof(d));
    if (d.kind < WV_METRIC_COUNTER || d.kind > WV_METRIC_HISTOGRAM)
        return -EBADMSG;
    wv_text_copy(ret->name, sizeof(ret->name), d.name, sizeof(d.name));
    wv_text_copy(ret->unit, sizeof(ret->unit), d.unit, sizeof(d.unit));
    wv_text_copy(ret->help, sizeof(ret->help), d.help, sizeof(d.help));
    if (!name_checks_out(ret->name))
        return -EBADMSG;
    ret->kind = (enum wv_metric_kind)d.kind;
    const struct metrics_values *v = &page->values[i];
    ret->value = atomic_load_explicit(&v->value, memory_order_relaxed);
    ret->sum = atomic_load_explicit(&v->sum, memory_order_relaxed);
    if (ret->kind == WV_METRIC_HISTOGRAM)
        for (unsigned b = 0; b < WV_METRIC_BUCKETS; b++)
            ret->buckets[b] = atomic_load_explicit(&v->buckets[b], memory_order_relaxed);
    else
        memset(ret->buckets, 0, sizeof(ret->buckets));
    return 0;
}

static void read_status(const struct metrics_page *page, struct wv_metrics_snapshot *ret)
{
    ret->status[0] = '\0'; /* stays so when it was being written all the time */
    for (int i = 0; i < READ_TRIES; i++) {
        char copy[sizeof(page->status)];
        uint32_t seq = atomic_load(&page->status_seq);
        memcpy(copy, page->status, sizeof(copy));
        atomic_thread_fence(memory_order_acquire);
        if (seq % 2 == 0 && atomic_load(&page->status_seq) == seq) {
            wv_text_copy(ret->status, sizeof(ret->status), copy, sizeof(copy));
            return;
        }
    }
}

static int read_once(const struct metrics_page *page, struct wv_metrics_snapshot *ret)
{
    uint32_t layout = atomic_load(&page->layout);
    uint32_t n = atomic_load(&page->n);
    if (atomic_load(&page->magic) != METRICS_MAGIC || n > WV_METRICS_MAX || layout % 2 != 0)
        return -EBADMSG;
    char stage[sizeof(page->stage)];
    memcpy(stage, page->stage, sizeof(stage));
    wv_text_copy(ret->stage, sizeof(ret->stage), stage, sizeof(stage));
    ret->pid = atomic_load(&page->pid);
    ret->restarts = atomic_load(&page->restarts);
    ret->started_ns = atomic_load(&page->started_ns);
    ret->heartbeat_ns = atomic_load(&page->heartbeat_ns);
    read_status(page, ret);
    ret->n = n;
    for (size_t i = 0; i < n; i++) {
        int r = read_value(page, i, &ret->values[i]);
        if (r < 0)
            return r;
    }
    atomic_thread_fence(memory_order_acquire);
    return atomic_load(&page->layout) == layout ? 0 : -EBADMSG;
}

int metrics_read_page(const struct metrics_page *page, struct wv_metrics_snapshot *ret)
{
    int r = -EBADMSG;
    for (int i = 0; i < READ_TRIES && r == -EBADMSG; i++)
        r = read_once(page, ret);
    if (r < 0)
        ret->n = 0;
    return r;
}

int wv_metrics_read(int page_fd, struct wv_metrics_snapshot *ret)
{
    void *memory;
    int r = wv_memfd_map(page_fd, WV_METRICS_PAGE_BYTES, false, &memory);
    if (r < 0)
        return r;
    r = metrics_read_page(memory, ret);
    munmap(memory, WV_METRICS_PAGE_BYTES);
    return r;
}

int wv_metrics_read_heartbeat(int page_fd, int32_t *ret_pid, uint64_t *ret_heartbeat_ns)
{
    enum { HEAD = offsetof(struct metrics_page, heartbeat_ns) + sizeof(uint64_t) };
    _Alignas(struct metrics_page) uint8_t head[HEAD];
    uint64_t magic;
    ssize_t n = pread(page_fd, head, sizeof(head), 0);
    if (n < 0)
        return -errno;
    if ((size_t)n != sizeof(head))
        return -EBADMSG;
    memcpy(&magic, head + offsetof(struct metrics_page, magic), sizeof(magic));
    if (magic != METRICS_MAGIC) {
        *ret_pid = 0;
        *ret_heartbeat_ns = 0;
        return magic == 0 ? 0 : -EBADMSG;
    }
    memcpy(ret_pid, head + offsetof(struct metrics_page, pid), sizeof(*ret_pid));
    memcpy(ret_heartbeat_ns, head + offsetof(struct metrics_page, heartbeat_ns), sizeof(*ret_heartbeat_ns));
    return 0;
}
