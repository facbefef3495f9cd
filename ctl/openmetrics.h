/* A host's metrics as text for a scraper, of the pages that it lends. wavryctl prints it, wavry-metrics
 * serves it. Times are in seconds there, as scrapers expect, whatever the page counts in. */
#pragma once

#include "ctl/ctl.h"

#define WV_OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define WV_PLAINTEXT_TYPE   "text/plain; version=0.0.4; charset=utf-8"

/* Writes to OUT what P's pages say: OpenMetrics 1.0 when OPEN, else Prometheus' older text format. A page
 * that doesn't check out, of a stage that never came up, is left out. Returns 0 or -ENOMEM. */
int wv_openmetrics_write(FILE *out, const struct wv_ctl_pages *p, bool open);
/* One page alone, without an end: "# EOF" is the caller's, after the last one when OPEN. */
void wv_openmetrics_write_page(FILE *out, const char *stage, const struct wv_metrics_snapshot *snapshot,
                               bool open);
