/* See memfd.h. Never maps what is not sealed: whoever else holds the descriptor could shrink it under us. */
#include "lib/ipc/memfd.h"

#include "lib/base/util.h"
#include "lib/ipc/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int wv_memfd_create(const char *name, size_t bytes, int *ret_fd)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    /* Mode 0400: a stage that got a read-only descriptor can't open /proc/self/fd/N again for writing. */
    if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, S_IRUSR) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int r = -errno;
        wv_close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int wv_memfd_size(int fd, size_t *ret_bytes)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return errno == EINVAL ? -EBADMSG : -errno;
    if (!(seals & F_SEAL_SHRINK))
        return -EBADMSG;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < 0)
        return -EBADMSG;
    *ret_bytes = (size_t)st.st_size;
    return 0;
}

int wv_memfd_map(int fd, size_t bytes, bool writable, void **ret_memory)
{
    size_t size;
    int r = wv_memfd_size(fd, &size);
    if (r < 0)
        return r;
    if (size != bytes)
        return -EBADMSG;
    void *memory = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *ret_memory = memory;
    return 0;
}

int wv_memfd_reopen_read_only(int fd)
{
    char path[32];
    if (fd < 0)
        return -EBADF;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reopened = open(path, O_RDONLY | O_CLOEXEC);
    return reopened < 0 ? -errno : reopened;
}
