/* See session_page.h. A record is an array of atomic words under a sequence lock, so that a torn copy is
 * noticed and never undefined. A reader gives up after a few tries: it never waits for a writer that died
 * half-way. */
#include "lib/ipc/session_page.h"

#include "lib/ipc/memfd.h"
#include "lib/ipc/text.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 16384
#define PAGE_MAGIC UINT64_C(0x3153534553565721)
#define GET_TRIES  64

/* What lies on the page: fixed widths, no bool (a foreign byte of 2 must not become one). */
struct shared_record {
    uint32_t id, controls;
    uint8_t peer_key[32];
    char name[64];
    char address[56];
    uint64_t since_ns, rtt_ns, bytes_sent, bytes_received, frames_sent, frames_lost, packets_lost,
        input_events, glass_p50_us, glass_p99_us;
};

#define WORDS (sizeof(struct shared_record) / 8)
_Static_assert(sizeof(struct shared_record) % 8 == 0, "whole words");

struct place {
    _Atomic uint64_t seq; /* odd while being written */
    _Atomic uint64_t words[WORDS];
};

struct wv_session_page {
    _Atomic uint64_t magic;
    struct place places[WV_SESSIONS_MAX];
};

_Static_assert(sizeof(struct wv_session_page) <= PAGE_BYTES, "the page holds all records");

int wv_session_page_create(int *ret_fd)
{
    return wv_memfd_create("wavry-session-page", PAGE_BYTES, ret_fd);
}

static void write_words(struct place *place, const uint64_t words[WORDS])
{
    uint64_t seq =
        atomic_load_explicit(&place->seq, memory_order_relaxed) | 1; /* odd: a predecessor died here */
    atomic_store_explicit(&place->seq, seq, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < WORDS; i++)
        atomic_store_explicit(&place->words[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&place->seq, seq + 1, memory_order_release);
}

int wv_session_page_map(struct wv_session_page **ret, int fd, bool writable)
{
    void *memory;
    int r = wv_memfd_map(fd, PAGE_BYTES, writable, &memory);
    if (r < 0)
        return r;
    struct wv_session_page *p = memory;
    if (writable) {
        const uint64_t zero[WORDS] = {0};
        bool foreign = atomic_load(&p->magic) != PAGE_MAGIC;
        for (unsigned i = 0; i < WV_SESSIONS_MAX; i++)
            if (foreign || atomic_load(&p->places[i].seq) % 2 != 0)
                write_words(&p->places[i], zero);
        atomic_store(&p->magic, PAGE_MAGIC);
    }
    uint64_t magic = atomic_load(&p->magic);
    if (magic != PAGE_MAGIC && magic != 0) { /* 0: no writer yet, and so no sessions */
        munmap(memory, PAGE_BYTES);
        return -EBADMSG;
    }
    *ret = p;
    return 0;
}

struct wv_session_page *wv_session_page_unmap(struct wv_session_page *p)
{
    if (p)
        munmap(p, PAGE_BYTES);
    return NULL;
}

void wv_session_page_set(struct wv_session_page *p, unsigned index, const struct wv_session_record *record)
{
    if (index >= WV_SESSIONS_MAX)
        return;
    struct shared_record s = {0};
    if (record && record->id != 0) {
        s.id = record->id;
        s.controls = record->controls;
        memcpy(s.peer_key, record->peer_key, sizeof(s.peer_key));
        wv_text_copy(s.name, sizeof(s.name), record->name, sizeof(record->name));
        wv_text_copy(s.address, sizeof(s.address), record->address, sizeof(record->address));
        s.since_ns = record->since_ns;
        s.rtt_ns = record->rtt_ns;
        s.bytes_sent = record->bytes_sent;
        s.bytes_received = record->bytes_received;
        s.frames_sent = record->frames_sent;
        s.frames_lost = record->frames_lost;
        s.packets_lost = record->packets_lost;
        s.input_events = record->input_events;
        s.glass_p50_us = record->glass_p50_us;
        s.glass_p99_us = record->glass_p99_us;
    }
    uint64_t words[WORDS];
    memcpy(words, &s, sizeof(s));
    write_words(&p->places[index], words);
}

static bool copy_whole(const struct place *place, struct shared_record *ret)
{
    for (int i = 0; i < GET_TRIES; i++) {
        uint64_t words[WORDS];
        uint64_t seq = atomic_load_explicit(&place->seq, memory_order_acquire);
        for (size_t w = 0; w < WORDS; w++)
            words[w] = atomic_load_explicit(&place->words[w], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        if (seq % 2 == 0 && atomic_load_explicit(&place->seq, memory_order_relaxed) == seq) {
            memcpy(ret, words, sizeof(*ret));
            return true;
        }
    }
    return false;
}

int wv_session_page_get(const struct wv_session_page *p, unsigned index, struct wv_session_record *ret)
{
    struct shared_record s;
    if (index >= WV_SESSIONS_MAX || !copy_whole(&p->places[index], &s) || s.id == 0)
        return 1;
    *ret = (struct wv_session_record){
        .id = s.id,
        .controls = s.controls != 0,
        .since_ns = s.since_ns,
        .rtt_ns = s.rtt_ns,
        .bytes_sent = s.bytes_sent,
        .bytes_received = s.bytes_received,
        .frames_sent = s.frames_sent,
        .frames_lost = s.frames_lost,
        .packets_lost = s.packets_lost,
        .input_events = s.input_events,
        .glass_p50_us = s.glass_p50_us,
        .glass_p99_us = s.glass_p99_us,
    };
    memcpy(ret->peer_key, s.peer_key, sizeof(ret->peer_key));
    wv_text_copy(ret->name, sizeof(ret->name), s.name, sizeof(s.name));
    wv_text_copy(ret->address, sizeof(ret->address), s.address, sizeof(s.address));
    return 0;
}
