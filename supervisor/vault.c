#include "supervisor/vault.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/ipc/au_ring.h"
#include "lib/ipc/input_page.h"
#include "lib/ipc/memfd.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/ring.h"
#include "lib/ipc/session_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#define PID_PREFIX "pid-"

static int find_item(const char *name)
{
    for (size_t i = 0; i < wv_vault_n_items; i++)
        if (!strcmp(wv_vault_items[i].name, name))
            return (int)i;
    return -1;
}

int wv_vault_fd(const struct wv_vault *v, const char *item)
{
    int i = find_item(item);
    return i < 0 ? -1 : v->fds[i];
}

/* FDPOLL=0: a socket that reports an error is still the one that clients talk to. */
static void park(const char *name, int fd)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    (void)sd_pid_notify_with_fds(0, 0, text, &fd, 1);
}

static void forget(const char *name)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    (void)sd_notify(0, text);
}

void wv_vault_park_pid(const char *stage, int pidfd)
{
    char name[64];
    snprintf(name, sizeof name, PID_PREFIX "%s", stage);
    park(name, pidfd);
}

void wv_vault_forget_pid(const char *stage)
{
    char name[64];
    snprintf(name, sizeof name, PID_PREFIX "%s", stage);
    forget(name);
}

pid_t wv_pidfd_pid(int pidfd)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    wv_cleanup(wv_close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return -1;
    text[n] = 0;
    const char *line = strstr(text, "\nPid:");
    int pid = -1;
    return line && sscanf(line + 5, "%d", &pid) == 1 && pid > 0 ? pid : -1;
}

static bool is_sealed_memory(int fd, off_t bytes)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 && st.st_size > 0 &&
           (!bytes || st.st_size == bytes);
}

static bool links_to(int fd, const char *wanted)
{
    char path[64], link[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n < 0)
        return false;
    link[n] = 0;
    return !strcmp(link, wanted);
}

/* What came back from the fd store is foreign: it is used only as what it can be shown to be. */
static bool fits(struct wv_vault *v, const struct wv_vault_item *item, int fd)
{
    switch (item->kind) {
    case WV_VAULT_EVENT:
        return links_to(fd, "anon_inode:[eventfd]");
    case WV_VAULT_UDP:
        return wv_udp_describe(fd, v->address, sizeof v->address) == 0;
    case WV_VAULT_UINPUT: {
        struct stat st;
        return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode);
    }
    case WV_VAULT_METRICS:
        return is_sealed_memory(fd, WV_METRICS_PAGE_BYTES);
    case WV_VAULT_SESSION_VAULT:
        return is_sealed_memory(fd, WV_SESSION_VAULT_BYTES);
    case WV_VAULT_IDENTITY_PAGE:
        return is_sealed_memory(fd, WV_IDENTITY_PAGE_BYTES);
    default:
        return is_sealed_memory(fd, 0);
    }
}

static void take_pidfd(struct wv_vault *v, const char *stage, int fd)
{
    int i = wv_wiring_find(stage);
    pid_t pid = i < 0 ? -1 : wv_pidfd_pid(fd);
    if (pid <= 0 || v->pidfds[i] >= 0) {
        wv_close(fd);
        if (i >= 0 && pid <= 0)
            wv_vault_forget_pid(stage);
        return;
    }
    v->pidfds[i] = fd;
    v->pids[i] = pid;
}

/* The place of a descriptor called NAME. A socket unit gives all that it opens one name: the second and third
 * "uinput" are the next devices. */
static int place_of(const struct wv_vault *v, const char *name)
{
    int i = find_item(name);
    if (i < 0 || wv_vault_items[i].kind != WV_VAULT_UINPUT)
        return i;
    while (v->fds[i] >= 0 && (size_t)i + 1 < wv_vault_n_items &&
           wv_vault_items[i + 1].kind == WV_VAULT_UINPUT)
        i++;
    return i;
}

static void take_kept(struct wv_vault *v)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    for (int k = 0; k < n; k++) {
        int fd = SD_LISTEN_FDS_START + k, i = place_of(v, names[k]);
        if (!strncmp(names[k], PID_PREFIX, strlen(PID_PREFIX))) {
            take_pidfd(v, names[k] + strlen(PID_PREFIX), fd);
        } else if (i >= 0 && v->fds[i] < 0 && fits(v, &wv_vault_items[i], fd)) {
            v->fds[i] = fd;
        } else {
            wv_warning("a kept descriptor is not what its name says; left out", "name=%s", names[k]);
            wv_close(fd);
            if (i < 0) /* of another version: else it would come back, and take up room, for ever */
                forget(names[k]);
        }
        free(names[k]);
    }
    free(names);
}

static int make_pair(struct wv_vault *v, size_t i)
{
    int a = -1, b = -1;
    int r = wv_vault_items[i].kind == WV_VAULT_RAW_RING
                ? wv_ring_create(WV_RING_MAX_WIDTH, WV_RING_MAX_HEIGHT, &a, &b)
                : wv_au_ring_create(&a, &b);
    if (r < 0)
        return r;
    wv_close(v->fds[i]);
    wv_close(v->fds[i + 1]);
    v->fds[i] = a;
    v->fds[i + 1] = b;
    return 0;
}

static int make_item(struct wv_vault *v, size_t i, const struct wv_vault_plan *plan)
{
    int fd = -1, r = 0;
    switch (wv_vault_items[i].kind) {
    case WV_VAULT_RAW_RING:
    case WV_VAULT_AU_RING:
        return make_pair(v, i);
    case WV_VAULT_RAW_READER:
    case WV_VAULT_AU_READER:
        return make_pair(v, i - 1); /* half a ring is none */
    case WV_VAULT_EVENT:
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = fd < 0 ? -errno : 0;
        break;
    case WV_VAULT_INPUT_PAGE:
        r = wv_input_page_create(&fd);
        break;
    case WV_VAULT_SESSION_PAGE:
        r = wv_session_page_create(&fd);
        break;
    case WV_VAULT_SESSION_VAULT:
        r = wv_memfd_create("wavry-session-vault", WV_SESSION_VAULT_BYTES, &fd);
        break;
    case WV_VAULT_IDENTITY_PAGE:
        r = wv_memfd_create("wavry-identity-page", WV_IDENTITY_PAGE_BYTES, &fd);
        break;
    case WV_VAULT_METRICS:
        r = wv_metrics_create_page(&fd);
        break;
    case WV_VAULT_UDP:
        if (plan->socket_given) {
            wv_error("systemd handed over no UDP socket: start wavry-supervisor.socket, or the whole "
                     "wavry-host.target",
                     "name=%s", wv_vault_items[i].name);
            return -ENOTCONN;
        }
        fd = wv_udp_bind(plan->listen, plan->port, v->address, sizeof v->address);
        r = fd < 0 ? fd : 0;
        break;
    case WV_VAULT_UINPUT:
        fd = open("/dev/uinput", O_RDWR | O_NONBLOCK | O_CLOEXEC); /* many machines have none */
        break;
    }
    v->fds[i] = r < 0 ? -1 : fd;
    return r;
}

/* Only the writer's user may open the memory for writing: a reader can't get round its read-only descriptor
 * by way of /proc. */
static int give_to_writer(int fd, const struct wv_vault_item *item, const struct wv_vault_plan *plan)
{
    int stage = item->writer ? wv_wiring_find(item->writer) : -1;
    if (fchmod(fd, 0600) < 0)
        return -errno;
    if (stage < 0 || !plan->uids)
        return 0;
    return fchown(fd, plan->uids[stage], plan->gids[stage]) < 0 ? -errno : 0;
}

static bool is_memory(enum wv_vault_kind kind)
{
    return kind != WV_VAULT_EVENT && kind != WV_VAULT_UDP && kind != WV_VAULT_UINPUT;
}

static int make_missing(struct wv_vault *v, const struct wv_vault_plan *plan, bool *made)
{
    for (size_t i = 0; i < wv_vault_n_items; i++) {
        if (v->fds[i] >= 0)
            continue;
        int r = make_item(v, i, plan);
        if (r < 0) {
            wv_error("a shared descriptor can't be made", "name=%s error=\"%s\"", wv_vault_items[i].name,
                     strerror(-r));
            return r;
        }
        made[i] = v->fds[i] >= 0;
        if (wv_vault_items[i].kind == WV_VAULT_RAW_READER || wv_vault_items[i].kind == WV_VAULT_AU_READER)
            made[i - 1] = true;
        if (wv_vault_items[i].kind == WV_VAULT_RAW_RING || wv_vault_items[i].kind == WV_VAULT_AU_RING)
            made[i + 1] = true;
    }
    return 0;
}

static void note_stale(struct wv_vault *v, const char *item)
{
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        for (const struct wv_wiring_fd *f = wv_wiring_stages[i].fds; f->name; f++)
            v->stale[i] = v->stale[i] || !strcmp(f->item, item);
}

int wv_vault_open(struct wv_vault *v, const struct wv_vault_plan *plan)
{
    bool made[WV_VAULT_MAX] = {false};
    *v = (struct wv_vault){.address = ""};
    for (size_t i = 0; i < WV_VAULT_MAX; i++)
        v->fds[i] = -1;
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        v->pidfds[i] = -1;
    take_kept(v);
    int r = make_missing(v, plan, made);
    for (size_t i = 0; r == 0 && i < wv_vault_n_items; i++) {
        if (!made[i])
            continue;
        if (wv_vault_items[i].kind != WV_VAULT_UINPUT)
            note_stale(v, wv_vault_items[i].name);
        if (is_memory(wv_vault_items[i].kind))
            r = give_to_writer(v->fds[i], &wv_vault_items[i], plan);
        forget(wv_vault_items[i].name);
        park(wv_vault_items[i].name, v->fds[i]);
    }
    if (r < 0)
        wv_vault_close(v);
    return r;
}

void wv_vault_close(struct wv_vault *v)
{
    for (size_t i = 0; i < WV_VAULT_MAX; i++)
        v->fds[i] = wv_close(v->fds[i]);
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        v->pidfds[i] = wv_close(v->pidfds[i]);
}
