/* The feedback report about one direction of media: which packets arrived and when, in few bytes. The
 * receiver's side writes it, the sender's side reads it. Neither reads a clock or keeps a pointer; the reader
 * bounds every count before it uses it. proto/WIRE.md section 6.6 (REPORT) says every byte. */
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
