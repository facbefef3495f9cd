/* What the files of the stage skeleton share; no stage includes it. */
#pragma once

#include "lib/ipc/fdpass.h"
#include "lib/stage/stage.h"

#include "proto/bus_stage.pb-c.h"

#define WV_STAGE_PROTOCOL 1

struct wv_stage_fd {
    char name[32];
    int fd;
};

struct wv_stage {
    const struct wv_stage_definition *definition;
    struct wv_config *config;
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_metric *metric_table; /* the stage's own, then the skeleton's */
    struct wv_bus *bus;
    struct wv_bus_rule *rules;
    void *context;

    const char *supervisor_path;
    int connection; /* -1: the supervisor is away */
    struct wv_loop_source *connection_source;
    struct wv_loop_source *reconnect_timer;
    uint64_t lost_ns;
    bool granted; /* a reconnect's grant repeats what we have */

    struct wv_stage_fd fds[WV_FDPASS_MAX_FDS];
    size_t n_fds;

    struct wv_loop_source *heartbeat_timer, *drain_timer;
    uint64_t next_beat_ns, watchdog_period_ns, watchdog_next_ns;
    uint64_t bus_dropped, bus_unsent; /* as last copied to the metrics */
    bool ready, draining, restarting;
    char status[160];
};

/* Connects, says hello, waits for the grant and takes its descriptors and links. Returns 0 or a negative
 * errno, logged. */
int wv_stage_join(struct wv_stage *s, Wavry__Bus__StageGrant **ret_grant,
                  Wavry__Bus__StageMessage **ret_message);
/* From here on the loop watches the connection, answers, and connects again when the supervisor went away. */
int wv_stage_watch_supervisor(struct wv_stage *s);
void wv_stage_say_ready(struct wv_stage *s);
/* Tells the supervisor why this process is about to exit. */
void wv_stage_say_failed(struct wv_stage *s, const char *reason, int exit_code);
/* Tells the supervisor that somebody else asked this process to stop: its end is no failure. */
void wv_stage_say_leaving(struct wv_stage *s);
/* After a failure, where a service manager would start this stage again at once: waits until the supervisor,
 * who knows how often it has failed, lets go of the connection. Bounded; SIGTERM ends it. */
void wv_stage_linger(struct wv_stage *s);
void wv_stage_leave(struct wv_stage *s);
/* Started from a unit of its own, not by the supervisor. */
bool wv_stage_is_managed(void);
/* Asked to stop, by SIGTERM or by the supervisor. */
void wv_stage_drain(struct wv_stage *s);
