/* Input into an X server by the XTEST extension. The connection only injects and follows the root window's
 * size; it reads nothing that a person types. */
#include "lib/base/util.h"
#include "lib/x11/display.h"
#include "services/input/backend.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <poll.h>
#include <stdio.h>
#include <xcb/xcbext.h>
#include <xcb/xtest.h>

#define KEYCODE_OFFSET 8 /* X keycodes are evdev codes plus 8 (xkeyboard-config "evdev") */
#define DETENT         120
#define SETTLE_NS      (200 * WV_NS_PER_MS)

enum { SCROLL_UP = 4, SCROLL_DOWN = 5, SCROLL_LEFT = 6, SCROLL_RIGHT = 7 };

struct xtest {
    struct wv_backend base;
    xcb_connection_t *connection;
    xcb_screen_t *screen;
    struct wv_x11_geometry root;
    int32_t scroll_x, scroll_y; /* parts of a detent not yet scrolled */
    char display[33];
};

static int lost(struct xtest *x, const char *why)
{
    snprintf(x->base.reason, sizeof(x->base.reason), "display %s: %s", x->display, why);
    return WV_BACKEND_LOST;
}

static int check_connection(struct xtest *x)
{
    return xcb_connection_has_error(x->connection) ? lost(x, "the server went away") : 0;
}

static void fake(struct xtest *x, uint8_t type, uint8_t detail, int16_t px, int16_t py)
{
    xcb_window_t root = type == XCB_MOTION_NOTIFY ? x->screen->root : XCB_NONE;

    xcb_test_fake_input(x->connection, type, detail, XCB_CURRENT_TIME, root, px, py, 0);
}

static int inject_key(struct xtest *x, const struct rift_input_event *e)
{
    const xcb_setup_t *setup = xcb_get_setup(x->connection);
    uint32_t keycode = e->code + KEYCODE_OFFSET;

    if (keycode < setup->min_keycode || keycode > setup->max_keycode)
        return WV_BACKEND_UNSUPPORTED;
    fake(x, e->down ? XCB_KEY_PRESS : XCB_KEY_RELEASE, (uint8_t)keycode, 0, 0);
    return 0;
}

/* As xf86-input-libinput numbers them: 4 to 7 are the wheel. */
static int inject_button(struct xtest *x, const struct rift_input_event *e)
{
    static const uint8_t buttons[] = {[BTN_LEFT - BTN_MOUSE] = 1,   [BTN_RIGHT - BTN_MOUSE] = 3,
                                      [BTN_MIDDLE - BTN_MOUSE] = 2, [BTN_SIDE - BTN_MOUSE] = 8,
                                      [BTN_EXTRA - BTN_MOUSE] = 9,  [BTN_FORWARD - BTN_MOUSE] = 10,
                                      [BTN_BACK - BTN_MOUSE] = 11,  [BTN_TASK - BTN_MOUSE] = 12};

    if (e->code < BTN_MOUSE || e->code - BTN_MOUSE >= (int)WV_ARRAY_SIZE(buttons))
        return WV_BACKEND_UNSUPPORTED;
    fake(x, e->down ? XCB_BUTTON_PRESS : XCB_BUTTON_RELEASE, buttons[e->code - BTN_MOUSE], 0, 0);
    return 0;
}

/* 0..65535 over the captured picture, which is the root window cut to even size: each pixel has an equal
 * share of the range (the client sends the middle of it, client/window_input.c). */
static int16_t scale(int32_t v, uint16_t size)
{
    uint32_t even = size < 2 ? 1 : size & ~1u;

    return (int16_t)((uint64_t)v * even / 65536);
}

static void scroll(struct xtest *x, int32_t *rest, int32_t v, uint8_t positive, uint8_t negative)
{
    /* Turning back does not first have to undo what is left of the other direction. */
    if ((*rest > 0 && v < 0) || (*rest < 0 && v > 0))
        *rest = 0;
    *rest += v;
    while (*rest >= DETENT || *rest <= -DETENT) {
        uint8_t button = *rest > 0 ? positive : negative;

        fake(x, XCB_BUTTON_PRESS, button, 0, 0);
        fake(x, XCB_BUTTON_RELEASE, button, 0, 0);
        *rest += *rest > 0 ? -DETENT : DETENT;
    }
}

static int xtest_inject(struct wv_backend *b, const struct rift_input_event *e)
{
    struct xtest *x = (struct xtest *)b;

    switch (e->kind) {
    case RIFT_INPUT_KEY:
        return inject_key(x, e);
    case RIFT_INPUT_BUTTON:
        return inject_button(x, e);
    case RIFT_INPUT_POINTER_ABS:
        fake(x, XCB_MOTION_NOTIFY, 0, scale(e->x, x->root.width), scale(e->y, x->root.height));
        return 0;
    case RIFT_INPUT_POINTER_REL:
        fake(x, XCB_MOTION_NOTIFY, 1, (int16_t)e->x, (int16_t)e->y);
        return 0;
    case RIFT_INPUT_SCROLL:
        scroll(x, &x->scroll_y, e->y, SCROLL_UP, SCROLL_DOWN);
        scroll(x, &x->scroll_x, e->x, SCROLL_RIGHT, SCROLL_LEFT);
        return 0;
    default:
        return WV_BACKEND_UNSUPPORTED;
    }
}

static int xtest_flush(struct wv_backend *b)
{
    struct xtest *x = (struct xtest *)b;

    xcb_flush(x->connection);
    return check_connection(x);
}

static int xtest_process(struct wv_backend *b)
{
    struct xtest *x = (struct xtest *)b;
    xcb_generic_event_t *event;

    while ((event = xcb_poll_for_event(x->connection))) {
        const xcb_configure_notify_event_t *configure = (const xcb_configure_notify_event_t *)event;

        if ((event->response_type & 0x7f) == XCB_CONFIGURE_NOTIFY && configure->window == x->screen->root) {
            x->root.width = configure->width;
            x->root.height = configure->height;
        }
        free(event);
    }
    return check_connection(x);
}

/* Waits, but not for ever, until the server has taken all that was injected: a connection that is closed
 * before may take the last releases with it. */
static void settle(struct xtest *x)
{
    struct pollfd readable = {.fd = x->base.fd, .events = POLLIN};
    unsigned int sequence = xcb_get_input_focus(x->connection).sequence;
    uint64_t deadline = wv_now_ns() + SETTLE_NS;
    xcb_generic_error_t *error = NULL;
    void *reply = NULL;

    xcb_flush(x->connection);
    while (!xcb_poll_for_reply(x->connection, sequence, &reply, &error)) {
        uint64_t now = wv_now_ns();

        if (now >= deadline || xcb_connection_has_error(x->connection))
            return;
        (void)poll(&readable, 1, (int)((deadline - now) / WV_NS_PER_MS) + 1);
    }
    free(reply);
    free(error);
}

static struct wv_backend *xtest_free(struct wv_backend *b)
{
    struct xtest *x = (struct xtest *)b;

    if (!x)
        return NULL;
    if (x->base.fd >= 0 && !xcb_connection_has_error(x->connection))
        settle(x);
    wv_x11_close(x->connection);
    free(x);
    return NULL;
}

static const struct wv_backend_ops xtest_ops = {
    .name = "XTEST",
    .inject = xtest_inject,
    .flush = xtest_flush,
    .process = xtest_process,
    .free = xtest_free,
};

static int set_up(struct xtest *x)
{
    const xcb_query_extension_reply_t *extension = xcb_get_extension_data(x->connection, &xcb_test_id);
    uint32_t mask = XCB_EVENT_MASK_STRUCTURE_NOTIFY;
    xcb_test_get_version_reply_t *version;

    if (!extension || !extension->present)
        return check_connection(x) ? WV_BACKEND_LOST : lost(x, "the server lacks the XTEST extension");
    version = xcb_test_get_version_reply(x->connection, xcb_test_get_version(x->connection, 2, 2), NULL);
    if (!version)
        return lost(x, "the server did not answer");
    free(version);
    /* Input goes on while some program grabs the server. */
    xcb_test_grab_control(x->connection, 1);
    xcb_change_window_attributes(x->connection, x->screen->root, XCB_CW_EVENT_MASK, &mask);
    if (wv_x11_geometry(x->connection, x->screen->root, &x->root))
        return lost(x, "the server went away");
    return 0;
}

int wv_backend_xtest_open(struct wv_backend **ret, const char *display, const char *xauthority,
                          char *ret_reason, size_t capacity)
{
    struct xtest *x = calloc(1, sizeof(*x));
    int r;

    if (!x)
        return -ENOMEM;
    x->base = (struct wv_backend){.ops = &xtest_ops, .fd = -1};
    snprintf(x->display, sizeof(x->display), "%s", wv_x11_name(display));
    r = wv_x11_open(display, xauthority, &x->connection, &x->screen, ret_reason, capacity);
    if (r == WV_X11_UNREACHABLE) {
        r = WV_BACKEND_LOST;
    } else if (!r) {
        r = set_up(x);
        if (r)
            snprintf(ret_reason, capacity, "%s", x->base.reason);
    }
    if (r) {
        xtest_free(&x->base);
        return r;
    }
    x->base.fd = xcb_get_file_descriptor(x->connection);
    *ret = &x->base;
    return 0;
}
