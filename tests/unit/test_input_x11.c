/* Injection into a real X server, seen by a real client's window: keys, buttons, wheel, motion; and what is
 * held comes up when the session ends, when the process is killed, and when the display comes back. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "services/input/injector.h"
#include "tests/unit/suite.h"
#include "tests/unit/x11_fixture.h"

#include <linux/input-event-codes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

struct desk {
    struct x11_server server;
    struct x11_drawer client; /* with a window over the whole screen */
    xcb_window_t window;
    struct wv_loop *loop;
    struct wv_metrics *metrics;
    struct wv_input_page *page;
    int page_fd, boost;
    struct wv_injector *injector;
    uint32_t seq;
    char status[160];
};

static void on_status(void *userdata, const char *text)
{
    struct desk *d = userdata;

    snprintf(d->status, sizeof(d->status), "%s", text);
}

static struct wv_injector *new_injector(struct desk *d)
{
    struct wv_injector_options options = {.loop = d->loop,
                                          .metrics = d->metrics,
                                          .page = d->page,
                                          .boost_event = d->boost,
                                          .display = d->server.name,
                                          .uinput = {-1, -1, -1},
                                          .status = on_status,
                                          .userdata = d};
    struct wv_injector *i;

    ck_assert_int_eq(wv_injector_new(&i, &options), 0);
    return i;
}

static void open_window(struct desk *d)
{
    uint32_t mask = XCB_EVENT_MASK_KEY_PRESS | XCB_EVENT_MASK_KEY_RELEASE | XCB_EVENT_MASK_BUTTON_PRESS |
                    XCB_EVENT_MASK_BUTTON_RELEASE | XCB_EVENT_MASK_POINTER_MOTION;
    xcb_connection_t *c;

    d->client = x11_drawer_open(&d->server);
    c = d->client.connection;
    d->window = xcb_generate_id(c);
    xcb_create_window(c, 0, d->window, d->client.screen->root, 0, 0, 640, 480, 0,
                      XCB_WINDOW_CLASS_INPUT_OUTPUT, 0, XCB_CW_EVENT_MASK, &mask);
    xcb_map_window(c, d->window);
    xcb_set_input_focus(c, XCB_INPUT_FOCUS_POINTER_ROOT, d->window, XCB_CURRENT_TIME);
    x11_sync(&d->client);
}

static void desk_open_on(struct desk *d, int number)
{
    *d = (struct desk){.boost = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    d->server = x11_server_start("640x480x24", number, NULL);
    open_window(d);
    ck_assert_int_eq(wv_loop_new(&d->loop), 0);
    ck_assert_int_eq(wv_metrics_new(&d->metrics, -1, "input", wv_injector_metrics, WV_INJECTOR_N_METRICS), 0);
    ck_assert_int_eq(wv_input_page_create(&d->page_fd), 0);
    ck_assert_int_eq(wv_input_page_map(&d->page, d->page_fd, true), 0);
}

static void desk_open(struct desk *d)
{
    desk_open_on(d, -1);
}

static void desk_close(struct desk *d)
{
    wv_injector_free(d->injector);
    wv_metrics_free(d->metrics);
    wv_loop_free(d->loop);
    wv_input_page_unmap(d->page);
    close(d->page_fd);
    close(d->boost);
    x11_drawer_close(&d->client);
    x11_server_stop(&d->server);
}

static void send(struct desk *d, struct rift_input_event event)
{
    static const uint8_t key[RIFT_INNER_KEY_BYTES] = {5};
    const struct wv_injector_clock clock = {.known = true};
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES], sealed[RIFT_INPUT_SEALED_BYTES];
    struct wv_writer w;
    uint32_t done = 0;

    wv_writer_init(&w, plain, sizeof(plain));
    wv_write_u8(&w, event.kind);
    wv_write_u8(&w, event.down);
    wv_write_u16(&w, event.code);
    wv_write_u32(&w, (uint32_t)event.x);
    wv_write_u32(&w, (uint32_t)event.y);
    wv_write_u64(&w, event.time_us);
    rift_input_seal(key, ++d->seq, plain, sealed);
    const struct wv_sealed_batch batch = {.session = 5, .first_seq = d->seq, .events = sealed, .n = 1};
    ck_assert_int_eq(wv_injector_set_controller(d->injector, 5, key, wv_now_ns()), 0);
    ck_assert_int_eq(wv_injector_batch(d->injector, &batch, &clock, wv_now_ns(), &done), 0);
    ck_assert_uint_ge(done, d->seq);
}

static void key(struct desk *d, uint16_t code, bool down)
{
    send(d, (struct rift_input_event){.kind = RIFT_INPUT_KEY, .code = code, .down = down});
}

static void button(struct desk *d, uint16_t code, bool down)
{
    send(d, (struct rift_input_event){.kind = RIFT_INPUT_BUTTON, .code = code, .down = down});
}

static void pointer(struct desk *d, uint8_t kind, int32_t x, int32_t y)
{
    send(d, (struct rift_input_event){.kind = kind, .x = x, .y = y});
}

static xcb_generic_event_t *next_event(xcb_connection_t *c)
{
    xcb_generic_event_t *event;

    while ((event = xcb_poll_for_event(c)) && (event->response_type & 0x7f) == XCB_MAPPING_NOTIFY)
        free(event); /* the server's keyboard becomes the injected one */
    return event;
}

/* The window's next event must be TYPE with DETAIL (motion: any). */
static void expect(struct desk *d, uint8_t type, uint8_t detail)
{
    xcb_connection_t *c = d->client.connection;
    xcb_generic_event_t *event;

    while (!(event = next_event(c))) {
        struct pollfd readable = {.fd = xcb_get_file_descriptor(c), .events = POLLIN};

        ck_assert_msg(poll(&readable, 1, 30000) == 1, "no event, where %u %u should come", type, detail);
        ck_assert_int_eq(xcb_connection_has_error(c), 0);
    }
    ck_assert_uint_eq(event->response_type & 0x7f, type);
    if (type != XCB_MOTION_NOTIFY)
        ck_assert_uint_eq(((xcb_key_press_event_t *)event)->detail, detail);
    free(event);
}

static void expect_pointer(struct desk *d, int x, int y)
{
    xcb_connection_t *c = d->client.connection;
    xcb_query_pointer_reply_t *reply;
    int got_x = -1, got_y = -1;

    /* Another connection's request may be served first: until it is there. */
    for (int i = 0; i < 20000 && (got_x != x || got_y != y); i++) {
        reply = xcb_query_pointer_reply(c, xcb_query_pointer(c, d->client.screen->root), NULL);
        ck_assert_ptr_nonnull(reply);
        got_x = reply->root_x;
        got_y = reply->root_y;
        free(reply);
        usleep(1000);
    }
    ck_assert_msg(got_x == x && got_y == y, "the pointer is at %d,%d and not at %d,%d", got_x, got_y, x, y);
}

static bool key_is_down(struct desk *d, uint16_t code)
{
    xcb_connection_t *c = d->client.connection;
    xcb_query_keymap_reply_t *reply = xcb_query_keymap_reply(c, xcb_query_keymap(c), NULL);
    bool down;

    ck_assert_ptr_nonnull(reply);
    down = reply->keys[(code + 8) / 8] >> ((code + 8) % 8) & 1;
    free(reply);
    return down;
}

static bool key_becomes(struct desk *d, uint16_t code, bool down)
{
    for (int i = 0; i < 20000; i++) {
        if (key_is_down(d, code) == down)
            return true;
        usleep(1000);
    }
    return false;
}

START_TEST(a_window_sees_everything)
{
    struct desk d;
    uint64_t boosts;

    desk_open(&d);
    d.injector = new_injector(&d);
    ck_assert_msg(strstr(d.status, "XTEST"), "%s", d.status);
    pointer(&d, RIFT_INPUT_POINTER_ABS, 0, 0);
    expect_pointer(&d, 0, 0);
    pointer(&d, RIFT_INPUT_POINTER_ABS, 65535, 65535);
    expect_pointer(&d, 639, 479);
    for (int x = 0; x < 640; x += x < 4 ? 1 : 159) { /* as a client sends a pixel: its middle */
        pointer(&d, RIFT_INPUT_POINTER_ABS, (2 * x + 1) * 32768 / 640, 240);
        expect_pointer(&d, x, 240 * 480 / 65536);
    }
    pointer(&d, RIFT_INPUT_POINTER_ABS, 32768, 32768);
    expect_pointer(&d, 320, 240);
    pointer(&d, RIFT_INPUT_POINTER_REL, -20, 15);
    expect_pointer(&d, 300, 255);
    x11_sync(&d.client);
    for (xcb_generic_event_t *e; (e = next_event(d.client.connection)); free(e))
        ck_assert_uint_eq(e->response_type & 0x7f, XCB_MOTION_NOTIFY);
    ck_assert_int_eq(read(d.boost, &boosts, sizeof(boosts)), -1); /* motion hurries nobody */
    key(&d, KEY_A, true);
    expect(&d, XCB_KEY_PRESS, KEY_A + 8);
    ck_assert_int_eq(read(d.boost, &boosts, sizeof(boosts)), sizeof(boosts));
    key(&d, KEY_A, false);
    expect(&d, XCB_KEY_RELEASE, KEY_A + 8);
    static const uint16_t codes[] = {BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, BTN_SIDE, BTN_EXTRA};
    static const uint8_t buttons[] = {1, 2, 3, 8, 9};
    for (size_t i = 0; i < WV_ARRAY_SIZE(codes); i++) {
        button(&d, codes[i], true);
        expect(&d, XCB_BUTTON_PRESS, buttons[i]);
        button(&d, codes[i], false);
        expect(&d, XCB_BUTTON_RELEASE, buttons[i]);
    }
    desk_close(&d);
}
END_TEST

static void expect_click(struct desk *d, uint8_t detail)
{
    expect(d, XCB_BUTTON_PRESS, detail);
    expect(d, XCB_BUTTON_RELEASE, detail);
}

START_TEST(the_wheel_turns)
{
    struct desk d;

    desk_open(&d);
    d.injector = new_injector(&d);
    pointer(&d, RIFT_INPUT_SCROLL, 0, 240);
    expect_click(&d, 4);
    expect_click(&d, 4);
    pointer(&d, RIFT_INPUT_SCROLL, 0, -60);
    pointer(&d, RIFT_INPUT_SCROLL, 0, -60);
    expect_click(&d, 5);
    pointer(&d, RIFT_INPUT_SCROLL, 120, 0);
    expect_click(&d, 7);
    pointer(&d, RIFT_INPUT_SCROLL, -130, 0);
    expect_click(&d, 6);
    key(&d, KEY_A, true); /* nothing more came of it */
    expect(&d, XCB_KEY_PRESS, KEY_A + 8);
    desk_close(&d);
}
END_TEST

START_TEST(held_keys_come_up_when_told)
{
    struct desk d;

    desk_open(&d);
    d.injector = new_injector(&d);
    key(&d, KEY_LEFTSHIFT, true);
    key(&d, KEY_B, true);
    ck_assert(key_becomes(&d, KEY_B, true));
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_HELD), 2);
    ck_assert_int_eq(wv_injector_release(d.injector, wv_now_ns()), 0);
    ck_assert(key_becomes(&d, KEY_B, false));
    ck_assert(key_becomes(&d, KEY_LEFTSHIFT, false));
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_RELEASED), 2);
    key(&d, KEY_C, true);
    ck_assert(key_becomes(&d, KEY_C, true));
    d.injector = wv_injector_free(d.injector); /* an ordered end too */
    ck_assert(key_becomes(&d, KEY_C, false));
    desk_close(&d);
}
END_TEST

START_TEST(held_keys_come_up_after_sigkill)
{
    struct desk d;
    pid_t child;

    desk_open(&d);
    child = fork();
    if (child == 0) {
        d.injector = new_injector(&d);
        key(&d, KEY_LEFTCTRL, true);
        key(&d, KEY_X, true);
        pause();
    }
    ck_assert(key_becomes(&d, KEY_X, true));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    usleep(20000);
    ck_assert(key_is_down(&d, KEY_X)); /* the server does not do it by itself */
    d.injector = new_injector(&d);
    ck_assert(key_becomes(&d, KEY_X, false));
    ck_assert(key_becomes(&d, KEY_LEFTCTRL, false));
    /* What transport sends again was done by the killed one. */
    for (d.seq = 0; d.seq < 2;)
        key(&d, d.seq == 0 ? KEY_LEFTCTRL : KEY_X, true);
    key(&d, KEY_Y, true);
    ck_assert(key_becomes(&d, KEY_Y, true));
    ck_assert(!key_is_down(&d, KEY_X));
    desk_close(&d);
}
END_TEST

START_TEST(a_key_that_x_does_not_know)
{
    struct desk d;

    desk_open(&d);
    d.injector = new_injector(&d);
    key(&d, KEY_FN_ESC, true); /* beyond 255 - 8 */
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_REFUSED), 1);
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_HELD), 0);
    desk_close(&d);
}
END_TEST

static int on_time(void *userdata, uint64_t now)
{
    wv_loop_quit(userdata, 0);
    return 0;
}

static void run_for(struct wv_loop *loop, uint64_t ns)
{
    struct wv_loop_source *timer;

    ck_assert_int_eq(wv_loop_add_timer(loop, on_time, loop, &timer), 0);
    wv_loop_timer_at(timer, wv_now_ns() + ns);
    ck_assert_int_eq(wv_loop_run(loop), 0);
    wv_loop_remove(timer);
}

START_TEST(the_display_dies_and_comes_back)
{
    struct desk d;
    int number;

    desk_open_on(&d, x11_private_number());
    d.injector = new_injector(&d);
    key(&d, KEY_A, true);
    ck_assert(key_becomes(&d, KEY_A, true));
    number = d.server.number;
    x11_drawer_close(&d.client);
    x11_server_kill(&d.server);
    for (int i = 0; i < 400 && strstr(d.status, "XTEST"); i++)
        run_for(d.loop, 50 * WV_NS_PER_MS);
    ck_assert_msg(strstr(d.status, "display :") && !strstr(d.status, "XTEST"), "%s", d.status);
    key(&d, KEY_B, true); /* nowhere to go: refused, acknowledged */
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_REFUSED), 1);
    d.server = x11_server_start("640x480x24", number, NULL);
    open_window(&d);
    for (int i = 0; i < 300 && !strstr(d.status, "XTEST"); i++)
        run_for(d.loop, 100 * WV_NS_PER_MS);
    ck_assert_msg(strstr(d.status, "XTEST"), "%s", d.status);
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_RECONNECTS), 1);
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_HELD), 0);
    key(&d, KEY_C, true);
    ck_assert(key_becomes(&d, KEY_C, true));
    ck_assert(!key_is_down(&d, KEY_A));
    desk_close(&d);
}
END_TEST

START_TEST(neither_display_nor_uinput)
{
    struct desk d;
    struct wv_injector_options options;

    desk_open(&d);
    options = (struct wv_injector_options){.loop = d.loop,
                                           .metrics = d.metrics,
                                           .page = d.page,
                                           .boost_event = -1,
                                           .backend = WV_INJECTOR_UINPUT,
                                           .uinput = {-1, -1, -1},
                                           .status = on_status,
                                           .userdata = &d};
    ck_assert_int_eq(wv_injector_new(&d.injector, &options), 0);
    ck_assert_msg(strstr(d.status, "uinput"), "%s", d.status);
    key(&d, KEY_A, true);
    ck_assert_uint_eq(wv_metric_value(d.metrics, WV_INJECTOR_REFUSED), 1);
    desk_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("input x11");
    TCase *xtest = tcase_create("xtest");

    tcase_set_timeout(xtest, 120);
    tcase_add_test(xtest, a_window_sees_everything);
    tcase_add_test(xtest, the_wheel_turns);
    tcase_add_test(xtest, held_keys_come_up_when_told);
    tcase_add_test(xtest, held_keys_come_up_after_sigkill);
    tcase_add_test(xtest, a_key_that_x_does_not_know);
    tcase_add_test(xtest, the_display_dies_and_comes_back);
    tcase_add_test(xtest, neither_display_nor_uinput);
    suite_add_tcase(suite, xtest);
    return wv_run_suite(suite);
}
