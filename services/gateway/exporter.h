/* Serves the metrics on a thread of its own: also while the event loop is busy or stuck, which is when
 * somebody looks. */
#pragma once

#include "lib/ipc/metrics.h"

struct wv_exporter;

/* SOCKET and LISTEN: where, "" for nowhere. Returns 0 or a negative errno, logged. */
int wv_exporter_new(struct wv_exporter **ret, const struct wv_metrics *metrics, const char *socket,
                    const char *listen);
struct wv_exporter *wv_exporter_free(struct wv_exporter *e);
