/* Configuration: one declared table per program; GKeyFile syntax; unknown keys are errors that name the file,
 * the line and the nearest known key. Later sources win: default, /etc/wavry/NAME.conf (or
 * $XDG_CONFIG_HOME/wavry/ for a person), --config FILE, --set KEY=VALUE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum wv_config_type { WV_CONFIG_INT, WV_CONFIG_BOOL, WV_CONFIG_STRING, WV_CONFIG_CHOICE };

struct wv_config_entry {
    const char *key; /* "bitrate_kbps"; all keys live in the group [STAGE] */
    enum wv_config_type type;
    const char *fallback; /* default as text */
    int64_t min, max;     /* INT */
    const char *choices;  /* CHOICE: "auto|x11|test" */
    const char *help;     /* one sentence */
};

struct wv_config;

int wv_config_new(struct wv_config **ret, const char *group, const struct wv_config_entry *table, size_t n);
struct wv_config *wv_config_free(struct wv_config *c);
/* Reads PATH; a missing file is 0 when OPTIONAL. Only the groups of KNOWN_GROUPS ("a|b|c", other programs'
 * groups in a shared file) may stand beside our own. On -EINVAL or an errno RET_MESSAGE (malloc'ed) says
 * file:line, what, and what to do. */
int wv_config_load(struct wv_config *c, const char *path, bool optional, const char *known_groups,
                   char **ret_message);
/* The same for TEXT that was read already; NAME stands for the file in messages. */
int wv_config_load_text(struct wv_config *c, const char *text, const char *name, const char *known_groups,
                        char **ret_message);
int wv_config_set(struct wv_config *c, const char *assignment, const char *source, char **ret_message);
int64_t wv_config_int(const struct wv_config *c, const char *key);
bool wv_config_bool(const struct wv_config *c, const char *key);
const char *wv_config_string(const struct wv_config *c, const char *key);
bool wv_config_has(const struct wv_config *c, const char *key); /* in the table? */
/* "key = value  # where it comes from", one a line. */
void wv_config_print(const struct wv_config *c, FILE *out);
void wv_config_print_help(const struct wv_config *c, FILE *out);
