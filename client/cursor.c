/* The host's pointer shape as our own pointer: it moves with the hand, not with the video. Only where our
 * pointer is not the host's (relative mode, watching) is it drawn into the picture. */
#include "client/window_private.h"

#include "lib/base/util.h"

#include <string.h>

static struct cursor_shape *find_shape(struct wv_window *w, uint32_t id)
{
    for (int i = 0; i < SHAPES_MAX; i++)
        if (w->shapes[i].cursor && w->shapes[i].id == id)
            return &w->shapes[i];
    return NULL;
}

static void drop_shape(struct cursor_shape *s)
{
    if (s->cursor)
        SDL_FreeCursor(s->cursor);
    free(s->sprite.pixels);
    *s = (struct cursor_shape){0};
}

/* Whether our own pointer stands for the host's. */
static bool is_ours(const struct wv_window *w)
{
    return !w->view_only && !w->relative;
}

void cursor_apply(struct wv_window *w)
{
    if (w->relative)
        return; /* SDL hides it */
    if (!is_ours(w)) {
        SDL_SetCursor(SDL_GetDefaultCursor());
        SDL_ShowCursor(SDL_ENABLE);
        return;
    }
    struct cursor_shape *shape = w->have_cursor ? find_shape(w, w->cursor.shape_id) : NULL;
    if (shape) {
        shape->used = ++w->shape_clock;
        SDL_SetCursor(shape->cursor);
    }
    SDL_ShowCursor(!w->have_cursor || w->cursor.visible ? SDL_ENABLE : SDL_DISABLE);
}

void wv_window_cursor(struct wv_window *w, const struct rift_cursor *cursor)
{
    bool moved = !w->have_cursor || memcmp(&w->cursor, cursor, sizeof *cursor) != 0;
    bool changed =
        !w->have_cursor || w->cursor.shape_id != cursor->shape_id || w->cursor.visible != cursor->visible;
    w->cursor = *cursor;
    w->have_cursor = true;
    if (changed)
        cursor_apply(w);
    if (moved && !is_ours(w))
        w->repaint = true;
}

static struct cursor_shape *place_for(struct wv_window *w, uint32_t id)
{
    struct cursor_shape *place = find_shape(w, id);
    for (int i = 0; !place && i < SHAPES_MAX; i++)
        if (!w->shapes[i].cursor)
            place = &w->shapes[i];
    if (!place) {
        place = &w->shapes[0];
        for (int i = 1; i < SHAPES_MAX; i++)
            if (w->shapes[i].used < place->used)
                place = &w->shapes[i];
    }
    return place;
}

void wv_window_cursor_image(struct wv_window *w, uint32_t shape_id, uint32_t width, uint32_t height,
                            uint32_t hot_x, uint32_t hot_y, const uint8_t *bgra)
{
    size_t bytes = (size_t)width * height * 4;
    uint32_t *pixels = malloc(bytes);
    if (!pixels)
        return;
    memcpy(pixels, bgra, bytes);
    SDL_Surface *surface = SDL_CreateRGBSurfaceWithFormatFrom(pixels, (int)width, (int)height, 32,
                                                              (int)width * 4, SDL_PIXELFORMAT_ARGB8888);
    SDL_Cursor *cursor = surface ? SDL_CreateColorCursor(surface, (int)hot_x, (int)hot_y) : NULL;
    SDL_FreeSurface(surface);
    if (!cursor) {
        free(pixels);
        return;
    }
    struct cursor_shape *place = place_for(w, shape_id);
    drop_shape(place);
    *place = (struct cursor_shape){
        .id = shape_id,
        .used = ++w->shape_clock,
        .cursor = cursor,
        .sprite = {.pixels = pixels, .width = (int)width, .height = (int)height, .blend = true},
        .hot_x = (int)hot_x,
        .hot_y = (int)hot_y,
    };
    cursor_apply(w);
}

const struct wv_sprite *cursor_sprite(struct wv_window *w)
{
    if (is_ours(w) || !w->have_cursor || !w->cursor.visible || !w->have_picture || w->picture.width < 1 ||
        w->picture.height < 1)
        return NULL;
    struct cursor_shape *shape = find_shape(w, w->cursor.shape_id);
    if (!shape)
        return NULL;
    SDL_Rect area = window_area(w);
    shape->sprite.x = area.x + w->cursor.x * area.w / w->picture.width - shape->hot_x;
    shape->sprite.y = area.y + w->cursor.y * area.h / w->picture.height - shape->hot_y;
    return &shape->sprite;
}

void cursor_free(struct wv_window *w)
{
    for (int i = 0; i < SHAPES_MAX; i++)
        drop_shape(&w->shapes[i]);
}
