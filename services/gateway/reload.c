/* See reload.h. */
#include "services/gateway/reload.h"

#include "lib/base/util.h"
#include "services/gateway/tls.h"

#include <string.h>
#include <systemd/sd-daemon.h>

#define BURST 5 /* of a second's requests */

void wv_gateway_apply_limits(struct wv_gateway *g)
{
    const struct wv_config *c = g->settings.config;
    double requests = (double)wv_config_int(c, "requests_per_s");
    double logins = (double)wv_config_int(c, "logins_per_minute");
    double wrong = (double)wv_config_int(c, "wrong_per_minute");
    double codes = (double)wv_config_int(c, "wrong_codes_per_hour");
    wv_limits_set(g->requests, &(struct wv_limit){requests, requests * BURST});
    wv_limits_set(g->logins, &(struct wv_limit){logins / 60, logins});
    wv_limits_set(g->wrong, &(struct wv_limit){wrong / 60, wrong});
    wv_limits_set(g->codes, &(struct wv_limit){codes / 3600, codes});
}

/* Keys that only a start reads. */
static void warn_of_others(const struct wv_config *before, const struct wv_config *after)
{
    static const char *const texts[] = {"names",          "listen",          "database", "metrics_socket",
                                        "metrics_listen", "tls_certificate", "tls_key"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(texts); i++)
        if (strcmp(wv_config_string(before, texts[i]), wv_config_string(after, texts[i])) != 0)
            wv_warning("a changed key waits for a restart", "key=%s", texts[i]);
}

static bool take(struct wv_gateway *g, struct wv_gateway_settings *settings)
{
    const struct wv_config *now = g->settings.config;
    char reason[256];
    if (g->ssl && wv_tls_replace(g->ssl, wv_config_string(now, "tls_certificate"),
                                 wv_config_string(now, "tls_key"), reason) < 0) {
        wv_error("the new certificate can't be used; the old one stays", "reason=\"%s\"", reason);
        return false;
    }
    warn_of_others(now, settings->config);
    /* The rest of the settings keeps its names and addresses; the table of values is replaced whole. */
    struct wv_config *old = g->settings.config;
    g->settings.config = settings->config;
    settings->config = old;
    g->settings.level = settings->level;
    memcpy(g->settings.trusted, settings->trusted, sizeof g->settings.trusted);
    g->settings.n_trusted = settings->n_trusted;
    wv_log_set_level(g->settings.level);
    wv_gateway_apply_limits(g);
    return true;
}

void wv_gateway_reload(struct wv_gateway *g)
{
    wv_cleanup(wv_free_p) char *message = NULL;
    struct wv_gateway_settings settings;
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(wv_now_ns() / WV_NS_PER_US));
    bool done = false;
    if (wv_gateway_settings_again(&settings, g->argc, g->argv, &message) < 0) {
        wv_error("the new configuration is wrong; the old one stays", "reason=\"%s\"",
                 message ? message : "out of memory");
    } else {
        done = take(g, &settings);
        wv_gateway_settings_fini(&settings);
    }
    wv_metric_add(g->metrics, done ? WV_G_RELOADS : WV_G_RELOADS_REFUSED, 1);
    if (done)
        wv_notice("configuration and certificate read again", "tls=%d", g->ssl != NULL);
    sd_notify(0, "READY=1");
}
