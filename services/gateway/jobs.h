/* Work that must not hold up the event loop: the database's (lane STORE for requests; lane ASK for what a
 * live connection waits for, which is only read and must not stand behind writes and their syncs) and what
 * costs processor time on purpose, as Argon2id does (lane SLOW, a short queue). A thread serves one lane, and
 * has a connection to the database of its own. What a job leaves behind is handled on the loop's thread
 * again. Must never grow without a bound: a full lane says so at once. */
#pragma once

#include "services/gateway/store.h"

enum wv_lane { WV_LANE_STORE, WV_LANE_ASK, WV_LANE_SLOW, WV_LANES };

#define WV_JOBS_STORE_MAX 8192
#define WV_JOBS_ASK_MAX   8192
#define WV_JOBS_SLOW_MAX  16
#define WV_JOBS_THREADS   129

struct wv_jobs;

/* On a thread of the lane; STORE is that thread's own, NULL on the slow lane. */
typedef void (*wv_job_fn)(void *userdata, struct wv_store *store);
/* On the loop's thread, from wv_jobs_deliver(); always comes, once, also when the jobs are freed. */
typedef void (*wv_job_done_fn)(void *userdata);
/* From any thread: the loop's thread must call wv_jobs_deliver() soon. */
typedef void (*wv_jobs_wake_fn)(void *userdata);

/* No lane is served yet. */
int wv_jobs_new(struct wv_jobs **ret, wv_jobs_wake_fn wake, void *userdata);
/* One more thread for LANE, with TAKE_STORE (NULL: none). Returns 0 or a negative errno: then TAKE_STORE is
 * still the caller's. */
int wv_jobs_serve(struct wv_jobs *jobs, enum wv_lane lane, struct wv_store *take_store);
/* Runs what waits to its end, so that what was accepted is done; then closes the stores, the last one first.
 */
struct wv_jobs *wv_jobs_free(struct wv_jobs *jobs);

/* Returns 0, or -EAGAIN: the lane is full, or -ENOMEM; DONE is then not called. */
int wv_jobs_run(struct wv_jobs *jobs, enum wv_lane lane, wv_job_fn work, wv_job_done_fn done, void *userdata);
void wv_jobs_deliver(struct wv_jobs *jobs);
size_t wv_jobs_waiting(struct wv_jobs *jobs, enum wv_lane lane);
