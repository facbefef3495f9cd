/* bench-linkem: a long, thin, lossy wire for kernels without netem: delay, loss, a rate and the queue in
 * front of it. Between two network namespaces it carries IP packets from one TUN device to another; without
 * any privilege it carries UDP datagrams between one client and a host, as a NAT does. What it does is said
 * by settings on its command line and by lines on its input, while it runs. Must never look into a packet. */
#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>

#define SLOTS      16384u
#define MTU_BYTES  2048u
#define LINE_BYTES 256u
#define TAKE_MAX   64 /* packets of one direction, before the other one's turn */

struct packet {
    uint64_t due_ns;
    size_t len;
    uint8_t data[MTU_BYTES];
};

/* One direction. */
struct wire {
    int in, out;
    struct sockaddr_in *from, *to; /* of UDP: where the last one came from; where it goes, NULL: connected */
    double delay_ms, loss_percent, kbit, queue_kib;
    uint64_t busy_until_ns; /* the sender at the thin part */
    struct packet *queue;
    size_t head, n;
    uint64_t carried, lost, overflowed;
};

struct line {
    char text[LINE_BYTES];
    size_t len;
};

/* xorshift64*: the same losses for the same seed. */
static uint64_t random_state = 88172645463325252u;

static double random_percent(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (double)(random_state * UINT64_C(2685821657736338717) >> 11) * (100.0 / 9007199254740992.0);
}

/* "loss=1" or "a.loss=1" (from the first namespace to the second) or "b.loss=1". */
static int set(struct wire wires[2], const char *text)
{
    bool first = strncmp(text, "b.", 2) != 0, second = strncmp(text, "a.", 2) != 0;
    const char *key = text + (first && second ? 0 : 2);
    const char *equals = strchr(key, '=');
    char *end;
    if (!equals)
        return -EINVAL;
    double value = strtod(equals + 1, &end);
    size_t len = (size_t)(equals - key);
    if (end == equals + 1 || *end || !(value >= 0) || value > 1e9)
        return -EINVAL;
    if (len == 4 && !strncmp(key, "seed", 4)) {
        random_state = (uint64_t)value * 2654435761u + 1;
        return 0;
    }
    for (int i = !first; i <= second; i++) {
        if (len == 4 && !strncmp(key, "drop", len))
            wires[i].n = 0;
        else if (len == 8 && !strncmp(key, "delay_ms", len))
            wires[i].delay_ms = value;
        else if (len == 12 && !strncmp(key, "loss_percent", len))
            wires[i].loss_percent = value;
        else if (len == 4 && !strncmp(key, "kbit", len))
            wires[i].kbit = value;
        else if (len == 9 && !strncmp(key, "queue_kib", len))
            wires[i].queue_kib = value;
        else
            return -EINVAL;
    }
    return 0;
}

static void enqueue(struct wire *w, const uint8_t *data, size_t len, uint64_t now)
{
    uint64_t due = now;
    if (w->loss_percent > random_percent()) {
        w->lost++;
        return;
    }
    if (w->kbit > 0) {
        uint64_t start = WV_MAX(w->busy_until_ns, now);
        double waiting_bytes = (double)(start - now) * w->kbit / 8e6;
        if (waiting_bytes > w->queue_kib * 1024) {
            w->overflowed++;
            return;
        }
        due = w->busy_until_ns = start + (uint64_t)((double)len * 8e6 / w->kbit);
    }
    if (w->n == SLOTS) {
        w->overflowed++;
        return;
    }
    due += (uint64_t)(w->delay_ms * 1e6);
    struct packet *p = &w->queue[(w->head + w->n) % SLOTS];
    if (w->n) /* a shorter delay never reorders */
        due = WV_MAX(due, w->queue[(w->head + w->n - 1) % SLOTS].due_ns);
    *p = (struct packet){.due_ns = due, .len = len};
    memcpy(p->data, data, len);
    w->n++;
}

static void take(struct wire *w)
{
    uint8_t data[MTU_BYTES];
    for (int i = 0; i < TAKE_MAX; i++) {
        socklen_t size = sizeof *w->from;
        ssize_t len = w->from ? recvfrom(w->in, data, sizeof data, 0, (struct sockaddr *)w->from, &size)
                              : read(w->in, data, sizeof data);
        if (len <= 0)
            return;
        enqueue(w, data, (size_t)len, wv_now_ns());
    }
}

static void deliver(struct wire *w)
{
    while (w->n && w->queue[w->head].due_ns <= wv_now_ns()) {
        const struct packet *p = &w->queue[w->head];
        ssize_t sent = w->to ? sendto(w->out, p->data, p->len, 0, (struct sockaddr *)w->to, sizeof *w->to)
                             : write(w->out, p->data, p->len);
        if (sent < 0)
            w->overflowed++;
        else
            w->carried++;
        w->head = (w->head + 1) % SLOTS;
        w->n--;
    }
}

/* A device DEV in the namespace NAME; returns its descriptor. */
static int open_tun(const char *name, const char *dev)
{
    char path[256];
    struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(path, sizeof path, "/run/netns/%s", name);
    wv_cleanup(wv_close_p) int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) < 0)
        return -errno;
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", dev);
    if (ioctl(fd, TUNSETIFF, &ifr) == 0)
        return fd;
    int r = -errno;
    close(fd);
    return r;
}

/* Returns false at the end of the input: whoever started us is gone. */
static bool obey(struct wire wires[2], struct line *l)
{
    ssize_t n = read(STDIN_FILENO, l->text + l->len, sizeof l->text - l->len - 1);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    l->len += (size_t)n;
    l->text[l->len] = '\0';
    char *newline;
    while ((newline = strchr(l->text, '\n'))) {
        *newline = '\0';
        if (set(wires, l->text) < 0)
            fprintf(stderr, "bench-linkem: no such setting: %s\n", l->text);
        l->len -= (size_t)(newline + 1 - l->text);
        memmove(l->text, newline + 1, l->len + 1);
    }
    return l->len < sizeof l->text - 1;
}

static void run(struct wire wires[2])
{
    struct line line = {0};
    struct pollfd p[3] = {{wires[0].in, POLLIN, 0}, {wires[1].in, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        uint64_t due = UINT64_MAX, now = wv_now_ns();
        for (int i = 0; i < 2; i++)
            if (wires[i].n)
                due = WV_MIN(due, wires[i].queue[wires[i].head].due_ns);
        uint64_t wait = due > now ? due - now : 0;
        struct timespec ts = {(time_t)(wait / WV_NS_PER_S), (long)(wait % WV_NS_PER_S)};
        if (ppoll(p, 3, due == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR)
            return;
        if (p[2].revents && !obey(wires, &line))
            return;
        for (int i = 0; i < 2; i++) {
            take(&wires[i]);
            deliver(&wires[i]);
        }
    }
}

static int usage(void)
{
    fputs(
        "usage: bench-linkem NAMESPACE NAMESPACE DEVICE [SETTING...]\n"
        "       bench-linkem udp PORT HOST-PORT [SETTING...]\n"
        "Joins two network namespaces, or a client at PORT and a host at HOST-PORT of this machine, by a "
        "bad\n"
        "link. Settings, of both directions or with a. or b. in front of one (from the first or the client,\n"
        "from the second or the host): delay_ms=N loss_percent=N kbit=N (0: any) queue_kib=N seed=N drop=1\n"
        "(what is on its way). More of them are read from the input, a line each; at its end the link "
        "ends.\n",
        stderr);
    return EX_USAGE;
}

static int open_namespaces(char **argv, struct wire wires[2])
{
    for (int i = 0; i < 2; i++) {
        int fd = open_tun(argv[1 + i], argv[3]);
        if (fd < 0)
            return fd;
        wires[i].in = wires[!i].out = fd;
    }
    return 0;
}

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtol(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* PORT faces the client, a socket of our own the host. */
static int open_udp(const char *port, const char *host_port, struct wire wires[2])
{
    static struct sockaddr_in client;
    struct sockaddr_in here = loopback(port), host = loopback(host_port);
    int near = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int far = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), room = 4 << 20;
    if (near < 0 || far < 0 || bind(near, (struct sockaddr *)&here, sizeof here) < 0 ||
        connect(far, (struct sockaddr *)&host, sizeof host) < 0)
        return -errno;
    setsockopt(near, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(far, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    wires[0].in = wires[1].out = near;
    wires[0].out = wires[1].in = far;
    wires[0].from = wires[1].to = &client;
    return 0;
}

int main(int argc, char **argv)
{
    struct wire wires[2] = {{.queue_kib = 128}, {.queue_kib = 128}};
    if (argc < 4)
        return usage();
    for (int i = 4; i < argc; i++)
        if (set(wires, argv[i]) < 0)
            return usage();
    bool udp = !strcmp(argv[1], "udp");
    int r = udp ? open_udp(argv[2], argv[3], wires) : open_namespaces(argv, wires);
    for (int i = 0; i < 2; i++) {
        wires[i].queue = calloc(SLOTS, sizeof *wires[i].queue);
        r = wires[i].queue ? r : -ENOMEM;
    }
    if (r < 0) {
        fprintf(stderr, "bench-linkem: there can't be a link: %s\n", strerror(-r));
        return EX_OSERR;
    }
    prctl(PR_SET_TIMERSLACK, 1000UL);
    puts("ready");
    fflush(stdout);
    run(wires);
    for (int i = 0; i < 2; i++) {
        free(wires[i].queue);
        printf("%c carried=%llu lost=%llu overflowed=%llu\n", "ab"[i], (unsigned long long)wires[i].carried,
               (unsigned long long)wires[i].lost, (unsigned long long)wires[i].overflowed);
    }
    return EX_OK;
}
