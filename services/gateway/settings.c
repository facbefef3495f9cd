/* Command line and configuration of a gateway. See settings.h. */
#include "services/gateway/settings.h"

#include "lib/base/util.h"
#include "services/gateway/metrics.h"
#include "services/gateway/settings_table.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <string.h>
#include <sysexits.h>

#define FILES_MAX 16

enum { OPT_CONFIG = 256, OPT_SET, OPT_PRINT, OPT_CHECK, OPT_LEVEL, OPT_HELP, OPT_VERSION };

static const struct option options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},   {"set", required_argument, NULL, OPT_SET},
    {"print-config", no_argument, NULL, OPT_PRINT},    {"check-config", no_argument, NULL, OPT_CHECK},
    {"log-level", required_argument, NULL, OPT_LEVEL}, {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},       {NULL, 0, NULL, 0},
};

static int say(char **ret_message, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int say(char **ret_message, const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    free(*ret_message);
    *ret_message = text;
    return -EINVAL;
}

/* The next word of *P, cut to CAPACITY; 0 at the end. */
static size_t next_word(const char **p, char *ret, size_t capacity)
{
    const char *at = *p + strspn(*p, " \t");
    size_t len = strcspn(at, " \t");
    *p = at + len;
    snprintf(ret, capacity, "%.*s", (int)WV_MIN(len, capacity - 1), at);
    return len;
}

static bool parse_port(const char *text, uint16_t *ret)
{
    if (strspn(text, "0123456789") != strlen(text) || !*text || strlen(text) > 5)
        return false;
    unsigned long port = strtoul(text, NULL, 10);
    if (port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

/* 192.0.2.1 or 2001:db8::1 */
static bool parse_ip(const char *text, uint8_t ret[16])
{
    uint8_t ip[16] = {[10] = 0xff, [11] = 0xff};
    if (inet_pton(AF_INET, text, ip + 12) != 1 && inet_pton(AF_INET6, text, ip) != 1)
        return false;
    memcpy(ret, ip, 16);
    return true;
}

/* ---- listen ---- */

/* PORT, 192.0.2.1:PORT or [2001:db8::1]:PORT. */
static bool parse_listen_word(const char *word, struct wv_listen_at *ret)
{
    struct wv_listen_at l = {0};
    char host[64];
    snprintf(l.text, sizeof l.text, "%s", word);
    const char *colon = strrchr(word, ':');
    if (!colon) {
        l.any = true;
        *ret = l;
        return parse_port(word, &ret->port);
    }
    size_t len = (size_t)(colon - word);
    bool brackets = len >= 2 && word[0] == '[' && word[len - 1] == ']';
    if (len >= sizeof host || !parse_port(colon + 1, &l.port))
        return false;
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), word + brackets);
    if (brackets != (strchr(host, ':') != NULL) || !parse_ip(host, l.ip))
        return false;
    *ret = l;
    return true;
}

int wv_gateway_parse_listen(const char *text, struct wv_gateway_settings *s, char **ret_message)
{
    char word[64];
    size_t len;
    s->n_listen = 0;
    while ((len = next_word(&text, word, sizeof word))) {
        if (s->n_listen == WV_GATEWAY_LISTEN_MAX)
            return say(ret_message, "listen: at most %d addresses", WV_GATEWAY_LISTEN_MAX);
        if (len >= sizeof word || !parse_listen_word(word, &s->listen[s->n_listen]))
            return say(ret_message,
                       "listen: \"%s\" is neither a port nor ADDRESS:PORT; write 443, 192.0.2.1:443 or "
                       "[2001:db8::1]:443",
                       word);
        s->n_listen++;
    }
    return s->n_listen ? 0 : say(ret_message, "listen: names no address");
}

/* ---- names ---- */

static bool parse_name(char word[WV_GATEWAY_NAME_BYTES], size_t len)
{
    uint16_t port;
    const char *end = strrchr(word, ']'), *colon = strrchr(end ? end : word, ':');
    for (char *c = word; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
        if (!isalnum((unsigned char)*c) && !strchr(".-:[]_", *c))
            return false;
    }
    if (colon)
        return colon != word && parse_port(colon + 1, &port) && port;
    if (len + 4 >= WV_GATEWAY_NAME_BYTES)
        return false;
    memcpy(word + len, ":443", 5);
    return true;
}

int wv_gateway_parse_names(const char *text, struct wv_gateway_settings *s, char **ret_message)
{
    size_t len;
    s->n_names = 0;
    for (;;) {
        char word[WV_GATEWAY_NAME_BYTES];
        len = next_word(&text, word, sizeof word);
        if (!len)
            break;
        if (s->n_names == WV_GATEWAY_NAMES_MAX)
            return say(ret_message, "names: at most %d", WV_GATEWAY_NAMES_MAX);
        if (len >= sizeof word || !parse_name(word, len))
            return say(ret_message,
                       "names: \"%.64s\" is not HOST:PORT; write gateway.example.org:443 or 192.0.2.1:443",
                       word);
        memcpy(s->names[s->n_names++], word, sizeof word);
    }
    return s->n_names ? 0
                      : say(ret_message,
                            "names: is not set; machines sign the name that they dial, so set it in %s as "
                            "names=gateway.example.org:443",
                            WV_GATEWAY_FILE);
}

/* ---- trusted_proxies ---- */

static bool parse_range(char *word, struct wv_range *ret)
{
    char *slash = strchr(word, '/'), *end;
    if (slash)
        *slash++ = 0;
    if (!parse_ip(word, ret->ip))
        return false;
    bool four = !strchr(word, ':');
    ret->bits = 128;
    if (!slash)
        return true;
    if (!*slash || strspn(slash, "0123456789") != strlen(slash) || strlen(slash) > 3)
        return false;
    unsigned long bits = strtoul(slash, &end, 10);
    if (bits > (four ? 32u : 128u))
        return false;
    ret->bits = (unsigned)bits + (four ? 96 : 0);
    return true;
}

int wv_gateway_parse_trusted(const char *text, struct wv_gateway_settings *s, char **ret_message)
{
    char word[64], shown[64];
    size_t len;
    s->n_trusted = 0;
    while ((len = next_word(&text, word, sizeof word))) {
        memcpy(shown, word, sizeof shown);
        if (s->n_trusted == WV_GATEWAY_TRUSTED_MAX)
            return say(ret_message, "trusted_proxies: at most %d", WV_GATEWAY_TRUSTED_MAX);
        if (len >= sizeof word || !parse_range(word, &s->trusted[s->n_trusted]))
            return say(ret_message,
                       "trusted_proxies: \"%s\" is neither an address nor a range; write 127.0.0.1, "
                       "10.0.0.0/8 or 2001:db8::/32",
                       shown);
        s->n_trusted++;
    }
    return 0;
}

bool wv_range_has(const struct wv_range *ranges, size_t n, const uint8_t ip[16])
{
    for (size_t i = 0; i < n; i++) {
        unsigned whole = ranges[i].bits / 8, rest = ranges[i].bits % 8;
        if (!memcmp(ranges[i].ip, ip, whole) &&
            (!rest || !((ranges[i].ip[whole] ^ ip[whole]) & (0xff << (8 - rest) & 0xff))))
            return true;
    }
    return false;
}

/* ---- command line ---- */

static void print_help(const struct wv_config *config)
{
    printf("wavry-gateway: accounts, hosts and devices, signaling between them, leases of relays.\n\n"
           "  wavry-gateway [OPTION...]                 serve\n"
           "  wavry-gateway [OPTION...] admin add NAME  make an account that administers the gateway\n"
           "  wavry-gateway [OPTION...] admin list      the accounts\n"
           "  wavry-gateway [OPTION...] admin password|enable|disable|no-totp NAME\n"
           "  wavry-gateway [OPTION...] migrate         bring the database to this version\n"
           "  wavry-gateway [OPTION...] backup FILE     copy the SQLite database while it is in use\n\n"
           "  --config FILE        read FILE after " WV_GATEWAY_FILE "; may be repeated\n"
           "  --set KEY=VALUE      set one key of the group [gateway]; wins over files\n"
           "  --print-config       show the effective values and where each comes from\n"
           "  --check-config       exit 0 when the configuration is right, else say what is wrong\n"
           "  --log-level LEVEL    error, warning, notice, info or debug, instead of log_level\n"
           "  --help, --version\n\n");
    wv_config_print_help(config, stdout);
    for (size_t i = 0; i < WV_G_METRICS; i++) {
        const struct wv_metric *m = &wv_gateway_metrics[i];
        printf("%s  %-28s %s%s%s%s\n", i ? "" : "\nMetrics:\n", m->name, m->help, m->unit[0] ? " (" : "",
               m->unit, m->unit[0] ? ")" : "");
    }
}

struct command_line {
    const char *files[FILES_MAX], *sets[FILES_MAX], *level;
    size_t n_files, n_sets;
    bool print, check, help, version;
};

static int take_option(struct command_line *l, int option)
{
    switch (option) {
    case OPT_CONFIG:
    case OPT_SET:
        if (l->n_files == FILES_MAX || l->n_sets == FILES_MAX)
            return -E2BIG;
        if (option == OPT_CONFIG)
            l->files[l->n_files++] = optarg;
        else
            l->sets[l->n_sets++] = optarg;
        return 0;
    case OPT_LEVEL:
        l->level = optarg;
        return wv_log_level_parse(optarg) < 0 ? -EINVAL : 0;
    case OPT_PRINT:
        l->print = true;
        return 0;
    case OPT_CHECK:
        l->check = true;
        return 0;
    case OPT_HELP:
        l->help = true;
        return 0;
    case OPT_VERSION:
        l->version = true;
        return 0;
    default:
        return -EINVAL;
    }
}

static int load(struct wv_gateway_settings *s, const struct command_line *l, char **ret_message)
{
    int r = wv_config_load(s->config, WV_GATEWAY_FILE, true, "gateway", ret_message);
    for (size_t i = 0; r == 0 && i < l->n_files; i++)
        r = wv_config_load(s->config, l->files[i], false, "gateway", ret_message);
    for (size_t i = 0; r == 0 && i < l->n_sets; i++)
        r = wv_config_set(s->config, l->sets[i], "--set", ret_message);
    return r;
}

static int interpret_tls(const struct wv_gateway_settings *s, char **ret_message)
{
    static const uint8_t v4_loopback[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    static const uint8_t v6_loopback[16] = {[15] = 1};
    bool certificate = *wv_config_string(s->config, "tls_certificate");
    if (certificate != (bool)*wv_config_string(s->config, "tls_key"))
        return say(ret_message, "tls_certificate and tls_key: one is set and the other is not");
    for (size_t i = 0; !certificate && !s->n_trusted && i < s->n_listen; i++) {
        const struct wv_listen_at *l = &s->listen[i];
        if (l->any || (memcmp(l->ip, v4_loopback, sizeof v4_loopback) != 0 && memcmp(l->ip, v6_loopback, 16)))
            return say(ret_message,
                       "tls_certificate: is not set, and \"%s\" is not an address of this machine alone: "
                       "passwords would travel in the clear. Set tls_certificate and tls_key, or "
                       "trusted_proxies when a proxy does TLS",
                       l->text);
    }
    return 0;
}

static int interpret(struct wv_gateway_settings *s, char **ret_message)
{
    int r = wv_gateway_parse_listen(wv_config_string(s->config, "listen"), s, ret_message);
    if (r == 0)
        r = wv_gateway_parse_trusted(wv_config_string(s->config, "trusted_proxies"), s, ret_message);
    if (r == 0)
        r = wv_gateway_parse_names(wv_config_string(s->config, "names"), s, ret_message);
    return r < 0 ? r : interpret_tls(s, ret_message);
}

static int parse_line(struct wv_gateway_settings *s, struct command_line *l, int argc, char **argv)
{
    int r = 0;
    optind = 0;
    for (int o; r == 0 && (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        r = take_option(l, o);
    for (; r == 0 && optind < argc; optind++) {
        if (s->n_command == WV_GATEWAY_COMMAND_ARGS)
            return -E2BIG;
        s->command[s->n_command++] = argv[optind];
    }
    return r;
}

static int finish(struct wv_gateway_settings *s, const struct command_line *l, char **ret_message)
{
    int r = load(s, l, ret_message);
    if (r < 0)
        return r;
    const char *level = l->level ? l->level : wv_config_string(s->config, "log_level");
    s->level = (enum wv_log_level)wv_log_level_parse(level);
    /* A command on the database needs nothing but the database. */
    return l->print || s->n_command ? 0 : interpret(s, ret_message);
}

int wv_gateway_settings_read(struct wv_gateway_settings *s, int argc, char **argv)
{
    wv_cleanup(wv_free_p) char *message = NULL;
    struct command_line l = {0};
    *s = (struct wv_gateway_settings){.level = WV_LOG_INFO};
    if (wv_config_new(&s->config, "gateway", wv_gateway_config, WV_ARRAY_SIZE(wv_gateway_config)) < 0)
        return EX_OSERR;
    if (parse_line(s, &l, argc, argv) < 0) {
        fprintf(stderr, "wavry-gateway: wrong usage; see wavry-gateway --help\n");
        return EX_USAGE;
    }
    if (l.help || l.version) {
        if (l.help)
            print_help(s->config);
        else
            puts("wavry-gateway " WAVRY_VERSION);
        return EX_OK;
    }
    int r = finish(s, &l, &message);
    if (r < 0) {
        fprintf(stderr, "wavry-gateway: %s\n", message ? message : strerror(-r));
        return EX_CONFIG;
    }
    if (l.print)
        wv_config_print(s->config, stdout);
    return l.print || l.check ? EX_OK : -1;
}

int wv_gateway_settings_again(struct wv_gateway_settings *s, int argc, char **argv, char **ret_message)
{
    struct command_line l = {0};
    *s = (struct wv_gateway_settings){.level = WV_LOG_INFO};
    int r = wv_config_new(&s->config, "gateway", wv_gateway_config, WV_ARRAY_SIZE(wv_gateway_config));
    if (r == 0)
        r = parse_line(s, &l, argc, argv);
    if (r == 0)
        r = finish(s, &l, ret_message);
    if (r < 0)
        wv_gateway_settings_fini(s);
    return r;
}

void wv_gateway_settings_fini(struct wv_gateway_settings *s)
{
    s->config = wv_config_free(s->config);
}
