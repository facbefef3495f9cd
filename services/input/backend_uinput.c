/* Input by virtual devices of the kernel (Documentation/input/uinput.rst). Which events a request becomes is
 * decided in uinput_translate.c; here are only the devices. */
#include "lib/base/util.h"
#include "services/input/backend.h"
#include "services/input/uinput_translate.h"

#include <errno.h>
#include <linux/uinput.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

struct uinput {
    struct wv_backend base;
    int fds[WV_UINPUT_DEVICES];
    bool keep;
    struct wv_uinput_state state;
};

static int set_bit(int fd, unsigned long request, unsigned code)
{
    return ioctl(fd, request, (unsigned long)code) < 0 ? -errno : 0;
}

static int set_range(int fd, unsigned long request, unsigned first, unsigned last)
{
    int r = 0;

    for (unsigned code = first; r == 0 && code <= last; code++)
        r = set_bit(fd, request, code);
    return r;
}

/* Keys only: one button of a pad or pen among them and applications take it for that. */
static int describe_keyboard(int fd)
{
    int r = set_bit(fd, UI_SET_EVBIT, EV_KEY);

    if (r == 0)
        r = set_range(fd, UI_SET_KEYBIT, KEY_ESC, BTN_MISC - 1);
    if (r == 0)
        r = set_range(fd, UI_SET_KEYBIT, KEY_OK, BTN_DPAD_UP - 1);
    return r ? r : set_range(fd, UI_SET_KEYBIT, BTN_DPAD_RIGHT + 1, BTN_TRIGGER_HAPPY - 1);
}

static int describe_axis(int fd, unsigned axis)
{
    struct uinput_abs_setup setup = {.code = (uint16_t)axis, .absinfo = {.maximum = WV_UINPUT_ABS_MAX}};
    int r = set_bit(fd, UI_SET_ABSBIT, axis);

    return r ? r : ioctl(fd, UI_ABS_SETUP, &setup) < 0 ? -errno : 0;
}

/* An absolute pointer as virtual machines have: a device with ABS_X, ABS_Y and BTN_LEFT that is no touch
 * screen. */
static int describe_tablet(int fd)
{
    int r = set_bit(fd, UI_SET_EVBIT, EV_ABS);

    if (r == 0)
        r = set_bit(fd, UI_SET_EVBIT, EV_KEY);
    if (r == 0)
        r = set_bit(fd, UI_SET_KEYBIT, BTN_LEFT);
    if (r == 0)
        r = set_bit(fd, UI_SET_PROPBIT, INPUT_PROP_POINTER);
    if (r == 0)
        r = describe_axis(fd, ABS_X);
    return r ? r : describe_axis(fd, ABS_Y);
}

static int describe_mouse(int fd)
{
    static const unsigned axes[] = {REL_X, REL_Y, REL_WHEEL, REL_HWHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES};
    int r = set_bit(fd, UI_SET_EVBIT, EV_KEY);

    if (r == 0)
        r = set_bit(fd, UI_SET_EVBIT, EV_REL);
    if (r == 0)
        r = set_range(fd, UI_SET_KEYBIT, BTN_MOUSE, BTN_TASK);
    for (unsigned i = 0; r == 0 && i < WV_ARRAY_SIZE(axes); i++)
        r = set_bit(fd, UI_SET_RELBIT, axes[i]);
    return r;
}

static const struct {
    const char *name;
    int (*describe)(int fd);
} devices[WV_UINPUT_DEVICES] = {
    [WV_UINPUT_KEYBOARD] = {"Wavry keyboard", describe_keyboard},
    [WV_UINPUT_TABLET] = {"Wavry absolute pointer", describe_tablet},
    [WV_UINPUT_MOUSE] = {"Wavry mouse", describe_mouse},
};

/* Makes the device behind FD, unless a predecessor did. */
static int make_device(int fd, enum wv_uinput_device device)
{
    struct uinput_setup setup = {.id = {.bustype = BUS_VIRTUAL, .vendor = 0x5756, .version = 1}};
    char name[64];
    int r;

    if (ioctl(fd, UI_GET_SYSNAME(sizeof(name)), name) >= 0)
        return 0; /* only a device that exists has a name */
    setup.id.product = (uint16_t)(device + 1);
    snprintf(setup.name, sizeof(setup.name), "%s", devices[device].name);
    r = devices[device].describe(fd);
    if (r == 0 && ioctl(fd, UI_DEV_SETUP, &setup) < 0)
        r = -errno;
    if (r == 0 && ioctl(fd, UI_DEV_CREATE) < 0)
        r = -errno;
    return r;
}

static int uinput_inject(struct wv_backend *b, const struct rift_input_event *event)
{
    struct uinput *u = (struct uinput *)b;
    struct wv_uinput_event events[WV_UINPUT_EVENTS_MAX];
    struct input_event out[WV_UINPUT_EVENTS_MAX] = {0}; /* the kernel sets the time */
    enum wv_uinput_device device = WV_UINPUT_KEYBOARD;
    size_t n = wv_uinput_translate(&u->state, event, &device, events);
    ssize_t written;

    for (size_t i = 0; i < n; i++) {
        out[i].type = events[i].type;
        out[i].code = events[i].code;
        out[i].value = events[i].value;
    }
    if (!n)
        return 0;
    written = write(u->fds[device], out, n * sizeof(out[0]));
    if (written == (ssize_t)(n * sizeof(out[0])))
        return 0;
    snprintf(b->reason, sizeof(b->reason), "%s: %s", devices[device].name,
             written < 0 ? strerror(errno) : "not all was taken");
    return WV_BACKEND_LOST;
}

static int uinput_flush(struct wv_backend *b)
{
    return 0; /* each event is handed over at once */
}

static struct wv_backend *uinput_free(struct wv_backend *b)
{
    struct uinput *u = (struct uinput *)b;

    if (!u)
        return NULL;
    for (unsigned i = 0; i < WV_UINPUT_DEVICES; i++) {
        if (u->fds[i] >= 0 && !u->keep)
            (void)ioctl(u->fds[i], UI_DEV_DESTROY);
        wv_close(u->fds[i]);
    }
    free(u);
    return NULL;
}

static const struct wv_backend_ops uinput_ops = {
    .name = "uinput",
    .inject = uinput_inject,
    .flush = uinput_flush,
    .process = uinput_flush,
    .free = uinput_free,
};

int wv_backend_uinput_open(struct wv_backend **ret, const int fds[WV_UINPUT_DEVICES], bool keep,
                           char *ret_reason, size_t capacity)
{
    struct uinput *u = calloc(1, sizeof(*u));
    int r = 0;

    if (!u)
        return -ENOMEM;
    u->base = (struct wv_backend){.ops = &uinput_ops, .fd = -1};
    u->keep = keep;
    memcpy(u->fds, fds, sizeof(u->fds));
    for (unsigned i = 0; r == 0 && i < WV_UINPUT_DEVICES; i++) {
        r = make_device(u->fds[i], (enum wv_uinput_device)i);
        if (r < 0)
            snprintf(ret_reason, capacity, "the %s can't be made: %s", devices[i].name, strerror(-r));
    }
    if (r < 0) {
        uinput_free(&u->base);
        return WV_BACKEND_LOST;
    }
    *ret = &u->base;
    return 0;
}
