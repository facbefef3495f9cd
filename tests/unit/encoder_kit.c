/* Pictures, decoder and measures for the encoder's tests: see encoder_kit.h. */
#include "tests/unit/encoder_kit.h"

#include <gst/gst.h>
#include <gst/video/video.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
/* GLib leaves its first table of names, made before main(), behind when it grows; a decoder's plugin has many
 * names. Whole call stacks, so that nothing else is taken for it. */
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

struct kit_picture kit_picture_new(uint32_t width, uint32_t height, uint32_t stride)
{
    struct kit_picture p = {.width = width, .height = height, .stride = stride};

    p.pixels = malloc(kit_picture_bytes(&p));
    if (!p.pixels)
        abort();
    memset(p.pixels, 128, kit_picture_bytes(&p));
    return p;
}

void kit_picture_free(struct kit_picture *p)
{
    free(p->pixels);
    *p = (struct kit_picture){0};
}

size_t kit_picture_bytes(const struct kit_picture *p)
{
    return (size_t)p->stride * p->height * 3 / 2;
}

struct wv_picture kit_view(const struct kit_picture *p)
{
    return (struct wv_picture){
        .pixels = p->pixels, .width = p->width, .height = p->height, .stride = p->stride};
}

static uint32_t mix(uint32_t v)
{
    v ^= v >> 16;
    v *= 0x7feb352du;
    v ^= v >> 15;
    v *= 0x846ca68bu;
    return v ^ (v >> 16);
}

/* 64 made-up letters of 5 x 7 dots, left-right strokes like those of real ones. */
static bool letter_dot(uint32_t letter, uint32_t x, uint32_t y)
{
    uint32_t h = mix(letter * 7919u + 17);

    if (x >= 5 || y >= 7)
        return false;
    if ((x == 0 && (h & 1)) || (x == 4 && (h & 2)) || (x == 2 && (h & 4)))
        return true;
    return (y == 0 && (h & 8)) || (y == 3 && (h & 16)) || (y == 6 && (h & 32)) || (x == y && (h & 64)) ||
           (x + y == 5 && (h & 128));
}

static uint8_t text_luma(uint32_t x, uint32_t y)
{
    uint32_t row = y / 15, column = x / 7, cell = mix(row * 65537u + column);
    uint32_t margin = mix(row) % 40, end = 60 + mix(row + 991) % 120;
    bool dark = (y / 330) % 3 == 2;
    uint8_t ink = (uint8_t)(dark ? 180 + cell % 40 : 20 + cell % 60), paper = dark ? 35 : 230;

    if (column < margin || column > end || cell % 6 == 0 || row % 9 == 0)
        return paper;
    return letter_dot(cell % 64, x % 7, (y % 15) * 7 / 11) ? ink : paper;
}

void kit_draw_text(struct kit_picture *p, uint32_t offset)
{
    uint8_t *chroma = p->pixels + (size_t)p->stride * p->height;

    for (uint32_t y = 0; y < p->height; y++)
        for (uint32_t x = 0; x < p->width; x++)
            p->pixels[(size_t)y * p->stride + x] = text_luma(x, y + offset);
    for (uint32_t y = 0; y < p->height / 2; y++)
        for (uint32_t x = 0; x < p->width / 2; x++) {
            uint32_t row = (y * 2 + offset) / 15, word = mix(row * 131u + x / 24);
            bool coloured = word % 5 == 0;

            chroma[(size_t)y * p->stride + 2 * x] = (uint8_t)(coloured ? 90 + word % 76 : 128);
            chroma[(size_t)y * p->stride + 2 * x + 1] = (uint8_t)(coloured ? 90 + (word >> 8) % 76 : 128);
        }
}

void kit_draw_noise(struct kit_picture *p, uint32_t seed)
{
    uint32_t v = mix(seed + 1);
    size_t n = kit_picture_bytes(p);

    for (size_t i = 0; i < n; i++) {
        v = v * 1664525u + 1013904223u;
        p->pixels[i] = (uint8_t)(16 + (v >> 24) % 220);
    }
}

void kit_draw_box(struct kit_picture *p, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                  uint8_t luma)
{
    for (uint32_t j = y; j < y + height && j < p->height; j++)
        for (uint32_t i = x; i < x + width && i < p->width; i++)
            p->pixels[(size_t)j * p->stride + i] = luma;
}

/* The second Exp-Golomb number of a slice header is slice_type (H.264, 7.3.3): 1 and 6 are B. */
static bool is_b_slice(const uint8_t *payload, size_t len)
{
    unsigned bit = 0, value = 0;

    for (unsigned number = 0; number < 2; number++) {
        unsigned zeros = 0;

        while (bit / 8 < len && !(payload[bit / 8] >> (7 - bit % 8) & 1))
            zeros++, bit++;
        value = 0;
        for (unsigned i = 0; i <= zeros && bit / 8 < len; i++, bit++)
            value = value << 1 | (payload[bit / 8] >> (7 - bit % 8) & 1);
        value--;
    }
    return value % 5 == 1;
}

struct kit_nals kit_nals(const uint8_t *data, size_t len)
{
    struct kit_nals n = {0};

    for (size_t i = 0; i + 4 < len; i++) {
        if (data[i] || data[i + 1] || data[i + 2] != 1)
            continue;
        switch (data[i + 3] & 31) {
        case 5:
            n.idr++;
            break;
        case 1:
            n.slices++;
            n.b_slices += is_b_slice(data + i + 4, len - i - 4);
            break;
        case 7:
            n.sps++;
            break;
        case 8:
            n.pps++;
            break;
        case 9:
            n.aud++;
            break;
        default:
            n.other++;
        }
        i += 3;
    }
    return n;
}

struct kit_decoder {
    GstElement *element;
    GstPad *src, *sink;
    GstVideoInfo info;
    struct kit_picture picture;
    uint64_t fed;
    int out;
};

static GstFlowReturn take_picture(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    struct kit_decoder *d = gst_pad_get_element_private(pad);
    GstVideoFrame frame;
    uint32_t width, height;

    (void)parent;
    if (!gst_video_frame_map(&frame, &d->info, buffer, GST_MAP_READ)) {
        gst_buffer_unref(buffer);
        return GST_FLOW_ERROR;
    }
    width = (uint32_t)GST_VIDEO_FRAME_WIDTH(&frame);
    height = (uint32_t)GST_VIDEO_FRAME_HEIGHT(&frame);
    kit_picture_free(&d->picture);
    d->picture = kit_picture_new(width, height, width);
    for (uint32_t y = 0; y < height; y++)
        memcpy(d->picture.pixels + (size_t)y * width,
               (const uint8_t *)GST_VIDEO_FRAME_PLANE_DATA(&frame, 0) +
                   (size_t)y * (size_t)GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0),
               width);
    gst_video_frame_unmap(&frame);
    gst_buffer_unref(buffer);
    d->out++;
    return GST_FLOW_OK;
}

static gboolean take_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    struct kit_decoder *d = gst_pad_get_element_private(pad);

    if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
        GstCaps *caps;

        gst_event_parse_caps(event, &caps);
        gst_video_info_from_caps(&d->info, caps);
    }
    return gst_pad_event_default(pad, parent, event);
}

static bool start_decoder(struct kit_decoder *d)
{
    static GstStaticPadTemplate anything =
        GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
    GstPad *in = gst_element_get_static_pad(d->element, "sink");
    GstPad *out = gst_element_get_static_pad(d->element, "src");
    GstCaps *caps = gst_caps_from_string("video/x-h264,stream-format=byte-stream,alignment=au");
    GstSegment segment;
    bool ok;

    g_object_set(d->element, "max-threads", 1, NULL);
    d->src = gst_object_ref_sink(gst_pad_new("kit-src", GST_PAD_SRC));
    /* With a template: a pad without one takes no other caps once it has some, and sizes change. */
    d->sink = gst_object_ref_sink(gst_pad_new_from_static_template(&anything, "sink"));
    gst_pad_set_element_private(d->sink, d);
    gst_pad_set_chain_function(d->sink, take_picture);
    gst_pad_set_event_function(d->sink, take_event);
    gst_segment_init(&segment, GST_FORMAT_TIME);
    ok = gst_pad_link(d->src, in) == GST_PAD_LINK_OK && gst_pad_link(out, d->sink) == GST_PAD_LINK_OK &&
         gst_pad_set_active(d->sink, TRUE) && gst_pad_set_active(d->src, TRUE) &&
         gst_element_set_state(d->element, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE &&
         gst_pad_push_event(d->src, gst_event_new_stream_start("kit")) &&
         gst_pad_push_event(d->src, gst_event_new_caps(caps)) &&
         gst_pad_push_event(d->src, gst_event_new_segment(&segment));
    gst_caps_unref(caps);
    gst_object_unref(in);
    gst_object_unref(out);
    return ok;
}

struct kit_decoder *kit_decoder_new(const char *plugin_dir)
{
    g_autofree char *path = g_build_filename(plugin_dir, "libgstlibav.so", NULL);
    GstPlugin *plugin = gst_plugin_load_file(path, NULL);
    struct kit_decoder *d;

    if (plugin)
        gst_object_unref(plugin);
    d = calloc(1, sizeof(*d));
    if (!d)
        abort();
    d->element = gst_element_factory_make("avdec_h264", NULL);
    if (!d->element) {
        free(d);
        return NULL;
    }
    gst_object_ref_sink(d->element);
    return start_decoder(d) ? d : kit_decoder_free(d);
}

struct kit_decoder *kit_decoder_free(struct kit_decoder *d)
{
    if (!d)
        return NULL;
    gst_element_set_state(d->element, GST_STATE_NULL);
    if (d->src)
        gst_pad_set_active(d->src, FALSE);
    if (d->sink)
        gst_pad_set_active(d->sink, FALSE);
    gst_clear_object(&d->src);
    gst_clear_object(&d->sink);
    gst_clear_object(&d->element);
    kit_picture_free(&d->picture);
    free(d);
    return NULL;
}

int kit_decode(struct kit_decoder *d, const struct wv_access_unit *au, struct kit_picture *ret)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, au->len, NULL);

    gst_buffer_fill(buffer, 0, au->data, au->len);
    GST_BUFFER_PTS(buffer) = GST_BUFFER_DTS(buffer) = d->fed++ * GST_SECOND / 60;
    d->out = 0;
    if (gst_pad_push(d->src, buffer) != GST_FLOW_OK)
        return -1;
    *ret = d->picture;
    return d->out;
}

double kit_psnr(const struct kit_picture *a, const struct kit_picture *b)
{
    double sum = 0;

    for (uint32_t y = 0; y < a->height; y++)
        for (uint32_t x = 0; x < a->width; x++) {
            int e = (int)a->pixels[(size_t)y * a->stride + x] - (int)b->pixels[(size_t)y * b->stride + x];

            sum += e * e;
        }
    return sum == 0 ? 99 : fmin(99, 10 * log10(255.0 * 255.0 * a->width * a->height / sum));
}

static double ssim_window(const struct kit_picture *a, const struct kit_picture *b, uint32_t x, uint32_t y)
{
    double sa = 0, sb = 0, aa = 0, bb = 0, ab = 0, ma, mb, va, vb, cov;

    for (uint32_t j = y; j < y + 8; j++)
        for (uint32_t i = x; i < x + 8; i++) {
            double u = a->pixels[(size_t)j * a->stride + i], v = b->pixels[(size_t)j * b->stride + i];

            sa += u;
            sb += v;
            aa += u * u;
            bb += v * v;
            ab += u * v;
        }
    ma = sa / 64;
    mb = sb / 64;
    va = aa / 64 - ma * ma;
    vb = bb / 64 - mb * mb;
    cov = ab / 64 - ma * mb;
    return (2 * ma * mb + 6.5025) * (2 * cov + 58.5225) /
           ((ma * ma + mb * mb + 6.5025) * (va + vb + 58.5225));
}

double kit_ssim(const struct kit_picture *a, const struct kit_picture *b)
{
    double sum = 0;
    uint64_t n = 0;

    for (uint32_t y = 0; y + 8 <= a->height; y += 4)
        for (uint32_t x = 0; x + 8 <= a->width; x += 4) {
            sum += ssim_window(a, b, x, y);
            n++;
        }
    return n ? sum / (double)n : 1;
}
