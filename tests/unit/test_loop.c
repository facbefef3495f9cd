/* The event loop: descriptors, timers, signals, removal inside callbacks. No test depends on how fast the
 * machine is. */
#include "lib/base/util.h"
#include "lib/ipc/loop.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

struct fixture {
    struct wv_loop *loop;
    struct wv_loop_source *sources[4];
    int calls[4];
    int fd;
    uint64_t now, wanted;
};

static struct fixture f;

static void set_up(void)
{
    f = (struct fixture){.fd = -1};
    ck_assert_int_eq(wv_loop_new(&f.loop), 0);
}

static void tear_down(void)
{
    ck_assert_ptr_null(wv_loop_free(f.loop));
    f.fd = wv_close(f.fd);
}

static int count_and_quit(void *userdata, uint64_t now)
{
    int *calls = userdata;
    ++*calls;
    f.now = now;
    wv_loop_quit(f.loop, 7);
    return 0;
}

START_TEST(timer_fires_once_at_its_time)
{
    ck_assert_int_eq(wv_loop_add_timer(f.loop, count_and_quit, &f.calls[0], &f.sources[0]), 0);
    f.wanted = wv_now_ns() + 3 * WV_NS_PER_MS;
    wv_loop_timer_at(f.sources[0], f.wanted);
    wv_loop_timer_at(f.sources[0], f.wanted); /* unchanged: still once */
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_uint_ge(f.now, f.wanted);
    ck_assert_int_eq(f.calls[0], 1);
    /* Set to the same past time again it fires again, at once. */
    wv_loop_timer_at(f.sources[0], f.wanted);
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_int_eq(f.calls[0], 2);
}
END_TEST

START_TEST(disarmed_timer_stays_silent)
{
    ck_assert_int_eq(wv_loop_add_timer(f.loop, count_and_quit, &f.calls[0], &f.sources[0]), 0);
    ck_assert_int_eq(wv_loop_add_timer(f.loop, count_and_quit, &f.calls[1], &f.sources[1]), 0);
    uint64_t now = wv_now_ns();
    wv_loop_timer_at(f.sources[0], now + WV_NS_PER_MS);
    wv_loop_timer_at(f.sources[0], 0);
    wv_loop_timer_at(f.sources[1], now + 5 * WV_NS_PER_MS);
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_int_eq(f.calls[0], 0);
    ck_assert_int_eq(f.calls[1], 1);
}
END_TEST

static int tick(void *userdata, uint64_t now)
{
    if (++f.calls[0] == 5)
        wv_loop_quit(f.loop, 0);
    return 0;
}

START_TEST(periodic_timer_goes_on)
{
    ck_assert_int_eq(wv_loop_add_timer(f.loop, tick, NULL, &f.sources[0]), 0);
    uint64_t before = wv_now_ns();
    wv_loop_timer_every(f.sources[0], WV_NS_PER_MS);
    ck_assert_int_eq(wv_loop_run(f.loop), 0);
    ck_assert_int_eq(f.calls[0], 5);
    ck_assert_uint_ge(wv_now_ns() - before, 1 * WV_NS_PER_MS);
}
END_TEST

#define STEP  (500 * WV_NS_PER_US)
#define SLACK (20 * WV_NS_PER_US)

/* Twenty deadlines at one distance, one that comes sooner and one later than that; then nothing more. */
static int next_deadline(void *userdata, uint64_t now)
{
    ck_assert_uint_ge(now + SLACK, f.wanted);
    f.calls[0]++;
    if (f.calls[0] == 22)
        return 0;
    f.wanted += f.calls[0] == 20 ? STEP / 5 : f.calls[0] == 21 ? 3 * STEP : STEP;
    wv_loop_timer_about(f.sources[0], f.wanted, SLACK);
    wv_loop_timer_about(f.sources[0], f.wanted + SLACK / 2, SLACK); /* about the same */
    return 0;
}

START_TEST(a_series_of_deadlines_fires_for_each_and_ends)
{
    ck_assert_int_eq(wv_loop_add_timer(f.loop, next_deadline, NULL, &f.sources[0]), 0);
    ck_assert_int_eq(wv_loop_add_timer(f.loop, count_and_quit, &f.calls[1], &f.sources[1]), 0);
    f.wanted = wv_now_ns() + STEP;
    wv_loop_timer_about(f.sources[0], f.wanted, SLACK);
    while (f.calls[0] < 22) {
        wv_loop_timer_at(f.sources[1], wv_now_ns() + 10 * WV_NS_PER_MS);
        ck_assert_int_eq(wv_loop_run(f.loop), 7);
        ck_assert_int_lt(f.calls[1], 1000);
    }
    ck_assert_int_eq(f.calls[0], 22);
    /* In the middle of a series it can be disarmed, and armed again as ever. */
    f.calls[0] = 0;
    f.wanted = wv_now_ns() + STEP;
    wv_loop_timer_about(f.sources[0], f.wanted, SLACK);
    wv_loop_timer_at(f.sources[0], 0);
    wv_loop_timer_at(f.sources[1], wv_now_ns() + 5 * WV_NS_PER_MS);
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_int_eq(f.calls[0], 0);
}
END_TEST

START_TEST(eventfd_is_drained_first)
{
    f.fd = eventfd(0, EFD_CLOEXEC); /* blocking: the loop must cope */
    ck_assert_int_ge(f.fd, 0);
    ck_assert_int_eq(wv_loop_add_eventfd(f.loop, f.fd, count_and_quit, &f.calls[0], NULL), 0);
    ck_assert_int_eq(eventfd_write(f.fd, 3), 0);
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_int_eq(f.calls[0], 1);
    eventfd_t left;
    ck_assert_int_eq(eventfd_read(f.fd, &left), -1);
    ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

static int fails(void *userdata, uint32_t events, uint64_t now)
{
    ck_assert(events & EPOLLIN);
    return -EIO;
}

START_TEST(error_of_a_callback_ends_the_run)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(wv_loop_add_fd(f.loop, ends[0], EPOLLIN, fails, NULL, &f.sources[0]), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(wv_loop_run(f.loop), -EIO);
    ck_assert_int_eq(wv_loop_add_fd(f.loop, ends[0], EPOLLIN, fails, NULL, NULL), -EEXIST);
    ck_assert_int_eq(wv_loop_add_fd(f.loop, -1, EPOLLIN, fails, NULL, NULL), -EBADF);
    wv_loop_remove(f.sources[0]);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

static int remove_all(void *userdata, uint64_t now)
{
    f.calls[0]++;
    for (unsigned i = 0; i < 3; i++)
        f.sources[i] = wv_loop_remove(f.sources[i]); /* this one, too */
    return 0;
}

START_TEST(removal_inside_a_callback)
{
    /* All three are due in the same round: the first one called removes every one. */
    int fds[3];
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        ck_assert_int_eq(wv_loop_add_eventfd(f.loop, fds[i], remove_all, NULL, &f.sources[i]), 0);
    }
    struct wv_loop_source *end;
    ck_assert_int_eq(wv_loop_add_timer(f.loop, count_and_quit, &f.calls[1], &end), 0);
    wv_loop_timer_at(end, wv_now_ns() + 5 * WV_NS_PER_MS);
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_int_eq(f.calls[0], 1);
    ck_assert_int_eq(f.calls[1], 1);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
}
END_TEST

static int on_signal(void *userdata, int signal, uint64_t now)
{
    ck_assert_int_eq(signal, SIGUSR1);
    wv_loop_quit(f.loop, 3);
    return 0;
}

START_TEST(signals_arrive_in_the_loop)
{
    ck_assert_int_eq(wv_loop_add_signal(f.loop, SIGUSR1, on_signal, NULL), 0);
    ck_assert_int_eq(wv_loop_add_signal(f.loop, SIGUSR1, on_signal, NULL), -EEXIST);
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
    ck_assert_int_eq(wv_loop_run(f.loop), 3);
}
END_TEST

static bool prepare_thrice(void *userdata, uint64_t now)
{
    if (++f.calls[0] < 3)
        return true; /* without sleeping: nothing else would wake the loop */
    wv_loop_quit(f.loop, 1);
    return false;
}

START_TEST(prepare_runs_again_without_sleeping)
{
    ck_assert_int_eq(wv_loop_add_prepare(f.loop, prepare_thrice, NULL, NULL), 0);
    ck_assert_int_eq(wv_loop_run(f.loop), 1);
    ck_assert_int_eq(f.calls[0], 3);
}
END_TEST

static bool prepare_asks_again(void *userdata, uint64_t now)
{
    if (++f.calls[1] == 2)
        wv_loop_quit(f.loop, 2);
    else
        wv_loop_again(f.loop);
    return false;
}

static bool prepare_removes_itself(void *userdata, uint64_t now)
{
    f.calls[0]++;
    f.sources[0] = wv_loop_remove(f.sources[0]);
    return false;
}

START_TEST(prepare_may_be_removed_and_asked_for)
{
    ck_assert_int_eq(wv_loop_add_prepare(f.loop, prepare_asks_again, NULL, NULL), 0);
    ck_assert_int_eq(wv_loop_add_prepare(f.loop, prepare_removes_itself, NULL, &f.sources[0]), 0);
    ck_assert_int_eq(wv_loop_run(f.loop), 2);
    ck_assert_int_eq(f.calls[0], 1);
    ck_assert_int_eq(f.calls[1], 2);
}
END_TEST

static int busy(void *userdata, uint32_t events, uint64_t now)
{
    f.calls[0]++;
    return 0;
}

START_TEST(busy_descriptor_does_not_starve_a_timer)
{
    f.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); /* always readable, never read */
    ck_assert_int_eq(wv_loop_add_fd(f.loop, f.fd, EPOLLIN, busy, NULL, NULL), 0);
    ck_assert_int_eq(wv_loop_add_timer(f.loop, count_and_quit, &f.calls[1], &f.sources[0]), 0);
    wv_loop_timer_at(f.sources[0], wv_now_ns() + 2 * WV_NS_PER_MS);
    ck_assert_int_eq(wv_loop_run(f.loop), 7);
    ck_assert_int_gt(f.calls[0], 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, timer_fires_once_at_its_time);
    tcase_add_test(t, disarmed_timer_stays_silent);
    tcase_add_test(t, periodic_timer_goes_on);
    tcase_add_test(t, a_series_of_deadlines_fires_for_each_and_ends);
    tcase_add_test(t, eventfd_is_drained_first);
    tcase_add_test(t, error_of_a_callback_ends_the_run);
    tcase_add_test(t, removal_inside_a_callback);
    tcase_add_test(t, signals_arrive_in_the_loop);
    tcase_add_test(t, prepare_runs_again_without_sleeping);
    tcase_add_test(t, prepare_may_be_removed_and_asked_for);
    tcase_add_test(t, busy_descriptor_does_not_starve_a_timer);
    return wv_run_suite(s);
}
