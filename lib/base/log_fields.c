#include "lib/base/log_fields.h"

#include "lib/base/util.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KEY_MAX 48 /* the journal takes names of at most 64 bytes */

/* Returns the length of the key at P, 0 when it is none. */
static size_t key_length(const char *p)
{
    size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_");
    bool begins = *p >= 'a' && *p <= 'z';
    return begins && n <= KEY_MAX && p[n] == '=' ? n : 0;
}

static const char *skip_word(const char *p)
{
    p += strcspn(p, " ");
    return p + strspn(p, " ");
}

static const char *find_value(const char *p, const char **ret_value, size_t *ret_len)
{
    bool quoted = *p == '"';
    p += quoted;
    *ret_value = p;
    *ret_len = strcspn(p, quoted ? "\"" : " ");
    p += *ret_len;
    p += quoted && *p == '"';
    return p + strspn(p, " ");
}

size_t wv_log_fields_next(struct wv_log_fields *f, char ret[WV_LOG_FIELD_BYTES])
{
    const char *p = f->rest, *value;
    size_t key_len, value_len;
    for (p += strspn(p, " "); (key_len = key_length(p)) == 0; p = skip_word(p)) {
        f->n += *p != 0;
        if (!*p)
            return 0;
    }
    f->rest = find_value(p + key_len + 1, &value, &value_len);
    bool ours = f->n++ == 0 &&
                ((key_len == 7 && !memcmp(p, "session", 7)) || (key_len == 5 && !memcmp(p, "stage", 5)));
    int n = snprintf(ret, WV_LOG_FIELD_BYTES, "%s%.*s=%.*s", ours ? "" : "WAVRY_", (int)key_len, p,
                     (int)value_len, value);
    for (char *c = ret; *c != '='; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    return WV_MIN((size_t)n, (size_t)WV_LOG_FIELD_BYTES - 1);
}
