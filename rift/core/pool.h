/* A few spare buffers for frames, so that steady video allocates nothing. Bounded in number and bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RIFT_POOL_BUFFERS 8
#define RIFT_POOL_BYTES   (1u << 20)

struct rift_buffer {
    uint8_t *data;
    size_t capacity;
};

struct rift_pool {
    struct rift_buffer spare[RIFT_POOL_BUFFERS];
    size_t spare_bytes;
    size_t held_bytes; /* spare and handed out */
};

/* Returns 0 with at least NEED bytes (not cleared), or -ENOMEM. */
int rift_pool_take(struct rift_pool *p, size_t need, struct rift_buffer *ret_buffer);

/* Takes B back; it becomes empty. An empty one is fine. */
void rift_pool_give(struct rift_pool *p, struct rift_buffer *b);

void rift_pool_fini(struct rift_pool *p);
