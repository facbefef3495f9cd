/* The bus: protobuf-c messages over ZeroMQ ipc:// between two stages. Each pair of stages that talk has one
 * link: one side binds, the other connects, the socket file lies in a folder that only these two may enter
 * (so the link is the sender). A message is two parts: the protobuf full name, and the packed bytes. What may
 * arrive on a link is a const table; everything else is counted and dropped. */
#pragma once

#include "lib/ipc/loop.h"

#include <protobuf-c/protobuf-c.h>

struct wv_bus;
struct wv_bus_link;

enum wv_bus_phase { WV_PHASE_START = 1, WV_PHASE_RUN = 2, WV_PHASE_DRAIN = 4, WV_PHASE_ANY = 7 };

/* A peer's message was unpacked and within its rate. A negative return is fatal for the stage. */
typedef int (*wv_bus_handler_fn)(void *userdata, const ProtobufCMessage *message, uint64_t now);

struct wv_bus_rule {
    const char *sender; /* the stage at the other end of the link */
    const ProtobufCMessageDescriptor *type;
    unsigned phases;         /* enum wv_bus_phase, or-ed */
    uint32_t max_per_second; /* token bucket with a burst of the same size */
    size_t max_bytes;        /* of the packed message */
    wv_bus_handler_fn handle;
};

struct wv_bus_stats {
    uint64_t sent, received, dropped_unknown, dropped_phase, dropped_rate, dropped_malformed, dropped_size,
        dropped_unsent;
};

enum { WV_BUS_UNSENT = 1 };

/* The ZeroMQ context has one I/O thread. Call before the sandbox closes (it makes threads and sockets). */
int wv_bus_new(struct wv_bus **ret, struct wv_loop *loop, const struct wv_bus_rule *rules, size_t n_rules,
               void *userdata);
struct wv_bus *wv_bus_free(struct wv_bus *b);
/* Adds the link to PEER at the unix socket PATH. BIND or connect (and reconnect within 20 ms, for ever). */
int wv_bus_add_link(struct wv_bus *b, const char *peer, const char *path, bool bind,
                    struct wv_bus_link **ret_link);
struct wv_bus_link *wv_bus_link(struct wv_bus *b, const char *peer); /* NULL when there is none */
void wv_bus_set_phase(struct wv_bus *b, enum wv_bus_phase phase);
/* Packs and sends without waiting. Returns 0, or WV_BUS_UNSENT when nobody is connected or the queue is full
 * (messages are never queued for a peer that isn't there). LINK may be NULL: WV_BUS_UNSENT. */
int wv_bus_send(struct wv_bus_link *link, const ProtobufCMessage *message);
void wv_bus_get_stats(const struct wv_bus *b, struct wv_bus_stats *ret);
