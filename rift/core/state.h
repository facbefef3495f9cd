/* The stored state of a session, between its writer and its reader. Little-endian, of this machine only: a
 * version that is not ours is no state. Never a struct's memory image.
 *
 *   u32 magic, u16 version, u8 role, u8 0, u32 length of all
 *   ids, counters, keys, replay window, path, timing, cursor, input, video, control, rate; then u64 checksum
 */
#pragma once

#include "rift/core/session_internal.h"

#define RIFT_STATE_MAGIC          0x31535352u
#define RIFT_STATE_VERSION        3
#define RIFT_STATE_CHECKSUM_BYTES 8
#define RIFT_STATE_BLOCK_MIN      1024u
#define RIFT_STATE_BLOCK_MAX      (1u << 24)
#define RIFT_STATE_COUNTER_MAX    (UINT64_MAX - 1) /* no reservation goes further */

/* Flags of the path: its address is known; it moved a moment ago, and the old address, which may have it
 * back, follows. */
#define RIFT_STATE_KNOWN 1u
#define RIFT_STATE_MOVED 2u

/* Flags of a control chunk. */
#define RIFT_STATE_LAST  1u
#define RIFT_STATE_ACKED 2u /* without its data */
