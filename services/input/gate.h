/* What may be injected. Every event is checked here again for range, rate and order, whatever transport
 * checked; what is held down is written to the input page before it is pressed, so that it always comes up
 * again: on the peer's word, when the session ends, and by the successor of a killed process. No allocation,
 * no clock. */
#pragma once

#include "lib/ipc/input_page.h"
#include "services/input/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_GATE_EVENTS_PER_SECOND 2000
#define WV_GATE_BURST             400

struct wv_gate {
    struct wv_input_page *page; /* not owned */
    struct wv_backend *backend; /* NULL: none; not owned */
    uint64_t held[WV_INPUT_CODES / 64];
    uint32_t tokens;
    uint64_t refill_ns;
    /* totals */
    uint64_t injected, refused_range, refused_rate, refused_no_backend, repeated, released;
};

enum {
    WV_GATE_LOST = 1, /* the backend is of no more use; the events are dealt with all the same */
};

/* What the predecessor held is taken over from PAGE: it comes up as soon as there is a backend. */
void wv_gate_init(struct wv_gate *g, struct wv_input_page *page);
/* BACKEND may be NULL (lost). With a new one everything held comes up first. Returns 0 or WV_GATE_LOST. */
int wv_gate_set_backend(struct wv_gate *g, struct wv_backend *backend);

/* Deals with EVENTS, numbered from FIRST_SEQ in SESSION: injects each exactly once (those that the page says
 * are done are passed over), refuses and counts what is out of range, over the rate, or comes without a
 * backend. Another session than before first releases everything. RET_URGENT: something was injected whose
 * effect a person waits to see (a key, a button, scrolling). Returns 0 or WV_GATE_LOST; in either case the
 * page's injected sequence is what to acknowledge.
 */
int wv_gate_batch(struct wv_gate *g, uint32_t session, uint32_t first_seq,
                  const struct rift_input_event *events, size_t n, uint64_t now, bool *ret_urgent);
/* Everything held comes up; never refused. Without a backend it stays noted until there is one. Returns 0 or
 * WV_GATE_LOST. */
int wv_gate_release_all(struct wv_gate *g);
bool wv_gate_holds(const struct wv_gate *g, uint16_t code);

/* Ranges of rift/core/session.h, and codes that are keys or mouse buttons. */
bool wv_gate_in_range(const struct rift_input_event *event);
