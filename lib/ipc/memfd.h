/* Sealed shared memory: the only kind that crosses a process boundary here. A page that can't shrink can't
 * kill its reader with SIGBUS, and one that can't be opened again for writing stays read only for those who
 * got it so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A zeroed memfd of BYTES, sealed against shrinking, growing and further seals, CLOEXEC. NAME shows up in
 * /proc. Returns 0 or a negative errno. */
int wv_memfd_create(const char *name, size_t bytes, int *ret_fd);

/* The size of a sealed memfd. Returns 0, -EBADMSG when FD is no memfd or could still shrink, negative errno.
 */
int wv_memfd_size(int fd, size_t *ret_bytes);

/* Maps all of FD, which must be a sealed memfd of exactly BYTES. Returns 0, -EBADMSG, negative errno. */
int wv_memfd_map(int fd, size_t bytes, bool writable, void **ret_memory);
