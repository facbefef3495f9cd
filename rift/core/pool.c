#include "rift/core/pool.h"

#include <errno.h>
#include <stdlib.h>

#define ROUND_BYTES 16384u

int rift_pool_take(struct rift_pool *p, size_t need, struct rift_buffer *ret_buffer)
{
    struct rift_buffer *best = NULL;
    for (unsigned i = 0; i < RIFT_POOL_BUFFERS; i++) {
        struct rift_buffer *b = &p->spare[i];
        if (b->data && b->capacity >= need && (!best || b->capacity < best->capacity))
            best = b;
    }
    if (best) {
        p->spare_bytes -= best->capacity;
        *ret_buffer = *best;
        *best = (struct rift_buffer){0};
        return 0;
    }
    size_t capacity = (need + ROUND_BYTES - 1) / ROUND_BYTES * ROUND_BYTES;
    uint8_t *data = malloc(capacity);
    if (!data)
        return -ENOMEM;
    p->held_bytes += capacity;
    *ret_buffer = (struct rift_buffer){.data = data, .capacity = capacity};
    return 0;
}

static void release(struct rift_pool *p, struct rift_buffer *b)
{
    p->held_bytes -= b->capacity;
    free(b->data);
    *b = (struct rift_buffer){0};
}

void rift_pool_give(struct rift_pool *p, struct rift_buffer *b)
{
    if (!b->data)
        return;
    /* A free place, or else the smallest spare, which is the least useful one. */
    struct rift_buffer *place = &p->spare[0];
    for (unsigned i = 0; i < RIFT_POOL_BUFFERS; i++)
        if (p->spare[i].capacity < place->capacity)
            place = &p->spare[i];
    if (place->capacity >= b->capacity || p->spare_bytes - place->capacity + b->capacity > RIFT_POOL_BYTES) {
        release(p, b);
        return;
    }
    if (place->data) {
        p->spare_bytes -= place->capacity;
        release(p, place);
    }
    p->spare_bytes += b->capacity;
    *place = *b;
    *b = (struct rift_buffer){0};
}

void rift_pool_fini(struct rift_pool *p)
{
    for (unsigned i = 0; i < RIFT_POOL_BUFFERS; i++)
        if (p->spare[i].data)
            release(p, &p->spare[i]);
    p->spare_bytes = 0;
}
