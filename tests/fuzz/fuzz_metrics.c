/* The reader of a metrics page: an honest page with the input laid over its head (where everything but the
 * values is) must be refused or come out as text and numbers that are fit to print. */
#include "lib/base/util.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/metrics_layout.h"

#include <string.h>
#include <sys/mman.h>

static const struct wv_metric table[] = {
    {"frames_total", "frames", WV_METRIC_COUNTER, "Frames."},
    {"encode_us", "us", WV_METRIC_HISTOGRAM, "Time to encode."},
};

static int page = -1;
static uint8_t *memory;
static struct wv_metrics_snapshot *snapshot;

static void make_page(void)
{
    if (memory)
        return;
    snapshot = malloc(sizeof(*snapshot));
    if (!snapshot || wv_metrics_create_page(&page) < 0)
        abort();
    memory = mmap(NULL, WV_METRICS_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    if (memory == MAP_FAILED)
        abort();
}

static void check_text(const char *text, size_t capacity)
{
    size_t len = strnlen(text, capacity);
    if (len == capacity)
        abort();
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    make_page();
    struct wv_metrics *m;
    memset(memory, 0, offsetof(struct metrics_page, values));
    if (wv_metrics_new(&m, page, "encoder", table, WV_ARRAY_SIZE(table)) < 0)
        abort();
    wv_metric_record(m, 1, 100);
    wv_metrics_status(m, "fine");
    /* Records of (offset, length, bytes). */
    while (len >= 4) {
        size_t at = ((size_t)data[0] | (size_t)data[1] << 8) % offsetof(struct metrics_page, values);
        size_t n = WV_MIN((size_t)data[2] % 64 + 1, len - 3);
        memcpy(memory + at, data + 3, WV_MIN(n, WV_METRICS_PAGE_BYTES - at));
        data += 3 + n;
        len -= 3 + n;
    }
    if (wv_metrics_read(page, snapshot) == 0) {
        if (snapshot->n > WV_METRICS_MAX)
            abort();
        check_text(snapshot->stage, sizeof(snapshot->stage));
        check_text(snapshot->status, sizeof(snapshot->status));
        for (size_t i = 0; i < snapshot->n; i++) {
            check_text(snapshot->values[i].name, sizeof(snapshot->values[i].name));
            check_text(snapshot->values[i].unit, sizeof(snapshot->values[i].unit));
            check_text(snapshot->values[i].help, sizeof(snapshot->values[i].help));
            wv_histogram_quantile(&snapshot->values[i], NULL, 0.99);
        }
    }
    wv_metrics_free(m);
    return 0;
}
