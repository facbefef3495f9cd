/* What an operator decides of a gateway: the command line and /etc/wavry/gateway.conf. Read before the
 * process locks itself down, and again on a reload, when only some keys can still change. */
#pragma once

#include "lib/base/address.h"
#include "lib/base/log.h"
#include "lib/stage/config.h"

#define WV_GATEWAY_FILE         "/etc/wavry/gateway.conf"
#define WV_GATEWAY_LISTEN_MAX   8
#define WV_GATEWAY_NAMES_MAX    8
#define WV_GATEWAY_TRUSTED_MAX  32
#define WV_GATEWAY_NAME_BYTES   256
#define WV_GATEWAY_COMMAND_ARGS 8

/* An address and how many bits of it count: ::ffff:10.0.0.0/104 is 10.0.0.0/8. */
struct wv_range {
    uint8_t ip[16];
    unsigned bits;
};

struct wv_gateway_settings {
    struct wv_config *config;
    enum wv_log_level level;
    char names[WV_GATEWAY_NAMES_MAX][WV_GATEWAY_NAME_BYTES]; /* HOST:PORT in small letters */
    size_t n_names;
    struct wv_listen_at listen[WV_GATEWAY_LISTEN_MAX];
    size_t n_listen;
    struct wv_range trusted[WV_GATEWAY_TRUSTED_MAX];
    size_t n_trusted;
    /* What stands behind the options: "admin add NAME", or nothing: serve. */
    const char *command[WV_GATEWAY_COMMAND_ARGS];
    size_t n_command;
};

/* Reads everything. Returns -1 to go on, or an exit code, having said on stderr what is wrong or on stdout
 * what was asked for. */
int wv_gateway_settings_read(struct wv_gateway_settings *s, int argc, char **argv);
/* The same for a reload: nothing is printed, RET_MESSAGE (malloc'ed) says what is wrong. 0 or -EINVAL. */
int wv_gateway_settings_again(struct wv_gateway_settings *s, int argc, char **argv, char **ret_message);
void wv_gateway_settings_fini(struct wv_gateway_settings *s);

/* The parts, for tests. Each returns 0 or -EINVAL with a sentence in RET_MESSAGE (malloc'ed). */
int wv_gateway_parse_names(const char *text, struct wv_gateway_settings *s, char **ret_message);
int wv_gateway_parse_trusted(const char *text, struct wv_gateway_settings *s, char **ret_message);
bool wv_range_has(const struct wv_range *ranges, size_t n, const uint8_t ip[16]);
