/* What brings the picture back after a frame that was lost for good: a keyframe that is asked for, or intra
 * refresh, a column of the picture in every frame that needs nothing from before. Text scrolls at 30 pictures
 * a second; a frame is taken out of the stream; each picture after it is held against what it should be. One
 * line per setting. */
#include "lib/base/util.h"
#include "services/encoder/x264.h"
#include "tests/unit/encoder_kit.h"

#include <math.h>
#include <stdio.h>

#define WIDTH    1280u
#define HEIGHT   720u
#define FPS      30u
#define WARM_UP  70u
#define LOSSES   6u  /* frames taken out, one by one */
#define WATCHED  75u /* pictures looked at after each */
#define RUN      (WARM_UP + LOSSES * WATCHED)
#define PAGES    24u
#define LINK_BPS 10e6
#define RIGHT    0.02 /* as good as without a loss: SSIM less by this at most */

struct setting {
    const char *name;
    uint32_t refresh_frames; /* 0: a keyframe is asked for */
    uint32_t vbv_percent;
};

struct sums {
    double ssim, worst, first; /* of undamaged pictures; the worst after a loss; the one that recovers */
    uint64_t frames, bytes, longest, recovery_bytes;
    double recovered, sharp; /* pictures from the loss until then, sums over losses */
    unsigned losses;
};

static struct kit_picture pages[PAGES];

static const struct kit_picture *page_of(unsigned i)
{
    unsigned step = i % (2 * PAGES - 2);
    return &pages[step < PAGES ? step : 2 * PAGES - 2 - step];
}

static struct wv_encoder *make(const struct setting *s, uint32_t bitrate_bps)
{
    struct wv_x264_options options = {.threads = 2,
                                      .vbv_percent = s->vbv_percent,
                                      .qp_min = 12,
                                      .refresh_frames = s->refresh_frames,
                                      .bitrate_bps = bitrate_bps,
                                      .fps = FPS};
    struct wv_encoder *e = NULL;
    if (wv_encoder_x264_new(&e, &options)) {
        fputs("bench-recovery: there is no x264 encoder\n", stderr);
        exit(69);
    }
    return e;
}

/* Whether frame I is taken out, and whether it is the one that answers a request for a keyframe: the loss
 * shows with the next frame, and the request takes a round trip. */
static bool is_lost(unsigned i)
{
    return i >= WARM_UP && (i - WARM_UP) % WATCHED == 0;
}

static bool is_answer(unsigned i, unsigned rtt_ms)
{
    unsigned after = (1000 / FPS + rtt_ms + 1000 / FPS - 1) * FPS / 1000;
    return i >= WARM_UP && (i - WARM_UP) % WATCHED == after;
}

/* The likeness of every picture without any loss. */
static void encode_whole(const struct setting *s, uint32_t bitrate_bps, double ssim[RUN], struct sums *sums)
{
    struct wv_encoder *e = make(s, bitrate_bps);
    struct kit_decoder *d = kit_decoder_new(wv_encoder_x264_plugin_dir());
    for (unsigned i = 0; i < RUN; i++) {
        struct wv_picture picture = kit_view(page_of(i));
        struct wv_access_unit au;
        struct kit_picture seen;
        if (wv_encoder_encode(e, &picture, false, &au) || !d || kit_decode(d, &au, &seen) != 1)
            exit(70);
        ssim[i] = kit_ssim(&seen, page_of(i));
        if (i < WARM_UP)
            continue;
        sums->ssim += ssim[i];
        sums->bytes += au.len;
        sums->longest = WV_MAX(sums->longest, (uint64_t)au.len);
        sums->frames++;
    }
    kit_decoder_free(d);
    wv_encoder_free(e);
}

/* One picture after a loss at distance AFTER (pictures). */
static void judge(struct sums *sums, unsigned after, double seen, double whole, double *sharp_at)
{
    sums->worst = WV_MIN(sums->worst, seen);
    if (seen < whole - RIGHT)
        *sharp_at = -1;
    else if (*sharp_at < 0)
        *sharp_at = after;
}

static void encode_with_losses(const struct setting *s, uint32_t bitrate_bps, unsigned rtt_ms,
                               const double whole[RUN], struct sums *sums)
{
    struct wv_encoder *e = make(s, bitrate_bps);
    struct kit_decoder *d = kit_decoder_new(wv_encoder_x264_plugin_dir());
    bool waiting = false;
    double sharp_at = 0;
    unsigned after = 0;
    for (unsigned i = 0; i < RUN; i++, after++) {
        struct wv_picture picture = kit_view(page_of(i));
        struct wv_access_unit au;
        struct kit_picture seen;
        bool answer = !s->refresh_frames && is_answer(i, rtt_ms);
        if (wv_encoder_encode(e, &picture, answer, &au))
            exit(70);
        if (is_lost(i)) {
            sums->sharp += i > WARM_UP ? sharp_at : 0;
            sums->losses++;
            waiting = !s->refresh_frames;
            after = 0;
            sharp_at = -1;
            continue;
        }
        if (waiting && !answer)
            continue; /* not shown: it refers to what is missing */
        if (kit_decode(d, &au, &seen) != 1)
            continue;
        double ssim = kit_ssim(&seen, page_of(i));
        if (i > WARM_UP)
            judge(sums, after, ssim, whole[i], &sharp_at);
        if (answer) {
            sums->recovered += after;
            sums->recovery_bytes += au.len;
            sums->first += ssim;
            waiting = false;
        }
    }
    sums->sharp += sharp_at;
    kit_decoder_free(d);
    wv_encoder_free(e);
}

static void bench(const struct setting *s, uint32_t bitrate_bps, unsigned rtt_ms)
{
    static double whole[RUN];
    struct sums sums = {.worst = 1};
    encode_whole(s, bitrate_bps, whole, &sums);
    encode_with_losses(s, bitrate_bps, rtt_ms, whole, &sums);
    double frame_ms = 1000.0 / FPS, link_ms = 8e3 / LINK_BPS, n = sums.losses;
    double mean = (double)sums.bytes / (double)sums.frames, recovery = (double)sums.recovery_bytes / n;
    double sharp_ms = sums.sharp / n * frame_ms, right_ms = sharp_ms, first = sums.worst;
    if (!s->refresh_frames) {
        right_ms = sums.recovered / n * frame_ms + recovery * link_ms;
        first = sums.first / n;
    }
    printf("%-24s %5.1f %4u  %7.4f %6.0f %6llu  %6.1f %5.1f  %6.0f %8.0f  %12.4f %7.4f\n", s->name,
           bitrate_bps / 1e6, rtt_ms, sums.ssim / (double)sums.frames, mean, (unsigned long long)sums.longest,
           mean * link_ms, fmax((double)sums.longest, recovery) * link_ms, right_ms, sharp_ms, first,
           sums.worst);
    fflush(stdout);
}

int main(void)
{
    static const struct setting settings[] = {
        {"keyframe, vbv 100 %", 0, 100}, {"keyframe, vbv 200 %", 0, 200},  {"keyframe, vbv 400 %", 0, 400},
        {"intra refresh in 8", 8, 100},  {"intra refresh in 15", 15, 100}, {"intra refresh in 30", 30, 100},
    };
    static const uint32_t rates[] = {2000000, 6000000};
    struct wv_encoder *first =
        make(&settings[0], rates[0]); /* GStreamer must run before there can be a decoder */
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = kit_picture_new(WIDTH, HEIGHT, WIDTH);
        kit_draw_text(&pages[i], i * 4);
    }
    puts("                         at Mbit, RTT   while nothing is lost         ms on the link   ms after a "
         "loss    ssim "
         "after a loss\n"
         "                                         ssim  bytes   most    mean  most   right    sharp     "
         "first right, "
         "worst");
    for (size_t r = 0; r < WV_ARRAY_SIZE(rates); r++)
        for (size_t i = 0; i < WV_ARRAY_SIZE(settings); i++) {
            bench(&settings[i], rates[r], 40);
            if (!settings[i].refresh_frames && settings[i].vbv_percent == 100)
                bench(&settings[i], rates[r], 80);
        }
    for (unsigned i = 0; i < PAGES; i++)
        kit_picture_free(&pages[i]);
    wv_encoder_free(first);
    return 0;
}
