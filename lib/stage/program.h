/* The command line and the configuration file that an operator's programs have in common: those that no
 * supervisor starts (the gateway, the relay and what stands beside them). */
#pragma once

#include "lib/base/log.h"
#include "lib/ipc/metrics.h"
#include "lib/stage/config.h"

#include <getopt.h>

#define WV_PROGRAM_OPTIONS_MAX 64 /* --config, --set and arguments, each */

struct wv_program {
    const char *name;   /* "wavry-relay" */
    const char *usage;  /* --help begins with it; ends with a newline */
    const char *file;   /* is read first; may be missing */
    const char *group;  /* ours in FILE */
    const char *groups; /* that FILE may have: "relay|relay-beat" */
    const struct wv_config_entry *config;
    size_t n_config;
    const struct wv_metric *metrics; /* that --help tells of; NULL: none */
    size_t n_metrics;
    const char *flag, *flag_help; /* one more option without a value, as "print-key"; NULL: none */
    size_t max_arguments;         /* behind the options */
};

struct wv_program_line {
    const char *files[WV_PROGRAM_OPTIONS_MAX], *sets[WV_PROGRAM_OPTIONS_MAX];
    const char *arguments[WV_PROGRAM_OPTIONS_MAX];
    size_t n_files, n_sets, n_arguments;
    int level; /* enum wv_log_level; -1: not given */
    bool print, check, help, version, flag;
};

/* Reads the command line. Returns 0, or -EINVAL with a sentence in RET_MESSAGE (malloc'ed). */
int wv_program_parse(const struct wv_program *p, struct wv_program_line *l, int argc, char **argv,
                     char **ret_message);
/* Makes the configuration from the file, --config and --set, in that order. Returns 0 or a negative errno
 * with a sentence in RET_MESSAGE. */
int wv_program_load(const struct wv_program *p, const struct wv_program_line *l,
                    struct wv_config **ret_config, char **ret_message);
/* Both, and --help, --version and --print-config. Returns -1 to go on with RET_CONFIG, or an exit code,
 * having said on stderr what is wrong or on stdout what was asked for. */
int wv_program_begin(const struct wv_program *p, struct wv_program_line *l, int argc, char **argv,
                     struct wv_config **ret_config);
/* Says MESSAGE (NULL: there is no memory) on stderr and frees it. Returns CODE. */
int wv_program_fail(const struct wv_program *p, int code, char *message);
