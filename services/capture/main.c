/* wavry-capture: the display, into the frame ring. It has the display, the ring and a key for the cursor's
 * shape; it never has a network socket, a key of a session, or a device. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/stage.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "rift/crypto/identity.h"
#include "services/capture/cursor_seal.h"
#include "services/capture/stream.h"

#include <errno.h>
#include <string.h>

/* Transport tells at least once a second while somebody watches. Until its first word somebody is taken to
 * watch, so that a session sees pictures at once after our restart; but not for ever. */
#define FIRST_WORD_NS (3 * WV_NS_PER_S)
/* How soon the cursor's key is asked for again: no answer came. */
#define ASK_AGAIN_NS (20 * WV_NS_PER_MS)

struct capture {
    struct wv_stage *stage;
    struct wv_ring_producer *ring;
    struct wv_input_page *input_page;
    struct wv_stream *stream;
    struct wv_loop_source *first_word, *key_timer;
    struct wv_cursor_sealer sealer;
};

static const struct wv_config_entry config[] = {
    {"source", WV_CONFIG_CHOICE, "auto", 0, 0, "auto|x11|test",
     "Where pictures come from; auto is the display, or the test pattern where none is configured."},
    {"display", WV_CONFIG_STRING, "", 0, 0, NULL, "X display to capture (\":0\"); empty: $DISPLAY."},
    {"xauthority", WV_CONFIG_STRING, "", 0, 0, NULL,
     "File with the display's access cookie; empty: $XAUTHORITY or ~/.Xauthority."},
    {"max_fps", WV_CONFIG_INT, "60", 1, 240, NULL, "Most pictures a second."},
    {"test_width", WV_CONFIG_INT, "1280", 64, WV_RING_MAX_WIDTH, NULL,
     "Width of the test pattern, pixels, even."},
    {"test_height", WV_CONFIG_INT, "720", 64, WV_RING_MAX_HEIGHT, NULL,
     "Height of the test pattern, pixels, even."},
};

/* ---- to transport ---- */

static void cursor_moved(void *userdata, const struct wv_cursor_state *state)
{
    struct capture *c = userdata;
    Wavry__Bus__CursorMoved message = WAVRY__BUS__CURSOR_MOVED__INIT;

    message.x = state->x;
    message.y = state->y;
    message.visible = state->visible;
    message.shape_id = wv_cursor_blind(&c->sealer, state->shape_id);
    (void)wv_bus_send(wv_stage_link(c->stage, "transport"), &message.base);
}

static void cursor_shape(void *userdata, const struct wv_cursor_image *image)
{
    struct capture *c = userdata;
    Wavry__Bus__CursorShape message = WAVRY__BUS__CURSOR_SHAPE__INIT;

    if (wv_cursor_seal(&c->sealer, image) < 0)
        return; /* no key yet: told when there is one */
    message.shape_id = wv_cursor_blind(&c->sealer, image->shape_id);
    message.kid = c->sealer.kid;
    message.nonce = (ProtobufCBinaryData){.data = c->sealer.nonce, .len = sizeof(c->sealer.nonce)};
    message.sealed = (ProtobufCBinaryData){.data = c->sealer.sealed, .len = c->sealer.len};
    (void)wv_bus_send(wv_stage_link(c->stage, "transport"), &message.base);
}

static void status(void *userdata, const char *text)
{
    struct capture *c = userdata;

    wv_stage_status(c->stage, "%s", text);
}

/* ---- from transport and input ---- */

static int on_target(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct capture *c = userdata;
    const Wavry__Bus__CaptureTarget *target = (const Wavry__Bus__CaptureTarget *)message;

    c->first_word = wv_loop_remove(c->first_word);
    return wv_stream_target(c->stream, target->max_fps, target->viewers, now);
}

static int on_no_word(void *userdata, uint64_t now)
{
    struct capture *c = userdata;

    return wv_stream_target(c->stream, 0, 0, now);
}

static int on_shape_request(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct capture *c = userdata;

    wv_stream_repeat_cursor(c->stream);
    return 0;
}

static int on_boost(void *userdata, uint64_t now)
{
    struct capture *c = userdata;

    return wv_stream_boost(c->stream, now);
}

/* ---- the cursor's key, from identity ---- */

static int on_key_timer(void *userdata, uint64_t now)
{
    struct capture *c = userdata;
    Wavry__Bus__CursorKeyQuestion question = WAVRY__BUS__CURSOR_KEY_QUESTION__INIT;

    (void)wv_bus_send(wv_stage_link(c->stage, "identity"), &question.base);
    wv_loop_timer_at(c->key_timer, now + ASK_AGAIN_NS);
    return 0;
}

static int on_cursor_key(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    struct capture *c = userdata;
    const Wavry__Bus__CursorKey *m = (const Wavry__Bus__CursorKey *)message;
    bool same = m->kid == c->sealer.kid;

    if (m->kid == 0 || m->key.len != sizeof(c->sealer.key)) {
        wv_warning("identity sent a cursor key that can't be", "kid=%u bytes=%zu", m->kid, m->key.len);
        return 0;
    }
    wv_loop_timer_at(c->key_timer, 0);
    memcpy(c->sealer.key, m->key.data, sizeof(c->sealer.key));
    c->sealer.kid = m->kid;
    /* Who may see the picture now may not have been able to open the shape as it was sealed before. */
    if (!same)
        wv_stream_repeat_cursor(c->stream);
    return 0;
}

static const struct wv_bus_rule rules[] = {
    {"identity", &wavry__bus__cursor_key__descriptor, WV_PHASE_RUN, 200, 64, on_cursor_key},
    {"transport", &wavry__bus__capture_target__descriptor, WV_PHASE_RUN, 100, 64, on_target},
    {"transport", &wavry__bus__cursor_shape_request__descriptor, WV_PHASE_RUN, 50, 16, on_shape_request},
};

/* ---- the stage ---- */

static int granted(struct wv_stage *stage, const char *name, int *ret_fd)
{
    int fd = wv_stage_fd(stage, name);

    if (fd < 0) {
        wv_error("the supervisor did not hand over a descriptor", "name=%s", name);
        return -EBADF;
    }
    *ret_fd = fd;
    return 0;
}

static int open_shared(struct capture *c)
{
    int frames, reader, page = wv_stage_fd(c->stage, "input-page");
    int r = granted(c->stage, "raw-frames", &frames);

    if (r >= 0)
        r = granted(c->stage, "raw-reader", &reader);
    if (r < 0)
        return r;
    r = wv_ring_producer_new(&c->ring, frames, reader);
    if (r < 0) {
        wv_error("the frame ring can't be used", "error=\"%s\"", strerror(-r));
        return r;
    }
    if (page >= 0)
        r = wv_input_page_map(&c->input_page, page, false);
    if (r < 0) /* the input stage lays it out when it starts; pictures don't wait for that */
        wv_warning("the input page can't be read; frames don't say what input they show", "error=\"%s\"",
                   strerror(-r));
    return 0;
}

static enum wv_stream_source source_of(const char *choice)
{
    if (!strcmp(choice, "x11"))
        return WV_STREAM_X11;
    return !strcmp(choice, "test") ? WV_STREAM_PATTERN : WV_STREAM_AUTO;
}

static int open_stage(struct wv_stage *stage, void **ret_context)
{
    struct wv_config *k = wv_stage_config(stage);
    struct capture *c = calloc(1, sizeof(*c));
    struct wv_stream_options options;
    int r;

    if (!c)
        return -ENOMEM;
    c->stage = stage;
    *ret_context = c;
    r = rift_crypto_init();
    if (r < 0)
        return r;
    wv_cursor_sealer_init(&c->sealer);
    r = open_shared(c);
    if (r < 0)
        return r;
    options = (struct wv_stream_options){
        .loop = wv_stage_loop(stage),
        .ring = c->ring,
        .metrics = wv_stage_metrics(stage),
        .input_page = c->input_page,
        .publish_event = wv_stage_fd(stage, "raw-event"),
        .source = source_of(wv_config_string(k, "source")),
        .display = wv_config_string(k, "display"),
        .xauthority = wv_config_string(k, "xauthority"),
        .max_fps = (uint32_t)wv_config_int(k, "max_fps"),
        .pattern_width = (uint32_t)wv_config_int(k, "test_width") & ~1u,
        .pattern_height = (uint32_t)wv_config_int(k, "test_height") & ~1u,
        .cursor = {cursor_moved, cursor_shape, c},
        .status = status,
        .userdata = c,
    };
    return wv_stream_new(&c->stream, &options);
}

static int start(struct wv_stage *stage, void *context)
{
    struct capture *c = context;
    int boost = wv_stage_fd(stage, "boost-event");
    int r = wv_loop_add_timer(wv_stage_loop(stage), on_no_word, c, &c->first_word);

    if (r < 0)
        return r;
    wv_loop_timer_at(c->first_word, wv_now_ns() + FIRST_WORD_NS);
    r = wv_loop_add_timer(wv_stage_loop(stage), on_key_timer, c, &c->key_timer);
    if (r < 0)
        return r;
    wv_loop_timer_at(c->key_timer, 1);
    return boost < 0 ? 0 : wv_loop_add_eventfd(wv_stage_loop(stage), boost, on_boost, c, NULL);
}

static void close_stage(struct wv_stage *stage, void *context)
{
    struct capture *c = context;

    wv_stream_free(c->stream);
    wv_ring_producer_free(c->ring);
    wv_input_page_unmap(c->input_page);
    explicit_bzero(&c->sealer, sizeof(c->sealer));
    free(c);
}

/* For opening the display anew after lockdown: memory to share with it. Its socket is AF_UNIX, its cookie is
 * read from a file. */
static const char *const syscalls[] = {"memfd_create", "ftruncate", "shmget", "shmat",
                                       "shmctl",       "shmdt",     NULL};

static const struct wv_sandbox sandbox = {.syscalls = syscalls, .file_reads = true, .max_files = 64};

int main(int argc, char **argv)
{
    static const struct wv_stage_definition definition = {
        .name = "capture",
        .summary = "Takes pictures of the display when it changes and hands them to the encoder.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = wv_stream_metrics,
        .n_metrics = WV_STREAM_N_METRICS,
        .rules = rules,
        .n_rules = WV_ARRAY_SIZE(rules),
        .sandbox = &sandbox,
        .open = open_stage,
        .start = start,
        .close = close_stage,
    };

    return wv_stage_main(&definition, argc, argv);
}
