/* The access-unit ring's shared memory, as both sides and their tests see it. Internal to lib/ipc.
 *
 * Entries memfd (producer writes): | struct au_control, 4 KiB | data, AU_DATA_BYTES |
 * Reader memfd (consumer writes):  | struct au_reader, 4 KiB |
 * An entry: struct au_entry, the access unit, padding to AU_ALIGN. */
#pragma once

#include "lib/ipc/au_ring.h"

#include <stdatomic.h>

#define AU_MAGIC         UINT64_C(0x31474e5241565721) /* "!WVARNG1" */
#define AU_CONTROL_BYTES 4096u
#define AU_READER_BYTES  4096u
#define AU_ALIGN         128u
#define AU_ENTRY_BYTES   128u
/* A little more than two of the largest entries, so that one always fits an empty ring behind a filler. */
#define AU_DATA_BYTES   ((uint64_t)WV_AU_RING_BYTES + 4096u)
#define AU_TOTAL_BYTES  ((size_t)(AU_CONTROL_BYTES + AU_DATA_BYTES))
#define AU_MAX_POSITION (UINT64_C(1) << 62)

enum { AU_ENTRY = 0x41554e54, AU_FILLER = 0x46494c4c };

struct au_control {
    _Atomic uint64_t magic;
    _Atomic uint32_t epoch;
    _Atomic uint32_t next_frame;
    _Alignas(64) _Atomic uint64_t write; /* position past the last whole entry */
};

struct au_reader {
    _Atomic uint64_t read; /* position of the first entry still needed */
};

struct au_entry {
    uint32_t kind;
    uint64_t position; /* of this entry: tells a fresh one from what an earlier turn left here */
    uint64_t total;    /* bytes up to the next entry */
    struct wv_au_header header;
};

_Static_assert(sizeof(struct au_entry) <= AU_ENTRY_BYTES, "entry header");
_Static_assert(AU_DATA_BYTES % AU_ALIGN == 0, "entries stay aligned over the end");
_Static_assert(AU_DATA_BYTES >= 2 * (uint64_t)(WV_AU_MAX_BYTES + AU_ENTRY_BYTES), "the largest entry fits");
