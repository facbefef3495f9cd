/* The skeleton of every stage: a program's main() only hands a definition to wv_stage_main(). The skeleton
 * reads the configuration, connects to the supervisor, receives its descriptors and bus links, calls open()
 * (devices, before lockdown), locks the process down, calls start(), says ready, runs the loop, drains on
 * SIGTERM or when told to, and exits with a sysexits code. */
#pragma once

#include "lib/ipc/bus.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "lib/stage/config.h"
#include "lib/stage/sandbox.h"

struct wv_stage;

struct wv_stage_definition {
    const char *name;    /* "capture" */
    const char *summary; /* one sentence for --help */
    const struct wv_config_entry *config;
    size_t n_config;
    const struct wv_metric *metrics;
    size_t n_metrics;
    const struct wv_bus_rule *rules;
    size_t n_rules;
    const struct wv_sandbox *sandbox;

    /* Before lockdown: open devices, map rings, load libraries. RET_CONTEXT is handed to everything else,
     * also to bus handlers as userdata. On failure RET says it (negative errno) and the stage has logged why.
     */
    int (*open)(struct wv_stage *stage, void **ret_context);
    int (*start)(struct wv_stage *stage, void *context); /* after lockdown: add loop sources */
    void (*drain)(struct wv_stage *stage,
                  void *context); /* asked to stop: say goodbye; call wv_stage_drained() */
    void (*close)(struct wv_stage *stage, void *context);
    /* A request of the administrator that the supervisor relayed ("authorize", ...). TEXT is the request's
     * argument; fill RET_REPLY (NUL-terminated) and return 0 or a negative errno. May be NULL. */
    int (*request)(struct wv_stage *stage, void *context, const char *verb, const char *text, char *ret_reply,
                   size_t capacity);
};

int wv_stage_main(const struct wv_stage_definition *definition, int argc, char **argv);

struct wv_loop *wv_stage_loop(struct wv_stage *stage);
struct wv_metrics *wv_stage_metrics(struct wv_stage *stage);
struct wv_config *wv_stage_config(struct wv_stage *stage);
struct wv_bus_link *wv_stage_link(struct wv_stage *stage, const char *peer);
/* The descriptor that the supervisor handed over under NAME, -1 when there is none. Stays the skeleton's. */
int wv_stage_fd(struct wv_stage *stage, const char *name);
void wv_stage_status(struct wv_stage *stage, const char *format, ...) __attribute__((format(printf, 2, 3)));
void wv_stage_drained(struct wv_stage *stage);
/* In drain(): another process of this stage follows at once, as far as is known. A service manager does not
 * say whether it stops a stage or starts it again; then this is true too. */
bool wv_stage_is_restarting(const struct wv_stage *stage);
