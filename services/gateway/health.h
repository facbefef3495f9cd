/* Whether the database takes what the gateway has to write: found out by what becomes of every job, said once
 * in the log when it changes, and by the metrics. Recovers by itself with the first write that is done again.
 * Called from the threads of the lanes and of the loop. */
#pragma once

#include "services/gateway/refusals.h"
#include "services/gateway/store.h"

#include <pthread.h>
#include <stdatomic.h>

#define WV_HEALTH_FRESH_S 5 /* a write that was done so lately needs no trial */

struct wv_metrics;

/* Begins as zeros: all is well. */
struct wv_health {
    pthread_mutex_t lock;
    _Atomic int error;                    /* 0, or the negative errno of what was refused last */
    _Atomic uint64_t wrote_ns, failed_ns; /* when something was written, or refused, last */
    _Atomic int said;                     /* what the log was told last */
    uint64_t window_ns;
    unsigned lines; /* in this window */
};

void wv_health_init(struct wv_health *h);
void wv_health_fini(struct wv_health *h);

/* The word for R, an error of the store that is no answer. */
enum wv_refusal wv_health_refusal(int r);
/* R says that nothing can be written, while reading goes on. */
bool wv_health_is_about_writes(int r);
/* The store refused a job for R, for which REASON is its sentence. */
void wv_health_failed(struct wv_health *h, struct wv_metrics *metrics, int r, const char *reason,
                      uint64_t now);
/* A job was done; WROTE: something was made durable by it. */
void wv_health_worked(struct wv_health *h, struct wv_metrics *metrics, bool wrote, uint64_t now);
/* What is wrong, as far as is known: 0, or an error of the store. */
int wv_health_error(struct wv_health *h);
/* Nothing can be written now, and reading goes on, as far as is known. */
bool wv_health_refuses_writes(struct wv_health *h);
/* Whether a write must be tried to know. */
bool wv_health_is_doubtful(struct wv_health *h, uint64_t now);
