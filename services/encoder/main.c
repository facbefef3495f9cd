/* wavry-encoder: raw pictures from capture's ring become H.264 access units in transport's ring, sealed with
 * the key that identity gives to those who may see them. Must never have a socket, the display, a file after
 * it is ready, or a key of the host. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/stage.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "rift/crypto/identity.h"
#include "services/encoder/lockdown.h"
#include "services/encoder/metrics.h"
#include "services/encoder/pump.h"
#include "services/encoder/x264.h"

#include <errno.h>
#include <string.h>

/* How soon the key is asked for again: no answer came, and nobody was there to be asked. */
#define ASK_AGAIN_NS  (20 * WV_NS_PER_MS)
#define ASK_UNSENT_NS (5 * WV_NS_PER_MS)

struct encoder_stage {
    struct wv_stage *stage;
    struct wv_ring_consumer *raw;
    struct wv_au_producer *out;
    struct wv_encoder *encoder;
    struct wv_pump *pump;
    struct wv_loop_source *timer, *key_timer;
    enum wv_pump_state said_state;
    uint32_t said_width, said_height;
    bool said;
};

static const struct wv_config_entry config[] = {
    {"preset", WV_CONFIG_CHOICE, "desktop", 0, 0, "desktop|ultrafast|superfast|veryfast|faster|fast|medium",
     "How much x264 thinks about a picture: desktop is made for text and windows, the others are x264's "
     "own."},
    {"threads", WV_CONFIG_INT, "0", 0, 16, NULL, "Slices encoded at once; 0: by the number of processors."},
    {"bitrate_kbps", WV_CONFIG_INT, "8000", 64, 400000, NULL, "Bitrate until transport says another."},
    {"max_fps", WV_CONFIG_INT, "60", 1, 240, NULL, "Frame rate until transport says another."},
    {"vbv_percent", WV_CONFIG_INT, "100", 100, 1000, NULL,
     "Size of the rate control's buffer in percent of one frame's share of the bitrate."},
    {"qp_min", WV_CONFIG_INT, "12", 1, 51, NULL,
     "Finest quantizer: a picture this good is not refined further."},
    {"refine_frames", WV_CONFIG_INT, "30", 0, 600, NULL,
     "How often a picture that stands still is encoded again at most, so that it sharpens."},
    {"refine_after_ms", WV_CONFIG_INT, "40", 0, 10000, NULL, "How long a picture stands still before that."},
    {"plugin_dir", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Folder of GStreamer's libgstx264.so; empty: the one found when Wavry was built."},
};

static void say_state(struct encoder_stage *s)
{
    enum wv_pump_state state = wv_pump_state(s->pump);
    uint32_t width, height;

    wv_pump_size(s->pump, &width, &height);
    if (s->said && state == s->said_state && width == s->said_width && height == s->said_height)
        return;
    s->said = true;
    s->said_state = state;
    s->said_width = width;
    s->said_height = height;
    switch (state) {
    case WV_PUMP_NO_KEY:
        wv_stage_status(s->stage, "waiting for a media key from identity: nothing is encoded without one");
        break;
    case WV_PUMP_NO_PICTURE:
        wv_stage_status(s->stage, "waiting for the first picture from capture");
        break;
    case WV_PUMP_NO_VIEWERS:
        wv_stage_status(s->stage, "idle: nobody watches");
        break;
    case WV_PUMP_RUNNING:
        wv_stage_status(s->stage, "encoding %ux%u with %s", width, height, wv_encoder_name(s->encoder));
        break;
    case WV_PUMP_RING_FULL:
        wv_stage_status(s->stage, "paused: the access-unit ring is full, transport does not read");
        break;
    case WV_PUMP_FAILING:
        wv_stage_status(s->stage, "%s could not encode the last picture; trying again",
                        wv_encoder_name(s->encoder));
        break;
    }
}

static int work(struct encoder_stage *s)
{
    uint64_t next;
    int r = wv_pump_run(s->pump, &next);

    if (r < 0) {
        wv_stage_status(s->stage, "%s fails again and again", wv_encoder_name(s->encoder));
        return r;
    }
    wv_loop_timer_at(s->timer, next == UINT64_MAX ? 0 : next);
    say_state(s);
    return 0;
}

static int on_event(void *userdata, uint64_t now)
{
    return work(userdata);
}

static int on_target(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__EncoderTarget *target = (const Wavry__Bus__EncoderTarget *)message;
    struct encoder_stage *s = userdata;

    wv_pump_set_target(s->pump, target->bitrate_bps, target->max_fps, target->viewers);
    wv_pump_set_brakes(s->pump, target->hold, target->scale);
    return work(s);
}

static int on_keyframe_request(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__KeyframeRequest *request = (const Wavry__Bus__KeyframeRequest *)message;
    struct encoder_stage *s = userdata;

    wv_pump_request_keyframe(s->pump, request->after_frame_id);
    return work(s);
}

/* A process never goes on with its predecessor's key: its numbers are not known here. */
static int on_key_timer(void *userdata, uint64_t now)
{
    struct encoder_stage *s = userdata;
    Wavry__Bus__MediaKeyQuestion question = WAVRY__BUS__MEDIA_KEY_QUESTION__INIT;
    int sent = wv_bus_send(wv_stage_link(s->stage, "identity"), &question.base);

    wv_loop_timer_at(s->key_timer, now + (sent == WV_BUS_UNSENT ? ASK_UNSENT_NS : ASK_AGAIN_NS));
    return 0;
}

static int on_media_key(void *userdata, const ProtobufCMessage *message, uint64_t now)
{
    const Wavry__Bus__MediaKey *key = (const Wavry__Bus__MediaKey *)message;
    struct encoder_stage *s = userdata;
    int r;

    if (key->kid == 0 || key->key.len != RIFT_MEDIA_KEY_BYTES) {
        wv_warning("identity sent a media key that can't be", "kid=%u bytes=%zu", key->kid, key->key.len);
        return 0;
    }
    r = wv_pump_set_key(s->pump, key->kid, key->key.data);
    if (r < 0) {
        wv_error("identity counts its media keys anew; so must this process", "kid=%u", key->kid);
        return r;
    }
    wv_loop_timer_at(s->key_timer, 0);
    return r == WV_PUMP_KEY_KNOWN ? 0 : work(s);
}

static const struct wv_bus_rule rules[] = {
    {"identity", &wavry__bus__media_key__descriptor, WV_PHASE_RUN, 200, 64, on_media_key},
    {"transport", &wavry__bus__encoder_target__descriptor, WV_PHASE_RUN, 1000, 64, on_target},
    {"transport", &wavry__bus__keyframe_request__descriptor, WV_PHASE_RUN, 500, 64, on_keyframe_request},
};

static int open_encoder(struct encoder_stage *s)
{
    struct wv_config *c = wv_stage_config(s->stage);
    struct wv_x264_options options = {
        .plugin_dir = wv_config_string(c, "plugin_dir"),
        .preset = wv_config_string(c, "preset"),
        .threads = (uint32_t)wv_config_int(c, "threads"),
        .vbv_percent = (uint32_t)wv_config_int(c, "vbv_percent"),
        .qp_min = (uint32_t)wv_config_int(c, "qp_min"),
        .bitrate_bps = (uint32_t)wv_config_int(c, "bitrate_kbps") * 1000,
        .fps = (uint32_t)wv_config_int(c, "max_fps"),
    };
    const char *dir = *options.plugin_dir ? options.plugin_dir : wv_encoder_x264_plugin_dir();
    int r = wv_encoder_x264_new(&s->encoder, &options);

    if (r == -ENOENT || r == -ENOSYS)
        wv_stage_status(
            s->stage,
            "no x264 encoder: %s/libgstx264.so %s; install gstreamer1.0-plugins-ugly or set plugin_dir", dir,
            r == -ENOENT ? "can't be loaded" : "has no x264enc");
    else if (r)
        wv_stage_status(s->stage, "the x264 encoder can't be made");
    return r;
}

static int open_rings(struct encoder_stage *s)
{
    int r = wv_ring_consumer_new(&s->raw, wv_stage_fd(s->stage, "raw-frames"),
                                 wv_stage_fd(s->stage, "raw-reader"));

    if (r) {
        wv_stage_status(s->stage, "the raw frame ring can't be used");
        return r;
    }
    r = wv_au_producer_new(&s->out, wv_stage_fd(s->stage, "au-entries"), wv_stage_fd(s->stage, "au-reader"));
    if (r)
        wv_stage_status(s->stage, "the access-unit ring can't be used");
    return r;
}

static void close_stage(struct wv_stage *stage, void *context)
{
    struct encoder_stage *s = context;

    (void)stage;
    s->pump = wv_pump_free(s->pump);
    s->encoder = wv_encoder_free(s->encoder);
    s->out = wv_au_producer_free(s->out);
    s->raw = wv_ring_consumer_free(s->raw);
    free(s);
}

static int open_stage(struct wv_stage *stage, void **ret_context)
{
    struct wv_config *c = wv_stage_config(stage);
    struct encoder_stage *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    s->stage = stage;
    r = rift_crypto_init();
    if (!r)
        r = open_rings(s);
    if (!r)
        r = open_encoder(s);
    if (!r) {
        struct wv_pump_options options = {
            .raw = s->raw,
            .out = s->out,
            .encoder = s->encoder,
            .metrics = wv_stage_metrics(stage),
            .au_event = wv_stage_fd(stage, "au-event"),
            .bitrate_bps = (uint32_t)wv_config_int(c, "bitrate_kbps") * 1000,
            .fps = (uint32_t)wv_config_int(c, "max_fps"),
            .refine_frames = (uint32_t)wv_config_int(c, "refine_frames"),
            .refine_after_ms = (uint32_t)wv_config_int(c, "refine_after_ms"),
            .clock = wv_now_ns,
        };
        r = wv_pump_new(&s->pump, &options);
    }
    if (r) {
        wv_error("the encoder can't start", "error=\"%s\"", strerror(-r));
        close_stage(stage, s);
        return r;
    }
    *ret_context = s;
    return 0;
}

static int start_stage(struct wv_stage *stage, void *context)
{
    struct encoder_stage *s = context;
    struct wv_loop *loop = wv_stage_loop(stage);
    int r = wv_loop_add_timer(loop, on_event, s, &s->timer);

    if (!r)
        r = wv_loop_add_timer(loop, on_key_timer, s, &s->key_timer);
    if (!r)
        r = wv_loop_add_eventfd(loop, wv_stage_fd(stage, "raw-event"), on_event, s, NULL);
    if (r)
        return r;
    /* After a restart the newest picture is already there: take it in the loop's first round, without waiting
     * for capture or transport. */
    wv_loop_timer_at(s->timer, 1);
    wv_loop_timer_at(s->key_timer, 1);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct wv_stage_definition definition = {
        .name = "encoder",
        .summary = "Encodes the pictures that capture takes, for transport to send.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = wv_encoder_metrics,
        .n_metrics = WV_ENCODER_N_METRICS,
        .rules = rules,
        .n_rules = WV_ARRAY_SIZE(rules),
        .sandbox = &wv_encoder_sandbox,
        .open = open_stage,
        .start = start_stage,
        .close = close_stage,
    };

    return wv_stage_main(&definition, argc, argv);
}
