/* Reads or makes the host's identity file. Must never replace an existing one, follow a symbolic link to it,
 * or let its bytes into a message. */
#include "services/identity/keyfile.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_NAME      "identity"
#define TEMPORARY_NAME ".identity.new"

/* REASON and the error in one step: `return fail(...)`. */
static int fail(char *reason, int error, const char *path, const char *what, const char *remedy)
{
    snprintf(reason, WV_IDENTITY_REASON_BYTES, "%.600s %.100s; %.200s", path, what, remedy);
    return error;
}

static int fail_errno(char *reason, int error, const char *path, const char *remedy)
{
    char what[96];
    snprintf(what, sizeof what, "can't be used: %s", strerror(-error));
    return fail(reason, error, path, what, remedy);
}

static int open_directory(const char *path, char *reason)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail_errno(reason, -errno, path, "create its parent directory, or set state_dir");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(reason, -errno, path,
                          "it must be a directory of the user that runs wavry-identity");
    struct stat st;
    int r = 0;
    if (fstat(fd, &st) < 0)
        r = fail_errno(reason, -errno, path, "check the file system");
    else if (st.st_uid != geteuid())
        r = fail(reason, -EPERM, path, "belongs to another user",
                 "chown it to the user that runs wavry-identity");
    else if (st.st_mode & 022)
        r = fail(reason, -EPERM, path, "is writable by others", "run chmod 700 on it");
    if (r < 0) {
        wv_close(fd);
        return r;
    }
    return fd;
}

static int check_file(int fd, const char *path, char *reason)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail_errno(reason, -errno, path, "check the file system");
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return fail(reason, -EINVAL, path, "is not a plain file with one name",
                    "move it away and put the identity file itself there");
    if (st.st_uid != geteuid())
        return fail(reason, -EPERM, path, "belongs to another user",
                    "chown it to the user that runs wavry-identity");
    if (st.st_mode & 077)
        return fail(
            reason, -EPERM, path, "can be read or written by others",
            "if nobody can have read it run chmod 600 on it, else move it away to get a new identity");
    return 0;
}

static int read_file(int fd, const char *path, struct rift_identity *ret_identity, char *reason)
{
    char text[RIFT_IDENTITY_TEXT_BYTES + 1];
    size_t len = 0;
    while (len < sizeof text) {
        ssize_t n = read(fd, text + len, sizeof text - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            sodium_memzero(text, sizeof text);
            return fail_errno(reason, -errno, path, "check the file system");
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    int r = rift_identity_parse(text, len, ret_identity);
    sodium_memzero(text, sizeof text);
    if (r < 0)
        return fail(reason, -EBADMSG, path, "is damaged",
                    "restore it from a backup, or move it away to get a new identity (clients must then be "
                    "told the new key)");
    return 0;
}

static int write_whole(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* Written beside its place and then linked there: a file that appeared meanwhile is not replaced, and a crash
 * leaves no half-written identity. */
static int create_file(int dir, const struct rift_identity *identity)
{
    char text[RIFT_IDENTITY_TEXT_BYTES];
    if (unlinkat(dir, TEMPORARY_NAME, 0) < 0 && errno != ENOENT)
        return -errno;
    wv_cleanup(wv_close_p) int fd =
        openat(dir, TEMPORARY_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    rift_identity_format(identity, text);
    int r = write_whole(fd, text, strlen(text));
    sodium_memzero(text, sizeof text);
    if (r == 0 && linkat(dir, TEMPORARY_NAME, dir, FILE_NAME, 0) < 0)
        r = -errno;
    if (unlinkat(dir, TEMPORARY_NAME, 0) < 0 && r == 0)
        r = -errno;
    if (r == 0 && fsync(dir) < 0)
        r = -errno;
    return r;
}

int wv_keyfile_open(const char *state_dir, struct rift_identity *ret_identity, bool *ret_created,
                    char reason[WV_IDENTITY_REASON_BYTES])
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", state_dir, FILE_NAME) >= sizeof path)
        return fail(reason, -ENAMETOOLONG, "state_dir", "is too long a path", "set a shorter one");
    wv_cleanup(wv_close_p) int dir = open_directory(state_dir, reason);
    if (dir < 0)
        return dir;
    wv_cleanup(wv_close_p) int fd = openat(dir, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        int r = check_file(fd, path, reason);
        if (r == 0)
            r = read_file(fd, path, ret_identity, reason);
        if (r == 0)
            *ret_created = false;
        return r;
    }
    if (errno == ELOOP)
        return fail(reason, -ELOOP, path, "is a symbolic link", "put the identity file itself there");
    if (errno != ENOENT)
        return fail_errno(reason, -errno, path, "it must be readable by the user that runs wavry-identity");

    struct rift_identity identity;
    rift_identity_generate(&identity);
    int r = create_file(dir, &identity);
    if (r < 0) {
        rift_identity_wipe(&identity);
        return fail_errno(reason, r, path, "the directory must be writable and have free space");
    }
    *ret_identity = identity;
    rift_identity_wipe(&identity);
    *ret_created = true;
    return 0;
}
