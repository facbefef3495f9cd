/* The metrics' thread. See exporter.h. */
#include "services/gateway/exporter.h"

#include "ctl/openmetrics.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "metrics/server.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

struct wv_exporter {
    const struct wv_metrics *metrics;
    struct wv_metrics_snapshot *snapshot;
    struct wv_loop *loop;
    struct wv_server *server;
    int stop;
    bool running;
    pthread_t thread;
    char socket[256]; /* ours to remove */
};

static int write_page(void *userdata, FILE *out, bool open)
{
    struct wv_exporter *e = userdata;
    int r = wv_metrics_read_own(e->metrics, e->snapshot);
    if (r < 0)
        return r;
    wv_openmetrics_write_page(out, "gateway", e->snapshot, open);
    if (open)
        fputs("# EOF\n", out);
    return 0;
}

static int on_stop(void *userdata, uint64_t now)
{
    struct wv_exporter *e = userdata;
    wv_loop_quit(e->loop, 0);
    return 0;
}

static void *run(void *userdata)
{
    struct wv_exporter *e = userdata;
    int r = wv_loop_run(e->loop);
    if (r < 0)
        wv_error("metrics are not served any more", "error=\"%s\"", strerror(-r));
    return NULL;
}

static int add(struct wv_exporter *e, const char *at, int made, int fd)
{
    int r = made < 0 ? made : wv_server_add(e->server, fd);
    if (r < 0)
        wv_error("can't serve metrics", "at=%s error=\"%s\"", at,
                 r == -EPERM ? "not an address of this machine alone" : strerror(-r));
    return r;
}

static int open_all(struct wv_exporter *e, const char *socket, const char *listen)
{
    int fd = -1, r = wv_loop_new(&e->loop);
    if (r == 0)
        r = wv_server_new(&e->server, e->loop, write_page, e);
    if (r == 0)
        r = wv_loop_add_eventfd(e->loop, e->stop, on_stop, e, NULL);
    if (r == 0 && *socket) {
        int made = wv_server_listen_unix(socket, &fd);
        r = add(e, socket, made, fd);
        if (r == 0)
            snprintf(e->socket, sizeof e->socket, "%s", socket);
    }
    if (r == 0 && *listen) {
        int made = wv_server_listen_loopback(listen, &fd);
        r = add(e, listen, made, fd);
    }
    return r;
}

int wv_exporter_new(struct wv_exporter **ret, const struct wv_metrics *metrics, const char *socket,
                    const char *listen)
{
    struct wv_exporter *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    e->metrics = metrics;
    e->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->snapshot = calloc(1, sizeof *e->snapshot);
    int r = e->stop < 0 ? -errno : e->snapshot ? open_all(e, socket, listen) : -ENOMEM;
    if (r == 0) {
        r = -pthread_create(&e->thread, NULL, run, e);
        e->running = r == 0;
    }
    if (r < 0) {
        wv_exporter_free(e);
        return r;
    }
    *ret = e;
    return 0;
}

struct wv_exporter *wv_exporter_free(struct wv_exporter *e)
{
    const uint64_t one = 1;
    if (!e)
        return NULL;
    if (e->running && write(e->stop, &one, sizeof one) == (ssize_t)sizeof one)
        pthread_join(e->thread, NULL);
    e->server = wv_server_free(e->server);
    e->loop = wv_loop_free(e->loop);
    if (e->socket[0])
        (void)unlink(e->socket);
    wv_close(e->stop);
    free(e->snapshot);
    free(e);
    return NULL;
}
