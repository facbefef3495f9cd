/* The running relay: sockets, table, kept state and metrics on one event loop. */
#pragma once

#include "lib/ipc/loop.h"
#include "services/relay/settings.h"

struct wv_relay_service;

/* Opens everything (sockets, state, metrics) on LOOP; afterwards no file is needed any more. What systemd
 * stored for us is taken over. Returns 0 or a negative errno, logged. */
int wv_relay_service_new(struct wv_relay_service **ret, struct wv_loop *loop,
                         const struct wv_relay_settings *settings);
/* Watches the sockets and says that it serves. */
int wv_relay_service_start(struct wv_relay_service *s);
struct wv_relay_service *wv_relay_service_free(struct wv_relay_service *s);
