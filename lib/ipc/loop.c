/* The event loop: epoll over descriptors, timerfds and signalfds. Never allocates while it runs, never frees
 * a source under a callback: what is removed is parked until the round is over. */
#include "lib/ipc/loop.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define EVENTS_PER_ROUND 32
#define SERIES_STEP_NS   (2 * WV_NS_PER_MS) /* deadlines further apart are armed one by one */

enum source_kind { SOURCE_FD, SOURCE_EVENTFD, SOURCE_TIMER, SOURCE_SIGNAL, SOURCE_PREPARE };

struct wv_loop_source {
    struct wv_loop *loop;
    struct wv_loop_source *previous, *next; /* of the loop's list of its kind, or of the parked */
    enum source_kind kind;
    bool dead;
    int fd;
    int signal;
    uint64_t at_ns, period_ns; /* as the timerfd is set now: when it fires next */
    uint64_t asked_ns,
        step_ns;         /* the last deadline of wv_loop_timer_about(), and how far after the one before */
    bool series, wanted; /* periodic because deadlines are; the next of them was asked for */
    union {
        wv_loop_fd_fn fd;
        wv_loop_timer_fn timer; /* also of an eventfd */
        wv_loop_signal_fn signal;
        wv_loop_prepare_fn prepare;
    } fn;
    void *userdata;
};

struct wv_loop {
    int epoll_fd;
    bool running, preparing, again, quitting;
    int quit_value;
    struct wv_loop_source *sources, *prepares, *parked;
};

int wv_loop_new(struct wv_loop **ret_loop)
{
    struct wv_loop *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd < 0) {
        int r = -errno;
        free(l);
        return r;
    }
    *ret_loop = l;
    return 0;
}

static void free_parked(struct wv_loop *l)
{
    while (l->parked) {
        struct wv_loop_source *source = l->parked;
        l->parked = source->next;
        free(source);
    }
}

struct wv_loop *wv_loop_free(struct wv_loop *l)
{
    if (!l)
        return NULL;
    while (l->sources)
        wv_loop_remove(l->sources);
    while (l->prepares)
        wv_loop_remove(l->prepares);
    free_parked(l);
    wv_close(l->epoll_fd);
    free(l);
    return NULL;
}

static int drain_counter(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    if (n == (ssize_t)sizeof(count))
        return 0;
    return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 1;
}

static int dispatch_signal(struct wv_loop_source *source, uint64_t now)
{
    struct signalfd_siginfo info;
    ssize_t n = read(source->fd, &info, sizeof(info));
    if (n != (ssize_t)sizeof(info))
        return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
    return source->fn.signal(source->userdata, source->signal, now);
}

static void set_timer(struct wv_loop_source *timer, uint64_t at_ns, uint64_t period_ns, int flags);

/* A series fired. Returns whether anybody asked for this one; else the series is over. */
static bool took_deadline(struct wv_loop_source *timer, uint64_t now)
{
    bool wanted = timer->wanted;
    timer->wanted = false;
    while (timer->at_ns <= now)
        timer->at_ns += timer->period_ns;
    if (!wanted)
        set_timer(timer, 0, 0, 0);
    return wanted;
}

static int dispatch(struct wv_loop_source *source, uint32_t events, uint64_t now)
{
    int r;
    switch (source->kind) {
    case SOURCE_FD:
        return source->fn.fd(source->userdata, events, now);
    case SOURCE_TIMER:
        r = drain_counter(source->fd);
        if (r != 0) /* positive: it was set anew since it fired */
            return r < 0 ? r : 0;
        if (source->series && !took_deadline(source, now))
            return 0;
        if (source->period_ns == 0)
            source->at_ns = 0;
        return source->fn.timer(source->userdata, now);
    case SOURCE_EVENTFD:
        r = drain_counter(source->fd);
        return r == 0 ? source->fn.timer(source->userdata, now) : (r < 0 ? r : 0);
    case SOURCE_SIGNAL:
        return dispatch_signal(source, now);
    case SOURCE_PREPARE:
        break;
    }
    return 0;
}

/* Runs the prepare callbacks. Returns whether they want the next wake-up at once. */
static bool prepare(struct wv_loop *l, uint64_t now)
{
    l->preparing = true;
    l->again = false;
    struct wv_loop_source *next;
    for (struct wv_loop_source *source = l->prepares; source; source = next) {
        bool more = !source->dead && source->fn.prepare(source->userdata, now);
        if (more)
            l->again = true;
        next = source->next;
        if (source
                ->dead) { /* its link now leads through the parked: start over, the rest runs twice at most */
            l->again = true;
            break;
        }
    }
    l->preparing = false;
    return l->again;
}

static int run_round(struct wv_loop *l, uint64_t *now)
{
    bool again = prepare(l, *now);
    free_parked(l);
    if (l->quitting)
        return 0;
    struct epoll_event events[EVENTS_PER_ROUND];
    int n = epoll_wait(l->epoll_fd, events, EVENTS_PER_ROUND, again ? 0 : -1);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    *now = wv_now_ns();
    int r = 0;
    for (int i = 0; i < n && r >= 0 && !l->quitting; i++) {
        struct wv_loop_source *source = events[i].data.ptr;
        if (!source->dead)
            r = dispatch(source, events[i].events, *now);
    }
    return r < 0 ? r : 0;
}

int wv_loop_run(struct wv_loop *l)
{
    int r = 0;
    uint64_t now = wv_now_ns();
    l->running = true;
    while (r >= 0 && !l->quitting)
        r = run_round(l, &now);
    l->running = false;
    free_parked(l);
    if (r >= 0)
        r = l->quit_value;
    l->quitting = false;
    return r;
}

void wv_loop_quit(struct wv_loop *l, int value)
{
    l->quitting = true;
    l->quit_value = value;
}

void wv_loop_again(struct wv_loop *l)
{
    if (l->preparing) /* else the prepare callbacks run before the next sleep anyway */
        l->again = true;
}

static int source_new(struct wv_loop *l, enum source_kind kind, int fd, void *userdata,
                      struct wv_loop_source **ret_source)
{
    struct wv_loop_source *source = calloc(1, sizeof(*source));
    if (!source)
        return -ENOMEM;
    source->loop = l;
    source->kind = kind;
    source->fd = fd;
    source->userdata = userdata;
    struct wv_loop_source **list = kind == SOURCE_PREPARE ? &l->prepares : &l->sources;
    source->next = *list;
    if (*list)
        (*list)->previous = source;
    *list = source;
    *ret_source = source;
    return 0;
}

/* Makes the source and has epoll watch its descriptor. */
static int watch(struct wv_loop *l, enum source_kind kind, int fd, uint32_t events, void *userdata,
                 struct wv_loop_source **ret_source)
{
    struct wv_loop_source *source;
    int r = source_new(l, kind, fd, userdata, &source);
    if (r < 0)
        return r;
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        r = -errno;
        source->kind = SOURCE_FD; /* the descriptor is still the caller's */
        source->fd = -1;
        wv_loop_remove(source);
        return r;
    }
    *ret_source = source;
    return 0;
}

int wv_loop_add_fd(struct wv_loop *l, int fd, uint32_t epoll_events, wv_loop_fd_fn fn, void *userdata,
                   struct wv_loop_source **ret_source)
{
    struct wv_loop_source *source;
    int r = watch(l, SOURCE_FD, fd, epoll_events, userdata, &source);
    if (r < 0)
        return r;
    source->fn.fd = fn;
    if (ret_source)
        *ret_source = source;
    return 0;
}

int wv_loop_add_eventfd(struct wv_loop *l, int fd, wv_loop_timer_fn fn, void *userdata,
                        struct wv_loop_source **ret_source)
{
    /* Somebody else may drain it between epoll's word and our read. */
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
        return -errno;
    struct wv_loop_source *source;
    int r = watch(l, SOURCE_EVENTFD, fd, EPOLLIN, userdata, &source);
    if (r < 0)
        return r;
    source->fn.timer = fn;
    if (ret_source)
        *ret_source = source;
    return 0;
}

int wv_loop_modify_fd(struct wv_loop_source *source, uint32_t epoll_events)
{
    struct epoll_event event = {.events = epoll_events, .data.ptr = source};
    return epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

int wv_loop_add_timer(struct wv_loop *l, wv_loop_timer_fn fn, void *userdata,
                      struct wv_loop_source **ret_source)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    struct wv_loop_source *source;
    int r = watch(l, SOURCE_TIMER, fd, EPOLLIN, userdata, &source);
    if (r < 0) {
        wv_close(fd);
        return r;
    }
    source->fn.timer = fn;
    if (ret_source)
        *ret_source = source;
    return 0;
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / WV_NS_PER_S), .tv_nsec = (long)(ns % WV_NS_PER_S)};
}

static void set_timer(struct wv_loop_source *timer, uint64_t at_ns, uint64_t period_ns, int flags)
{
    if (timer->at_ns == at_ns && timer->period_ns == period_ns)
        return;
    struct itimerspec spec = {.it_value = to_timespec(at_ns), .it_interval = to_timespec(period_ns)};
    /* Fails only for a time that is no time, which to_timespec() can't make of less than 2^63 s. */
    timerfd_settime(timer->fd, flags, &spec, NULL);
    timer->at_ns = at_ns;
    timer->period_ns = period_ns;
    timer->series = false;
}

void wv_loop_timer_at(struct wv_loop_source *timer, uint64_t at_ns)
{
    set_timer(timer, at_ns, 0, TFD_TIMER_ABSTIME);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

void wv_loop_timer_about(struct wv_loop_source *timer, uint64_t at_ns, uint64_t slack_ns)
{
    bool next = at_ns > timer->asked_ns + slack_ns; /* not merely the same one again */
    uint64_t step = next ? at_ns - timer->asked_ns : timer->step_ns;
    bool steady = step < SERIES_STEP_NS && distance(step, timer->step_ns) <= slack_ns;
    if (next)
        timer->asked_ns = at_ns;
    timer->step_ns = step;
    timer->wanted = true;
    if (timer->at_ns && distance(at_ns, timer->at_ns) <= slack_ns)
        return;
    timer->asked_ns = at_ns;
    set_timer(timer, at_ns, steady ? step : 0, TFD_TIMER_ABSTIME);
    timer->series = steady;
}

void wv_loop_timer_every(struct wv_loop_source *timer, uint64_t period_ns)
{
    set_timer(timer, period_ns, period_ns, 0);
}

int wv_loop_add_signal(struct wv_loop *l, int signal, wv_loop_signal_fn fn, void *userdata)
{
    for (struct wv_loop_source *source = l->sources; source; source = source->next)
        if (source->kind == SOURCE_SIGNAL && source->signal == signal)
            return -EEXIST;
    sigset_t set;
    sigemptyset(&set);
    if (sigaddset(&set, signal) < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    struct wv_loop_source *source;
    int r = watch(l, SOURCE_SIGNAL, fd, EPOLLIN, userdata, &source);
    if (r < 0) {
        wv_close(fd);
        return r;
    }
    source->signal = signal;
    source->fn.signal = fn;
    return 0;
}

int wv_loop_add_prepare(struct wv_loop *l, wv_loop_prepare_fn fn, void *userdata,
                        struct wv_loop_source **ret_source)
{
    struct wv_loop_source *source;
    int r = source_new(l, SOURCE_PREPARE, -1, userdata, &source);
    if (r < 0)
        return r;
    source->fn.prepare = fn;
    if (ret_source)
        *ret_source = source;
    return 0;
}

struct wv_loop_source *wv_loop_remove(struct wv_loop_source *source)
{
    if (!source || source->dead)
        return NULL;
    struct wv_loop *l = source->loop;
    if (source->fd >= 0) /* a descriptor that its owner closed already has left epoll by itself */
        epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    if (source->kind == SOURCE_TIMER || source->kind == SOURCE_SIGNAL)
        wv_close(source->fd);
    if (source->previous)
        source->previous->next = source->next;
    else if (source->kind == SOURCE_PREPARE)
        l->prepares = source->next;
    else
        l->sources = source->next;
    if (source->next)
        source->next->previous = source->previous;
    source->dead = true;
    source->fd = -1;
    source->previous = NULL;
    source->next = l->parked;
    l->parked = source;
    if (!l->running)
        free_parked(l);
    return NULL;
}
