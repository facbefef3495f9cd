#include "services/capture/cursor.h"

#include "lib/base/util.h"
#include "lib/x11/display.h"

#include <errno.h>
#include <stdio.h>
#include <xcb/xcbext.h>
#include <xcb/xfixes.h>
#include <xcb/xinput.h>

#define QUERY_INTERVAL_NS (WV_NS_PER_S / 120)
#define POKE_INTERVAL_NS  (WV_NS_PER_S / 10)

struct wv_cursor {
    struct wv_cursor_handler handler;
    xcb_connection_t *connection;
    xcb_screen_t *screen;
    uint8_t fixes_event, input_opcode; /* input_opcode 0: the server has no XI2 */
    bool watched;

    bool moved;                                     /* there was motion since the last question */
    uint64_t asked_ns;                              /* when the position was last asked for */
    unsigned int position_sequence, image_sequence; /* of questions under way, 0: none */
    bool image_changed;                             /* ask once more after the answer under way */

    struct wv_cursor_state state;
    struct wv_cursor_image image;
    uint8_t argb[WV_CURSOR_MAX_SIZE * WV_CURSOR_MAX_SIZE * 4];
};

/* ---- opening ---- */

static bool query_fixes(struct wv_cursor *c)
{
    const xcb_query_extension_reply_t *extension = xcb_get_extension_data(c->connection, &xcb_xfixes_id);
    xcb_xfixes_query_version_reply_t *version;

    if (!extension || !extension->present)
        return false;
    c->fixes_event = extension->first_event + XCB_XFIXES_CURSOR_NOTIFY;
    version =
        xcb_xfixes_query_version_reply(c->connection, xcb_xfixes_query_version(c->connection, 4, 0), NULL);
    free(version);
    return version;
}

static void query_input(struct wv_cursor *c)
{
    const xcb_query_extension_reply_t *extension = xcb_get_extension_data(c->connection, &xcb_input_id);
    xcb_input_xi_query_version_reply_t *version;

    if (!extension || !extension->present)
        return;
    /* From 2.1 on raw events come also while another program holds a grab. */
    version = xcb_input_xi_query_version_reply(c->connection, xcb_input_xi_query_version(c->connection, 2, 2),
                                               NULL);
    if (version && version->major_version >= 2)
        c->input_opcode = extension->major_opcode;
    free(version);
}

static void select_motion(struct wv_cursor *c, bool on)
{
    struct {
        xcb_input_event_mask_t head;
        uint32_t mask;
    } selection = {{XCB_INPUT_DEVICE_ALL_MASTER, 1}, on ? XCB_INPUT_XI_EVENT_MASK_RAW_MOTION : 0};

    if (c->input_opcode)
        xcb_input_xi_select_events(c->connection, c->screen->root, 1, &selection.head);
}

int wv_cursor_open(struct wv_cursor **ret, const char *display, const char *xauthority,
                   const struct wv_cursor_handler *handler, char *ret_reason, size_t capacity)
{
    struct wv_cursor *c = calloc(1, sizeof(*c));
    int r;

    if (!c)
        return -ENOMEM;
    c->handler = *handler;
    r = wv_x11_open(display, xauthority, &c->connection, &c->screen, ret_reason, capacity);
    if (r) {
        free(c);
        return r == WV_X11_UNREACHABLE ? WV_CURSOR_LOST : r;
    }
    if (!query_fixes(c)) {
        snprintf(ret_reason, capacity, "display %.32s: the server lacks the XFIXES extension",
                 wv_x11_name(display));
        wv_cursor_free(c);
        return WV_CURSOR_LOST;
    }
    query_input(c);
    *ret = c;
    return 0;
}

struct wv_cursor *wv_cursor_free(struct wv_cursor *c)
{
    if (c)
        wv_x11_close(c->connection);
    free(c);
    return NULL;
}

int wv_cursor_fd(const struct wv_cursor *c)
{
    return xcb_get_file_descriptor(c->connection);
}

/* ---- questions ---- */

static void ask_position(struct wv_cursor *c, uint64_t now)
{
    c->moved = false;
    c->asked_ns = now;
    c->position_sequence = xcb_query_pointer(c->connection, c->screen->root).sequence;
}

static void ask_image(struct wv_cursor *c)
{
    c->image_changed = c->image_sequence != 0;
    if (!c->image_sequence)
        c->image_sequence = xcb_xfixes_get_cursor_image(c->connection).sequence;
}

bool wv_cursor_wants_read(const struct wv_cursor *c)
{
    return !c->moved || c->position_sequence || c->image_sequence;
}

uint64_t wv_cursor_timeout(const struct wv_cursor *c)
{
    if (!c->watched || !c->moved || c->position_sequence)
        return WV_CURSOR_NEVER;
    return c->asked_ns + QUERY_INTERVAL_NS;
}

void wv_cursor_watch(struct wv_cursor *c, bool on, uint64_t now)
{
    if (on == c->watched)
        return;
    c->watched = on;
    c->moved = false;
    select_motion(c, on);
    xcb_xfixes_select_cursor_input(c->connection, c->screen->root,
                                   on ? XCB_XFIXES_CURSOR_NOTIFY_MASK_DISPLAY_CURSOR : 0);
    if (on) {
        c->state = (struct wv_cursor_state){.x = -1};
        ask_image(c);
        if (!c->position_sequence)
            ask_position(c, now);
    }
    xcb_flush(c->connection);
}

void wv_cursor_poke(struct wv_cursor *c, uint64_t now)
{
    if (!c->watched || c->position_sequence || now - c->asked_ns < POKE_INTERVAL_NS)
        return;
    ask_position(c, now);
    xcb_flush(c->connection);
}

void wv_cursor_repeat(struct wv_cursor *c)
{
    if (!c->state.shape_id)
        return; /* not known yet: it is told when it is */
    c->handler.shape(c->handler.userdata, &c->image);
    c->handler.moved(c->handler.userdata, &c->state);
}

/* ---- answers ---- */

static void set_state(struct wv_cursor *c, const struct wv_cursor_state *state)
{
    bool same = c->state.x == state->x && c->state.y == state->y && c->state.visible == state->visible &&
                c->state.shape_id == state->shape_id;

    c->state = *state;
    if (!same && c->watched && state->shape_id)
        c->handler.moved(c->handler.userdata, state);
}

static void take_position(struct wv_cursor *c, const xcb_query_pointer_reply_t *reply)
{
    struct wv_cursor_state state = c->state;

    state.x = reply->root_x;
    state.y = reply->root_y;
    set_state(c, &state);
}

/* FNV-1a over everything that makes the image; never 0. */
static uint32_t shape_id(const struct wv_cursor_image *i)
{
    uint32_t head[4] = {i->width, i->height, i->hot_x, i->hot_y}, hash = 2166136261u;
    size_t bytes = (size_t)i->width * i->height * 4;

    for (size_t n = 0; n < WV_ARRAY_SIZE(head); n++)
        hash = (hash ^ head[n]) * 16777619u;
    for (size_t n = 0; n < bytes; n++)
        hash = (hash ^ i->argb[n]) * 16777619u;
    return hash ? hash : 1;
}

/* Copies the image, cut to the largest size, and says whether any of it can be seen. */
static bool copy_image(struct wv_cursor *c, const xcb_xfixes_get_cursor_image_reply_t *reply)
{
    const uint32_t *from = xcb_xfixes_get_cursor_image_cursor_image(reply);
    uint32_t width = WV_MIN(reply->width, WV_CURSOR_MAX_SIZE),
             height = WV_MIN(reply->height, WV_CURSOR_MAX_SIZE);
    uint8_t *to = c->argb;
    bool seen = false;

    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++, to += 4) {
            uint32_t pixel = from[(size_t)y * reply->width + x];

            to[0] = (uint8_t)pixel;
            to[1] = (uint8_t)(pixel >> 8);
            to[2] = (uint8_t)(pixel >> 16);
            to[3] = (uint8_t)(pixel >> 24);
            seen |= to[3] != 0;
        }
    }
    c->image = (struct wv_cursor_image){.width = width, .height = height, .argb = c->argb};
    c->image.hot_x = WV_MIN(reply->xhot, width ? width - 1 : 0);
    c->image.hot_y = WV_MIN(reply->yhot, height ? height - 1 : 0);
    c->image.shape_id = shape_id(&c->image);
    return seen;
}

static void take_image(struct wv_cursor *c, const xcb_xfixes_get_cursor_image_reply_t *reply)
{
    struct wv_cursor_state state = c->state;
    size_t pixels = (size_t)reply->width * reply->height;

    if ((size_t)xcb_xfixes_get_cursor_image_cursor_image_length(reply) < pixels)
        return;
    state.visible = copy_image(c, reply);
    state.x = reply->x;
    state.y = reply->y;
    /* One that can't be seen needs no image, only an id. */
    if (state.visible && c->image.shape_id != state.shape_id && c->watched)
        c->handler.shape(c->handler.userdata, &c->image);
    state.shape_id = c->image.shape_id;
    set_state(c, &state);
}

static void *poll_answer(struct wv_cursor *c, unsigned int *sequence)
{
    xcb_generic_error_t *error = NULL;
    void *reply = NULL;

    if (*sequence && xcb_poll_for_reply(c->connection, *sequence, &reply, &error))
        *sequence = 0;
    free(error);
    return reply;
}

static void take_event(struct wv_cursor *c, const xcb_generic_event_t *event)
{
    uint8_t type = event->response_type & 0x7f;

    if (type == c->fixes_event)
        ask_image(c);
    else if (type == XCB_GE_GENERIC && c->input_opcode)
        c->moved = c->watched; /* raw motion is all that was selected */
}

static void take_events(struct wv_cursor *c, bool queued_only)
{
    xcb_generic_event_t *event;

    while ((event =
                queued_only ? xcb_poll_for_queued_event(c->connection) : xcb_poll_for_event(c->connection))) {
        take_event(c, event);
        free(event);
    }
}

int wv_cursor_process(struct wv_cursor *c, uint64_t now)
{
    void *reply;

    take_events(c, false);
    reply = poll_answer(c, &c->position_sequence);
    if (reply)
        take_position(c, reply);
    free(reply);
    reply = poll_answer(c, &c->image_sequence);
    if (reply)
        take_image(c, reply);
    free(reply);
    /* Looking for answers may have read events too, which the socket does not announce again. */
    take_events(c, true);
    if (c->image_changed && !c->image_sequence)
        ask_image(c);
    if (c->watched && c->moved && !c->position_sequence && now >= c->asked_ns + QUERY_INTERVAL_NS)
        ask_position(c, now);
    xcb_flush(c->connection);
    return xcb_connection_has_error(c->connection) ? WV_CURSOR_LOST : 0;
}
