#include "lib/base/log.h"

#include "lib/base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

#define LIMIT_WINDOW_NS (10 * WV_NS_PER_S)
#define LIMIT_LINES     20
#define LIMIT_SLOTS     64

struct limit {
    const char *message;
    uint64_t window_start;
    unsigned printed;
    unsigned left_out;
};

static struct {
    const char *stage;
    int level;
    bool journal;
    pthread_mutex_t lock;
    struct limit limits[LIMIT_SLOTS];
} logger = {.stage = "wavry", .level = WV_LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

/* systemd puts "device:inode" of the stream it connected to the journal into JOURNAL_STREAM. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    unsigned long long dev, ino;
    if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2 || fstat(STDERR_FILENO, &st) < 0)
        return false;
    return st.st_dev == dev && st.st_ino == ino;
}

void wv_log_init(const char *stage, enum wv_log_level level)
{
    logger.stage = stage;
    logger.level = (int)level;
    logger.journal = stderr_is_journal();
}

static const char *const level_names[] = {
    [WV_LOG_ERROR] = "error", [WV_LOG_WARNING] = "warning", [WV_LOG_NOTICE] = "notice",
    [WV_LOG_INFO] = "info",   [WV_LOG_DEBUG] = "debug",
};

int wv_log_level_parse(const char *text)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(level_names); i++)
        if (level_names[i] && !strcmp(level_names[i], text))
            return (int)i;
    return -EINVAL;
}

/* Returns whether MESSAGE may be printed; RET_LEFT_OUT is how many of it were not since the last window. */
static bool within_limit(const char *message, unsigned *ret_left_out)
{
    uint64_t now = wv_now_ns();
    struct limit *slot = NULL;
    *ret_left_out = 0;
    for (size_t i = 0; i < LIMIT_SLOTS && !slot; i++)
        if (!logger.limits[i].message || !strcmp(logger.limits[i].message, message))
            slot = &logger.limits[i];
    if (!slot)
        return true;
    slot->message = message;
    if (now - slot->window_start > LIMIT_WINDOW_NS) {
        *ret_left_out = slot->left_out;
        slot->window_start = now;
        slot->printed = slot->left_out = 0;
    }
    if (slot->printed < LIMIT_LINES) {
        slot->printed++;
        return true;
    }
    slot->left_out++;
    return false;
}

void wv_log(enum wv_log_level level, const char *message, const char *format, ...)
{
    if ((int)level > logger.level)
        return;
    unsigned left_out;
    pthread_mutex_lock(&logger.lock);
    bool print = within_limit(message, &left_out);
    pthread_mutex_unlock(&logger.lock);
    if (!print)
        return;

    char pairs[1024], suffix[48] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(pairs, sizeof pairs, format, args);
    va_end(args);
    if (left_out)
        snprintf(suffix, sizeof suffix, " left_out=%u", left_out);
    const char *space = pairs[0] ? " " : "";
    if (logger.journal) {
        sd_journal_send("PRIORITY=%d", (int)level, "STAGE=%s", logger.stage, "MESSAGE=%s%s%s%s", message,
                        space, pairs, suffix, NULL);
        return;
    }
    char line[1400];
    int n = snprintf(line, sizeof line, "%-7s %s: %s%s%s%s\n", level_names[level], logger.stage, message,
                     space, pairs, suffix);
    n = WV_MIN(n, (int)sizeof line - 1);
    (void)!write(STDERR_FILENO, line, (size_t)n);
}
