#include "lib/x11/display.h"

#include "lib/base/util.h"

#include <stdio.h>
#include <string.h>

const char *wv_x11_name(const char *name)
{
    const char *environment;

    if (name && name[0])
        return name;
    environment = getenv("DISPLAY");
    return environment ? environment : "";
}

bool wv_x11_configured(const char *name)
{
    return wv_x11_name(name)[0] != '\0';
}

static const char *error_text(int error)
{
    switch (error) {
    case XCB_CONN_CLOSED_PARSE_ERR:
        return "that is not a display name";
    case XCB_CONN_CLOSED_INVALID_SCREEN:
        return "the server has no such screen";
    case XCB_CONN_CLOSED_MEM_INSUFFICIENT:
        return "out of memory";
    default:
        return "it can't be reached or refuses us (is it running, may this user read its XAUTHORITY file?)";
    }
}

int wv_x11_open(const char *name, const char *xauthority, xcb_connection_t **ret_connection,
                xcb_screen_t **ret_screen, char *ret_reason, size_t capacity)
{
    xcb_connection_t *c;
    xcb_screen_iterator_t screens;
    int number = 0, error;

    if (!wv_x11_configured(name)) {
        snprintf(ret_reason, capacity, "no display is configured and DISPLAY is not set");
        return WV_X11_UNREACHABLE;
    }
    if (xauthority && xauthority[0])
        setenv("XAUTHORITY", xauthority, 1);
    name = wv_x11_name(name);
    c = xcb_connect(name, &number);
    error = xcb_connection_has_error(c);
    if (error) {
        snprintf(ret_reason, capacity, "display %.32s: %s", name, error_text(error));
        xcb_disconnect(c);
        return WV_X11_UNREACHABLE;
    }
    screens = xcb_setup_roots_iterator(xcb_get_setup(c));
    for (; screens.rem && number > 0; number--)
        xcb_screen_next(&screens);
    if (!screens.rem) {
        snprintf(ret_reason, capacity, "display %.32s: the server has no such screen", name);
        xcb_disconnect(c);
        return WV_X11_UNREACHABLE;
    }
    *ret_connection = c;
    *ret_screen = screens.data;
    return 0;
}

int wv_x11_geometry(xcb_connection_t *c, xcb_window_t root, struct wv_x11_geometry *ret)
{
    xcb_get_geometry_reply_t *reply = xcb_get_geometry_reply(c, xcb_get_geometry(c, root), NULL);

    if (!reply)
        return WV_X11_UNREACHABLE;
    ret->width = reply->width;
    ret->height = reply->height;
    free(reply);
    return 0;
}

xcb_connection_t *wv_x11_close(xcb_connection_t *c)
{
    if (c)
        xcb_disconnect(c);
    return NULL;
}
