/* The command line and the configuration file of wavry-client. */
#pragma once

#include "lib/stage/config.h"

#include <stdint.h>

enum wv_options_action { WV_OPTIONS_RUN, WV_OPTIONS_PRINT_KEY, WV_OPTIONS_DONE };

struct wv_options {
    struct wv_config *config;
    enum wv_options_action action;
    char host[256];
    uint16_t port;
    int width, height; /* --window; 0: follow the picture */
};

/* Reads files and arguments. Returns 0, or a sysexits code with the reason printed to stderr. The caller
 * frees with wv_options_fini() in both cases. */
int wv_options_read(struct wv_options *ret, int argc, char **argv);
void wv_options_fini(struct wv_options *o);
