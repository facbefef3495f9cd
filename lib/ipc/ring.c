/* The raw frame ring; ring_layout.h has the protocol. Never waits for the other side, never believes it: a
 * consumer that lies gets torn pictures, a producer that lies gets its frames refused, and neither can stop
 * the other. */
#include "lib/ipc/ring.h"

#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "lib/ipc/ring_layout.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define NO_SLOT          WV_RING_SLOTS
#define ACQUIRE_TRIES    8
#define RING_ROW_ALIGN   64u
#define compiler_fence() __asm__ volatile("" ::: "memory")

struct wv_ring_producer {
    struct ring_control *control;
    const struct ring_reader *reader;
    uint8_t *memory;
    size_t total, slot_bytes;
    uint64_t sequence; /* last published */
    unsigned newest;   /* slot of it, NO_SLOT: none */
    unsigned writing;  /* slot handed out, NO_SLOT: none */
    uint64_t published[WV_RING_SLOTS];
};

struct wv_ring_consumer {
    const struct ring_control *control;
    struct ring_reader *reader;
    const uint8_t *memory;
    size_t total, slot_bytes;
    uint64_t seen; /* the value of `latest` last looked into, good or bad */
    unsigned held; /* NO_SLOT: none */
};

int wv_ring_create(uint32_t max_width, uint32_t max_height, int *ret_frames, int *ret_reader)
{
    if (max_width == 0 || max_height == 0 || max_width > WV_RING_MAX_WIDTH || max_height > WV_RING_MAX_HEIGHT)
        return -EINVAL;
    size_t stride = (max_width + RING_ROW_ALIGN - 1) / RING_ROW_ALIGN * RING_ROW_ALIGN;
    size_t rows = ((size_t)max_height + 1) / 2 * 3;
    size_t slot = (stride * rows + RING_SLOT_ALIGN - 1) / RING_SLOT_ALIGN * RING_SLOT_ALIGN;
    int frames = -1, reader = -1;
    int r = wv_memfd_create("wavry-raw-frames", RING_CONTROL_BYTES + WV_RING_SLOTS * slot, &frames);
    if (r < 0)
        return r;
    r = wv_memfd_create("wavry-raw-reader", RING_READER_BYTES, &reader);
    if (r < 0) {
        wv_close(frames);
        return r;
    }
    void *memory;
    r = wv_memfd_map(frames, RING_CONTROL_BYTES + WV_RING_SLOTS * slot, true, &memory);
    if (r < 0) {
        wv_close(frames);
        wv_close(reader);
        return r;
    }
    atomic_store(&((struct ring_control *)memory)->magic, RING_MAGIC);
    munmap(memory, RING_CONTROL_BYTES + WV_RING_SLOTS * slot);
    *ret_frames = frames;
    *ret_reader = reader;
    return 0;
}

static int map_frames(int fd, bool writable, void **ret_memory, size_t *ret_total)
{
    size_t total;
    int r = wv_memfd_size(fd, &total);
    if (r < 0)
        return r;
    if (ring_slot_bytes_of(total) == 0)
        return -EBADMSG;
    r = wv_memfd_map(fd, total, writable, ret_memory);
    if (r < 0)
        return r;
    *ret_total = total;
    return 0;
}

/* What an honest producer leaves, at whatever point it dies: `latest` names a slot whose state says the same
 * (nobody writes to the newest one), and no slot is more than one picture ahead of it; or nothing was ever
 * published. RET_SEQUENCE is the highest number used up, RET_NEWEST the slot of the newest picture. */
static bool in_order(const struct ring_control *control, uint64_t *ret_sequence, unsigned *ret_newest)
{
    uint64_t latest = atomic_load(&control->latest);
    uint64_t sequence = latest >> 8, highest = sequence;
    unsigned slot = (unsigned)(latest & 0xff);
    if (latest != 0 && (sequence == 0 || sequence >= RING_MAX_SEQUENCE || slot >= WV_RING_SLOTS ||
                        atomic_load(&control->slots[slot].slot.state) != sequence))
        return false;
    for (unsigned i = 0; i < WV_RING_SLOTS; i++) {
        uint64_t state = atomic_load(&control->slots[i].slot.state);
        if (state > sequence + 1)
            return false;
        highest = WV_MAX(highest, state);
    }
    *ret_sequence = highest;
    *ret_newest = latest == 0 ? NO_SLOT : slot;
    return true;
}

/* Goes on where the earlier producer stopped. A page that is in disorder tells nothing of that, and a number
 * that the consumer has looked into already would be passed over: it starts again at one that can't be
 * guessed, where nobody was before. Returns 0 or a negative errno. */
static int take_over(struct wv_ring_producer *p)
{
    p->writing = NO_SLOT;
    if (in_order(p->control, &p->sequence, &p->newest))
        return 0;
    uint64_t start;
    if (getrandom(&start, sizeof(start), 0) != sizeof(start))
        return -EIO;
    p->sequence = RING_HEALED_SEQUENCE + start % RING_HEALED_SEQUENCE;
    p->newest = NO_SLOT;
    atomic_store(&p->control->latest, 0);
    for (unsigned i = 0; i < WV_RING_SLOTS; i++)
        atomic_store(&p->control->slots[i].slot.state, 0);
    return 0;
}

int wv_ring_producer_new(struct wv_ring_producer **ret, int frames_fd, int reader_fd)
{
    struct wv_ring_producer *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    void *memory = NULL, *reader = NULL;
    int r = map_frames(frames_fd, true, &memory, &p->total);
    if (r >= 0) {
        r = wv_memfd_map(reader_fd, RING_READER_BYTES, false, &reader);
        if (r < 0)
            munmap(memory, p->total);
    }
    if (r < 0) {
        free(p);
        return r;
    }
    p->memory = memory;
    p->control = memory;
    p->reader = reader;
    p->slot_bytes = ring_slot_bytes_of(p->total);
    r = take_over(p);
    if (r < 0) {
        wv_ring_producer_free(p);
        return r;
    }
    atomic_store(&p->control->magic,
                 RING_MAGIC); /* size and seals make it our ring; heal what a predecessor broke */
    *ret = p;
    return 0;
}

struct wv_ring_producer *wv_ring_producer_free(struct wv_ring_producer *p)
{
    if (!p)
        return NULL;
    munmap(p->memory, p->total);
    munmap((void *)(uintptr_t)p->reader, RING_READER_BYTES);
    free(p);
    return NULL;
}

size_t wv_ring_slot_bytes(const struct wv_ring_producer *p)
{
    return p->slot_bytes;
}

/* The free slot whose picture is the most recent (fewest changes to bring in), of those not in TABOO. */
static unsigned best_slot(const struct wv_ring_producer *p, uint32_t taboo)
{
    unsigned best = NO_SLOT;
    for (unsigned i = 0; i < WV_RING_SLOTS; i++) {
        if (taboo & (1u << i))
            continue;
        if (best == NO_SLOT || p->published[i] > p->published[best])
            best = i;
    }
    return best;
}

unsigned wv_ring_begin(struct wv_ring_producer *p, uint8_t **ret_pixels)
{
    if (p->writing != NO_SLOT) /* begun and never published: what it holds is anybody's guess */
        p->published[p->writing] = 0;
    uint32_t newest = p->newest == NO_SLOT ? 0 : 1u << p->newest;
    uint32_t taboo = newest | atomic_load(&p->reader->reading);
    unsigned slot;
    while ((slot = best_slot(p, taboo)) != NO_SLOT) {
        _Atomic uint64_t *state = &p->control->slots[slot].slot.state;
        uint64_t before = atomic_exchange(state, 0);
        if (!(atomic_load(&p->reader->reading) & (1u << slot)))
            break;
        atomic_store(state, before);
        taboo |= 1u << slot;
    }
    if (slot == NO_SLOT) { /* a reader that claims everything harms only itself */
        slot = best_slot(p, newest);
        atomic_store(&p->control->slots[slot].slot.state, 0);
    }
    p->writing = slot;
    *ret_pixels = p->memory + RING_CONTROL_BYTES + slot * p->slot_bytes;
    return slot;
}

uint64_t wv_ring_slot_sequence(const struct wv_ring_producer *p, unsigned index)
{
    return index < WV_RING_SLOTS ? p->published[index] : 0;
}

void wv_ring_publish(struct wv_ring_producer *p, struct wv_frame_header *header, uint64_t now)
{
    if (p->writing == NO_SLOT)
        return;
    struct ring_slot *slot = &p->control->slots[p->writing].slot;
    header->sequence = p->sequence + 1;
    header->publish_ns = now;
    memcpy(&slot->header, header, sizeof(*header));
    atomic_store(&slot->state, header->sequence);
    atomic_store(&p->control->latest, header->sequence << 8 | p->writing);
    p->sequence = header->sequence;
    p->published[p->writing] = header->sequence;
    p->newest = p->writing;
    p->writing = NO_SLOT;
}

int wv_ring_consumer_new(struct wv_ring_consumer **ret, int frames_fd, int reader_fd)
{
    struct wv_ring_consumer *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    void *memory = NULL, *reader = NULL;
    int r = map_frames(frames_fd, false, &memory, &c->total);
    if (r >= 0 && atomic_load(&((const struct ring_control *)memory)->magic) != RING_MAGIC)
        r = -EBADMSG;
    if (r >= 0)
        r = wv_memfd_map(reader_fd, RING_READER_BYTES, true, &reader);
    if (r < 0) {
        if (memory)
            munmap(memory, c->total);
        free(c);
        return r;
    }
    c->memory = memory;
    c->control = memory;
    c->reader = reader;
    c->slot_bytes = ring_slot_bytes_of(c->total);
    c->held = NO_SLOT;
    atomic_store(&c->reader->magic, RING_READER_MAGIC);
    atomic_store(&c->reader->reading, 0); /* what a predecessor held is free again */
    *ret = c;
    return 0;
}

struct wv_ring_consumer *wv_ring_consumer_free(struct wv_ring_consumer *c)
{
    if (!c)
        return NULL;
    wv_ring_release(c);
    munmap((void *)(uintptr_t)c->memory, c->total);
    munmap(c->reader, RING_READER_BYTES);
    free(c);
    return NULL;
}

static bool header_checks_out(const struct wv_frame_header *h, uint64_t sequence, size_t slot_bytes)
{
    if (h->sequence != sequence || h->format != WV_PIXEL_NV12)
        return false;
    if (h->width == 0 || h->height == 0 || h->width > WV_RING_MAX_WIDTH || h->height > WV_RING_MAX_HEIGHT ||
        h->width % 2 != 0 || h->height % 2 != 0 || h->stride < h->width)
        return false;
    if ((uint64_t)h->stride * h->height / 2 * 3 > slot_bytes || h->n_damage > WV_RING_DAMAGE_MAX)
        return false;
    for (uint32_t i = 0; i < h->n_damage; i++) {
        const struct wv_rect *d = &h->damage[i];
        if (d->x < 0 || d->y < 0 || d->width <= 0 || d->height <= 0 || (int64_t)d->x + d->width > h->width ||
            (int64_t)d->y + d->height > h->height)
            return false;
    }
    return true;
}

static uint32_t held_bit(const struct wv_ring_consumer *c)
{
    return c->held == NO_SLOT ? 0 : 1u << c->held;
}

/* Copies the header of the announced SLOT. Returns 0, WV_RING_EMPTY when the producer has moved on,
 * WV_RING_BAD. */
static int copy_header(const struct wv_ring_consumer *c, uint64_t latest, struct wv_frame_header *ret)
{
    const struct ring_slot *slot = &c->control->slots[latest & 0xff].slot;
    uint64_t sequence = latest >> 8;
    if (atomic_load(&slot->state) != sequence)
        return atomic_load(&c->control->latest) != latest ? WV_RING_EMPTY : WV_RING_BAD;
    /* From here on an honest producer leaves the slot alone (its state may still blink to 0 and back). */
    memcpy(ret, &slot->header, sizeof(*ret));
    compiler_fence(); /* the copy is what is checked and used, never the shared bytes again */
    if (!header_checks_out(ret, sequence, c->slot_bytes))
        return WV_RING_BAD;
    return 0;
}

int wv_ring_acquire(struct wv_ring_consumer *c, struct wv_frame_header *ret_header,
                    const uint8_t **ret_pixels)
{
    struct wv_frame_header header;
    int r = WV_RING_BAD;
    unsigned slot = NO_SLOT;
    for (int i = 0; i < ACQUIRE_TRIES; i++) {
        uint64_t latest = atomic_load(&c->control->latest);
        if (latest == c->seen || latest == 0) {
            r = WV_RING_EMPTY;
            break;
        }
        slot = (unsigned)(latest & 0xff);
        r = WV_RING_BAD;
        if (slot < WV_RING_SLOTS) {
            atomic_store(&c->reader->reading, held_bit(c) | 1u << slot);
            r = copy_header(c, latest, &header);
        }
        if (r != WV_RING_EMPTY) {
            c->seen = latest; /* also when bad: it is reported once */
            break;
        }
    }
    if (r == 0)
        c->held = slot;
    atomic_store(&c->reader->reading, held_bit(c));
    if (r != 0)
        return r;
    *ret_header = header;
    *ret_pixels = c->memory + RING_CONTROL_BYTES + slot * c->slot_bytes;
    return 0;
}

void wv_ring_release(struct wv_ring_consumer *c)
{
    c->held = NO_SLOT;
    atomic_store(&c->reader->reading, 0);
}
