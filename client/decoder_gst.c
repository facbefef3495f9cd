/* H.264 by GStreamer's avdec_h264, driven by hand: we push an access unit into its sink pad, and its picture
 * comes to our own pad within the same call. No pipeline, no queue, no thread, no clock. */
#include "client/decoder.h"
#include "client/gst.h"

#include "lib/base/util.h"

#include <errno.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <string.h>

/* The decoder may read past the end of its input; zeros there spare it a copy of its own. */
#define INPUT_PADDING_BYTES 64

/* The newest, the one that was kept, and the one that is just coming. */
#define N_PICTURES 3

struct picture {
    GstBuffer *buffer; /* NULL: none */
    GstVideoFrame frame;
};

struct wv_decoder {
    GstElement *element;
    GstPad *source, *sink; /* ours: feed the element, take from it */
    GstVideoInfo info;     /* of the pictures that come */
    bool info_valid;
    struct picture pictures[N_PICTURES];
    unsigned newest, kept; /* pictures that may be looked at; N_PICTURES: none */
    bool got;              /* during a push: a picture came */
    bool full_range, bt709;
    uint64_t sequence;
    bool need_keyframe;
};

static void picture_drop(struct picture *p)
{
    if (!p->buffer)
        return;
    gst_video_frame_unmap(&p->frame);
    gst_buffer_unref(p->buffer);
    p->buffer = NULL;
}

static GstFlowReturn on_picture(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    struct wv_decoder *d = gst_pad_get_element_private(pad);
    unsigned next = 0;
    while (next == d->newest || next == d->kept)
        next++;
    struct picture *p = &d->pictures[next];
    if (!d->info_valid) {
        gst_buffer_unref(buffer);
        return GST_FLOW_NOT_NEGOTIATED;
    }
    picture_drop(p);
    if (!gst_video_frame_map(&p->frame, &d->info, buffer, GST_MAP_READ)) {
        gst_buffer_unref(buffer);
        return GST_FLOW_ERROR;
    }
    p->buffer = buffer;
    if (d->newest != N_PICTURES && d->newest != d->kept)
        picture_drop(&d->pictures[d->newest]);
    d->newest = next;
    d->got = true;
    return GST_FLOW_OK;
}

static void take_caps(struct wv_decoder *d, GstCaps *caps)
{
    d->info_valid =
        gst_video_info_from_caps(&d->info, caps) && GST_VIDEO_INFO_FORMAT(&d->info) == GST_VIDEO_FORMAT_I420;
    /* A stream that does not say is BT.601, as our hosts make it; GStreamer would guess from the size. */
    bool said = gst_structure_has_field(gst_caps_get_structure(caps, 0), "colorimetry");
    d->bt709 = said && d->info.colorimetry.matrix == GST_VIDEO_COLOR_MATRIX_BT709;
    d->full_range = said && d->info.colorimetry.range == GST_VIDEO_COLOR_RANGE_0_255;
}

static gboolean on_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    struct wv_decoder *d = gst_pad_get_element_private(pad);
    if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
        GstCaps *caps;
        gst_event_parse_caps(event, &caps);
        take_caps(d, caps);
    }
    gst_event_unref(event);
    return TRUE;
}

/* Offers a pool whose pictures may have strides and margins of their own: then the decoder works in them, and
 * hands out its very memory instead of a copy. */
static void offer_pool(GstQuery *query)
{
    GstCaps *caps = NULL;
    GstVideoInfo info;
    gst_query_parse_allocation(query, &caps, NULL);
    if (!caps || !gst_video_info_from_caps(&info, caps))
        return;
    GstBufferPool *pool = gst_video_buffer_pool_new();
    GstStructure *config = gst_buffer_pool_get_config(pool);
    gst_buffer_pool_config_set_params(config, caps, (guint)info.size, 0, 0);
    gst_buffer_pool_config_add_option(config, GST_BUFFER_POOL_OPTION_VIDEO_META);
    if (gst_buffer_pool_set_config(pool, config))
        gst_query_add_allocation_pool(query, pool, (guint)info.size, 0, 0);
    gst_object_unref(pool);
    gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL);
}

static gboolean on_sink_query(GstPad *pad, GstObject *parent, GstQuery *query)
{
    if (GST_QUERY_TYPE(query) == GST_QUERY_ALLOCATION) {
        offer_pool(query);
        return TRUE;
    }
    /* Any size will do, also another one than now, which the default would refuse. */
    if (GST_QUERY_TYPE(query) == GST_QUERY_CAPS) {
        GstCaps *caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "I420", NULL);
        gst_query_set_caps_result(query, caps);
        gst_caps_unref(caps);
        return TRUE;
    }
    if (GST_QUERY_TYPE(query) == GST_QUERY_ACCEPT_CAPS) {
        gst_query_set_accept_caps_result(query, TRUE);
        return TRUE;
    }
    return gst_pad_query_default(pad, parent, query);
}

/* "Live" keeps the decoder from frame threads, each of which would delay by one picture. */
static gboolean on_source_query(GstPad *pad, GstObject *parent, GstQuery *query)
{
    if (GST_QUERY_TYPE(query) == GST_QUERY_LATENCY) {
        gst_query_set_latency(query, TRUE, 0, GST_CLOCK_TIME_NONE);
        return TRUE;
    }
    return gst_pad_query_default(pad, parent, query);
}

static int make_pads(struct wv_decoder *d)
{
    d->source = gst_pad_new("wavry-source", GST_PAD_SRC);
    d->sink = gst_pad_new("wavry-sink", GST_PAD_SINK);
    if (!d->source || !d->sink)
        return -ENOMEM;
    gst_object_ref_sink(d->source);
    gst_object_ref_sink(d->sink);
    gst_pad_set_element_private(d->source, d);
    gst_pad_set_element_private(d->sink, d);
    gst_pad_set_query_function(d->source, on_source_query);
    gst_pad_set_query_function(d->sink, on_sink_query);
    gst_pad_set_chain_function(d->sink, on_picture);
    gst_pad_set_event_function(d->sink, on_event);
    GstPad *in = gst_element_get_static_pad(d->element, "sink");
    GstPad *out = gst_element_get_static_pad(d->element, "src");
    bool ok = gst_pad_link(d->source, in) == GST_PAD_LINK_OK && gst_pad_link(out, d->sink) == GST_PAD_LINK_OK;
    gst_object_unref(in);
    gst_object_unref(out);
    if (!ok || !gst_pad_set_active(d->source, TRUE) || !gst_pad_set_active(d->sink, TRUE))
        return -EIO;
    return 0;
}

/* The events that open a stream: without caps and segment no element takes data. */
static bool open_stream(struct wv_decoder *d)
{
    GstCaps *caps = gst_caps_new_simple("video/x-h264", "stream-format", G_TYPE_STRING, "byte-stream",
                                        "alignment", G_TYPE_STRING, "au", NULL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    bool ok = gst_pad_push_event(d->source, gst_event_new_stream_start("wavry")) &&
              gst_pad_push_event(d->source, gst_event_new_caps(caps)) &&
              gst_pad_push_event(d->source, gst_event_new_segment(&segment));
    gst_caps_unref(caps);
    return ok;
}

int wv_decoder_gst_new(struct wv_decoder **ret, unsigned threads)
{
    int r = wv_gst_init();
    if (r == 0)
        r = wv_gst_load("libav");
    if (r < 0)
        return r;
    struct wv_decoder *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->need_keyframe = true;
    d->newest = d->kept = N_PICTURES;
    d->element = gst_element_factory_make("avdec_h264", NULL);
    if (!d->element) {
        free(d);
        return -ENOSYS;
    }
    gst_object_ref_sink(d->element);
    g_object_set(d->element, "max-threads", (int)WV_MAX(threads, 1u), "thread-type", 2 /* slice */,
                 "output-corrupt", FALSE, "qos", FALSE, NULL);
    r = make_pads(d);
    if (r == 0 && gst_element_set_state(d->element, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        r = -EIO;
    if (r == 0 && !open_stream(d))
        r = -EIO;
    if (r < 0) {
        wv_decoder_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

struct wv_decoder *wv_decoder_free(struct wv_decoder *d)
{
    if (!d)
        return NULL;
    for (unsigned i = 0; i < N_PICTURES; i++)
        picture_drop(&d->pictures[i]);
    if (d->source)
        gst_pad_set_active(d->source, FALSE);
    if (d->sink)
        gst_pad_set_active(d->sink, FALSE);
    gst_element_set_state(d->element, GST_STATE_NULL);
    gst_object_unref(d->element);
    if (d->source)
        gst_object_unref(d->source);
    if (d->sink)
        gst_object_unref(d->sink);
    free(d);
    return NULL;
}

static GstBuffer *wrap_input(struct wv_decoder *d, const uint8_t *data, size_t len, bool keyframe)
{
    GstAllocationParams params;
    gst_allocation_params_init(&params);
    params.padding = INPUT_PADDING_BYTES;
    params.flags = GST_MEMORY_FLAG_ZERO_PADDED;
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, len, &params);
    if (!buffer)
        return NULL;
    gst_buffer_fill(buffer, 0, data, len);
    /* A time per picture keeps the base class from guessing; it is never looked at otherwise. */
    GST_BUFFER_PTS(buffer) = GST_BUFFER_DTS(buffer) = d->sequence++ * GST_MSECOND;
    if (!keyframe)
        GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DELTA_UNIT);
    return buffer;
}

int wv_decoder_decode(struct wv_decoder *d, const uint8_t *data, size_t len, bool keyframe,
                      struct wv_decoded *ret)
{
    if (len == 0 || (d->need_keyframe && !keyframe))
        return WV_DECODER_ERROR;
    GstBuffer *buffer = wrap_input(d, data, len, keyframe);
    if (!buffer)
        return -ENOMEM;
    d->got = false;
    GstFlowReturn flow = gst_pad_push(d->source, buffer);
    if (flow != GST_FLOW_OK) {
        wv_decoder_reset(d);
        return WV_DECODER_ERROR;
    }
    if (!d->got) {
        /* Our streams have a picture in every access unit: none means that this one was damaged. */
        d->need_keyframe = true;
        return WV_DECODER_ERROR;
    }
    const struct picture *p = &d->pictures[d->newest];
    d->need_keyframe = false;
    *ret = (struct wv_decoded){
        .width = GST_VIDEO_FRAME_WIDTH(&p->frame),
        .height = GST_VIDEO_FRAME_HEIGHT(&p->frame),
        .full_range = d->full_range,
        .bt709 = d->bt709,
    };
    for (unsigned i = 0; i < 3; i++) {
        ret->plane[i] = GST_VIDEO_FRAME_PLANE_DATA(&p->frame, i);
        ret->stride[i] = GST_VIDEO_FRAME_PLANE_STRIDE(&p->frame, i);
    }
    return 0;
}

void wv_decoder_reset(struct wv_decoder *d)
{
    d->need_keyframe = true;
    gst_pad_push_event(d->source, gst_event_new_flush_start());
    gst_pad_push_event(d->source, gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_pad_push_event(d->source, gst_event_new_segment(&segment));
}

void wv_decoder_keep(struct wv_decoder *d)
{
    if (d->kept != N_PICTURES && d->kept != d->newest)
        picture_drop(&d->pictures[d->kept]);
    d->kept = d->newest;
}
