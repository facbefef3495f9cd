/* What a picture costs on the way from the display into the frame ring: from a change (drawn by another
 * client) to the slot published, and of that the reading and the conversion; for changes of several sizes and
 * for each way that the pixels can come. One JSON line per case. Needs a display on which it may draw:
 *     xvfb-run -s "-screen 0 1280x720x24" bench-capture */
#include "lib/base/util.h"
#include "lib/x11/display.h"
#include "services/capture/painter.h"
#include "services/capture/source.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 300u

struct bench {
    xcb_connection_t *connection; /* of the one who draws */
    xcb_screen_t *screen;
    xcb_gcontext_t gc;
    struct wv_ring_producer *ring;
    struct wv_painter painter;
    struct wv_source *source;
};

struct sample {
    uint64_t total_ns, read_ns, convert_ns;
};

static const struct {
    const char *name;
    int width, height; /* 0: all of the screen */
} cases[] = {{"patch 160x160", 160, 160}, {"band of 200 rows", 0, 200}, {"screen", 0, 0}};

static const struct {
    const char *name;
    enum wv_x11_transport transport;
} ways[] = {{"shm-fd", WV_X11_SHM_FD}, {"shm-sysv", WV_X11_SHM_SYSV}, {"socket", WV_X11_PLAIN}};

static void must(int r, const char *what)
{
    if (r) {
        fprintf(stderr, "bench-capture: %s\n", what);
        exit(69);
    }
}

static void draw(struct bench *b, int width, int height, uint32_t colour)
{
    xcb_rectangle_t rect = {width ? 300 : 0, height ? 300 : 0, (uint16_t)(width ? width : 16383),
                            (uint16_t)(height ? height : 16383)};

    xcb_change_gc(b->connection, b->gc, XCB_GC_FOREGROUND, &colour);
    xcb_poly_fill_rectangle(b->connection, b->screen->root, b->gc, 1, &rect);
    xcb_flush(b->connection);
}

/* Goes on until a picture is published. Returns false after 2 s. */
static bool one_picture(struct bench *b, struct sample *ret)
{
    struct wv_source *s = b->source;
    struct wv_frame_header header = {.capture_ns = 1};
    uint64_t start = wv_now_ns(), asked = 0, read;

    for (;;) {
        struct pollfd readable = {.fd = s->fd, .events = POLLIN};

        must(s->ops->process(s, wv_now_ns()), s->reason);
        if (s->ready)
            break;
        if (!s->reading && !wv_region_empty(&s->pending)) {
            asked = wv_now_ns();
            must(s->ops->request(s, asked), s->reason);
        }
        if (poll(&readable, 1, 2000) == 0)
            return false;
    }
    read = wv_now_ns();
    s->ready = false;
    wv_painter_changed(&b->painter, &s->fresh);
    wv_painter_publish(&b->painter, &s->picture, &header, wv_now_ns);
    *ret = (struct sample){header.publish_ns - start, read - asked, header.publish_ns - read};
    return true;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void print_quantiles(const char *name, uint64_t *ns)
{
    qsort(ns, ROUNDS, sizeof(*ns), by_value);
    printf(", \"%s\": {\"p50\": %.1f, \"p99\": %.1f}", name, (double)ns[ROUNDS / 2] / 1e3,
           (double)ns[ROUNDS * 99 / 100] / 1e3);
}

static void bench_case(struct bench *b, const char *way, size_t which)
{
    static uint64_t total[ROUNDS], read[ROUNDS], convert[ROUNDS];
    struct sample s;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        usleep(2000); /* as a display that had been still */
        draw(b, cases[which].width, cases[which].height, i * 0x030507);
        must(!one_picture(b, &s), "the display did not tell of a change");
        total[i] = s.total_ns;
        read[i] = s.read_ns;
        convert[i] = s.convert_ns;
    }
    printf("{\"bench\": \"capture\", \"transport\": \"%s\", \"change\": \"%s\", \"size\": \"%ux%u\"", way,
           cases[which].name, b->source->picture.width, b->source->picture.height);
    print_quantiles("total_us", total);
    print_quantiles("read_us", read);
    print_quantiles("convert_us", convert);
    printf("}\n");
    fflush(stdout);
}

static void bench_way(struct bench *b, size_t which)
{
    struct wv_x11_options options = {.transports = ways[which].transport};
    char reason[160] = "";
    struct sample first;

    if (wv_source_x11_open(&b->source, &options, reason, sizeof(reason))) {
        printf("{\"bench\": \"capture\", \"transport\": \"%s\", \"skipped\": \"%s\"}\n", ways[which].name,
               reason);
        return;
    }
    wv_painter_init(&b->painter, b->ring);
    must(wv_painter_set_size(&b->painter, b->source->picture.width, b->source->picture.height),
         "the display is huge");
    must(b->source->ops->watch(b->source, true, wv_now_ns()), "no DAMAGE");
    must(!one_picture(b, &first), "no first picture");
    for (size_t i = 0; i < WV_ARRAY_SIZE(cases); i++)
        bench_case(b, ways[which].name, i);
    b->source->ops->free(b->source);
}

int main(void)
{
    struct bench b = {0};
    int frames, reader;
    char reason[160] = "";

    must(wv_x11_open(NULL, NULL, &b.connection, &b.screen, reason, sizeof(reason)), reason);
    b.gc = xcb_generate_id(b.connection);
    xcb_create_gc(b.connection, b.gc, b.screen->root, XCB_GC_SUBWINDOW_MODE,
                  (uint32_t[]){XCB_SUBWINDOW_MODE_INCLUDE_INFERIORS});
    must(wv_ring_create(WV_RING_MAX_WIDTH, WV_RING_MAX_HEIGHT, &frames, &reader), "no frame ring");
    must(wv_ring_producer_new(&b.ring, frames, reader), "no frame ring");
    for (size_t i = 0; i < WV_ARRAY_SIZE(ways); i++)
        bench_way(&b, i);
    wv_ring_producer_free(b.ring);
    wv_x11_close(b.connection);
    return 0;
}
