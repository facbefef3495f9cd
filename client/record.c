/* Recording by GStreamer: our pad -> queue (a thread of its own) -> h264parse -> matroskamux -> filesink. */
#include "client/record.h"
#include "client/gst.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <gst/gst.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define QUEUE_MAX_BYTES (32u << 20) /* what may wait for the disk */
#define FINISH_NS       (5 * GST_SECOND)

struct wv_recorder {
    char *path;
    unsigned part; /* 1 for the first file */
    wv_recorder_say_fn say;
    void *userdata;
    GstElement *pipeline, *queue;
    GstPad *source;
    bool failed, waiting; /* waiting: for a keyframe */
    bool slow;            /* pictures were left out, and it was said */
    uint16_t width, height;
    uint64_t first_us, last_us;
};

static void say(struct wv_recorder *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct wv_recorder *r, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->say(r->userdata, text);
}

/* FILE.mkv, FILE-2.mkv, ... */
static void part_path(const struct wv_recorder *r, char *ret, size_t capacity)
{
    const char *dot = strrchr(r->path, '.'), *slash = strrchr(r->path, '/');
    if (r->part == 1)
        snprintf(ret, capacity, "%s", r->path);
    else if (dot && (!slash || dot > slash))
        snprintf(ret, capacity, "%.*s-%u%s", (int)(dot - r->path), r->path, r->part, dot);
    else
        snprintf(ret, capacity, "%s-%u", r->path, r->part);
}

static int load_plugins(void)
{
    static const char *const names[] = {"coreelements", "videoparsersbad", "matroska"};
    int r = wv_gst_init();
    for (size_t i = 0; r == 0 && i < WV_ARRAY_SIZE(names); i++)
        r = wv_gst_load(names[i]);
    return r;
}

static void stop(struct wv_recorder *r)
{
    if (r->source) {
        gst_pad_set_active(r->source, FALSE);
        gst_object_unref(r->source);
    }
    r->source = NULL;
    if (r->pipeline) {
        gst_element_set_state(r->pipeline, GST_STATE_NULL);
        gst_object_unref(r->pipeline);
    }
    r->pipeline = NULL;
}

static bool open_stream(struct wv_recorder *r)
{
    GstPad *in = gst_element_get_static_pad(r->queue, "sink");
    r->source = gst_object_ref_sink(gst_pad_new("wavry-record", GST_PAD_SRC));
    bool ok = gst_pad_link(r->source, in) == GST_PAD_LINK_OK && gst_pad_set_active(r->source, TRUE);
    gst_object_unref(in);
    GstCaps *caps = gst_caps_new_simple("video/x-h264", "stream-format", G_TYPE_STRING, "byte-stream",
                                        "alignment", G_TYPE_STRING, "au", NULL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    ok = ok && gst_pad_push_event(r->source, gst_event_new_stream_start("wavry-record")) &&
         gst_pad_push_event(r->source, gst_event_new_caps(caps)) &&
         gst_pad_push_event(r->source, gst_event_new_segment(&segment));
    gst_caps_unref(caps);
    return ok;
}

static int start(struct wv_recorder *r)
{
    char path[4200];
    part_path(r, path, sizeof path);
    GstElement *parse = gst_element_factory_make("h264parse", NULL);
    GstElement *mux = gst_element_factory_make("matroskamux", NULL);
    GstElement *sink = gst_element_factory_make("filesink", NULL);
    r->queue = gst_element_factory_make("queue", NULL);
    r->pipeline = gst_pipeline_new(NULL);
    if (!parse || !mux || !sink || !r->queue)
        return -ENOSYS;
    g_object_set(r->queue, "max-size-bytes", 2 * QUEUE_MAX_BYTES, "max-size-buffers", 0u, "max-size-time",
                 (guint64)0, NULL);
    g_object_set(sink, "location", path, "sync", FALSE, "async", FALSE, NULL);
    g_object_set(mux, "writing-app", "wavry-client", NULL);
    gst_bin_add_many(GST_BIN(r->pipeline), r->queue, parse, mux, sink, NULL);
    if (!gst_element_link_many(r->queue, parse, mux, sink, NULL))
        return -EIO;
    if (gst_element_set_state(r->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE || !open_stream(r))
        return -EIO;
    r->waiting = true;
    r->width = r->height = 0;
    return 0;
}

int wv_recorder_new(struct wv_recorder **ret, const char *path, wv_recorder_say_fn say_fn, void *userdata)
{
    /* GStreamer would say it later and less clearly. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    wv_close(fd);
    int result = load_plugins();
    if (result < 0)
        return result;
    struct wv_recorder *r = calloc(1, sizeof *r);
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return -ENOMEM;
    }
    r->say = say_fn;
    r->userdata = userdata;
    r->part = 1;
    result = start(r);
    if (result < 0) {
        r->failed = true;
        wv_recorder_free(r);
        return result;
    }
    *ret = r;
    return 0;
}

void wv_recorder_poll(struct wv_recorder *r)
{
    if (r->failed)
        return;
    GstBus *bus = gst_element_get_bus(r->pipeline);
    GstMessage *message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    gst_object_unref(bus);
    if (!message)
        return;
    GError *error = NULL;
    gst_message_parse_error(message, &error, NULL);
    bool full = g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT);
    say(r, "The recording %s has stopped: %s. The session goes on.", r->path,
        full ? "the disk is full" : error->message);
    g_error_free(error);
    gst_message_unref(message);
    r->failed = true;
    stop(r);
}

/* Writes the end of the file, without which players can't seek in it. */
static void finish(struct wv_recorder *r)
{
    if (r->failed || !r->pipeline)
        return;
    gst_pad_push_event(r->source, gst_event_new_eos());
    GstBus *bus = gst_element_get_bus(r->pipeline);
    GstMessage *message = gst_bus_timed_pop_filtered(bus, FINISH_NS, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    gst_object_unref(bus);
    if (!message)
        say(r,
            "The recording %s could not be finished in time: the disk does not keep up. Its end may be "
            "missing.",
            r->path);
    else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR && r->width)
        say(r, "The end of the recording %s could not be written. Is the disk full?", r->path);
    if (message)
        gst_message_unref(message);
}

static bool disk_keeps_up(struct wv_recorder *r)
{
    guint waiting_bytes = 0;
    g_object_get(r->queue, "current-level-bytes", &waiting_bytes, NULL);
    if (waiting_bytes < QUEUE_MAX_BYTES)
        return true;
    if (!r->slow)
        say(r, "The disk does not keep up with the recording %s: pictures are left out of it.", r->path);
    r->slow = r->waiting = true;
    return false;
}

static void next_part(struct wv_recorder *r)
{
    finish(r);
    stop(r);
    r->part++;
    if (start(r) < 0) {
        say(r, "The recording %s has stopped: the next part could not be opened. The session goes on.",
            r->path);
        r->failed = true;
        stop(r);
    }
}

void wv_recorder_add(struct wv_recorder *r, const struct rift_frame_meta *meta, const uint8_t *data,
                     size_t len)
{
    if (!r->failed && r->width && (r->width != meta->width || r->height != meta->height))
        next_part(r);
    if (r->failed || !disk_keeps_up(r) || (r->waiting && !meta->keyframe))
        return;
    r->waiting = false;
    if (!r->width)
        r->first_us = meta->capture_us;
    r->width = meta->width;
    r->height = meta->height;
    GstBuffer *buffer = gst_buffer_new_memdup(data, len);
    uint64_t us = meta->capture_us > r->first_us ? meta->capture_us - r->first_us : 0;
    if (us <= r->last_us && us != 0) /* another boot of the host, or two pictures of one instant */
        us = r->last_us + 1;
    r->last_us = us;
    GST_BUFFER_PTS(buffer) = GST_BUFFER_DTS(buffer) = us * GST_USECOND;
    if (!meta->keyframe)
        GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DELTA_UNIT);
    if (gst_pad_push(r->source, buffer) != GST_FLOW_OK)
        wv_recorder_poll(r);
}

struct wv_recorder *wv_recorder_free(struct wv_recorder *r)
{
    if (!r)
        return NULL;
    finish(r);
    stop(r);
    free(r->path);
    free(r);
    return NULL;
}
