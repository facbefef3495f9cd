/* The test pattern through the whole engine: it moves, it says only what moved, and it rests when nobody
 * watches. */
#include "services/capture/stream.h"
#include "tests/unit/capture_kit.h"
#include "tests/unit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

struct fixture {
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_stream *stream;
    struct capture_ring ring;
    int event;
    uint64_t wanted;
    char status[160];
};

static void on_status(void *userdata, const char *text)
{
    struct fixture *f = userdata;

    snprintf(f->status, sizeof(f->status), "%s", text);
}

static void no_move(void *userdata, const struct wv_cursor_state *state)
{
    ck_abort_msg("a pattern has no pointer");
}

static void no_shape(void *userdata, const struct wv_cursor_image *image)
{
    ck_abort_msg("a pattern has no pointer");
}

static void fixture_open(struct fixture *f, uint32_t fps, enum wv_stream_source source)
{
    struct wv_stream_options options = {.max_fps = fps, .pattern_width = 320, .pattern_height = 240};

    *f = (struct fixture){.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    unsetenv("DISPLAY");
    ck_assert_int_eq(wv_loop_new(&f->loop), 0);
    ck_assert_int_eq(wv_metrics_new(&f->metrics, -1, "capture", wv_stream_metrics, WV_STREAM_N_METRICS), 0);
    capture_ring_open(&f->ring, 320, 240);
    options.loop = f->loop;
    options.ring = f->ring.producer;
    options.metrics = f->metrics;
    options.publish_event = f->event;
    options.source = source;
    options.cursor = (struct wv_cursor_handler){no_move, no_shape, NULL};
    options.status = on_status;
    options.userdata = f;
    ck_assert_int_eq(wv_stream_new(&f->stream, &options), 0);
}

static void fixture_close(struct fixture *f)
{
    wv_stream_free(f->stream);
    wv_metrics_free(f->metrics);
    wv_loop_free(f->loop);
    capture_ring_close(&f->ring);
    close(f->event);
}

static uint64_t frames(const struct fixture *f)
{
    return wv_metric_value(f->metrics, WV_STREAM_FRAMES);
}

static bool enough(void *userdata)
{
    struct fixture *f = userdata;

    return frames(f) >= f->wanted;
}

START_TEST(it_moves)
{
    struct fixture f;
    uint64_t events, area = 0;
    static uint8_t before[320 * 240];
    size_t bytes = sizeof(before);

    fixture_open(&f, 60, WV_STREAM_PATTERN);
    f.wanted = 2;
    ck_assert(run_until(f.loop, enough, &f));
    ck_assert(capture_ring_take(&f.ring));
    ck_assert_uint_eq(f.ring.header.width, 320);
    ck_assert_uint_eq(f.ring.header.height, 240);
    memcpy(before, f.ring.pixels, bytes);
    f.wanted = frames(&f) + 3;
    ck_assert(run_until(f.loop, enough, &f));
    ck_assert(capture_ring_take(&f.ring));
    ck_assert_int_ne(memcmp(before, f.ring.pixels, bytes), 0);
    ck_assert_uint_gt(f.ring.header.n_damage, 0);
    for (uint32_t i = 0; i < f.ring.header.n_damage; i++)
        area += (uint64_t)f.ring.header.damage[i].width * (uint64_t)f.ring.header.damage[i].height;
    ck_assert_uint_lt(area, 320 * 240 / 2);
    ck_assert_int_eq(read(f.event, &events, sizeof(events)), sizeof(events));
    ck_assert_uint_eq(events, frames(&f));
    ck_assert_str_eq(f.status, "capturing the test pattern 320x240");
    fixture_close(&f);
}
END_TEST

START_TEST(automatic_without_a_display)
{
    struct fixture f;

    fixture_open(&f, 60, WV_STREAM_AUTO);
    f.wanted = 1;
    ck_assert(run_until(f.loop, enough, &f));
    fixture_close(&f);
}
END_TEST

/* What is in the ring is what the pattern shows, whatever slot it went through. */
START_TEST(every_size_draws_inside)
{
    static const uint32_t sizes[][2] = {{64, 64}, {7680, 64}, {64, 4320}, {640, 360}, {1366, 768}};
    struct wv_source *s;

    for (size_t i = 0; i < WV_ARRAY_SIZE(sizes); i++) {
        ck_assert_int_eq(wv_source_pattern_open(&s, sizes[i][0], sizes[i][1], 60), 0);
        s->ops->watch(s, true, 0);
        for (uint64_t now = 0; now < 300 * 20 * WV_NS_PER_MS; now += 20 * WV_NS_PER_MS) {
            ck_assert_int_eq(s->ops->process(s, now), 0);
            ck_assert_int_eq(s->ops->request(s, now), 0);
            ck_assert(s->ready);
            s->ready = false;
        }
        s->ops->free(s);
    }
    ck_assert_int_lt(wv_source_pattern_open(&s, 0, 0, 60), 0);
    ck_assert_int_lt(wv_source_pattern_open(&s, 321, 240, 60), 0);
    ck_assert_int_lt(wv_source_pattern_open(&s, 100000, 240, 60), 0);
}
END_TEST

START_TEST(nobody_watches)
{
    struct fixture f;
    uint64_t before;

    fixture_open(&f, 60, WV_STREAM_PATTERN);
    f.wanted = 2;
    ck_assert(run_until(f.loop, enough, &f));
    ck_assert_int_eq(wv_stream_target(f.stream, 60, 0, wv_now_ns()), 0);
    before = frames(&f);
    run_for(f.loop, 100 * WV_NS_PER_MS);
    ck_assert_uint_eq(frames(&f), before);
    ck_assert_str_eq(f.status, "nobody watches the test pattern 320x240");
    capture_ring_take(&f.ring);
    ck_assert_int_eq(wv_stream_target(f.stream, 60, 1, wv_now_ns()), 0);
    ck_assert_uint_eq(frames(&f), before + 1); /* at once, without a turn of the loop */
    ck_assert(capture_ring_take(&f.ring));
    fixture_close(&f);
}
END_TEST

START_TEST(the_rate_is_kept)
{
    struct fixture f;
    uint64_t before, start, elapsed_ms;

    fixture_open(&f, 200, WV_STREAM_PATTERN);
    ck_assert_int_eq(wv_stream_target(f.stream, 20, 1, wv_now_ns()), 0);
    before = frames(&f);
    start = wv_now_ns();
    run_for(f.loop, 400 * WV_NS_PER_MS);
    elapsed_ms = (wv_now_ns() - start) / WV_NS_PER_MS;
    ck_assert_uint_le(frames(&f) - before, elapsed_ms * 20 / 1000 + 2);
    fixture_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("capture pattern");
    TCase *pattern = tcase_create("pattern");

    tcase_set_timeout(pattern, 120);
    tcase_add_test(pattern, it_moves);
    tcase_add_test(pattern, automatic_without_a_display);
    tcase_add_test(pattern, every_size_draws_inside);
    tcase_add_test(pattern, nobody_watches);
    tcase_add_test(pattern, the_rate_is_kept);
    suite_add_tcase(suite, pattern);
    return wv_run_suite(suite);
}
