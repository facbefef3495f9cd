/* The host's identity file: made once, then only read. It is never overwritten, also not when it is damaged:
 * a new identity would lock out every client that knows the old one, so that is a person's decision. */
#pragma once

#include "rift/crypto/identity.h"

#include <stdbool.h>

#define WV_IDENTITY_REASON_BYTES 1024

/* Checks STATE_DIR (made with 0700 when it is missing: its parent must exist) and reads STATE_DIR/identity,
 * or creates it with 0600. The directory and the file must belong to this user; the file may be open to
 * nobody else, the directory writable by nobody else. Returns 0 with RET_CREATED, or a negative errno with
 * REASON: a sentence that names the path and says what to do. */
int wv_keyfile_open(const char *state_dir, struct rift_identity *ret_identity, bool *ret_created,
                    char reason[WV_IDENTITY_REASON_BYTES]);
