/* The feedback report about one direction of media: which packets arrived and when, in few bytes. The
 * receiver's side writes it, the sender's side reads it. Neither reads a clock or keeps a pointer; the reader
 * bounds every count before it uses it.
 *
 * Format. Integers are little-endian; `varint` is LEB128 (7 bits per byte, least significant first, at most
 * 10 bytes, of which the 10th is at most 1); `signed` is a zigzag varint.
 *
 *   u8      version    1
 *   varint  number     of this report, 0, 1, 2, ... (mod 2^32)
 *   u64     base_seq   of the first packet that the report speaks of; it arrived
 *   u64     base_time  arrival of that packet, microseconds of the receiver's clock
 *   varint  held       microseconds from the newest arrival to the writing of the report
 *   then runs, to the end of the datagram; the first one starts at base_seq and base_time:
 *   varint  kind       = (count - 1) * 8 + bent * 4 + lost_before * 2 + marked
 *   varint  lost       only with lost_before: packets that are missing right before the run, at least 1
 *   signed  gap        not in the first run: microseconds from the last arrival of the run before
 *   signed  head       only with bent (count is at least 3 then): microseconds from the run's first arrival
 * to its second signed  length     only with count > 1: microseconds from the run's first arrival (with bent:
 * from its second) to its last varint  ce         only with marked: how many of the run's packets came with
 * CE, 1 to count
 *
 * A run is `count` packets of consecutive sequence numbers whose arrivals lie on a straight line. Without
 * `bent` they do so to 2 us. With `bent` the first, the second and the last arrival are exact, and those
 * between lie on the line from the second to the last within a tolerance that the writer chooses, so that the
 * report fits its budget. Trains that came through a bottleneck are straight lines: a frame of 100 packets
 * takes some 6 bytes.
 * The reader takes the run's first `ce` packets as the marked ones; only their number is meant.
 * Each report starts where the report before the last one ended, so that a lost report costs one interval of
 * delay and nothing else. A packet that was reported missing and came late is told as arrived while it lies
 * in that range.
 */
#pragma once

#include "rift/core/cc.h"

#define RIFT_FEEDBACK_VERSION      1
#define RIFT_FEEDBACK_MAX_BYTES    1160 /* a report fits a datagram of 1200 with its headers */
#define RIFT_FEEDBACK_MAX_PACKETS  1024 /* that one report speaks of */
#define RIFT_FEEDBACK_HEADER_BYTES 40   /* of the datagram around it; counts against the budget */

struct rift_feedback_writer;

/* FPS is the rate at which frames are expected (reports are written at a frame's end when that is not too
 * often). Returns 0 or -ENOMEM, -EINVAL. */
int rift_feedback_writer_new(struct rift_feedback_writer **ret_writer, double fps);

/* Returns NULL. */
struct rift_feedback_writer *rift_feedback_writer_free(struct rift_feedback_writer *w);

/* A packet arrived at NOW. */
void rift_feedback_on_packet(struct rift_feedback_writer *w, uint64_t seq, bool last_in_frame, bool ce,
                             uint64_t now);

/* Writes the report that is due. Returns its length, or 0 when none is due or CAPACITY is too small. */
size_t rift_feedback_write(struct rift_feedback_writer *w, uint8_t *buffer, size_t capacity, uint64_t now);

/* When rift_feedback_write() has something to write even if nothing arrives, or RIFT_CC_NEVER. */
uint64_t rift_feedback_timeout(const struct rift_feedback_writer *w);

/* Reads a report into ARRIVALS (room for RIFT_FEEDBACK_MAX_PACKETS); RET_REPORT points into it. Returns 0, or
 * -EBADMSG when it is malformed. Sequence numbers and times are what the peer claims: the controller decides
 * whether they can be true. */
int rift_feedback_read(const uint8_t *data, size_t len, struct rift_cc_arrival *arrivals,
                       struct rift_cc_report *ret_report);
