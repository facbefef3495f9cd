/* Says on the local network that a host is here: _wavry._udp by Avahi's daemon, with the host's key in TXT.
 * The name and the key are claims; the handshake checks. On a thread of Avahi's own; without the daemon it
 * waits for one. */
#pragma once

#include <stdint.h>

struct wv_announce;

enum wv_announce_state {
    WV_ANNOUNCE_NO_DAEMON, /* none runs, or it may not be asked; it is waited for */
    WV_ANNOUNCE_WAITING,   /* nothing to say yet, or the name is being tried */
    WV_ANNOUNCE_OK,
    WV_ANNOUNCE_FAILED,
};

/* Makes the thread. Call it before a sandbox closes. Returns 0, -ENOMEM or -EIO. */
int wv_announce_new(struct wv_announce **ret);
/* Takes the announcement back. Returns NULL. */
struct wv_announce *wv_announce_free(struct wv_announce *a);
/* What to say: NAME (a name that another host has gets a number behind it), KEY as text, PORT of UDP; PORT 0:
 * nothing. */
void wv_announce_set(struct wv_announce *a, const char *name, const char *key, uint16_t port);
enum wv_announce_state wv_announce_state(struct wv_announce *a);
