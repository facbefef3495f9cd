/* bench-glass: sits in front of the client's display as a person does. Presses a key at random moments and
 * waits for the patch of bench-scene to change; reads the time in its barcode all the while, and so knows how
 * old the picture is and when it stands still. Knows of the remote desktop in between only its pixels. */
#include "tests/bench/glass.h"
#include "lib/base/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <xcb/shm.h>
#include <xcb/xcb.h>
#include <xcb/xtest.h>

#define SPOT            8 /* pixels of the patch that are read, squared */
#define READS_HZ        1000u
#define READS_A_PICTURE 2 /* the barcode is read this much more rarely than a patch that is waited for */
#define HOLD_NS         (20 * WV_NS_PER_MS)
#define PAUSE_MS        150u /* and up to as much again, between a change that was seen and the next press */
#define MISS_NS         (3 * WV_NS_PER_S)
#define FREEZE_NS       (250 * WV_NS_PER_MS)
#define STALL_NS        (20 * WV_NS_PER_MS) /* we ourselves came so late: the machine was elsewhere */
#define KEY_SPACE       65                  /* as keycode, with the layout that X servers start with */
#define SAMPLES         200000u
#define START_NS        (20 * WV_NS_PER_S) /* for the picture to come at all */
#define DARK_UNTIL      96
#define LIGHT_FROM      160

struct moment {
    uint64_t at_ns, length_ns; /* 0: never seen */
};

struct glass {
    xcb_connection_t *x;
    xcb_screen_t *screen;
    xcb_shm_seg_t segment;
    const uint32_t *pixels; /* what was read last, row after row */
    uint64_t start_ns;
    /* presses */
    bool waiting, is_down, on;
    uint64_t pressed_ns, press_at_ns;
    struct moment *presses;
    size_t n_presses, n_seen;
    /* pictures */
    uint32_t shown_ms;
    uint64_t shown_ns; /* 0: none yet */
    struct moment *freezes;
    size_t n_freezes, pictures;
    uint32_t *ages_ms;
    uint64_t longest_ns;
    struct moment *stalls;
    size_t n_stalls;
};

static int open_glass(struct glass *g)
{
    int number;
    g->x = xcb_connect(NULL, &number);
    if (xcb_connection_has_error(g->x))
        return -ECONNREFUSED;
    g->screen = xcb_setup_roots_iterator(xcb_get_setup(g->x)).data;
    size_t bytes = (size_t)GLASS_WIDTH * GLASS_HEIGHT * 4;
    wv_cleanup(wv_close_p) int fd = memfd_create("glass", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return -errno;
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    g->pixels = map;
    wv_cleanup(wv_free_p) xcb_shm_query_version_reply_t *shm =
        xcb_shm_query_version_reply(g->x, xcb_shm_query_version(g->x), NULL);
    wv_cleanup(wv_free_p) xcb_test_get_version_reply_t *test =
        xcb_test_get_version_reply(g->x, xcb_test_get_version(g->x, 2, 2), NULL);
    if (!shm || !test)
        return -ENOTSUP;
    g->segment = xcb_generate_id(g->x);
    int copy = dup(fd); /* xcb closes what it passes on */
    wv_cleanup(wv_free_p) xcb_generic_error_t *error =
        xcb_request_check(g->x, xcb_shm_attach_fd_checked(g->x, g->segment, copy, 0));
    return error ? -ENOTSUP : 0;
}

static bool read_pixels(struct glass *g, int x, int y, uint16_t w, uint16_t h)
{
    wv_cleanup(wv_free_p) xcb_shm_get_image_reply_t *reply =
        xcb_shm_get_image_reply(g->x,
                                xcb_shm_get_image(g->x, g->screen->root, (int16_t)x, (int16_t)y, w, h,
                                                  UINT32_MAX, XCB_IMAGE_FORMAT_Z_PIXMAP, g->segment, 0),
                                NULL);
    return reply;
}

static unsigned luma(uint32_t pixel)
{
    return ((pixel >> 16 & 0xff) * 77 + (pixel >> 8 & 0xff) * 150 + (pixel & 0xff) * 29) >> 8;
}

/* 1: on, 0: off, -1: neither, or on the way. */
static int look_at_patch(struct glass *g)
{
    unsigned sum = 0;
    if (!read_pixels(g, (g->screen->width_in_pixels - SPOT) / 2, (g->screen->height_in_pixels - SPOT) / 2,
                     SPOT, SPOT))
        return -1;
    for (unsigned i = 0; i < SPOT * SPOT; i++)
        sum += luma(g->pixels[i]);
    unsigned mean = sum / (SPOT * SPOT);
    return mean < DARK_UNTIL ? 0 : mean > LIGHT_FROM ? 1 : -1;
}

/* Returns whether the barcode could be read. */
static bool read_bars(struct glass *g, uint32_t *ret_ms)
{
    uint32_t code = 0;
    if (!read_pixels(g, 0, 0, GLASS_WIDTH, GLASS_HEIGHT))
        return false;
    for (uint32_t i = 0; i < GLASS_COLUMNS * GLASS_ROWS; i++) {
        uint32_t x = i % GLASS_COLUMNS * GLASS_CELL, y = i / GLASS_COLUMNS * GLASS_CELL, sum = 0;
        for (uint32_t dy = 6; dy < 10; dy++)
            for (uint32_t dx = 6; dx < 10; dx++)
                sum += luma(g->pixels[(y + dy) * GLASS_WIDTH + x + dx]);
        code |= (uint32_t)(sum / 16 >= 128) << i;
    }
    *ret_ms = glass_code_ms(code);
    return glass_code(*ret_ms) == code;
}

static void key(struct glass *g, bool down)
{
    xcb_test_fake_input(g->x, down ? XCB_KEY_PRESS : XCB_KEY_RELEASE, KEY_SPACE, XCB_CURRENT_TIME,
                        g->screen->root, 0, 0, 0);
    xcb_flush(g->x);
    g->is_down = down;
}

static void watch_picture(struct glass *g)
{
    uint32_t ms;
    bool readable = read_bars(g, &ms);
    uint64_t now = wv_now_ns();
    if (!readable || (g->shown_ns && ms == g->shown_ms))
        return;
    if (g->shown_ns && g->pictures < SAMPLES) {
        uint64_t still = now - g->shown_ns;
        g->longest_ns = WV_MAX(g->longest_ns, still);
        if (still > FREEZE_NS && g->n_freezes < SAMPLES)
            g->freezes[g->n_freezes++] = (struct moment){g->shown_ns, still};
        g->ages_ms[g->pictures++] = (uint32_t)(now / WV_NS_PER_MS - ms) & 0xffffffu;
    }
    g->shown_ms = ms;
    g->shown_ns = now;
}

static void plan_press(struct glass *g, uint64_t now)
{
    g->press_at_ns = now + (PAUSE_MS + (uint64_t)random() % (PAUSE_MS + 1)) * WV_NS_PER_MS;
}

static void watch_patch(struct glass *g)
{
    int patch = look_at_patch(g);
    uint64_t now = wv_now_ns();
    if (g->is_down && now - g->pressed_ns >= HOLD_NS)
        key(g, false);
    if (!g->waiting) {
        if (now < g->press_at_ns || patch < 0 || g->n_presses == SAMPLES)
            return;
        g->on = patch;
        g->waiting = true;
        g->pressed_ns = wv_now_ns();
        key(g, true);
        return;
    }
    bool seen = patch >= 0 && patch != g->on;
    if (!seen && now - g->pressed_ns < MISS_NS)
        return;
    g->presses[g->n_presses++] = (struct moment){g->pressed_ns, seen ? now - g->pressed_ns : 0};
    g->n_seen += seen;
    g->waiting = false;
    plan_press(g, now);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_moments(const struct glass *g, const char *name, const struct moment *m, size_t n)
{
    printf(", \"%s\": [", name);
    for (size_t i = 0; i < n; i++)
        printf("%s[%.3f, %.1f]", i ? ", " : "", (double)(m[i].at_ns - g->start_ns) / 1e9,
               (double)m[i].length_ns / 1e6);
    printf("]");
}

static void report(const struct glass *g, double seconds)
{
    wv_cleanup(wv_free_p) uint64_t *ages = calloc(g->pictures + 1, sizeof *ages);
    if (!ages)
        abort();
    for (size_t i = 0; i < g->pictures; i++)
        ages[i] = g->ages_ms[i];
    qsort(ages, g->pictures, sizeof *ages, by_value);
    size_t last = g->pictures ? g->pictures - 1 : 0;
    printf(
        "{\"seconds\": %.1f, \"start\": %.3f, \"pictures\": %zu, \"age_ms\": {\"p50\": %llu, \"p95\": %llu, "
        "\"p99\": %llu, \"max\": %llu}, \"longest_ms\": %.1f",
        seconds, (double)g->start_ns / 1e9, g->pictures, (unsigned long long)ages[last / 2],
        (unsigned long long)ages[last * 95 / 100], (unsigned long long)ages[last * 99 / 100],
        (unsigned long long)ages[last], (double)g->longest_ns / 1e6);
    print_moments(g, "presses", g->presses, g->n_presses);
    print_moments(g, "freezes", g->freezes, g->n_freezes);
    print_moments(g, "stalls", g->stalls, g->n_stalls);
    puts("}");
}

static void sleep_until(uint64_t at)
{
    struct timespec ts = {(time_t)(at / WV_NS_PER_S), (long)(at % WV_NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

/* Returns whether the scene came into sight and a press had an effect. */
static bool wait_for_picture(struct glass *g)
{
    uint64_t end = wv_now_ns() + START_NS;
    plan_press(g, wv_now_ns());
    while (wv_now_ns() < end && (!g->shown_ns || !g->n_seen)) {
        watch_picture(g);
        if (g->shown_ns)
            watch_patch(g);
        sleep_until(wv_now_ns() + WV_NS_PER_S / READS_HZ);
    }
    return g->shown_ns && g->n_seen;
}

static void run(struct glass *g, double seconds)
{
    uint64_t end = wv_now_ns() + (uint64_t)(seconds * 1e9), tick = wv_now_ns();
    unsigned reads = 0;
    g->start_ns = tick;
    g->n_presses = g->n_seen = g->pictures = g->n_freezes = 0;
    g->longest_ns = 0;
    while (tick < end) {
        if (reads++ % READS_A_PICTURE == 0)
            watch_picture(g);
        if (g->waiting || g->is_down || wv_now_ns() >= g->press_at_ns)
            watch_patch(g);
        tick = WV_MAX(tick + WV_NS_PER_S / READS_HZ, wv_now_ns());
        sleep_until(tick);
        uint64_t late = wv_now_ns() - tick;
        if (late > STALL_NS && g->n_stalls < SAMPLES)
            g->stalls[g->n_stalls++] = (struct moment){tick, late};
    }
    /* A picture that stands still to the end is frozen, too. */
    uint64_t still = end - WV_MIN(g->shown_ns, end);
    if (still > FREEZE_NS && g->n_freezes < SAMPLES)
        g->freezes[g->n_freezes++] = (struct moment){g->shown_ns, still};
    g->longest_ns = WV_MAX(g->longest_ns, still);
}

static void close_glass(struct glass *g)
{
    xcb_disconnect(g->x);
    free(g->presses);
    free(g->freezes);
    free(g->stalls);
    free(g->ages_ms);
}

int main(int argc, char **argv)
{
    double seconds = argc == 2 ? strtod(argv[1], NULL) : 0;
    if (!(seconds > 0 && seconds < 100000)) {
        fputs("usage: bench-glass SECONDS\n"
              "Presses a key on $DISPLAY, where a remote desktop shows bench-scene, and prints as JSON when "
              "each\n"
              "press was seen (milliseconds, 0: never), how old the pictures were, freezes above 250 ms, and "
              "when the\n"
              "watcher itself was woken more than 20 ms late.\n",
              stderr);
        return EX_USAGE;
    }
    struct glass g = {.presses = calloc(SAMPLES, sizeof *g.presses),
                      .freezes = calloc(SAMPLES, sizeof *g.freezes),
                      .stalls = calloc(SAMPLES, sizeof *g.stalls),
                      .ages_ms = calloc(SAMPLES, sizeof *g.ages_ms)};
    if (!g.presses || !g.freezes || !g.stalls || !g.ages_ms)
        return EX_OSERR;
    prctl(PR_SET_TIMERSLACK, 1000UL);
    int r = open_glass(&g);
    if (r < 0) {
        fprintf(stderr, "bench-glass: this display can't be used: %s\n", strerror(-r));
        return EX_UNAVAILABLE;
    }
    srandom((unsigned)wv_now_ns());
    /* Inside the viewer, off the patch and off the edges where bars pop up. */
    xcb_test_fake_input(g.x, XCB_MOTION_NOTIFY, 0, XCB_CURRENT_TIME, g.screen->root,
                        (int16_t)(g.screen->width_in_pixels * 7 / 10),
                        (int16_t)(g.screen->height_in_pixels * 7 / 10), 0);
    xcb_flush(g.x);
    bool seen = wait_for_picture(&g);
    if (seen) {
        run(&g, seconds);
        report(&g, seconds);
    } else {
        fprintf(stderr, "bench-glass: %s\n",
                g.shown_ns ? "no press had an effect" : "the scene did not come into sight");
    }
    close_glass(&g);
    return seen ? EX_OK : EX_UNAVAILABLE;
}
