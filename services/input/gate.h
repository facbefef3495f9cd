/* What may be injected. Events come sealed by the client for this stage: only those that open under the key
 * of the session that identity says controls are looked at, each number once and in rising order, whatever
 * transport does with them. Then they are checked for age, range and rate. What is held down is written to
 * the input page before it is pressed, so that it always comes up again: on the peer's word, when the session
 * ends, and by the successor of a killed process. No allocation, no clock. */
#pragma once

#include "lib/ipc/input_page.h"
#include "rift/crypto/inner.h"
#include "services/input/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_GATE_EVENTS_PER_SECOND 2000
#define WV_GATE_BURST             400
#define WV_GATE_STALE_US          200000 /* what waited longer for this stage is not pressed any more */

/* Events with consecutive numbers, from the bus. */
struct wv_sealed_batch {
    uint32_t session, first_seq;
    const uint8_t *events; /* N of RIFT_INPUT_SEALED_BYTES */
    size_t n;
    const uint64_t *came_us; /* when each came to the host, CLOCK_MONOTONIC; those beyond N_CAME: now */
    size_t n_came;
};

struct wv_gate {
    struct wv_input_page *page; /* not owned */
    struct wv_backend *backend; /* NULL: none; not owned */
    uint64_t held[WV_INPUT_CODES / 64];
    uint32_t session; /* that controls; 0: nobody, or not known yet */
    bool forgotten;   /* it can't be told any more what of it was injected: nothing is */
    uint8_t key[RIFT_INNER_KEY_BYTES];
    uint32_t tokens;
    uint64_t refill_ns;
    /* Told of every event that opened: its time on the client's clock, and when it came. May be NULL. */
    void (*seen)(void *userdata, uint64_t time_us, uint64_t came_us);
    void *userdata;
    /* totals */
    uint64_t injected, refused_range, refused_rate, refused_no_backend, repeated, released;
    uint64_t refused_forged, refused_stale, gaps;
};

enum {
    WV_GATE_LOST = 1, /* the backend is of no more use; the events are dealt with all the same */
    WV_GATE_NOT_CONTROLLER = 2,
};

/* What the predecessor held is taken over from PAGE: it comes up as soon as there is a backend. */
void wv_gate_init(struct wv_gate *g, struct wv_input_page *page);
/* BACKEND may be NULL (lost). With a new one everything held comes up first. Returns 0 or WV_GATE_LOST. */
int wv_gate_set_backend(struct wv_gate *g, struct wv_backend *backend);

/* SESSION controls from now on, and its events open under KEY; 0 and NULL: nobody. Another one than before
 * first releases everything. What was injected of it earlier is known from the page. Returns 0 or
 * WV_GATE_LOST. */
int wv_gate_set_controller(struct wv_gate *g, uint32_t session, const uint8_t key[RIFT_INNER_KEY_BYTES]);

/* Deals with B: injects each event exactly once; passes over and counts those whose number is not above the
 * last one's, that do not open, are out of range, over the rate, or come without a backend. Of those that
 * waited too long only what lets go is applied. Missing numbers may have been releases: everything held comes
 * up before what follows them. RET_URGENT: something was injected whose effect a person waits to see (a key,
 * a button, scrolling). RET_DONE: all up to here are dealt with. Returns 0, WV_GATE_LOST, or
 * WV_GATE_NOT_CONTROLLER: of another session, nothing was done. */
int wv_gate_batch(struct wv_gate *g, const struct wv_sealed_batch *b, uint64_t now, bool *ret_urgent,
                  uint32_t *ret_done);
/* Everything held comes up; never refused. Without a backend it stays noted until there is one. Returns 0 or
 * WV_GATE_LOST. */
int wv_gate_release_all(struct wv_gate *g);
bool wv_gate_holds(const struct wv_gate *g, uint16_t code);

/* Ranges of rift/core/session.h, and codes that are keys or mouse buttons. */
bool wv_gate_in_range(const struct rift_input_event *event);
