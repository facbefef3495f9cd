/* A port of the router for this host: by PCP, else NAT-PMP, else UPnP; and by PCP a way in through its IPv6
 * firewall. On a thread of its own, for the last two, which are libraries', wait. A mapping is renewed at
 * half its time and taken back at the end. Where no router answers, it is quiet: a dozen datagrams, then
 * growing pauses of up to an hour, until the network changes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct wv_mapping;

enum wv_mapping_method { WV_MAPPING_NONE, WV_MAPPING_PCP, WV_MAPPING_NATPMP, WV_MAPPING_UPNP };

/* Addresses as everywhere: 16 bytes and the port. */
struct wv_mapping_state {
    enum wv_mapping_method method; /* of the IPv4 port */
    bool pinhole;                  /* the router lets IPv6 in to this host's port */
    bool needless;                 /* this machine has a public IPv4 address: nobody was asked */
    bool tried;                    /* all ways were tried since the network changed, and none worked */
    uint8_t address[18];           /* with METHOD: of the router's port */
    uint8_t pinhole_address[18];   /* with PINHOLE: of this host, as the world sees it */
    uint32_t restarts;             /* times that a router had forgotten its mappings */
};

/* Makes the thread. Call it before a sandbox closes. Returns 0 or a negative errno. */
int wv_mapping_new(struct wv_mapping **ret);
/* Takes the mapping back, within about 2 s. Returns NULL. */
struct wv_mapping *wv_mapping_free(struct wv_mapping *m);
/* Wants UDP port PORT of this machine mapped; 0: none. */
void wv_mapping_want(struct wv_mapping *m, uint16_t port);
/* The network changed. ADDRESSES: also the addresses of this machine, so that all is asked for anew; else
 * only when it is another router now. */
void wv_mapping_look(struct wv_mapping *m, bool addresses);
/* An eventfd that is written when the state changed. */
int wv_mapping_fd(const struct wv_mapping *m);
void wv_mapping_get(struct wv_mapping *m, struct wv_mapping_state *ret);
/* "PCP", "NAT-PMP", "UPnP"; NULL for none. */
const char *wv_mapping_method_name(enum wv_mapping_method method);
