/* One request of the HTTP API, as its handler sees it: what came in, who asks, and the answer. A handler
 * begins on the loop's thread, may have work done on a lane, and goes on when that is done. The connection
 * may be gone by then: that is not the handler's concern. */
#pragma once

#include "services/gateway/gateway.h"
#include "services/gateway/jobs.h"
#include "services/gateway/json.h"
#include "services/gateway/refusals.h"

#define WV_ROUTE_ARGS      2
#define WV_ROUTE_ARG_BYTES 128

enum wv_auth {
    WV_AUTH_NONE,
    WV_AUTH_ANY,     /* a token, of a person or a machine */
    WV_AUTH_PERSON,  /* a token by password: what would let a stolen machine take the account over */
    WV_AUTH_MACHINE, /* a token by a machine's key */
    WV_AUTH_ADMIN,   /* a person's, of an administrator */
};

struct wv_request;
typedef void (*wv_request_work_fn)(struct wv_request *q, struct wv_store *store);
typedef void (*wv_request_then_fn)(struct wv_request *q);

struct wv_route {
    const char *method, *path; /* "/v1/hosts/{key}": what stands for {...} is q->args[] in order */
    enum wv_auth auth;
    const struct wv_json_field *fields; /* of the body; NULL: there must be none */
    wv_request_then_fn begin;           /* on the loop's thread; BODY is checked, the token not yet */
    bool unlimited;                     /* probes: no limit of requests by address */
};

struct wv_request {
    /* What came in. */
    struct wv_gateway *gateway;
    const struct wv_route *route;
    char args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES];
    char query[256];     /* as it came, "" when there is none: wv_request_query() */
    uint8_t address[16]; /* the client's, a trusted proxy's word taken; IPv4 mapped */
    char address_text[WV_STORE_NAME_BYTES];
    json_t *body; /* an object that passed FIELDS, never NULL */
    int64_t now_s;
    bool has_token, by_cookie;
    uint8_t token[WV_STORE_HASH_BYTES]; /* hashed */
    struct wv_token who;                /* once KNOWN, which is before any work on the store */
    bool known;

    /* The handler's: freed with free() at the end; called on the loop's thread once the answer is known. */
    void *state;
    wv_request_then_fn settled;
    /* Whose rights were changed, once the answer is 2xx: an account's id, "*" for anybody's, "" for none. */
    char changed[WV_STORE_ID_BYTES];
    char code_of[WV_STORE_ID_BYTES]; /* the account whose wrong codes this one is counted with; "": none */

    /* The answer. */
    int status; /* 0: not yet */
    enum wv_refusal why;
    json_t *reply; /* NULL: no body */
    unsigned retry_after_s;
    char cookie[160]; /* Set-Cookie */
    const void *file; /* a page's bytes instead of REPLY, never freed */
    size_t file_len;
    const char *file_type;   /* their media type */
    const char *file_tag;    /* their ETag; with a status of 304 they are named and not sent */
    const char *file_coding; /* their Content-Encoding, NULL: none */

    /* http.c's alone. */
    wv_request_work_fn work;
    wv_request_then_fn then;
    struct lws *wsi; /* NULL: the connection is gone */
    struct wv_http *http;
    bool running, dispatched, body_ended, close, head_sent, whole;
    uint64_t received_ns;
    uint8_t *in;
    size_t in_len, in_max;
    char *out;
    size_t out_len, out_at;
};

/* On the loop's thread. Has WORK (NULL: only the token is looked at) done on LANE, then calls THEN unless
 * WORK answered. The first time on the store, the token is looked up before WORK and refused where it must
 * be. A full lane is refused here. */
void wv_request_run(struct wv_request *q, enum wv_lane lane, wv_request_work_fn work,
                    wv_request_then_fn then);

/* The same on the store, as one transaction: what WORK changed is done as a whole once the answer is sent, or
 * not at all when it is 5xx. */
void wv_request_change(struct wv_request *q, wv_request_work_fn work, wv_request_then_fn then);

/* From WORK or on the loop's thread. TAKE_REPLY may be NULL. */
void wv_request_answer(struct wv_request *q, int status, json_t *take_reply);
/* SENTENCE: NULL for the usual one. Returns nothing, so that a handler says `return wv_request_refuse(...)`.
 */
void wv_request_refuse(struct wv_request *q, enum wv_refusal why, const char *sentence);
/* Refuses for what a call of the store returned (R < 0), -ENOENT and -EEXIST included. */
void wv_request_store_failed(struct wv_request *q, struct wv_store *store, int r);
/* A line in the audit log, of the account that asks. Returns 0, or the store's error. */
int wv_request_audit(struct wv_request *q, struct wv_store *store, const char *action, const char *subject);
/* The value of NAME in the query, of at most CAPACITY - 1 bytes. False: it is not there, or too long. */
bool wv_request_query(const struct wv_request *q, const char *name, char *ret, size_t capacity);
