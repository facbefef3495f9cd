/* wavry-nonces INTERFACE ADDRESS [PORT]: looks at every datagram between clients and the host at ADDRESS, and
 * counts packet counters that were used twice: the same direction, receiver, generation of keys and counter
 * with other bytes. The same bytes twice are a copy and harmless. A line with the numbers whenever a line
 * comes in, and at its end. It must never decide anything by what a stage says: it has the wire alone. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#define KIND_DATA     16 /* proto/WIRE.md, section 2 */
#define DATA_MIN      32
#define IP_UDP        17
#define BATCH         64
#define FRAME_BYTES   (66u << 10) /* a batch that the sender's kernel has not cut yet */
#define RECEIVE_BYTES (64 << 20)
#define SEEN_MAX      (1u << 25)
/* Older than linux/virtio_net.h of Debian 12. */
#define GSO_UDP_L4 5

struct use {
    uint64_t counter, hash;
    uint32_t receiver;
    uint8_t generation, direction;
    bool taken;
};

struct watch {
    int fd;
    in_addr_t host;
    uint16_t port;
    uint8_t key[crypto_shorthash_KEYBYTES];
    struct use *seen;
    size_t n_seen, capacity;
    unsigned long long datagrams[2], copies, reused, lost;
    uint32_t last_reused; /* the receiver's id */
    uint8_t *frames;
};

static size_t place(const struct watch *w, const struct use *u)
{
    uint8_t bytes[14];
    struct wv_writer writer;
    wv_writer_init(&writer, bytes, sizeof bytes);
    wv_write_u64(&writer, u->counter);
    wv_write_u32(&writer, u->receiver);
    wv_write_u8(&writer, u->generation);
    wv_write_u8(&writer, u->direction);
    uint64_t hash;
    crypto_shorthash((uint8_t *)&hash, bytes, sizeof bytes, w->key);
    size_t i = hash & (w->capacity - 1);
    while (w->seen[i].taken &&
           (w->seen[i].counter != u->counter || w->seen[i].receiver != u->receiver ||
            w->seen[i].generation != u->generation || w->seen[i].direction != u->direction))
        i = (i + 1) & (w->capacity - 1);
    return i;
}

static int grow(struct watch *w)
{
    struct use *old = w->seen;
    size_t n = w->capacity;
    if (n >= SEEN_MAX)
        return -ENOSPC;
    w->capacity = n ? n * 2 : 1u << 16;
    w->seen = calloc(w->capacity, sizeof *w->seen);
    if (!w->seen)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (old[i].taken)
            w->seen[place(w, &old[i])] = old[i];
    free(old);
    return 0;
}

static int note(struct watch *w, const uint8_t *data, size_t len, uint8_t direction)
{
    struct wv_reader r;
    struct use u = {.direction = direction, .taken = true};
    wv_reader_init(&r, data, len);
    if (len < DATA_MIN || wv_read_u8(&r) != KIND_DATA)
        return 0;
    u.generation = wv_read_u8(&r);
    (void)wv_read_u16(&r);
    u.receiver = wv_read_u32(&r);
    u.counter = wv_read_u64(&r);
    crypto_shorthash((uint8_t *)&u.hash, data, len, w->key);
    w->datagrams[direction]++;
    if (w->n_seen * 2 >= w->capacity && grow(w) < 0)
        return -ENOSPC;
    struct use *seen = &w->seen[place(w, &u)];
    if (!seen->taken) {
        *seen = u;
        w->n_seen++;
    } else if (seen->hash == u.hash) {
        w->copies++;
    } else {
        w->reused++;
        w->last_reused = u.receiver;
    }
    return 0;
}

/* One frame of the interface, from its IP header on; SEGMENT: how long each datagram in it is, 0: there is
 * one. */
static int take(struct watch *w, const uint8_t *data, size_t len, size_t segment)
{
    size_t header = len >= 20 ? (data[0] & 15u) * 4u : 0;
    if (header < 20 || len < header + 8 || data[0] >> 4 != 4 || data[9] != IP_UDP)
        return 0;
    in_addr_t from, to;
    memcpy(&from, data + 12, sizeof from);
    memcpy(&to, data + 16, sizeof to);
    uint16_t from_port = (uint16_t)(data[header] << 8 | data[header + 1]);
    uint16_t to_port = (uint16_t)(data[header + 2] << 8 | data[header + 3]);
    bool by_host = from == w->host && from_port == w->port;
    if (!by_host && !(to == w->host && to_port == w->port))
        return 0;
    size_t total = (size_t)(data[2] << 8 | data[3]);
    if (total < header + 8 || total > len)
        total = len;
    data += header + 8;
    len = total - header - 8;
    for (size_t at = 0; at < len;) {
        size_t n = segment ? WV_MIN(segment, len - at) : len;
        int r = note(w, data + at, n, by_host);
        if (r < 0)
            return r;
        at += n;
    }
    return 0;
}

static int drain(struct watch *w)
{
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    int n = BATCH;
    while (n == BATCH) {
        for (size_t i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){.iov_base = w->frames + i * FRAME_BYTES, .iov_len = FRAME_BYTES};
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
        }
        n = recvmmsg(w->fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < n; i++) {
            const uint8_t *frame = w->frames + (size_t)i * FRAME_BYTES;
            struct virtio_net_hdr v;
            size_t before = sizeof v + ETH_HLEN;
            if (messages[i].msg_len < before)
                continue;
            memcpy(&v, frame, sizeof v);
            bool batch = (v.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == GSO_UDP_L4;
            int r = take(w, frame + before, messages[i].msg_len - before, batch ? v.gso_size : 0);
            if (r < 0)
                return r;
        }
    }
    return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}

static void say(struct watch *w)
{
    struct tpacket_stats stats = {0};
    socklen_t len = sizeof stats;
    if (getsockopt(w->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0)
        w->lost += stats.tp_drops;
    printf("{\"from_clients\": %llu, \"from_host\": %llu, \"copies\": %llu, \"reused\": %llu, "
           "\"last_reused\": %u, \"not_seen\": %llu}\n",
           w->datagrams[0], w->datagrams[1], w->copies, w->reused, w->last_reused, w->lost);
    fflush(stdout);
}

static int look_at(struct watch *w, const char *interface)
{
    int yes = 1, bytes = RECEIVE_BYTES;
    /* Not ETH_P_IP: that shows only what comes in. take() passes over what is not IPv4. */
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(interface)};
    if (!at.sll_ifindex)
        return -ENODEV;
    w->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (w->fd < 0)
        return -errno;
    /* Batches come with the length of their datagrams. */
    if (setsockopt(w->fd, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) < 0 ||
        setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0 ||
        bind(w->fd, (struct sockaddr *)&at, sizeof at) < 0)
        return -errno;
    return 0;
}

static int run(struct watch *w)
{
    struct pollfd p[] = {{.fd = w->fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    char line[64];
    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return -errno;
        int r = drain(w);
        if (r < 0)
            return r;
        if (!p[1].revents)
            continue;
        ssize_t n = read(STDIN_FILENO, line, sizeof line);
        say(w);
        if (n <= 0)
            return 0;
    }
}

int main(int argc, char **argv)
{
    struct watch w = {.fd = -1, .port = (uint16_t)(argc > 3 ? atoi(argv[3]) : 4820)};
    if (argc < 3 || inet_pton(AF_INET, argv[2], &w.host) != 1) {
        fprintf(stderr, "usage: wavry-nonces INTERFACE ADDRESS [PORT]\n");
        return EX_USAGE;
    }
    w.frames = calloc(BATCH, FRAME_BYTES);
    if (sodium_init() < 0 || !w.frames)
        return EX_OSERR;
    crypto_shorthash_keygen(w.key);
    int r = look_at(&w, argv[1]);
    if (r == 0) {
        puts("looking");
        fflush(stdout);
        r = run(&w);
    }
    if (r < 0)
        fprintf(stderr, "wavry-nonces: %s: %s\n", argv[1], strerror(-r));
    free(w.seen);
    free(w.frames);
    wv_close(w.fd);
    return r < 0 ? EX_OSERR : EX_OK;
}
