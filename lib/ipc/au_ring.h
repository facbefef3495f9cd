/* The access-unit ring: one producer (encoder), one consumer (transport), entries of variable size, in order,
 * none skipped. When it is full the producer is told so (and makes a keyframe later); nothing is dropped
 * silently. Same trust rules as lib/ipc/ring.h: a sealed memfd, the consumer's position on a page of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_AU_RING_BYTES (8u << 20)
#define WV_AU_MAX_BYTES  (4u << 20)

struct wv_au_header {
    uint32_t frame_id;                    /* +1 each; set by push; goes on after a restart of the producer */
    uint16_t epoch;                       /* of this producer: see wv_au_producer_epoch() */
    uint8_t keyframe;                     /* 0 or 1 */
    uint16_t width, height;               /* of the coded picture */
    uint16_t source_width, source_height; /* of the captured one; 0: the same */
    uint32_t refers_to;                   /* frame id that it needs; for a keyframe its own */
    uint32_t input_seq;
    uint64_t damage_ns, capture_ns, raw_publish_ns, encode_start_ns, encode_end_ns; /* monotonic */
    uint64_t publish_ns;                                                            /* set by push */
    uint32_t size; /* bytes of the access unit, as sealed (rift/crypto/media_seal.h) */
};

struct wv_au_producer;
struct wv_au_consumer;

enum { WV_AU_EMPTY = 1, WV_AU_FULL = 1, WV_AU_BAD = 2 };

int wv_au_ring_create(int *ret_entries, int *ret_reader);

/* Takes over after an earlier producer: its whole entries stay, what is broken behind them is dropped, and
 * the first entry of this one is the consumer's next. The epoch is one more. Returns 0, -EBADMSG, negative
 * errno. */
int wv_au_producer_new(struct wv_au_producer **ret, int entries_fd, int reader_fd);
struct wv_au_producer *wv_au_producer_free(struct wv_au_producer *p);
uint16_t wv_au_producer_epoch(const struct wv_au_producer *p);
/* Room for one access unit of at most CAPACITY bytes, to be written in place and then committed with the LEN
 * that it has. The consumer can see what is written there before it counts: nothing that it must not see may
 * pass through. A new reservation replaces the last one. Returns 0, WV_AU_FULL, -EMSGSIZE; and of the commit,
 * which fills in frame_id, epoch, publish_ns and size, also in HEADER: 0, or -EINVAL without a reservation
 * for so much. */
int wv_au_reserve(struct wv_au_producer *p, size_t capacity, uint8_t **ret_room);
int wv_au_commit(struct wv_au_producer *p, struct wv_au_header *header, size_t len, uint64_t now);
/* Copies one access unit in (frame_id, epoch, publish_ns and size are filled in, also in HEADER). Returns 0,
 * WV_AU_FULL (nothing written), -EMSGSIZE. */
int wv_au_push(struct wv_au_producer *p, struct wv_au_header *header, const uint8_t *data, size_t len,
               uint64_t now);

/* Starts at the position that the earlier consumer left. */
int wv_au_consumer_new(struct wv_au_consumer **ret, int entries_fd, int reader_fd);
struct wv_au_consumer *wv_au_consumer_free(struct wv_au_consumer *c);
/* The next entry: a checked copy of the header, RET_DATA inside the read-only mapping until wv_au_pop_done().
 * Returns 0, WV_AU_EMPTY, or WV_AU_BAD: the ring doesn't check out; the consumer has moved to its end and
 * needs a keyframe. */
int wv_au_pop(struct wv_au_consumer *c, struct wv_au_header *ret_header, const uint8_t **ret_data);
void wv_au_pop_done(struct wv_au_consumer *c);
/* Moves past everything that is in the ring (a stage that has no use for old entries). */
void wv_au_skip_all(struct wv_au_consumer *c);
