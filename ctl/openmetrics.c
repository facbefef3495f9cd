/* OpenMetrics 1.0, and Prometheus' text format 0.0.4, which differs in the names of counters and in the end.
 */
#include "ctl/openmetrics.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_BYTES 160

struct family {
    FILE *out;
    bool open;
    bool seconds; /* the page counts microseconds */
    char name[NAME_MAX_BYTES];
};

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len > n && strcmp(text + len - n, end) == 0;
}

/* The stage is part of the name: another stage's metric of the same name may be of another kind. Names come
 * from a page, which has checked that they are letters, digits and underscores. */
static void name_family(struct family *f, const char *stage, const struct wv_metric_value *v)
{
    int cut = 0;
    const char *unit = "";
    f->seconds = strcmp(v->unit, "us") == 0;
    if (f->seconds) {
        cut = ends_in(v->name, "_us") ? 3 : 0;
        unit = "_seconds";
    } else if (v->kind == WV_METRIC_COUNTER && ends_in(v->name, "_total")) {
        cut = 6;
    }
    snprintf(f->name, sizeof(f->name), "wavry_%s_%.*s%s", stage, (int)strlen(v->name) - cut, v->name, unit);
}

static void print_value(const struct family *f, uint64_t value)
{
    if (f->seconds)
        fprintf(f->out, "%llu.%06llu\n", (unsigned long long)(value / 1000000),
                (unsigned long long)(value % 1000000));
    else
        fprintf(f->out, "%llu\n", (unsigned long long)value);
}

/* HELP takes backslash escapes; the older format knows none for quotes. */
static void print_help(const struct family *f, const struct wv_metric_value *v)
{
    for (const char *c = v->help; *c; c++) {
        if (*c == '\\' || (*c == '"' && f->open))
            fputc('\\', f->out);
        fputc(*c, f->out);
    }
    if (!v->help[0])
        fputs("Not described.", f->out);
    if (v->unit[0] && !f->seconds)
        fprintf(f->out, " Unit: %s.", v->unit);
    fputc('\n', f->out);
}

static void print_histogram(const struct family *f, const struct wv_metric_value *v)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < WV_METRIC_BUCKETS; i++) {
        below += v->buckets[i];
        if (i % 16 != 15 || i + 1 == WV_METRIC_BUCKETS)
            continue; /* at powers of two: enough for a graph */
        uint64_t upper = wv_histogram_bucket_upper(i);
        if (f->seconds)
            fprintf(f->out, "%s_bucket{le=\"%llu.%06llu\"} %llu\n", f->name,
                    (unsigned long long)(upper / 1000000), (unsigned long long)(upper % 1000000),
                    (unsigned long long)below);
        else
            fprintf(f->out, "%s_bucket{le=\"%llu.0\"} %llu\n", f->name, (unsigned long long)upper,
                    (unsigned long long)below);
    }
    fprintf(f->out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum ", f->name, (unsigned long long)below, f->name);
    print_value(f, v->sum);
    fprintf(f->out, "%s_count %llu\n", f->name, (unsigned long long)below);
}

static void print_metric(FILE *out, bool open, const char *stage, const struct wv_metric_value *v)
{
    static const char *const kinds[] = {
        [WV_METRIC_COUNTER] = "counter", [WV_METRIC_GAUGE] = "gauge", [WV_METRIC_HISTOGRAM] = "histogram"};
    struct family f = {.out = out, .open = open};
    name_family(&f, stage, v);
    const char *total = v->kind == WV_METRIC_COUNTER ? "_total" : "";
    const char *shown = open ? "" : total; /* OpenMetrics names a counter's family without it */
    fprintf(out, "# TYPE %s%s %s\n", f.name, shown, kinds[v->kind]);
    if (open && f.seconds)
        fprintf(out, "# UNIT %s seconds\n", f.name);
    fprintf(out, "# HELP %s%s ", f.name, shown);
    print_help(&f, v);
    if (v->kind == WV_METRIC_HISTOGRAM) {
        print_histogram(&f, v);
        return;
    }
    fprintf(out, "%s%s ", f.name, total);
    print_value(&f, v->value);
}

/* Label values are stages' names, given by the supervisor: what is no letter is left out all the same. */
static void print_label(FILE *out, const char *text)
{
    for (; *text; text++)
        if ((*text >= 'a' && *text <= 'z') || *text == '-')
            fputc(*text, out);
}

static void print_stages(FILE *out, const Wavry__Bus__ControlReply *reply)
{
    fputs("# TYPE wavry_stage_ready gauge\n"
          "# HELP wavry_stage_ready Whether a stage runs and serves: 1, else 0.\n",
          out);
    for (size_t i = 0; i < reply->n_stages; i++) {
        fputs("wavry_stage_ready{stage=\"", out);
        print_label(out, reply->stages[i]->name);
        fprintf(out, "\"} %d\n", strcmp(reply->stages[i]->state, "ready") == 0);
    }
}

void wv_openmetrics_write_page(FILE *out, const char *stage, const struct wv_metrics_snapshot *s, bool open)
{
    for (size_t i = 0; i < s->n; i++)
        print_metric(out, open, stage, &s->values[i]);
}

int wv_openmetrics_write(FILE *out, const struct wv_ctl_pages *p, bool open)
{
    wv_cleanup(wv_free_p) struct wv_metrics_snapshot *s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    print_stages(out, p->reply);
    for (size_t i = 0; i < p->n; i++) {
        if (wv_metrics_read(p->fds[i], s) < 0)
            continue;
        wv_openmetrics_write_page(out, p->names[i], s, open);
    }
    if (open)
        fputs("# EOF\n", out);
    return 0;
}
