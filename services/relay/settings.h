/* What an administrator decides of a relay: the command line, /etc/wavry/relay.conf, the list of issuers. All
 * of it is read before the process locks itself down. */
#pragma once

#include "lib/base/address.h"
#include "lib/base/log.h"
#include "lib/stage/config.h"
#include "rift/relay/relay.h"

#define WV_RELAY_PORT        4821
#define WV_RELAY_LISTEN_MAX  8
#define WV_RELAY_ISSUERS_MAX 64

struct wv_relay_settings {
    struct wv_config *config;
    enum wv_log_level level;
    struct wv_listen_at listen[WV_RELAY_LISTEN_MAX];
    size_t n_listen;
    uint8_t issuers[WV_RELAY_ISSUERS_MAX][32];
    size_t n_issuers;
    unsigned allow;
};

/* Reads everything. Returns -1 to go on, or an exit code, having said on stderr what is wrong or on stdout
 * what was asked for. */
int wv_relay_settings_read(struct wv_relay_settings *s, int argc, char **argv);
void wv_relay_settings_fini(struct wv_relay_settings *s);
