/* An X display. The server tells by DAMAGE what changed; one request empties its list and others ask for
 * these pixels, all in one flight, so a picture costs one round trip and work in proportion to what changed.
 *
 * Nothing is lost between the list's emptying and the reading: the server tells of every change at the moment
 * it is made, so what comes in between is simply pending for the next picture. It never grabs, draws or
 * changes anything on the display. */
#include "lib/base/util.h"
#include "lib/x11/display.h"
#include "services/capture/source.h"
#include "services/capture/x11_segment.h"

#include <errno.h>
#include <libyuv.h>
#include <stdio.h>
#include <string.h>
#include <xcb/damage.h>
#include <xcb/xcbext.h>

#define MAX_FAILED_READS 3
#define MAX_ROUNDS       4 /* of reading for one picture, see finish_reading() */

/* One request for pixels under way. */
struct read {
    unsigned int sequence;
    struct wv_rect rect;
    size_t offset; /* where the server puts the pixels in the segment */
    bool direct;   /* that is their place in the picture; else they are copied there */
};

struct x11 {
    struct wv_source base;
    xcb_connection_t *connection;
    xcb_screen_t *screen;
    char display[33];
    uint8_t damage_event;
    xcb_damage_damage_t damage; /* 0: nobody watches */
    unsigned transports;
    uint16_t root_width, root_height;
    bool resized; /* the segment is of the old size */
    bool watched;
    struct wv_x11_segment segment; /* the picture, then as much again for pixels that are copied into it */
    struct read reads[WV_RING_DAMAGE_MAX];
    struct wv_region last_read;     /* asked for with the latest request */
    unsigned int subtract_sequence; /* of the request that emptied the damage list then */
    uint32_t n_reads, n_answered;
    unsigned rounds;       /* of reading for this picture */
    bool late;             /* something was drawn before the latest read that this did not cover */
    unsigned failed_reads; /* pictures in a row */
    bool read_failed;
};

static struct x11 *x11_of(struct wv_source *s)
{
    return (struct x11 *)s;
}

static int lost(struct x11 *x, const char *why)
{
    snprintf(x->base.reason, sizeof(x->base.reason), "display %s: %s", x->display, why);
    return WV_SOURCE_LOST;
}

static int check_connection(struct x11 *x)
{
    return xcb_connection_has_error(x->connection) ? lost(x, "the server went away") : 0;
}

/* ---- opening ---- */

static bool has_pixels_of_4_bytes(const xcb_setup_t *setup, uint8_t depth)
{
    xcb_format_iterator_t i = xcb_setup_pixmap_formats_iterator(setup);

    for (; i.rem; xcb_format_next(&i))
        if (i.data->depth == depth)
            return i.data->bits_per_pixel == 32;
    return false;
}

static const xcb_visualtype_t *root_visual(const xcb_screen_t *screen)
{
    xcb_depth_iterator_t d = xcb_screen_allowed_depths_iterator(screen);

    for (; d.rem; xcb_depth_next(&d)) {
        xcb_visualtype_iterator_t v = xcb_depth_visuals_iterator(d.data);

        for (; v.rem; xcb_visualtype_next(&v))
            if (v.data->visual_id == screen->root_visual)
                return v.data;
    }
    return NULL;
}

static int check_format(struct x11 *x)
{
    const xcb_setup_t *setup = xcb_get_setup(x->connection);
    const xcb_visualtype_t *visual = root_visual(x->screen);
    char text[96];

    if (x->screen->root_depth != 24 && x->screen->root_depth != 32) {
        snprintf(text, sizeof(text), "it has a colour depth of %u bits; start it with 24",
                 x->screen->root_depth);
        return lost(x, text);
    }
    if (setup->image_byte_order != XCB_IMAGE_ORDER_LSB_FIRST ||
        !has_pixels_of_4_bytes(setup, x->screen->root_depth) || !visual || visual->red_mask != 0xff0000 ||
        visual->green_mask != 0xff00 || visual->blue_mask != 0xff)
        return lost(x, "its pixels are not stored as 32 bits of blue, green, red");
    return 0;
}

static int query_damage(struct x11 *x)
{
    const xcb_query_extension_reply_t *extension = xcb_get_extension_data(x->connection, &xcb_damage_id);
    xcb_damage_query_version_reply_t *version;

    if (!extension || !extension->present)
        return check_connection(x) ? WV_SOURCE_LOST : lost(x, "the server lacks the DAMAGE extension");
    x->damage_event = extension->first_event + XCB_DAMAGE_NOTIFY;
    version =
        xcb_damage_query_version_reply(x->connection, xcb_damage_query_version(x->connection, 1, 1), NULL);
    if (!version)
        return lost(x, "the server did not answer");
    free(version);
    return 0;
}

static void set_all_pending(struct x11 *x, uint64_t now)
{
    struct wv_source *s = &x->base;

    wv_region_set_all(&s->pending, (int32_t)s->picture.width, (int32_t)s->picture.height);
    s->pending_ns = now;
    s->changes++;
}

/* Makes the segment and the picture as large as the root window is now. */
static int follow_size(struct x11 *x, uint64_t now)
{
    struct wv_x11_geometry root;
    size_t bytes;
    int r;

    if (wv_x11_geometry(x->connection, x->screen->root, &root))
        return lost(x, "the server went away");
    x->resized = false;
    if (root.width < 2 || root.height < 2)
        return lost(x, "it has no picture");
    if (x->segment.transport && root.width == x->root_width && root.height == x->root_height)
        return 0;
    wv_x11_segment_fini(&x->segment, x->connection);
    bytes = (size_t)root.width * 4 * root.height;
    r = wv_x11_segment_new(&x->segment, x->connection, bytes * 2, x->transports);
    if (r == WV_SOURCE_LOST)
        return lost(x, "it does not let us read its pixels");
    if (r < 0)
        return r;
    wv_region_clear(&x->last_read);
    x->root_width = root.width;
    x->root_height = root.height;
    x->base.picture =
        (struct wv_picture){x->segment.memory, root.width * 4u, root.width & ~1u, root.height & ~1u};
    if (x->watched)
        set_all_pending(x, now);
    return 0;
}

static int open_display(struct x11 *x, const struct wv_x11_options *options)
{
    uint32_t mask = XCB_EVENT_MASK_STRUCTURE_NOTIFY;
    int r = wv_x11_open(options->display, options->xauthority, &x->connection, &x->screen, x->base.reason,
                        sizeof(x->base.reason));

    if (r)
        return r == WV_X11_UNREACHABLE ? WV_SOURCE_LOST : r;
    x->base.fd = xcb_get_file_descriptor(x->connection);
    r = check_format(x);
    if (!r)
        r = query_damage(x);
    if (r)
        return r;
    /* Asked for before the size is read, so that no change of it is missed. */
    xcb_change_window_attributes(x->connection, x->screen->root, XCB_CW_EVENT_MASK, &mask);
    return follow_size(x, 0);
}

/* ---- reading ---- */

static void ask_shared(struct x11 *x, struct read *r, size_t *scratch)
{
    size_t row = (size_t)x->root_width * 4, bytes = (size_t)r->rect.width * 4 * (size_t)r->rect.height;

    /* Whole rows land in their place; a narrow rectangle is less work to read beside the picture and copy in.
     */
    r->direct = r->rect.width * 2 > x->root_width || *scratch + bytes > x->segment.bytes;
    r->offset = r->direct ? (size_t)r->rect.y * row : *scratch;
    if (!r->direct)
        *scratch += bytes;
    r->sequence = xcb_shm_get_image(x->connection, x->screen->root, r->direct ? 0 : (int16_t)r->rect.x,
                                    (int16_t)r->rect.y, r->direct ? x->root_width : (uint16_t)r->rect.width,
                                    (uint16_t)r->rect.height, ~0u, XCB_IMAGE_FORMAT_Z_PIXMAP, x->segment.id,
                                    (uint32_t)r->offset)
                      .sequence;
}

static void ask_plain(struct x11 *x, struct read *r)
{
    r->sequence = xcb_get_image(x->connection, XCB_IMAGE_FORMAT_Z_PIXMAP, x->screen->root, (int16_t)r->rect.x,
                                (int16_t)r->rect.y, (uint16_t)r->rect.width, (uint16_t)r->rect.height, ~0u)
                      .sequence;
}

/* Empties the server's list and asks for everything pending, in one flight. */
static void ask_pending(struct x11 *x)
{
    struct wv_source *s = &x->base;
    size_t scratch = (size_t)x->root_width * 4 * x->root_height;
    bool last = x->rounds == MAX_ROUNDS - 1;

    if (last)
        xcb_grab_server(x->connection);
    x->subtract_sequence = xcb_damage_subtract(x->connection, x->damage, XCB_NONE, XCB_NONE).sequence;
    x->last_read = s->pending;
    x->n_reads = s->pending.n;
    x->n_answered = 0;
    x->rounds++;
    x->late = false;
    for (uint32_t i = 0; i < x->n_reads; i++) {
        x->reads[i] = (struct read){.rect = s->pending.rects[i]};
        if (x->segment.id)
            ask_shared(x, &x->reads[i], &scratch);
        else
            ask_plain(x, &x->reads[i]);
    }
    if (last)
        xcb_ungrab_server(x->connection);
    xcb_flush(x->connection);
    wv_region_merge(&s->fresh, &s->pending);
    wv_region_clear(&s->pending);
    s->pending_ns = 0;
}

static int x11_request(struct wv_source *s, uint64_t now)
{
    struct x11 *x = x11_of(s);

    wv_region_clear(&s->fresh);
    s->fresh_ns = s->pending_ns;
    s->reading = true;
    s->reading_ns = now;
    x->rounds = 0;
    x->read_failed = false;
    ask_pending(x);
    return check_connection(x);
}

static void copy_in(struct x11 *x, const struct read *r, const uint8_t *pixels)
{
    uint8_t *place = x->segment.memory + (size_t)r->rect.y * x->root_width * 4 + (size_t)r->rect.x * 4;

    ARGBCopy(pixels, r->rect.width * 4, place, x->root_width * 4, r->rect.width, r->rect.height);
}

static bool take_answer(struct x11 *x, const struct read *r, void *reply)
{
    if (x->segment.id) {
        if (!r->direct)
            copy_in(x, r, x->segment.memory + r->offset);
        return true;
    }
    if (xcb_get_image_data_length(reply) < (int64_t)r->rect.width * 4 * r->rect.height)
        return false;
    copy_in(x, r, xcb_get_image_data(reply));
    return true;
}

static void take_events(struct x11 *x, bool queued_only, uint64_t now);

/* All answers are there. One drawing request may change many rectangles, and the server tells of them one by
 * one, so the first word of it sets us reading before the rest is told. What was drawn before the read but
 * not covered by it belongs to the same picture: it is read now, and not shown torn until the next picture's
 * date. */
static void finish_reading(struct x11 *x, uint64_t now)
{
    struct wv_source *s = &x->base;

    take_events(x, true, now);
    if (x->late && !x->read_failed && !x->resized && x->rounds < MAX_ROUNDS) {
        /* Who draws faster than we read may do so again behind each round: the last one reads all of it, and
         * nobody draws in between. */
        if (x->rounds == MAX_ROUNDS - 1)
            wv_region_merge(&s->pending, &s->fresh);
        ask_pending(x);
        return;
    }
    s->reading = false;
    s->reading_ns = 0;
    x->n_reads = 0;
    if (x->read_failed) {
        /* Most likely the display became smaller meanwhile. */
        wv_region_clear(&x->last_read);
        x->failed_reads++;
        x->resized = true;
        set_all_pending(x, now);
        return;
    }
    x->failed_reads = 0;
    s->ready = true;
}

/* Takes the answers that are there. */
static void poll_answers(struct x11 *x, uint64_t now)
{
    while (x->n_answered < x->n_reads) {
        struct read *r = &x->reads[x->n_answered];
        xcb_generic_error_t *error = NULL;
        void *reply = NULL;

        if (!xcb_poll_for_reply(x->connection, r->sequence, &reply, &error))
            return;
        if (!reply || !take_answer(x, r, reply))
            x->read_failed = true;
        free(reply);
        free(error);
        x->n_answered++;
    }
    if (x->base.reading)
        finish_reading(x, now);
}

/* ---- events ---- */

/* Whether the change was made before the latest read reached the server, and inside what that reads: the
 * picture shows it already. */
static bool already_read(const struct x11 *x, unsigned int sequence, struct wv_rect r)
{
    if ((int32_t)(sequence - x->subtract_sequence) >= 0)
        return false;
    for (uint32_t i = 0; i < x->last_read.n; i++) {
        struct wv_rect l = x->last_read.rects[i];

        if (r.x >= l.x && r.y >= l.y && r.x + r.width <= l.x + l.width && r.y + r.height <= l.y + l.height)
            return true;
    }
    return false;
}

static void take_damage(struct x11 *x, const xcb_damage_notify_event_t *event, unsigned int sequence,
                        uint64_t now)
{
    struct wv_source *s = &x->base;
    struct wv_rect rect = {event->area.x, event->area.y, event->area.width, event->area.height};

    if (event->damage != x->damage || already_read(x, sequence, rect))
        return; /* of a damage list that is gone, or no news */
    wv_region_add(&s->pending, rect, (int32_t)s->picture.width, (int32_t)s->picture.height);
    if (wv_region_empty(&s->pending))
        return;
    x->late |= x->n_reads && (int32_t)(sequence - x->reads[x->n_reads - 1].sequence) < 0;
    if (!s->pending_ns)
        s->pending_ns = now;
    s->changes++;
}

static void take_event(struct x11 *x, const xcb_generic_event_t *event, uint64_t now)
{
    uint8_t type = event->response_type & 0x7f;

    if (type == x->damage_event) {
        take_damage(x, (const xcb_damage_notify_event_t *)event, event->full_sequence, now);
    } else if (type == XCB_CONFIGURE_NOTIFY) {
        const xcb_configure_notify_event_t *configure = (const xcb_configure_notify_event_t *)event;

        if (configure->window == x->screen->root &&
            (configure->width != x->root_width || configure->height != x->root_height))
            x->resized = true;
    }
}

static void take_events(struct x11 *x, bool queued_only, uint64_t now)
{
    xcb_generic_event_t *event;

    while ((event =
                queued_only ? xcb_poll_for_queued_event(x->connection) : xcb_poll_for_event(x->connection))) {
        take_event(x, event, now);
        free(event);
    }
}

static int x11_process(struct wv_source *s, uint64_t now)
{
    struct x11 *x = x11_of(s);
    int r;

    take_events(x, false, now);
    if (s->reading)
        poll_answers(x, now);
    /* Looking for answers may have read events too, which the socket does not announce again. */
    take_events(x, true, now);
    r = check_connection(x);
    if (r)
        return r;
    if (x->failed_reads >= MAX_FAILED_READS)
        return lost(x, "the server refuses to give its pixels");
    if (x->resized && !s->reading) {
        s->ready = false; /* of the old size */
        r = follow_size(x, now);
        take_events(x, true, now);
    }
    return r;
}

static int x11_watch(struct wv_source *s, bool on, uint64_t now)
{
    struct x11 *x = x11_of(s);

    if (on == x->watched)
        return 0;
    x->watched = on;
    if (on) {
        x->damage = xcb_generate_id(x->connection);
        wv_region_clear(&x->last_read);
        xcb_damage_create(x->connection, x->damage, x->screen->root,
                          XCB_DAMAGE_REPORT_LEVEL_DELTA_RECTANGLES);
        set_all_pending(x, now);
    } else {
        xcb_damage_destroy(x->connection, x->damage);
        x->damage = 0;
        wv_region_clear(&s->pending);
        s->pending_ns = 0;
    }
    xcb_flush(x->connection);
    return check_connection(x);
}

static struct wv_source *x11_free(struct wv_source *s)
{
    struct x11 *x = x11_of(s);

    if (!x)
        return NULL;
    wv_x11_segment_fini(&x->segment, x->connection);
    wv_x11_close(x->connection);
    free(x);
    return NULL;
}

static const struct wv_source_ops x11_ops = {
    .name = "display",
    .watch = x11_watch,
    .process = x11_process,
    .request = x11_request,
    .free = x11_free,
};

enum wv_x11_transport wv_source_x11_transport(const struct wv_source *s)
{
    return ((const struct x11 *)s)->segment.transport;
}

int wv_source_x11_open(struct wv_source **ret, const struct wv_x11_options *options, char *ret_reason,
                       size_t capacity)
{
    struct x11 *x = calloc(1, sizeof(*x));
    int r;

    if (!x)
        return -ENOMEM;
    x->base = (struct wv_source){.ops = &x11_ops, .fd = -1, .change_ns = WV_SOURCE_NEVER};
    x->transports = options->transports ? options->transports : ~0u;
    snprintf(x->display, sizeof(x->display), "%s", wv_x11_name(options->display));
    r = open_display(x, options);
    if (r) {
        snprintf(ret_reason, capacity, "%s", x->base.reason);
        x11_free(&x->base);
        return r;
    }
    *ret = &x->base;
    return 0;
}
