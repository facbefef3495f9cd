/* wavry-evdev DEVICE...: reads input devices as an application does and prints each event, "DEVICE TYPE CODE
 * VALUE", and "DEVICE gone" when one was unplugged. Ends when all are gone. */
#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define DEVICES_MAX 8

static bool print_events(int fd, const char *name)
{
    struct input_event events[64];
    ssize_t n = read(fd, events, sizeof events);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    for (size_t i = 0; i < (size_t)n / sizeof events[0]; i++)
        if (events[i].type != EV_SYN)
            printf("%s %u %u %d\n", name, events[i].type, events[i].code, events[i].value);
    return true;
}

int main(int argc, char **argv)
{
    struct pollfd fds[DEVICES_MAX];
    int n = argc - 1, left = n;
    if (n < 1 || n > DEVICES_MAX)
        return EX_USAGE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = open(argv[i + 1], O_RDONLY | O_CLOEXEC), .events = POLLIN};
        if (fds[i].fd < 0) {
            fprintf(stderr, "wavry-evdev: %s: %s\n", argv[i + 1], strerror(errno));
            return EX_NOINPUT;
        }
    }
    puts("reading");
    while (left > 0) {
        if (poll(fds, (nfds_t)n, -1) < 0 && errno != EINTR)
            return EX_OSERR;
        for (int i = 0; i < n; i++) {
            if (fds[i].fd < 0 || !fds[i].revents || print_events(fds[i].fd, argv[i + 1]))
                continue;
            printf("%s gone\n", argv[i + 1]);
            fds[i].fd = wv_close(fds[i].fd);
            left--;
        }
    }
    return EX_OK;
}
