/* bench-scene: fills the host's display with a page of text and pictures that scrolls, a patch in its middle
 * that changes at every key press, and a barcode of the time (glass.h). Knows nothing of any remote desktop.
 */
#include "lib/base/util.h"
#include "tests/bench/glass.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <xcb/xcb.h>

#define PAGE_ROWS  1440u /* then it begins again */
#define STEP_ROWS  4u    /* of one picture */
#define STRIP_ROWS 16u
#define BLOCK_ROWS 240u
#define GLYPH_WIDE 6u
#define GLYPH_HIGH 16u

struct scene {
    xcb_connection_t *x;
    xcb_screen_t *screen;
    xcb_window_t window, patch, bars;
    xcb_gcontext_t gc;
    xcb_pixmap_t page;
    uint32_t width, height, row;
    bool on;
};

static uint32_t scramble(uint32_t a, uint32_t b)
{
    uint32_t h = a * 0x9e3779b1u ^ b * 0x85ebca77u;
    h = (h ^ h >> 15) * 0x2c1b3c6du;
    return h ^ h >> 13;
}

static bool is_ink(uint32_t x, uint32_t y)
{
    uint32_t gx = x % GLYPH_WIDE, gy = y % GLYPH_HIGH;
    uint32_t glyph = scramble(x / GLYPH_WIDE, y / GLYPH_HIGH);
    if (gx >= 5 || gy < 4 || gy >= 12 || glyph % 6 == 0)
        return false;
    return scramble(glyph % 40 * 8 + gy / 2, 7) >> gx & 1; /* 40 letters, of strokes and not of dust */
}

static uint32_t colour(double r, double g, double b)
{
    uint32_t v[3] = {(uint32_t)fmin(fmax(r, 0), 255), (uint32_t)fmin(fmax(g, 0), 255),
                     (uint32_t)fmin(fmax(b, 0), 255)};
    return v[0] << 16 | v[1] << 8 | v[2];
}

/* Like a photograph: slow waves of colour and a fine grain. */
static uint32_t photograph(uint32_t x, uint32_t y)
{
    double wave = sin(x * 0.013) + sin(y * 0.017) + sin((x + y) * 0.009);
    double grain = (double)(scramble(x, y) & 15) - 8;
    return colour(128 + 40 * wave + grain, 128 + 40 * sin(wave + 1) + grain, 128 + 50 * cos(wave) + grain);
}

static uint32_t page_pixel(uint32_t x, uint32_t y, uint32_t width)
{
    static const uint32_t paper[] = {0xfcfcf8, 0x1e222a}, ink[] = {0x14145a, 0x78dca0};
    uint32_t block = y / BLOCK_ROWS;
    if (block % 3 == 1 && x > width / 2)
        return photograph(x, y);
    return is_ink(x, y) ? ink[block % 2] : paper[block % 2];
}

/* The whole page once, on the server. */
static int draw_page(struct scene *s)
{
    uint32_t rows = PAGE_ROWS + s->height;
    wv_cleanup(wv_free_p) uint32_t *strip = calloc((size_t)s->width * STRIP_ROWS, sizeof *strip);
    if (!strip)
        return -ENOMEM;
    s->page = xcb_generate_id(s->x);
    xcb_create_pixmap(s->x, s->screen->root_depth, s->page, s->window, (uint16_t)s->width, (uint16_t)rows);
    for (uint32_t y = 0; y < rows; y += STRIP_ROWS) {
        uint32_t n = WV_MIN(STRIP_ROWS, rows - y);
        for (uint32_t i = 0; i < n * s->width; i++)
            strip[i] = page_pixel(i % s->width, (y + i / s->width) % PAGE_ROWS, s->width);
        xcb_put_image(s->x, XCB_IMAGE_FORMAT_Z_PIXMAP, s->page, s->gc, (uint16_t)s->width, (uint16_t)n, 0,
                      (int16_t)y, 0, s->screen->root_depth, s->width * n * 4, (const uint8_t *)strip);
    }
    return 0;
}

static void fill(struct scene *s, xcb_window_t window, uint32_t pixel, const xcb_rectangle_t *r, uint32_t n)
{
    xcb_change_gc(s->x, s->gc, XCB_GC_FOREGROUND, &pixel);
    xcb_poly_fill_rectangle(s->x, window, s->gc, n, r);
}

static void draw_bars(struct scene *s)
{
    xcb_rectangle_t white[GLASS_COLUMNS * GLASS_ROWS], all = {0, 0, GLASS_WIDTH, GLASS_HEIGHT};
    uint32_t code = glass_code((uint32_t)(wv_now_ns() / WV_NS_PER_MS)), n = 0;
    for (uint32_t i = 0; i < GLASS_COLUMNS * GLASS_ROWS; i++)
        if (code >> i & 1)
            white[n++] = (xcb_rectangle_t){(int16_t)(i % GLASS_COLUMNS * GLASS_CELL),
                                           (int16_t)(i / GLASS_COLUMNS * GLASS_CELL), GLASS_CELL, GLASS_CELL};
    fill(s, s->bars, 0, &all, 1);
    fill(s, s->bars, 0xffffff, white, n);
}

static void draw_patch(struct scene *s)
{
    xcb_rectangle_t all = {0, 0, GLASS_PATCH_SIZE, GLASS_PATCH_SIZE};
    fill(s, s->patch, s->on ? GLASS_PATCH_ON : GLASS_PATCH_OFF, &all, 1);
}

static void draw_window(struct scene *s)
{
    xcb_copy_area(s->x, s->page, s->window, s->gc, 0, (int16_t)s->row, 0, 0, (uint16_t)s->width,
                  (uint16_t)s->height);
    draw_bars(s);
}

static xcb_window_t child(struct scene *s, int x, int y, uint16_t w, uint16_t h)
{
    xcb_window_t window = xcb_generate_id(s->x);
    uint32_t events = XCB_EVENT_MASK_EXPOSURE;
    xcb_create_window(s->x, XCB_COPY_FROM_PARENT, window, s->window, (int16_t)x, (int16_t)y, w, h, 0,
                      XCB_WINDOW_CLASS_INPUT_OUTPUT, s->screen->root_visual, XCB_CW_EVENT_MASK, &events);
    xcb_map_window(s->x, window);
    return window;
}

static int open_scene(struct scene *s)
{
    int number;
    s->x = xcb_connect(NULL, &number);
    if (xcb_connection_has_error(s->x))
        return -ECONNREFUSED;
    s->screen = xcb_setup_roots_iterator(xcb_get_setup(s->x)).data;
    s->width = s->screen->width_in_pixels;
    s->height = s->screen->height_in_pixels;
    if (s->screen->root_depth != 24 || s->width < 2 * GLASS_WIDTH || s->height < 2 * GLASS_PATCH_SIZE)
        return -ENOTSUP;
    s->window = xcb_generate_id(s->x);
    uint32_t values[] = {1, XCB_EVENT_MASK_EXPOSURE | XCB_EVENT_MASK_KEY_PRESS};
    xcb_create_window(s->x, XCB_COPY_FROM_PARENT, s->window, s->screen->root, 0, 0, (uint16_t)s->width,
                      (uint16_t)s->height, 0, XCB_WINDOW_CLASS_INPUT_OUTPUT, s->screen->root_visual,
                      XCB_CW_OVERRIDE_REDIRECT | XCB_CW_EVENT_MASK, values);
    /* Of their own, so that the scroll never touches them, not even for an instant. */
    s->patch = child(s, (int)(s->width - GLASS_PATCH_SIZE) / 2, (int)(s->height - GLASS_PATCH_SIZE) / 2,
                     GLASS_PATCH_SIZE, GLASS_PATCH_SIZE);
    s->bars = child(s, 0, 0, GLASS_WIDTH, GLASS_HEIGHT);
    s->gc = xcb_generate_id(s->x);
    uint32_t no_exposures = 0;
    xcb_create_gc(s->x, s->gc, s->window, XCB_GC_GRAPHICS_EXPOSURES, &no_exposures);
    /* A key that is held because the news of its release was lost is still one press. */
    uint32_t off = XCB_AUTO_REPEAT_MODE_OFF;
    xcb_change_keyboard_control(s->x, XCB_KB_AUTO_REPEAT_MODE, &off);
    xcb_warp_pointer(s->x, XCB_NONE, s->window, 0, 0, 0, 0, (int16_t)(s->width / 4),
                     (int16_t)(s->height / 4));
    int r = draw_page(s);
    xcb_map_window(s->x, s->window);
    xcb_flush(s->x);
    return r;
}

static void handle(struct scene *s, const xcb_generic_event_t *event)
{
    switch (event->response_type & 0x7f) {
    case XCB_KEY_PRESS:
        s->on = !s->on;
        draw_patch(s);
        break;
    case XCB_EXPOSE:
        draw_window(s);
        draw_patch(s);
        break;
    }
}

static int run(struct scene *s, unsigned fps)
{
    uint64_t period = WV_NS_PER_S / fps, next = wv_now_ns();
    for (;;) {
        uint64_t now = wv_now_ns();
        struct pollfd p = {xcb_get_file_descriptor(s->x), POLLIN, 0};
        struct timespec wait = {.tv_nsec = next > now ? (long)(next - now) : 0};
        ppoll(&p, 1, &wait, NULL);
        xcb_generic_event_t *event;
        while ((event = xcb_poll_for_event(s->x))) {
            handle(s, event);
            free(event);
        }
        if (xcb_connection_has_error(s->x))
            return EX_UNAVAILABLE;
        now = wv_now_ns();
        if (now >= next) {
            s->row = (s->row + STEP_ROWS) % PAGE_ROWS;
            draw_window(s);
            next = next + period > now ? next + period : now + period; /* never in bursts */
        }
        xcb_flush(s->x);
    }
}

int main(int argc, char **argv)
{
    struct scene s = {0};
    long fps = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (fps < 1 || fps > 240) {
        fputs("usage: bench-scene FRAMES-A-SECOND\n"
              "Draws a page that scrolls on $DISPLAY, for bench-glass to look at.\n",
              stderr);
        return EX_USAGE;
    }
    int r = open_scene(&s);
    if (r < 0) {
        fprintf(stderr, "bench-scene: this display can't be used: %s\n", strerror(-r));
        return EX_UNAVAILABLE;
    }
    return run(&s, (unsigned)fps);
}
