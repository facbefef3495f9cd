/* wavry-demo-target: something to look at and to press, for the demo and for measurements. Draws a small
 * desktop (on a display of its own full screen, else in a window): text, a clock, a ball in motion, and a
 * patch that changes between two colours that nothing else has at every key or button press, wherever the
 * focus is. */
#include "demo/patch.h"
#include "lib/base/util.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <xcb/xcb.h>
#include <xcb/xinput.h>

#define BALL 48

struct target {
    xcb_connection_t *x;
    xcb_screen_t *screen;
    xcb_window_t window;
    xcb_gcontext_t gc;
    int width, height;
    bool patch_on;
    double ball_x, ball_y, speed_x, speed_y; /* pixels, pixels a second */
    unsigned presses;
};

static void fill(struct target *t, uint32_t colour, int x, int y, int w, int h)
{
    xcb_change_gc(t->x, t->gc, XCB_GC_FOREGROUND, &colour);
    xcb_rectangle_t r = {(int16_t)x, (int16_t)y, (uint16_t)w, (uint16_t)h};
    xcb_poly_fill_rectangle(t->x, t->window, t->gc, 1, &r);
}

static void text(struct target *t, uint32_t colour, uint32_t back, int x, int y, const char *s)
{
    uint32_t values[] = {colour, back};
    xcb_change_gc(t->x, t->gc, XCB_GC_FOREGROUND | XCB_GC_BACKGROUND, values);
    xcb_image_text_8(t->x, (uint8_t)strlen(s), t->window, t->gc, (int16_t)x, (int16_t)y, s);
}

static uint32_t background_at(const struct target *t, int y)
{
    unsigned shade = (unsigned)(32 + 40 * y / t->height);
    return (shade / 2) << 16 | (shade * 3 / 4) << 8 | (shade + 24);
}

/* The background is bands of 8 rows, so that what the ball uncovers is cheap to draw again. */
static void draw_background(struct target *t, int x, int y, int w, int h)
{
    int from = WV_MAX(y, 0) / 8 * 8, to = WV_MIN(y + h, t->height);
    for (int row = from; row < to; row += 8)
        fill(t, background_at(t, row), x, row, w, 8);
}

static void draw_patch(struct target *t)
{
    fill(t, t->patch_on ? DEMO_PATCH_ON : DEMO_PATCH_OFF, (t->width - DEMO_PATCH_SIZE) / 2,
         (t->height - DEMO_PATCH_SIZE) / 2, DEMO_PATCH_SIZE, DEMO_PATCH_SIZE);
}

static void draw_clock(struct target *t)
{
    char line[64];
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    struct tm tm;
    localtime_r(&ts.tv_sec, &tm);
    snprintf(line, sizeof line, "%02d:%02d:%02d   presses seen here: %u   ", tm.tm_hour, tm.tm_min, tm.tm_sec,
             t->presses);
    text(t, 0xffffff, background_at(t, 40), 24, 48, line);
}

static void draw_everything(struct target *t)
{
    draw_background(t, 0, 0, t->width, t->height);
    text(t, 0xffd070, background_at(t, 16), 24, 24,
         "Wavry demo: this picture is captured, encoded, sealed and sent");
    static const char *const lines[] = {
        "display -> capture -> encoder -> transport => client",
        "client => transport -> input -> display",
        "The patch in the middle changes at every key press.",
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(lines); i++)
        text(t, 0xc0d0e0, background_at(t, t->height - 72 + 16 * (int)i), 24, t->height - 64 + 16 * (int)i,
             lines[i]);
    draw_clock(t);
    draw_patch(t);
}

static double clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

static void move_ball(struct target *t, double seconds)
{
    draw_background(t, (int)t->ball_x, (int)t->ball_y, BALL, BALL);
    t->ball_x += t->speed_x * seconds;
    t->ball_y += t->speed_y * seconds;
    if (t->ball_x < 0 || t->ball_x > t->width - BALL) {
        t->speed_x = -t->speed_x;
        t->ball_x = clamp(t->ball_x, 0, t->width - BALL);
    }
    double lowest = t->height / 2.0 - DEMO_PATCH_SIZE / 2.0 - BALL;
    if (t->ball_y < 64 || t->ball_y > lowest) {
        t->speed_y = -t->speed_y;
        t->ball_y = clamp(t->ball_y, 64, lowest);
    }
    uint32_t colour = 0xf0a030;
    xcb_change_gc(t->x, t->gc, XCB_GC_FOREGROUND, &colour);
    xcb_arc_t arc = {(int16_t)t->ball_x, (int16_t)t->ball_y, BALL - 1, BALL - 1, 0, 360 * 64};
    xcb_poly_fill_arc(t->x, t->window, t->gc, 1, &arc);
}

static void press(struct target *t)
{
    t->patch_on = !t->patch_on;
    t->presses++;
    draw_patch(t);
    xcb_flush(t->x);
}

/* Raw events of the root window come whoever has the focus. */
static int select_raw_presses(struct target *t)
{
    struct {
        xcb_input_event_mask_t head;
        uint32_t mask;
    } m = {{XCB_INPUT_DEVICE_ALL_MASTER, 1},
           XCB_INPUT_XI_EVENT_MASK_RAW_KEY_PRESS | XCB_INPUT_XI_EVENT_MASK_RAW_BUTTON_PRESS};
    free(xcb_input_xi_query_version_reply(t->x, xcb_input_xi_query_version(t->x, 2, 2), NULL));
    wv_cleanup(wv_free_p) xcb_generic_error_t *e =
        xcb_request_check(t->x, xcb_input_xi_select_events_checked(t->x, t->screen->root, 1, &m.head));
    return e ? -EPROTO : 0;
}

static int open_target(struct target *t, bool windowed)
{
    int number;
    t->x = xcb_connect(NULL, &number);
    if (xcb_connection_has_error(t->x))
        return -ECONNREFUSED;
    t->screen = xcb_setup_roots_iterator(xcb_get_setup(t->x)).data;
    t->width = windowed ? 640 : t->screen->width_in_pixels;
    t->height = windowed ? 480 : t->screen->height_in_pixels;
    uint32_t values[] = {0x203040, !windowed, XCB_EVENT_MASK_EXPOSURE};
    t->window = xcb_generate_id(t->x);
    xcb_create_window(t->x, XCB_COPY_FROM_PARENT, t->window, t->screen->root, 0, 0, (uint16_t)t->width,
                      (uint16_t)t->height, 0, XCB_WINDOW_CLASS_INPUT_OUTPUT, t->screen->root_visual,
                      XCB_CW_BACK_PIXEL | XCB_CW_OVERRIDE_REDIRECT | XCB_CW_EVENT_MASK, values);
    static const char title[] = "Wavry demo";
    xcb_change_property(t->x, XCB_PROP_MODE_REPLACE, t->window, XCB_ATOM_WM_NAME, XCB_ATOM_STRING, 8,
                        sizeof title - 1, title);
    t->gc = xcb_generate_id(t->x);
    xcb_font_t font = xcb_generate_id(t->x);
    xcb_open_font(t->x, font, 5, "fixed");
    uint32_t gc_values[] = {font, 0};
    xcb_create_gc(t->x, t->gc, t->window, XCB_GC_FONT | XCB_GC_GRAPHICS_EXPOSURES, gc_values);
    int r = select_raw_presses(t);
    if (r < 0)
        return r;
    xcb_map_window(t->x, t->window);
    xcb_flush(t->x);
    return 0;
}

static void handle(struct target *t, const xcb_generic_event_t *event)
{
    switch (event->response_type & 0x7f) {
    case XCB_EXPOSE:
        draw_everything(t);
        break;
    case XCB_GE_GENERIC:
        press(t);
        break;
    }
}

static int run(struct target *t, int fps)
{
    uint64_t period = WV_NS_PER_S / (unsigned)fps, next = wv_now_ns(), clock_at = next;
    for (;;) {
        uint64_t now = wv_now_ns();
        struct pollfd p = {xcb_get_file_descriptor(t->x), POLLIN, 0};
        struct timespec wait = {.tv_nsec = next > now ? (long)(next - now) : 0};
        ppoll(&p, 1, &wait, NULL);
        xcb_generic_event_t *event;
        while ((event = xcb_poll_for_event(t->x))) {
            handle(t, event);
            free(event);
        }
        if (xcb_connection_has_error(t->x))
            return EX_UNAVAILABLE;
        now = wv_now_ns();
        if (now < next)
            continue;
        next = WV_MAX(next + period, now);
        move_ball(t, (double)period / 1e9);
        if (now >= clock_at) {
            clock_at = now + WV_NS_PER_S;
            draw_clock(t);
        }
        xcb_flush(t->x);
    }
}

int main(int argc, char **argv)
{
    bool windowed = argc == 2 && !strcmp(argv[1], "--window"), help = argc == 2 && !strcmp(argv[1], "--help");
    if (help || (argc > 1 && !windowed)) {
        fputs("usage: wavry-demo-target [--window]\n"
              "Draws something to look at on $DISPLAY: text, a clock, a ball in motion, and a patch that\n"
              "changes its colour at every press of a key or button.\n\n"
              "  --window  a window of its own instead of the whole screen\n"
              "  --help    this text\n",
              help ? stdout : stderr);
        return help ? EX_OK : EX_USAGE;
    }
    struct target t = {.ball_x = 40, .ball_y = 80, .speed_x = 240, .speed_y = 90};
    int r = open_target(&t, windowed);
    if (r < 0) {
        fprintf(stderr,
                "wavry-demo-target: display '%s' can't be used: %s. Set DISPLAY to a running X server.\n",
                getenv("DISPLAY") ? getenv("DISPLAY") : "", strerror(-r));
        return EX_UNAVAILABLE;
    }
    return run(&t, 30);
}
