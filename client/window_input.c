/* What the person does with keyboard and mouse, as input events for the host. Everything that was told to be
 * down is told to be up again: on release, on loss of focus, at the end. */
#include "client/keymap.h"
#include "client/window_private.h"

#include "lib/base/util.h"

#include <linux/input-event-codes.h>
#include <string.h>

static void emit(struct wv_window *w, const struct rift_input_event *event)
{
    if (w->view_only)
        return;
    w->call.input(w->userdata, event);
}

/* Only the last of several motions in one wake-up is worth a datagram, but never moved past a click. */
static void flush_motion(struct wv_window *w)
{
    if (!w->motion_waits)
        return;
    w->motion_waits = false;
    emit(w, &w->motion);
}

static void emit_after_motion(struct wv_window *w, const struct rift_input_event *event)
{
    flush_motion(w);
    emit(w, event);
}

void window_release_all(struct wv_window *w)
{
    emit_after_motion(w, &(struct rift_input_event){.kind = RIFT_INPUT_RELEASE_ALL});
    memset(w->key_down, 0, sizeof w->key_down);
    memset(w->button_down, 0, sizeof w->button_down);
    w->call.flush(w->userdata);
}

static void toggle_relative(struct wv_window *w)
{
    bool on = !w->relative;
    if (SDL_SetRelativeMouseMode(on) < 0)
        return;
    w->relative = on;
    cursor_apply(w);
    w->repaint = true;
}

static void toggle_keyboard(struct wv_window *w)
{
    w->keyboard_grabbed = !w->keyboard_grabbed;
    SDL_SetWindowKeyboardGrab(w->window, w->keyboard_grabbed);
}

/* Ctrl+Alt+Shift and a letter is for us; returns whether it was. */
static bool host_combination(struct wv_window *w, const SDL_KeyboardEvent *key)
{
    if (!(key->keysym.mod & KMOD_CTRL) || !(key->keysym.mod & KMOD_ALT) || !(key->keysym.mod & KMOD_SHIFT))
        return false;
    switch (key->keysym.scancode) {
    case SDL_SCANCODE_G:
        toggle_keyboard(w);
        return true;
    case SDL_SCANCODE_M:
        if (!w->view_only)
            toggle_relative(w);
        return true;
    case SDL_SCANCODE_F:
        window_set_fullscreen(w, !w->fullscreen);
        return true;
    case SDL_SCANCODE_S:
        w->overlay = !w->overlay;
        w->everything = w->repaint = true;
        return true;
    case SDL_SCANCODE_C:
        if (w->call.control)
            w->call.control(w->userdata);
        return true;
    case SDL_SCANCODE_Q:
        w->call.quit(w->userdata);
        return true;
    default:
        return false;
    }
}

static void on_key(struct wv_window *w, const SDL_KeyboardEvent *key)
{
    bool down = key->type == SDL_KEYDOWN;
    if (key->repeat || (down && host_combination(w, key)))
        return;
    uint16_t code = wv_keymap_key(key->keysym.scancode);
    if (code == 0 || code >= WV_ARRAY_SIZE(w->key_down) || w->key_down[code] == down)
        return;
    w->key_down[code] = down;
    emit_after_motion(w, &(struct rift_input_event){.kind = RIFT_INPUT_KEY, .code = code, .down = down});
}

static void on_button(struct wv_window *w, const SDL_MouseButtonEvent *b)
{
    bool down = b->type == SDL_MOUSEBUTTONDOWN;
    uint16_t code = wv_keymap_button(b->button);
    if (down && !(SDL_GetWindowFlags(w->window) & SDL_WINDOW_INPUT_FOCUS))
        window_take_focus(w); /* nobody else does it where there is no window manager */
    if (code == 0 || b->button >= WV_ARRAY_SIZE(w->button_down) || w->button_down[b->button] == down)
        return;
    w->button_down[b->button] = down;
    emit_after_motion(w, &(struct rift_input_event){.kind = RIFT_INPUT_BUTTON, .code = code, .down = down});
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* A pixel of the window to 0..65535 of the picture: the middle of the picture's pixel, so that rounding at
 * the host, of whichever kind, comes back to it. */
static int32_t to_picture(int at, int from, int size)
{
    int64_t in = clamp(at - from, 0, size - 1);
    return (int32_t)clamp((2 * in + 1) * 65536 / (2 * (int64_t)size), 0, 65535);
}

static void on_motion(struct wv_window *w, const SDL_MouseMotionEvent *m)
{
    if (w->relative) {
        int32_t x = m->xrel, y = m->yrel;
        if (w->motion_waits && w->motion.kind == RIFT_INPUT_POINTER_REL) {
            x += w->motion.x;
            y += w->motion.y;
        } else {
            flush_motion(w);
        }
        w->motion = (struct rift_input_event){.kind = RIFT_INPUT_POINTER_REL,
                                              .x = (int32_t)clamp(x, -32768, 32767),
                                              .y = (int32_t)clamp(y, -32768, 32767)};
        w->motion_waits = true;
        return;
    }
    if (!w->have_picture)
        return;
    SDL_Rect area = window_area(w);
    w->motion = (struct rift_input_event){.kind = RIFT_INPUT_POINTER_ABS,
                                          .x = to_picture(m->x, area.x, area.w),
                                          .y = to_picture(m->y, area.y, area.h)};
    w->motion_waits = true;
}

static void on_wheel(struct wv_window *w, const SDL_MouseWheelEvent *m)
{
    double sign = m->direction == SDL_MOUSEWHEEL_FLIPPED ? -1 : 1;
    w->wheel_x += (double)m->preciseX * 120 * sign;
    w->wheel_y += (double)m->preciseY * 120 * sign;
    int32_t x = (int32_t)clamp((int64_t)w->wheel_x, -32768, 32767);
    int32_t y = (int32_t)clamp((int64_t)w->wheel_y, -32768, 32767);
    if (x == 0 && y == 0)
        return;
    w->wheel_x -= x;
    w->wheel_y -= y;
    emit_after_motion(w, &(struct rift_input_event){.kind = RIFT_INPUT_SCROLL, .x = x, .y = y});
}

static void on_window(struct wv_window *w, const SDL_WindowEvent *e)
{
    switch (e->event) {
    case SDL_WINDOWEVENT_FOCUS_LOST:
        window_release_all(w);
        break;
    case SDL_WINDOWEVENT_SIZE_CHANGED:
        w->everything = w->repaint = true;
        break;
    case SDL_WINDOWEVENT_RESIZED: /* by the person or the window manager, not by us */
        w->follow_size = false;
        w->everything = w->repaint = true;
        break;
    case SDL_WINDOWEVENT_EXPOSED:
    case SDL_WINDOWEVENT_SHOWN:
    case SDL_WINDOWEVENT_RESTORED:
        w->hidden = false;
        w->everything = w->repaint = true;
        break;
    case SDL_WINDOWEVENT_HIDDEN:
    case SDL_WINDOWEVENT_MINIMIZED:
        w->hidden = true;
        break;
    case SDL_WINDOWEVENT_CLOSE:
        w->call.quit(w->userdata);
        break;
    default:
        break;
    }
}

void window_pump(struct wv_window *w)
{
    SDL_Event e;
    while (SDL_PollEvent(&e)) {
        switch (e.type) {
        case SDL_KEYDOWN:
        case SDL_KEYUP:
            on_key(w, &e.key);
            break;
        case SDL_MOUSEBUTTONDOWN:
        case SDL_MOUSEBUTTONUP:
            on_button(w, &e.button);
            break;
        case SDL_MOUSEMOTION:
            on_motion(w, &e.motion);
            break;
        case SDL_MOUSEWHEEL:
            on_wheel(w, &e.wheel);
            break;
        case SDL_WINDOWEVENT:
            on_window(w, &e.window);
            break;
        case SDL_QUIT:
            w->call.quit(w->userdata);
            break;
        default:
            break;
        }
    }
    flush_motion(w);
    w->call.flush(w->userdata);
}
