/* Command line and configuration of a gateway. See settings.h. */
#include "services/gateway/settings.h"

#include "lib/base/util.h"
#include "lib/stage/program.h"
#include "services/gateway/metrics.h"
#include "services/gateway/settings_table.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sysexits.h>

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
        return colon != word && wv_port_parse(colon + 1, &port) && port;
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
        len = wv_next_word(&text, word, sizeof word);
        if (!len)
            break;
        if (s->n_names == WV_GATEWAY_NAMES_MAX)
            return wv_complain(ret_message, "names: at most %d", WV_GATEWAY_NAMES_MAX);
        if (len >= sizeof word || !parse_name(word, len))
            return wv_complain(
                ret_message,
                "names: \"%.64s\" is not HOST:PORT; write gateway.example.org:443 or 192.0.2.1:443", word);
        memcpy(s->names[s->n_names++], word, sizeof word);
    }
    return s->n_names
               ? 0
               : wv_complain(ret_message,
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
    if (!wv_ip_parse(word, ret->ip))
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
    while ((len = wv_next_word(&text, word, sizeof word))) {
        memcpy(shown, word, sizeof shown);
        if (s->n_trusted == WV_GATEWAY_TRUSTED_MAX)
            return wv_complain(ret_message, "trusted_proxies: at most %d", WV_GATEWAY_TRUSTED_MAX);
        if (len >= sizeof word || !parse_range(word, &s->trusted[s->n_trusted]))
            return wv_complain(ret_message,
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

/* ---- all of it ---- */

static int interpret_tls(const struct wv_gateway_settings *s, char **ret_message)
{
    static const uint8_t v4_loopback[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    static const uint8_t v6_loopback[16] = {[15] = 1};
    bool certificate = *wv_config_string(s->config, "tls_certificate");
    if (certificate != (bool)*wv_config_string(s->config, "tls_key"))
        return wv_complain(ret_message, "tls_certificate and tls_key: one is set and the other is not");
    for (size_t i = 0; !certificate && !s->n_trusted && i < s->n_listen; i++) {
        const struct wv_listen_at *l = &s->listen[i];
        if (l->any || (memcmp(l->ip, v4_loopback, sizeof v4_loopback) != 0 && memcmp(l->ip, v6_loopback, 16)))
            return wv_complain(
                ret_message,
                "tls_certificate: is not set, and \"%s\" is not an address of this machine alone: "
                "passwords would travel in the clear. Set tls_certificate and tls_key, or "
                "trusted_proxies when a proxy does TLS",
                l->text);
    }
    return 0;
}

static int interpret(struct wv_gateway_settings *s, char **ret_message)
{
    int r = wv_listen_parse(wv_config_string(s->config, "listen"), 443, s->listen, WV_GATEWAY_LISTEN_MAX,
                            &s->n_listen, ret_message);
    if (r == 0)
        r = wv_gateway_parse_trusted(wv_config_string(s->config, "trusted_proxies"), s, ret_message);
    if (r == 0)
        r = wv_gateway_parse_names(wv_config_string(s->config, "names"), s, ret_message);
    return r < 0 ? r : interpret_tls(s, ret_message);
}

static const struct wv_program program = {
    .name = "wavry-gateway",
    .usage = "wavry-gateway: accounts, hosts and devices, signaling between them, leases of relays.\n\n"
             "  wavry-gateway [OPTION...]                 serve\n"
             "  wavry-gateway [OPTION...] admin add NAME  make an account that administers the gateway\n"
             "  wavry-gateway [OPTION...] admin list      the accounts\n"
             "  wavry-gateway [OPTION...] admin password|enable|disable|no-totp NAME\n"
             "  wavry-gateway [OPTION...] migrate         bring the database to this version\n"
             "  wavry-gateway [OPTION...] backup FILE     copy the SQLite database while it is in use\n",
    .file = WV_GATEWAY_FILE,
    .group = "gateway",
    .groups = "gateway",
    .config = wv_gateway_config,
    .n_config = WV_ARRAY_SIZE(wv_gateway_config),
    .metrics = wv_gateway_metrics,
    .n_metrics = WV_G_METRICS,
    .max_arguments = WV_GATEWAY_COMMAND_ARGS,
};

static int apply(struct wv_gateway_settings *s, const struct wv_program_line *l, char **ret_message)
{
    s->level = (enum wv_log_level)l->level;
    if (l->level < 0)
        s->level = (enum wv_log_level)wv_log_level_parse(wv_config_string(s->config, "log_level"));
    memcpy(s->command, l->arguments, sizeof s->command);
    s->n_command = l->n_arguments;
    /* A command on the database needs nothing but the database. */
    return s->n_command ? 0 : interpret(s, ret_message);
}

int wv_gateway_settings_read(struct wv_gateway_settings *s, int argc, char **argv)
{
    struct wv_program_line l;
    char *message = NULL;
    *s = (struct wv_gateway_settings){.level = WV_LOG_INFO};
    int code = wv_program_begin(&program, &l, argc, argv, &s->config);
    if (code >= 0)
        return code;
    if (apply(s, &l, &message) < 0)
        return wv_program_fail(&program, EX_CONFIG, message);
    return l.check ? EX_OK : -1;
}

int wv_gateway_settings_again(struct wv_gateway_settings *s, int argc, char **argv, char **ret_message)
{
    struct wv_program_line l;
    *s = (struct wv_gateway_settings){.level = WV_LOG_INFO};
    int r = wv_program_parse(&program, &l, argc, argv, ret_message);
    if (r == 0)
        r = wv_program_load(&program, &l, &s->config, ret_message);
    if (r == 0)
        r = apply(s, &l, ret_message);
    if (r < 0)
        wv_gateway_settings_fini(s);
    return r;
}

void wv_gateway_settings_fini(struct wv_gateway_settings *s)
{
    s->config = wv_config_free(s->config);
}
