/* Command line, configuration and issuers of a relay. See settings.h. */
#include "services/relay/settings.h"

#include "lib/base/util.h"
#include "services/relay/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <string.h>
#include <sysexits.h>

#define DEFAULT_FILE "/etc/wavry/relay.conf"
#define FILES_MAX    16

static const struct wv_config_entry config_table[] = {
    {"name", WV_CONFIG_STRING, "", 0, 0, NULL,
     "The relay's name, as leases name it; as a rule the host name that peers reach it by. Needed."},
    {"listen", WV_CONFIG_STRING, "4821", 0, 0, NULL,
     "UDP port, or ADDRESS:PORT of each address to serve, with spaces between; a port alone serves all "
     "addresses of a machine that has one of each family. Sockets of a socket unit are served instead."},
    {"issuers", WV_CONFIG_STRING, "/etc/wavry/relay-issuers", 0, 0, NULL,
     "File with the public keys of those whose leases are taken, one a line."},
    {"allow", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Ranges that peers may have addresses in beside public ones: loopback, private, linklocal, multicast."},
    {"max_leases", WV_CONFIG_INT, "10000", 1, 1000000, NULL, "Leases held at once."},
    {"max_lease_s", WV_CONFIG_INT, "3600", 10, 86400, NULL,
     "Longest lease that is taken, in seconds; peers renew theirs."},
    {"clock_leeway_s", WV_CONFIG_INT, "60", 0, 3600, NULL,
     "How far the issuer's clock and this machine's may differ, in seconds."},
    {"max_rate_kbps", WV_CONFIG_INT, "0", 0, 100000000, NULL,
     "Highest rate of one direction of a lease in kbit/s; 0: what leases say."},
    {"total_kbps", WV_CONFIG_INT, "0", 0, 100000000, NULL,
     "Highest rate of all that is forwarded, in kbit/s; 0: no limit."},
    {"queue_ms", WV_CONFIG_INT, "50", 0, 1000, NULL,
     "How much of its rate a direction may have waiting before datagrams are dropped, in milliseconds."},
    {"queue_slots", WV_CONFIG_INT, "8192", 16, 1000000, NULL, "Datagrams that may wait in all."},
    {"proofs_per_s", WV_CONFIG_INT, "50", 1, 100000, NULL,
     "Signatures checked a second for one IPv4 address or IPv6 /56, with a burst of twice as many."},
    {"stun_per_s", WV_CONFIG_INT, "0", 0, 1000, NULL,
     "STUN requests answered a second on the same port for one IPv4 address or IPv6 /56, with a burst of "
     "twice "
     "as many; 0: STUN is not served. 20 is plenty."},
    {"spin_us", WV_CONFIG_INT, "50", 0, 1000, NULL,
     "How long to look for the next datagram before going to sleep, in microseconds: delay for processor "
     "time."},
    {"gather_us", WV_CONFIG_INT, "40", 0, 1000, NULL,
     "Pause in which datagrams come together where many come, in microseconds: from 16 messages a pause on, "
     "or from 3 with spin_us=0. Processor time for delay."},
    {"drain", WV_CONFIG_BOOL, "false", 0, 0, NULL,
     "Begin by taking no new leases; SIGUSR1 and SIGUSR2 turn this on and off."},
    {"state_file", WV_CONFIG_STRING, "", 0, 0, NULL,
     "File in a folder of this user alone that keeps leases over a restart where systemd does not; empty: "
     "none."},
    {"metrics_socket", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Unix socket to serve metrics on over HTTP; empty: none."},
    {"metrics_listen", WV_CONFIG_STRING, "", 0, 0, NULL,
     "ADDRESS:PORT of this machine itself to serve metrics on, as 127.0.0.1:9483; empty: none."},
};

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

/* ---- listen ---- */

static bool parse_port(const char *text, uint16_t *ret)
{
    char *end = NULL;
    if (strspn(text, "0123456789") != strlen(text) || !*text || strlen(text) > 5)
        return false;
    unsigned long port = strtoul(text, &end, 10);
    if (port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

/* One word: PORT, 192.0.2.1:PORT or [2001:db8::1]:PORT. */
static bool parse_word(const char *word, struct wv_relay_listen *ret)
{
    struct wv_relay_listen l = {0};
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
    l.ip[10] = l.ip[11] = 0xff;
    if (inet_pton(brackets ? AF_INET6 : AF_INET, host, brackets ? l.ip : l.ip + 12) != 1)
        return false;
    *ret = l;
    return true;
}

int wv_relay_parse_listen(const char *text, struct wv_relay_settings *s, char **ret_message)
{
    s->n_listen = 0;
    for (const char *p = text + strspn(text, " "); *p; p += strspn(p, " ")) {
        char word[64];
        size_t len = strcspn(p, " ");
        if (s->n_listen == WV_RELAY_LISTEN_MAX)
            return say(ret_message, "listen: at most %d addresses", WV_RELAY_LISTEN_MAX);
        snprintf(word, sizeof word, "%.*s", (int)WV_MIN(len, sizeof word - 1), p);
        if (len >= sizeof word || !parse_word(word, &s->listen[s->n_listen]))
            return say(ret_message,
                       "listen: \"%s\" is neither a port nor ADDRESS:PORT; write 4821, 192.0.2.1:4821 or "
                       "[2001:db8::1]:4821",
                       word);
        s->n_listen++;
        p += len;
    }
    return s->n_listen ? 0 : say(ret_message, "listen: names no address");
}

/* ---- allow ---- */

int wv_relay_parse_allow(const char *text, unsigned *ret_allow, char **ret_message)
{
    static const struct {
        const char *word;
        unsigned range;
    } words[] = {{"loopback", RIFT_RELAY_LOOPBACK},
                 {"private", RIFT_RELAY_PRIVATE},
                 {"linklocal", RIFT_RELAY_LINK_LOCAL},
                 {"multicast", RIFT_RELAY_MULTICAST}};
    unsigned allow = 0;
    for (const char *p = text + strspn(text, " "); *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " "), i = 0;
        while (i < WV_ARRAY_SIZE(words) &&
               (strlen(words[i].word) != len || memcmp(words[i].word, p, len) != 0))
            i++;
        if (i == WV_ARRAY_SIZE(words))
            return say(
                ret_message,
                "allow: there is no range \"%.*s\"; loopback, private, linklocal and multicast are known",
                (int)WV_MIN(len, (size_t)64), p);
        allow |= words[i].range;
        p += len;
    }
    *ret_allow = allow;
    return 0;
}

/* ---- issuers ---- */

int wv_relay_parse_issuers(const char *text, const char *name, struct wv_relay_settings *s,
                           char **ret_message)
{
    unsigned line = 0;
    s->n_issuers = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n"), blank = strspn(p, " \t\r");
        char word[RIFT_SIGN_KEY_TEXT_BYTES + 1];
        line++;
        if (blank < len && p[blank] != '#') {
            size_t n = strcspn(p + blank, " \t\r\n");
            snprintf(word, sizeof word, "%.*s", (int)WV_MIN(n, sizeof word - 1), p + blank);
            if (s->n_issuers == WV_RELAY_ISSUERS_MAX)
                return say(ret_message, "%s:%u: at most %d issuers", name, line, WV_RELAY_ISSUERS_MAX);
            if (rift_sign_key_parse(word, s->issuers[s->n_issuers]) < 0)
                return say(ret_message,
                           "%s:%u: \"%s\" is no issuer's key; wavry-lease key FILE prints one (ed25519....)",
                           name, line, word);
            s->n_issuers++;
        }
        p += len + (p[len] == '\n');
    }
    return 0;
}

static int read_issuers(struct wv_relay_settings *s, char **ret_message)
{
    const char *path = wv_config_string(s->config, "issuers");
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    size_t len;
    int r = wv_read_file(path, 64 << 10, &data, &len);
    if (r < 0)
        return say(ret_message,
                   "issuers: %s can't be read: %s; it holds the keys of those whose leases count", path,
                   strerror(-r));
    if (memchr(data, 0, len))
        return say(ret_message, "%s is not a text file", path);
    return wv_relay_parse_issuers((const char *)data, path, s, ret_message);
}

/* ---- command line ---- */

static void print_help(const struct wv_config *config)
{
    printf("wavry-relay: passes sealed datagrams between two peers that hold a lease.\n\n"
           "  --config FILE        read FILE after " DEFAULT_FILE "; may be repeated\n"
           "  --set KEY=VALUE      set one key of the group [relay]; wins over files\n"
           "  --print-config       show the effective values and where each comes from\n"
           "  --check-config       exit 0 when the configuration is right, else say what is wrong\n"
           "  --log-level LEVEL    error, warning, notice, info (default) or debug\n"
           "  --help, --version\n\n");
    wv_config_print_help(config, stdout);
    for (size_t i = 0; i < WV_R_METRICS; i++) {
        const struct wv_metric *m = &wv_relay_metrics[i];
        printf("%s  %-28s %s%s%s%s\n", i ? "" : "\nMetrics:\n", m->name, m->help, m->unit[0] ? " (" : "",
               m->unit, m->unit[0] ? ")" : "");
    }
}

struct command_line {
    const char *files[FILES_MAX], *sets[FILES_MAX];
    size_t n_files, n_sets;
    bool print, check, help, version;
};

static int take_option(struct wv_relay_settings *s, struct command_line *l, int option)
{
    int level;
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
        level = wv_log_level_parse(optarg);
        s->level = level < 0 ? s->level : (enum wv_log_level)level;
        return level < 0 ? level : 0;
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

static int load(struct wv_relay_settings *s, const struct command_line *l, char **ret_message)
{
    int r = wv_config_load(s->config, DEFAULT_FILE, true, "relay|relay-beat", ret_message);
    for (size_t i = 0; r == 0 && i < l->n_files; i++)
        r = wv_config_load(s->config, l->files[i], false, "relay|relay-beat", ret_message);
    for (size_t i = 0; r == 0 && i < l->n_sets; i++)
        r = wv_config_set(s->config, l->sets[i], "--set", ret_message);
    return r;
}

static int interpret(struct wv_relay_settings *s, char **ret_message)
{
    int r = wv_relay_parse_listen(wv_config_string(s->config, "listen"), s, ret_message);
    if (r == 0)
        r = wv_relay_parse_allow(wv_config_string(s->config, "allow"), &s->allow, ret_message);
    if (r == 0 && !*wv_config_string(s->config, "name"))
        r = say(ret_message, "name: is not set; leases name this relay by it, so set it in " DEFAULT_FILE);
    return r < 0 ? r : read_issuers(s, ret_message);
}

static int finish(struct wv_relay_settings *s, const struct command_line *l)
{
    wv_cleanup(wv_free_p) char *message = NULL;
    int r = load(s, l, &message);
    if (r == 0 && l->print) {
        wv_config_print(s->config, stdout);
        return EX_OK;
    }
    if (r == 0)
        r = interpret(s, &message);
    if (r < 0) {
        fprintf(stderr, "wavry-relay: %s\n", message ? message : strerror(-r));
        return EX_CONFIG;
    }
    return l->check ? EX_OK : -1;
}

int wv_relay_settings_read(struct wv_relay_settings *s, int argc, char **argv)
{
    struct command_line l = {0};
    *s = (struct wv_relay_settings){.level = WV_LOG_INFO};
    if (wv_config_new(&s->config, "relay", config_table, WV_ARRAY_SIZE(config_table)) < 0)
        return EX_OSERR;
    int r = 0;
    optind = 0;
    for (int o; r == 0 && (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        r = take_option(s, &l, o);
    if (r < 0 || optind < argc) {
        fprintf(stderr, "wavry-relay: wrong usage%s%s; see wavry-relay --help\n", r < 0 ? "" : " at ",
                r < 0 ? "" : argv[optind]);
        return EX_USAGE;
    }
    if (l.help)
        print_help(s->config);
    else if (l.version)
        puts("wavry-relay " WAVRY_VERSION);
    else
        return finish(s, &l);
    return EX_OK;
}

void wv_relay_settings_fini(struct wv_relay_settings *s)
{
    s->config = wv_config_free(s->config);
}
