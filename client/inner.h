/* Messages of the inner channel (proto/rift.proto, WIRE.md section 11), the client's end: what comes is a
 * host's word and leaves this module only checked and bounded. Sealing and opening is not done here. */
#pragma once

#include "client/wavry_client.h"
#include "rift/crypto/cpace.h"
#include "rift/crypto/media_seal.h"

#define WV_INNER_MAX_BYTES    2048 /* longer ones are not ours */
#define WV_INNER_NAME_BYTES   64   /* a longer name of ours is cut */
#define WV_INNER_REASON_BYTES 128  /* longer reasons are cut */

enum wv_inner_kind {
    WV_INNER_MEDIA_KEY = 1,
    WV_INNER_STANDING,
    WV_INNER_PAIR_SHARE,
    WV_INNER_PAIR_RESULT,
    WV_INNER_OTHER, /* well-formed, but not for us (a newer version): ignore */
};

struct wv_inner_message {
    enum wv_inner_kind kind;
    union {
        struct {
            uint32_t kid; /* never 0 */
            uint8_t key[RIFT_MEDIA_KEY_BYTES];
        } media_key;
        struct wv_client_standing standing;
        uint8_t share[RIFT_CPACE_SHARE_BYTES];
        struct {
            bool paired;
            uint8_t tag[RIFT_CPACE_TAG_BYTES]; /* all zero unless paired */
            char reason[WV_INNER_REASON_BYTES];
            uint32_t tries_left;
        } result;
    };
};

/* Returns 0 or -EBADMSG: malformed, or a field of the wrong length. */
int wv_inner_parse(const uint8_t *plain, size_t len, struct wv_inner_message *ret);

/* Pack an InnerToHost into BUFFER. Return the length, or -EMSGSIZE. */
int wv_inner_pack_pair_start(const uint8_t share[RIFT_CPACE_SHARE_BYTES], const char *name, bool token,
                             uint8_t *buffer, size_t capacity);
int wv_inner_pack_pair_confirm(const uint8_t tag[RIFT_CPACE_TAG_BYTES], uint8_t *buffer, size_t capacity);
int wv_inner_pack_take_control(bool release, uint8_t *buffer, size_t capacity);

/* A packed InnerToHost, sealed, as a control message. */
int wv_inner_pack_control(const uint8_t *sealed, size_t len, uint8_t *buffer, size_t capacity);
