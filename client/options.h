/* The command line and the configuration file of wavry-client. */
#pragma once

#include "client/url.h"
#include "lib/stage/config.h"

#include <stdint.h>

enum wv_options_action { WV_OPTIONS_RUN, WV_OPTIONS_PAIR, WV_OPTIONS_PRINT_KEY, WV_OPTIONS_DONE };

struct wv_options {
    struct wv_config *config;
    enum wv_options_action action;
    char host[256];
    uint16_t port;
    int width, height; /* --window; 0: follow the picture */
    struct wv_url url;
    bool have_url;    /* a wavry: URL was given; without WV_OPTIONS_PAIR: pair, then connect */
    const char *code; /* --code, NULL: ask */
    const char *name; /* --name, NULL: this machine's */
    bool new_key;     /* --new-key: the host may have another key than the known one */
};

/* Reads files and arguments. Returns 0, or a sysexits code with the reason printed to stderr. The caller
 * frees with wv_options_fini() in both cases. */
int wv_options_read(struct wv_options *ret, int argc, char **argv);
void wv_options_fini(struct wv_options *o);
