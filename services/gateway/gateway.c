/* Puts the parts together, and their life: start, reload, drain, end. See gateway.h. */
#include "services/gateway/gateway.h"

#include "lib/base/util.h"
#include "lib/ipc/text.h"
#include "services/gateway/exporter.h"
#include "services/gateway/jobs.h"
#include "services/gateway/listen.h"
#include "services/gateway/live.h"
#include "services/gateway/reload.h"
#include "services/gateway/spare.h"
#include "services/gateway/tls.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#define BEAT_NS      (200 * WV_NS_PER_MS)
#define DRAIN_NS     (8 * WV_NS_PER_S)
#define SWEEP_NS     (3600 * WV_NS_PER_S)
#define FILES_SPARE  192 /* descriptors beside connections */
#define LIMIT_PLACES 65536
#define HEAD_MAX     8192
#define RECORD_MAX   16384 /* of TLS (RFC 8446, 5.1) */
#define SIGNALS_NAME "wavry-signals"

int64_t wv_gateway_unix_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec;
}

/* ---- signals ---- */

static void begin_drain(struct wv_gateway *g, int signal)
{
    if (g->draining)
        return;
    wv_notice("stopping", "signal=%d requests=%zu", signal, g->in_flight);
    sd_notify(0, "STOPPING=1");
    g->draining = true;
    g->drain_until_ns = wv_now_ns() + DRAIN_NS;
    wv_metric_set(g->metrics, WV_G_DRAINING, 1);
    wv_metric_set(g->metrics, WV_G_READY, 0);
    wv_listeners_stop(g->listeners);
    wv_live_drain(g);
}

static int on_signal(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct wv_gateway *g = lws_context_user(lws_get_context(wsi));
    struct signalfd_siginfo info;
    if (reason != LWS_CALLBACK_RAW_RX_FILE)
        return 0;
    while (read(g->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            wv_gateway_reload(g);
        else
            begin_drain(g, (int)info.ssi_signo);
    }
    return 0;
}

static int open_signals(struct wv_gateway *g)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    g->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return g->signal_fd < 0 ? -errno : 0;
}

static int watch_signals(struct wv_gateway *g)
{
    lws_sock_file_fd_type fd = {.filefd = g->signal_fd};
    return lws_adopt_descriptor_vhost(g->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, SIGNALS_NAME, NULL) ? 0
                                                                                                 : -ENOMEM;
}

/* ---- heartbeat ---- */

struct sweep {
    struct wv_gateway *gateway;
    int64_t now_s, audit_before_s;
};

static void sweep_work(void *userdata, struct wv_store *store)
{
    struct sweep *s = userdata;
    int r = wv_store_sweep(store, s->now_s, s->audit_before_s);
    if (r < 0) /* what has ended stays for an hour more */
        wv_health_failed(&s->gateway->health, s->gateway->metrics, r, wv_store_reason(store), wv_now_ns());
}

static void sweep_done(void *userdata)
{
    struct sweep *s = userdata;
    s->gateway->sweeping = false;
    free(s);
}

static void sweep(struct wv_gateway *g, uint64_t now)
{
    struct sweep *s = g->sweeping ? NULL : calloc(1, sizeof *s);
    g->next_sweep_ns = now + SWEEP_NS;
    if (!s)
        return;
    s->gateway = g;
    s->now_s = wv_gateway_unix_s();
    s->audit_before_s = s->now_s - wv_config_int(g->settings.config, "audit_days") * 86400;
    g->sweeping = wv_jobs_run(g->jobs, WV_LANE_STORE, sweep_work, sweep_done, s) == 0;
    if (!g->sweeping)
        free(s);
}

/* Comes from the event loop on purpose: a loop that is stuck has no heartbeat. */
static void on_beat(lws_sorted_usec_list_t *sul)
{
    struct wv_gateway *g = lws_container_of(sul, struct wv_gateway, beat);
    uint64_t now = wv_now_ns();
    wv_metrics_heartbeat(g->metrics, now);
    if (now >= g->next_beat_ns)
        wv_metric_record(g->metrics, WV_G_LOOP_LATE, (now - g->next_beat_ns) / WV_NS_PER_US);
    g->next_beat_ns = now + BEAT_NS;
    lws_sul_schedule(g->lws, 0, &g->beat, on_beat, BEAT_NS / WV_NS_PER_US);
    wv_metric_set(g->metrics, WV_G_STORE_WAITING,
                  wv_jobs_waiting(g->jobs, WV_LANE_STORE) + wv_jobs_waiting(g->jobs, WV_LANE_ASK));
    wv_metric_set(g->metrics, WV_G_SLOW_WAITING, wv_jobs_waiting(g->jobs, WV_LANE_SLOW));
    if (now >= g->next_sweep_ns)
        sweep(g, now);
    if (g->watchdog_period_ns && now >= g->watchdog_next_ns) {
        g->watchdog_next_ns = now + g->watchdog_period_ns;
        sd_notify(0, "WATCHDOG=1");
    }
    if (g->draining && ((!g->in_flight && wv_live_is_idle(g)) || now >= g->drain_until_ns)) {
        g->quit = true;
        lws_cancel_service(g->lws);
    }
}

/* ---- coming up ---- */

static void log_library(int level, const char *line)
{
    char text[256];
    wv_text_copy(text, sizeof text, line, strcspn(line, "\n"));
    if (level & LLL_ERR)
        wv_warning("libwebsockets", "text=\"%s\"", text);
    else
        wv_debug("libwebsockets", "text=\"%s\"", text);
}

static int take_certificate(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                            size_t len)
{
    if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS) {
        struct wv_gateway *g = in;
        g->ssl = user;
        wv_tls_thrifty(user);
    }
    return 0;
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    if (reason != LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS)
        return wv_http_callback(wsi, reason, user, in, len);
    return take_certificate(wsi, reason, user, lws_context_user(lws_get_context(wsi)), 0);
}

static int check_certificate(const struct wv_gateway *g)
{
    const char *certificate = wv_config_string(g->settings.config, "tls_certificate");
    char reason[256];
    int r =
        *certificate ? wv_tls_check(certificate, wv_config_string(g->settings.config, "tls_key"), reason) : 0;
    if (r < 0)
        wv_error("the certificate can't be used", "reason=\"%s\"", reason);
    return r;
}

/* libwebsockets' own loop polls all sockets at every turn: its cost would grow with connections that are
 * idle. It loads its half of the bridge to libev (the package libwebsockets-evlib-ev) here, before the
 * sandbox. */
static int open_loop(struct wv_gateway *g)
{
    /* Silence is signal_link.c's. The library's own timers for it are one sorted list that is walked from its
     * head for each answer to a ping. */
    static const lws_retry_bo_t no_idle_timers = {.secs_since_valid_hangup = 0};
    static struct lws_protocols http = {.name = "http", .callback = on_http};
    static const struct lws_protocols listen = {.name = WV_LISTENERS_PROTOCOL,
                                                .callback = wv_listeners_callback},
                                      signals = {.name = SIGNALS_NAME, .callback = on_signal};
    static struct lws_protocols machines = {.name = WV_LIVE_PROTOCOL,
                                            .callback = wv_link_callback,
                                            .rx_buffer_size = 1024,
                                            .tx_packet_size = WV_SIGNAL_TEXT_MAX};
    static const struct lws_protocols *protocols[] = {&http, &listen, &signals, &machines, NULL};
    const char *certificate = wv_config_string(g->settings.config, "tls_certificate");
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .pprotocols = protocols,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_NO_LWS_SYSTEM_STATES |
                   LWS_SERVER_OPTION_LIBEV,
        .user = g,
        .server_string = "wavry",
        .uid = (uid_t)-1,
        .gid = (gid_t)-1,
        .max_http_header_data = HEAD_MAX,
        .timeout_secs = (unsigned)wv_config_int(g->settings.config, "patience_s"),
        .timeout_secs_ah_idle = (unsigned)wv_config_int(g->settings.config, "patience_s"),
        .keepalive_timeout = 30,
        .retry_and_idle_policy = &no_idle_timers,
        .alpn = "http/1.1",
    };
    g->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
    if (!g->loop)
        return -ENOMEM;
    info.foreign_loops = (void *[]){g->loop};
    http.per_session_data_size = wv_http_session_bytes();
    machines.per_session_data_size = wv_link_session_bytes();
    lws_set_log_level(LLL_ERR | LLL_WARN, log_library);
    if (*certificate) {
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        /* A record is read as a whole. What the library leaves of one looks to http.c as if somebody had
         * pipelined, and whoever sends a body on a connection that was used before was closed for it. */
        info.pt_serv_buf_size = LWS_PRE + RECORD_MAX;
        info.ssl_cert_filepath = certificate;
        info.ssl_private_key_filepath = wv_config_string(g->settings.config, "tls_key");
        info.ssl_options_set = SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_COMPRESSION |
                               SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE;
    }
    g->lws = lws_create_context(&info);
    g->vhost = g->lws ? lws_create_vhost(g->lws, &info) : NULL;
    if (!g->vhost)
        wv_error("the event loop can't be made; is libwebsockets-evlib-ev installed?", "tls=%d",
                 *certificate != 0);
    return g->vhost ? 0 : -EINVAL;
}

static void wake(void *userdata)
{
    struct wv_gateway *g = userdata;
    lws_cancel_service(g->lws);
}

/* The same for all gateways of a database: the first one makes them. What can't be written to is found out
 * here and not by the first who signs in. */
static int make_secrets(struct wv_gateway *g, struct wv_store *store,
                        uint8_t ret_issuer[WV_LEASES_SEED_BYTES])
{
    uint8_t secret[WV_GATEWAY_SECRET_BYTES], issuer[WV_LEASES_SEED_BYTES];
    size_t len;
    randombytes_buf(secret, sizeof secret);
    randombytes_buf(issuer, sizeof issuer);
    int r = wv_store_setting_make(store, "gateway-secret", secret, sizeof secret, g->secret, sizeof g->secret,
                                  &len);
    if (r == 0)
        r = wv_store_setting_make(store, WV_LEASES_SETTING, issuer, sizeof issuer, ret_issuer,
                                  WV_LEASES_SEED_BYTES, &len);
    if (r == 0)
        r = wv_store_try_write(store, WV_STORE_TRIAL_SMALL);
    if (r == 0)
        wv_health_worked(&g->health, g->metrics, true, wv_now_ns());
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(issuer, sizeof issuer);
    return r;
}

/* One more connection to the database, with a thread, for LANE. ISSUER (NULL: they are there already): the
 * secrets are made by it. */
static int open_store(struct wv_gateway *g, enum wv_lane lane, uint8_t *ret_issuer)
{
    const char *url = wv_config_string(g->settings.config, "database");
    char reason[WV_DB_REASON_BYTES] = "";
    struct wv_store *store = NULL;
    int r =
        lane == WV_LANE_ASK ? wv_store_open_reader(&store, url, reason) : wv_store_open(&store, url, reason);
    if (r == 0 && ret_issuer) {
        r = make_secrets(g, store, ret_issuer);
        snprintf(reason, sizeof reason, "%s", wv_store_reason(store));
    }
    if (r < 0)
        wv_error("the database can't be used", "error=\"%s\" reason=\"%s\" do=\"%s\"", strerror(-r), reason,
                 wv_store_advice(r));
    if (r == 0)
        r = wv_jobs_serve(g->jobs, lane, store);
    if (r < 0)
        wv_store_close(store);
    return r;
}

/* SQLite has one writer and, for signaling, one reader beside it; they are closed in the reverse order, for
 * only a writer can tidy up at the end. */
static int open_stores(struct wv_gateway *g)
{
    const char *url = wv_config_string(g->settings.config, "database");
    int64_t n = strncmp(url, "sqlite:", 7) != 0 ? wv_config_int(g->settings.config, "store_threads") : 1;
    uint8_t issuer[WV_LEASES_SEED_BYTES];
    int r = wv_jobs_new(&g->jobs, wake, g);
    if (r == 0)
        r = wv_jobs_serve(g->jobs, WV_LANE_SLOW, NULL);
    for (int64_t i = 0; r == 0 && i < n; i++)
        r = open_store(g, WV_LANE_STORE, i == 0 ? issuer : NULL);
    for (int64_t i = 0; r == 0 && i < n; i++)
        r = open_store(g, WV_LANE_ASK, NULL);
    if (r == 0)
        r = wv_spare_new(&g->spare);
    if (r == 0)
        r = wv_live_new(g, issuer);
    explicit_bzero(issuer, sizeof issuer);
    return r;
}

/* A connection that could not be accepted for want of a descriptor would wake the loop for ever. */
static int raise_files(struct wv_gateway *g)
{
    struct rlimit l;
    rlim_t want = (rlim_t)wv_config_int(g->settings.config, "max_connections") + FILES_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return -errno;
    if (l.rlim_max != RLIM_INFINITY && want > l.rlim_max) {
        wv_warning("fewer connections than configured: the limit of open files is lower", "files=%llu",
                   (unsigned long long)l.rlim_max);
        want = WV_MAX(l.rlim_max, (rlim_t)FILES_SPARE + 1);
    }
    g->connections_max = want - FILES_SPARE;
    l.rlim_cur = want;
    return setrlimit(RLIMIT_NOFILE, &l) < 0 ? -errno : 0;
}

static int open_limits(struct wv_gateway *g)
{
    struct wv_limit l = {1, 1};
    uint8_t secret[16];
    randombytes_buf(secret, sizeof secret);
    int r = wv_limits_new(&g->requests, LIMIT_PLACES, &l, secret);
    if (r == 0)
        r = wv_limits_new(&g->logins, LIMIT_PLACES, &l, secret);
    if (r == 0)
        r = wv_limits_new(&g->wrong, LIMIT_PLACES, &l, secret);
    if (r == 0)
        r = wv_limits_new(&g->codes, LIMIT_PLACES, &l, secret);
    if (r == 0)
        wv_gateway_apply_limits(g);
    return r;
}

int wv_gateway_new(struct wv_gateway **ret, struct wv_gateway_settings *take_settings, int argc, char **argv)
{
    struct wv_gateway *g = calloc(1, sizeof *g);
    uint8_t id[16];
    if (!g)
        return -ENOMEM;
    g->settings = *take_settings;
    take_settings->config = NULL;
    g->argc = argc;
    g->argv = argv;
    g->signal_fd = -1;
    randombytes_buf(id, sizeof id);
    wv_hex_encode(id, sizeof id, g->id);
    const struct wv_config *c = g->settings.config;
    wv_health_init(&g->health);
    int r = wv_metrics_new(&g->metrics, -1, "gateway", wv_gateway_metrics, WV_G_METRICS);
    if (r == 0)
        r = raise_files(g);
    if (r == 0)
        r = open_signals(g);
    if (r == 0)
        r = check_certificate(g);
    if (r == 0)
        r = open_limits(g);
    if (r == 0)
        r = wv_listeners_new(&g->listeners, g);
    if (r == 0)
        r = open_loop(g);
    if (r == 0)
        r = open_stores(g);
    if (r == 0)
        r = wv_exporter_new(&g->exporter, g->metrics, wv_config_string(c, "metrics_socket"),
                            wv_config_string(c, "metrics_listen"));
    if (r < 0) {
        wv_gateway_free(g);
        return r;
    }
    *ret = g;
    return 0;
}

/* Jobs first: what they leave behind still finds its request. Then the loop with all connections. */
struct wv_gateway *wv_gateway_free(struct wv_gateway *g)
{
    if (!g)
        return NULL;
    if (g->lws)
        lws_sul_cancel(&g->beat);
    g->jobs = wv_jobs_free(g->jobs);
    wv_live_stop(g);
    g->vhost = NULL;
    if (g->lws)
        lws_context_destroy(g->lws);
    g->lws = NULL;
    if (g->loop)
        ev_loop_destroy(g->loop);
    g->loop = NULL;
    wv_live_free(g);
    g->listeners = wv_listeners_free(g->listeners);
    g->exporter = wv_exporter_free(g->exporter);
    g->requests = wv_limits_free(g->requests);
    g->logins = wv_limits_free(g->logins);
    g->wrong = wv_limits_free(g->wrong);
    g->codes = wv_limits_free(g->codes);
    g->metrics = wv_metrics_free(g->metrics);
    wv_gateway_settings_fini(&g->settings);
    wv_health_fini(&g->health);
    g->spare = wv_spare_free(g->spare);
    explicit_bzero(g->secret, sizeof g->secret);
    free(g);
    return NULL;
}

int wv_gateway_run(struct wv_gateway *g)
{
    uint64_t watchdog_us = 0;
    int r = wv_listeners_start(g->listeners);
    if (r == 0)
        r = watch_signals(g);
    if (r < 0)
        return EX_OSERR;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        g->watchdog_period_ns = watchdog_us * WV_NS_PER_US / 3;
    g->next_beat_ns = wv_now_ns() + BEAT_NS;
    lws_sul_schedule(g->lws, 0, &g->beat, on_beat, BEAT_NS / WV_NS_PER_US);
    wv_live_start(g);
    wv_metric_set(g->metrics, WV_G_READY, 1);
    sd_notify(0, "READY=1");
    wv_notice("serving", "name=%s tls=%d", g->settings.names[0], g->ssl != NULL);
    while (!g->quit)
        ev_run(g->loop, EVRUN_ONCE);
    return g->exit_code;
}
