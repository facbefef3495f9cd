/* The display to capture, and the ways to put input in. */
#include "ctl/doctor.h"

#include "lib/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <xcb/xcb.h>

static const struct {
    const char *name, *purpose;
    enum wv_doctor_level without;
} extensions[] = {
    {"DAMAGE", "to see what changed", WV_DOCTOR_MISSING},
    {"XFIXES", "to see the cursor", WV_DOCTOR_MISSING},
    {"MIT-SHM", "to read the picture without copying it through a socket", WV_DOCTOR_MISSING},
    {"XTEST", "to type and point", WV_DOCTOR_NOTE}, /* uinput does it, too */
};

/* A killed X server leaves its socket behind. */
static bool listens(long number)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/.X11-unix/X%ld", number);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool answers = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    wv_close(fd);
    return answers;
}

/* A display that runs here although DISPLAY doesn't name it. Returns its number, -1: none. */
static int find_display(void)
{
    DIR *dir = opendir("/tmp/.X11-unix");
    int number = -1;
    if (!dir)
        return -1;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char *end;
        long n = e->d_name[0] == 'X' ? strtol(e->d_name + 1, &end, 10) : -1;
        if (n >= 0 && n < 10000 && end != e->d_name + 1 && !*end && (number < 0 || n < number) && listens(n))
            number = (int)n;
    }
    closedir(dir);
    return number;
}

static bool has_extension(xcb_connection_t *x, const char *name)
{
    xcb_query_extension_reply_t *reply =
        xcb_query_extension_reply(x, xcb_query_extension(x, (uint16_t)strlen(name), name), NULL);
    bool present = reply && reply->present;
    free(reply);
    return present;
}

static void check_extensions(struct wv_doctor *d, xcb_connection_t *x)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(extensions); i++) {
        if (has_extension(x, extensions[i].name))
            wv_doctor_say(d, WV_DOCTOR_OK, extensions[i].name, NULL, "the display has it (%s)",
                          extensions[i].purpose);
        else
            wv_doctor_say(d, extensions[i].without, extensions[i].name,
                          "use an X server that has it: Debian's xserver-xorg-core, xvfb or xwayland",
                          "the display lacks it (%s)", extensions[i].purpose);
    }
}

static void check_x11(struct wv_doctor *d)
{
    const char *name = getenv("DISPLAY");
    if (!name || !*name) {
        int running = find_display();
        char remedy[200];
        if (running >= 0)
            snprintf(remedy, sizeof(remedy),
                     "display :%d runs here: export DISPLAY=:%d (and XAUTHORITY), or "
                     "wavry-supervisor --display :%d",
                     running, running, running);
        else
            snprintf(remedy, sizeof(remedy),
                     "start a desktop, or a virtual one (Debian package xvfb): Xvfb :9 "
                     "-screen 0 1280x720x24 &");
        wv_doctor_say(d, WV_DOCTOR_MISSING, "display", remedy, "DISPLAY is not set");
        return;
    }
    xcb_connection_t *x = xcb_connect(name, NULL);
    if (xcb_connection_has_error(x)) {
        wv_doctor_say(d, WV_DOCTOR_MISSING, "display",
                      "is it running, and may you use it? xdpyinfo (Debian package x11-utils) says more; "
                      "XAUTHORITY must name the desktop's cookie file",
                      "%s can't be reached", name);
    } else {
        const xcb_screen_t *screen = xcb_setup_roots_iterator(xcb_get_setup(x)).data;
        wv_doctor_say(d, WV_DOCTOR_OK, "display", NULL, "%s, %ux%u, %u bits", name, screen->width_in_pixels,
                      screen->height_in_pixels, screen->root_depth);
        check_extensions(d, x);
    }
    xcb_disconnect(x);
}

static void check_uinput(struct wv_doctor *d)
{
    int fd = open("/dev/uinput", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        wv_doctor_say(d, WV_DOCTOR_OK, "/dev/uinput", NULL, "usable");
        wv_close(fd);
    } else if (errno == EACCES || errno == EPERM) {
        wv_doctor_say(d, WV_DOCTOR_NOTE, "/dev/uinput",
                      "needed only where XTEST isn't enough; run the host as root",
                      "this user may not open it");
    } else {
        wv_doctor_say(d, WV_DOCTOR_NOTE, "/dev/uinput",
                      "needed only where XTEST isn't enough: modprobe uinput", "%s", strerror(errno));
    }
}

void wv_doctor_display(struct wv_doctor *d)
{
    check_x11(d);
    check_uinput(d);
}
