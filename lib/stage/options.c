#include "lib/stage/options.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
    OPT_SUPERVISOR = 256,
    OPT_CONFIG,
    OPT_CONFIG_FD,
    OPT_SET,
    OPT_PRINT,
    OPT_CHECK,
    OPT_HELP,
    OPT_VERSION,
    OPT_LEVEL
};

static const struct option options[] = {
    {"supervisor", required_argument, NULL, OPT_SUPERVISOR},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"config-fd", required_argument, NULL, OPT_CONFIG_FD},
    {"set", required_argument, NULL, OPT_SET},
    {"print-config", no_argument, NULL, OPT_PRINT},
    {"check-config", no_argument, NULL, OPT_CHECK},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {NULL, 0, NULL, 0},
};

static int refuse(const char *name, const char *what, const char *value)
{
    fprintf(stderr, "wavry-%s: %s \"%s\"; see wavry-%s --help\n", name, what, value, name);
    return -EINVAL;
}

static int add_config_fd(struct wv_stage_options *o, const char *name, const char *text)
{
    char *end = NULL;
    long fd = strtol(text, &end, 10);
    if (!*text || *end || fd < 3 || fd > 1023 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return refuse(name, "--config-fd takes an open descriptor, not", text);
    o->config_fds[o->n_config_fds++] = (int)fd;
    return 0;
}

static int take_option(struct wv_stage_options *o, const char *name, int option)
{
    if (o->n_configs == WV_STAGE_OPTIONS_MAX || o->n_sets == WV_STAGE_OPTIONS_MAX ||
        o->n_config_fds == WV_STAGE_OPTIONS_MAX)
        return refuse(name, "too many options, at", optarg ? optarg : "");
    switch (option) {
    case OPT_SUPERVISOR:
        o->supervisor = optarg;
        return 0;
    case OPT_CONFIG:
        o->configs[o->n_configs++] = optarg;
        return 0;
    case OPT_CONFIG_FD:
        return add_config_fd(o, name, optarg);
    case OPT_SET:
        o->sets[o->n_sets++] = optarg;
        return 0;
    case OPT_PRINT:
        o->print_config = true;
        return 0;
    case OPT_CHECK:
        o->check_config = true;
        return 0;
    case OPT_HELP:
        o->help = true;
        return 0;
    case OPT_VERSION:
        o->version = true;
        return 0;
    case OPT_LEVEL: {
        int level = wv_log_level_parse(optarg);
        if (level < 0)
            return refuse(name, "--log-level takes error, warning, notice, info or debug, not", optarg);
        o->level = (enum wv_log_level)level;
        return 0;
    }
    default:
        return -EINVAL; /* getopt has said it */
    }
}

int wv_stage_options_parse(struct wv_stage_options *o, const char *name, int argc, char **argv)
{
    *o = (struct wv_stage_options){.level = WV_LOG_INFO};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        int r = take_option(o, name, c);
        if (r < 0)
            return r;
    }
    return optind < argc ? refuse(name, "unexpected argument", argv[optind]) : 0;
}

static int load_fd(struct wv_config *config, int fd, char **ret_message)
{
    char link[32], name[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name - 1);
    name[n > 0 ? n : 0] = 0;
    enum { MAX = 256 << 10 };
    wv_cleanup(wv_free_p) char *text = calloc(1, MAX + 1);
    if (!text)
        return -ENOMEM;
    size_t len = 0;
    for (ssize_t got; len < MAX; len += (size_t)got) {
        /* pread: the descriptor's position is shared with every other stage */
        got = pread(fd, text + len, MAX - len, (off_t)len);
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
    }
    return wv_config_load_text(config, text, n > 0 ? name : link, WV_CONFIG_GROUPS, ret_message);
}

static int load_defaults(struct wv_config *config, char **ret_message)
{
    int r = wv_config_load(config, "/etc/wavry/host.conf", true, WV_CONFIG_GROUPS, ret_message);
    if (r < 0 || getuid() == 0)
        return r;
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    wv_cleanup(wv_free_p) char *path = NULL;
    if (xdg && *xdg == '/')
        r = asprintf(&path, "%s/wavry/host.conf", xdg);
    else
        r = asprintf(&path, "%s/.config/wavry/host.conf", home ? home : "");
    if (r < 0) {
        path = NULL;
        return -ENOMEM;
    }
    return wv_config_load(config, path, true, WV_CONFIG_GROUPS, ret_message);
}

int wv_stage_options_load(const struct wv_stage_options *o, struct wv_config *config, char **ret_message)
{
    int r = load_defaults(config, ret_message);
    for (size_t i = 0; r >= 0 && i < o->n_config_fds; i++) {
        r = load_fd(config, o->config_fds[i], ret_message);
        wv_close(o->config_fds[i]);
    }
    for (size_t i = 0; r >= 0 && i < o->n_configs; i++)
        r = wv_config_load(config, o->configs[i], false, WV_CONFIG_GROUPS, ret_message);
    for (size_t i = 0; r >= 0 && i < o->n_sets; i++)
        r = wv_config_set(config, o->sets[i], "--set", ret_message);
    return r;
}

void wv_stage_options_help(const struct wv_stage_definition *definition, const struct wv_config *config)
{
    printf("wavry-%s: %s\n\n"
           "Started by wavry-supervisor; by hand it only answers --help, --version and --print-config.\n\n"
           "  --supervisor PATH    the supervisor's socket\n"
           "  --config FILE        read FILE after /etc/wavry/host.conf; may be repeated\n"
           "  --set KEY=VALUE      set one key of the group [%s]; wins over files\n"
           "  --print-config       show the effective values and where each comes from\n"
           "  --check-config       exit 0 when the configuration is right, else say what is wrong\n"
           "  --log-level LEVEL    error, warning, notice, info (default) or debug\n"
           "  --help, --version\n\n",
           definition->name, definition->summary, definition->name);
    wv_config_print_help(config, stdout);
    wv_metrics_print_help(definition->metrics, definition->n_metrics, stdout);
}
