#include "services/input/gate.h"

#include "lib/base/util.h"

#include <linux/input-event-codes.h>

#define MAX_SCROLL 2400 /* 20 detents in one event: more is no wheel */

static bool is_button(uint32_t code)
{
    return code >= BTN_MOUSE && code <= BTN_TASK;
}

static bool is_key(uint32_t code)
{
    /* Between are buttons of mice, joysticks, pads and tablets. */
    return (code > KEY_RESERVED && code < BTN_MISC) || (code >= KEY_OK && code < BTN_DPAD_UP) ||
           (code > BTN_DPAD_RIGHT && code < BTN_TRIGGER_HAPPY);
}

static bool within(int32_t v, int32_t low, int32_t high)
{
    return v >= low && v <= high;
}

bool wv_gate_in_range(const struct rift_input_event *e)
{
    switch (e->kind) {
    case RIFT_INPUT_KEY:
        return e->down <= 1 && is_key(e->code);
    case RIFT_INPUT_BUTTON:
        return e->down <= 1 && is_button(e->code);
    case RIFT_INPUT_POINTER_ABS:
        return within(e->x, 0, 65535) && within(e->y, 0, 65535);
    case RIFT_INPUT_POINTER_REL:
        return within(e->x, INT16_MIN, INT16_MAX) && within(e->y, INT16_MIN, INT16_MAX);
    case RIFT_INPUT_SCROLL:
        return within(e->x, -MAX_SCROLL, MAX_SCROLL) && within(e->y, -MAX_SCROLL, MAX_SCROLL);
    case RIFT_INPUT_RELEASE_ALL:
        return true;
    default:
        return false;
    }
}

bool wv_gate_holds(const struct wv_gate *g, uint16_t code)
{
    return code < WV_INPUT_CODES && (g->held[code / 64] >> (code % 64) & 1);
}

static void set_held(struct wv_gate *g, uint16_t code, bool held)
{
    uint64_t bit = UINT64_C(1) << (code % 64);

    if (held)
        g->held[code / 64] |= bit;
    else
        g->held[code / 64] &= ~bit;
    wv_input_page_set_held(g->page, code, held);
}

void wv_gate_init(struct wv_gate *g, struct wv_input_page *page)
{
    uint16_t codes[WV_INPUT_CODES];
    size_t n = wv_input_page_held(page, codes, WV_ARRAY_SIZE(codes));

    *g = (struct wv_gate){.page = page, .tokens = WV_GATE_BURST};
    for (size_t i = 0; i < n; i++) {
        if (codes[i] < WV_INPUT_CODES && (is_key(codes[i]) || is_button(codes[i])))
            set_held(g, codes[i], true);
        else
            wv_input_page_set_held(page, codes[i], false); /* nothing that we ever pressed */
    }
}

/* Releases CODE. Returns 0 or WV_BACKEND_LOST. */
static int release(struct wv_gate *g, uint16_t code)
{
    struct rift_input_event up = {.kind = is_button(code) ? RIFT_INPUT_BUTTON : RIFT_INPUT_KEY, .code = code};
    int r = g->backend->ops->inject(g->backend, &up);

    if (r == WV_BACKEND_LOST)
        return r;
    g->released++;
    return 0;
}

int wv_gate_release_all(struct wv_gate *g)
{
    uint64_t before[WV_INPUT_CODES / 64];
    bool any = false;

    if (!g->backend)
        return 0;
    for (unsigned i = 0; i < WV_ARRAY_SIZE(before); i++)
        before[i] = g->held[i];
    for (uint16_t code = 0; code < WV_INPUT_CODES; code++) {
        if (!wv_gate_holds(g, code))
            continue;
        any = true;
        if (release(g, code))
            return WV_GATE_LOST;
    }
    if (any && g->backend->ops->flush(g->backend))
        return WV_GATE_LOST;
    /* Only now: who dies in between leaves them to its successor. */
    for (uint16_t code = 0; code < WV_INPUT_CODES; code++)
        if (before[code / 64] >> (code % 64) & 1)
            set_held(g, code, false);
    return 0;
}

int wv_gate_set_backend(struct wv_gate *g, struct wv_backend *backend)
{
    g->backend = backend;
    return wv_gate_release_all(g);
}

static bool take_token(struct wv_gate *g, uint64_t now)
{
    uint64_t gained = (now - g->refill_ns) / (WV_NS_PER_S / WV_GATE_EVENTS_PER_SECOND);

    if (gained) {
        g->tokens = (uint32_t)WV_MIN(g->tokens + gained, (uint64_t)WV_GATE_BURST);
        g->refill_ns = now;
    }
    if (!g->tokens)
        return false;
    g->tokens--;
    return true;
}

/* Hands EVENT to the backend. */
static int inject(struct wv_gate *g, const struct rift_input_event *event, bool *ret_urgent)
{
    int r;

    if (!g->backend) {
        g->refused_no_backend++;
        return 0;
    }
    r = g->backend->ops->inject(g->backend, event);
    if (r == WV_BACKEND_UNSUPPORTED)
        g->refused_range++;
    if (r)
        return r;
    g->injected++;
    *ret_urgent |= event->kind != RIFT_INPUT_POINTER_ABS && event->kind != RIFT_INPUT_POINTER_REL;
    return 0;
}

/* A key or button. Only what we hold is released: what the host's own user holds is not ours. Releases are
 * free of the rate. */
static int press_or_release(struct wv_gate *g, const struct rift_input_event *event, uint64_t now,
                            bool *ret_urgent)
{
    int r;

    if (wv_gate_holds(g, event->code) == (event->down != 0))
        return 0; /* no change */
    if (!event->down) {
        if (!g->backend)
            return 0; /* stays noted, and comes up with the next backend */
        r = inject(g, event, ret_urgent);
        if (r != WV_BACKEND_LOST)
            set_held(g, event->code, false);
        return r;
    }
    if (!take_token(g, now)) {
        g->refused_rate++;
        return 0;
    }
    if (!g->backend)
        return inject(g, event, ret_urgent);
    set_held(g, event->code, true);
    r = inject(g, event, ret_urgent);
    if (r == WV_BACKEND_UNSUPPORTED)
        set_held(g, event->code, false);
    return r;
}

/* Returns 0 or WV_GATE_LOST. */
static int deal_with(struct wv_gate *g, const struct rift_input_event *event, uint64_t now, bool *ret_urgent)
{
    int r;

    if (!wv_gate_in_range(event)) {
        g->refused_range++;
        return 0;
    }
    if (event->kind == RIFT_INPUT_RELEASE_ALL)
        return wv_gate_release_all(g);
    if (event->kind == RIFT_INPUT_KEY || event->kind == RIFT_INPUT_BUTTON) {
        r = press_or_release(g, event, now, ret_urgent);
    } else if (take_token(g, now)) {
        r = inject(g, event, ret_urgent);
    } else {
        g->refused_rate++;
        r = 0;
    }
    return r == WV_BACKEND_LOST ? WV_GATE_LOST : 0;
}

int wv_gate_batch(struct wv_gate *g, uint32_t session, uint32_t first_seq,
                  const struct rift_input_event *events, size_t n, uint64_t now, bool *ret_urgent)
{
    uint32_t done;
    bool lost = false;

    *ret_urgent = false;
    if (wv_input_page_session(g->page) != session) {
        lost = wv_gate_release_all(g) == WV_GATE_LOST;
        wv_input_page_set_injected(g->page, session, 0);
    }
    done = wv_input_page_injected(g->page);
    for (size_t i = 0; i < n && (uint64_t)first_seq + i <= UINT32_MAX; i++) {
        if (first_seq + (uint32_t)i <= done) {
            g->repeated++;
            continue;
        }
        done = first_seq + (uint32_t)i;
        if (lost) {
            g->refused_no_backend++;
            continue;
        }
        lost = deal_with(g, &events[i], now, ret_urgent) == WV_GATE_LOST;
    }
    if (g->backend && !lost)
        lost = g->backend->ops->flush(g->backend) == WV_BACKEND_LOST;
    wv_input_page_set_injected(g->page, session, done);
    return lost ? WV_GATE_LOST : 0;
}
