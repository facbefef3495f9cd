/* The raw frame ring: one producer (capture), one consumer (encoder), N slots of raw pictures in one sealed
 * memfd. The producer never waits and the newest frame wins. The consumer maps it read only and says on a
 * page of its own which slot it reads, so that a slot in use is never overwritten. Either side may die and
 * come back, and either side treats everything that the other wrote as foreign bytes: copied once, checked,
 * then used. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_RING_SLOTS      4
#define WV_RING_DAMAGE_MAX 16
#define WV_RING_MAX_WIDTH  7680
#define WV_RING_MAX_HEIGHT 4320

enum wv_pixel_format { WV_PIXEL_NV12 = 1 }; /* BT.601 limited range; Y plane, then interleaved UV plane */

struct wv_rect {
    int32_t x, y, width, height; /* pixels */
};

struct wv_frame_header {
    uint64_t sequence;      /* set by publish: +1 each; over a restart of the producer it may skip one */
    uint64_t capture_ns;    /* monotonic: the picture was taken (read from the display) */
    uint64_t damage_ns;     /* monotonic: the first change that this picture shows was noticed; 0 unknown */
    uint64_t publish_ns;    /* set by publish */
    uint32_t format;        /* enum wv_pixel_format */
    uint32_t width, height; /* pixels, even */
    uint32_t stride;        /* bytes per row, both planes; plane 1 starts at stride * height */
    uint32_t input_seq;     /* highest input sequence injected before the picture was taken */
    uint32_t n_damage;      /* 0: everything may have changed */
    struct wv_rect damage[WV_RING_DAMAGE_MAX]; /* since the previous sequence */
};

struct wv_ring_producer;
struct wv_ring_consumer;

enum { WV_RING_EMPTY = 1, WV_RING_BAD = 2 };

/* Creates the two memfds, sized for WV_RING_SLOTS pictures of at most MAX_WIDTH x MAX_HEIGHT (sparse: memory
 * is used only once written), sealed against shrinking and growing. RET_FRAMES is for the producer to write
 * and the consumer to read, RET_READER the other way round. Returns 0 or a negative errno. */
int wv_ring_create(uint32_t max_width, uint32_t max_height, int *ret_frames, int *ret_reader);

/* A descriptor of the same memfd that can only be mapped read only. Returns it or a negative errno. */
int wv_memfd_reopen_read_only(int fd);

/* Maps the ring: FRAMES_FD writable, READER_FD read only. Descriptors stay the caller's. Continues after the
 * sequence that an earlier producer left; where that one left disorder, at a high random one, so that the
 * first picture is new to every consumer. Returns 0, -EBADMSG (not a ring of this version), negative errno.
 */
int wv_ring_producer_new(struct wv_ring_producer **ret, int frames_fd, int reader_fd);
struct wv_ring_producer *wv_ring_producer_free(struct wv_ring_producer *p);

/* Largest picture in bytes that a slot holds. */
size_t wv_ring_slot_bytes(const struct wv_ring_producer *p);

/* A slot to write into, never the newest nor the one being read: its index (0..WV_RING_SLOTS-1; contents are
 * those of the picture last published from this slot, see wv_ring_slot_sequence) and its pixels. Always
 * succeeds. */
unsigned wv_ring_begin(struct wv_ring_producer *p, uint8_t **ret_pixels);
/* The sequence last published from slot INDEX by this producer, 0: none (contents undefined). */
uint64_t wv_ring_slot_sequence(const struct wv_ring_producer *p, unsigned index);
/* Publishes the slot of the last wv_ring_begin(). HEADER's sequence and publish_ns are filled in. NOW in ns.
 */
void wv_ring_publish(struct wv_ring_producer *p, struct wv_frame_header *header, uint64_t now);

/* FRAMES_FD read only, READER_FD writable. Returns like wv_ring_producer_new(). */
int wv_ring_consumer_new(struct wv_ring_consumer **ret, int frames_fd, int reader_fd);
struct wv_ring_consumer *wv_ring_consumer_free(struct wv_ring_consumer *c);

/* Takes the newest picture if it is newer than the one held, and releases the held one. The header is a
 * checked copy; RET_PIXELS (read only) stays valid and unchanged by an honest producer until the next acquire
 * or release. Returns 0, WV_RING_EMPTY (nothing newer; what is held stays held), WV_RING_BAD (a header that
 * doesn't check out: counted by the caller; what is held stays held). */
int wv_ring_acquire(struct wv_ring_consumer *c, struct wv_frame_header *ret_header,
                    const uint8_t **ret_pixels);
void wv_ring_release(struct wv_ring_consumer *c);
