/* The relays that there are, what they last said of themselves, and which one a lease should name. Pure: time
 * and chance come in. Must never choose one that is silent, full, or on its way out. */
#pragma once

#include "rift/relay/heartbeat.h"
#include "services/gateway/store.h"

#define WV_RELAYS_MAX       1024
#define WV_RELAYS_SILENCE_S 15
#define WV_RELAYS_FULL      950 /* thousandths of load: no more leases */
#define WV_RELAYS_CLOCK_S   90  /* how far a relay's clock may be off; leases would be refused, too */

struct wv_relays;

struct wv_relay {
    struct wv_relay_record record;
    uint32_t load, leases;
    bool draining;  /* it says so itself; record.drain: the operator does */
    uint64_t at;    /* its clock at the last heartbeat, Unix seconds; 0: never heard */
    uint64_t heard; /* monotonic, ns */
};

int wv_relays_new(struct wv_relays **ret);
struct wv_relays *wv_relays_free(struct wv_relays *r);

/* What the database has: begin, put each, end; who was not put is gone. */
void wv_relays_begin(struct wv_relays *r);
int wv_relays_put(struct wv_relays *r, const struct wv_relay_record *record); /* 0, -ENOBUFS, -ENOMEM */
void wv_relays_end(struct wv_relays *r);

const struct wv_relay *wv_relays_find(const struct wv_relays *r, const char *id);
/* BEAT is the relay's own: the signature was checked. UNIX_S: this gateway's clock. Returns 0, -ENOENT
 * (unknown), -ETIME (a clock is wrong), -EALREADY (heard before, or older than what was). */
int wv_relays_beat(struct wv_relays *r, const struct rift_heartbeat *beat, uint64_t unix_s, uint64_t now);
bool wv_relay_is_usable(const struct wv_relay *relay, uint64_t now);
/* Of those that can be used, in REGION where there is one (NULL or "": anywhere), one by chance, the more
 * likely the less it carries. CHANCE: any number. Returns NULL when there is none. */
const struct wv_relay *wv_relays_choose(const struct wv_relays *r, const char *region, uint32_t chance,
                                        uint64_t now);
typedef void (*wv_relays_fn)(void *userdata, const struct wv_relay *relay);
void wv_relays_each(const struct wv_relays *r, wv_relays_fn each, void *userdata);
size_t wv_relays_usable(const struct wv_relays *r, uint64_t now);
