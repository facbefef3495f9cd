#include "services/capture/x11_segment.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

/* Whether the server took the request. */
static bool accepted(xcb_connection_t *c, xcb_void_cookie_t cookie)
{
    xcb_generic_error_t *error = xcb_request_check(c, cookie);

    free(error);
    return !error && !xcb_connection_has_error(c);
}

static unsigned shm_transports(xcb_connection_t *c)
{
    const xcb_query_extension_reply_t *extension = xcb_get_extension_data(c, &xcb_shm_id);
    xcb_shm_query_version_reply_t *version;
    unsigned transports = WV_X11_PLAIN;

    if (!extension || !extension->present)
        return transports;
    version = xcb_shm_query_version_reply(c, xcb_shm_query_version(c), NULL);
    if (!version)
        return transports;
    transports |= WV_X11_SHM_SYSV;
    if (version->major_version > 1 || (version->major_version == 1 && version->minor_version >= 2))
        transports |= WV_X11_SHM_FD;
    free(version);
    return transports;
}

static bool attach_fd(struct wv_x11_segment *s, xcb_connection_t *c)
{
    wv_cleanup(wv_close_p) int fd = memfd_create("wavry-display", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int theirs;

    if (fd < 0 || ftruncate(fd, (off_t)s->bytes) < 0)
        return false;
    /* A server that shrinks it would kill us with SIGBUS. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return false;
    s->memory = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s->memory == MAP_FAILED)
        return false;
    theirs = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    s->id = xcb_generate_id(c);
    /* The descriptor is closed by XCB once sent. */
    if (theirs >= 0 && accepted(c, xcb_shm_attach_fd_checked(c, s->id, theirs, 0)))
        return true;
    munmap(s->memory, s->bytes);
    return false;
}

static bool attach_sysv(struct wv_x11_segment *s, xcb_connection_t *c)
{
    int id = shmget(IPC_PRIVATE, s->bytes, IPC_CREAT | 0600);
    bool ok = false;

    if (id < 0)
        return false;
    s->memory = shmat(id, NULL, 0);
    if (s->memory != (void *)-1) {
        s->id = xcb_generate_id(c);
        ok = accepted(c, xcb_shm_attach_checked(c, s->id, (uint32_t)id, 0));
        if (!ok)
            shmdt(s->memory);
    }
    /* It lives on until both sides have let go. */
    shmctl(id, IPC_RMID, NULL);
    return ok;
}

static bool private_memory(struct wv_x11_segment *s)
{
    s->id = 0;
    s->memory = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return s->memory != MAP_FAILED;
}

int wv_x11_segment_new(struct wv_x11_segment *ret, xcb_connection_t *c, size_t bytes, unsigned transports)
{
    struct wv_x11_segment s = {.bytes = bytes};

    transports &= shm_transports(c);
    if (transports & WV_X11_SHM_FD && attach_fd(&s, c))
        s.transport = WV_X11_SHM_FD;
    else if (transports & WV_X11_SHM_SYSV && attach_sysv(&s, c))
        s.transport = WV_X11_SHM_SYSV;
    else if (xcb_connection_has_error(c) || !(transports & WV_X11_PLAIN))
        return WV_SOURCE_LOST;
    else if (private_memory(&s))
        s.transport = WV_X11_PLAIN;
    else
        return -ENOMEM;
    *ret = s;
    return 0;
}

void wv_x11_segment_fini(struct wv_x11_segment *s, xcb_connection_t *c)
{
    if (!s->transport)
        return;
    if (s->id && c && !xcb_connection_has_error(c))
        xcb_shm_detach(c, s->id);
    if (s->transport == WV_X11_SHM_SYSV)
        shmdt(s->memory);
    else
        munmap(s->memory, s->bytes);
    *s = (struct wv_x11_segment){0};
}
