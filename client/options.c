/* The command line of wavry-client; see options.h. Every option but a few is a key of the configuration, so
 * that --print-config can say where each value comes from. */
#include "client/options.h"

#include "client/trust.h"
#include "client/wavry_client.h"
#include "lib/base/util.h"

#include <ctype.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct wv_config_entry table[] = {
    {"host", WV_CONFIG_STRING, "", 0, 0, NULL, "The host to connect to: NAME, NAME:PORT, [IPv6]:PORT."},
    {"host_key", WV_CONFIG_STRING, "", 0, 0, NULL,
     "The key that the host must prove, instead of known_hosts."},
    {"identity", WV_CONFIG_STRING, "", 0, 0, NULL, "This client's secret; made on first use when missing."},
    {"known_hosts", WV_CONFIG_STRING, "", 0, 0, NULL, "The list of hosts' addresses and keys."},
    {"headless", WV_CONFIG_BOOL, "false", 0, 0, NULL, "No window: receive and decode only."},
    {"fullscreen", WV_CONFIG_BOOL, "false", 0, 0, NULL, "Start with the whole screen."},
    {"window", WV_CONFIG_STRING, "", 0, 0, NULL, "Size of the window, WxH; empty: as large as the picture."},
    {"view_only", WV_CONFIG_BOOL, "false", 0, 0, NULL, "Watch, and send no input."},
    {"take_control", WV_CONFIG_BOOL, "false", 0, 0, NULL,
     "Take control at once, also when another client has it."},
    {"grab", WV_CONFIG_BOOL, "true", 0, 0, NULL,
     "Take all keys while fullscreen, also those of the desktop."},
    {"renderer", WV_CONFIG_CHOICE, "auto", 0, 0, "auto|surface|gpu", "How pictures get into the window."},
    {"decode_threads", WV_CONFIG_INT, "1", 1, 16, NULL, "Slices of a picture that are decoded at once."},
    {"stats", WV_CONFIG_BOOL, "false", 0, 0, NULL, "Show the statistics from the start."},
    {"seconds", WV_CONFIG_INT, "0", 0, 1000000000, NULL, "End after so many seconds; 0: don't."},
    {"give_up", WV_CONFIG_INT, "10", 0, 1000000000, NULL,
     "Seconds to try for a first connection; 0: for ever."},
    {"stats_json", WV_CONFIG_STRING, "", 0, 0, NULL, "Write the session's numbers to this file at the end."},
    {"snapshot", WV_CONFIG_STRING, "", 0, 0, NULL, "Write the last picture to this PNG file at the end."},
    {"record", WV_CONFIG_STRING, "", 0, 0, NULL, "Write the video as it comes to this Matroska file."},
    {"timeline", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Write when each step of connecting and each picture came to this file."},
};

/* Options that only set a key: --NAME VALUE, or --NAME for a fixed value. */
static const struct {
    const char *option, *key, *fixed, *value_name;
} settings[] = {
    {"headless", "headless", "true", NULL},     {"fullscreen", "fullscreen", "true", NULL},
    {"view-only", "view_only", "true", NULL},   {"no-grab", "grab", "false", NULL},
    {"stats", "stats", "true", NULL},           {"window", "window", NULL, "WxH"},
    {"scale", "window", NULL, "WxH"},           {"seconds", "seconds", NULL, "N"},
    {"stats-json", "stats_json", NULL, "FILE"}, {"snapshot", "snapshot", NULL, "FILE.png"},
    {"record", "record", NULL, "FILE.mkv"},     {"host-key", "host_key", NULL, "KEY"},
    {"identity", "identity", NULL, "FILE"},     {"renderer", "renderer", NULL, "auto|surface|gpu"},
    {"give-up", "give_up", NULL, "N"},          {"take-control", "take_control", "true", NULL},
    {"timeline", "timeline", NULL, "FILE"},
};

enum {
    OPT_HELP = 1000,
    OPT_VERSION,
    OPT_PRINT_KEY,
    OPT_PRINT_CONFIG,
    OPT_CONFIG,
    OPT_SET,
    OPT_CODE,
    OPT_NAME,
    OPT_NEW_KEY
};

static const struct option others[] = {
    {"help", no_argument, NULL, OPT_HELP},           {"version", no_argument, NULL, OPT_VERSION},
    {"print-key", no_argument, NULL, OPT_PRINT_KEY}, {"print-config", no_argument, NULL, OPT_PRINT_CONFIG},
    {"config", required_argument, NULL, OPT_CONFIG}, {"set", required_argument, NULL, OPT_SET},
    {"code", required_argument, NULL, OPT_CODE},     {"name", required_argument, NULL, OPT_NAME},
    {"new-key", no_argument, NULL, OPT_NEW_KEY},
};

static const char *help_of(const char *key)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(table); i++)
        if (strcmp(table[i].key, key) == 0)
            return table[i].help;
    return "";
}

/* Every status that this program ends with: --help and the manual say what stands here. */
static const struct {
    int status;
    const char *when;
} statuses[] = {
    {0, "The session was ended here, or by --seconds; or what was asked for was done."},
    {EX_USAGE, "The command line is wrong."},
    {EX_NOHOST, "Nobody knows the host's name."},
    {EX_UNAVAILABLE, "No host or no gateway answers, the host is offline, or something is missing here: a "
                     "display, a decoder."},
    {EX_SOFTWARE, "A fault of the program."},
    {EX_OSERR, "The system gave no memory, socket or thread."},
    {EX_CANTCREAT, "A file can't be written."},
    {EX_TEMPFAIL, "The host has no free place, or pairing broke off: try again."},
    {EX_PROTOCOL,
     "What answers is no host or no gateway of Wavry, not one of this version, or can't prove that "
     "it is the one that was meant: its certificate does not pass, it does not know the code."},
    {EX_NOPERM, "Not allowed: the host, the gateway or its owner does not know or want this client, the code "
                "is wrong, or the host's key is not the known one."},
    {EX_CONFIG, "A file of the configuration, of keys or of the gateway's account is wrong."},
    {128 + SIGINT, "Pairing was interrupted."},
};

static void print_help(const struct wv_config *config)
{
    printf(
        "wavry-client HOST[:PORT] [options]\n"
        "wavry-client pair HOST[:PORT] [--code NNNNNNNN] [--name NAME] [--new-key]\n"
        "wavry-client 'wavry:HOST:PORT?key=...&token=...' [options]\n"
        "Shows a Wavry host's desktop and controls it. HOST is a name, an IPv4 address or [an IPv6 address]; "
        "the port is %d if not given. It must be paired with first: on the host `wavryctl pair` shows a "
        "code, "
        "and a URL that pairs and connects.\n\n",
        WV_CLIENT_DEFAULT_PORT);
    for (size_t i = 0; i < WV_ARRAY_SIZE(settings); i++) {
        char option[64];
        snprintf(option, sizeof option, "--%s %s", settings[i].option,
                 settings[i].value_name ? settings[i].value_name : "");
        bool off = settings[i].fixed && strcmp(settings[i].fixed, "false") == 0;
        const char *help = help_of(settings[i].key);
        printf(off ? "  %-28s Don't %c%s\n" : "  %-28s %c%s\n", option,
               off ? tolower((unsigned char)*help) : *help, *help ? help + 1 : "");
    }
    printf("  %-28s Pairing: the code that the host shows; asked for if not given.\n", "--code NNNNNNNN");
    printf("  %-28s Pairing: what the host should call this client.\n", "--name NAME");
    printf("  %-28s Pairing: the host was set up anew and has another key than the known one.\n",
           "--new-key");
    printf("  %-28s Print this client's public key, for `wavryctl authorize` on the host.\n", "--print-key");
    printf("  %-28s Read this file besides client.conf.\n", "--config FILE");
    printf("  %-28s Set a key of the configuration.\n", "--set KEY=VALUE");
    printf("  %-28s Print the effective configuration and where each value comes from.\n", "--print-config");
    printf("  %-28s Print the version.\n  %-28s Print this.\n\n", "--version", "--help");
    printf("Keys in the window: Ctrl+Alt+Shift and  Q quit, F fullscreen, S statistics, M relative mouse, "
           "G grab the keyboard, C take control or give it back.\n\n"
           "Configuration, in [client] of /etc/wavry/client.conf and $XDG_CONFIG_HOME/wavry/client.conf:\n");
    wv_config_print_help(config, stdout);
    puts("\nExit status:");
    for (size_t i = 0; i < WV_ARRAY_SIZE(statuses); i++)
        printf("  %-5d %s\n", statuses[i].status, statuses[i].when);
}

static int complain(int code, char *message)
{
    fprintf(stderr, "wavry-client: %s\n", message ? message : "out of memory");
    free(message);
    return code;
}

static int set(struct wv_config *config, const char *key, const char *value, const char *source)
{
    wv_cleanup(wv_free_p) char *assignment = NULL;
    char *message = NULL;
    if (asprintf(&assignment, "%s=%s", key, value) < 0)
        return EX_OSERR;
    return wv_config_set(config, assignment, source, &message) < 0 ? complain(EX_USAGE, message) : 0;
}

static int load(struct wv_config *config, const char *path, bool optional)
{
    char *message = NULL;
    return wv_config_load(config, path, optional, "", &message) < 0 ? complain(EX_CONFIG, message) : 0;
}

/* The configuration files come first, wherever --config stands: arguments win over them. */
static int load_files(struct wv_config *config, int argc, char **argv)
{
    char path[4096];
    int r = load(config, "/etc/wavry/client.conf", true);
    if (r == 0 && wv_trust_path("client.conf", path, sizeof path) == 0)
        r = load(config, path, true);
    for (int i = 1; i < argc && r == 0 && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            r = load(config, argv[i] + 9, false);
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            r = load(config, argv[++i], false);
    }
    return r;
}

static int on_option(struct wv_options *o, int index, bool *ret_print)
{
    if (index < (int)WV_ARRAY_SIZE(settings)) {
        char source[64];
        snprintf(source, sizeof source, "--%s", settings[index].option);
        return set(o->config, settings[index].key, settings[index].fixed ? settings[index].fixed : optarg,
                   source);
    }
    char *message = NULL;
    switch (index) {
    case OPT_HELP:
        print_help(o->config);
        o->action = WV_OPTIONS_DONE;
        break;
    case OPT_VERSION:
        puts("wavry-client " WAVRY_VERSION);
        o->action = WV_OPTIONS_DONE;
        break;
    case OPT_PRINT_KEY:
        o->action = WV_OPTIONS_PRINT_KEY;
        break;
    case OPT_PRINT_CONFIG:
        *ret_print = true;
        break;
    case OPT_SET:
        if (wv_config_set(o->config, optarg, "--set", &message) < 0)
            return complain(EX_USAGE, message);
        break;
    case OPT_CONFIG:
        break;
    case OPT_CODE:
        o->code = optarg;
        break;
    case OPT_NAME:
        o->name = optarg;
        break;
    case OPT_NEW_KEY:
        o->new_key = true;
        break;
    default:
        fprintf(stderr, "wavry-client: try --help\n");
        return EX_USAGE;
    }
    return 0;
}

/* HOST of a URL; it has no way to any other setting. */
static int take_url(struct wv_options *o, const char *text)
{
    char place[300];
    if (wv_url_parse(text, &o->url) < 0) {
        fprintf(stderr, "wavry-client: this is not a whole wavry: URL. `wavryctl pair` on the host shows "
                        "one: wavry:HOST:PORT?key=...&token=...; quote it for the shell\n");
        return EX_USAGE;
    }
    o->have_url = true;
    if (wv_host_format(o->url.host, o->url.port, place, sizeof place) < 0)
        return EX_USAGE;
    return set(o->config, "host", place, "the URL");
}

/* What is no option: [pair] HOST or URL. */
static int read_words(struct wv_options *o, int n, char **words)
{
    if (n > 0 && strcmp(words[0], "pair") == 0 && o->action == WV_OPTIONS_RUN) {
        o->action = WV_OPTIONS_PAIR;
        n--;
        words++;
    }
    if (o->action != WV_OPTIONS_PAIR && (o->code || o->name)) {
        fprintf(stderr, "wavry-client: --code and --name are for wavry-client pair HOST\n");
        return EX_USAGE;
    }
    if (n == 0)
        return 0;
    if (n > 1) {
        fprintf(stderr, "wavry-client: \"%s\" is one argument too many; try --help\n", words[1]);
        return EX_USAGE;
    }
    return wv_url_is(words[0]) ? take_url(o, words[0]) : set(o->config, "host", words[0], "the command line");
}

static int read_arguments(struct wv_options *o, int argc, char **argv, bool *ret_print)
{
    struct option all[WV_ARRAY_SIZE(settings) + WV_ARRAY_SIZE(others) + 1] = {0};
    for (size_t i = 0; i < WV_ARRAY_SIZE(settings); i++)
        all[i] = (struct option){settings[i].option, settings[i].fixed ? no_argument : required_argument,
                                 NULL, (int)i};
    memcpy(all + WV_ARRAY_SIZE(settings), others, sizeof others);
    int index;
    while (o->action != WV_OPTIONS_DONE && (index = getopt_long(argc, argv, "", all, NULL)) >= 0) {
        int r = on_option(o, index, ret_print);
        if (r != 0)
            return r;
    }
    return o->action == WV_OPTIONS_DONE ? 0 : read_words(o, argc - optind, argv + optind);
}

/* What the table can't check. */
static int check(struct wv_options *o)
{
    const char *window = wv_config_string(o->config, "window"), *host = wv_config_string(o->config, "host");
    char rest;
    if (*window && (sscanf(window, "%5dx%5d%c", &o->width, &o->height, &rest) != 2 || o->width < 64 ||
                    o->height < 64 || o->width > 16384 || o->height > 16384)) {
        fprintf(stderr, "wavry-client: the size \"%s\" is not WIDTHxHEIGHT, as 1280x720\n", window);
        return EX_USAGE;
    }
    if (o->action != WV_OPTIONS_RUN && o->action != WV_OPTIONS_PAIR)
        return 0;
    if (!*host) {
        fprintf(stderr, "wavry-client: which host? wavry-client HOST[:PORT]; --help says more\n");
        return EX_USAGE;
    }
    o->port = WV_CLIENT_DEFAULT_PORT;
    if (wv_host_parse(host, o->host, sizeof o->host, &o->port) < 0) {
        fprintf(stderr,
                "wavry-client: \"%s\" is not HOST, HOST:PORT or [IPv6]:PORT with a port from 1 to 65535\n",
                host);
        return EX_USAGE;
    }
    return 0;
}

int wv_options_read(struct wv_options *ret, int argc, char **argv)
{
    *ret = (struct wv_options){0};
    if (wv_config_new(&ret->config, "client", table, WV_ARRAY_SIZE(table)) < 0)
        return complain(EX_OSERR, NULL);
    bool print = false;
    int r = load_files(ret->config, argc, argv);
    if (r == 0)
        r = read_arguments(ret, argc, argv, &print);
    if (r == 0 && print && (ret->action == WV_OPTIONS_RUN || ret->action == WV_OPTIONS_PAIR)) {
        wv_config_print(ret->config, stdout);
        ret->action = WV_OPTIONS_DONE;
    }
    return r != 0 || ret->action == WV_OPTIONS_DONE ? r : check(ret);
}

void wv_options_fini(struct wv_options *o)
{
    wv_config_free(o->config);
}
