/* Lanes of threads with bounded queues. See jobs.h. */
#include "services/gateway/jobs.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct job {
    struct job *next;
    wv_job_fn work;
    wv_job_done_fn done;
    void *userdata;
};

struct queue {
    struct job *first, **last;
    size_t n;
};

struct lane {
    pthread_cond_t wanted;
    struct queue waiting;
    size_t max;
};

struct worker {
    struct wv_jobs *jobs;
    enum wv_lane lane;
    struct wv_store *store;
    pthread_t thread;
};

struct wv_jobs {
    pthread_mutex_t lock;
    struct lane lanes[WV_LANES];
    struct queue done;
    bool stopping;
    wv_jobs_wake_fn wake;
    void *userdata;
    size_t n;
    struct worker workers[WV_JOBS_THREADS];
};

static void put(struct queue *q, struct job *job)
{
    job->next = NULL;
    *q->last = job;
    q->last = &job->next;
    q->n++;
}

static struct job *take(struct queue *q)
{
    struct job *job = q->first;
    if (!job)
        return NULL;
    q->first = job->next;
    if (!q->first)
        q->last = &q->first;
    q->n--;
    return job;
}

static void *run_lane(void *userdata)
{
    struct worker *w = userdata;
    struct wv_jobs *jobs = w->jobs;
    struct lane *lane = &jobs->lanes[w->lane];
    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        struct job *job = take(&lane->waiting);
        if (!job) {
            if (jobs->stopping)
                break;
            pthread_cond_wait(&lane->wanted, &jobs->lock);
            continue;
        }
        pthread_mutex_unlock(&jobs->lock);
        job->work(job->userdata, w->store);
        pthread_mutex_lock(&jobs->lock);
        bool first = !jobs->done.first;
        put(&jobs->done, job);
        if (first)
            jobs->wake(jobs->userdata);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

static void stop(struct wv_jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    for (int i = 0; i < WV_LANES; i++)
        pthread_cond_broadcast(&jobs->lanes[i].wanted);
    pthread_mutex_unlock(&jobs->lock);
    for (size_t i = 0; i < jobs->n; i++)
        pthread_join(jobs->workers[i].thread, NULL);
}

int wv_jobs_new(struct wv_jobs **ret, wv_jobs_wake_fn wake, void *userdata)
{
    struct wv_jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs)
        return -ENOMEM;
    jobs->wake = wake;
    jobs->userdata = userdata;
    pthread_mutex_init(&jobs->lock, NULL);
    jobs->done.last = &jobs->done.first;
    for (int i = 0; i < WV_LANES; i++) {
        pthread_cond_init(&jobs->lanes[i].wanted, NULL);
        jobs->lanes[i].waiting.last = &jobs->lanes[i].waiting.first;
    }
    jobs->lanes[WV_LANE_STORE].max = WV_JOBS_STORE_MAX;
    jobs->lanes[WV_LANE_ASK].max = WV_JOBS_ASK_MAX;
    jobs->lanes[WV_LANE_SLOW].max = WV_JOBS_SLOW_MAX;
    *ret = jobs;
    return 0;
}

int wv_jobs_serve(struct wv_jobs *jobs, enum wv_lane lane, struct wv_store *take_store)
{
    if (jobs->n == WV_JOBS_THREADS)
        return -ENOBUFS;
    struct worker *w = &jobs->workers[jobs->n];
    *w = (struct worker){.jobs = jobs, .lane = lane, .store = take_store};
    int r = pthread_create(&w->thread, NULL, run_lane, w);
    if (r != 0)
        return -r;
    jobs->n++;
    return 0;
}

struct wv_jobs *wv_jobs_free(struct wv_jobs *jobs)
{
    if (!jobs)
        return NULL;
    stop(jobs);
    wv_jobs_deliver(jobs);
    while (jobs->n)
        wv_store_close(jobs->workers[--jobs->n].store);
    for (int i = 0; i < WV_LANES; i++)
        pthread_cond_destroy(&jobs->lanes[i].wanted);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
    return NULL;
}

int wv_jobs_run(struct wv_jobs *jobs, enum wv_lane lane, wv_job_fn work, wv_job_done_fn done, void *userdata)
{
    struct lane *l = &jobs->lanes[lane];
    struct job *job = malloc(sizeof *job);
    if (!job)
        return -ENOMEM;
    *job = (struct job){.work = work, .done = done, .userdata = userdata};
    pthread_mutex_lock(&jobs->lock);
    bool full = l->waiting.n >= l->max || jobs->stopping;
    if (!full) {
        put(&l->waiting, job);
        pthread_cond_signal(&l->wanted);
    }
    pthread_mutex_unlock(&jobs->lock);
    if (full)
        free(job);
    return full ? -EAGAIN : 0;
}

void wv_jobs_deliver(struct wv_jobs *jobs)
{
    for (;;) {
        pthread_mutex_lock(&jobs->lock);
        struct job *job = take(&jobs->done);
        pthread_mutex_unlock(&jobs->lock);
        if (!job)
            return;
        job->done(job->userdata);
        free(job);
    }
}

size_t wv_jobs_waiting(struct wv_jobs *jobs, enum wv_lane lane)
{
    pthread_mutex_lock(&jobs->lock);
    size_t n = jobs->lanes[lane].waiting.n;
    pthread_mutex_unlock(&jobs->lock);
    return n;
}
