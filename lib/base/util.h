/* Small things that every file needs: cleanup attributes, array sizes, clock, text forms of bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define WV_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define WV_MIN(a, b)                                                                                         \
    ({                                                                                                       \
        __typeof__(a) a_ = (a);                                                                              \
        __typeof__(b) b_ = (b);                                                                              \
        a_ < b_ ? a_ : b_;                                                                                   \
    })
#define WV_MAX(a, b)                                                                                         \
    ({                                                                                                       \
        __typeof__(a) a_ = (a);                                                                              \
        __typeof__(b) b_ = (b);                                                                              \
        a_ > b_ ? a_ : b_;                                                                                   \
    })

#define WV_NS_PER_US UINT64_C(1000)
#define WV_NS_PER_MS UINT64_C(1000000)
#define WV_NS_PER_S  UINT64_C(1000000000)

#define wv_cleanup(fn) __attribute__((cleanup(fn)))

/* Closes FD when it is not negative, keeps errno, returns -1 for `fd = wv_close(fd)`. */
int wv_close(int fd);

static inline void wv_close_p(int *fd)
{
    wv_close(*fd);
}

static inline void wv_free_p(void *p)
{
    free(*(void **)p);
}

/* Replaces *RET_MESSAGE by a sentence for a person (malloc'ed; NULL when there is no memory). Returns
 * -EINVAL. */
int wv_complain(char **ret_message, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* CLOCK_MONOTONIC in nanoseconds. Only event loops and programs' edges call this; everything else gets `now`.
 */
uint64_t wv_now_ns(void);

/* Writes 2*LEN lower-case hex digits and a NUL to RET (capacity 2*LEN+1). */
void wv_hex_encode(const uint8_t *data, size_t len, char *ret);

/* Reads exactly 2*LEN hex digits from TEXT into RET. Returns 0, or -EINVAL. */
int wv_hex_decode(const char *text, uint8_t *ret, size_t len);

/* Reads a whole file of at most MAX bytes. RET_DATA is malloc'ed and NUL-terminated past RET_LEN; the caller
 * frees it. Returns 0, -EFBIG, or the negative errno of the failing call. */
int wv_read_file(const char *path, size_t max, uint8_t **ret_data, size_t *ret_len);

/* Replaces PATH by DATA atomically (write to a temporary beside it, fsync, rename, fsync of the folder) with
 * MODE. Returns 0 or a negative errno; on failure the old content is untouched. */
int wv_write_file_atomic(const char *path, const void *data, size_t len, unsigned mode);
