/* Pairing on the host's side: the code that is shown, the runs of CPace that try it, and the count of those
 * that failed. Pure: time comes in as `now` (monotonic ns) and `unix_s`; the caller keeps the count on disk.
 *
 * A run counts as failed from its beginning, and the count must be on disk before the host's share goes out:
 * who ends a run half-way, or this process, has had a guess. The codes themselves are never on disk: a
 * process that ends takes its code with it. */
#pragma once

#include "rift/crypto/cpace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_PAIRING_CODE_DIGITS  8
#define WV_PAIRING_TOKEN_BYTES  16
#define WV_PAIRING_TRIES        3
#define WV_PAIRING_FAILURES_MAX 10
#define WV_PAIRING_WINDOW_S     86400u
#define WV_PAIRING_TTL_S        180u
#define WV_PAIRING_TTL_MAX_S    600u
#define WV_PAIRING_RUN_NS       UINT64_C(30000000000)
#define WV_PAIRING_NAME_BYTES   64
#define WV_PAIRING_STATE_BYTES  512

enum wv_pairing_result {
    WV_PAIRING_CLOSED = 1,  /* too many runs failed: a person at the host must say that it is open again */
    WV_PAIRING_NO_CODE = 2, /* none is shown, or it was used, burnt, or its time is over */
    WV_PAIRING_BAD = 3,     /* a share that can't be one, or a message out of turn */
    WV_PAIRING_WRONG = 4,   /* the client does not know the code */
};

struct wv_pairing;

/* STATE is what wv_pairing_format() wrote (NULL: there is none). One that can't be read closes pairing, and
 * RET_DAMAGED says so. Returns 0 or -ENOMEM. */
int wv_pairing_new(struct wv_pairing **ret, const char *state, size_t len, bool *ret_damaged);
struct wv_pairing *wv_pairing_free(struct wv_pairing *p); /* wipes; NULL */
/* The state for the disk; its length without the NUL. */
size_t wv_pairing_format(const struct wv_pairing *p, char ret[WV_PAIRING_STATE_BYTES]);

/* What whoever proves the code gets. */
struct wv_pairing_offer {
    uint32_t grants;
    uint64_t expires;                 /* Unix seconds of the grants' end, 0: never */
    char name[WV_PAIRING_NAME_BYTES]; /* empty: the client's own */
};

/* A new code, valid for TTL_S (1..WV_PAIRING_TTL_MAX_S); the one before is void. Returns 0 with RET_CODE
 * (digits and NUL) and RET_TOKEN, or WV_PAIRING_CLOSED. */
int wv_pairing_open(struct wv_pairing *p, const struct wv_pairing_offer *offer, uint64_t ttl_s, uint64_t now,
                    uint64_t unix_s, char ret_code[WV_PAIRING_CODE_DIGITS + 1],
                    uint8_t ret_token[WV_PAIRING_TOKEN_BYTES]);
/* Whether a run may begin. */
bool wv_pairing_is_open(const struct wv_pairing *p, uint64_t now);
/* When that ends by itself: absolute, 0 when it isn't open. */
uint64_t wv_pairing_until(const struct wv_pairing *p, uint64_t now);
unsigned wv_pairing_tries_left(const struct wv_pairing *p);
/* Failed runs that count, at most WV_PAIRING_FAILURES_MAX: then pairing is closed. */
unsigned wv_pairing_failures(const struct wv_pairing *p);
void wv_pairing_cancel(struct wv_pairing *p); /* the code is void, runs end */
/* A person at the host says so: forgets the failed runs. */
void wv_pairing_reopen(struct wv_pairing *p);

struct wv_pairing_start {
    uint32_t session;
    const uint8_t *client_key, *host_key, *hash; /* 32, 32, 64 bytes */
    const uint8_t *share;                        /* RIFT_CPACE_SHARE_BYTES */
    const char *name;                            /* the client's, shorter than WV_PAIRING_NAME_BYTES */
    bool token;                                  /* proves the token, not the code */
};

/* A run begins. On 0 the caller stores the state, and only then sends RET_SHARE; when it can't be stored, it
 * calls wv_pairing_end() and sends nothing. A session's run before this one has failed. */
int wv_pairing_begin(struct wv_pairing *p, const struct wv_pairing_start *start, uint64_t now,
                     uint64_t unix_s, uint8_t ret_share[RIFT_CPACE_SHARE_BYTES]);

struct wv_pairing_done {
    uint8_t tag[RIFT_CPACE_TAG_BYTES]; /* the host's confirmation */
    struct wv_pairing_offer offer;     /* its name is never empty unless the client has none either */
};

/* The client's confirmation of session's run. On 0 the client knows the code, which is used up; the run no
 * longer counts as failed: store the state. Else WV_PAIRING_WRONG, _BAD (no run), _NO_CODE. */
int wv_pairing_confirm(struct wv_pairing *p, uint32_t session, const uint8_t tag[RIFT_CPACE_TAG_BYTES],
                       uint64_t now, struct wv_pairing_done *ret);
/* The session is over, and with it its run: it stays counted. */
void wv_pairing_end(struct wv_pairing *p, uint32_t session);
