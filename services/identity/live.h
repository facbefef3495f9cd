/* The table of live sessions: who is connected, with which inner keys, what each may do, who controls, and
 * when the media key must change. Pure: time comes in as `now` (monotonic ns) and `unix_s`; no bus, file or
 * clock. It is plain data without pointers, for it lies on a page that outlives the process
 * (live_page.h). */
#pragma once

#include "rift/crypto/inner.h"
#include "services/identity/grants.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_LIVE_MAX 72
/* Of these places strangers get so many, whatever transport lets in: the others, twice as many as there are
 * sessions on a host, are for those who are known, also while ended sessions are not yet swept. A guess costs
 * a try of the code however many guess (pairing.h), so this bounds places and not guesses. Transport's own
 * bound is lower, for it has fewer places; an honest one's strangers fit here with those that it has just
 * ended or turned away, which are known here for up to WV_LIVE_ARRIVES_NS longer. */
#define WV_LIVE_PAIRING_MAX 8
#define WV_LIVE_NAME_BYTES  64
#define WV_LIVE_PAIRING_NS  UINT64_C(60000000000)
/* A session that transport no longer names has ended; one that it has not named yet may be on its way. */
#define WV_LIVE_MISSING_NS UINT64_C(500000000)
#define WV_LIVE_ARRIVES_NS UINT64_C(3000000000)

enum { WV_LIVE_FULL = 1, WV_LIVE_REFUSED = 2, WV_LIVE_NONE = 3 };

struct wv_live_session {
    uint32_t number; /* 0: free. Written last */
    uint32_t grants;
    uint8_t view_only; /* the client's wish */
    uint8_t pairing;   /* not known to the host: may exchange pairing messages and nothing else */
    uint8_t listed;    /* transport has named it */
    uint8_t released;  /* gave control up: gets it only by asking */
    uint8_t peer_key[32], input_key[32], hash[64];
    struct rift_inner inner;
    uint64_t since_ns, missing_ns, expires;
    char name[WV_LIVE_NAME_BYTES];   /* that the administrator gave the key */
    char device[WV_LIVE_NAME_BYTES]; /* that the client gives itself */
};

struct wv_live {
    uint64_t magic;
    uint32_t last_number;
    uint32_t controller; /* number of the session whose input is used; 0: nobody's */
    uint32_t kid;        /* of the media key; 0: no encoder has asked for one yet */
    uint32_t key_due;    /* 1: somebody who knows the key is no longer to see */
    uint64_t keyed_ns;   /* when the media key was made */
    uint8_t media_key[32];
    struct wv_live_session sessions[WV_LIVE_MAX];
};

/* Numbers begin at random places, so that those of a table that was lost do not come back. */
void wv_live_init(struct wv_live *l);

/* Whether what lies at L was written by a predecessor; each session in it that can't be one is wiped. The
 * media key counts as due when it was made so lately that the encoder may not have got it. False: L is of no
 * use and unchanged. */
bool wv_live_adopt(struct wv_live *l, uint64_t now);

struct wv_live_new {
    const uint8_t *peer_key, *inner_base, *hash; /* 32, 32, 64 bytes */
    const char *name, *device;
    uint32_t grants;
    uint64_t expires;
    bool view_only, pairing;
};

/* A number for a session that gets no place. */
uint32_t wv_live_number(struct wv_live *l);
/* A session begins. One of the same key, pairing or not, ends with that; a controller's successor controls.
 * Returns 0, WV_LIVE_FULL (no place, or for pairing). */
int wv_live_add(struct wv_live *l, const struct wv_live_new *n, uint64_t now,
                struct wv_live_session **ret_session);
struct wv_live_session *wv_live_find(struct wv_live *l, uint32_t number); /* NULL: none */
/* Wipes its keys. If it could see, the media key is due. */
void wv_live_remove(struct wv_live *l, struct wv_live_session *s);
size_t wv_live_count(const struct wv_live *l);
size_t wv_live_pairing(const struct wv_live *l);

bool wv_live_sees(const struct wv_live_session *s);
bool wv_live_may_control(const struct wv_live_session *s);

/* Transport's word on session NUMBER of key PEER_KEY in a list that came at NOW. Returns 0 or WV_LIVE_NONE:
 * there is no such session. Then wv_live_missing() tells, for a session that the list did not name, whether
 * it has ended. */
int wv_live_seen(struct wv_live *l, uint32_t number, const uint8_t peer_key[32]);
bool wv_live_missing(struct wv_live_session *s, uint64_t now);

/* What S may do from now on. */
void wv_live_grant(struct wv_live *l, struct wv_live_session *s, uint32_t grants, uint64_t expires,
                   const char *name);
bool wv_live_is_over(const struct wv_live_session *s, uint64_t now, uint64_t unix_s);

/* S wants control, or gives it up. Returns 0 or WV_LIVE_REFUSED: it has no grant, or asked not to. */
int wv_live_take(struct wv_live *l, struct wv_live_session *s, bool release);
/* The administrator's word; NUMBER 0: nobody, until one asks or somebody new comes. Returns 0,
 * WV_LIVE_NONE, WV_LIVE_REFUSED. */
int wv_live_control(struct wv_live *l, uint32_t number);
/* Who controls now: to be called after anything changed. The one who did while it may; else the one that is
 * here longest. */
uint32_t wv_live_settle(struct wv_live *l);

/* A new media key. */
void wv_live_rekey(struct wv_live *l, uint64_t now);
