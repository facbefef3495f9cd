/* Capture of a real X server: what is drawn is what lies in the ring, nothing is lost, whatever way the
 * pixels come; and the display may change its size, hang, or go away and come back. */
#include "lib/ipc/input_page.h"
#include "services/capture/convert.h"
#include "services/capture/painter.h"
#include "services/capture/stream.h"
#include "tests/unit/capture_kit.h"
#include "tests/unit/suite.h"
#include "tests/unit/x11_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xcb/randr.h>
#include <xcb/xtest.h>

/* ---- the source by itself ---- */

struct direct {
    struct x11_server server;
    struct x11_drawer drawer;
    struct wv_source *source;
    struct wv_painter painter;
    struct capture_ring ring;
};

static void direct_open(struct direct *d, const char *screen, unsigned transports)
{
    struct wv_x11_options options = {.transports = transports};
    char reason[160] = "";

    d->server = x11_server_start(screen, -1, NULL);
    d->drawer = x11_drawer_open(&d->server);
    capture_ring_open(&d->ring, 800, 600);
    wv_painter_init(&d->painter, d->ring.producer);
    options.display = d->server.name;
    ck_assert_msg(wv_source_x11_open(&d->source, &options, reason, sizeof(reason)) == 0, "%s", reason);
    if (transports)
        ck_assert_uint_eq((unsigned)wv_source_x11_transport(d->source), transports);
    ck_assert_int_eq(d->source->ops->watch(d->source, true, 1), 0);
}

static void direct_close(struct direct *d)
{
    d->source->ops->free(d->source);
    capture_ring_close(&d->ring);
    x11_drawer_close(&d->drawer);
    x11_server_stop(&d->server);
}

/* Takes what is ready, asks for what pends. Returns whether something was done. */
static bool turn(struct direct *d)
{
    struct wv_source *s = d->source;
    struct wv_frame_header header = {.capture_ns = 1};

    ck_assert_int_eq(s->ops->process(s, wv_now_ns()), 0);
    if (s->ready) {
        if (d->painter.width != s->picture.width || d->painter.height != s->picture.height)
            ck_assert_int_eq(wv_painter_set_size(&d->painter, s->picture.width, s->picture.height), 0);
        wv_painter_changed(&d->painter, &s->fresh);
        wv_painter_publish(&d->painter, &s->picture, &header, wv_now_ns);
        s->ready = false;
        return true;
    }
    if (s->reading || wv_region_empty(&s->pending))
        return false;
    ck_assert_int_eq(s->ops->request(s, wv_now_ns()), 0);
    return true;
}

/* All that was drawn (and synced) before is in the ring when this returns. */
static void settle(struct direct *d)
{
    for (int still = 0; still < 3;) {
        struct pollfd readable = {.fd = d->source->fd, .events = POLLIN};

        if (turn(d))
            still = 0;
        else if (poll(&readable, 1, d->source->reading ? 10000 : 5) == 0)
            still++;
        ck_assert(!d->source->reading || still == 0);
    }
}

static void check_same(struct direct *d, const char *what, int n)
{
    wv_cleanup(wv_free_p) uint8_t *truth = NULL;

    truth = x11_pixels(&d->drawer, d->drawer.screen->width_in_pixels, d->drawer.screen->height_in_pixels);
    capture_ring_take(&d->ring);
    ck_assert_msg(capture_ring_equals(&d->ring, truth, d->drawer.screen->width_in_pixels * 4u), "%s %d", what,
                  n);
}

static void luma_is(const struct direct *d, int x, int y, int expected)
{
    ck_assert_int_le(abs(d->ring.pixels[(size_t)y * d->ring.header.stride + (size_t)x] - expected), 1);
}

START_TEST(a_known_picture)
{
    struct direct d;

    direct_open(&d, "640x480x24", 0);
    x11_fill(&d.drawer, 0xffffff, 0, 0, 640, 480);
    x11_fill(&d.drawer, 0xff0000, 100, 100, 50, 50);
    x11_fill(&d.drawer, 0x0000ff, 400, 300, 100, 20);
    x11_sync(&d.drawer);
    settle(&d);
    ck_assert(capture_ring_take(&d.ring));
    ck_assert_uint_eq(d.ring.header.width, 640);
    ck_assert_uint_eq(d.ring.header.height, 480);
    luma_is(&d, 10, 10, 235);
    luma_is(&d, 120, 120, 82);
    luma_is(&d, 450, 310, 41);
    luma_is(&d, 639, 479, 235);
    check_same(&d, "picture", 0);
    direct_close(&d);
}
END_TEST

static void scribble(struct x11_drawer *d, int width, int height)
{
    for (int n = rand() % 8; n >= 0; n--) {
        int x = rand() % width, y = rand() % height;

        if (rand() % 4)
            x11_fill(d, (uint32_t)rand() & 0xffffff, x, y, 1 + rand() % 60, 1 + rand() % 40);
        else
            x11_copy(d, rand() % width, rand() % height, x, y, 1 + rand() % 200, 1 + rand() % 200);
    }
    if (rand() % 30 == 0)
        x11_copy(d, 0, 4, 0, 0, width, height - 4);
}

static const unsigned transports[] = {WV_X11_SHM_FD, WV_X11_SHM_SYSV, WV_X11_PLAIN};

START_TEST(random_drawing_over_every_transport)
{
    struct direct d;

    srand((unsigned)_i);
    direct_open(&d, "641x359x24", transports[_i]); /* odd on purpose */
    for (int frame = 0; frame < 200; frame++) {
        scribble(&d.drawer, 641, 359);
        x11_sync(&d.drawer);
        settle(&d);
        ck_assert_uint_eq(d.ring.header.width == 0 || d.ring.header.width == 640, 1);
        if (frame % 3 == 0)
            check_same(&d, "frame", frame);
    }
    direct_close(&d);
}
END_TEST

/* While it is read the screen goes on changing. Nothing of that may be lost in the end. */
START_TEST(drawing_during_the_reading)
{
    struct direct d;
    pid_t child;
    int status;

    direct_open(&d, "640x360x24", transports[_i]);
    child = fork();
    if (child == 0) {
        struct x11_drawer own = x11_drawer_open(&d.server);

        srand(7);
        for (int n = 0; n < 3000; n++) {
            scribble(&own, 640, 360);
            xcb_flush(own.connection);
            if (n % 16 == 0)
                x11_sync(&own);
        }
        x11_sync(&own);
        _exit(0);
    }
    while (waitpid(child, &status, WNOHANG) == 0)
        turn(&d);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    settle(&d);
    check_same(&d, "end", 0);
    direct_close(&d);
}
END_TEST

static xcb_window_t new_window(struct x11_drawer *d, xcb_window_t parent, int x, int y, int width, int height)
{
    xcb_window_t window = xcb_generate_id(d->connection);

    xcb_create_window(d->connection, 0, window, parent, (int16_t)x, (int16_t)y, (uint16_t)width,
                      (uint16_t)height, 0, XCB_WINDOW_CLASS_INPUT_OUTPUT, 0, 0, NULL);
    xcb_map_window(d->connection, window);
    return window;
}

/* Fills a window around another one in its middle, again and again, each time with one request, until killed.
 */
static void draw_rings(const struct x11_server *server)
{
    struct x11_drawer d = x11_drawer_open(server);
    xcb_window_t outer = new_window(&d, d.screen->root, 0, 0, 640, 360);
    uint32_t clip = XCB_SUBWINDOW_MODE_CLIP_BY_CHILDREN;
    xcb_rectangle_t all = {0, 0, 640, 360};

    new_window(&d, outer, 200, 100, 200, 100);
    xcb_change_gc(d.connection, d.gc, XCB_GC_SUBWINDOW_MODE, &clip);
    for (uint32_t n = 0;; n++) {
        uint32_t colour = n % 250 * 0x010101;

        xcb_change_gc(d.connection, d.gc, XCB_GC_FOREGROUND, &colour);
        xcb_poly_fill_rectangle(d.connection, outer, d.gc, 1, &all);
        xcb_flush(d.connection);
        usleep(20);
        if (n % 256 == 0)
            x11_sync(&d); /* no more than that waits for the server */
    }
}

/* The server tells of one drawing in several words; the picture shows all of it or nothing, also when it is
 * drawn faster than it is read. */
START_TEST(one_drawing_is_never_torn)
{
    struct direct d;
    pid_t child;
    unsigned pictures = 0;
    uint64_t begun = wv_now_ns();

    direct_open(&d, "640x360x24", 0);
    child = fork();
    if (child == 0)
        draw_rings(&d.server);
    while (pictures < 200) {
        ck_assert_msg(wv_now_ns() - begun < 60 * WV_NS_PER_S, "%u pictures", pictures);
        struct pollfd readable = {.fd = d.source->fd, .events = POLLIN};

        if (!turn(&d))
            poll(&readable, 1, 1);
        if (!capture_ring_take(&d.ring))
            continue;
        pictures++;
        for (int y = 20; y < 360; y += 320)
            for (int x = 20; x < 640; x += 600)
                ck_assert_uint_eq(d.ring.pixels[(size_t)y * d.ring.header.stride + (size_t)x],
                                  d.ring.pixels[20 * d.ring.header.stride + 20]);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    direct_close(&d);
}
END_TEST

START_TEST(depth_of_16_is_refused)
{
    struct x11_server server = x11_server_start("320x240x16", -1, NULL);
    struct wv_x11_options options = {.display = server.name};
    struct wv_source *source;
    char reason[160] = "";

    ck_assert_int_eq(wv_source_x11_open(&source, &options, reason, sizeof(reason)), WV_SOURCE_LOST);
    ck_assert_msg(strstr(reason, "16 bits") && strstr(reason, server.name), "%s", reason);
    x11_server_stop(&server);
}
END_TEST

START_TEST(a_server_without_shared_memory)
{
    struct x11_server server = x11_server_start("320x240x24", -1, "MIT-SHM");
    struct wv_x11_options options = {.display = server.name};
    struct wv_source *source;
    char reason[160] = "";

    ck_assert_int_eq(wv_source_x11_open(&source, &options, reason, sizeof(reason)), 0);
    ck_assert_int_eq((int)wv_source_x11_transport(source), WV_X11_PLAIN);
    source->ops->free(source);
    x11_server_stop(&server);
}
END_TEST

START_TEST(a_server_without_damage_is_refused)
{
    struct x11_server server = x11_server_start("320x240x24", -1, "DAMAGE");
    struct wv_x11_options options = {.display = server.name};
    struct wv_source *source;
    char reason[160] = "";

    ck_assert_int_eq(wv_source_x11_open(&source, &options, reason, sizeof(reason)), WV_SOURCE_LOST);
    ck_assert_msg(strstr(reason, "DAMAGE"), "%s", reason);
    x11_server_stop(&server);
}
END_TEST

/* ---- the whole engine ---- */

struct engine {
    struct x11_server server;
    struct x11_drawer drawer;
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_stream *stream;
    struct wv_input_page *page;
    int page_fd;
    struct capture_ring ring;
    char status[160];
    struct wv_cursor_state cursor;
    struct wv_cursor_image shape;
    unsigned moves, shapes;
    uint32_t wanted_width, old_shape;
    uint32_t colour;
    const char *wanted_status;
};

static void on_status(void *userdata, const char *text)
{
    struct engine *e = userdata;

    snprintf(e->status, sizeof(e->status), "%s", text);
}

static void on_moved(void *userdata, const struct wv_cursor_state *state)
{
    struct engine *e = userdata;

    e->cursor = *state;
    e->moves++;
}

static void on_shape(void *userdata, const struct wv_cursor_image *image)
{
    struct engine *e = userdata;

    ck_assert_uint_gt(image->width, 0);
    ck_assert_uint_le(image->width, WV_CURSOR_MAX_SIZE);
    e->shape = *image;
    e->shapes++;
}

static void engine_new_stream(struct engine *e, uint32_t fps)
{
    struct wv_stream_options options = {.loop = e->loop,
                                        .ring = e->ring.producer,
                                        .metrics = e->metrics,
                                        .input_page = e->page,
                                        .publish_event = -1,
                                        .source = WV_STREAM_AUTO,
                                        .display = e->server.name,
                                        .max_fps = fps,
                                        .cursor = {on_moved, on_shape, e},
                                        .status = on_status,
                                        .userdata = e};

    ck_assert_int_eq(wv_stream_new(&e->stream, &options), 0);
}

static void engine_open_on(struct engine *e, int number, const char *screen, uint32_t fps)
{
    *e = (struct engine){0};
    e->server = x11_server_start(screen, number, NULL);
    e->drawer = x11_drawer_open(&e->server);
    ck_assert_int_eq(wv_loop_new(&e->loop), 0);
    ck_assert_int_eq(wv_metrics_new(&e->metrics, -1, "capture", wv_stream_metrics, WV_STREAM_N_METRICS), 0);
    ck_assert_int_eq(wv_input_page_create(&e->page_fd), 0);
    ck_assert_int_eq(wv_input_page_map(&e->page, e->page_fd, true), 0);
    capture_ring_open(&e->ring, 640, 480);
    engine_new_stream(e, fps);
}

static void engine_open(struct engine *e, const char *screen, uint32_t fps)
{
    engine_open_on(e, -1, screen, fps);
}

static void engine_close(struct engine *e)
{
    wv_stream_free(e->stream);
    wv_metrics_free(e->metrics);
    wv_loop_free(e->loop);
    wv_input_page_unmap(e->page);
    close(e->page_fd);
    capture_ring_close(&e->ring);
    x11_drawer_close(&e->drawer);
    x11_server_stop(&e->server);
}

static uint64_t frames(const struct engine *e)
{
    return wv_metric_value(e->metrics, WV_STREAM_FRAMES);
}

/* The pixel at 20,20 has the luma of e->colour (a grey), and the picture the wanted width if one is. */
static bool shows_colour(void *userdata)
{
    struct engine *e = userdata;
    int expected = 16 + (int)((e->colour & 0xff) * 220 / 256);

    capture_ring_take(&e->ring);
    if (!e->ring.pixels || (e->wanted_width && e->ring.header.width != e->wanted_width))
        return false;
    return abs(e->ring.pixels[20 * e->ring.header.stride + 20] - expected) <= 1;
}

static bool status_says(void *userdata)
{
    struct engine *e = userdata;

    return strstr(e->status, e->wanted_status) != NULL;
}

static void show(struct engine *e, uint32_t colour)
{
    e->colour = colour;
    x11_fill(&e->drawer, colour, 0, 0, 2000, 2000);
    x11_sync(&e->drawer);
}

START_TEST(changes_arrive)
{
    struct engine e;

    engine_open(&e, "640x480x24", 60);
    wv_input_page_set_injected(e.page, 1, 41);
    for (uint32_t i = 0; i < 5; i++) {
        show(&e, i * 0x303030);
        wv_input_page_set_injected(e.page, 1, 42 + i);
        ck_assert(run_until(e.loop, shows_colour, &e));
    }
    ck_assert_uint_ge(e.ring.header.input_seq, 41);
    ck_assert_uint_le(e.ring.header.input_seq, 46);
    ck_assert_uint_gt(e.ring.header.damage_ns, 0);
    ck_assert_uint_le(e.ring.header.damage_ns, e.ring.header.capture_ns);
    ck_assert_uint_le(e.ring.header.capture_ns, e.ring.header.publish_ns);
    ck_assert_msg(strstr(e.status, "capturing") && strstr(e.status, "640x480"), "%s", e.status);
    engine_close(&e);
}
END_TEST

/* Until neither a picture nor a move of the pointer has come for a while: on a busy machine what was asked
 * for before may come late. What never rests fails the test. */
static void rest(struct engine *e)
{
    uint64_t before;
    unsigned moves;
    int tries = 0;

    do {
        ck_assert_int_lt(tries++, 100);
        before = frames(e);
        moves = e->moves;
        run_for(e->loop, 200 * WV_NS_PER_MS);
    } while (frames(e) != before || e->moves != moves);
}

START_TEST(a_still_screen_costs_nothing)
{
    struct engine e;

    engine_open(&e, "640x480x24", 60);
    show(&e, 0x808080);
    ck_assert(run_until(e.loop, shows_colour, &e));
    rest(&e);
    engine_close(&e);
}
END_TEST

START_TEST(the_rate_is_kept)
{
    struct engine e;
    uint64_t before, start = wv_now_ns(), elapsed_ms;

    engine_open(&e, "640x480x24", 20);
    before = frames(&e);
    for (uint32_t i = 0; i < 100; i++) {
        show(&e, i * 0x020202);
        run_for(e.loop, 4 * WV_NS_PER_MS);
    }
    elapsed_ms = (wv_now_ns() - start) / WV_NS_PER_MS;
    ck_assert_uint_le(frames(&e) - before, elapsed_ms * 20 / 1000 + 3);
    ck_assert(run_until(e.loop, shows_colour, &e)); /* the last change is not forgotten */
    engine_close(&e);
}
END_TEST

/* At one picture a second the answer to an input is there long before its turn. */
START_TEST(input_goes_ahead_of_the_rate)
{
    struct engine e;
    uint64_t start, took = UINT64_MAX, tries = 0;

    engine_open(&e, "640x480x24", 1);
    show(&e, 0x404040);
    ck_assert(run_until(e.loop, shows_colour, &e));
    for (; took >= 700 * WV_NS_PER_MS && tries < 10;
         tries++) { /* the machine may be busy, but not every time */
        show(&e, 0x606060);
        ck_assert(run_until(e.loop, shows_colour, &e));
        start = wv_now_ns();
        ck_assert_int_eq(wv_stream_boost(e.stream, start), 0);
        show(&e, 0xa0a0a0);
        ck_assert(run_until(e.loop, shows_colour, &e));
        took = wv_now_ns() - start;
    }
    ck_assert_uint_lt(took, 700 * WV_NS_PER_MS);
    ck_assert_uint_eq(wv_metric_value(e.metrics, WV_STREAM_BOOSTS), tries);
    engine_close(&e);
}
END_TEST

START_TEST(nobody_watches)
{
    struct engine e;
    uint64_t before;

    engine_open(&e, "640x480x24", 60);
    show(&e, 0x404040);
    ck_assert(run_until(e.loop, shows_colour, &e));
    ck_assert_int_eq(wv_stream_target(e.stream, 60, 0, wv_now_ns()), 0);
    rest(&e);
    before = frames(&e);
    for (uint32_t i = 0; i < 10; i++) {
        show(&e, 0xc0c0c0 + i);
        run_for(e.loop, 5 * WV_NS_PER_MS);
    }
    ck_assert_uint_eq(frames(&e), before);
    ck_assert_msg(strstr(e.status, "nobody watches"), "%s", e.status);
    e.colour = 0xc0c0c0;
    ck_assert_int_eq(wv_stream_target(e.stream, 60, 2, wv_now_ns()), 0);
    ck_assert(run_until(e.loop, shows_colour, &e));
    engine_close(&e);
}
END_TEST

/* ---- the display changes, hangs, goes away ---- */

static void resize(struct engine *e, uint16_t width, uint16_t height)
{
    xcb_connection_t *c = e->drawer.connection;
    xcb_window_t root = e->drawer.screen->root;
    xcb_randr_get_screen_resources_reply_t *r =
        xcb_randr_get_screen_resources_reply(c, xcb_randr_get_screen_resources(c, root), NULL);

    ck_assert_ptr_nonnull(r);
    for (int i = 0; i < r->num_crtcs; i++)
        free(xcb_randr_set_crtc_config_reply(
            c,
            xcb_randr_set_crtc_config(c, xcb_randr_get_screen_resources_crtcs(r)[i], XCB_CURRENT_TIME,
                                      r->config_timestamp, 0, 0, XCB_NONE, XCB_RANDR_ROTATION_ROTATE_0, 0,
                                      NULL),
            NULL));
    free(r);
    xcb_randr_set_screen_size(c, root, width, height, 100, 100);
    x11_sync(&e->drawer);
}

START_TEST(the_size_is_followed)
{
    struct engine e;

    engine_open(&e, "640x480x24", 60);
    show(&e, 0x202020);
    e.wanted_width = 640;
    ck_assert(run_until(e.loop, shows_colour, &e));
    resize(&e, 321, 201);
    show(&e, 0x909090);
    e.wanted_width = 320;
    ck_assert(run_until(e.loop, shows_colour, &e));
    ck_assert_uint_eq(e.ring.header.height, 200);
    ck_assert_msg(strstr(e.status, "320x200"), "%s", e.status);
    for (int i = 0; i < 5; i++) { /* while pictures are under way */
        show(&e, (uint32_t)i * 0x111111);
        resize(&e, i % 2 ? 640 : 500, i % 2 ? 480 : 400);
        run_for(e.loop, 3 * WV_NS_PER_MS);
    }
    resize(&e, 640, 480);
    show(&e, 0xe0e0e0);
    e.wanted_width = 640;
    ck_assert(run_until(e.loop, shows_colour, &e));
    ck_assert_uint_eq(wv_metric_value(e.metrics, WV_STREAM_RECONNECTS), 0);
    engine_close(&e);
}
END_TEST

START_TEST(a_display_too_large_is_told)
{
    struct engine e;

    engine_open(&e, "800x600x24", 60); /* the ring was made for 640x480 */
    e.wanted_status = "larger than";
    ck_assert(run_until(e.loop, status_says, &e));
    ck_assert_uint_eq(frames(&e), 0);
    resize(&e, 400, 300);
    show(&e, 0x909090);
    ck_assert(run_until(e.loop, shows_colour, &e));
    engine_close(&e);
}
END_TEST

START_TEST(the_display_dies_and_comes_back)
{
    struct engine e;
    int number;

    engine_open_on(&e, x11_private_number(), "640x480x24", 60);
    show(&e, 0x202020);
    ck_assert(run_until(e.loop, shows_colour, &e));
    number = e.server.number;
    x11_drawer_close(&e.drawer);
    x11_server_kill(&e.server);
    e.wanted_status = "display :";
    ck_assert(run_until(e.loop, status_says, &e));
    run_for(e.loop, 300 * WV_NS_PER_MS);
    e.server = x11_server_start("320x240x24", number, NULL);
    e.drawer = x11_drawer_open(&e.server);
    show(&e, 0xb0b0b0);
    e.wanted_width = 320;
    ck_assert(run_until(e.loop, shows_colour, &e));
    ck_assert_uint_eq(wv_metric_value(e.metrics, WV_STREAM_RECONNECTS), 1);
    engine_close(&e);
}
END_TEST

START_TEST(the_display_is_late)
{
    struct engine e;
    struct x11_server first;

    engine_open_on(&e, x11_private_number(), "640x480x24", 60);
    wv_stream_free(e.stream);
    first = e.server;
    x11_drawer_close(&e.drawer);
    x11_server_kill(&e.server);
    engine_new_stream(&e, 60);
    ck_assert_msg(strstr(e.status, "can't be reached"), "%s", e.status);
    run_for(e.loop, 50 * WV_NS_PER_MS);
    e.server = x11_server_start("640x480x24", first.number, NULL);
    e.drawer = x11_drawer_open(&e.server);
    show(&e, 0xb0b0b0);
    ck_assert(run_until(e.loop, shows_colour, &e));
    engine_close(&e);
}
END_TEST

START_TEST(the_display_hangs)
{
    struct engine e;

    engine_open(&e, "640x480x24", 60);
    show(&e, 0x202020);
    ck_assert(run_until(e.loop, shows_colour, &e));
    /* A change that we ask for and get no answer to: stopped between the two. */
    ck_assert_int_eq(wv_stream_target(e.stream, 60, 0, wv_now_ns()), 0);
    kill(e.server.pid, SIGSTOP);
    ck_assert_int_eq(wv_stream_target(e.stream, 60, 1, wv_now_ns()), 0);
    e.wanted_status = "does not answer";
    ck_assert(run_until(e.loop, status_says, &e)); /* and the loop goes round */
    kill(e.server.pid, SIGCONT);
    e.wanted_status = "capturing";
    ck_assert(run_until(e.loop, status_says, &e));
    show(&e, 0xd0d0d0);
    ck_assert(run_until(e.loop, shows_colour, &e));
    engine_close(&e);
}
END_TEST

/* ---- the pointer ---- */

struct place {
    struct engine *engine;
    int x, y;
};

static bool pointer_is_at(void *userdata)
{
    struct place *p = userdata;

    return p->engine->cursor.x == p->x && p->engine->cursor.y == p->y && p->engine->cursor.shape_id;
}

static bool shape_changed(void *userdata)
{
    struct engine *e = userdata;

    return e->shape.shape_id != 0 && e->shape.shape_id != e->old_shape &&
           e->cursor.shape_id == e->shape.shape_id;
}

static void use_cursor(struct x11_drawer *d, uint16_t glyph)
{
    xcb_font_t font = xcb_generate_id(d->connection);
    xcb_cursor_t cursor = xcb_generate_id(d->connection);

    xcb_open_font(d->connection, font, 6, "cursor");
    xcb_create_glyph_cursor(d->connection, cursor, font, font, glyph, (uint16_t)(glyph + 1), 0, 0, 0, 65535,
                            65535, 65535);
    xcb_change_window_attributes(d->connection, d->screen->root, XCB_CW_CURSOR, &cursor);
    x11_sync(d);
}

START_TEST(the_pointer_is_followed)
{
    struct engine e;
    struct place place = {&e, 0, 0};
    unsigned shapes;

    engine_open(&e, "640x480x24", 60);
    use_cursor(&e.drawer, 68);
    for (int i = 0; i < 10; i++) {
        place.x = 30 + i * 50;
        place.y = 20 + i * 30;
        xcb_test_fake_input(e.drawer.connection, XCB_MOTION_NOTIFY, 0, 0, e.drawer.screen->root,
                            (int16_t)place.x, (int16_t)place.y, 0);
        x11_sync(&e.drawer);
        ck_assert_msg(run_until(e.loop, pointer_is_at, &place), "%d: at %d,%d", i, e.cursor.x, e.cursor.y);
    }
    ck_assert(e.cursor.visible);
    ck_assert_uint_gt(e.shapes, 0);
    ck_assert_uint_eq(e.cursor.shape_id, e.shape.shape_id);
    e.old_shape = e.shape.shape_id;
    use_cursor(&e.drawer, 152);
    ck_assert(run_until(e.loop, shape_changed, &e));
    shapes = e.shapes;
    wv_stream_repeat_cursor(e.stream);
    ck_assert_uint_eq(e.shapes, shapes + 1);
    engine_close(&e);
}
END_TEST

START_TEST(the_pointer_rests_when_nobody_watches)
{
    struct engine e;
    unsigned moves;

    engine_open(&e, "640x480x24", 60);
    ck_assert_int_eq(wv_stream_target(e.stream, 60, 0, wv_now_ns()), 0);
    rest(&e);
    moves = e.moves;
    for (int i = 0; i < 10; i++) {
        xcb_test_fake_input(e.drawer.connection, XCB_MOTION_NOTIFY, 0, 0, e.drawer.screen->root,
                            (int16_t)(i * 9), 5, 0);
        x11_sync(&e.drawer);
        run_for(e.loop, 5 * WV_NS_PER_MS);
    }
    ck_assert_uint_eq(e.moves, moves);
    engine_close(&e);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("capture x11");
    TCase *source = tcase_create("source"), *engine = tcase_create("engine");

    tcase_set_timeout(source, 120);
    tcase_set_timeout(engine, 120);
    tcase_add_test(source, a_known_picture);
    tcase_add_loop_test(source, random_drawing_over_every_transport, 0, 3);
    tcase_add_loop_test(source, drawing_during_the_reading, 0, 3);
    tcase_add_test(source, one_drawing_is_never_torn);
    tcase_add_test(source, depth_of_16_is_refused);
    tcase_add_test(source, a_server_without_shared_memory);
    tcase_add_test(source, a_server_without_damage_is_refused);
    tcase_add_test(engine, changes_arrive);
    tcase_add_test(engine, a_still_screen_costs_nothing);
    tcase_add_test(engine, the_rate_is_kept);
    tcase_add_test(engine, input_goes_ahead_of_the_rate);
    tcase_add_test(engine, nobody_watches);
    tcase_add_test(engine, the_size_is_followed);
    tcase_add_test(engine, a_display_too_large_is_told);
    tcase_add_test(engine, the_display_dies_and_comes_back);
    tcase_add_test(engine, the_display_is_late);
    tcase_add_test(engine, the_display_hangs);
    tcase_add_test(engine, the_pointer_is_followed);
    tcase_add_test(engine, the_pointer_rests_when_nobody_watches);
    suite_add_tcase(suite, source);
    suite_add_tcase(suite, engine);
    return wv_run_suite(suite);
}
