/* Serves the page's files. See page.h. */
#include "services/gateway/page.h"

#include <string.h>

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

static void serve(struct wv_request *q)
{
    const struct wv_page_file *f = find(q->args[0]);
    q->file = f->data;
    q->file_len = f->len;
    q->file_type = f->type;
    q->file_tag = f->tag;
    wv_request_answer(q, has_it(q, f->tag) ? 304 : 200, NULL);
}

const struct wv_route *wv_page_find(const char *path, char ret_args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES])
{
    static const struct wv_route route = {.method = "GET", .path = "/", .auth = WV_AUTH_NONE, .begin = serve};
    if (strlen(path) >= WV_ROUTE_ARG_BYTES || !find(path))
        return NULL;
    strcpy(ret_args[0], path);
    return &route;
}
