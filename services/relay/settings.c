/* Command line, configuration and issuers of a relay. See settings.h. */
#include "services/relay/settings.h"

#include "lib/base/util.h"
#include "lib/stage/program.h"
#include "services/relay/metrics.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#define DEFAULT_FILE "/etc/wavry/relay.conf"

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

/* ---- allow ---- */

static int parse_allow(const char *text, unsigned *ret_allow, char **ret_message)
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
            return wv_complain(
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

static int parse_issuers(const char *text, const char *name, struct wv_relay_settings *s, char **ret_message)
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
                return wv_complain(ret_message, "%s:%u: at most %d issuers", name, line,
                                   WV_RELAY_ISSUERS_MAX);
            if (rift_sign_key_parse(word, s->issuers[s->n_issuers]) < 0)
                return wv_complain(
                    ret_message,
                    "%s:%u: \"%s\" is no issuer's key; wavry-lease key FILE prints one (ed25519....)", name,
                    line, word);
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
        return wv_complain(ret_message,
                           "issuers: %s can't be read: %s; it holds the keys of those whose leases count",
                           path, strerror(-r));
    if (memchr(data, 0, len))
        return wv_complain(ret_message, "%s is not a text file", path);
    return parse_issuers((const char *)data, path, s, ret_message);
}

/* ---- all of it ---- */

static int interpret(struct wv_relay_settings *s, char **ret_message)
{
    int r = wv_listen_parse(wv_config_string(s->config, "listen"), WV_RELAY_PORT, s->listen,
                            WV_RELAY_LISTEN_MAX, &s->n_listen, ret_message);
    if (r == 0)
        r = parse_allow(wv_config_string(s->config, "allow"), &s->allow, ret_message);
    if (r == 0 && !*wv_config_string(s->config, "name"))
        r = wv_complain(ret_message,
                        "name: is not set; leases name this relay by it, so set it in " DEFAULT_FILE);
    return r < 0 ? r : read_issuers(s, ret_message);
}

int wv_relay_settings_read(struct wv_relay_settings *s, int argc, char **argv)
{
    const struct wv_program program = {
        .name = "wavry-relay",
        .usage = "wavry-relay: passes sealed datagrams between two peers that hold a lease.\n",
        .file = DEFAULT_FILE,
        .group = "relay",
        .groups = "relay|relay-beat",
        .config = config_table,
        .n_config = WV_ARRAY_SIZE(config_table),
        .metrics = wv_relay_metrics,
        .n_metrics = WV_R_METRICS,
    };
    struct wv_program_line l;
    char *message = NULL;
    *s = (struct wv_relay_settings){.level = WV_LOG_INFO};
    int code = wv_program_begin(&program, &l, argc, argv, &s->config);
    if (code >= 0)
        return code;
    if (l.level >= 0)
        s->level = (enum wv_log_level)l.level;
    if (interpret(s, &message) < 0)
        return wv_program_fail(&program, EX_CONFIG, message);
    return l.check ? EX_OK : -1;
}

void wv_relay_settings_fini(struct wv_relay_settings *s)
{
    s->config = wv_config_free(s->config);
}
