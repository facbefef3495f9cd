/* See health.h. */
#include "services/gateway/health.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/gateway/metrics.h"

#include <errno.h>
#include <string.h>

/* On a disk that is nearly full a small write works and a large one does not, in turns. */
#define WINDOW_NS (60 * WV_NS_PER_S)
#define LINES_MAX 4
/* For so long after a change was refused one that was taken says nothing: there was room for less, or it came
 * over another connection. */
#define DOUBT_NS (2 * WV_NS_PER_S)

void wv_health_init(struct wv_health *h)
{
    memset(h, 0, sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
}

void wv_health_fini(struct wv_health *h)
{
    pthread_mutex_destroy(&h->lock);
}

enum wv_refusal wv_health_refusal(int r)
{
    switch (r) {
    case -EROFS:
    case -EACCES:
        return WV_REFUSE_STORE_READ_ONLY;
    case -ENOSPC:
        return WV_REFUSE_STORE_FULL;
    case -EBUSY:
    case -ENOTCONN:
    case -ECONNREFUSED:
        return WV_REFUSE_STORE_AWAY;
    default:
        return WV_REFUSE_STORE_FAILED;
    }
}

bool wv_health_is_about_writes(int r)
{
    return r == -EROFS || r == -EACCES || r == -ENOSPC;
}

/* Whether the log is told that it is R now: once for every change, and not more often than that somebody can
 * read it. */
static bool may_say(struct wv_health *h, int r, uint64_t now)
{
    if (r == h->said)
        return false;
    if (!h->lines || now - h->window_ns >= WINDOW_NS) {
        h->window_ns = now;
        h->lines = 0;
    }
    if (h->lines >= LINES_MAX)
        return false;
    h->lines++;
    h->said = r;
    return true;
}

void wv_health_failed(struct wv_health *h, struct wv_metrics *metrics, int r, const char *reason,
                      uint64_t now)
{
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->error, r);
    atomic_store(&h->failed_ns, now);
    bool say = may_say(h, r, now);
    pthread_mutex_unlock(&h->lock);
    wv_metric_set(metrics, WV_G_STORE_WRITABLE, 0);
    if (say)
        wv_error("the database refuses", "error=\"%s\" reason=\"%s\" do=\"%s\"", strerror(-r), reason,
                 wv_store_advice(r));
}

void wv_health_worked(struct wv_health *h, struct wv_metrics *metrics, bool wrote, uint64_t now)
{
    int error = atomic_load(&h->error);
    if (wrote) {
        atomic_store(&h->wrote_ns, now);
        if (error == 0)
            wv_metric_set(metrics, WV_G_STORE_WRITABLE, 1);
    }
    if ((error == 0 && atomic_load(&h->said) == 0) ||
        (error != 0 && !wrote && wv_health_refusal(error) != WV_REFUSE_STORE_AWAY))
        return; /* a server that is away is back with the first answer; the rest is over with a write */
    if (wv_health_is_about_writes(error) && now - atomic_load(&h->failed_ns) < DOUBT_NS)
        return;
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->error, 0);
    bool say = may_say(h, 0, now);
    pthread_mutex_unlock(&h->lock);
    wv_metric_set(metrics, WV_G_STORE_WRITABLE, 1);
    if (say)
        wv_notice("the database takes everything again", "writable=%d", 1);
}

int wv_health_error(struct wv_health *h)
{
    return atomic_load(&h->error);
}

bool wv_health_refuses_writes(struct wv_health *h)
{
    return wv_health_is_about_writes(atomic_load(&h->error));
}

bool wv_health_is_doubtful(struct wv_health *h, uint64_t now)
{
    uint64_t wrote = atomic_load(&h->wrote_ns), failed = atomic_load(&h->failed_ns);
    if (atomic_load(&h->error) == 0)
        return now - wrote >= WV_HEALTH_FRESH_S * WV_NS_PER_S;
    return wrote < failed || now - failed >= DOUBT_NS; /* else one trial was enough for now */
}
