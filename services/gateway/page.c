/* Serves the page's files. See page.h. */
#include "services/gateway/page.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct wv_page_file *find(const char *path)
{
    const struct wv_page_file *f = wv_page_files;
    while (f->path && strcmp(f->path, path) != 0)
        f++;
    return f->path ? f : NULL;
}

/* Whether the browser keeps this very content. */
static bool has_it(const struct wv_request *q, const char *tag)
{
    char tags[256];
    int len = lws_hdr_copy(q->wsi, tags, sizeof tags, WSI_TOKEN_HTTP_IF_NONE_MATCH);
    return len > 0 && strstr(tags, tag);
}

bool wv_page_takes_gzip(const char *accept_encoding)
{
    static const char name[] = "gzip", weight[] = "q=";
    for (const char *p = accept_encoding; *p; p += *p == ',') {
        p += strspn(p, " \t");
        size_t len = strcspn(p, " \t;,");
        bool is_gzip = len == sizeof name - 1 && !strncasecmp(p, name, len);
        p += len;
        p += strspn(p, " \t;");
        if (is_gzip)
            return strncasecmp(p, weight, sizeof weight - 1) != 0 || strtod(p + sizeof weight - 1, NULL) > 0;
        p += strcspn(p, ",");
    }
    return false;
}

static void serve(struct wv_request *q)
{
    const struct wv_page_file *f = find(q->args[0]);
    char accepted[256];
    bool gzip = lws_hdr_copy(q->wsi, accepted, sizeof accepted, WSI_TOKEN_HTTP_ACCEPT_ENCODING) > 0 &&
                wv_page_takes_gzip(accepted);
    q->file = gzip ? f->gzip : f->data;
    q->file_len = gzip ? f->gzip_len : f->len;
    q->file_type = f->type;
    q->file_tag = gzip ? f->gzip_tag : f->tag;
    q->file_coding = gzip ? "gzip" : NULL;
    wv_request_answer(q, has_it(q, q->file_tag) ? 304 : 200, NULL);
}

const struct wv_route *wv_page_find(const char *path, char ret_args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES])
{
    static const struct wv_route route = {.method = "GET", .path = "/", .auth = WV_AUTH_NONE, .begin = serve};
    if (strlen(path) >= WV_ROUTE_ARG_BYTES || !find(path))
        return NULL;
    strcpy(ret_args[0], path);
    return &route;
}
