/* All routes of the HTTP API. tests/system/test_gateway_api.py compares this list, as `wavry-gateway routes`
 * prints it, with docs/openapi.yaml. */
#pragma once

#include "services/gateway/request.h"

#include <stdio.h>

/* One table for each part, its end a NULL method. */
extern const struct wv_route wv_probe_routes[], wv_login_routes[], wv_account_routes[], wv_machine_routes[],
    wv_admin_routes[], wv_live_routes[];

/* Finds METHOD and PATH and fills RET_ARGS. Returns the route, or NULL with RET_KNOWN: whether another method
 * would do. */
const struct wv_route *wv_route_find(const char *method, const char *path,
                                     char ret_args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES], bool *ret_known);
void wv_route_list(FILE *out);
