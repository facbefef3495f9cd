/* The parts of the program wavry-client, held together. */
#pragma once

#include "client/options.h"
#include "client/record.h"
#include "client/timeline.h"
#include "client/wavry_client.h"
#include "client/window.h"

struct app {
    struct wv_options options;
    struct rift_identity identity;
    uint8_t host_key[32];
    bool have_host_key;
    char known_hosts[4096];
    unsigned known_line; /* that host_key is from; 0: from elsewhere */

    struct wv_loop *loop;
    struct wv_loop_source *second;
    struct wv_client *client;
    struct wv_window *window; /* NULL: headless */
    struct wv_recorder *recorder;
    struct wv_timeline *timeline; /* NULL: not wanted */

    const struct wv_client_picture *picture; /* the last one; its memory is the client's */
    struct wv_client_picture picture_copy;
    uint64_t started, deadline;
    enum wv_client_reason reason; /* why there is no session now, or was none */
    char reason_text[WV_CLIENT_TEXT_BYTES];
    char host_name[64];
    bool connected_once;
    bool controls, may_control, control_taken;
    bool interrupted; /* the person wants to leave */

    struct finder *finder; /* find.c: the way goes through a gateway; NULL: an address is dialled */
    char address[64];      /* that was found for the name; empty: options.host is one */
    uint16_t address_port;
    bool dial_next; /* the loop ends so that the name is dialled */
    char path_said[16];
};

/* Prints a line for the person at the terminal. */
void app_say(const char *text);

/* trust_ui.c: loads the identity and the key that the host must prove. Returns 0 or a sysexits code, said. */
int app_load_trust(struct app *a);
/* The alarm: what answers is not the known host. */
void app_shout_key(const struct app *a);

/* pair_ui.c: pairs with the host, and notes its key. Returns 0 or a sysexits code, said. */
int app_pair(struct app *a);
