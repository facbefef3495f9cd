/* The HTTP side of wavry-metrics and wavry-relay: answers GET /metrics on listening sockets it is given, from
 * the caller's event loop. A peer's mistake ends its connection only; connections, memory and time are
 * bounded. */
#pragma once

#include "lib/ipc/loop.h"

#include <stdio.h>

#define WV_SERVER_SOCKETS 8

struct wv_server;

/* Writes the metrics to OUT, as OpenMetrics when OPEN, else in Prometheus' older format. Returns 0; a
 * positive number when OUT was told why there are none now; or a negative errno. */
typedef int (*wv_server_page_fn)(void *userdata, FILE *out, bool open);

/* PAGE is asked a few times a second at most, however many ask. */
int wv_server_new(struct wv_server **ret, struct wv_loop *loop, wv_server_page_fn page, void *userdata);
/* Takes over LISTEN_FD, a listening stream socket. Returns 0 or a negative errno (the descriptor is closed).
 */
int wv_server_add(struct wv_server *server, int take_listen_fd);
struct wv_server *wv_server_free(struct wv_server *server);

/* Makes listening sockets. TEXT is ADDRESS:PORT of this machine itself (127.0.0.0/8 or [::1]); anything else
 * is -EPERM, and -EINVAL when it is no such text. */
int wv_server_listen_loopback(const char *text, int *ret_fd);
/* An old socket at PATH is replaced, anything else there is -EEXIST; one that somebody answers on is
 * -EADDRINUSE. */
int wv_server_listen_unix(const char *path, int *ret_fd);
