/* The operator's page: files that are compiled in, so that the gateway opens none for a stranger. */
#pragma once

#include "services/gateway/request.h"

struct wv_page_file {
    const char *path, *type; /* "/" or "/page/app.js"; "text/html; charset=utf-8" */
    const char *tag;         /* names this content: an ETag */
    const void *data;
    size_t len;
    const char *gzip_tag; /* the same for who takes gzip (RFC 1952): it was made when the program was built */
    const void *gzip;
    size_t gzip_len;
};

/* Whether who sent ACCEPT_ENCODING (RFC 9110, 12.5.3) takes gzip by name. */
bool wv_page_takes_gzip(const char *accept_encoding);

/* Made from services/gateway/page/ when the program is built. The last one has no path. */
extern const struct wv_page_file wv_page_files[];

/* The route of a GET of PATH when there is such a file, else NULL. Its handler finds the file by q->args[0].
 */
const struct wv_route *wv_page_find(const char *path, char ret_args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES]);
