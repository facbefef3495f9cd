/* Painting by an accelerated SDL renderer: planes go up as they are, the GPU converts and scales. Presents at
 * once; tearing is better than waiting. */
#include "client/paint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GL_RENDERER 0x1F01

struct gpu_painter {
    struct wv_painter painter;
    SDL_Renderer *renderer;
    SDL_Texture *texture, *sprites[WV_SPRITES_MAX];
    int width, height;
};

/* Software behind a GPU's interface is slower than no GPU at all. */
static bool is_software(SDL_Renderer *renderer)
{
    SDL_RendererInfo info;
    if (SDL_GetRendererInfo(renderer, &info) < 0 || !(info.flags & SDL_RENDERER_ACCELERATED))
        return true;
    const unsigned char *(*get_string)(unsigned) =
        (const unsigned char *(*)(unsigned))SDL_GL_GetProcAddress("glGetString");
    const char *name = get_string ? (const char *)get_string(GL_RENDERER) : NULL;
    return !name || strstr(name, "llvmpipe") || strstr(name, "softpipe") || strstr(name, "swrast") ||
           strstr(name, "Software");
}

static int fill_texture(struct gpu_painter *g, const struct wv_client_picture *p)
{
    if (!g->texture || g->width != p->width || g->height != p->height) {
        if (g->texture)
            SDL_DestroyTexture(g->texture);
        /* The conversion is fixed when a texture is made. */
        SDL_SetYUVConversionMode(p->full_range ? SDL_YUV_CONVERSION_JPEG
                                 : p->bt709    ? SDL_YUV_CONVERSION_BT709
                                               : SDL_YUV_CONVERSION_BT601);
        g->texture = SDL_CreateTexture(g->renderer, SDL_PIXELFORMAT_IYUV, SDL_TEXTUREACCESS_STREAMING,
                                       p->width, p->height);
        if (!g->texture)
            return -EIO;
        g->width = p->width;
        g->height = p->height;
    }
    return SDL_UpdateYUVTexture(g->texture, NULL, p->plane[0], p->stride[0], p->plane[1], p->stride[1],
                                p->plane[2], p->stride[2]) < 0
               ? -EIO
               : 0;
}

static void draw_sprite(struct gpu_painter *g, unsigned i, const struct wv_sprite *sprite)
{
    int w = 0, h = 0;
    if (g->sprites[i])
        SDL_QueryTexture(g->sprites[i], NULL, NULL, &w, &h);
    if (w != sprite->width || h != sprite->height) {
        if (g->sprites[i])
            SDL_DestroyTexture(g->sprites[i]);
        g->sprites[i] = SDL_CreateTexture(g->renderer, SDL_PIXELFORMAT_ARGB8888, SDL_TEXTUREACCESS_STREAMING,
                                          sprite->width, sprite->height);
    }
    if (!g->sprites[i])
        return;
    SDL_SetTextureBlendMode(g->sprites[i],
                            sprite->blend ? SDL_ComposeCustomBlendMode(
                                                SDL_BLENDFACTOR_ONE, SDL_BLENDFACTOR_ONE_MINUS_SRC_ALPHA,
                                                SDL_BLENDOPERATION_ADD, SDL_BLENDFACTOR_ONE,
                                                SDL_BLENDFACTOR_ONE_MINUS_SRC_ALPHA, SDL_BLENDOPERATION_ADD)
                                          : SDL_BLENDMODE_NONE);
    SDL_UpdateTexture(g->sprites[i], NULL, sprite->pixels, sprite->width * 4);
    SDL_RenderCopy(g->renderer, g->sprites[i], NULL,
                   &(SDL_Rect){sprite->x, sprite->y, sprite->width, sprite->height});
}

static int gpu_paint(struct wv_painter *painter, const struct wv_scene *scene)
{
    struct gpu_painter *g = (struct gpu_painter *)painter;
    int r = 0;
    if (scene->picture && (scene->picture_changed || !g->texture))
        r = fill_texture(g, scene->picture);
    if (r < 0)
        return r;
    SDL_SetRenderDrawColor(g->renderer, 0, 0, 0, 255);
    SDL_RenderClear(g->renderer);
    if (scene->picture)
        SDL_RenderCopy(g->renderer, g->texture, NULL, &scene->area);
    for (unsigned i = 0; i < scene->n_sprites; i++)
        draw_sprite(g, i, scene->sprites[i]);
    SDL_RenderPresent(g->renderer);
    return 0;
}

static void gpu_free(struct wv_painter *painter)
{
    struct gpu_painter *g = (struct gpu_painter *)painter;
    SDL_DestroyRenderer(g->renderer); /* and its textures */
    free(g);
}

static const struct wv_painter_ops gpu_ops = {"gpu", gpu_paint, gpu_free};

int wv_painter_gpu_new(struct wv_painter **ret, SDL_Window *window)
{
    struct gpu_painter *g = calloc(1, sizeof *g);
    if (!g)
        return -ENOMEM;
    g->painter.ops = &gpu_ops;
    SDL_SetHint(SDL_HINT_RENDER_VSYNC, "0");
    SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, "linear");
    g->renderer = SDL_CreateRenderer(window, -1, SDL_RENDERER_ACCELERATED);
    if (!g->renderer || is_software(g->renderer)) {
        if (g->renderer)
            SDL_DestroyRenderer(g->renderer);
        free(g);
        return -ENODEV;
    }
    *ret = &g->painter;
    return 0;
}
