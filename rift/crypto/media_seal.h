/* Access units sealed end to end, once for all viewers, in the shape of SFrame (RFC 9605): header (KID and
 * CTR of variable length), ChaCha20-Poly1305, key schedule of section 4.4.2 with HKDF-SHA512 and the private
 * cipher suite 0xf001. Pure: no I/O. WIRE.md section 11. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RIFT_MEDIA_KEY_BYTES    32
#define RIFT_MEDIA_HEADER_MAX   17
#define RIFT_MEDIA_TAG_BYTES    16
#define RIFT_MEDIA_OVERHEAD_MAX (RIFT_MEDIA_HEADER_MAX + RIFT_MEDIA_TAG_BYTES)
#define RIFT_MEDIA_KEYS         4 /* that a receiver knows at once */

/* What of a frame's description is authenticated with it. */
struct rift_media_about {
    uint16_t epoch;
    uint8_t keyframe; /* 0 or 1 */
    uint16_t width, height;
};

/* Sender. A key is used by one process only: who starts anew asks for a new key. */
struct rift_media_sealer {
    uint32_t kid; /* 0: there is no key yet */
    uint8_t key[32], salt[12];
    uint64_t next; /* CTR */
};
void rift_media_sealer_init(struct rift_media_sealer *s, uint32_t kid,
                            const uint8_t base[RIFT_MEDIA_KEY_BYTES]);
/* Writes header, ciphertext and tag of the LEN bytes at DATA to RET (LEN + RIFT_MEDIA_OVERHEAD_MAX is always
 * enough; RET must not overlap DATA). Returns 0, -ENOKEY (no key), -EMSGSIZE, -EOVERFLOW. */
int rift_media_seal(struct rift_media_sealer *s, const struct rift_media_about *about, const uint8_t *data,
                    size_t len, uint8_t *ret, size_t capacity, size_t *ret_len);

/* Receiver: the newest RIFT_MEDIA_KEYS keys. */
struct rift_media_opener {
    struct {
        uint32_t kid; /* 0: free */
        uint8_t key[32], salt[12];
    } keys[RIFT_MEDIA_KEYS];
    uint32_t last_kid;
    uint64_t next; /* lowest CTR still accepted under last_kid */
};
enum { RIFT_MEDIA_UNKNOWN_KEY = 1 };
void rift_media_opener_init(struct rift_media_opener *o);
/* Forgets the oldest key when there are too many. A KID that is known keeps its key. */
void rift_media_opener_add(struct rift_media_opener *o, uint32_t kid,
                           const uint8_t base[RIFT_MEDIA_KEY_BYTES]);
/* Opens in place; RET_DATA points into SEALED. Returns 0, RIFT_MEDIA_UNKNOWN_KEY (a key that may still come:
 * SEALED is unchanged), -EBADMSG: malformed, forged, or not after the last one that was opened (KIDs and, of
 * one KID, CTRs only rise). */
int rift_media_open(struct rift_media_opener *o, const struct rift_media_about *about, uint8_t *sealed,
                    size_t len, uint8_t **ret_data, size_t *ret_len);
