/* See live_page.h. Must never use what a predecessor left before it was checked, or let the keys on it reach
 * a core file or swap. */
#include "services/identity/live_page.h"

#include "lib/ipc/memfd.h"

#include <errno.h>
#include <sys/mman.h>

_Static_assert(sizeof(struct wv_live) <= WV_LIVE_PAGE_BYTES, "the page holds the table");

int wv_live_page_map(struct wv_live **ret, int fd, uint64_t now, bool *ret_taken)
{
    void *memory;
    int r = 0;
    if (fd >= 0) {
        r = wv_memfd_map(fd, WV_LIVE_PAGE_BYTES, true, &memory);
    } else {
        memory = mmap(NULL, WV_LIVE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        r = memory == MAP_FAILED ? -errno : 0;
    }
    if (r < 0)
        return r;
    (void)madvise(memory, WV_LIVE_PAGE_BYTES, MADV_DONTDUMP);
    (void)mlock(memory, WV_LIVE_PAGE_BYTES); /* where the limit is too low for it, swap is the machine's */
    struct wv_live *l = memory;
    *ret_taken = wv_live_adopt(l, now);
    if (!*ret_taken)
        wv_live_init(l);
    *ret = l;
    return 0;
}

struct wv_live *wv_live_page_unmap(struct wv_live *l)
{
    if (l)
        munmap(l, WV_LIVE_PAGE_BYTES);
    return NULL;
}
