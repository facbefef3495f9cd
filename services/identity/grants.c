/* See grants.h. Must never take a word it doesn't know for nothing: who mistypes a grant is told. */
#include "services/identity/grants.h"

#include "lib/base/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const names[WV_GRANTS] = {"view",     "input",     "clipboard-in", "clipboard-out",
                                             "files-in", "files-out", "audio"};

const char *wv_grant_name(unsigned i)
{
    return i < WV_GRANTS ? names[i] : NULL;
}

static bool is_word(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

static uint32_t take_word(const char *text, size_t len)
{
    if (is_word(text, len, "clipboard"))
        return WV_GRANT_CLIPBOARD_IN | WV_GRANT_CLIPBOARD_OUT;
    if (is_word(text, len, "files"))
        return WV_GRANT_FILES_IN | WV_GRANT_FILES_OUT;
    for (unsigned i = 0; i < WV_GRANTS; i++)
        if (is_word(text, len, names[i]))
            return 1u << i;
    return 0;
}

int wv_grants_parse(const char *text, size_t len, uint32_t *ret)
{
    uint32_t grants = 0;
    for (;;) {
        const char *comma = memchr(text, ',', len);
        size_t word = comma ? (size_t)(comma - text) : len;
        uint32_t bits = take_word(text, word);
        if (!bits)
            return -EINVAL;
        grants |= bits;
        if (!comma)
            break;
        text += word + 1;
        len -= word + 1;
    }
    *ret = grants;
    return 0;
}

void wv_grants_format(uint32_t grants, char ret[WV_GRANTS_TEXT_BYTES])
{
    size_t used = 0;
    ret[0] = 0;
    for (unsigned i = 0; i < WV_GRANTS; i++)
        if (grants & (1u << i))
            used +=
                (size_t)snprintf(ret + used, WV_GRANTS_TEXT_BYTES - used, "%s%s", used ? "," : "", names[i]);
    if (used == 0)
        snprintf(ret, WV_GRANTS_TEXT_BYTES, "none");
}

static bool is_shape(const char *text, size_t len, const char *shape)
{
    if (len != strlen(shape))
        return false;
    for (size_t i = 0; i < len; i++)
        if (shape[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i])
            return false;
    return true;
}

int wv_expiry_parse(const char *text, size_t len, uint64_t *ret)
{
    char copy[WV_EXPIRY_TEXT_BYTES], again[WV_EXPIRY_TEXT_BYTES];
    struct tm t = {0};
    if (!is_shape(text, len, "0000-00-00T00:00:00Z"))
        return -EINVAL;
    memcpy(copy, text, len);
    copy[len] = 0;
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2dZ", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min,
               &t.tm_sec) != 6)
        return -EINVAL;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    time_t seconds = timegm(&t);
    if (seconds <= 0 || (uint64_t)seconds > WV_EXPIRY_MAX)
        return -EINVAL;
    wv_expiry_format((uint64_t)seconds, again); /* timegm() takes a 31st of February for something else */
    if (strcmp(copy, again))
        return -EINVAL;
    *ret = (uint64_t)seconds;
    return 0;
}

void wv_expiry_format(uint64_t expires, char ret[WV_EXPIRY_TEXT_BYTES])
{
    time_t seconds = (time_t)WV_MIN(expires, WV_EXPIRY_MAX);
    struct tm t = {0};
    (void)gmtime_r(&seconds, &t);
    if (strftime(ret, WV_EXPIRY_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &t) == 0)
        ret[0] = 0;
}

int wv_duration_parse(const char *text, size_t len, uint64_t max, uint64_t *ret)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t n = 0, seconds = 0;
    if (len < 2 || len > 9) /* so many digits don't overflow */
        return -EINVAL;
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        n = 10 * n + (uint64_t)(text[i] - '0');
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(units); i++)
        if (text[len - 1] == units[i].unit)
            seconds = n * units[i].seconds;
    if (seconds == 0 || seconds > max)
        return -EINVAL;
    *ret = seconds;
    return 0;
}
