/* Which machine is connected, and to which gateway. Every gateway keeps the whole table: it says who joins
 * and leaves, and every few seconds how many it has and a digest of them; who finds that his table says
 * otherwise asks for the list. A gateway that is silent is forgotten with its machines. A machine has one
 * connection: the newest one counts, wherever it is. Pure: time comes in, words to other gateways go out
 * through a call. Must never trust a gateway with another's machines beyond what is newest. */
#pragma once

#include "services/gateway/bus.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_PRESENCE_KEY_BYTES    32
#define WV_PRESENCE_BEAT_S       5
#define WV_PRESENCE_MISSED       3   /* heartbeats that don't come until a gateway is taken for gone */
#define WV_PRESENCE_LIST_ENTRIES 256 /* of one word */
#define WV_PRESENCE_STAMP_MAX    (INT64_MAX / 2)

struct wv_presence;

struct wv_presence_entry {
    uint8_t key[WV_PRESENCE_KEY_BYTES];
    uint64_t stamp; /* when it joined: milliseconds since 1970, or more where something newer was seen */
};

enum wv_presence_kind {
    WV_PRESENCE_BEAT,   /* COUNT and DIGEST of what the sender has */
    WV_PRESENCE_JOINED, /* one entry */
    WV_PRESENCE_LEFT,   /* one entry */
    WV_PRESENCE_ASK,    /* for a list */
    WV_PRESENCE_LIST,   /* a part of all that the sender has */
    WV_PRESENCE_BYE,    /* the sender ends */
};

struct wv_presence_word {
    enum wv_presence_kind kind;
    uint64_t count, digest;
    bool first, last; /* of the parts of a list */
    size_t n;
    struct wv_presence_entry entries[WV_PRESENCE_LIST_ENTRIES];
};

struct wv_presence_calls {
    /* TO: a gateway, NULL: all others. May fail: it is said again when somebody finds out. */
    void (*say)(void *userdata, const char *to, const struct wv_presence_word *word);
    /* A newer connection of KEY's, here or elsewhere, has taken the place of CONNECTION, which is no longer
     * in the table. */
    void (*displaced)(void *userdata, const uint8_t key[WV_PRESENCE_KEY_BYTES], uint64_t connection);
    void *userdata;
};

struct wv_presence_limits {
    size_t machines, gateways; /* of all gateways together; other gateways */
};

/* SECRET (16 random bytes) keeps others from choosing keys that meet in the table. Returns 0, -EINVAL,
 * -ENOMEM.
 */
int wv_presence_new(struct wv_presence **ret, const char *self, const struct wv_presence_limits *limits,
                    const struct wv_presence_calls *calls, const uint8_t secret[16]);
struct wv_presence *wv_presence_free(struct wv_presence *p);

/* A machine connected here as CONNECTION (not 0). Returns 0, -ENOBUFS (the table is full), -ENOMEM. */
int wv_presence_join(struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES], uint64_t connection,
                     uint64_t unix_ms);
/* CONNECTION has ended; nothing happens when it was displaced before. */
void wv_presence_leave(struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES], uint64_t connection);

enum wv_presence_place { WV_PRESENCE_NOWHERE, WV_PRESENCE_HERE, WV_PRESENCE_THERE };
/* RET_CONNECTION is filled in for HERE, RET_GATEWAY for THERE; either may be NULL. */
enum wv_presence_place wv_presence_find(const struct wv_presence *p, const uint8_t key[WV_PRESENCE_KEY_BYTES],
                                        uint64_t *ret_connection, char ret_gateway[WV_BUS_ID_BYTES]);

/* NOW is monotonic, in ns. */
void wv_presence_hear(struct wv_presence *p, const char *from, const struct wv_presence_word *word,
                      uint64_t now);
/* The bus is there (again): everybody is told and asked. */
void wv_presence_bus_is_up(struct wv_presence *p, uint64_t now);
/* Says what is due and forgets who is silent. Returns when it wants to be called next. */
uint64_t wv_presence_tick(struct wv_presence *p, uint64_t now);
/* The others forget this gateway and its machines at once. It says nothing more, whatever happens here. */
void wv_presence_bye(struct wv_presence *p);

struct wv_presence_numbers {
    size_t here, there, gateways;
    uint64_t displaced, expired, lists; /* connections; gateways; lists asked for */
};
void wv_presence_numbers(const struct wv_presence *p, struct wv_presence_numbers *ret);
