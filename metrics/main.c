/* wavry-metrics: a host's metrics over HTTP, for a scraper on this machine. A process of its own, so that no
 * scraper, however it behaves, comes near the supervisor: it asks on the control socket as wavryctl does,
 * holds no rights, and the host runs on without it. It listens on a unix socket, and on a loopback port only
 * when told to; it never makes a connection to another machine. */
#include "ctl/ctl.h"
#include "ctl/openmetrics.h"
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/options.h"
#include "metrics/server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#define ANSWER_MS 2000 /* scrapers wait 10 s by default */

static const struct wv_config_entry config_table[] = {
    {"listen", WV_CONFIG_STRING, "", 0, 0, NULL,
     "ADDRESS:PORT of this machine itself to serve on, as 127.0.0.1:9482; empty: none."},
    {"socket", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Unix socket to serve on; empty: metrics.sock beside the control socket."},
    {"control", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Control socket of the host; empty: where wavryctl looks for it."},
};

struct exporter {
    struct wv_config *config;
    struct wv_loop *loop;
    struct wv_server *server;
    struct wv_ctl ctl;
    struct wv_loop_source *watchdog;
    char socket[256]; /* ours to remove; empty: none */
    bool print_config, help, version;
    enum wv_log_level level;
};

enum {
    OPT_LISTEN = 256,
    OPT_SOCKET,
    OPT_CONTROL,
    OPT_CONFIG,
    OPT_SET,
    OPT_LEVEL,
    OPT_PRINT,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"listen", required_argument, NULL, OPT_LISTEN},   {"socket", required_argument, NULL, OPT_SOCKET},
    {"control", required_argument, NULL, OPT_CONTROL}, {"config", required_argument, NULL, OPT_CONFIG},
    {"set", required_argument, NULL, OPT_SET},         {"log-level", required_argument, NULL, OPT_LEVEL},
    {"print-config", no_argument, NULL, OPT_PRINT},    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},       {NULL, 0, NULL, 0},
};

static void print_help(const struct wv_config *config)
{
    printf("wavry-metrics: serves a Wavry host's metrics over HTTP, at /metrics, to this machine.\n\n"
           "  --listen ADDRESS:PORT  a loopback address; short for --set listen=...\n"
           "  --socket PATH          unix socket to serve on; short for --set socket=...\n"
           "  --control PATH         the host's control socket; short for --set control=...\n"
           "  --config FILE          read FILE after the default files; may be repeated\n"
           "  --set KEY=VALUE        set one key of the group [metrics]; wins over files\n"
           "  --print-config         show the effective values and where each comes from\n"
           "  --log-level LEVEL      error, warning, notice, info (default) or debug\n"
           "  --help, --version\n\n"
           "Sockets that systemd hands over are served instead of those that are configured.\n\n");
    wv_config_print_help(config, stdout);
}

/* Files come before what the command line sets, wherever it stands there. */
static int load_files(struct exporter *e, int argc, char **argv, char **ret_message)
{
    struct wv_stage_options files = {.level = WV_LOG_INFO};
    optind = 0;
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == OPT_CONFIG && files.n_configs < WV_STAGE_OPTIONS_MAX)
            files.configs[files.n_configs++] = optarg;
        e->help = e->help || o == OPT_HELP;
        e->version = e->version || o == OPT_VERSION;
    }
    opterr = 1;
    return e->help || e->version ? 0 : wv_stage_options_load(&files, e->config, ret_message);
}

static int set_key(struct exporter *e, const char *key, const char *value, char **ret_message)
{
    wv_cleanup(wv_free_p) char *text = NULL;
    if (asprintf(&text, "%s=%s", key, value) < 0) {
        text = NULL;
        return -ENOMEM;
    }
    return wv_config_set(e->config, text, "command line", ret_message);
}

static int take_option(struct exporter *e, int option, char **ret_message)
{
    int level;
    switch (option) {
    case OPT_LISTEN:
        return set_key(e, "listen", optarg, ret_message);
    case OPT_SOCKET:
        return set_key(e, "socket", optarg, ret_message);
    case OPT_CONTROL:
        return set_key(e, "control", optarg, ret_message);
    case OPT_SET:
        return wv_config_set(e->config, optarg, "--set", ret_message);
    case OPT_PRINT:
        e->print_config = true;
        return 0;
    case OPT_LEVEL:
        level = wv_log_level_parse(optarg);
        if (level >= 0) {
            e->level = (enum wv_log_level)level;
            return 0;
        }
        *ret_message = strdup("--log-level takes error, warning, notice, info or debug");
        return -EINVAL;
    case OPT_CONFIG:
    case OPT_HELP:
    case OPT_VERSION:
        return 0;
    default:
        return -EINVAL; /* getopt has said it */
    }
}

/* Returns -1 to go on, or an exit code, told. */
static int configure(struct exporter *e, int argc, char **argv)
{
    wv_cleanup(wv_free_p) char *message = NULL;
    if (wv_config_new(&e->config, "metrics", config_table, WV_ARRAY_SIZE(config_table)) < 0)
        return EX_OSERR;
    int r = load_files(e, argc, argv, &message), code = EX_CONFIG;
    optind = 0;
    for (int o; r == 0 && (o = getopt_long(argc, argv, "", options, NULL)) != -1; code = EX_USAGE)
        r = take_option(e, o, &message);
    if (r == 0 && optind < argc) {
        r = -EINVAL;
        if (asprintf(&message, "unexpected argument \"%s\"", argv[optind]) < 0)
            message = NULL;
    }
    if (r < 0) {
        fprintf(stderr, "wavry-metrics: %s; see wavry-metrics --help\n", message ? message : strerror(-r));
        return code;
    }
    if (e->help)
        print_help(e->config);
    else if (e->version)
        puts("wavry-metrics " WAVRY_VERSION);
    else if (e->print_config)
        wv_config_print(e->config, stdout);
    else
        return -1;
    return EX_OK;
}

static const char *why_not(int error)
{
    switch (error) {
    case -EPERM:
        return "not an address of this machine alone: metrics are served on 127.0.0.1 or [::1]; let a "
               "reverse "
               "proxy with access control carry them further";
    case -EINVAL:
        return "not ADDRESS:PORT, as 127.0.0.1:9482 or [::1]:9482";
    case -EEXIST:
        return "something that is no socket is in the way";
    default:
        return strerror(-error);
    }
}

static int add(struct exporter *e, const char *where, int made, int fd)
{
    int r = made < 0 ? made : wv_server_add(e->server, fd);
    if (r < 0)
        wv_error("can't serve metrics", "at=%s because=\"%s\"", where, why_not(r));
    else
        wv_notice("serving metrics", "at=%s", where);
    return r;
}

static int add_unix(struct exporter *e)
{
    const char *path = wv_config_string(e->config, "socket");
    char beside[256];
    if (!*path) {
        snprintf(beside, sizeof beside, "%.230s", wv_ctl_place(&e->ctl));
        char *slash = strrchr(beside, '/');
        snprintf(slash ? slash + 1 : beside, 16, "metrics.sock");
        path = beside;
    }
    int fd = -1, made = wv_server_listen_unix(path, &fd);
    if (made == 0)
        snprintf(e->socket, sizeof e->socket, "%s", path);
    return add(e, path, made, fd);
}

static int add_sockets(struct exporter *e)
{
    const char *listen = wv_config_string(e->config, "listen");
    int handed = sd_listen_fds(1), r = 0, fd = -1;
    for (int i = 0; r == 0 && i < handed; i++)
        r = sd_is_socket(SD_LISTEN_FDS_START + i, AF_UNSPEC, SOCK_STREAM, 1) > 0
                ? add(e, "the service manager's socket", 0, SD_LISTEN_FDS_START + i)
                : -ENOTSOCK;
    if (handed > 0)
        return r;
    r = add_unix(e);
    if (r < 0 || !*listen)
        return r;
    r = wv_server_listen_loopback(listen, &fd);
    return add(e, listen, r, fd);
}

static int on_stop(void *userdata, int signal, uint64_t now)
{
    struct exporter *e = userdata;
    wv_loop_quit(e->loop, EX_OK);
    return 0;
}

static int on_watchdog(void *userdata, uint64_t now)
{
    sd_notify(0, "WATCHDOG=1");
    return 0;
}

static int make_loop(struct exporter *e)
{
    uint64_t watchdog_us = 0;
    int r = wv_loop_new(&e->loop);
    if (r == 0)
        r = wv_loop_add_signal(e->loop, SIGTERM, on_stop, e);
    if (r == 0)
        r = wv_loop_add_signal(e->loop, SIGINT, on_stop, e);
    if (r == 0)
        r = wv_loop_add_timer(e->loop, on_watchdog, e, &e->watchdog);
    if (r == 0 && sd_watchdog_enabled(0, &watchdog_us) > 0)
        wv_loop_timer_every(e->watchdog, watchdog_us * WV_NS_PER_US / 3);
    return r;
}

static int lock_down(void)
{
    static const struct wv_sandbox sandbox = {.max_files = 64};
    int r = wv_sandbox_enter(&sandbox);
    if (r < 0)
        wv_error("the process can't be locked down", "error=\"%s\"", strerror(-r));
    return r;
}

/* Asks the host; what keeps it from answering is told to the scraper. */
static int write_page(void *userdata, FILE *out, bool open)
{
    struct exporter *e = userdata;
    struct wv_ctl_pages lent;
    e->ctl.err = out;
    int r = wv_ctl_pages_get(&e->ctl, &lent);
    e->ctl.err = stderr;
    if (r != 0)
        return 1;
    r = wv_openmetrics_write(out, &lent, open);
    wv_ctl_pages_fini(&lent);
    return r;
}

static int serve(struct exporter *e)
{
    int r = make_loop(e);
    if (r == 0)
        r = wv_server_new(&e->server, e->loop, write_page, e);
    if (r == 0)
        r = add_sockets(e);
    if (r == 0)
        r = lock_down();
    if (r < 0)
        return r == -EINVAL || r == -EPERM ? EX_CONFIG : r == -EADDRINUSE ? EX_UNAVAILABLE : EX_OSERR;
    sd_notify(0, "READY=1\nSTATUS=serving metrics");
    r = wv_loop_run(e->loop);
    return r < 0 ? EX_OSERR : r;
}

int main(int argc, char **argv)
{
    struct exporter e = {.level = WV_LOG_INFO, .ctl = {.out = stdout, .err = stderr, .answer_ms = ANSWER_MS}};
    int code = configure(&e, argc, argv);
    if (code < 0) {
        const char *control = wv_config_string(e.config, "control");
        wv_log_init("metrics", e.level);
        signal(SIGPIPE, SIG_IGN);
        e.ctl.socket = *control ? control : NULL;
        code = serve(&e);
        e.server = wv_server_free(e.server);
        if (e.socket[0])
            (void)unlink(e.socket); /* refused under lockdown: then the next one replaces it */
    }
    e.loop = wv_loop_free(e.loop);
    wv_config_free(e.config);
    return code;
}
