/* Which handler a path belongs to. See routes.h. */
#include "services/gateway/routes.h"

#include "lib/base/util.h"

#include <string.h>

static const struct wv_route *const tables[] = {wv_probe_routes,   wv_login_routes, wv_account_routes,
                                                wv_machine_routes, wv_admin_routes, wv_live_routes};

static bool matches(const char *pattern, const char *path, char args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES])
{
    size_t n = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        size_t len = strcspn(path, "/");
        if (!len || len >= WV_ROUTE_ARG_BYTES || n == WV_ROUTE_ARGS)
            return false;
        memcpy(args[n], path, len);
        args[n++][len] = 0;
        path += len;
        pattern += strcspn(pattern, "}") + 1;
    }
    return !*path;
}

const struct wv_route *wv_route_find(const char *method, const char *path,
                                     char ret_args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES], bool *ret_known)
{
    *ret_known = false;
    for (size_t i = 0; i < WV_ARRAY_SIZE(tables); i++)
        for (const struct wv_route *r = tables[i]; r->method; r++) {
            if (!matches(r->path, path, ret_args))
                continue;
            *ret_known = true;
            if (!strcmp(r->method, method))
                return r;
        }
    return NULL;
}

void wv_route_list(FILE *out)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(tables); i++)
        for (const struct wv_route *r = tables[i]; r->method; r++)
            fprintf(out, "%s %s\n", r->method, r->path);
}
