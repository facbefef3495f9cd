/* wavry-input: the controlling client's keys and pointer, into this machine. It has XTEST or uinput, the
 * input page and the key that the controlling client's events open under; it never has a network socket, a
 * picture, or the host's key. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/stage.h"
#include "proto/bus_input.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "rift/crypto/identity.h"
#include "services/input/injector.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MAX_BATCH    512 /* events of one message */
#define ASK_AGAIN_NS (20 * WV_NS_PER_MS)

struct input {
    struct wv_stage *stage;
    struct wv_input_page *page;
    struct wv_injector *injector;
    int uinput[WV_UINPUT_DEVICES];
    bool own_uinput;                  /* opened here, not granted */
    struct wv_loop_source *ask_timer; /* until it is known who controls, and transport knows that */
    bool known;
};

static const struct wv_config_entry config[] = {
    {"backend", WV_CONFIG_CHOICE, "auto", 0, 0, "auto|xtest|uinput|none",
     "How input is injected; auto is XTEST where a display answers, else uinput."},
    {"display", WV_CONFIG_STRING, "", 0, 0, NULL, "X display for XTEST (\":0\"); empty: $DISPLAY."},
    {"xauthority", WV_CONFIG_STRING, "", 0, 0, NULL,
     "File with the display's access cookie; empty: $XAUTHORITY or ~/.Xauthority."},
};

static int on_batch(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct input *i = userdata;
    const Wavry__Bus__InputBatch *m = (const Wavry__Bus__InputBatch *)message;
    Wavry__Bus__InputDone done = WAVRY__BUS__INPUT_DONE__INIT;
    const struct wv_injector_clock clock = {.known = m->clock_known, .offset_us = m->clock_offset_us};
    const struct wv_sealed_batch batch = {.session = m->session,
                                          .first_seq = m->first_seq,
                                          .events = m->events.data,
                                          .n = m->events.len / RIFT_INPUT_SEALED_BYTES,
                                          .came_us = m->came_us,
                                          .n_came = m->n_came_us};
    int r;

    if (batch.n > MAX_BATCH || m->events.len % RIFT_INPUT_SEALED_BYTES) {
        wv_warning("a batch of input can't be", "bytes=%zu limit=%d", m->events.len,
                   MAX_BATCH * RIFT_INPUT_SEALED_BYTES);
        return 0;
    }
    r = wv_injector_batch(i->injector, &batch, &clock, now, &done.seq);
    if (r) /* of another session: transport or we will soon learn who controls, and it sends them again */
        return r < 0 ? r : 0;
    done.session = m->session;
    (void)wv_bus_send(wv_stage_link(i->stage, "transport"), &done.base);
    return 0;
}

/* What transport sent to the process before, or to this one before it knew who controls, is gone. It would
 * send that again by itself, but late, and behind newer events. */
static void ask_for_rest(struct input *i, uint64_t now)
{
    Wavry__Bus__InputDone done = WAVRY__BUS__INPUT_DONE__INIT;

    done.session = wv_input_page_session(i->page);
    done.seq = wv_input_page_injected(i->page);
    done.again = true;
    if (wv_bus_send(wv_stage_link(i->stage, "transport"), &done.base) == WV_BUS_UNSENT)
        wv_loop_timer_at(i->ask_timer, now + ASK_AGAIN_NS);
}

static int on_ask(void *userdata, uint64_t now)
{
    struct input *i = userdata;
    Wavry__Bus__ControllerQuestion question = WAVRY__BUS__CONTROLLER_QUESTION__INIT;

    if (i->known) {
        if (wv_input_page_session(i->page))
            ask_for_rest(i, now);
        return 0;
    }
    (void)wv_bus_send(wv_stage_link(i->stage, "identity"), &question.base);
    wv_loop_timer_at(i->ask_timer, now + ASK_AGAIN_NS);
    return 0;
}

/* Identity alone says who controls; transport may not. */
static int on_controller(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct input *i = userdata;
    const Wavry__Bus__Controller *m = (const Wavry__Bus__Controller *)message;
    int r;

    if (m->session && m->key.len != RIFT_INNER_KEY_BYTES) {
        wv_warning("identity named a controller without a key", "session=%u bytes=%zu", m->session,
                   m->key.len);
        return 0;
    }
    r = wv_injector_set_controller(i->injector, m->session, m->session ? m->key.data : NULL, now);
    i->known = true;
    wv_loop_timer_at(i->ask_timer, 0);
    if (r == 0 && m->session)
        ask_for_rest(i, now);
    return r;
}

/* Whatever session it names: nobody controls now, so nothing stays down. */
static int on_release(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct input *i = userdata;

    return wv_injector_release(i->injector, now);
}

static void status(void *userdata, const char *text)
{
    struct input *i = userdata;

    wv_stage_status(i->stage, "%s", text);
}

static const struct wv_bus_rule rules[] = {
    {"identity", &wavry__bus__controller__descriptor, WV_PHASE_RUN, 200, 64, on_controller},
    {"transport", &wavry__bus__input_batch__descriptor, WV_PHASE_RUN, 4000, 32768, on_batch},
    {"transport", &wavry__bus__input_release__descriptor, WV_PHASE_RUN | WV_PHASE_DRAIN, 1000, 64,
     on_release},
};

/* Three descriptors of /dev/uinput: those that the supervisor keeps for us, or our own. Each makes one
 * device. Returns whether they are the supervisor's. */
static bool find_uinput(struct input *i)
{
    static const char *const names[WV_UINPUT_DEVICES] = {"uinput", "uinput-tablet", "uinput-mouse"};
    bool granted = true;

    for (unsigned n = 0; n < WV_UINPUT_DEVICES; n++) {
        i->uinput[n] = wv_stage_fd(i->stage, names[n]);
        granted &= i->uinput[n] >= 0;
    }
    if (granted)
        return true;
    i->own_uinput = true;
    for (unsigned n = 0; n < WV_UINPUT_DEVICES; n++)
        i->uinput[n] = open("/dev/uinput", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (i->uinput[WV_UINPUT_DEVICES - 1] < 0)
        for (unsigned n = 0; n < WV_UINPUT_DEVICES; n++)
            i->uinput[n] = wv_close(i->uinput[n]);
    return false;
}

static enum wv_injector_backend backend_of(const char *choice)
{
    if (!strcmp(choice, "xtest"))
        return WV_INJECTOR_XTEST;
    if (!strcmp(choice, "uinput"))
        return WV_INJECTOR_UINPUT;
    return !strcmp(choice, "none") ? WV_INJECTOR_NONE : WV_INJECTOR_AUTO;
}

static int open_stage(struct wv_stage *stage, void **ret_context)
{
    struct wv_config *k = wv_stage_config(stage);
    struct input *i = calloc(1, sizeof(*i));
    struct wv_injector_options options;
    int r;

    if (!i)
        return -ENOMEM;
    i->stage = stage;
    *ret_context = i;
    r = rift_crypto_init();
    if (r < 0)
        return r;
    r = wv_input_page_map(&i->page, wv_stage_fd(stage, "input-page"), true);
    if (r < 0) {
        wv_error("the input page can't be used", "error=\"%s\"", strerror(-r));
        return r;
    }
    options = (struct wv_injector_options){
        .loop = wv_stage_loop(stage),
        .metrics = wv_stage_metrics(stage),
        .page = i->page,
        .boost_event = wv_stage_fd(stage, "boost-event"),
        .backend = backend_of(wv_config_string(k, "backend")),
        .display = wv_config_string(k, "display"),
        .xauthority = wv_config_string(k, "xauthority"),
        .keep_devices = find_uinput(i),
        .status = status,
        .userdata = i,
    };
    memcpy(options.uinput, i->uinput, sizeof(options.uinput));
    return wv_injector_new(&i->injector, &options);
}

static int start(struct wv_stage *stage, void *context)
{
    struct input *i = context;
    int r = wv_loop_add_timer(wv_stage_loop(stage), on_ask, i, &i->ask_timer);

    if (r < 0)
        return r;
    wv_loop_timer_at(i->ask_timer, 1);
    return 0;
}

static void drain(struct wv_stage *stage, void *context)
{
    struct input *i = context;

    (void)wv_injector_release(i->injector, wv_now_ns());
    wv_stage_drained(stage);
}

static void close_stage(struct wv_stage *stage, void *context)
{
    struct input *i = context;

    wv_injector_free(i->injector);
    wv_input_page_unmap(i->page);
    for (unsigned n = 0; i->own_uinput && n < WV_UINPUT_DEVICES; n++)
        wv_close(i->uinput[n]);
    free(i);
}

/* For opening the display anew after lockdown: its socket is AF_UNIX, its cookie is read from a file. */
static const struct wv_sandbox sandbox = {.file_reads = true, .max_files = 64};

int main(int argc, char **argv)
{
    static const struct wv_stage_definition definition = {
        .name = "input",
        .summary = "Injects the keys and the pointer of the controlling client into this machine.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = wv_injector_metrics,
        .n_metrics = WV_INJECTOR_N_METRICS,
        .rules = rules,
        .n_rules = WV_ARRAY_SIZE(rules),
        .sandbox = &sandbox,
        .open = open_stage,
        .start = start,
        .drain = drain,
        .close = close_stage,
    };

    return wv_stage_main(&definition, argc, argv);
}
