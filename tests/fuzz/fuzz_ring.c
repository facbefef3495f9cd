/* The raw ring against the other side's bytes. First byte: even, the rest overwrites the frames' control
 * pages and a consumer acquires; odd, the rest overwrites the reader's page and a producer begins and
 * publishes. */
#include "lib/base/util.h"
#include "lib/ipc/ring.h"
#include "lib/ipc/ring_layout.h"

#include <string.h>
#include <sys/mman.h>

static int frames, reader;
static volatile uint8_t sink; /* reads that may not be left out */
static uint8_t *control, *reader_page;

static void make_ring(void)
{
    if (control)
        return;
    if (wv_ring_create(64, 32, &frames, &reader) < 0)
        abort();
    control = mmap(NULL, RING_CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, frames, 0);
    reader_page = mmap(NULL, RING_READER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0);
    if (control == MAP_FAILED || reader_page == MAP_FAILED)
        abort();
}

/* Input is short: records of (slot or control, offset, 8 bytes), so that a mutation reaches every field. */
static void overwrite(uint8_t *page, size_t page_bytes, const uint8_t *data, size_t len)
{
    for (; len >= 11; data += 11, len -= 11) {
        size_t at =
            (data[0] % 8 * 1024u + ((size_t)data[1] | (size_t)data[2] << 8) % 1024) % (page_bytes - 8);
        memcpy(page + at, data + 3, 8);
    }
}

static void consume(const uint8_t *data, size_t len)
{
    struct wv_ring_consumer *c;
    ((struct ring_control *)control)->magic = RING_MAGIC;
    if (wv_ring_consumer_new(&c, frames, reader) < 0)
        abort();
    struct ring_control *k = (struct ring_control *)control;
    k->latest = 1 << 8 | 2;
    k->slots[2].slot.state = 1;
    k->slots[2].slot.header = (struct wv_frame_header){
        .sequence = 1, .format = WV_PIXEL_NV12, .width = 64, .height = 32, .stride = 64};
    overwrite(control, RING_CONTROL_BYTES, data, len);
    struct wv_frame_header h;
    const uint8_t *pixels;
    for (int i = 0; i < 3; i++) {
        if (wv_ring_acquire(c, &h, &pixels) != 0)
            continue;
        if (h.n_damage > WV_RING_DAMAGE_MAX || h.stride < h.width)
            abort();
        sink ^= pixels[0] ^ pixels[(size_t)h.stride * h.height / 2 * 3 - 1];
    }
    wv_ring_consumer_free(c);
}

static void produce(const uint8_t *data, size_t len)
{
    struct wv_ring_producer *p;
    if (wv_ring_producer_new(&p, frames, reader) < 0)
        abort();
    uint64_t last = 0;
    for (int i = 0; i < 8; i++) {
        size_t share = WV_MIN(len, (size_t)11);
        overwrite(reader_page, 64, data, share);
        data += share;
        len -= share;
        uint8_t *pixels;
        unsigned slot = wv_ring_begin(p, &pixels);
        if (slot >= WV_RING_SLOTS || (last && wv_ring_slot_sequence(p, slot) == last))
            abort();
        memset(pixels, i, wv_ring_slot_bytes(p));
        struct wv_frame_header h = {.format = WV_PIXEL_NV12, .width = 64, .height = 32, .stride = 64};
        wv_ring_publish(p, &h, 1);
        last = h.sequence;
    }
    wv_ring_producer_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    make_ring();
    if (data[0] % 2 == 0)
        consume(data + 1, len - 1);
    else
        produce(data + 1, len - 1);
    return 0;
}
