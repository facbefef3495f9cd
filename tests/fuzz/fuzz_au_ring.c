/* The access-unit ring against the other side's bytes. First byte: even, an honest ring with two entries has
 * words of it overwritten and a consumer pops; odd, the reader's position is overwritten between pushes. */
#include "lib/base/util.h"
#include "lib/ipc/au_ring.h"
#include "lib/ipc/au_ring_layout.h"

#include <string.h>
#include <sys/mman.h>

static int entries, reader;
static volatile uint8_t sink; /* reads that may not be left out */
static uint8_t *memory;
static struct au_reader *reader_page;

static void make_ring(void)
{
    if (memory)
        return;
    if (wv_au_ring_create(&entries, &reader) < 0)
        abort();
    memory = mmap(NULL, AU_TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, entries, 0);
    reader_page = mmap(NULL, AU_READER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0);
    if (memory == MAP_FAILED || reader_page == MAP_FAILED)
        abort();
}

static void push(struct wv_au_producer *p, size_t len)
{
    static const uint8_t data[70000];
    struct wv_au_header h = {.width = 64, .height = 32};
    if (wv_au_push(p, &h, data, WV_MIN(len, sizeof(data)), 1) < 0)
        abort();
}

static void consume(const uint8_t *data, size_t len)
{
    struct wv_au_producer *p;
    struct wv_au_consumer *c;
    memset(memory, 0, AU_CONTROL_BYTES);
    /* Near the end of the ring, so that fillers and wrapping are in play. */
    ((struct au_control *)memory)->write = reader_page->read = AU_DATA_BYTES - 512;
    if (wv_au_producer_new(&p, entries, reader) < 0 || wv_au_consumer_new(&c, entries, reader) < 0)
        abort();
    push(p, 100);
    push(p, 600);
    for (; len >= 10; data += 10, len -= 10) { /* region, word, 8 bytes */
        static const size_t regions[] = {0, AU_CONTROL_BYTES + AU_DATA_BYTES - 512,
                                         AU_CONTROL_BYTES + AU_DATA_BYTES - 256, AU_CONTROL_BYTES};
        memcpy(memory + regions[data[0] % 4] + data[1] % 31 * 8, data + 2, 8);
    }
    for (int i = 0; i < 6; i++) {
        struct wv_au_header h;
        const uint8_t *got;
        if (wv_au_pop(c, &h, &got) != 0)
            continue;
        if (h.size > WV_AU_MAX_BYTES)
            abort();
        for (uint32_t at = 0; at < h.size; at += 4096)
            sink ^= got[at];
        if (h.size)
            sink ^= got[h.size - 1];
        wv_au_pop_done(c);
    }
    wv_au_consumer_free(c);
    wv_au_producer_free(p);
}

static void produce(const uint8_t *data, size_t len)
{
    struct wv_au_producer *p;
    if (wv_au_producer_new(&p, entries, reader) < 0)
        abort();
    for (; len >= 10; data += 10, len -= 10) {
        uint64_t read;
        memcpy(&read, data + 2, 8);
        reader_page->read = read;
        push(p, (size_t)data[0] << 8 | data[1]);
    }
    wv_au_producer_free(p);
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
