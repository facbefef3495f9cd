/* Event loop of one thread: file descriptors (epoll), timers (timerfd, nanoseconds), signals (signalfd) and
 * ZeroMQ sockets (lib/ipc/bus.h sits on top). The only place of a stage that reads the clock. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct wv_loop;
struct wv_loop_source;

/* NOW is CLOCK_MONOTONIC in ns at the time the loop woke up. A negative return ends wv_loop_run() with it. */
typedef int (*wv_loop_fd_fn)(void *userdata, uint32_t epoll_events, uint64_t now);
typedef int (*wv_loop_timer_fn)(void *userdata, uint64_t now);
typedef int (*wv_loop_signal_fn)(void *userdata, int signal, uint64_t now);
/* Called after every wake-up, before sleeping again. Returns whether it must be called again without
 * sleeping. */
typedef bool (*wv_loop_prepare_fn)(void *userdata, uint64_t now);

int wv_loop_new(struct wv_loop **ret_loop);
/* Frees all sources; closes the descriptors that the loop made itself, not those it was given. Returns NULL.
 */
struct wv_loop *wv_loop_free(struct wv_loop *l);

/* Runs until wv_loop_quit() or a negative return of a callback. Returns the quit value or the error. */
int wv_loop_run(struct wv_loop *l);
void wv_loop_quit(struct wv_loop *l, int value);

/* Watches FD (not owned). RET_SOURCE may be NULL. Returns 0 or a negative errno. */
int wv_loop_add_fd(struct wv_loop *l, int fd, uint32_t epoll_events, wv_loop_fd_fn fn, void *userdata,
                   struct wv_loop_source **ret_source);
/* Watches an eventfd: it is read (drained) before FN is called with the count in epoll_events' place dropped.
 */
int wv_loop_add_eventfd(struct wv_loop *l, int fd, wv_loop_timer_fn fn, void *userdata,
                        struct wv_loop_source **ret_source);
int wv_loop_modify_fd(struct wv_loop_source *source, uint32_t epoll_events);
/* A timer, disarmed at first. */
int wv_loop_add_timer(struct wv_loop *l, wv_loop_timer_fn fn, void *userdata,
                      struct wv_loop_source **ret_source);
/* Fires once at the absolute time AT_NS (already past: at once); 0 disarms. Cheap when AT_NS did not change.
 */
void wv_loop_timer_at(struct wv_loop_source *timer, uint64_t at_ns);
/* The same for a stream of many deadlines: may fire up to SLACK_NS before or after AT_NS. Deadlines that
 * follow each other at one distance, below 2 ms, are then armed once for all of them: arming is what a timer
 * costs, most of all in a virtual machine. */
void wv_loop_timer_about(struct wv_loop_source *timer, uint64_t at_ns, uint64_t slack_ns);
/* Fires every PERIOD_NS, first after one period; 0 disarms. */
void wv_loop_timer_every(struct wv_loop_source *timer, uint64_t period_ns);
/* Blocks SIGNAL in the thread and delivers it through a signalfd. */
int wv_loop_add_signal(struct wv_loop *l, int signal, wv_loop_signal_fn fn, void *userdata);
int wv_loop_add_prepare(struct wv_loop *l, wv_loop_prepare_fn fn, void *userdata,
                        struct wv_loop_source **ret_source);
/* For a prepare callback's helpers: the prepare callbacks run once more before the loop sleeps. */
void wv_loop_again(struct wv_loop *l);
/* Safe inside any callback, also for the source that is being called. Returns NULL. */
struct wv_loop_source *wv_loop_remove(struct wv_loop_source *source);
