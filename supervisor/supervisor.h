/* The supervisor proper: starts stages, grants descriptors, watches, restarts, answers administrators. It
 * never reads a frame, a datagram of the network, or a key. */
#pragma once

#include "lib/ipc/fdpass.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "lib/stage/config.h"
#include "supervisor/places.h"
#include "supervisor/vault.h"

#include "proto/bus_control.pb-c.h"
#include "proto/bus_stage.pb-c.h"

#define WV_SUPERVISOR_SETS    64
#define WV_SUPERVISOR_CONFIGS 8
#define WV_SUPERVISOR_AGAIN   75 /* exit code: start me again (EX_TEMPFAIL) */

enum wv_stage_state {
    WV_STATE_STOPPED,
    WV_STATE_STARTING,
    WV_STATE_READY,
    WV_STATE_STOPPING,
    WV_STATE_HUNG, /* being killed */
    WV_STATE_BACKING_OFF,
};

/* Who starts the stages. */
enum wv_supervisor_mode {
    WV_MODE_STANDALONE, /* we do, as our children */
    WV_MODE_SYSTEM,     /* systemd, each from its unit and under its user; we have no privilege at all */
    WV_MODE_PERSON,     /* a person's systemd: everybody has one user, the unit tells who is who */
};

struct wv_supervisor;

/* A second process of a stage, see spare.c. */
struct wv_spare {
    pid_t pid; /* 0: none */
    int pidfd, connection;
    struct wv_loop_source *pidfd_source, *connection_source;
    bool waiting; /* it said hello and was told to stand by */
};

struct wv_child {
    struct wv_supervisor *supervisor;
    const struct wv_wiring_stage *wiring;
    size_t index;
    enum wv_stage_state state;
    pid_t pid; /* 0: none */
    int pidfd;
    bool restart_asked;
    struct wv_loop_source *pidfd_source, *timer;
    struct wv_spare spare;
    int connection;
    struct wv_loop_source *connection_source;
    bool granted;
    bool found_running; /* by a supervisor that came after it */
    bool asked_in;      /* by systemd's hand: it said hello and is waiting for the end of its pause */
    bool leaving;       /* told to stop by somebody: its end is no failure */
    bool counted;       /* its failure is counted already, by its own word */
    uint64_t since_ns, started_ns, retry_at_ns;
    uint64_t ready_ns;              /* when this process became ready; 0: it never was */
    uint64_t heartbeat_ns, seen_ns; /* the last heartbeat, and when we saw it change */
    uint64_t starved_ticks;         /* CPU time at that moment */
    unsigned failures;              /* in a row, before they were of any use */
    char last_exit[160], reason[320], confinement[200];
};

struct wv_supervisor_options {
    const char *runtime, *state, *libexec;
    const char *configs[WV_SUPERVISOR_CONFIGS];
    size_t n_configs;
    const char *sets[WV_SUPERVISOR_SETS]; /* STAGE.KEY=VALUE, checked */
    size_t n_sets;
    const char *display;
    const char *log_level;
    bool managed; /* by systemd: not standalone */
};

struct wv_control; /* control.h */

struct wv_supervisor {
    const struct wv_supervisor_options *options;
    enum wv_supervisor_mode mode;
    int lock_fd; /* of the runtime folder; standalone the keeper holds it */
    struct wv_config *config;
    struct wv_loop *loop;
    struct wv_places places;
    struct wv_vault vault;
    struct wv_metrics *metrics;
    struct wv_metrics_snapshot *snapshot; /* room for reading pages */
    char libexec[512];
    int listen_fd;
    struct wv_child children[WV_WIRING_STAGES];
    struct wv_control *control;
    struct wv_loop_source *watch_timer, *stop_timer;
    uint64_t next_watch_ns, started_ns;
    bool stopping, announced;
    bool key_asked, key_asked_in_vain; /* identity said no or nothing: announce without the key */
    char host_key[128];
};

/* Metrics of the supervisor's own page; restarts stand first, by stage. */
enum {
    WV_SUP_RESTARTS = 0,
    WV_SUP_HANGS = WV_WIRING_STAGES,
    WV_SUP_FAILURES,
    WV_SUP_REFUSED,
    WV_SUP_REQUESTS,
    WV_SUP_WATCH_LATE,
    WV_SUP_N_METRICS,
};

int wv_supervisor_run(const struct wv_supervisor_options *options, struct wv_config *config); /* exit code */
void wv_supervisor_stop(struct wv_supervisor *s);
/* After every change of a stage: says READY once all are up or known to fail, ends the loop once all are
 * gone. */
void wv_supervisor_changed(struct wv_supervisor *s);

/* ---- child.c: the life of one stage ---- */
int wv_child_init(struct wv_child *c, struct wv_supervisor *s, size_t index);
void wv_child_start(struct wv_child *c, uint64_t now);
/* Takes over a process that our predecessor started. */
void wv_child_adopt(struct wv_child *c, pid_t pid, int pidfd, uint64_t now);
void wv_child_stop(struct wv_child *c, bool restart, uint64_t now);
void wv_child_kill(struct wv_child *c);
void wv_child_ready(struct wv_child *c, uint64_t now);
void wv_child_failed(struct wv_child *c, const char *reason);
void wv_child_watch(struct wv_child *c, uint64_t now, uint64_t late_ns);
const char *wv_child_state_name(const struct wv_child *c);

/* Shared by the two ways to run. */
void wv_child_enter(struct wv_child *c, enum wv_stage_state state, uint64_t now, uint64_t limit_ns);
uint64_t wv_child_retry_delay(struct wv_child *c, uint64_t now);
void wv_child_forget_process(struct wv_child *c);

/* ---- managed.c: stages that systemd starts ---- */

/* Which stage knocks, by the kernel's word on who it is; NULL: none of ours. */
struct wv_child *wv_managed_find(struct wv_supervisor *s, const struct wv_peer *peer);
/* A process of the stage has knocked: it is the stage from here on. Returns 0 or a negative errno. */
int wv_managed_arrive(struct wv_child *c, pid_t pid, uint64_t now);
/* A process is the stage from here on; takes PIDFD and CONNECTION, also on failure. Returns 0 or a negative
 * errno. */
int wv_managed_become(struct wv_child *c, pid_t pid, int pidfd, int connection, uint64_t now);
/* Stops looking at its process and connection without closing either. */
void wv_managed_detach(struct wv_child *c);
/* Its process has ended. */
void wv_managed_depart(struct wv_child *c, uint64_t now);
/* It said hello. Returns whether it is to be granted now; else it waits for the end of its pause, or was told
 * to stop. */
bool wv_managed_hello(struct wv_child *c, bool resuming, uint64_t now);
/* It said why it can't work, and waits for us to let it go. */
void wv_managed_failed(struct wv_child *c, uint64_t now);
/* Returns 0 or a negative errno: systemd has not started it. */
int wv_managed_restart(struct wv_child *c, uint64_t now);
void wv_managed_timer(struct wv_child *c, uint64_t now);
/* What a person is told about a stage that doesn't run. */
void wv_managed_describe(struct wv_child *c, char *ret, size_t capacity);

/* ---- spare.c: a second process that waits for the first to end ---- */

/* Whether process PID that knocked is a spare (or one too many); then CONNECTION is taken. */
bool wv_spare_takes(struct wv_child *c, pid_t pid, int connection, uint64_t now);
/* The stage has no process now: its spare, if one waits, is the stage. */
void wv_spare_promote(struct wv_child *c, uint64_t now);
/* Whether another process may be working and has not found us yet: only soon after our own start. */
bool wv_spare_must_wait(struct wv_child *c, uint64_t now);
void wv_spare_drop(struct wv_child *c);

/* ---- launch.c: how its process comes to be ---- */
int wv_launch(struct wv_child *c, pid_t *ret_pid, int *ret_pidfd);

/* ---- door.c: supervisor.sock ---- */
int wv_door_open(struct wv_supervisor *s);
void wv_door_close(struct wv_supervisor *s);
void wv_door_drop(struct wv_child *c);
/* Returns 0 or a negative errno: nobody is there. */
int wv_door_request(struct wv_child *c, uint32_t id, const char *verb, const char *text);
int wv_door_say_stop(struct wv_child *c);
int wv_door_grant(struct wv_child *c);
/* Listens to the stage on FD, which is taken also on failure. Returns 0 or a negative errno. */
int wv_door_attach(struct wv_child *c, int fd);
/* Whether HELLO is of this stage and of our protocol. */
bool wv_door_knows(const struct wv_child *c, const Wavry__Bus__StageHello *hello);
/* Takes what the stage has said so far: before its end is judged. */
void wv_door_listen(struct wv_child *c, uint64_t now);

/* ---- control.c: control.sock ---- */
int wv_control_open(struct wv_supervisor *s);
void wv_control_close(struct wv_supervisor *s);
void wv_control_reply(struct wv_supervisor *s, const Wavry__Bus__StageReply *reply);
/* Asks identity for the host key, when it is not known yet. */
void wv_control_ask_key(struct wv_supervisor *s, uint64_t now);
