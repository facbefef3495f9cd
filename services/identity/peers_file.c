/* Keeps the list of known keys on disk. Must never write a list that it did not read whole: a file that can't
 * be read is left alone, so that a passing fault doesn't lock everybody out for good. */
#include "services/identity/peers_file.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct stamp {
    bool exists;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

struct wv_peers_file {
    char *path;
    struct wv_peers *peers;
    struct stamp stamp;
    bool unreadable;
};

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    if (a->exists != b->exists || !a->exists)
        return a->exists == b->exists;
    return a->inode == b->inode && a->size == b->size && same_time(a->modified, b->modified) &&
           same_time(a->changed, b->changed);
}

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){.exists = true,
                          .inode = st->st_ino,
                          .size = st->st_size,
                          .modified = st->st_mtim,
                          .changed = st->st_ctim};
}

static int say(char *reason, size_t n, int error, const char *path, const char *what, const char *remedy)
{
    snprintf(reason, n, "%.600s %.100s; %.200s", path, what, remedy);
    return error;
}

static void log_bad_line(void *userdata, unsigned line, const char *why)
{
    const struct wv_peers_file *f = userdata;
    wv_warning("a line of the list of known keys grants nothing", "file=%s line=%u why=\"it %s\"", f->path,
               line, why);
}

static int read_open_file(int fd, char *ret_text, size_t *ret_len)
{
    size_t len = 0;
    while (len <= WV_PEERS_FILE_MAX_BYTES) {
        ssize_t n = read(fd, ret_text + len, WV_PEERS_FILE_MAX_BYTES + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return len > WV_PEERS_FILE_MAX_BYTES ? -EFBIG : 0;
}

static int check_and_read(struct wv_peers_file *f, int fd, const struct stat *st, struct wv_peers **ret,
                          char *reason, size_t n)
{
    if (!S_ISREG(st->st_mode))
        return say(reason, n, -EINVAL, f->path, "is not a plain file", "move it away");
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return say(reason, n, -EPERM, f->path, "belongs to another user",
                   "chown it to the user that runs wavry-identity");
    if (st->st_mode & 022)
        return say(reason, n, -EPERM, f->path, "is writable by others",
                   "check that every key in it is meant to be there, then run chmod 600 on it");
    wv_cleanup(wv_free_p) char *text = malloc(WV_PEERS_FILE_MAX_BYTES + 1);
    size_t len = 0;
    int r = text ? read_open_file(fd, text, &len) : -ENOMEM;
    if (r == 0)
        r = wv_peers_parse(ret, text, len, log_bad_line, f);
    if (r == -EFBIG)
        return say(reason, n, r, f->path, "is too large",
                   "at most 1024 keys, 8192 lines and 256 KiB are read");
    return r < 0 ? say(reason, n, r, f->path, strerror(-r), "check the file system") : 0;
}

/* Reads the file as it is now. RET_STAMP is set in any case. */
static int load(struct wv_peers_file *f, struct wv_peers **ret, struct stamp *ret_stamp, char *reason,
                size_t n)
{
    *ret_stamp = (struct stamp){0};
    wv_cleanup(wv_close_p) int fd = open(f->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return wv_peers_parse(ret, "", 0, NULL, NULL);
    struct stat st;
    if (fd < 0) {
        int error = -errno;
        if (lstat(f->path, &st) == 0)
            *ret_stamp = stamp_of(&st);
        return say(reason, n, error, f->path, error == -ELOOP ? "is a symbolic link" : "can't be read",
                   "it must be a plain file of the user that runs wavry-identity");
    }
    if (fstat(fd, &st) < 0)
        return say(reason, n, -errno, f->path, "can't be examined", "check the file system");
    *ret_stamp = stamp_of(&st);
    return check_and_read(f, fd, &st, ret, reason, n);
}

int wv_peers_file_open(struct wv_peers_file **ret, const char *state_dir, char *reason, size_t n)
{
    struct wv_peers_file *f = calloc(1, sizeof *f);
    if (!f || asprintf(&f->path, "%s/peers", state_dir) < 0) {
        free(f);
        return say(reason, n, -ENOMEM, "the list of known keys", "needs memory", "free some");
    }
    int r = load(f, &f->peers, &f->stamp, reason, n);
    if (r < 0) {
        wv_peers_file_close(f);
        return r;
    }
    *ret = f;
    return 0;
}

struct wv_peers_file *wv_peers_file_close(struct wv_peers_file *f)
{
    if (!f)
        return NULL;
    wv_peers_free(f->peers);
    free(f->path);
    free(f);
    return NULL;
}

const char *wv_peers_file_path(const struct wv_peers_file *f)
{
    return f->path;
}

const struct wv_peers *wv_peers_file_list(const struct wv_peers_file *f)
{
    return f->peers;
}

static void tell_gone(const struct wv_peers *before, const struct wv_peers *after, wv_peers_gone_fn gone,
                      void *userdata)
{
    for (size_t i = 0; gone && i < wv_peers_count(before); i++) {
        const uint8_t *key = wv_peers_at(before, i)->key;
        if (!wv_peers_find(after, key))
            gone(userdata, key);
    }
}

int wv_peers_file_refresh(struct wv_peers_file *f, wv_peers_gone_fn gone, void *userdata, char *reason,
                          size_t n)
{
    struct stat st;
    struct stamp now = {0};
    if (lstat(f->path, &st) == 0)
        now = stamp_of(&st);
    if (same_stamp(&now, &f->stamp))
        return 0;
    struct wv_peers *peers = NULL;
    int r = load(f, &peers, &f->stamp, reason, n);
    f->unreadable = r < 0;
    if (r < 0 && wv_peers_parse(&peers, "", 0, NULL, NULL) < 0)
        return r;
    tell_gone(f->peers, peers, gone, userdata);
    wv_peers_free(f->peers);
    f->peers = peers;
    return r;
}

/* Writes what the list now says; when that fails the list goes back to what the file says. */
static int save(struct wv_peers_file *f)
{
    wv_cleanup(wv_free_p) char *text = NULL;
    size_t len;
    int r = wv_peers_format(f->peers, &text, &len);
    if (r == 0 && len > WV_PEERS_FILE_MAX_BYTES)
        r = -ENOSPC;
    if (r == 0)
        r = wv_write_file_atomic(f->path, text, len, 0600);
    char ignored[8];
    struct wv_peers *again = NULL;
    struct stamp stamp;
    if (load(f, &again, &stamp, ignored, sizeof ignored) == 0) {
        wv_peers_free(f->peers);
        f->peers = again;
        f->stamp = stamp;
    }
    return r;
}

int wv_peers_file_add(struct wv_peers_file *f, const uint8_t key[32], const char *name, uint32_t grants,
                      uint64_t expires)
{
    if (f->unreadable)
        return -EBADF;
    int r = wv_peers_add(f->peers, key, name, grants, expires);
    return r < 0 ? r : save(f);
}

int wv_peers_file_remove(struct wv_peers_file *f, const uint8_t key[32])
{
    if (f->unreadable)
        return -EBADF;
    int r = wv_peers_remove(f->peers, key);
    return r < 0 ? r : save(f);
}
