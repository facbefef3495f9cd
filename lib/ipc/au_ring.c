/* The access-unit ring: a byte ring with 64-bit positions that never wrap. An entry is contiguous (what is
 * left at the end is skipped by a filler), so the consumer hands out pointers into the mapping. Neither side
 * believes the other's position: one that doesn't check out is taken for "everything is read" by the
 * producer, and the consumer moves to the end. An entry counts once `write` has moved past it; half an entry
 * of a killed producer is simply overwritten. */
#include "lib/ipc/au_ring.h"

#include "lib/base/util.h"
#include "lib/ipc/au_ring_layout.h"
#include "lib/ipc/memfd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define compiler_fence() __asm__ volatile("" ::: "memory")

struct wv_au_producer {
    struct au_control *control;
    const struct au_reader *reader;
    uint8_t *data;
    uint64_t write;
    uint32_t next_frame;
    uint16_t epoch;

    /* what was reserved and is not committed yet */
    bool reserved;
    size_t capacity;
    uint64_t filler;
    uint8_t *room;
};

struct wv_au_consumer {
    const struct au_control *control;
    struct au_reader *reader;
    const uint8_t *data;
    uint64_t read;
    uint64_t held; /* bytes of the entry handed out, 0: none */
    struct wv_au_header header;
    const uint8_t *payload;
};

int wv_au_ring_create(int *ret_entries, int *ret_reader)
{
    int entries = -1, reader = -1;
    int r = wv_memfd_create("wavry-au-entries", AU_TOTAL_BYTES, &entries);
    if (r < 0)
        return r;
    r = wv_memfd_create("wavry-au-reader", AU_READER_BYTES, &reader);
    void *memory;
    if (r >= 0)
        r = wv_memfd_map(entries, AU_TOTAL_BYTES, true, &memory);
    if (r < 0) {
        wv_close(entries);
        wv_close(reader);
        return r;
    }
    atomic_store(&((struct au_control *)memory)->magic, AU_MAGIC);
    munmap(memory, AU_TOTAL_BYTES);
    *ret_entries = entries;
    *ret_reader = reader;
    return 0;
}

static int map_both(int entries_fd, bool entries_writable, int reader_fd, void **ret_entries,
                    void **ret_reader)
{
    void *entries, *reader;
    int r = wv_memfd_map(entries_fd, AU_TOTAL_BYTES, entries_writable, &entries);
    if (r < 0)
        return r;
    r = wv_memfd_map(reader_fd, AU_READER_BYTES, !entries_writable, &reader);
    if (r < 0) {
        munmap(entries, AU_TOTAL_BYTES);
        return r;
    }
    *ret_entries = entries;
    *ret_reader = reader;
    return 0;
}

/* The bytes between two positions; AU_DATA_BYTES + 1 when they can't both be right. */
static uint64_t distance(uint64_t write, uint64_t read)
{
    if (write < read || write - read > AU_DATA_BYTES || write % AU_ALIGN != 0 || read % AU_ALIGN != 0)
        return AU_DATA_BYTES + 1;
    return write - read;
}

/* Checks the entry of DATA at POSITION, of which USED bytes at most are there. Returns its total bytes, 0
 * when it is bad. */
static uint64_t check_entry(const uint8_t *data, uint64_t position, uint64_t used, struct au_entry *ret)
{
    uint64_t offset = position % AU_DATA_BYTES;
    memcpy(ret, data + offset, sizeof(*ret));
    compiler_fence(); /* the copy is what is checked and used, never the shared bytes again */
    if (ret->position != position || ret->total < AU_ALIGN || ret->total % AU_ALIGN != 0 ||
        ret->total > used || ret->total > AU_DATA_BYTES - offset)
        return 0;
    if (ret->kind == AU_FILLER)
        return ret->total == AU_DATA_BYTES - offset ? ret->total : 0;
    if (ret->kind != AU_ENTRY || ret->header.size > WV_AU_MAX_BYTES || ret->header.keyframe > 1 ||
        AU_ENTRY_BYTES + (uint64_t)ret->header.size > ret->total)
        return 0;
    return ret->total;
}

/* Where the next entry goes: behind the last one that holds, counted from where the consumer stands. After an
 * honest producer that is just what `write` says. One that says anything else is not believed: a first entry
 * that ended by chance where the consumer stands would be passed over without a word. A consumer's position
 * that can't be right harms only that consumer. */
static uint64_t end_of_whole_entries(const struct wv_au_producer *p)
{
    uint64_t write = atomic_load(&p->control->write);
    uint64_t read = atomic_load_explicit(&p->reader->read, memory_order_acquire);
    if (read % AU_ALIGN != 0 || read > AU_MAX_POSITION)
        return write % AU_ALIGN == 0 && write <= AU_MAX_POSITION ? write : 0;
    uint64_t used = distance(write, read), total;
    if (used > AU_DATA_BYTES)
        return read;
    struct au_entry entry;
    for (; used > 0 && (total = check_entry(p->data, read, used, &entry)) > 0; used -= total)
        read += total;
    return read;
}

int wv_au_producer_new(struct wv_au_producer **ret, int entries_fd, int reader_fd)
{
    struct wv_au_producer *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    void *entries, *reader;
    int r = map_both(entries_fd, true, reader_fd, &entries, &reader);
    if (r < 0) {
        free(p);
        return r;
    }
    p->control = entries;
    p->reader = reader;
    p->data = (uint8_t *)entries + AU_CONTROL_BYTES;
    p->write = end_of_whole_entries(p);
    p->next_frame = atomic_load(&p->control->next_frame);
    if (p->next_frame == 0)
        p->next_frame = 1;
    p->epoch = (uint16_t)(atomic_load(&p->control->epoch) + 1);
    atomic_store(&p->control->write, p->write);
    atomic_store(&p->control->next_frame, p->next_frame);
    atomic_store(&p->control->epoch, p->epoch);
    atomic_store(&p->control->magic, AU_MAGIC);
    *ret = p;
    return 0;
}

struct wv_au_producer *wv_au_producer_free(struct wv_au_producer *p)
{
    if (!p)
        return NULL;
    munmap(p->control, AU_TOTAL_BYTES);
    munmap((void *)(uintptr_t)p->reader, AU_READER_BYTES);
    free(p);
    return NULL;
}

uint16_t wv_au_producer_epoch(const struct wv_au_producer *p)
{
    return p->epoch;
}

static void put_entry_header(uint8_t *at, uint32_t kind, uint64_t position, uint64_t total,
                             const struct wv_au_header *header)
{
    struct au_entry entry = {.kind = kind, .position = position, .total = total};
    if (header)
        entry.header = *header;
    memcpy(at, &entry, sizeof(entry));
}

static uint64_t entry_bytes(size_t len)
{
    return (AU_ENTRY_BYTES + (uint64_t)len + AU_ALIGN - 1) / AU_ALIGN * AU_ALIGN;
}

int wv_au_reserve(struct wv_au_producer *p, size_t capacity, uint8_t **ret_room)
{
    p->reserved = false;
    if (capacity > WV_AU_MAX_BYTES)
        return -EMSGSIZE;
    uint64_t used = distance(p->write, atomic_load_explicit(&p->reader->read, memory_order_acquire));
    if (used > AU_DATA_BYTES)
        used = 0;
    uint64_t offset = p->write % AU_DATA_BYTES;
    uint64_t need = entry_bytes(capacity);
    p->filler = need > AU_DATA_BYTES - offset ? AU_DATA_BYTES - offset : 0;
    if (p->filler + need > AU_DATA_BYTES - used)
        return WV_AU_FULL;
    p->room = p->data + (p->filler > 0 ? 0 : offset);
    p->capacity = capacity;
    p->reserved = true;
    *ret_room = p->room + AU_ENTRY_BYTES;
    return 0;
}

int wv_au_commit(struct wv_au_producer *p, struct wv_au_header *header, size_t len, uint64_t now)
{
    if (!p->reserved || len > p->capacity)
        return -EINVAL;
    uint64_t need = entry_bytes(len);
    p->reserved = false;
    header->frame_id = p->next_frame;
    header->epoch = p->epoch;
    header->publish_ns = now;
    header->size = (uint32_t)len;
    header->keyframe = header->keyframe != 0;
    if (header->keyframe)
        header->refers_to = header->frame_id;
    if (p->filler > 0)
        put_entry_header(p->data + p->write % AU_DATA_BYTES, AU_FILLER, p->write, p->filler, NULL);
    put_entry_header(p->room, AU_ENTRY, p->write + p->filler, need, header);
    /* The number is used up before the entry counts: a producer killed in between leaves a gap, never a
     * double. */
    p->next_frame = header->frame_id + 1 ? header->frame_id + 1 : 1;
    atomic_store_explicit(&p->control->next_frame, p->next_frame, memory_order_relaxed);
    p->write += p->filler + need;
    atomic_store_explicit(&p->control->write, p->write, memory_order_release);
    return 0;
}

int wv_au_push(struct wv_au_producer *p, struct wv_au_header *header, const uint8_t *data, size_t len,
               uint64_t now)
{
    uint8_t *room;
    int r = wv_au_reserve(p, len, &room);
    if (r != 0)
        return r;
    if (len > 0)
        memcpy(room, data, len);
    return wv_au_commit(p, header, len, now);
}

int wv_au_consumer_new(struct wv_au_consumer **ret, int entries_fd, int reader_fd)
{
    struct wv_au_consumer *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    void *entries, *reader;
    int r = map_both(entries_fd, false, reader_fd, &entries, &reader);
    if (r < 0) {
        free(c);
        return r;
    }
    if (atomic_load(&((const struct au_control *)entries)->magic) != AU_MAGIC) {
        munmap(entries, AU_TOTAL_BYTES);
        munmap(reader, AU_READER_BYTES);
        free(c);
        return -EBADMSG;
    }
    c->control = entries;
    c->reader = reader;
    c->data = (const uint8_t *)entries + AU_CONTROL_BYTES;
    c->read = atomic_load(&c->reader->read);
    *ret = c;
    return 0;
}

struct wv_au_consumer *wv_au_consumer_free(struct wv_au_consumer *c)
{
    if (!c)
        return NULL;
    munmap((void *)(uintptr_t)c->control, AU_TOTAL_BYTES);
    munmap(c->reader, AU_READER_BYTES);
    free(c);
    return NULL;
}

static void move_to(struct wv_au_consumer *c, uint64_t position)
{
    c->read = position;
    c->held = 0;
    atomic_store_explicit(&c->reader->read, position, memory_order_release);
}

int wv_au_pop(struct wv_au_consumer *c, struct wv_au_header *ret_header, const uint8_t **ret_data)
{
    if (c->held == 0) {
        uint64_t write = atomic_load_explicit(&c->control->write, memory_order_acquire);
        struct au_entry entry;
        for (int i = 0; i < 2; i++) { /* at most one filler before an entry */
            uint64_t used = distance(write, c->read);
            if (used == 0)
                return WV_AU_EMPTY;
            uint64_t total = used <= AU_DATA_BYTES ? check_entry(c->data, c->read, used, &entry) : 0;
            if (total == 0 || (i == 1 && entry.kind == AU_FILLER)) {
                move_to(c, write);
                return WV_AU_BAD;
            }
            if (entry.kind == AU_ENTRY) {
                c->held = total;
                break;
            }
            move_to(c, c->read + total);
        }
        c->header = entry.header;
        c->payload = c->data + c->read % AU_DATA_BYTES + AU_ENTRY_BYTES;
    }
    *ret_header = c->header;
    *ret_data = c->payload;
    return 0;
}

void wv_au_pop_done(struct wv_au_consumer *c)
{
    if (c->held > 0)
        move_to(c, c->read + c->held);
}

void wv_au_skip_all(struct wv_au_consumer *c)
{
    move_to(c, atomic_load_explicit(&c->control->write, memory_order_acquire));
}
