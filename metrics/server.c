#include "metrics/server.h"

#include "ctl/openmetrics.h"
#include "lib/base/log.h"
#include "lib/base/util.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <string.h>

#define CONNECTIONS    16
#define CONNECTION_S   10
#define CONNECTION_MEM (16u << 10)
#define PAGE_FRESH_NS  (200 * WV_NS_PER_MS) /* a flood of questions reaches the host five times a second */
#define PLAIN          "text/plain; charset=utf-8"

/* What was answered last, for those who ask at the same time. */
struct page {
    char *text;
    size_t len;
    unsigned status;
    uint64_t made_ns;
};

struct door {
    struct wv_server *server;
    struct MHD_Daemon *daemon;
    struct wv_loop_source *source, *timer;
};

struct wv_server {
    struct wv_loop *loop;
    wv_server_page_fn write;
    void *userdata;
    struct page pages[2]; /* plain, open */
    struct door doors[WV_SERVER_SOCKETS];
    size_t n_doors;
};

/* On failure the page is the reason, for the person who looks at the scraper. */
static void make_page(struct wv_server *s, struct page *page, bool open)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    page->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    if (out) {
        int r = s->write(s->userdata, out, open);
        if (r >= 0)
            page->status = r == 0 ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        if (fclose(out) != 0)
            page->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    free(page->text);
    page->text = text;
    page->len = text ? len : 0;
    page->made_ns = wv_now_ns();
    if (page->status == MHD_HTTP_SERVICE_UNAVAILABLE)
        wv_warning("no metrics were given", "answer=\"%.*s\"", (int)strcspn(text, "\n"), text);
}

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned status, const char *type,
                                 const char *text, size_t len)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result r = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return r;
}

static enum MHD_Result send_metrics(struct wv_server *s, struct MHD_Connection *connection)
{
    const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    bool open = accept && strstr(accept, "application/openmetrics-text");
    struct page *page = &s->pages[open];
    if (!page->text || wv_now_ns() - page->made_ns > PAGE_FRESH_NS)
        make_page(s, page, open);
    const char *type = page->status != MHD_HTTP_OK ? PLAIN : open ? WV_OPENMETRICS_TYPE : WV_PLAINTEXT_TYPE;
    return send_text(connection, page->status, type, page->text ? page->text : "", page->len);
}

static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request)
{
    static const char refusal[] = "only GET and HEAD\n", nothing[] = "there is only /metrics\n";
    static const char index[] = "Metrics are at /metrics.\n";
    static int begun;
    if (!*request) { /* the headers; what follows comes in later calls */
        *request = &begun;
        return MHD_YES;
    }
    if (*upload_size) { /* a body that nobody asked for */
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, PLAIN, refusal, sizeof refusal - 1);
    if (strcmp(url, "/metrics") == 0)
        return send_metrics(userdata, connection);
    if (strcmp(url, "/") == 0)
        return send_text(connection, MHD_HTTP_OK, PLAIN, index, sizeof index - 1);
    return send_text(connection, MHD_HTTP_NOT_FOUND, PLAIN, nothing, sizeof nothing - 1);
}

static int turn(struct door *d, uint64_t now)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    MHD_run(d->daemon);
    bool any = MHD_get_timeout(d->daemon, &wait_ms) == MHD_YES;
    wv_loop_timer_at(d->timer, any ? now + wait_ms * WV_NS_PER_MS + 1 : 0);
    return 0;
}

static int on_ready(void *userdata, uint32_t events, uint64_t now)
{
    return turn(userdata, now);
}

static int on_time(void *userdata, uint64_t now)
{
    return turn(userdata, now);
}

int wv_server_new(struct wv_server **ret, struct wv_loop *loop, wv_server_page_fn page, void *userdata)
{
    struct wv_server *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->loop = loop;
    s->write = page;
    s->userdata = userdata;
    *ret = s;
    return 0;
}

int wv_server_add(struct wv_server *s, int take_listen_fd)
{
    assert(take_listen_fd >= 0); /* the library would open a port of its own, to everybody */
    if (s->n_doors == WV_SERVER_SOCKETS) {
        wv_close(take_listen_fd);
        return -E2BIG;
    }
    struct door *d = &s->doors[s->n_doors];
    *d = (struct door){.server = s};
    d->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET,
                                 (MHD_socket)take_listen_fd, MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_S,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEM, MHD_OPTION_END);
    if (!d->daemon) {
        wv_close(take_listen_fd);
        return -EIO;
    }
    s->n_doors++;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return -EIO;
    int r = wv_loop_add_fd(s->loop, info->epoll_fd, EPOLLIN, on_ready, d, &d->source);
    return r < 0 ? r : wv_loop_add_timer(s->loop, on_time, d, &d->timer);
}

struct wv_server *wv_server_free(struct wv_server *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->n_doors; i++) {
        struct door *d = &s->doors[i];
        if (d->source)
            wv_loop_remove(d->source);
        if (d->timer)
            wv_loop_remove(d->timer);
        MHD_stop_daemon(d->daemon); /* closes the listening socket */
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(s->pages); i++)
        free(s->pages[i].text);
    free(s);
    return NULL;
}
