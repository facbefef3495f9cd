/* Puts a picture and a few sprites over it into an SDL window. Two ways behind one interface: the window's
 * surface (X11 without a GPU: conversion straight into shared memory, only the rows that changed) and an
 * accelerated renderer. */
#pragma once

#include "client/wavry_client.h"

#include <SDL2/SDL.h>

#define WV_SPRITES_MAX 4

/* A small bitmap over the picture, in pixels of the window. */
struct wv_sprite {
    uint32_t *pixels; /* ARGB (B, G, R, A in memory), premultiplied; NULL: not shown */
    int x, y, width, height;
    bool blend; /* else opaque */
};

/* What a window shows. */
struct wv_scene {
    const struct wv_client_picture *picture; /* NULL: none yet */
    bool picture_changed;                    /* it is another one than at the last call */
    SDL_Rect area;                           /* where it goes, inside the window */
    int window_width, window_height;
    const struct wv_sprite *sprites[WV_SPRITES_MAX];
    unsigned n_sprites;
    bool everything; /* paint all, nothing on the screen can be relied on */
};

struct wv_painter;

struct wv_painter_ops {
    const char *name;
    int (*paint)(struct wv_painter *p, const struct wv_scene *scene);
    void (*free)(struct wv_painter *p);
};

struct wv_painter {
    const struct wv_painter_ops *ops;
};

/* Both return 0 or a negative errno; the window stays the caller's. */
int wv_painter_surface_new(struct wv_painter **ret, SDL_Window *window);
/* -ENODEV when there is no GPU behind it, as with llvmpipe; the window is then unchanged. */
int wv_painter_gpu_new(struct wv_painter **ret, SDL_Window *window);

/* The largest rectangle of the picture's shape in the middle of the window; 1:1 when that fits exactly. */
SDL_Rect wv_paint_area(int window_width, int window_height, int width, int height);
