/* The client's window; see window.h. */
#include "client/window_private.h"

#include "client/text.h"
#include "lib/base/util.h"

#include <SDL2/SDL_syswm.h>
#include <X11/Xatom.h>
#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <string.h>

#define DEFAULT_WIDTH  1280
#define DEFAULT_HEIGHT 720
/* Where there is no descriptor to wait on (Wayland through SDL), events are looked for this often. */
#define POLL_NS        (4 * WV_NS_PER_MS)
#define NOTICE_COLUMNS 72

SDL_Rect window_area(const struct wv_window *w)
{
    return wv_paint_area(w->window_width, w->window_height, w->picture.width, w->picture.height);
}

static void add_sprite(struct wv_scene *scene, const struct wv_sprite *sprite)
{
    if (sprite && sprite->pixels && scene->n_sprites < WV_SPRITES_MAX)
        scene->sprites[scene->n_sprites++] = sprite;
}

void window_paint(struct wv_window *w, bool picture_changed)
{
    SDL_GetWindowSizeInPixels(w->window, &w->window_width, &w->window_height);
    struct wv_scene scene = {
        .picture = w->have_picture ? &w->picture : NULL,
        .picture_changed = picture_changed,
        .window_width = w->window_width,
        .window_height = w->window_height,
        .everything = w->everything,
    };
    scene.area = window_area(w);
    add_sprite(&scene, cursor_sprite(w));
    if (w->overlay) {
        w->stats.x = w->stats.y = 8;
        add_sprite(&scene, &w->stats);
    }
    w->notice.x = (w->window_width - w->notice.width) / 2;
    w->notice.y = w->window_height / 3;
    add_sprite(&scene, &w->notice);
    /* After a failure nothing on the screen can be relied on; the next picture or event tries again. */
    w->everything = w->painter->ops->paint(w->painter, &scene) < 0;
    w->repaint = false;
}

/* Makes the window as large as the picture, or as the screen allows. */
static void follow_picture(struct wv_window *w, const struct wv_client_picture *p)
{
    if (!w->follow_size || w->fullscreen)
        return;
    SDL_Rect usable;
    int display = SDL_GetWindowDisplayIndex(w->window);
    if (SDL_GetDisplayUsableBounds(WV_MAX(display, 0), &usable) < 0)
        return;
    SDL_Rect fit = {0, 0, p->width, p->height};
    if (p->width > usable.w || p->height > usable.h)
        fit = wv_paint_area(usable.w, usable.h, p->width, p->height);
    SDL_SetWindowSize(w->window, fit.w, fit.h);
    SDL_SetWindowPosition(w->window, usable.x + (usable.w - fit.w) / 2, usable.y + (usable.h - fit.h) / 2);
    w->everything = true;
}

static bool input_waits(const struct wv_window *w)
{
    if (!w->x_display)
        return false;
    struct pollfd p = {.fd = ConnectionNumber((Display *)w->x_display), .events = POLLIN};
    return QLength((Display *)w->x_display) > 0 || poll(&p, 1, 0) > 0;
}

bool wv_window_show(struct wv_window *w, const struct wv_client_picture *picture)
{
    /* A key that came while the picture was decoded goes out before the picture is painted. */
    if (input_waits(w))
        window_pump(w);
    if (!w->have_picture || w->picture.width != picture->width || w->picture.height != picture->height) {
        follow_picture(w, picture);
        w->everything = true;
    }
    w->picture = *picture;
    w->have_picture = true;
    if (w->hidden) {
        w->everything = true; /* what the painter remembers is about to be gone */
        return false;
    }
    window_paint(w, true);
    return !w->everything;
}

void wv_window_notice(struct wv_window *w, const char *text)
{
    if (!text[0]) {
        if (!w->notice.pixels)
            return;
        free(w->notice.pixels);
        w->notice = (struct wv_sprite){0};
    } else {
        char wrapped[1024];
        int columns = WV_MIN(NOTICE_COLUMNS, w->window_width / (2 * WV_TEXT_CELL_WIDTH) - 4);
        wv_text_wrap(text, WV_MAX(columns, 20), wrapped, sizeof wrapped);
        if (wv_text_render(wrapped, w->window_width >= 640 ? 2 : 1, &w->notice) < 0)
            return;
    }
    w->everything = w->repaint = true;
}

void wv_window_stats(struct wv_window *w, const char *text)
{
    if (!w->overlay || strcmp(text, w->stats_text) == 0)
        return;
    int width = w->stats.width, height = w->stats.height;
    if (wv_text_render(text, 1, &w->stats) < 0)
        return;
    snprintf(w->stats_text, sizeof w->stats_text, "%s", text);
    w->repaint = true;
    if (w->stats.width != width || w->stats.height != height)
        w->everything = true;
}

bool wv_window_wants_stats(const struct wv_window *w)
{
    return w->overlay;
}

void wv_window_title(struct wv_window *w, const char *title)
{
    SDL_SetWindowTitle(w->window, title);
}

void wv_window_size(const struct wv_window *w, int *ret_width, int *ret_height)
{
    *ret_width = w->window_width;
    *ret_height = w->window_height;
}

const char *wv_window_renderer_name(const struct wv_window *w)
{
    return w->painter->ops->name;
}

void window_take_focus(struct wv_window *w)
{
    SDL_RaiseWindow(w->window);
    SDL_SetWindowInputFocus(w->window);
    /* SDL leaves the focus nowhere when the window goes, even killed; without a window manager nobody would
     * give it to the next window. */
    if (w->x_display && !w->managed && (SDL_GetWindowFlags(w->window) & SDL_WINDOW_SHOWN)) {
        XSetInputFocus(w->x_display, w->x_window, RevertToPointerRoot, CurrentTime);
        XFlush(w->x_display);
    }
}

/* Whether somebody answers requests of windows (EWMH, _NET_SUPPORTING_WM_CHECK). SDL believes that a request
 * for the whole screen was followed, which on a bare X server it never is. */
static bool find_manager(void)
{
    const char *driver = SDL_GetCurrentVideoDriver();
    if (!driver || strcmp(driver, "x11") != 0)
        return true;
    Display *display = XOpenDisplay(NULL);
    if (!display)
        return true;
    Atom type = None, check = XInternAtom(display, "_NET_SUPPORTING_WM_CHECK", False);
    int format = 0;
    unsigned long n = 0, left = 0;
    unsigned char *value = NULL;
    int r = XGetWindowProperty(display, DefaultRootWindow(display), check, 0, 1, False, XA_WINDOW, &type,
                               &format, &n, &left, &value);
    if (value)
        XFree(value);
    XCloseDisplay(display);
    return r == Success && type == XA_WINDOW && n == 1;
}

/* Without a window manager: takes the place itself. */
static void cover_screen(struct wv_window *w, bool on)
{
    SDL_Rect bounds;
    if (on) {
        SDL_GetWindowPosition(w->window, &w->before.x, &w->before.y);
        SDL_GetWindowSize(w->window, &w->before.w, &w->before.h);
        if (SDL_GetDisplayBounds(WV_MAX(SDL_GetWindowDisplayIndex(w->window), 0), &bounds) < 0)
            return;
    } else {
        bounds = w->before.w ? w->before : (SDL_Rect){0, 0, DEFAULT_WIDTH / 2, DEFAULT_HEIGHT / 2};
    }
    SDL_SetWindowSize(w->window, bounds.w, bounds.h);
    SDL_SetWindowPosition(w->window, bounds.x, bounds.y);
}

void window_set_fullscreen(struct wv_window *w, bool on)
{
    if (!w->managed)
        cover_screen(w, on);
    else if (SDL_SetWindowFullscreen(w->window, on ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0) < 0)
        return;
    w->fullscreen = on;
    if (w->grab)
        SDL_SetWindowKeyboardGrab(w->window, on);
    w->keyboard_grabbed = SDL_GetWindowKeyboardGrab(w->window);
    w->everything = w->repaint = true;
}

/* ---- events ---- */

static int on_x(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_window *w = userdata;
    if (events & (EPOLLHUP | EPOLLERR)) {
        w->call.quit(w->userdata);
        w->x_source = wv_loop_remove(w->x_source);
        return 0;
    }
    window_pump(w);
    return 0;
}

static int on_poll(void *userdata, uint64_t now)
{
    window_pump(userdata);
    return 0;
}

static bool on_prepare(void *userdata, uint64_t now)
{
    struct wv_window *w = userdata;
    /* Handing over a picture waits for the server, and thereby reads events that no descriptor shows any
     * more. */
    if (w->x_display && QLength((Display *)w->x_display) > 0)
        window_pump(w);
    if (w->repaint && !w->hidden)
        window_paint(w, false);
    return w->x_display && QLength((Display *)w->x_display) > 0;
}

static int watch(struct wv_window *w)
{
    SDL_SysWMinfo info;
    SDL_VERSION(&info.version);
    int r = 0;
    if (SDL_GetWindowWMInfo(w->window, &info) && info.subsystem == SDL_SYSWM_X11) {
        w->x_display = info.info.x11.display;
        w->x_window = info.info.x11.window;
        r = wv_loop_add_fd(w->loop, ConnectionNumber((Display *)w->x_display), EPOLLIN, on_x, w,
                           &w->x_source);
    } else {
        r = wv_loop_add_timer(w->loop, on_poll, w, &w->timer);
        if (r == 0)
            wv_loop_timer_every(w->timer, POLL_NS);
    }
    return r < 0 ? r : wv_loop_add_prepare(w->loop, on_prepare, w, &w->prepare);
}

/* ---- making and freeing ---- */

static void set_hints(void)
{
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");       /* they are the loop's */
    SDL_SetHint(SDL_HINT_FRAMEBUFFER_ACCELERATION, "0"); /* the surface is to be memory, not a texture */
    SDL_SetHint(SDL_HINT_VIDEO_MINIMIZE_ON_FOCUS_LOSS, "0");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "0");
    SDL_SetHint(SDL_HINT_MOUSE_FOCUS_CLICKTHROUGH, "1");
    SDL_SetHint(SDL_HINT_APP_NAME, "Wavry");
}

/* Only where a person can look: SDL would otherwise go on to a screen that nobody sees. Returns 0 or -ENODEV.
 */
static int init_video(void)
{
    const char *x = getenv("DISPLAY"), *wayland = getenv("WAYLAND_DISPLAY"),
               *forced = getenv("SDL_VIDEODRIVER");
    bool has_x = x && *x, has_wayland = wayland && *wayland;
    if (!forced || !*forced) {
        if (!has_x && !has_wayland) {
            SDL_SetError("there is no display");
            return -ENODEV;
        }
        /* X first, also through XWayland: its connection can be waited on. */
        SDL_SetHint(SDL_HINT_VIDEODRIVER, has_x && has_wayland ? "x11,wayland" : has_x ? "x11" : "wayland");
    }
    if (SDL_Init(SDL_INIT_VIDEO) == 0)
        return 0;
    if (has_x && (!forced || !*forced))
        SDL_SetError("the display %s does not answer", x);
    return -ENODEV;
}

/* A GPU shows itself by a render node; probing OpenGL without one would start a software renderer for
 * nothing. */
static bool has_render_node(void)
{
    glob_t found;
    if (glob("/dev/dri/renderD*", GLOB_NOSORT, NULL, &found) != 0)
        return false;
    bool usable = false;
    for (size_t i = 0; i < found.gl_pathc && !usable; i++)
        usable = access(found.gl_pathv[i], R_OK | W_OK) == 0;
    globfree(&found);
    return usable;
}

static int open_window(struct wv_window *w, const struct wv_window_options *o)
{
    int width = o->width > 0 ? o->width : DEFAULT_WIDTH, height = o->height > 0 ? o->height : DEFAULT_HEIGHT;
    Uint32 flags = SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI;
    int position = (int)SDL_WINDOWPOS_CENTERED;
    SDL_Rect bounds;
    if (o->fullscreen && SDL_GetDisplayBounds(0, &bounds) == 0) {
        flags |= w->managed ? SDL_WINDOW_FULLSCREEN_DESKTOP : SDL_WINDOW_BORDERLESS;
        width = bounds.w;
        height = bounds.h;
        position = 0;
    }
    w->window = SDL_CreateWindow(o->title, position, position, width, height, flags);
    if (!w->window)
        return -ENODEV;
    w->id = SDL_GetWindowID(w->window);
    SDL_GetWindowSizeInPixels(w->window, &w->window_width, &w->window_height);
    bool gpu = o->renderer == WV_RENDERER_GPU || (o->renderer == WV_RENDERER_AUTO && has_render_node());
    int r = gpu ? wv_painter_gpu_new(&w->painter, w->window) : -ENODEV;
    if (r < 0)
        r = wv_painter_surface_new(&w->painter, w->window);
    return r;
}

int wv_window_new(struct wv_window **ret, struct wv_loop *loop, const struct wv_window_options *options,
                  const struct wv_window_callbacks *callbacks, void *userdata)
{
    struct wv_window *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->loop = loop;
    w->call = *callbacks;
    w->userdata = userdata;
    w->view_only = options->view_only;
    w->grab = options->grab && !options->view_only;
    w->fullscreen = options->fullscreen;
    w->overlay = options->overlay;
    w->follow_size = options->width <= 0 && !options->fullscreen;
    w->everything = w->repaint = true;
    set_hints();
    int r = init_video();
    w->managed = r == 0 && find_manager();
    if (r == 0)
        r = open_window(w, options);
    if (r == 0)
        r = watch(w);
    if (r < 0) {
        wv_window_free(w);
        return r;
    }
    SDL_StopTextInput(); /* keys are wanted, not what an input method makes of them */
    window_take_focus(w);
    if (w->fullscreen && w->grab)
        SDL_SetWindowKeyboardGrab(w->window, SDL_TRUE);
    w->keyboard_grabbed = SDL_GetWindowKeyboardGrab(w->window);
    window_pump(w);
    *ret = w;
    return 0;
}

struct wv_window *wv_window_free(struct wv_window *w)
{
    if (!w)
        return NULL;
    w->x_source = wv_loop_remove(w->x_source);
    w->timer = wv_loop_remove(w->timer);
    w->prepare = wv_loop_remove(w->prepare);
    if (w->painter)
        w->painter->ops->free(w->painter);
    cursor_free(w);
    free(w->notice.pixels);
    free(w->stats.pixels);
    if (w->window)
        SDL_DestroyWindow(w->window);
    SDL_QuitSubSystem(SDL_INIT_VIDEO);
    free(w);
    return NULL;
}
