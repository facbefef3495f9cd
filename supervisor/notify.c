#include "supervisor/keeper.h"

#include "lib/base/util.h"

#include <stdbool.h>
#include <string.h>

static bool take_line(const char *line, size_t len, const char *key, const char **ret_value, size_t *ret_len)
{
    size_t key_len = strlen(key);
    if (len < key_len || memcmp(line, key, key_len))
        return false;
    *ret_value = line + key_len;
    *ret_len = len - key_len;
    return true;
}

/* sd_pid_notify_with_fds(3): printable ASCII without ':'. LISTEN_FDNAMES would read anything else wrongly. */
static bool valid_name(const char *name, size_t len)
{
    if (len == 0 || len >= WV_KEEPER_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] <= ' ' || name[i] >= 127 || name[i] == ':')
            return false;
    return true;
}

unsigned wv_notify_parse(const char *data, size_t len, char ret_name[WV_KEEPER_NAME_MAX])
{
    unsigned kind = 0;
    char name[WV_KEEPER_NAME_MAX] = "stored";
    for (size_t at = 0; at < len;) {
        const char *end = memchr(data + at, '\n', len - at), *value;
        size_t line_len = end ? (size_t)(end - data) - at : len - at, value_len;
        const char *line = data + at;
        if (take_line(line, line_len, "FDSTORE=", &value, &value_len) && value_len == 1 && *value == '1')
            kind |= WV_NOTIFY_STORE;
        else if (take_line(line, line_len, "FDSTOREREMOVE=", &value, &value_len) && value_len == 1 &&
                 *value == '1')
            kind |= WV_NOTIFY_REMOVE;
        else if (take_line(line, line_len, "READY=", &value, &value_len) && value_len == 1 && *value == '1')
            kind |= WV_NOTIFY_READY;
        else if (take_line(line, line_len, "STOPPING=", &value, &value_len) && value_len == 1 &&
                 *value == '1')
            kind |= WV_NOTIFY_STOPPING;
        else if (take_line(line, line_len, "FDNAME=", &value, &value_len)) {
            if (!valid_name(value, value_len))
                return WV_NOTIFY_OTHER;
            memcpy(name, value, value_len);
            name[value_len] = 0;
        }
        at += line_len + 1;
    }
    memcpy(ret_name, name, sizeof name);
    return kind;
}
