/* What the identity stage does with the questions of the other stages and of the administrator. Independent
 * of the stage skeleton, so that tests run it in a world of their own. */
#pragma once

#include "lib/ipc/bus.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "services/identity/keyfile.h"

#define WV_IDENTITY_RULES 12

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
    WV_IDENTITY_SESSIONS,
    WV_IDENTITY_MEDIA_KEYS,
    WV_IDENTITY_INNER,
    WV_IDENTITY_INNER_BAD,
    WV_IDENTITY_PAIRINGS,
    WV_IDENTITY_PAIRING_RUNS,
    WV_IDENTITY_PAIRING_FAILURES,
    WV_IDENTITY_SIGNALS,
    WV_IDENTITY_SIGNALS_BAD,
    WV_IDENTITY_OFFERS,
    WV_IDENTITY_NOISE_US,
    WV_IDENTITY_METRICS
};

extern const struct wv_metric wv_identity_metrics[WV_IDENTITY_METRICS];
/* For a bus whose userdata is a struct wv_identity. */
extern const struct wv_bus_rule wv_identity_rules[WV_IDENTITY_RULES];

/* To whom it talks. */
enum wv_identity_to {
    WV_TO_TRANSPORT,
    WV_TO_ENCODER,
    WV_TO_CAPTURE,
    WV_TO_INPUT,
    WV_TO_REACH,
    WV_IDENTITY_LINKS
};

struct wv_identity_world {
    /* Returns 0 or WV_BUS_UNSENT. */
    int (*send)(void *userdata, enum wv_identity_to to, const ProtobufCMessage *message);
    uint64_t (*unix_s)(void *userdata); /* NULL: the system's clock */
    void *userdata;
};

/* Reads or makes the key, the list of known keys and the pairing state in STATE_DIR, and maps PAGE_FD (the
 * supervisor's identity-page; -1: memory of its own). When it fails it logs why and puts the same sentence
 * into RET_REASON. Returns 0 or a negative errno. Call before the sandbox closes. */
int wv_identity_new(struct wv_identity **ret, const char *state_dir, int page_fd, struct wv_metrics *metrics,
                    uint64_t now, char ret_reason[WV_IDENTITY_REASON_BYTES]);
struct wv_identity *wv_identity_free(struct wv_identity *id);
/* From here on it talks. LOOP (NULL: the caller calls wv_identity_tick() instead) watches the list of known
 * keys and the time. */
int wv_identity_start(struct wv_identity *id, struct wv_loop *loop, const struct wv_identity_world *world,
                      uint64_t now);
/* What time brings: grants that end, a code that is over, messages that could not be sent. Returns the time
 * of the next call, 0: none. */
uint64_t wv_identity_tick(struct wv_identity *id, uint64_t now);
/* An administrator's request (requests.c says which). Fills RET_REPLY with text for a person or for wavryctl
 * and returns 0 or a negative errno (then the text says why). */
int wv_identity_request(struct wv_identity *id, const char *verb, const char *text, uint64_t now,
                        char *ret_reply, size_t capacity);
