/* The raw ring's shared memory, as both sides and their tests see it. Internal to lib/ipc.
 *
 * Frames memfd (producer writes):  | control, 8 KiB | slot 0 | slot 1 | slot 2 | slot 3 |
 * Reader memfd (consumer writes):  | struct ring_reader, 4 KiB |
 *
 * Who may touch a slot is settled in the manner of Dekker, every access sequentially consistent:
 *   producer: stores state[slot] = 0, then loads `reading`; if the consumer has announced the slot it puts
 * the old state back and takes another one. consumer: sets its bit in `reading`, then loads state[slot]; if
 * that isn't the sequence that `latest` promised it looks at `latest` again. At least one of the two sees the
 * other, so no slot is written while it is read. `reading` is a set: while the consumer tries a newer picture
 * it keeps the one it holds. Newest, held and tried leave one of four slots free. */
#pragma once

#include "lib/ipc/ring.h"

#include <stdatomic.h>

#define RING_MAGIC         UINT64_C(0x31474e4952565721) /* "!WVRING1" */
#define RING_READER_MAGIC  UINT64_C(0x3144414552565721)
#define RING_CONTROL_BYTES 8192u
#define RING_READER_BYTES  4096u
#define RING_SLOT_ALIGN    4096u
#define RING_MAX_SEQUENCE  (UINT64_C(1) << 55)
/* A healed ring starts at a random sequence from here to twice here. */
#define RING_HEALED_SEQUENCE (UINT64_C(1) << 53)

struct ring_slot {
    _Atomic uint64_t state; /* sequence of the picture in the slot; 0: none, or being written */
    struct wv_frame_header header;
};

struct ring_control {
    _Atomic uint64_t magic;
    _Atomic uint64_t latest; /* sequence << 8 | slot; 0: none yet */
    _Alignas(1024) struct {
        _Alignas(1024) struct ring_slot slot;
    } slots[WV_RING_SLOTS];
};

struct ring_reader {
    _Atomic uint64_t magic;
    _Atomic uint32_t reading; /* bit i: slot i is in use */
};

_Static_assert(sizeof(struct ring_control) <= RING_CONTROL_BYTES, "control page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared words must be lock-free");

/* Bytes of a slot of a ring whose frames memfd has TOTAL bytes; 0 when no ring has that size. */
static inline size_t ring_slot_bytes_of(size_t total)
{
    if (total <= RING_CONTROL_BYTES || (total - RING_CONTROL_BYTES) % (WV_RING_SLOTS * RING_SLOT_ALIGN) != 0)
        return 0;
    return (total - RING_CONTROL_BYTES) / WV_RING_SLOTS;
}
