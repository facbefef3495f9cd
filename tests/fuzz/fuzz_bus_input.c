/* Every message that transport and identity can send to the input stage, in any order, through the stage's
 * own table and handlers; and, beside it, a gate whose backend notes what is injected: never anything that
 * was not sealed under the controller's key, no number twice, nothing held down after a release. Operations
 * above 63 are events sealed as the controller would. */
#include "lib/base/log.h"
#include "tests/fuzz/bus_steps.h"

/* The table and the handlers are the program's own. */
#define main stage_main
int stage_main(int argc, char **argv);
#include "services/input/main.c"
#undef main

#include "lib/stage/internal.h"

#define MAX_EVENTS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct wv_stage stage;
static struct input input;
static struct bus_dispatcher *dispatcher;
static struct wv_input_page *second_page;
static struct wv_gate gate;
static uint8_t key[RIFT_INNER_KEY_BYTES];
static uint64_t now = 1000 * WV_NS_PER_S;
static bool honest; /* the batch under way was sealed by us for the controller */

static int note(struct wv_backend *b, const struct rift_input_event *event)
{
    bool lets_go = (event->kind == RIFT_INPUT_KEY || event->kind == RIFT_INPUT_BUTTON) && !event->down;
    if (!honest && !lets_go)
        abort(); /* a release of what was held may come at any time */
    if (!wv_gate_in_range(event))
        abort();
    return 0;
}

static int flush(struct wv_backend *b)
{
    return 0;
}

static struct wv_backend *free_none(struct wv_backend *b)
{
    return NULL;
}

static const struct wv_backend_ops noting = {"noting", note, flush, NULL, free_none};
static struct wv_backend backend = {.ops = &noting, .fd = -1};

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void begin(void)
{
    int page, other;
    wv_log_set_level(WV_LOG_ERROR);
    require(rift_crypto_init() == 0 && wv_loop_new(&stage.loop) == 0);
    require(wv_metrics_new(&stage.metrics, -1, "input", wv_injector_metrics, WV_INJECTOR_N_METRICS) == 0);
    require(wv_bus_new(&stage.bus, stage.loop, rules, WV_ARRAY_SIZE(rules), &input) == 0);
    require(wv_input_page_create(&page) == 0 && wv_input_page_map(&input.page, page, true) == 0);
    require(wv_input_page_create(&other) == 0 && wv_input_page_map(&second_page, other, true) == 0);
    input.stage = &stage;
    const struct wv_injector_options options = {.loop = stage.loop,
                                                .metrics = stage.metrics,
                                                .page = input.page,
                                                .boost_event = -1,
                                                .backend = WV_INJECTOR_NONE,
                                                .uinput = {-1, -1, -1},
                                                .status = status,
                                                .userdata = &input};
    require(wv_injector_new(&input.injector, &options) == 0);
    require(wv_loop_add_timer(stage.loop, on_ask, &input, &input.ask_timer) == 0);
    require(bus_dispatcher_new(&dispatcher, rules, WV_ARRAY_SIZE(rules), &input) == 0);
    bus_dispatcher_set_phase(dispatcher, WV_PHASE_RUN);
}

/* The same events for both: those of the message, or sealed here. */
static void give(const struct wv_sealed_batch *b, bool sealed_here)
{
    const struct wv_injector_clock clock = {0};
    bool urgent;
    uint32_t done = 0, injector_done = 0;
    honest = sealed_here && b->session == gate.session;
    uint64_t forged = gate.refused_forged, injected = gate.injected;
    require(wv_gate_batch(&gate, b, now, &urgent, &done) >= 0);
    if (!sealed_here)
        require(gate.injected == injected && gate.refused_forged >= forged);
    require(wv_injector_batch(input.injector, b, &clock, now, &injector_done) >= 0);
    honest = false;
}

/* Plain events from the bytes, sealed under the controller's key with rising numbers. */
static void seal_and_give(uint8_t first, const uint8_t *data, size_t len)
{
    uint8_t events[MAX_EVENTS][RIFT_INPUT_SEALED_BYTES], plain[RIFT_INPUT_PLAIN_BYTES];
    uint64_t came[MAX_EVENTS];
    size_t n = 0;
    if (!gate.session)
        return;
    for (; n < MAX_EVENTS && len >= sizeof plain; n++, data += sizeof plain, len -= sizeof plain) {
        memcpy(plain, data, sizeof plain);
        rift_input_seal(key, first + (uint32_t)n, plain, events[n]);
        came[n] = now / WV_NS_PER_US - (plain[1] & 0x80 ? WV_GATE_STALE_US + 1 : 0);
    }
    give(&(struct wv_sealed_batch){.session = gate.session,
                                   .first_seq = first,
                                   .events = events[0],
                                   .n = n,
                                   .came_us = came,
                                   .n_came = n},
         true);
}

static void control(uint8_t session)
{
    memset(key, session, sizeof key);
    require(wv_gate_set_controller(&gate, session, session ? key : NULL) >= 0);
    require(wv_injector_set_controller(input.injector, session, session ? key : NULL, now) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bus_step step;
    uint16_t code;
    if (!dispatcher)
        begin();
    /* Of the input before nothing is known any more. */
    wv_gate_init(&gate, second_page);
    require(wv_gate_set_backend(&gate, &backend) >= 0);
    control(0);
    control(1);
    while (bus_next_step(&data, &len, &step)) {
        now += 7 * WV_NS_PER_MS;
        if (step.op >= 192) {
            control(step.op % 4);
        } else if (step.op >= 64) {
            seal_and_give(step.op - 63, step.data, step.len);
        } else if (step.op >= 48) {
            give(&(struct wv_sealed_batch){.session = gate.session,
                                           .first_seq = step.op,
                                           .events = step.data,
                                           .n = step.len / RIFT_INPUT_SEALED_BYTES},
                 false);
        } else if (bus_deliver_step(dispatcher, rules, WV_ARRAY_SIZE(rules), &step, now) < 0) {
            abort();
        }
    }
    require(wv_gate_release_all(&gate) >= 0 && wv_input_page_held(second_page, &code, 1) == 0);
    require(wv_injector_release(input.injector, now) >= 0);
    return 0;
}
