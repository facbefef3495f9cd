/* How often who may do what: token buckets by a key (an address, an account at an address), in a table of
 * fixed size. A stranger can use up only his own: an IPv6 network of 64 bits is one address, and nothing here
 * is keyed by an account alone. When the table is full the bucket that is fullest again makes room, so that
 * who has used up his stays known. Pure: `now` comes in. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WV_LIMIT_KEY_BYTES 16

struct wv_limits;

struct wv_limit {
    double per_second; /* how fast a bucket fills */
    double burst;      /* how much it holds, at least 1 */
};

/* At most PLACES keys at a time. SECRET (16 random bytes) keeps others from choosing keys that meet in the
 * table. Returns 0, -EINVAL, -ENOMEM. */
int wv_limits_new(struct wv_limits **ret, size_t places, const struct wv_limit *limit,
                  const uint8_t secret[16]);
struct wv_limits *wv_limits_free(struct wv_limits *l);
void wv_limits_set(struct wv_limits *l,
                   const struct wv_limit *limit); /* on a reload; what is used up stays so */

/* Takes one. Returns 0, or the milliseconds (at least 1) to wait. A COST above the burst never succeeds:
 * UINT64_MAX. */
uint64_t wv_limits_take(struct wv_limits *l, const uint8_t key[WV_LIMIT_KEY_BYTES], double cost,
                        uint64_t now);
/* Gives back: what was taken turned out to be welcome. */
void wv_limits_give(struct wv_limits *l, const uint8_t key[WV_LIMIT_KEY_BYTES], double cost, uint64_t now);
size_t wv_limits_used(const struct wv_limits *l);

/* The key of an address (16 bytes, v4-mapped or IPv6): the address, or its network of 64 bits; with TEXT (may
 * be NULL), of both together. */
void wv_limit_key(const uint8_t address[16], const char *text, uint8_t ret_key[WV_LIMIT_KEY_BYTES]);
