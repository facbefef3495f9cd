#include "tests/unit/capture_kit.h"

#include "services/capture/convert.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

void capture_ring_open(struct capture_ring *k, uint32_t max_width, uint32_t max_height)
{
    *k = (struct capture_ring){0};
    ck_assert_int_eq(wv_ring_create(max_width, max_height, &k->fds[0], &k->fds[1]), 0);
    k->fds[2] = wv_memfd_reopen_read_only(k->fds[0]);
    k->fds[3] = wv_memfd_reopen_read_only(k->fds[1]);
    ck_assert_int_eq(wv_ring_producer_new(&k->producer, k->fds[0], k->fds[3]), 0);
    ck_assert_int_eq(wv_ring_consumer_new(&k->consumer, k->fds[2], k->fds[1]), 0);
}

void capture_ring_close(struct capture_ring *k)
{
    wv_ring_producer_free(k->producer);
    wv_ring_consumer_free(k->consumer);
    for (int i = 0; i < 4; i++)
        wv_close(k->fds[i]);
}

bool capture_ring_take(struct capture_ring *k)
{
    int r = wv_ring_acquire(k->consumer, &k->header, &k->pixels);

    ck_assert_int_ne(r, WV_RING_BAD);
    return r == 0;
}

bool capture_ring_equals(const struct capture_ring *k, const uint8_t *bgrx, uint32_t stride)
{
    const struct wv_frame_header *h = &k->header;
    struct wv_rect all = {0, 0, (int32_t)h->width, (int32_t)h->height};
    wv_cleanup(wv_free_p) uint8_t *expected = calloc(1, (size_t)h->stride * h->height * 3 / 2);

    wv_convert_rect(bgrx, stride, expected, h->stride, h->height, all);
    for (uint32_t row = 0; row < h->height * 3 / 2; row++)
        if (memcmp(expected + (size_t)row * h->stride, k->pixels + (size_t)row * h->stride, h->width))
            return false;
    return true;
}

struct waiting {
    struct wv_loop *loop;
    bool (*done)(void *userdata);
    void *userdata;
    uint64_t deadline_ns;
};

enum { QUIT_DONE = 1, QUIT_LATE = 2 };

static int on_check(void *userdata, uint64_t now)
{
    struct waiting *w = userdata;

    if (w->done && w->done(w->userdata))
        wv_loop_quit(w->loop, QUIT_DONE);
    else if (now >= w->deadline_ns)
        wv_loop_quit(w->loop, QUIT_LATE);
    return 0;
}

static int run(struct wv_loop *loop, bool (*done)(void *), void *userdata, uint64_t ns)
{
    struct waiting w = {loop, done, userdata, wv_now_ns() + ns};
    struct wv_loop_source *timer;
    int r;

    ck_assert_int_eq(wv_loop_add_timer(loop, on_check, &w, &timer), 0);
    wv_loop_timer_every(timer, 2 * WV_NS_PER_MS);
    r = wv_loop_run(loop);
    ck_assert_int_ge(r, 0);
    wv_loop_remove(timer);
    return r;
}

bool run_until(struct wv_loop *loop, bool (*done)(void *userdata), void *userdata)
{
    return run(loop, done, userdata, 20 * WV_NS_PER_S) == QUIT_DONE;
}

void run_for(struct wv_loop *loop, uint64_t ns)
{
    run(loop, NULL, NULL, ns);
}
