/* What every stage has counted and measured since it was first started: a table, JSON, or OpenMetrics text.
 */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/openmetrics.h"
#include "lib/base/util.h"

#include <string.h>
#include <sysexits.h>

static const char *kind_name(enum wv_metric_kind kind)
{
    return kind == WV_METRIC_COUNTER ? "counter" : kind == WV_METRIC_GAUGE ? "gauge" : "histogram";
}

static void print_page(FILE *out, const char *stage, const struct wv_metrics_snapshot *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct wv_metric_value *v = &s->values[i];
        wv_format_column(out, stage, 12);
        wv_format_column(out, v->name, 34);
        fprintf(out, " %-10s %14llu", kind_name(v->kind), (unsigned long long)v->value);
        if (v->kind == WV_METRIC_HISTOGRAM && v->value > 0)
            fprintf(out, " %10llu %10llu", (unsigned long long)wv_histogram_quantile(v, NULL, 0.5),
                    (unsigned long long)wv_histogram_quantile(v, NULL, 0.99));
        else
            fprintf(out, " %10s %10s", "", "");
        fprintf(out, "  %s\n", v->unit);
    }
}

static void json_page(FILE *out, const struct wv_metrics_snapshot *s)
{
    fputc('{', out);
    for (size_t i = 0; i < s->n; i++) {
        const struct wv_metric_value *v = &s->values[i];
        fprintf(out, "%s\"%s\": {\"kind\": \"%s\", \"unit\": ", i ? ",\n    " : "\n    ", v->name,
                kind_name(v->kind));
        wv_format_json(out, v->unit);
        if (v->kind == WV_METRIC_HISTOGRAM)
            fprintf(out, ", \"count\": %llu, \"p50\": %llu, \"p99\": %llu, \"sum\": %llu}",
                    (unsigned long long)v->value, (unsigned long long)wv_histogram_quantile(v, NULL, 0.5),
                    (unsigned long long)wv_histogram_quantile(v, NULL, 0.99), (unsigned long long)v->sum);
        else
            fprintf(out, ", \"value\": %llu}", (unsigned long long)v->value);
    }
    fputc('}', out);
}

int wv_ctl_metrics(struct wv_ctl *c)
{
    struct wv_ctl_pages p;
    wv_cleanup(wv_free_p) struct wv_metrics_snapshot *s = malloc(sizeof(*s));
    if (!s) {
        fputs("wavryctl: no memory\n", c->err);
        return EX_OSERR;
    }
    int r = wv_ctl_pages_get(c, &p);
    if (r != 0)
        return r;
    if (c->openmetrics) {
        wv_openmetrics_write(c->out, &p, true);
        wv_ctl_pages_fini(&p);
        return EX_OK;
    }
    bool any = false;
    if (c->json)
        fputc('{', c->out);
    for (size_t i = 0; i < p.n; i++) {
        if (wv_metrics_read(p.fds[i], s) < 0)
            continue; /* a stage that never came up */
        if (c->json) {
            fputs(any ? ",\n  " : "\n  ", c->out);
            wv_format_json(c->out, p.names[i]);
            fputs(": ", c->out);
            json_page(c->out, s);
        } else {
            if (!any)
                fputs("STAGE       METRIC                             KIND           VALUE/COUNT        P50  "
                      "      "
                      "P99  UNIT\n",
                      c->out);
            print_page(c->out, p.names[i], s);
        }
        any = true;
    }
    if (c->json)
        fputs("}\n", c->out);
    wv_ctl_pages_fini(&p);
    return EX_OK;
}
