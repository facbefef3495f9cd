/* Every message that transport and identity can send to capture, in any order, through the stage's own table
 * and handlers, over a real ring and the test pattern. The cursor's shape is never told before there is a key
 * to seal it with. */
#include "lib/base/log.h"
#include "tests/fuzz/bus_steps.h"

/* The table and the handlers are the program's own. */
#define main stage_main
int stage_main(int argc, char **argv);
#include "services/capture/main.c"
#undef main

#include "lib/stage/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct wv_stage stage;
static struct capture capture;
static struct bus_dispatcher *dispatcher;
static uint64_t now;

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void begin(void)
{
    int frames, reader;
    wv_log_set_level(WV_LOG_ERROR);
    require(rift_crypto_init() == 0 && wv_loop_new(&stage.loop) == 0);
    require(wv_metrics_new(&stage.metrics, -1, "capture", wv_stream_metrics, WV_STREAM_N_METRICS) == 0);
    require(wv_bus_new(&stage.bus, stage.loop, rules, WV_ARRAY_SIZE(rules), &capture) == 0);
    require(wv_ring_create(64, 64, &frames, &reader) == 0);
    require(wv_ring_producer_new(&capture.ring, frames, reader) == 0);
    capture.stage = &stage;
    const struct wv_stream_options options = {.loop = stage.loop,
                                              .ring = capture.ring,
                                              .metrics = stage.metrics,
                                              .publish_event = -1,
                                              .source = WV_STREAM_PATTERN,
                                              .display = "",
                                              .xauthority = "",
                                              .max_fps = 60,
                                              .pattern_width = 64,
                                              .pattern_height = 64,
                                              .cursor = {cursor_moved, cursor_shape, &capture},
                                              .status = status,
                                              .userdata = &capture};
    require(wv_stream_new(&capture.stream, &options) == 0);
    require(wv_loop_add_timer(stage.loop, on_key_timer, &capture, &capture.key_timer) == 0);
    require(bus_dispatcher_new(&dispatcher, rules, WV_ARRAY_SIZE(rules), &capture) == 0);
    bus_dispatcher_set_phase(dispatcher, WV_PHASE_RUN);
    now = wv_now_ns();
}

/* A shape from the bytes, told as a source tells it. */
static void shape(const uint8_t *data, size_t len)
{
    static uint8_t pixels[64 * 64 * 4];
    uint8_t width = len ? data[0] % 65 : 1, height = len > 1 ? data[1] % 65 : 1;
    const struct wv_cursor_image image = {
        .shape_id = (uint32_t)len, .width = width, .height = height, .argb = pixels};
    memset(pixels, len > 2 ? data[2] : 0, sizeof pixels);
    if (capture.sealer.kid == 0)
        require(wv_cursor_seal(&capture.sealer, &image) < 0);
    cursor_shape(&capture, &image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bus_step step;
    if (!dispatcher)
        begin();
    explicit_bzero(&capture.sealer, sizeof capture.sealer);
    wv_cursor_sealer_init(&capture.sealer);
    while (bus_next_step(&data, &len, &step)) {
        now += 7 * WV_NS_PER_MS;
        if (step.op >= 192)
            shape(step.data, step.len);
        else if (step.op >= 128)
            require(on_boost(&capture, now) >= 0);
        else
            require(bus_deliver_step(dispatcher, rules, WV_ARRAY_SIZE(rules), &step, now) >= 0);
    }
    return 0;
}
