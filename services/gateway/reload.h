/* What changes without a restart: limits, trusted proxies, log level, certificate. Connections stay. */
#pragma once

#include "services/gateway/gateway.h"

/* Reads the configuration again. What is wrong with it is logged, and then nothing changes. */
void wv_gateway_reload(struct wv_gateway *g);
void wv_gateway_apply_limits(struct wv_gateway *g);
