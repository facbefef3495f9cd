/* The list of keys that may connect: parsing, searching, changing, and its text form. Pure; wv_peers_file.h
 * keeps it on disk. */
#pragma once

#include "rift/crypto/identity.h"
#include "services/identity/grants.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_PEERS_MAX            1024
#define WV_PEERS_FILE_MAX_BYTES (256u << 10)
#define WV_PEER_NAME_BYTES      64 /* with the NUL */

struct wv_peers; /* opaque: the lines of the file in order, so that a rewrite loses nothing */

/* A line that is not a key with a name, a comment or blank was found. It grants nothing and stays in the
 * text. */
typedef void (*wv_peers_bad_line_fn)(void *userdata, unsigned line, const char *why);

/* What a line says of its key. */
struct wv_peer {
    uint8_t key[32];
    char name[WV_PEER_NAME_BYTES]; /* never empty */
    uint32_t grants;               /* enum wv_grant, or-ed; never 0 */
    uint64_t expires;              /* Unix seconds, 0: never */
};

/* Parses TEXT ("KEY [grants=LIST] [expires=TIME] name..." a line, '#' begins a comment line; without a list:
 * view and input). BAD_LINE may be NULL. Returns 0, -ENOMEM,
 * -EFBIG (more than WV_PEERS_MAX keys or WV_PEERS_FILE_MAX_BYTES). */
int wv_peers_parse(struct wv_peers **ret, const char *text, size_t len, wv_peers_bad_line_fn bad_line,
                   void *userdata);
struct wv_peers *wv_peers_free(struct wv_peers *p);

size_t wv_peers_count(const struct wv_peers *p);
/* The I-th key in the order of the file, in P's memory. */
const struct wv_peer *wv_peers_at(const struct wv_peers *p, size_t i);
/* NULL when KEY isn't known. */
const struct wv_peer *wv_peers_find(const struct wv_peers *p, const uint8_t key[32]);

/* Adds KEY, or changes its line. Returns 0, -EINVAL (a name that is too long or not printable UTF-8 in one
 * line, no grants), -ENOSPC, -ENOMEM. An empty name becomes "unnamed". */
int wv_peers_add(struct wv_peers *p, const uint8_t key[32], const char *name, uint32_t grants,
                 uint64_t expires);
/* Removes every line of KEY. Returns 0 or -ENOENT. */
int wv_peers_remove(struct wv_peers *p, const uint8_t key[32]);
/* The file's text, malloc'ed. Returns 0 or -ENOMEM. */
int wv_peers_format(const struct wv_peers *p, char **ret_text, size_t *ret_len);

/* Whether TEXT of LEN bytes is valid UTF-8 without control characters. */
bool wv_text_is_printable(const char *text, size_t len);
