/* The running gateway: what its parts share. One thread runs the event loop (libwebsockets') and owns all of
 * this; other threads only see what a job hands them. */
#pragma once

#include "services/gateway/health.h"
#include "services/gateway/limits.h"
#include "services/gateway/metrics.h"
#include "services/gateway/settings.h"

#include <libwebsockets.h>
#include <openssl/ssl.h>

struct ev_loop;
struct wv_jobs;
struct wv_listeners;
struct wv_exporter;
struct wv_live;
struct wv_spare;
struct wv_gateway;

#define WV_GATEWAY_SECRET_BYTES 32

/* What the rest asks of the live part (presence, signaling); it fills this in when it comes up. All on the
 * loop's thread. */
struct wv_live_calls {
    /* The rights of ACCOUNT (its id; "": anybody's) or its machines have changed. */
    void (*rights_changed)(struct wv_gateway *g, const char *account);
    bool (*is_online)(const struct wv_gateway *g, const uint8_t key[32]);
    /* For /readyz: NULL, or a sentence that says what is missing. */
    const char *(*not_ready)(const struct wv_gateway *g);
};

struct wv_gateway {
    struct wv_gateway_settings settings;
    int argc; /* for a reload */
    char **argv;
    struct lws_context *lws;
    struct ev_loop *loop;
    struct lws_vhost *vhost;
    SSL_CTX *ssl; /* NULL: plain HTTP */
    struct wv_jobs *jobs;
    struct wv_metrics *metrics;
    struct wv_listeners *listeners;
    struct wv_exporter *exporter;
    struct wv_limits *requests, *logins, *wrong; /* by address; by address; by address and account */
    struct wv_limits *codes;                     /* wrong codes by account */
    uint8_t secret[WV_GATEWAY_SECRET_BYTES];     /* all gateways of one database have the same */
    char id[33];                                 /* of this process, random: 32 hex digits */
    struct wv_health health;                     /* of the database */
    struct wv_spare *spare;                      /* what it would not take of machines that signed in */
    struct wv_live_calls live;                   /* each may be NULL */
    struct wv_live *alive;                       /* the live part itself */
    size_t connections_max;                      /* what is configured, or what there are descriptors for */
    size_t in_flight;                            /* requests */
    bool draining, quit;
    int exit_code;
    int signal_fd;
    lws_sorted_usec_list_t beat;
    uint64_t next_beat_ns, drain_until_ns, watchdog_period_ns, watchdog_next_ns, next_sweep_ns;
    bool sweeping;
};

/* Opens everything (database, sockets, certificate, metrics); logs what is wrong. Returns 0 or a negative
 * errno. */
int wv_gateway_new(struct wv_gateway **ret, struct wv_gateway_settings *take_settings, int argc, char **argv);
struct wv_gateway *wv_gateway_free(struct wv_gateway *g);
/* Serves until a signal ends it; returns an exit code. */
int wv_gateway_run(struct wv_gateway *g);

int64_t wv_gateway_unix_s(void);

/* http.c: the protocol of plain requests, first in the vhost's list. */
int wv_http_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
size_t wv_http_session_bytes(void);
/* The client's address: the connection's, or what a trusted proxy says. */
void wv_http_address(struct wv_gateway *g, struct lws *wsi, uint8_t ret_address[16]);
void wv_address_text(const uint8_t address[16], char *ret, size_t capacity);
