/* gateway.conf; see account.h. Never repairs or ignores a file that looks wrong: it says so. */
#include "lib/gateway/account.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX 4096

/* One "key = value". Returns 0 or -EINVAL. */
static int take(struct wv_gateway_account *a, const char *key, const char *value)
{
    char *end;
    if (!strcmp(key, "url"))
        return wv_gateway_url_parse(value, &a->url) < 0 ? -EINVAL : 0;
    if (!strcmp(key, "expires")) {
        a->expires = strtoull(value, &end, 10);
        return *end ? -EINVAL : 0;
    }
    char *to = !strcmp(key, "ca_file")   ? a->ca_file
               : !strcmp(key, "account") ? a->account
               : !strcmp(key, "token")   ? a->token
                                         : NULL;
    size_t room = to == a->ca_file   ? sizeof a->ca_file
                  : to == a->account ? sizeof a->account
                                     : sizeof a->token;
    return !to || (size_t)snprintf(to, room, "%s", value) >= room ? -EINVAL : 0;
}

static int parse(char *text, struct wv_gateway_account *a)
{
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *is = strstr(line, " = ");
        if (line[0] == '#' || line[0] == '[')
            continue;
        if (!is)
            return -EINVAL;
        *is = '\0';
        if (take(a, line, is + 3) < 0)
            return -EINVAL;
    }
    return a->url.port ? 0 : -EINVAL;
}

int wv_gateway_account_load(const char *path, struct wv_gateway_account *ret, char *ret_message,
                            size_t capacity)
{
    char text[FILE_MAX + 1];
    struct stat st;
    struct wv_gateway_account a = {0};
    wv_cleanup(wv_close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return WV_ACCOUNT_NONE;
    ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, text, sizeof text);
    if (n < 0) {
        int r = -errno;
        snprintf(ret_message, capacity, "%s can't be read: %s", path, strerror(-r));
        return r;
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077) {
        snprintf(ret_message, capacity,
                 "%s could be read or changed by others, so it is not used. Delete it and log in again.",
                 path);
        return -EACCES;
    }
    text[WV_MIN((size_t)n, sizeof text - 1)] = '\0';
    int r = (size_t)n >= sizeof text ? -EINVAL : parse(text, &a);
    explicit_bzero(text, sizeof text);
    if (r < 0)
        snprintf(ret_message, capacity, "%s is damaged. Delete it and log in again: wavryctl login URL",
                 path);
    else
        *ret = a;
    wv_gateway_account_wipe(&a);
    return r;
}

int wv_gateway_account_save(const char *path, const struct wv_gateway_account *a, char *ret_message,
                            size_t capacity)
{
    char text[FILE_MAX], url[WV_GATEWAY_URL_BYTES], folder[FILE_MAX];
    wv_gateway_url_format(&a->url, url);
    int n =
        snprintf(text, sizeof text,
                 "# Made by wavryctl login. The token is a secret.\nurl = %s\nca_file = %s\naccount = %s\n"
                 "token = %s\nexpires = %llu\n",
                 url, a->ca_file, a->account, a->token, (unsigned long long)a->expires);
    int r = n < 0 || (size_t)n >= sizeof text ? -ENAMETOOLONG : 0;
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash && r == 0; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
            r = -errno;
        *slash = '/';
    }
    if (r == 0)
        r = wv_write_file_atomic(path, text, (size_t)n, 0600);
    if (r < 0)
        snprintf(ret_message, capacity, "%s can't be written: %s", path, strerror(-r));
    explicit_bzero(text, sizeof text);
    return r;
}

void wv_gateway_account_wipe(struct wv_gateway_account *a)
{
    explicit_bzero(a, sizeof *a);
}
