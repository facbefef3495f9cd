/* The command line that every stage has in common. */
#pragma once

#include "lib/base/log.h"
#include "lib/stage/stage.h"

#define WV_CONFIG_GROUPS "supervisor|capture|encoder|transport|input|identity|reach|client|metrics"

#define WV_STAGE_OPTIONS_MAX 64

struct wv_stage_options {
    const char *supervisor; /* socket path; NULL: none given */
    const char *configs[WV_STAGE_OPTIONS_MAX];
    size_t n_configs;
    int config_fds[WV_STAGE_OPTIONS_MAX]; /* opened by the supervisor before it gave up its rights */
    size_t n_config_fds;
    const char *sets[WV_STAGE_OPTIONS_MAX];
    size_t n_sets;
    enum wv_log_level level;
    bool print_config, check_config, help, version;
};

/* Returns 0 or -EINVAL, having said on stderr what is wrong. */
int wv_stage_options_parse(struct wv_stage_options *o, const char *name, int argc, char **argv);
/* Default files, --config-fd, --config, --set, in that order. Returns 0 or a negative errno with RET_MESSAGE
 * (malloc'ed). */
int wv_stage_options_load(const struct wv_stage_options *o, struct wv_config *config, char **ret_message);
void wv_stage_options_help(const struct wv_stage_definition *definition, const struct wv_config *config);
