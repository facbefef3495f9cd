/* Every message that transport and identity can send to the encoder, in any order, through the stage's own
 * table and handlers, over real rings and an encoder that only pretends. Nothing is ever put into the ring
 * unless it opens under the key that identity gave last. */
#include "lib/base/log.h"
#include "tests/fuzz/bus_steps.h"

/* The table and the handlers are the program's own. */
#define main stage_main
int stage_main(int argc, char **argv);
#include "services/encoder/main.c"
#undef main

#include "lib/stage/internal.h"
#include "services/encoder/backend.h"

#define WIDTH      64u
#define HEIGHT     32u
#define UNIT_BYTES 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct wv_stage stage;
static struct encoder_stage encoder;
static struct bus_dispatcher *dispatcher;
static struct wv_ring_producer *capture;
static struct wv_au_consumer *transport;
static uint64_t now = 1000 * WV_NS_PER_S;

static const uint8_t unit[UNIT_BYTES] = {0, 0, 0, 1, 0x65};

static void require(bool truth)
{
    if (!truth)
        abort();
}

static uint64_t clock_now(void)
{
    return now;
}

static int set_rate(struct wv_encoder *e, uint32_t bitrate_bps, uint32_t fps)
{
    require(bitrate_bps >= WV_ENCODER_MIN_BITRATE_BPS && bitrate_bps <= WV_ENCODER_MAX_BITRATE_BPS);
    require(fps >= 1 && fps <= WV_ENCODER_MAX_FPS);
    return 0;
}

static int encode(struct wv_encoder *e, const struct wv_picture *picture, bool keyframe,
                  struct wv_access_unit *ret)
{
    *ret = (struct wv_access_unit){.data = unit, .len = sizeof unit, .keyframe = keyframe};
    return 0;
}

static void free_none(struct wv_encoder *e)
{
}

static const struct wv_encoder_ops ops = {"pretends", set_rate, encode, free_none};
static struct wv_encoder pretends = {.ops = &ops};

static void begin(void)
{
    int frames, frames_reader, units, units_reader;
    wv_log_set_level(WV_LOG_ERROR);
    require(rift_crypto_init() == 0 && wv_loop_new(&stage.loop) == 0);
    require(wv_metrics_new(&stage.metrics, -1, "encoder", wv_encoder_metrics, WV_ENCODER_N_METRICS) == 0);
    require(wv_bus_new(&stage.bus, stage.loop, rules, WV_ARRAY_SIZE(rules), &encoder) == 0);
    require(wv_ring_create(WIDTH, HEIGHT, &frames, &frames_reader) == 0);
    require(wv_ring_producer_new(&capture, frames, frames_reader) == 0);
    require(wv_ring_consumer_new(&encoder.raw, frames, frames_reader) == 0);
    require(wv_au_ring_create(&units, &units_reader) == 0);
    require(wv_au_producer_new(&encoder.out, units, units_reader) == 0);
    require(wv_au_consumer_new(&transport, units, units_reader) == 0);
    encoder.stage = &stage;
    encoder.encoder = &pretends;
    require(wv_loop_add_timer(stage.loop, on_event, &encoder, &encoder.timer) == 0);
    require(wv_loop_add_timer(stage.loop, on_key_timer, &encoder, &encoder.key_timer) == 0);
    require(bus_dispatcher_new(&dispatcher, rules, WV_ARRAY_SIZE(rules), &encoder) == 0);
    bus_dispatcher_set_phase(dispatcher, WV_PHASE_RUN);
}

static void show(void)
{
    uint8_t *pixels;
    struct wv_frame_header h = {.format = WV_PIXEL_NV12,
                                .width = WIDTH,
                                .height = HEIGHT,
                                .stride = WIDTH,
                                .capture_ns = now,
                                .damage_ns = now};
    (void)wv_ring_begin(capture, &pixels);
    wv_ring_publish(capture, &h, now);
    require(work(&encoder) >= 0);
}

/* What transport would read: always sealed, and shorter than what it may be. */
static void drain_units(void)
{
    struct wv_au_header h;
    const uint8_t *data;
    int r;
    while ((r = wv_au_pop(transport, &h, &data)) == 0) {
        require(h.size > UNIT_BYTES && !memmem(data, h.size, unit, 16));
        wv_au_pop_done(transport);
    }
    require(r == WV_AU_EMPTY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bus_step step;
    if (!dispatcher)
        begin();
    const struct wv_pump_options options = {.raw = encoder.raw,
                                            .out = encoder.out,
                                            .encoder = &pretends,
                                            .metrics = stage.metrics,
                                            .au_event = -1,
                                            .bitrate_bps = 8000000,
                                            .fps = 60,
                                            .refine_frames = 5,
                                            .refine_after_ms = 40,
                                            .clock = clock_now};
    require(wv_pump_new(&encoder.pump, &options) == 0);
    while (bus_next_step(&data, &len, &step)) {
        now += 7 * WV_NS_PER_MS;
        if (step.op >= 128)
            show();
        else if (bus_deliver_step(dispatcher, rules, WV_ARRAY_SIZE(rules), &step, now) < 0)
            break; /* keys that are counted anew end the process, by design */
        drain_units();
    }
    encoder.pump = wv_pump_free(encoder.pump);
    return 0;
}
