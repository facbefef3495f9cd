#include "tests/unit/x11_fixture.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void run_server(const char *screen, int number, const char *without_extension, int display_fd)
{
    char name[16], fd[16];
    const char *arguments[20] = {"Xvfb"};
    int n = 1, null = open("/dev/null", O_RDWR);

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the test is killed */
    snprintf(name, sizeof(name), ":%d", number);
    snprintf(fd, sizeof(fd), "%d", display_fd);
    fcntl(display_fd, F_SETFD, 0);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    if (number >= 0)
        arguments[n++] = name;
    arguments[n++] = "-displayfd";
    arguments[n++] = fd;
    arguments[n++] = "-screen";
    arguments[n++] = "0";
    arguments[n++] = screen;
    arguments[n++] = "-noreset";
    arguments[n++] = "-nolisten";
    arguments[n++] = "tcp";
    if (without_extension) {
        arguments[n++] = "-extension";
        arguments[n++] = without_extension;
    }
    execvp("Xvfb", (char *const *)arguments);
    _exit(127);
}

/* Up to and with the line's end: the server writes the number in two parts, and dies when it can't write the
 * second. */
static void read_line(int fd, char *ret_text, size_t capacity)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    size_t n = 0;

    while (n + 1 < capacity && (n == 0 || ret_text[n - 1] != '\n')) {
        if (poll(&readable, 1, 30000) != 1 || read(fd, ret_text + n, 1) != 1)
            break;
        n++;
    }
    ret_text[n] = '\0';
}

int x11_private_number(void)
{
    return 300 + (int)getpid() % 5000;
}

struct x11_server x11_server_start(const char *screen, int number, const char *without_extension)
{
    struct x11_server s = {0};
    int pipe_fds[2];
    char text[16] = "";

    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    s.pid = fork();
    ck_assert_int_ge(s.pid, 0);
    if (s.pid == 0)
        run_server(screen, number, without_extension, pipe_fds[1]);
    close(pipe_fds[1]);
    read_line(pipe_fds[0], text, sizeof(text));
    ck_assert_msg(strchr(text, '\n'), "Xvfb does not start (Debian package xvfb)");
    close(pipe_fds[0]);
    s.number = atoi(text);
    snprintf(s.name, sizeof(s.name), ":%d", s.number);
    return s;
}

static void end_server(struct x11_server *s, int signal)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, signal);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

void x11_server_kill(struct x11_server *s)
{
    end_server(s, SIGKILL);
}

void x11_server_stop(struct x11_server *s)
{
    end_server(s, SIGTERM);
}

struct x11_drawer x11_drawer_open(const struct x11_server *s)
{
    struct x11_drawer d = {.connection = xcb_connect(s->name, NULL)};
    uint32_t values[] = {XCB_SUBWINDOW_MODE_INCLUDE_INFERIORS, 0};

    ck_assert_int_eq(xcb_connection_has_error(d.connection), 0);
    d.screen = xcb_setup_roots_iterator(xcb_get_setup(d.connection)).data;
    d.gc = xcb_generate_id(d.connection);
    xcb_create_gc(d.connection, d.gc, d.screen->root, XCB_GC_SUBWINDOW_MODE | XCB_GC_GRAPHICS_EXPOSURES,
                  values);
    return d;
}

void x11_drawer_close(struct x11_drawer *d)
{
    if (d->connection)
        xcb_disconnect(d->connection);
    d->connection = NULL;
}

void x11_fill(struct x11_drawer *d, uint32_t colour, int x, int y, int width, int height)
{
    xcb_rectangle_t rect = {(int16_t)x, (int16_t)y, (uint16_t)width, (uint16_t)height};

    xcb_change_gc(d->connection, d->gc, XCB_GC_FOREGROUND, &colour);
    xcb_poly_fill_rectangle(d->connection, d->screen->root, d->gc, 1, &rect);
}

void x11_copy(struct x11_drawer *d, int from_x, int from_y, int x, int y, int width, int height)
{
    xcb_copy_area(d->connection, d->screen->root, d->screen->root, d->gc, (int16_t)from_x, (int16_t)from_y,
                  (int16_t)x, (int16_t)y, (uint16_t)width, (uint16_t)height);
}

/* Twice: once the second answer is there, the server has also told all others of what the first came behind.
 */
void x11_sync(struct x11_drawer *d)
{
    for (int i = 0; i < 2; i++)
        free(xcb_get_input_focus_reply(d->connection, xcb_get_input_focus(d->connection), NULL));
    ck_assert_int_eq(xcb_connection_has_error(d->connection), 0);
}

uint8_t *x11_pixels(struct x11_drawer *d, int width, int height)
{
    xcb_get_image_cookie_t cookie = xcb_get_image(d->connection, XCB_IMAGE_FORMAT_Z_PIXMAP, d->screen->root,
                                                  0, 0, (uint16_t)width, (uint16_t)height, ~0u);
    xcb_get_image_reply_t *reply = xcb_get_image_reply(d->connection, cookie, NULL);
    size_t bytes = (size_t)width * (size_t)height * 4;
    uint8_t *pixels = malloc(bytes);

    ck_assert_ptr_nonnull(reply);
    ck_assert_int_eq((size_t)xcb_get_image_data_length(reply), bytes);
    memcpy(pixels, xcb_get_image_data(reply), bytes);
    free(reply);
    return pixels;
}
