/* See service.h. The order of a turn is the promise of a restart: what changed is kept before a peer is told.
 */
#include "services/relay/service.h"

#include "ctl/openmetrics.h"
#include "lib/base/util.h"
#include "metrics/server.h"
#include "services/relay/metrics.h"
#include "services/relay/state.h"
#include "services/relay/udp.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS       8 /* batches of one socket, before others have their turn */
#define HEARTBEAT_NS (200 * WV_NS_PER_MS)
#define SWEEP_NS     WV_NS_PER_S
#define OWN_MAX      64
#define GATHER_MIN   3  /* messages that a pause must bring, or it is not taken */
#define GATHER_MANY  16 /* the same for who would rather spin */
#define STORED_MAX   16

struct watched {
    struct wv_relay_service *service;
    size_t socket;
};

struct wv_relay_service {
    const struct wv_relay_settings *settings;
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_relay_udp *udp;
    struct wv_relay_state *state;
    struct rift_relay *relay;
    struct wv_server *server;
    struct wv_metrics_snapshot *snapshot;
    char socket[256]; /* of metrics, ours to remove */

    struct watched watched[WV_RELAY_LISTEN_MAX];
    struct wv_loop_source *send_timer, *heartbeat_timer;
    uint64_t spin_ns, gather_ns, received_ns;
    uint64_t distance_ns;          /* between messages, on average of late */
    bool may_gather;               /* datagrams came since the last pause, and none are waiting */
    struct rift_relay_clock clock; /* of this turn */
    struct rift_relay_stats told;  /* as last copied to the metrics */
    uint64_t next_beat_ns, next_sweep_ns, watchdog_period_ns, watchdog_next_ns;
    char status[160];
    uint64_t logged[RIFT_RELAY_REASONS]; /* of refused; scrapes copy statistics, too, and log nothing */
};

static uint64_t unix_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec > 0 ? (uint64_t)t.tv_sec : 0;
}

/* ---- metrics ---- */

#define COPY(id, field) wv_metric_add(s->metrics, id, now->field - s->told.field)

static void copy_stats(struct wv_relay_service *s)
{
    const struct rift_relay_stats *now = rift_relay_get_stats(s->relay);
    COPY(WV_R_FORWARDED, forwarded);
    COPY(WV_R_FORWARDED_BYTES, forwarded_bytes);
    COPY(WV_R_SHAPED, shaped);
    COPY(WV_R_MARKED, marked);
    COPY(WV_R_DROPPED_QUEUE, dropped_queue);
    COPY(WV_R_DROPPED_UNKNOWN, dropped_unknown);
    COPY(WV_R_DROPPED_MALFORMED, dropped_malformed);
    COPY(WV_R_DROPPED_ABSENT, dropped_absent);
    COPY(WV_R_DROPPED_REPLIES, dropped_replies);
    COPY(WV_R_CHALLENGES, challenges);
    COPY(WV_R_UNPROVEN, unproven);
    COPY(WV_R_BINDS, binds);
    COPY(WV_R_MOVES, moves);
    COPY(WV_R_RENEWALS, renewals);
    COPY(WV_R_STUN_ANSWERS, stun_answers);
    COPY(WV_R_STUN_DROPPED, stun_dropped);
    COPY(WV_R_EXPIRED, expired);
    COPY(WV_R_WITHDRAWN, withdrawn);
    for (unsigned i = 1; i < RIFT_RELAY_REASONS; i++)
        COPY(WV_R_REFUSED_FIRST + i - 1, refused[i]);
    wv_metric_set(s->metrics, WV_R_LEASES, now->leases);
    wv_metric_set(s->metrics, WV_R_BOUND, now->bound);
    wv_metric_set(s->metrics, WV_R_QUEUED, now->queued);
    wv_metric_set(s->metrics, WV_R_DRAINING, rift_relay_is_draining(s->relay));
    s->told = *now;
}

static int write_page(void *userdata, FILE *out, bool open)
{
    struct wv_relay_service *s = userdata;
    copy_stats(s);
    int r = wv_metrics_read_own(s->metrics, s->snapshot);
    if (r < 0)
        return r;
    wv_openmetrics_write_page(out, "relay", s->snapshot, open);
    if (open)
        fputs("# EOF\n", out);
    return 0;
}

static void say_status(struct wv_relay_service *s)
{
    const struct rift_relay_stats *now = rift_relay_get_stats(s->relay);
    bool draining = rift_relay_is_draining(s->relay);
    char text[sizeof s->status];
    snprintf(text, sizeof text, "%s%llu of %llu leases, %llu sides bound",
             !draining     ? ""
             : now->leases ? "draining: "
                           : "drained: ",
             (unsigned long long)now->leases,
             (unsigned long long)wv_config_int(s->settings->config, "max_leases"),
             (unsigned long long)now->bound);
    if (!strcmp(text, s->status))
        return;
    memcpy(s->status, text, sizeof text);
    wv_metrics_status(s->metrics, text);
    sd_notifyf(0, "STATUS=%s", text);
}

/* What an operator would look for, once for each sweep in which it happened. */
static void log_refusals(struct wv_relay_service *s)
{
    const struct rift_relay_stats *now = rift_relay_get_stats(s->relay);
    for (unsigned i = 1; i < RIFT_RELAY_REASONS; i++) {
        if (now->refused[i] != s->logged[i])
            wv_notice("proofs refused", "reason=%s n=%llu text=\"%s\"", rift_relay_reason_word(i),
                      (unsigned long long)(now->refused[i] - s->logged[i]), rift_relay_reason_text(i));
        s->logged[i] = now->refused[i];
    }
}

/* ---- turns ---- */

static void settle(struct wv_relay_service *s)
{
    struct rift_relay_out out;
    wv_relay_state_keep(s->state, s->relay);
    while (rift_relay_send(s->relay, s->clock.now, &out) == 0)
        wv_relay_udp_put(s->udp, &out);
    wv_relay_udp_flush(s->udp);
    uint64_t due = rift_relay_timeout(s->relay);
    wv_loop_timer_at(s->send_timer, due == UINT64_MAX ? 0 : due);
}

static int on_datagram(void *userdata, const struct rift_relay_address *from, uint8_t *datagram, size_t len,
                       uint8_t *ecn, const struct rift_relay_address **ret_to)
{
    struct wv_relay_service *s = userdata;
    return rift_relay_receive(s->relay, from, datagram, len, ecn, &s->clock, ret_to);
}

/* N messages came since those before. A silence counts as one pause at most: what begins anew is fast soon.
 */
static void note_distance(struct wv_relay_service *s, uint64_t now, size_t n)
{
    uint64_t since = WV_MIN(now - s->received_ns, WV_NS_PER_MS);
    s->received_ns = now;
    if (n)
        s->distance_ns += (since / n >> 3) - (s->distance_ns >> 3);
}

static int on_readable(void *userdata, uint32_t events, uint64_t now)
{
    struct watched *w = userdata;
    struct wv_relay_service *s = w->service;
    size_t n = 0;
    int r = 1;
    s->clock = (struct rift_relay_clock){now, unix_s()};
    for (int round = 0; r > 0 && round < ROUNDS; round++) {
        r = wv_relay_udp_turn(s->udp, w->socket, on_datagram, s, &n);
        if (r < 0) {
            wv_error("a socket failed", "socket=%zu error=\"%s\"", w->socket, strerror(-r));
            return r;
        }
        if (rift_relay_timeout(s->relay) == 0)
            settle(s); /* answers are due: room for those of the next round */
        if (r > 0)
            s->clock.now = wv_now_ns();
    }
    settle(s);
    uint64_t end = wv_now_ns();
    note_distance(s, end, n);
    s->may_gather = r == 0;
    wv_metric_record(s->metrics, WV_R_BUSY_US, (end - now) / WV_NS_PER_US);
    return 0;
}

/* Who was woken a moment ago will be again: it is not worth the sleep, nor the delay of waking up. Where much
 * comes, a pause lets it come together, as a network card does: one call for many datagrams, one message for
 * those of one peer. Who spins wants little delay: then it takes very much, and a queue anyway. */
static bool on_prepare(void *userdata, uint64_t now)
{
    struct wv_relay_service *s = userdata;
    uint64_t least = s->spin_ns ? GATHER_MANY : GATHER_MIN;
    if (s->may_gather && s->distance_ns * least < s->gather_ns) {
        const struct timespec pause = {.tv_nsec = (long)s->gather_ns};
        s->may_gather = false;
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        return true;
    }
    return s->spin_ns && now < s->received_ns + s->spin_ns;
}

static int on_send_due(void *userdata, uint64_t now)
{
    struct wv_relay_service *s = userdata;
    s->clock = (struct rift_relay_clock){now, unix_s()};
    settle(s);
    return 0;
}

/* Comes from the event loop on purpose: a loop that is stuck has no heartbeat. */
static int on_heartbeat(void *userdata, uint64_t now)
{
    struct wv_relay_service *s = userdata;
    wv_metrics_heartbeat(s->metrics, now);
    if (now >= s->next_beat_ns)
        wv_metric_record(s->metrics, WV_R_LOOP_LATE, (now - s->next_beat_ns) / WV_NS_PER_US);
    s->next_beat_ns = now + HEARTBEAT_NS;
    wv_loop_timer_at(s->heartbeat_timer, s->next_beat_ns);
    if (now >= s->next_sweep_ns) {
        s->next_sweep_ns = now + SWEEP_NS;
        rift_relay_sweep(s->relay, now);
        wv_relay_state_keep(s->state, s->relay);
        log_refusals(s);
        copy_stats(s);
        say_status(s);
    }
    if (s->watchdog_period_ns && now >= s->watchdog_next_ns) {
        s->watchdog_next_ns = now + s->watchdog_period_ns;
        sd_notify(0, "WATCHDOG=1");
    }
    return 0;
}

static int on_drain_signal(void *userdata, int signal, uint64_t now)
{
    struct wv_relay_service *s = userdata;
    rift_relay_set_draining(s->relay, signal == SIGUSR1);
    wv_relay_state_keep(s->state, s->relay);
    wv_notice(signal == SIGUSR1 ? "draining: no new leases are taken" : "new leases are taken again",
              "leases=%llu", (unsigned long long)rift_relay_get_stats(s->relay)->leases);
    copy_stats(s);
    say_status(s);
    return 0;
}

/* ---- coming up ---- */

/* What systemd hands over: what the process before stored, and the sockets of socket units. */
struct stored {
    int state, metrics, udp[STORED_MAX], http[STORED_MAX];
    size_t n_udp, n_http;
};

static void take_stored(struct stored *ret)
{
    char **names = NULL;
    *ret = (struct stored){.state = -1, .metrics = -1};
    int n = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        const char *name = names ? names[i] : "";
        if (!strcmp(name, "state") && ret->state < 0)
            ret->state = fd;
        else if (!strcmp(name, "metrics") && ret->metrics < 0)
            ret->metrics = fd;
        else if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0 && ret->n_http < STORED_MAX)
            ret->http[ret->n_http++] = fd;
        else if (sd_is_socket(fd, AF_UNSPEC, SOCK_DGRAM, -1) > 0 && ret->n_udp < STORED_MAX)
            ret->udp[ret->n_udp++] = fd;
        else
            wv_close(fd);
    }
    for (int i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

/* FDPOLL=0: an error that some peer's network reports on a socket would make systemd drop it. */
static void store(const char *name, int fd)
{
    char text[64];
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    sd_notify(0, text);
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    if (sd_pid_notify_with_fds(0, 0, text, &fd, 1) < 0)
        wv_warning("the service manager doesn't keep a descriptor", "name=%s", name);
}

/* Counters go on over a restart where the page is kept. */
static int open_metrics(struct wv_relay_service *s, int take_fd)
{
    wv_cleanup(wv_close_p) int fd = take_fd;
    int r = -EBADMSG;
    s->snapshot = calloc(1, sizeof *s->snapshot);
    if (!s->snapshot)
        return -ENOMEM;
    if (fd >= 0)
        r = wv_metrics_new(&s->metrics, fd, "relay", wv_relay_metrics, WV_R_METRICS);
    if (r < 0) { /* none, or of another version */
        fd = wv_close(fd);
        r = wv_metrics_create_page(&fd);
        if (r == 0)
            r = wv_metrics_new(&s->metrics, fd, "relay", wv_relay_metrics, WV_R_METRICS);
        if (r == 0)
            store("metrics", fd);
    }
    return r;
}

static int open_sockets(struct wv_relay_service *s, const struct stored *stored)
{
    int r = wv_relay_udp_new(&s->udp, s->metrics);
    for (size_t i = 0; i < stored->n_udp; i++) {
        if (r == 0)
            r = wv_relay_udp_take(s->udp, stored->udp[i]);
        if (r < 0)
            wv_error("a socket that was handed over is of no use", "error=\"%s\"", strerror(-r));
    }
    for (size_t i = 0; r == 0 && !stored->n_udp && i < s->settings->n_listen; i++) {
        r = wv_relay_udp_open(s->udp, &s->settings->listen[i]);
        if (r < 0)
            wv_error("can't listen", "at=%s error=\"%s\"", s->settings->listen[i].text, strerror(-r));
    }
    return r;
}

static int open_state(struct wv_relay_service *s, int take_fd)
{
    const struct wv_config *c = s->settings->config;
    const char *path = wv_config_string(c, "state_file");
    int r = wv_relay_state_open(&s->state, take_fd, path, (size_t)wv_config_int(c, "max_leases"));
    if (r < 0)
        wv_error("the kept state can't be opened", "file=\"%s\" error=\"%s\"", path, strerror(-r));
    else if (wv_relay_state_new_fd(s->state) >= 0)
        store("state", wv_relay_state_new_fd(s->state));
    return r;
}

static int make_relay(struct wv_relay_service *s)
{
    const struct wv_config *c = s->settings->config;
    struct rift_relay_address own[OWN_MAX];
    struct rift_relay_config config = {
        .max_leases = (size_t)wv_config_int(c, "max_leases"),
        .max_lease_s = (uint32_t)wv_config_int(c, "max_lease_s"),
        .leeway_s = (uint32_t)wv_config_int(c, "clock_leeway_s"),
        .max_rate_kbps = (uint32_t)wv_config_int(c, "max_rate_kbps"),
        .total_kbps = (uint64_t)wv_config_int(c, "total_kbps"),
        .queue_ms = (uint32_t)wv_config_int(c, "queue_ms"),
        .queue_slots = (size_t)wv_config_int(c, "queue_slots"),
        .proofs_per_s = (uint32_t)wv_config_int(c, "proofs_per_s"),
        .stun_per_s = (uint32_t)wv_config_int(c, "stun_per_s"),
        .allow = s->settings->allow,
        .issuers = s->settings->issuers,
        .n_issuers = s->settings->n_issuers,
        .own = own,
        .n_own = wv_relay_udp_own(s->udp, own, OWN_MAX),
    };
    rift_relay_id(wv_config_string(c, "name"), config.id);
    memcpy(config.secret, wv_relay_state_secret(s->state), sizeof config.secret);
    int r = rift_relay_new(&s->relay, &config);
    explicit_bzero(config.secret, sizeof config.secret);
    if (r < 0)
        return r;
    size_t lost, taken;
    s->clock = (struct rift_relay_clock){wv_now_ns(), unix_s()};
    taken = wv_relay_state_restore(s->state, s->relay, &s->clock, &lost);
    wv_metric_add(s->metrics, WV_R_RESTORED, taken);
    wv_metric_set(s->metrics, WV_R_LEASES_MAX, config.max_leases);
    if (taken || lost)
        wv_notice("leases taken over", "n=%zu lost=%zu", taken, lost);
    rift_relay_set_draining(s->relay, wv_relay_state_was_draining(s->state) || wv_config_bool(c, "drain"));
    wv_relay_state_keep(s->state, s->relay);
    return 0;
}

static int add_exporter(struct wv_relay_service *s, const char *at, int made, int fd)
{
    int r = made < 0 ? made : wv_server_add(s->server, fd);
    if (r < 0)
        wv_error("can't serve metrics", "at=%s error=\"%s\"", at,
                 r == -EPERM ? "not an address of this machine alone" : strerror(-r));
    return r;
}

static int open_exporter(struct wv_relay_service *s, const struct stored *stored)
{
    const char *path = wv_config_string(s->settings->config, "metrics_socket");
    const char *listen = wv_config_string(s->settings->config, "metrics_listen");
    int fd = -1, r = wv_server_new(&s->server, s->loop, write_page, s);
    for (size_t i = 0; r == 0 && i < stored->n_http; i++)
        r = add_exporter(s, "the service manager's socket", 0, stored->http[i]);
    if (r == 0 && *path) {
        int made = wv_server_listen_unix(path, &fd);
        r = add_exporter(s, path, made, fd);
        if (r == 0)
            snprintf(s->socket, sizeof s->socket, "%s", path);
    }
    if (r == 0 && *listen) {
        int made = wv_server_listen_loopback(listen, &fd);
        r = add_exporter(s, listen, made, fd);
    }
    return r;
}

int wv_relay_service_new(struct wv_relay_service **ret, struct wv_loop *loop,
                         const struct wv_relay_settings *settings)
{
    struct stored stored;
    take_stored(&stored);
    struct wv_relay_service *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->settings = settings;
    s->loop = loop;
    int r = open_metrics(s, stored.metrics);
    if (r == 0)
        r = open_sockets(s, &stored);
    if (r == 0)
        r = open_state(s, stored.state);
    if (r == 0)
        r = make_relay(s);
    if (r == 0)
        r = open_exporter(s, &stored);
    if (r < 0) {
        wv_relay_service_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

int wv_relay_service_start(struct wv_relay_service *s)
{
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        s->watchdog_period_ns = watchdog_us * WV_NS_PER_US / 3;
    int r = wv_loop_add_timer(s->loop, on_send_due, s, &s->send_timer);
    if (r == 0)
        r = wv_loop_add_timer(s->loop, on_heartbeat, s, &s->heartbeat_timer);
    for (size_t i = 0; r == 0 && i < wv_relay_udp_count(s->udp); i++) {
        s->watched[i] = (struct watched){s, i};
        r = wv_loop_add_fd(s->loop, wv_relay_udp_fd(s->udp, i), EPOLLIN, on_readable, &s->watched[i], NULL);
    }
    s->spin_ns = (uint64_t)wv_config_int(s->settings->config, "spin_us") * WV_NS_PER_US;
    s->gather_ns = (uint64_t)wv_config_int(s->settings->config, "gather_us") * WV_NS_PER_US;
    s->distance_ns = WV_NS_PER_MS;
    if (r == 0)
        r = wv_loop_add_prepare(s->loop, on_prepare, s, NULL);
    if (r == 0)
        r = wv_loop_add_signal(s->loop, SIGUSR1, on_drain_signal, s);
    if (r == 0)
        r = wv_loop_add_signal(s->loop, SIGUSR2, on_drain_signal, s);
    if (r < 0)
        return r;
    s->next_beat_ns = wv_now_ns() + HEARTBEAT_NS;
    wv_loop_timer_at(s->heartbeat_timer, s->next_beat_ns);
    say_status(s);
    if (!s->settings->n_issuers)
        wv_warning("no issuer is trusted: every lease will be refused", "file=\"%s\"",
                   wv_config_string(s->settings->config, "issuers"));
    return 0;
}

struct wv_relay_service *wv_relay_service_free(struct wv_relay_service *s)
{
    if (!s)
        return NULL;
    s->server = wv_server_free(s->server);
    if (s->socket[0])
        (void)unlink(s->socket); /* refused under lockdown: then the next one replaces it */
    s->relay = rift_relay_free(s->relay);
    s->state = wv_relay_state_free(s->state);
    s->udp = wv_relay_udp_free(s->udp);
    s->metrics = wv_metrics_free(s->metrics);
    free(s->snapshot);
    free(s);
    return NULL;
}
