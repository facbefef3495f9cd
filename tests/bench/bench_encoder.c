/* What an encoder setting costs and gives: time per picture on scrolling text (p50, p99), bytes per picture
 * against the budget, and how fast a still page sharpens. One JSON line per setting. Without arguments it
 * goes through presets and thread counts; an argument "preset,threads[,vbv_percent[,qp_min[,options]]]"
 * measures that one. */
#include "lib/base/util.h"
#include "services/encoder/x264.h"
#include "tests/unit/encoder_kit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WIDTH       1280u
#define HEIGHT      720u
#define FPS         60u
#define BITRATE_BPS 8000000u
#define WARM_UP     20u
#define FRAMES      240u
#define PAGES       8u /* pictures drawn beforehand, then encoded up and down */
#define REFINE      12u

struct setting {
    char preset[16];
    uint32_t threads, vbv_percent, qp_min;
    char tuning[256];
};

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static uint32_t quantile(uint32_t *values, size_t n, double q)
{
    qsort(values, n, sizeof(*values), by_value);
    return values[(size_t)((double)(n - 1) * q)];
}

static struct wv_encoder *make(const struct setting *s)
{
    struct wv_x264_options options = {
        .preset = s->preset,
        .threads = s->threads,
        .vbv_percent = s->vbv_percent,
        .qp_min = s->qp_min,
        .tuning = *s->tuning ? s->tuning : NULL,
        .bitrate_bps = BITRATE_BPS,
        .fps = FPS,
    };
    struct wv_encoder *e = NULL;
    int r = wv_encoder_x264_new(&e, &options);

    if (r) {
        fprintf(stderr, "bench-encoder: no x264 encoder with preset %s: %s\n", s->preset, strerror(-r));
        exit(69);
    }
    return e;
}

static void must(int r, const char *what)
{
    if (r) {
        fprintf(stderr, "bench-encoder: %s: %s\n", what, strerror(-r));
        exit(70);
    }
}

/* Text scrolled by 4 rows a picture, like a reader's browser. */
static void bench_scroll(const struct setting *s, struct kit_decoder *decoder)
{
    static uint32_t us[FRAMES], bytes[FRAMES];
    struct kit_picture pages[PAGES], seen;
    struct wv_encoder *e = make(s);
    double ssim = 0;
    uint64_t total = 0;

    for (uint32_t i = 0; i < PAGES; i++) {
        pages[i] = kit_picture_new(WIDTH, HEIGHT, WIDTH);
        kit_draw_text(&pages[i], i * 4);
    }
    for (uint32_t i = 0; i < WARM_UP + FRAMES; i++) {
        uint32_t step = i % (2 * PAGES - 2), page = step < PAGES ? step : 2 * PAGES - 2 - step;
        struct wv_picture picture = kit_view(&pages[page]);
        struct wv_access_unit au;
        uint64_t start = wv_now_ns();

        must(wv_encoder_encode(e, &picture, false, &au), "encode");
        if (i >= WARM_UP) {
            us[i - WARM_UP] = (uint32_t)((wv_now_ns() - start) / WV_NS_PER_US);
            bytes[i - WARM_UP] = (uint32_t)au.len;
            total += au.len;
        }
        if (decoder && kit_decode(decoder, &au, &seen) == 1 && i >= WARM_UP && i % 20 == 0)
            ssim += kit_ssim(&seen, &pages[page]) / (FRAMES / 20);
    }
    printf("\"scroll\":{\"encode_us\":{\"p50\":%u,\"p99\":%u},\"bytes\":{\"mean\":%llu,\"p99\":%u},\"ssim\":%"
           ".4f}",
           quantile(us, FRAMES, 0.5), quantile(us, FRAMES, 0.99), (unsigned long long)(total / FRAMES),
           quantile(bytes, FRAMES, 0.99), ssim);
    for (uint32_t i = 0; i < PAGES; i++)
        kit_picture_free(&pages[i]);
    e = wv_encoder_free(e);
}

/* A still page: the keyframe, then refinements. */
static void bench_still(const struct setting *s, struct kit_decoder *decoder)
{
    static const unsigned shown[] = {0, 1, 2, 4, 6, 9, 12};
    struct kit_picture page = kit_picture_new(WIDTH, HEIGHT, WIDTH), seen;
    struct wv_picture picture = kit_view(&page);
    struct wv_encoder *e = make(s);
    uint64_t total = 0;
    size_t next = 0;

    kit_draw_text(&page, 0);
    printf(",\"still\":[");
    for (uint32_t i = 0; i <= REFINE; i++) {
        struct wv_access_unit au;
        uint64_t start = wv_now_ns(), us;

        must(wv_encoder_encode(e, &picture, false, &au), "encode");
        us = (wv_now_ns() - start) / WV_NS_PER_US;
        total += au.len;
        if (decoder && kit_decode(decoder, &au, &seen) == 1 && next < WV_ARRAY_SIZE(shown) &&
            shown[next] == i) {
            printf("%s{\"refinements\":%u,\"ssim\":%.4f,\"psnr\":%.1f,\"bytes\":%zu,\"us\":%llu}",
                   next ? "," : "", i, kit_ssim(&seen, &page), kit_psnr(&seen, &page), au.len,
                   (unsigned long long)us);
            next++;
        }
    }
    printf("],\"still_bytes\":%llu", (unsigned long long)total);
    kit_picture_free(&page);
    e = wv_encoder_free(e);
}

static void bench(const struct setting *s)
{
    struct wv_encoder *first = make(s); /* GStreamer must run before there can be a decoder */
    struct kit_decoder *decoder = kit_decoder_new(wv_encoder_x264_plugin_dir());

    printf("{\"bench\":\"encoder\",\"preset\":\"%s\",\"threads\":%u,\"vbv_percent\":%u,\"qp_min\":%u,"
           "\"options\":\"%s\",",
           s->preset, s->threads, s->vbv_percent, s->qp_min, s->tuning);
    bench_scroll(s, decoder);
    decoder = kit_decoder_free(decoder);
    decoder = kit_decoder_new(wv_encoder_x264_plugin_dir());
    bench_still(s, decoder);
    printf("}\n");
    fflush(stdout);
    decoder = kit_decoder_free(decoder);
    first = wv_encoder_free(first);
}

int main(int argc, char **argv)
{
    static const char *const presets[] = {"desktop", "ultrafast", "superfast", "veryfast", "faster"};

    if (argc == 2) {
        struct setting s = {.vbv_percent = 100, .qp_min = 0};

        if (sscanf(argv[1], "%15[^,],%u,%u,%u,%255s", s.preset, &s.threads, &s.vbv_percent, &s.qp_min,
                   s.tuning) < 2) {
            fprintf(stderr, "usage: %s [preset,threads[,vbv_percent[,qp_min[,options]]]]\n", argv[0]);
            return 64;
        }
        bench(&s);
        return 0;
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(presets); i++)
        for (uint32_t threads = 1; threads <= 2; threads++) {
            struct setting s = {.threads = threads, .vbv_percent = 100};

            snprintf(s.preset, sizeof(s.preset), "%s", presets[i]);
            bench(&s);
        }
    return 0;
}
