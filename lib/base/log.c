#include "lib/base/log.h"

#include "lib/base/log_fields.h"
#include "lib/base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#define SD_JOURNAL_SUPPRESS_LOCATION /* it would always be this file */
#include <systemd/sd-journal.h>

#define LIMIT_WINDOW_NS (10 * WV_NS_PER_S)
#define LIMIT_LINES     20
#define LIMIT_SLOTS     64
#define FIELDS_MAX      16 /* of the pairs of one line */

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
    wv_log_set_level(level);
    logger.journal = stderr_is_journal();
}

void wv_log_set_level(enum wv_log_level level)
{
    __atomic_store_n(&logger.level, (int)level, __ATOMIC_RELAXED);
}

enum wv_log_level wv_log_get_level(void)
{
    return (enum wv_log_level)__atomic_load_n(&logger.level, __ATOMIC_RELAXED);
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

const char *wv_log_level_name(enum wv_log_level level)
{
    return level_names[level];
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

static int send_to_journal(int level, const char *text, const char *pairs)
{
    char head[3][1200], fields[FIELDS_MAX][WV_LOG_FIELD_BYTES];
    struct iovec all[3 + FIELDS_MAX];
    struct wv_log_fields rest = {.rest = pairs};
    int n = 3;
    snprintf(head[0], sizeof head[0], "PRIORITY=%d", level);
    snprintf(head[1], sizeof head[1], "STAGE=%s", logger.stage);
    snprintf(head[2], sizeof head[2], "MESSAGE=%s", text);
    for (int i = 0; i < 3; i++)
        all[i] = (struct iovec){head[i], strlen(head[i])};
    for (size_t len; n < 3 + FIELDS_MAX && (len = wv_log_fields_next(&rest, fields[n - 3])) > 0; n++)
        all[n] = (struct iovec){fields[n - 3], len};
    return sd_journal_sendv(all, n);
}

/* The number is systemd's sign for the level, should the journal's own socket be out of reach. */
static void print_line(int level, const char *text)
{
    char line[1400], number[8] = "";
    if (logger.journal)
        snprintf(number, sizeof number, "<%d>", level);
    int n = snprintf(line, sizeof line, "%s%-7s %s: %s\n", number, level_names[level], logger.stage, text);
    n = WV_MIN(n, (int)sizeof line - 1);
    (void)!write(STDERR_FILENO, line, (size_t)n);
}

void wv_log(enum wv_log_level level, const char *message, const char *format, ...)
{
    if (level > wv_log_get_level())
        return;
    unsigned left_out;
    pthread_mutex_lock(&logger.lock);
    bool print = within_limit(message, &left_out);
    pthread_mutex_unlock(&logger.lock);
    if (!print)
        return;

    char pairs[900], suffix[48] = "", text[1150];
    va_list args;
    va_start(args, format);
    vsnprintf(pairs, sizeof pairs, format, args);
    va_end(args);
    if (left_out)
        snprintf(suffix, sizeof suffix, " left_out=%u", left_out);
    snprintf(text, sizeof text, "%s%s%s%s", message, pairs[0] ? " " : "", pairs, suffix);
    if (!logger.journal || send_to_journal((int)level, text, pairs) < 0)
        print_line((int)level, text);
}
