#include "supervisor/places.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

void wv_places_path(const struct wv_places *p, const char *name, char *ret, size_t capacity)
{
    snprintf(ret, capacity, "%s/%s", p->runtime, name);
}

void wv_places_link_path(const struct wv_places *p, const struct wv_wiring_link *link, char *ret,
                         size_t capacity)
{
    snprintf(ret, capacity, "%s/bus/%s-%s/s", p->runtime, link->binder, link->connector);
}

void wv_places_home(const struct wv_places *p, size_t stage, char *ret, size_t capacity)
{
    snprintf(ret, capacity, "%s/home/%s", p->runtime, wv_wiring_stages[stage].name);
}

void wv_places_state(const struct wv_places *p, size_t stage, char *ret, size_t capacity)
{
    snprintf(ret, capacity, "%s/%s", p->state, wv_wiring_stages[stage].name);
}

static int complain(int error, const char *what, const char *path)
{
    wv_error(what, "path=%s error=\"%s\"", path, strerror(-error));
    return error;
}

/* Makes the folders of PATH that are missing; the last one gets MODE. */
static int make_path(const char *path, mode_t mode, bool *ret_created)
{
    char part[512];
    int n = snprintf(part, sizeof part, "%s", path);
    if (n < 0 || (size_t)n >= sizeof part)
        return -ENAMETOOLONG;
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    *ret_created = mkdir(path, mode) == 0;
    return *ret_created || errno == EEXIST ? 0 : -errno;
}

/* Somebody else's folder in /tmp would hand them our sockets. */
static int check_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (st.st_uid != getuid() && st.st_uid != 0)
        return -EPERM;
    return st.st_mode & S_IWOTH && !(st.st_mode & S_ISVTX) ? -EPERM : 0;
}

static int absolute(const char *path, char *ret, size_t capacity)
{
    char cwd[512] = "";
    if (*path != '/' && !getcwd(cwd, sizeof cwd))
        return -errno;
    int n = snprintf(ret, capacity, "%s%s%s", cwd, *path == '/' ? "" : "/", path);
    if (n < 0 || (size_t)n >= capacity)
        return -ENAMETOOLONG;
    while (n > 1 && ret[n - 1] == '/')
        ret[--n] = 0;
    return 0;
}

static int default_runtime(char *ret, size_t capacity)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int n;
    if (getuid() == 0)
        n = snprintf(ret, capacity, "/run/wavry");
    else if (xdg && *xdg == '/')
        n = snprintf(ret, capacity, "%s/wavry", xdg);
    else
        n = snprintf(ret, capacity, "/tmp/wavry-%u", (unsigned)getuid());
    return (size_t)n < capacity ? 0 : -ENAMETOOLONG;
}

static int default_state(char *ret, size_t capacity)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (getuid() == 0)
        n = snprintf(ret, capacity, "/var/lib/wavry");
    else if (xdg && *xdg == '/')
        n = snprintf(ret, capacity, "%s/wavry", xdg);
    else
        n = snprintf(ret, capacity, "%s/.local/state/wavry", home && *home == '/' ? home : "/nonexistent");
    return (size_t)n < capacity ? 0 : -ENAMETOOLONG;
}

int wv_places_init(struct wv_places *p, const char *runtime, const char *state, bool *ret_created)
{
    *p = (struct wv_places){.separate = false};
    int r = runtime ? absolute(runtime, p->runtime, sizeof p->runtime)
                    : default_runtime(p->runtime, sizeof p->runtime);
    if (r < 0)
        return complain(r,
                        "the runtime folder's name is too long for socket paths: use a shorter --runtime-dir",
                        runtime ? runtime : "$XDG_RUNTIME_DIR/wavry");
    r = state ? absolute(state, p->state, sizeof p->state) : default_state(p->state, sizeof p->state);
    if (r < 0)
        return complain(r, "the state folder's name is too long: use another --state-dir",
                        state ? state : "$HOME");
    r = make_path(p->runtime, getuid() == 0 ? 0755 : 0700, ret_created);
    if (r < 0)
        return complain(r, "the runtime folder can't be made: choose another with --runtime-dir", p->runtime);
    r = check_folder(p->runtime);
    if (r < 0)
        return complain(r,
                        "the runtime folder belongs to somebody else or is open to all: choose another with "
                        "--runtime-dir",
                        p->runtime);
    return 0;
}

/* A container may have no such users: then the kernel refuses the ids. */
static bool can_own(const char *folder, uid_t uid, gid_t gid)
{
    char path[128];
    snprintf(path, sizeof path, "%s/.owner-check", folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && fchown(fd, uid, gid) == 0;
    wv_close(fd);
    unlink(path);
    return ok;
}

void wv_places_choose_users(struct wv_places *p, uint32_t uid_base)
{
    p->separate = getuid() == 0;
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        const struct passwd *user = p->separate ? getpwnam(wv_wiring_stages[i].user) : NULL;
        p->named[i] = user != NULL;
        p->uids[i] = !p->separate ? getuid() : user ? user->pw_uid : uid_base + (uid_t)i;
        p->gids[i] = !p->separate ? getgid() : user ? user->pw_gid : uid_base + (gid_t)i;
        if (p->separate && !can_own(p->runtime, p->uids[i], p->gids[i])) {
            wv_warning(
                "stages can't have users of their own here (ids not mapped into this container?); they run "
                "as root without privileges",
                "uid=%u", (unsigned)p->uids[i]);
            p->separate = false;
            for (size_t k = 0; k < WV_WIRING_STAGES; k++) {
                p->uids[k] = getuid();
                p->gids[k] = getgid();
                p->named[k] = false;
            }
            return;
        }
    }
    if (p->separate && !p->named[0])
        wv_notice("no wavry-* users on this machine; stages run under numbers of their own", "first_uid=%u",
                  (unsigned)uid_base);
}

int wv_places_find_users(struct wv_places *p, bool system)
{
    p->separate = system;
    for (size_t i = 0; i < WV_WIRING_STAGES; i++) {
        const struct passwd *user = system ? getpwnam(wv_wiring_stages[i].user) : NULL;
        if (system && !user) {
            wv_error("a stage's user is missing: run systemd-sysusers", "user=%s", wv_wiring_stages[i].user);
            return -ENOENT;
        }
        p->named[i] = user != NULL;
        p->uids[i] = user ? user->pw_uid : getuid();
        p->gids[i] = user ? user->pw_gid : getgid();
    }
    return 0;
}

int wv_places_check(const struct wv_places *p)
{
    for (size_t i = 0; i < wv_wiring_n_links; i++) {
        const struct wv_wiring_link *link = &wv_wiring_links[i];
        char path[160];
        struct stat st;
        wv_places_link_path(p, link, path, sizeof path);
        *strrchr(path, '/') = 0;
        int r = lstat(path, &st) < 0 ? -errno : 0;
        if (r == 0 && (!S_ISDIR(st.st_mode) || (st.st_mode & 07777) != 02750 ||
                       st.st_uid != p->uids[wv_wiring_find(link->binder)] ||
                       st.st_gid != p->gids[wv_wiring_find(link->connector)]))
            r = -EPERM;
        if (r < 0) {
            wv_error("a bus folder is not as it has to be: run systemd-tmpfiles --create wavry.conf",
                     "path=%s error=\"%s\"", path, strerror(-r));
            return r;
        }
    }
    return 0;
}

static int make_owned(const struct wv_places *p, const char *path, size_t owner, size_t group, mode_t mode)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return complain(-errno, "a folder can't be made", path);
    wv_cleanup(wv_close_p) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return complain(-errno, "a folder can't be opened", path);
    if (p->separate && fchown(fd, p->uids[owner], p->gids[group]) < 0)
        return complain(-errno, "a folder can't be given to its stage", path);
    return fchmod(fd, mode) < 0 ? complain(-errno, "a folder's mode can't be set", path) : 0;
}

static int make_plain(const struct wv_places *p, const char *name)
{
    char path[128];
    wv_places_path(p, name, path, sizeof path);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return complain(-errno, "a folder can't be made", path);
    return chmod(path, p->separate ? 0755 : 0700) < 0 ? -errno : 0;
}

/* The binder owns the folder, the connector's group may pass: the two ends of a link and nobody else. The
 * setgid bit gives the socket in it the connector's group. */
static int make_link_folder(const struct wv_places *p, const struct wv_wiring_link *link)
{
    char path[160];
    wv_places_link_path(p, link, path, sizeof path);
    *strrchr(path, '/') = 0;
    int binder = wv_wiring_find(link->binder), connector = wv_wiring_find(link->connector);
    return make_owned(p, path, (size_t)binder, (size_t)connector, p->separate ? 02750 : 0700);
}

static int make_state(const struct wv_places *p, size_t stage)
{
    char path[640];
    bool created;
    int r = make_path(p->state, 0755, &created);
    if (r < 0)
        return complain(r, "the state folder can't be made: choose another with --state-dir", p->state);
    wv_places_state(p, stage, path, sizeof path);
    return make_owned(p, path, stage, stage, 0700);
}

int wv_places_make(const struct wv_places *p)
{
    int r = make_plain(p, "bus");
    if (r == 0)
        r = make_plain(p, "home");
    for (size_t i = 0; r == 0 && i < wv_wiring_n_links; i++)
        r = make_link_folder(p, &wv_wiring_links[i]);
    for (size_t i = 0; r == 0 && i < WV_WIRING_STAGES; i++) {
        char path[160];
        wv_places_home(p, i, path, sizeof path);
        r = make_owned(p, path, i, i, 0700);
        if (r == 0 && wv_wiring_stages[i].state)
            r = make_state(p, i);
    }
    return r;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)remove(path);
    return 0;
}

void wv_places_remove(const struct wv_places *p, bool remove_folder)
{
    static const char *const ours[] = {"bus",          "home",        "supervisor.sock",
                                       "control.sock", "notify.sock", "lock"};
    char path[128];
    for (size_t i = 0; i < WV_ARRAY_SIZE(ours); i++) {
        wv_places_path(p, ours[i], path, sizeof path);
        (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
    if (remove_folder)
        (void)rmdir(p->runtime);
}

/* Whether PATH is still the file that we locked: a host that ends removes its lock. */
static bool same_file(int fd, const char *path)
{
    struct stat ours, theirs;
    return fstat(fd, &ours) == 0 && lstat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
           ours.st_ino == theirs.st_ino;
}

int wv_places_lock(const struct wv_places *p)
{
    char path[128];
    wv_places_path(p, "lock", path, sizeof path);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return complain(-errno, "the lock can't be made", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int r = -errno;
        wv_close(fd);
        if (r == -EWOULDBLOCK)
            wv_error("another Wavry host already runs in this runtime folder: stop it (wavryctl stop), or "
                     "give this "
                     "one its own --runtime-dir, --state-dir and --port",
                     "runtime_dir=%s", p->runtime);
        else
            complain(r, "the lock can't be taken", path);
        return r;
    }
    if (same_file(fd, path))
        return fd;
    wv_close(fd);
    return wv_places_lock(p);
}
