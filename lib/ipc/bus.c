/* The bus's sockets: one DEALER per link, in the event loop. ZMQ_FD only says that something may have
 * happened, once; so a link is asked (ZMQ_EVENTS) after its descriptor fired and after every send and
 * receive, and the loop doesn't sleep before all links had nothing more to say. Never queues for a peer that
 * isn't there. */
#include "lib/ipc/bus.h"

#include "lib/base/util.h"
#include "lib/ipc/bus_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#define LINKS_MAX        16
#define PATH_MAX_BYTES   107 /* sun_path */
#define QUEUE_MESSAGES   1000
#define RECONNECT_MIN_MS 5
#define RECONNECT_MAX_MS 20
#define ROUND_MESSAGES   64 /* of one link, before other sources of the loop have their turn */

struct wv_bus_link {
    struct wv_bus *bus;
    char peer[32];
    void *socket;
    struct wv_loop_source *source;
    bool check; /* ZMQ_EVENTS may have changed since it was last looked at */
};

struct wv_bus {
    struct wv_loop *loop;
    void *context;
    struct bus_dispatcher *dispatcher;
    struct wv_loop_source *prepare;
    struct wv_bus_link links[LINKS_MAX];
    size_t n_links;
    uint8_t *packed; /* send buffer */
    size_t packed_bytes;
    zmq_msg_t name, data;
};

static int on_descriptor(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_bus_link *link = userdata;
    link->check = true; /* the prepare callback follows */
    return 0;
}

static bool readable(struct wv_bus_link *link)
{
    int events = 0;
    size_t len = sizeof(events);
    link->check = false;
    return zmq_getsockopt(link->socket, ZMQ_EVENTS, &events, &len) == 0 && (events & ZMQ_POLLIN);
}

static int receive_part(struct wv_bus_link *link, zmq_msg_t *part)
{
    int n;
    do
        n = zmq_msg_recv(part, link->socket, ZMQ_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* Takes one whole message off LINK and has it judged. Returns 0, -EAGAIN (none left), or the handler's error.
 */
static int receive_message(struct wv_bus_link *link, uint64_t now)
{
    struct wv_bus *b = link->bus;
    int r = receive_part(link, &b->name);
    if (r < 0)
        return -EAGAIN;
    size_t n_parts = 1;
    bool more = zmq_msg_more(&b->name);
    while (more) {
        r = receive_part(link, &b->data);
        if (r < 0)
            return -EAGAIN;
        more = zmq_msg_more(&b->data);
        n_parts++;
    }
    return bus_dispatch(b->dispatcher, link->peer, n_parts, zmq_msg_data(&b->name), zmq_msg_size(&b->name),
                        n_parts > 1 ? zmq_msg_data(&b->data) : NULL, n_parts > 1 ? zmq_msg_size(&b->data) : 0,
                        now);
}

/* Serves LINK within its share of a round. */
static int serve(struct wv_bus_link *link, uint64_t now)
{
    if (!readable(link))
        return 0;
    for (int i = 0; i < ROUND_MESSAGES; i++) {
        int r = receive_message(link, now);
        if (r == -EAGAIN)
            break;
        if (r < 0)
            return r;
    }
    link->check = true; /* whatever ended the loop, ZMQ_EVENTS has the last word */
    return 0;
}

static bool on_prepare(void *userdata, uint64_t now)
{
    struct wv_bus *b = userdata;
    for (size_t i = 0; i < b->n_links; i++) {
        if (!b->links[i].check)
            continue;
        int r = serve(&b->links[i], now);
        if (r < 0) {
            wv_loop_quit(b->loop, r);
            return false;
        }
    }
    for (size_t i = 0; i < b->n_links; i++)
        if (b->links[i].check)
            return true;
    return false;
}

int wv_bus_new(struct wv_bus **ret, struct wv_loop *loop, const struct wv_bus_rule *rules, size_t n_rules,
               void *userdata)
{
    struct wv_bus *b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->loop = loop;
    zmq_msg_init(&b->name);
    zmq_msg_init(&b->data);
    int r = bus_dispatcher_new(&b->dispatcher, rules, n_rules, userdata);
    if (r >= 0)
        r = wv_loop_add_prepare(loop, on_prepare, b, &b->prepare);
    if (r >= 0) {
        b->context = zmq_ctx_new();
        if (!b->context || zmq_ctx_set(b->context, ZMQ_IO_THREADS, 1) < 0 ||
            zmq_ctx_set(b->context, ZMQ_MAX_SOCKETS, LINKS_MAX) < 0 ||
            zmq_ctx_set(b->context, ZMQ_BLOCKY, 0) < 0)
            r = -errno;
    }
    if (r < 0) {
        wv_bus_free(b);
        return r;
    }
    *ret = b;
    return 0;
}

struct wv_bus *wv_bus_free(struct wv_bus *b)
{
    if (!b)
        return NULL;
    for (size_t i = 0; i < b->n_links; i++) {
        wv_loop_remove(b->links[i].source);
        zmq_close(b->links[i].socket);
    }
    wv_loop_remove(b->prepare);
    zmq_msg_close(&b->name);
    zmq_msg_close(&b->data);
    if (b->context)
        zmq_ctx_term(b->context);
    bus_dispatcher_free(b->dispatcher);
    free(b->packed);
    free(b);
    return NULL;
}

static int set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(void *socket, size_t max_bytes)
{
    static const int options[][2] = {
        {ZMQ_LINGER, 0},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_SNDHWM, QUEUE_MESSAGES},
        {ZMQ_RCVHWM, QUEUE_MESSAGES},
        {ZMQ_RECONNECT_IVL, RECONNECT_MIN_MS},
        {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(options); i++) {
        int r = set_int(socket, options[i][0], options[i][1]);
        if (r < 0)
            return r;
    }
    int64_t limit = (int64_t)WV_MAX(max_bytes, (size_t)BUS_NAME_MAX);
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &limit, sizeof(limit)) < 0 ? -errno : 0;
}

/* Binds with the socket file open to owner and group. A file that a killed predecessor left is replaced. */
static int bind_socket(void *socket, const char *path, const char *endpoint)
{
    struct stat st;
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return -EEXIST;
        if (unlink(path) < 0)
            return -errno;
    }
    mode_t mask = umask(S_IXUSR | S_IXGRP | S_IRWXO);
    int r = zmq_bind(socket, endpoint) < 0 ? -errno : 0;
    umask(mask);
    return r;
}

static int open_socket(struct wv_bus_link *link, const char *path, bool bind)
{
    char endpoint[sizeof("ipc://") + PATH_MAX_BYTES];
    memcpy(endpoint, "ipc://", 6);
    memcpy(endpoint + 6, path, strlen(path) + 1);
    link->socket = zmq_socket(link->bus->context, ZMQ_DEALER);
    if (!link->socket)
        return -errno;
    int r = set_options(link->socket, bus_dispatcher_max_bytes(link->bus->dispatcher, link->peer));
    if (r >= 0)
        r = bind ? bind_socket(link->socket, path, endpoint)
                 : (zmq_connect(link->socket, endpoint) < 0 ? -errno : 0);
    int fd = -1;
    size_t len = sizeof(fd);
    if (r >= 0 && zmq_getsockopt(link->socket, ZMQ_FD, &fd, &len) < 0)
        r = -errno;
    if (r >= 0)
        r = wv_loop_add_fd(link->bus->loop, fd, EPOLLIN, on_descriptor, link, &link->source);
    if (r < 0)
        zmq_close(link->socket);
    return r;
}

int wv_bus_add_link(struct wv_bus *b, const char *peer, const char *path, bool bind,
                    struct wv_bus_link **ret_link)
{
    if (b->n_links == LINKS_MAX)
        return -ENOSPC;
    if (strlen(peer) >= sizeof(b->links[0].peer))
        return -EINVAL;
    if (strlen(path) > PATH_MAX_BYTES)
        return -ENAMETOOLONG;
    if (path[0] != '/' || wv_bus_link(b, peer))
        return -EINVAL;
    struct wv_bus_link *link = &b->links[b->n_links];
    memset(link, 0, sizeof(*link));
    link->bus = b;
    memcpy(link->peer, peer, strlen(peer) + 1);
    link->check = true;
    int r = open_socket(link, path, bind);
    if (r < 0)
        return r;
    b->n_links++;
    wv_loop_again(b->loop);
    if (ret_link)
        *ret_link = link;
    return 0;
}

struct wv_bus_link *wv_bus_link(struct wv_bus *b, const char *peer)
{
    for (size_t i = 0; i < b->n_links; i++)
        if (strcmp(b->links[i].peer, peer) == 0)
            return &b->links[i];
    return NULL;
}

void wv_bus_set_phase(struct wv_bus *b, enum wv_bus_phase phase)
{
    bus_dispatcher_set_phase(b->dispatcher, phase);
}

static int reserve(struct wv_bus *b, size_t bytes)
{
    if (bytes <= b->packed_bytes)
        return 0;
    size_t capacity = WV_MAX(bytes, (size_t)4096);
    uint8_t *memory = realloc(b->packed, capacity);
    if (!memory)
        return -ENOMEM;
    b->packed = memory;
    b->packed_bytes = capacity;
    return 0;
}

static int send_part(void *socket, const void *data, size_t len, int flags)
{
    int n;
    do
        n = zmq_send(socket, data, len, ZMQ_DONTWAIT | flags);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int wv_bus_send(struct wv_bus_link *link, const ProtobufCMessage *message)
{
    if (!link)
        return WV_BUS_UNSENT;
    struct wv_bus *b = link->bus;
    struct wv_bus_stats *stats = bus_dispatcher_stats(b->dispatcher);
    size_t len = protobuf_c_message_get_packed_size(message);
    if (reserve(b, len) < 0) {
        stats->dropped_unsent++;
        return WV_BUS_UNSENT;
    }
    protobuf_c_message_pack(message, b->packed);
    const char *name = message->descriptor->name;
    int r = send_part(link->socket, name, strlen(name), ZMQ_SNDMORE);
    if (r == 0) /* goes where the first part went, without waiting */
        r = send_part(link->socket, b->packed, len, 0);
    /* Sending takes in what the I/O thread had to say, and with it the descriptor's signal. */
    link->check = true;
    wv_loop_again(b->loop);
    if (r < 0) {
        stats->dropped_unsent++;
        return WV_BUS_UNSENT;
    }
    stats->sent++;
    return 0;
}

void wv_bus_get_stats(const struct wv_bus *b, struct wv_bus_stats *ret)
{
    *ret = *bus_dispatcher_stats(b->dispatcher);
}
