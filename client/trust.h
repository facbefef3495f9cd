/* Who we are and whom we trust, in files of a person: the identity (a secret, 0600) and known_hosts (which
 * key which address showed). Never repairs, replaces or ignores a file that looks wrong: it says so. */
#pragma once

#include "rift/crypto/identity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_TRUST_TEXT_BYTES 1024 /* room for any message of this module, with its NUL */

/* Writes "$XDG_CONFIG_HOME/wavry/NAME" (or ~/.config/wavry/NAME) to RET. Returns 0, -ENOENT (no home known),
 * -ENAMETOOLONG. */
int wv_trust_path(const char *name, char *ret, size_t capacity);

/* Reads the identity at PATH; makes it (with its folders, 0700) when there is none. Two programs that start
 * together end up with the same one. Returns 0 or a negative errno with a sentence in RET_MESSAGE
 * (WV_TRUST_TEXT_BYTES): -EACCES for wrong owner or permissions, -EINVAL for a file that is no identity. */
int wv_identity_load(const char *path, struct rift_identity *ret_identity, char *ret_message);

enum {
    WV_KNOWN_NOT = 1, /* the address isn't in the file */
};

/* Looks ADDRESS ("host:port", compared without case) up in the file at PATH. Returns 0 with the key and the
 * number of its line, WV_KNOWN_NOT (also when there is no file), or a negative errno with a sentence in
 * RET_MESSAGE. */
int wv_known_hosts_find(const char *path, const char *address, uint8_t ret_key[32], unsigned *ret_line,
                        char *ret_message);

/* Whether KEY is in the file, for any address. Returns 0, WV_KNOWN_NOT, or a negative errno with a sentence.
 */
int wv_known_hosts_has(const char *path, const uint8_t key[32], char *ret_message);

/* Notes that ADDRESS has KEY, instead of what stood there for it; all other lines stay as they are. The file
 * is replaced at once or not at all. Returns 0 or a negative errno with a sentence in RET_MESSAGE. */
int wv_known_hosts_put(const char *path, const char *address, const uint8_t key[32], char *ret_message);

/* "host:port" or "[v6]:port": what known_hosts and messages call a host. Returns 0 or -ENAMETOOLONG. */
int wv_host_format(const char *host, uint16_t port, char *ret, size_t capacity);

/* Reads HOST, HOST:PORT, [V6], [V6]:PORT or a bare IPv6 address. PORT stays untouched when there is none.
 * Returns 0 or -EINVAL. */
int wv_host_parse(const char *text, char *ret_host, size_t capacity, uint16_t *ret_port);
