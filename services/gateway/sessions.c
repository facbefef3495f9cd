/* What hosts said of their sessions. See sessions.h. */
#include "services/gateway/sessions.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

struct host {
    struct wv_session_report *report;
    uint64_t heard;
};

/* Sorted by key, for few hosts have sessions at a time. */
struct wv_sessions {
    struct host *hosts;
    size_t n, max, capacity, sessions;
};

int wv_sessions_new(struct wv_sessions **ret, size_t hosts_max)
{
    struct wv_sessions *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->max = hosts_max;
    *ret = s;
    return 0;
}

struct wv_sessions *wv_sessions_free(struct wv_sessions *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->n; i++)
        free(s->hosts[i].report);
    free(s->hosts);
    free(s);
    return NULL;
}

/* Where KEY is, or belongs. */
static size_t place_of(const struct wv_sessions *s, const uint8_t key[WV_STORE_KEY_BYTES], bool *ret_found)
{
    size_t from = 0, to = s->n;
    *ret_found = false;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = memcmp(s->hosts[middle].report->host, key, WV_STORE_KEY_BYTES);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static void remove_at(struct wv_sessions *s, size_t at)
{
    s->sessions -= s->hosts[at].report->n;
    free(s->hosts[at].report);
    s->n--;
    memmove(&s->hosts[at], &s->hosts[at + 1], (s->n - at) * sizeof *s->hosts);
}

static int make_room(struct wv_sessions *s, size_t at)
{
    if (s->n >= s->max)
        return -ENOBUFS;
    if (s->n == s->capacity) {
        size_t capacity = WV_MAX((size_t)16, 2 * s->capacity);
        struct host *hosts = realloc(s->hosts, capacity * sizeof *hosts);
        if (!hosts)
            return -ENOMEM;
        s->hosts = hosts;
        s->capacity = capacity;
    }
    memmove(&s->hosts[at + 1], &s->hosts[at], (s->n - at) * sizeof *s->hosts);
    s->n++;
    return 0;
}

int wv_sessions_report(struct wv_sessions *s, const struct wv_session_report *report, uint64_t now)
{
    bool found;
    size_t at = place_of(s, report->host, &found);
    if (report->n == 0 || report->n > WV_SESSIONS_PER_HOST) {
        if (found)
            remove_at(s, at);
        return 0;
    }
    /* Only as large as it must be: most hosts have one session. */
    size_t size = offsetof(struct wv_session_report, sessions) + report->n * sizeof report->sessions[0];
    struct wv_session_report *copy = malloc(size);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, report, size);
    int r = found ? 0 : make_room(s, at);
    if (r < 0) {
        free(copy);
        return r;
    }
    if (found) {
        s->sessions -= s->hosts[at].report->n;
        free(s->hosts[at].report);
    }
    s->hosts[at] = (struct host){.report = copy, .heard = now};
    s->sessions += copy->n;
    return 0;
}

void wv_sessions_forget(struct wv_sessions *s, const uint8_t host[WV_STORE_KEY_BYTES])
{
    bool found;
    size_t at = place_of(s, host, &found);
    if (found)
        remove_at(s, at);
}

void wv_sessions_tick(struct wv_sessions *s, uint64_t now)
{
    for (size_t i = s->n; i-- > 0;)
        if (now - s->hosts[i].heard >= WV_SESSIONS_SILENCE_S * WV_NS_PER_S)
            remove_at(s, i);
}

void wv_sessions_each(const struct wv_sessions *s, const char *account, wv_sessions_fn each, void *userdata)
{
    for (size_t i = 0; i < s->n; i++)
        if (!account || !strcmp(account, s->hosts[i].report->account))
            each(userdata, s->hosts[i].report);
}

size_t wv_sessions_count(const struct wv_sessions *s)
{
    return s->sessions;
}
