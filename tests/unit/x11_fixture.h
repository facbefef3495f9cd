/* An X server of a test's own (Xvfb on a free display), and a client that draws on it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <xcb/xcb.h>

struct x11_server {
    pid_t pid;
    int number;
    char name[16]; /* ":99" */
};

/* Starts Xvfb with SCREEN ("640x480x24") on display NUMBER, or a free one when NUMBER is -1, and waits until
 * it answers. Fails the test when that can't be. EXTENSION (may be NULL) is switched off. */
struct x11_server x11_server_start(const char *screen, int number, const char *without_extension);
/* For tests that start a server again under its number: one that nobody else is given as a free one
 * meanwhile. */
int x11_private_number(void);
void x11_server_kill(struct x11_server *s); /* SIGKILL; waits */
void x11_server_stop(struct x11_server *s); /* SIGTERM; waits */

struct x11_drawer {
    xcb_connection_t *connection;
    xcb_screen_t *screen;
    xcb_gcontext_t gc;
};

struct x11_drawer x11_drawer_open(const struct x11_server *s);
void x11_drawer_close(struct x11_drawer *d);
void x11_fill(struct x11_drawer *d, uint32_t colour, int x, int y, int width, int height);
void x11_copy(struct x11_drawer *d, int from_x, int from_y, int x, int y, int width, int height);
/* Everything asked for so far is done. */
void x11_sync(struct x11_drawer *d);
/* The root window's pixels (B, G, R, unused), as the server says; the caller frees. */
uint8_t *x11_pixels(struct x11_drawer *d, int width, int height);
