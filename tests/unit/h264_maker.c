#include "tests/unit/h264_maker.h"

#include "client/gst.h"

#include <gst/gst.h>
#include <gst/video/video.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#ifdef __SANITIZE_ADDRESS__
/* GLib leaves its first table of names, made before main(), behind when it grows. Whole call stacks, so that
 * nothing else is taken for it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:call_init\n";
}
#endif

struct h264_maker {
    GstElement *element;
    GstPad *source, *sink;
    int width, height;
    uint64_t sequence;
    uint8_t *out;
    size_t out_len;
    bool keyframe, got;
};

static GstFlowReturn on_unit(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    struct h264_maker *m = gst_pad_get_element_private(pad);
    m->out_len = gst_buffer_get_size(buffer);
    m->out = realloc(m->out, m->out_len);
    require(m->out);
    gst_buffer_extract(buffer, 0, m->out, m->out_len);
    m->keyframe = !GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DELTA_UNIT);
    m->got = true;
    gst_buffer_unref(buffer);
    return GST_FLOW_OK;
}

static gboolean on_query(GstPad *pad, GstObject *parent, GstQuery *query)
{
    if (GST_QUERY_TYPE(query) != GST_QUERY_CAPS)
        return gst_pad_query_default(pad, parent, query);
    GstCaps *caps = gst_caps_from_string("video/x-h264,stream-format=byte-stream,alignment=au");
    gst_query_set_caps_result(query, caps);
    gst_caps_unref(caps);
    return TRUE;
}

void h264_maker_prepare(void)
{
    require(wv_gst_init() == 0 && wv_gst_load("x264") == 0 && wv_gst_load("libav") == 0);
}

struct h264_maker *h264_maker_new(int width, int height, const char *colorimetry)
{
    h264_maker_prepare();
    struct h264_maker *m = calloc(1, sizeof *m);
    require(m);
    m->width = width;
    m->height = height;
    m->element = gst_element_factory_make("x264enc", NULL);
    require(m->element);
    gst_object_ref_sink(m->element);
    gst_util_set_object_arg(G_OBJECT(m->element), "tune", "zerolatency");
    gst_util_set_object_arg(G_OBJECT(m->element), "speed-preset", "superfast");
    g_object_set(m->element, "bframes", 0u, "threads", 2u, "sliced-threads", TRUE, "key-int-max", 100000u,
                 "bitrate", 4000u, NULL);
    m->source = gst_object_ref_sink(gst_pad_new("out", GST_PAD_SRC));
    m->sink = gst_object_ref_sink(gst_pad_new("in", GST_PAD_SINK));
    gst_pad_set_element_private(m->sink, m);
    gst_pad_set_chain_function(m->sink, on_unit);
    gst_pad_set_query_function(m->sink, on_query);
    GstPad *in = gst_element_get_static_pad(m->element, "sink");
    GstPad *out = gst_element_get_static_pad(m->element, "src");
    require(gst_pad_link_full(m->source, in, GST_PAD_LINK_CHECK_NOTHING) == GST_PAD_LINK_OK);
    require(gst_pad_link_full(out, m->sink, GST_PAD_LINK_CHECK_NOTHING) == GST_PAD_LINK_OK);
    gst_object_unref(in);
    gst_object_unref(out);
    gst_pad_set_active(m->source, TRUE);
    gst_pad_set_active(m->sink, TRUE);
    gst_element_set_state(m->element, GST_STATE_PLAYING);
    GstCaps *caps =
        gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "I420", "width", G_TYPE_INT, width,
                            "height", G_TYPE_INT, height, "framerate", GST_TYPE_FRACTION, 60, 1, NULL);
    if (colorimetry)
        gst_caps_set_simple(caps, "colorimetry", G_TYPE_STRING, colorimetry, NULL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    require(gst_pad_push_event(m->source, gst_event_new_stream_start("test")));
    require(gst_pad_push_event(m->source, gst_event_new_caps(caps)));
    require(gst_pad_push_event(m->source, gst_event_new_segment(&segment)));
    gst_caps_unref(caps);
    return m;
}

struct h264_maker *h264_maker_free(struct h264_maker *m)
{
    gst_pad_set_active(m->source, FALSE);
    gst_pad_set_active(m->sink, FALSE);
    gst_element_set_state(m->element, GST_STATE_NULL);
    gst_object_unref(m->element);
    gst_object_unref(m->source);
    gst_object_unref(m->sink);
    free(m->out);
    free(m);
    return NULL;
}

void h264_maker_encode(struct h264_maker *m, uint8_t left, uint8_t right, uint8_t u, uint8_t v, bool keyframe,
                       const uint8_t **ret_data, size_t *ret_len, bool *ret_keyframe)
{
    GstVideoInfo info;
    GstVideoFrame frame;
    gst_video_info_set_format(&info, GST_VIDEO_FORMAT_I420, (guint)m->width, (guint)m->height);
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, info.size, NULL);
    require(gst_video_frame_map(&frame, &info, buffer, GST_MAP_WRITE));
    uint8_t *y = GST_VIDEO_FRAME_PLANE_DATA(&frame, 0);
    int stride = GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
    for (int row = 0; row < m->height; row++) {
        memset(y + row * stride, left, (size_t)m->width / 2);
        memset(y + row * stride + m->width / 2, right, (size_t)(m->width - m->width / 2));
    }
    for (guint i = 1; i < 3; i++)
        memset(GST_VIDEO_FRAME_PLANE_DATA(&frame, i), i == 1 ? u : v,
               (size_t)GST_VIDEO_FRAME_PLANE_STRIDE(&frame, i) *
                   (size_t)GST_VIDEO_FRAME_COMP_HEIGHT(&frame, i));
    gst_video_frame_unmap(&frame);
    GST_BUFFER_PTS(buffer) = m->sequence++ * GST_SECOND / 60;
    if (keyframe)
        gst_pad_push_event(
            m->source, gst_video_event_new_downstream_force_key_unit(GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE,
                                                                     GST_CLOCK_TIME_NONE, TRUE, 0));
    m->got = false;
    require(gst_pad_push(m->source, buffer) == GST_FLOW_OK);
    require(m->got);
    *ret_data = m->out;
    *ret_len = m->out_len;
    *ret_keyframe = m->keyframe;
}
