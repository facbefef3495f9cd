/* x264enc driven by hand: no pipeline, no appsrc or appsink, no thread of GStreamer's. A source pad of ours
 * is linked to the element's sink pad and a sink pad of ours to its source pad; pushing a buffer runs x264 in
 * the caller's thread and brings the access unit back in the same call. Must never delay a picture, copy it
 * before x264 does, or open a file after wv_encoder_x264_new(). */
#include "services/encoder/x264.h"

#include "lib/base/util.h"
#include "lib/ipc/ring.h"
#include "services/encoder/backend.h"

#include <errno.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* x264 counts in frames of a nominal rate that never changes: a frame's budget is (nominal bitrate / nominal
 * rate). Another frame rate then is another nominal bitrate, which x264 takes without a keyframe. */
#define NOMINAL_FPS 60u

#define MAX_THREADS 16u

/* A frame of 1 MB: far below what an entry of the access-unit ring may hold. */
#define MAX_NOMINAL_KBIT UINT64_C(480000)

/* No scene cuts and no weighted prediction: both cost a look at every picture and gain nothing on a desktop.
 * log: x264 else formats a line per frame that nobody reads. */
#define FIXED_OPTIONS "scenecut=0:weightp=0:log=0"

/* The preset for text and windows, found by bench-encoder: superfast without what only costs there. Sharp
 * edges want small transforms and no smoothing across block borders; glyphs lie on whole pixels; a keyframe
 * shouldn't cost the frames after it. At the same bits it is faster than superfast and sharpens in half the
 * frames. */
#define DESKTOP_PRESET  "superfast"
#define DESKTOP_OPTIONS ":no-deblock=1:no-8x8dct=1:partitions=i4x4:subme=0:ipratio=1.0"

/* A ring slot, wrapped. Kept from frame to frame, so that nothing is allocated for it. */
struct wrapped {
    const uint8_t *pixels;
    uint32_t stride;
    GstBuffer *buffer;
};

struct x264 {
    struct wv_encoder base;
    char *preset, *tuning;
    uint32_t threads, vbv_percent, qp_min, refresh_frames;
    uint32_t nominal_kbit;

    GstElement *element; /* NULL: made by the next picture */
    GstPad *src, *sink;  /* ours */
    uint32_t width, height;
    uint64_t pictures; /* since the element was made */
    struct wrapped wrapped[WV_RING_SLOTS];
    unsigned next_wrapped;

    GstBuffer *out; /* the access unit that the caller holds */
    GstMapInfo map;
    unsigned arrived; /* access units of this call */
};

static struct x264 *x264_of(struct wv_encoder *e)
{
    return (struct x264 *)e; /* BASE is the first member */
}

static void drop_output(struct x264 *x)
{
    if (!x->out)
        return;
    if (x->map.data)
        gst_buffer_unmap(x->out, &x->map);
    memset(&x->map, 0, sizeof(x->map));
    gst_clear_buffer(&x->out);
}

static void drop_wrapped(struct x264 *x)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(x->wrapped); i++) {
        gst_clear_buffer(&x->wrapped[i].buffer);
        x->wrapped[i] = (struct wrapped){0};
    }
}

static void close_element(struct x264 *x)
{
    drop_output(x);
    if (x->element)
        gst_element_set_state(x->element, GST_STATE_NULL);
    if (x->src)
        gst_pad_set_active(x->src, FALSE);
    if (x->sink)
        gst_pad_set_active(x->sink, FALSE);
    gst_clear_object(&x->src);
    gst_clear_object(&x->sink);
    gst_clear_object(&x->element);
    drop_wrapped(x);
    x->pictures = 0;
}

static GstFlowReturn receive(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    struct x264 *x = gst_pad_get_element_private(pad);

    (void)parent;
    x->arrived++;
    drop_output(x);
    x->out = buffer;
    return GST_FLOW_OK;
}

static uint32_t vbv_ms(const struct x264 *x)
{
    /* The element multiplies by whole milliseconds and x264 refuses less than one frame: round up. Up to 110
     * % of a frame x264 is in its single-frame mode, which re-encodes rows rather than overshoot. */
    uint32_t ms = (1000 * x->vbv_percent + 100 * NOMINAL_FPS - 1) / (100 * NOMINAL_FPS);

    return WV_MIN(ms, 10000u);
}

static void set_properties(struct x264 *x)
{
    bool desktop = !strcmp(x->preset, "desktop");
    char options[512];

    snprintf(options, sizeof(options), FIXED_OPTIONS "%s%s%s", desktop ? DESKTOP_OPTIONS : "",
             x->tuning ? ":" : "", x->tuning ? x->tuning : "");
    gst_util_set_object_arg(G_OBJECT(x->element), "tune", "zerolatency");
    gst_util_set_object_arg(G_OBJECT(x->element), "speed-preset", desktop ? DESKTOP_PRESET : x->preset);
    /* Keyframes come when they are asked for, unless the stream is to mend itself. */
    g_object_set(x->element, "key-int-max", x->refresh_frames ? x->refresh_frames : 1u << 30, "intra-refresh",
                 x->refresh_frames > 0, "bframes", 0u, "byte-stream", TRUE, "aud", FALSE, "threads",
                 x->threads, "sliced-threads", x->threads > 1, "sync-lookahead", 0, "rc-lookahead", 0,
                 "mb-tree", FALSE, "qp-min", x->qp_min, "vbv-buf-capacity", vbv_ms(x), "bitrate",
                 x->nominal_kbit, "option-string", options, NULL);
}

static int link_pads(struct x264 *x)
{
    GstPad *in = gst_element_get_static_pad(x->element, "sink");
    GstPad *out = gst_element_get_static_pad(x->element, "src");
    int r = -ENOMEM;

    x->src = gst_object_ref_sink(gst_pad_new("wavry-src", GST_PAD_SRC));
    x->sink = gst_object_ref_sink(gst_pad_new("wavry-sink", GST_PAD_SINK));
    gst_pad_set_element_private(x->sink, x);
    gst_pad_set_chain_function(x->sink, receive);
    if (in && out && gst_pad_link(x->src, in) == GST_PAD_LINK_OK &&
        gst_pad_link(out, x->sink) == GST_PAD_LINK_OK && gst_pad_set_active(x->sink, TRUE) &&
        gst_pad_set_active(x->src, TRUE))
        r = 0;
    gst_clear_object(&in);
    gst_clear_object(&out);
    return r;
}

/* Tells the element what comes; it opens x264 (and makes its threads) on the caps. */
static int push_format(struct x264 *x)
{
    g_autoptr(GstCaps) caps = gst_caps_new_simple(
        "video/x-raw", "format", G_TYPE_STRING, "NV12", "width", G_TYPE_INT, (int)x->width, "height",
        G_TYPE_INT, (int)x->height, "framerate", GST_TYPE_FRACTION, (int)NOMINAL_FPS, 1, "pixel-aspect-ratio",
        GST_TYPE_FRACTION, 1, 1, "interlace-mode", G_TYPE_STRING, "progressive", "colorimetry", G_TYPE_STRING,
        "bt601", "chroma-site", G_TYPE_STRING, "jpeg", NULL);
    GstSegment segment;

    gst_segment_init(&segment, GST_FORMAT_TIME);
    if (!gst_pad_push_event(x->src, gst_event_new_stream_start("wavry")) ||
        !gst_pad_push_event(x->src, gst_event_new_caps(caps)) ||
        !gst_pad_push_event(x->src, gst_event_new_segment(&segment)))
        return -EIO;
    return 0;
}

static int open_element(struct x264 *x, uint32_t width, uint32_t height)
{
    int r;

    close_element(x);
    x->element = gst_element_factory_make("x264enc", NULL);
    if (!x->element)
        return -ENOSYS;
    gst_object_ref_sink(x->element);
    x->width = width;
    x->height = height;
    set_properties(x);
    r = link_pads(x);
    if (!r && gst_element_set_state(x->element, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        r = -EIO;
    if (!r)
        r = push_format(x);
    if (r)
        close_element(x);
    return r;
}

/* The buffer that stands for PICTURE's memory: read only, rows as they lie in the slot. */
static GstBuffer *wrap(struct x264 *x, const struct wv_picture *p)
{
    gsize offsets[GST_VIDEO_MAX_PLANES] = {0, (gsize)p->stride * p->height};
    gint strides[GST_VIDEO_MAX_PLANES] = {(gint)p->stride, (gint)p->stride};
    gsize bytes = offsets[1] + offsets[1] / 2;
    struct wrapped *w = NULL;
    GstMemory *memory;

    for (size_t i = 0; i < WV_ARRAY_SIZE(x->wrapped); i++)
        if (x->wrapped[i].buffer && x->wrapped[i].pixels == p->pixels && x->wrapped[i].stride == p->stride)
            return x->wrapped[i].buffer;
    w = &x->wrapped[x->next_wrapped++ % WV_ARRAY_SIZE(x->wrapped)];
    gst_clear_buffer(&w->buffer);
    *w = (struct wrapped){.pixels = p->pixels, .stride = p->stride, .buffer = gst_buffer_new()};
    memory =
        gst_memory_new_wrapped(GST_MEMORY_FLAG_READONLY, (gpointer)p->pixels, bytes, 0, bytes, NULL, NULL);
    gst_buffer_append_memory(w->buffer, memory);
    gst_buffer_add_video_meta_full(w->buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_NV12, p->width,
                                   p->height, 2, offsets, strides);
    return w->buffer;
}

static int push_picture(struct x264 *x, const struct wv_picture *picture, bool keyframe)
{
    GstBuffer *buffer;

    if (keyframe && x->pictures > 0 &&
        !gst_pad_push_event(x->sink,
                            gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0)))
        return -EIO;
    buffer = wrap(x, picture);
    GST_BUFFER_PTS(buffer) = gst_util_uint64_scale(x->pictures, GST_SECOND, NOMINAL_FPS);
    GST_BUFFER_DURATION(buffer) = GST_SECOND / NOMINAL_FPS;
    x->pictures++;
    x->arrived = 0;
    if (gst_pad_push(x->src, gst_buffer_ref(buffer)) != GST_FLOW_OK)
        return -EIO;
    /* Exactly one out for one in, and the slot is let go: else the caller's promises to others are broken. */
    if (x->arrived != 1 || !x->out || GST_MINI_OBJECT_REFCOUNT_VALUE(buffer) != 1)
        return -EPROTO;
    return 0;
}

static int encode(struct wv_encoder *e, const struct wv_picture *picture, bool keyframe,
                  struct wv_access_unit *ret)
{
    struct x264 *x = x264_of(e);
    int r = 0;

    drop_output(x);
    /* A new element rather than new caps on a size change: x264 is opened anew either way, and the element
     * numbers its parameter sets up to 31 only and lets its option string grow. */
    if (!x->element || picture->width != x->width || picture->height != x->height)
        r = open_element(x, picture->width, picture->height);
    if (!r)
        r = push_picture(x, picture, keyframe);
    if (!r && !gst_buffer_map(x->out, &x->map, GST_MAP_READ))
        r = -ENOMEM;
    if (r) {
        close_element(x);
        return r;
    }
    *ret = (struct wv_access_unit){
        .data = x->map.data,
        .len = x->map.size,
        .keyframe = !GST_BUFFER_FLAG_IS_SET(x->out, GST_BUFFER_FLAG_DELTA_UNIT),
    };
    return 0;
}

static int set_rate(struct wv_encoder *e, uint32_t bitrate_bps, uint32_t fps)
{
    struct x264 *x = x264_of(e);
    uint64_t kbit = (uint64_t)bitrate_bps * NOMINAL_FPS / fps / 1000;

    kbit = WV_MAX(kbit, UINT64_C(16));
    kbit = WV_MIN(kbit, MAX_NOMINAL_KBIT);
    if (kbit == x->nominal_kbit)
        return 0;
    x->nominal_kbit = (uint32_t)kbit;
    if (x->element)
        g_object_set(x->element, "bitrate", x->nominal_kbit, NULL);
    return 0;
}

static void x264_free(struct wv_encoder *e)
{
    struct x264 *x = x264_of(e);

    close_element(x);
    free(x->preset);
    free(x->tuning);
    free(x);
}

static const struct wv_encoder_ops x264_ops = {
    .name = "x264",
    .set_rate = set_rate,
    .encode = encode,
    .free = x264_free,
};

/* GStreamer with nothing but what we load by hand: no registry read or written, no plugin folder scanned. */
static int init_gstreamer(void)
{
    g_autoptr(GError) error = NULL;

    if (gst_is_initialized())
        return 0;
    if (setenv("GST_REGISTRY_DISABLE", "yes", 1) || setenv("GST_REGISTRY_UPDATE", "no", 1) ||
        setenv("GST_PLUGIN_SYSTEM_PATH_1_0", "", 1) || setenv("GST_PLUGIN_PATH_1_0", "", 1))
        return -errno;
    gst_registry_fork_set_enabled(FALSE);
    return gst_init_check(NULL, NULL, &error) ? 0 : -ENOSYS;
}

static int load_plugin(const char *dir)
{
    g_autofree char *path = g_build_filename(dir && *dir ? dir : WAVRY_GST_PLUGIN_DIR, "libgstx264.so", NULL);
    g_autoptr(GstElementFactory) factory = gst_element_factory_find("x264enc");
    g_autoptr(GstPlugin) plugin = NULL;

    if (factory)
        return 0;
    plugin = gst_plugin_load_file(path, NULL);
    if (!plugin)
        return -ENOENT;
    factory = gst_element_factory_find("x264enc");
    return factory ? 0 : -ENOSYS;
}

static bool preset_known(const char *preset)
{
    static const char *const known[] = {"desktop", "ultrafast", "superfast", "veryfast",
                                        "faster",  "fast",      "medium"};

    for (size_t i = 0; i < WV_ARRAY_SIZE(known); i++)
        if (!strcmp(preset, known[i]))
            return true;
    return false;
}

/* As many slices as leave a processor for the display server and the transport, from two up to four. */
static uint32_t default_threads(void)
{
    cpu_set_t set;
    int cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

    if (cpus < 2)
        return 1;
    return cpus < 4 ? 2 : (uint32_t)WV_MIN(cpus - 1, 4);
}

int wv_encoder_x264_new(struct wv_encoder **ret, const struct wv_x264_options *options)
{
    const char *preset = options->preset ? options->preset : "desktop";
    struct x264 *x;
    int r;

    if (!preset_known(preset))
        return -EINVAL;
    r = init_gstreamer();
    if (!r)
        r = load_plugin(options->plugin_dir);
    if (r)
        return r;
    x = calloc(1, sizeof(*x));
    if (!x)
        return -ENOMEM;
    x->base.ops = &x264_ops;
    x->preset = strdup(preset);
    x->tuning = options->tuning ? strdup(options->tuning) : NULL;
    if (!x->preset || (options->tuning && !x->tuning)) {
        x264_free(&x->base);
        return -ENOMEM;
    }
    x->threads = options->threads ? WV_MIN(options->threads, MAX_THREADS) : default_threads();
    x->vbv_percent = options->vbv_percent ? options->vbv_percent : 100;
    x->refresh_frames = options->refresh_frames;
    x->qp_min = options->qp_min ? WV_MIN(options->qp_min, 51u) : 12;
    (void)wv_encoder_set_rate(&x->base, options->bitrate_bps, options->fps);
    *ret = &x->base;
    return 0;
}

const char *wv_encoder_x264_plugin_dir(void)
{
    return WAVRY_GST_PLUGIN_DIR;
}
