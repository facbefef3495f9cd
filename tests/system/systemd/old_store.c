/* wavry-old-store: stands in for a supervisor of another version that systemd runs. It leaves in the fd store
 * what such a one might: names that nobody knows any more, known names with something else behind them. Then
 * it waits for its end. */
#include "lib/base/util.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

static int park(const char *name, int fd)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s", name);
    int r = fd < 0 ? -1 : sd_pid_notify_with_fds(0, 0, text, &fd, 1);
    if (r <= 0)
        fprintf(stderr, "wavry-old-store: %s is not kept\n", name);
    wv_close(fd);
    return r <= 0 ? -1 : 0;
}

/* Unsealed, and of a size that was right once. */
static int memory(size_t bytes)
{
    int fd = memfd_create("wavry-old", MFD_CLOEXEC);
    return fd >= 0 && ftruncate(fd, (off_t)bytes) < 0 ? wv_close(fd) : fd;
}

int main(void)
{
    int pipes[2];
    if (pipe(pipes) < 0)
        return EX_OSERR;
    int r = park("frames-of-version-0", memory(4096));
    if (r == 0)
        r = park("raw-frames", memory(1u << 20));
    if (r == 0)
        r = park("session-vault", memory(12345));
    if (r == 0)
        r = park("metrics-encoder", memory(64));
    if (r == 0)
        r = park("au-event", pipes[0]);
    if (r == 0)
        r = park("pid-capture", pipes[1]);
    sd_notify(0, r < 0 ? "ERRNO=5" : "READY=1\nSTATUS=of another version");
    return r < 0 ? EX_OSERR : pause();
}
