/* What the two kinds of bus share: the calls that each fills in, and a bounded queue of messages. */
#pragma once

#include "services/gateway/bus.h"

#include <stdatomic.h>

#define WV_BUS_QUEUE_MESSAGES 16384
#define WV_BUS_QUEUE_BYTES    (16u << 20)
#define WV_BUS_TURN_MESSAGES  256

struct wv_bus_ops {
    const char *kind;
    int (*publish)(struct wv_bus *b, const char *to, const void *data, size_t len);
    void (*dispatch)(struct wv_bus *b);
    bool (*is_up)(const struct wv_bus *b);
    void (*close)(struct wv_bus *b); /* frees B */
};

struct wv_bus {
    const struct wv_bus_ops *ops;
    struct wv_bus_calls calls;
    char self[WV_BUS_ID_BYTES];
    _Atomic uint64_t sent, received, refused, dropped, reconnects;
};

struct wv_bus_item {
    struct wv_bus_item *next;
    char to[WV_BUS_ID_BYTES]; /* "": all */
    size_t len;
    uint8_t data[];
};

/* First in, first out; not locked. */
struct wv_bus_queue {
    struct wv_bus_item *first, **last;
    size_t messages, bytes;
};

void wv_bus_queue_init(struct wv_bus_queue *q);
/* Copies. Returns 0, -ENOBUFS (full), -ENOMEM. */
int wv_bus_queue_put(struct wv_bus_queue *q, const char *to, const void *data, size_t len);
struct wv_bus_item *wv_bus_queue_take(struct wv_bus_queue *q); /* the caller frees it; NULL: empty */
size_t wv_bus_queue_clear(struct wv_bus_queue *q);             /* how many there were */

bool wv_bus_is_id(const char *id);
int wv_bus_open_nats(struct wv_bus **ret, const char *url, const char *self, const struct wv_bus_calls *calls,
                     char reason[WV_BUS_REASON_BYTES]);
