/* A client's numbers for people (the overlay) and for programs (--stats-json). */
#pragma once

#include "client/wavry_client.h"

#include <stddef.h>

/* A few lines for the overlay. */
void wv_numbers_overlay(const struct wv_client_stats *stats, const char *renderer, char *ret,
                        size_t capacity);

/* Replaces PATH atomically by one JSON object. REASON is why the client ended in its state, "" for none.
 * Returns 0 or a negative errno. */
int wv_numbers_write_json(const char *path, const struct wv_client_stats *stats, const char *host,
                          const char *reason, const char *snapshot);
