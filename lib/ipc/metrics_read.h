/* Reading a mapped metrics page. Internal to lib/ipc and its tests. */
#pragma once

#include "lib/ipc/metrics_layout.h"

/* Copies PAGE, which somebody else may be writing. Returns 0 or -EBADMSG. */
int metrics_read_page(const struct metrics_page *page, struct wv_metrics_snapshot *ret);
