/* wavry-supervisor: the command line. In standalone mode this program runs twice: as the keeper, and as the
 * supervisor proper below it. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/options.h"
#include "supervisor/keeper.h"
#include "supervisor/supervisor.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>

static const struct wv_config_entry config_table[] = {
    {"port", WV_CONFIG_INT, "4820", 0, 65535, NULL, "UDP port that clients connect to; 0 takes a free one."},
    {"listen", WV_CONFIG_STRING, "", 0, 0, NULL,
     "ADDR or ADDR:PORT to listen on; empty: all addresses, IPv4 and "
     "IPv6."},
    {"display", WV_CONFIG_STRING, "", 0, 0, NULL, "X display to share; empty: $DISPLAY."},
    {"uid_base", WV_CONFIG_INT, "61800", 1000, 2000000000, NULL,
     "First user and group number for stages, started as root where no wavry-* users exist."},
};

#define FAILED_PAUSE_MS 1000

struct command_line {
    struct wv_supervisor_options options;
    const char *own_sets[WV_SUPERVISOR_SETS];
    size_t n_own_sets;
    char *made[WV_SUPERVISOR_SETS]; /* own_sets that were put together here */
    size_t n_made;
    bool standalone, kept, print_config, check_config, help, version;
    enum wv_log_level level;
};

enum {
    OPT_STANDALONE = 256,
    OPT_KEPT,
    OPT_RUNTIME,
    OPT_STATE,
    OPT_LIBEXEC,
    OPT_CONFIG,
    OPT_PORT,
    OPT_LISTEN,
    OPT_DISPLAY,
    OPT_SET,
    OPT_LEVEL,
    OPT_PRINT,
    OPT_CHECK,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"standalone", no_argument, NULL, OPT_STANDALONE},
    {"kept", no_argument, NULL, OPT_KEPT}, /* by the keeper only */
    {"runtime-dir", required_argument, NULL, OPT_RUNTIME},
    {"state-dir", required_argument, NULL, OPT_STATE},
    {"libexec-dir", required_argument, NULL, OPT_LIBEXEC},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"port", required_argument, NULL, OPT_PORT},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"display", required_argument, NULL, OPT_DISPLAY},
    {"set", required_argument, NULL, OPT_SET},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {"print-config", no_argument, NULL, OPT_PRINT},
    {"check-config", no_argument, NULL, OPT_CHECK},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static void print_help(const struct wv_config *config)
{
    printf("wavry-supervisor: starts a Wavry host, keeps it running, hands each part what it needs.\n\n"
           "  --standalone           start and confine the stages here (containers, tests, a first try);\n"
           "                         without it, systemd starts this program and them (wavry-host.target)\n"
           "  --port N               UDP port (default 4820); short for --set supervisor.port=N\n"
           "  --listen ADDR:PORT     one address only; short for --set supervisor.listen=...\n"
           "  --display :N           X display to share (default $DISPLAY)\n"
           "  --runtime-dir DIR      sockets (root: /run/wavry; else $XDG_RUNTIME_DIR/wavry)\n"
           "  --state-dir DIR        the host's key, who may connect (root: /var/lib/wavry;\n"
           "                         else ~/.local/state/wavry)\n"
           "  --libexec-dir DIR      where the stages' programs are (default: beside this one)\n"
           "  --config FILE          read FILE after the default files; may be repeated\n"
           "  --set STAGE.KEY=VALUE  set one key of a stage, or of \"supervisor\"\n"
           "  --log-level LEVEL      error, warning, notice, info (default) or debug\n"
           "  --check-config         exit 0 when the configuration is right, else say what is wrong\n"
           "  --print-config, --help, --version\n\n");
    wv_config_print_help(config, stdout);
}

static int refuse(const char *what, const char *value)
{
    fprintf(stderr, "wavry-supervisor: %s \"%s\"; see wavry-supervisor --help\n", what, value);
    return -EINVAL;
}

static int add_own_set(struct command_line *c, const char *key, const char *value)
{
    char *text = NULL;
    if (c->n_made == WV_SUPERVISOR_SETS || c->n_own_sets == WV_SUPERVISOR_SETS)
        return refuse("too many options, at", value);
    if (asprintf(&text, "%s=%s", key, value) < 0)
        return -ENOMEM;
    c->made[c->n_made++] = text;
    c->own_sets[c->n_own_sets++] = text;
    return 0;
}

static int add_set(struct command_line *c, const char *text)
{
    const char *dot = strchr(text, '.'), *equals = strchr(text, '=');
    if (!dot || !equals || dot > equals || dot == text || equals == dot + 1)
        return refuse("--set takes STAGE.KEY=VALUE, not", text);
    if (c->n_own_sets == WV_SUPERVISOR_SETS || c->options.n_sets == WV_SUPERVISOR_SETS)
        return refuse("too many options, at", text);
    char stage[32];
    snprintf(stage, sizeof stage, "%.*s", (int)WV_MIN(dot - text, 31), text);
    if (!strcmp(stage, "supervisor"))
        c->own_sets[c->n_own_sets++] = dot + 1;
    else if (wv_wiring_find(stage) >= 0)
        c->options.sets[c->options.n_sets++] = text;
    else
        return refuse("--set knows supervisor, capture, encoder, transport, input and identity, not", stage);
    return 0;
}

static int add_config(struct command_line *c, const char *path)
{
    if (c->options.n_configs == WV_SUPERVISOR_CONFIGS - 1) /* one place is the person's own file's */
        return refuse("too many configuration files, at", path);
    char *absolute = realpath(path, NULL);
    if (!absolute) {
        fprintf(stderr, "wavry-supervisor: %s: can't be read: %s; check the name and its permissions\n", path,
                strerror(errno));
        return -EINVAL;
    }
    c->options.configs[c->options.n_configs++] = absolute;
    return 0;
}

static int set_level(struct command_line *c, const char *text)
{
    int level = wv_log_level_parse(text);
    if (level < 0)
        return refuse("--log-level takes error, warning, notice, info or debug, not", text);
    c->level = (enum wv_log_level)level;
    c->options.log_level = text;
    return 0;
}

static int take_option(struct command_line *c, int option)
{
    switch (option) {
    case OPT_STANDALONE:
        c->standalone = true;
        return 0;
    case OPT_KEPT:
        c->kept = true;
        return 0;
    case OPT_RUNTIME:
        c->options.runtime = optarg;
        return 0;
    case OPT_STATE:
        c->options.state = optarg;
        return 0;
    case OPT_LIBEXEC:
        c->options.libexec = optarg;
        return 0;
    case OPT_CONFIG:
        return add_config(c, optarg);
    case OPT_PORT:
        return add_own_set(c, "port", optarg);
    case OPT_LISTEN:
        return add_own_set(c, "listen", optarg);
    case OPT_DISPLAY:
        c->options.display = optarg;
        return 0;
    case OPT_SET:
        return add_set(c, optarg);
    case OPT_LEVEL:
        return set_level(c, optarg);
    case OPT_PRINT:
        c->print_config = true;
        return 0;
    case OPT_CHECK:
        c->check_config = true;
        return 0;
    case OPT_HELP:
        c->help = true;
        return 0;
    case OPT_VERSION:
        c->version = true;
        return 0;
    default:
        return -EINVAL; /* getopt has said it */
    }
}

static int parse(struct command_line *c, int argc, char **argv)
{
    *c = (struct command_line){.level = WV_LOG_INFO};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        int r = take_option(c, o);
        if (r < 0)
            return r;
    }
    return optind < argc ? refuse("unexpected argument", argv[optind]) : 0;
}

/* A stage finds /etc/wavry/host.conf itself; the person's own file it could not, with a HOME of its own. */
static int add_personal_config(struct command_line *c)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (getuid() == 0)
        return 0;
    int r = xdg && *xdg == '/' ? asprintf(&path, "%s/wavry/host.conf", xdg)
                               : asprintf(&path, "%s/.config/wavry/host.conf", home ? home : "");
    if (r < 0)
        return -ENOMEM;
    if (access(path, F_OK) < 0) {
        free(path);
        return 0;
    }
    /* Before those that were named: later ones win. */
    memmove(c->options.configs + 1, c->options.configs, c->options.n_configs * sizeof *c->options.configs);
    c->options.configs[0] = path;
    c->options.n_configs++;
    return 0;
}

static int load(struct command_line *c, struct wv_config *config, char **ret_message)
{
    int r = add_personal_config(c);
    if (r == 0)
        r = wv_config_load(config, "/etc/wavry/host.conf", true, WV_CONFIG_GROUPS, ret_message);
    for (size_t i = 0; r == 0 && i < c->options.n_configs; i++)
        r = wv_config_load(config, c->options.configs[i], false, WV_CONFIG_GROUPS, ret_message);
    for (size_t i = 0; r == 0 && i < c->n_own_sets; i++)
        r = wv_config_set(config, c->own_sets[i], "command line", ret_message);
    return r;
}

/* argv once more, with the word that makes it the supervisor proper. */
static int keep(const struct command_line *c, int argc, char **argv)
{
    wv_cleanup(wv_free_p) char **again = calloc((size_t)argc + 2, sizeof *again);
    if (!again)
        return EX_OSERR;
    memcpy(again, argv, (size_t)argc * sizeof *argv);
    again[argc] = (char *)"--kept";
    return wv_keeper_run(c->options.runtime, c->options.state, again);
}

static int run(struct command_line *c, struct wv_config *config, int argc, char **argv)
{
    if (c->help) {
        print_help(config);
        return EX_OK;
    }
    wv_cleanup(wv_free_p) char *message = NULL;
    c->options.managed = !c->standalone && !c->check_config && !c->print_config;
    int r = load(c, config, &message);
    if (r < 0) {
        wv_error("configuration refused", "reason=\"%s\"", message ? message : strerror(-r));
        return EX_CONFIG;
    }
    if (c->print_config) {
        wv_config_print(config, stdout);
        return EX_OK;
    }
    if (c->check_config)
        return EX_OK;
    if (!c->standalone && !getenv("NOTIFY_SOCKET")) {
        fprintf(stderr,
                "wavry-supervisor: give --standalone to start a host from here, or let systemd start one "
                "(systemctl start wavry-host.target); see --help\n");
        return EX_USAGE;
    }
    if (!c->standalone && (c->options.n_sets || c->options.display)) {
        fprintf(stderr,
                "wavry-supervisor: without --standalone stages are started by systemd; write what concerns "
                "them into /etc/wavry/host.conf\n");
        return EX_USAGE;
    }
    /* A descriptor for every client and ring, whatever the shell's habit is. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 1024 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = WV_MIN(files.rlim_max, (rlim_t)1024);
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
    /* Two processes of one program: ps tells them apart. */
    bool proper = c->kept || !c->standalone;
    (void)prctl(PR_SET_NAME, proper ? "wavry-superviso" : "wavry-keeper", 0, 0, 0);
    return proper ? wv_supervisor_run(&c->options, config) : keep(c, argc, argv);
}

static int live(struct command_line *c, int argc, char **argv)
{
    struct wv_config *config = NULL;
    if (parse(c, argc, argv) < 0)
        return EX_USAGE;
    if (c->version) {
        printf("wavry-supervisor %s\n", WAVRY_VERSION);
        return EX_OK;
    }
    wv_log_init(c->standalone && !c->kept ? "keeper" : "supervisor", c->level);
    if (wv_config_new(&config, "supervisor", config_table, WV_ARRAY_SIZE(config_table)) < 0)
        return EX_OSERR;
    int code = run(c, config, argc, argv);
    wv_config_free(config);
    /* systemd starts us again for ever; what failed for a reason would fail again at once. */
    if (code != EX_OK && code != WV_SUPERVISOR_AGAIN && c->options.managed && getenv("NOTIFY_SOCKET"))
        (void)poll(NULL, 0, FAILED_PAUSE_MS);
    return code;
}

int main(int argc, char **argv)
{
    struct command_line c;
    int code = live(&c, argc, argv);
    for (size_t i = 0; i < c.n_made; i++)
        free(c.made[i]);
    for (size_t i = 0; i < c.options.n_configs; i++)
        free((char *)c.options.configs[i]);
    return code;
}
