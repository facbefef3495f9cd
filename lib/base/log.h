/* Structured logging for programs (libraries return, programs log, once). Goes to the journal when stderr is
 * the journal, with STAGE= and each pair as a field (log_fields.h), else to stderr as one line:
 * LEVEL stage: message key=value ... Never keys, never user content. */
#pragma once

#include <stdint.h>

enum wv_log_level {
    WV_LOG_ERROR = 3,
    WV_LOG_WARNING = 4,
    WV_LOG_NOTICE = 5,
    WV_LOG_INFO = 6,
    WV_LOG_DEBUG = 7
};

/* STAGE names the program in every line ("capture"); it must be a literal. Lines above LEVEL are dropped. */
void wv_log_init(const char *stage, enum wv_log_level level);

/* Parses "error", "warning", "notice", "info" or "debug". Returns the level, or -EINVAL. */
int wv_log_level_parse(const char *text);

/* For a program that runs already; from any thread. */
void wv_log_set_level(enum wv_log_level level);
enum wv_log_level wv_log_get_level(void);
const char *wv_log_level_name(enum wv_log_level level);

/* MESSAGE is a fixed sentence in lower case; FORMAT gives the key=value pairs ("" for none), for example
 *     wv_log(WV_LOG_NOTICE, "stage restarted", "stage=%s pid=%d", name, pid);
 * A session or another stage that a line is about stands first: there, and only there, the journal files it
 * so. The same MESSAGE is printed at most 20 times in 10 s; what was left out is counted in a later line. */
void wv_log(enum wv_log_level level, const char *message, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define wv_error(...)   wv_log(WV_LOG_ERROR, __VA_ARGS__)
#define wv_warning(...) wv_log(WV_LOG_WARNING, __VA_ARGS__)
#define wv_notice(...)  wv_log(WV_LOG_NOTICE, __VA_ARGS__)
#define wv_info(...)    wv_log(WV_LOG_INFO, __VA_ARGS__)
#define wv_debug(...)   wv_log(WV_LOG_DEBUG, __VA_ARGS__)
