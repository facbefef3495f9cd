/* The moving test pattern: colour bars, a box that travels over them and a frame counter. It needs no display
 * and reacts to nothing; only what moved is said to have changed, as with a real screen. */
#include "lib/base/util.h"
#include "services/capture/source.h"

#include <errno.h>

#define BOX_SHARE  6 /* the box is a sixth of the picture's shorter side */
#define DIGITS     6
#define GLYPH_WIDE 3
#define GLYPH_HIGH 5

struct pattern {
    struct wv_source base;
    uint32_t *pixels;
    uint64_t interval_ns;
    uint64_t frame;
    int32_t box, box_x, box_y, step_x, step_y;
    int32_t scale; /* pixels of a glyph's dot */
};

static const uint32_t bars[] = {0xffffff, 0xffff00, 0x00ffff, 0x00ff00,
                                0xff00ff, 0xff0000, 0x0000ff, 0x202020};

/* 3x5 dots, the top left one is the highest bit. */
static const uint16_t glyphs[10] = {0x7b6f, 0x2c97, 0x73e7, 0x73cf, 0x5bc9,
                                    0x79cf, 0x79ef, 0x7249, 0x7bef, 0x7bcf};

static void fill(struct pattern *p, struct wv_rect r, uint32_t colour)
{
    for (int32_t y = r.y; y < r.y + r.height; y++) {
        uint32_t *row = p->pixels + (size_t)y * p->base.picture.width;

        for (int32_t x = r.x; x < r.x + r.width; x++)
            row[x] = colour;
    }
}

static void fill_background(struct pattern *p, struct wv_rect r)
{
    uint32_t width = p->base.picture.width;

    for (int32_t y = r.y; y < r.y + r.height; y++) {
        uint32_t *row = p->pixels + (size_t)y * width;

        for (int32_t x = r.x; x < r.x + r.width; x++)
            row[x] = bars[(uint64_t)x * WV_ARRAY_SIZE(bars) / width];
    }
}

static struct wv_rect box_rect(const struct pattern *p)
{
    return (struct wv_rect){p->box_x, p->box_y, p->box, p->box};
}

static struct wv_rect counter_rect(const struct pattern *p)
{
    return (struct wv_rect){0, 0, (DIGITS * (GLYPH_WIDE + 1) + 1) * p->scale, (GLYPH_HIGH + 2) * p->scale};
}

static void draw_counter(struct pattern *p)
{
    uint64_t value = p->frame;

    fill(p, counter_rect(p), 0);
    for (int32_t digit = DIGITS - 1; digit >= 0; digit--, value /= 10) {
        uint16_t glyph = glyphs[value % 10];

        for (int32_t dot = 0; dot < GLYPH_WIDE * GLYPH_HIGH; dot++) {
            int32_t column = 1 + digit * (GLYPH_WIDE + 1) + dot % GLYPH_WIDE, row = 1 + dot / GLYPH_WIDE;

            if (glyph >> (GLYPH_WIDE * GLYPH_HIGH - 1 - dot) & 1)
                fill(p, (struct wv_rect){column * p->scale, row * p->scale, p->scale, p->scale}, 0xffffff);
        }
    }
}

static void move_along(int32_t *position, int32_t *step, int32_t box, int32_t size)
{
    if (*position + *step < 0 || *position + *step + box > size)
        *step = -*step;
    *position += *step;
    if (*position > size - box)
        *position = size - box;
    if (*position < 0)
        *position = 0;
}

static void add_change(struct pattern *p, struct wv_region *region, struct wv_rect rect)
{
    wv_region_add(region, rect, (int32_t)p->base.picture.width, (int32_t)p->base.picture.height);
}

static void draw_next(struct pattern *p, struct wv_region *ret_changed)
{
    add_change(p, ret_changed, box_rect(p));
    add_change(p, ret_changed, counter_rect(p));
    fill_background(p, box_rect(p));
    move_along(&p->box_x, &p->step_x, p->box, (int32_t)p->base.picture.width);
    move_along(&p->box_y, &p->step_y, p->box, (int32_t)p->base.picture.height);
    p->frame++;
    fill(p, box_rect(p), (uint32_t)(p->frame * 0x010305 & 0xffffff));
    draw_counter(p);
    add_change(p, ret_changed, box_rect(p));
}

static int pattern_watch(struct wv_source *s, bool on, uint64_t now)
{
    s->pending_ns = on ? now : 0;
    s->change_ns = on ? now + ((struct pattern *)s)->interval_ns : WV_SOURCE_NEVER;
    wv_region_clear(&s->pending);
    if (on)
        wv_region_set_all(&s->pending, (int32_t)s->picture.width, (int32_t)s->picture.height);
    return 0;
}

static int pattern_process(struct wv_source *s, uint64_t now)
{
    struct pattern *p = (struct pattern *)s;

    if (now < s->change_ns)
        return 0;
    /* Dates on a grid; those that were slept through are left out. */
    s->change_ns = now < s->change_ns + p->interval_ns ? s->change_ns + p->interval_ns : now + p->interval_ns;
    draw_next(p, &s->pending);
    s->changes++;
    if (!s->pending_ns)
        s->pending_ns = now;
    return 0;
}

static int pattern_request(struct wv_source *s, uint64_t now)
{
    s->fresh = s->pending;
    s->fresh_ns = s->pending_ns;
    s->ready = true;
    wv_region_clear(&s->pending);
    s->pending_ns = 0;
    return 0;
}

static struct wv_source *pattern_free(struct wv_source *s)
{
    if (s)
        free(((struct pattern *)s)->pixels);
    free(s);
    return NULL;
}

static const struct wv_source_ops pattern_ops = {
    .name = "test pattern",
    .watch = pattern_watch,
    .process = pattern_process,
    .request = pattern_request,
    .free = pattern_free,
};

void wv_source_pattern_set_rate(struct wv_source *s, uint32_t fps, uint64_t now)
{
    struct pattern *p = (struct pattern *)s;

    p->interval_ns = WV_NS_PER_S / WV_MAX(fps, 1u);
    if (s->change_ns != WV_SOURCE_NEVER)
        s->change_ns = WV_MIN(s->change_ns, now + p->interval_ns);
}

int wv_source_pattern_open(struct wv_source **ret, uint32_t width, uint32_t height, uint32_t fps)
{
    struct pattern *p;
    int32_t dots = DIGITS * (GLYPH_WIDE + 1) + 1;

    if (width < 64 || height < 64 || (width | height) & 1 || width > WV_RING_MAX_WIDTH ||
        height > WV_RING_MAX_HEIGHT)
        return -EINVAL;
    p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->pixels = malloc((size_t)width * height * 4);
    if (!p->pixels) {
        free(p);
        return -ENOMEM;
    }
    p->base = (struct wv_source){.ops = &pattern_ops, .fd = -1, .change_ns = WV_SOURCE_NEVER};
    p->base.picture = (struct wv_picture){(const uint8_t *)p->pixels, width * 4, width, height};
    p->box = (int32_t)WV_MIN(width, height) / BOX_SHARE;
    p->scale = WV_MIN((int32_t)width / 4 / dots, (int32_t)height / 4 / (GLYPH_HIGH + 2));
    p->scale = WV_MAX(p->scale, 1);
    p->step_x = WV_MAX((int32_t)width / 160, 2);
    p->step_y = WV_MAX((int32_t)height / 180, 1);
    p->box_y = (int32_t)height / 3;
    fill_background(p, (struct wv_rect){0, 0, (int32_t)width, (int32_t)height});
    fill(p, box_rect(p), 0xff8000);
    draw_counter(p);
    wv_source_pattern_set_rate(&p->base, fps, 0);
    *ret = &p->base;
    return 0;
}
