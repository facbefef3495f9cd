/* The file of steps and pictures; see timeline.h. Must never hold up a picture: a line is one small write. */
#include "client/timeline.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

struct wv_timeline {
    int fd;
};

int wv_timeline_new(struct wv_timeline **ret, const char *path)
{
    struct wv_timeline *t = malloc(sizeof *t);
    if (!t)
        return -ENOMEM;
    t->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (t->fd < 0) {
        int r = -errno;
        free(t);
        return r;
    }
    *ret = t;
    return 0;
}

void wv_timeline_note(struct wv_timeline *t, const char *event)
{
    char line[64];
    if (!t)
        return;
    int n =
        snprintf(line, sizeof line, "%llu %.32s\n", (unsigned long long)(wv_now_ns() / WV_NS_PER_US), event);
    ssize_t written = write(t->fd, line, (size_t)n);
    (void)written;
}

struct wv_timeline *wv_timeline_free(struct wv_timeline *t)
{
    if (t) {
        wv_close(t->fd);
        free(t);
    }
    return NULL;
}
