#include "services/input/uinput_translate.h"

#include <linux/input-event-codes.h>

#define DETENT 120

struct list {
    struct wv_uinput_event *events;
    size_t n;
};

static void add(struct list *l, uint16_t type, uint16_t code, int32_t value)
{
    l->events[l->n++] = (struct wv_uinput_event){type, code, value};
}

static void add_motion(struct list *l, const struct rift_input_event *e)
{
    if (e->x)
        add(l, EV_REL, REL_X, e->x);
    if (e->y)
        add(l, EV_REL, REL_Y, e->y);
}

/* High resolution and whole detents side by side, as the kernel's input documentation asks (event-codes.rst).
 */
static void add_wheel(struct list *l, int32_t *rest, int32_t v, uint16_t fine, uint16_t coarse)
{
    if (!v)
        return;
    if ((*rest > 0 && v < 0) || (*rest < 0 && v > 0))
        *rest = 0;
    *rest += v;
    add(l, EV_REL, fine, v);
    if (*rest / DETENT) {
        add(l, EV_REL, coarse, *rest / DETENT);
        *rest %= DETENT;
    }
}

size_t wv_uinput_translate(struct wv_uinput_state *state, const struct rift_input_event *e,
                           enum wv_uinput_device *ret_device, struct wv_uinput_event *ret_events)
{
    struct list l = {.events = ret_events};
    enum wv_uinput_device device = WV_UINPUT_MOUSE;

    switch (e->kind) {
    case RIFT_INPUT_KEY:
        device = WV_UINPUT_KEYBOARD;
        add(&l, EV_KEY, e->code, e->down);
        break;
    case RIFT_INPUT_BUTTON:
        add(&l, EV_KEY, e->code, e->down);
        break;
    case RIFT_INPUT_POINTER_ABS:
        device = WV_UINPUT_TABLET;
        add(&l, EV_ABS, ABS_X, e->x);
        add(&l, EV_ABS, ABS_Y, e->y);
        break;
    case RIFT_INPUT_POINTER_REL:
        add_motion(&l, e);
        break;
    case RIFT_INPUT_SCROLL:
        add_wheel(&l, &state->scroll_y, e->y, REL_WHEEL_HI_RES, REL_WHEEL);
        add_wheel(&l, &state->scroll_x, e->x, REL_HWHEEL_HI_RES, REL_HWHEEL);
        break;
    default:
        break;
    }
    if (!l.n)
        return 0;
    add(&l, EV_SYN, SYN_REPORT, 0);
    *ret_device = device;
    return l.n;
}
