/* wavry-gateway: where hosts and clients find each other. It knows who may reach whom and passes sealed words
 * between them; it must never be able to read those, nor to pass for one of them. */
#include "lib/base/util.h"
#include "lib/stage/sandbox.h"
#include "services/gateway/cli.h"
#include "services/gateway/gateway.h"
#include "services/gateway/json.h"

#include <errno.h>
#include <libgen.h>
#include <liboath/oath.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

/* SQLite writes in its folder and nowhere else; PostgreSQL and NATS need connections made anew. */
static int lock_down(const struct wv_gateway *g)
{
    const char *url = wv_config_string(g->settings.config, "database");
    bool file = !strncmp(url, "sqlite:", 7);
    wv_cleanup(wv_free_p) char *path = strdup(file ? url + 7 : "");
    if (!path)
        return -ENOMEM;
    const struct wv_sandbox sandbox = {.network = true,
                                       .threads_later = true,
                                       .file_reads = true,
                                       .file_writes = file,
                                       .writable_path = file ? dirname(path) : NULL};
    int r = wv_sandbox_enter(&sandbox);
    if (r < 0)
        wv_error("the process can't be locked down", "error=\"%s\"", strerror(-r));
    return r;
}

static int code_of(int r)
{
    switch (r) {
    case -EINVAL:
        return EX_CONFIG;
    case -EADDRINUSE:
    case -EADDRNOTAVAIL:
    case -ECONNREFUSED:
    case -ENOTCONN:
        return EX_UNAVAILABLE;
    case -ENOSPC:
        return EX_IOERR;
    case -EROFS:
    case -EACCES:
    case -EPERM:
        return EX_NOPERM;
    case -EBUSY:
    case -ENOENT:
    case -EBADMSG:
    case -ENOTSUP:
        return EX_UNAVAILABLE; /* the database is no database, or not one that this program can use */
    default:
        return EX_OSERR;
    }
}

static int serve(struct wv_gateway_settings *settings, int argc, char **argv)
{
    struct wv_gateway *g = NULL;
    int r = wv_sandbox_prepare();
    if (r == 0)
        r = wv_gateway_new(&g, settings, argc, argv);
    if (r == 0)
        r = lock_down(g);
    int code = r < 0 ? code_of(r) : wv_gateway_run(g);
    wv_gateway_free(g);
    return code;
}

int main(int argc, char **argv)
{
    struct wv_gateway_settings settings;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is a full disk to us, and no reason to die */
    int code = wv_gateway_settings_read(&settings, argc, argv);
    if (code < 0) {
        wv_log_init("gateway", settings.level);
        wv_json_init();
        if (sodium_init() < 0 || oath_init() != OATH_OK)
            code = EX_OSERR;
        else if (settings.n_command)
            code = wv_gateway_cli(&settings);
        else
            code = serve(&settings, argc, argv);
    }
    wv_gateway_settings_fini(&settings);
    return code;
}
