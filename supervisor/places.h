/* Where a host keeps its files and under which users its stages run. */
#pragma once

#include "supervisor/wiring.h"

#include <stdint.h>
#include <sys/types.h>

struct wv_places {
    char runtime[80]; /* short: a socket path has 107 bytes */
    char state[512];
    bool separate; /* stages run under users of their own */
    uid_t uids[WV_WIRING_STAGES];
    gid_t gids[WV_WIRING_STAGES];
    bool named[WV_WIRING_STAGES]; /* the user is one of the machine's */
};

/* RUNTIME and STATE may be NULL: the defaults of root or of a person. Makes the runtime folder. RET_CREATED
 * says whether it did. Returns 0 or a negative errno, logged. */
int wv_places_init(struct wv_places *p, const char *runtime, const char *state, bool *ret_created);
/* Chooses the users: those of the machine, else UID_BASE + index. */
void wv_places_choose_users(struct wv_places *p, uint32_t uid_base);
/* The users of a host whose stages systemd starts: SYSTEM, each its own, all of whom must exist; else us.
 * Returns 0 or -ENOENT, logged. */
int wv_places_find_users(struct wv_places *p, bool system);
/* Whether the folders are there that tmpfiles.d makes for a host of systemd's, each for its two stages only.
 * Returns 0 or a negative errno, logged. */
int wv_places_check(const struct wv_places *p);
/* Folders of the bus links, the stages' homes and state, each for those only who have to get in. Returns 0 or
 * a negative errno, logged. */
int wv_places_make(const struct wv_places *p);
/* Removes every file of ours below the runtime folder (the folder itself too when REMOVE_FOLDER). */
void wv_places_remove(const struct wv_places *p, bool remove_folder);

/* RUNTIME/NAME into RET. */
void wv_places_path(const struct wv_places *p, const char *name, char *ret, size_t capacity);
void wv_places_link_path(const struct wv_places *p, const struct wv_wiring_link *link, char *ret,
                         size_t capacity);
void wv_places_home(const struct wv_places *p, size_t stage, char *ret, size_t capacity);
void wv_places_state(const struct wv_places *p, size_t stage, char *ret, size_t capacity);
/* Takes the lock of the runtime folder. Returns the fd, or a negative errno, logged. */
int wv_places_lock(const struct wv_places *p);
