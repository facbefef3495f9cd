/* One picture as a PNG file. */
#pragma once

#include "client/wavry_client.h"

/* Replaces PATH atomically. Returns 0 or a negative errno. */
int wv_snapshot_write(const char *path, const struct wv_client_picture *picture);
