/* Finds hosts that announce themselves on the local network. What comes back are claims of whoever is on it:
 * the key there is what the handshake then checks against the one that is known. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WV_FOUND_MAX 64

struct wv_found {
    char name[64];    /* printable */
    char key[64];     /* text; empty: none */
    char address[64]; /* numeric; of IPv6 with %INTERFACE where it is link-local */
    uint16_t port;
};

enum { WV_FIND_NO_DAEMON = 1 };

/* Looks for at most WAIT_MS for those that have KEY or are called NAME; both NULL: for all. Ends as soon as
 * KEY was found; several may use one name. IPv4 before IPv6. Returns 0 with the number of hosts in RET_N,
 * WV_FIND_NO_DAEMON, or -ENOMEM. */
int wv_find(const char *name, const char *key, unsigned wait_ms, struct wv_found ret[WV_FOUND_MAX],
            size_t *ret_n);
