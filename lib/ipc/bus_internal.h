/* The bus's judgement of a message, apart from sockets. Internal to lib/ipc, its tests and fuzz targets. */
#pragma once

#include "lib/ipc/bus.h"

#define BUS_NAME_MAX 128 /* bytes of a message's protobuf full name */

struct bus_dispatcher;

/* Returns 0, -EINVAL (a rule without sender, type, handler or rate), -ENOMEM. Allocates all that dispatching
 * needs. */
int bus_dispatcher_new(struct bus_dispatcher **ret, const struct wv_bus_rule *rules, size_t n_rules,
                       void *userdata);
struct bus_dispatcher *bus_dispatcher_free(struct bus_dispatcher *d);
void bus_dispatcher_set_phase(struct bus_dispatcher *d, enum wv_bus_phase phase);
struct wv_bus_stats *bus_dispatcher_stats(struct bus_dispatcher *d);

/* Largest packed message that a rule lets SENDER send; 0: none. */
size_t bus_dispatcher_max_bytes(const struct bus_dispatcher *d, const char *sender);

/* Judges one message of N_PARTS parts from SENDER; the first two are NAME and DATA. Calls the handler, or
 * counts why not. Returns what the handler returned when that is negative, else 0. */
int bus_dispatch(struct bus_dispatcher *d, const char *sender, size_t n_parts, const void *name,
                 size_t name_len, const void *data, size_t len, uint64_t now);
