/* The conversation with a host: one request, one answer, over the supervisor's control socket. Never waits
 * for ever. */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "lib/base/util.h"
#include "lib/ipc/fdpass.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#define ANSWER_MS    10000
#define PLACES       3
#define SYSTEM_PLACE "/run/wavry/control.sock"

struct places {
    char paths[PLACES][256];
    size_t n;
};

static void add_place(struct places *p, const char *folder, const char *rest)
{
    int n = snprintf(p->paths[p->n], sizeof(p->paths[0]), "%s/%s", folder, rest);
    if (n > 0 && (size_t)n < sizeof(p->paths[0]))
        p->n++;
}

/* The places where a host of ours would listen, the likeliest first. */
static void default_places(struct places *p)
{
    const char *runtime = getenv("WAVRY_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
    p->n = 0;
    if (runtime && *runtime) {
        add_place(p, runtime, "control.sock");
        return;
    }
    if (getuid() != 0) {
        char own[64];
        snprintf(own, sizeof(own), "/tmp/wavry-%u", (unsigned)getuid());
        if (xdg && *xdg == '/')
            add_place(p, xdg, "wavry/control.sock");
        add_place(p, own, "control.sock"); /* also of a host that was started without a login session */
    }
    add_place(p, "/run/wavry", "control.sock");
}

/* Anybody may make /tmp/wavry-UID before we do: who listens there must be us or root. */
static int check_listener(int fd, const char *path)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -errno;
    bool ours = peer.uid == getuid() || peer.uid == 0;
    return ours || strcmp(path, SYSTEM_PLACE) == 0 ? 0 : -EPERM;
}

/* Returns the connected socket or a negative errno: that of the first place, which is where a host should be.
 */
static int connect_host(struct wv_ctl *c)
{
    struct places places;
    if (c->socket) {
        snprintf(c->place, sizeof(c->place), "%s", c->socket);
        return wv_seqpacket_connect(c->socket);
    }
    default_places(&places);
    int first = -ENOENT;
    for (size_t i = 0; i < places.n; i++) {
        int fd = wv_seqpacket_connect(places.paths[i]);
        int r = fd < 0 ? fd : check_listener(fd, places.paths[i]);
        if (r == 0 || (r != -ENOENT && r != -ECONNREFUSED) || i == 0)
            snprintf(c->place, sizeof(c->place), "%.255s", places.paths[i]);
        if (r == 0)
            return fd;
        if (fd >= 0)
            wv_close(fd);
        if (r != -ENOENT && r != -ECONNREFUSED)
            return r;
        if (i == 0)
            first = r;
    }
    return first;
}

const char *wv_ctl_place(struct wv_ctl *c)
{
    if (!c->place[0]) {
        int fd = connect_host(c);
        if (fd >= 0)
            wv_close(fd);
    }
    return c->place;
}

bool wv_ctl_reachable(struct wv_ctl *c)
{
    int fd = connect_host(c);
    if (fd < 0)
        return false;
    wv_close(fd);
    return true;
}

static unsigned patience_ms(const struct wv_ctl *c)
{
    return c->answer_ms ? c->answer_ms : ANSWER_MS;
}

static int complain(struct wv_ctl *c, int r)
{
    switch (r) {
    case -ENOENT:
    case -ECONNREFUSED:
    case -ENOTDIR:
        fprintf(c->err,
                "wavryctl: no host is running here (no answer on %s): start one with "
                "'wavry-supervisor --standalone'\n",
                c->place);
        return EX_UNAVAILABLE;
    case -EACCES:
    case -EPERM:
    case -ECONNRESET:
    case -EPIPE:
        fprintf(c->err,
                "wavryctl: the host at %s does not talk to user %u: run wavryctl as the user who started it, "
                "or as "
                "root\n",
                c->place, (unsigned)getuid());
        return EX_NOPERM;
    case -ENAMETOOLONG:
    case -EINVAL:
        fprintf(c->err,
                "wavryctl: \"%s\" can't be the path of a socket: it is empty or longer than 107 bytes\n",
                c->place);
        return EX_USAGE;
    case -ETIMEDOUT:
    case -EAGAIN:
        fprintf(
            c->err,
            "wavryctl: the host at %s did not answer within %u ms: its supervisor is stopped or overloaded\n",
            c->place, patience_ms(c));
        return EX_TEMPFAIL;
    default:
        fprintf(c->err, "wavryctl: the conversation with the host at %s failed: %s\n", c->place,
                strerror(-r));
        return r == -EBADMSG ? EX_PROTOCOL : EX_IOERR;
    }
}

static int wait_for(const struct wv_ctl *c, int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    uint64_t end = wv_now_ns() + patience_ms(c) * WV_NS_PER_MS;
    for (;;) {
        uint64_t now = wv_now_ns();
        int r = now >= end ? 0 : poll(&p, 1, (int)((end - now) / WV_NS_PER_MS) + 1);
        if (r > 0)
            return 0;
        if (r == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int send_request(const struct wv_ctl *c, int fd, const char *verb, const char *argument)
{
    Wavry__Bus__ControlRequest request = WAVRY__BUS__CONTROL_REQUEST__INIT;
    request.verb = (char *)(uintptr_t)verb;
    request.argument = (char *)(uintptr_t)(argument ? argument : "");
    size_t len = wavry__bus__control_request__get_packed_size(&request);
    uint8_t *packed = malloc(len);
    if (!packed)
        return -ENOMEM;
    wavry__bus__control_request__pack(&request, packed);
    int r = wait_for(c, fd, POLLOUT);
    if (r == 0)
        r = wv_fdpass_send(fd, packed, len, NULL, 0);
    free(packed);
    return r;
}

static int receive_reply(const struct wv_ctl *c, int fd, Wavry__Bus__ControlReply **ret,
                         int fds[WV_FDPASS_MAX_FDS], size_t *ret_n_fds)
{
    size_t len, n_fds;
    wv_cleanup(wv_free_p) uint8_t *packed = malloc(WV_FDPASS_MAX_BYTES);
    if (!packed)
        return -ENOMEM;
    int r = wait_for(c, fd, POLLIN);
    if (r == 0)
        r = wv_fdpass_receive(fd, packed, WV_FDPASS_MAX_BYTES, &len, fds, &n_fds);
    if (r < 0)
        return r;
    if (len == 0)
        return -ECONNRESET; /* hung up on us without a word: we may not ask */
    *ret = wavry__bus__control_reply__unpack(NULL, len, packed);
    if (!*ret || (*ret)->n_fd_names > n_fds) {
        *ret = wv_ctl_reply_free(*ret);
        for (size_t i = 0; i < n_fds; i++)
            wv_close(fds[i]);
        return -EBADMSG;
    }
    *ret_n_fds = n_fds;
    return 0;
}

int wv_ctl_ask(struct wv_ctl *c, const char *verb, const char *argument, Wavry__Bus__ControlReply **ret,
               int *ret_fds, size_t *ret_n_fds)
{
    int fds[WV_FDPASS_MAX_FDS];
    size_t n_fds = 0;
    Wavry__Bus__ControlReply *reply = NULL;
    int fd = connect_host(c);
    int r = fd < 0 ? fd : send_request(c, fd, verb, argument);
    if (r == 0)
        r = receive_reply(c, fd, &reply, fds, &n_fds);
    if (fd >= 0)
        wv_close(fd);
    if (r < 0)
        return complain(c, r);
    if (ret_fds) {
        memcpy(ret_fds, fds, n_fds * sizeof(fds[0]));
        *ret_n_fds = n_fds;
    } else {
        for (size_t i = 0; i < n_fds; i++)
            wv_close(fds[i]);
    }
    *ret = reply;
    return 0;
}

Wavry__Bus__ControlReply *wv_ctl_reply_free(Wavry__Bus__ControlReply *reply)
{
    if (reply)
        wavry__bus__control_reply__free_unpacked(reply, NULL);
    return NULL;
}

static int exit_code(int error)
{
    switch (error) {
    case -EINVAL:
    case -ENOENT:
    case -EMSGSIZE:
        return EX_DATAERR;
    case -EPERM:
    case -EACCES:
        return EX_NOPERM;
    case -EBUSY:
    case -ETIMEDOUT:
    case -EAGAIN:
        return EX_TEMPFAIL;
    case -EOPNOTSUPP:
        return EX_PROTOCOL;
    default:
        return EX_UNAVAILABLE;
    }
}

int wv_ctl_ask_well(struct wv_ctl *c, const char *verb, const char *argument, Wavry__Bus__ControlReply **ret)
{
    Wavry__Bus__ControlReply *reply;
    int r = wv_ctl_ask(c, verb, argument, &reply, NULL, NULL);
    if (r != 0)
        return r;
    if (reply->error == 0) {
        *ret = reply;
        return 0;
    }
    int error = reply->error;
    fputs("wavryctl: ", c->err);
    wv_format_text(c->err, reply->text[0] ? reply->text : strerror(error < 0 && error > -4096 ? -error : EIO),
                   false);
    fputc('\n', c->err);
    wv_ctl_reply_free(reply);
    return exit_code(error);
}

int wv_ctl_order(struct wv_ctl *c, const char *verb, const char *argument)
{
    Wavry__Bus__ControlReply *reply;
    int r = wv_ctl_ask_well(c, verb, argument, &reply);
    if (r != 0)
        return r;
    wv_format_text(c->out, reply->text[0] ? reply->text : "done", true);
    if (!reply->text[0] || reply->text[strlen(reply->text) - 1] != '\n')
        fputc('\n', c->out);
    wv_ctl_reply_free(reply);
    return EX_OK;
}
