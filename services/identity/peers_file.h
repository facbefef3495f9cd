/* The list of known keys on disk: STATE_DIR/peers. Read again when somebody else changed it, rewritten
 * atomically when an administrator's request changes it. */
#pragma once

#include "services/identity/peers.h"

struct wv_peers_file;

/* A key that may no longer be used (it was in the list before and isn't any more). */
typedef void (*wv_peers_gone_fn)(void *userdata, const uint8_t key[32]);

/* A missing file is an empty list. The file must belong to this user or root and be writable by nobody else.
 * Returns 0, or a negative errno with REASON (capacity N), a sentence that names the path and what to do. */
int wv_peers_file_open(struct wv_peers_file **ret, const char *state_dir, char *reason, size_t n);
struct wv_peers_file *wv_peers_file_close(struct wv_peers_file *f);
const char *wv_peers_file_path(const struct wv_peers_file *f);
/* The current list; valid until the next call that takes F non-const. */
const struct wv_peers *wv_peers_file_list(const struct wv_peers_file *f);

/* Reads the file again if it changed, and calls GONE for each key that it lost. When it can't be read any
 * more, the list is empty from then on (who took it away may have meant it) and REASON says why. Returns 0 or
 * a negative errno. */
int wv_peers_file_refresh(struct wv_peers_file *f, wv_peers_gone_fn gone, void *userdata, char *reason,
                          size_t n);

/* Change the list and the file, both or neither. Errors of wv_peers_add/_remove and of writing the file. */
int wv_peers_file_add(struct wv_peers_file *f, const uint8_t key[32], const char *name, uint32_t grants,
                      uint64_t expires);
int wv_peers_file_remove(struct wv_peers_file *f, const uint8_t key[32]);
