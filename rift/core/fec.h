/* Forward error correction of video: repair symbols that give back lost fragments without a round trip,
 * either of one frame (systematic Reed-Solomon on a Cauchy matrix) or of a window of 4 frames (a
 * sliding-window code in the spirit of RFC 8681). One wire format and one decoder serve both, so that a
 * sender may mix them from repair to repair. Arithmetic by ISA-L, GF(2^8) modulo 0x11d.
 *
 * Sans-IO: no socket, clock or thread. All memory is taken by the two _new() functions; nothing is allocated
 * per frame or packet. It must only ever see authentic input (behind the datagram's AEAD): what it computes
 * from a wrong repair is wrong. It stays inside its memory for any bytes whatever.
 *
 * The body of VIDEO_REPAIR and its code: proto/WIRE.md, section 6.8. */
#pragma once

#include "lib/base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_FEC_WINDOW          4    /* frames that one repair may cover */
#define RIFT_FEC_GROUP           128  /* fragments of one frame that one repair may cover */
#define RIFT_FEC_WINDOW_SOURCES  256  /* fragments that one repair of several frames may cover */
#define RIFT_FEC_FRAME_FRAGMENTS 1024 /* longer frames outlast a round trip: they are not protected */
#define RIFT_FEC_INDICES         128  /* repairs of one group */
#define RIFT_FEC_REPAIRS         256  /* of one frame, all groups together */
#define RIFT_FEC_SHARE_MAX       500  /* repairs per 1000 fragments */
#define RIFT_FEC_SYMBOL_MAX      9000 /* bytes; no path's MTU is larger */
#define RIFT_FEC_FRAME_MAX_BYTES 4194328u

/* Bytes of a repair's body in front of the symbol, covering N frames. A session that sends repairs cuts
 * frames into fragments that leave this much room: RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW) = 23 against
 * VIDEO's 13. */
#define RIFT_FEC_HEAD_BYTES(n) (11u + 3u * (n))

enum {
    RIFT_FEC_IGNORED = 1, /* of no use: a duplicate, too old, too large, or nothing is missing */
    RIFT_FEC_NONE = 1,    /* no more */
};

/* ---- How much, and of which kind ---- */

enum rift_fec_spread {
    RIFT_FEC_LOCAL, /* repairs cover their own frame only: best when losses exceed what repairs can mend */
    RIFT_FEC_WIDE,  /* repairs cover 4 frames, every other one leaves out the frame before: nearly as good
                     * within  the frame, and later frames mend what was left */
};

enum rift_fec_reason {
    RIFT_FEC_CLEAN,      /* protection would cost more than the losses do */
    RIFT_FEC_RETRANSMIT, /* asking again is quick enough */
    RIFT_FEC_PROTECT,    /* the share at which one repair more would save less than it costs */
    RIFT_FEC_LIMIT,      /* RIFT_FEC_SHARE_MAX; more would still help */
    RIFT_FEC_HOPELESS,   /* losses beyond any share; protecting would only add load */
};

/* What was measured. */
struct rift_fec_path {
    uint32_t loss_ppm;    /* datagrams lost that congestion does not explain, per million */
    uint32_t burst_milli; /* mean number of datagrams lost in a row, in thousandths; 0: single losses */
    uint64_t rtt_ns;      /* 0: not known, taken as long */
    uint32_t fragments;   /* of a usual frame */
};

struct rift_fec_plan {
    uint16_t share_permille; /* repairs per 1000 fragments, 0 to RIFT_FEC_SHARE_MAX */
    enum rift_fec_spread spread;
    enum rift_fec_reason reason;
    uint32_t residual_ppm; /* frames that their own repairs will not mend, per million, as modelled */
};

/* Pure. Costs up to some 50 us: for every change of what is measured, not for every frame. */
void rift_fec_plan(const struct rift_fec_path *path, struct rift_fec_plan *ret_plan);

/* Probability in millionths that of FRAGMENTS + REPAIRS datagrams in a row more than REPAIRS are lost, for a
 * two-state (Gilbert) channel. FRAGMENTS at most RIFT_FEC_GROUP, REPAIRS at most FRAGMENTS / 2 + 1. */
uint32_t rift_fec_residual_ppm(const struct rift_fec_path *path, unsigned fragments, unsigned repairs);

/* The better kind when single frames stay broken with this probability. */
enum rift_fec_spread rift_fec_spread_for(uint32_t residual_ppm);

/* A sentence for logs and status. */
const char *rift_fec_reason_text(enum rift_fec_reason reason);

/* The cover of repair INDEX of frame FRAME_ID under SPREAD, before frames that are not there are left out. */
uint8_t rift_fec_cover(enum rift_fec_spread spread, uint32_t frame_id, unsigned index);

/* ---- Sender ---- */

/* A frame as it is cut into fragments. */
struct rift_fec_frame {
    uint32_t frame_id;
    uint16_t epoch;
    bool keyframe;
    uint16_t size; /* of each fragment but the last */
    bool padded;   /* behind DATA's LEN bytes come zeros up to a multiple of SIZE: saves a copy of the last */
    size_t len;
    const uint8_t *data;
};

struct rift_fec_encoder;

/* For fragments of at most SYMBOL_BYTES. Returns 0, -EINVAL, -ENOMEM. */
int rift_fec_encoder_new(struct rift_fec_encoder **ret_encoder, size_t symbol_bytes);

/* Returns NULL. */
struct rift_fec_encoder *rift_fec_encoder_free(struct rift_fec_encoder *e);

/* The frame FRAMES[0] was sent; computes its repairs, to be taken by rift_fec_encoder_write(). FRAMES[1..N-1]
 * are earlier frames, newest first, that the client is not known to be done with; those that a repair can't
 * cover (other epoch or size, not adjacent, before a keyframe) are left out. Repairs of the frame before that
 * were not written yet are dropped. Fractions of a repair are carried over to the next frame. Keeps no
 * pointer. Returns 0, RIFT_FEC_IGNORED (no repair for this one), -EINVAL (a frame that can't be). */
int rift_fec_encoder_frame(struct rift_fec_encoder *e, const struct rift_fec_frame *frames, unsigned n,
                           uint16_t share_permille, enum rift_fec_spread spread);

/* Exactly N repairs, indices from FIRST, for group GROUP of WINDOW[0]; WINDOW[d] is the frame d before it or
 * NULL, COVERS[i] tells which of them repair FIRST + i covers. They are appended to those to be written.
 * Returns 0, -EINVAL, -ENOSPC. For those who plan by themselves; rift_fec_encoder_frame() is made of it. */
int rift_fec_encode(struct rift_fec_encoder *e, const struct rift_fec_frame *const window[RIFT_FEC_WINDOW],
                    unsigned group, unsigned first, unsigned n, const uint8_t *covers);

/* How many repairs wait to be written, and how long the body of the next one is (0: none). */
unsigned rift_fec_encoder_pending(const struct rift_fec_encoder *e);
size_t rift_fec_encoder_next_bytes(const struct rift_fec_encoder *e);

/* Writes the body of the next repair. Returns 0, RIFT_FEC_NONE, -ENOSPC (it does not fit and stays). */
int rift_fec_encoder_write(struct rift_fec_encoder *e, struct wv_writer *w);

/* Drops what was not written. */
void rift_fec_encoder_clear(struct rift_fec_encoder *e);

struct rift_fec_encoder_stats {
    uint64_t frames, repairs, repairs_dropped;
};
void rift_fec_encoder_get_stats(const struct rift_fec_encoder *e, struct rift_fec_encoder_stats *ret_stats);

/* ---- Receiver ---- */

struct rift_fec_fragment {
    uint32_t frame_id;
    uint16_t epoch;
    bool keyframe;
    uint16_t count, size, index;
    const uint8_t *data;
    size_t len;
};

struct rift_fec_decoder;

/* Returns 0, -EINVAL, -ENOMEM. Memory is bounded by 1280 symbols and 750 kB; what is never used
 * is never touched. */
int rift_fec_decoder_new(struct rift_fec_decoder **ret_decoder, size_t symbol_bytes);

/* Returns NULL. */
struct rift_fec_decoder *rift_fec_decoder_free(struct rift_fec_decoder *d);

/* A fragment came (first sent or sent again); it is copied. Returns 0, RIFT_FEC_IGNORED, -EBADMSG
 * (impossible, or contradicts what is known of its frame). */
int rift_fec_decoder_source(struct rift_fec_decoder *d, const struct rift_fec_fragment *fragment);

/* The body of a VIDEO_REPAIR came. Returns 0, RIFT_FEC_IGNORED, -EBADMSG. */
int rift_fec_decoder_repair(struct rift_fec_decoder *d, struct wv_reader *body);

/* The next fragment that was recovered: to be called after each of the two above until RIFT_FEC_NONE. Its
 * data is valid until the next call of them. Returns 0 or RIFT_FEC_NONE. */
int rift_fec_decoder_next(struct rift_fec_decoder *d, struct rift_fec_fragment *ret_fragment);

struct rift_fec_decoder_stats {
    uint64_t sources, repairs;   /* that were not ignored */
    uint64_t recovered;          /* fragments */
    uint64_t repairs_spare;      /* nothing they could tell */
    uint64_t repairs_late;       /* reached back too far */
    uint64_t repairs_given_up;   /* their frames went out of sight before they were of use, or no room */
    uint64_t malformed, refused; /* refused: no room for a fragment, or too large a frame */
    unsigned waiting;            /* repairs held now */
};
void rift_fec_decoder_get_stats(const struct rift_fec_decoder *d, struct rift_fec_decoder_stats *ret_stats);
