/* The live table on memory that outlives the process: a new identity stage goes on with the sessions of the
 * one before, which notice nothing. */
#pragma once

#include "services/identity/live.h"

#define WV_LIVE_PAGE_BYTES 65536u /* the supervisor makes it: supervisor/vault.h */

/* Maps FD (the supervisor's "identity-page"); FD < 0: memory of our own, for tests. RET_TAKEN says whether a
 * predecessor's sessions are in it. Returns 0 or a negative errno. */
int wv_live_page_map(struct wv_live **ret, int fd, uint64_t now, bool *ret_taken);
struct wv_live *wv_live_page_unmap(struct wv_live *l); /* NULL */
