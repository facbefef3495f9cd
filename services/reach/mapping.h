/* A port of the router for this host: NAT-PMP, else UPnP, each by its library, on a thread of its own, for
 * both wait. A mapping is renewed at half its time and taken back at the end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct wv_mapping;

/* Makes the thread. Call it before a sandbox closes. Returns 0 or a negative errno. */
int wv_mapping_new(struct wv_mapping **ret);
/* Takes the mapping back, within about 2 s. Returns NULL. */
struct wv_mapping *wv_mapping_free(struct wv_mapping *m);
/* Wants UDP port PORT of this machine mapped; 0: none. AGAIN: also when it is as before (the network
 * changed). */
void wv_mapping_want(struct wv_mapping *m, uint16_t port, bool again);
/* An eventfd that is written when what is mapped changed. */
int wv_mapping_fd(const struct wv_mapping *m);
/* Whether a port is mapped now; ADDRESS as everywhere: 16 bytes and the port. METHOD: "NAT-PMP", "UPnP". */
bool wv_mapping_get(struct wv_mapping *m, uint8_t ret_address[18], const char **ret_method);
