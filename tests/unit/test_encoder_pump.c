/* What becomes of the pictures that the encoder takes (pump): real rings, an encoder that only pretends, and
 * a clock that the test turns. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/encoder/backend.h"
#include "services/encoder/metrics.h"
#include "services/encoder/pump.h"
#include "services/encoder/schedule.h"
#include "services/encoder/shrink.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define MS     WV_NS_PER_MS
#define FRAME  (WV_NS_PER_S / 60)
#define WIDTH  64u
#define HEIGHT 32u

struct fake {
    struct wv_encoder base;
    uint64_t *clock;
    uint8_t *data;
    size_t len;
    unsigned calls, keyframes, fail;
    uint32_t bitrate_bps, fps, width, height;
    uint8_t first_pixel;
};

static int fake_set_rate(struct wv_encoder *e, uint32_t bitrate_bps, uint32_t fps)
{
    struct fake *f = (struct fake *)e;

    f->bitrate_bps = bitrate_bps;
    f->fps = fps;
    return 0;
}

static int fake_encode(struct wv_encoder *e, const struct wv_picture *picture, bool keyframe,
                       struct wv_access_unit *ret)
{
    struct fake *f = (struct fake *)e;

    f->calls++;
    *f->clock += 3 * MS;
    if (f->fail) {
        f->fail--;
        return -EIO;
    }
    keyframe |= picture->width != f->width || picture->height != f->height;
    f->width = picture->width;
    f->height = picture->height;
    f->keyframes += keyframe;
    f->first_pixel = picture->pixels[0];
    *ret = (struct wv_access_unit){.data = f->data, .len = f->len, .keyframe = keyframe};
    return 0;
}

static void fake_free(struct wv_encoder *e)
{
}

static const struct wv_encoder_ops fake_ops = {
    .name = "fake", .set_rate = fake_set_rate, .encode = fake_encode, .free = fake_free};

static uint64_t the_clock;

static uint64_t read_clock(void)
{
    return the_clock;
}

struct bed {
    int frames, raw_reader, entries, au_reader, event;
    struct wv_ring_producer *capture;
    struct wv_ring_consumer *raw;
    struct wv_au_producer *out;
    struct wv_au_consumer *transport;
    struct wv_metrics *metrics;
    struct fake fake;
    struct wv_pump *pump;
    uint32_t kid; /* of the pump's key */
    struct rift_media_opener opener;
    uint8_t opened[WV_AU_MAX_BYTES];
};

static void base_of(uint32_t kid, uint8_t ret[RIFT_MEDIA_KEY_BYTES])
{
    memset(ret, (int)kid, RIFT_MEDIA_KEY_BYTES);
}

/* As identity does when a process of the encoder asks. */
static void give_key(struct bed *b)
{
    uint8_t base[RIFT_MEDIA_KEY_BYTES];

    base_of(++b->kid, base);
    rift_media_opener_add(&b->opener, b->kid, base);
    ck_assert_int_eq(wv_pump_set_key(b->pump, b->kid, base), 0);
}

static void start_pump(struct bed *b)
{
    struct wv_pump_options o = {.metrics = b->metrics,
                                .au_event = b->event,
                                .encoder = &b->fake.base,
                                .bitrate_bps = 8000000,
                                .fps = 60,
                                .refine_frames = 4,
                                .refine_after_ms = 40,
                                .clock = read_clock};

    ck_assert_int_eq(wv_ring_consumer_new(&b->raw, b->frames, b->raw_reader), 0);
    ck_assert_int_eq(wv_au_producer_new(&b->out, b->entries, b->au_reader), 0);
    o.raw = b->raw;
    o.out = b->out;
    ck_assert_int_eq(wv_pump_new(&b->pump, &o), 0);
    give_key(b);
}

static void stop_pump(struct bed *b)
{
    b->pump = wv_pump_free(b->pump);
    b->out = wv_au_producer_free(b->out);
    b->raw = wv_ring_consumer_free(b->raw);
}

static struct bed *bed_new(void)
{
    struct bed *b = calloc(1, sizeof(*b));

    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(rift_crypto_init(), 0);
    rift_media_opener_init(&b->opener);
    the_clock = 1000 * MS;
    ck_assert_int_eq(wv_ring_create(256, 256, &b->frames, &b->raw_reader), 0);
    ck_assert_int_eq(wv_au_ring_create(&b->entries, &b->au_reader), 0);
    ck_assert_int_eq(wv_ring_producer_new(&b->capture, b->frames, b->raw_reader), 0);
    ck_assert_int_eq(wv_metrics_new(&b->metrics, -1, "encoder", wv_encoder_metrics, WV_ENCODER_N_METRICS), 0);
    b->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    b->fake = (struct fake){.base.ops = &fake_ops, .clock = &the_clock, .len = 5000};
    b->fake.data = calloc(1, WV_AU_MAX_BYTES + 1);
    ck_assert_ptr_nonnull(b->fake.data);
    start_pump(b);
    ck_assert_int_eq(wv_au_consumer_new(&b->transport, b->entries, b->au_reader), 0);
    return b;
}

static void bed_free(struct bed *b)
{
    stop_pump(b);
    b->transport = wv_au_consumer_free(b->transport);
    b->capture = wv_ring_producer_free(b->capture);
    b->metrics = wv_metrics_free(b->metrics);
    wv_close(b->frames);
    wv_close(b->raw_reader);
    wv_close(b->entries);
    wv_close(b->au_reader);
    wv_close(b->event);
    free(b->fake.data);
    free(b);
}

static void publish(struct bed *b, uint32_t width, uint8_t pixel)
{
    struct wv_frame_header h = {.format = WV_PIXEL_NV12,
                                .width = width,
                                .height = HEIGHT,
                                .stride = width,
                                .damage_ns = the_clock - 2 * MS,
                                .capture_ns = the_clock - MS,
                                .input_seq = pixel};
    uint8_t *pixels;

    (void)wv_ring_begin(b->capture, &pixels);
    memset(pixels, pixel, (size_t)width * HEIGHT * 3 / 2);
    wv_ring_publish(b->capture, &h, the_clock);
}

static uint64_t run(struct bed *b)
{
    uint64_t next = 0;

    ck_assert_int_eq(wv_pump_run(b->pump, &next), 0);
    return next;
}

/* Everything in the ring opens, and is what the encoder gave out. */
static bool pop(struct bed *b, struct wv_au_header *ret)
{
    const uint8_t *data;
    uint8_t *plain;
    size_t len;
    int r = wv_au_pop(b->transport, ret, &data);

    ck_assert_int_ne(r, WV_AU_BAD);
    if (r)
        return false;
    const struct rift_media_about about = {
        .epoch = ret->epoch, .keyframe = ret->keyframe, .width = ret->width, .height = ret->height};
    memcpy(b->opened, data, ret->size);
    wv_au_pop_done(b->transport);
    ck_assert_int_eq(rift_media_open(&b->opener, &about, b->opened, ret->size, &plain, &len), 0);
    ck_assert_uint_eq(len, b->fake.len);
    ck_assert_mem_eq(plain, b->fake.data, len);
    return true;
}

static uint64_t metric(struct bed *b, enum wv_encoder_metric id)
{
    return wv_metric_value(b->metrics, id);
}

START_TEST(a_picture_becomes_an_access_unit_with_all_its_times)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint64_t count = 0, published = the_clock;

    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_NO_PICTURE);
    ck_assert_uint_eq(run(b), WV_SCHEDULE_NEVER);
    publish(b, WIDTH, 7);
    the_clock += MS / 2;
    ck_assert_uint_eq(run(b), published + MS / 2 + 40 * MS);
    ck_assert_int_eq(eventfd_read(b->event, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(h.refers_to, h.frame_id);
    ck_assert_uint_eq(h.epoch, wv_au_producer_epoch(b->out));
    ck_assert_uint_eq(h.width, WIDTH);
    ck_assert_uint_eq(h.height, HEIGHT);
    ck_assert_uint_eq(h.input_seq, 7);
    ck_assert_uint_eq(h.damage_ns, published - 2 * MS);
    ck_assert_uint_eq(h.capture_ns, published - MS);
    ck_assert_uint_eq(h.raw_publish_ns, published);
    ck_assert_uint_eq(h.encode_start_ns, published + MS / 2);
    ck_assert_uint_eq(h.encode_end_ns, h.encode_start_ns + 3 * MS);
    ck_assert_uint_eq(h.publish_ns, h.encode_end_ns);
    ck_assert_uint_eq(h.size, 5000 + 1 + RIFT_MEDIA_TAG_BYTES);
    ck_assert_uint_eq(metric(b, WV_ENCODER_FRAMES), 1);
    ck_assert_uint_eq(metric(b, WV_ENCODER_KEYFRAMES), 1);
    ck_assert_uint_eq(metric(b, WV_ENCODER_RAW_WAIT_US), 1);
    ck_assert_uint_eq(metric(b, WV_ENCODER_DAMAGE_TO_AU_US), 1);
    publish(b, WIDTH, 8);
    publish(b, WIDTH, 9); /* the newest wins */
    run(b);
    ck_assert_uint_eq(b->fake.first_pixel, 9);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 0);
    ck_assert_uint_eq(h.refers_to, h.frame_id - 1);
    ck_assert(!pop(b, &h));
    bed_free(b);
}
END_TEST

START_TEST(without_a_key_nothing_is_encoded)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint8_t base[RIFT_MEDIA_KEY_BYTES];
    uint64_t next;

    stop_pump(b);
    b->kid = UINT32_MAX - 1;
    start_pump(b); /* with a key; and another one without: */
    stop_pump(b);
    const struct wv_pump_options o = {.metrics = b->metrics,
                                      .au_event = -1,
                                      .encoder = &b->fake.base,
                                      .bitrate_bps = 8000000,
                                      .fps = 60,
                                      .clock = read_clock};
    struct wv_pump_options own = o;
    ck_assert_int_eq(wv_ring_consumer_new(&b->raw, b->frames, b->raw_reader), 0);
    ck_assert_int_eq(wv_au_producer_new(&b->out, b->entries, b->au_reader), 0);
    own.raw = b->raw;
    own.out = b->out;
    ck_assert_int_eq(wv_pump_new(&b->pump, &own), 0);
    publish(b, WIDTH, 7);
    ck_assert_int_eq(wv_pump_run(b->pump, &next), 0);
    ck_assert_uint_eq(next, WV_SCHEDULE_NEVER);
    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_NO_KEY);
    ck_assert_uint_eq(b->fake.calls, 0);
    ck_assert(!pop(b, &h));
    b->kid = 0;
    rift_media_opener_init(&b->opener);
    give_key(b);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    base_of(1, base);
    ck_assert_int_eq(wv_pump_set_key(b->pump, 1, base), WV_PUMP_KEY_KNOWN);
    base_of(5, base);
    ck_assert_int_eq(wv_pump_set_key(b->pump, 5, base), 0);
    base_of(4, base);
    ck_assert_int_eq(wv_pump_set_key(b->pump, 4, base), -ESTALE);
    bed_free(b);
}
END_TEST

START_TEST(another_key_needs_no_keyframe)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    for (uint8_t i = 0; i < 20; i++) {
        if (i % 5 == 4)
            give_key(b);
        publish(b, WIDTH, i);
        run(b);
        ck_assert(pop(b, &h)); /* and its counter began anew: one byte of header */
        ck_assert_uint_eq(h.size, 5000 + 1 + RIFT_MEDIA_TAG_BYTES);
        ck_assert_uint_eq(h.keyframe, i == 0);
    }
    bed_free(b);
}
END_TEST

START_TEST(what_waits_for_the_ring_is_not_sealed_twice)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    unsigned n = 0;

    b->fake.len = 1 << 20;
    while (wv_pump_state(b->pump) != WV_PUMP_RING_FULL) {
        publish(b, WIDTH, (uint8_t)++n);
        run(b);
        ck_assert_uint_lt(n, 20);
    }
    for (unsigned i = 0; i < 5; i++)
        run(b);
    give_key(b); /* while one waits: it goes out under the new one */
    while (pop(b, &h)) {
        the_clock += 10 * MS;
        run(b);
    }
    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_RUNNING);
    ck_assert_uint_eq(b->opener.last_kid, 2);
    ck_assert_uint_eq(b->opener.next, b->fake.calls - (n - 1)); /* no counter was left out */
    bed_free(b);
}
END_TEST

START_TEST(refinements_are_no_latency)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint64_t next;
    unsigned n = 0;

    publish(b, WIDTH, 1);
    next = run(b);
    ck_assert(pop(b, &h));
    while (next != WV_SCHEDULE_NEVER) {
        the_clock = WV_MAX(the_clock, next);
        next = run(b);
        if (!pop(b, &h))
            continue;
        n++;
        ck_assert_uint_eq(h.damage_ns, 0);
        ck_assert_uint_eq(h.capture_ns, h.encode_start_ns);
        ck_assert_uint_eq(h.keyframe, 0);
    }
    ck_assert_uint_eq(n, 4);
    ck_assert_uint_eq(metric(b, WV_ENCODER_REFINE_FRAMES), 4);
    ck_assert_uint_eq(metric(b, WV_ENCODER_DAMAGE_TO_AU_US), 1);
    bed_free(b);
}
END_TEST

START_TEST(a_successor_starts_with_a_keyframe_of_the_newest_picture)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint32_t id;
    uint16_t epoch;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    id = h.frame_id;
    epoch = h.epoch;
    stop_pump(b);
    b->fake.width = 0; /* a new process has a new encoder */
    start_pump(b);
    run(b); /* nobody said anything: no target, no new picture */
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(h.epoch, (uint16_t)(epoch + 1));
    ck_assert_uint_eq(h.frame_id, id + 1);
    ck_assert_uint_eq(b->fake.first_pixel, 1);
    bed_free(b);
}
END_TEST

START_TEST(without_viewers_nothing_is_encoded_and_the_first_gets_a_keyframe)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    wv_pump_set_target(b->pump, 3000000, 30, 0);
    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_NO_VIEWERS);
    ck_assert_uint_eq(b->fake.bitrate_bps, 3000000);
    ck_assert_uint_eq(b->fake.fps, 30);
    the_clock += WV_NS_PER_S;
    publish(b, WIDTH, 2);
    ck_assert_uint_eq(run(b), WV_SCHEDULE_NEVER);
    ck_assert(!pop(b, &h));
    wv_pump_set_target(b->pump, 0, 0, 1);
    ck_assert_uint_eq(b->fake.bitrate_bps, 3000000);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(b->fake.first_pixel, 2);
    /* And from a picture that was encoded long ago. */
    wv_pump_set_target(b->pump, 0, 0, 0);
    the_clock += WV_NS_PER_S;
    wv_pump_set_target(b->pump, 0, 0, 1);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(h.damage_ns, 0);
    bed_free(b);
}
END_TEST

START_TEST(a_keyframe_request_is_answered_from_a_still_screen)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint32_t lost;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    lost = h.frame_id;
    the_clock += WV_NS_PER_S;
    wv_pump_request_keyframe(b->pump, lost);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    the_clock += 10 * WV_NS_PER_S;
    wv_pump_request_keyframe(b->pump, lost); /* came late: answered already */
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 0); /* a refinement */
    ck_assert_uint_eq(metric(b, WV_ENCODER_KEYFRAME_REQUESTS), 2);
    bed_free(b);
}
END_TEST

START_TEST(a_full_ring_stops_the_encoder_and_loses_nothing)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint32_t expected = 0;
    unsigned calls, n = 0;
    bool keyframe_after = false;

    b->fake.len = 1 << 20;
    while (wv_pump_state(b->pump) != WV_PUMP_RING_FULL) {
        the_clock += FRAME;
        publish(b, WIDTH, (uint8_t)n);
        run(b);
        ck_assert_uint_lt(++n, 20);
    }
    ck_assert_uint_eq(metric(b, WV_ENCODER_AU_RING_FULL), 1);
    calls = b->fake.calls;
    for (unsigned i = 0; i < 10; i++) { /* full: it asks again soon, and encodes nothing */
        uint64_t before = the_clock;

        publish(b, WIDTH, 100);
        ck_assert_uint_le(run(b), before + 10 * MS);
        the_clock += FRAME;
    }
    ck_assert_uint_eq(b->fake.calls, calls);
    ck_assert_uint_eq(metric(b, WV_ENCODER_AU_RING_FULL), 1);
    while (pop(b, &h)) {
        ck_assert(!expected || h.frame_id == expected);
        expected = h.frame_id + 1;
    }
    run(b);
    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_RUNNING);
    while (pop(b, &h)) { /* what waited, then a keyframe of the newest picture; no number left out */
        ck_assert_uint_eq(h.frame_id, expected++);
        keyframe_after = h.keyframe;
    }
    ck_assert(keyframe_after);
    ck_assert_uint_eq(b->fake.first_pixel, 100);
    bed_free(b);
}
END_TEST

START_TEST(a_hostile_header_is_counted_and_never_reaches_the_encoder)
{
    static const struct wv_frame_header bad[] = {
        {.format = 9, .width = 64, .height = 32, .stride = 64},
        {.format = WV_PIXEL_NV12, .width = 64, .height = 32, .stride = 63},
        {.format = WV_PIXEL_NV12, .width = 63, .height = 32, .stride = 64},
        {.format = WV_PIXEL_NV12, .width = 64, .height = 0, .stride = 64},
        {.format = WV_PIXEL_NV12, .width = 0xfffffffe, .height = 0xfffffffe, .stride = 0xffffffff},
        {.format = WV_PIXEL_NV12, .width = 256, .height = 4000, .stride = 256},
        {.format = WV_PIXEL_NV12,
         .width = 2,
         .height = 2,
         .stride = 2}, /* a ring's picture, not an encoder's */
        {.format = WV_PIXEL_NV12, .width = 64, .height = 32, .stride = 64, .n_damage = 0xffffffff},
    };
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint8_t *pixels;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        struct wv_frame_header header = bad[i];
        unsigned calls = b->fake.calls;

        (void)wv_ring_begin(b->capture, &pixels);
        wv_ring_publish(b->capture, &header, the_clock);
        run(b);
        ck_assert_uint_eq(b->fake.calls, calls);
        ck_assert_uint_eq(metric(b, WV_ENCODER_RING_BAD), i + 1);
        publish(b, WIDTH, (uint8_t)(10 + i));
        run(b);
        ck_assert_uint_eq(b->fake.first_pixel, 10 + i);
        ck_assert(pop(b, &h));
    }
    ck_assert_uint_eq(metric(b, WV_ENCODER_ERRORS), 0);
    bed_free(b);
}
END_TEST

START_TEST(a_failing_encoder_is_tried_again_then_given_up)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint64_t next;
    int r = 0;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    publish(b, WIDTH, 2);
    b->fake.fail = 2;
    next = run(b);
    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_FAILING);
    ck_assert_uint_le(next, the_clock + 10 * MS);
    for (unsigned i = 0; i < 2; i++) {
        the_clock += 10 * MS;
        run(b);
    }
    ck_assert_int_eq(wv_pump_state(b->pump), WV_PUMP_RUNNING);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    ck_assert_uint_eq(metric(b, WV_ENCODER_ERRORS), 2);
    publish(b, WIDTH, 3);
    b->fake.fail = 1000;
    for (unsigned i = 0; i < 20 && !r; i++) {
        the_clock += 10 * MS;
        r = wv_pump_run(b->pump, &next);
    }
    ck_assert_int_eq(r, -EIO);
    bed_free(b);
}
END_TEST

START_TEST(an_access_unit_too_large_is_lost_and_followed_by_a_keyframe)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    b->fake.len = WV_AU_MAX_BYTES + 1;
    publish(b, WIDTH, 2);
    run(b);
    ck_assert(!pop(b, &h));
    b->fake.len = 100;
    the_clock += 10 * MS;
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.keyframe, 1);
    bed_free(b);
}
END_TEST

START_TEST(sizes_follow_the_pictures)
{
    struct bed *b = bed_new();
    struct wv_au_header h;
    uint32_t width, height;

    for (uint32_t i = 0; i < 4; i++) {
        publish(b, WIDTH + 32 * i, 1);
        run(b);
        ck_assert(pop(b, &h));
        ck_assert_uint_eq(h.keyframe, 1);
        ck_assert_uint_eq(h.width, WIDTH + 32 * i);
        wv_pump_size(b->pump, &width, &height);
        ck_assert_uint_eq(width, WIDTH + 32 * i);
        ck_assert_uint_eq(height, HEIGHT);
        ck_assert_uint_eq(metric(b, WV_ENCODER_WIDTH), width);
    }
    bed_free(b);
}
END_TEST

START_TEST(a_hold_lasts_until_the_next_target_and_the_newest_picture_wins)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    publish(b, WIDTH, 1);
    run(b);
    ck_assert(pop(b, &h));
    wv_pump_set_brakes(b->pump, true, 4);
    publish(b, WIDTH, 2);
    ck_assert_uint_eq(run(b), the_clock + 500 * MS);
    publish(b, WIDTH, 3);
    wv_pump_request_keyframe(b->pump, 0);
    run(b);
    ck_assert(!pop(b, &h));
    ck_assert_uint_eq(b->fake.calls, 1);
    wv_pump_set_brakes(b->pump, false, 4);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.input_seq, 3);
    ck_assert(!pop(b, &h));
    /* A transport that went away holds nobody for ever. */
    wv_pump_set_brakes(b->pump, true, 4);
    publish(b, WIDTH, 4);
    the_clock += 499 * MS;
    run(b);
    ck_assert(!pop(b, &h));
    the_clock += 2 * MS;
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(wv_metric_value(b->metrics, WV_ENCODER_HOLDS), 2);
    bed_free(b);
}
END_TEST

/* 200x104 with the left half black and the right half white. */
static void publish_halves(struct bed *b)
{
    struct wv_frame_header h = {
        .format = WV_PIXEL_NV12, .width = 200, .height = 104, .stride = 200, .capture_ns = the_clock - MS};
    uint8_t *pixels;

    (void)wv_ring_begin(b->capture, &pixels);
    memset(pixels, 128, 200 * 104 * 3 / 2);
    for (unsigned y = 0; y < 104; y++) {
        memset(pixels + y * 200, 16, 100);
        memset(pixels + y * 200 + 100, 235, 100);
    }
    wv_ring_publish(b->capture, &h, the_clock);
}

START_TEST(the_picture_is_scaled_as_the_target_says)
{
    struct bed *b = bed_new();
    struct wv_au_header h;

    wv_pump_set_brakes(b->pump, false, 3);
    publish_halves(b);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert(h.keyframe);
    ck_assert_uint_eq(h.width, 150);
    ck_assert_uint_eq(h.height, 78);
    ck_assert_uint_eq(h.source_width, 200);
    ck_assert_uint_eq(h.source_height, 104);
    ck_assert_uint_eq(b->fake.first_pixel, 16);
    wv_pump_set_brakes(b->pump, false, 2); /* 52 rows are too few: it stays as it is */
    publish_halves(b);
    run(b);
    ck_assert(pop(b, &h));
    ck_assert_uint_eq(h.width, 200);
    ck_assert_uint_eq(h.height, 104);
    bed_free(b);

    uint8_t pixels[128 * 128 * 3 / 2];
    struct wv_shrink s = {0};
    struct wv_picture p = {.pixels = pixels, .width = 128, .height = 128, .stride = 128};
    memset(pixels, 7, sizeof pixels);
    memset(pixels + 128 * 64, 99, 128 * 64);
    wv_shrink(&s, &p, 2);
    ck_assert(p.width == 64 && p.height == 64 && p.stride == 64 && p.pixels != pixels);
    ck_assert_uint_eq(p.pixels[0], 7);
    ck_assert_uint_eq(p.pixels[64 * 64 - 1], 99);
    ck_assert_uint_eq(p.pixels[64 * 64 * 3 / 2 - 1], 7);
    wv_shrink_fini(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("encoder: pump");
    TCase *t = tcase_create("pump");
    tcase_add_test(t, a_picture_becomes_an_access_unit_with_all_its_times);
    tcase_add_test(t, without_a_key_nothing_is_encoded);
    tcase_add_test(t, another_key_needs_no_keyframe);
    tcase_add_test(t, what_waits_for_the_ring_is_not_sealed_twice);
    tcase_add_test(t, refinements_are_no_latency);
    tcase_add_test(t, a_successor_starts_with_a_keyframe_of_the_newest_picture);
    tcase_add_test(t, without_viewers_nothing_is_encoded_and_the_first_gets_a_keyframe);
    tcase_add_test(t, a_keyframe_request_is_answered_from_a_still_screen);
    tcase_add_test(t, a_full_ring_stops_the_encoder_and_loses_nothing);
    tcase_add_test(t, a_hostile_header_is_counted_and_never_reaches_the_encoder);
    tcase_add_test(t, a_failing_encoder_is_tried_again_then_given_up);
    tcase_add_test(t, an_access_unit_too_large_is_lost_and_followed_by_a_keyframe);
    tcase_add_test(t, sizes_follow_the_pictures);
    tcase_add_test(t, a_hold_lasts_until_the_next_target_and_the_newest_picture_wins);
    tcase_add_test(t, the_picture_is_scaled_as_the_target_says);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
