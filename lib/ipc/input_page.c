/* See input_page.h. Every word is an atomic of its own, so nothing can be torn; a code out of range is
 * ignored. */
#include "lib/ipc/input_page.h"

#include "lib/ipc/memfd.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096
#define PAGE_MAGIC UINT64_C(0x3254504e49565721)
#define WORDS      (WV_INPUT_CODES / 64)
#define SESSIONS   384

struct wv_input_page {
    _Atomic uint64_t magic;
    _Atomic uint64_t injected; /* session << 32 | seq: never the one of this and the other of that */
    _Atomic uint64_t held[WORDS];
    _Atomic uint64_t done[SESSIONS]; /* session << 32 | seq, of those that ever controlled; 0: free */
    _Atomic uint32_t place;          /* of the next new one */
    _Atomic uint32_t forgotten;      /* highest session that was overwritten */
};
_Static_assert(sizeof(struct wv_input_page) <= PAGE_BYTES, "one page");

int wv_input_page_create(int *ret_fd)
{
    return wv_memfd_create("wavry-input-page", PAGE_BYTES, ret_fd);
}

int wv_input_page_map(struct wv_input_page **ret, int fd, bool writable)
{
    void *memory;
    int r = wv_memfd_map(fd, PAGE_BYTES, writable, &memory);
    if (r < 0)
        return r;
    struct wv_input_page *p = memory;
    if (atomic_load(&p->magic) != PAGE_MAGIC && writable) {
        atomic_store(&p->injected, 0);
        atomic_store(&p->place, 0);
        atomic_store(&p->forgotten, 0);
        for (size_t i = 0; i < SESSIONS; i++)
            atomic_store(&p->done[i], 0);
        for (size_t i = 0; i < WORDS; i++)
            atomic_store(&p->held[i], 0);
        atomic_store(&p->magic, PAGE_MAGIC);
    }
    /* A reader may come before the first writer: a page of zeroes says that nothing is held, which is so. */
    uint64_t magic = atomic_load(&p->magic);
    if (magic != PAGE_MAGIC && magic != 0) {
        munmap(memory, PAGE_BYTES);
        return -EBADMSG;
    }
    *ret = p;
    return 0;
}

struct wv_input_page *wv_input_page_unmap(struct wv_input_page *p)
{
    if (p)
        munmap(p, PAGE_BYTES);
    return NULL;
}

void wv_input_page_set_held(struct wv_input_page *p, uint16_t code, bool held)
{
    if (code >= WV_INPUT_CODES)
        return;
    uint64_t bit = UINT64_C(1) << (code % 64);
    if (held)
        atomic_fetch_or(&p->held[code / 64], bit);
    else
        atomic_fetch_and(&p->held[code / 64], ~bit);
}

size_t wv_input_page_held(const struct wv_input_page *p, uint16_t *ret_codes, size_t capacity)
{
    size_t n = 0;
    for (size_t word = 0; word < WORDS; word++) {
        uint64_t bits = atomic_load(&p->held[word]);
        for (; bits && n < capacity; bits &= bits - 1)
            ret_codes[n++] = (uint16_t)(word * 64 + (size_t)__builtin_ctzll(bits));
    }
    return n;
}

/* NULL when there is none. */
static _Atomic uint64_t *find(struct wv_input_page *p, uint32_t session)
{
    for (size_t i = 0; i < SESSIONS; i++)
        if (atomic_load_explicit(&p->done[i], memory_order_relaxed) >> 32 == session)
            return &p->done[i];
    return NULL;
}

int wv_input_page_begin(struct wv_input_page *p, uint32_t session, uint32_t *ret_seq)
{
    _Atomic uint64_t *done = find(p, session);
    if (!done) {
        if (session <= atomic_load(&p->forgotten))
            return WV_INPUT_PAGE_FORGOTTEN;
        uint32_t place = atomic_load(&p->place) % SESSIONS;
        done = &p->done[place];
        uint32_t old = (uint32_t)(atomic_load(done) >> 32);
        if (old >
            atomic_load(&p->forgotten)) /* before it is overwritten: who dies in between forgot nothing */
            atomic_store(&p->forgotten, old);
        atomic_store(done, (uint64_t)session << 32);
        atomic_store(&p->place, (place + 1) % SESSIONS);
    }
    *ret_seq = (uint32_t)atomic_load(done);
    atomic_store(&p->injected, (uint64_t)session << 32 | *ret_seq);
    return 0;
}

void wv_input_page_set_injected(struct wv_input_page *p, uint32_t session, uint32_t seq)
{
    _Atomic uint64_t *done = find(p, session);
    if (done)
        atomic_store(done, (uint64_t)session << 32 | seq);
    atomic_store(&p->injected, (uint64_t)session << 32 | seq);
}

uint32_t wv_input_page_injected(const struct wv_input_page *p)
{
    return (uint32_t)atomic_load(&p->injected);
}

uint32_t wv_input_page_session(const struct wv_input_page *p)
{
    return (uint32_t)(atomic_load(&p->injected) >> 32);
}
