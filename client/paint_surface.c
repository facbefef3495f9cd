/* Painting into the window's surface. On X11 that is shared memory that the server reads with XShmPutImage;
 * what costs is bytes, so only bands of rows that differ from the picture before are converted and handed
 * over. */
#include "client/paint.h"

#include "lib/base/util.h"

#include <errno.h>
#include <libyuv.h>
#include <string.h>

#define BAND_ROWS 16
#define RECTS_MAX 64

struct surface_painter {
    struct wv_painter painter;
    SDL_Window *window;
    SDL_Surface *own; /* of a format that we can write, where the window's is another; else NULL */
    struct wv_client_picture before; /* what is on the screen; plane[0] NULL: nothing */
    bool *dirty;                     /* bands that sprites have touched, by row of the window */
    int n_bands;
    uint8_t *scaled; /* I420 of the area's size, when it is not 1:1 */
    size_t scaled_bytes;
    SDL_Rect rects[RECTS_MAX];
    int n_rects;
};

SDL_Rect wv_paint_area(int window_width, int window_height, int width, int height)
{
    SDL_Rect r = {0, 0, window_width, window_height};
    if (width <= 0 || height <= 0)
        return r;
    if ((int64_t)window_width * height > (int64_t)window_height * width)
        r.w = (int)WV_MAX((int64_t)window_height * width / height, 1);
    else
        r.h = (int)WV_MAX((int64_t)window_width * height / width, 1);
    r.x = (window_width - r.w) / 2;
    r.y = (window_height - r.h) / 2;
    return r;
}

static const struct YuvConstants *constants(const struct wv_client_picture *p)
{
    if (p->bt709)
        return p->full_range ? &kYuvF709Constants : &kYuvH709Constants;
    return p->full_range ? &kYuvJPEGConstants : &kYuvI601Constants;
}

/* Whether rows FROM..TO (even FROM) of A and B differ. */
static bool rows_differ(const struct wv_client_picture *a, const struct wv_client_picture *b, int from,
                        int to)
{
    for (int y = from; y < to; y++)
        if (memcmp(a->plane[0] + (ptrdiff_t)y * a->stride[0], b->plane[0] + (ptrdiff_t)y * b->stride[0],
                   (size_t)a->width) != 0)
            return true;
    size_t half = (size_t)(a->width + 1) / 2;
    for (int i = 1; i < 3; i++)
        for (int y = from / 2; y < (to + 1) / 2; y++)
            if (memcmp(a->plane[i] + (ptrdiff_t)y * a->stride[i], b->plane[i] + (ptrdiff_t)y * b->stride[i],
                       half) != 0)
                return true;
    return false;
}

/* Adds rows Y..Y+H of the scene's area to what is handed over; touching pieces become one. */
static void add_rect(struct surface_painter *s, SDL_Rect r)
{
    if (s->n_rects) {
        SDL_Rect *last = &s->rects[s->n_rects - 1];
        bool same = last->x == r.x && last->w == r.w && last->y + last->h >= r.y && last->y <= r.y;
        if (same || s->n_rects == RECTS_MAX) {
            SDL_UnionRect(last, &r, last);
            return;
        }
    }
    s->rects[s->n_rects++] = r;
}

static uint8_t *pixel(SDL_Surface *to, int x, int y)
{
    return (uint8_t *)to->pixels + (ptrdiff_t)y * to->pitch + (ptrdiff_t)x * 4;
}

static void convert_rows(SDL_Surface *to, const struct wv_client_picture *p, SDL_Rect area, int from,
                         int rows)
{
    I420ToARGBMatrix(p->plane[0] + (ptrdiff_t)from * p->stride[0], p->stride[0],
                     p->plane[1] + (ptrdiff_t)(from / 2) * p->stride[1], p->stride[1],
                     p->plane[2] + (ptrdiff_t)(from / 2) * p->stride[2], p->stride[2],
                     pixel(to, area.x, area.y + from), to->pitch, constants(p), p->width, rows);
}

/* Marks what sprites cover: it is painted now and must be painted again next time. */
static void mark_sprites(struct surface_painter *s, const struct wv_scene *scene)
{
    for (unsigned i = 0; i < scene->n_sprites; i++) {
        const struct wv_sprite *sprite = scene->sprites[i];
        int from = WV_MAX(sprite->y / BAND_ROWS, 0), to = (sprite->y + sprite->height - 1) / BAND_ROWS;
        for (int b = from; b <= to && b < s->n_bands; b++)
            s->dirty[b] = true;
    }
}

static bool band_is_dirty(const struct surface_painter *s, int from, int to)
{
    for (int b = from / BAND_ROWS; b <= (to - 1) / BAND_ROWS && b < s->n_bands; b++)
        if (s->dirty[b])
            return true;
    return false;
}

static void paint_unscaled(struct surface_painter *s, SDL_Surface *to, const struct wv_scene *scene, bool all)
{
    const struct wv_client_picture *p = scene->picture;
    int run = -1; /* first row of a run of bands to convert */
    for (int y = 0; y <= p->height; y += BAND_ROWS) {
        int end = WV_MIN(y + BAND_ROWS, p->height);
        bool changed = y < p->height && (all || band_is_dirty(s, scene->area.y + y, scene->area.y + end) ||
                                         (scene->picture_changed && rows_differ(p, &s->before, y, end)));
        if (changed && run < 0)
            run = y;
        if (run >= 0 && (!changed || end == p->height)) {
            int stop = changed ? end : y;
            convert_rows(to, p, scene->area, run, stop - run);
            add_rect(s, (SDL_Rect){scene->area.x, scene->area.y + run, scene->area.w, stop - run});
            run = -1;
        }
    }
}

static int paint_scaled(struct surface_painter *s, SDL_Surface *to, const struct wv_scene *scene)
{
    const struct wv_client_picture *p = scene->picture;
    SDL_Rect a = scene->area;
    int half = (a.w + 1) / 2, half_rows = (a.h + 1) / 2;
    size_t luma = (size_t)a.w * (size_t)a.h, chroma = (size_t)half * (size_t)half_rows;
    if (s->scaled_bytes < luma + 2 * chroma) {
        uint8_t *bigger = realloc(s->scaled, luma + 2 * chroma);
        if (!bigger)
            return -ENOMEM;
        s->scaled = bigger;
        s->scaled_bytes = luma + 2 * chroma;
    }
    struct wv_client_picture scaled = *p;
    scaled.width = a.w;
    scaled.height = a.h;
    uint8_t *y = s->scaled, *u = y + luma, *v = u + chroma;
    I420Scale(p->plane[0], p->stride[0], p->plane[1], p->stride[1], p->plane[2], p->stride[2], p->width,
              p->height, y, a.w, u, half, v, half, a.w, a.h, kFilterBox);
    scaled.plane[0] = y;
    scaled.plane[1] = u;
    scaled.plane[2] = v;
    scaled.stride[0] = a.w;
    scaled.stride[1] = scaled.stride[2] = half;
    convert_rows(to, &scaled, a, 0, a.h);
    add_rect(s, a);
    return 0;
}

static void draw_sprite(SDL_Surface *to, const struct wv_sprite *sprite)
{
    int x0 = WV_MAX(sprite->x, 0), x1 = WV_MIN(sprite->x + sprite->width, to->w);
    int y0 = WV_MAX(sprite->y, 0), y1 = WV_MIN(sprite->y + sprite->height, to->h);
    for (int y = y0; y < y1 && x0 < x1; y++) {
        const uint32_t *from = sprite->pixels + (ptrdiff_t)(y - sprite->y) * sprite->width + (x0 - sprite->x);
        uint8_t *out = pixel(to, x0, y);
        if (sprite->blend)
            ARGBBlend((const uint8_t *)from, (x1 - x0) * 4, out, to->pitch, out, to->pitch, x1 - x0, 1);
        else
            memcpy(out, from, (size_t)(x1 - x0) * 4);
    }
}

static int prepare_bands(struct surface_painter *s, int height, bool *ret_new)
{
    int n = (height + BAND_ROWS - 1) / BAND_ROWS;
    *ret_new = n != s->n_bands;
    if (!*ret_new)
        return 0;
    bool *dirty = calloc((size_t)n, sizeof *dirty);
    if (!dirty)
        return -ENOMEM;
    free(s->dirty);
    s->dirty = dirty;
    s->n_bands = n;
    return 0;
}

static int target(struct surface_painter *s, SDL_Surface **ret_window, SDL_Surface **ret_to)
{
    SDL_Surface *w = SDL_GetWindowSurface(s->window);
    if (!w)
        return -EIO;
    *ret_window = *ret_to = w;
    const SDL_PixelFormat *f = w->format;
    if (f->BytesPerPixel == 4 && f->Rmask == 0xff0000 && f->Gmask == 0xff00 && f->Bmask == 0xff)
        return 0;
    if (!s->own || s->own->w != w->w || s->own->h != w->h) {
        SDL_FreeSurface(s->own);
        s->own = SDL_CreateRGBSurfaceWithFormat(0, w->w, w->h, 32, SDL_PIXELFORMAT_RGB888);
        if (!s->own)
            return -ENOMEM;
    }
    *ret_to = s->own;
    return 0;
}

/* A sprite outside the picture's area lies on the bars: hand its rows over too. */
static void finish_sprites(struct surface_painter *s, SDL_Surface *to, const struct wv_scene *scene)
{
    for (unsigned i = 0; i < scene->n_sprites; i++) {
        const struct wv_sprite *sprite = scene->sprites[i];
        draw_sprite(to, sprite);
        SDL_Rect r = {sprite->x, sprite->y, sprite->width, sprite->height}, screen = {0, 0, to->w, to->h};
        if (SDL_IntersectRect(&r, &screen, &r))
            add_rect(s, r);
    }
}

static bool any_dirty(const struct surface_painter *s)
{
    for (int b = 0; b < s->n_bands; b++)
        if (s->dirty[b])
            return true;
    return false;
}

static int surface_paint(struct wv_painter *painter, const struct wv_scene *scene)
{
    struct surface_painter *s = (struct surface_painter *)painter;
    const struct wv_client_picture *p = scene->picture;
    SDL_Surface *window, *to;
    bool new_bands;
    int r = target(s, &window, &to);
    if (r == 0)
        r = prepare_bands(s, to->h, &new_bands);
    if (r < 0)
        return r;
    if (p && (scene->area.x < 0 || scene->area.y < 0 || scene->area.x + scene->area.w > to->w ||
              scene->area.y + scene->area.h > to->h))
        return -EAGAIN; /* the window is just changing its size; a repaint follows */
    s->n_rects = 0;
    bool unscaled = p && scene->area.w == p->width && scene->area.h == p->height;
    bool bars = !p || scene->area.w != to->w || scene->area.h != to->h;
    /* Where sprites were, bars are painted anew as well: rare, and simplest as a whole. */
    bool all = scene->everything || new_bands || !p || (bars && (any_dirty(s) || scene->n_sprites)) ||
               !s->before.plane[0] || s->before.width != p->width || s->before.height != p->height;
    if (all && bars)
        SDL_FillRect(to, NULL, 0);
    mark_sprites(s, scene);
    if (p && unscaled)
        paint_unscaled(s, to, scene, all);
    else if (p && (all || scene->picture_changed || any_dirty(s)))
        r = paint_scaled(s, to, scene);
    memset(s->dirty, 0, (size_t)s->n_bands * sizeof *s->dirty);
    mark_sprites(s, scene);
    finish_sprites(s, to, scene);
    s->before = p ? *p : (struct wv_client_picture){0};
    if (all) {
        s->n_rects = 0;
        add_rect(s, (SDL_Rect){0, 0, to->w, to->h});
    }
    if (r < 0 || s->n_rects == 0)
        return r;
    if (to != window)
        SDL_BlitSurface(to, NULL, window, NULL);
    return SDL_UpdateWindowSurfaceRects(s->window, s->rects, s->n_rects) < 0 ? -EIO : 0;
}

static void surface_free(struct wv_painter *painter)
{
    struct surface_painter *s = (struct surface_painter *)painter;
    SDL_FreeSurface(s->own);
    free(s->dirty);
    free(s->scaled);
    free(s);
}

static const struct wv_painter_ops surface_ops = {"surface", surface_paint, surface_free};

int wv_painter_surface_new(struct wv_painter **ret, SDL_Window *window)
{
    struct surface_painter *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->painter.ops = &surface_ops;
    s->window = window;
    *ret = &s->painter;
    return 0;
}
