/* What the identity stage does with the questions of transport and of the administrator. Independent of the
 * stage skeleton, so that tests run it on a loop and a bus of their own. */
#pragma once

#include "lib/ipc/bus.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "services/identity/keyfile.h"

#define WV_IDENTITY_RULES 2

struct wv_identity;

enum wv_identity_metric {
    WV_IDENTITY_QUESTIONS,
    WV_IDENTITY_DONE,
    WV_IDENTITY_UNKNOWN_KEY,
    WV_IDENTITY_REFUSED,
    WV_IDENTITY_UNSENT,
    WV_IDENTITY_PENDING,
    WV_IDENTITY_PEERS,
    WV_IDENTITY_RELOADS,
    WV_IDENTITY_NOISE_US,
    WV_IDENTITY_METRICS
};

extern const struct wv_metric wv_identity_metrics[WV_IDENTITY_METRICS];
/* For a bus whose userdata is a struct wv_identity. */
extern const struct wv_bus_rule wv_identity_rules[WV_IDENTITY_RULES];

/* Reads or makes the key and the list of known keys in STATE_DIR. When it fails it logs why and puts the same
 * sentence into RET_REASON. Returns 0 or a negative errno. Call before the sandbox closes. */
int wv_identity_new(struct wv_identity **ret, const char *state_dir, struct wv_metrics *metrics,
                    char ret_reason[WV_IDENTITY_REASON_BYTES]);
struct wv_identity *wv_identity_free(struct wv_identity *id);
/* Watches the list of known keys on LOOP and answers over LINK (to transport). */
int wv_identity_start(struct wv_identity *id, struct wv_loop *loop, struct wv_bus_link *link);
/* "authorize" ("KEY name"), "revoke" (KEY), "peers", "key". Fills RET_REPLY with text for a person and
 * returns 0 or a negative errno (then the text says why). */
int wv_identity_request(struct wv_identity *id, const char *verb, const char *text, char *ret_reply,
                        size_t capacity);
